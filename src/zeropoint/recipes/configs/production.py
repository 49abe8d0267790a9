# Production values on top of the class defaults: what Rubin's data-release production overrides, for the
# fields whose class defaults are unsuited to a calibrated data product.  Pixels stay calibrated to nJy.

config.star_selector["science"].doUnresolved = False
config.star_selector["science"].doSignalToNoise = False
config.star_detection.includeThresholdMultiplier = 1.0

for measurement in (config.psf_source_measurement, config.star_measurement):
    measurement.plugins["base_CircularApertureFlux"].radii = [
        3.0,
        6.0,
        9.0,
        12.0,
        17.0,
        25.0,
        35.0,
        50.0,
        70.0,
    ]
    measurement.plugins["base_CircularApertureFlux"].maxSincRadius = 12.0
    measurement.plugins["base_CompensatedTophatFlux"].apertures = [12, 17]

config.star_measurement.plugins.names |= [
    "base_FPPosition",
    "base_LocalBackground",
    "base_Variance",
    "base_Blendedness",
    "base_Jacobian",
    "ext_shapeHSM_HsmPsfMomentsDebiased",
    "ext_shapeHSM_HsmShapeRegauss",
    "ext_shapeHSM_HigherOrderMomentsSource",
]

# a tenth of the PSF stars judge the fit, where there are enough of them
config.psf_measure_psf.reserve.fraction = 0.1
config.psf_measure_psf.reserve.min_candidates = 60

# the fit is fast enough for all stars, and its errors fall with their number
config.psf_measure_psf.psfDeterminer["piff"].maxCandidates = 1000

# the PSF model is measured where the star lies within its pixel, so that undersampled stars are not compared
# with a model of another phase
config.star_measurement.plugins["ext_shapeHSM_HsmPsfMoments"].useSourceCentroidOffset = True

# Production values of final characterization on top of the class defaults, like those of production.py.

# the fit is fast enough for all stars, and its errors fall with their number
config.psf_determiner["piff"].maxCandidates = 1000

# cameras differ in the size of stars in pixels, and single-frame calibration has found it
config.do_follow_input_psf = True

# the PSF model is measured where the star lies within its pixel, so that undersampled stars are not compared
# with a model of another phase
config.measurement.plugins["ext_shapeHSM_HsmPsfMoments"].useSourceCentroidOffset = True

# fields that the LATISS files set, and a diffraction-spike mask, retargeting and checks as in saved configurations
import lsst.meas.astrom
import lsst.meas.extensions.psfex.psfexPsfDeterminer
import lsst.meas.extensions.shapeHSM
import lsst.pipe.tasks.calibrateImage

assert type(config) is lsst.pipe.tasks.calibrateImage.CalibrateImageConfig, "another configuration"
config.psf_detection.thresholdValue = 3.5
selector = config.psf_measure_psf.starSelector["objectSize"]
selector.signalToNoiseMin = 11
selector.widthStdAllowed = 0.3
selector.widthMax = 13.0
config.psf_measure_psf.reserve.fraction = 0.0
# few stars
config.psf_measure_psf.psfDeterminer.name = "psfex"
config.psf_measure_psf.psfDeterminer["psfex"].spatialOrder = 1
config.psf_measure_psf.psfDeterminer["psfex"].stampSize = 71
config.psf_measure_psf.makePsfCandidates.kernelSize = 71
config.psf_repair.interp.modelPsf.defaultFwhm = 3.0
config.install_simple_psf.width = 21
config.install_simple_psf.fwhm = 2.355 * 2
config.measure_aperture_correction.sourceSelector["science"].doSignalToNoise = False
config.star_deblend.maxFootprintArea = 90000
config.astrometry.matcher.numPointsForShape = 5
config.astrometry.matcher.maxRotationDeg = 2.0
config.astrometry.wcsFitter.retarget(lsst.meas.astrom.FitTanSipWcsTask)
config.astrometry.wcsFitter.order = 3
config.star_measurement.plugins["base_CircularApertureFlux"].radii = [35.0]
config.star_measurement.slots.apFlux = "base_CircularApertureFlux_35_0"
config.star_measurement.slots.calibFlux = "base_CircularApertureFlux_35_0"
config.diffractionSpikeMask.spikeMask = "SPIKE"

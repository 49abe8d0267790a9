# fields that the LSSTCam and LSSTComCam files set
import os.path

from lsst.meas.algorithms import ColorLimit  # limits on the catalogue

config_dir = os.path.dirname(__file__)

config.connections.photometry_ref_cat = "monster"
config.do_illumination_correction = True
config.psf_subtract_background.doApplyFlatBackgroundRatio = True
config.psf_detection.doApplyFlatBackgroundRatio = True
config.star_background.doApplyFlatBackgroundRatio = True
config.star_detection.doApplyFlatBackgroundRatio = True

config.photometry.match.referenceSelection.magLimit.fluxField = "monster_ComCam_r_flux"
colors = config.photometry.match.referenceSelection.colorLimits
colors["g-r"] = ColorLimit(
    primary="monster_ComCam_g_flux",
    secondary="monster_ComCam_r_flux",
    minimum=0.3,
    maximum=2.1,
)
config.compute_summary_stats.load(os.path.join(config_dir, "summary.py"))
config.astrometry.matcher.maxOffsetPix = 1400
config.astrometry_ref_loader.pixelMargin = 1400
config.astrometry.minMatchDistanceArcSec = 0.05
config.astrometry.doFiducialZeroPointCull = True
config.astrometry.load(os.path.join(config_dir, "fiducialZeroPoint.py"))
config.astrometry.referenceSelector.doMagLimit = True
config.astrometry.referenceSelector.magLimit.minimum = 14
config.photometry.match.sourceSelection.doUnresolved = False

# fields that the HSC files set
import os.path

from lsst.meas.algorithms import ColorLimit
from lsst.meas.astrom import FitTanSipWcsTask

here = os.path.dirname(__file__)

config.connections.astromRefCat = "gaia"
config.connections.photoRefCat = "ps1"
config.astromRefObjLoader.filterMap = {}
config.astromRefObjLoader.anyFilterMapsToThis = "phot_g_mean"
config.photoRefObjLoader.load(os.path.join(here, "filterMap.py"))

config.astrometry.wcsFitter.retarget(FitTanSipWcsTask)
config.astrometry.wcsFitter.order = 3
config.astrometry.matcher.maxOffsetPix = 200
config.requireAstrometry = False

config.photoCal.applyColorTerms = True
config.photoCal.photoCatName = "ps1"
selection = config.photoCal.match.referenceSelection
selection.colorLimits["g-r"] = ColorLimit(primary="g_flux", secondary="r_flux", minimum=0.1)
selection.doMagLimit = True
selection.magLimit.fluxField = "i_flux"
selection.magLimit.maximum = 21.5
config.photoCal.colorterms.load(os.path.join(here, "colorterms.py"))

config.detection.background.binSize = 64
config.deblend.maxFootprintSize = 3000
config.doWriteMatchesDenormalized = True
config.measurement.plugins["base_Jacobian"].pixelScale = 0.17
config.maskStreaks.houghThreshold = 3
config.idGenerator.release_id = 2

# fields that the HSC files set
import os.path

import lsst.meas.extensions.psfex.psfexPsfDeterminer
from lsst.meas.algorithms import ObjectSizeStarSelectorTask

here = os.path.dirname(__file__)

config.repair.cosmicray.nCrPixelMax = 500000
config.repair.cosmicray.cond3_fac2 = 0.3
for background in (config.background, config.detection.background):
    background.binSize = 64
    background.undersampleStyle = "REDUCE_INTERP_ORDER"
config.detection.doTempLocalBackground = False

config.measurePsf.starSelector.name = "objectSize"
config.measurePsf.starSelector["objectSize"].widthMin = 0.8
config.measurePsf.reserve.fraction = 0.15
config.measurePsf.makePsfCandidates.kernelSize = 41
config.measurePsf.psfDeterminer.name = "psfex"
config.measurePsf.psfDeterminer["psfex"].spatialOrder = 2

config.refObjLoader.load(os.path.join(here, "filterMap.py"))
config.ref_match.matcher.maxRotationDeg = 1.145916
config.measurement.plugins.names |= ["base_SdssShape"]
config.measurement.plugins["base_CircularApertureFlux"].radii = [3.0, 6.0, 9.0, 12.0, 25.0]
config.measureApCorr.allowFailure = ["base_GaussianFlux"]
config.idGenerator.release_id = 2

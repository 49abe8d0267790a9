# ruff: noqa: F821
# Fit of nine wide-field exposures in one band: no atmosphere, no times; colours, and the scale, from APASS.
from zeropoint.fgcm.sed_terms_config import Catalogslope

# the sky was not always clear, and nine exposures cannot be cut: each has a gray of its own
config.jointGray = True
config.jointGraySigma = 0.5
config.expGrayInitialCut = -2.0
config.brightObsGrayMax = 2.0
config.expGrayPhotometricCutDict = {"r": -2.0}
config.expGrayHighCutDict = {"r": 2.0}
# magnitudes of APASS are good to 0.05, and the detector's red is far from r
config.refStarSnMin = 10.0
config.refStarMaxFracUse = 1.0
config.refStarColorTermDict = {"r": True}
config.catalogSlopes["r"] = Catalogslope(
    first="G1", second="R1", firstWavelength=4770.0, secondWavelength=6231.0
)
# a flat of second order; observations scatter by 0.04 to 0.13
config.superStarSubCcdDict = {"r": True}
config.superStarSubCcdChebyshevOrder = 2
config.superStarSubCcdTriangular = True
config.superStarSigmaClip = 4.0
config.ccdGrayMaxStarErr = 0.2
config.maxCcdGrayErr = 0.1
config.sigFgcmMaxErr = 0.05
config.sigFgcmMaxEGrayDict = {"r": 0.3}
# the errors of the star list are from repeats already
config.modelMagErrors = False

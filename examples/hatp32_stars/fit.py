# ruff: noqa: F821
# Fit of a night of one field in one band, no filter: no atmosphere, no references, a flat that was never divided out.

# transparency changed from frame to frame: each has a gray of its own
config.jointGray = True
config.jointGraySigma = 0.5
config.expGrayInitialCut = -2.0
config.brightObsGrayMax = 2.0
config.expGrayPhotometricCutDict = {"VT": -2.0}
config.expGrayHighCutDict = {"VT": 2.0}
# the drift of 270 pixels tells the flat's curvature
config.superStarSubCcdDict = {"VT": True}
config.superStarSubCcdChebyshevOrder = 3
# stars of the brightest errors scatter by five times these: where neighbors share their pixels
config.sigFgcmMaxErr = 0.02
config.sigFgcmMaxEGrayDict = {"VT": 0.1}

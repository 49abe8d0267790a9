# ruff: noqa: F821
# Matching of a drifting field: a pixel is 5 arcsec, and positions are good to a tenth of it.
config.primaryBands = ["VT"]
config.requiredBands = ["VT"]
config.matchRadius = 3.0
config.isolationRadius = 15.0
# no cut at the bright end, where saturation is a flag
config.sourceSelector["science"].signalToNoise.maximum = None

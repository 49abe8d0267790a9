# ruff: noqa: F821
# Matching of wide-field exposures: a pixel is 14 arcsec, and positions are good to a quarter of it.
config.primaryBands = ["r"]
config.requiredBands = ["r"]
config.minPerBand = 2
config.matchRadius = 14.0
config.isolationRadius = 42.0
# the brightest stars are limited by the sampling of their images, none by saturation
config.sourceSelector["science"].signalToNoise.minimum = 5.0
config.sourceSelector["science"].signalToNoise.maximum = None
# no exposure is in G1: one band tells no colours, APASS does
config.fgcmLoadReferenceCatalog.filterMap = {"R1": "r", "G1": "g"}
# fainter stars are found where noise makes them brighter, and brighter ones are saturated in APASS
config.fgcmLoadReferenceCatalog.referenceSelector.doMagLimit = True
config.fgcmLoadReferenceCatalog.referenceSelector.magLimit.fluxField = "r_flux"
config.fgcmLoadReferenceCatalog.referenceSelector.magLimit.minimum = 8.0
config.fgcmLoadReferenceCatalog.referenceSelector.magLimit.maximum = 11.5

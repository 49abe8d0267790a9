# fields that the DECam files set; no imports, sibling file by relative name
config.connections.photometry_ref_cat = "monster"
config.connections.astrometry_ref_cat = "monster"
config.photometry.photoCatName = "monster"
config.photometry_ref_loader.load("filterMap.py")
config.photometry.applyColorTerms = False
config.psf_source_measurement.plugins["base_Jacobian"].pixelScale = 0.25
config.psf_source_measurement.undeblended["base_Jacobian"].pixelScale = 0.25
config.star_measurement.plugins["base_Jacobian"].pixelScale = 0.25
config.star_measurement.undeblended["base_Jacobian"].pixelScale = 0.25

# fields of the data-release and quick-look overrides
config.do_calibrate_pixels = False
config.star_detection.includeThresholdMultiplier = 1.0
config.star_selector["science"].doUnresolved = False
config.star_selector["science"].doSignalToNoise = False
config.star_measurement.plugins["base_CircularApertureFlux"].radii = [3.0, 6.0, 9.0, 12.0]
config.star_measurement.plugins["base_CircularApertureFlux"].maxSincRadius = 12.0
config.star_measurement.plugins["base_CompensatedTophatFlux"].apertures = [12, 17]
config.star_measurement.plugins.names |= [
    "base_FPPosition",
    "base_LocalBackground",
    "base_Variance",
    "ext_shapeHSM_HsmPsfMomentsDebiased",
    "ext_shapeHSM_HsmShapeRegauss",
    "ext_shapeHSM_HigherOrderMomentsSource",
    "base_Blendedness",
    "base_Jacobian",
]
config.psf_source_measurement.plugins.names |= ["ext_shapeHSM_HigherOrderMomentsSource"]
config.psf_detection.thresholdValue = 50.0
config.do_downsample_footprints = True
config.do_include_astrometric_errors = False
config.do_remeasure_star_background = False
config.astrometry.maxIter = 2
config.astrometry.matcher.maxRefObjects = 2048
config.optional_outputs = None
config.id_generator.release_id = 1
config.id_generator.n_releases = 8
config.saveLogOutput = True
config.useButlerCamera = False
config.sattle_historical = False
config.run_sattle = False

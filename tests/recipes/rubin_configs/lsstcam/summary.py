config.fiducialPsfSigma = {"g": 1.6, "r": 1.5}
config.fiducialZeroPoint = {"g": 28.0, "r": 27.8}
config.fiducialSkyBackground = {"g": 9.0, "r": 20.0}

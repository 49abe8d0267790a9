config.fiducialZeroPoint = {"g": 28.0, "r": 27.8}

"""Forward global calibration: the atmosphere, passband integrals, and the stars of a whole survey.

After Burke et al. 2018 (AJ 155, 41).
"""

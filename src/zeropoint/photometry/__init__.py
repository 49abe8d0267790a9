"""Stage 6: colour terms, zeropoint, calibration of pixels and tables."""

"""The report of a global calibration: plots, limits, and one page of HTML."""

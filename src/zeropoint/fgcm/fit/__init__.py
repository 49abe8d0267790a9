"""The solver of the global calibration: steps, bounds, priors, robust weights, and what is known in the end how well."""

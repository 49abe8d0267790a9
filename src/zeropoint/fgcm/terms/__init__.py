"""The stages of a cycle around the fit: residuals, flats, corrections, scatter and zeropoints, on arrays."""

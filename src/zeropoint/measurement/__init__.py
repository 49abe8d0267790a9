"""Stage 3: measurement plugins over all sources at once, noise replacement, aperture corrections."""

"""Stage 2: smoothing, thresholds, footprints, peaks, sky sources, deblending."""

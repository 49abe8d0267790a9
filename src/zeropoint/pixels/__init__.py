"""Stage 1: snaps, background, cosmic rays, interpolation."""

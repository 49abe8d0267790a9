"""Stage 4: PSF candidates, determiners, rough shapelets."""

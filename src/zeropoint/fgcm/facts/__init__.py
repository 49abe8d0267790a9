"""What a fit is judged by: residuals by magnitude, color, place on the focal plane and place on the sky, in small arrays."""

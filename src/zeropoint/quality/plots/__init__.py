"""One function a plot: ``plot_x(data, ax=None) -> Axes``, each with a caption that holds the numbers."""

from zeropoint.quality.plots.astrometry import plot_astrometry_by_magnitude, plot_astrometry_vectors
from zeropoint.quality.plots.image import plot_background, plot_image
from zeropoint.quality.plots.overview import plot_number_counts, plot_timing
from zeropoint.quality.plots.photometry import (
    plot_zeropoint_by_color,
    plot_zeropoint_by_magnitude,
    plot_zeropoint_by_position,
)
from zeropoint.quality.plots.psf import (
    plot_aperture_correction,
    plot_psf_size_by_magnitude,
    plot_psf_size_by_position,
    plot_psf_whiskers,
    plot_size_magnitude,
)

__all__ = [
    "plot_aperture_correction",
    "plot_astrometry_by_magnitude",
    "plot_astrometry_vectors",
    "plot_background",
    "plot_image",
    "plot_number_counts",
    "plot_psf_size_by_magnitude",
    "plot_psf_size_by_position",
    "plot_psf_whiskers",
    "plot_size_magnitude",
    "plot_timing",
    "plot_zeropoint_by_color",
    "plot_zeropoint_by_magnitude",
    "plot_zeropoint_by_position",
]

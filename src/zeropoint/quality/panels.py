"""The plots of the report: what each shows, what its numbers say, and what it looks like when all is well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from zeropoint.quality.plots import astrometry, image, overview, photometry, psf
from zeropoint.quality.report_data import ReportData

__all__ = ["PANELS", "Panel"]


def _always(data: ReportData) -> bool:
    return True


def _has_background(data: ReportData) -> bool:
    return data.background is not None and len(data.background) > 0


def _has_sources(data: ReportData) -> bool:
    return data.psf_stars is not None or data.stars is not None


def _has_psf(data: ReportData) -> bool:
    return data.exposure.psf is not None and _has_sources(data)


def _has_astrometry(data: ReportData) -> bool:
    return data.astrometry_matches is not None and len(data.astrometry_matches) > 0


def _has_photometry(data: ReportData) -> bool:
    matches = data.photometry_matches
    return matches is not None and len(matches) > 0 and data.zeropoint == data.zeropoint


def _has_color(data: ReportData) -> bool:
    matches = data.photometry_matches
    if matches is None or not _has_photometry(data):
        return False
    return sum(n.startswith("ref_") and n.endswith("_flux") for n in matches.colnames) > 1


def _has_field(data: ReportData) -> bool:
    return _has_photometry(data) and data.photo_calib is not None and data.photo_calib.field is not None


def _has_ap_corr(data: ReportData) -> bool:
    return bool(data.exposure.ap_corr_map)


def _has_stages(data: ReportData) -> bool:
    return bool(data.stages)


@dataclass(frozen=True)
class Panel:
    """One plot of the report.

    Parameters
    ----------
    name, group
        Name for people; section: ``pixels``, ``psf``, ``astrometry``, ``photometry`` or ``run``.
    plot
        ``plot_x(data, ax=None) -> Axes``.
    caption
        ``(data, metrics) -> str``: a sentence with the numbers.
    expect
        What the plot looks like when all is well.
    available
        Whether there is anything to plot.
    """

    name: str
    group: str
    plot: Callable[[ReportData], Axes]
    caption: Callable[[ReportData, dict[str, Any]], str]
    expect: str
    available: Callable[[ReportData], bool] = _always


#: In the order of the report.
PANELS: tuple[Panel, ...] = (
    Panel(
        "image and mask",
        "pixels",
        image.plot_image,
        image.image_caption,
        "An even sky with dark stars. Colors cover few pixels: bleeding columns, scattered cosmic rays, a thin "
        "edge. Green dots on ordinary stars would mean that their cores were taken for cosmic rays.",
    ),
    Panel(
        "background",
        "pixels",
        image.plot_background,
        image.background_caption,
        "Smooth, without the shapes of stars or amplifiers. Empty apertures hold no flux within their error.",
        _has_background,
    ),
    Panel(
        "number counts",
        "pixels",
        overview.plot_number_counts,
        overview.counts_caption,
        "The counts rise steadily towards faint magnitudes and turn over near the limit, not before.",
        _has_sources,
    ),
    Panel(
        "size against magnitude",
        "pixels",
        psf.plot_size_magnitude,
        psf.size_magnitude_caption,
        "Stars form a level band and PSF stars lie in it; at the bright end the band must not bend upward, "
        "which would be saturation. Galaxies lie above, cosmic rays below.",
        _has_sources,
    ),
    Panel(
        "PSF ellipticity",
        "psf",
        psf.plot_psf_whiskers,
        psf.whiskers_caption,
        "The stars' own ellipticity varies smoothly. What the model leaves is short and points anywhere, for "
        "the reserved stars too.",
        _has_psf,
    ),
    Panel(
        "PSF size by magnitude",
        "psf",
        psf.plot_psf_size_by_magnitude,
        psf.psf_size_caption,
        "Level at zero, wider only for faint stars. A slope at the bright end is the brighter-fatter effect or "
        "saturation; reserved stars off zero are over-fitting.",
        _has_psf,
    ),
    Panel(
        "PSF size by position",
        "psf",
        psf.plot_psf_size_by_position,
        psf.psf_size_caption,
        "Red and blue well mixed. Patches of one color mean that the PSF varies faster than the model.",
        _has_psf,
    ),
    Panel(
        "aperture correction",
        "psf",
        psf.plot_aperture_correction,
        psf.aperture_correction_caption,
        "Close to one and changing by a few per cent at most, with stars in every corner.",
        _has_ap_corr,
    ),
    Panel(
        "astrometric residuals",
        "astrometry",
        astrometry.plot_astrometry_vectors,
        astrometry.vectors_caption,
        "Short arrows in random directions. Neighbors pointing the same way show distortion that the model "
        "lacks; arrows all over with few matches show a wrong solution.",
        _has_astrometry,
    ),
    Panel(
        "astrometry by magnitude",
        "astrometry",
        astrometry.plot_astrometry_by_magnitude,
        astrometry.by_magnitude_caption,
        "Both axes level at zero, wider for faint stars. A slope is charge-transfer trouble or proper motion.",
        _has_astrometry,
    ),
    Panel(
        "zeropoint by magnitude",
        "photometry",
        photometry.plot_zeropoint_by_magnitude,
        photometry.zeropoint_by_magnitude_caption,
        "Level at zero. A slope is a background error, a wrong pedestal or a non-linear detector.",
        _has_photometry,
    ),
    Panel(
        "zeropoint by color",
        "photometry",
        photometry.plot_zeropoint_by_color,
        photometry.zeropoint_by_color_caption,
        "Level at zero. A slope is the difference between the camera's filter and the catalog's.",
        _has_color,
    ),
    Panel(
        "zeropoint by position",
        "photometry",
        photometry.plot_zeropoint_by_position,
        photometry.zeropoint_by_position_caption,
        "Red and blue well mixed. A gradient is a flat-field error or scattered light.",
        _has_photometry,
    ),
    Panel(
        "zeropoint over the image",
        "photometry",
        photometry.plot_zeropoint_field,
        photometry.zeropoint_field_caption,
        "Stars have the color of the field around them. It changes smoothly, by a few hundredths of a magnitude, and "
        "has no extremes where there are no stars.",
        _has_field,
    ),
    Panel(
        "time per stage",
        "run",
        overview.plot_timing,
        overview.timing_caption,
        "Measurement and PSF take the largest part; wall time far above CPU time means a busy machine.",
        _has_stages,
    ),
)

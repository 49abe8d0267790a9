"""A first look at an image: how wide its stars are, and the settings that follow.

Rubin's defaults are for 0.2 arcsec pixels and stars four pixels wide.  On an undersampled image the same
defaults take star cores for cosmic rays; on wide pixels every arcsecond limit is too tight.  Cards with
``first_look: true`` derive those few settings from the image itself, and the report lists them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter, zoom

from zeropoint.datamodel.exposure import Exposure
from zeropoint.kernels.moments import adaptive_moments

__all__ = ["FirstLook", "first_look", "settings_from_first_look"]

_FWHM = 2.354820045
_HALF = 12


@dataclass(frozen=True)
class FirstLook:
    """Star size measured on the raw image.

    Parameters
    ----------
    fwhm_pix
        Full width at half maximum of the stars, pixels; NaN if there are too few stars.
    n_stars
        Stars it rests on.
    """

    fwhm_pix: float
    n_stars: int


def first_look(exposure: Exposure, *, max_stars: int = 300) -> FirstLook:
    """Measure the star size of an unprocessed exposure.

    Parameters
    ----------
    exposure
        Image in electrons with its mask.
    max_stars
        Bright local maxima examined.

    Returns
    -------
    look : FirstLook

    Notes
    -----
    Local maxima more than 25 sigma above a blockwise median sky are measured with adaptive moments; the size is
    the densest interval of log(sigma) (half-sample mode), which neither cosmic rays nor galaxies move much.
    """
    image = exposure.image - _coarse_sky(exposure.image)
    bad = exposure.masked("BAD", "NO_DATA", "SATURATED")
    sample = image[::4, ::4]
    sigma_sky = 0.7413 * float(np.subtract(*np.percentile(sample[np.isfinite(sample)], [75, 25])))
    image = np.where(bad, 0.0, image).astype(np.float32)
    peaks = (
        (image == maximum_filter(image, size=5))
        & (image > 25 * sigma_sky)
        & (maximum_filter(bad, size=5) == 0)
    )
    peaks[:_HALF] = peaks[-_HALF:] = False
    peaks[:, :_HALF] = peaks[:, -_HALF:] = False
    y, x = np.nonzero(peaks)
    order = np.argsort(-image[y, x], kind="stable")[:max_stars]
    widths = []
    for yy, xx in zip(y[order], x[order]):
        stamp = image[yy - _HALF : yy + _HALF + 1, xx - _HALF : xx + _HALF + 1].astype(np.float64)
        core = stamp[_HALF - 1 : _HALF + 2, _HALF - 1 : _HALF + 2]
        total = core.sum()
        cx = _HALF + float((core.sum(0) * [-1, 0, 1]).sum() / total)
        cy = _HALF + float((core.sum(1) * [-1, 0, 1]).sum() / total)
        flag, xx2, yy2, xy2 = adaptive_moments(np.ascontiguousarray(stamp), cx, cy, 1.5, 100, 1e-4)
        det = xx2 * yy2 - xy2 * xy2
        # a single hot pixel or a track has a vanishing minor axis
        if flag == 0 and det > 0.15**4:
            widths.append(det**0.25)
    if len(widths) < 5:
        return FirstLook(float("nan"), len(widths))
    return FirstLook(_FWHM * float(np.exp(_half_sample_mode(np.log(np.sort(widths))))), len(widths))


def _coarse_sky(image: np.ndarray, block: int = 64) -> np.ndarray:
    height, width = image.shape
    ny, nx = max(height // block, 1), max(width // block, 1)
    trimmed = image[: ny * (height // ny), : nx * (width // nx)]
    cells = trimmed.reshape(ny, height // ny, nx, width // nx)[:, ::2, :, ::2]
    medians = np.nanmedian(cells, axis=(1, 3))
    sky = zoom(medians, (height / ny, width / nx), order=1, mode="nearest", grid_mode=True)
    return sky[:height, :width].astype(np.float32)


def _half_sample_mode(values: np.ndarray) -> float:
    """Return the half-sample mode of sorted values (Bickel & Fruehwirth 2006)."""
    while len(values) > 3:
        half = (len(values) + 1) // 2
        spans = values[half - 1 :] - values[: len(values) - half + 1]
        start = int(np.argmin(spans))
        values = values[start : start + half]
    return float(np.median(values))


def settings_from_first_look(look: FirstLook, pixel_scale_arcsec: float) -> dict[str, Any]:
    """Return configuration overrides (dotted field -> value) for the measured star size and pixel scale.

    Parameters
    ----------
    look
        The first look; with a NaN size only the arcsecond limits are set.
    pixel_scale_arcsec
        Arcsec per pixel.
    """
    settings: dict[str, Any] = {}
    if 0.6 * pixel_scale_arcsec > 0.25:
        settings["photometry.match.matchRadius"] = round(0.6 * pixel_scale_arcsec, 3)
    if 0.3 * pixel_scale_arcsec > 0.5:
        settings["astrometry.maxMeanDistanceArcsec"] = round(0.3 * pixel_scale_arcsec, 3)
    fwhm = look.fwhm_pix
    if not np.isfinite(fwhm):
        return settings
    sigma = fwhm / _FWHM
    settings["install_simple_psf.fwhm"] = round(float(np.clip(0.95 * fwhm, 1.0, 12.0)), 2)
    if 0.6 * sigma < 0.9:
        settings['psf_measure_psf.starSelector["objectSize"].widthMin'] = round(0.6 * sigma, 3)
    if 0.6 * sigma < 1.0:
        settings["compute_shapelet_decomposition.radius_mode_min"] = round(0.6 * sigma, 3)
    if fwhm > 5.0:
        side = int(2 * np.ceil(2.5 * fwhm) + 1)
        settings["psf_measure_psf.makePsfCandidates.kernelSize"] = side + 2
        settings['psf_measure_psf.psfDeterminer["piff"].stampSize'] = side
        settings['psf_measure_psf.psfDeterminer["piff"].modelSize'] = side
        settings["install_simple_psf.width"] = int(2 * np.ceil(1.4 * fwhm) + 1)
    return settings

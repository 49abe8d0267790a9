"""A first look at an image: how wide its stars are, and the settings that follow.

Rubin's defaults are for 0.2 arcsec pixels and stars four pixels wide.  On an undersampled image the same
defaults take star cores for cosmic rays; on wide pixels every arcsecond limit is too tight.  Cards with
``first_look: true`` derive those few settings from the image itself, and the report lists them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, zoom

from zeropoint.datamodel.exposure import Exposure

__all__ = ["FirstLook", "bright_stars", "first_look", "fit_round_gaussians", "settings_from_first_look"]

_FWHM = 2.354820045
_HALF = 12

#: Sigma, pixels, below which a local maximum may as well be a cosmic ray's hit.
_WIDEST_HIT = 0.75
#: Fewest wider maxima, and least ratio of the two sizes, for the wider ones to be the stars.
_MIN_WIDER, _APART = 10, 1.4


@dataclass(frozen=True)
class FirstLook:
    """Star size measured on the raw image.

    Parameters
    ----------
    fwhm_pix
        Full width at half maximum of the Gaussian that fits the stars best (pixel response included), pixels; NaN
        if there are too few stars.
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
    A round Gaussian is fitted to local maxima more than 25 sigma above a blockwise median sky; the size is the
    densest interval of log(sigma) (half-sample mode), which neither some cosmic rays nor galaxies move much.  On
    small images cosmic rays can outnumber the stars: what is as narrow as a hit is not taken for stars if wider
    maxima agree better with each other.  A fit, unlike weighted moments, also holds for stars narrower than two
    pixels, and does not see faint wings.
    """
    image = exposure.image - _coarse_sky(exposure.image)
    bad = exposure.masked("BAD", "NO_DATA", "SATURATED")
    sample = image[::4, ::4][~bad[::4, ::4]]
    if sample.size < 100:
        return FirstLook(float("nan"), 0)
    sigma_sky = 0.7413 * float(np.subtract(*np.percentile(sample, [75, 25])))
    image[bad] = 0.0
    x, y = _bright_peaks(image, bad, 25.0 * sigma_sky, max_stars)
    if len(x) == 0:
        return FirstLook(float("nan"), 0)
    offsets = np.arange(-_HALF, _HALF + 1)
    stamps = image[y[:, None, None] + offsets[:, None], x[:, None, None] + offsets].astype(np.float64)
    sigma, misfit = fit_round_gaussians(stamps)
    # a hot pixel is narrower than any star, a track or a blend is not round
    widths = sigma[(sigma > 0.4) & (sigma < 0.5 * _HALF) & (misfit < 0.15)]
    if len(widths) < 5:
        return FirstLook(float("nan"), len(widths))
    logs = _without_hits(np.log(np.sort(widths)))
    return FirstLook(_FWHM * float(np.exp(_half_sample_mode(logs))), len(logs))


def bright_stars(
    exposure: Exposure, *, max_stars: int = 100
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return x, y of the brightest stars of an unprocessed exposure, saturated ones included, brightest first.

    Parameters
    ----------
    exposure
        Image in electrons with its mask.
    max_stars
        Their largest number.

    Returns
    -------
    x, y : float64, shape (n,)
        Whole pixels: local maxima of the smoothed image, more than 10 sigma above the sky.

    Notes
    -----
    The smoothing (sigma of two pixels) puts one maximum on a saturated star and takes hot pixels down.
    """
    image = exposure.image - _coarse_sky(exposure.image)
    bad = exposure.masked("BAD", "NO_DATA")
    image[bad] = 0.0
    image = gaussian_filter(image, 2.0)
    sample = image[::4, ::4][~bad[::4, ::4]]
    if sample.size < 100:
        return np.zeros(0), np.zeros(0)
    sigma_sky = 0.7413 * float(np.subtract(*np.percentile(sample, [75, 25])))
    x, y = _bright_peaks(image, bad, 10.0 * sigma_sky, max_stars)
    return x.astype(np.float64), y.astype(np.float64)


def _bright_peaks(
    image: npt.NDArray[np.float32], bad: npt.NDArray[np.bool_], threshold: float, most: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return x, y of the brightest local maxima of 5 x 5 pixels without bad ones, the brightest first."""
    inner = image[_HALF:-_HALF, _HALF:-_HALF]
    y, x = (v + _HALF for v in np.nonzero(inner > threshold))
    keep = np.ones(len(x), bool)
    value = image[y, x]
    for j in range(-2, 3):
        for i in range(-2, 3):
            keep &= ~bad[y + j, x + i] & (image[y + j, x + i] <= value)
    x, y, value = x[keep], y[keep], value[keep]
    order = np.argsort(-value, kind="stable")[:most]
    return x[order], y[order]


def fit_round_gaussians(
    stamps: npt.NDArray[np.float64], n_iter: int = 15
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Fit amplitude, centre and width of a round Gaussian to each stamp (Levenberg-Marquardt, all at once).

    Parameters
    ----------
    stamps : float64, shape (n, s, s)
        Sky-subtracted stamps, s odd, each with its peak in the middle.
    n_iter
        Iterations.

    Returns
    -------
    sigma : float64, shape (n,)
        Width, pixels.
    misfit : float64, shape (n,)
        Residual rms in the inner 5 x 5 pixels over the amplitude.
    """
    n, size, _ = stamps.shape
    half = size // 2
    grid = np.arange(size) - half
    dy, dx = (g.astype(np.float64) for g in np.meshgrid(grid, grid, indexing="ij"))
    data = stamps / stamps[:, half, half][:, None, None]
    # the sum over 3 x 3 pixels tells the width of a Gaussian: (1 + 2 exp(-1/2 sigma^2))^2
    edge = (np.sqrt(data[:, half - 1 : half + 2, half - 1 : half + 2].sum((1, 2)).clip(1.1, 8.5)) - 1.0) / 2.0
    parameters = np.zeros((n, 4))
    parameters[:, 0], parameters[:, 3] = 1.0, np.log(np.sqrt(-0.5 / np.log(edge)).clip(0.3, 4.0))
    damping = np.full(n, 1e-3)
    model, jacobian = _round_gaussian(parameters, dx, dy)
    cost = ((data - model) ** 2).sum((1, 2))
    for _ in range(n_iter):
        slopes = jacobian.reshape(n, 4, -1)
        gradient = slopes @ (data - model).reshape(n, -1, 1)
        hessian = slopes @ slopes.transpose(0, 2, 1)
        diagonal = np.einsum("nkk->nk", hessian)
        diagonal *= 1.0 + damping[:, None]
        diagonal += 1e-9
        step = np.linalg.solve(hessian, gradient)[:, :, 0].clip(-0.5, 0.5)
        trial = parameters + step
        trial[:, 3] = trial[:, 3].clip(np.log(0.2), np.log(size))
        trial_model, trial_jacobian = _round_gaussian(trial, dx, dy)
        trial_cost = ((data - trial_model) ** 2).sum((1, 2))
        better = trial_cost < cost
        damping = np.where(better, damping * 0.2, damping * 8.0).clip(1e-9, 1e6)
        parameters[better], cost[better] = trial[better], trial_cost[better]
        model[better], jacobian[better] = trial_model[better], trial_jacobian[better]
    core = slice(half - 2, half + 3)
    residual = (data - model)[:, core, core]
    misfit = np.sqrt((residual**2).mean((1, 2))) / np.maximum(parameters[:, 0], 1e-9)
    return np.exp(parameters[:, 3]), misfit


def _round_gaussian(
    parameters: npt.NDArray[np.float64], dx: npt.NDArray[np.float64], dy: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return models and their derivatives for rows (amplitude, x, y, log sigma)."""
    amplitude, x, y, log_sigma = (column[:, None, None] for column in parameters.T)
    inverse = np.exp(-2.0 * log_sigma)
    u, v = dx - x, dy - y
    shape = np.exp(-0.5 * inverse * (u * u + v * v))
    model = amplitude * shape
    jacobian = np.stack(
        [shape, model * u * inverse, model * v * inverse, model * (u * u + v * v) * inverse], axis=1
    )
    return model, jacobian


def _coarse_sky(image: npt.NDArray[np.float32], block: int = 64) -> npt.NDArray[np.float32]:
    height, width = image.shape
    ny, nx = max(height // block, 1), max(width // block, 1)
    trimmed = image[: ny * (height // ny), : nx * (width // nx)]
    cells = trimmed.reshape(ny, height // ny, nx, width // nx)[:, ::2, :, ::2]
    medians = np.nanmedian(cells, axis=(1, 3))
    sky = zoom(medians, (height / ny, width / nx), order=1, mode="nearest", grid_mode=True)
    return sky[:height, :width].astype(np.float32)


def _half_sample_mode(values: npt.NDArray[np.float64]) -> float:
    """Return the half-sample mode of sorted values (Bickel & Fruehwirth 2006)."""
    while len(values) > 3:
        half = (len(values) + 1) // 2
        spans = values[half - 1 :] - values[: len(values) - half + 1]
        start = int(np.argmin(spans))
        values = values[start : start + half]
    return float(np.median(values))


def _without_hits(logs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Leave cosmic rays out of sorted log(sigma) where they outnumber the stars.

    Stars all have the PSF's width, hits have any from one pixel's upwards; so where the densest interval is one of
    hit-like widths, but the wider maxima are crowded more closely, those are the stars.
    """
    n_narrow = int(np.searchsorted(logs, np.log(_WIDEST_HIT)))
    narrow, wide = logs[:n_narrow], logs[n_narrow:]
    if len(narrow) < 2 or len(wide) < _MIN_WIDER:
        return logs
    apart = _half_sample_mode(wide) - _half_sample_mode(logs) > np.log(_APART)
    return wide if apart and _crowding(wide) > _crowding(narrow) else logs


def _crowding(values: npt.NDArray[np.float64]) -> float:
    """Return the number of values per unit in the shortest interval that holds half of the sorted values."""
    half = (len(values) + 1) // 2
    span = float(np.min(values[half - 1 :] - values[: len(values) - half + 1]))
    return half / max(span, 1e-9)


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

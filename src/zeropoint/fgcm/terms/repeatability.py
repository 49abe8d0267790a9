"""How well repeated measurements of a star agree: the scatter that photometric errors do not explain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.terms._kernels_normal import count_cells, every_kth
from zeropoint.fgcm.terms.histogram import fit_normal

__all__ = ["COLOR_PARTS", "Repeatability", "color_edges", "color_parts", "sig_fgcm"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]

#: Parts of the stars by color: all, the bluest quarter, the middle half, the reddest quarter.
COLOR_PARTS = ("All", "Blue25", "Middle50", "Red25")
#: Scatter where there is no width, and where the errors are larger than the width.
_FAILED, _NEGATIVE = 0.05, 0.001
#: Fewer observations have no scatter; of more than these every k-th is taken, for a width to 0.5 %.
_LEAST, _MOST = 10, 25_000


@dataclass(frozen=True)
class Repeatability:
    """Scatter of standard magnitudes about the stars' means, by band and color; shape (n_band, 4), `COLOR_PARTS`.

    Parameters
    ----------
    sigma_fgcm
        Scatter beyond the errors, magnitudes: 0.001 where the errors explain all, 0.05 where there are too few, NaN where there
        is no observation.
    sigma_total
        Width of the distribution ("raw repeatability"), magnitudes; NaN where there are too few observations.
    mean
        Its center, magnitudes.
    error
        Square root of the median variance expected, magnitudes.
    n_used
        Observations.
    failed
        Where there are too few observations for a width.
    """

    sigma_fgcm: FloatArray
    sigma_total: FloatArray
    mean: FloatArray
    error: FloatArray
    n_used: npt.NDArray[np.int64]
    failed: BoolArray


def color_edges(color: Floats) -> tuple[float, float]:
    """Return the quartiles of the colors that are known, NaN if there are none.

    Parameters
    ----------
    color
        Of each observation's star; of more than 100,000 every k-th is taken.
    """
    known = color[:: max(len(color) // (4 * _MOST), 1)]
    known = known[np.isfinite(known)]
    if len(known) == 0:
        return np.nan, np.nan
    low, high = np.quantile(known, [0.25, 0.75])
    return float(low), float(high)


def color_parts(color: Floats, edges: tuple[float, float]) -> BoolArray:
    """Return which observations (or stars) are in each part of the colors, shape (4, n).

    Parameters
    ----------
    color
        Of each; NaN: unknown, in the first part only.
    edges
        From `color_edges`.
    """
    low, high = edges
    return np.stack([np.ones(len(color), bool), color < low, (color >= low) & (color < high), color >= high])


def sig_fgcm(
    egray: Floats,
    egray_variance: Floats,
    band: npt.NDArray[np.integer],
    use: BoolArray,
    *,
    n_band: int,
    max_egray: npt.ArrayLike,
    max_err: float,
    color: Floats | None = None,
) -> Repeatability:
    """Measure the scatter of observations about their stars' means.

    Parameters
    ----------
    egray : shape (n_obs,)
        Mean of the star minus standard magnitude.
    egray_variance : shape (n_obs,)
        Variance expected of it; values that are not positive leave the observation out.
    band : shape (n_obs,)
        Band of each observation.
    use : shape (n_obs,)
        Observations that count: of good (or reserve) stars in photometric exposures.
    n_band
        Number of bands.
    max_egray : shape (n_band,) or scalar
        Residuals beyond are left out, magnitudes (``sigFgcmMaxEGrayDict``).
    max_err
        As are larger errors (``sigFgcmMaxErr``).
    color : shape (n_obs,), optional
        Color of each observation's star, NaN where unknown; without, only the first part is measured.

    Returns
    -------
    repeatability : Repeatability
    """
    shape = (n_band, len(COLOR_PARTS))
    limits = np.broadcast_to(np.asarray(max_egray, np.float32), (n_band,))
    part = np.zeros(len(egray), np.int8)
    if color is not None:
        in_parts = color_parts(color, color_edges(color[use]))
        part = (in_parts[1:] * np.arange(1, 4, dtype=np.int8)[:, None]).sum(axis=0, dtype=np.int8)
    values, variance = (np.ascontiguousarray(each, np.float32) for each in (egray, egray_variance))
    cell, count = np.empty(len(egray), np.int8), np.zeros(n_band * len(COLOR_PARTS), np.int64)
    bands, most = np.asarray(band, np.int8), np.float32(max_err**2)
    count_cells(values, variance, use, bands, part, np.array(limits), most, cell, count)
    step = np.maximum(-(-count // _MOST), 1)
    first = np.concatenate([[0], np.cumsum(-(-count // step))])
    some, of_some = np.empty(first[-1]), np.empty(first[-1], np.float32)
    every_kth(values, variance, cell, step, first, some, of_some)
    sigma, total, mean, error = (np.full(shape, np.nan) for _ in range(4))
    failed = np.zeros(shape, bool)
    for c in np.flatnonzero(count):
        b, k = divmod(int(c), len(COLOR_PARTS))
        chosen = slice(first[c], first[c + 1])
        fit, expected = fit_normal(some[chosen]), float(np.median(of_some[chosen]))
        error[b, k], mean[b, k], total[b, k] = np.sqrt(expected), fit.mean, fit.sigma
        failed[b, k] = fit.n < _LEAST or fit.sigma == 0.0
        if failed[b, k]:
            sigma[b, k] = _FAILED
        else:
            sigma[b, k] = np.sqrt(fit.sigma**2 - expected) if fit.sigma**2 > expected else _NEGATIVE
    n_used = count.reshape(shape)
    return Repeatability(sigma, total, mean, error, n_used, failed)

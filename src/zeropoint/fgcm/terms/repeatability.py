"""How well repeated measurements of a star agree: the scatter that photometric errors do not explain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
    limits = np.broadcast_to(np.asarray(max_egray, np.float64), (n_band,))
    # the only observation of a star has no residual, and tells nothing
    keep = use & (egray_variance > 0.0) & (egray_variance < max_err**2) & (egray != 0.0)
    index = np.flatnonzero(keep)
    index = index[np.abs(egray[index]) < limits.astype(np.float32)[band[index]]]
    residual, variance, bands = egray[index], egray_variance[index], band[index]
    parts = np.ones((1, len(index)), bool)
    if color is not None:
        parts = color_parts(color[index], color_edges(color[use]))
    shape = (n_band, len(COLOR_PARTS))
    sigma, total, mean, error = (np.full(shape, np.nan) for _ in range(4))
    n_used, failed = np.zeros(shape, np.int64), np.zeros(shape, bool)
    for b in range(n_band):
        in_band = bands == b
        for k, part in enumerate(parts):
            chosen = in_band & part
            n_used[b, k] = np.count_nonzero(chosen)
            if n_used[b, k] == 0:
                continue
            rows = np.flatnonzero(chosen)[:: max(-(-int(n_used[b, k]) // _MOST), 1)]
            values = residual[rows]
            fit = fit_normal(values)
            expected = float(np.median(variance[rows]))
            error[b, k], mean[b, k], total[b, k] = np.sqrt(expected), fit.mean, fit.sigma
            failed[b, k] = len(values) < _LEAST or fit.sigma == 0.0
            if failed[b, k]:
                sigma[b, k] = _FAILED
            else:
                sigma[b, k] = np.sqrt(fit.sigma**2 - expected) if fit.sigma**2 > expected else _NEGATIVE
    return Repeatability(sigma, total, mean, error, n_used, failed)

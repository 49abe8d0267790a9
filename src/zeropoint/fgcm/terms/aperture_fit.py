"""Light that the aperture loses, as it depends on the seeing: a straight line per band through the gray of the exposures.

The slope is a parameter of the fit; here come the pivot and the range of the seeing, a slope to start from, and the bins
against which the line can be checked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.terms.groups import MAD_TO_SIGMA, MEDIAN_ERROR

__all__ = ["ApertureFit", "aperture_correction", "fill_detectors", "fit_aperture_corrections"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Values in a bin, bins of a line, and the least error of a bin's median, magnitudes.
_MIN_PER_BIN, _MIN_BINS, _FLOOR = 5, 3, 1e-3
#: The range of the seeing, as parts of the exposures.
_RANGE = (0.02, 0.98)


@dataclass(frozen=True)
class ApertureFit:
    """Aperture correction ``slope (clip(x, range) - pivot)`` of each band.

    Parameters
    ----------
    pivot, slope, slope_err : float64, shape (n_band,)
        Seeing at which it is zero; magnitudes per unit of the seeing, and their error (NaN: not fitted).
    range : float64, shape (n_band, 2)
        Seeing beyond which it stays as it is.
    fitted : bool, shape (n_band,)
        Whether the line is of this fit; else there were too few bins, and the values are those given before.
    bin_seeing, bin_gray, bin_err : float64, shape (n_band, n_bins)
        Medians of the bins, the previous correction added back, and their errors; NaN where a bin has too few values.
    """

    pivot: FloatArray
    slope: FloatArray
    slope_err: FloatArray
    range: FloatArray
    fitted: BoolArray
    bin_seeing: FloatArray
    bin_gray: FloatArray
    bin_err: FloatArray


def fill_detectors(seeing_detector: npt.ArrayLike, seeing: npt.ArrayLike) -> FloatArray:
    """Return the seeing by detector; where it is missing that is the median of the exposure's detectors, or the exposure's.

    Parameters
    ----------
    seeing_detector : shape (n_exp, n_det)
        NaN, or below -1000, where missing.
    seeing : shape (n_exp,)
        Of the exposures.
    """
    values = np.array(seeing_detector, np.float64)
    values[values < -1000.0] = np.nan
    known = np.isfinite(values)
    some = known.any(axis=1)
    fill = np.array(seeing, np.float64)
    fill[some] = np.nanmedian(values[some], axis=1)
    return np.where(known, values, fill[:, None])


def aperture_correction(
    seeing: npt.ArrayLike,
    band: npt.NDArray[np.integer],
    *,
    slope: npt.ArrayLike,
    pivot: npt.ArrayLike,
    limits: npt.ArrayLike,
) -> FloatArray:
    """Return what is added to magnitudes, of the shape of the seeing; 0 where seeing or band are unknown.

    Parameters
    ----------
    seeing : shape (n_exp,) or (n_exp, n_det)
        Seeing.
    band : shape (n_exp,)
        Band of each exposure, -1 for none.
    slope, pivot : shape (n_band,)
        Of the correction.
    limits : shape (n_band, 2)
        Range of the seeing.
    """
    x = np.asarray(seeing, np.float64)
    index = np.asarray(band)[(slice(None),) + (None,) * (x.ndim - 1)]
    k, p, r = (np.asarray(each, np.float64) for each in (slope, pivot, limits))
    value = k[index] * (np.clip(x, r[index, 0], r[index, 1]) - p[index])
    return np.where((index >= 0) & np.isfinite(value), value, 0.0)


def fit_aperture_corrections(
    seeing: npt.ArrayLike,
    gray: npt.ArrayLike,
    band: npt.NDArray[np.integer],
    photometric: BoolArray,
    *,
    n_bins: int,
    slope: npt.ArrayLike,
    pivot: npt.ArrayLike,
    limits: npt.ArrayLike,
) -> ApertureFit:
    """Fit the gray of photometric exposures as a function of the seeing.

    Parameters
    ----------
    seeing : shape (n_exp,) or (n_exp, n_det)
        Difference of aperture magnitudes, or full width at half maximum.
    gray : of the shape of the seeing
        Gray of the exposures or of their detectors, with the correction that is given; NaN where unknown.
    band : shape (n_exp,)
        Band of each exposure, -1 for none.
    photometric : shape (n_exp,)
        Exposures to use.
    n_bins
        Bins over the range of the seeing (``aperCorrFitNBins``); 0: nothing is fitted.
    slope, pivot : shape (n_band,)
        Of the correction that the gray contains; what stays where there is nothing to fit.
    limits : shape (n_band, 2)
        Its range.

    Returns
    -------
    fit : ApertureFit
        Total, not incremental, values.
    """
    x, y = np.asarray(seeing, np.float64), np.asarray(gray, np.float64)
    old = [np.array(each, np.float64) for each in (slope, pivot, limits)]
    n_band = len(old[0])
    total = y + aperture_correction(x, band, slope=old[0], pivot=old[1], limits=old[2])
    new_slope, new_pivot, new_limits = (each.copy() for each in old)
    error, fitted = np.full(n_band, np.nan), np.zeros(n_band, bool)
    bins = np.full((3, n_band, max(n_bins, 0)), np.nan)
    usable = np.isfinite(x) & np.isfinite(total)
    for b in range(n_band):
        rows = np.asarray(photometric & (band == b))[(slice(None),) + (None,) * (x.ndim - 1)]
        chosen = usable & rows
        xs, ys = x[chosen], total[chosen]
        if n_bins <= 0 or len(xs) < _MIN_BINS * _MIN_PER_BIN:
            continue
        low, high = np.quantile(xs, _RANGE)
        if not high > low:
            continue
        middle = np.floor(1000.0 * np.median(xs)) / 1000.0
        bins[:, b] = _bin_medians(xs, ys, float(low), float(high), n_bins)
        good = np.isfinite(bins[0, b])
        if np.count_nonzero(good) < _MIN_BINS:
            continue
        new_slope[b], error[b] = _line(bins[0, b, good] - middle, bins[1, b, good], bins[2, b, good])
        new_pivot[b], new_limits[b], fitted[b] = middle, (low, high), True
    return ApertureFit(new_pivot, new_slope, error, new_limits, fitted, bins[0], bins[1], bins[2])


def _bin_medians(x: FloatArray, y: FloatArray, low: float, high: float, n_bins: int) -> FloatArray:
    """Return the median seeing, the median gray and its error in each of equal bins, shape (3, n_bins)."""
    out = np.full((3, n_bins), np.nan)
    place = np.floor((x - low) / (high - low) * n_bins).astype(np.int64)
    place[x == high] = n_bins - 1
    for k in range(n_bins):
        inside = place == k
        n = np.count_nonzero(inside)
        if n < _MIN_PER_BIN:
            continue
        values = y[inside]
        median = float(np.median(values))
        spread = MAD_TO_SIGMA * float(np.median(np.abs(values - median)))
        out[:, k] = np.median(x[inside]), median, max(MEDIAN_ERROR * spread / np.sqrt(n), _FLOOR)
    return out


def _line(x: FloatArray, y: FloatArray, err: FloatArray) -> tuple[float, float]:
    """Return the slope of a straight line through points with errors, and its error."""
    design = np.stack([np.ones_like(x), x], axis=1) / err[:, None]
    q, r = np.linalg.qr(design)
    solution = np.linalg.solve(r, q.T @ (y / err))
    inverse = np.linalg.inv(r)
    return float(solution[1]), float(np.sqrt(np.sum(inverse[1] ** 2)))

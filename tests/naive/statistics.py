"""Clipped statistics and cell statistics, written the obvious way."""

import numpy as np

IQR_TO_SIGMA = 0.741301109252802


def quartiles(values):
    values = np.asarray(values, np.float64)
    if len(values) == 0 or np.isnan(values).any():
        return (np.nan,) * 3
    ordered = np.sort(values)
    result = []
    for q in (0.25, 0.5, 0.75):
        rank = q * (len(values) - 1)
        k = int(rank)
        if rank == k:
            result.append(ordered[k])
        else:
            result.append(ordered[k] * (1 - (rank - k)) + ordered[k + 1] * (rank - k))
    return tuple(result)


def variance(values):
    return np.var(values, ddof=1) if len(values) > 1 else np.nan


def clipped_stats(values, n_sigma=3.0, n_iter=3):
    values = np.asarray(values, np.float64)
    q1, center, q3 = quartiles(values)
    if np.isnan(center) or np.isnan(q3 - q1):
        return np.nan, np.nan, 0
    half_width = n_sigma * IQR_TO_SIGMA * (q3 - q1)
    kept = values
    for _ in range(n_iter):
        kept = values[np.abs(values - center) <= half_width]
        center = kept.mean()
        half_width = n_sigma * np.sqrt(variance(kept)) if len(kept) > 1 else 0.0
    return kept.mean(), np.sqrt(variance(kept)), len(kept)


def cell(pixels, kind):
    """Return (value, error) of one cell's good pixels for MEAN, MEDIAN or MEANCLIP."""
    pixels = np.asarray(pixels, np.float64)
    n = len(pixels)
    if n == 0 or np.isnan(pixels).any():
        return np.nan, np.nan
    if kind == "MEAN":
        return pixels.mean(), np.sqrt(variance(pixels) / n)
    if kind == "MEDIAN":
        return quartiles(pixels)[1], np.sqrt(np.pi / 2 * variance(pixels) / n)
    mean, std, n = clipped_stats(pixels)
    return mean, std / np.sqrt(n)

"""How far residual ellipticities of neighbouring PSF stars resemble each other: Rubin's TE1 to TE4."""

from __future__ import annotations

from typing import Any

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.catalogs.selectors.base import AnyTable
from zeropoint.datamodel.catalog import column, has_column
from zeropoint.datamodel.wcs import unit_vectors

__all__ = ["CORRELATION_STATISTICS", "residual_correlations"]

_ARCMIN = np.pi / 10800.0
#: Separations of the stars of a whole visit, and of those of one detector, arcmin.
_VISIT = {"psfTE1": (0.0, 1.0), "psfTE2": (5.0, 100.0)}
_DETECTOR = {"psfTE3": (0.0, 5.0), "psfTE4": (5.0, 20.0)}
_PARTS = ("e1", "e2", "ex")
CORRELATION_STATISTICS = tuple(f"{name}{part}" for name in (*_VISIT, *_DETECTOR) for part in _PARTS)
#: Stars whose pairs with all others are looked at together.
_BLOCK = 256


def residual_correlations(stars: AnyTable, config: pexConfig.Config) -> dict[str, float]:
    """Return the correlations of residual ellipticities of the stars of a visit: `CORRELATION_STATISTICS`.

    Parameters
    ----------
    stars
        Stars with ``detector``, ``coord_ra``, ``coord_dec`` (radians), the flag and the shapes that the configuration
        names; stars without finite shapes do not count. None of the results if a column is missing.
    config
        ``starSelection``, ``starShape`` and ``psfShape`` of
        `~zeropoint.quality.summary.ComputeExposureSummaryStatsConfig`.

    Returns
    -------
    values
        Means over pairs of the products of residuals: ``e1`` of both, ``e2`` of both, ``ex`` of e1 and e2. Of TE3 and
        TE4, which are within a detector, the medians over detectors. NaN without pairs.

    Notes
    -----
    The ellipticity is (xx - yy, 2 xy) / (xx + yy); a pair counts from the lower separation on, up to but without the
    upper one.
    """
    shapes = {
        base: [f"{base}_{part}" for part in ("xx", "yy", "xy")]
        for base in (config.starShape, config.psfShape)
    }
    needed = [
        "detector",
        "coord_ra",
        "coord_dec",
        config.starSelection,
        *shapes[config.starShape],
        *shapes[config.psfShape],
    ]
    if not all(has_column(stars, name) for name in needed):
        return {}
    star, model = (_ellipticity(*(column(stars, name) for name in names)) for names in shapes.values())
    residual = np.stack(star, axis=1) - np.stack(model, axis=1)
    keep = np.asarray(column(stars, config.starSelection), bool) & np.isfinite(residual).all(axis=1)
    position = unit_vectors(column(stars, "coord_ra"), column(stars, "coord_dec"))
    keep &= np.isfinite(position).all(axis=1)
    residual, position, detector = residual[keep], position[keep], np.asarray(column(stars, "detector"))[keep]
    result = _means(residual, position, _VISIT)
    each = [
        _means(residual[detector == number], position[detector == number], _DETECTOR)
        for number in np.unique(detector)
    ]
    for name in (f"{name}{part}" for name in _DETECTOR for part in _PARTS):
        values = np.array([means[name] for means in each])
        known = values[np.isfinite(values)]
        result[name] = float(np.median(known)) if known.size else float("nan")
    return result


def _ellipticity(xx: np.ndarray, yy: np.ndarray, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return (xx - yy) / (xx + yy), 2.0 * xy / (xx + yy)


def _means(
    residual: np.ndarray, position: np.ndarray, ranges: dict[str, tuple[float, float]]
) -> dict[str, float]:
    """Return the mean products of pairs in each range of separations; residual (n, 2), position (n, 3)."""
    # distances along chords, squared
    edges = {
        name: [(2.0 * np.sin(0.5 * edge * _ARCMIN)) ** 2 for edge in pair] for name, pair in ranges.items()
    }
    sums: dict[str, Any] = {name: np.zeros((2, 2)) for name in ranges}
    counts = dict.fromkeys(ranges, 0)
    for start in range(0, len(residual), _BLOCK):
        block = slice(start, start + _BLOCK)
        chord = 2.0 - 2.0 * (position[block] @ position[start:].T)
        # each pair once, and no star with itself
        chord[np.tril_indices(len(chord), m=chord.shape[1])] = np.inf
        for name, (low, high) in edges.items():
            pairs = chord < high
            if low > 0.0:
                pairs &= chord >= low
            counts[name] += int(np.count_nonzero(pairs))
            sums[name] += residual[block].T @ (pairs.astype(np.float64) @ residual[start:])
    result = {}
    for name, total in sums.items():
        mean = total / counts[name] if counts[name] else np.full((2, 2), np.nan)
        parts = (mean[0, 0], mean[1, 1], 0.5 * (mean[0, 1] + mean[1, 0]))
        result.update(dict(zip((f"{name}{part}" for part in _PARTS), parts)))
    return {name: float(value) for name, value in result.items()}

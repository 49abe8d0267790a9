"""How well observations of one star agree with each other, by band and by magnitude, at a stage of the fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.special import erf

from zeropoint.fgcm.terms.groups import MAD_TO_SIGMA

if TYPE_CHECKING:
    from zeropoint.fgcm.model.observations import FitObservations

__all__ = ["ResidualFacts", "group_scatter", "mixture_noise", "residual_facts", "star_residuals"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Bins of the histogram, and its half width in units of the noise of the bright observations.
_BINS, _HALF_WIDTH = 81, 8.0
#: Bins of magnitude.
_MAG_BINS = 14
#: Halvings of the range of a noise: it is then known to 1e-4.
_BISECTIONS = 13
#: Observations with at least this share of their star's weight say nothing of the scatter.
_LARGEST_SHARE = 0.9


@dataclass(frozen=True)
class ResidualFacts:
    """Scatter of observations about the mean of their star; NaN where there are too few.

    Parameters
    ----------
    stage
        ``nominal`` (standard atmosphere, nothing fitted), ``model`` (fitted, no gray terms) or ``zeropoints`` (gray terms
        too).
    n_bright : int64, shape (n_band,)
        Bright observations: their error is at most ``bright_error``.
    bright_error : float64, shape (n_band,)
        Largest error of a bright observation, mag.
    scatter : float64, shape (n_band,)
        Robust standard deviation of the bright observations, corrected for their share in the mean, mag.
    noise : float64, shape (n_band,)
        What ``scatter`` would be if nothing but their errors made it, mag.
    edges : float64, shape (n_bin + 1,)
        Edges of the histogram, in units of a bright observation's noise.
    histogram : int64, shape (n_band, n_bin)
        Bright observations by residual over error; those beyond the edges are left out.
    mag_edges : float64, shape (n_band, n_mag + 1)
        Edges of the bins of magnitude: equal numbers of observations.
    mag_scatter, mag_noise : float64, shape (n_band, n_mag)
        As ``scatter`` and ``noise``, of the observations in each bin.
    """

    stage: str
    n_bright: npt.NDArray[np.int64]
    bright_error: FloatArray
    scatter: FloatArray
    noise: FloatArray
    edges: FloatArray
    histogram: npt.NDArray[np.int64]
    mag_edges: FloatArray
    mag_scatter: FloatArray
    mag_noise: FloatArray


def star_residuals(
    segment: npt.NDArray[np.integer], magnitude: FloatArray, error: FloatArray, n_segment: int
) -> tuple[FloatArray, FloatArray]:
    """Return the mean magnitude of the star in the band minus that of each observation, as free of the mean's noise as can be.

    Parameters
    ----------
    segment : int, shape (n,)
        Star and band of each observation.
    magnitude, error : float, shape (n,)
        Magnitudes and errors.
    n_segment
        Number of stars times bands.

    Returns
    -------
    residual : float64, shape (n,)
        Divided by sqrt(1 - share in the weight), so that its scatter is the error of a single observation; NaN where an
        observation is alone, or nearly so.
    mean : float64, shape (n_segment,)
        Weighted means; NaN without observations.
    """
    weight = 1.0 / np.square(error, dtype=np.float64)
    total = np.bincount(segment, weight, n_segment)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(segment, weight * magnitude, n_segment) / total
        share = weight / total[segment]
        residual = (mean[segment] - magnitude) / np.sqrt(1.0 - share)
    residual[~(share < _LARGEST_SHARE)] = np.nan
    return residual, mean


def group_scatter(values: FloatArray, group: npt.NDArray[np.integer], n_group: int) -> FloatArray:
    """Return the robust standard deviation of each group of values; NaN for fewer than ten.

    Parameters
    ----------
    values : float, shape (n,)
        Values.
    group : int, shape (n,)
        Group of each.
    n_group
        Number of groups.
    """
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group, minlength=n_group))
    scatter = np.full(n_group, np.nan)
    for k, part in enumerate(np.split(values[order], ends[:-1])):
        if len(part) >= 10:
            scatter[k] = MAD_TO_SIGMA * np.median(np.abs(part - np.median(part)))
    return scatter


def residual_facts(
    stage: str,
    observations: FitObservations,
    magnitude: npt.NDArray[np.floating],
    error: npt.NDArray[np.floating],
    use: BoolArray,
    standard: npt.NDArray[np.floating],
    *,
    largest_error: float = 0.01,
) -> ResidualFacts:
    """Return how well observations of one star agree at a stage.

    Parameters
    ----------
    stage
        Its name.
    observations
        All observations.
    magnitude : float, shape (n_obs,)
        Standard magnitudes at this stage.
    error : float, shape (n_obs,)
        Their errors.
    use : bool, shape (n_obs,)
        Which observations count.
    standard : float, shape (n_star, n_band)
        Mean magnitudes in the end, by which all stages have their bins: those of the stage itself may lack the zeropoint of the
        survey. NaN: not known.
    largest_error
        Largest error of bright observations, mag; where fewer than a quarter have it, the quarter with the smallest errors
        is bright.
    """
    n_band = observations.n_band
    rows = np.flatnonzero(use & np.isfinite(magnitude))
    own_error = np.asarray(error[rows], np.float64)
    segment = observations.segment[rows]
    residual, mean = star_residuals(
        segment, magnitude[rows].astype(np.float64), own_error, observations.n_star * n_band
    )
    known = np.isfinite(residual)
    residual, own_error, segment = residual[known], own_error[known], segment[known]
    band = segment % n_band
    mean = _known_magnitude(np.asarray(standard, np.float64).ravel()[segment], mean[segment], band, n_band)

    limit = np.full(n_band, np.nan)
    for b in range(n_band):
        errors = own_error[band == b]
        if len(errors):
            limit[b] = max(largest_error, float(np.quantile(errors, 0.25)))
    bright = own_error <= limit[band]
    edges = np.linspace(-_HALF_WIDTH, _HALF_WIDTH, _BINS + 1)
    # beyond the edges counts on neither side: far residuals are in the scatter
    place = np.searchsorted(edges, residual[bright] / own_error[bright], side="right") - 1
    inside = (place >= 0) & (place < _BINS)
    of_bin = band[bright][inside] * _BINS + place[inside]
    histogram = np.bincount(of_bin, minlength=n_band * _BINS).reshape(n_band, _BINS)
    mag_edges, group = _magnitude_bins(mean, band, n_band)
    return ResidualFacts(
        stage,
        np.bincount(band[bright], minlength=n_band),
        limit,
        group_scatter(residual[bright], band[bright], n_band),
        mixture_noise(own_error[bright], band[bright], n_band),
        edges,
        histogram,
        mag_edges,
        group_scatter(residual, group, n_band * _MAG_BINS).reshape(n_band, _MAG_BINS),
        mixture_noise(own_error, group, n_band * _MAG_BINS).reshape(n_band, _MAG_BINS),
    )


def mixture_noise(error: FloatArray, group: npt.NDArray[np.integer], n_group: int) -> FloatArray:
    """Return the robust standard deviation of each group of Gaussians, of different widths, about one center.

    Parameters
    ----------
    error : float64, shape (n,)
        Widths.
    group : int, shape (n,)
        Group of each.
    n_group
        Number of groups; the result is NaN for empty ones.

    Notes
    -----
    Half of such a mixture is within the median absolute deviation: it is found by bisection between 0 and the largest error.
    """
    n = np.bincount(group, minlength=n_group)
    low, high = np.zeros(n_group), np.zeros(n_group)
    np.maximum.at(high, group, error)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        inside = np.bincount(group, erf(middle[group] / (np.sqrt(2.0) * error)), n_group)
        more = inside < 0.5 * n
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    return np.asarray(np.where(n > 0, MAD_TO_SIGMA * high, np.nan))


def _known_magnitude(
    standard: FloatArray, mean: FloatArray, band: npt.NDArray[np.integer], n_band: int
) -> FloatArray:
    """Return the magnitude of the star of each observation; where it is not known, from the stage's mean and the others' shift."""
    known = np.isfinite(standard)
    shift = np.zeros(n_band)
    for b in range(n_band):
        chosen = known & (band == b)
        if chosen.any():
            shift[b] = np.median(standard[chosen] - mean[chosen])
    return np.where(known, standard, mean + shift[band])


def _magnitude_bins(
    mean: FloatArray, band: npt.NDArray[np.integer], n_band: int
) -> tuple[FloatArray, npt.NDArray[np.integer]]:
    """Return edges of magnitude bins of each band with equal numbers of observations, and the bin of each observation."""
    edges = np.full((n_band, _MAG_BINS + 1), np.nan)
    group = np.zeros(len(mean), np.int64)
    for b in range(n_band):
        chosen = np.flatnonzero(band == b)
        if not len(chosen):
            continue
        edges[b] = np.quantile(mean[chosen], np.linspace(0.0, 1.0, _MAG_BINS + 1))
        inside = np.searchsorted(edges[b, 1:-1], mean[chosen], side="right")
        group[chosen] = b * _MAG_BINS + inside
    return edges, group

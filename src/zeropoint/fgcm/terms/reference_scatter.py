"""Standard magnitudes against those of the reference catalogue: offsets, scatter, outliers, and offsets of exposures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.terms.groups import MAD_TO_SIGMA, MEDIAN_ERROR, group_medians
from zeropoint.fgcm.terms.histogram import fit_normal
from zeropoint.fgcm.terms.repeatability import color_edges, color_parts

__all__ = [
    "ExposureOffsets",
    "ReferenceScatter",
    "exposure_reference_offsets",
    "means_of_observations",
    "reference_scatter",
]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]

#: Fewer reference stars than this have no outliers.
_FEW = 50
#: A mean of which observations are a smaller part than this is the reference's magnitude.
_LEAST_PART = 1e-6


@dataclass(frozen=True)
class ReferenceScatter:
    """Mean minus reference magnitude, by band and color; shape (n_band, 4), the colors as `repeatability.COLOR_PARTS`.

    Parameters
    ----------
    offset, sigma
        Center and width, magnitudes; NaN without reference stars.
    n_stars
        Reference stars.
    outlier : bool, shape (n_star,)
        Stars farther from the center than the limit in any band.
    n_outliers : int64, shape (n_band,)
        How many in each band.
    """

    offset: FloatArray
    sigma: FloatArray
    n_stars: npt.NDArray[np.int64]
    outlier: BoolArray
    n_outliers: npt.NDArray[np.int64]


def means_of_observations(
    mean: Floats, err: Floats, reference: Floats, reference_weight: Floats
) -> FloatArray:
    """Return the means of stars without the reference magnitudes in them, shape (n_star, n_band); NaN: no observation.

    Parameters
    ----------
    mean, err : shape (n_star, n_band)
        Means of observations and references, and their errors (sum of all weights)^-1/2; NaN: none.
    reference, reference_weight : shape (n_star, n_band)
        Reference magnitudes and their weights; 0 where none takes part.

    Notes
    -----
    A mean compared with a magnitude that is part of it agrees too well, and altogether where there is nothing else.
    """
    total = 1.0 / np.square(np.asarray(err, np.float64))
    weight = np.asarray(reference_weight, np.float64)
    own = total - weight
    known = own > _LEAST_PART * total
    value = (np.asarray(mean, np.float64) * total - np.where(weight > 0, weight * reference, 0.0)) / np.where(
        known, own, 1.0
    )
    return np.where(known, value, np.nan)


def reference_scatter(
    mean: Floats, reference: Floats, good: BoolArray, *, n_sigma: float, color: Floats | None = None
) -> ReferenceScatter:
    """Compare mean magnitudes with reference magnitudes.

    Parameters
    ----------
    mean, reference : shape (n_star, n_band)
        Magnitudes, the means without reference (`means_of_observations`); NaN: none.
    good : shape (n_star,)
        Good stars, reserve stars among them, that are no reference outliers yet.
    n_sigma
        Limit of outliers (``refStarOutlierNSig``); 0: none are sought.
    color : shape (n_star,), optional
        NaN where unknown.

    Notes
    -----
    Below 50 stars of a band nothing is an outlier; offset and width are then median and median absolute deviation.
    """
    n_star, n_band = mean.shape
    shape = (n_band, 4)
    offset, sigma = np.full(shape, np.nan), np.full(shape, np.nan)
    n_stars, n_outliers = np.zeros(shape, np.int64), np.zeros(n_band, np.int64)
    outlier = np.zeros(n_star, bool)
    compared = good & np.isfinite(reference).any(axis=1)
    parts = np.zeros((4, n_star), bool)
    parts[0] = compared
    if color is not None:
        chosen = np.asarray(color)[compared]
        parts[:, compared] = color_parts(chosen, color_edges(chosen))
    difference = np.asarray(mean, np.float64) - reference
    for b in range(n_band):
        for k in range(4):
            values = difference[parts[k] & np.isfinite(difference[:, b]), b]
            fit = fit_normal(values)
            offset[b, k], sigma[b, k], n_stars[b, k] = fit.mean, fit.sigma, fit.n
        if n_sigma > 0 and n_stars[b, 0] >= _FEW:
            far = compared & (np.abs(difference[:, b] - offset[b, 0]) > n_sigma * sigma[b, 0])
            n_outliers[b] = np.count_nonzero(far)
            outlier |= far
    return ReferenceScatter(offset, sigma, n_stars, outlier, n_outliers)


@dataclass(frozen=True)
class ExposureOffsets:
    """How far exposures are from reference stars; shape (n_exp,), NaN where that is not known.

    Parameters
    ----------
    offset, err : float64
        Median of reference minus standard magnitudes, and its error, mag.
    """

    offset: FloatArray
    err: FloatArray


def exposure_reference_offsets(
    standard: Floats,
    reference: Floats,
    segment: npt.NDArray[np.integer],
    exposure: npt.NDArray[np.integer],
    use: BoolArray,
    *,
    n_exp: int,
    min_stars: int,
) -> ExposureOffsets:
    """Return the median of reference minus standard magnitudes of each exposure; NaN with too few.

    Parameters
    ----------
    standard : shape (n_obs,)
        Standard magnitudes with the gray of the zeropoint applied; NaN: none.
    reference : shape (n_star, n_band)
        Reference magnitudes; NaN: none.
    segment, exposure, use : shape (n_obs,)
        Star-band and exposure of each observation, and which count.
    n_exp
        Number of exposures.
    min_stars
        Reference stars that an exposure needs (``minStarPerExp``).
    """
    has = np.isfinite(reference).ravel()
    rows = np.flatnonzero(use & has[segment] & np.isfinite(standard))
    difference = reference.ravel()[segment[rows]] - standard[rows]
    median, count = group_medians(difference, exposure[rows], n_exp)
    spread, _ = group_medians(np.abs(difference - median[exposure[rows]]), exposure[rows], n_exp)
    enough = count >= max(min_stars, 1)
    err = MEDIAN_ERROR * MAD_TO_SIGMA * spread / np.sqrt(np.maximum(count, 1))
    return ExposureOffsets(np.where(enough, median, np.nan), np.where(enough, err, np.nan))

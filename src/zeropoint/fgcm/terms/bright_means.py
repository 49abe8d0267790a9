"""First mean magnitudes of stars, from their brightest observations: clouds only make stars fainter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.model.rows import segment_parts
from zeropoint.fgcm.terms._kernels_fields import constant_sums
from zeropoint.fgcm.terms._kernels_stars import bright_segments
from zeropoint.fgcm.terms.groups import BoolArray, FloatArray, ratio
from zeropoint.fgcm.threads import finish

__all__ = ["BrightMeans", "bright_means", "mean_exposure_gray"]

SingleArray = npt.NDArray[np.float32]
IndexArray = npt.NDArray[np.integer]


@dataclass(frozen=True)
class BrightMeans:
    """Means of the bright observations.

    Parameters
    ----------
    mean, err : float64, shape (n_segments,)
        Weighted mean magnitude of each star-band and its error; NaN without observations.
    n : int64, shape (n_segments,)
        Observations used.
    used : bool, shape (n_obs,)
        Whether an observation is part of its mean.
    """

    mean: FloatArray
    err: FloatArray
    n: npt.NDArray[np.int64]
    used: BoolArray


def bright_means(
    mstd: SingleArray,
    err: SingleArray,
    start: npt.NDArray[np.int64],
    good: BoolArray,
    *,
    gray_max: float,
    threads: int = 1,
) -> BrightMeans:
    """Average the observations of each star-band that are close to its brightest one.

    Parameters
    ----------
    mstd, err : float32, shape (n_obs,)
        Standard magnitudes and errors, by star-band.
    start : int64, shape (n_segments + 1,)
        First observation of each star-band.
    good : bool, shape (n_obs,)
        Observations that take part.
    gray_max
        How much fainter than the brightest an observation may be, mag (``brightObsGrayMax``).
    threads
        Threads; the result has the same bits for any number.
    """
    n, parts = len(start) - 1, segment_parts(start)
    mean, total, count = np.empty(n), np.empty(n), np.empty(n, np.int64)
    used = np.empty(len(mstd), np.bool_)

    def run(k: int) -> None:
        bright_segments(
            mstd, err, start, parts[k], parts[k + 1], good, np.float32(gray_max), mean, total, count, used
        )

    finish(run, len(parts) - 1, threads)
    return BrightMeans(mean, np.sqrt(ratio(1.0, total)), count, used)


def mean_exposure_gray(
    gray: SingleArray, exposure: IndexArray, n_exp: int, sample: BoolArray
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Average the gray of all stars of each exposure, unweighted: what exposures are first chosen by.

    Parameters
    ----------
    gray : float32, shape (n_obs,)
        Gray of the observations.
    exposure : int, shape (n_obs,)
        Exposure of each.
    n_exp
        Number of exposures.
    sample : bool, shape (n_obs,)
        Observations to average.

    Returns
    -------
    mean : float64, shape (n_exp,)
        Mean; NaN without stars.
    n : int64, shape (n_exp,)
        Number of stars.
    """
    group = np.where(sample & np.isfinite(gray), exposure, -1).astype(np.int32, copy=False)
    sums, single = np.zeros((n_exp, 3)), np.ascontiguousarray(gray, np.float32)
    constant_sums(group, single, np.ones(len(single), np.float32), sums)
    return ratio(sums[:, 2], sums[:, 0]), sums[:, 0].astype(np.int64)

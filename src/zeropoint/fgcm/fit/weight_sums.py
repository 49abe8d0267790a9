"""Sums over the weights of a fit's observations, all in one pass over these."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.fit._kernels import sum_weights

if TYPE_CHECKING:
    from zeropoint.fgcm.model.observations import FitObservations

__all__ = ["WeightSums"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WeightSums:
    """What the weights of observations add up to.

    Parameters
    ----------
    by_detector : float64, shape (n_exp, n_det)
        Of each exposure and detector.
    upper : float64, shape (n_exp, n_det)
        The same of weights times places between the nodes of the airmass.
    by_segment : float64, shape (n_star * n_band,)
        Of each star and band.
    n_used
        Observations with a weight.
    n_segments
        Stars and bands with one.
    n_wrong
        Weights that are negative or no numbers, left out of the others.
    n_wrong_mag
        Observations with a weight whose magnitude is no number.
    """

    by_detector: FloatArray
    upper: FloatArray
    by_segment: FloatArray
    n_used: int
    n_segments: int
    n_wrong: int
    n_wrong_mag: int

    @classmethod
    def of(cls, observations: FitObservations, weight: npt.NDArray[np.float32], n_exp: int) -> WeightSums:
        """Add up weights.

        Parameters
        ----------
        observations
            Star by star.
        weight : float32, shape (n_obs,)
            Of the observations.
        n_exp
            Number of exposures.
        """
        by_node = np.zeros((n_exp * observations.n_det, 2))
        by_segment, counts = np.zeros(len(observations.start) - 1), np.zeros(4, np.int64)
        sum_weights(
            observations.start, observations.ec, weight, observations.t, observations.mag, by_node, by_segment, counts
        )  # fmt: skip
        total, upper = by_node.T.reshape(2, n_exp, observations.n_det)
        return cls(total, upper, by_segment, *(int(each) for each in counts))

    @cached_property
    def used_exposures(self) -> npt.NDArray[np.bool_]:
        """Exposures with an observation that counts, shape (n_exp,)."""
        return np.asarray((self.by_detector > 0).any(axis=1))

    @cached_property
    def shares(self) -> FloatArray:
        """What part of the weight of an exposure is on each detector and near each airmass node.

        Shape (n_exp, n_det, 2). The sum over detectors and nodes is 1; even where an exposure has no weight.
        """
        share = np.stack([self.by_detector - self.upper, self.upper], axis=-1)
        share[share.sum(axis=(1, 2)) <= 0] = 1.0
        return np.asarray(share / share.sum(axis=(1, 2), keepdims=True))

"""Weights that a fit decides from its own residuals: of single observations, and of whole exposures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from zeropoint.fgcm.model.observations import FitObservations

__all__ = ["gray_prior_sigma", "huber_weight", "structure_weight"]

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]


def huber_weight(
    residual: FloatArray, weight: SingleArray, weight_sum: FloatArray, threshold: float
) -> SingleArray:
    """Return weights after Huber: from a residual of so many errors on they fall as one over the residual.

    Parameters
    ----------
    residual : float64, shape (n_obs,)
        Standard magnitude minus the star's mean; NaN where there is no mean.
    weight : float32, shape (n_obs,)
        Inverse variances; 0: not used.
    weight_sum : float64, shape (n_obs,)
        Sum of the weights of the observation's star: a star's mean follows its observations, so a residual is smaller than
        the error of its observation.
    threshold
        In errors of the residual.

    Returns
    -------
    weight : float32, shape (n_obs,)
    """
    variance = 1.0 - weight / np.where(weight_sum > 0, weight_sum, 1.0)
    size = np.abs(residual) * np.sqrt(weight / np.maximum(variance, 1e-6))
    factor = threshold / np.maximum(np.nan_to_num(size), threshold)
    return (weight * factor).astype(np.float32)


def gray_prior_sigma(gray: FloatArray, sigma: float, tail: float) -> FloatArray:
    """Return the widths of normal priors that stand, at these grays, for a Student distribution.

    Parameters
    ----------
    gray : float64, shape (n,)
        Gray of exposures, mag.
    sigma
        Width of the distribution, mag.
    tail
        Its degrees of freedom.

    Returns
    -------
    sigma : float64, shape (n,)
        ``sigma^2 (tail + (gray / sigma)^2) / (tail + 1)``: exposures that are gray become free to be so.
    """
    return np.asarray(np.sqrt(sigma**2 * (tail + (gray / sigma) ** 2) / (tail + 1.0)))


def structure_weight(
    weight: SingleArray, observations: FitObservations, gray: FloatArray, structure: float
) -> SingleArray:
    """Return weights with the scatter over the field that comes with the gray of an exposure.

    Parameters
    ----------
    weight : float32, shape (n_obs,)
        Inverse variances; 0: not used.
    observations
        Of which exposure they are.
    gray : float64, shape (n_exp,)
        Gray of the exposures, mag.
    structure
        Scatter over the field, as a part of the gray.
    """
    variance = ((structure * gray) ** 2)[observations.exposure]
    return (weight / (1.0 + weight * variance)).astype(np.float32)

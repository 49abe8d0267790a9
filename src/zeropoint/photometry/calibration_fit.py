"""Zero point, its variation over the image, and a colour term, fitted together to matched stars."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev

from zeropoint.datamodel.exposure import AB_FLUX_NJY
from zeropoint.datamodel.fields import ChebyshevPolynomial, chebyshev_means, chebyshev_terms
from zeropoint.photometry.zeropoint import ZeropointFit, fit_zeropoint

__all__ = ["CalibrationFit", "CalibrationStars", "Clipping", "fit_calibration", "held_out_residuals"]

_MAG = 2.5 / np.log(10.0)
#: Largest change of a modelled magnitude at which the fit has converged.
_CONVERGED = 1e-6
_MAX_ROUNDS = 25
#: The response may not fall below this fraction of its mean while the fit is under way.
_LOWEST_RESPONSE = 0.1
#: Smallest eigenvalue of the normal equations relative to the largest.
_SINGULAR = 1e-12
#: Rounds and smallest residual (mag) of the least-absolute-deviations start.
_START_ROUNDS, _START_SOFTENING = 15, 0.005


@dataclass(frozen=True)
class CalibrationStars:
    """Matched stars of one image.

    Parameters
    ----------
    difference, error : float64, shape (n,)
        Reference minus instrumental magnitude and its error; finite.
    x, y : float64, shape (n,)
        Pixel positions; finite where a field is fitted.
    color : float64, shape (n,)
        Colour minus the reference colour, mag; finite where a colour term is fitted.
    width, height
        Image size in pixels.
    """

    difference: np.ndarray
    error: np.ndarray
    x: np.ndarray
    y: np.ndarray
    color: np.ndarray
    width: int
    height: int

    def __len__(self) -> int:
        return len(self.difference)

    def take(self, rows: np.ndarray) -> CalibrationStars:
        """Return some of the stars."""
        return replace(
            self,
            difference=self.difference[rows],
            error=self.error[rows],
            x=self.x[rows],
            y=self.y[rows],
            color=self.color[rows],
        )


@dataclass(frozen=True)
class Clipping:
    """How outliers are found; see `zeropoint.photometry.zeropoint.fit_zeropoint`."""

    sigma_max: float | None = 0.25
    n_sigma: float = 3.0
    use_median: bool = True
    n_iter: int = 20


@dataclass(frozen=True)
class CalibrationFit:
    """``difference = zp - 2.5 log10 F(x, y) - c1 color - c2 color^2``, the mean of F over the image being 1.

    Parameters
    ----------
    mean
        The zero point's fit to the differences less all other terms: its stars, weights and scatter.
    order, degree
        Of the field F and of the colour term; 0: none.
    parameters : float64, shape (1 + n_field + degree,)
        zp, the coefficients of F (relative; in the order of the terms ``i + j <= order`` without the constant),
        c1, c2.
    covariance : float64, shape (n, n)
        Of the parameters.
    """

    mean: ZeropointFit
    order: int
    degree: int
    parameters: np.ndarray
    covariance: np.ndarray

    @property
    def zp(self) -> float:
        """AB magnitude of one count, at the reference colour and for the mean response."""
        return float(self.parameters[0])

    @property
    def sigma(self) -> float:
        """One-sigma error of `zp`, that of the other terms included."""
        return float(np.sqrt(self.covariance[0, 0]))

    @property
    def color_coefficients(self) -> np.ndarray:
        """Return c1, c2 as far as fitted."""
        return self.parameters[len(self.parameters) - self.degree :]

    @property
    def color_errors(self) -> np.ndarray:
        """Errors of `color_coefficients`."""
        return np.sqrt(np.diag(self.covariance)[len(self.parameters) - self.degree :])

    def model(self, stars: CalibrationStars) -> np.ndarray:
        """Return the modelled differences of stars, float64, shape (n,)."""
        return _model(self.parameters, *_basis(stars, self.order, self.degree))

    def field(self, width: int, height: int) -> ChebyshevPolynomial | None:
        """Return nJy per count over the image; None if no field was fitted.

        Larger F is a smaller zero point, as the same count then stands for more light.
        """
        if self.order == 0:
            return None
        terms = chebyshev_terms(self.order, self.order)[1:]
        means = chebyshev_means(self.order + 1)
        coefficients = np.zeros((self.order + 1, self.order + 1))
        coefficients[0, 0] = 1.0
        for (j, i), value in zip(terms, self.parameters[1 : 1 + len(terms)]):
            coefficients[j, i] = value
            coefficients[0, 0] -= value * means[j] * means[i]
        return ChebyshevPolynomial(width, height, coefficients * AB_FLUX_NJY * 10.0 ** (-0.4 * self.zp))

    def zeropoint_error(
        self, *, x: np.ndarray | float, y: np.ndarray | float, width: int, height: int
    ) -> np.ndarray:
        """Return the error (mag) of the zero point at pixel positions, float64."""
        x, y = np.broadcast_arrays(np.asarray(x, np.float64), np.asarray(y, np.float64))
        zero = np.zeros(x.size)
        at = CalibrationStars(zero, zero, x.ravel(), y.ravel(), zero, width, height)
        derivatives = _jacobian(self.parameters, *_basis(at, self.order, self.degree))
        variance = np.einsum("ij,jk,ik->i", derivatives, self.covariance, derivatives)
        return np.sqrt(variance).reshape(x.shape)


def _basis(stars: CalibrationStars, order: int, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the field's terms, each with mean zero over the image, and the colour's powers."""
    terms = chebyshev_terms(order, order)[1:]
    means = chebyshev_means(order + 1)
    field = np.empty((len(stars), len(terms)))
    if terms:
        tx = chebyshev.chebvander((2.0 * stars.x + 1.0 - stars.width) / stars.width, order)
        ty = chebyshev.chebvander((2.0 * stars.y + 1.0 - stars.height) / stars.height, order)
        for column, (j, i) in enumerate(terms):
            field[:, column] = ty[:, j] * tx[:, i] - means[j] * means[i]
    color = np.stack([stars.color ** (k + 1) for k in range(degree)], axis=1) if degree else field[:, :0]
    return field, color


def _response(parameters: np.ndarray, field: np.ndarray) -> np.ndarray:
    return np.maximum(1.0 + field @ parameters[1 : 1 + field.shape[1]], _LOWEST_RESPONSE)


def _model(parameters: np.ndarray, field: np.ndarray, color: np.ndarray) -> np.ndarray:
    linear = parameters[0] - color @ parameters[1 + field.shape[1] :]
    return np.asarray(linear - _MAG * np.log(_response(parameters, field)))


def _jacobian(parameters: np.ndarray, field: np.ndarray, color: np.ndarray) -> np.ndarray:
    response = _response(parameters, field)
    return np.concatenate([np.ones((len(field), 1)), -_MAG * field / response[:, None], -color], axis=1)


def _start(difference: np.ndarray, field: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Return parameters of the smallest absolute deviations, which outliers hardly move."""
    parameters = np.zeros(1 + field.shape[1] + color.shape[1])
    parameters[0] = np.median(difference)
    for _ in range(_START_ROUNDS):
        residual = difference - _model(parameters, field, color)
        weight = 1.0 / np.sqrt(residual**2 + _START_SOFTENING**2)
        parameters = parameters + _step(residual, weight, _jacobian(parameters, field, color))
    return parameters


def _normal(weight: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
    return np.asarray(jacobian.T @ (jacobian * weight[:, None]))


def _step(residual: np.ndarray, weight: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
    """Return the weighted least-squares step; terms that the stars do not determine stay where they are."""
    inverse = np.linalg.pinv(_normal(weight, jacobian), rcond=_SINGULAR, hermitian=True)
    return np.asarray(inverse @ (jacobian.T @ (weight * residual)))


def fit_calibration(
    stars: CalibrationStars, *, order: int = 0, degree: int = 0, clipping: Clipping | None = None
) -> CalibrationFit:
    """Fit zero point, field and colour term.

    Parameters
    ----------
    stars
        At least one; more than there are parameters.
    order
        Order of the field (0: constant).
    degree
        Degree of the colour term (0: none).
    clipping
        Outlier rejection.

    Notes
    -----
    Rounds of the robust mean of `fit_zeropoint` on what the other terms leave, which gives each star's weight, and a
    Gauss-Newton step of all parameters under these weights.  The covariance is that of the weighted fit, scaled
    as the error of the mean is, for the degrees of freedom of all parameters.
    """
    options = _options(clipping)
    if order == 0 and degree == 0:
        mean = fit_zeropoint(stars.difference, stars.error, **options)
        return CalibrationFit(mean, 0, 0, np.array([mean.zp]), np.array([[mean.sigma**2]]))
    basis = _basis(stars, order, degree)
    parameters = _start(stars.difference, *basis)
    for _ in range(_MAX_ROUNDS):
        residual = stars.difference - _model(parameters, *basis)
        mean = fit_zeropoint(residual + parameters[0], stars.error, **options)
        jacobian = _jacobian(parameters, *basis)
        step = _step(residual, mean.weights, jacobian)
        parameters = parameters + step
        if np.abs(jacobian @ step).max() < _CONVERGED:
            break
    jacobian = _jacobian(parameters, *basis)
    n, p = mean.n_good, len(parameters)
    freedom = (n - 1.0) / max(n - p, 1.0)
    scale = mean.sigma**2 * mean.weights.sum() * freedom
    covariance = _covariance(_normal(mean.weights, jacobian)) * scale
    return CalibrationFit(mean, order, degree, parameters, covariance)


def _covariance(normal: np.ndarray) -> np.ndarray:
    """Return the inverse of normal equations; what the stars do not determine has a huge variance, not none."""
    values, vectors = np.linalg.eigh(normal)
    values = np.maximum(values, _SINGULAR * values[-1])
    return np.asarray((vectors / values) @ vectors.T)


def _options(clipping: Clipping | None) -> dict[str, Any]:
    return vars(clipping or Clipping())


def held_out_residuals(
    stars: CalibrationStars, folds: np.ndarray, *, order: int, degree: int, weights: np.ndarray
) -> np.ndarray:
    """Return residuals of each fold's stars against the fit to the others under given weights.

    Parameters
    ----------
    stars, folds
        Stars and the fold (int64) of each.
    order, degree
        Of field and colour term.
    weights : float64, shape (n,)
        Weights of all stars, so that fits of different orders are judged by the same stars.

    Returns
    -------
    residual : float64, shape (n,)
        Mag.
    """
    basis = _basis(stars, order, degree)
    residual = np.empty(len(stars))
    for k in np.unique(folds):
        train, held = folds != k, folds == k
        some = (basis[0][train], basis[1][train])
        parameters = np.zeros(1 + some[0].shape[1] + degree)
        parameters[0] = np.average(stars.difference[train], weights=weights[train])
        for _ in range(4):  # the model is almost linear
            left = stars.difference[train] - _model(parameters, *some)
            parameters = parameters + _step(left, weights[train], _jacobian(parameters, *some))
        residual[held] = stars.difference[held] - _model(parameters, basis[0][held], basis[1][held])
    return residual

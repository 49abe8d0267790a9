"""Fit flux ratios of stars by a Chebyshev polynomial over the image: clipped, weighted, of the order that predicts best."""

from __future__ import annotations

from dataclasses import dataclass

import lsst.pex.config as pexConfig
import numpy as np
from numpy.polynomial import chebyshev

from zeropoint.datamodel.fields import ChebyshevPolynomial, chebyshev_terms, fit_chebyshev

__all__ = ["ChebyshevFitConfig", "RatioFit", "RatioFitConfig", "TooFewRatios", "fit_ratio"]

#: Added to the scatter so that identical ratios do not reject each other.
_TINY = 1e-7
_MAD_TO_SIGMA = 1.482602218505602
#: Error added to every ratio, so that a few very bright stars do not decide alone.
_FLOOR = 0.002
#: A higher order must lower the squared prediction error by more than this factor to be taken.
_ORDER_GAIN = 1.03


class ChebyshevFitConfig(pexConfig.Config):
    """The Chebyshev polynomial of a correction."""

    orderX = pexConfig.RangeField(dtype=int, default=2, min=0, doc="Highest order in x.")
    orderY = pexConfig.RangeField(dtype=int, default=2, min=0, doc="Highest order in y.")
    triangular = pexConfig.Field(
        dtype=bool, default=True, doc="Keep only terms whose orders add up to at most the larger order?"
    )


class RatioFitConfig(pexConfig.Config):
    """How ratios are fitted and clipped."""

    minDegreesOfFreedom = pexConfig.RangeField(
        dtype=int, default=1, min=1, doc="Fewest degrees of freedom; the order falls to keep them."
    )
    fitConfig = pexConfig.ConfigField(dtype=ChebyshevFitConfig, doc="The polynomial fitted.")
    numIter = pexConfig.RangeField(dtype=int, default=4, min=1, doc="Rounds of rejection.")
    numSigmaClip = pexConfig.RangeField(
        dtype=float, default=4.0, min=0.0, inclusiveMin=False, doc="Rejection limit in sigma."
    )
    doFinalMedianShift = pexConfig.Field(
        dtype=bool, default=True, doc="Shift the fit by its median residual at the end?"
    )


@dataclass(frozen=True)
class RatioFit:
    """A smooth fit to flux ratios.

    Parameters
    ----------
    field
        The fit.
    scatter
        Robust scatter of the residuals in the last round.
    kept : bool, shape (n,)
        Ratios that were not rejected.
    """

    field: ChebyshevPolynomial
    scatter: float
    kept: np.ndarray


@dataclass(frozen=True)
class TooFewRatios:
    """Rejection left too few ratios even for a constant.

    Parameters
    ----------
    iteration
        Round of rejection, from 0.
    n_left
        Ratios left in it.
    """

    iteration: int
    n_left: int


def fit_ratio(
    x: np.ndarray,
    y: np.ndarray,
    ratio: np.ndarray,
    shape: tuple[int, int],
    config: RatioFitConfig,
    error: np.ndarray | None = None,
) -> RatioFit | TooFewRatios:
    """Fit flux ratios by a clipped, weighted Chebyshev polynomial of the order that predicts best.

    Parameters
    ----------
    x, y, ratio : float64, shape (n,)
        Positions and finite ratios, n >= 1.
    shape
        (height, width) of the image.
    config
        Highest orders and clipping.
    error : float64, shape (n,), optional
        Standard errors of the ratios; equal weights if None.

    Returns
    -------
    RatioFit or TooFewRatios
        The fit, or why there is none.

    Notes
    -----
    The start is the weighted median. Each round rejects for good what is farther from the fit than
    ``numSigmaClip`` robust sigmas (of residuals over errors), and fits again. Of the orders up to the configured
    one, the lowest is taken whose leave-one-out prediction error (PRESS) no higher order beats by more than
    `_ORDER_GAIN` and by more than one standard error of that gain: a few dozen stars do not support a quadratic, and
    a correction that they do not demand is noise that grows to per cents in the corners.
    """
    weight = np.ones(len(ratio)) if error is None else 1.0 / (error**2 + _FLOOR**2)
    kept = np.arange(len(ratio))
    start = _weighted_median(ratio, weight)
    model = np.full(len(ratio), start)
    field = ChebyshevPolynomial.constant(shape[1], shape[0], start)
    scatter = np.nan
    for iteration in range(config.numIter):
        residual = ratio[kept] - model[kept]
        scatter = _MAD_TO_SIGMA * float(np.median(np.abs(residual - np.median(residual)))) + _TINY
        scaled = residual * np.sqrt(weight[kept] / np.median(weight[kept]))
        limit = _MAD_TO_SIGMA * float(np.median(np.abs(scaled - np.median(scaled)))) + _TINY
        inside = np.abs(scaled) <= config.numSigmaClip * limit
        if iteration and inside.all():
            break  # the fit to these ratios is there already
        kept = kept[inside]
        if len(kept) - 1 < config.minDegreesOfFreedom:
            return TooFewRatios(iteration, len(kept))
        # about the start: terms that badly placed stars leave open then stay zero
        change = _best_order(x[kept], y[kept], ratio[kept] - start, weight[kept], shape, config)
        coefficients = change.coefficients.copy()
        coefficients[0, 0] += start
        field = ChebyshevPolynomial(shape[1], shape[0], coefficients)
        model = field(x=x, y=y)
    if config.doFinalMedianShift:
        coefficients = field.coefficients.copy()
        coefficients[0, 0] -= _weighted_median(model[kept] - ratio[kept], weight[kept])
        field = ChebyshevPolynomial(shape[1], shape[0], coefficients)
    mask = np.zeros(len(ratio), np.bool_)
    mask[kept] = True
    return RatioFit(field, scatter, mask)


def _weighted_median(values: np.ndarray, weight: np.ndarray) -> float:
    """Return the value where the cumulative weight crosses one half (the midpoint between neighbours)."""
    order = np.argsort(values, kind="stable")
    ordered, cumulative = values[order], np.cumsum(weight[order])
    half = 0.5 * cumulative[-1]
    i = int(np.searchsorted(cumulative, half * (1.0 - 1e-12)))
    if i + 1 < len(ordered) and cumulative[i] <= half * (1.0 + 1e-12):
        return float(0.5 * (ordered[i] + ordered[i + 1]))
    return float(ordered[i])


def _best_order(
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    weight: np.ndarray,
    shape: tuple[int, int],
    config: RatioFitConfig,
) -> ChebyshevPolynomial:
    """Fit every order up to the configured one and return the lowest that predicts (nearly) best."""
    fits: list[tuple[np.ndarray, ChebyshevPolynomial]] = []
    triangular = config.fitConfig.triangular
    along_x = chebyshev.chebvander((2.0 * x + 1.0 - shape[1]) / shape[1], config.fitConfig.orderX)
    along_y = chebyshev.chebvander((2.0 * y + 1.0 - shape[0]) / shape[0], config.fitConfig.orderY)
    for top in range(max(config.fitConfig.orderX, config.fitConfig.orderY) + 1):
        order_x, order_y = min(top, config.fitConfig.orderX), min(top, config.fitConfig.orderY)
        terms = chebyshev_terms(order_x, order_y, triangular=triangular)
        if len(values) - len(terms) < config.minDegreesOfFreedom:
            break
        field = fit_chebyshev(
            x, y, values, shape[1], shape[0], order_x, order_y, weights=weight, triangular=triangular
        )
        design = np.stack([along_y[:, j] * along_x[:, i] for j, i in terms], axis=1)
        q, _ = np.linalg.qr(design * np.sqrt(weight)[:, None])
        leverage = np.clip(np.sum(q * q, axis=1), 0.0, 1.0 - 1e-9)
        left_out = (values - field(x=x, y=y)) / (1.0 - leverage)
        fits.append((weight * left_out**2, field))
    best = min((error for error, _ in fits), key=lambda error: float(error.sum()))
    return next(field for error, field in fits if _predicts_as_well(error, best))


def _predicts_as_well(error: np.ndarray, best: np.ndarray) -> bool:
    """Say whether the gain from squared prediction errors to the best is too small, or not beyond its own error."""
    gain = error - best
    total, noise = float(gain.sum()), float(np.sqrt(np.sum((gain - gain.mean()) ** 2)))
    return total <= max((_ORDER_GAIN - 1.0) * float(best.sum()), noise)

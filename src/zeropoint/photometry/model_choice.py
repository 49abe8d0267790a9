"""Whether a field and a colour term are worth it: decided by stars that the fits did not see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zeropoint.photometry.calibration_fit import (
    CalibrationStars,
    Clipping,
    fit_calibration,
    held_out_residuals,
)
from zeropoint.photometry.color_terms import FittedColorTerm

__all__ = ["MIN_COLOR_TERM_STARS", "MIN_STARS_PER_TERM", "FieldChoice", "choose_color_term", "choose_order"]

#: Fewer stars than this allow no fitted colour term.
MIN_COLOR_TERM_STARS = 50
#: Fewest stars for each term of a field, the constant included.
MIN_STARS_PER_TERM = 10
#: A slope smaller than this many of its errors is no colour term.
_SIGNIFICANT = 3.0
_GRID = 21


@dataclass(frozen=True)
class FieldChoice:
    """The order chosen for the variation of the zero point over an image.

    Parameters
    ----------
    order
        0: constant.
    hold_out : tuple of float
        Weighted rms residual (mag) of held-out stars for each order tried, from 0.
    max_error
        Largest error (mag) of the zero point anywhere on the image; NaN for a constant.
    reason
        Why the order is not higher.
    """

    order: int
    hold_out: tuple[float, ...]
    max_error: float
    reason: str


def _is_better(gain: np.ndarray) -> bool:
    """Say whether held-out chi-square falls by more than the error of its fall, paired by star."""
    return float(gain.sum()) > float(np.std(gain)) * float(np.sqrt(len(gain)))


def choose_order(
    stars: CalibrationStars,
    folds: np.ndarray,
    *,
    degree: int,
    max_order: int,
    max_error: float,
    clipping: Clipping | None = None,
) -> FieldChoice:
    """Choose the order of the zero point's field by hold-out.

    Parameters
    ----------
    stars, folds
        Stars and the fold (int64) of each.
    degree
        Degree of the colour term fitted along with it.
    max_order
        Highest order tried; fewer where there are fewer than ten stars a term.
    max_error
        Largest error (mag) of the field that is accepted anywhere on the image, which keeps it from being
        extrapolated to where no stars are.
    clipping
        Outlier rejection.

    Notes
    -----
    All orders are judged by the same stars under the same weights, those of the highest order, and an order replaces a
    lower one if the chi-square of held-out stars falls by more than one standard error, paired by star.
    """
    n, nan = len(stars), float("nan")
    highest = max((k for k in range(max_order + 1) if _n_terms(k) * MIN_STARS_PER_TERM <= n), default=0)
    few = "" if highest == max_order else f"{n} stars; order {highest + 1} needs {_needed(highest + 1)}"
    if highest == 0:
        return FieldChoice(0, (), nan, few)
    weights = fit_calibration(stars, order=highest, degree=degree, clipping=clipping).mean.weights
    used = weights > 0.0
    best, worst, reason, losses = 0, nan, "", []
    for order in range(highest + 1):
        residual = held_out_residuals(stars, folds, order=order, degree=degree, weights=weights)
        losses.append((weights * residual**2)[used])
        if order == 0:
            continue
        if not _is_better(losses[best] - losses[order]):
            reason = reason or "stars left out agree no better with a higher order"
            continue
        error = _largest_error(stars, order, degree, clipping)
        if error > max_error:
            reason = f"order {order} would be uncertain by {error:.3f} mag somewhere on the image"
            continue
        best, worst, reason = order, error, ""
    rms = tuple(float(np.sqrt(loss.sum() / weights.sum())) for loss in losses)
    return FieldChoice(best, rms, worst, few if best == highest else reason)


def _n_terms(order: int) -> int:
    return (order + 1) * (order + 2) // 2


def _needed(order: int) -> int:
    return _n_terms(order) * MIN_STARS_PER_TERM


def _largest_error(stars: CalibrationStars, order: int, degree: int, clipping: Clipping | None) -> float:
    fit = fit_calibration(stars, order=order, degree=degree, clipping=clipping)
    y, x = np.meshgrid(
        np.linspace(-0.5, stars.height - 0.5, _GRID), np.linspace(-0.5, stars.width - 0.5, _GRID)
    )
    return float(fit.zeropoint_error(x=x, y=y, width=stars.width, height=stars.height).max())


def choose_color_term(
    stars: CalibrationStars,
    folds: np.ndarray,
    *,
    bands: tuple[str, str],
    reference: float,
    order: int = 0,
    max_degree: int = 1,
    clipping: Clipping | None = None,
) -> FittedColorTerm:
    """Fit (catalogue - instrumental) on colour and decide by held-out stars whether the term is worth it.

    Parameters
    ----------
    stars, folds
        Stars with ``color`` relative to the reference colour, NaN where not known, and the fold (int64) of each.
    bands
        The colour is first minus second.
    reference
        The fixed colour at which the zero point holds.
    order
        Order of the field fitted along with it.
    max_degree
        2 allows a quadratic term.
    clipping
        Outlier rejection.

    Notes
    -----
    The term is kept if at least 50 stars have colours, the slope is three sigma from zero and the scatter of
    held-out stars falls; its curvature, if that is three sigma from zero and held-out chi-square falls.
    """
    rows = np.flatnonzero(np.isfinite(stars.color))
    n, nan = len(rows), float("nan")
    if n < MIN_COLOR_TERM_STARS:
        reason = f"{n} stars have the color {bands[0]} - {bands[1]}; {MIN_COLOR_TERM_STARS} are needed"
        return FittedColorTerm(*bands, reference, 0.0, nan, nan, nan, False, n, reason)
    stars, folds, degree = stars.take(rows), folds[rows], 1
    fit = fit_calibration(stars, order=order, degree=1, clipping=clipping)
    weights = fit.mean.weights
    without, linear = (
        held_out_residuals(stars, folds, order=order, degree=k, weights=weights) for k in (0, 1)
    )
    if max_degree == 2:
        quadratic = held_out_residuals(stars, folds, order=order, degree=2, weights=weights)
        bent = fit_calibration(stars, order=order, degree=2, clipping=clipping)
        curved = abs(bent.color_coefficients[1]) > _SIGNIFICANT * bent.color_errors[1]
        if curved and _is_better((weights * (linear**2 - quadratic**2))[weights > 0.0]):
            fit, linear, degree = bent, quadratic, 2
    before, after = (1.4826 * float(np.median(np.abs(r[weights > 0.0]))) for r in (without, linear))
    values, errors = fit.color_coefficients.tolist(), fit.color_errors.tolist()
    kept = after < before and any(abs(v) > _SIGNIFICANT * e for v, e in zip(values, errors))
    reason = (
        ""
        if kept
        else f"held-out scatter {before:.4f} -> {after:.4f} mag, slope {values[0]:.4f} +- {errors[0]:.4f}"
    )
    bend = (values[1], errors[1]) if degree == 2 else (0.0, 0.0)
    return FittedColorTerm(*bands, reference, values[0], errors[0], before, after, kept, n, reason, *bend)

"""Which exposures a fit would not believe if it had not seen them: thin clouds among those that were taken for clear."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["clouds_left_out"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Half of a normal distribution is nearer to the middle than this part of sigma.
_MEDIAN_DEVIATION = 0.6745
#: What the others say of an exposure whose error is as large as without them but for this part is lost in rounding.
_LEAST_SHARE = 1e-3
#: Those that are kept scatter by more than their errors from this many on; how much larger these are then taken to be at most:
#: farther from where the fit was made, it is no linear one.
_SIGNIFICANT, _WIDEST = 1.3, 16.0
#: By how much, where a larger part than the other is left out.
_FAR, _MOST_OUT = 2.0, 0.2


def clouds_left_out(
    gray: FloatArray, covariance: FloatArray, prior: float, sigma: float, *, n_sigma: float, least: float
) -> BoolArray:
    """Find exposures that are fainter than the others say, each judged by a fit without it.

    Parameters
    ----------
    gray : float64, shape (n,)
        Errors of absorption of the exposures as fitted, mag; negative: fainter than the model.
    covariance : float64, shape (n, n)
        Of them, all other parameters free, mag^2.
    prior
        Width of the normal prior that they had, mag.
    sigma
        Scatter of the gray of exposures under a clear sky, mag.
    n_sigma
        How many errors an exposure under a cloud is too faint: that of the fit without it, and its own, which is ``sigma``
        or, where those that are kept scatter by more, as much more.
    least
        How much, at least, mag.

    Returns
    -------
    cloudy : bool, shape (n,)

    Notes
    -----
    A fit without the exposure is one in which its gray is free; it follows from the fit of all by a change of rank one, so
    that nothing is fitted again.  The worst exposure is left out, what the others say without it is looked at, and so on:
    two clouds in one night do not vouch for each other.  Exposures come back that are not too faint without the others.
    Where the others scatter by more than can be understood, there is no telling, and nothing is left out.
    """
    trial = sigma
    while trial <= _WIDEST * sigma:
        out, scatter = _judged(*_with_prior(gray, covariance, prior, trial), trial, n_sigma, least)
        if scatter < _SIGNIFICANT:
            return out
        # the survey is grayer than was thought: with a wider prior again
        trial *= scatter
    return np.zeros(len(gray), bool)


def _with_prior(
    mean: FloatArray, covariance: FloatArray, old: float, new: float
) -> tuple[FloatArray, FloatArray]:
    """Return the fit with a prior of another width."""
    more = np.eye(len(mean)) + (new**-2.0 - old**-2.0) * covariance
    changed = np.linalg.solve(more, np.column_stack([mean, covariance]))
    return changed[:, 0], 0.5 * (changed[:, 1:] + changed[:, 1:].T)


def _judged(
    mean: FloatArray, cov: FloatArray, sigma: float, n_sigma: float, least: float
) -> tuple[BoolArray, float]:
    """Return the exposures that are too faint, and how much more than their errors the others scatter."""
    out = np.zeros(len(mean), bool)
    for _ in range(2 * len(mean)):
        size, error = _alone(mean, cov, sigma, out)
        pull = size / error
        too_faint = (pull < -n_sigma) & (size < -least)
        back, next_out = np.flatnonzero(out & ~too_faint), np.flatnonzero(too_faint & ~out)
        if len(back):
            index = int(back[np.argmax(pull[back])])
        elif len(next_out):
            index = int(next_out[np.argmin(pull[next_out])])
        else:
            break
        mean, cov = _with_weight(mean, cov, index, (1.0 if out[index] else -1.0) * sigma**-2.0)
        out[index] = not out[index]
    kept = np.abs(pull[~out & (pull != 0.0)])
    if len(kept) == 0 or np.count_nonzero(out) > _MOST_OUT * len(mean):
        # that many clouds would have been found before: the model is not as good as was thought
        return out, _FAR
    return out, float(np.median(kept)) / _MEDIAN_DEVIATION


def _alone(
    mean: FloatArray, covariance: FloatArray, sigma: float, out: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Return the gray of each exposure in a fit without it, and how well it and its own scatter are known."""
    variance = np.maximum(np.diag(covariance), 0.0)
    # of those that are in, their own prior is taken out
    share = np.where(out, 1.0, 1.0 - variance * sigma**-2.0)
    known = share > _LEAST_SHARE
    share = np.where(known, share, 1.0)
    return np.where(known, mean / share, 0.0), np.sqrt(variance / share + sigma**2)


def _with_weight(
    mean: FloatArray, covariance: FloatArray, index: int, weight: float
) -> tuple[FloatArray, FloatArray]:
    """Return the fit with a measurement of 0 of one gray, of this weight, more; negative: less."""
    column = covariance[:, index]
    factor = weight / (1.0 + weight * column[index])
    return mean - column * (factor * mean[index]), covariance - factor * np.outer(column, column)

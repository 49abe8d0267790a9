"""Photometric errors as a smooth function of brightness, seeing and sky.

Errors that are measured with a flux follow its fluctuation: a source that came out too bright claims a smaller error, and
weighted means lean to its side. The model gives a source the error that is usual for its mean brightness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.terms._kernels_errors import choose_rows, log_variances, weighted_normal
from zeropoint.fgcm.threads import finish, row_parts

__all__ = ["ErrorModel", "expected_magnitudes", "fit_error_model", "modelled_errors", "rows_of_model"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]

#: Observations used at most, and at least, in each band.
_MOST, _LEAST = 20_000, 5_000
#: Iterations of the weights, the residual (dex) below which weights are equal, and the change (dex) that ends them.
_ITERATIONS, _CORE, _CONVERGED = 30, 0.003, 5e-4
_N_TERMS = 7
#: A usual instrumental magnitude.
_MIDDLE = -10.0


@dataclass(frozen=True)
class ErrorModel:
    """log10 sigma = a + b x + c x^2 + d log10 F + e log10 B + f x log10 F + g x log10 B.

    Parameters
    ----------
    coefficients : float64, shape (n_band, 7)
        a to g, x in mag; NaN: no model, the measured errors stay.
    pivot : float64, shape (n_band, 3)
        Exposure time (s), seeing (arcsec) and sky (counts) to which x, F and B refer: the medians; NaN without model.
    n_used : int64, shape (n_band,)
        Observations of the fit.
    scatter : float64, shape (n_band,)
        Median absolute residual, dex; NaN without model.
    """

    coefficients: FloatArray
    pivot: FloatArray
    n_used: npt.NDArray[np.int64]
    scatter: FloatArray


def expected_magnitudes(magnitude: Floats, gray: Floats) -> npt.NDArray[np.float32]:
    """Return the instrumental magnitude that each observation should have had.

    Parameters
    ----------
    magnitude : shape (n_obs,)
        Instrumental magnitudes, per second.
    gray : shape (n_obs,)
        Mean magnitude of the star minus the observation's standard magnitude, NaN where unknown; the gray of the exposure may
        be taken off, since light that clouds take is missing in truth.

    Returns
    -------
    expected : float32, shape (n_obs,)
        Where the gray is not known, the magnitude itself.
    """
    return np.asarray(magnitude + np.where(np.isfinite(gray), gray, 0.0), np.float32)


def rows_of_model(use: BoolArray, band: npt.NDArray[np.integer], n_band: int) -> npt.NDArray[np.int64]:
    """Return the observations that are enough for a model of the errors of each band: every k-th, up to 20,000.

    Parameters
    ----------
    use, band : shape (n_obs,)
        Which count, and their bands.
    n_band
        Number of bands.
    """
    of_band, nothing = np.asarray(band, np.int8), np.zeros(n_band, np.int64)
    count, seen = np.zeros((2, n_band), np.int64)
    choose_rows(use, of_band, nothing, count, nothing, np.empty(0, np.int64))
    step = np.maximum(-(-count // _MOST), 1)
    taken = -(-count // step)
    rows = np.empty(taken.sum(), np.int64)
    choose_rows(use, of_band, step, seen, np.cumsum(taken) - taken, rows)
    return rows


def fit_error_model(
    expected: Floats,
    err: Floats,
    band: npt.NDArray[np.integer],
    exposure: npt.NDArray[np.integer],
    use: BoolArray,
    *,
    n_band: int,
    exptime: Floats,
    seeing: Floats,
    sky: Floats,
    sigma0_phot: float,
) -> ErrorModel:
    """Fit the model of the errors in each band.

    Parameters
    ----------
    expected, err : shape (n_obs,)
        From `expected_magnitudes`, and errors with the floor included.
    band, exposure, use : shape (n_obs,)
        Band and exposure of each observation, and which count: good ones of good stars in photometric exposures.
    n_band
        Number of bands.
    exptime, seeing, sky : shape (n_exp,)
        Seconds, arcsec, counts in the exposure.
    sigma0_phot
        Floor of the errors (``sigma0Phot``), which the model does not contain.

    Notes
    -----
    The sum of absolute residuals is least: the model is linear in its coefficients, so that iterated weighted least squares
    find the one minimum. Every k-th observation is taken where there are more than 20,000, which give errors to 0.2 %; bands with fewer than 5000, or
    fewer than 1000 below median seeing and sky each, have no model. A term without range (all skies alike) is zero.
    """
    coefficients, pivot = np.full((n_band, _N_TERMS), np.nan), np.full((n_band, 3), np.nan)
    n_used, scatter = np.zeros(n_band, np.int64), np.full(n_band, np.nan)
    known = np.isfinite(seeing) & (seeing > 0) & np.isfinite(sky) & (sky > 0) & (exptime > 0)
    chosen = rows_of_model(use, band, n_band)
    for b in range(n_band):
        rows = chosen[band[chosen] == b]
        rows = rows[np.isfinite(expected[rows]) & (err[rows] > sigma0_phot) & known[exposure[rows]]]
        if len(rows) < _LEAST:
            continue
        e = exposure[rows]
        middle = np.array([np.median(values[e]) for values in (exptime, seeing, sky)])
        below = [(values[e] <= limit).sum() for values, limit in zip((seeing, sky), middle[1:], strict=True)]
        if min(below) < _LEAST // 5:
            continue
        terms = _terms(expected[rows], e, exptime, seeing, sky, middle)
        target = 0.5 * np.log10(np.square(err[rows].astype(np.float64)) - sigma0_phot**2)
        found, residual = _least_absolute(terms, target)
        coefficients[b] = _about_zero(found)
        pivot[b], n_used[b], scatter[b] = middle, len(rows), np.median(np.abs(residual))
    return ErrorModel(coefficients, pivot, n_used, scatter)


def modelled_errors(
    expected: Floats,
    err: Floats,
    band: npt.NDArray[np.integer],
    exposure: npt.NDArray[np.integer],
    coefficients: FloatArray,
    pivot: FloatArray,
    *,
    exptime: Floats,
    seeing: Floats,
    sky: Floats,
    sigma0_phot: float,
    threads: int = 1,
) -> npt.NDArray[np.float32]:
    """Return the errors of the model with the floor added, float32, shape (n_obs,).

    Parameters
    ----------
    expected, err, band, exposure, exptime, seeing, sky, sigma0_phot
        As `fit_error_model` wants them.
    coefficients, pivot
        Of `ErrorModel`.
    threads
        Threads; the result has the same bits for any number.

    Notes
    -----
    Bands without model, and exposures without seeing or sky, keep their errors.
    """
    curve = _exposure_curves(coefficients, pivot, exptime, seeing, sky)
    # of single precision, and so counted from the middle of the magnitudes
    constant, linear, square = (np.array(each, np.float32) for each in curve)
    out, bounds, floor = np.empty(len(err), np.float32), row_parts(len(err)), np.float32(sigma0_phot**2)
    given = (
        np.ascontiguousarray(expected, np.float32),
        np.asarray(band, np.int8),
        np.asarray(exposure, np.int32),
    )

    def run(k: int) -> None:
        rows = slice(bounds[k], bounds[k + 1])
        own = out[rows]
        log_variances(
            *(each[rows] for each in given), constant, linear, square, np.float32(_MIDDLE), own
        )  # fmt: skip
        # numpy has an exponential of many numbers at once
        np.exp(own, out=own)
        own += floor
        np.sqrt(own, out=own)
        unknown = ~np.isfinite(own)
        own[unknown] = err[rows][unknown]

    finish(run, len(bounds) - 1, threads)
    return out


def _exposure_curves(
    coefficients: FloatArray, pivot: FloatArray, exptime: Floats, seeing: Floats, sky: Floats
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return ln sigma^2 as a square function of x - _MIDDLE for each exposure, had it any band; NaN without model.

    Shapes (n_exp, n_band).
    """
    known = np.isfinite(seeing) & (seeing > 0) & np.isfinite(sky) & (sky > 0) & (exptime > 0)
    columns = [np.where(known, each, np.nan)[:, None] for each in (exptime, seeing, sky)]
    time, wide, bright = (np.log10(each / pivot[:, k]) for k, each in enumerate(columns))
    shift = _MIDDLE - 2.5 * time
    first, second, third, d, e, f, g = coefficients.T
    constant, linear = first + d * wide + e * bright, second + f * wide + g * bright
    square = np.broadcast_to(third, shift.shape)
    to_ln = 2.0 * np.log(10.0)
    return (
        to_ln * (constant + shift * (linear + shift * square)),
        to_ln * (linear + 2.0 * shift * square),
        to_ln * square,
    )


def _terms(
    expected: Floats,
    exposure: npt.NDArray[np.integer],
    exptime: Floats,
    seeing: Floats,
    sky: Floats,
    pivot: FloatArray,
) -> FloatArray:
    """Return the terms of the model with x counted from _MIDDLE, shape (n, 7)."""
    time, wide, bright = (
        np.log10(values / middle)[exposure]
        for values, middle in zip((exptime, seeing, sky), pivot, strict=True)
    )
    # counts of the whole exposure are what noise and sky are of
    x = expected - _MIDDLE - 2.5 * time
    return np.stack([np.ones(len(x)), x, x * x, wide, bright, x * wide, x * bright], axis=1)


def _about_zero(found: FloatArray) -> FloatArray:
    """Return the coefficients for x counted from 0."""
    a, b, c, d, e, f, g = found.tolist()
    m = _MIDDLE
    return np.array([a - m * (b - m * c), b - 2.0 * m * c, c, d - m * f, e - m * g, f, g])


def _least_absolute(terms: FloatArray, target: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the coefficients with the least sum of absolute residuals, and the residuals."""
    # orthonormal columns; terms without range drop out
    size, axes = np.linalg.eigh(terms.T @ terms)
    kept = size > 1e-12 * size[-1]
    axes = axes[:, kept] / np.sqrt(size[kept])
    basis = np.ascontiguousarray(axes.T @ terms.T)
    solution = basis @ target
    n = len(solution)
    normal, side = np.empty((n, n)), np.empty(n)
    for _ in range(_ITERATIONS):
        weighted_normal(basis, target, solution, _CORE, normal, side)
        new = np.linalg.solve(normal, side)
        change = np.abs((new - solution) @ basis).max()
        solution = new
        if change < _CONVERGED:
            break
    return axes @ solution, target - solution @ basis

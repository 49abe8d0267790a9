"""Photometric errors as a smooth function of brightness, seeing and sky.

Errors that are measured with a flux follow its fluctuation: a source that came out too bright claims a smaller error, and
weighted means lean to its side. The model gives a source the error that is usual for its mean brightness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ErrorModel", "expected_magnitudes", "fit_error_model", "modelled_errors"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]

#: Observations used at most, and at least, in each band.
_MOST, _LEAST = 100_000, 5_000
#: Iterations of the weights, and the residual (dex) below which weights are equal.
_ITERATIONS, _CORE = 12, 0.01
_N_TERMS = 7


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
    find the one minimum. Every k-th observation is taken where there are more than 100,000; bands with fewer than 5000, or
    fewer than 1000 below median seeing and sky each, have no model. A term without range (all skies alike) is zero.
    """
    coefficients, pivot = np.full((n_band, _N_TERMS), np.nan), np.full((n_band, 3), np.nan)
    n_used, scatter = np.zeros(n_band, np.int64), np.full(n_band, np.nan)
    rows_all = np.flatnonzero(use & np.isfinite(expected) & (err > sigma0_phot))
    known = np.isfinite(seeing) & (seeing > 0) & np.isfinite(sky) & (sky > 0) & (exptime > 0)
    rows_all = rows_all[known[exposure[rows_all]]]
    bands = band[rows_all]
    for b in range(n_band):
        rows = rows_all[bands == b]
        rows = rows[:: max(-(-len(rows) // _MOST), 1)]
        if len(rows) < _LEAST:
            continue
        e = exposure[rows]
        middle = np.array([np.median(values[e]) for values in (exptime, seeing, sky)])
        below = [(values[e] <= limit).sum() for values, limit in zip((seeing, sky), middle[1:], strict=True)]
        if min(below) < _LEAST // 5:
            continue
        terms = _terms(expected[rows], e, exptime, seeing, sky, middle)
        target = 0.5 * np.log10(np.square(err[rows].astype(np.float64)) - sigma0_phot**2)
        coefficients[b], residual = _least_absolute(terms, target)
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
) -> npt.NDArray[np.float32]:
    """Return the errors of the model with the floor added, float32, shape (n_obs,).

    Parameters
    ----------
    expected, err, band, exposure, exptime, seeing, sky, sigma0_phot
        As `fit_error_model` wants them.
    coefficients, pivot
        Of `ErrorModel`.

    Notes
    -----
    Bands without model, and exposures without seeing or sky, keep their errors.
    """
    out = np.array(err, np.float32)
    known = np.isfinite(seeing) & (seeing > 0) & np.isfinite(sky) & (sky > 0) & (exptime > 0)
    for b in np.flatnonzero(np.isfinite(coefficients).all(axis=1)).tolist():
        rows = np.flatnonzero((band == b) & known[exposure] & np.isfinite(expected))
        terms = _terms(expected[rows], exposure[rows], exptime, seeing, sky, pivot[b])
        out[rows] = np.sqrt(10.0 ** (2.0 * (terms @ coefficients[b])) + sigma0_phot**2)
    return out


def _terms(
    expected: Floats,
    exposure: npt.NDArray[np.integer],
    exptime: Floats,
    seeing: Floats,
    sky: Floats,
    pivot: FloatArray,
) -> FloatArray:
    """Return the terms of the model, shape (n, 7)."""
    time, wide, bright = (
        np.log10(values / middle)[exposure]
        for values, middle in zip((exptime, seeing, sky), pivot, strict=True)
    )
    # counts of the whole exposure are what noise and sky are of
    x = expected - 2.5 * time
    return np.stack([np.ones(len(x)), x, x * x, wide, bright, x * wide, x * bright], axis=1)


def _least_absolute(terms: FloatArray, target: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the coefficients with the least sum of absolute residuals, and the residuals."""
    weight = np.ones(len(target))
    # centered and scaled, since x is far from zero
    scale = np.linalg.norm(terms, axis=0)
    scale[scale == 0.0] = 1.0
    design = terms / scale
    for _ in range(_ITERATIONS):
        root = np.sqrt(weight)[:, None]
        q, r = np.linalg.qr(design * root)
        solution = np.linalg.lstsq(r, q.T @ (target * root[:, 0]), rcond=1e-9)[0]
        residual = target - design @ solution
        weight = 1.0 / np.maximum(np.abs(residual), _CORE)
    return solution / scale, residual

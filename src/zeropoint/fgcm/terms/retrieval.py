"""Passband integrals retrieved from the colors of stars, and the water vapor that they tell of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.atmosphere import AtmosphereParameters
from zeropoint.fgcm.magnitudes import MAG_PER_LN
from zeropoint.fgcm.terms._kernels_stars import integral_sums
from zeropoint.fgcm.terms.detector_integrals import with_airmass, with_pwv

if TYPE_CHECKING:
    from zeropoint.fgcm.model.passband_source import PassbandSource

__all__ = [
    "INTERPOLATED",
    "RETRIEVED",
    "STANDARD",
    "PwvRetrieval",
    "RetrievedIntegrals",
    "retrieve_integrals",
    "retrieve_pwv",
    "varying_pwv",
]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]

#: Flags of the water vapor of an exposure.
RETRIEVED, INTERPOLATED, STANDARD = 1, 2, 4
_ITERATIONS, _CONVERGED = 20, 1e-6
#: Largest step of an iteration in the logarithm of the water vapor.
_STEP = 0.7
#: Fewest exposures that tell how water vapor varies; largest pull of one; widest variation, in ln; steps of its search.
_MIN_RETRIEVED, _LARGEST_PULL, _WIDEST, _HALVINGS = 5, 4.0, 0.6, 40


@dataclass(frozen=True)
class RetrievedIntegrals:
    """Integrals of each detector in each exposure; shape (n_exp, n_det), NaN where stars are too few or of one color.

    Parameters
    ----------
    r0, r1, r10
        What I0, I1 and I10 = I1/I0 would have to be; 1, Angstrom, Angstrom.
    r10_err
        Error of r10, Angstrom.
    n_stars : int64
        Stars used.
    """

    r0: FloatArray
    r1: FloatArray
    r10: FloatArray
    r10_err: FloatArray
    n_stars: npt.NDArray[np.int64]


def retrieve_integrals(
    magnitude: Floats,
    mean: Floats,
    err: Floats,
    segment: npt.NDArray[np.integer],
    slope: Floats,
    i10_std: Floats,
    ec: npt.NDArray[np.integer],
    use: BoolArray,
    *,
    shape: tuple[int, int],
    min_star_per_ccd: int,
) -> RetrievedIntegrals:
    """Solve for the two integrals that turn the stars' counts into their mean magnitudes.

    Parameters
    ----------
    magnitude : shape (n_obs,)
        With all corrections but the passband's (neither 2.5 log10 I0 nor the chromatic term).
    mean : shape (n_obs,)
        Standard magnitude of each observation's star.
    err : shape (n_obs,)
        Error of the observation, mag.
    segment : shape (n_obs,)
        Star-band of each observation.
    slope : shape (n_segments,)
        F' of the star, 1/Angstrom; NaN: unknown.
    i10_std : shape (n_segments,)
        I10 of the band's standard passband, Angstrom.
    ec : shape (n_obs,)
        ``exposure * n_det + detector``.
    use : shape (n_obs,)
        Good observations.
    shape
        (n_exp, n_det).
    min_star_per_ccd
        Stars that a detector needs (``minStarPerCcd``), at least 3.

    Returns
    -------
    retrieved : RetrievedIntegrals

    Notes
    -----
    With f = 10^(-0.4 (m - mean)) and q = 1 + F' I10std the model is f q = R0 + R1 F': weighted least squares with the errors
    0.4 ln10 f q err.
    """
    n = shape[0] * shape[1]
    # single precision is ten thousand times finer than their scatter; sums are in double
    of_row = (np.ascontiguousarray(each, np.float32) for each in (magnitude, mean, err))
    of_segment = (np.ascontiguousarray(each, np.float32) for each in (slope, i10_std))
    given = (
        *of_row, np.asarray(segment, np.int32), *of_segment, np.asarray(ec, np.int32), use, np.float32(MAG_PER_LN)
    )  # fmt: skip
    first, second = np.zeros((2, n, 4))
    integral_sums(*given, np.empty((0, 2)), first)
    count, s0, sx, sy = first[:, 0].astype(np.int64), *first.T[1:]
    few = count < max(min_star_per_ccd, 3)
    s0[few] = np.nan
    # about the means, since slopes are small beside their scatter's rounding
    mean_x, mean_y = sx / s0, sy / s0
    integral_sums(*given, np.stack([mean_x, mean_y], axis=1), second)
    sxx, sxy = second.T[:2]
    sxx[~(sxx > 0.0)] = np.nan
    r1 = sxy / sxx
    r0 = mean_y - r1 * mean_x
    r10 = r1 / r0
    # d r10 = (d r1 (1 + r10 <x>) - r10 d<y>) / r0, with r1 and <y> independent
    variance = ((1.0 + r10 * mean_x) ** 2 / sxx + r10**2 / s0) / r0**2
    a, b, c, d = (part.reshape(shape) for part in (r0, r1, r10, np.sqrt(variance)))
    return RetrievedIntegrals(a, b, c, d, count.reshape(shape))


@dataclass(frozen=True)
class PwvRetrieval:
    """Water vapor of the exposures; shape (n_exp,).

    Parameters
    ----------
    ln_pwv_raw, ln_pwv_err : float64
        As retrieved from one exposure, and its error; NaN where it was not.
    ln_pwv : float64
        That of the nights' model, and what the stars say beside it (Notes of `retrieve_pwv`).
    flag : int32
        1: retrieved, 2: interpolated (or that of the nearest exposure of the night), 4: of the nights' model alone.
    at_limit : bool
        Retrieved, but at the end of the range.
    ln_pwv_linear, ln_pwv_linear_err : float64
        As ``ln_pwv_raw``, to first order about the atmosphere given, and its error: its scatter is even on both sides,
        however large the error is.
    """

    ln_pwv_raw: FloatArray
    ln_pwv_err: FloatArray
    ln_pwv: FloatArray
    flag: npt.NDArray[np.int32]
    at_limit: BoolArray
    ln_pwv_linear: FloatArray
    ln_pwv_linear_err: FloatArray


def retrieve_pwv(
    retrieved: RetrievedIntegrals,
    source: PassbandSource,
    parameters: AtmosphereParameters,
    *,
    filter_index: npt.NDArray[np.integer],
    secant: FloatArray,
    choose: BoolArray,
    nightly: FloatArray,
    night: npt.NDArray[np.integer],
    time: FloatArray,
    min_ccd_per_exp: int,
    smoothing_block: int,
) -> PwvRetrieval:
    """Turn the retrieved R10 of the exposures in water-sensitive bands into water vapor.

    Parameters
    ----------
    retrieved
        From `retrieve_integrals`.
    source
        Of the passbands.
    parameters
        Atmosphere of the n_exp exposures; all but the water vapor stay.
    filter_index : shape (n_exp,)
        Filter of each exposure.
    secant : shape (n_exp,)
        Mean secant of each exposure's stars.
    choose : shape (n_exp,)
        Exposures to retrieve from: photometric ones in ``retrievedPwvBands``.
    nightly : shape (n_exp,)
        ln of the water vapor of the nights' model.
    night, time : shape (n_exp,)
        Night, and MJD.
    min_ccd_per_exp
        Detectors that an exposure needs (``minCcdPerExp``).
    smoothing_block
        Exposures in the running mean (``retrievedPwvSmoothingBlock``).

    Returns
    -------
    pwv : PwvRetrieval

    Notes
    -----
    One water vapor per exposure minimises the squares of (R10 - I10)/error over its detectors. R10 and not R1 is inverted: it
    does not know of gray extinction.
    """
    n_exp = len(night)
    measured = np.isfinite(retrieved.r10) & (retrieved.r10_err > 0)
    least = min(min_ccd_per_exp, retrieved.r10.shape[1])
    rows = np.flatnonzero(choose & (measured.sum(axis=1) >= max(least, 1)) & (filter_index >= 0))
    raw, err, linear, linear_err = np.full((4, n_exp), np.nan)
    limit = np.zeros(n_exp, bool)
    for index in np.unique(filter_index[rows]).tolist():
        part = rows[filter_index[rows] == index]
        air = with_airmass(parameters.rows(part), np.clip(secant[part], *source.ranges["airmass"]))
        data = np.where(measured[part], retrieved.r10[part], 0.0)
        variance = np.square(retrieved.r10_err[part])
        weight = np.where(measured[part], 1.0 / np.where(measured[part], variance, 1.0), 0.0)
        linear[part], linear_err[part] = _first_step(source, index, air, data, weight)
        raw[part], err[part], limit[part] = _solve_pwv(source, index, air, data, weight)
    value = varying_pwv(linear, linear_err, nightly, night, time, smoothing_block)
    return PwvRetrieval(raw, err, value, _flags(linear, night), limit, linear, linear_err)


def varying_pwv(
    value: FloatArray,
    err: FloatArray,
    nightly: FloatArray,
    night: npt.NDArray[np.integer],
    time: FloatArray,
    block: int,
) -> FloatArray:
    """Return ln of the water vapor of all exposures: the nights' model, and what single exposures say beside it.

    Parameters
    ----------
    value, err : shape (n_exp,)
        Retrieved, NaN where it was not, and its error.
    nightly : shape (n_exp,)
        The model.
    night, time : shape (n_exp,)
        Night, and MJD.
    block
        Exposures in the running mean.
    """
    out = np.array(nightly, np.float64)
    rows = np.flatnonzero(np.isfinite(value) & (err > 0))
    if len(rows) < _MIN_RETRIEVED:
        return out
    # without what no water can be
    far = value[rows] - out[rows] - np.median(value[rows] - out[rows])
    rows = rows[np.abs(far) < _LARGEST_PULL * np.hypot(err[rows], _WIDEST)]
    variance, deviation = np.square(err[rows]), value[rows] - out[rows]
    deviation -= np.average(deviation, weights=1.0 / variance)
    between = _variance_between(deviation, variance)
    if between == 0.0:
        return out
    half = max(block, 1) // 2
    for number in np.unique(night[rows]):
        of_night = np.flatnonzero(night[rows] == number)
        of_night = of_night[np.argsort(time[rows[of_night]], kind="stable")]
        d, w = deviation[of_night], 1.0 / variance[of_night]
        mean = np.empty(len(d))
        for k in range(len(d)):
            # the window keeps its middle: at the ends it gets shorter on both sides
            reach = min(half, k, len(d) - 1 - k)
            near = slice(k - reach, k + reach + 1)
            mean[k] = np.sum((w * d)[near]) / (w[near].sum() + 1.0 / between)
        every = np.flatnonzero(night == number)
        out[every] += np.interp(time[every], time[rows[of_night]], mean)
    return out


def _variance_between(deviation: FloatArray, variance: FloatArray) -> float:
    """Return the variance of deviations beyond that of their errors, less two sigma of what it is known to; at least 0."""
    n = len(deviation) - 1
    target = n + 2.0 * np.sqrt(2.0 * n)

    def excess(between: float) -> float:
        return float(np.sum(np.minimum(deviation**2 / (variance + between), _LARGEST_PULL**2)) - target)

    low, high = 0.0, _WIDEST**2
    if excess(low) <= 0.0:
        return 0.0
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(middle) > 0.0 else (low, middle)
    return high


def _first_step(
    source: PassbandSource, index: int, air: AtmosphereParameters, data: FloatArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return ln PWV of each exposure to first order about the atmosphere given, and its error."""
    found = source.evaluate(index, air, derivatives=True)
    slope = found.d_i10("ln_pwv")
    curvature = np.sum(weight * slope**2, axis=1)
    curvature[~(curvature > 0.0)] = np.nan
    step = np.sum(weight * slope * (data - found.i10), axis=1) / curvature
    return np.log(air.pwv) + step, 1.0 / np.sqrt(curvature)


def _solve_pwv(
    source: PassbandSource, index: int, air: AtmosphereParameters, data: FloatArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return ln PWV of each exposure, its error, and whether it is at the end of the range."""
    low, high = (float(np.log(each)) for each in source.ranges["pwv"])
    value = np.clip(np.log(air.pwv), low, high)
    curvature = np.zeros_like(value)
    for _ in range(_ITERATIONS):
        found = source.evaluate(index, with_pwv(air, np.exp(value)), derivatives=True)
        slope = found.d_i10("ln_pwv")
        curvature = np.sum(weight * slope**2, axis=1)
        gradient = np.sum(weight * slope * (data - found.i10), axis=1)
        step = np.divide(gradient, curvature, out=np.zeros_like(value), where=curvature > 0.0)
        moved = np.clip(value + np.clip(step, -_STEP, _STEP), low, high)
        change = np.abs(moved - value).max(initial=0.0)
        value = moved
        if change < _CONVERGED:
            break
    known = curvature > 0.0
    error = np.sqrt(np.divide(1.0, curvature, out=np.full_like(value, np.nan), where=known))
    return np.where(known, value, np.nan), error, known & ((value <= low) | (value >= high))


def _flags(linear: FloatArray, night: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    """Return where the water vapor of each exposure is from."""
    retrieved = np.isfinite(linear)
    on_night = np.isin(night, np.unique(night[retrieved]))
    return np.where(retrieved, RETRIEVED, np.where(on_night, INTERPOLATED, STANDARD)).astype(np.int32)

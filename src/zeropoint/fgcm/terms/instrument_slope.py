"""Loss of light of mirror and optics with time, from stars seen again: a start for the fit, and a check of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.terms._kernels_stars import slope_sums

__all__ = ["InstrumentSlope", "fit_instrument_slope"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.floating]

#: Slopes, magnitudes per day, are between these; observations that one needs.
_LIMITS, _LEAST = (-1e-3, 0.0), 500


@dataclass(frozen=True)
class InstrumentSlope:
    """Slope of the mirror term of each band in each interval between washes; shape (n_band, n_wash).

    Parameters
    ----------
    slope, err : float64
        Magnitudes per day, added to magnitudes: dust makes it negative; the total, and its error. 0 and NaN with fewer than
        500 observations.
    measured : float64
        The same before it is put between -0.001 and 0; NaN where it was not measured.
    n_obs : int64
        Observations of stars seen long enough.
    """

    slope: FloatArray
    err: FloatArray
    measured: FloatArray
    n_obs: npt.NDArray[np.int64]


def fit_instrument_slope(
    standard: Floats,
    err: Floats,
    segment: npt.NDArray[np.integer],
    exposure: npt.NDArray[np.integer],
    use: BoolArray,
    *,
    wash: npt.NDArray[np.integer],
    wash_time: FloatArray,
    applied: FloatArray,
    per_band: bool,
    fit_bands: BoolArray,
    min_delta_t: float,
    max_err: float,
) -> InstrumentSlope:
    """Measure how stars fade from wash to wash.

    Parameters
    ----------
    standard, err : shape (n_obs,)
        Standard magnitudes and errors.
    segment, exposure, use : shape (n_obs,)
        Star-band (``star * n_band + band``, ascending) and exposure of each observation, and which count: photometric exposures.
    wash, wash_time : shape (n_exp,)
        Interval, and days since its begin.
    applied : shape (n_band, n_wash)
        Slope that the magnitudes contain.
    per_band
        Whether each band has its own slope (``instrumentParsPerBand``); else all bands of the fit have one.
    fit_bands : shape (n_band,)
        Bands of the fit.
    min_delta_t
        Days over which a star must be seen in an interval (``instrumentSlopeMinDeltaT``).
    max_err
        Largest error, mag (``ccdGrayMaxStarErr``).

    Notes
    -----
    Weighted regression on time within each star, band and interval, the slope in common: all pairs of observations count, each
    by the square of its time over its variance.
    """
    shape = applied.shape
    stt, stm, n_obs = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64)
    slope_sums(
        np.ascontiguousarray(standard, np.float32), np.ascontiguousarray(err, np.float32), np.asarray(segment, np.int32),
        np.asarray(exposure, np.int32), use, np.float32(max_err), np.asarray(wash, np.int64),
        np.asarray(wash_time, np.float64), np.ascontiguousarray(applied, np.float64), float(min_delta_t), stt, stm, n_obs,
    )  # fmt: skip
    if not per_band:
        stt, stm = (np.broadcast_to(each[fit_bands].sum(axis=0), shape) for each in (stt, stm))
        n_obs = np.broadcast_to(n_obs[fit_bands].sum(axis=0), shape)
    enough = (n_obs >= _LEAST) & (stt > 0)
    safe_tt = np.where(enough, stt, 1.0)
    measured = np.where(enough, -stm / safe_tt, np.nan)
    slope = np.where(enough, np.clip(measured, *_LIMITS), 0.0)
    error = np.where(enough, np.sqrt(1.0 / safe_tt), np.nan)
    return InstrumentSlope(slope, error, measured, np.array(n_obs))

"""Whether residuals depend on the colors of stars: by exposure, by detector, and by color at low and high airmass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from zeropoint.fgcm.model.observations import FitObservations

__all__ = ["ColorFacts", "color_facts", "grouped_slopes"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Bins of color, with equal numbers of observations.
_COLOR_BINS = 9
#: Parts of the range of airmass, with equal numbers of exposures.
_AIRMASS_PARTS = 3


@dataclass(frozen=True)
class ColorFacts:
    """Residuals (star's mean minus observation) of the model, without gray terms, by the color of stars.

    Parameters
    ----------
    bands
        The two bands of the color.
    exposure_slope, exposure_slope_err : float64, shape (n_exp,)
        Slope of an exposure's residuals with color, and its error, mag per mag; NaN where stars are too few.
    detector_slope, detector_slope_err : float64, shape (n_band, n_det)
        The same, of all observations of a band on a detector.
    centers : float64, shape (n_band, n_bin)
        Mean color of each bin.
    airmass : float64, shape (n_band, n_part + 1)
        Limits of the parts of the range of airmass.
    residual, residual_err : float64, shape (n_band, n_part, n_bin)
        Mean residual of exposures in each part; mag. Those of an exposure have their own mean removed.
    """

    bands: tuple[str, str]
    exposure_slope: FloatArray
    exposure_slope_err: FloatArray
    detector_slope: FloatArray
    detector_slope_err: FloatArray
    centers: FloatArray
    airmass: FloatArray
    residual: FloatArray
    residual_err: FloatArray


def grouped_slopes(
    x: FloatArray, y: FloatArray, weight: FloatArray, group: npt.NDArray[np.integer], n_group: int
) -> tuple[FloatArray, FloatArray]:
    """Fit a straight line to each group of points; return slopes and their errors, NaN for fewer than ten points.

    Parameters
    ----------
    x, y, weight : float, shape (n,)
        Points, and inverse variances of y.
    group : int, shape (n,)
        Group of each.
    n_group
        Number of groups.
    """
    n = np.bincount(group, minlength=n_group)
    w = np.bincount(group, weight, n_group)
    with np.errstate(invalid="ignore", divide="ignore"):
        # x from the group's own mean: sums of squares do not cancel
        dx = x - (np.bincount(group, weight * x, n_group) / w)[group]
        power = np.bincount(group, weight * dx * dx, n_group)
        slope = np.bincount(group, weight * dx * y, n_group) / power
        error = 1.0 / np.sqrt(power)
    few = (n < 10) | ~(power > 0)
    slope[few], error[few] = np.nan, np.nan
    return slope, error


def color_facts(
    observations: FitObservations,
    residual: npt.NDArray[np.floating],
    error: npt.NDArray[np.floating],
    use: BoolArray,
    color: FloatArray,
    exposure_airmass: FloatArray,
    exposure_band: npt.NDArray[np.integer],
    bands: tuple[str, str],
) -> ColorFacts:
    """Return how residuals depend on color.

    Parameters
    ----------
    observations
        All observations.
    residual : float, shape (n_obs,)
        Star's mean minus observation.
    error : float, shape (n_obs,)
        Errors of the observations.
    use : bool, shape (n_obs,)
        Which observations count.
    color : float64, shape (n_star,)
        Colors; NaN: unknown.
    exposure_airmass, exposure_band : shape (n_exp,)
        Airmass and band of the exposures.
    bands
        The two bands of the color.
    """
    n_band, n_det, n_exp = observations.n_band, observations.n_det, len(exposure_airmass)
    star = observations.star
    rows = np.flatnonzero(use & np.isfinite(residual) & np.isfinite(color[star]))
    x, y = color[star[rows]], residual[rows].astype(np.float64)
    weight = 1.0 / np.square(error[rows], dtype=np.float64)
    exposure, detector, band = (
        observations.exposure[rows],
        observations.detector[rows],
        observations.band[rows],
    )
    total = np.bincount(exposure, weight, n_exp)
    with np.errstate(invalid="ignore", divide="ignore"):
        y = y - (np.bincount(exposure, weight * y, n_exp) / total)[exposure]
    slope, slope_error = grouped_slopes(x, y, weight, exposure, n_exp)
    det_slope, det_error = grouped_slopes(
        x, y, weight, band.astype(np.int64) * n_det + detector, n_band * n_det
    )

    limits, part = _airmass_parts(
        exposure_airmass, exposure_band, np.bincount(exposure, minlength=n_exp) > 0, n_band
    )
    bins = _color_bins(x, band, n_band)
    group = (band.astype(np.int64) * _AIRMASS_PARTS + part[exposure]) * _COLOR_BINS + bins
    shape = (n_band, _AIRMASS_PARTS, _COLOR_BINS)
    of_band = band.astype(np.int64) * _COLOR_BINS + bins
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = np.bincount(group, weight, np.prod(shape)).reshape(shape)
        mean = np.bincount(group, weight * y, np.prod(shape)).reshape(shape) / weights
        size = n_band * _COLOR_BINS
        centers = np.bincount(of_band, x, size) / np.bincount(of_band, minlength=size)
    return ColorFacts(
        bands,
        slope,
        slope_error,
        det_slope.reshape(n_band, n_det),
        det_error.reshape(n_band, n_det),
        centers.reshape(n_band, _COLOR_BINS),
        limits,
        mean,
        np.where(weights > 0, 1.0 / np.sqrt(np.where(weights > 0, weights, 1.0)), np.nan),
    )


def _airmass_parts(
    airmass: FloatArray, band: npt.NDArray[np.integer], used: BoolArray, n_band: int
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Return the limits of the parts of each band's range of airmass, and the part of each exposure."""
    limits = np.full((n_band, _AIRMASS_PARTS + 1), np.nan)
    part = np.zeros(len(airmass), np.int64)
    for b in range(n_band):
        chosen = np.flatnonzero(used & (band == b))
        if len(chosen):
            limits[b] = np.quantile(airmass[chosen], np.linspace(0.0, 1.0, _AIRMASS_PARTS + 1))
            part[chosen] = np.searchsorted(limits[b, 1:-1], airmass[chosen], side="right")
    return limits, part


def _color_bins(color: FloatArray, band: npt.NDArray[np.integer], n_band: int) -> npt.NDArray[np.int64]:
    """Return the bin of color of each observation, with equal numbers in each band."""
    bins = np.zeros(len(color), np.int64)
    for b in range(n_band):
        chosen = np.flatnonzero(band == b)
        if len(chosen):
            inner = np.quantile(color[chosen], np.linspace(0.0, 1.0, _COLOR_BINS + 1))[1:-1]
            bins[chosen] = np.searchsorted(inner, color[chosen], side="right")
    return bins

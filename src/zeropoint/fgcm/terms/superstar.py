"""Superstar flats: what the detectors' own flat fields leave, seen by the stars of an epoch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.terms.chebyshev import (
    FluxFields,
    center_variances,
    fit_flux_fields,
    flux_field_magnitudes,
    to_magnitude,
)
from zeropoint.fgcm.terms.gray import GrayResiduals
from zeropoint.fgcm.terms.groups import BoolArray, FloatArray

__all__ = ["SuperstarFlats", "flat_index", "shape_variance", "superstar_flats"]

#: Stars that a flat needs.
MIN_STARS = 3

SingleArray = npt.NDArray[np.float32]
IndexArray = npt.NDArray[np.integer]


def flat_index(
    epoch: IndexArray, physical_filter: IndexArray, n_filter: int, n_det: int
) -> npt.NDArray[np.int32]:
    """Return which flat belongs to each exposure and detector.

    Parameters
    ----------
    epoch, physical_filter : int, shape (n_exp,)
        Index of the exposure's epoch and of its filter; filter -1: none.
    n_filter, n_det
        Number of filters and detectors.

    Returns
    -------
    flat : int32, shape (n_exp * n_det,)
        ``(epoch * n_filter + filter) * n_det + detector``; -1 without a filter.
    """
    row = np.where(physical_filter >= 0, epoch.astype(np.int64) * n_filter + physical_filter, -1)
    flat = row[:, None] * n_det + np.arange(n_det)
    return np.where(row[:, None] >= 0, flat, -1).astype(np.int32).ravel()


@dataclass(frozen=True)
class SuperstarFlats:
    """Superstar flats in flux.

    Parameters
    ----------
    coefficients : float64, shape (n_epoch, n_filter, n_det, order + 1, order + 1)
        Chebyshev coefficients ``[y, x]`` over each detector; NaN where no stars measured it.
    n_stars : int64, shape (n_epoch, n_filter, n_det)
        Observations.
    has_shape : bool, shape (n_epoch, n_filter, n_det)
        Whether it varies over the detector.
    """

    coefficients: FloatArray
    n_stars: npt.NDArray[np.int64]
    has_shape: BoolArray

    @property
    def measured(self) -> BoolArray:
        """Whether there is a flat, shape (n_epoch, n_filter, n_det)."""
        return np.asarray(np.isfinite(self.coefficients[..., 0, 0]))

    @property
    def mean_flux(self) -> FloatArray:
        """Mean of each flat over its detector, shape (n_epoch, n_filter, n_det)."""
        return self._flat.mean_flux.reshape(self.n_stars.shape)

    @property
    def constants(self) -> FloatArray:
        """What the mean of each flat adds to magnitudes, shape (n_epoch, n_filter, n_det); NaN where not measured."""
        return to_magnitude(self.mean_flux)

    def shapes(self) -> SuperstarFlats:
        """Return the flats with means of one: what is left when `constants` are parameters of the fit."""
        return replace(self, coefficients=self.coefficients / self.mean_flux[..., None, None])

    def magnitudes(
        self,
        flat: IndexArray,
        x: npt.NDArray[np.floating],
        y: npt.NDArray[np.floating],
        size: tuple[int, int],
        *,
        threads: int = 1,
    ) -> FloatArray:
        """Return what the flats add to the magnitudes of observations; 0 where there is none.

        Parameters
        ----------
        flat : int, shape (n_obs,)
            Flat of each (`flat_index`), -1: none.
        x, y : float, shape (n_obs,)
            Pixel positions.
        size
            Width and height of the detectors in pixels.
        threads
            Threads; the result has the same bits for any number.
        """
        measured = self.measured.ravel()
        coefficients = np.zeros((len(measured) + 1, *self.coefficients.shape[3:]))
        coefficients[:-1][measured] = self._flat.coefficients[measured]
        # the last one, which index -1 takes, is that of observations without a flat
        coefficients[:-1][~measured, 0, 0] = 1.0
        coefficients[-1, 0, 0] = 1.0
        return flux_field_magnitudes(coefficients, flat, x, y, size, threads=threads)

    @property
    def _flat(self) -> FluxFields:
        return FluxFields(self.coefficients.reshape(-1, *self.coefficients.shape[3:]), self.has_shape.ravel())


def superstar_flats(
    residuals: GrayResiduals,
    applied: npt.NDArray[np.floating] | float,
    flat: IndexArray,
    shape: tuple[int, int, int],
    sample: BoolArray,
    x: npt.NDArray[np.floating],
    y: npt.NDArray[np.floating],
    size: tuple[int, int],
    *,
    order: int,
    sub_ccd: BoolArray,
    triangular: bool = False,
    force_zero_mean: bool = False,
    threads: int = 1,
) -> SuperstarFlats:
    """Measure the superstar flats.

    Parameters
    ----------
    residuals
        Gray of the observations.
    applied : float, shape (n_obs,)
        What the flats that are in the magnitudes add to them: the result is the whole flat, not its change.
    flat : int, shape (n_obs,)
        Flat of each observation (`flat_index`).
    shape
        Number of epochs, filters and detectors.
    sample : bool, shape (n_obs,)
        Good observations of photometric exposures (`zeropoint.fgcm.terms.gray.gray_sample`).
    x, y : float, shape (n_obs,)
        Pixel positions.
    size
        Width and height of the detectors in pixels.
    order
        ``superStarSubCcdChebyshevOrder``.
    sub_ccd : bool, shape (n_filter,)
        Filters whose flats vary within detectors (``superStarSubCcdDict`` of their bands); others are constants.
    triangular
        ``superStarSubCcdTriangular``.
    force_zero_mean
        Divide by the mean over the focal plane of each epoch and filter (``superStarForceZeroMean``).
    threads
        Threads; the result has the same bits for any number.

    Notes
    -----
    A flat needs three stars; one that varies, ten for each of its parameters: with fewer it is constant.
    """
    where = np.where(sample, flat, np.int32(-1))
    total = residuals.gray + np.asarray(applied, np.float32)
    n = int(np.prod(shape))
    top = order if sub_ccd.any() else 0
    fields = fit_flux_fields(
        total,
        residuals.variance,
        where,
        n,
        x,
        y,
        size,
        order=top,
        triangular=triangular,
        min_stars=MIN_STARS,
        shaped=np.broadcast_to(np.asarray(sub_ccd)[None, :, None], shape).ravel(),
        threads=threads,
    )
    flats = SuperstarFlats(
        fields.coefficients.reshape(*shape, top + 1, top + 1),
        np.asarray(fields.n_stars).reshape(shape),
        fields.has_shape.reshape(shape),
    )
    return _normalized(flats) if force_zero_mean else flats


def _normalized(flats: SuperstarFlats) -> SuperstarFlats:
    """Divide by the mean over the measured detectors of each epoch and filter."""
    flux = flats.mean_flux
    n = flats.measured.sum(axis=2)
    mean = np.where(flats.measured, flux, 0.0).sum(axis=2) / np.maximum(n, 1)
    mean[n == 0] = 1.0
    return replace(flats, coefficients=flats.coefficients / mean[:, :, None, None, None])


def shape_variance(
    variance: npt.NDArray[np.floating],
    inverse_variance: npt.NDArray[np.floating],
    flat: IndexArray,
    coefficients: FloatArray,
    sample: BoolArray,
    x: npt.NDArray[np.floating],
    y: npt.NDArray[np.floating],
    size: tuple[int, int],
    *,
    triangular: bool = False,
    threads: int = 1,
) -> FloatArray:
    """Return the variance that flats have at the centers of their detectors for being fitted: a zeropoint's, but not the gray's.

    Parameters
    ----------
    variance, inverse_variance : shape (n_obs,)
        Variance of the residuals from the stars' means, and inverse variance of the magnitudes themselves.
    flat, sample, x, y, size, triangular, threads
        As for `superstar_flats`.
    coefficients : shape (n_epoch, n_filter, n_det, order + 1, order + 1)
        Shapes of the flats; those that are constant have no variance.

    Returns
    -------
    variance : float64, shape (n_epoch, n_filter, n_det)
        Mag^2.

    Notes
    -----
    The gray of a detector is from stars all over it, the zeropoint holds at its center: what the flat is wrong there beside its
    mean, the zeropoint is. A star seen N times tells the flats, its own magnitude unknown, 1 - 1/N of its observations' weights:
    the variance of a residual times the square of its weight.
    """
    shape, order = coefficients.shape[:3], coefficients.shape[3] - 1
    varies = np.any(coefficients.reshape(*shape, -1)[..., 1:] != 0, axis=-1)
    if not varies.any():
        return np.zeros(shape)
    rows = np.flatnonzero(sample & (flat >= 0) & (inverse_variance > 0))
    information = variance[rows].astype(np.float64) * np.square(inverse_variance[rows].astype(np.float64))
    found = center_variances(
        information,
        flat[rows],
        int(np.prod(shape)),
        x[rows],
        y[rows],
        size,
        order=order,
        triangular=triangular,
        threads=threads,
    )
    return np.where(varies, found.reshape(shape), 0.0)

"""One pass over all observations: chi-square, means, and the exact gradient by the tables of exposures and detectors.

The mean of each star in each band is eliminated: it is the weighted mean of the observations and of the reference
magnitude, so chi-square does not change with it to first order, and the gradient needs no derivative of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.model._kernels import mean_segments, standardize, sweep_segments
from zeropoint.fgcm.model.model import ModelTables
from zeropoint.fgcm.model.observations import FitObservations
from zeropoint.fgcm.model.rows import segment_parts
from zeropoint.fgcm.threads import finish, in_order

__all__ = ["References", "RelativeSlopes", "SweepResult", "standard_magnitudes", "star_means", "sweep"]

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

#: Least factor by which a star's colour may change its flux: beyond, its slope is no linear spectrum.
_LEAST_FACTOR = 0.1


@dataclass(frozen=True)
class References:
    """Reference magnitudes that take part in a fit: each is one more measurement of its star.

    Parameters
    ----------
    mag, weight : float64, shape (n_star * n_band,)
        Magnitude (0 where there is none) and inverse variance (0 where there is none).
    """

    mag: FloatArray
    weight: FloatArray

    @classmethod
    def of(cls, mag: npt.ArrayLike, err: npt.ArrayLike, used: npt.ArrayLike = True) -> References:
        """Return the references of magnitudes and errors.

        Parameters
        ----------
        mag, err : shape (n_star, n_band)
            Magnitudes and errors; not finite: none.
        used : bool, broadcasts to (n_star, n_band)
            Which of them count.
        """
        mag, err = np.asarray(mag, np.float64), np.asarray(err, np.float64)
        good = np.isfinite(mag) & np.isfinite(err) & (err > 0) & np.asarray(used, np.bool_)
        weight = np.where(good, 1.0 / np.where(good, err, 1.0) ** 2, 0.0)
        return cls(np.where(good, mag, 0.0).ravel(), weight.ravel())


@dataclass(frozen=True)
class SweepResult:
    """What one pass over the observations gives.

    Parameters
    ----------
    chi2
        Weighted sum of squares about the means, references included.
    n_used
        Observations with a weight.
    mean, weight_sum : float64, shape (n_star, n_band)
        Mean standard magnitude (NaN without observations of weight), and the sum of the weights of observations and
        reference.
    gradient : float64, shape (n_exp * n_det, 4), or None
        Derivative of chi2 by the columns of `ModelTables.values`.
    """

    chi2: float
    n_used: int
    mean: FloatArray
    weight_sum: FloatArray
    gradient: FloatArray | None


@dataclass(frozen=True)
class RelativeSlopes:
    """Slopes of the stars' spectra in the form in which sweeps take them.

    Parameters
    ----------
    values : float64, shape (n_star * n_band,)
        F' / (1 + F' I10std), 1/Angstrom.
    ends : float64, shape (2, n_band)
        Their least and largest in each band, 0 included.
    least : float64, shape (n_band,)
        The least 1 + F' I10std, 1 included.
    slope_ends : float64, shape (2, n_band)
        Least and largest F'; for messages.
    """

    values: FloatArray
    ends: FloatArray
    least: FloatArray
    slope_ends: FloatArray

    @classmethod
    def of(cls, slopes: FloatArray, band_i10_std: FloatArray) -> RelativeSlopes:
        """Return the relative slopes of slopes.

        Parameters
        ----------
        slopes : float64, shape (n_star * n_band,) or (n_star, n_band)
            F', 1/Angstrom.
        band_i10_std : float64, shape (n_band,)
            Of the standard passbands, Angstrom.

        Raises
        ------
        InvalidInputError
            If a slope is not finite.
        """
        slope = np.asarray(slopes, np.float64).reshape(-1, len(band_i10_std))
        if not np.isfinite(slope).all():
            n_bad = int(np.count_nonzero(~np.isfinite(slope)))
            raise InvalidInputError(
                f"{n_bad} of {slope.size} slopes of spectra are not finite; fill them first."
            )
        factor = 1.0 + slope * band_i10_std
        relative = slope / factor
        return cls(
            np.ascontiguousarray(relative.ravel()),
            _ends(relative, 0.0),
            _ends(factor, 1.0)[0],
            _ends(slope, 0.0),
        )

    def require_fluxes(self, tables: ModelTables) -> None:
        """Check that no star's flux becomes negative in passbands.

        Raises
        ------
        InvalidInputError
            If one does.
        """
        # the factor is linear in both, so its extremes are at theirs
        least = (1.0 + self.ends[:, None] * tables.band_i10_range.T[None]).min(axis=(0, 1))
        least = np.minimum(least, self.least)
        if (least < _LEAST_FACTOR).any():
            band = int(np.argmin(least))
            low, high = self.slope_ends[:, band]
            raise InvalidInputError(
                f"Slopes of spectra from {low:.2e} to {high:.2e} per Angstrom in band {band} leave {least[band]:.2f} of a star's "
                "flux: they are no linear spectra. Limit them (see sed_slopes)."
            )


def _ends(values: FloatArray, included: float) -> FloatArray:
    """Return least and largest value of each column, one value included; shape (2, n)."""
    # a column at a time: numpy is slow along the first of two axes
    columns = [values[:, k] for k in range(values.shape[1])]
    return np.array(
        [[each.min(initial=included) for each in columns], [each.max(initial=included) for each in columns]]
    ).reshape(2, -1)


def sweep(
    observations: FitObservations,
    weight: Float32Array,
    slopes: FloatArray | RelativeSlopes,
    references: References | None,
    tables: ModelTables,
    *,
    gradient: bool = True,
    threads: int = 1,
) -> SweepResult:
    """Pass over all observations once.

    Parameters
    ----------
    observations
        Observations.
    weight : float32, shape (n_obs,)
        Inverse variances; 0: not used.
    slopes : float64, shape (n_star * n_band,) or (n_star, n_band)
        Slope of each star's spectrum in each band, 1/Angstrom; finite. Or what `RelativeSlopes.of` made of them.
    references
        Reference magnitudes, None: none.
    tables
        The model.
    gradient
        Whether to return the gradient.
    threads
        Threads; the result has the same bits for any number.

    Raises
    ------
    InvalidInputError
        If a slope is not finite, or turns the flux of a star negative.
    """
    n_ec = len(tables.values)
    slope = _relative(observations, slopes, tables)
    mean = np.full(observations.n_segment, np.nan)
    weight_sum = np.zeros(observations.n_segment)
    none = np.zeros(0)
    ref_mag, ref_weight = (none, none) if references is None else (references.mag, references.weight)
    weight = np.ascontiguousarray(weight, np.float32)
    bounds = segment_parts(observations.start)
    longest = int(np.diff(observations.start).max(initial=0))
    relative = tables.relative

    # as many as there are threads, used again for later parts
    buffers: list[tuple[FloatArray, FloatArray, FloatArray]] = []

    def run(chunk: int) -> tuple[float, int, tuple[FloatArray, FloatArray, FloatArray]]:
        if buffers:
            buffer = buffers.pop()
            buffer[0][:] = 0.0
        else:
            buffer = np.zeros((n_ec if gradient else 0, 4)), np.empty(longest), np.empty(longest)
        chi2, n_used = sweep_segments(
            observations.start, observations.ec, observations.t, observations.mag, weight,
            bounds[chunk], bounds[chunk + 1], slope, ref_mag, ref_weight, relative,
            mean, weight_sum, *buffer,
        )  # fmt: skip
        return float(chi2), int(n_used), buffer

    chi2, n_used, total = 0.0, 0, np.zeros((n_ec, 4)) if gradient else None
    for part_chi2, part_used, buffer in in_order(run, len(bounds) - 1, threads):
        chi2 += part_chi2
        n_used += part_used
        if total is not None:
            total += buffer[0]
        buffers.append(buffer)
    if total is not None:
        total *= 2.0
    shape = (observations.n_star, observations.n_band)
    return SweepResult(chi2, n_used, mean.reshape(shape), weight_sum.reshape(shape), total)


def star_means(
    observations: FitObservations,
    inverse_variance: Float32Array,
    member: npt.NDArray[np.bool_],
    slopes: RelativeSlopes,
    references: References | None,
    tables: ModelTables,
    *,
    threads: int = 1,
) -> tuple[FloatArray, FloatArray]:
    """Return the mean standard magnitudes of some observations: those of `sweep`, in less time.

    Parameters
    ----------
    observations, slopes, references, tables, threads
        As for `sweep`.
    inverse_variance : float32, shape (n_obs,)
        Weights; 0: not used.
    member : bool, shape (n_obs,)
        Observations that count.

    Returns
    -------
    mean, weight_sum : float64, shape (n_star, n_band)
        As of `SweepResult`.
    """
    slope = _relative(observations, slopes, tables)
    mean, weight_sum = np.full(observations.n_segment, np.nan), np.zeros(observations.n_segment)
    none = np.zeros(0)
    ref_mag, ref_weight = (none, none) if references is None else (references.mag, references.weight)
    weight = np.ascontiguousarray(inverse_variance, np.float32)
    bounds, relative = segment_parts(observations.start), tables.relative

    def run(part: int) -> None:
        mean_segments(
            observations.start, observations.ec, observations.t, observations.mag, weight, member,
            bounds[part], bounds[part + 1], slope, ref_mag, ref_weight, relative, mean, weight_sum,
        )  # fmt: skip

    finish(run, len(bounds) - 1, threads)
    shape = (observations.n_star, observations.n_band)
    return mean.reshape(shape), weight_sum.reshape(shape)


def standard_magnitudes(
    observations: FitObservations,
    slopes: FloatArray | RelativeSlopes,
    tables: ModelTables,
    *,
    threads: int = 1,
) -> tuple[Float32Array, Float32Array]:
    """Return the standard magnitude of every observation, used or not, and what of it is the star's colour.

    Parameters
    ----------
    observations, slopes, tables, threads
        As for `sweep`.

    Returns
    -------
    mstd, d_standard : float32, shape (n_obs,)
        Magnitude, and 2.5 log10[(1 + F' I10)/(1 + F' I10std)]; NaN where the magnitude or the model is.
    """
    slope = _relative(observations, slopes, tables)
    mstd = np.empty(len(observations), np.float32)
    d_standard = np.empty(len(observations), np.float32)
    bounds, relative = segment_parts(observations.start), tables.relative

    def run(chunk: int) -> None:
        standardize(
            observations.start, observations.ec, observations.t, observations.mag,
            bounds[chunk], bounds[chunk + 1], slope, relative, mstd, d_standard,
        )  # fmt: skip

    finish(run, len(bounds) - 1, threads)
    return mstd, d_standard


def _relative(
    observations: FitObservations, slopes: FloatArray | RelativeSlopes, tables: ModelTables
) -> FloatArray:
    """Return F'/(1 + F' I10std) of each segment: what the colour term is written in."""
    if not isinstance(slopes, RelativeSlopes):
        slopes = RelativeSlopes.of(slopes.reshape(observations.n_star, -1), tables.band_i10_std)
    slopes.require_fluxes(tables)
    return slopes.values

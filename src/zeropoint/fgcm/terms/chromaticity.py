"""Chromaticity of the mirror's coating and of single detectors beyond the throughputs that are known.

The throughput gets a factor 1 + C (lam - lam_std)/lam_std.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.linalg import lsmr

from zeropoint.fgcm.magnitudes import MAG_PER_LN
from zeropoint.fgcm.terms.groups import group_sums

__all__ = [
    "DetectorChromaticity",
    "MirrorChromaticity",
    "StandardIntegrals",
    "chromaticity_magnitude",
    "coating_pivots",
    "fit_detector_chromaticity",
    "fit_mirror_chromaticity",
    "mirror_chromaticity_at",
]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.integer]
Floats = npt.NDArray[np.floating]

#: Largest chromaticity, and iterations of its fit.
_LARGEST, _ITERATIONS = 1.0, 8
#: Accuracy of the joint step, and most iterations.
_TOLERANCE, _MAX_ITERATIONS = 1e-7, 300
#: Stars that the chromaticity of a detector needs.
_MIN_STARS = 50


@dataclass(frozen=True)
class StandardIntegrals:
    """Of the standard passbands; shape (n_filter,), in the order of the filters.

    Parameters
    ----------
    lambda_std
        Standard wavelength, Angstrom.
    i0, i1, i2
        Moments about it: 1, Angstrom, Angstrom^2.
    """

    lambda_std: FloatArray
    i0: FloatArray
    i1: FloatArray
    i2: FloatArray

    def shifts(self, filter_index: IntArray, slope: Floats) -> tuple[FloatArray, FloatArray]:
        """Return by how much the star's light, and light without slope, is redder than the standard wavelength, as its part.

        Parameters
        ----------
        filter_index, slope
            Filter, and F' of the star, 1/Angstrom; of shapes that broadcast.
        """
        lam, i0, i1, i2 = (each[filter_index] for each in (self.lambda_std, self.i0, self.i1, self.i2))
        star = (i1 + slope * i2) / (i0 + slope * i1)
        return np.asarray(star / lam), np.asarray(i1 / i0 / lam)


def chromaticity_magnitude(
    chromaticity: npt.ArrayLike, filter_index: IntArray, slope: Floats, integrals: StandardIntegrals
) -> FloatArray:
    """Return what is added to a magnitude for a chromaticity.

    Parameters
    ----------
    chromaticity
        C, of the shape of the others or one that broadcasts.
    filter_index : shape (n,)
        Filter of each observation: its passband, not its band's, counts.
    slope : shape (n,)
        F' of its star, 1/Angstrom.
    integrals
        Of the standard passbands.

    Notes
    -----
    2.5 log10[1 + (C/lam) (I1 + F' I2)/(I0 + F' I1)] - 2.5 log10[1 + (C/lam) I10].
    """
    c = np.asarray(chromaticity, np.float64)
    star, flat = integrals.shifts(filter_index, slope)
    return np.asarray(MAG_PER_LN * (np.log1p(c * star) - np.log1p(c * flat)))


def _derivative(
    chromaticity: FloatArray, filter_index: IntArray, slope: Floats, integrals: StandardIntegrals
) -> FloatArray:
    """Return the derivative of `chromaticity_magnitude` by C."""
    star, flat = integrals.shifts(filter_index, slope)
    return np.asarray(MAG_PER_LN * (star / (1.0 + chromaticity * star) - flat / (1.0 + chromaticity * flat)))


@dataclass(frozen=True)
class MirrorChromaticity:
    """Chromaticity C(t) = value of the coating + slope (t - pivot), within -1 and 1, of each filter.

    Parameters
    ----------
    values : float64, shape (n_filter, n_coating + 1)
        Slope per day, then the value at each coating; the first of these is 0.
    err : float64, shape (n_filter, n_coating + 1)
        Errors; NaN where nothing was fitted, and of the first coating.
    pivot : float64, shape (n_coating,)
        Median time of each coating's exposures, MJD.
    n_exposures : int64, shape (n_filter,)
        Exposures used.
    """

    values: FloatArray
    err: FloatArray
    pivot: FloatArray
    n_exposures: npt.NDArray[np.int64]


def coating_pivots(mjd: FloatArray, coating: IntArray, n_coating: int) -> FloatArray:
    """Return the median time of the exposures of each coating, shape (n_coating,); 0 for coatings without any.

    Parameters
    ----------
    mjd, coating : shape (n_exp,)
        Time, NaN where unknown, and interval of each exposure.
    n_coating
        Number of intervals.
    """
    out = np.zeros(n_coating)
    for k in range(n_coating):
        times = mjd[(coating == k) & np.isfinite(mjd)]
        if len(times):
            out[k] = np.median(times)
    return out


def mirror_chromaticity_at(
    values: FloatArray, pivot: FloatArray, filter_index: IntArray, coating: IntArray, mjd: FloatArray
) -> FloatArray:
    """Return the chromaticity of the mirror in each exposure, shape (n_exp,); 0 without filter or time.

    Parameters
    ----------
    values, pivot
        As `MirrorChromaticity` has them.
    filter_index, coating, mjd : shape (n_exp,)
        Filter (-1: none), coating and time of each exposure.
    """
    c = values[filter_index, 1 + coating] + values[filter_index, 0] * (mjd - pivot[coating])
    return np.where((filter_index >= 0) & np.isfinite(c), np.clip(c, -_LARGEST, _LARGEST), 0.0)


def fit_mirror_chromaticity(
    gray: FloatArray,
    err: FloatArray,
    slope: FloatArray,
    *,
    filter_index: IntArray,
    coating: IntArray,
    mjd: FloatArray,
    use: BoolArray,
    integrals: StandardIntegrals,
    values: FloatArray,
) -> MirrorChromaticity:
    """Fit the chromaticity of the mirror to the gray of red stars minus that of blue ones.

    Parameters
    ----------
    gray, err : shape (n_exp, 2)
        Gray of the exposures from blue and from red stars with the given chromaticity applied, and errors, mag; NaN where
        unknown.
    slope : shape (n_exp, 2)
        Mean F' of the blue and of the red stars in the exposure's band, 1/Angstrom.
    filter_index, coating, mjd : shape (n_exp,)
        Filter (-1: none), coating and time of each exposure.
    use : shape (n_exp,)
        Photometric exposures.
    integrals
        Of the standard passbands.
    values : shape (n_filter, n_coating + 1)
        Chromaticity that the gray contains; also what stays where there is nothing to fit.

    Notes
    -----
    Gauss-Newton, weights 1/(err_red^2 + err_blue^2). A constant of each filter is fitted besides and not kept: stars' means
    are over all coatings, so that red minus blue is not zero at the first.
    """
    n_filter, n_coating = values.shape[0], values.shape[1] - 1
    pivot = coating_pivots(mjd, coating, n_coating)
    new, errors = values.copy(), np.full(values.shape, np.nan)
    count = np.zeros(n_filter, np.int64)
    difference = gray[:, 1] - gray[:, 0]
    variance = np.square(err).sum(axis=1)
    good = use & np.isfinite(difference) & (variance > 0) & np.isfinite(mjd) & np.isfinite(slope).all(axis=1)
    for f in range(n_filter):
        rows = np.flatnonzero(good & (filter_index == f))
        part = _MirrorData(
            difference[rows],
            variance[rows],
            slope[rows],
            coating[rows],
            mjd[rows] - pivot[coating[rows]],
            f,
            integrals,
        )
        free = [0, *(1 + k for k in np.unique(coating[rows]).tolist() if k > 0)]
        if len(rows) >= 2 * (len(free) + 1):
            new[f], errors[f] = _fit_filter(part, values[f], free)
            count[f] = len(rows)
    return MirrorChromaticity(new, errors, pivot, count)


@dataclass(frozen=True)
class _MirrorData:
    """Gray of red minus blue stars in the exposures of one filter."""

    difference: FloatArray
    variance: FloatArray
    slope: FloatArray
    coating: IntArray
    time: FloatArray
    filter: int
    integrals: StandardIntegrals

    def chromaticity(self, values: FloatArray) -> FloatArray:
        """Return C of each exposure."""
        return np.asarray(np.clip(values[1 + self.coating] + values[0] * self.time, -_LARGEST, _LARGEST))

    def magnitude(self, c: FloatArray) -> FloatArray:
        """Return what C adds to red minus blue magnitudes."""
        index = np.full(len(c), self.filter)
        blue, red = (chromaticity_magnitude(c, index, self.slope[:, k], self.integrals) for k in (0, 1))
        return red - blue

    def derivative(self, c: FloatArray) -> FloatArray:
        """Return its derivative by C."""
        index = np.full(len(c), self.filter)
        blue, red = (_derivative(c, index, self.slope[:, k], self.integrals) for k in (0, 1))
        return red - blue


def _fit_filter(data: _MirrorData, old: FloatArray, free: list[int]) -> tuple[FloatArray, FloatArray]:
    """Return the values of one filter, and their errors."""
    # what the magnitudes without any correction would show
    target = data.difference + data.magnitude(data.chromaticity(old))
    new = old.copy()
    new[1] = 0.0
    root = 1.0 / np.sqrt(data.variance)
    offset = 0.0
    for _ in range(_ITERATIONS):
        c = data.chromaticity(new)
        change = data.derivative(c)
        columns = [change * data.time, *(change * (data.coating == k - 1) for k in free[1:])]
        design = np.stack([*columns, np.ones(len(c))], axis=1) * root[:, None]
        scale = np.linalg.norm(design, axis=0)
        scale[scale == 0.0] = 1.0
        left = (target - data.magnitude(c) - offset) * root
        step, _, rank, _ = np.linalg.lstsq(design / scale, left, rcond=1e-10)
        new[free] += (step / scale)[:-1]
        new[1:] = np.clip(new[1:], -_LARGEST, _LARGEST)
        offset += float(step[-1] / scale[-1])
    err = np.full(len(old), np.nan)
    if rank == len(scale):
        covariance = np.linalg.inv((design / scale).T @ (design / scale))
        err[free] = np.sqrt(np.diag(covariance))[:-1] / scale[:-1]
    return new, err


@dataclass(frozen=True)
class DetectorChromaticity:
    """Chromaticity of each detector in each filter; shape (n_det, n_filter).

    Parameters
    ----------
    values, err : float64
        C within -1 and 1, relative to the mean of the detectors, and its error, NaN where it is not of this fit.
    n_stars : int64
        Observations used.
    """

    values: FloatArray
    err: FloatArray
    n_stars: npt.NDArray[np.int64]


def fit_detector_chromaticity(
    gray: Floats,
    variance: Floats,
    slope: Floats,
    *,
    segment: IntArray,
    ec: IntArray,
    n_det: int,
    filter_of_exposure: IntArray,
    sample: BoolArray,
    integrals: StandardIntegrals,
    values: FloatArray,
    fit_filters: BoolArray,
) -> DetectorChromaticity:
    """Fit the chromaticity of the detectors to the gray of stars of different colors.

    Parameters
    ----------
    gray, variance : shape (n_obs,)
        Gray of the observations with the given chromaticity applied, and its variance.
    slope : shape (n_obs,)
        F' of each observation's star, 1/Angstrom, NaN where unknown.
    segment : shape (n_obs,)
        Star-band of each observation.
    ec : shape (n_obs,)
        ``exposure * n_det + detector``.
    n_det
        Number of detectors.
    filter_of_exposure : shape (n_exp,)
        Filter of each exposure, -1 for none.
    sample : shape (n_obs,)
        Good observations of photometric exposures.
    integrals
        Of the standard passbands.
    values : shape (n_det, n_filter)
        Chromaticity that the gray contains.
    fit_filters : shape (n_filter,)
        Filters to fit (``fitCcdChromaticityDict``); the others keep their values.

    Notes
    -----
    Regression of the gray on the magnitude's derivative by C within each detector of each exposure, so that clouds and flats do
    not matter, together with the stars' mean magnitudes, which hold a part of it: all of it for stars that only one detector
    has seen. One Gauss-Newton step a cycle, which is right to 1e-3 of it. What all detectors of a filter have in common
    belongs to the stars' magnitudes and is removed.
    """
    n_filter = values.shape[1]
    n_ec = len(filter_of_exposure) * n_det
    ec_filter = np.repeat(filter_of_exposure, n_det)
    ec_det = np.tile(np.arange(n_det), len(filter_of_exposure))
    fits = np.append(fit_filters, False)[ec_filter]
    rows = np.flatnonzero(sample & fits[ec] & np.isfinite(slope) & np.isfinite(gray) & (variance > 0))
    group = ec[rows]
    index = ec_filter[group]
    h = _derivative(values[ec_det[group], index], index, np.asarray(slope, np.float64)[rows], integrals)
    y, w = np.asarray(gray, np.float64)[rows], 1.0 / np.asarray(variance, np.float64)[rows]
    total = group_sums(w, group, n_ec)
    dh = h - (group_sums(w * h, group, n_ec) / np.where(total > 0, total, 1.0))[group]
    cell = ec_det[group] * n_filter + index
    n_cell = n_det * n_filter
    sxx = group_sums(w * dh * dh, cell, n_cell) - _in_means(
        w, w * dh, np.asarray(segment)[rows], cell, n_cell
    )
    count = np.bincount(cell, minlength=n_cell).reshape(values.shape)
    fitted = (count >= _MIN_STARS) & (sxx.reshape(values.shape) > 0)
    step = _joint_step(y, h, np.sqrt(w), (cell, n_cell), np.asarray(segment)[rows], group).reshape(
        values.shape
    )
    new = values + np.where(fitted, step, 0.0)
    err = np.where(fitted, 1.0 / np.sqrt(np.where(fitted.ravel(), sxx, 1.0)).reshape(values.shape), np.nan)
    for f in np.flatnonzero(fit_filters).tolist():
        part = fitted[:, f]
        if part.any():
            # the gauge: what is common to all, weighted as the stars' means weight the detectors
            new[part, f] -= np.average(new[part, f], weights=sxx.reshape(values.shape)[part, f])
    return DetectorChromaticity(np.clip(new, -_LARGEST, _LARGEST), err, count)


def _in_means(
    weight: FloatArray, value: FloatArray, segment: IntArray, cell: IntArray, n_cell: int
) -> FloatArray:
    """Return what of each cell's sum of squares is in the stars' means: (sum of values)^2 / sum of weights, over its stars."""
    pairs, pair = np.unique(segment.astype(np.int64) * n_cell + cell, return_inverse=True)
    sums = group_sums(value, pair, len(pairs))
    star, of_cell = np.divmod(pairs, n_cell)
    total = group_sums(weight, segment, int(segment.max(initial=-1)) + 1)
    return group_sums(np.square(sums) / total[star], of_cell, n_cell)


def _joint_step(
    y: FloatArray,
    h: FloatArray,
    root: FloatArray,
    cell: tuple[IntArray, int],
    segment: IntArray,
    group: IntArray,
) -> FloatArray:
    """Return the least squares of y = h C[cell] + star's mean + detector's gray, of the smallest norm in scaled unknowns."""
    n = len(y)
    if n == 0:
        return np.zeros(cell[1])
    stars, star = np.unique(segment, return_inverse=True)
    grays, gray = np.unique(group, return_inverse=True)
    columns = np.stack([cell[0], cell[1] + star, cell[1] + len(stars) + gray], axis=1)
    entries = np.stack([h * root, root, root], axis=1)
    shape = (n, cell[1] + len(stars) + len(grays))
    norm = np.sqrt(np.bincount(columns.ravel(), weights=np.square(entries).ravel(), minlength=shape[1]))
    norm[norm == 0.0] = 1.0
    matrix = csr_array(
        ((entries / norm[columns]).ravel(), columns.ravel(), np.arange(n + 1) * 3), shape=shape
    )
    solution = lsmr(matrix, y * root, atol=_TOLERANCE, btol=_TOLERANCE, maxiter=_MAX_ITERATIONS)[0]
    return np.asarray(solution / norm)[: cell[1]]

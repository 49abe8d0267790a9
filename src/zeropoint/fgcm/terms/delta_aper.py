"""Errors of the background, told from how the difference of two aperture magnitudes changes with the brightness of stars.

A background that is wrong by epsilon adds epsilon times the aperture's area to every flux, so that the magnitude in the inner
aperture minus that in the outer is a straight line in 1/flux. A diagnosis: nothing is corrected with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import hpgeom
import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.magnitudes import MAG_PER_LN
from zeropoint.fgcm.terms.groups import MAD_TO_SIGMA, MEDIAN_ERROR, group_medians, group_sums, ratio

__all__ = [
    "ApertureRadii",
    "BackgroundMap",
    "band_background_errors",
    "bright_medians",
    "detector_background_errors",
    "exposure_background_errors",
    "sky_background_errors",
    "star_delta_aper",
]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.integer]
Floats = npt.NDArray[np.floating]

#: AB magnitude of 1 nJy.
_NJY = 31.4
#: Larger differences are blends; bins of magnitude; the range of the magnitudes as parts; values in a bin and bins of a line.
_LARGEST, _BIN, _RANGE, _MIN_PER_BIN, _MIN_BINS = 0.5, 0.2, (0.01, 0.95), 5, 5
#: Part of the stars of an exposure that is bright.
_BRIGHT = 0.25
#: Cells in which the density of the sky is measured.
_DENSITY_NSIDE = 32


@dataclass(frozen=True)
class ApertureRadii:
    """Radii of the two apertures, arcsec; both 0: unknown, and results are slopes in magnitudes times nJy over 2.5/ln(10).

    Parameters
    ----------
    inner, outer
        ``deltaAperInnerRadiusArcsec``, ``deltaAperOuterRadiusArcsec``.
    """

    inner: float
    outer: float


@dataclass(frozen=True)
class BackgroundMap:
    """Error of the background in cells; any shape.

    Parameters
    ----------
    epsilon : float64
        nJy/arcsec^2, NaN where stars are too few.
    n_stars : int32
        Stars (of observations where it is by exposure or detector); 0 where there is no result.
    """

    epsilon: FloatArray
    n_stars: npt.NDArray[np.int32]


def bright_medians(
    values: Floats,
    magnitude: Floats,
    exposure: IntArray,
    use: BoolArray,
    *,
    n_exp: int,
    part: float,
    least: int,
) -> FloatArray:
    """Return the median of the brightest stars of each exposure, shape (n_exp,); NaN where stars are too few.

    Parameters
    ----------
    values, magnitude, exposure, use : shape (n_obs,)
        Quantity, mean magnitude of the star, exposure, and which observations count.
    n_exp
        Number of exposures.
    part
        Brightest part of the stars (``deltaMagBkgOffsetPercentile``).
    least
        Stars that an exposure needs altogether.
    """
    rows = np.flatnonzero(use & np.isfinite(values) & np.isfinite(magnitude))
    where, mag = exposure[rows], np.asarray(magnitude, np.float32)[rows]
    count = np.bincount(where, minlength=n_exp)
    (faintest,) = _group_ranked(mag, where, count, np.ceil(part * count).astype(np.int64) - 1)
    bright = np.flatnonzero(mag <= faintest[where])
    median = group_medians(values[rows[bright]], where[bright], n_exp)[0]
    return np.where(count >= max(least, 1), median, np.nan)


def star_delta_aper(
    delta_aper: Floats,
    err: Floats,
    segment: IntArray,
    exposure: IntArray,
    use: BoolArray,
    exposure_median: FloatArray,
    *,
    shape: tuple[int, int],
    min_good: int,
) -> FloatArray:
    """Return the mean difference of the aperture magnitudes of each star and band, shape (n_star, n_band), NaN: none.

    Parameters
    ----------
    delta_aper, err : shape (n_obs,)
        Inner minus outer magnitude (NaN: unknown), and error of the magnitude.
    segment, exposure, use : shape (n_obs,)
        Star-band and exposure of each observation, and which count.
    exposure_median : shape (n_exp,)
        Median of each exposure's bright stars, which is taken off.
    shape
        (n_star, n_band).
    min_good
        Observations that a star needs (``deltaAperFitMinNgoodObs``).
    """
    n = shape[0] * shape[1]
    rows = np.flatnonzero(use & (np.abs(delta_aper) < _LARGEST) & (err > 0))
    value = delta_aper[rows].astype(np.float64) - exposure_median[exposure[rows]]
    known = np.isfinite(value)
    rows, value = rows[known], value[known]
    weight = 1.0 / np.square(err[rows].astype(np.float64))
    total = group_sums(weight, segment[rows], n)
    total[np.bincount(segment[rows], minlength=n) < min_good] = 0.0
    return ratio(group_sums(weight * value, segment[rows], n), total).reshape(shape)


def exposure_background_errors(
    delta_aper: Floats,
    magnitude: Floats,
    exposure: IntArray,
    use: BoolArray,
    *,
    n_exp: int,
    min_star_per_exp: int,
    radii: ApertureRadii,
) -> BackgroundMap:
    """Return the background's error in each exposure, shape (n_exp,).

    Parameters
    ----------
    delta_aper, magnitude, exposure, use : shape (n_obs,)
        Inner minus outer magnitude, mean magnitude of the star (AB), exposure, and which observations count.
    n_exp
        Number of exposures.
    min_star_per_exp
        Stars that an exposure needs.
    radii
        Of the apertures.
    """
    return _fit_cells(delta_aper, magnitude, exposure, use, n_exp, min_star_per_exp, radii, None)


def band_background_errors(
    delta: FloatArray,
    magnitude: Floats,
    good: BoolArray,
    ra: Floats,
    dec: Floats,
    offset: FloatArray,
    radii: ApertureRadii,
) -> BackgroundMap:
    """Return the background's error in each band, shape (n_band,), from the sparser half of the sky.

    Parameters
    ----------
    delta, magnitude : shape (n_star, n_band)
        From `star_delta_aper`, and mean magnitudes, AB.
    good : shape (n_star,)
        Stars that count.
    ra, dec : shape (n_star,)
        Degrees.
    offset : shape (n_band,)
        Median over the exposures of what was taken off ``delta``.
    radii
        Of the apertures.
    """
    cell = hpgeom.angle_to_pixel(_DENSITY_NSIDE, ra, dec)
    place, density = np.unique(cell[good], return_inverse=True, return_counts=True)[1:]
    sparse = np.zeros(len(good), bool)
    if len(density):
        sparse[good] = density[place] <= np.median(density)
    n_band = delta.shape[1]
    band = np.broadcast_to(np.arange(n_band), delta.shape)
    use = np.broadcast_to(sparse[:, None], delta.shape)
    return _fit_cells(
        delta.ravel(), np.asarray(magnitude).ravel(), band.ravel(), use.ravel(), n_band, 1, radii, offset
    )


def sky_background_errors(
    delta: FloatArray,
    magnitude: Floats,
    good: BoolArray,
    ra: Floats,
    dec: Floats,
    offset: FloatArray,
    radii: ApertureRadii,
    *,
    nside: int,
    min_stars: int,
) -> BackgroundMap:
    """Return the background's error in each band and HEALPix cell (ring order), shape (n_band, 12 nside^2).

    Parameters
    ----------
    delta, magnitude, good, ra, dec, offset, radii
        As `band_background_errors` wants them.
    nside, min_stars
        ``deltaAperFitSpatialNside``, ``deltaAperFitSpatialMinStar``.
    """
    n_band, n_cell = delta.shape[1], 12 * nside * nside
    cell = hpgeom.angle_to_pixel(nside, ra, dec, nest=False).astype(np.int64)
    seen, place = np.unique(cell, return_inverse=True)
    group = np.arange(n_band) * len(seen) + place[:, None]
    use = np.broadcast_to(good[:, None], delta.shape)
    found = _fit_cells(
        delta.ravel(),
        np.asarray(magnitude).ravel(),
        group.ravel(),
        use.ravel(),
        n_band * len(seen),
        min_stars,
        radii,
        np.repeat(offset, len(seen)),
    )
    epsilon = np.full((n_band, n_cell), np.nan)
    n_stars = np.zeros((n_band, n_cell), np.int32)
    epsilon[:, seen] = found.epsilon.reshape(n_band, -1)
    n_stars[:, seen] = found.n_stars.reshape(n_band, -1)
    return BackgroundMap(epsilon, n_stars)


def detector_background_errors(
    delta_aper: Floats,
    magnitude: Floats,
    x: Floats,
    y: Floats,
    detector: IntArray,
    filter_index: IntArray,
    use: BoolArray,
    *,
    n_filter: int,
    detector_size: npt.ArrayLike,
    n_x: int,
    n_y: int,
    min_stars: int,
    radii: ApertureRadii,
    offset: FloatArray,
) -> BackgroundMap:
    """Return the background's error on parts of each detector, shape (n_filter, n_det, n_y, n_x).

    Parameters
    ----------
    delta_aper, magnitude, x, y, detector, filter_index, use : shape (n_obs,)
        Inner minus outer magnitude without the exposure's median, mean magnitude of the star (AB), position, detector, filter
        (-1: none), and which observations count.
    n_filter
        Number of filters.
    detector_size : shape (n_det, 2)
        Columns and rows.
    n_x, n_y
        Parts (``deltaAperFitPerCcdNx``, ``Ny``).
    min_stars
        Observations that a part needs.
    radii
        Of the apertures.
    offset : shape (n_filter,)
        Median over the exposures of what was taken off.
    """
    size = np.asarray(detector_size, np.float64)
    n_det = len(size)
    column = np.clip((x + 0.5) / size[detector, 0] * n_x, 0, n_x - 1).astype(np.int64)
    row = np.clip((y + 0.5) / size[detector, 1] * n_y, 0, n_y - 1).astype(np.int64)
    group = ((filter_index.astype(np.int64) * n_det + detector) * n_y + row) * n_x + column
    found = _fit_cells(
        delta_aper,
        magnitude,
        np.maximum(group, 0),
        use & (filter_index >= 0),
        n_filter * n_det * n_y * n_x,
        min_stars,
        radii,
        np.repeat(offset, n_det * n_y * n_x),
    )
    shape = (n_filter, n_det, n_y, n_x)
    return BackgroundMap(found.epsilon.reshape(shape), found.n_stars.reshape(shape))


def _fit_cells(
    delta: Floats,
    magnitude: Floats,
    group: IntArray,
    use: BoolArray,
    n_groups: int,
    least: int,
    radii: ApertureRadii,
    offset: FloatArray | None,
) -> BackgroundMap:
    """Fit a line in 1/flux through the medians of bins of magnitude, in each group."""
    rows = np.flatnonzero(use & (np.abs(delta) < _LARGEST) & np.isfinite(magnitude))
    where = group[rows]
    keep = np.bincount(where, minlength=n_groups) >= max(least, 1)
    rows = rows[keep[where]]
    none = BackgroundMap(np.full(n_groups, np.nan), np.zeros(n_groups, np.int32))
    if len(rows) == 0:
        return none
    where, mag = group[rows], magnitude[rows].astype(np.float32)
    n_stars = np.bincount(where, minlength=n_groups)
    low, high = _group_ranked(mag, where, n_stars, *((part * n_stars).astype(np.int64) for part in _RANGE))
    inside = (mag >= low[where]) & (mag <= high[where])
    where, mag, value = where[inside], mag[inside], delta[rows[inside]]
    if len(where) == 0:
        return none
    bins = np.floor(mag / _BIN).astype(np.int64)
    bins -= bins.min()
    n_bins = int(bins.max()) + 1
    cell = where.astype(np.int64) * n_bins + bins
    y, count = group_medians(value, cell, n_groups * n_bins)
    x = group_medians(mag, cell, n_groups * n_bins)[0]
    spread = MAD_TO_SIGMA * group_medians(np.abs(value - y[cell]), cell, n_groups * n_bins)[0]
    good = (count >= _MIN_PER_BIN) & (spread > 0)
    weight = np.where(good, count / np.square(MEDIAN_ERROR * np.where(good, spread, 1.0)), 0.0)
    slope, intercept = _lines(
        *(each.reshape(n_groups, n_bins) for each in (MAG_PER_LN * 10.0 ** (0.4 * (x - _NJY)), y, weight))
    )
    slope[(weight.reshape(n_groups, n_bins) > 0).sum(axis=1) < _MIN_BINS] = np.nan
    total = intercept if offset is None else intercept + offset
    epsilon = _normalized(slope, total, radii)
    return BackgroundMap(epsilon, np.where(np.isfinite(epsilon), n_stars, 0).astype(np.int32))


def _group_ranked(
    values: npt.NDArray[np.float32],
    group: IntArray,
    count: npt.NDArray[np.int64],
    *ranks: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.float32], ...]:
    """Return the values of given ranks (from 0) in each group, shape (n_groups,) each; NaN for groups without values."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    top = np.uint32(1 << 31)
    # unsigned codes that order as the values do, behind their groups: one sort of integers
    key = (np.asarray(group).astype(np.uint64) << np.uint64(32)) | np.where(bits & top, ~bits, bits | top)
    key.sort()
    some = np.flatnonzero(count)
    first = (np.cumsum(count) - count)[some]
    out = []
    for rank in ranks:
        code = key[first + np.clip(rank[some], 0, count[some] - 1)].astype(np.uint32)
        found = np.full(len(count), np.nan, np.float32)
        found[some] = np.where(code & top, code ^ top, ~code).view(np.float32)
        out.append(found)
    return tuple(out)


def _lines(x: FloatArray, y: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return slope and intercept of the weighted line through each row; NaN without two points."""
    x, y = np.where(weight > 0, x, 0.0), np.where(weight > 0, y, 0.0)
    total = weight.sum(axis=1)
    mean_x, mean_y = ratio((weight * x).sum(axis=1), total), ratio((weight * y).sum(axis=1), total)
    dx = np.where(weight > 0, x - mean_x[:, None], 0.0)
    slope = ratio((weight * dx * y).sum(axis=1), (weight * dx * dx).sum(axis=1))
    return slope, mean_y - slope * mean_x


def _normalized(slope: FloatArray, intercept: FloatArray, radii: ApertureRadii) -> FloatArray:
    """Turn the slope in (2.5/ln 10)/flux into a surface brightness: the outer aperture has c times the light of the inner."""
    if radii.outer == 0.0 and radii.inner == 0.0:
        return slope
    c = 10.0 ** (0.4 * intercept)
    return c * slope / (np.pi * (radii.outer**2 - c * radii.inner**2))

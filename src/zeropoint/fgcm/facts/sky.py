"""How even the calibration is over the sky: maps of HEALPix pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import hpgeom
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from zeropoint.fgcm.model.observations import FitData

__all__ = ["SkyFacts", "choose_nside", "sky_facts"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Stars that a pixel should have, in the median over pixels.
_STARS = 20


@dataclass(frozen=True)
class SkyFacts:
    """Maps of the sky in HEALPix pixels (nested); NaN where nothing is known.

    Parameters
    ----------
    nside
        Of the pixels.
    pixel : int64, shape (n_pix,)
        Pixels with stars, ascending.
    n_star : int64, shape (n_pix,)
        Stars in each.
    halves, halves_err : float64, shape (n_band, n_pix)
        Mean magnitude from one half of the nights minus that from the other, over two; with the band's median removed. As
        large as errors that differ from night to night leave in means over all nights.
    references, references_err : float64, shape (n_band, n_pix)
        Mean magnitude minus reference magnitude, with the band's median removed.
    split
        How the observations were halved, in words.
    """

    nside: int
    pixel: npt.NDArray[np.int64]
    n_star: npt.NDArray[np.int64]
    halves: FloatArray
    halves_err: FloatArray
    references: FloatArray
    references_err: FloatArray
    split: str


def choose_nside(ra: FloatArray, dec: FloatArray, largest: int) -> int:
    """Return the largest power of two, up to a limit, with which pixels have twenty stars in the median, or 1.

    Parameters
    ----------
    ra, dec : float64, shape (n,)
        Degrees.
    largest
        Limit.
    """
    nside = 2 ** int(np.log2(max(largest, 1)))
    while nside > 1:
        pixel = hpgeom.angle_to_pixel(nside, ra, dec, nest=True, lonlat=True, degrees=True)
        if np.median(np.unique(pixel, return_counts=True)[1]) >= _STARS:
            break
        nside //= 2
    return nside


def sky_facts(
    data: FitData,
    magnitude: npt.NDArray[np.floating],
    error: npt.NDArray[np.floating],
    use: BoolArray,
    mean: FloatArray,
    mean_err: FloatArray,
    outlier: BoolArray,
    *,
    map_nside: int = 256,
) -> SkyFacts | None:
    """Return maps of the sky; None if no star is used.

    Parameters
    ----------
    data
        Exposures, observations and stars.
    magnitude : float, shape (n_obs,)
        Standard magnitudes of the model, without gray measured afterwards, which would tie exposures to the means that they make.
    error : float, shape (n_obs,)
        Errors of the observations.
    use : bool, shape (n_obs,)
        Which observations count.
    mean, mean_err : float64, shape (n_star, n_band)
        Mean magnitudes of the stars and their errors.
    outlier : bool, shape (n_star,)
        Stars whose reference magnitudes are not looked at.
    map_nside
        Largest nside.
    """
    o, stars = data.observations, data.stars
    rows = np.flatnonzero(use & np.isfinite(magnitude))
    seen = np.zeros(o.n_star, bool)
    seen[o.star[rows]] = True
    if not seen.any():
        return None
    nside = choose_nside(stars.ra[seen], stars.dec[seen], map_nside)
    of_star = np.asarray(
        hpgeom.angle_to_pixel(nside, stars.ra, stars.dec, nest=True, lonlat=True, degrees=True)
    )
    pixel, n_star = np.unique(of_star[seen], return_counts=True)
    place = np.where(seen, np.searchsorted(pixel, of_star), -1)

    second, split = _second_half(data)
    difference, variance = _half_difference(data, rows, magnitude, error, second)
    halves = _map(0.5 * difference, 0.25 * variance, place, len(pixel))
    variance = np.square(mean_err) + np.square(stars.ref_err, dtype=np.float64)
    references = _map(mean - stars.ref_mag, variance, np.where(outlier, -1, place), len(pixel))
    return SkyFacts(nside, pixel, n_star, *halves, *references, split)


def _second_half(data: FitData) -> tuple[BoolArray, str]:
    """Return which exposures belong to the second half, and how they were halved."""
    exposures = data.exposures
    nights, index = np.unique(exposures.night, return_inverse=True)
    if len(nights) >= 4:
        return np.asarray(index % 2 == 1), "every other night"
    second = np.zeros(len(exposures.visit), bool)
    for band in np.unique(exposures.band):
        # one night is one atmosphere: only exposures can be halved
        chosen = np.flatnonzero(exposures.band == band)
        second[chosen[np.argsort(exposures.mjd[chosen], kind="stable")][1::2]] = True
    return second, "every other exposure"


def _half_difference(
    data: FitData,
    rows: npt.NDArray[np.int64],
    magnitude: npt.NDArray[np.floating],
    error: npt.NDArray[np.floating],
    second: BoolArray,
) -> tuple[FloatArray, FloatArray]:
    """Return the mean magnitude of the second half minus that of the first of each star and band, and its variance."""
    o = data.observations
    size = o.n_star * o.n_band
    weight = 1.0 / np.square(error[rows], dtype=np.float64)
    value = magnitude[rows].astype(np.float64)
    late = second[o.exposure[rows]]
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = []
        for chosen in (late, ~late):
            segment = o.segment[rows[chosen]]
            total = np.bincount(segment, weight[chosen], size)
            parts.append((np.bincount(segment, weight[chosen] * value[chosen], size) / total, 1.0 / total))
    shape = (o.n_star, o.n_band)
    return (parts[0][0] - parts[1][0]).reshape(shape), (parts[0][1] + parts[1][1]).reshape(shape)


def _map(
    value: FloatArray, variance: FloatArray, place: npt.NDArray[np.integer], n_pixel: int
) -> tuple[FloatArray, FloatArray]:
    """Return the mean of stars' values in each pixel, shape (n_band, n_pixel), without the band's median, and its error."""
    maps, errors = [], []
    for band in range(value.shape[1]):
        good = (
            np.isfinite(value[:, band])
            & np.isfinite(variance[:, band])
            & (variance[:, band] > 0)
            & (place >= 0)
        )
        weight = 1.0 / variance[good, band]
        total = np.bincount(place[good], weight, n_pixel)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.bincount(place[good], weight * value[good, band], n_pixel) / total
            known = total > 0
            maps.append(mean - (np.median(mean[known]) if known.any() else 0.0))
            errors.append(np.where(known, 1.0 / np.sqrt(np.where(known, total, 1.0)), np.nan))
    return np.stack(maps), np.stack(errors)

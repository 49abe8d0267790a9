"""What plots and the report of a cycle are made of, in one record of small arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.facts.colors import ColorFacts, color_facts
from zeropoint.fgcm.facts.focal_plane import FocalPlaneFacts, focal_plane_facts
from zeropoint.fgcm.facts.residuals import ResidualFacts, residual_facts, star_residuals
from zeropoint.fgcm.facts.sky import SkyFacts, sky_facts
from zeropoint.fgcm.flags import StarFlag

if TYPE_CHECKING:
    from zeropoint.fgcm.model.observations import FitData, FitObservations

__all__ = ["STAGES", "CycleFacts", "ExposureFacts", "ReferenceFacts", "cycle_facts"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Observations that are looked at; of more, some stars are, which tell as much.
_MOST = 4_000_000
#: Stages at which residuals are looked at, in order.
STAGES = ("nominal", "model", "zeropoints")
#: Fewer observations of reserve stars than this in a band say little: then all stars are looked at.
_MIN_RESERVE = 200


@dataclass(frozen=True)
class ExposureFacts:
    """Exposures, in the order of ``FitData.exposures``; NaN where something is not known.

    Parameters
    ----------
    photometric : bool, shape (n_exp,)
        Whether the fit used it.
    flag : int, shape (n_exp,)
        `zeropoint.fgcm.flags.ExposureFlag`.
    gray, gray_err, gray_rms : float64, shape (n_exp,)
        Gray of the exposure (clouds are below 0), its error, and the scatter of its detectors, mag.
    n_stars : int, shape (n_exp,)
        Stars that the gray is from.
    pwv, o3, tau, alpha : float64, shape (n_exp,)
        Atmosphere of the model: mm, Dobson units, -, -.
    ln_pwv_err, o3_err, ln_tau_err, alpha_err : float64, shape (n_exp,)
        Posterior errors; NaN where the atmosphere is frozen.
    """

    photometric: BoolArray
    flag: npt.NDArray[np.integer]
    gray: FloatArray
    gray_err: FloatArray
    gray_rms: FloatArray
    n_stars: npt.NDArray[np.integer]
    pwv: FloatArray
    o3: FloatArray
    tau: FloatArray
    alpha: FloatArray
    ln_pwv_err: FloatArray
    o3_err: FloatArray
    ln_tau_err: FloatArray
    alpha_err: FloatArray


@dataclass(frozen=True)
class ReferenceFacts:
    """Stars with a reference magnitude in some band.

    Parameters
    ----------
    magnitude, difference, error : float64, shape (n, n_band)
        Mean standard magnitude; it minus the reference magnitude; error of that. NaN without either.
    outlier : bool, shape (n,)
        Left out of the fit as outliers.
    color : float64, shape (n,)
        Color of the stars; NaN: not known.
    """

    magnitude: FloatArray
    difference: FloatArray
    error: FloatArray
    outlier: BoolArray
    color: FloatArray

    @property
    def in_mean(self) -> BoolArray:
        """Whether `mean` has it: it is known, with an error, and no outlier; shape (n, n_band)."""
        return np.asarray(np.isfinite(self.difference) & (self.error > 0) & ~self.outlier[:, None])

    def mean(self, band: int) -> tuple[float, float]:
        """Return the weighted mean difference of a band and its error, mag; NaN without references.

        Parameters
        ----------
        band
            Number of the band.

        Notes
        -----
        The fit takes references with these weights; a median is noisier by half where their errors differ. Where references
        scatter by more than their errors, the error grows by as much.
        """
        known = self.in_mean[:, band]
        if not known.any():
            return float("nan"), float("nan")
        value, weight = self.difference[known, band], 1.0 / np.square(self.error[known, band])
        mean = float(np.sum(weight * value) / weight.sum())
        chi2 = float(np.sum(weight * np.square(value - mean))) / max(len(value) - 1, 1)
        return mean, float(np.sqrt(max(chi2, 1.0) / weight.sum()))


@dataclass(frozen=True)
class CycleFacts:
    """What plots and the report of a cycle are made of.

    Parameters
    ----------
    bands, detectors, physical_filters
        Names, in the order of the axes.
    visit, exposure_band, night, mjd, airmass : shape (n_exp,)
        Of the exposures; MJD in days UTC, airmass at the boresight.
    exposures
        What the cycle found out about them.
    of_reserve : bool, shape (n_band,)
        Whether ``residuals`` are of reserve stars; else of all stars of the fit, for want of them.
    residuals
        By stage.
    thinned
        One star in so many is behind residuals, color, focal plane and the halves on the sky.
    color, focal_plane, sky, references
        See there; None where nothing is known: color in data of one band, references where there are none.
    """

    bands: tuple[str, ...]
    detectors: tuple[int, ...]
    physical_filters: tuple[str, ...]
    visit: npt.NDArray[np.int64]
    exposure_band: npt.NDArray[np.integer]
    night: npt.NDArray[np.integer]
    mjd: FloatArray
    airmass: FloatArray
    exposures: ExposureFacts
    of_reserve: BoolArray
    residuals: tuple[ResidualFacts, ...]
    thinned: int
    color: ColorFacts | None
    focal_plane: FocalPlaneFacts
    sky: SkyFacts | None
    references: ReferenceFacts | None


def cycle_facts(
    data: FitData,
    exposures: ExposureFacts,
    stages: Mapping[str, npt.NDArray[np.floating]],
    mean: npt.NDArray[np.floating],
    mean_err: npt.NDArray[np.floating],
    *,
    good: BoolArray,
    reserve: BoolArray,
    error: npt.NDArray[np.floating],
    detector_size: tuple[float, float],
    star_flag: npt.NDArray[np.integer] | None = None,
    joint_gray: bool = False,
    color_bands: tuple[str, str] | None = None,
    map_nside: int = 256,
    largest_error: float = 0.01,
) -> CycleFacts:
    """Return what plots and report are made of.

    Parameters
    ----------
    data
        Exposures, observations and stars.
    exposures
        What the cycle found out about the exposures.
    stages
        Stage (see `STAGES`) -> standard magnitudes of all observations, shape (n_obs,); ``model`` is needed.
    mean, mean_err : float, shape (n_star, n_band)
        Mean magnitudes of the stars and their errors; NaN without one.
    good, reserve : bool, shape (n_obs,)
        Good observations in photometric exposures, of stars in the fit and of reserve stars.
    error : float, shape (n_obs,)
        Errors of the observations as the fit took them, mag.
    detector_size
        Width and height of a detector, pixels.
    star_flag : int, shape (n_star,)
        `zeropoint.fgcm.flags.StarFlag` after the cycle; None: those of the star list.
    joint_gray
        Whether the fit had a gray term of each exposure: then it is part of the model for the halves on the sky too.
    color_bands
        The two bands of the stars' color; None, or bands that there are not: the first and the third band, or the second.
    map_nside
        Largest HEALPix nside of maps.
    largest_error
        Largest error of bright observations, mag.
    """
    o = data.observations
    bands = tuple(data.exposures.bands)
    means, errors = np.asarray(mean, np.float64), np.asarray(mean_err, np.float64)
    flag = data.stars.flag if star_flag is None else star_flag
    outlier = (flag & int(StarFlag.REFSTAR_OUTLIER)) != 0
    pair = _color_bands(bands, color_bands)
    color = _star_colors(means, bands, pair)
    thinned = -(-len(o) // _MOST)
    if thinned > 1:
        kept = np.arange(o.n_star)[o.star] % thinned == 0
        good, reserve = good & kept, reserve & kept
    looked_at, of_reserve = _reserve_or_all(good, reserve, o.band, len(bands))
    use = good | reserve

    model = stages["model"]
    # with the exposures' gray: what is left varies within exposures
    level = model + np.nan_to_num(exposures.gray).astype(np.float32)[o.exposure]
    residual = _star_residuals(o, level, error, use)
    airmass, band = data.exposures.airmass, data.exposures.band
    return CycleFacts(
        bands,
        tuple(data.exposures.detectors),
        tuple(data.exposures.physical_filters),
        data.exposures.visit,
        band,
        data.exposures.night,
        data.exposures.mjd,
        airmass,
        exposures,
        of_reserve,
        tuple(
            residual_facts(name, o, stages[name], error, looked_at, means, largest_error=largest_error)
            for name in STAGES
            if name in stages
        ),
        thinned,
        None if pair is None else color_facts(o, residual, error, use, color, airmass, band, pair),
        focal_plane_facts(data, residual, error, use, detector_size),
        sky_facts(
            data, level if joint_gray else model, error, use, means, errors, outlier, map_nside=map_nside
        ),
        _references(data, means, errors, color, outlier),
    )


def _star_residuals(
    o: FitObservations,
    magnitude: npt.NDArray[np.floating],
    error: npt.NDArray[np.floating],
    use: BoolArray,
) -> npt.NDArray[np.float32]:
    """Return the residuals of some observations from the means of their stars, shape (n_obs,); NaN for the others."""
    residual = np.full(len(o), np.nan, np.float32)
    rows = np.flatnonzero(use & np.isfinite(magnitude))
    residual[rows] = star_residuals(
        o.segment[rows], magnitude[rows].astype(np.float64), error[rows].astype(np.float64), o.n_segment
    )[0]
    return residual


def _color_bands(bands: tuple[str, ...], asked: tuple[str, str] | None) -> tuple[str, str] | None:
    """Return the two bands of a color, or None if there is one band."""
    if asked is not None and asked[0] != asked[1] and set(asked) <= set(bands):
        return asked
    if len(bands) < 2:
        return None
    return bands[0], bands[min(2, len(bands) - 1)]


def _star_colors(mean: FloatArray, bands: tuple[str, ...], pair: tuple[str, str] | None) -> FloatArray:
    """Return the colors of the stars; NaN without a pair of bands."""
    if pair is None:
        return np.full(len(mean), np.nan)
    return mean[:, bands.index(pair[0])] - mean[:, bands.index(pair[1])]


def _reserve_or_all(
    good: BoolArray, reserve: BoolArray, band: npt.NDArray[np.integer], n_band: int
) -> tuple[BoolArray, BoolArray]:
    """Return which observations are looked at, and in which bands they are of reserve stars alone."""
    enough = np.bincount(band[reserve], minlength=n_band) >= _MIN_RESERVE
    return reserve | (good & ~enough[band]), enough


def _references(
    data: FitData, mean: FloatArray, mean_err: FloatArray, color: FloatArray, outlier: BoolArray
) -> ReferenceFacts | None:
    """Return the comparison with reference magnitudes; None if no star has one."""
    stars = data.stars
    both = np.isfinite(stars.ref_mag) & np.isfinite(mean)
    rows = np.flatnonzero(both.any(axis=1))
    if not len(rows):
        return None
    error = np.sqrt(np.square(mean_err[rows]) + np.square(stars.ref_err[rows], dtype=np.float64))
    return ReferenceFacts(mean[rows], mean[rows] - stars.ref_mag[rows], error, outlier[rows], color[rows])

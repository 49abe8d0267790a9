"""The observations and stars of a fit, star by star, and what the fit reads of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.accounting import Accounting
from zeropoint.fgcm.model.exposures import FitExposures
from zeropoint.fgcm.model.rows import count_chosen

__all__ = ["FitData", "FitObservations", "FitStars"]

Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FitObservations:
    """The observations by star, band, visit and detector; arrays have the shape (n_obs,) where nothing else is said.

    A *segment* is a star in a band: segment ``star * n_band + band``. 34 bytes per observation, 38 with background corrections.

    Parameters
    ----------
    start : int64, shape (n_star * n_band + 1,)
        The observations of segment s are ``start[s]`` to ``start[s + 1]``.
    ec : int32
        Exposure (row of `FitExposures`) times number of detectors, plus position of the detector.
    secant : float32
        Secant of the zenith distance; 1 where unknown.
    t : float32
        Place between the nodes of the exposure's airmass, 0 to 1.
    mag : float32
        instMag + deltaMagBkg, no other term. Not finite in observations flagged BAD_MAG.
    err : float32
        Error, with the floor in quadrature. Not finite or not positive in observations flagged BAD_ERROR.
    x, y : float32
        Pixel; NaN if unknown.
    delta_aper : float32
        Magnitude in the inner aperture minus that in the outer; NaN if unknown.
    delta_mag_bkg : float32, or None
        Correction of the local background that is in ``mag``; None where there is none.
    flag : uint16
        `zeropoint.fgcm.flags.ObservationFlag`.
    n_det, n_band, n_star
        Numbers of detectors, bands and stars.
    """

    start: npt.NDArray[np.int64]
    ec: Int32Array
    secant: Float32Array
    t: Float32Array
    mag: Float32Array
    err: Float32Array
    x: Float32Array
    y: Float32Array
    delta_aper: Float32Array
    flag: npt.NDArray[np.uint16]
    n_det: int
    n_band: int
    n_star: int
    delta_mag_bkg: Float32Array | None = None

    def __len__(self) -> int:
        return len(self.ec)

    @property
    def n_segment(self) -> int:
        """Number of stars times number of bands."""
        return self.n_star * self.n_band

    @property
    def count(self) -> Int32Array:
        """Number of observations of each star and band, shape (n_star, n_band)."""
        return np.diff(self.start).astype(np.int32).reshape(self.n_star, self.n_band)

    @cached_property
    def segment(self) -> Int32Array:
        """Segment of each observation."""
        return np.repeat(np.arange(self.n_segment, dtype=np.int32), np.diff(self.start))

    @property
    def star(self) -> Int32Array:
        """Row of each observation's star."""
        return self.segment // np.int32(self.n_band)

    @property
    def band(self) -> Int32Array:
        """Band of each observation."""
        return self.segment % np.int32(self.n_band)

    @property
    def exposure(self) -> Int32Array:
        """Row of each observation's exposure."""
        return self.ec // np.int32(self.n_det)

    @property
    def detector(self) -> Int32Array:
        """Position of each observation's detector."""
        return self.ec % np.int32(self.n_det)

    def select(self, used: npt.NDArray[np.bool_]) -> FitObservations:
        """Return some of the observations; stars and bands keep their numbers.

        Parameters
        ----------
        used : bool, shape (n_obs,)
            Which.
        """
        start = np.concatenate([[0], np.cumsum(count_chosen(self.start, used), dtype=np.int64)])
        names = ["ec", "secant", "t", "mag", "err", "x", "y", "delta_aper", "flag"]
        if self.delta_mag_bkg is not None:
            names.append("delta_mag_bkg")
        return replace(self, start=start, **{name: getattr(self, name)[used] for name in names})


@dataclass(frozen=True)
class FitStars:
    """The stars, by fgcm_id.

    Parameters
    ----------
    fgcm_id, isolated_star_id : int64, shape (n_star,)
        Ids; the second is -1 where there is none.
    ra, dec : float64, shape (n_star,)
        Degrees.
    ref_mag, ref_err : float32, shape (n_star, n_band)
        Reference magnitude and its error; NaN: none.
    flag : int32, shape (n_star,)
        `zeropoint.fgcm.flags.StarFlag`.
    n_psf_candidate : int32, shape (n_star, n_band)
        How often it was a candidate for the PSF.
    catalog_slope : float32, shape (n_star, n_band), optional
        Slope of the spectrum that magnitudes of the catalogue of references tell, 1/Angstrom; NaN: unknown.
    """

    fgcm_id: npt.NDArray[np.int64]
    isolated_star_id: npt.NDArray[np.int64]
    ra: npt.NDArray[np.float64]
    dec: npt.NDArray[np.float64]
    ref_mag: Float32Array
    ref_err: Float32Array
    flag: Int32Array
    n_psf_candidate: Int32Array
    catalog_slope: Float32Array | None = None

    def __len__(self) -> int:
        return len(self.fgcm_id)

    @property
    def has_references(self) -> bool:
        """Whether any star has a reference magnitude."""
        return bool(np.isfinite(self.ref_mag).any())


@dataclass(frozen=True)
class FitData:
    """What a fit is made of.

    Parameters
    ----------
    exposures, observations, stars
        The survey.
    accounting
        Stages ``fit_visits``, ``fit_observations``, ``fit_stars`` and ``fit_references``.
    """

    exposures: FitExposures
    observations: FitObservations
    stars: FitStars
    accounting: Accounting

"""What all cycles share: the star list in memory, the model, and how values of stars and exposures reach observations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.fgcm.model.model import PhotometricModel
from zeropoint.fgcm.model.observations import FitData, FitObservations
from zeropoint.fgcm.model.passband_source import PassbandSource
from zeropoint.fgcm.model.rows import chosen_rows, count_chosen, take
from zeropoint.fgcm.terms.detector_positions import center_secants, detector_positions, detector_secants
from zeropoint.fgcm.terms.robust import Groups

__all__ = ["Survey"]

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Survey:
    """The data of all cycles.

    Parameters
    ----------
    data
        Exposures, observations and stars.
    passbands
        Integrals.
    model
        Of the exposures.
    fit_band
        Bands that take part in the fit, shape (n_band,).
    latitude
        Of the site, degrees.
    focal_plane
        The camera; None: where its detectors are is not known.
    threads
        Of sweeps.
    """

    data: FitData
    passbands: PassbandSource
    model: PhotometricModel
    fit_band: BoolArray
    latitude: float
    focal_plane: FocalPlane | None
    threads: int

    @property
    def n_exp(self) -> int:
        """Number of exposures."""
        return len(self.data.exposures)

    @property
    def n_band(self) -> int:
        """Number of bands."""
        return self.data.exposures.n_band

    @property
    def n_star(self) -> int:
        """Number of stars."""
        return len(self.data.stars)

    @cached_property
    def in_fit_band(self) -> BoolArray:
        """Whether an exposure is in a band of the fit, shape (n_exp,)."""
        band = self.data.exposures.band
        return np.asarray((band >= 0) & self.fit_band[np.maximum(band, 0)])

    @cached_property
    def star_counts(self) -> npt.NDArray[np.int64]:
        """Number of observations of each star."""
        start = self.data.observations.start[:: self.n_band]
        return np.diff(start)

    @cached_property
    def segment_counts(self) -> npt.NDArray[np.int64]:
        """Number of observations of each star-band."""
        return np.diff(self.data.observations.start)

    def of_star[T: np.generic](self, values: npt.NDArray[T]) -> npt.NDArray[T]:
        """Return values of stars for their observations, shape (n_obs,)."""
        return np.repeat(values, self.star_counts)

    def of_segment[T: np.generic](self, values: npt.NDArray[T]) -> npt.NDArray[T]:
        """Return values of star-bands, of any shape with as many elements, for their observations."""
        return np.repeat(values.ravel(), self.segment_counts)

    def of_exposure[T: np.generic](self, values: npt.NDArray[T]) -> npt.NDArray[T]:
        """Return values of exposures for their observations."""
        return self.of_detector(np.repeat(values, self.data.observations.n_det))

    def of_detector[T: np.generic](self, values: npt.NDArray[T]) -> npt.NDArray[T]:
        """Return values of shape (n_exp, n_det) for the observations."""
        return take(values.ravel(), self.data.observations.ec, values.dtype, self.threads)

    def per_segment(self, chosen: BoolArray) -> npt.NDArray[np.int32]:
        """Return how many observations of each star-band are chosen, shape (n_star, n_band)."""
        return count_chosen(self.data.observations.start, chosen, self.threads).reshape(
            self.n_star, self.n_band
        )

    def chosen(self, flag: npt.NDArray[np.uint16], segments: BoolArray, exposures: BoolArray) -> BoolArray:
        """Return the observations without a flag of some star-bands and exposures, shape (n_obs,)."""
        o = self.data.observations
        place = np.repeat(exposures, o.n_det)
        return chosen_rows(o.start, o.ec, flag, segments.ravel(), place, self.threads)

    @cached_property
    def exposure(self) -> npt.NDArray[np.int32]:
        """Exposure of each observation."""
        return self.data.observations.exposure

    @cached_property
    def detectors(self) -> Groups:
        """Observations by exposure and detector."""
        e = self.data.exposures
        return Groups.of(self.data.observations.ec, len(e) * e.n_det)

    @cached_property
    def band(self) -> npt.NDArray[np.int8]:
        """Band of each observation."""
        numbers = np.tile(np.arange(self.n_band, dtype=np.int8), self.n_star)
        return np.repeat(numbers, self.segment_counts)

    def with_magnitudes(self, mag: SingleArray) -> FitObservations:
        """Return the observations with corrected magnitudes."""
        observations = self.data.observations
        return observations if mag is observations.mag else replace(observations, mag=mag)

    @cached_property
    def detector_size(self) -> FloatArray:
        """Columns and rows of each detector, shape (n_det, 2): of the camera, else as far as stars were seen on any."""
        detectors = self.data.exposures.detectors
        if self.focal_plane is not None:
            by_id = {each.id: each for each in self.focal_plane.detectors}
            return np.array([[by_id[d].width, by_id[d].height] for d in detectors], float)
        observations = self.data.observations
        seen = [np.nanmax(values, initial=0.0) for values in (observations.x, observations.y)]
        return np.tile(np.ceil(np.array(seen, float) + 0.5), (len(detectors), 1))

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows that hold every detector: the domain of fields within detectors."""
        width, height = self.detector_size.max(axis=0)
        return int(width), int(height)

    @cached_property
    def secants(self) -> FloatArray:
        """Secant of the zenith distance at each detector's center, shape (n_exp, n_det)."""
        e, o = self.data.exposures, self.data.observations
        observed = center_secants(o.secant, o.x, o.y, o.ec, self.detector_size, len(e))
        positions = None
        if self.focal_plane is not None:
            by_id = {each.id: each for each in self.focal_plane.detectors}
            # a camera that stars do not place on the focal plane has no scale
            placed = np.array([np.isfinite(by_id[d].pixel_scale) for d in e.detectors])
            x, y = (
                np.where(placed, [getattr(by_id[d], name) for d in e.detectors], np.nan)
                for name in ("offset_x", "offset_y")
            )
            positions = detector_positions(x, y, ra=e.ra, dec=e.dec, rotation=e.rotation)
        return detector_secants(
            positions, ra=e.ra, hour_angle=e.hour_angle, latitude=self.latitude,
            observed=observed, boresight=e.airmass,
        )  # fmt: skip

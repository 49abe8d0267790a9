"""The camera of a simulated survey: where its detectors lie, their throughput, and what their flat fields get wrong."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.wcs import SkyWcs, gnomonic, inverse_gnomonic
from zeropoint.simulation.fgcm_physics import FloatArray, Physics
from zeropoint.simulation.fgcm_settings import FgcmSurveySettings

__all__ = ["SurveyCamera", "draw_flats", "draw_throughputs", "flat_field"]

_ARCSEC = np.pi / 648000.0
#: Cubic distortion: the scale grows by this part at the middle of the camera's edge.
_DISTORTION = 2e-3
#: Shift of the filter's edges from the centre of the camera to the middle of its edge, part of the wavelength.
_FILTER_SHIFT = 6e-4
#: Scatter of the detectors' chromatic slopes: change of throughput over a change of wavelength by its own size.
_CHROMATIC_SCATTER = 0.08
#: Scatter of the detectors' gray throughput, part.
_GRAY_SCATTER = 0.01


@dataclass(frozen=True)
class SurveyCamera:
    """Square detectors in rows of a square, numbered from the lower left, with a cubic distortion.

    Parameters
    ----------
    n_side, size, gap
        Detectors along a side, pixels along a detector, and between detectors.
    pixel_scale
        Arcsec per pixel at the centre.

    Notes
    -----
    Positions in the focal plane are in pixels from the centre of the camera.
    """

    n_side: int
    size: int
    gap: int
    pixel_scale: float

    @classmethod
    def of(cls, settings: FgcmSurveySettings) -> SurveyCamera:
        """Return the camera of a survey."""
        return cls(settings.n_side, settings.detector_size, settings.gap, settings.pixel_scale)

    @property
    def half(self) -> float:
        """Half the side of the camera, pixels."""
        return 0.5 * (self.n_side * self.size + (self.n_side - 1) * self.gap)

    @cached_property
    def origins(self) -> FloatArray:
        """Focal-plane position of the first pixel of each detector, shape (n_detectors, 2)."""
        start = np.arange(self.n_side) * (self.size + self.gap) - self.half + 0.5
        return np.array([(x, y) for y in start for x in start])

    @cached_property
    def centers(self) -> FloatArray:
        """Focal-plane position of the centre of each detector, shape (n_detectors, 2)."""
        return self.origins + 0.5 * (self.size - 1)

    def find(self, u: FloatArray, v: FloatArray) -> tuple[npt.NDArray[np.int32], FloatArray, FloatArray]:
        """Return (detector or -1, x, y) of focal-plane positions.

        Parameters
        ----------
        u, v : float64, shape (n,)
            Focal-plane positions, pixels from the boresight.

        Returns
        -------
        detector : int32, shape (n,)
            -1: beside all detectors.
        x, y : float64, shape (n,)
            Pixels of the detector.
        """
        pitch = self.size + self.gap
        column, row = (np.floor((w + self.half) / pitch) for w in (u, v))
        x, y = u + self.half - 0.5 - column * pitch, v + self.half - 0.5 - row * pitch
        inside = (column >= 0) & (column < self.n_side) & (row >= 0) & (row < self.n_side)
        inside &= (x < self.size - 0.5) & (y < self.size - 0.5)
        return np.where(inside, row * self.n_side + column, -1).astype(np.int32), x, y

    def to_sky(
        self, u: FloatArray, v: FloatArray, ra: float, dec: float, rotation: float
    ) -> tuple[FloatArray, FloatArray]:
        """Return (ra, dec) of focal-plane positions for a boresight and the position angle of +y, all in radians.

        Parameters
        ----------
        u, v : float64, shape (n,)
            Focal-plane positions, pixels from the boresight.
        ra, dec, rotation
            Boresight and position angle, radians.

        Returns
        -------
        ra, dec : float64, shape (n,)
            Radians.
        """
        stretch = (1.0 + _DISTORTION * (u**2 + v**2) / self.half**2) * self.pixel_scale * _ARCSEC
        cos, sin = np.cos(rotation), np.sin(rotation)
        return inverse_gnomonic(stretch * (v * sin - u * cos), stretch * (v * cos + u * sin), ra, dec)

    def from_sky(
        self, ra: FloatArray, dec: FloatArray, ra0: float, dec0: float, rotation: float
    ) -> tuple[FloatArray, FloatArray]:
        """Return the focal-plane positions of (ra, dec), the reverse of `to_sky`.

        Parameters
        ----------
        ra, dec : float64, shape (n,)
            Positions, radians.
        ra0, dec0, rotation
            Boresight and position angle, radians.

        Returns
        -------
        u, v : float64, shape (n,)
            Pixels from the boresight.
        """
        xi, eta = (w / (self.pixel_scale * _ARCSEC) for w in gnomonic(ra, dec, ra0, dec0))
        cos, sin = np.cos(rotation), np.sin(rotation)
        u1, v1 = eta * sin - xi * cos, eta * cos + xi * sin
        target = (u1**2 + v1**2) / self.half**2
        shrink = np.ones_like(target)
        for _ in range(4):  # converges by a factor 1e-2 each time
            shrink = 1.0 / (1.0 + _DISTORTION * target * shrink**2)
        return u1 * shrink, v1 * shrink

    def relative_area(self, u: FloatArray, v: FloatArray) -> FloatArray:
        """Return the sky that a pixel covers, relative to the square of the detectors' median pixel scale.

        Parameters
        ----------
        u, v : float64, shape (n,)
            Focal-plane positions, pixels from the boresight.
        """
        scales = np.sqrt(self._area(*self.centers.T))
        return self._area(u, v) / np.median(scales) ** 2

    def _area(self, u: FloatArray, v: FloatArray) -> FloatArray:
        r2 = _DISTORTION * (u**2 + v**2) / self.half**2
        tangent = (self.pixel_scale * _ARCSEC) ** 2 * (u**2 + v**2)
        # the tangent plane is cos^3 of the distance larger than the sky
        return (1.0 + r2) * (1.0 + 3.0 * r2) * (1.0 + tangent) ** -1.5

    def wcs(self, detector: int, ra: float, dec: float, rotation: float) -> SkyWcs:
        """Return the WCS of a detector; boresight and rotation as in `to_sky`.

        Parameters
        ----------
        detector
            Which one.
        ra, dec, rotation
            Boresight and position angle, radians.
        """
        s, cos, sin = self.pixel_scale * _ARCSEC, np.cos(rotation), np.sin(rotation)
        cubic = np.zeros((2, 4, 4))  # of u and of v, [v power, u power], in units of half
        cubic[0, 0, 1], cubic[1, 1, 0] = 1.0, 1.0
        cubic[0, 0, 3] = cubic[0, 2, 1] = cubic[1, 1, 2] = cubic[1, 3, 0] = _DISTORTION
        cubic *= s * self.half
        x0, y0 = self.origins[detector]
        return SkyWcs(
            ra, dec, np.stack([cubic[1] * sin - cubic[0] * cos, cubic[1] * cos + cubic[0] * sin]),
            -float(x0), -float(y0), self.half,
        )  # fmt: skip


def draw_throughputs(settings: FgcmSurveySettings, physics: Physics, rng: np.random.Generator) -> FloatArray:
    """Return the throughput of each band and detector, shape (n_bands, n_detectors, n_lam).

    The edges of the filters move to the blue towards the edge of the camera, and every detector has its own slope with
    wavelength and its own gray factor.

    Parameters
    ----------
    settings
        Settings of the survey.
    physics
        Mean throughput of each band, and its wavelengths.
    rng
        Where chance comes from.
    """
    camera = SurveyCamera.of(settings)
    radius2 = np.sum(camera.centers**2, axis=1) / camera.half**2
    gray = np.exp(rng.normal(0.0, _GRAY_SCATTER, settings.n_detectors))
    slope = rng.normal(0.0, _CHROMATIC_SCATTER, settings.n_detectors)
    wavelength = physics.wavelength
    result = np.empty((len(settings.bands), settings.n_detectors, len(wavelength)))
    for b, band in enumerate(settings.bands):
        curve = physics.throughput[band]
        middle = np.sum(curve * wavelength) / np.sum(curve)
        for d in range(settings.n_detectors):
            moved = np.interp(wavelength * (1.0 + _FILTER_SHIFT * radius2[d]), wavelength, curve)
            result[b, d] = moved * gray[d] * (1.0 + slope[d] * (wavelength - middle) / middle)
    return np.clip(result, 0.0, 1.0)


def draw_flats(settings: FgcmSurveySettings, rng: np.random.Generator) -> FloatArray:
    """Return the errors of the flat fields, magnitudes: Chebyshev coefficients, shape (n_bands, n_detectors, 3, 3).

    Terms ``[y, x]`` up to second order in all on [-1, 1] over the detector. The mean over the detectors of each band is
    removed from the constant terms: it is part of the throughput.

    Parameters
    ----------
    settings
        Settings of the survey.
    rng
        Where chance comes from.
    """
    shape = (len(settings.bands), settings.n_detectors, 3, 3)
    order = np.add.outer(np.arange(3), np.arange(3))
    flats = rng.normal(0.0, settings.flat_structure, shape) * (order <= 2)
    flats[..., 0, 0] = rng.normal(0.0, settings.flat_constant, shape[:2])
    flats[..., 0, 0] -= flats[..., 0, 0].mean(axis=1, keepdims=True)
    return flats


def flat_field(
    flats: FloatArray, size: int, detector: npt.NDArray[np.int32], x: FloatArray, y: FloatArray
) -> FloatArray:
    """Return by how many magnitudes sources are too faint for the flat field's error, from one band's coefficients.

    Parameters
    ----------
    flats : float64, shape (n_detectors, 3, 3)
        Of the band, from `draw_flats`.
    size
        Side of a detector, pixels.
    detector, x, y : shape (n,)
        Where the sources are, pixels of their detectors.

    Returns
    -------
    magnitudes : float64, shape (n,)
        Positive: too faint.
    """
    one, u, v = np.ones_like(x), (x + 0.5) / (0.5 * size) - 1.0, (y + 0.5) / (0.5 * size) - 1.0
    tu, tv = (np.stack([one, w, 2.0 * w**2 - 1.0]) for w in (u, v))
    return np.asarray(np.einsum("nji,jn,in->n", flats[detector], tv, tu, optimize=True))

"""TAN-SIP approximations of WCSs that FITS headers cannot hold, and how good they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import astropy.wcs
import lsst.pex.config as pexConfig
import numpy as np
from lsst.images import Box, SkyProjection
from numpy.polynomial import polynomial

from zeropoint.datamodel.wcs import SkyWcs, angular_separation, gnomonic

__all__ = ["FitSipApproximation", "FitSipApproximationConfig", "SipApproximation"]


class FitSipApproximationConfig(pexConfig.Config):
    """Fields and defaults of FitSipApproximationTask."""

    grid_spacing = pexConfig.RangeField[float](
        doc="Spacing of the grid on which the WCS is fitted and compared, pixels; less if it does not fit evenly.",
        default=32.0,
        min=0.0,
        inclusiveMin=False,
    )
    order = pexConfig.RangeField[int](doc="Order of the SIP polynomials.", default=5, min=1, max=9)


@dataclass(frozen=True)
class SipApproximation:
    """A WCS with the FITS form that stands for it.

    Parameters
    ----------
    projection
        The WCS; the same object where a FITS header holds it exactly, or an approximation came with it.
    is_exact
        Whether a FITS header holds it exactly.
    delta_sky_rad
        Largest distance on the sky of the two, radians.
    delta_pixel
        Largest distance in pixels of the header's inverse polynomials from the pixels that the WCS was given.
    """

    projection: SkyProjection[Any]
    is_exact: bool
    delta_sky_rad: float
    delta_pixel: float


class FitSipApproximation:
    """Give WCSs a form that FITS headers can hold.

    Parameters
    ----------
    config
        Configuration.
    """

    ConfigClass = FitSipApproximationConfig

    def __init__(self, config: FitSipApproximationConfig | None = None) -> None:
        self.config = config if config is not None else FitSipApproximationConfig()

    def run(self, projection: SkyProjection[Any], bbox: Box) -> SipApproximation:
        """Return a WCS with its FITS form, fitted where it has none.

        Parameters
        ----------
        projection
            WCS of an image.
        bbox
            Pixels of the image, beginning at (0, 0).

        Notes
        -----
        The differences are measured on a grid between the points of the fit.
        """
        projection, fits_wcs, is_exact = self._with_fits_form(projection, bbox)
        x, y = self._grid(bbox, between=True)
        ra, dec = _to_sky(projection, x, y)
        sky = fits_wcs.all_pix2world(np.stack([x, y], axis=1), 0)
        delta_sky = angular_separation(ra, dec, *np.deg2rad(sky).T)
        # what a reader does who trusts the inverse polynomials of the header
        plane = fits_wcs.wcs_world2pix(np.rad2deg(np.stack([ra, dec], axis=1)), 0)
        inverse = plane + _inverse_distortion(fits_wcs, plane - (fits_wcs.wcs.crpix - 1.0))
        delta_pixel = np.hypot(inverse[:, 0] - x, inverse[:, 1] - y)
        return SipApproximation(projection, is_exact, float(delta_sky.max()), float(delta_pixel.max()))

    def _with_fits_form(
        self, projection: SkyProjection[Any], bbox: Box
    ) -> tuple[SkyProjection[Any], astropy.wcs.WCS, bool]:
        exact = projection.as_fits_wcs(bbox)
        if exact is not None:
            return projection, exact, True
        if projection.fits_approximation is None:
            fitted = SkyProjection.from_fits_wcs(self._fit(projection, bbox), projection.pixel_frame)
            projection = SkyProjection(projection.pixel_to_sky_transform, fitted.pixel_to_sky_transform)
        return projection, projection.as_fits_wcs(bbox, allow_approximation=True), False

    def _fit(self, projection: SkyProjection[Any], bbox: Box) -> astropy.wcs.WCS:
        """Return the TAN-SIP WCS about the middle of the image that is nearest in the sense of least squares."""
        height, width = bbox.y.size, bbox.x.size
        x0, y0 = 0.5 * (width - 1), 0.5 * (height - 1)
        (ra0,), (dec0,) = _to_sky(projection, np.array([x0]), np.array([y0]))
        x, y = self._grid(bbox)
        xi, eta = gnomonic(*_to_sky(projection, x, y), ra0, dec0)
        fitted = SkyWcs.fit(
            x,
            y,
            xi,
            eta,
            ra0=float(ra0),
            dec0=float(dec0),
            x_ref=x0,
            y_ref=y0,
            scale=0.5 * max(width, height),
            order=self.config.order,
        )
        return fitted.to_astropy((height, width))

    def _grid(self, bbox: Box, *, between: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return the positions of the grid, flat: from edge to edge of the image, or between those points."""
        axes = []
        for side in (bbox.x.size, bbox.y.size):
            n = math.ceil(side / self.config.grid_spacing) + 1
            points = np.linspace(-0.5, side - 0.5, n)
            axes.append(0.5 * (points[1:] + points[:-1]) if between else points)
        gx, gy = np.meshgrid(*axes)
        return gx.ravel(), gy.ravel()


def _to_sky(projection: SkyProjection[Any], x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sky = projection.pixel_to_sky(x=x, y=y)
    return np.asarray(sky.ra.rad), np.asarray(sky.dec.rad)


def _inverse_distortion(fits_wcs: astropy.wcs.WCS, plane: np.ndarray) -> np.ndarray:
    """Return what the inverse SIP polynomials add to positions relative to the reference pixel, shape (n, 2)."""
    if fits_wcs.sip is None:
        return np.zeros_like(plane)
    u, v = plane.T
    return np.stack([polynomial.polyval2d(u, v, c) for c in (fits_wcs.sip.ap, fits_wcs.sip.bp)], axis=1)

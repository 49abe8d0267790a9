"""The true PSF: a sheared Moffat whose size and shape are quadratics of position, drawn by GalSim."""

from __future__ import annotations

from dataclasses import dataclass

import galsim
import numpy as np

from zeropoint.simulation.settings import SimulationSettings

__all__ = ["TruthPsf"]


@dataclass(frozen=True)
class TruthPsf:
    """The noiseless PSF of a simulated exposure.

    Parameters
    ----------
    settings
        The exposure's settings.
    """

    settings: SimulationSettings

    def parameters(self, x: float, y: float) -> tuple[float, float, float]:
        """Return (FWHM in pixels, e1, e2) at a pixel position; e = (a^2 - b^2)/(a^2 + b^2)."""
        s = self.settings
        u, v = s.field_coordinates(x, y)
        powers = (u, v, u * u, u * v, v * v)
        size, d1, d2 = (
            s.psf_variation * sum(c * p for c, p in zip(terms, powers)) for terms in s.psf_pattern
        )
        fwhm = s.fwhm_arcsec / s.pixel_scale * (1.0 + size)
        return fwhm, s.psf_ellipticity + d1, 0.5 * s.psf_ellipticity + d2

    def profile(self, x: float, y: float) -> galsim.GSObject:
        """Return the effective PSF at a position as a GalSim object of unit flux, pixels as units."""
        fwhm, e1, e2 = self.parameters(x, y)
        moffat = galsim.Moffat(beta=self.settings.moffat_beta, fwhm=fwhm).shear(e1=e1, e2=e2)
        if self.settings.pixel_response:
            return galsim.Convolve([moffat, galsim.Pixel(1.0)])
        return moffat

    def stamp(self, x: float, y: float, size: int, *, centered: bool = False) -> np.ndarray:
        """Return the PSF of a unit-flux star on the stamp around its pixel (sum < 1: wings lie outside).

        Parameters
        ----------
        x, y
            Pixel position.
        size
            Odd stamp side.
        centered
            Put the star on the middle pixel's centre instead of its true sub-pixel place.

        Returns
        -------
        stamp : float64, shape (size, size)
        """
        dx, dy = (0.0, 0.0) if centered else (x - np.floor(x + 0.5), y - np.floor(y + 0.5))
        image = galsim.Image(size, size, dtype=np.float64)
        self.profile(x, y).drawImage(image=image, scale=1.0, offset=(dx, dy), method="no_pixel")
        return image.array.copy()

    def aperture_fraction(self, x: float, y: float, radius: float) -> float:
        """Return the fraction of the flux in pixels whose centre is inside a circle around the star."""
        size = 2 * int(radius + 2) + 1
        stamp = self.stamp(x, y, size)
        r = np.arange(size) - size // 2
        dx, dy = x - np.floor(x + 0.5), y - np.floor(y + 0.5)
        return float(stamp[np.hypot(r[None, :] - dx, r[:, None] - dy) <= radius].sum())

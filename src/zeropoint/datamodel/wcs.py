"""A world coordinate system: the gnomonic projection of a polynomial of the pixel position.

TAN and TAN-SIP headers are represented exactly; any other projection (TPV, ...) is fitted over the image and
the residual is stated.  Everything is vectorised numpy, so a catalogue costs microseconds a source.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.polynomial import polynomial

__all__ = ["SkyWcs", "angular_separation", "gnomonic", "inverse_gnomonic", "unit_vectors"]

_ARCSEC = np.pi / 648000.0


def unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Return unit vectors, shape (n, 3), of positions in radians."""
    ra, dec = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def angular_separation(ra1: Any, dec1: Any, ra2: Any, dec2: Any) -> np.ndarray:
    """Return the separation (radians) of positions in radians (haversine: accurate when small)."""
    ra1, dec1, ra2, dec2 = (np.asarray(v, np.float64) for v in (ra1, dec1, ra2, dec2))
    a = np.sin(0.5 * (dec2 - dec1)) ** 2 + np.cos(dec1) * np.cos(dec2) * np.sin(0.5 * (ra2 - ra1)) ** 2
    return 2.0 * np.arcsin(np.sqrt(np.clip(a, 0.0, 1.0)))


def gnomonic(ra: Any, dec: Any, ra0: Any, dec0: Any) -> tuple[np.ndarray, np.ndarray]:
    """Project positions (radians) on the tangent plane at (ra0, dec0): xi East, eta North, radians.

    Each position may have a tangent point of its own. Positions on the far hemisphere become NaN.
    """
    ra, dec = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    cos_c = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(cos_c > 1e-3, 1.0 / cos_c, np.nan)
    xi = np.cos(dec) * np.sin(ra - ra0) * scale
    eta = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra - ra0)) * scale
    return xi, eta


def inverse_gnomonic(xi: Any, eta: Any, ra0: float, dec0: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (ra, dec) in radians, ra in [0, 2 pi), of tangent-plane positions in radians."""
    xi, eta = np.asarray(xi, np.float64), np.asarray(eta, np.float64)
    z = np.cos(dec0) - eta * np.sin(dec0)
    ra = np.mod(ra0 + np.arctan2(xi, z), 2.0 * np.pi)
    dec = np.arctan2(np.sin(dec0) + eta * np.cos(dec0), np.hypot(xi, z))
    return ra, dec


@dataclass(frozen=True)
class SkyWcs:
    """Pixel to ICRS sky: ``(xi, eta) = P(u, v)`` on the tangent plane at ``crval``.

    Parameters
    ----------
    ra0, dec0
        Tangent point, radians.
    coefficients : float64, shape (2, n, n)
        ``P_a(u, v) = sum_ji c[a, j, i] v^j u^i`` in radians; terms with ``i + j >= n`` are zero.
    x_ref, y_ref, scale
        ``u = (x - x_ref) / scale``, ``v = (y - y_ref) / scale`` (pixels).
    residual_arcsec
        Largest deviation from the WCS this one was made from; 0 for exact conversions and fits.
    """

    ra0: float
    dec0: float
    coefficients: np.ndarray
    x_ref: float
    y_ref: float
    scale: float
    residual_arcsec: float = 0.0

    # -- evaluation ---------------------------------------------------------------------------------

    @property
    def order(self) -> int:
        """Polynomial order."""
        return int(self.coefficients.shape[1]) - 1

    def pixel_to_tangent(self, *, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return (xi, eta) in radians on the tangent plane at (ra0, dec0)."""
        u = (np.asarray(x, np.float64) - self.x_ref) / self.scale
        v = (np.asarray(y, np.float64) - self.y_ref) / self.scale
        u, v = np.broadcast_arrays(u, v)
        return (
            polynomial.polyval2d(v, u, self.coefficients[0]),
            polynomial.polyval2d(v, u, self.coefficients[1]),
        )

    def _tangent_jacobian(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return d(xi, eta)/d(x, y), shape (..., 2, 2)."""
        u, v = (np.asarray(x) - self.x_ref) / self.scale, (np.asarray(y) - self.y_ref) / self.scale
        result = np.empty((*np.shape(u), 2, 2))
        if self.order == 0:
            return np.zeros_like(result)
        for a in range(2):
            c = self.coefficients[a]
            result[..., a, 0] = polynomial.polyval2d(v, u, polynomial.polyder(c, axis=1)) / self.scale
            result[..., a, 1] = polynomial.polyval2d(v, u, polynomial.polyder(c, axis=0)) / self.scale
        return result

    def tangent_to_pixel(self, xi: Any, eta: Any) -> tuple[np.ndarray, np.ndarray]:
        """Invert `pixel_to_tangent` by Newton steps; NaN where they do not converge to 1e-7 pixel."""
        target = np.stack(
            [np.atleast_1d(np.asarray(xi, np.float64)), np.atleast_1d(np.asarray(eta, np.float64))], -1
        )
        linear = np.array([[c[0, 1], c[1, 0]] for c in self.coefficients])
        start = np.linalg.solve(linear, (target - self.coefficients[:, 0, 0])[..., None])[..., 0] * self.scale
        x, y = start[..., 0] + self.x_ref, start[..., 1] + self.y_ref
        with np.errstate(all="ignore"):
            for _ in range(20 if self.order > 1 else 1):
                value = np.stack(self.pixel_to_tangent(x=x, y=y), -1)
                j = self._tangent_jacobian(x, y)
                det = j[..., 0, 0] * j[..., 1, 1] - j[..., 0, 1] * j[..., 1, 0]
                d = target - value
                dx = (j[..., 1, 1] * d[..., 0] - j[..., 0, 1] * d[..., 1]) / det
                dy = (j[..., 0, 0] * d[..., 1] - j[..., 1, 0] * d[..., 0]) / det
                x, y = x + dx, y + dy
                step = np.hypot(dx, dy)
                if np.nanmax(step, initial=0.0) < 1e-9:
                    break
            if self.order > 1:
                bad = ~(step < 1e-7)
                x, y = np.where(bad, np.nan, x), np.where(bad, np.nan, y)
        shape = np.broadcast_shapes(np.shape(xi), np.shape(eta))
        return x.reshape(shape), y.reshape(shape)

    def pixel_to_sky(self, *, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return (ra, dec) in radians of pixel positions."""
        return inverse_gnomonic(*self.pixel_to_tangent(x=x, y=y), self.ra0, self.dec0)

    def sky_to_pixel(self, *, ra: Any, dec: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return pixel positions (x, y) of sky positions in radians; NaN on the far hemisphere."""
        return self.tangent_to_pixel(*gnomonic(ra, dec, self.ra0, self.dec0))

    def local_jacobian(self, *, x: Any, y: Any) -> np.ndarray:
        """Return d(East, North)/d(x, y) on each position's tangent plane, rad/pixel, shape (..., 2, 2)."""
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        ra, dec = self.pixel_to_sky(x=x, y=y)
        xi, eta = self.pixel_to_tangent(x=x, y=y)
        j = self._tangent_jacobian(x, y)
        # derivative of the deprojected unit vector, projected on the local East and North directions
        r = np.sqrt(1.0 + xi**2 + eta**2)
        e0 = np.array([-np.sin(self.ra0), np.cos(self.ra0), 0.0])
        n0 = np.array(
            [-np.sin(self.dec0) * np.cos(self.ra0), -np.sin(self.dec0) * np.sin(self.ra0), np.cos(self.dec0)]
        )
        zero = np.zeros_like(ra)
        east = np.stack([-np.sin(ra), np.cos(ra), zero], -1)
        north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], -1)
        result = np.empty_like(j)
        for k in range(2):
            dv = j[..., 0, k, None] * e0 + j[..., 1, k, None] * n0
            # the unprojected vector is radial, so only its derivative has components on east and north
            result[..., 0, k] = np.sum(dv * east, -1) / r
            result[..., 1, k] = np.sum(dv * north, -1) / r
        return result

    def pixel_scale(self, *, x: Any, y: Any) -> np.ndarray:
        """Return the local pixel scale in arcsec (square root of the pixel's area)."""
        j = self.local_jacobian(x=x, y=y)
        return np.sqrt(np.abs(np.linalg.det(j))) / _ARCSEC

    # -- making new ones ----------------------------------------------------------------------------

    def with_affine(self, matrix: np.ndarray, offset: np.ndarray) -> SkyWcs:
        """Return the WCS whose tangent-plane position is ``matrix @ old + offset`` (radians)."""
        c = np.einsum("ab,bji->aji", np.asarray(matrix, np.float64), self.coefficients)
        c[:, 0, 0] += offset
        return SkyWcs(self.ra0, self.dec0, c, self.x_ref, self.y_ref, self.scale, self.residual_arcsec)

    @classmethod
    def from_boresight(
        cls,
        ra_deg: float,
        dec_deg: float,
        *,
        x: float,
        y: float,
        pixel_scale_arcsec: float,
        rotation_deg: float = 0.0,
        flip: bool = False,
    ) -> SkyWcs:
        """Return a TAN WCS from a pointing.

        Parameters
        ----------
        ra_deg, dec_deg
            Sky position of pixel (x, y), degrees.
        pixel_scale_arcsec
            Arcsec per pixel.
        rotation_deg
            Position angle of the +y axis, from North through East.
        flip
            False: East is at -x when North is up (as seen on the sky); True: mirrored.
        """
        s, theta = pixel_scale_arcsec * _ARCSEC, np.deg2rad(rotation_deg)
        parity = 1.0 if flip else -1.0
        # +y points to (sin theta, cos theta) in (E, N); +x is at right angles
        c = np.zeros((2, 2, 2))
        c[0, 1, 0], c[1, 1, 0] = s * np.sin(theta), s * np.cos(theta)
        c[0, 0, 1], c[1, 0, 1] = parity * s * np.cos(theta), -parity * s * np.sin(theta)
        return cls(np.deg2rad(ra_deg), np.deg2rad(dec_deg), c, x, y, 1.0)

    @classmethod
    def from_astropy(cls, wcs: WCS, shape: tuple[int, int], *, max_order: int = 7) -> SkyWcs:
        """Convert a celestial astropy WCS, exactly for TAN and TAN-SIP, else by a fit over the image.

        Parameters
        ----------
        wcs
            Celestial 2-d WCS; non-ICRS equatorial frames are converted.
        shape
            (height, width) of the image, over which the fit is made (with a 10 % margin).
        max_order
            Highest polynomial order tried.
        """
        height, width = shape
        gx, gy = _grid_with_margin(shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sky = wcs.pixel_to_world(gx, gy).icrs
            centre = wcs.pixel_to_world(0.5 * (width - 1), 0.5 * (height - 1)).icrs
        names = [str(c) for c in wcs.wcs.ctype]
        if names[0].startswith("RA") and names[0].endswith(("TAN", "TAN-SIP")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                plain = wcs.deepcopy()
                plain.sip = None
                plain.cpdis1 = plain.cpdis2 = plain.det2im1 = plain.det2im2 = None
                origin = plain.pixel_to_world(*(np.asarray(plain.wcs.crpix) - 1.0)).icrs
            ra0, dec0 = origin.ra.rad, origin.dec.rad
        else:
            ra0, dec0 = centre.ra.rad, centre.dec.rad
        xi, eta = gnomonic(sky.ra.rad, sky.dec.rad, ra0, dec0)
        return _fit_lowest_order(gx, gy, xi, eta, ra0, dec0, shape, max_order)

    @classmethod
    def from_function(
        cls,
        pixel_to_tangent: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
        *,
        ra0: float,
        dec0: float,
        shape: tuple[int, int],
        max_order: int = 7,
    ) -> SkyWcs:
        """Fit the polynomial to a function over an image.

        Parameters
        ----------
        pixel_to_tangent
            Maps x, y (float64, shape (n,)) to (xi, eta) on the tangent plane at (ra0, dec0), radians.
        ra0, dec0
            Tangent point, radians.
        shape
            (height, width) of the image, over which the fit is made (with a 10 % margin).
        max_order
            Highest polynomial order tried.
        """
        gx, gy = _grid_with_margin(shape)
        xi, eta = pixel_to_tangent(gx, gy)
        return _fit_lowest_order(gx, gy, xi, eta, ra0, dec0, shape, max_order)

    def to_text(self) -> str:
        """Return the WCS as JSON that keeps every bit."""
        values = [self.ra0, self.dec0, self.x_ref, self.y_ref, self.scale, self.residual_arcsec]
        return json.dumps({"values": values, "coefficients": self.coefficients.tolist()})

    @classmethod
    def from_text(cls, text: str) -> SkyWcs:
        """Return the WCS that `to_text` wrote.

        Raises
        ------
        ValueError
            If the text is nothing of the kind.
        """
        try:
            data = json.loads(text)
            ra0, dec0, x_ref, y_ref, scale, residual = (float(value) for value in data["values"])
            coefficients = np.array(data["coefficients"], np.float64)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a WCS: {error}") from None
        if coefficients.ndim != 3 or coefficients.shape[0] != 2:
            raise ValueError(f"not a WCS: coefficients of shape {coefficients.shape}")
        return cls(ra0, dec0, coefficients, x_ref, y_ref, scale, residual)

    @classmethod
    def fit(
        cls,
        x: np.ndarray,
        y: np.ndarray,
        xi: np.ndarray,
        eta: np.ndarray,
        *,
        ra0: float,
        dec0: float,
        x_ref: float,
        y_ref: float,
        scale: float,
        order: int,
        weights: np.ndarray | None = None,
    ) -> SkyWcs:
        """Fit the polynomial to tangent-plane positions (radians) by weighted linear least squares."""
        return _fit_polynomial(x, y, xi, eta, ra0, dec0, x_ref, y_ref, scale, order, weights)

    # -- FITS ---------------------------------------------------------------------------------------

    def _without_empty_orders(self) -> SkyWcs:
        """Return the same mapping without orders whose coefficients are all zero: SIP cannot say them."""
        n = self.coefficients.shape[1]
        used = int(_total_order(n)[np.any(self.coefficients != 0, axis=0)].max(initial=1)) + 1
        return self if used >= n else replace(self, coefficients=self.coefficients[:, :used, :used].copy())

    def to_astropy(self, shape: tuple[int, int]) -> WCS:
        """Return the TAN or TAN-SIP astropy WCS of the same mapping (forward exact, AP/BP fitted).

        Parameters
        ----------
        shape
            (height, width), over which the reverse polynomial is fitted.
        """
        trimmed = self._without_empty_orders()
        if trimmed is not self:
            return trimmed.to_astropy(shape)
        n = self.order + 1
        # The SIP convention needs the linear part to vanish at CRPIX: put CRPIX where (xi, eta) = 0 if that
        # is near the image, else move the tangent point to the image centre first.
        height, width = shape
        px, py = self.tangent_to_pixel(0.0, 0.0)
        if self.order > 1 and not (-width < float(px) < 2 * width and -height < float(py) < 2 * height):
            return self._recentred(shape).to_astropy(shape)
        x0, y0 = float(px), float(py)
        c = _shift_polynomial(
            self.coefficients, (x0 - self.x_ref) / self.scale, (y0 - self.y_ref) / self.scale
        )
        for j in range(n):
            for i in range(n):
                c[:, j, i] /= self.scale ** (i + j)
        cd = np.array([[c[0, 0, 1], c[0, 1, 0]], [c[1, 0, 1], c[1, 1, 0]]])
        header = fits.Header()
        sip = "-SIP" if self.order > 1 else ""
        header["WCSAXES"] = 2
        header["CTYPE1"], header["CTYPE2"] = f"RA---TAN{sip}", f"DEC--TAN{sip}"
        header["CUNIT1"], header["CUNIT2"] = "deg", "deg"
        header["RADESYS"] = "ICRS"
        header["CRPIX1"], header["CRPIX2"] = x0 + 1.0, y0 + 1.0
        header["CRVAL1"], header["CRVAL2"] = np.rad2deg(self.ra0), np.rad2deg(self.dec0)
        for a in range(2):
            for b in range(2):
                header[f"CD{a + 1}_{b + 1}"] = np.rad2deg(cd[a, b])
        if sip:
            inverse = np.linalg.inv(cd)
            ab = np.einsum("ab,bji->aji", inverse, c)
            # readers want a forward term on both axes, and AST one in the axis' own coordinate
            for axis, place in zip(ab, ((0, 2), (2, 0))):
                if not axis[_total_order(n) > 1].any():
                    axis[place] = 1e-30
            header["A_ORDER"] = header["B_ORDER"] = self.order
            for j in range(n):
                for i in range(n - j):
                    if i + j >= 2:
                        header[f"A_{i}_{j}"], header[f"B_{i}_{j}"] = ab[0, j, i], ab[1, j, i]
            _add_reverse_sip(header, ab, x0, y0, shape, self.order + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return WCS(header)

    def _recentred(self, shape: tuple[int, int]) -> SkyWcs:
        """Return this mapping with the tangent point at the image centre, refitted on a grid."""
        height, width = shape
        xc, yc = 0.5 * (width - 1), 0.5 * (height - 1)
        ra0, dec0 = self.pixel_to_sky(x=xc, y=yc)
        gx, gy = _grid((-0.5, width - 0.5), (-0.5, height - 0.5))
        xi, eta = gnomonic(*self.pixel_to_sky(x=gx, y=gy), float(ra0), float(dec0))
        return _fit_polynomial(
            gx, gy, xi, eta, float(ra0), float(dec0), xc, yc, 0.5 * max(shape), max(self.order, 3)
        )


def _grid(x: tuple[float, float], y: tuple[float, float], n: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of an n x n grid, flat."""
    gx, gy = np.meshgrid(np.linspace(*x, n), np.linspace(*y, n))
    return gx.ravel(), gy.ravel()


def _grid_with_margin(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return a grid over an image and a tenth of its size around it, flat."""
    height, width = shape
    mx, my = 0.05 * width, 0.05 * height
    return _grid((-mx, width - 1 + mx), (-my, height - 1 + my))


def _fit_lowest_order(
    gx: np.ndarray,
    gy: np.ndarray,
    xi: np.ndarray,
    eta: np.ndarray,
    ra0: float,
    dec0: float,
    shape: tuple[int, int],
    max_order: int,
) -> SkyWcs:
    """Fit polynomials of rising order until the largest deviation is below 1e-5 arcsec."""
    height, width = shape
    norm = 0.5 * max(width, height)
    best: SkyWcs | None = None
    for order in range(1, max_order + 1):
        best = _fit_polynomial(gx, gy, xi, eta, ra0, dec0, 0.5 * (width - 1), 0.5 * (height - 1), norm, order)
        fx, fy = best.pixel_to_tangent(x=gx, y=gy)
        worst = float(np.max(np.hypot(fx - xi, fy - eta))) / _ARCSEC
        best = SkyWcs(ra0, dec0, best.coefficients, best.x_ref, best.y_ref, norm, worst)
        if worst < 1e-5:
            break
    assert best is not None
    return best


def _total_order(n: int) -> np.ndarray:
    """Return ``i + j`` of each coefficient, shape (n, n)."""
    return np.add.outer(np.arange(n), np.arange(n))


def _exponents(order: int) -> list[tuple[int, int]]:
    return [(j, i) for j in range(order + 1) for i in range(order + 1 - j)]


def _fit_polynomial(
    x: np.ndarray,
    y: np.ndarray,
    xi: np.ndarray,
    eta: np.ndarray,
    ra0: float,
    dec0: float,
    x_ref: float,
    y_ref: float,
    scale: float,
    order: int,
    weights: np.ndarray | None = None,
) -> SkyWcs:
    u, v = (np.asarray(x) - x_ref) / scale, (np.asarray(y) - y_ref) / scale
    terms = _exponents(order)
    design = np.stack([v**j * u**i for j, i in terms], axis=1)
    target = np.stack([xi, eta], axis=1)
    if weights is not None:
        root = np.sqrt(weights)[:, None]
        design, target = design * root, target * root
    solution = np.linalg.lstsq(design, target, rcond=None)[0]
    c = np.zeros((2, order + 1, order + 1))
    for k, (j, i) in enumerate(terms):
        c[:, j, i] = solution[k]
    return SkyWcs(ra0, dec0, c, x_ref, y_ref, scale)


def _shift_polynomial(c: np.ndarray, du: float, dv: float) -> np.ndarray:
    """Return the coefficients of ``P(u + du, v + dv)``."""
    from scipy.special import comb

    n = c.shape[1]
    binomial = comb(np.arange(n)[:, None], np.arange(n)[None, :])  # [k, i]: k choose i
    powers = np.arange(n)[:, None] - np.arange(n)[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        mu = np.where(powers >= 0, binomial * np.where(powers >= 0, float(du) ** np.maximum(powers, 0), 0), 0)
        mv = np.where(powers >= 0, binomial * np.where(powers >= 0, float(dv) ** np.maximum(powers, 0), 0), 0)
    return np.einsum("lj,alk,ki->aji", mv, c, mu)


def _add_reverse_sip(
    header: fits.Header, ab: np.ndarray, x0: float, y0: float, shape: tuple[int, int], order: int
) -> None:
    """Fit and write AP/BP on a grid over the image."""
    height, width = shape
    gx, gy = np.meshgrid(np.linspace(-0.5, width - 0.5, 32), np.linspace(-0.5, height - 0.5, 32))
    u, v = gx.ravel() - x0, gy.ravel() - y0
    cu, cv = polynomial.polyval2d(v, u, ab[0]), polynomial.polyval2d(v, u, ab[1])
    norm = max(np.abs(cu).max(), np.abs(cv).max())
    terms = _exponents(order)
    design = np.stack([(cv / norm) ** j * (cu / norm) ** i for j, i in terms], axis=1)
    solution = np.linalg.lstsq(design, np.stack([u - cu, v - cv], axis=1), rcond=None)[0]
    header["AP_ORDER"] = header["BP_ORDER"] = order
    for k, (j, i) in enumerate(terms):
        header[f"AP_{i}_{j}"] = solution[k, 0] / norm ** (i + j)
        header[f"BP_{i}_{j}"] = solution[k, 1] / norm ** (i + j)

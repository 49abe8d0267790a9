"""One tract of a sky map: its projection, pixel grid, patches and regions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.wcs import WCS
from lsst.sphgeom import ConvexPolygon, UnitVector3d

from zeropoint.datamodel.skymap_layout import CellPatches, FloatArray, LegacyPatches
from zeropoint.datamodel.wcs import gnomonic, inverse_gnomonic, unit_vectors

if TYPE_CHECKING:
    from lsst.images import Box

__all__ = ["Patch", "SkyPosition", "Tract", "TractWcs"]

_ARCSEC = math.pi / 648000.0
#: Pixels by which the box is shrunk before its corners become vertices, so that they lie inside.
_SHRINK = 0.001


class SkyPosition(NamedTuple):
    """A position on the sky, radians (ICRS)."""

    ra: float
    dec: float


@dataclass(frozen=True)
class TractWcs:
    """Pixel to sky by a plane projection, without distortion.

    Parameters
    ----------
    ra0, dec0
        Center of the projection, radians.
    x0, y0
        Its pixel.
    pixel_scale_arcsec
        Scale there.
    rotation_deg
        Position angle of +y from North through East; +x points West at 0.
    projection
        TAN (gnomonic) or STG (stereographic).
    """

    ra0: float
    dec0: float
    x0: float
    y0: float
    pixel_scale_arcsec: float
    rotation_deg: float
    projection: str

    @property
    def _cd(self) -> FloatArray:
        """Radians East and North per pixel of x and y."""
        sine, cosine = math.sin(math.radians(self.rotation_deg)), math.cos(math.radians(self.rotation_deg))
        return self.pixel_scale_arcsec * _ARCSEC * np.array([[-cosine, sine], [sine, cosine]])

    def pixel_to_sky(self, *, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return (ra, dec) in radians of pixel positions."""
        cd = self._cd
        dx, dy = np.asarray(x, np.float64) - self.x0, np.asarray(y, np.float64) - self.y0
        xi, eta = cd[0, 0] * dx + cd[0, 1] * dy, cd[1, 0] * dx + cd[1, 1] * dy
        inverse = inverse_gnomonic if self.projection == "TAN" else _inverse_stereographic
        return inverse(xi, eta, self.ra0, self.dec0)

    def sky_to_pixel(self, *, ra: Any, dec: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return pixel positions (x, y) of sky positions in radians; NaN where the projection has none."""
        project = gnomonic if self.projection == "TAN" else _stereographic
        xi, eta = project(ra, dec, self.ra0, self.dec0)
        inverse = np.linalg.inv(self._cd)
        return (
            self.x0 + inverse[0, 0] * xi + inverse[0, 1] * eta,
            self.y0 + inverse[1, 0] * xi + inverse[1, 1] * eta,
        )

    def to_astropy(self) -> WCS:
        """Return the same projection as an astropy WCS."""
        header = fits.Header()
        header["WCSAXES"] = 2
        header["CTYPE1"], header["CTYPE2"] = f"RA---{self.projection}", f"DEC--{self.projection}"
        header["CUNIT1"], header["CUNIT2"], header["RADESYS"] = "deg", "deg", "ICRS"
        header["CRPIX1"], header["CRPIX2"] = self.x0 + 1.0, self.y0 + 1.0
        header["CRVAL1"], header["CRVAL2"] = math.degrees(self.ra0), math.degrees(self.dec0)
        for (a, b), value in np.ndenumerate(np.rad2deg(self._cd)):
            header[f"CD{a + 1}_{b + 1}"] = value
        return WCS(header)


def _stereographic(ra: Any, dec: Any, ra0: float, dec0: float) -> tuple[np.ndarray, np.ndarray]:
    """Project positions stereographically: ``rho = 2 tan(c / 2)``; the antipode becomes NaN."""
    ra, dec = np.asarray(ra, np.float64), np.asarray(dec, np.float64)
    cos_c = math.sin(dec0) * np.sin(dec) + math.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(cos_c > -1.0 + 1e-12, 2.0 / (1.0 + cos_c), np.nan)
    xi = scale * np.cos(dec) * np.sin(ra - ra0)
    eta = scale * (math.cos(dec0) * np.sin(dec) - math.sin(dec0) * np.cos(dec) * np.cos(ra - ra0))
    return xi, eta


def _inverse_stereographic(xi: Any, eta: Any, ra0: float, dec0: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (ra, dec) of stereographic positions, ra in [0, 2 pi); a plane vector is ``rho`` times unit."""
    quarter = 0.25 * (xi * xi + eta * eta)  # tan(c/2)^2
    cos_c, sin_c_by_rho = (1.0 - quarter) / (1.0 + quarter), 1.0 / (1.0 + quarter)
    toward = math.cos(dec0) * cos_c - math.sin(dec0) * eta * sin_c_by_rho
    east = xi * sin_c_by_rho
    up = math.sin(dec0) * cos_c + math.cos(dec0) * eta * sin_c_by_rho
    return np.mod(ra0 + np.arctan2(east, toward), 2.0 * math.pi), np.arctan2(up, np.hypot(east, toward))


@dataclass(frozen=True)
class Patch:
    """A patch of a tract.

    Parameters
    ----------
    tract
        The tract.
    x, y
        Column and row in the tract's grid of patches.
    """

    tract: Tract
    x: int
    y: int

    @property
    def sequential_index(self) -> int:
        """Number of the patch: row by row from the lower left."""
        return self.tract.num_patches[0] * self.y + self.x

    @property
    def inner_bbox(self) -> Box:
        """Pixels of the patch alone; those of all patches tile the tract."""
        return _box(self.tract.patch_bounds(outer=False)[self.sequential_index])

    @property
    def outer_bbox(self) -> Box:
        """Pixels of the patch and its border."""
        return _box(self.tract.patch_bounds(outer=True)[self.sequential_index])

    @property
    def inner_sky_polygon(self) -> ConvexPolygon:
        """Region of ``inner_bbox``."""
        return polygon(self.tract.patch_corners(outer=False)[self.sequential_index])

    @property
    def outer_sky_polygon(self) -> ConvexPolygon:
        """Region of ``outer_bbox``."""
        return polygon(self.tract.patch_corners(outer=True)[self.sequential_index])


@dataclass(frozen=True)
class Tract:
    """A tract: a square piece of the sky on one plane projection, divided into patches.

    Parameters
    ----------
    id
        Number in its sky map.
    ctr_coord
        Center.
    wcs
        Projection; pixel (0, 0) is the center of the lower left pixel.
    num_patches
        Columns and rows of patches.
    patches
        How it is divided.
    """

    id: int
    ctr_coord: SkyPosition
    wcs: TractWcs
    num_patches: tuple[int, int]
    patches: LegacyPatches | CellPatches

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, pixels."""
        (nx, ny), (width, height) = self.num_patches, self.patches.inner
        return ny * height, nx * width

    @property
    def bbox(self) -> Box:
        """Pixels of the tract."""
        height, width = self.shape
        return _box(np.array([0, width, 0, height]))

    @property
    def vertices(self) -> list[SkyPosition]:
        """The corners, a thousandth of a pixel inside, counterclockwise in pixels from the lower left."""
        height, width = self.shape
        low, right, top = -0.5 + _SHRINK, width - 0.5 - _SHRINK, height - 0.5 - _SHRINK
        ra, dec = self.wcs.pixel_to_sky(x=[low, right, right, low], y=[low, low, top, top])
        return [SkyPosition(float(a), float(d)) for a, d in zip(ra, dec, strict=True)]

    @property
    def outer_sky_polygon(self) -> ConvexPolygon:
        """Region of the whole tract, to its pixels' edges."""
        height, width = self.shape
        return polygon(self._corners(np.array([[0, width, 0, height]]))[0])

    def contains(self, ra: Any, dec: Any) -> npt.NDArray[np.bool_]:
        """Return which positions (radians) lie on the tract's pixels."""
        height, width = self.shape
        x, y = self.wcs.sky_to_pixel(ra=ra, dec=dec)
        return np.asarray((x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5))

    def find_patch_ids(self, ra: Any, dec: Any) -> npt.NDArray[np.int32]:
        """Return the sequential index of the patch whose inner box holds each position (radians), or -1."""
        x, y = self.wcs.sky_to_pixel(ra=ra, dec=dec)
        inside = self.contains(ra, dec)
        width, height = self.patches.inner
        column, row = (np.floor(np.where(inside, v + 0.5, 0.0)) // n for v, n in ((x, width), (y, height)))
        return np.where(inside, row * self.num_patches[0] + column, -1).astype(np.int32)

    def patch(self, index: int | tuple[int, int]) -> Patch:
        """Return a patch by its sequential index or by column and row."""
        nx, ny = self.num_patches
        x, y = (int(index) % nx, int(index) // nx) if not isinstance(index, tuple) else index
        if not (0 <= x < nx and 0 <= y < ny):
            raise IndexError(f"tract {self.id} has {nx} x {ny} patches; there is no patch {index}")
        return Patch(self, x, y)

    def __len__(self) -> int:
        return self.num_patches[0] * self.num_patches[1]

    def __getitem__(self, index: int | tuple[int, int]) -> Patch:
        return self.patch(index)

    def __iter__(self) -> Iterator[Patch]:
        return (self.patch(index) for index in range(len(self)))

    def patch_bounds(self, *, outer: bool) -> npt.NDArray[np.int64]:
        """Return the boxes of all patches, half open: int64 [patch, (x0, x1, y0, y1)]."""
        (nx, ny), (width, height) = self.num_patches, self.patches.inner
        row, column = np.divmod(np.arange(nx * ny), nx)
        bounds = np.stack([column * width, (column + 1) * width, row * height, (row + 1) * height], axis=1)
        if outer:
            bounds += self.patches.border * np.array([-1, 1, -1, 1])
            if self.patches.clipped:
                bounds[:, :2] = np.clip(bounds[:, :2], 0, nx * width)
                bounds[:, 2:] = np.clip(bounds[:, 2:], 0, ny * height)
        return bounds

    def patch_corners(self, *, outer: bool) -> FloatArray:
        """Return the corners of all patches as unit vectors [patch, corner, axis]."""
        return self._corners(self.patch_bounds(outer=outer))

    def _corners(self, bounds: npt.NDArray[np.int64]) -> FloatArray:
        """Return the corners (pixel edges) of boxes as unit vectors [box, corner, axis]."""
        x, y = bounds[:, [0, 1, 1, 0]] - 0.5, bounds[:, [2, 2, 3, 3]] - 0.5
        return np.asarray(unit_vectors(*self.wcs.pixel_to_sky(x=x, y=y)))


def polygon(corners: FloatArray) -> ConvexPolygon:
    """Return the convex polygon through unit vectors, shape (n, 3)."""
    return ConvexPolygon([UnitVector3d(*corner) for corner in corners.tolist()])


def _box(bounds: npt.NDArray[np.int64]) -> Box:
    """Return half-open bounds (x0, x1, y0, y1) as a box."""
    from lsst.images import Box  # seconds to import, and of no use to the tracts' numbers

    x0, x1, y0, y1 = (int(value) for value in bounds)
    return Box.factory[y0:y1, x0:x1]

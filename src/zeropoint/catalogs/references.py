"""Reference objects for one image: read, moved to its epoch, placed on its pixels, cut to its box."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, Protocol

import lsst.pex.config as pexConfig
import numpy as np
from astropy.table import Column, Table

from zeropoint.catalogs.proper_motion import JULIAN_YEAR_DAYS
from zeropoint.catalogs.reference_epoch import at_epoch
from zeropoint.catalogs.reference_rows import Columns, ReferenceRows, standard_unit
from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.catalogs.selectors.limits import ab_magnitude
from zeropoint.datamodel.catalog import Schema
from zeropoint.datamodel.wcs import SkyWcs, angular_separation
from zeropoint.errors import InvalidInputError, NoReferenceSourcesError

__all__ = [
    "LoadReferenceObjectsConfig",
    "ReferenceCatalog",
    "ReferenceObjectLoader",
    "ReferenceSource",
    "SkyRegion",
    "bounding_circle",
    "source_density_deg2",
]

_log = logging.getLogger(__name__)

#: Fastest proper motion known (Barnard's star), radians per year: how far outside of the box to look.
_FASTEST = np.deg2rad(10.5 / 3600.0)
#: Usual epoch of catalogues with proper motions (J2016.0), MJD.
_USUAL_EPOCH = 57388.5
#: Pixels added around the box, for the curvature of its edges on the sky.
_EDGE_PIXELS = 100.0
#: Larger than any parallax, radians.
_LARGEST_PARALLAX = np.deg2rad(1.0 / 3600.0)


class SkyRegion(Protocol):
    """A region of the sphere, such as those of ``lsst.sphgeom``."""

    def contains(self, lon: Any, lat: Any, /) -> Any:
        """Return which positions (radians) it contains."""

    def getBoundingCircle(self) -> Any:
        """Return an ``lsst.sphgeom.Circle`` around it."""


class LoadReferenceObjectsConfig(pexConfig.Config):
    """Configuration of `ReferenceObjectLoader`."""

    pixelMargin = pexConfig.RangeField[int](
        default=250, min=0, doc="Margin (pixels) around the image within which objects are loaded."
    )
    anyFilterMapsToThis = pexConfig.Field[str](
        default=None,
        optional=True,
        doc="Use this band of the reference catalogue whatever the image's band; excludes filterMap.",
    )
    filterMap = pexConfig.DictField[str, str](
        default={}, doc="Band of the image -> band of the reference catalogue; others keep their name."
    )
    requireProperMotion = pexConfig.Field[bool](
        default=False, doc="Fail if proper motions cannot be applied?  Otherwise only a warning is logged."
    )
    maxRefObjects = pexConfig.Field[int](
        default=None,
        optional=True,
        check=lambda value: value > 0,
        doc="Keep at most this many, the brightest.",
    )
    minRefMag = pexConfig.Field[float](
        default=None, optional=True, doc="Drop objects brighter than this AB magnitude."
    )
    apply_parallax = pexConfig.Field[bool](
        default=True,
        doc="Shift objects by their parallax to where they are seen from the Earth at the image's epoch?  Only together "
        "with proper motions.",
    )
    min_parallax_snr = pexConfig.RangeField[float](
        default=5.0, min=0.0, doc="Smallest signal-to-noise ratio of a parallax that is applied."
    )

    def validate(self) -> None:
        """Check that there is one way from the image's band to the catalogue's."""
        super().validate()
        if self.filterMap and self.anyFilterMapsToThis is not None:
            raise pexConfig.FieldValidationError(
                type(self).anyFilterMapsToThis,
                self,
                f"filterMap ({', '.join(self.filterMap)}) and anyFilterMapsToThis ({self.anyFilterMapsToThis!r}) "
                "exclude each other; unset one of them",
            )
        if self.anyFilterMapsToThis == "" or "" in self.filterMap.values():
            field = type(self).anyFilterMapsToThis if self.anyFilterMapsToThis == "" else type(self).filterMap
            raise pexConfig.FieldValidationError(field, self, "a band of the catalogue has a name")


@dataclass(frozen=True)
class ReferenceCatalog:
    """Reference objects in and around one image.

    Parameters
    ----------
    table
        Columns ``coord_ra``, ``coord_dec`` (radians, at the image's epoch), ``centroid_x``, ``centroid_y``
        (pixels), ``<band>_flux`` and ``_fluxErr`` (nJy), and what else the catalogue has.
    flux_field, flux_err_field
        Columns with the flux to use for the image's band and its error (None if the catalogue has none).
    name
        Name of the catalogue.
    n_in_box
        Number of objects on the image itself, without the margin and before any limit on brightness.
    """

    table: Table
    flux_field: str
    flux_err_field: str | None
    name: str
    n_in_box: int

    def __len__(self) -> int:
        return len(self.table)


class ReferenceObjectLoader:
    """Load the reference objects of an image.

    Parameters
    ----------
    source
        The catalogue: a `ReferenceSource`, or `ReferenceShards` from a Butler.
    config
        Defaults if None.
    schema
        Ignored (no columns are added to source catalogues).
    region
        Load the objects in this region instead of those around the image.
    """

    ConfigClass: ClassVar[Any] = LoadReferenceObjectsConfig

    def __init__(
        self,
        source: ReferenceRows,
        config: LoadReferenceObjectsConfig | None = None,
        *,
        schema: Schema | None = None,
        region: SkyRegion | None = None,
    ) -> None:
        self.source, self.region = source, region
        self.config = LoadReferenceObjectsConfig() if config is None else config
        self.config.validate()

    def flux_field(self, band: str) -> str:
        """Return the flux column for a band of the image.

        Raises
        ------
        InvalidInputError
            If the catalogue has no such band.
        """
        config = self.config
        wanted = config.anyFilterMapsToThis or config.filterMap.get(band, band)
        if wanted not in self.source.bands:
            why = f"for the image's band {band!r}"
            remedy = (
                "Map the image's filter to one of them in the camera card (bands: {FILTER: BAND}), or set filterMap "
                f"or anyFilterMapsToThis of {self.place} with -c."
            )
            if config.anyFilterMapsToThis is not None:
                why = f"named by {self.place}.anyFilterMapsToThis"
                remedy = f"Correct {self.place}.anyFilterMapsToThis."
            elif band in config.filterMap:
                why = f"to which {self.place}.filterMap maps the image's band {band!r}"
                remedy = f"Correct {self.place}.filterMap."
            raise InvalidInputError(
                f"Reference catalogue {self.source.name} ({self.source.path}) has no band {wanted!r} ({why}); it has "
                f"{', '.join(self.source.bands)}.  {remedy}"
            )
        return f"{wanted}_flux"

    @property
    def place(self) -> str:
        """The place of this loader's configuration in the whole, for messages."""
        return str(self.config._name or type(self).__name__)

    def within(self, region: SkyRegion) -> ReferenceObjectLoader:
        """Return a loader of the objects in a region, whatever the image; ``pixelMargin`` then has no effect."""
        if self.config.pixelMargin != type(self.config).pixelMargin.default:
            _log.warning(
                "The objects of a given region are loaded: pixelMargin = %d has no effect.",
                self.config.pixelMargin,
            )
        return type(self)(self.source, self.config, region=region)

    def load(
        self, wcs: SkyWcs, shape: tuple[int, int], *, band: str, mjd_tai: float = float("nan")
    ) -> ReferenceCatalog:
        """Load the objects within an image's box plus margin, at the image's epoch.

        Parameters
        ----------
        wcs
            WCS of the image, perhaps a rough one: choose ``pixelMargin`` accordingly.
        shape
            (height, width) of the image.
        band
            Band of the image.
        mjd_tai
            Epoch of the image; NaN if unknown (proper motions are then not applied).

        Returns
        -------
        ReferenceCatalog
            Objects by the catalogue's declination, right ascension and id, whatever files they come from.

        Raises
        ------
        InvalidInputError
            If the catalogue lacks the band, or proper motions are required and not possible.
        NoReferenceSourcesError
            If the catalogue has nothing in the box; metadata ra, dec, radius (degrees).
        """
        flux_field = self.flux_field(band)
        ra, dec, radius = self._circle(wcs, shape)
        columns, epoch = self._read(ra, dec, radius, mjd_tai)
        x, y = wcs.sky_to_pixel(ra=columns["coord_ra"], dec=columns["coord_dec"])
        columns["centroid_x"], columns["centroid_y"] = x, y
        if self.region is None:
            inside = np.flatnonzero(_in_box(x, y, shape, self.config.pixelMargin))
        else:
            inside = np.flatnonzero(self.region.contains(columns["coord_ra"], columns["coord_dec"]))
        if inside.size == 0:
            self._fail(ra, dec, radius)
        n_in_box = int(np.count_nonzero(_in_box(x, y, shape, 0)))
        return self._catalog(columns, inside, flux_field, epoch, n_in_box)

    def load_circle(
        self, *, ra: float, dec: float, radius: float, band: str, mjd_tai: float = float("nan")
    ) -> ReferenceCatalog:
        """Load the objects within a circle, at an epoch; there are no pixels, so no centroids.

        Parameters
        ----------
        ra, dec, radius
            Center and radius, radians.
        band, mjd_tai
            As for `load`.

        Returns
        -------
        ReferenceCatalog
            Without ``centroid_x`` and ``_y``; ``n_in_box`` is the number of objects in the circle before any limit on
            brightness.

        Raises
        ------
        InvalidInputError, NoReferenceSourcesError
            As for `load`.
        """
        flux_field = self.flux_field(band)
        columns, epoch = self._read(ra, dec, radius, mjd_tai)
        inside = _in_circle(columns, ra, dec, radius)
        if inside.size == 0:
            self._fail(ra, dec, radius)
        return self._catalog(columns, inside, flux_field, epoch, inside.size)

    def rows_in_circle(self, *, ra: float, dec: float, radius: float, mjd_tai: float = float("nan")) -> Table:
        """Return all objects within a circle, at an epoch, with or without a flux in any band; perhaps none.

        Parameters
        ----------
        ra, dec, radius
            Center and radius, radians.
        mjd_tai
            As for `load`.

        Returns
        -------
        astropy.table.Table
            Standard columns; rows as for `load`.

        Raises
        ------
        InvalidInputError
            If proper motions are required and not possible.
        """
        columns, _ = self._read(ra, dec, radius, mjd_tai)
        inside = _in_circle(columns, ra, dec, radius)
        return Table(
            [Column(values[inside], name=name, unit=standard_unit(name)) for name, values in columns.items()]
        )

    def _read(self, ra: float, dec: float, radius: float, mjd_tai: float) -> tuple[Columns, float]:
        """Return the objects in a circle, and all that may have moved into it, at an epoch, and that epoch or NaN."""
        if not self._can_move(mjd_tai):
            return dict(self.source.load_circle(ra, dec, radius)), float("nan")
        config = self.config
        slack = _FASTEST * abs(mjd_tai - _USUAL_EPOCH) / JULIAN_YEAR_DAYS + _LARGEST_PARALLAX
        columns = self.source.load_circle(ra, dec, radius + slack)
        return at_epoch(columns, mjd_tai, config.min_parallax_snr if config.apply_parallax else None), mjd_tai

    def _catalog(
        self, columns: Columns, inside: np.ndarray, flux_field: str, epoch: float, n_in_box: int
    ) -> ReferenceCatalog:
        """Return some rows of the columns, within the limits on brightness, as a catalogue."""
        flux = columns[flux_field][inside]
        if not np.any(np.isfinite(flux)):
            self._fail_without_fluxes(flux_field, inside.size)
        rows = inside[self._bright(flux)]
        table = Table(
            [Column(values[rows], name=name, unit=standard_unit(name)) for name, values in columns.items()],
            meta={"name": self.source.name, "epoch_mjd_tai": epoch},
        )
        error = f"{flux_field}Err"
        _log.debug("%d objects of %s, %d on the image.", len(table), self.source.name, n_in_box)
        return ReferenceCatalog(
            table, flux_field, error if error in table.colnames else None, self.source.name, n_in_box
        )

    def _can_move(self, mjd_tai: float) -> bool:
        """Return whether proper motions can be applied; log or raise if not."""
        if self.source.has_proper_motion and np.isfinite(mjd_tai):
            return True
        reason = f"catalogue {self.source.name} has no proper motions with known units and epoch"
        if self.source.has_proper_motion:
            reason = "the image's epoch is unknown"
        elif self.source.lacks_epoch:
            reason = f"catalogue {self.source.name} has proper motions, but no epoch with a known unit"
        if self.config.requireProperMotion:
            raise InvalidInputError(
                f"{self.place}: proper motions are required, but {reason}.  Give pm_ra, pm_dec and epoch with units in the "
                "column map, give the image's date, or unset requireProperMotion."
            )
        _log.log(
            logging.WARNING if self.source.has_proper_motion or self.source.lacks_epoch else logging.DEBUG,
            "%s: proper motions are not applied: %s.",
            self.place,
            reason,
        )
        return False

    def _circle(self, wcs: SkyWcs, shape: tuple[int, int]) -> tuple[float, float, float]:
        """Return center and radius (radians) of a circle around the region, or the box with its margin."""
        if self.region is not None:
            return bounding_circle(self.region)
        height, width = shape
        margin = self.config.pixelMargin + _EDGE_PIXELS
        ra, dec = wcs.pixel_to_sky(x=0.5 * (width - 1), y=0.5 * (height - 1))
        fx, fy = np.array([0.0, 0.5, 1.0, 1.0, 1.0, 0.5, 0.0, 0.0]), np.array([0, 0, 0, 0.5, 1, 1, 1, 0.5])
        edge_ra, edge_dec = wcs.pixel_to_sky(
            x=-margin + fx * (width + 2 * margin), y=-margin + fy * (height + 2 * margin)
        )
        radius = float(np.max(angular_separation(edge_ra, edge_dec, ra, dec)))
        return float(ra), float(dec), radius

    def _bright(self, flux: np.ndarray) -> np.ndarray:
        """Return the rows within the limits on brightness, in their order."""
        config = self.config
        rows = np.arange(flux.size)
        if config.minRefMag is not None:
            rows = rows[~(ab_magnitude(flux) < config.minRefMag)]
        if config.maxRefObjects is not None and rows.size > config.maxRefObjects:
            brightest = np.argsort(-flux[rows], kind="stable")[: config.maxRefObjects]  # NaN sorts last
            rows = rows[np.sort(brightest)]
        return rows

    def _fail_without_fluxes(self, flux_field: str, n: int) -> NoReturn:
        """Raise the error of a band without a single flux."""
        others = [band for band in self.source.bands if f"{band}_flux" != flux_field]
        raise NoReferenceSourcesError(
            f"None of the {n} objects of reference catalogue {self.source.name} ({self.source.path}) on the image has a "
            f"flux in band {flux_field.removesuffix('_flux')!r}: all are NaN.  Choose another band with filterMap or "
            f"anyFilterMapsToThis of the reference loader ({', '.join(others) or 'it has no other'}), or give a "
            "catalogue that has it here.",
            n_objects=n,
            n_with_flux=0,
        )

    def _fail(self, ra: float, dec: float, radius: float) -> NoReturn:
        """Raise the error that says where the image is and where the catalogue is."""
        ra_deg, dec_deg, radius_deg = (float(np.rad2deg(value)) for value in (ra % (2 * np.pi), dec, radius))
        raise NoReferenceSourcesError(
            f"Reference catalogue {self.source.name} ({self.source.path}) has no objects on the image, whose center "
            f"is at RA {ra_deg:.4f} Dec {dec_deg:+.4f} (radius {radius_deg:.3f} degrees); "
            f"{self.source.coverage(ra, dec)}.  Check the image's pointing or WCS, or give a catalogue that covers "
            "it.",
            ra=ra_deg,
            dec=dec_deg,
            radius=radius_deg,
        )


def source_density_deg2(catalog: ReferenceCatalog, wcs: SkyWcs, shape: tuple[int, int]) -> float:
    """Return the number of reference objects per square degree around an image's center.

    Parameters
    ----------
    catalog
        The objects.
    wcs
        WCS of the image.
    shape
        (height, width) of the image.

    Returns
    -------
    float
        Objects within half the image's diagonal of its center, over that circle's area; where the catalogue's
        margin does not reach the circle's edge, a lower limit.
    """
    height, width = shape
    ra, dec = wcs.pixel_to_sky(x=0.5 * (width - 1), y=0.5 * (height - 1))
    corner_ra, corner_dec = wcs.pixel_to_sky(x=-0.5, y=-0.5)
    radius = float(angular_separation(corner_ra, corner_dec, ra, dec))
    distance = angular_separation(catalog.table["coord_ra"], catalog.table["coord_dec"], ra, dec)
    return float(np.count_nonzero(distance < radius) / (np.pi * np.rad2deg(radius) ** 2))


def bounding_circle(region: SkyRegion) -> tuple[float, float, float]:
    """Return center and radius (radians) of a circle around a region, a little larger for safety."""
    circle = region.getBoundingCircle()
    x, y, z = (float(value) for value in circle.getCenter())
    radius = float(circle.getOpeningAngle().asRadians())
    return float(np.arctan2(y, x)) % (2 * np.pi), float(np.arctan2(z, np.hypot(x, y))), radius * 1.001 + 1e-7


def _in_circle(columns: Columns, ra: float, dec: float, radius: float) -> np.ndarray:
    """Return the rows within a circle (radians)."""
    distance = angular_separation(columns["coord_ra"], columns["coord_dec"], ra, dec)
    return np.flatnonzero(distance <= radius)


def _in_box(x: np.ndarray, y: np.ndarray, shape: tuple[int, int], margin: float) -> np.ndarray:
    """Return which positions lie on the image grown by a margin; NaN does not."""
    height, width = shape
    inside = (x >= -0.5 - margin) & (x <= width - 0.5 + margin)
    return np.asarray(inside & (y >= -0.5 - margin) & (y <= height - 0.5 + margin))

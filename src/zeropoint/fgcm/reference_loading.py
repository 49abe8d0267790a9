"""Reference stars in the survey's own filters: selected, free of neighbors, through colour terms."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import hpgeom
import lsst.pex.config as pexConfig
import numpy as np
import numpy.typing as npt
from astropy.table import Table
from scipy.spatial import cKDTree

from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.catalogs.selectors import ReferenceSourceSelector
from zeropoint.datamodel.wcs import unit_vectors
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.magnitudes import MAG_PER_LN
from zeropoint.photometry.color_terms import Colorterm, ColortermLibrary, ab_magnitude

__all__ = ["NO_MAGNITUDE", "FgcmLoadReferenceCatalog", "FgcmLoadReferenceCatalogConfig", "ReferenceStars"]

_log = logging.getLogger(__name__)

#: Magnitude and error of a star without a reference magnitude in a filter.
NO_MAGNITUDE = 99.0
#: Magnitudes and errors from here on are fillers of a catalogue, not measurements.
_FILLER = 90.0
_ARCSEC = np.pi / 648000.0

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class FgcmLoadReferenceCatalogConfig(pexConfig.Config):
    """Which reference stars are used, and how their magnitudes become the survey's."""

    filterMap = pexConfig.DictField[str, str](
        default={},
        doc="Physical filter of the camera -> band of the reference catalogue. Must be set where references are matched.",
    )
    applyColorTerms = pexConfig.Field[bool](
        default=True, doc="Apply colour terms to the magnitudes?  Needs colorterms."
    )
    colorterms = pexConfig.ConfigField[ColortermLibrary](
        doc="Colour terms by reference catalogue and physical filter."
    )
    referenceSelector = pexConfig.ConfigurableField(
        target=ReferenceSourceSelector,
        doc="Which reference objects are used; it sees the magnitudes of the catalogue, before colour terms.",
    )
    isolation_radius = pexConfig.RangeField[float](
        default=0.0,
        min=0.0,
        max=3600.0,
        inclusiveMax=True,
        doc="Reference objects with another within this radius are not used, arcsec; 0: neighbors do not matter.",
    )
    neighbor_flux_ratio = pexConfig.RangeField[float](
        default=0.0,
        min=0.0,
        doc="Neighbors fainter than this times the object's own flux in all bands used do not count.",
    )

    def check_complete(self) -> None:
        """Check that what has no default is set; other than `validate`, which a survey without references must pass.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            If ``filterMap`` is empty, or colour terms are to be applied and there are none.
        """
        cls = type(self)
        if not self.filterMap:
            raise pexConfig.FieldValidationError(
                cls.filterMap,
                self,
                "is empty: map each physical filter to a band of the reference catalogue, for instance "
                "filterMap['HSC-R'] = 'r'; or set doReferenceMatches=False.",
            )
        if self.applyColorTerms and len(self.colorterms.data) == 0:
            raise pexConfig.FieldValidationError(
                cls.colorterms,
                self,
                "has no entry, but applyColorTerms is True: add the catalogue's colour terms, or set "
                "applyColorTerms=False.",
            )


@dataclass(frozen=True)
class ReferenceStars:
    """Objects of a reference catalogue, with magnitudes in several filters.

    Parameters
    ----------
    ra, dec : float64, shape (n,)
        Position at the step's epoch, degrees, ICRS.
    mag, mag_err : float32, shape (n, n_filters)
        AB magnitude and error in each filter; both 99 where there is none.
    selected : bool, shape (n,)
        Whether the selector takes the object.
    crowded : bool, shape (n,)
        Whether a neighbor disturbs it.
    rejected
        Criterion of the selector -> how many objects fail it, whatever the others say.
    """

    ra: FloatArray
    dec: FloatArray
    mag: npt.NDArray[np.float32]
    mag_err: npt.NDArray[np.float32]
    selected: BoolArray
    crowded: BoolArray
    rejected: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.ra)

    @property
    def good(self) -> BoolArray:
        """Objects that are selected and not crowded."""
        return self.selected & ~self.crowded

    def to_array(self, rows: BoolArray) -> np.ndarray:
        """Return some rows as FGCM's structured array: ra, dec (degrees), refMag, refMagErr.

        Parameters
        ----------
        rows : bool, shape (n,)
            Which.
        """
        n_filters = self.mag.shape[1]
        magnitudes = ("f4", (n_filters,))
        dtype = [("ra", "f8"), ("dec", "f8"), ("refMag", *magnitudes), ("refMagErr", *magnitudes)]
        array = np.zeros(int(np.count_nonzero(rows)), dtype)
        array["ra"], array["dec"] = self.ra[rows], self.dec[rows]
        array["refMag"], array["refMagErr"] = self.mag[rows], self.mag_err[rows]
        return array


class FgcmLoadReferenceCatalog:
    """Load reference stars with magnitudes in several of the camera's filters.

    Parameters
    ----------
    refObjLoader
        Loader of the catalogue.
    refCatName
        Name of the catalogue, by which colour terms are looked up.
    config
        Settings; None for the defaults, which lack a filter map.
    mjd_tai
        Epoch to which proper motions are applied, say the middle of the survey; NaN: they are not.

    Raises
    ------
    lsst.pex.config.FieldValidationError
        If the configuration is not complete.

    Notes
    -----
    As FgcmLoadReferenceCatalogTask of fgcmcal (2026); `docs/deviations.md` lists where it differs.
    """

    ConfigClass: ClassVar[Any] = FgcmLoadReferenceCatalogConfig

    def __init__(
        self,
        refObjLoader: ReferenceObjectLoader,
        refCatName: str,
        *,
        config: FgcmLoadReferenceCatalogConfig | None = None,
        mjd_tai: float = float("nan"),
    ) -> None:
        self.config = FgcmLoadReferenceCatalogConfig() if config is None else config
        self.config.check_complete()
        self.loader, self.name, self.mjd_tai = refObjLoader, refCatName, mjd_tai
        self.reference_selector = self.config.referenceSelector.apply()
        self._bands: dict[tuple[str, ...], list[tuple[str, str] | None]] = {}

    def getFgcmReferenceStarsHealpix(
        self, nside: int, pixel: int, filterList: Sequence[str], nest: bool = False
    ) -> np.ndarray:
        """Return the reference stars in a HEALPix pixel.

        Parameters
        ----------
        nside, pixel, nest
            The pixel.
        filterList
            Physical filters.

        Returns
        -------
        structured array
            ``ra``, ``dec`` (degrees), ``refMag``, ``refMagErr`` of shape (n_filters,), 99 for none; as
            `getFgcmReferenceStarsSkyCircle`.
        """
        stars = self.load_circle(*pixel_circle(nside, pixel, nest=nest), filterList)
        own = hpgeom.angle_to_pixel(nside, stars.ra, stars.dec, nest=nest) == pixel
        return stars.to_array(stars.good & own)

    def getFgcmReferenceStarsSkyCircle(
        self, ra: float, dec: float, radius: float, filterList: Sequence[str]
    ) -> np.ndarray:
        """Return the reference stars in a circle.

        Parameters
        ----------
        ra, dec, radius
            Center and radius, degrees.
        filterList
            Physical filters.

        Returns
        -------
        structured array
            As `getFgcmReferenceStarsHealpix`.

        Raises
        ------
        InvalidInputError
            If none of the filters has a band in the catalogue, or the catalogue lacks a band of a colour term.
        ColortermNotFoundError
            If a filter has no colour term.
        """
        stars = self.load_circle(ra, dec, radius, filterList)
        return stars.to_array(stars.good)

    def load_circle(self, ra: float, dec: float, radius: float, filters: Sequence[str]) -> ReferenceStars:
        """Return all objects in a circle, also those that are not to be used, which are marked.

        Parameters
        ----------
        ra, dec, radius
            Center and radius, degrees.
        filters
            Physical filters.

        Raises
        ------
        InvalidInputError, ColortermNotFoundError
            As for `getFgcmReferenceStarsSkyCircle`.
        """
        bands = self.bands(filters)
        margin = self.config.isolation_radius * _ARCSEC
        center = {"ra": np.deg2rad(ra) % (2.0 * np.pi), "dec": np.deg2rad(dec)}
        reach = np.deg2rad(radius)
        table = self.loader.rows_in_circle(**center, radius=reach + margin, mjd_tai=self.mjd_tai)
        xyz = unit_vectors(np.asarray(table["coord_ra"]), np.asarray(table["coord_dec"]))
        middle = unit_vectors(np.atleast_1d(center["ra"]), np.atleast_1d(center["dec"]))
        inside = np.linalg.norm(xyz - middle, axis=1) <= 2.0 * np.sin(0.5 * min(reach, np.pi))
        crowded = self._crowded(table, xyz, bands)[inside]
        table = table[inside]
        selection = self.reference_selector.run(table)
        mag, mag_err = self._magnitudes(table, filters, bands)
        return ReferenceStars(
            np.rad2deg(np.asarray(table["coord_ra"], np.float64)),
            np.rad2deg(np.asarray(table["coord_dec"], np.float64)),
            mag,
            mag_err,
            selection.selected,
            crowded,
            selection.rejected,
        )

    def bands(self, filters: Sequence[str]) -> list[tuple[str, str] | None]:
        """Return the bands that each filter's magnitudes are made of: primary and secondary, or None: no magnitudes.

        Parameters
        ----------
        filters
            Filters of the survey.

        Raises
        ------
        InvalidInputError, ColortermNotFoundError
            As for `getFgcmReferenceStarsSkyCircle`.
        """
        key = tuple(filters)
        if key not in self._bands:
            self._bands[key] = [self._bands_of(name) for name in filters]
            if not any(self._bands[key]):
                raise InvalidInputError(
                    f"None of the filters {', '.join(filters)} has magnitudes in the reference catalogue {self.name}: "
                    f"{self._place}.filterMap maps {_mapping(self.config.filterMap)}, and the catalogue has the bands "
                    f"{', '.join(self.loader.source.bands) or 'none'}."
                )
        return self._bands[key]

    @property
    def _place(self) -> str:
        return str(getattr(self.config, "_name", "") or type(self).__name__)

    def _bands_of(self, physical_filter: str) -> tuple[str, str] | None:
        """Return the bands that a filter's magnitudes are made of; log where there are none."""
        band = self.config.filterMap.get(physical_filter)
        if band is None:
            _log.warning(
                "%s.filterMap does not name filter %s: it has no reference magnitudes.",
                self._place,
                physical_filter,
            )
            return None
        lacks = self._lacks(band)
        if lacks:
            _log.warning(
                "Reference catalogue %s has no %s: filter %s has no reference magnitudes.",
                self.name,
                lacks,
                physical_filter,
            )
            return None
        if not self.config.applyColorTerms:
            return band, band
        term = self._term(physical_filter)
        for name in (term.primary, term.secondary):
            if self._lacks(name):
                raise InvalidInputError(
                    f"Reference catalogue {self.name} has no {self._lacks(name)}, which the colour term of filter "
                    f"{physical_filter} uses; correct {self._place}.colorterms. It has the bands "
                    f"{', '.join(self.loader.source.bands)}."
                )
        return term.primary, term.secondary

    def _lacks(self, band: str) -> str:
        """Return what of a band the catalogue lacks, for messages; empty: nothing."""
        if band not in self.loader.source.bands:
            return f"band {band!r}"
        return "" if self.loader.source.column_map.has(f"{band}_fluxErr") else f"flux errors in band {band!r}"

    def _term(self, physical_filter: str) -> Colorterm:
        return self.config.colorterms.getColorterm(physical_filter, self.name, doRaise=True)

    def _magnitudes(
        self, table: Table, filters: Sequence[str], bands: Sequence[tuple[str, str] | None]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return magnitudes and errors, shape (n, n_filters)."""
        shape = (len(table), len(filters))
        mag, mag_err = np.full(shape, NO_MAGNITUDE, np.float32), np.full(shape, NO_MAGNITUDE, np.float32)
        for k, (name, pair) in enumerate(zip(filters, bands, strict=True)):
            if pair is None:
                continue
            primary, primary_err = _catalog_magnitudes(table, pair[0])
            if self.config.applyColorTerms:
                secondary, secondary_err = _catalog_magnitudes(table, pair[1])
                term = self._term(name)
                errors = term.propagate_mag_errors(primary, secondary, primary_err, secondary_err)
                primary, primary_err = term.transform_mags(primary, secondary), errors
            with np.errstate(invalid="ignore"):
                good = (primary < _FILLER) & (primary_err > 0.0) & (primary_err < _FILLER)
            mag[good, k], mag_err[good, k] = primary[good], primary_err[good]
        return mag, mag_err

    def _crowded(self, table: Table, xyz: FloatArray, bands: Sequence[tuple[str, str] | None]) -> BoolArray:
        """Return which objects have a neighbor that counts."""
        crowded = np.zeros(len(table), np.bool_)
        config = self.config
        if config.isolation_radius == 0.0 or len(table) < 2:
            return crowded
        chord = 2.0 * np.sin(0.5 * config.isolation_radius * _ARCSEC)
        pairs = cKDTree(xyz).query_pairs(chord, output_type="ndarray")
        pairs = np.concatenate([pairs, pairs[:, ::-1]])
        flux = np.stack([np.asarray(table[f"{b}_flux"]) for b in sorted({pair[0] for pair in bands if pair})])
        own, other = flux[:, pairs[:, 0]], flux[:, pairs[:, 1]]
        known = np.isfinite(own) & np.isfinite(other)
        with np.errstate(invalid="ignore"):
            counts = (known & (other >= config.neighbor_flux_ratio * own)).any(axis=0)
        counts |= ~known.any(axis=0)  # nothing says that it is faint
        crowded[pairs[counts, 0]] = True
        return crowded


def pixel_circle(nside: int, pixel: int, *, nest: bool) -> tuple[float, float, float]:
    """Return center and radius (degrees) of a circle around a HEALPix pixel.

    Parameters
    ----------
    nside, pixel
        Which pixel.
    nest
        Nested order, else rings.

    Returns
    -------
    ra, dec, radius
        Degrees.
    """
    ra, dec = hpgeom.pixel_to_angle(nside, pixel, nest=nest)
    # points along the edges too: near the poles these bulge
    edge_ra, edge_dec = hpgeom.boundaries(nside, pixel, 8, nest=nest)
    middle = unit_vectors(np.deg2rad(np.atleast_1d(ra)), np.deg2rad(np.atleast_1d(dec)))
    edge = unit_vectors(np.deg2rad(np.ravel(edge_ra)), np.deg2rad(np.ravel(edge_dec)))
    chord = float(np.linalg.norm(edge - middle, axis=1).max())
    return float(ra), float(dec), float(np.rad2deg(2.0 * np.arcsin(0.5 * chord))) * (1.0 + 1e-6)


def _catalog_magnitudes(table: Table, band: str) -> tuple[FloatArray, FloatArray]:
    """Return AB magnitudes and errors in a band of the catalogue; NaN where the flux is not positive."""
    flux = np.asarray(table[f"{band}_flux"], np.float64)
    flux_err = np.asarray(table[f"{band}_fluxErr"], np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return ab_magnitude(flux), np.where(flux > 0.0, MAG_PER_LN * flux_err / flux, np.nan)


def _mapping(names: Mapping[str, str]) -> str:
    """Return a mapping for a message."""
    return ", ".join(f"{key} to {value}" for key, value in sorted(names.items()))

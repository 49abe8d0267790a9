"""Reference stars of a survey: which filters they are wanted in, and which star of the survey is which of theirs."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import hpgeom
import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table
from scipy.spatial import cKDTree

from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.datamodel.wcs import unit_vectors
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.accounting import META_KEY, Accounting
from zeropoint.fgcm.build_stars_config import FgcmBuildStarsConfigBase
from zeropoint.fgcm.lut import LookUpTable
from zeropoint.fgcm.progress import OnProgress
from zeropoint.fgcm.reference_loading import (
    NO_MAGNITUDE,
    FgcmLoadReferenceCatalog,
    FgcmLoadReferenceCatalogConfig,
    ReferenceStars,
    pixel_circle,
)

__all__ = [
    "REFSTARS_FORMAT_VERSION",
    "FgcmLoadReferenceCatalog",
    "FgcmLoadReferenceCatalogConfig",
    "ReferenceMatches",
    "ReferenceStars",
    "References",
    "check_settings",
    "loading_step",
    "match_references",
    "match_survey",
    "reference_filters",
]

_log = logging.getLogger(__name__)

#: Version of the table's columns, as Rubin's code knows it.
REFSTARS_FORMAT_VERSION = 1
_ARCSEC = np.pi / 648000.0

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class MatchSettings(Protocol):
    """What matching needs of a configuration of star building."""

    #: Largest separation of star and reference, arcsec.
    matchRadius: float
    #: HEALPix nside of the pixels in which references are loaded.
    coarseNside: int


@dataclass(frozen=True)
class References:
    """Where reference stars come from.

    Parameters
    ----------
    loader, name
        Loader of the reference catalogue, and its name, by which colour terms are looked up.
    look_up_table
        Says which standard filter each filter belongs to, and its wavelength; the header is enough.
    """

    loader: ReferenceObjectLoader
    name: str
    look_up_table: LookUpTable


@dataclass(frozen=True)
class ReferenceMatches:
    """Stars that are in the reference catalogue.

    Parameters
    ----------
    table
        ``fgcmReferenceStars``: ``fgcm_id``; ``refMag``, ``refMagErr`` (mag, shape (n_filters,), 99: none), by
        ``fgcm_id``. The metadata hold ``REFSTARS_FORMAT_VERSION``, ``FILTERNAMES`` and the accounting.
    accounting
        Stage ``references``: reference objects read, each counted once, and what became of them.
    """

    table: Table
    accounting: Accounting


def check_settings(config: FgcmBuildStarsConfigBase, references: References | None) -> None:
    """Check the settings of a star list, and that there are references if it is to have some.

    Parameters
    ----------
    config
        Settings.
    references
        The catalogue; None: there is none.

    Raises
    ------
    InvalidInputError
        If references are wanted, and there are none.
    lsst.pex.config.FieldValidationError
        If the configuration contradicts itself or is not complete.
    """
    config.validate()
    if config.doReferenceMatches and references is None:
        raise InvalidInputError(
            "doReferenceMatches needs a reference catalogue and the look-up table; give them, or set it to False."
        )


def reference_filters(
    physical_filters: Iterable[str],
    standard_filters: Mapping[str, str],
    standard_wavelengths: Mapping[str, float],
) -> list[str]:
    """Return the filters in which reference magnitudes are wanted.

    Parameters
    ----------
    physical_filters
        Filters of the survey's visits.
    standard_filters
        Physical filter -> the standard filter of its band, as the look-up table has it.
    standard_wavelengths
        Standard filter -> its wavelength (``lambdaStdFilter``), Angstrom.

    Returns
    -------
    list of str
        The different standard filters by wavelength.

    Raises
    ------
    InvalidInputError
        If the look-up table does not know a filter of the visits, or a standard filter.
    """
    wanted = sorted(set(physical_filters))
    wanted_standard = {standard_filters[name] for name in wanted if name in standard_filters}
    unknown = [name for name in wanted if name not in standard_filters]
    unknown += sorted(name for name in wanted_standard if name not in standard_wavelengths)
    if unknown:
        raise InvalidInputError(
            f"The look-up table has no filter {', '.join(unknown)}, which visits were taken through or which is the "
            f"standard filter of one of theirs; it has {', '.join(sorted(standard_wavelengths))}. Make the table with these filters (physicalFilters), or leave them "
            "out of physicalFilterMap."
        )
    return sorted(wanted_standard, key=lambda name: (standard_wavelengths[name], name))


def match_survey(
    stars: Table,
    visits: Table,
    references: References,
    config: FgcmBuildStarsConfigBase,
    *,
    id_dtype: type[np.integer] = np.int32,
    on_progress: OnProgress | None = None,
) -> ReferenceMatches:
    """Find the stars of a survey in a reference catalogue, in the standard filters of its visits and at their epoch.

    Parameters
    ----------
    stars
        As for `match_references`.
    visits
        ``fgcmVisitCatalog``: the filters, and the times, to whose median references are moved.
    references
        The catalogue.
    config
        Settings; ``fgcmLoadReferenceCatalog`` must be complete.
    id_dtype, on_progress
        As for `match_references`.

    Raises
    ------
    InvalidInputError, ColortermNotFoundError, lsst.pex.config.FieldValidationError
        As for `reference_filters`, `match_references` and `FgcmLoadReferenceCatalog`.
    """
    lut = references.look_up_table
    filters = reference_filters(
        np.unique(visits["physicalFilter"]).tolist(),
        lut.std_filter_of,
        dict(zip(lut.physical_filters, lut.lambda_std_filter.tolist(), strict=True)),
    )
    step = loading_step(config, references.loader, references.name, visits)
    return match_references(stars, step, filters, config, id_dtype=id_dtype, on_progress=on_progress)


def loading_step(
    config: FgcmBuildStarsConfigBase,
    loader: ReferenceObjectLoader,
    name: str,
    visits: Table,
) -> FgcmLoadReferenceCatalog:
    """Return what loads references at the epoch of a survey.

    Parameters
    ----------
    config
        Settings; ``fgcmLoadReferenceCatalog`` must be complete.
    loader, name
        Loader of the reference catalogue, and its name, by which colour terms are looked up.
    visits
        ``fgcmVisitCatalog``: to the median of the times that are known (``mjd``) references are moved.

    Raises
    ------
    lsst.pex.config.FieldValidationError
        As for `FgcmLoadReferenceCatalog`.
    """
    dates = np.asarray(visits["mjd"])
    known = dates[np.isfinite(dates)]
    return config.fgcmLoadReferenceCatalog.apply(
        refObjLoader=loader,
        refCatName=name,
        mjd_tai=float(np.median(known)) if len(known) else float("nan"),
    )


def match_references(
    stars: Table,
    references: FgcmLoadReferenceCatalog,
    filters: Sequence[str],
    config: MatchSettings,
    *,
    id_dtype: type[np.integer] = np.int32,
    on_progress: OnProgress | None = None,
) -> ReferenceMatches:
    """Find the stars that are in a reference catalogue.

    Parameters
    ----------
    stars
        Columns ``fgcm_id``, ``ra`` and ``dec`` (degrees).
    references
        Loader of the catalogue.
    filters
        Filters of the magnitudes, from `reference_filters`.
    config
        Matching radius and size of the pixels.
    id_dtype
        Type of ``fgcm_id`` in the table: int32, or int64 in that from isolated stars.
    on_progress
        Told of the pixels done.

    Returns
    -------
    ReferenceMatches
        One row for each star that is in the catalogue. A star has one reference at most, and a reference one star: a
        reference goes to the star nearest to it within ``matchRadius``, and of several references of a star the nearest
        stays.

    Raises
    ------
    InvalidInputError, ColortermNotFoundError
        If a filter's magnitudes cannot be made; see `FgcmLoadReferenceCatalog`.

    Notes
    -----
    References are loaded pixel by pixel, a matching radius beyond the pixel's edge, so that the result does not depend on
    ``coarseNside``; a reference that is loaded twice counts once.
    """
    references.bands(filters)  # fails before anything is read
    finder = _Finder(
        unit_vectors(np.deg2rad(np.asarray(stars["ra"])), np.deg2rad(np.asarray(stars["dec"]))),
        config.matchRadius * _ARCSEC,
    )
    groups = list(_pixels(stars, config.coarseNside))
    for done, (pixel, rows) in enumerate(groups):
        ra, dec, radius = _circle(stars, rows, config.coarseNside, pixel)
        loaded = references.load_circle(ra, dec, radius + config.matchRadius / 3600.0, filters)
        own = hpgeom.angle_to_pixel(config.coarseNside, loaded.ra, loaded.dec, nest=True) == pixel
        finder.add(loaded, own)
        if on_progress is not None:
            on_progress("reference stars", done + 1, len(groups))
    table, accounting = finder.result(np.asarray(stars["fgcm_id"]), id_dtype, len(filters))
    table.meta |= {
        "REFSTARS_FORMAT_VERSION": REFSTARS_FORMAT_VERSION,
        "FILTERNAMES": list(filters),
        META_KEY: accounting.to_meta(),
    }
    if len(table) == 0:
        _log.warning("None of %d stars is in the reference catalogue %s.", len(stars), references.name)
    else:
        _log.info("%d of %d stars are in %s.", len(table), len(stars), references.name)
    return ReferenceMatches(table, accounting)


@dataclass
class _Candidates:
    """References near a star."""

    xyz: list[FloatArray] = field(default_factory=list)
    star: list[IntArray] = field(default_factory=list)
    mag: list[npt.NDArray[np.float32]] = field(default_factory=list)
    mag_err: list[npt.NDArray[np.float32]] = field(default_factory=list)
    own: list[npt.NDArray[np.bool_]] = field(default_factory=list)


class _Finder:
    """Collects the references near stars, and decides in the end which star each belongs to."""

    def __init__(self, xyz: FloatArray, radius: float) -> None:
        self._xyz, self._chord = xyz, 2.0 * np.sin(0.5 * radius)
        self._tree = cKDTree(xyz)
        self._counts: Counter[str] = Counter()
        self._near = _Candidates()

    def add(self, loaded: ReferenceStars, own: npt.NDArray[np.bool_]) -> None:
        """Add references of a pixel and its surroundings; those of the pixel itself, ``own``, are counted."""
        counts, near = self._counts, self._near
        counts["read"] += int(np.count_nonzero(own))
        counts["referenceSelector"] += int(np.count_nonzero(own & ~loaded.selected))
        counts["neighbor"] += int(np.count_nonzero(own & loaded.selected & loaded.crowded))
        good = np.flatnonzero(loaded.good)
        xyz = unit_vectors(np.deg2rad(loaded.ra[good]), np.deg2rad(loaded.dec[good]))
        # the bound is exclusive, the radius is not
        distance, star = self._tree.query(xyz, distance_upper_bound=np.nextafter(self._chord, 4.0))
        found = np.isfinite(distance)
        counts["no_star"] += int(np.count_nonzero(own[good[~found]]))
        rows = good[found]
        near.xyz.append(xyz[found])
        near.star.append(star[found].astype(np.int64))
        near.mag.append(loaded.mag[rows])
        near.mag_err.append(loaded.mag_err[rows])
        near.own.append(own[rows])

    def result(
        self, ids: npt.NDArray[np.integer], id_dtype: type[np.integer], n_filters: int
    ) -> tuple[Table, Accounting]:
        """Return the table of matches, and the accounting."""
        near, counts = self._near, self._counts
        xyz = np.concatenate([np.zeros((0, 3)), *near.xyz])
        star = np.concatenate([np.zeros(0, np.int64), *near.star])
        mag = np.concatenate([np.zeros((0, n_filters), np.float32), *near.mag])
        mag_err = np.concatenate([np.zeros((0, n_filters), np.float32), *near.mag_err])
        own = np.concatenate([np.zeros(0, np.bool_), *near.own])
        distance = np.linalg.norm(xyz - self._xyz[star], axis=1)
        # of each star the nearest first, of several at one place that with the smallest errors
        order = np.lexsort((~own, *xyz.T, *mag.T, *mag_err.T, distance, star))
        star, xyz, mag, mag_err, own = (values[order] for values in (star, xyz, mag, mag_err, own))
        # loaded by its own pixel and by the neighbor of this: the same bytes follow each other
        again = _repeats(star[:, None], xyz, mag, mag_err)
        counts["read"] += int(np.count_nonzero(~again & ~own))
        counts["duplicate"] += int(np.count_nonzero(again & own))
        first = ~_repeats(star[:, None])
        counts["farther_than_another"] += int(np.count_nonzero(~again & ~first))
        measured = (mag < NO_MAGNITUDE).any(axis=1)
        counts["no_magnitude"] += int(np.count_nonzero(first & ~measured))
        rows = np.flatnonzero(first & measured)
        rows = rows[np.argsort(ids[star[rows]], kind="stable")]
        table = _table(ids[star[rows]].astype(id_dtype), mag[rows], mag_err[rows])
        accounting = Accounting()
        read = counts.pop("read")
        accounting.add("references", read=read, kept=len(table), rejected=counts)
        return table, accounting


def _repeats(*columns: np.ndarray) -> npt.NDArray[np.bool_]:
    """Return which rows are the same as the one before, in columns of shape (n, m)."""
    same = np.zeros(len(columns[0]), np.bool_)
    same[1:] = np.logical_and.reduce([(values[1:] == values[:-1]).all(axis=1) for values in columns])
    return same


def _table(ids: np.ndarray, mag: np.ndarray, mag_err: np.ndarray) -> Table:
    """Return the table of reference stars."""
    none = f"{NO_MAGNITUDE:g}: none"
    return Table(
        [
            Column(ids, "fgcm_id", description="Id of the star"),
            Column(mag, "refMag", unit="mag", description=f"AB magnitude in each of FILTERNAMES; {none}"),
            Column(mag_err, "refMagErr", unit="mag", description=f"Error of refMag; {none}"),
        ]
    )


def _pixels(stars: Table, nside: int) -> Iterator[tuple[int, IntArray]]:
    """Return the HEALPix pixels (nested) that hold stars, in their order, and the rows of these stars."""
    pixels = hpgeom.angle_to_pixel(nside, np.asarray(stars["ra"]), np.asarray(stars["dec"]), nest=True)
    order = np.argsort(pixels, kind="stable")
    numbers, begin = np.unique(pixels[order], return_index=True)
    for number, rows in zip(numbers, np.split(order, begin[1:]), strict=False):
        yield int(number), rows


def _circle(stars: Table, rows: IntArray, nside: int, pixel: int) -> tuple[float, float, float]:
    """Return a circle (degrees) around stars, or around their pixel if they fill much of it."""
    xyz = unit_vectors(np.deg2rad(np.asarray(stars["ra"])[rows]), np.deg2rad(np.asarray(stars["dec"])[rows]))
    middle = xyz.sum(axis=0)
    middle /= np.linalg.norm(middle)
    chord = float(np.linalg.norm(xyz - middle, axis=1).max())
    radius = float(np.rad2deg(2.0 * np.arcsin(min(0.5 * chord, 1.0))))
    if radius >= 0.5 * float(hpgeom.nside_to_resolution(nside, units="degrees")):
        return pixel_circle(nside, pixel, nest=True)
    ra, dec = (float(np.rad2deg(v)) for v in (np.arctan2(middle[1], middle[0]), np.arcsin(middle[2])))
    return ra % 360.0, dec, radius * (1.0 + 1e-9) + 1e-9

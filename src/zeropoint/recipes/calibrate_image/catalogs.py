"""Schemas and rows of the recipe's two catalogues, and the copying of flags between them."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.table import Table
from scipy.spatial import cKDTree

from zeropoint.catalogs.references import ReferenceCatalog
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.detection.deblend import DeblendResult
from zeropoint.errors import NoPsfStarsToStarsMatchError

__all__ = [
    "COPIED_FLAGS",
    "assemble_stars",
    "copy_psf_star_columns",
    "denormalize_matches",
    "minimal_schema",
    "rows_from_footprints",
]

#: Flags that travel from a PSF star to the matching row of the deep catalogue.
COPIED_FLAGS = (
    "calib_psf_candidate",
    "calib_psf_used",
    "calib_psf_reserved",
    "calib_astrometry_used",
    "apcorr_slot_CalibFlux_used",
    "apcorr_base_GaussianFlux_used",
    "apcorr_base_PsfFlux_used",
)

_COORD_ERRORS = (
    ColumnSpec("coord_raErr", "f4", "rad", "1-sigma error of RA on the tangent plane"),
    ColumnSpec("coord_decErr", "f4", "rad", "1-sigma error of Dec"),
    ColumnSpec("coord_ra_dec_Cov", "f4", "rad2", "RA-Dec covariance"),
)
_PSF_MAX = ColumnSpec("psf_max_value", "f4", "count", "maximum pixel of the PSF-candidate stamp")


def minimal_schema() -> Schema:
    """Return the columns every source catalogue begins with."""
    schema = Schema()
    schema.add(
        ColumnSpec("id", "i8", "", "unique row id"),
        ColumnSpec("coord_ra", "f8", "rad", "right ascension, ICRS"),
        ColumnSpec("coord_dec", "f8", "rad", "declination, ICRS"),
        ColumnSpec("parent", "i8", "", "id of the blend parent, 0 if none"),
    )
    return schema


def psf_schema_start() -> Schema:
    """Return the head of the PSF-phase schema."""
    schema = minimal_schema()
    schema.add(_PSF_MAX, *_COORD_ERRORS)
    return schema


def star_schema_start(psf_schema: Schema) -> Schema:
    """Return the head of the deep schema, with the flags copied from the PSF phase."""
    schema = minimal_schema()
    for name in COPIED_FLAGS:
        doc = psf_schema.columns[name].doc if name in psf_schema.columns else ""
        schema.add(ColumnSpec(name, "bool", "", doc))
    schema.add(
        ColumnSpec("psf_id", "i8", "", "id of the matched row of the PSF stars, 0 if none"),
        _PSF_MAX,
        *_COORD_ERRORS,
    )
    return schema


def rows_from_footprints(
    schema: Schema, footprints: FootprintSet, ids: CatalogIdGenerator, first: int = 1
) -> SourceCatalog:
    """Return a catalogue with one row per footprint; ids count from ``first``."""
    catalog = SourceCatalog(schema, len(footprints), footprints=footprints)
    catalog["id"] = ids.arange(first, first + len(footprints))
    return catalog


def assemble_stars(
    parents: SourceCatalog, sky: FootprintSet, deblended: DeblendResult, ids: CatalogIdGenerator
) -> SourceCatalog:
    """Return parents and isolated sources, then sky sources, then children, with their ids.

    Parameters
    ----------
    parents
        Detected sources in detection order.
    sky
        Sky-source footprints.
    deblended
        Result of the deblender on ``parents``.
    ids
        Id generator.
    """
    schema = parents.schema
    n = len(parents)
    for name, values in deblended.parent_columns.items():
        parents[name] = values
    parents = SourceCatalog(
        schema,
        columns={name: parents[name] for name in parents.colnames},
        footprints=deblended.parent_footprints,
    )
    sky_rows = rows_from_footprints(schema, sky, ids, first=n + 1)
    sky_rows["sky_source"] = True
    children = rows_from_footprints(schema, deblended.children, ids, first=n + len(sky) + 1)
    for name, values in deblended.child_columns.items():
        children[name] = values
    children["parent"] = parents["id"][deblended.parent_rows]
    return parents.extended(sky_rows).extended(children)


def copy_psf_star_columns(psf_stars: SourceCatalog, stars: SourceCatalog, radius: float) -> int:
    """Copy flags and ids from PSF stars to the matching rows of the deep catalogue, in place.

    Parameters
    ----------
    psf_stars, stars
        The two catalogues.
    radius
        Match radius, pixels; strict.

    Returns
    -------
    n_matched
        PSF stars that found a row.

    Raises
    ------
    NoPsfStarsToStarsMatchError
        If none does.

    Notes
    -----
    Parents are not matched; each PSF star takes its nearest row; where two PSF stars meet on one row the
    nearer one wins.
    """
    candidates = np.flatnonzero(
        np.isfinite(stars["slot_Centroid_x"])
        & np.isfinite(stars["slot_Centroid_y"])
        & (stars["deblend_nChild"] == 0)
    )
    good = np.flatnonzero(
        np.isfinite(psf_stars["slot_Centroid_x"]) & np.isfinite(psf_stars["slot_Centroid_y"])
    )
    n_matched = 0
    if len(candidates) and len(good):
        tree = cKDTree(_positions(stars, candidates))
        distance, nearest = tree.query(_positions(psf_stars, good), distance_upper_bound=radius)
        hit = np.flatnonzero(distance < radius)
        # farthest first, so that the nearest is written last
        hit = hit[np.argsort(-distance[hit], kind="stable")]
        source, target = good[hit], candidates[nearest[hit]]
        for name in (*COPIED_FLAGS, "psf_max_value"):
            if name in psf_stars:
                stars[name][target] = psf_stars[name][source]
        stars["psf_id"][target] = psf_stars["id"][source]
        n_matched = len(hit)
    if n_matched == 0:
        raise NoPsfStarsToStarsMatchError(
            f"None of {len(psf_stars)} PSF stars lies within {radius:.1f} pixels of one of {len(stars)} selected stars.",
            n_psf_stars=len(psf_stars),
            n_stars=len(stars),
        )
    return n_matched


def _positions(catalog: SourceCatalog, rows: np.ndarray) -> np.ndarray:
    return np.stack([catalog["slot_Centroid_x"][rows], catalog["slot_Centroid_y"][rows]], axis=1)


def denormalize_matches(
    references: ReferenceCatalog,
    sources: SourceCatalog,
    match_ref: np.ndarray,
    match_src: np.ndarray,
    distance_rad: np.ndarray,
    extra: dict[str, Any] | None = None,
) -> Table:
    """Return one row per match with ``ref_*``, ``src_*`` and ``distance`` columns.

    Parameters
    ----------
    references, sources
        What was matched.
    match_ref, match_src
        Row numbers.
    distance_rad
        Separations, radians.
    extra
        Further columns.
    """
    table = Table()
    for name in references.table.colnames:
        column = references.table[name]
        table[f"ref_{name}"] = column[match_ref]
    source_table = sources.take(match_src).to_table()
    for name in source_table.colnames:
        table[f"src_{name}"] = source_table[name]
    table["distance"] = np.asarray(distance_rad, np.float64)
    table["distance"].unit = "rad"
    for name, values in (extra or {}).items():
        table[name] = values
    return table

"""Rows of source catalogues: how they begin, where they come from, and what passes between two of one image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from astropy.table import Table
from scipy.spatial import cKDTree

from zeropoint.catalogs.references import ReferenceCatalog
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog, column, has_column
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.datamodel.wcs import angular_separation
from zeropoint.detection.deblend import DeblendResult
from zeropoint.detection.source_detection import DetectionResult
from zeropoint.photometry.photocal import PhotoCalResult

__all__ = [
    "COORD_ERRORS",
    "assemble_rows",
    "copy_matched_columns",
    "denormalize_matches",
    "minimal_schema",
    "nearest_rows",
    "photometry_matches",
    "rows_from_detection",
    "rows_from_footprints",
]

#: Errors of the sky coordinates.
COORD_ERRORS = (
    ColumnSpec("coord_raErr", "f4", "rad", "1-sigma error of RA on the tangent plane"),
    ColumnSpec("coord_decErr", "f4", "rad", "1-sigma error of Dec"),
    ColumnSpec("coord_ra_dec_Cov", "f4", "rad2", "RA-Dec covariance"),
)


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


def rows_from_footprints(
    schema: Schema, footprints: FootprintSet, ids: CatalogIdGenerator, first: int = 1
) -> SourceCatalog:
    """Return a catalogue with one row per footprint; ids count from ``first``."""
    catalog = SourceCatalog(schema, len(footprints), footprints=footprints)
    catalog["id"] = ids.arange(first, first + len(footprints))
    return catalog


def rows_from_detection(schema: Schema, detection: DetectionResult, ids: CatalogIdGenerator) -> SourceCatalog:
    """Return a catalogue with one row per detected footprint of either polarity; ids count from 1."""
    catalog = rows_from_footprints(schema, detection.footprints, ids)
    if "is_negative" in schema:
        catalog["is_negative"] = detection.is_negative
    return catalog


def assemble_rows(
    parents: SourceCatalog,
    ids: CatalogIdGenerator,
    *,
    sky: FootprintSet | None = None,
    deblended: DeblendResult | None = None,
) -> SourceCatalog:
    """Return parents and isolated sources, then sky sources, then children, with their ids.

    Parameters
    ----------
    parents
        Detected sources in detection order.
    ids
        Id generator.
    sky
        Sky-source footprints, if there are sky sources.
    deblended
        Result of the deblender on ``parents``, if it ran.
    """
    schema, n = parents.schema, len(parents)
    catalog = parents
    if deblended is not None:
        for name, values in deblended.parent_columns.items():
            parents[name] = values
        catalog = SourceCatalog(
            schema,
            columns={name: parents[name] for name in parents.colnames},
            footprints=deblended.parent_footprints,
        )
    if sky is not None:
        sky_rows = rows_from_footprints(schema, sky, ids, first=n + 1)
        sky_rows["sky_source"] = True
        catalog = catalog.extended(sky_rows)
    if deblended is not None:
        children = rows_from_footprints(schema, deblended.children, ids, first=len(catalog) + 1)
        for name, values in deblended.child_columns.items():
            children[name] = values
        children["parent"] = parents["id"][deblended.parent_rows]
        catalog = catalog.extended(children)
    return catalog


def nearest_rows(
    source: SourceCatalog | Table, target: SourceCatalog, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of rows: for each source the nearest row of ``target``, if it is near enough.

    Parameters
    ----------
    source, target
        Catalogues of one image with ``slot_Centroid_x`` and ``_y``.
    radius
        Match radius, pixels; strict.

    Returns
    -------
    source_rows, target_rows : int64, shape (n,)
        The farthest pair comes first, so that whoever writes in this order leaves the nearest source's values
        where two meet on one row.

    Notes
    -----
    Parents (rows of ``target`` with children) and rows without a position are not matched.
    """
    x, y = _positions(target)
    candidates = np.isfinite(x) & np.isfinite(y)
    if "deblend_nChild" in target:
        candidates &= target["deblend_nChild"] == 0
    rows = np.flatnonzero(candidates)
    source_x, source_y = _positions(source)
    good = np.flatnonzero(np.isfinite(source_x) & np.isfinite(source_y))
    if len(rows) == 0 or len(good) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    tree = cKDTree(np.stack([x[rows], y[rows]], axis=1))
    distance, nearest = tree.query(
        np.stack([source_x[good], source_y[good]], axis=1), distance_upper_bound=radius
    )
    hit = np.flatnonzero(distance < radius)
    hit = hit[np.argsort(-distance[hit], kind="stable")]
    return good[hit], rows[nearest[hit]]


def copy_matched_columns(
    source: SourceCatalog | Table,
    target: SourceCatalog,
    pairs: tuple[np.ndarray, np.ndarray],
    names: Sequence[str],
) -> None:
    """Copy columns between the pairs of `nearest_rows`, in place; columns that ``source`` lacks are left out."""
    source_rows, target_rows = pairs
    for name in names:
        if has_column(source, name):
            target[name][target_rows] = column(source, name)[source_rows]


def _positions(catalog: SourceCatalog | Table) -> tuple[np.ndarray, np.ndarray]:
    return column(catalog, "slot_Centroid_x"), column(catalog, "slot_Centroid_y")


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
        values = references.table[name]
        table[f"ref_{name}"] = values[match_ref]
    source_table = sources.take(match_src).to_table()
    for name in source_table.colnames:
        table[f"src_{name}"] = source_table[name]
    table["distance"] = np.asarray(distance_rad, np.float64)
    table["distance"].unit = "rad"
    for name, values in (extra or {}).items():
        table[name] = values
    return table


def photometry_matches(references: ReferenceCatalog, sources: SourceCatalog, fit: PhotoCalResult) -> Table:
    """Return the matches of a photometric fit, with ``used`` and ``residual`` (mag).

    Parameters
    ----------
    references, sources
        What was matched.
    fit
        The fit.
    """
    table = references.table
    distance = angular_separation(
        table["coord_ra"][fit.match_ref],
        table["coord_dec"][fit.match_ref],
        sources["coord_ra"][fit.match_src],
        sources["coord_dec"][fit.match_src],
    )
    extra = {"used": fit.used, "residual": fit.residual}
    return denormalize_matches(references, sources, fit.match_ref, fit.match_src, distance, extra)

"""Schemas of the recipe's two catalogues, and the copying of flags between them."""

from __future__ import annotations

import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.errors import NoPsfStarsToStarsMatchError
from zeropoint.recipes.catalogs import COORD_ERRORS, copy_matched_columns, minimal_schema, nearest_rows

__all__ = ["COPIED_FLAGS", "copy_psf_star_columns", "psf_schema_start", "star_schema_start"]

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

_PSF_MAX = ColumnSpec("psf_max_value", "f4", "count", "maximum pixel of the PSF-candidate stamp")


def psf_schema_start() -> Schema:
    """Return the head of the PSF-phase schema."""
    schema = minimal_schema()
    schema.add(_PSF_MAX, *COORD_ERRORS)
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
        *COORD_ERRORS,
    )
    return schema


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
    pairs = nearest_rows(psf_stars, stars, radius)
    source, target = pairs
    if len(source) == 0:
        n_used = int(np.count_nonzero(psf_stars["calib_psf_used"]))
        n_stars = int(np.count_nonzero(~stars["sky_source"]))
        raise NoPsfStarsToStarsMatchError(
            f"None of {len(psf_stars)} sources detected for the PSF ({n_used} of them made it) lies within {radius:.1f} "
            f"pixels of one of {n_stars} selected stars; widen star_selector.",
            n_psf_stars=len(psf_stars),
            n_psf_used=n_used,
            n_stars=n_stars,
        )
    copy_matched_columns(psf_stars, stars, pairs, (*COPIED_FLAGS, "psf_max_value"))
    stars["psf_id"][target] = psf_stars["id"][source]
    return len(source)

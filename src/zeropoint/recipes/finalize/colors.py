"""Colours and magnitudes of photometric standard stars for the sources of a detector."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from zeropoint.datamodel.catalog import SourceCatalog, column, has_column
from zeropoint.errors import InvalidInputError

__all__ = ["MATCH_RADIUS_ARCSEC", "add_fgcm_photometry", "add_src_colors", "nearest_standards"]

_LOG = logging.getLogger(__name__)

#: Farthest standard star that is the same star, arcsec.
MATCH_RADIUS_ARCSEC = 1.0


def nearest_standards(catalog: SourceCatalog, standards: Any) -> npt.NDArray[np.int64]:
    """Return the row of the nearest standard star within one arcsec of each source, -1 where there is none.

    Parameters
    ----------
    catalog
        With ``coord_ra`` and ``coord_dec``, rad.
    standards
        Table with ``ra`` and ``dec``, deg.

    Returns
    -------
    rows : int64, shape (len(catalog),)
    """
    rows = np.full(len(catalog), -1, np.int64)
    if len(standards) == 0 or len(catalog) == 0:
        return rows
    for name in ("ra", "dec"):
        if not has_column(standards, name):
            raise InvalidInputError(f"The table of standard stars has no column {name!r}.")
    known = np.isfinite(catalog["coord_ra"]) & np.isfinite(catalog["coord_dec"])
    sources = _unit_vectors(catalog["coord_ra"][known], catalog["coord_dec"][known])
    stars = _unit_vectors(np.deg2rad(column(standards, "ra")), np.deg2rad(column(standards, "dec")))
    chord = 2.0 * np.sin(0.5 * np.deg2rad(MATCH_RADIUS_ARCSEC / 3600.0))
    distance, nearest = cKDTree(stars).query(sources, distance_upper_bound=chord)
    rows[np.flatnonzero(known)] = np.where(np.isfinite(distance), nearest, -1)
    return rows


def add_src_colors(
    catalog: SourceCatalog, standards: Any, band: str, colors: dict[str, str], *, field: str
) -> int:
    """Fill ``psf_color_value`` and ``psf_color_type`` from standard stars, in place; unset where there is none.

    Parameters
    ----------
    catalog
        Sources.
    standards
        Table with ``ra``, ``dec`` (deg) and ``mag_<band>``.
    band
        Band of the image.
    colors
        Band -> colour, two bands with a hyphen between.
    field
        Name of the configuration's field, for messages.

    Returns
    -------
    n
        Sources with a finite colour.

    Raises
    ------
    InvalidInputError
        If there is no colour for the band, or the table lacks a band of it.
    """
    if band not in colors:
        raise InvalidInputError(f"{field}: there is no colour for the band {band!r} (there are {colors}).")
    name = colors[band]
    first, hyphen, second = (part.strip() for part in name.partition("-"))
    if not (hyphen and first and second):
        raise InvalidInputError(f"{field}: {name!r} is no colour; write two bands, such as 'g-i'.")
    for one in (first, second):
        if not has_column(standards, f"mag_{one}"):
            raise InvalidInputError(f"{field}: the table of standard stars has no column mag_{one}.")
    rows = nearest_standards(catalog, standards)
    difference = column(standards, f"mag_{first}") - column(standards, f"mag_{second}")
    value = _where_matched(difference, rows)
    catalog["psf_color_value"] = value
    catalog["psf_color_type"] = np.where(rows >= 0, f"{first}-{second}", "")
    return int(np.isfinite(value).sum())


def add_fgcm_photometry(catalog: SourceCatalog, standards: Any, bands: Sequence[str]) -> None:
    """Fill ``fgcm_mag_<band>`` from standard stars, in place; NaN where there is none.

    Parameters
    ----------
    catalog
        Sources.
    standards
        Table with ``ra``, ``dec`` (deg) and ``mag_<band>``; bands that it lacks stay NaN.
    bands
        Bands of the catalogue's columns.
    """
    rows = nearest_standards(catalog, standards)
    for band in bands:
        if has_column(standards, f"mag_{band}"):
            catalog[f"fgcm_mag_{band}"] = _where_matched(column(standards, f"mag_{band}"), rows)
        else:
            _LOG.debug("The table of standard stars has no column mag_%s.", band)


def _where_matched(values: np.ndarray, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    result = np.full(len(rows), np.nan)
    found = rows >= 0
    result[found] = values[rows[found]]
    return result


def _unit_vectors(ra: np.ndarray, dec: np.ndarray) -> npt.NDArray[np.float64]:
    """Return unit vectors of positions in radians, shape (n, 3)."""
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)

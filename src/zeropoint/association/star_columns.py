"""The columns of isolated stars and of their sources: types, units and what they mean."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table

from zeropoint.association.config import IsolatedStarAssociationConfig

__all__ = ["describe", "star_table"]

_SOURCES = {
    "visit": "Visit of the source",
    "detector": "Detector of the source",
    "source_row": "Row of the source in its visit's table",
    "obj_index": "Row of the star in the table of stars",
}


def star_table(
    ids: npt.NDArray[np.int64],
    ra: np.ndarray,
    dec: np.ndarray,
    primary_bands: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    bands: list[str],
) -> Table:
    """Return the table of stars.

    Parameters
    ----------
    ids : int64, shape (n,)
        Ids of the stars.
    ra, dec : float64, shape (n,)
        Mean positions, degrees.
    primary_bands : int64, shape (n,)
        Index in ``bands`` of the band they are from.
    counts : int64, shape (n, n_bands)
        Sources of each star in each band; in the table of sources they follow one another in this order.
    bands
        Names of the bands.
    """
    ends = np.cumsum(counts.ravel())
    first = (ends - counts.ravel()).reshape(counts.shape).astype(np.int32)
    names = np.array(bands)[primary_bands] if len(ra) else np.zeros(0, np.array(bands).dtype)
    table = Table(
        [
            Column(ids, "isolated_star_id", description="Id of the star, with the tract"),
            Column(
                ra, "ra", unit="deg", description="Mean right ascension of the sources in primary_band, ICRS"
            ),
            Column(
                dec, "dec", unit="deg", description="Mean declination of the sources in primary_band, ICRS"
            ),
            Column(names, "primary_band", description="Band that the position is from"),
            Column(
                first[:, 0], "source_cat_index", description="First row of the star in the table of sources"
            ),
            Column(
                counts.sum(axis=1).astype(np.int32), "nsource", description="Number of sources in all bands"
            ),
        ]
    )
    for k, band in enumerate(bands):
        what = f"First row of the star's sources in {band} in the table of sources"
        table[f"source_cat_index_{band}"] = Column(first[:, k], description=what)
        number = counts[:, k].astype(np.int32)
        table[f"nsource_{band}"] = Column(number, description=f"Number of sources in {band}")
    return table


def describe(sources: Table, config: IsolatedStarAssociationConfig) -> None:
    """Add units and descriptions, in place, to columns of sources whose visits' tables have none."""
    texts: dict[str, tuple[str | None, str]] = {name: (None, text) for name, text in _SOURCES.items()}
    texts |= {
        config.id_column: (None, "Id of the source"),
        config.ra_column: ("deg", "Right ascension, ICRS"),
        config.dec_column: ("deg", "Declination, ICRS"),
        config.physical_filter_column: (None, "Name of the physical filter"),
        config.band_column: (None, "Name of the band"),
        "xErr": ("pixel", "Error of x"),
        "yErr": ("pixel", "Error of y"),
    }
    texts |= {axis: ("pixel", f"Centroid, {axis}") for axis in "xy"}
    texts |= {moment: ("pixel2", f"Second moment {moment[1:]}") for moment in ("ixx", "iyy", "ixy")}
    for name in sources.colnames:
        column = sources[name]
        unit, text = texts.get(name, (None, None))
        stem, _, kind = name.rpartition("_")
        if kind in ("instFlux", "instFluxErr"):
            unit, text = "ct", f"Instrumental flux {stem}" + (", its error" if kind == "instFluxErr" else "")
        elif kind == "flag":
            text = f"Failure of {stem}"
        if column.unit is None and unit is not None:
            column.unit = unit
        if column.description is None and text is not None:
            column.description = text

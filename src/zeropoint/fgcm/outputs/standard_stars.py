"""Standard stars for users: magnitudes of each band, by tract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table

from zeropoint.datamodel.skymap import SkyMap
from zeropoint.fgcm.accounting import Accounting
from zeropoint.fgcm.outputs.tables import bands_of, require_columns

__all__ = ["TractStars", "standard_stars", "stars_by_tract"]

#: Magnitudes from here on stand for none.
_FILLER = 90.0
_COLUMNS = ("id", "isolated_star_id", "coord_ra", "coord_dec", "ngood", "mag_std_noabs", "magErr_std")

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TractStars:
    """Standard stars by the tract in whose inner region they lie.

    Parameters
    ----------
    stars
        From `standard_stars`.
    tract
        Tract of each, int64; -1: in none.
    accounting
        Stage ``standard_stars``.
    """

    stars: Table
    tract: npt.NDArray[np.int64]
    accounting: Accounting

    @property
    def tracts(self) -> list[int]:
        """Tracts that have stars, ascending."""
        return [int(tract) for tract in np.unique(self.tract[self.tract >= 0])]

    def __iter__(self) -> Iterator[tuple[int, Table]]:
        return ((tract, self.of(tract)) for tract in self.tracts)

    def of(self, tract: int) -> Table:
        """Return the stars of a tract; none for a tract without stars."""
        return self.stars[self.tract == tract]


def standard_stars(stars: Table, offsets: Mapping[str, float] | None = None) -> Table:
    """Return the table of standard stars that users read.

    Parameters
    ----------
    stars
        ``fgcm_Cycle{N}_StandardStars``, with its metadata.
    offsets
        Band -> what is added to its magnitudes, mag; bands that are not in it: 0.

    Returns
    -------
    table : astropy.table.Table
        ``fgcm_standard_star``, sorted by ``fgcm_id``: ``fgcm_id``, ``isolated_star_id`` i8; ``ra``, ``dec`` f8, degrees; for
        each band ``mag_``, ``magErr_`` f4 (AB, NaN where there is none) and ``ngood_`` i4.

    Raises
    ------
    InvalidInputError
        If columns are missing, or the metadata do not say which bands there are.
    """
    require_columns(stars, "standard stars", _COLUMNS)
    bands = bands_of(stars)
    table = stars[np.argsort(np.asarray(stars["id"]))]
    ra = np.rad2deg(np.asarray(table["coord_ra"], np.float64)) % 360.0
    columns = [
        Column(np.asarray(table["id"], np.int64), "fgcm_id", description="Star of the global calibration"),
        Column(
            np.asarray(table["isolated_star_id"], np.int64), "isolated_star_id", description="Isolated star"
        ),
        Column(ra, "ra", unit="deg", description="Right ascension, ICRS"),
        Column(
            np.rad2deg(np.asarray(table["coord_dec"], np.float64)),
            "dec",
            unit="deg",
            description="Declination, ICRS",
        ),
    ]
    shape = (len(table), len(bands))
    mag, err, ngood = (
        np.asarray(table[name]).reshape(shape) for name in ("mag_std_noabs", "magErr_std", "ngood")
    )
    known = np.isfinite(mag) & (mag < _FILLER) & np.isfinite(err)
    for k, band in enumerate(bands):
        value = np.where(known[:, k], mag[:, k].astype(np.float64) + (offsets or {}).get(band, 0.0), np.nan)
        error = np.where(known[:, k], err[:, k], np.nan)
        what = f"magnitude in {band}, AB, in the standard passband"
        columns += [
            Column(
                value.astype(np.float32),
                f"mag_{band}",
                unit="mag",
                description=f"{what.capitalize()}; NaN: none",
            ),
            Column(
                error.astype(np.float32), f"magErr_{band}", unit="mag", description=f"Error of mag_{band}"
            ),
            Column(ngood[:, k].astype(np.int32), f"ngood_{band}", description=f"Good observations in {band}"),
        ]
    return Table(columns, meta={"BANDS": list(bands)})


def stars_by_tract(stars: Table, sky_map: SkyMap) -> TractStars:
    """Divide standard stars by tract.

    Parameters
    ----------
    stars
        From `standard_stars`.
    sky_map
        Tracts.

    Notes
    -----
    Tracts of a discrete map take the stars nearest to their centers, those beyond their own area too.  Stars whose
    position is not finite are left out (``no_position``).
    """
    ra, dec = np.asarray(stars["ra"]), np.asarray(stars["dec"])
    known: BoolArray = np.isfinite(ra) & np.isfinite(dec)
    tract = np.full(len(stars), -1, np.int64)
    if known.any():
        tract[known] = sky_map.find_tract_ids(ra[known], dec[known], degrees=True)
    accounting = Accounting()
    accounting.add(
        "standard_stars",
        read=len(stars),
        kept=int(known.sum()),
        rejected={"no_position": int((~known).sum())},
    )
    return TractStars(stars, tract, accounting)

"""The visits of a survey from a table of any origin."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import erfa
import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zeropoint.catalogs.reference_raw import RawTable
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.column_map import VISIT_FIELDS, Columns, SurveyColumns
from zeropoint.fgcm.visits import NO_VALUE, describe_visits

__all__ = ["SurveyVisits", "read_visits", "unknown_of_visits"]

_log = logging.getLogger(__name__)

#: Longest name of a filter in the table of visits, unless one is longer.
_NAME_LENGTH = 30

FloatArray = npt.NDArray[np.float64]


@dataclass
class SurveyVisits:
    """Visits as read, by visit, and what became of those left out.

    Parameters
    ----------
    values
        Name of a quantity (`zeropoint.fgcm.column_map.VISIT_FIELDS`) -> its values.
    bands
        Physical filter -> band, of all filters that have one.
    absent
        Quantities that the table does not hold.
    n_read
        Number of rows.
    rejected
        Reason -> how many visits were left out for it.
    left_out
        These visits.
    """

    values: dict[str, np.ndarray]
    bands: dict[str, str]
    absent: list[str]
    n_read: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    left_out: set[int] = field(default_factory=set)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.values[name]

    def only(self, keep: npt.NDArray[np.bool_], reason: str) -> None:
        """Leave visits out, in place.

        Parameters
        ----------
        keep : bool, shape (n_visits,)
            Which stay.
        reason
            Why the others do not.
        """
        lost = np.asarray(self["visit"])[~keep]
        if len(lost):
            self.rejected[reason] += len(lost)
            self.left_out.update(lost.tolist())
            shown = ", ".join(map(str, lost[:8].tolist())) + (", ..." if len(lost) > 8 else "")
            _log.warning("%d visits are left out (%s): %s.", len(lost), reason, shown)
            self.values = {name: values[keep] for name, values in self.values.items()}

    def table(
        self,
        detectors: npt.NDArray[np.int64],
        bands: Mapping[str, str],
        site: Mapping[str, float],
        absent: list[str],
    ) -> Table:
        """Return ``fgcmVisitCatalog``.

        Parameters
        ----------
        detectors : int64, shape (n,)
            Detectors of the survey, ascending.
        bands
            Physical filter -> band, of the filters used.
        site
            Latitude, longitude (degrees) and elevation (metres), as far as they are known.
        absent
            What the tables do not hold, for the metadata.
        """
        n, shape = len(self["visit"]), (len(self["visit"]), len(detectors))
        telha = _hour_angles(self, site)
        airmass = self["airmass"].copy()
        no_secant = ~np.isfinite(airmass) & (~np.isfinite(telha) | ("latitude" not in site))
        airmass[no_secant] = 1.0
        names = np.asarray(self["physicalFilter"])
        fwhm, sigma = self["psfFwhm"], self["psfSigma"]
        values = {
            "visit": self["visit"],
            "physicalFilter": names.astype(f"U{max(_NAME_LENGTH, names.dtype.itemsize // 4)}"),
            **{name: self[name] for name in ("telra", "teldec", "telrot", "mjd")},
            "telha": telha,
            "exptime": self["exptime"].astype(np.float32),
            "pmb": self["pmb"].astype(np.float32),
            "psfSigma": np.nan_to_num(sigma).astype(np.float32),
            "psfFwhm": np.nan_to_num(fwhm).astype(np.float32),
            "psfFwhmDetector": np.full(shape, NO_VALUE, np.float32),
            "deltaAper": np.zeros(n, np.float32),
            "deltaAperDetector": np.full(shape, NO_VALUE, np.float32),
            "skyBackground": np.nan_to_num(self["skyBackground"], nan=-1.0).astype(np.float32),
            "deepFlag": np.zeros(n, np.int32),
            "scaling": np.ones(shape),
            "used": np.ones(n, np.int32),
            "sources_read": np.ones(n, np.bool_),
            "airmass": airmass.astype(np.float32),
        }
        table = describe_visits(values)
        table.meta |= {
            "BANDS": dict(sorted(bands.items())),
            "DETECTORS": detectors.tolist(),
            **{name.upper(): value for name, value in sorted(site.items())},
            "ABSENT": absent,
            "SECANT_ONE": int(np.count_nonzero(no_secant)),
        }
        return table


def read_visits(
    table: RawTable, columns: SurveyColumns, physical_filter_map: Mapping[str, str]
) -> SurveyVisits:
    """Return the visits that can be used.

    Parameters
    ----------
    table
        One row for each visit.
    columns
        Which column is what.
    physical_filter_map
        Physical filter -> band; empty: the filters of ``columns``, or, if there are none, each filter is a band.

    Raises
    ------
    InvalidInputError
        If a column is missing or does not hold what it should, a visit has two rows, or none can be used.
    """
    reader = Columns(table, VISIT_FIELDS, columns.visits)
    reader.require("visit", "physicalFilter")
    n = len(table.get(reader.names[0]))
    values = {spec.name: reader.get(table, spec.name, n) for spec in VISIT_FIELDS if spec.name in reader}
    for spec in VISIT_FIELDS:
        if spec.name in reader and spec.kind == "f":
            reader.check_possible(spec.name, values[spec.name])
    order = np.argsort(values["visit"], kind="stable")
    values = {name: each[order] for name, each in values.items()}
    visit = values["visit"]
    twice = np.unique(visit[1:][visit[1:] == visit[:-1]])
    if len(twice):
        raise InvalidInputError(
            f"{table.path}: {len(twice)} visits have more than one row ({', '.join(map(str, twice[:8].tolist()))}); give "
            "each visit once."
        )
    absent = [name for name in reader.absent if not (name == "airmass" and "telha" in reader)]
    for spec in VISIT_FIELDS:
        if spec.name not in values:
            values[spec.name] = np.ones(n) if spec.name == "exptime" else np.full(n, np.nan)
    mapped = dict(physical_filter_map) or dict(columns.filters or {})
    names = np.unique(values["physicalFilter"]).tolist()
    bands = mapped or {name: name for name in names if name}
    found = SurveyVisits(values, bands, absent, n)
    found.only(np.isin(values["physicalFilter"], list(bands)), "no_band")
    with np.errstate(invalid="ignore"):
        found.only(np.isfinite(found["exptime"]) & (found["exptime"] > 0), "no_exposure_time")
    if n == 0:
        raise InvalidInputError(f"{table.path}: no visit can be used: it has no rows.")
    if len(found["visit"]) == 0:
        why = ", ".join(f"{reason} {number}" for reason, number in found.rejected.items())
        raise InvalidInputError(
            f"{table.path}: no visit can be used: {why}. Filters there: {', '.join(names)}; with a band: "
            f"{', '.join(bands)}."
        )
    return found


def _hour_angles(found: SurveyVisits, site: Mapping[str, float]) -> FloatArray:
    """Return hour angles of the boresight in (-180, 180], from time and longitude where the table has none."""
    telha: FloatArray = found["telha"].copy()
    needed = found["mjd"], found["telra"]
    rows = np.flatnonzero(~np.isfinite(telha) & np.isfinite(needed[0]) & np.isfinite(needed[1]))
    if "longitude" in site and len(rows):
        angle = np.rad2deg(erfa.era00(2400000.5, needed[0][rows])) + site["longitude"] - needed[1][rows]
        telha[rows] = 180.0 - (180.0 - angle) % 360.0
    return telha


def unknown_of_visits(table: Table) -> dict[str, int]:
    """Return of how many visits of a ``fgcmVisitCatalog`` something is not known.

    Parameters
    ----------
    table
        ``fgcmVisitCatalog``.

    Returns
    -------
    noted
        Condition -> number of visits.
    """
    names = {
        "no_time": "mjd",
        "no_hour_angle": "telha",
        "no_rotation": "telrot",
        "no_pressure": "pmb",
        "no_pointing": "telra",
    }
    noted = {key: int(np.count_nonzero(~np.isfinite(table[name]))) for key, name in names.items()}
    noted["no_psf_size"] = int(np.count_nonzero(table["psfFwhm"] == 0))
    return noted

"""What the summary of one visit says of it, as far as the global calibration wants to know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import erfa
import numpy as np
import numpy.typing as npt
from astropy.table import Table
from astropy.time import Time

from zeropoint.association.tables import AnyTable, read_columns
from zeropoint.datamodel.exposure import VisitInfo
from zeropoint.datamodel.exposure_catalog import ExposureCatalog
from zeropoint.datamodel.visit_info import visit_info
from zeropoint.datamodel.wcs import unit_vectors
from zeropoint.errors import InvalidInputError

__all__ = ["AnySummary", "VisitFacts", "VisitSummaries", "pairs", "read_summary", "visit_facts"]

#: A summary in memory, or its table, or a reader of that.
type AnySummary = ExposureCatalog | AnyTable
#: Visit -> its summary, or pairs of these in any order.
type VisitSummaries = Mapping[int, AnySummary] | Iterable[tuple[int, AnySummary]]

_BOX = tuple(f"bbox_{end}_{axis}" for end in ("min", "max") for axis in "xy")
#: Columns that a summary must have; what else is asked for may be missing.
_NEEDED = ("id", "visit", *_BOX, "physical_filter")
_WANTED = ("band", "psfSigma", "pixelScale", "skyBg", "ra", "dec", "visitInfo")

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class VisitFacts:
    """What is known of one visit; NaN where its summary says nothing.

    Parameters
    ----------
    visit, physical_filter, band
        Number, filter, and the band that the summary names ("" if none).
    detectors : int64, shape (n,)
        Detectors with data, ascending.
    psf_sigma, pixel_scale, sky_background : float64, shape (n,)
        Of each detector: pixels, arcsec per pixel, counts per pixel.
    ra, dec
        Where the boresight points, degrees ICRS.
    hour_angle
        Of the boresight in the middle of the exposure, degrees in (-180, 180]: Earth rotation angle + longitude - ra, as
        Rubin has it; UT1 is taken for UTC.
    rotation
        Position angle of the focal plane's +Y axis, degrees.
    mjd
        Middle of the exposure, MJD in UTC.
    exposure_time, pressure, airmass
        Seconds, millibar, airmass of the boresight as the telescope told it.
    longitude, latitude, elevation
        Of the site: degrees (longitude to the East), metres.
    is_centered_on_detectors
        Whether ra and dec are the mean direction of the detectors, for want of a pointing.
    """

    visit: int
    physical_filter: str
    band: str
    detectors: IntArray
    psf_sigma: FloatArray
    pixel_scale: FloatArray
    sky_background: FloatArray
    ra: float = np.nan
    dec: float = np.nan
    hour_angle: float = np.nan
    rotation: float = np.nan
    mjd: float = np.nan
    exposure_time: float = np.nan
    pressure: float = np.nan
    airmass: float = np.nan
    longitude: float = np.nan
    latitude: float = np.nan
    elevation: float = np.nan
    is_centered_on_detectors: bool = False


def pairs[T](tables: Mapping[int, T] | Iterable[tuple[int, T]], what: str) -> dict[int, T]:
    """Return tables by visit, ascending.

    Parameters
    ----------
    tables
        Visit -> table, or pairs of these in any order.
    what
        What the tables are, for messages: "source table".

    Raises
    ------
    InvalidInputError
        If a visit has two.
    """
    found: dict[int, T] = {}
    for visit, table in tables.items() if isinstance(tables, Mapping) else tables:
        if int(visit) in found:
            raise InvalidInputError(f"Visit {visit} has two {what}s; give each visit once.")
        found[int(visit)] = table
    return dict(sorted(found.items()))


def read_summary(
    visit: int, summary: AnySummary, *, components: Iterable[str] = ("visitInfo",)
) -> ExposureCatalog:
    """Return the summary of a visit, of which only what is needed is read.

    Parameters
    ----------
    visit, summary
        Visit and its summary.
    components
        Components to read, of those that the summary has.

    Raises
    ------
    InvalidInputError
        If it is no summary, or that of another visit.
    """
    if not isinstance(summary, ExposureCatalog):
        has = set(summary.colnames if isinstance(summary, Table) else summary.column_names)
        wanted = [name for name in dict.fromkeys((*_WANTED, *components)) if name in has]
        table = read_columns(summary, [*_NEEDED, *wanted], f"The summary of visit {visit}")
        summary = ExposureCatalog.from_table(table)
    visits = np.asarray(summary.table["visit"])
    if (visits != visit).any():
        raise InvalidInputError(
            f"The summary of visit {visit} is that of visit {visits[visits != visit][0]}."
        )
    return summary


def visit_facts(visit: int, summary: ExposureCatalog, reference_detector: int) -> VisitFacts | None:
    """Return what the summary of a visit says of it; None: nothing of the observation.

    Parameters
    ----------
    visit, summary
        Visit and its summary.
    reference_detector
        Detector whose record tells of the observation; where the visit lacks it, its first that has one does.
    """
    records = [record for record in (summary.find(reference_detector), *summary) if record is not None]
    for record in records:
        stored = record.getVisitInfo()
        if stored is None:
            continue
        band = str(record["band"]) if "band" in record else ""
        info = visit_info(stored, band, f"visit {visit} detector {record.id}")
        centers = _centers(summary)
        has_pointing = bool(np.isfinite([info.boresight_ra_deg, info.boresight_dec_deg]).all())
        ra, dec = (info.boresight_ra_deg, info.boresight_dec_deg) if has_pointing else centers
        mjd, hour_angle = _times(info, ra)
        return VisitFacts(
            visit,
            str(record["physical_filter"]),
            band,
            summary.ids,
            _values(summary, "psfSigma"),
            _values(summary, "pixelScale"),
            _values(summary, "skyBg"),
            ra=ra,
            dec=dec,
            hour_angle=hour_angle,
            rotation=info.boresight_rotation_deg,
            mjd=mjd,
            exposure_time=info.exposure_time,
            pressure=np.nan if stored.pressure is None else float(stored.pressure.to_value("hPa")),
            airmass=info.airmass,
            longitude=info.longitude_deg,
            latitude=info.latitude_deg,
            elevation=info.elevation_m,
            is_centered_on_detectors=not has_pointing and bool(np.isfinite(centers).all()),
        )
    return None


def _values(summary: ExposureCatalog, name: str) -> FloatArray:
    """Return a column of each detector, NaN where the summary has none."""
    if name not in summary.table.colnames:
        return np.full(len(summary), np.nan)
    column = summary.table[name]
    values = np.asarray(column, np.float64)
    mask = getattr(column, "mask", None)
    return values if mask is None else np.where(mask, np.nan, values)


def _centers(summary: ExposureCatalog) -> tuple[float, float]:
    """Return the mean direction of the detectors' centers, degrees."""
    ra, dec = (np.deg2rad(_values(summary, name)) for name in ("ra", "dec"))
    known = np.isfinite(ra) & np.isfinite(dec)
    if not known.any():
        return np.nan, np.nan
    x, y, z = unit_vectors(ra[known], dec[known]).sum(axis=0)
    return float(np.rad2deg(np.arctan2(y, x)) % 360.0), float(np.rad2deg(np.arctan2(z, np.hypot(x, y))))


def _times(info: VisitInfo, ra: float) -> tuple[float, float]:
    """Return the middle of the exposure, MJD in UTC, and the hour angle of a right ascension then, degrees."""
    if not np.isfinite(info.mjd_tai):
        return np.nan, np.nan
    mjd = float(Time(info.mjd_tai, format="mjd", scale="tai").utc.mjd)
    angle = np.rad2deg(erfa.era00(2400000.5, mjd)) + info.longitude_deg - ra
    return mjd, float(180.0 - (180.0 - angle) % 360.0)

"""Tables of all visits, and of all detectors of all visits, from the visit summaries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import astropy.units as u
import numpy as np
from astro_metadata_translator import ObservationInfo
from astropy.table import Column, Table, vstack

from zeropoint.datamodel.exposure import VisitInfo
from zeropoint.datamodel.exposure_catalog import ExposureCatalog
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.datamodel.visit_info import visit_info
from zeropoint.errors import InvalidInputError
from zeropoint.quality.depth import horizontal_position

__all__ = ["VISIT_COLUMNS", "VisitFacts", "visit_detector_table", "visit_facts", "visit_table"]

#: Columns of a summary that the table of visits is made from.
VISIT_COLUMNS = (
    *("id", "visit", "physical_filter", "band", "visitInfo"),
    *(f"bbox_{end}_{axis}" for end in ("min", "max") for axis in "xy"),
)
#: Full width at half maximum of a Gaussian of sigma 1.
_FWHM = float(np.sqrt(8.0 * np.log(2.0)))
#: Columns that the table of detectors takes over as they are.
_COPIED = (
    "physical_filter",
    "band",
    "ra",
    "dec",
    "pixelScale",
    "zenithDistance",
    "expTime",
    "zeroPoint",
    "psfSigma",
    "psfArea",
    "psfIxx",
    "psfIyy",
    "psfIxy",
    "skyBg",
    "skyNoise",
    "astromOffsetMean",
    "astromOffsetStd",
    "nPsfStar",
    *(f"psfStarDelta{what}{how}" for how in ("Median", "Scatter") for what in ("E1", "E2")),
    "psfStarDeltaSizeMedian",
    "psfStarDeltaSizeScatter",
    "psfStarScaledDeltaSizeScatter",
    "psfTraceRadiusDelta",
    "psfApFluxDelta",
    "psfApCorrSigmaScaledDelta",
    "maxDistToNearestPsf",
    "starEMedian",
    "starUnNormalizedEMedian",
    *(f"star{what}Median" for what in ("Coma1", "Coma2", "Trefoil1", "Trefoil2", "Kurtosis", "E41", "E42")),
    "effTime",
    "effTimePsfSigmaScale",
    "effTimeSkyBgScale",
    "effTimeZeroPointScale",
    "magLim",
    "psfAdaptiveThresholdValue",
    "psfAdaptiveIncludeThresholdMultiplier",
    "nShapeletsStar",
    "shapeletsOnlyIqScore",
    "shapeletsIqScore",
    "centroidDiffShapeletsVsSlotMedian",
    "shapeletsStarEMedian",
    "shapeletsStarUnNormalizedEMedian",
    "refCatSourceDensity",
)
#: Columns that not every summary has: name there -> name and unit in the table.
_OPTIONAL = {
    "wcs_corner_max_offset": ("wcsCornerMaxOffset", "arcsec"),
    "wcs_detector_pointing_residual": ("wcsDetectorPointingResidual", "arcsec"),
    "wcs_visit_pointing_residual": ("wcsVisitPointingResidual", "arcsec"),
    "preliminary_wcs_detector_pointing_residual": ("wcsPreliminaryDetectorPointingResidual", "arcsec"),
    "preliminary_wcs_visit_pointing_residual": ("wcsPreliminaryVisitPointingResidual", "arcsec"),
    "wcs_sip_delta_sky": ("wcsSIPDeltaSky", "arcsec"),
    "wcs_sip_delta_pixel": ("wcsSIPDeltaPixel", "pixel"),
}
#: Corners of the image by pixel: where they are among ``raCorners``, which go round from the first pixel along x.
_CORNERS = {"ll": 0, "ul": 3, "ur": 2, "lr": 1}


@dataclass(frozen=True)
class VisitFacts:
    """What the observation says of a visit as a whole; NaN where it says nothing.

    Parameters
    ----------
    info
        Pointing, exposure time, middle of the exposure.
    azimuth, altitude
        Of the boresight in the middle of the exposure, degrees.
    dark_time
        Time during which dark current accumulated, s.
    """

    info: VisitInfo
    azimuth: float
    altitude: float
    dark_time: float

    @property
    def times(self) -> dict[str, Any]:
        """Middle and start of the exposure, TAI: as time, and as MJD."""
        middle = self.info.mjd_tai
        start = middle - 0.5 * self.info.exposure_time / 86400.0
        return {
            "expMidpt": _datetime(middle),
            "expMidptMJD": middle,
            "obsStart": _datetime(start),
            "obsStartMJD": start,
        }


def visit_facts(summary: ExposureCatalog) -> VisitFacts:
    """Return what the first detector's observation says of its visit.

    Parameters
    ----------
    summary
        Visit summary with at least one row.

    Raises
    ------
    InvalidInputError
        If no row says anything of the observation.
    """
    for record in summary:
        stored = record.getVisitInfo()
        if stored is not None:
            info = visit_info(stored, str(record["band"]), f"visit {record.visit} detector {record.id}")
            azimuth, altitude = _horizontal(info, stored)
            dark = stored.dark_time
            return VisitFacts(info, azimuth, altitude, np.nan if dark is None else float(dark.to_value(u.s)))
    visits = np.unique(summary.table["visit"])
    raise InvalidInputError(
        f"visit {', '.join(map(str, visits))}: the summary says nothing of the observation."
    )


def visit_detector_table(
    summaries: Iterable[tuple[ExposureCatalog, CatalogIdGenerator]],
) -> Table:
    """Return one row per detector and visit.

    Parameters
    ----------
    summaries
        Visit summaries, and for each the ids of one of its detectors; empty ones are passed over.

    Returns
    -------
    table
        Sorted by visit and detector; without any row where there is none.

    Raises
    ------
    InvalidInputError
        If a summary lacks a column, or not all have the same.
    """
    parts = [_detectors(summary, generator) for summary, generator in summaries if len(summary)]
    return _stacked(parts, ("visitId", "detector"))


def visit_table(summaries: Iterable[ExposureCatalog]) -> Table:
    """Return one row per visit, sorted; summaries without rows are passed over.

    Raises
    ------
    InvalidInputError
        If a summary says nothing of the observation.
    """
    return _stacked([_visit(summary) for summary in summaries if len(summary)], ("visit",))


def _detectors(summary: ExposureCatalog, generator: CatalogIdGenerator) -> Table:
    source, facts, n = summary.table, visit_facts(summary), len(summary)
    missing = [name for name in (*_COPIED, "raCorners", "decCorners") if name not in source.colnames]
    if missing:
        raise InvalidInputError(
            f"the summary of visit {source['visit'][0]} has no column {', '.join(missing)}."
        )
    table = Table()
    _add(table, "visitId", np.asarray(source["visit"]), None, "Visit")
    _add(table, "detector", summary.ids, None, "Detector")
    _add(table, "detectorId", summary.ids, None, "Detector")
    ids = [replace(generator, detector=int(detector)).catalog_id for detector in summary.ids]
    _add(table, "ccdVisitId", np.array(ids, np.int64), None, "Id of visit and detector")
    for name in _COPIED:
        table[name] = source[name].copy()
    seeing = np.asarray(source["psfSigma"], np.float64) * np.asarray(source["pixelScale"]) * _FWHM
    _add(table, "seeing", seeing, "arcsec", "Full width at half maximum of the PSF")
    _add(table, "skyRotation", np.full(n, facts.info.boresight_rotation_deg), "deg", _ROTATION)
    for name, value in facts.times.items():
        _add(table, name, np.full(n, value), *_TIMES[name])
    _add(table, "darkTime", np.full(n, facts.dark_time), "s", "Time during which dark current accumulated")
    for name, axis, what in (("xSize", "x", "Columns"), ("ySize", "y", "Rows")):
        size = np.asarray(source[f"bbox_max_{axis}"], np.int64) - source[f"bbox_min_{axis}"] + 1
        _add(table, name, size, "pixel", f"{what} of the image")
    for corner, place in _CORNERS.items():
        for axis in ("ra", "dec"):
            values = np.asarray(source[f"{axis}Corners"])[:, place]
            _add(table, f"{corner}c{axis}", values, "deg", f"{axis} of the {_WORDS[corner]} corner by pixel")
    for name, (new, unit) in _OPTIONAL.items():
        if name in source.colnames:
            column = source[name]
            values = np.asarray(column) * u.Unit(column.unit).to(u.Unit(unit))
            _add(table, new, values, unit, column.description or "")
    return table


def _visit(summary: ExposureCatalog) -> Table:
    facts, first = visit_facts(summary), summary.table[0]
    info = facts.info
    rows: dict[str, tuple[Any, str | None, str]] = {
        "visitId": (np.int64(first["visit"]), None, "Visit"),
        "visit": (np.int64(first["visit"]), None, "Visit"),
        "physical_filter": (str(first["physical_filter"]), None, "Physical filter"),
        "band": (str(first["band"]), None, "Band"),
        "ra": (info.boresight_ra_deg, "deg", "Right ascension of the boresight"),
        "dec": (info.boresight_dec_deg, "deg", "Declination of the boresight"),
        "skyRotation": (info.boresight_rotation_deg, "deg", _ROTATION),
        "azimuth": (facts.azimuth, "deg", "Azimuth of the boresight in the middle of the exposure"),
        "altitude": (facts.altitude, "deg", "Altitude of the boresight in the middle of the exposure"),
        "zenithDistance": (90.0 - facts.altitude, "deg", "Zenith distance in the middle of the exposure"),
        "airmass": (info.airmass, None, "Airmass of the boresight"),
        "expTime": (info.exposure_time, "s", "Exposure time"),
        **{name: (value, *_TIMES[name]) for name, value in facts.times.items()},
    }
    table = Table()
    for name, (value, unit, description) in rows.items():
        _add(table, name, np.array([value]), unit, description)
    return table


def _stacked(parts: Sequence[Table], keys: tuple[str, ...]) -> Table:
    if not parts:
        return Table()
    for part in parts[1:]:
        if part.colnames != parts[0].colnames:
            differing = sorted(set(part.colnames) ^ set(parts[0].colnames))
            raise InvalidInputError(f"not every visit summary makes the columns {', '.join(differing)}.")
    table = vstack(list(parts), join_type="exact", metadata_conflicts="silent")
    table.sort(list(keys))
    return table


def _add(table: Table, name: str, values: np.ndarray, unit: str | None, description: str) -> None:
    table[name] = Column(values, unit=unit, description=description)


def _datetime(mjd: float) -> np.datetime64:
    """Return an MJD as a time to 0.1 ms, as observations have it; NaT for NaN."""
    if not np.isfinite(mjd):
        return np.datetime64("NaT", "ns")
    day, part = divmod(mjd, 1.0)
    ticks = round(part * 864_000_000)
    return (
        np.datetime64("1858-11-17", "ns")
        + np.timedelta64(int(day), "D")
        + np.timedelta64(ticks * 100_000, "ns")
    )


def _horizontal(info: VisitInfo, stored: ObservationInfo) -> tuple[float, float]:
    """Return azimuth and altitude, degrees: computed where time and site are known, else those of the header."""
    azimuth, altitude = horizontal_position(info, info.boresight_ra_deg, info.boresight_dec_deg)
    if np.isfinite(altitude) or stored.altaz_begin is None:
        return azimuth, altitude
    return float(stored.altaz_begin.az.deg), float(stored.altaz_begin.alt.deg)


_ROTATION = "Position angle of the focal plane's +Y axis, from North through East"
_WORDS = {"ll": "lower left", "ul": "upper left", "ur": "upper right", "lr": "lower right"}
_TIMES: Mapping[str, tuple[str | None, str]] = {
    "expMidpt": (None, "Middle of the exposure, TAI"),
    "expMidptMJD": ("d", "Middle of the exposure, MJD in TAI"),
    "obsStart": (None, "Start of the exposure, TAI"),
    "obsStartMJD": ("d", "Start of the exposure, MJD in TAI"),
}

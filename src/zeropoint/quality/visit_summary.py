"""Visit summaries: an exposure catalogue with what is known and was measured of each detector of a visit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from astro_metadata_translator import ObservationInfo
from astropy.table import Column
from lsst.images import Box, ObservationSummaryStats, Region, SkyProjection
from lsst.images.fields import BaseField
from lsst.images.psfs import PointSpreadFunction
from lsst.images.serialization import ArchiveTree

from zeropoint.datamodel.exposure_catalog import ExposureCatalog, ExposureRecord, ExposureRow

__all__ = [
    "DetectorSummary",
    "StatisticsColumn",
    "empty_visit_summary",
    "make_visit_summary",
    "statistics_columns",
    "statistics_of",
    "statistics_table_columns",
]

#: Statistics that single precision would not do for.
_DOUBLE = {"ra", "dec", "raCorners", "decCorners"}
_UNITS = {
    **dict.fromkeys(("psfSigma", "psfTraceRadiusDelta", "maxDistToNearestPsf"), "pixel"),
    **dict.fromkeys(("psfStarDeltaSizeMedian", "psfStarDeltaSizeScatter"), "pixel"),
    "centroidDiffShapeletsVsSlotMedian": "pixel",
    **dict.fromkeys(("psfArea", "psfIxx", "psfIyy", "psfIxy"), "pixel**2"),
    **dict.fromkeys(("starUnNormalizedEMedian", "shapeletsStarUnNormalizedEMedian"), "pixel**2"),
    **dict.fromkeys(("ra", "dec", "raCorners", "decCorners", "zenithDistance"), "deg"),
    "pixelScale": "arcsec/pixel",
    **dict.fromkeys(("astromOffsetMean", "astromOffsetStd"), "arcsec"),
    **dict.fromkeys(("expTime", "effTime"), "s"),
    **dict.fromkeys(("zeroPoint", "magLim"), "mag"),
    **dict.fromkeys(("skyBg", "skyNoise"), "electron"),
    "meanVar": "electron**2",
    "refCatSourceDensity": "1/deg**2",
}
#: Width of Rubin's text columns; longer names make them wider.
_TEXT_WIDTH = 32


@dataclass(frozen=True)
class StatisticsColumn:
    """How a statistic is kept in a table.

    Parameters
    ----------
    name
        Name, which is that of the statistic.
    dtype
        ``f4``, ``f8`` or ``i4``.
    length
        Numbers in each row; 1: a plain column.
    unit, description
        Of the column.
    """

    name: str
    dtype: str
    length: int
    unit: str | None
    description: str

    def column(self, values: Sequence[Any]) -> Column:
        """Return the column of some rows."""
        shape = (len(values),) if self.length == 1 else (len(values), self.length)
        array = np.array(values, self.dtype).reshape(shape)
        return Column(array, unit=self.unit, description=self.description)


@cache
def statistics_columns() -> tuple[StatisticsColumn, ...]:
    """Return the column of every statistic that ``lsst.images.ObservationSummaryStats`` has, in its order.

    Notes
    -----
    Numbers and tuples of fixed length have a column; a statistic that a later version of lsst-images adds gets one by
    itself. Tuples of any length (``shapeletsCoeffs``) have none: tables of different visits would not stack.
    """
    empty = ObservationSummaryStats()
    columns = []
    for name, info in ObservationSummaryStats.model_fields.items():
        value = getattr(empty, name)
        if name in ArchiveTree.model_fields or not (isinstance(value, (int, float)) or value):
            continue
        kind = "i4" if isinstance(value, int) else "f8" if name in _DOUBLE else "f4"
        length = len(value) if isinstance(value, tuple) else 1
        columns.append(StatisticsColumn(name, kind, length, _UNITS.get(name), info.description or ""))
    return tuple(columns)


def statistics_table_columns(statistics: Iterable[ObservationSummaryStats]) -> dict[str, Column]:
    """Return statistics as columns of a table, one row for each."""
    rows = list(statistics)
    return {c.name: c.column([getattr(row, c.name) for row in rows]) for c in statistics_columns()}


def statistics_of(record: ExposureRecord) -> ObservationSummaryStats:
    """Return the statistics in a row of a catalogue; those without a column stay unset."""
    values: dict[str, Any] = {}
    for column in statistics_columns():
        if column.name in record:
            value = record[column.name]
            values[column.name] = tuple(float(v) for v in value) if column.length > 1 else value.item()
    return ObservationSummaryStats(**values)


@dataclass(frozen=True)
class DetectorSummary:
    """What a calibrated image of one detector says of itself.

    Parameters
    ----------
    detector, bbox
        Detector number, and box of the pixels.
    physical_filter, band
        Names; band "" if unknown.
    obs_info
        Facts of the observation.
    sky_projection
        WCS.
    photometric_scaling
        nJy per electron; None where photometry failed.
    statistics
        Summary statistics; None: not measured, as empty ones.
    bounds
        Part of the image that is valid; a box: all of it.
    psf, aperture_corrections
        For a full summary; else None.
    """

    detector: int
    bbox: Box
    physical_filter: str
    band: str
    obs_info: ObservationInfo | None
    sky_projection: SkyProjection[Any] | None
    photometric_scaling: BaseField | None
    statistics: ObservationSummaryStats | None
    bounds: Box | Region | None = None
    psf: PointSpreadFunction | None = None
    aperture_corrections: Mapping[str, BaseField] | None = None

    def row(self, visit: int) -> ExposureRow:
        """Return the row of an exposure catalogue, without statistics."""
        return ExposureRow(
            self.detector,
            visit,
            bbox=self.bbox,
            psf=self.psf,
            ap_corr_map=self.aperture_corrections,
            wcs=self.sky_projection,
            photo_calib=self.photometric_scaling,
            visit_info=self.obs_info,
            polygon=self.bounds if isinstance(self.bounds, Region) else None,
        )


def make_visit_summary(visit: int, detectors: Iterable[DetectorSummary]) -> ExposureCatalog:
    """Return the summary of a visit.

    Parameters
    ----------
    visit
        Visit number.
    detectors
        Detectors with data, in any order.

    Returns
    -------
    catalog
        One row per detector: `ExposureCatalog`'s own columns, ``physical_filter``, ``band``, every statistic of
        `statistics_columns`.
    """
    ordered = sorted(detectors, key=lambda each: each.detector)
    catalog = ExposureCatalog.from_rows([each.row(visit) for each in ordered])
    names = {
        "physical_filter": _text([each.physical_filter for each in ordered], "Physical filter"),
        "band": _text([each.band for each in ordered], "Band"),
    }
    statistics = [each.statistics or ObservationSummaryStats() for each in ordered]
    return catalog.with_columns({**names, **statistics_table_columns(statistics)})


def empty_visit_summary() -> ExposureCatalog:
    """Return a summary without rows, which has the columns of every other."""
    return make_visit_summary(0, [])


def _text(values: list[str], description: str) -> Column:
    width = max([_TEXT_WIDTH, *(len(value) for value in values)])
    return Column(np.array(values, f"U{width}"), description=description)

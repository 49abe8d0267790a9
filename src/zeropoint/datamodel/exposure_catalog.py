"""Exposure catalogues: one row for each detector of a visit, with its PSF, WCS and other calibrations.

The form of visit summaries and of refitted PSFs and aperture corrections; ``docs/visit_summary.md`` describes the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from astropy.table import Column, Table, vstack

from zeropoint.datamodel import exposure_components as components
from zeropoint.datamodel.arrow import arrow_to_table, table_to_arrow
from zeropoint.datamodel.exposure_components import COMPONENTS
from zeropoint.errors import InvalidInputError

if TYPE_CHECKING:
    from astro_metadata_translator import ObservationInfo
    from lsst.images import Box, Region, SkyProjection
    from lsst.images.cameras import Detector
    from lsst.images.fields import BaseField
    from lsst.images.psfs import PointSpreadFunction

    from zeropoint.datamodel.exposure import PhotoCalib
    from zeropoint.datamodel.fields import ChebyshevPolynomial
    from zeropoint.datamodel.wcs import SkyWcs

__all__ = [
    "COMPONENTS",
    "DETECTOR_COMMENTS",
    "VISIT_COMMENTS",
    "ExposureCatalog",
    "ExposureRecord",
    "ExposureRow",
]

IntArray = npt.NDArray[np.int64]

#: Sentences in the metadata of a visit's catalogue, and of a single detector's.
VISIT_COMMENTS = ("Catalog id is detector id, sorted.", "Only detectors with data have entries.")
DETECTOR_COMMENTS = ("Catalog id is detector id, sorted.", "Only one detector with data has an entry.")

_BBOX = ("bbox_min_x", "bbox_min_y", "bbox_max_x", "bbox_max_y")
#: Plain columns that every catalogue has: dtype, unit, description.
_REQUIRED: Mapping[str, tuple[str, str | None, str]] = {
    "id": ("i8", None, "Detector"),
    **{name: ("i4", "pixel", f"Bounding box, {name[5:].replace('_', ' ')}") for name in _BBOX},
    "visit": ("i8", None, "Visit"),
}


@dataclass(frozen=True)
class ExposureRow:
    """What is known of one detector of one visit, to be put into an `ExposureCatalog`.

    Parameters
    ----------
    id, visit
        Detector and visit number.
    bbox
        Box of the image's pixels.
    psf
        PSF in lsst-images' form (`zeropoint.psf.piff_io.to_lsst_psf`).
    ap_corr_map
        Aperture corrections by name.
    wcs
        WCS; a `SkyWcs` needs ``bbox``.
    photo_calib
        Photometric calibration, nJy per electron; a `PhotoCalib` needs ``bbox``.
    visit_info, detector, polygon
        Facts of the observation, detector, valid part in pixels.
    values
        Further plain columns: numbers, text, booleans, and tuples of numbers.
    """

    id: int
    visit: int
    bbox: Box | None = None
    psf: PointSpreadFunction | None = None
    ap_corr_map: Mapping[str, ChebyshevPolynomial | BaseField] | None = None
    wcs: SkyWcs | SkyProjection[Any] | None = None
    photo_calib: PhotoCalib | BaseField | None = None
    visit_info: ObservationInfo | None = None
    detector: Detector | None = None
    polygon: Region | None = None
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def instrument(self) -> str:
        """Instrument's name as far as detector or observation tell it."""
        if self.detector is not None:
            return str(self.detector.instrument)
        return "" if self.visit_info is None else str(self.visit_info.instrument)


@dataclass(frozen=True)
class ExposureRecord:
    """One row of an `ExposureCatalog`; a component is decoded when it is asked for.

    Parameters
    ----------
    values
        Plain columns.
    texts
        Component columns, as stored.

    Notes
    -----
    Every ``get`` method returns None where the component is absent, and raises
    `~zeropoint.errors.InvalidInputError` where its text cannot be read. Pixel positions of `getWcs`, `getApCorrMap` and
    `getPhotoCalib` count from the first pixel of the image.
    """

    values: Mapping[str, Any]
    texts: Mapping[str, str] = field(repr=False)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def __contains__(self, name: str) -> bool:
        return name in self.values

    @property
    def id(self) -> int:
        """Detector number."""
        return int(self.values["id"])

    @property
    def visit(self) -> int:
        """Visit number."""
        return int(self.values["visit"])

    def getId(self) -> int:
        """Return the detector number."""
        return self.id

    def has(self, component: str) -> bool:
        """Say whether a component is present, without decoding it."""
        return bool(self.texts.get(component, ""))

    def getBBox(self) -> Box | None:
        """Return the box of the image's pixels, None where the row has none."""
        from lsst.images import Box

        x0, y0, x1, y1 = (int(self.values[name]) for name in _BBOX)
        return None if x1 < x0 or y1 < y0 else Box.factory[y0 : y1 + 1, x0 : x1 + 1]

    def getPsf(self) -> PointSpreadFunction | None:
        """Return the PSF."""
        psf: PointSpreadFunction | None = self._decoded("psf")
        return psf

    def getApCorrMap(self) -> dict[str, ChebyshevPolynomial] | None:
        """Return the aperture corrections by name."""
        corrections: dict[str, ChebyshevPolynomial] | None = self._decoded("apCorrMap")
        return corrections

    @property
    def sky_projection(self) -> SkyProjection[Any] | None:
        """The WCS in lsst-images' form."""
        projection: SkyProjection[Any] | None = self._decoded("wcs")
        return projection

    def getWcs(self) -> SkyWcs | None:
        """Return the WCS."""
        projection = self.sky_projection
        if projection is None:
            return None
        box = self._image_box("wcs")
        return components.sky_wcs_of(self.texts["wcs"], projection, (box.y.size, box.x.size))

    def getPhotoCalib(self) -> PhotoCalib | None:
        """Return the photometric calibration, nJy per electron."""
        stored = self._decoded("photoCalib")
        if stored is None:
            return None
        try:
            return components.photo_calib_of(self.texts["photoCalib"], stored)
        except TypeError as error:
            raise InvalidInputError(
                f"{self._name}: the column 'photoCalib' cannot be used: {error}"
            ) from None

    def getVisitInfo(self) -> ObservationInfo | None:
        """Return the facts of the observation."""
        info: ObservationInfo | None = self._decoded("visitInfo")
        return info

    def getDetector(self) -> Detector | None:
        """Return the detector."""
        detector: Detector | None = self._decoded("detector")
        return detector

    def getValidPolygon(self) -> Region | None:
        """Return the valid part of the detector, pixels."""
        polygon: Region | None = self._decoded("validPolygon")
        return polygon

    @property
    def _name(self) -> str:
        return f"visit {self.visit} detector {self.id}"

    def _decoded(self, component: str) -> Any:
        return components.decode(component, self.texts.get(component, ""), self._name)

    def _image_box(self, component: str) -> Box:
        box = self.getBBox()
        if box is None or box.x.start or box.y.start:
            raise InvalidInputError(
                f"{self._name}: the column {component!r} needs a box that begins at pixel (0, 0), not {box}."
            )
        return box


@dataclass(frozen=True)
class ExposureCatalog:
    """A table with one row for each detector of a visit.

    Parameters
    ----------
    table
        Plain columns, sorted by ``id`` (detector); ``meta["COMMENT"]`` has the sentences that come with it.
    texts
        The text of each component for every row, "" where it is absent.

    Notes
    -----
    Make one with `from_rows`, `from_table` or `concatenate`.
    """

    table: Table
    texts: Mapping[str, tuple[str, ...]] = field(repr=False)

    @classmethod
    def from_table(cls, table: Table | pa.Table) -> ExposureCatalog:
        """Return the catalogue of a table as the Butler or `to_arrow` gives it.

        Raises
        ------
        InvalidInputError
            If a required column is missing or of another kind, or a detector has two rows.
        """
        if isinstance(table, pa.Table):
            table = arrow_to_table(table, long_text=COMPONENTS)
        missing = [name for name in _REQUIRED if name not in table.colnames]
        if missing:
            raise InvalidInputError(
                f"this is no exposure catalogue: it has no column {', '.join(missing)} (it has "
                f"{', '.join(table.colnames[:12])}...)."
            )
        for name, (dtype, _, _) in _REQUIRED.items():
            if table[name].dtype.kind != "i":
                raise InvalidInputError(
                    f"this is no exposure catalogue: the column {name!r} is {table[name].dtype}, not {dtype}."
                )
        order = np.argsort(np.asarray(table["id"]), kind="stable")
        table = table[order]
        ids = np.asarray(table["id"])
        repeated = np.unique(ids[1:][ids[1:] == ids[:-1]])
        if repeated.size:
            raise InvalidInputError(f"exposure catalogue: detector {repeated[0]} has more than one row.")
        texts = {
            name: tuple(str(text) for text in table[name]) if name in table.colnames else ("",) * len(table)
            for name in COMPONENTS
        }
        plain = table[[name for name in table.colnames if name not in COMPONENTS]]
        for name, (dtype, _, _) in _REQUIRED.items():
            if plain[name].dtype != np.dtype(dtype):
                plain[name] = plain[name].astype(dtype)
        # the Butler leaves the metadata of a table behind when it reads one
        plain.meta.setdefault("COMMENT", list(VISIT_COMMENTS))
        return cls(plain, texts)

    @classmethod
    def from_rows(
        cls, rows: Sequence[ExposureRow], *, comments: Sequence[str] = VISIT_COMMENTS
    ) -> ExposureCatalog:
        """Return the catalogue of some detectors, in any order.

        Parameters
        ----------
        rows
            Detectors; their ``values`` must have the same names.
        comments
            Sentences for the table's metadata.

        Raises
        ------
        InvalidInputError
            If detectors repeat, or the names of further columns differ between rows.
        """
        rows = sorted(rows, key=lambda row: row.id)
        names = list(rows[0].values) if rows else []
        for row in rows:
            if set(row.values) != set(names):
                differing = sorted(set(row.values) ^ set(names))
                raise InvalidInputError(
                    f"visit {row.visit} detector {row.id}: other columns than detector {rows[0].id}: "
                    f"{', '.join(differing)}."
                )
        table = Table(meta={"COMMENT": list(comments)})
        required = [(row.id, *_corners(row.bbox), row.visit) for row in rows]
        for k, (name, (dtype, unit, description)) in enumerate(_REQUIRED.items()):
            values = np.array([row[k] for row in required], dtype)
            table[name] = Column(values, unit=unit, description=description)
        for name in names:
            table[name] = np.array([row.values[name] for row in rows])
        encoded = [_encoded(row) for row in rows]
        texts = {name: tuple(each.get(name, "") for each in encoded) for name in COMPONENTS}
        for name, column in texts.items():
            table[name] = Column(np.array(column, object), description=COMPONENTS[name])
        return cls.from_table(table)

    @classmethod
    def concatenate(
        cls, catalogs: Iterable[ExposureCatalog], *, comments: Sequence[str] = VISIT_COMMENTS
    ) -> ExposureCatalog:
        """Return catalogues of different detectors as one.

        Raises
        ------
        InvalidInputError
            If there is none, a detector repeats, or columns or their dtypes differ.
        """
        parts = list(catalogs)
        if not parts:
            raise InvalidInputError("there is no exposure catalogue to concatenate.")
        first = parts[0].table
        for part in parts[1:]:
            for name in sorted(set(first.colnames) ^ set(part.table.colnames)):
                raise InvalidInputError(
                    f"exposure catalogues differ: the column {name!r} is not in detectors "
                    f"{_list((part if name in first.colnames else parts[0]).ids)}."
                )
            for name in first.colnames:
                one, other = first[name].dtype, part.table[name].dtype
                if one != other and one.kind + other.kind != "UU":
                    raise InvalidInputError(
                        f"exposure catalogues differ: the column {name!r} is {other} in detectors "
                        f"{_list(part.ids)}, and {one} before."
                    )
        stacked = vstack([part.to_table() for part in parts], join_type="exact", metadata_conflicts="silent")
        stacked.meta.clear()
        stacked.meta["COMMENT"] = list(comments)
        return cls.from_table(stacked)

    def to_table(self) -> Table:
        """Return all columns; those of components hold Python strings (dtype object)."""
        table = self.table.copy()
        for name, column in self.texts.items():
            table[name] = Column(np.array(column, object), description=COMPONENTS[name])
        return table

    def to_arrow(self) -> pa.Table:
        """Return all columns as an Arrow table, the form in which catalogues are written."""
        return table_to_arrow(self.to_table())

    def with_columns(self, columns: Mapping[str, Column]) -> ExposureCatalog:
        """Return the catalogue with further (or other) plain columns."""
        table = self.table.copy()
        for name, column in columns.items():
            table[name] = column
        return replace(self, table=table)

    def without(self, component: str, detectors: Iterable[int]) -> ExposureCatalog:
        """Return the catalogue without a component of some detectors."""
        gone = {int(detector) for detector in detectors}
        texts = dict(self.texts)
        texts[component] = tuple(
            "" if int(i) in gone else text for i, text in zip(self.ids, texts[component])
        )
        return replace(self, texts=texts)

    @property
    def ids(self) -> IntArray:
        """Detectors, ascending."""
        return np.asarray(self.table["id"], np.int64)

    def find(self, detector: int) -> ExposureRecord | None:
        """Return a detector's row, None where it has none."""
        k = int(np.searchsorted(self.ids, detector))
        return self._record(k) if k < len(self) and self.ids[k] == detector else None

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[ExposureRecord]:
        return (self._record(k) for k in range(len(self)))

    def _record(self, k: int) -> ExposureRecord:
        values = {name: self.table[name][k] for name in self.table.colnames}
        return ExposureRecord(values, {name: column[k] for name, column in self.texts.items()})


def _corners(box: Box | None) -> tuple[int, int, int, int]:
    """Return first and last pixel of a box; of none, numbers that say that it is empty."""
    return (0, 0, -1, -1) if box is None else (box.x.min, box.y.min, box.x.max, box.y.max)


def _encoded(row: ExposureRow) -> dict[str, str]:
    """Return the text of each component that a row has."""
    texts: dict[str, str] = {}
    if row.psf is not None:
        texts["psf"] = components.encode_psf(row.psf)
    if row.wcs is not None:
        texts["wcs"] = components.encode_wcs(
            row.wcs, box=row.bbox, instrument=row.instrument, visit=row.visit, detector=row.id
        )
    if row.photo_calib is not None:
        texts["photoCalib"] = components.encode_photo_calib(row.photo_calib, box=row.bbox)
    if row.ap_corr_map is not None:
        texts["apCorrMap"] = components.encode_ap_corr_map(row.ap_corr_map)
    if row.visit_info is not None:
        texts["visitInfo"] = components.encode_visit_info(row.visit_info)
    if row.detector is not None:
        texts["detector"] = components.encode_detector(row.detector)
    if row.polygon is not None:
        texts["validPolygon"] = components.encode_polygon(row.polygon)
    return texts


def _list(ids: IntArray) -> str:
    return ", ".join(str(i) for i in ids[:8])

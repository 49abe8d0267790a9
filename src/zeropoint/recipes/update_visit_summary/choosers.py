"""Which of several catalogues gives a detector its WCS or photometric calibration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from lsst.images import Box
from lsst.sphgeom import HealpixPixelization, LonLat, UnitVector3d

from zeropoint.datamodel.exposure_catalog import ExposureRecord
from zeropoint.datamodel.skymap_tract import SkyPosition, Tract, polygon
from zeropoint.datamodel.wcs import SkyWcs, angular_separation, unit_vectors

__all__ = [
    "GlobalInput",
    "OverrideCatalog",
    "PerHealpixInput",
    "PerTractInput",
    "PossiblyMultipleInput",
    "compute_center_for_detector_record",
    "image_corners",
]


class OverrideCatalog(Protocol):
    """Rows by detector: `~zeropoint.datamodel.exposure_catalog.ExposureCatalog` and `PhotoCalibCatalog`."""

    def find(self, detector: int) -> Any:
        """Return the row of a detector, None where there is none."""


def image_corners(bbox: Box) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of the corners (pixel edges) of an image, which count from its first pixel."""
    width, height = bbox.x.size, bbox.y.size
    x, y = np.array([0, width, width, 0]) - 0.5, np.array([0, 0, height, height]) - 0.5
    return x, y


def compute_center_for_detector_record(
    record: Any, bbox: Box | None = None, wcs: SkyWcs | None = None
) -> SkyPosition | None:
    """Return the middle of a detector on the sky: the centroid of the polygon through its corners.

    Parameters
    ----------
    record
        Row of an exposure catalogue (or of photometric calibrations, which have no WCS).
    bbox
        Pixels of the image; default: those of the record.
    wcs
        WCS; default: that of the record.

    Returns
    -------
    center
        None without a WCS.
    """
    if isinstance(record, ExposureRecord):
        if bbox is not None and record.getBBox() is None:
            # catalogues that hold nothing but a WCS may leave the box empty
            record = _with_box(record, bbox)
        bbox = record.getBBox() if bbox is None else bbox
        wcs = record.getWcs() if wcs is None else wcs
    if wcs is None or bbox is None:
        return None
    x, y = image_corners(bbox)
    center = LonLat(polygon(unit_vectors(*wcs.pixel_to_sky(x=x, y=y))).getCentroid())
    return SkyPosition(center.getLon().asRadians(), center.getLat().asRadians())


def _with_box(record: ExposureRecord, bbox: Box) -> ExposureRecord:
    """Return a row with the box of its image where it has none."""
    if record.getBBox() is not None:
        return record
    box = (bbox.x.start, bbox.y.start, bbox.x.stop - 1, bbox.y.stop - 1)
    names = ("bbox_min_x", "bbox_min_y", "bbox_max_x", "bbox_max_y")
    return replace(record, values={**record.values, **dict(zip(names, box, strict=True))})


class PossiblyMultipleInput(ABC):
    """Catalogues of which there may be one per visit, or several by region."""

    @abstractmethod
    def best_for_detector(
        self, detector_id: int, center: SkyPosition | None = None, bbox: Box | None = None
    ) -> tuple[int, Any]:
        """Return the row that suits a detector best.

        Parameters
        ----------
        detector_id
            Detector number.
        center
            Its middle on the sky; default: as each catalogue's own WCS has it.
        bbox
            Pixels of its image; default: those of each row.

        Returns
        -------
        region
            Number of the tract or pixel that gave the row; -1 where there is no row, or catalogues have no region.
        record
            Row; None where no catalogue has one whose distance could be told.
        """

    @property
    @abstractmethod
    def regions(self) -> tuple[int, ...]:
        """Tracts or pixels of the catalogues, ascending; none for a catalogue of the whole visit."""


@dataclass(frozen=True)
class GlobalInput(PossiblyMultipleInput):
    """The one catalogue of a visit.

    Parameters
    ----------
    catalog
        Rows of all detectors.
    """

    catalog: OverrideCatalog

    def best_for_detector(
        self, detector_id: int, center: SkyPosition | None = None, bbox: Box | None = None
    ) -> tuple[int, Any]:
        """See `PossiblyMultipleInput.best_for_detector`."""
        record = self.catalog.find(detector_id)
        if isinstance(record, ExposureRecord) and bbox is not None:
            record = _with_box(record, bbox)
        return -1, record

    @property
    def regions(self) -> tuple[int, ...]:
        """See `PossiblyMultipleInput.regions`."""
        return ()


@dataclass(frozen=True)
class _Candidate:
    """A row, with the distance of the detector's middle from the middle of the row's region, radians."""

    region: int
    record: Any
    center: SkyPosition
    distance: float


class _RegionalInput(PossiblyMultipleInput):
    """Catalogues by region, of which the nearest counts; of regions equally near the one with the lowest number."""

    @property
    @abstractmethod
    def _catalogs(self) -> Sequence[tuple[int, SkyPosition, OverrideCatalog]]:
        """Region, its middle, and catalogue, in the order of regions."""

    @property
    def regions(self) -> tuple[int, ...]:
        """See `PossiblyMultipleInput.regions`."""
        return tuple(region for region, _, _ in self._catalogs)

    def _candidates(self, detector_id: int, center: SkyPosition | None, bbox: Box | None) -> list[_Candidate]:
        result = []
        for region, middle, catalog in self._catalogs:
            record = catalog.find(detector_id)
            if record is None:
                continue
            if isinstance(record, ExposureRecord) and bbox is not None:
                record = _with_box(record, bbox)
            at = compute_center_for_detector_record(record, bbox) if center is None else center
            if at is not None:
                distance = float(angular_separation(*at, *middle))
                result.append(_Candidate(region, record, at, distance))
        return result

    def best_for_detector(
        self, detector_id: int, center: SkyPosition | None = None, bbox: Box | None = None
    ) -> tuple[int, Any]:
        """See `PossiblyMultipleInput.best_for_detector`."""
        candidates = self._preferred(self._candidates(detector_id, center, bbox))
        if not candidates:
            return -1, None
        best = min(candidates, key=lambda candidate: candidate.distance)
        return best.region, best.record

    def _preferred(self, candidates: list[_Candidate]) -> list[_Candidate]:
        return candidates


@dataclass(frozen=True)
class PerTractInput(_RegionalInput):
    """Catalogues by tract; the tract counts whose middle is nearest to the detector's.

    Parameters
    ----------
    catalogs_by_tract
        Tracts and their catalogues, in any order.
    """

    catalogs_by_tract: Sequence[tuple[Tract, OverrideCatalog]]

    @cached_property
    def _catalogs(self) -> Sequence[tuple[int, SkyPosition, OverrideCatalog]]:
        ordered = sorted(self.catalogs_by_tract, key=lambda pair: pair[0].id)
        return [(tract.id, tract.ctr_coord, catalog) for tract, catalog in ordered]


@dataclass(frozen=True)
class PerHealpixInput(_RegionalInput):
    """Catalogues by HEALPix pixel (nested); the pixel counts that the detector's middle lies in, else the nearest.

    Parameters
    ----------
    catalogs_by_pixel
        Pixels and their catalogues, in any order.
    level
        Level of the pixels: N of ``healpixN``.
    """

    catalogs_by_pixel: Sequence[tuple[int, OverrideCatalog]]
    level: int = 3

    @cached_property
    def _catalogs(self) -> Sequence[tuple[int, SkyPosition, OverrideCatalog]]:
        pixels = HealpixPixelization(self.level)
        result = []
        for pixel, catalog in sorted(self.catalogs_by_pixel, key=lambda pair: pair[0]):
            middle = LonLat(pixels.pixel(pixel).getCentroid())
            result.append(
                (pixel, SkyPosition(middle.getLon().asRadians(), middle.getLat().asRadians()), catalog)
            )
        return result

    def _preferred(self, candidates: list[_Candidate]) -> list[_Candidate]:
        pixels = HealpixPixelization(self.level)
        inside = [
            each
            for each in candidates
            if pixels.index(
                UnitVector3d(*unit_vectors(np.array(each.center.ra), np.array(each.center.dec)).tolist())
            )
            == each.region
        ]
        return inside or candidates

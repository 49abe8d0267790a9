"""The pointing of a visit from the fitted WCSs of its detectors, and which of these WCSs cannot be right.

Facts as in the LSST Science Pipelines' RefitPointingTask (2026).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import lsst.pex.config as pexConfig
import numpy as np
from astropy.table import Column
from lsst.images import Box
from lsst.images.cameras import CameraFrameSet

from zeropoint.astrometry.boresight import Boresight, detectors_of
from zeropoint.datamodel.exposure_catalog import ExposureCatalog, ExposureRecord
from zeropoint.datamodel.visit_geometry import VisitGeometry, sky_polygon
from zeropoint.datamodel.wcs import unit_vectors
from zeropoint.errors import NoVisitWcs

__all__ = ["RefitPointing", "RefitPointingConfig", "RefitPointingResult"]

_LOG = logging.getLogger(__name__)
_ARCSEC = np.pi / 648000.0

DETECTOR_RESIDUAL = "wcs_detector_pointing_residual"
VISIT_RESIDUAL = "wcs_visit_pointing_residual"
REJECTED = "wcs_detector_pointing_rejected"


class RefitPointingConfig(pexConfig.Config):
    """Fields and defaults of RefitPointingTask."""

    grid_spacing = pexConfig.Field[float](
        doc="Largest distance of the positions at which WCS and camera geometry are compared, pixels.",
        default=512.0,
        check=lambda value: value > 0,
    )
    rejection_threshold = pexConfig.Field[float](
        doc="A detector whose WCS differs by more than this from the camera geometry, turned to fit it alone, "
        "is left out of the visit's fit; arcsec.",
        default=10.0,
    )
    nulling_threshold = pexConfig.Field[float](
        doc="A WCS that differs by more than this from the camera geometry at the visit's pointing is removed; arcsec.",
        default=60.0,
    )
    schema_prefix = pexConfig.Field[str](doc="What the names of the columns begin with.", default="")
    fallback_region_padding = pexConfig.Field[int](
        doc="Pixels by which the region of a detector is grown that only the camera geometry places.",
        default=50,
    )


@dataclass(frozen=True)
class RefitPointingResult:
    """What the fit found.

    Parameters
    ----------
    catalog
        The catalogue with three further columns, and without the WCSs that were removed.
    boresight
        Fitted pointing; None without a camera.
    geometry
        Regions of visit and detectors; None where nothing places a detector.
    rejected, removed
        Detectors left out of the fit, and those whose WCS was removed.
    unknown
        Detectors with a WCS that the camera lacks.
    """

    catalog: ExposureCatalog
    boresight: Boresight | None
    geometry: VisitGeometry | None
    rejected: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    unknown: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Grid:
    """Positions of one detector as unit vectors, shape (n, 3): of the camera geometry and of the WCS."""

    start: np.ndarray
    target: np.ndarray


class RefitPointing:
    """Fit the pointing of a visit: the rotation of the sphere that takes the camera geometry to the fitted WCSs.

    Parameters
    ----------
    config
        Configuration.
    """

    ConfigClass = RefitPointingConfig

    def __init__(self, config: RefitPointingConfig | None = None) -> None:
        self.config = config if config is not None else RefitPointingConfig()

    def columns(
        self,
        n: int,
        detector_residual: np.ndarray | None = None,
        visit_residual: np.ndarray | None = None,
        rejected: np.ndarray | None = None,
    ) -> dict[str, Column]:
        """Return the columns that the fit adds, by default as they are for ``n`` detectors without a fit."""
        prefix, nothing = self.config.schema_prefix, np.full(n, np.nan)
        return {
            prefix + DETECTOR_RESIDUAL: Column(
                nothing if detector_residual is None else detector_residual,
                unit="rad",
                description="Largest distance of the WCS from the camera geometry turned to fit this detector",
            ),
            prefix + VISIT_RESIDUAL: Column(
                nothing if visit_residual is None else visit_residual,
                unit="rad",
                description="Largest distance of the WCS from the camera geometry at the visit's pointing",
            ),
            prefix + REJECTED: Column(
                np.zeros(n, bool) if rejected is None else rejected,
                description="Detector was left out of the fit of the visit's pointing",
            ),
        }

    def run(self, catalog: ExposureCatalog, camera: CameraFrameSet | None) -> RefitPointingResult:
        """Fit the pointing of a visit.

        Parameters
        ----------
        catalog
            Detectors with their WCSs.
        camera
            Camera model; None: nothing is fitted, the columns are NaN, and regions come from the WCSs alone.

        Raises
        ------
        NoVisitWcs
            If the catalogue is empty, or no WCS is left to fit to; ``record`` is the result without any WCS.
            Metadata: n_detectors, n_wcs, n_rejected, n_unknown.
        """
        targets = {record.id: record for record in catalog if record.has("wcs")}
        if camera is None:
            filled = catalog.with_columns(self.columns(len(catalog)))
            return RefitPointingResult(filled, None, _geometry_of_wcs(targets.values()))
        known = set(detectors_of(camera))
        unknown = tuple(sorted(set(targets) - known))
        for detector in unknown:
            _LOG.warning(
                "Detector %d is not in the camera model; its WCS is neither fitted nor tried.", detector
            )
        records = {detector: record for detector, record in targets.items() if detector in known}
        mirror, grids = self._grids(records, camera)
        alone = {detector: _residual(_rotation([grid]), grid) for detector, grid in grids.items()}
        limit = self.config.rejection_threshold * _ARCSEC
        rejected = tuple(sorted(detector for detector, size in alone.items() if size > limit))
        for detector in rejected:
            _LOG.warning(
                "Detector %d is left out of the fit of the pointing: its WCS differs by %.3g arcsec from the camera "
                "geometry.",
                detector,
                alone[detector] / _ARCSEC,
            )
        kept = [grid for detector, grid in grids.items() if detector not in rejected]
        if not kept:
            raise self._no_wcs(catalog, alone, rejected, unknown)
        rotation = _visit_rotation(kept, self.config.nulling_threshold * _ARCSEC)
        together = {detector: _residual(rotation, grid) for detector, grid in grids.items()}
        removed = self._removed(together)
        changed = catalog.without("wcs", removed).with_columns(
            self._filled(catalog, alone, together, rejected)
        )
        boresight = _boresight(rotation)
        geometry = self._geometry(changed, set(rejected), camera, rotation, mirror, boresight)
        return RefitPointingResult(changed, boresight, geometry, rejected, removed, unknown)

    def _grids(
        self, records: Mapping[int, ExposureRecord], camera: CameraFrameSet
    ) -> tuple[bool, dict[int, _Grid]]:
        """Return the positions to fit to, and whether the camera's field angles are mirrored on the sky."""
        pixels = {d: _pixel_grid(camera.detector(d).bbox, self.config.grid_spacing) for d in records}
        targets = {d: _on_sky(records[d], *pixels[d]) for d in records}
        choices = []
        for mirror in (False, True):
            grids = {d: _Grid(_in_camera(camera, d, *pixels[d], mirror), targets[d]) for d in records}
            sizes = [_residual(_rotation([grid]), grid) for grid in grids.values()]
            choices.append((float(np.median(sizes)) if sizes else 0.0, mirror, grids))
        _, mirror, grids = min(choices, key=lambda choice: choice[:2])
        return mirror, grids

    def _removed(self, together: Mapping[int, float]) -> tuple[int, ...]:
        limit = self.config.nulling_threshold * _ARCSEC
        removed = tuple(sorted(detector for detector, size in together.items() if size > limit))
        for detector in removed:
            _LOG.warning(
                "The WCS of detector %d is removed: it differs by %.3g arcsec from the camera geometry at the visit's "
                "pointing.",
                detector,
                together[detector] / _ARCSEC,
            )
        return removed

    def _filled(
        self,
        catalog: ExposureCatalog,
        alone: Mapping[int, float],
        together: Mapping[int, float],
        rejected: Iterable[int],
    ) -> dict[str, Column]:
        ids = [int(i) for i in catalog.ids]
        return self.columns(
            len(ids),
            np.array([alone.get(i, np.nan) for i in ids]),
            np.array([together.get(i, np.nan) for i in ids]),
            np.isin(ids, list(rejected)),
        )

    def _no_wcs(
        self,
        catalog: ExposureCatalog,
        alone: Mapping[int, float],
        rejected: tuple[int, ...],
        unknown: tuple[int, ...],
    ) -> NoVisitWcs:
        removed = tuple(record.id for record in catalog if record.has("wcs"))
        failure = NoVisitWcs(
            f"No WCS is left to fit the pointing to: of {len(catalog)} detectors {len(removed)} have a WCS, "
            f"{len(rejected)} of these differ by more than {self.config.rejection_threshold:g} arcsec from the camera "
            f"geometry, {len(unknown)} are not in the camera model.",
            n_detectors=len(catalog),
            n_wcs=len(removed),
            n_rejected=len(rejected),
            n_unknown=len(unknown),
        )
        changed = catalog.without("wcs", removed).with_columns(self._filled(catalog, alone, {}, rejected))
        failure.record = RefitPointingResult(changed, None, None, rejected, removed, unknown)
        return failure

    def _geometry(
        self,
        catalog: ExposureCatalog,
        rejected: set[int],
        camera: CameraFrameSet,
        rotation: np.ndarray,
        mirror: bool,
        boresight: Boresight,
    ) -> VisitGeometry:
        """Return the regions of all detectors: by the WCS where it is good, else by the camera geometry."""
        corners: dict[int, np.ndarray] = {}
        for detector in detectors_of(camera):
            box, record = camera.detector(detector).bbox, catalog.find(detector)
            if record is not None and record.has("wcs") and detector not in rejected:
                corners[detector] = _on_sky(record, *_corners(box, 0))
            else:
                x, y = _corners(box, self.config.fallback_region_padding)
                corners[detector] = _in_camera(camera, detector, x, y, mirror) @ rotation.T
        return _geometry(corners, boresight)


def _pixel_grid(box: Box, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Return positions from edge to edge of a box, no farther apart than the spacing, flat."""
    axes = [
        np.linspace(side.start - 0.5, side.stop - 0.5, int(np.ceil(side.size / spacing)) + 1)
        for side in (box.x, box.y)
    ]
    x, y = np.meshgrid(*axes)
    return x.ravel(), y.ravel()


def _corners(box: Box, padding: int) -> tuple[np.ndarray, np.ndarray]:
    x0, x1 = box.x.start - 0.5 - padding, box.x.stop - 0.5 + padding
    y0, y1 = box.y.start - 0.5 - padding, box.y.stop - 0.5 + padding
    return np.array([x0, x1, x1, x0]), np.array([y0, y0, y1, y1])


def _on_sky(record: ExposureRecord, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the directions of pixels by a detector's WCS."""
    projection = record.sky_projection
    assert projection is not None
    sky = projection.pixel_to_sky(x=x, y=y)
    return unit_vectors(np.asarray(sky.ra.rad), np.asarray(sky.dec.rad))


def _in_camera(
    camera: CameraFrameSet, detector: int, x: np.ndarray, y: np.ndarray, mirror: bool
) -> np.ndarray:
    """Return the directions of pixels by the camera geometry, for a telescope that points at (0, 0) upright.

    +Y of the field angles then points North and +X West; mirrored: East.
    """
    transform = camera[camera.detector(detector), camera.field_angle()]
    angle = transform.apply_forward(x=x, y=y)
    east = np.asarray(angle.x) if mirror else -np.asarray(angle.x)
    vectors = np.stack([np.ones_like(east), east, np.asarray(angle.y)], axis=-1)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _rotation(grids: Iterable[_Grid]) -> np.ndarray:
    """Return the rotation R with ``R @ start`` nearest to ``target`` in the sense of least squares (Kabsch)."""
    pairs = list(grids)
    start, target = (np.concatenate([getattr(g, name) for g in pairs]) for name in ("start", "target"))
    u, _, vt = np.linalg.svd(start.T @ target)
    proper = np.diag([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T))])
    rotation: np.ndarray = vt.T @ proper @ u.T
    return rotation


def _visit_rotation(grids: Sequence[_Grid], limit: float) -> np.ndarray:
    """Return the rotation of all detectors if it fits each to ``limit`` radians, else that of a majority it fits.

    So a WCS in the wrong place does not draw the pointing along. Without a majority the rotation is that of all.
    """
    everything = _rotation(grids)
    if all(_residual(everything, grid) <= limit for grid in grids):
        return everything
    choices = []
    for start in grids:
        sizes = [_residual(_rotation([start]), grid) for grid in grids]
        agreeing = [grid for grid, size in zip(grids, sizes, strict=True) if size <= limit]
        choices.append((len(agreeing), -sum(size for size in sizes if size <= limit), agreeing))
    n_agreeing, _, agreeing = max(choices, key=lambda choice: choice[:2])
    return _rotation(agreeing) if 2 * n_agreeing > len(grids) else everything


def _residual(rotation: np.ndarray, grid: _Grid) -> float:
    """Return the largest angle, radians, between the turned camera geometry and the WCS."""
    chords = np.linalg.norm(grid.start @ rotation.T - grid.target, axis=1)
    return float(2.0 * np.arcsin(min(0.5 * chords.max(), 1.0)))


def _boresight(rotation: np.ndarray) -> Boresight:
    axis, up = rotation[:, 0], rotation[:, 2]
    ra, dec = np.arctan2(axis[1], axis[0]), np.arcsin(np.clip(axis[2], -1.0, 1.0))
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    north = np.array([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    angle = np.arctan2(up @ east, up @ north)
    return Boresight(float(np.rad2deg(ra)) % 360.0, float(np.rad2deg(dec)), float(np.rad2deg(angle)))


def _geometry(corners: Mapping[int, np.ndarray], boresight: Boresight | None) -> VisitGeometry:
    regions = {detector: sky_polygon(vectors) for detector, vectors in sorted(corners.items())}
    return VisitGeometry(
        None if boresight is None else boresight.ra_deg,
        None if boresight is None else boresight.dec_deg,
        None if boresight is None else boresight.rotation_deg,
        sky_polygon(np.concatenate(list(corners.values()))),
        regions,
    )


def _geometry_of_wcs(records: Iterable[ExposureRecord]) -> VisitGeometry | None:
    """Return the regions of the detectors that have a WCS and a box."""
    corners = {}
    for record in records:
        box = record.getBBox()
        if box is not None:
            corners[record.id] = _on_sky(record, *_corners(box, 0))
    return _geometry(corners, None) if corners else None

"""Focal planes from camera models, and from the WCSs of visits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.fields import ChebyshevPolynomial, fit_chebyshev
from zeropoint.datamodel.focal_plane import DetectorGeometry, FocalPlane
from zeropoint.datamodel.wcs import unit_vectors
from zeropoint.errors import InvalidInputError

if TYPE_CHECKING:
    from lsst.images import Box
    from lsst.images.cameras import CameraFrameSet

    from zeropoint.datamodel.exposure_catalog import ExposureCatalog, ExposureRecord

__all__ = ["of_camera", "of_summaries"]

_LOG = logging.getLogger(__name__)
FloatArray = npt.NDArray[np.float64]

_ARCSEC = np.pi / 648000.0
#: Order of the polynomials of pixel areas, which is Rubin's, and places on each axis that they are fitted to.
_ORDER, _NODES = 3, 8
#: Half of the distance, pixels, over which directions are differenced: at 0.2 arcsec their rounding makes 2e-10 of it.
_STEP = 1.0

#: Pixel positions -> unit vectors, shape (n, 3).
ToVectors = Callable[[FloatArray, FloatArray], FloatArray]


def of_camera(camera: CameraFrameSet, names: Mapping[int, str], *, mirrored: bool = False) -> FocalPlane:
    """Return the focal plane of a camera model; see `FocalPlane.from_camera`.

    Parameters
    ----------
    camera, names, mirrored
        As there.
    """
    detectors = []
    parity = 1.0 if mirrored else -1.0
    # lsst-images has no public list of them
    for number in sorted(camera._detector_frame_ids):
        frame = camera.detector(number)
        to_angle = camera[frame, camera.field_angle()]
        to_plane = camera[frame, camera.focal_plane()]

        def vectors(x: FloatArray, y: FloatArray, to_angle: Any = to_angle) -> FloatArray:
            angle = to_angle.apply_forward(x=x, y=y)
            return _deprojected(parity * np.asarray(angle.x), np.asarray(angle.y))

        detector = _detector(number, names, frame.bbox, vectors)
        x, y = _center(detector)
        at = to_plane.apply_forward(x=x + _STEP * _CROSS[0], y=y + _STEP * _CROSS[1])
        (ax, bx, ay, by), (cx, dx, cy, dy) = np.asarray(at.x)[1:], np.asarray(at.y)[1:]
        size = np.sqrt(abs((ax - bx) * (cy - dy) - (ay - by) * (cx - dx))) / (2.0 * _STEP)
        detectors.append(
            replace(
                detector,
                x_mm=float(np.asarray(at.x)[0]),
                y_mm=float(np.asarray(at.y)[0]),
                pixel_size=float(size),
            )
        )
    return _relative(FocalPlane(camera.instrument, tuple(detectors)))


@dataclass(frozen=True)
class _Visit:
    """The detectors of a visit that have a WCS, with directions of five points of each, in some frame."""

    records: Mapping[int, ExposureRecord]
    on_sky: Mapping[int, ToVectors]
    points: Mapping[int, FloatArray]


def of_summaries(
    summaries: Iterable[ExposureCatalog], instrument: str, names: Mapping[int, str]
) -> FocalPlane:
    """Return the focal plane that the WCSs of visits show; see `FocalPlane.from_summaries`.

    Parameters
    ----------
    summaries, instrument, names
        As there.

    Raises
    ------
    InvalidInputError
        If no detector has a WCS.
    """
    visits = [visit for visit in (_visit(catalog) for catalog in summaries) if visit.records]
    if not visits:
        raise InvalidInputError(
            "no detector of these visits has a WCS, so there is no focal plane to be seen."
        )
    aligned = _aligned(visits)
    frame = _frame(aligned)
    detectors = []
    for number in sorted({d for visit in aligned for d in visit.points}):
        seen = [visit for visit in aligned if number in visit.points]
        center = np.median([visit.points[number][0] @ frame.T for visit in seen], axis=0)
        box = seen[0].records[number].getBBox()
        assert box is not None
        # a turn of the sky changes no area, so each WCS is asked as it is
        one = [_detector(number, names, box, visit.on_sky[number]) for visit in seen]
        area = np.median([each.area.coefficients for each in one], axis=0)
        detectors.append(
            replace(
                one[0],
                offset_x=float(np.rad2deg(center[1] / center[0])),
                offset_y=float(np.rad2deg(center[2] / center[0])),
                pixel_scale=float(np.median([each.pixel_scale for each in one])),
                area=ChebyshevPolynomial(one[0].width, one[0].height, area),
            )
        )
    return _relative(FocalPlane(instrument or _instrument(visits), tuple(detectors)))


#: A pixel and its four neighbors, in columns.
_CROSS = np.array([[0.0, 1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, -1.0]])


def _deprojected(xi: FloatArray, eta: FloatArray) -> FloatArray:
    """Return unit vectors of positions on the tangent plane: axis, East, North."""
    vectors = np.stack([np.ones_like(xi), xi, eta], axis=-1)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _center(detector: DetectorGeometry) -> tuple[float, float]:
    return detector.x0 + 0.5 * (detector.width - 1), detector.y0 + 0.5 * (detector.height - 1)


def _detector(number: int, names: Mapping[int, str], box: Box, vectors: ToVectors) -> DetectorGeometry:
    """Return a detector whose area is in square arcsec, to be divided by what the whole camera says."""
    width, height = box.x.size, box.y.size
    nodes = np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES)
    u, v = (each.ravel() for each in np.meshgrid(0.5 * width * (nodes + 1.0), 0.5 * height * (nodes + 1.0)))
    # the center is the last
    u, v = np.append(u, 0.5 * width) - 0.5, np.append(v, 0.5 * height) - 0.5
    areas = _areas(vectors, u + box.x.start, v + box.y.start)
    fit = fit_chebyshev(u[:-1], v[:-1], areas[:-1], width, height, _ORDER, _ORDER, triangular=False)
    center = vectors(u[-1:] + box.x.start, v[-1:] + box.y.start)[0]
    return DetectorGeometry(
        number,
        names.get(number, str(number)),
        box.x.start,
        box.y.start,
        width,
        height,
        float(np.rad2deg(center[1] / center[0])),
        float(np.rad2deg(center[2] / center[0])),
        float(np.sqrt(areas[-1])),
        fit,
    )


def _areas(vectors: ToVectors, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the areas of pixels on the sky, square arcsec."""
    at = vectors((x + _STEP * _CROSS[0][:, None]).ravel(), (y + _STEP * _CROSS[1][:, None]).ravel())
    here, right, left, above, below = at.reshape(5, -1, 3)
    product = np.sum(here * np.cross(right - left, above - below), axis=-1)
    return np.asarray(np.abs(product) / (2.0 * _STEP * _ARCSEC) ** 2)


def _relative(plane: FocalPlane) -> FocalPlane:
    """Return a focal plane with areas divided by the square of its median pixel scale."""
    factor = plane.median_pixel_scale**-2
    return FocalPlane(
        plane.instrument, tuple(replace(each, area=each.area.scaled(factor)) for each in plane.detectors)
    )


# -- WCSs of visits ---------------------------------------------------------------------------------


def _on_sky(record: ExposureRecord) -> ToVectors:
    projection = record.sky_projection
    assert projection is not None

    def vectors(x: FloatArray, y: FloatArray) -> FloatArray:
        sky = projection.pixel_to_sky(x=x, y=y)
        return unit_vectors(np.asarray(sky.ra.rad), np.asarray(sky.dec.rad))

    return vectors


def _visit(catalog: ExposureCatalog) -> _Visit:
    """Return the directions of center and edges of the detectors of a visit, about its pointing if that is known."""
    records = {record.id: record for record in catalog if record.has("wcs") and record.getBBox() is not None}
    # decoding a WCS takes as long as all that is asked of it
    on_sky = {number: _on_sky(record) for number, record in records.items()}
    points = {}
    for number, record in records.items():
        box = record.getBBox()
        assert box is not None
        half = 0.5 * np.array([[box.x.size], [box.y.size]])
        x, y = np.array([[box.x.start], [box.y.start]]) - 0.5 + half * (1.0 + _CROSS)
        points[number] = on_sky[number](x, y)
    pointing = _pointing(records)
    if pointing is not None:
        points = {number: each @ pointing.T for number, each in points.items()}
    return _Visit(records, on_sky, points)


def _pointing(records: Mapping[int, ExposureRecord]) -> FloatArray | None:
    """Return the rotation that takes the sky to (axis, East, North) of the unrotated camera; None if not known."""
    info = next((info for record in records.values() if (info := record.getVisitInfo()) is not None), None)
    if info is None or info.tracking_radec is None or info.boresight_rotation_angle is None:
        return None
    sky = info.tracking_radec.icrs
    ra, dec, turn = sky.ra.rad, sky.dec.rad, info.boresight_rotation_angle.rad
    if not np.isfinite([ra, dec, turn]).all():
        return None
    axis = unit_vectors(np.array(ra), np.array(dec))
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    north = np.cross(axis, east)
    c, s = np.cos(turn), np.sin(turn)
    # +Y at position angle `turn`, from North through East
    return np.stack([axis, c * east - s * north, c * north + s * east])


def _aligned(visits: list[_Visit]) -> list[_Visit]:
    """Return visits turned so that common detectors coincide with those of the fullest of them."""
    order = sorted(visits, key=lambda visit: -len(visit.points))
    first, waiting = order[0], order[1:]
    places = dict(first.points)
    aligned = [first]
    while waiting:
        best = max(waiting, key=lambda visit: len(places.keys() & visit.points.keys()))
        common = sorted(places.keys() & best.points.keys())
        if not common:
            raise InvalidInputError(
                f"detectors {', '.join(map(str, sorted(best.points)))} are never in a visit with detectors "
                f"{', '.join(map(str, sorted(places)))}, so how they lie to each other is not known; give a camera model."
            )
        rotation = _rotation(
            np.concatenate([best.points[d] for d in common]), np.concatenate([places[d] for d in common])
        )
        turned = {d: each @ rotation.T for d, each in best.points.items()}
        aligned.append(_Visit(best.records, best.on_sky, turned))
        for number, each in turned.items():
            places.setdefault(number, each)
        waiting = [visit for visit in waiting if visit is not best]
    return aligned


def _rotation(start: FloatArray, target: FloatArray) -> FloatArray:
    """Return the rotation R with ``R @ start`` nearest to ``target`` in the sense of least squares (Kabsch)."""
    u, _, vt = np.linalg.svd(start.T @ target)
    proper = np.diag([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T))])
    return np.asarray(vt.T @ proper @ u.T)


def _frame(aligned: list[_Visit]) -> FloatArray:
    """Return the rotation to (axis, East, North) of the unrotated camera.

    The fullest visit has been turned there already if its pointing is known; else the axis is the center of all
    detectors, and North the mean direction of their columns.
    """
    if _pointing(aligned[0].records) is not None:
        return np.eye(3)
    _LOG.info("No pointing with rotation is known; the focal plane is centered on its detectors.")
    places: dict[int, FloatArray] = {}
    for visit in aligned:
        for number, each in visit.points.items():
            places.setdefault(number, each)
    axis = np.sum([each[0] for each in places.values()], axis=0)
    axis /= np.linalg.norm(axis)
    up = np.sum([each[3] - each[4] for _, each in sorted(places.items())], axis=0)
    up -= axis * (up @ axis)
    north = up / np.linalg.norm(up)
    return np.stack([axis, np.cross(north, axis), north])


def _instrument(visits: list[_Visit]) -> str:
    for record in visits[0].records.values():
        info = record.getVisitInfo()
        if info is not None:
            return str(info.instrument)
    return ""

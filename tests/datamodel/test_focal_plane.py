from __future__ import annotations

import numpy as np
import pytest
from lsst.images import Box

from tasks.camera_of_four import ARCSEC, HEIGHT, PLACES, SCALE, WIDTH, camera_wcs, make_camera
from zeropoint.astrometry.boresight import Boresight
from zeropoint.datamodel.arrow import arrow_to_table, table_to_arrow
from zeropoint.datamodel.exposure_catalog import ExposureCatalog, ExposureRow
from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.datamodel.transmission_curve import TransmissionCurve
from zeropoint.errors import InvalidInputError

BOX = Box.factory[0:HEIGHT, 0:WIDTH]
#: Coefficient of the camera's distortion, r -> r (1 + K r^2), pixels^-2.
K = 1e-9


@pytest.fixture(scope="module")
def plane() -> FocalPlane:
    return FocalPlane.from_camera(make_camera())


def exact_area(detector: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Area of a pixel in square arcsec: of the distortion in closed form, times the cube of the cosine off axis."""
    px, py = x + PLACES[detector][0], y + PLACES[detector][1]
    r2 = px**2 + py**2
    plane = (1 + K * r2) * (1 + 3 * K * r2)
    angle = SCALE * ARCSEC * np.sqrt(r2) * (1 + K * r2)
    return SCALE**2 * plane * (1 + angle**2) ** -1.5


def summary(
    boresight: Boresight, detectors: tuple[int, ...] = tuple(PLACES), visit: int = 1
) -> ExposureCatalog:
    wcs = camera_wcs(make_camera(), boresight)
    return ExposureCatalog.from_rows([ExposureRow(d, visit, BOX, wcs=wcs[d]) for d in detectors])


def test_areas_of_a_camera_are_those_of_its_distortion(plane: FocalPlane, rng: np.random.Generator) -> None:
    centers = [exact_area(d, (WIDTH - 1) / 2, (HEIGHT - 1) / 2) ** 0.5 for d in PLACES]
    assert plane.median_pixel_scale == pytest.approx(np.median(centers), rel=5e-9)
    detector = rng.choice(list(PLACES), 200)
    x, y = rng.uniform(0, WIDTH, 200), rng.uniform(0, HEIGHT, 200)
    expected = np.array([exact_area(d, a, b) for d, a, b in zip(detector, x, y)]) / np.median(centers) ** 2
    assert expected.max() > 1.0005
    # a millionth of a magnitude
    np.testing.assert_allclose(plane.relative_area(detector, x, y), expected, atol=1e-6)


def test_centers_are_where_the_camera_has_them(plane: FocalPlane) -> None:
    for detector, (x, y) in PLACES.items():
        px, py = x + (WIDTH - 1) / 2, y + (HEIGHT - 1) / 2
        angle = SCALE / 3600 * (1 + K * (px**2 + py**2))
        # +X of field angles points West
        assert plane[detector].offset_x == pytest.approx(-px * angle, rel=1e-9)
        assert plane[detector].offset_y == pytest.approx(py * angle, rel=1e-9)
        # this camera's focal plane counts pixels
        assert (plane[detector].x_mm, plane[detector].y_mm) == pytest.approx((px, py))
        assert plane[detector].pixel_size == pytest.approx(1.0)


def test_a_table_keeps_the_focal_plane(plane: FocalPlane) -> None:
    stored = arrow_to_table(table_to_arrow(plane.to_table()))
    # the Butler does not give back the metadata of a table
    stored.meta.clear()
    again = FocalPlane.from_table(stored)
    assert again.instrument == plane.instrument
    for one, other in zip(plane, again, strict=True):
        for name in ("id", "name", "width", "height", "offset_x", "pixel_scale", "x_mm", "pixel_size"):
            assert getattr(one, name) == getattr(other, name)
        np.testing.assert_array_equal(one.area.coefficients, other.area.coefficients)
    table = plane.to_table()
    table.remove_column("area")
    with pytest.raises(InvalidInputError, match="no column area"):
        FocalPlane.from_table(table)


def test_visits_show_the_focal_plane_whatever_they_are_turned(plane: FocalPlane) -> None:
    visits = [
        summary(Boresight(10.0, 60.0, 20.0), (0, 1)),
        summary(Boresight(200.0, -5.0, 140.0), (1, 4), 2),
        summary(Boresight(100.0, -45.0, 250.0), (4, 7, 1), 3),
    ]
    seen = FocalPlane.from_summaries(visits)
    np.testing.assert_array_equal(seen.ids, plane.ids)
    assert seen.median_pixel_scale == pytest.approx(plane.median_pixel_scale, rel=1e-9)
    x, y = np.meshgrid(np.linspace(0, WIDTH, 5), np.linspace(0, HEIGHT, 5))
    for detector in PLACES:
        np.testing.assert_allclose(
            seen.relative_area(detector, x, y), plane.relative_area(detector, x, y), atol=2e-8
        )
    # without a pointing the axis is the center of the detectors
    center = np.mean([[each.offset_x, each.offset_y] for each in plane], axis=0)
    for one, other in zip(plane, seen, strict=True):
        assert one.offset_x - center[0] == pytest.approx(other.offset_x, abs=2e-6)
        assert one.offset_y - center[1] == pytest.approx(other.offset_y, abs=2e-6)
        assert np.isnan(other.x_mm)


def test_visits_without_common_detectors_or_wcs_are_refused() -> None:
    apart = [summary(Boresight(10.0, 0.0, 0.0), (0,)), summary(Boresight(10.0, 0.0, 0.0), (4,), 2)]
    with pytest.raises(InvalidInputError, match="detectors 4 are never in a visit with detectors 0"):
        FocalPlane.from_summaries(apart)
    with pytest.raises(InvalidInputError, match="no detector of these visits has a WCS"):
        FocalPlane.from_summaries([ExposureCatalog.from_rows([ExposureRow(0, 1, BOX)])])


def test_a_curve_over_the_radius_is_sampled_at_the_detector(plane: FocalPlane) -> None:
    radial = TransmissionCurve(
        np.array([5000.0, 6000.0]),
        np.array([[0.0, 0.0], [0.8, 0.8]]),
        np.array([0.0, 2000.0]),
        "pixel",
    )
    radius = np.hypot(PLACES[7][0] + (WIDTH - 1) / 2, PLACES[7][1] + (HEIGHT - 1) / 2)
    expected = 0.8 * radius / 2000.0
    assert plane.throughput(radial, 7, [5500.0]) == pytest.approx([expected])
    seen = FocalPlane.from_summaries([summary(Boresight(10.0, 0.0, 0.0))])
    # the axis is some pixels off, and the sky stretched
    assert seen.throughput(radial, 7, [5500.0]) == pytest.approx([expected], abs=0.05)
    in_mm = TransmissionCurve(radial.wavelength, radial.throughput, radial.radii, "mm")
    with pytest.raises(InvalidInputError, match="that of the detector is not known"):
        seen.throughput(in_mm, 7, [5500.0])


def test_detectors_that_are_not_there_are_named(plane: FocalPlane) -> None:
    with pytest.raises(InvalidInputError, match="has no detector 3"):
        plane.relative_area([0, 3], 1.0, 1.0)
    assert list(plane.only([7, 0]).ids) == [0, 7]

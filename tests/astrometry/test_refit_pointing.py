"""The pointing of a visit comes back from WCSs that were made with it, and WCSs that cannot be right are found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lsst.images.cameras import CameraFrameSet
from lsst.sphgeom import UnitVector3d

from tasks.camera_of_four import ARCSEC, BOX, HEIGHT, PLACES, WIDTH, camera_wcs, make_camera
from zeropoint.astrometry.boresight import Boresight, detectors_of
from zeropoint.astrometry.refit_pointing import VISIT_RESIDUAL, RefitPointing, RefitPointingConfig
from zeropoint.datamodel.exposure_catalog import ExposureCatalog, ExposureRow
from zeropoint.datamodel.visit_geometry import VisitGeometry
from zeropoint.datamodel.wcs import SkyWcs, angular_separation, unit_vectors
from zeropoint.errors import InvalidInputError, NoVisitWcs


@pytest.fixture(scope="module")
def camera() -> CameraFrameSet:
    return make_camera()


def make_catalog(wcs: dict[int, SkyWcs | None]) -> ExposureCatalog:
    return ExposureCatalog.from_rows([ExposureRow(d, 12, bbox=BOX, wcs=each) for d, each in wcs.items()])


def moved(wcs: SkyWcs | None, arcsec: float) -> SkyWcs:
    assert wcs is not None
    return wcs.with_affine(np.eye(2), np.array([0.0, arcsec * ARCSEC]))


def stretched(wcs: SkyWcs | None) -> SkyWcs:
    """Return a WCS whose scale is wrong by 10 %: some 26 arcsec at the corners of a detector."""
    assert wcs is not None
    coefficients = wcs.coefficients.copy()
    coefficients[:, 0, 1] *= 1.1
    return SkyWcs(wcs.ra0, wcs.dec0, coefficients, wcs.x_ref, wcs.y_ref, wcs.scale)


def column(catalog: ExposureCatalog, name: str) -> np.ndarray:
    return np.asarray(catalog.table[name])


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ra=st.floats(0.0, 359.99),
    dec=st.floats(-89.0, 89.0),
    angle=st.floats(-179.0, 179.0),
    parity=st.sampled_from([1.0, -1.0]),
)
def test_the_pointing_of_perfect_wcss_comes_back(ra: float, dec: float, angle: float, parity: float) -> None:
    truth = Boresight(ra, dec, angle)
    wcs = camera_wcs(make_camera(), truth)
    # a camera whose field angles are mirrored on the sky is recognised as such
    result = RefitPointing().run(make_catalog(wcs), make_camera(parity))
    found = result.boresight
    assert found is not None
    offset = angular_separation(*np.deg2rad([found.ra_deg, found.dec_deg, ra, dec])) / ARCSEC
    # the WCSs are polynomials fitted to the camera geometry to 1e-5 arcsec
    assert offset < 1e-4
    turned = (found.rotation_deg - angle + 180.0) % 360.0 - 180.0
    # near the pole an angle means little without the right ascension it counts from
    turned -= np.sin(np.deg2rad(dec)) * ((found.ra_deg - ra + 180.0) % 360.0 - 180.0)
    assert abs(turned) < 1e-6
    assert (result.rejected, result.removed) == ((), ())
    for name in ("wcs_detector_pointing_residual", "wcs_visit_pointing_residual"):
        assert column(result.catalog, name).max() < 1e-4 * ARCSEC


def test_a_misshapen_wcs_is_left_out_and_a_misplaced_one_removed(camera: CameraFrameSet) -> None:
    truth = Boresight(150.0, 2.0, 33.0)
    wcs = camera_wcs(camera, truth)
    wcs[1], wcs[4] = stretched(wcs[1]), moved(wcs[4], 90.0)
    config = RefitPointingConfig()
    config.schema_prefix = "preliminary_"
    # a third of the misplaced detector's 90 arcsec would go into the pointing of all three
    config.nulling_threshold = 50.0
    result = RefitPointing(config).run(make_catalog(wcs), camera)
    assert (result.rejected, result.removed) == ((1,), (4,))
    alone = column(result.catalog, "preliminary_wcs_detector_pointing_residual") / ARCSEC
    together = column(result.catalog, "preliminary_wcs_visit_pointing_residual") / ARCSEC
    np.testing.assert_array_equal(
        column(result.catalog, "preliminary_wcs_detector_pointing_rejected"), [False, True, False, False]
    )
    assert alone[1] > 10.0
    # a shift is no deformation: a detector that is misplaced fits the geometry alone
    assert np.delete(alone, 1).max() < 0.1
    assert together[2] > 89.0
    assert together[[0, 3]].max() < 0.1
    assert [record.has("wcs") for record in result.catalog] == [True, True, False, True]


@pytest.mark.parametrize("arcsec", [90.0, 300.0, 3000.0])
def test_one_misplaced_wcs_does_not_draw_the_pointing_along(camera: CameraFrameSet, arcsec: float) -> None:
    wcs = camera_wcs(camera, Boresight(150.0, 2.0, 33.0))
    result = RefitPointing().run(make_catalog({**wcs, 7: moved(wcs[7], arcsec)}), camera)
    assert result.removed == (7,)
    assert np.delete(column(result.catalog, VISIT_RESIDUAL), 3).max() < 1e-9
    assert result.boresight is not None
    np.testing.assert_allclose((result.boresight.ra_deg, result.boresight.dec_deg), (150.0, 2.0), atol=1e-9)


def test_without_a_majority_no_wcs_is_preferred(camera: CameraFrameSet) -> None:
    wcs = camera_wcs(camera, Boresight(150.0, 2.0, 33.0))
    halves = {**wcs, 4: moved(wcs[4], 300.0), 7: moved(wcs[7], 300.0)}
    assert RefitPointing().run(make_catalog(halves), camera).removed == (0, 1, 4, 7)


def test_regions_hold_the_pixels_they_belong_to(camera: CameraFrameSet) -> None:
    truth = Boresight(359.99, 2.0, 33.0)
    wcs = camera_wcs(camera, truth)
    perfect = dict(wcs)
    wcs[1], wcs[4] = stretched(wcs[1]), None
    catalog = make_catalog({d: w for d, w in wcs.items() if d != 0})
    geometry = RefitPointing().run(catalog, camera).geometry
    assert geometry is not None
    assert sorted(geometry.detector_regions) == list(PLACES) == list(detectors_of(camera))
    # half a pixel from the edge, where a WCS gives the region; 49 pixels beyond it where the camera geometry does
    for detector, margin in ((7, -0.5), (0, 49.0), (1, 49.0), (4, 49.0)):
        x = np.array([-0.5 - margin, WIDTH - 0.5 + margin])
        y = np.array([-0.5 - margin, HEIGHT - 0.5 + margin])
        inside = unit_vectors(*perfect[detector].pixel_to_sky(x=x, y=y))  # type: ignore[union-attr]
        outside = unit_vectors(
            *perfect[detector].pixel_to_sky(x=x + [-3.0, 3.0], y=y + [-3.0, 3.0])  # type: ignore[union-attr]
        )
        region = geometry.detector_regions[detector]
        assert all(region.contains(UnitVector3d(*vector)) for vector in inside), detector
        assert not any(region.contains(UnitVector3d(*vector)) for vector in outside), detector
        assert all(geometry.visit_region.contains(UnitVector3d(*vector)) for vector in inside)


def test_geometry_comes_back_from_plain_values(camera: CameraFrameSet) -> None:
    geometry = (
        RefitPointing().run(make_catalog(camera_wcs(camera, Boresight(20.0, 2.0, 3.0))), camera).geometry
    )
    assert geometry is not None
    values = geometry.to_dict()
    assert values["visit_region"].startswith("POLYGON ")
    back = VisitGeometry.from_dict(values)
    assert (back.boresight_ra, back.boresight_dec, back.orientation) == (
        geometry.boresight_ra,
        geometry.boresight_dec,
        geometry.orientation,
    )
    for detector, region in geometry.detector_regions.items():
        found, expected = (
            np.array([list(vector) for vector in each.getVertices()])  # type: ignore[attr-defined]
            for each in (back.detector_regions[detector], region)
        )
        # degrees as text lose the last digit
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-15)
    with pytest.raises(InvalidInputError, match="no visit geometry"):
        VisitGeometry.from_dict({**values, "visit_region": "SQUARE 1 2"})


def test_no_wcs_is_a_failure_that_keeps_the_catalogue(camera: CameraFrameSet) -> None:
    wcs = {d: stretched(w) for d, w in camera_wcs(camera, Boresight(20.0, 2.0, 3.0)).items()}
    with pytest.raises(NoVisitWcs, match="of 5 detectors 4 have a WCS, 4 of these differ") as caught:
        RefitPointing().run(make_catalog({**wcs, 9: None}), camera)
    assert caught.value.metadata == {"n_detectors": 5, "n_wcs": 4, "n_rejected": 4, "n_unknown": 0}
    kept = caught.value.record.catalog
    assert not any(record.has("wcs") for record in kept)
    np.testing.assert_array_equal(column(kept, "wcs_detector_pointing_rejected"), [True] * 4 + [False])
    with pytest.raises(NoVisitWcs, match="of 0 detectors"):
        RefitPointing().run(ExposureCatalog.from_rows([]), camera)


def test_a_detector_that_the_camera_lacks_keeps_its_wcs(camera: CameraFrameSet) -> None:
    wcs = camera_wcs(camera, Boresight(20.0, 2.0, 3.0))
    result = RefitPointing().run(make_catalog({**wcs, 12: moved(wcs[0], 500.0)}), camera)
    assert result.unknown == (12,)
    assert result.catalog.find(12).has("wcs")  # type: ignore[union-attr]
    assert np.isnan(column(result.catalog, "wcs_visit_pointing_residual")[-1])


def test_without_a_camera_only_the_regions_are_known(camera: CameraFrameSet) -> None:
    wcs = camera_wcs(camera, Boresight(20.0, 2.0, 3.0))
    result = RefitPointing().run(make_catalog({**wcs, 9: None}), None)
    assert result.boresight is None
    assert np.isnan(column(result.catalog, "wcs_detector_pointing_residual")).all()
    assert not column(result.catalog, "wcs_detector_pointing_rejected").any()
    geometry = result.geometry
    assert geometry is not None
    assert geometry.boresight_ra is None
    assert sorted(geometry.detector_regions) == list(PLACES)

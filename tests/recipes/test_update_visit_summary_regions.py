"""Which WCS and photometric calibration of which region a detector gets in the final summary of its visit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lsst.images import ObservationSummaryStats

from recipes import small_visit as small
from recipes.visit_update import (
    ARCSEC,
    FIRST,
    SECOND,
    assert_same_statistics,
    assert_same_table,
    update,
)
from zeropoint.datamodel.exposure import AB_FLUX_NJY, PhotoCalib
from zeropoint.datamodel.exposure_catalog import ExposureCatalog, ExposureRow
from zeropoint.datamodel.photo_calib_catalog import PhotoCalibCatalog, PhotoCalibRecord
from zeropoint.datamodel.skymap import SkyMap, SkyPosition
from zeropoint.datamodel.wcs import angular_separation
from zeropoint.quality.summary import WCS_STATISTICS, ComputeExposureSummaryStats
from zeropoint.quality.visit_summary import statistics_of
from zeropoint.recipes.update_visit_summary.choosers import GlobalInput, PerHealpixInput, PerTractInput

# -- WCS ------------------------------------------------------------------------------------------------


def shifted(arcsec):
    return small.wcs_catalog({d: small.detector_wcs(d, shift_arcsec=arcsec) for d in small.DETECTORS})


def test_a_global_wcs_replaces_the_preliminary_one(electrons):
    updated = update(electrons, {"wcs_provider": "global"}, wcs_overrides=GlobalInput(shifted(1.0))).catalog
    for record in updated:
        expected = ComputeExposureSummaryStats().wcs_values(
            small.detector_wcs(record.id, shift_arcsec=1.0),
            small.SHAPE,
            electrons.exposures[record.id].visit_info,
        )
        assert_same_statistics(statistics_of(record), ObservationSummaryStats(**expected), WCS_STATISTICS)
        # the shift is in declination, so that every corner moves alike; the tangent plane turns by a part in 1e5
        assert record["wcs_corner_max_offset"] == pytest.approx(ARCSEC, rel=1e-4)
        np.testing.assert_array_equal(
            record.getWcs().coefficients, small.detector_wcs(record.id, shift_arcsec=1.0).coefficients
        )
    assert str(updated.table["wcs_corner_max_offset"].unit) == "rad"
    assert "wcsTractId" not in updated.table.colnames


@pytest.mark.parametrize(("threshold", "kept"), [(0.5, False), (1.5, True)])
def test_a_wcs_that_moves_a_corner_too_far_is_dropped(electrons, threshold, kept):
    fields = {"wcs_provider": "global", "wcs_consistency_threshold": threshold}
    result = update(electrons, fields, wcs_overrides=GlobalInput(shifted(1.0)))
    record = result.catalog.find(FIRST)
    assert record.has("wcs") == kept
    assert record["wcs_corner_max_offset"] == pytest.approx(ARCSEC, rel=1e-4)
    if not kept:
        assert np.isnan(record["ra"])
        assert np.isnan(record["raCorners"]).all()
        assert result.reasons[FIRST]["wcs"] == "a corner moves by 1 arcsec, more than 0.5"


def test_without_a_preliminary_wcs_nothing_can_be_consistent(electrons):
    summary = electrons.summary.without("wcs", [FIRST])
    overrides = GlobalInput(shifted(0.0))
    free = update(electrons, {"wcs_provider": "global"}, summary=summary, wcs_overrides=overrides)
    assert free.catalog.find(FIRST).has("wcs")
    assert np.isnan(free.catalog.find(FIRST)["wcs_corner_max_offset"])
    strict = update(
        electrons,
        {"wcs_provider": "global", "wcs_consistency_threshold": 5.0},
        summary=summary,
        wcs_overrides=overrides,
    )
    assert not strict.catalog.find(FIRST).has("wcs")
    assert strict.catalog.find(SECOND).has("wcs")
    assert strict.reasons[FIRST]["wcs"] == "there is no preliminary WCS to compare with"


def test_a_wcs_that_no_catalogue_has_is_never_the_preliminary_one(electrons):
    overrides = GlobalInput(small.wcs_catalog({FIRST: small.detector_wcs(FIRST), SECOND: None}))
    result = update(electrons, {"wcs_provider": "global"}, wcs_overrides=overrides)
    assert result.catalog.find(FIRST).has("wcs")
    assert not result.catalog.find(SECOND).has("wcs")
    assert np.isnan(result.catalog.find(SECOND)["pixelScale"])
    assert result.reasons[SECOND]["wcs"] == "the catalogue has none"


def two_tracts():
    """Return tracts 0 and 1, centered 36 arcsec South of the first detector and North of the second."""
    return SkyMap.discrete([150.1, 150.1], [2.2 - 0.015, 2.2 + 0.015], [0.1, 0.1], pixelScale=1.0)


def test_the_nearest_tract_gives_the_wcs(electrons):
    sky_map = two_tracts()
    catalogs = [(sky_map[1], shifted(0.2)), (sky_map[0], shifted(0.1))]
    updated = update(electrons, {"wcs_provider": "tract"}, wcs_overrides=PerTractInput(catalogs)).catalog
    assert updated.table["wcsTractId"].tolist() == [0, 1]
    offsets = np.asarray(updated.table["wcs_corner_max_offset"]) / ARCSEC
    np.testing.assert_allclose(offsets, [0.1, 0.2], rtol=1e-4)
    other_order = update(
        electrons, {"wcs_provider": "tract"}, wcs_overrides=PerTractInput(catalogs[::-1])
    ).catalog
    assert_same_table(updated, other_order)


def test_a_tract_without_the_detector_does_not_count(electrons):
    sky_map = two_tracts()
    south = small.wcs_catalog({SECOND: small.detector_wcs(SECOND)})
    overrides = PerTractInput([(sky_map[0], south), (sky_map[1], shifted(0.2))])
    updated = update(electrons, {"wcs_provider": "tract"}, wcs_overrides=overrides).catalog
    assert updated.table["wcsTractId"].tolist() == [1, 1]
    none = update(electrons, {"wcs_provider": "tract"}, wcs_overrides=PerTractInput([(sky_map[0], south)]))
    assert none.catalog.table["wcsTractId"].tolist() == [-1, 0]
    assert none.reasons[FIRST]["wcs"] == "no catalogue has one"


def test_the_healpix_pixel_of_the_middle_gives_the_wcs(electrons):
    from lsst.sphgeom import HealpixPixelization, LonLat, UnitVector3d

    level = 10
    pixels = HealpixPixelization(level)
    middle = UnitVector3d(LonLat.fromDegrees(150.1, 2.2 - 20 / 3600))
    inside = pixels.index(middle)
    others = [pixel for low, high in pixels.envelope(pixels.pixel(inside)) for pixel in range(low, high)]
    catalogs = [(pixel, shifted(0.01 * (1 + i))) for i, pixel in enumerate(others) if pixel != inside]
    catalogs.append((inside, shifted(0.5)))
    provider = f"healpix{level}"
    updated = update(
        electrons, {"wcs_provider": provider}, wcs_overrides=PerHealpixInput(catalogs, level)
    ).catalog
    assert updated.find(FIRST)["wcsSkypixId"] == inside
    assert updated.find(FIRST)["wcs_corner_max_offset"] == pytest.approx(0.5 * ARCSEC, rel=1e-4)
    nearest = update(
        electrons, {"wcs_provider": provider}, wcs_overrides=PerHealpixInput(catalogs[:-1], level)
    ).catalog.find(FIRST)["wcsSkypixId"]
    distances = {}
    for pixel, _ in catalogs[:-1]:
        center = LonLat(pixels.pixel(pixel).getCentroid())
        lon, lat = center.getLon().asRadians(), center.getLat().asRadians()
        distances[pixel] = float(angular_separation(lon, lat, np.deg2rad(150.1), np.deg2rad(2.2 - 20 / 3600)))
    assert nearest == min(distances, key=distances.get)


def test_a_catalogue_of_wcss_needs_no_boxes(electrons):
    bare = shifted(0.3)
    empty = {
        name: bare.table[name] * 0 + (0 if "min" in name else -1)
        for name in bare.table.colnames
        if "bbox" in name
    }
    overrides = PerTractInput([(two_tracts()[0], bare.with_columns(empty))])
    updated = update(electrons, {"wcs_provider": "tract"}, wcs_overrides=overrides).catalog
    np.testing.assert_allclose(updated.table["wcs_corner_max_offset"], 0.3 * ARCSEC, rtol=1e-4)
    assert updated.find(FIRST).getWcs() is not None


# -- photometric calibration -----------------------------------------------------------------------------


def calibrations(zeropoint, detectors=small.DETECTORS):
    gray = np.array([[AB_FLUX_NJY * 10 ** (-0.4 * zeropoint)]])
    return PhotoCalibCatalog.from_records(
        [
            PhotoCalibRecord(
                d,
                small.VISIT,
                small.BOX,
                gray,
                superstar=np.array([[1.0, 0.01]]),
                calibration_err=0.01 * gray[0, 0],
            )
            for d in detectors
        ]
    )


def test_a_global_photometric_calibration_replaces_the_preliminary_one(electrons):
    result = update(
        electrons,
        {"photo_calib_provider": "global"},
        photo_calib_overrides=GlobalInput(calibrations(30.5)),
    )
    record, before = result.catalog.find(FIRST), electrons.summary.find(FIRST)
    assert record["zeroPoint"] == pytest.approx(30.5, abs=1e-5)
    # fainter by half a magnitude at the same number of electrons
    assert record["magLim"] - before["magLim"] == pytest.approx(30.5 - before["zeroPoint"], abs=1e-5)
    calib = record.getPhotoCalib()
    expected = calibrations(30.5).find(FIRST).getPhotoCalib()
    x, y = np.array([0.0, 159.0]), np.array([119.0, 5.0])
    np.testing.assert_allclose(calib.at(x=x, y=y), expected.at(x=x, y=y), rtol=1e-14)
    assert calib.calibration_err == pytest.approx(expected.calibration_err)


def test_the_nearest_tract_gives_the_photometric_calibration(electrons):
    sky_map = two_tracts()
    catalogs = [(sky_map[0], calibrations(30.0)), (sky_map[1], calibrations(30.1))]
    result = update(
        electrons,
        {"photo_calib_provider": "tract"},
        summary=electrons.summary,
        photo_calib_overrides=PerTractInput(catalogs),
    )
    assert result.catalog.table["photoCalibTractId"].tolist() == [0, 1]
    np.testing.assert_allclose(result.catalog.table["zeroPoint"], [30.0, 30.1], atol=1e-5)


def test_without_a_wcs_no_tract_gives_a_photometric_calibration(electrons):
    result = update(
        electrons,
        {"photo_calib_provider": "tract"},
        summary=electrons.summary.without("wcs", [FIRST]),
        photo_calib_overrides=PerTractInput([(two_tracts()[0], calibrations(30.0))]),
    )
    record = result.catalog.find(FIRST)
    assert record["photoCalibTractId"] == -1
    assert not record.has("photoCalib")
    assert np.isnan([record["zeroPoint"], record["magLim"], record["effTime"]]).all()
    assert result.reasons[FIRST]["photoCalib"] == "without a WCS no tract can be chosen"


def test_an_exposure_catalogue_may_hold_the_photometric_calibrations(electrons):
    catalog = ExposureCatalog.from_rows(
        [ExposureRow(FIRST, small.VISIT, bbox=small.BOX, photo_calib=PhotoCalib(2.5, 0.1))]
    )
    result = update(electrons, {"photo_calib_provider": "global"}, photo_calib_overrides=GlobalInput(catalog))
    assert result.catalog.find(FIRST).getPhotoCalib() == PhotoCalib(2.5, 0.1)
    assert not result.catalog.find(SECOND).has("photoCalib")


# -- choosing among regions -------------------------------------------------------------------------------


@settings(max_examples=40)
@given(
    centers=st.lists(
        st.tuples(st.floats(0.0, 359.0), st.floats(-80.0, 80.0)), min_size=1, max_size=6, unique=True
    ),
    present=st.sets(st.integers(0, 5)),
    at=st.tuples(st.floats(0.0, 359.0), st.floats(-80.0, 80.0)),
    order=st.randoms(use_true_random=False),
)
def test_the_tract_chosen_is_the_nearest_of_those_that_have_the_detector(centers, present, at, order):
    sky_map = SkyMap.discrete([c[0] for c in centers], [c[1] for c in centers], [0.1] * len(centers))
    catalogs = [(sky_map[i], _Rows({7: i} if i in present else {})) for i in range(len(centers))]
    order.shuffle(catalogs)
    position = SkyPosition(*np.deg2rad(at))
    region, record = PerTractInput(catalogs).best_for_detector(7, center=position)
    separations = {
        i: float(angular_separation(*position, *sky_map[i].ctr_coord))
        for i in range(len(centers))
        if i in present
    }
    expected = min(separations, key=lambda i: (separations[i], i)) if separations else -1
    assert region == expected
    assert record == (expected if separations else None)


class _Rows(dict):
    find = dict.get

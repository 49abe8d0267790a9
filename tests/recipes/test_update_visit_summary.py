"""The final summary of a visit: components replaced, and statistics as if measured on an image that has them."""

from __future__ import annotations

import re
from dataclasses import replace

import astropy.units as u
import lsst.pex.config as pexConfig
import numpy as np
import pytest
from astropy.table import vstack
from lsst.images import Box, ObservationSummaryStats

from recipes import small_visit as small
from recipes.visit_update import (
    ALL,
    ARCSEC,
    FIRST,
    ONE_DETECTOR,
    SECOND,
    SINGLE,
    assert_same_statistics,
    assert_same_table,
    psf_inputs,
    recipe,
    update,
)
from tasks import camera_of_four
from zeropoint.astrometry.boresight import Boresight
from zeropoint.datamodel.background import BackgroundList
from zeropoint.datamodel.background_fields import background_map
from zeropoint.datamodel.exposure_catalog import ExposureCatalog, ExposureRow
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.psf_model import GaussianPsf
from zeropoint.datamodel.visit_image import visit_image
from zeropoint.errors import InvalidInputError, NoVisitWcs
from zeropoint.psf.piff_io import to_lsst_psf
from zeropoint.quality.residual_correlations import residual_correlations
from zeropoint.quality.summary import (
    DEPTH_STATISTICS,
    PSF_STATISTICS,
    STAR_STATISTICS,
    ComputeExposureSummaryStats,
)
from zeropoint.quality.visit_summary import statistics_of
from zeropoint.recipes.update_visit_summary import UpdateVisitSummaryConfig
from zeropoint.recipes.update_visit_summary.choosers import GlobalInput

#: Images in nJy are calibrated and back in single precision, pixel by pixel.
PIXELS = 2e-6
#: Rounding of positions on the sky, radians.
ANGLE = 1e-13


@pytest.fixture(scope="module", params=[True, False], ids=["nJy", "electron"])
def visit(request, electrons):
    return small.make_small_visit(nanojansky=True) if request.param else electrons


@pytest.fixture(scope="module")
def final(electrons):
    """The visit with final PSFs, aperture corrections and stars."""
    return update(electrons, **psf_inputs())


# -- PSF and aperture corrections ---------------------------------------------------------------------------


def test_nothing_changes_without_overrides(visit):
    updated = update(visit, {"do_fit_sip_approximations": False}).catalog
    assert updated.to_arrow().schema.equals(visit.summary.to_arrow().schema)
    assert dict(updated.texts) == dict(visit.summary.texts)
    for record in updated:
        assert_same_statistics(statistics_of(record), statistics_of(visit.summary.find(record.id)), ALL)


def test_statistics_are_those_of_an_image_with_the_final_psf(visit):
    updated = update(visit, **psf_inputs()).catalog
    for detector in small.DETECTORS:
        exposure = replace(
            visit.exposures[detector],
            psf=GaussianPsf(small.FINAL_SIGMA, 25),
            ap_corr_map=small.final_ap_corr(),
        )
        stars = small.of_detector(small.stars(), detector)
        expected = ComputeExposureSummaryStats().run(exposure, stars, small.background())
        record = updated.find(detector)
        assert_same_statistics(statistics_of(record), expected, ONE_DETECTOR)
        assert record.getPsf().kernel_bbox == small.final_psfs().find(detector).getPsf().kernel_bbox
        assert record["nPsfStar"] == 4
        assert record.getApCorrMap().keys() == small.final_ap_corr().keys()
        before = visit.summary.find(detector)
        assert record["magLim"] < before["magLim"]
        assert record["skyNoise"] == before["skyNoise"]


def test_correlations_over_the_visit_are_those_of_every_detector(final):
    expected = residual_correlations(small.stars(), ComputeExposureSummaryStats().config)
    # the field is smaller than the separations of TE2 and TE4
    assert np.isfinite([expected["psfTE1e1"], expected["psfTE3ex"]]).all()
    for record in final.catalog:
        for name, value in expected.items():
            np.testing.assert_allclose(record[name], value, rtol=SINGLE)


def test_a_detector_without_final_psf_has_none_and_says_why(electrons):
    result = update(electrons, **psf_inputs((SECOND,)))
    record, whole = result.catalog.find(FIRST), result.catalog.find(SECOND)
    assert record.getPsf() is None
    assert record.getApCorrMap() is None
    empty = ObservationSummaryStats()
    assert_same_statistics(
        statistics_of(record), empty, [*PSF_STATISTICS, *STAR_STATISTICS, "magLim", "effTime"]
    )
    assert record["zeroPoint"] == electrons.summary.find(FIRST)["zeroPoint"]
    assert result.reasons[FIRST]["psf"] == "the catalogue has no row for this detector"
    assert SECOND not in result.reasons or not result.reasons[SECOND]
    assert (whole.has("psf"), bool(np.isfinite(whole["magLim"]))) == (True, True)
    assert result.metadata["n_complete"] == 1
    assert result.metadata["n_without_psf"] == 1
    assert result.metadata["reasons_psf"] == {str(FIRST): result.reasons[FIRST]["psf"]}


def test_a_row_without_psf_counts_as_none(electrons):
    inputs = psf_inputs()
    inputs["psf_overrides"] = inputs["psf_overrides"].without("psf", [FIRST])
    result = update(electrons, **inputs)
    assert not result.catalog.find(FIRST).has("psf")
    assert result.catalog.find(FIRST).has("apCorrMap")
    assert np.isnan(result.catalog.find(FIRST)["psfSigma"])
    assert result.reasons[FIRST] == {"psf": "the catalogue has none for this detector"}


def test_a_detector_without_final_stars_has_the_psfs_own_statistics_only(electrons):
    inputs = psf_inputs()
    inputs["psf_star_catalog"] = small.of_detector(small.stars(), SECOND)
    record = update(electrons, **inputs).catalog.find(FIRST)
    assert record["nPsfStar"] == 0
    assert np.isnan(record["starEMedian"])
    assert record["psfSigma"] == pytest.approx(small.FINAL_SIGMA, rel=2e-3)


def test_the_order_of_rows_and_stars_does_not_matter(final, electrons):
    inputs = psf_inputs()
    stars = inputs["psf_star_catalog"]
    inputs["psf_star_catalog"] = vstack([stars[i : i + 1] for i in np.argsort(stars["slot_Centroid_x"])])
    again = update(electrons, **inputs)
    assert_same_table(again.catalog, final.catalog)


def test_stars_may_be_an_arrow_table(final, electrons):
    from zeropoint.datamodel.arrow import table_to_arrow

    inputs = psf_inputs()
    inputs["psf_star_catalog"] = table_to_arrow(inputs["psf_star_catalog"])
    assert_same_table(update(electrons, **inputs).catalog, final.catalog)


# -- background ------------------------------------------------------------------------------------------


def test_a_further_background_changes_level_and_noise(visit):
    # the slope is as large as the noise: by eye it is not to be missed
    layer = small.background(50.0, 60.0)
    maps = []
    for detector in small.DETECTORS:
        calib, image = visit.exposures[detector].photo_calib, visit.images[detector]
        scale = calib.calibration_mean if image.unit == u.nJy else 1.0
        maps.append(
            [
                background_map(each.scaled(scale), image.unit, cells=True)
                for each in (small.background(), layer)
            ]
        )
    originals, overrides = ({d: pair[k] for d, pair in zip(small.DETECTORS, maps)} for k in (0, 1))
    pixels = {d: np.array(image.image.array) for d, image in visit.images.items()}
    updated = update(
        visit,
        {"background_provider": "replacement"},
        background_originals=originals,
        background_overrides=overrides,
    ).catalog
    for detector in small.DETECTORS:
        np.testing.assert_array_equal(visit.images[detector].image.array, pixels[detector])
        exposure = visit.exposures[detector].copy()
        exposure.image -= layer.image()
        both = small.background()
        both.append(layer.components[0])
        stars = small.of_detector(small.stars(small.SIGMA), detector)
        expected = ComputeExposureSummaryStats().run(exposure, stars, both)
        assert_same_statistics(
            statistics_of(updated.find(detector)),
            expected,
            ["skyBg", "skyNoise", "meanVar", *DEPTH_STATISTICS],
            PIXELS,
        )
        assert updated.find(detector)["skyBg"] == pytest.approx(small.SKY + 50.0)


def test_a_level_that_the_summary_lacks_comes_from_the_original_background(electrons):
    table = electrons.summary.table.copy()
    table["skyBg"] = np.float32(np.nan)
    summary = replace(electrons.summary, table=table)
    maps = [background_map(each, u.electron) for each in (small.background(), small.background(50.0))]
    originals, overrides = (dict.fromkeys(small.DETECTORS, each) for each in maps)
    updated = update(
        electrons,
        {"background_provider": "replacement"},
        summary=summary,
        background_originals=originals,
        background_overrides=overrides,
    ).catalog
    assert updated.find(FIRST)["skyBg"] == pytest.approx(small.SKY + 50.0)
    assert np.isfinite(updated.find(FIRST)["magLim"])


def test_a_background_stored_as_a_polynomial_alone_has_its_median(electrons):
    curved = small.background(50.0, 60.0).components[0]
    coefficients = np.array([[50.0, 0.0, 12.0]])
    curved = replace(curved, polynomial=ChebyshevPolynomial(small.SHAPE[1], small.SHAPE[0], coefficients))
    layer = background_map(BackgroundList([curved]), u.electron)
    updated = update(
        electrons,
        {"background_provider": "replacement"},
        background_overrides=dict.fromkeys(small.DETECTORS, layer),
    ).catalog
    # 38 in the middle, but 44 or less on half of the image only
    median = float(np.median(curved.polynomial.image(float)))
    assert updated.find(FIRST)["skyBg"] - small.SKY == pytest.approx(median, abs=0.5)
    assert abs(median - 38.0) > 2.0


def test_backgrounds_in_a_unit_that_says_nothing_are_refused(electrons):
    layer = background_map(small.background(), u.adu)
    with pytest.raises(
        InvalidInputError, match="the background is in adu, and only electron and nJy are known"
    ):
        update(
            electrons,
            {"background_provider": "replacement"},
            background_overrides=dict.fromkeys(small.DETECTORS, layer),
        )


# -- pointing and FITS forms ------------------------------------------------------------------------------


def test_wcss_that_headers_hold_are_left_as_they_are(electrons):
    updated = update(electrons).catalog
    assert updated.texts["wcs"] == electrons.summary.texts["wcs"]
    assert (np.asarray(updated.table["wcs_sip_delta_sky"]) < ANGLE).all()
    assert (np.asarray(updated.table["wcs_sip_delta_pixel"]) < 1e-6).all()


def test_without_a_camera_regions_come_from_the_wcss(electrons):
    result = update(electrons, {"do_refit_pointing": True})
    assert set(result.visit_geometry.detector_regions) == set(small.DETECTORS)
    assert np.isnan(result.catalog.table["wcs_visit_pointing_residual"]).all()
    assert result.metadata["has_camera"] is False


def test_a_wcs_that_the_camera_contradicts_takes_its_statistics_along():
    camera = camera_of_four.make_camera()
    wcs = camera_of_four.camera_wcs(camera, Boresight(150.0, 2.0, 10.0))
    visit = small.black_visit(wcs, camera_of_four.BOX)
    wcs[7] = wcs[7].with_affine(np.eye(2), np.array([0.0, 90.0 * ARCSEC]))
    made = recipe(do_refit_pointing=True, wcs_provider="global")

    def run(wcs):
        overrides = GlobalInput(small.wcs_catalog(wcs, bbox=camera_of_four.BOX))
        return made.run(visit.summary, visit.images, wcs_overrides=overrides, camera=camera)

    result = run(wcs)
    assert [record.has("wcs") for record in result.catalog] == [d != 7 for d in camera_of_four.PLACES]
    gone, kept = result.catalog.find(7), result.catalog.find(4)
    assert np.isnan([gone["ra"], gone["wcs_sip_delta_sky"]]).all()
    assert np.isnan(gone["raCorners"]).all()
    assert np.isfinite([kept["ra"], kept["wcs_sip_delta_sky"]]).all()
    assert result.reasons[7]["wcs"] == "the camera's geometry contradicts it"
    assert result.metadata["n_wcs_removed"] == 1
    wrong = wcs[0].with_affine(2.0 * np.eye(2), np.zeros(2))
    with pytest.raises(NoVisitWcs) as caught:
        run(dict.fromkeys(camera_of_four.PLACES, wrong))
    partial = caught.value.record
    assert not any(record.has("wcs") for record in partial.catalog)
    assert np.isnan(partial.catalog.table["ra"]).all()
    assert partial.catalog.table.colnames == result.catalog.table.colnames


# -- inputs that cannot be used ----------------------------------------------------------------------------


def test_what_belongs_to_another_visit_is_refused(electrons):
    inputs = psf_inputs()
    inputs["psf_overrides"] = small.final_psfs(visit=8)
    with pytest.raises(InvalidInputError, match="visit 7 detector 3: the psf to be used is of visit 8"):
        update(electrons, **inputs)


def test_components_of_another_size_are_refused(electrons):
    inputs = psf_inputs()
    wide = {"base_PsfFlux_instFlux": ChebyshevPolynomial.constant(161, 120, 1.0)}
    rows = [ExposureRow(d, small.VISIT, bbox=small.BOX, ap_corr_map=wide) for d in small.DETECTORS]
    inputs["ap_corr_overrides"] = ExposureCatalog.from_rows(rows)
    with pytest.raises(InvalidInputError, match="is of 161 x 120 pixels, the image of 160 x 120"):
        update(electrons, **inputs)


def test_images_of_another_size_are_refused(electrons):
    part = electrons.images[FIRST][Box.factory[0:100, 0:160]]
    with pytest.raises(InvalidInputError, match=r"the summary has the box .*, but the image"):
        recipe().run(electrons.summary, {**electrons.images, FIRST: part})


def test_stars_of_another_visit_are_refused(electrons):
    inputs = psf_inputs()
    inputs["psf_star_catalog"]["visit"] = small.VISIT
    update(electrons, **inputs)
    inputs["psf_star_catalog"]["visit"] = small.VISIT + 1
    with pytest.raises(InvalidInputError, match="is of visit 7, but psf_star_catalog has stars of visit 8"):
        update(electrons, **inputs)


def test_stars_without_shapes_are_said(electrons, caplog):
    inputs = psf_inputs()
    update(electrons, **inputs)
    assert "psf_star_catalog" not in caplog.text
    inputs["psf_star_catalog"].remove_columns(["slot_Shape_xx", "slot_PsfShape_xy"])
    result = update(electrons, **inputs)
    assert np.isnan(result.catalog.table["psfStarDeltaE1Median"]).all()
    assert "psf_star_catalog has no column slot_Shape_xx, slot_PsfShape_xy" in caplog.text


def test_images_of_another_detector_or_visit_and_missing_ones_are_refused(electrons):
    summary, images = electrons.summary, electrons.images
    with pytest.raises(InvalidInputError, match="visit 7 detector 3: the image is of detector 5"):
        recipe().run(summary, {FIRST: images[SECOND], SECOND: images[FIRST]})
    exposure = small.detector_exposure(FIRST)
    exposure.visit_info = replace(exposure.visit_info, visit=99, exposure=99)
    other = visit_image(exposure, psf=to_lsst_psf(exposure.psf, small.BOX), unit=u.electron)
    with pytest.raises(InvalidInputError, match="visit 7 detector 3: the image is of visit 99"):
        recipe().run(summary, {**images, FIRST: other})
    with pytest.raises(InvalidInputError, match="input_exposures lacks detector 3 of visit 7"):
        recipe().run(summary, {SECOND: images[SECOND]})
    with pytest.raises(InvalidInputError, match="background_overrides lacks detector 5 of visit 7"):
        recipe().run(
            summary, images, background_overrides={FIRST: background_map(small.background(), u.electron)}
        )


def test_stars_without_detector_and_summaries_without_statistics_are_refused(electrons):
    inputs = psf_inputs()
    inputs["psf_star_catalog"].remove_column("detector")
    with pytest.raises(InvalidInputError, match="psf_star_catalog has no column 'detector'"):
        update(electrons, **inputs)
    with pytest.raises(InvalidInputError, match="input_summary_catalog has no column ra, dec"):
        update(electrons, summary=small.final_psfs())
    with pytest.raises(ValueError, match="need psf_star_catalog"):
        update(electrons, psf_overrides=small.final_psfs())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"wcs_consistency_threshold": 0.5}, "wcs_consistency_threshold.*wcs_provider is 'input_summary'"),
        ({"do_write_visit_geometry": True}, "do_write_visit_geometry.*needs do_refit_pointing"),
        ({"wcs_provider": "healpix99"}, "wcs_provider"),
        ({"wcs_provider": "nearest"}, "wcs_provider"),
        ({"background_provider": "tract"}, "background_provider"),
    ],
)
def test_configurations_that_cannot_work_name_the_field(fields, message):
    with pytest.raises(pexConfig.FieldValidationError) as caught:
        recipe(**fields)
    assert re.search(message, str(caught.value), re.DOTALL)


def test_defaults_are_those_of_the_original():
    config = UpdateVisitSummaryConfig()
    expected = {
        "wcs_provider": "input_summary",
        "photo_calib_provider": "input_summary",
        "background_provider": "input_summary",
        "wcs_consistency_threshold": None,
        "camera_dimensions": ["instrument"],
        "do_refit_pointing": True,
        "do_write_visit_geometry": False,
        "do_fit_sip_approximations": True,
    }
    assert {name: getattr(config, name) for name in expected} == expected
    steps = {"compute_summary_stats", "refit_pointing", "fit_sip_approximations"}
    assert set(config.keys()) == set(expected) | steps
    assert config.fit_sip_approximations.toDict() == {"grid_spacing": 32.0, "order": 5}
    assert config.refit_pointing.schema_prefix == ""

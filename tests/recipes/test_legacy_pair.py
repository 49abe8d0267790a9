"""CharacterizeImage and Calibrate on a small simulated exposure: against truth, CalibrateImage, and their promises."""

from __future__ import annotations

import numpy as np
import pytest

from recipes.legacy_pair import IDS, calibrate, characterize
from zeropoint.astrometry.affine import FitAffineWcs
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.recipes.calibrate_image import CalibratedImage, CalibrateImage
from zeropoint.recipes.session import production_config
from zeropoint.simulation.comparison import compare_with_truth


@pytest.fixture(scope="module")
def figures(pair):
    result = CalibratedImage(pair.second.exposure, stars=pair.second.sources)
    return compare_with_truth(pair.simulated, result).values


@pytest.fixture(scope="module")
def successor(pair):
    """The same image through CalibrateImage."""
    config = production_config()
    config.astrometry_ref_loader.anyFilterMapsToThis = None
    loaders = {
        f"{name}_references": ReferenceObjectLoader(pair.references, getattr(config, f"{name}_ref_loader"))
        for name in ("astrometry", "photometry")
    }
    return CalibrateImage(config).run(pair.simulated.exposure.copy(), id_generator=IDS, **loaders)


def test_all_stages_ran_in_order(pair):
    for recipe, result in ((pair.first_recipe, pair.first), (pair.second_recipe, pair.second)):
        assert tuple(stage.name for stage in result.stages) == recipe.stage_names()
        assert result.failure is None
        assert result.caveats == []


# -- truth ----------------------------------------------------------------------------------------------------


def test_stars_are_found_and_little_else(figures):
    # as required of CalibrateImage
    assert figures["completeness_above_10"] >= 0.98
    assert figures["purity"] >= 0.97


def test_errors_are_what_they_say(figures):
    # width of pulls from about 200 stars: 1.17 / sqrt(200) = 0.08
    assert figures["flux_pull"] == pytest.approx(1.0, abs=0.3)
    assert figures["position_pull"] == pytest.approx(1.0, abs=0.3)


def test_wcs_zeropoint_and_psf_are_true(figures, pair):
    # references of 5 mas, six parameters an axis for the quadratic
    n = len(pair.second.matches)
    assert n >= 50
    bound = 4 * 5.0 * np.sqrt(6 / n)
    assert figures["wcs_rms_east_mas"] < bound
    assert figures["wcs_rms_north_mas"] < bound
    # references of 10 mmag
    assert abs(figures["zeropoint_error_mmag"]) < 4 * 1000 * pair.second.photometry.sigma
    # as for CalibrateImage on the same field
    assert abs(figures["psf_dt_mean"]) < 4e-3
    assert figures["psf_de_rms"] < 4e-3


def test_cosmic_rays_go_and_stars_stay(figures):
    assert figures["cosmic_rays_found_above_8_sigma"] >= 0.95
    assert figures["star_core_pixels_damaged"] == 0


# -- CalibrateImage -------------------------------------------------------------------------------------------


def test_results_agree_with_calibrate_image(pair, successor):
    first, second = pair.first, pair.second
    # most stars are common to both, so that most of the noise cancels
    sigma = second.photometry.sigma
    assert abs(second.photometry.zp - successor.photometry.zp) < sigma
    assert first.metadata["final_psf_sigma"] == pytest.approx(successor.metadata["final_psf_sigma"], rel=2e-3)
    ours, theirs = second.sources, successor.stars
    rows = np.flatnonzero(theirs["detect_isPrimary"] & ~theirs["base_PixelFlags_flag_edge"])
    snr = theirs["base_PsfFlux_instFlux"][rows] / theirs["base_PsfFlux_instFluxErr"][rows]
    rows = rows[snr > 50]
    primary = np.flatnonzero(ours["detect_isPrimary"])
    distance = np.hypot(
        ours["slot_Centroid_x"][primary][:, None] - theirs["slot_Centroid_x"][rows],
        ours["slot_Centroid_y"][primary][:, None] - theirs["slot_Centroid_y"][rows],
    )
    near = primary[np.argmin(distance, axis=0)]
    good = distance.min(axis=0) < 0.3
    assert good.mean() > 0.95
    assert good.sum() > 30
    change = ours["base_PsfFlux_instFlux"][near] / theirs["base_PsfFlux_instFlux"][rows] - 1
    error = theirs["base_PsfFlux_instFluxErr"][rows] / theirs["base_PsfFlux_instFlux"][rows]
    # the same photons: differences of PSF and background are well within the errors
    assert np.median(np.abs(change[good]) / error[good]) < 0.5
    assert abs(np.median(change[good])) < 2e-3


def test_the_wcs_agrees_with_calibrate_image_for_one_fitter(pair, successor):
    _, result = calibrate(pair.first, pair.references, {"astrometry.wcsFitter": "FitAffineWcsTask"})
    assert isinstance(successor.config.astrometry.wcsFitter.target(), FitAffineWcs)
    gx, gy = np.meshgrid(np.linspace(0, 1099, 5), np.linspace(0, 999, 5))
    (ra, dec), (ra2, dec2) = (one.exposure.wcs.pixel_to_sky(x=gx, y=gy) for one in (result, successor))
    mas = np.hypot((ra - ra2) * np.cos(dec), dec - dec2) * 206264806.0
    # an error of 5 mas a star and 65 stars give 0.6 mas a parameter; nearly all stars are common
    assert mas.max() < 2.0


# -- what is handed on -----------------------------------------------------------------------------------------


def test_flags_travel_with_the_nearest_source(pair):
    before, after = pair.first.catalog, pair.second.sources
    found = after["calib_detected"]
    assert (after["deblend_nChild"][found] == 0).all()
    for name in ("calib_psf_candidate", "calib_psf_used", "calib_psf_reserved"):
        assert not (after[name] & ~found).any()
    used = np.flatnonzero(before["calib_psf_used"])
    distance = np.hypot(
        before["slot_Centroid_x"][used][:, None] - after["slot_Centroid_x"][after["calib_psf_used"]],
        before["slot_Centroid_y"][used][:, None] - after["slot_Centroid_y"][after["calib_psf_used"]],
    ).min(axis=1)
    assert after["calib_psf_used"].sum() == len(used) == pair.first.psf_fit.n_good
    assert (distance < 3).all()


def test_matches_are_those_of_the_catalogue_that_is_handed_out(pair):
    second = pair.second
    matches, sources = second.matches, second.sources
    assert len(second.astrometry.match_ref) - len(matches) <= 2
    rows = np.searchsorted(sources["id"], matches["src_id"])
    np.testing.assert_array_equal(sources["id"][rows], matches["src_id"])
    np.testing.assert_array_equal(sources["calib_astrometry_used"][rows], matches["used"])
    assert sources["calib_astrometry_used"].sum() == matches["used"].sum()
    # East and North on the tangent plane, small angles
    east = (matches["src_coord_ra"] - matches["ref_coord_ra"]) * np.cos(matches["ref_coord_dec"])
    north = matches["src_coord_dec"] - matches["ref_coord_dec"]
    np.testing.assert_allclose(matches["distance"], np.hypot(east, north), rtol=1e-4)
    short = second.normalized_matches
    assert short.colnames == ["refId", "srcId", "distance", "used"]
    assert (short["srcId"] == matches["src_id"]).all()
    assert short.meta["SMATCHV"] == 2
    photometric = second.photometry_matches
    rows = np.searchsorted(sources["id"], photometric["src_id"])
    np.testing.assert_array_equal(sources["calib_photometry_used"][rows], photometric["used"])


def test_local_calibrations_are_those_of_the_fits(pair):
    second, sources = pair.second, pair.second.sources
    wcs, step = second.exposure.wcs, 0.5
    x, y = sources["slot_Centroid_x"], sources["slot_Centroid_y"]
    _, dec = wcs.pixel_to_sky(x=x, y=y)
    for column, (dx, dy) in enumerate(((step, 0.0), (0.0, step)), start=1):
        ahead, behind = wcs.pixel_to_sky(x=x + dx, y=y + dy), wcs.pixel_to_sky(x=x - dx, y=y - dy)
        east = (ahead[0] - behind[0]) * np.cos(dec) / (2 * step)
        north = (ahead[1] - behind[1]) / (2 * step)
        np.testing.assert_allclose(sources[f"base_LocalWcs_CDMatrix_1_{column}"], east, rtol=1e-5, atol=1e-11)
        np.testing.assert_allclose(
            sources[f"base_LocalWcs_CDMatrix_2_{column}"], north, rtol=1e-5, atol=1e-11
        )
    assert not sources["base_LocalWcs_flag"].any()
    calib = second.exposure.photo_calib
    assert (sources["base_LocalPhotoCalib"] == calib.calibration_mean).all()
    assert (sources["base_LocalPhotoCalibErr"] == calib.calibration_err).all()
    # the second measurement leaves what the first one found out
    assert "base_InvalidPsf_flag" in sources
    assert np.isfinite(sources["base_PsfFlux_instFlux"]).mean() > 0.95


def test_pixels_stay_electrons_and_background_adds_up(pair):
    original, second = pair.simulated.exposure, pair.second
    untouched = ~second.exposure.masked("COSMIC_RAY", "INTERPOLATED")
    assert untouched.mean() > 0.99
    total = second.exposure.image + second.background.image()
    # single precision of 600 electrons, a few layers
    np.testing.assert_allclose(total[untouched], original.image[untouched], atol=2e-3, rtol=1e-5)
    np.testing.assert_array_equal(second.exposure.variance[untouched], original.variance[untouched])
    # first subtraction, one a round, and one of the deep detection
    assert len(pair.first.background) == 3
    assert len(second.background) == 4
    assert second.applied_photo_calib is None


def test_header_and_metadata_of_the_task(pair):
    second = pair.second
    header, fit = second.exposure.metadata, second.photometry
    seconds = second.exposure.visit_info.exposure_time
    assert header["MAGZERO"] == pytest.approx(fit.zp - 2.5 * np.log10(seconds))
    assert (header["MAGZERO_RMS"], header["MAGZERO_NOBJ"]) == (fit.sigma, fit.n_good)
    assert [header[f"COLORTERM{i}"] for i in (1, 2, 3)] == [0.0, 0.0, 0.0]
    sky = second.sources["sky_source"]
    assert second.metadata["source_count"] == int((~sky).sum())
    assert second.metadata["sky_footprint_count"] == int(sky.sum()) > 20
    assert second.metadata["positive_footprint_count"] > 50
    assert second.metadata["negative_footprint_count"] == 0
    assert 0 < second.metadata["cr_mask_fraction"] < 0.01
    assert "saturated_source_count" in second.metadata
    assert "bad_source_count" in second.metadata
    assert np.isfinite(second.summary.zeroPoint)
    assert np.isfinite(second.summary.psfSigma)
    assert second.summary.astromOffsetMean == second.astrometry.offset_mean


def test_names_of_the_tasks_results(pair):
    first, second = pair.first, pair.second
    assert first.characterized is first.exposure
    assert first.backgroundModel is first.background
    assert first.sourceCat is first.catalog
    assert first.psfCellSet is first.psf_fit.candidates
    assert second.outputExposure is second.exposure
    assert second.outputCat is second.sourceCat is second.sources
    assert second.outputBackground is second.background
    assert second.astromMatches is second.matches


#: Columns in their published order, by the first and last of each step.
IC_LANDMARKS = (
    "id", "coord_ra", "coord_dec", "parent", "coord_raErr", "calib_psf_candidate", "calib_psf_reserved",
    "base_SdssCentroid_x", "ext_shapeHSM_HsmSourceMoments_xx", "base_CircularApertureFlux_3_0_instFlux",
    "base_CircularApertureFlux_70_0_instFlux", "base_CompensatedTophatFlux_12_instFlux",
    "base_GaussianFlux_instFlux", "base_PixelFlags_flag", "base_PsfFlux_instFlux",
    "base_NormalizedCompensatedTophatFlux_instFlux", "apcorr_slot_CalibFlux_used", "base_PsfFlux_apCorr",
    "base_ClassificationExtendedness_value", "base_FootprintArea_value",
)  # fmt: skip
SRC_LANDMARKS = (
    "id", "parent", "calib_detected", "calib_psf_candidate", "calib_psf_used", "calib_psf_reserved", "coord_raErr",
    "deblend_nChild", "sky_source", "base_SdssCentroid_x", "base_SdssShape_xx",
    "base_CircularApertureFlux_3_0_instFlux", "base_PixelFlags_flag_streakCenter", "base_PsfFlux_instFlux",
    "base_NormalizedCompensatedTophatFlux_instFlux", "base_LocalWcs_CDMatrix_1_1", "base_LocalPhotoCalib",
    "detect_isPrimary", "base_PsfFlux_apCorr", "base_ClassificationExtendedness_value", "calib_astrometry_used",
    "calib_photometry_used", "calib_photometry_reserved",
)  # fmt: skip


@pytest.mark.parametrize(("which", "landmarks"), [("icSrc", IC_LANDMARKS), ("src", SRC_LANDMARKS)])
def test_the_schema_is_known_before_any_data(pair, which, landmarks):
    recipe = pair.first_recipe if which == "icSrc" else pair.second_recipe
    catalog = pair.first.catalog if which == "icSrc" else pair.second.sources
    empty = recipe.getSchemaCatalogs()[which]
    assert len(empty) == 0
    assert catalog.colnames == empty.colnames
    places = [empty.colnames.index(name) for name in landmarks]
    assert places == sorted(places)


@pytest.mark.slow  # tasks/test_older_pair_repository.py compares the bytes of two runs, too
def test_the_same_input_gives_the_same_bytes(pair):
    _, first = characterize(pair.simulated.exposure.copy())
    _, second = calibrate(first, pair.references)
    for plane in ("image", "variance", "mask"):
        assert getattr(second.exposure, plane).tobytes() == getattr(pair.second.exposure, plane).tobytes()
    for one, other in ((first.catalog, pair.first.catalog), (second.sources, pair.second.sources)):
        for name in one.colnames:
            assert one[name].tobytes() == other[name].tobytes(), name

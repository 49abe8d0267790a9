"""Metrics of tables whose residuals are known in closed form."""

import json

import numpy as np
import pytest

from quality import make
from zeropoint.datamodel.exposure import PhotoCalib
from zeropoint.errors import MatcherFailure
from zeropoint.quality.metrics import compute_metrics, write_metrics
from zeropoint.quality.report_data import ReportData


@pytest.fixture(scope="module")
def data():
    return make.report_data()


@pytest.fixture(scope="module")
def metrics(data):
    return compute_metrics(data)


def test_counts_are_those_of_the_tables(metrics):
    assert metrics["n_sources"] == 200
    assert metrics["n_sky_sources"] == 20
    assert (metrics["n_psf_candidates"], metrics["n_psf_used"], metrics["n_psf_reserved"]) == (80, 70, 10)
    assert (metrics["astrom_n_match"], metrics["photom_n_match"], metrics["photom_n_cal"]) == (60, 120, 120)
    assert metrics["cosmic_ray_count"] == 12


def test_psf_residuals_keep_reserved_stars_apart(metrics):
    # sizes were made 0.4 % above the model's; every error is the sample's own
    for kind in ("used", "reserved"):
        assert metrics[f"dT_T_{kind}_mean"] == pytest.approx(0.004, abs=5 * metrics[f"dT_T_{kind}_err"])
        assert metrics[f"de1_{kind}_mean"] == 0.0
    assert metrics["dT_T_used_err"] < metrics["dT_T_reserved_err"] * 3
    assert metrics["fwhm_arcsec"] == pytest.approx(2.35482 * make.SIGMA * 0.2)


def test_psf_phase_stars_are_compared_with_the_model_itself(data):
    without = make.report_data(stars=None)
    found = compute_metrics(without)
    # the PSF's own adaptive moments against those written in the table
    assert found["dT_T_used_mean"] == pytest.approx(0.004, abs=0.003)
    assert np.isnan(found["sky_source_flux_median"])


def test_astrometric_scatter_is_that_of_the_references(metrics):
    # 60 matches: the MAD's error is 15 % of 0.01 arcsec; three of them
    for axis in ("east", "north"):
        assert metrics[f"astrom_rms_{axis}_arcsec"] == pytest.approx(0.01, rel=0.45)
    assert metrics["astrom_rms_pix"] == pytest.approx(
        max(metrics["astrom_rms_east_arcsec"], metrics["astrom_rms_north_arcsec"]) / 0.2
    )
    assert metrics["astrom_hold_out_pix"] == pytest.approx(0.012 / 0.2)
    assert metrics["astrom_mag_rank_correlation"] > 0.95
    assert metrics["astrom_matched_fraction"] == pytest.approx(60 / 70)
    assert metrics["astrom_chance_fraction"] == pytest.approx(0.4 / 60)
    assert metrics["wcs_fits_residual_mas"] < 1e-3


def test_residuals_point_east_and_north(data):
    shifted = data.astrometry_matches.copy()
    for name in ("ref_coord_ra", "ref_coord_dec"):
        shifted[name] = shifted[f"src_{name[4:]}"]
    shifted["ref_coord_ra"] -= 1.0 * make.ARCSEC / np.cos(np.asarray(shifted["ref_coord_dec"]))
    shifted["ref_coord_dec"] -= 0.5 * make.ARCSEC
    from zeropoint.quality.residuals import astrometry_residuals

    residuals = astrometry_residuals(make.report_data(astrometry_matches=shifted))
    np.testing.assert_allclose(residuals.east, 1.0, rtol=1e-4)
    np.testing.assert_allclose(residuals.north, 0.5, rtol=1e-4)


def test_residuals_survive_the_meridian():
    table = make.report_data().astrometry_matches.copy()
    table["src_coord_ra"] = np.full(len(table), 1e-8)
    table["ref_coord_ra"] = np.full(len(table), 2 * np.pi - 1e-8)
    from zeropoint.quality.residuals import astrometry_residuals

    exposure = make.exposure()
    exposure.wcs = None
    residuals = astrometry_residuals(make.report_data(astrometry_matches=table, exposure=exposure))
    assert np.all(np.abs(residuals.east) < 0.01)


def test_zeropoint_figures(metrics):
    assert metrics["zeroPoint"] == pytest.approx(make.ZEROPOINT)
    assert metrics["zeropoint_err"] == 0.002
    assert metrics["zeropoint_per_second"] == pytest.approx(make.ZEROPOINT - 2.5 * np.log10(30))
    # 120 stars of 0.02 mag: the MAD's error is 11 %
    assert metrics["photom_scatter_mag"] == pytest.approx(0.02, rel=0.33)
    assert metrics["photom_color"] == "g − r"
    assert abs(metrics["photom_color_slope"]) < 4 * metrics["photom_color_slope_err"]
    assert 0.3 <= metrics["photom_color_min"] < metrics["photom_color_max"] <= 1.6
    assert metrics["photom_matched_fraction"] > 0.9


def test_slopes_with_magnitude_and_color_are_found(data):
    matches = data.photometry_matches.copy()
    mag = -2.5 * np.log10(np.asarray(matches["ref_r_flux"]))
    color = mag * 0 - 2.5 * np.log10(np.asarray(matches["ref_g_flux"] / matches["ref_r_flux"]))
    matches["residual"] = 0.03 * (mag - mag.mean())
    assert compute_metrics(make.report_data(photometry_matches=matches))["photom_slope_mag"] == pytest.approx(
        0.03
    )
    matches["residual"] = -0.1 * color
    found = compute_metrics(make.report_data(photometry_matches=matches))
    assert found["photom_color_slope"] == pytest.approx(-0.1)
    assert found["photom_color_slope_excess"] == pytest.approx(0.1)


def test_the_zeropoint_of_uncalibrated_pixels_is_the_fitted_one():
    exposure = make.exposure(calibrated=False)
    data = make.report_data(exposure=exposure, unit="electron", flux_scale=1.0, extra={})
    assert compute_metrics(data)["zeroPoint"] == pytest.approx(make.ZEROPOINT)
    assert data.zeropoint_err == pytest.approx(
        1.0857 * exposure.photo_calib.calibration_err / exposure.photo_calib.calibration_mean, rel=1e-3
    )


def test_mask_fractions_and_sky_sources(metrics, data):
    size = data.exposure.mask.size
    assert metrics["sat_mask_fraction"] == pytest.approx(24 / size)
    assert metrics["cr_mask_fraction"] == pytest.approx(1 / size)
    assert metrics["noise_to_variance_ratio"] == pytest.approx(1.0)
    assert abs(metrics["sky_source_flux_median"]) < 4 * metrics["sky_source_flux_err"]
    assert metrics["sky_residual_per_noise_excess"] == 0.0


def test_a_background_left_behind_shows_in_sky_sources():
    table = make.stars(make.exposure())
    noise = float(np.sqrt(make.SKY + make.READ_NOISE**2))
    sky = np.asarray(table["sky_source"])
    table["base_CircularApertureFlux_12_0_instFlux"][sky] = 0.2 * noise * np.pi * 144
    found = compute_metrics(make.report_data(stars=table))
    assert found["sky_residual_per_noise"] == pytest.approx(0.2)
    assert found["sky_residual_per_noise_excess"] == pytest.approx(0.2)


def test_pixels_alone_have_metrics_too():
    exposure = make.exposure(calibrated=False)
    exposure.psf = exposure.wcs = exposure.photo_calib = exposure.ap_corr_map = None
    found = compute_metrics(ReportData("bare", "bare.fits", exposure, failure=MatcherFailure("no")))
    assert found["n_sources"] == 0
    assert np.isnan(found["zeroPoint"])
    assert np.isnan(found["astrom_rms_pix"])


def test_masked_columns_and_fluxes_below_zero_do_not_disturb(data):
    matches = data.photometry_matches.copy()
    matches["src_slot_CalibFlux_instFlux"][:3] = -5.0
    matches["ref_r_flux"][3:5] = np.nan
    found = compute_metrics(make.report_data(photometry_matches=matches))
    assert found["photom_scatter_mag"] == pytest.approx(0.02, rel=0.4)


def test_json_has_null_for_nan_and_run_apart(tmp_path, metrics):
    path = tmp_path / "m.json"
    write_metrics(
        path, {"reasons": ["a"], **metrics, "odd": np.float32("nan")}, run={"seconds": {"read": 1.0}}
    )
    content = json.loads(path.read_text())
    assert content["odd"] is None
    assert content["reasons"] == ["a"]
    assert content["run"] == {"seconds": {"read": 1.0}}
    assert content["n_sources"] == 200
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


def test_same_input_gives_the_same_metrics(metrics):
    assert json.dumps(compute_metrics(make.report_data())) == json.dumps(metrics)


def test_the_calibration_error_of_njy_pixels_is_relative():
    exposure = make.exposure()
    exposure.photo_calib = PhotoCalib(1.0, 0.01)
    assert make.report_data(exposure=exposure, extra={}).zeropoint_err == pytest.approx(0.0108574, rel=1e-4)

import numpy as np
import pytest

from naive import matched_stars as sky
from zeropoint.errors import MatcherFailure
from zeropoint.photometry.photocal import PhotoCal, PhotoCalConfig

ZP = 27.3


def problem(rng, n, config=None, *, ref_err=0.01, slope=0.0, snr=None):
    columns = sky.schema()
    step = PhotoCal(config, schema=columns)
    wcs = sky.plain_wcs()
    x, y = rng.uniform(100, 900, (2, n))
    ra, dec = wcs.pixel_to_sky(x=x, y=y)
    color = rng.uniform(-0.2, 1.4, n)
    mag = rng.uniform(16, 20, n)  # the camera's
    snr = 10 ** rng.uniform(1.3, 3, n) if snr is None else snr
    refs = sky.references(
        ra,
        dec,
        mag - slope * (color - 0.5) + rng.normal(0, ref_err, n),
        mag_err=ref_err,
        g=mag - slope * (color - 0.5) + color,
    )
    catalog = sky.catalog(columns, x, y, mag, zero_point=ZP, snr=snr)
    flux = catalog["p_instFlux"] * (1 + rng.normal(0, 1, n) / snr)
    catalog["p_instFlux"] = flux
    catalog["coord_ra"], catalog["coord_dec"] = ra, dec
    return step, sky.exposure(wcs, 1000), catalog, refs


def test_the_zero_point_and_its_error_are_right():
    rng, pulls, offsets = np.random.default_rng(1), [], []
    for _ in range(30):
        step, exposure, catalog, refs = problem(rng, 120)
        result = step.run(exposure, catalog, refs)
        pulls.append((result.zp - ZP) / result.sigma)
        offsets.append(result.zp - ZP)
    assert abs(np.mean(pulls)) < 4 / np.sqrt(30)
    assert 0.6 < np.std(pulls) < 1.4
    assert np.abs(offsets).max() < 6e-3
    assert exposure.photo_calib is result.photo_calib
    assert result.photo_calib.zeropoint == pytest.approx(result.zp, abs=1e-9)
    relative = result.photo_calib.calibration_err / result.photo_calib.calibration_mean
    assert relative == pytest.approx(result.sigma * 0.4 * np.log(10), rel=1e-9)
    assert catalog["calib_photometry_used"].sum() == result.used.sum() == result.n_good
    assert not catalog["calib_photometry_reserved"].any()
    assert 0 < result.hold_out_scatter < 0.05
    assert result.hold_out_zp_std < 0.01


def test_reserved_stars_are_flagged_and_not_used():
    config = PhotoCalConfig()
    config.reserve.fraction = 0.25
    step, exposure, catalog, refs = problem(np.random.default_rng(2), 80, config)
    step.run(exposure, catalog, refs, exp_id=5)
    assert catalog["calib_photometry_reserved"].sum() == 20
    assert not np.any(catalog["calib_photometry_reserved"] & catalog["calib_photometry_used"])


def test_a_fitted_colour_term_brings_the_camera_to_its_own_system():
    config = PhotoCalConfig()
    config.do_fit_color_term = True
    config.color_term_bands = ["g", "r"]
    step, exposure, catalog, refs = problem(np.random.default_rng(3), 200, config, slope=0.08)
    result = step.run(exposure, catalog, refs)
    assert result.color_term.kept
    assert result.color_term.slope == pytest.approx(0.08, abs=4 * result.color_term.slope_err)
    assert result.zp == pytest.approx(ZP, abs=5e-3)
    assert result.metadata["color_term_kept"] == 1


def test_the_library_is_applied_on_request():
    from zeropoint.photometry.color_terms import Colorterm, ColortermDict

    config = PhotoCalConfig()
    config.applyColorTerms = True
    with pytest.raises(ValueError, match="photoCatName"):
        config.validate()
    config.photoCatName = "test"
    config.colorterms.data["test"] = ColortermDict()
    config.colorterms.data["test"].data["r"] = Colorterm(primary="r", secondary="g", c0=-0.04, c1=-0.08)
    config.validate()
    # camera = r + 0.08 ((g - r) - 0.5) = r - 0.04 - 0.08 (r - g)
    step, exposure, catalog, refs = problem(np.random.default_rng(4), 200, config, slope=0.08)
    refs.table["g_fluxErr"] = refs.table["g_flux"] * 0.001
    assert step.run(exposure, catalog, refs).zp == pytest.approx(ZP, abs=5e-3)


def test_nothing_matched_is_a_failure_with_counts():
    step, exposure, catalog, refs = problem(np.random.default_rng(5), 30)
    catalog["coord_dec"] += 1e-3
    with pytest.raises(MatcherFailure, match="matchRadius") as caught:
        step.run(exposure, catalog, refs)
    assert caught.value.metadata == {"goodSrc": 30, "goodRef": 30}
    assert exposure.photo_calib is None


def test_no_finite_magnitudes_are_a_failure_with_counts():
    step, exposure, catalog, refs = problem(np.random.default_rng(6), 30)
    refs.table["r_flux"] = np.nan
    with pytest.raises(MatcherFailure, match="finite") as caught:
        step.run(exposure, catalog, refs)
    assert caught.value.metadata == {"goodSrc": 30, "goodRef": 0}


def test_missing_reference_errors_are_allowed():
    step, exposure, catalog, refs = problem(np.random.default_rng(7), 100)
    refs.table["r_fluxErr"] = np.nan
    assert step.run(exposure, catalog, refs).zp == pytest.approx(ZP, abs=6e-3)


def test_defaults_and_the_consistency_of_signal_to_noise():
    config = PhotoCalConfig()
    assert (config.sigmaMax, config.nSigma, config.useMedian, config.nIter) == (0.25, 3.0, True, 20)
    assert (config.magErrFloor, config.fluxField, config.match.matchRadius) == (
        0.0,
        "slot_CalibFlux_instFlux",
        0.25,
    )
    config.validate()
    config.fluxField = "base_PsfFlux_instFlux"
    with pytest.raises(ValueError, match="signal-to-noise"):
        config.validate()

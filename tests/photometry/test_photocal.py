import lsst.pex.config as pexConfig
import numpy as np
import pytest

from naive import matched_stars as sky
from zeropoint.errors import InvalidInputError, MatcherFailure
from zeropoint.photometry.color_terms import Colorterm, ColortermDict
from zeropoint.photometry.photocal import PhotoCal, PhotoCalConfig

ZP = 27.3


def problem(rng, n, config=None, *, ref_err=0.01, slope=0.0, snr=None, response=None):
    """Return step, exposure, catalogue and references; response(x, y) multiplies the electrons."""
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
    if response is not None:
        flux = flux * response(x, y)
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


def gradient(x, y):
    return 1 / (1 + 0.06 * (2 * x / 1000 - 1) - 0.03 * (2 * y / 1000 - 1))


def test_a_field_follows_the_response_and_says_how_well():
    config = PhotoCalConfig()
    config.do_fit_zeropoint_field = True
    step, exposure, catalog, refs = problem(np.random.default_rng(8), 150, config, response=gradient)
    result = step.run(exposure, catalog, refs)
    assert result.field.order == 1
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(0, 999, 7), np.linspace(0, 999, 7)))
    calib = result.photo_calib
    error = result.fit.zeropoint_error(x=x, y=y, width=1000, height=1000)
    local = 2.5 * np.log10(sky.AB / calib.at(x=x, y=y))
    pull = (local - ZP - 2.5 * np.log10(gradient(x, y))) / error
    # three parameters: the mean square pull is chi-square of three degrees over three
    assert np.mean(pull**2) < 4.5
    assert error.max() == pytest.approx(result.field.max_error, rel=0.1)
    assert calib.field.mean() == pytest.approx(calib.calibration_mean, rel=1e-9)
    assert calib.zeropoint == pytest.approx(result.zp, abs=1e-9)
    assert exposure.photo_calib is calib
    # 6 and 3 % to each side: 1.09 / 0.91
    assert result.metadata["zeropoint_field_range_mag"] == pytest.approx(
        2.5 * np.log10(1.09 / 0.91), abs=0.02
    )
    assert np.nanstd(result.residual[result.used]) < 0.06
    assert "varies by 0." in result.notes[0]


def test_field_and_colour_term_are_found_together():
    config = PhotoCalConfig()
    config.do_fit_zeropoint_field = config.do_fit_color_term = True
    step, exposure, catalog, refs = problem(
        np.random.default_rng(9), 200, config, slope=0.08, response=gradient
    )
    result = step.run(exposure, catalog, refs)
    assert result.color_term.kept
    assert (result.color_term.primary, result.color_term.secondary) == ("g", "r")
    assert abs(result.color_term.slope - 0.08) < 4 * result.color_term.slope_err
    assert result.field.order == 1
    np.testing.assert_allclose(
        result.color_coefficients[:2], (-0.5 * result.color_term.slope, result.color_term.slope)
    )
    assert "0.50" in result.notes[0]


def test_what_was_asked_for_and_is_not_there_is_said():
    config = PhotoCalConfig()
    config.do_fit_zeropoint_field = config.do_fit_color_term = True
    step, exposure, catalog, refs = problem(np.random.default_rng(10), 60, config)
    refs.table.remove_columns(["g_flux", "g_fluxErr"])
    result = step.run(exposure, catalog, refs)
    assert not result.color_term.kept
    assert result.photo_calib.field is None
    assert "no two bands" in result.notes[0]
    assert "constant" in result.notes[1]
    assert result.color_coefficients == (0.0, 0.0, 0.0)


def test_bands_that_the_catalogue_lacks_are_an_error_that_names_the_field():
    config = PhotoCalConfig()
    config.do_fit_color_term = True
    config.color_term_bands = ["g", "z"]
    step = PhotoCal(config)
    with pytest.raises(InvalidInputError, match=r"photometry\.color_term_bands needs .* of z, .* g, r\."):
        step.require_bands(["r", "g"], "r")
    step.require_bands(["g", "z"], "r")
    PhotoCal().require_bands([], "r")


def test_the_library_is_checked_before_the_work():
    config = PhotoCalConfig()
    config.applyColorTerms, config.photoCatName = True, "test"
    config.colorterms.data["test"] = ColortermDict()
    config.colorterms.data["test"].data["r"] = Colorterm(primary="r", secondary="g")
    step = PhotoCal(config)
    step.require_bands(["g", "r"], "r")
    with pytest.raises(InvalidInputError, match=r"photometry\.colorterms needs .* of g"):
        step.require_bands(["r"], "r")
    with pytest.raises(
        InvalidInputError, match=r"photometry\.colorterms: .* no term of filter 'i' .*; it has r\."
    ):
        step.require_bands(["r"], "i")
    config.photoCatName = "other"
    with pytest.raises(
        pexConfig.FieldValidationError, match=r"photoCatName.*(?s:.)*fits .*'other'; it has test\."
    ):
        config.validate()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"applyColorTerms": True}, "photoCatName"),
        ({"applyColorTerms": True, "photoCatName": "ps1"}, "colorterms"),
        ({"do_fit_color_term": True, "color_term_bands": ["g", "g"]}, "color_term_bands"),
        ({"do_fit_color_term": True, "color_term_bands": ["g"]}, "color_term_bands"),
        ({"applyColorTerms": True, "do_fit_color_term": True, "photoCatName": "p"}, "colorterms"),
        ({"fluxField": "base_PsfFlux_instFlux"}, "fluxField"),
    ],
)
def test_settings_that_contradict_each_other_name_the_field(settings, field):
    config = PhotoCalConfig()
    config.update(**settings)
    with pytest.raises(pexConfig.FieldValidationError, match=field):
        config.validate()


def test_the_highest_values_are_allowed():
    config = PhotoCalConfig()
    config.update(color_term_degree=2, zeropoint_field_max_order=6)
    config.validate()


@pytest.mark.parametrize(
    ("name", "value"),
    [("color_term_degree", 3), ("zeropoint_field_max_order", 0), ("nIter", 0)],
)
def test_values_out_of_range_are_refused_at_once(name, value):
    with pytest.raises(pexConfig.FieldValidationError, match=name):
        setattr(PhotoCalConfig(), name, value)


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

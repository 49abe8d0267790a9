import numpy as np
import pytest

from naive import matched_stars as sky
from zeropoint.astrometry.affine import FitAffineWcs
from zeropoint.astrometry.fiducial_cull import fiducial_reference_cull
from zeropoint.astrometry.sky_coords import update_sky_coords
from zeropoint.astrometry.solve import Astrometry, AstrometryConfig
from zeropoint.datamodel.wcs import angular_separation
from zeropoint.errors import AstrometryError, BadAstrometryFit, MatcherFailure

MAS = sky.ARCSEC / 1000
NOISE_MAS = 20.0


def problem(rng, n, config, truth, initial, *, n_spurious=0, noise_mas=NOISE_MAS):
    """Return the step, an exposure, its catalogue and references."""
    columns = sky.schema()
    step = Astrometry(config, schema=columns)
    x, y = rng.uniform(0, sky.SIZE - 1, (2, n))
    mag = rng.uniform(16, 20, n)
    ra, dec = truth.pixel_to_sky(x=x, y=y)
    noise = rng.normal(0, noise_mas * MAS, (2, n))
    refs = sky.references(ra + noise[0] / np.cos(dec), dec + noise[1], mag)
    extra = rng.uniform(0, sky.SIZE - 1, (2, n_spurious))
    catalog = sky.catalog(
        columns, np.r_[x, extra[0]], np.r_[y, extra[1]], np.r_[mag, rng.uniform(16, 20, n_spurious)]
    )
    return step, sky.exposure(initial), catalog, refs


def affine_config():
    config = AstrometryConfig()
    config.wcsFitter.retarget(FitAffineWcs)
    return config


def grid_error_mas(wcs, truth):
    g = np.linspace(0, sky.SIZE - 1, 20)
    x, y = (v.ravel() for v in np.meshgrid(g, g))
    d = angular_separation(*wcs.pixel_to_sky(x=x, y=y), *truth.pixel_to_sky(x=x, y=y)) / MAS
    return float(np.sqrt(np.mean(d**2) / 2)), float(d.max())


def test_a_misplaced_wcs_is_recovered_with_the_known_distortion():
    truth, rng = sky.distorted_wcs(), np.random.default_rng(1)
    step, exposure, catalog, refs = problem(
        rng, 200, affine_config(), truth, sky.misplaced(truth), n_spurious=60
    )
    result = step.run(exposure, catalog, refs)
    assert exposure.wcs is result.wcs
    rms, worst = grid_error_mas(result.wcs, truth)
    assert rms < 1.5 * NOISE_MAS * np.sqrt(3 / 200)
    assert worst < 5 * NOISE_MAS * np.sqrt(3 / 200)
    assert len(result.match_src) == 200
    np.testing.assert_array_equal(result.match_src, result.match_ref)
    assert result.initial_to_final_wcs == pytest.approx(3.0, abs=0.3)
    # mean of a Rayleigh distribution; 4 sigma of its standard error
    assert result.offset_mean == pytest.approx(NOISE_MAS * 1.2533e-3, rel=4 * 0.52 / np.sqrt(200))
    assert exposure.metadata["SFM_ASTROM_OFFSET_MEAN"] == result.offset_mean
    assert result.hold_out_east == pytest.approx(NOISE_MAS / 1000, rel=0.4)
    assert catalog["calib_astrometry_used"].sum() == result.used.sum() > 190
    assert not catalog["calib_astrometry_used"][200:].any()
    ra, _ = result.wcs.pixel_to_sky(x=catalog["c_x"], y=catalog["c_y"])
    np.testing.assert_array_equal(catalog["coord_ra"], ra)
    assert np.isfinite(catalog["coord_raErr"]).all()
    assert result.n_chance_expected < 0.1
    assert result.log10_false_probability < -100


def test_an_unknown_distortion_is_fitted_by_tan_sip():
    truth, rng = sky.distorted_wcs(), np.random.default_rng(2)
    config = AstrometryConfig()
    config.wcsFitter.order = 3
    step, exposure, catalog, refs = problem(
        rng, 1000, config, truth, sky.misplaced(sky.plain_wcs()), n_spurious=300
    )
    result = step.run(exposure, catalog, refs)
    assert len(result.match_src) >= 995
    assert grid_error_mas(result.wcs, truth)[0] < 1.4 * NOISE_MAS * np.sqrt(10 / 1000)
    assert result.metadata["order"] == 3


def test_the_same_input_gives_the_same_bytes():
    truth = sky.distorted_wcs()
    outputs = []
    for _ in range(2):
        step, exposure, catalog, refs = problem(
            np.random.default_rng(3), 80, affine_config(), truth, sky.misplaced(truth), n_spurious=20
        )
        step.run(exposure, catalog, refs)
        outputs.append(catalog["coord_ra"].tobytes() + exposure.wcs.coefficients.tobytes())
    assert outputs[0] == outputs[1]


def test_a_failed_match_leaves_nothing_that_looks_calibrated():
    truth, rng = sky.plain_wcs(), np.random.default_rng(4)
    step, exposure, catalog, refs = problem(rng, 60, AstrometryConfig(), truth, truth)
    catalog["c_x"] = rng.uniform(0, sky.SIZE - 1, 60)
    update_sky_coords(catalog, truth)
    with pytest.raises(MatcherFailure) as caught:
        step.run(exposure, catalog, refs)
    assert caught.value.metadata["iterations"] == 1
    assert exposure.wcs is None
    assert np.isnan(catalog["coord_ra"]).all()
    assert np.isnan(catalog["coord_raErr"]).all()


@pytest.mark.parametrize("what", ["sources", "wcs"])
def test_missing_inputs_are_named(what):
    truth = sky.plain_wcs()
    step, exposure, catalog, refs = problem(np.random.default_rng(5), 30, AstrometryConfig(), truth, truth)
    if what == "wcs":
        exposure.wcs = None
    else:
        catalog["base_PixelFlags_flag_saturated"] = True
    with pytest.raises(AstrometryError, match="initial WCS" if what == "wcs" else "good enough"):
        step.run(exposure, catalog, refs)


def test_forced_wcs_is_kept():
    truth = sky.plain_wcs()
    config = AstrometryConfig()
    config.forceKnownWcs = True
    step, exposure, catalog, refs = problem(np.random.default_rng(6), 50, config, truth, truth)
    result = step.run(exposure, catalog, refs)
    assert exposure.wcs is truth
    assert len(result.match_src) == 50
    assert np.isnan(result.hold_out_east)


def test_magnitude_outliers_are_not_used():
    truth = sky.plain_wcs()
    step, exposure, catalog, refs = problem(np.random.default_rng(7), 100, affine_config(), truth, truth)
    catalog["p_instFlux"][:5] *= 10.0
    catalog["p_instFluxErr"][:5] *= 10.0
    result = step.run(exposure, catalog, refs)
    assert set(range(5)).isdisjoint(result.match_src.tolist())
    assert len(result.match_src) == 95


def test_check_refuses_a_poor_fit_and_clears_it():
    truth = sky.plain_wcs()
    step, exposure, catalog, _ = problem(np.random.default_rng(8), 20, AstrometryConfig(), truth, truth)
    update_sky_coords(catalog, truth)
    exposure.metadata.update(SFM_ASTROM_OFFSET_MEAN=0.4, SFM_ASTROM_OFFSET_MEDIAN=0.3)
    step.check(exposure, catalog, 20)
    assert exposure.wcs is truth
    exposure.metadata["SFM_ASTROM_OFFSET_MEAN"] = 0.6
    with pytest.raises(BadAstrometryFit) as caught:
        step.check(exposure, catalog, 20)
    expected = {"nMatches": 20, "distMean": 0.6, "maxMeanDist": 0.5, "distMedian": 0.3}
    assert caught.value.metadata == expected
    assert exposure.wcs is None
    assert np.isnan(catalog["coord_dec"]).all()


def test_coordinate_errors_follow_the_jacobian():
    wcs, rng = sky.plain_wcs(), np.random.default_rng(9)
    catalog = sky.catalog(sky.schema(), rng.uniform(0, 4000, 40), rng.uniform(0, 4000, 40), np.full(40, 18.0))
    catalog["c_xErr"], catalog["c_yErr"] = 0.03, 0.01
    update_sky_coords(catalog, wcs)
    draws = rng.normal(0, [0.03, 0.01], (4000, 2))
    for row in (0, 17):
        ra, dec = wcs.pixel_to_sky(x=catalog["c_x"][row] + draws[:, 0], y=catalog["c_y"][row] + draws[:, 1])
        ra = ra * np.cos(catalog["coord_dec"][row])
        # the standard error of a standard deviation of 4000 draws is 1.1 %
        assert catalog["coord_raErr"][row] == pytest.approx(np.std(ra), rel=0.05)
        assert catalog["coord_decErr"][row] == pytest.approx(np.std(dec), rel=0.05)
        covariance = np.cov(ra, dec)[0, 1]
        scale = float(catalog["coord_raErr"][row] * catalog["coord_decErr"][row])
        assert catalog["coord_ra_dec_Cov"][row] == pytest.approx(covariance, abs=0.08 * scale)
    update_sky_coords(catalog, None)
    assert np.isnan(catalog["coord_ra_dec_Cov"]).all()


def test_fiducial_cull_keeps_what_the_sources_can_be():
    source, reference = np.array([18.0, 20.0]), np.array([12.0, 17.8, 19.0, 20.2, 25.0, np.nan])

    def cull(delta, ratio=20.0):
        return fiducial_reference_cull(
            source, reference, ref_color_delta=delta, buffer=0.3, max_ref_to_source_ratio=ratio
        ).tolist()

    assert cull(0.0) == [False, True, True, True, False, False]
    assert cull(0.0, ratio=1.0) == [True, True, True, True, False, False]
    assert cull(-1.5) == [True, True, False, False, False, False]
    assert cull(0.8) == [False, False, True, True, False, False]
    assert fiducial_reference_cull(
        np.array([np.nan]), reference, ref_color_delta=0.0, buffer=0.3, max_ref_to_source_ratio=20
    ).all()


def test_defaults_are_the_documented_ones():
    config = AstrometryConfig()
    assert (config.maxIter, config.matchDistanceSigma, config.minMatchDistanceArcSec) == (3, 2.0, 0.001)
    assert (config.maxMeanDistanceArcsec, config.sourceFluxType) == (0.5, "Psf")
    assert config.wcsFitter.order == 2
    selector = config.sourceSelector["science"]
    assert selector.signalToNoise.minimum == 40
    assert selector.doIsolated
    assert selector.doRequirePrimary
    assert config.referenceSelector.doCullFromMaskedRegion

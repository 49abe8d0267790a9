import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs.utils import fit_wcs_from_points

from naive import matched_stars as sky
from zeropoint.astrometry.affine import FitAffineWcs
from zeropoint.astrometry.hold_out import fold_numbers, hold_out_rms
from zeropoint.astrometry.tan_sip import FitTanSipWcs, FitTanSipWcsConfig
from zeropoint.astrometry.wcs_fit import MatchedStars, residuals
from zeropoint.datamodel.wcs import angular_separation
from zeropoint.errors import AstrometryFitFailure

SHAPE = (sky.SIZE, sky.SIZE)
MAS = sky.ARCSEC / 1000


def stars(wcs, n, rng, *, noise_mas=0.0, quoted_mas=np.nan):
    x, y = rng.uniform(0, sky.SIZE - 1, (2, n))
    ra, dec = wcs.pixel_to_sky(x=x, y=y)
    ra = ra + rng.normal(0, 1, n) * noise_mas * MAS / np.cos(dec)
    dec = dec + rng.normal(0, 1, n) * noise_mas * MAS
    unknown, error = np.full(n, np.nan), np.full(n, quoted_mas * MAS)
    return MatchedStars(x, y, ra, dec, unknown, unknown, error, error)


def grid_error_mas(wcs, truth):
    """Return (rms of an axis, largest) difference on a 20 x 20 grid over the image."""
    g = np.linspace(0, sky.SIZE - 1, 20)
    x, y = (v.ravel() for v in np.meshgrid(g, g))
    d = angular_separation(*wcs.pixel_to_sky(x=x, y=y), *truth.pixel_to_sky(x=x, y=y)) / MAS
    return float(np.sqrt(np.mean(d**2) / 2)), float(d.max())


def tan_sip(order, **fields):
    config = FitTanSipWcsConfig()
    config.order = order
    for name, value in fields.items():
        setattr(config, name, value)
    return FitTanSipWcs(config)


def test_an_injected_affine_is_recovered_exactly():
    truth = sky.distorted_wcs()
    matrix, offset = np.array([[1.001, 0.002], [-0.003, 0.999]]), np.array([2e-5, -1e-5])
    initial = truth.with_affine(matrix, offset)
    result = FitAffineWcs().run(stars(truth, 50, np.random.default_rng(1)), initial, shape=SHAPE)
    assert grid_error_mas(result.wcs, truth)[1] < 1e-5
    assert (result.wcs.ra0, result.wcs.dec0) == (initial.ra0, initial.dec0)
    assert result.metadata["model"] == "affine"
    assert result.good.all()


@pytest.mark.parametrize("n", [3, 4, 5])
def test_few_matches_give_a_similarity_and_say_so(n):
    truth = sky.plain_wcs()
    initial = sky.misplaced(truth)
    for fitter in (FitAffineWcs(), tan_sip(3)):
        result = fitter.run(stars(truth, n, np.random.default_rng(n)), initial, shape=SHAPE)
        assert result.metadata["model"] == "similarity"
        # a rotation of the sky about another point than the tangent point is a similarity to (3")^2 x 400"
        assert grid_error_mas(result.wcs, truth)[1] < 0.5


def test_two_matches_are_refused():
    truth = sky.plain_wcs()
    with pytest.raises(AstrometryFitFailure, match="too few") as caught:
        FitAffineWcs().run(stars(truth, 2, np.random.default_rng(1)), truth, shape=SHAPE)
    assert caught.value.metadata == {"n_matches": 2}


@pytest.mark.parametrize("fitter", [FitAffineWcs(), tan_sip(3)], ids=["affine", "tan_sip"])
def test_errors_of_the_fit_are_those_of_the_noise(fitter):
    # p parameters an axis leave an rms error of sigma sqrt(p / n) at the stars
    truth, noise = sky.distorted_wcs(), 20.0
    terms = 3 if isinstance(fitter, FitAffineWcs) else 10
    rng = np.random.default_rng(3)
    for n in (200, 1000):
        squares = []
        for _ in range(5):
            initial = sky.misplaced(truth)
            result = fitter.run(stars(truth, n, rng, noise_mas=noise), initial, shape=SHAPE)
            squares.append(grid_error_mas(result.wcs, truth)[0] ** 2)
            assert result.floor_arcsec == pytest.approx(noise / 1000, rel=0.25)
        assert np.sqrt(np.mean(squares)) < 1.35 * noise * np.sqrt(terms / n)


def test_both_signs_of_outliers_are_rejected():
    truth, rng = sky.plain_wcs(), np.random.default_rng(5)
    matched = stars(truth, 300, rng, noise_mas=10.0)
    shifted = np.arange(300) < 30
    dec = matched.dec + np.where(shifted, np.where(np.arange(300) % 2 == 0, 1, -1) * 300 * MAS, 0.0)
    for sign in (1.0, -1.0):
        one_sided = matched.dec + np.where(shifted, sign * 300 * MAS, 0.0)
        for values in (dec, one_sided):
            bad = MatchedStars(**{**matched.__dict__, "dec": values})
            for fitter in (FitAffineWcs(), tan_sip(2)):
                result = fitter.run(bad, sky.misplaced(truth), shape=SHAPE)
                assert not result.good[shifted].any()
                assert result.good[~shifted].mean() > 0.95
                assert grid_error_mas(result.wcs, truth)[0] < 3.0


def test_quoted_errors_weight_the_stars():
    truth, rng = sky.plain_wcs(), np.random.default_rng(6)
    good, poor = (
        stars(truth, 60, rng, noise_mas=2.0, quoted_mas=2.0),
        stars(truth, 240, rng, noise_mas=60.0, quoted_mas=60.0),
    )
    both = MatchedStars(
        *[np.concatenate([getattr(good, k), getattr(poor, k)]) for k in good.__dataclass_fields__]
    )
    result = FitAffineWcs().run(both, sky.misplaced(truth), shape=SHAPE)
    # the sixty good stars alone reach 2 sqrt(3 / 60) = 0.45 mas; unweighted all reach 5.4 mas
    assert grid_error_mas(result.wcs, truth)[0] < 1.0


@pytest.mark.parametrize("degree", [2, 3, 4])
def test_tan_sip_agrees_with_astropy(degree):
    truth, rng = sky.distorted_wcs(), np.random.default_rng(7)
    matched = stars(truth, 400, rng, noise_mas=15.0)
    ours = tan_sip(degree, numRejIter=0).run(matched, sky.plain_wcs(), shape=SHAPE)
    points = SkyCoord(matched.ra * u.rad, matched.dec * u.rad)
    middle = SkyCoord(ours.wcs.ra0 * u.rad, ours.wcs.dec0 * u.rad)
    theirs = fit_wcs_from_points((matched.x, matched.y), points, proj_point=middle, sip_degree=degree)
    g = np.linspace(0, sky.SIZE - 1, 15)
    x, y = (v.ravel() for v in np.meshgrid(g, g))
    coord = theirs.pixel_to_world(x, y)
    d = angular_separation(*ours.wcs.pixel_to_sky(x=x, y=y), coord.ra.rad, coord.dec.rad) / MAS
    # astropy minimises iteratively and in pixels through the inverse of a slightly different model
    assert d.max() < 3.0 if degree > 2 else d.max() < 30.0


@pytest.mark.parametrize(("n", "order"), [(8, 1), (17, 1), (24, 2), (29, 2), (45, 3), (80, 4)])
def test_the_order_falls_with_the_number_of_matches(n, order):
    g = np.linspace(0, sky.SIZE - 1, 9)
    x, y = (v.ravel() for v in np.meshgrid(g, g))
    rows = np.random.default_rng(2).permutation(81)[:n]
    truth = sky.plain_wcs()
    ra, dec = truth.pixel_to_sky(x=x[rows], y=y[rows])
    unknown = np.full(n, np.nan)
    matched = MatchedStars(x[rows], y[rows], ra, dec, unknown, unknown, unknown, unknown)
    result = tan_sip(4).run(matched, truth, shape=SHAPE)
    assert result.metadata["order_wanted"] == 4
    assert result.metadata["order"] == result.wcs.order == order


def test_stars_in_one_corner_do_not_bend_the_others():
    truth, rng = sky.plain_wcs(), np.random.default_rng(9)
    matched = stars(truth, 800, rng, noise_mas=20.0)
    corner = np.flatnonzero((matched.x < 1200) & (matched.y < 1200))
    result = tan_sip(4).run(matched.take(corner), truth, shape=SHAPE)
    assert result.metadata["order"] == 1
    assert grid_error_mas(result.wcs, truth)[1] < 60.0


def test_a_large_scatter_is_a_failure():
    truth = sky.plain_wcs()
    matched = stars(truth, 100, np.random.default_rng(10), noise_mas=20_000.0)
    with pytest.raises(AstrometryFitFailure, match="scatters") as caught:
        tan_sip(2).run(matched, truth, shape=SHAPE)
    assert caught.value.metadata["n_matches"] == 100
    assert caught.value.metadata["scatter_arcsec"] > caught.value.metadata["max_scatter_arcsec"] == 10.0


def test_hold_out_residuals_show_the_noise_and_need_ten_stars():
    truth, rng = sky.plain_wcs(), np.random.default_rng(11)
    matched = stars(truth, 400, rng, noise_mas=20.0)

    def refit(some):
        return FitAffineWcs().run(some, truth, shape=SHAPE).wcs

    # the standard error of a MAD-based sigma of 400 values is 6 %
    assert hold_out_rms(matched, refit) == pytest.approx((0.02, 0.02), rel=0.2)
    assert np.all(np.isnan(hold_out_rms(matched.take(np.arange(9)), refit)))


def test_folds_do_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, 1, (2, 33))
    mixed = rng.permutation(33)
    np.testing.assert_array_equal(fold_numbers(x, y)[mixed], fold_numbers(x[mixed], y[mixed]))
    assert np.bincount(fold_numbers(x, y)).tolist() == [7, 7, 7, 6, 6]


def test_residuals_are_source_minus_reference():
    truth = sky.plain_wcs()
    matched = stars(truth, 10, np.random.default_rng(1))
    moved = MatchedStars(**{**matched.__dict__, "dec": matched.dec - 1e-6})
    east, north = residuals(moved, truth)
    np.testing.assert_allclose(north, 1e-6, rtol=1e-3)
    assert np.abs(east).max() < 1e-8

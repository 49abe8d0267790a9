"""Held-out stars decide on the order of the field and on the colour term."""

import numpy as np
import pytest

from zeropoint.errors import InvalidInputError
from zeropoint.photometry.calibration_fit import CalibrationStars
from zeropoint.photometry.color_terms import ColortermDict, ColortermLibrary, usual_bands
from zeropoint.photometry.model_choice import choose_color_term, choose_order

SIZE = 1000


def stars(rng, n, *, slope=0.0, bend=0.0, gradient=0.0, noise=0.02, corner=1.0):
    x, y = rng.uniform(0, SIZE * corner, (2, n))
    color = rng.uniform(-0.5, 1.0, n)
    difference = 25.0 - slope * color - bend * color**2 + gradient * (2 * x / SIZE - 1)
    difference = difference + rng.normal(0, noise, n)
    return CalibrationStars(difference, np.full(n, noise), x, y, color, SIZE, SIZE)


def folds(some):
    return np.arange(len(some)) % 5


def order_of(some, **changes):
    options = {"degree": 0, "max_order": 3, "max_error": 0.03} | changes
    return choose_order(some, folds(some), **options)


def term_of(some, **changes):
    options = {"bands": ("g", "r"), "reference": 0.5} | changes
    return choose_color_term(some, folds(some), **options)


def test_a_gradient_is_found_with_its_order():
    choice = order_of(stars(np.random.default_rng(1), 150, gradient=0.03))
    assert choice.order == 1
    assert choice.hold_out[1] < 0.9 * choice.hold_out[0]
    assert len(choice.hold_out) == 4
    assert 0 < choice.max_error < 0.03
    assert "no better" in choice.reason


def test_no_field_is_invented():
    rng = np.random.default_rng(2)
    orders = [order_of(stars(rng, 80), max_order=2).order for _ in range(40)]
    # one standard error and the cost of the terms: a few per cent
    assert np.count_nonzero(orders) <= 5


def test_a_field_is_not_extrapolated_to_where_no_stars_are():
    rng = np.random.default_rng(3)
    everywhere = order_of(stars(rng, 150, gradient=0.1), max_order=1)
    corner = order_of(stars(rng, 150, gradient=0.1, corner=0.25), max_order=1)
    assert everywhere.order == 1
    assert corner.order == 0
    assert "uncertain" in corner.reason


def test_few_stars_allow_low_orders_only():
    choice = order_of(stars(np.random.default_rng(4), 45, gradient=0.2))
    assert choice.order == 1
    assert choice.reason == "45 stars; order 2 needs 60"
    few = order_of(stars(np.random.default_rng(4), 29, gradient=0.2))
    assert (few.order, few.hold_out) == (0, ())
    assert np.isnan(few.max_error)


def test_a_real_colour_term_is_kept_with_its_slope():
    term = term_of(stars(np.random.default_rng(5), 300, slope=-0.1))
    assert term.kept
    assert abs(term.slope + 0.1) < 4 * term.slope_err
    assert term.hold_out_with < term.hold_out_without
    assert term.curvature == 0


def test_no_colour_term_is_invented():
    rng = np.random.default_rng(6)
    kept = [term_of(stars(rng, 100)).kept for _ in range(60)]
    # three sigma and a better hold-out: 0.3 % at most
    assert sum(kept) <= 2
    few = term_of(stars(rng, 49, slope=-0.1))
    assert not few.kept
    assert "50" in few.reason
    assert few.coefficients == (0.0, 0.0, 0.0)


def test_curvature_is_fitted_only_if_allowed_and_there():
    rng = np.random.default_rng(7)
    bent = stars(rng, 300, slope=0.05, bend=0.1)
    assert term_of(bent).curvature == 0
    term = term_of(bent, max_degree=2)
    assert abs(term.curvature - 0.1) < 4 * term.curvature_err
    assert term_of(stars(rng, 300, slope=0.1), max_degree=2).curvature == 0


def test_a_fitted_term_becomes_an_entry_of_the_library():
    term = term_of(stars(np.random.default_rng(8), 300, slope=0.05, bend=0.1), max_degree=2)
    g, r = np.array([18.0, 19.0]), np.array([17.2, 18.9])
    color = g - r - 0.5
    library = ColortermLibrary()
    library.data["ps1*"] = ColortermDict()
    for band, mag, other in (("g", g, r), ("r", r, g)):
        library.data["ps1*"].data[band] = term.colorterm(band)
        given = library.getColorterm(band, "ps1_pv3")
        np.testing.assert_allclose(given.transform_mags(mag, other), mag + term.correction(color), atol=1e-12)
    with pytest.raises(InvalidInputError, match="color_term_bands"):
        term.colorterm("i")


def test_usual_bands_are_those_that_a_catalogue_has():
    assert usual_bands("r", ["g", "r", "i"]) == ("g", "r")
    assert usual_bands("z", ["z", "y"]) == ("z", "y")
    assert usual_bands("r", ["phot_g_mean", "phot_bp_mean", "phot_rp_mean"]) == (
        "phot_bp_mean",
        "phot_rp_mean",
    )
    assert usual_bands("r", ["r"]) is None

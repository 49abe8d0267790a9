"""Good, usable, bad: above all, a wrong WCS is never good."""

import numpy as np
import pytest

from quality import make
from zeropoint.errors import MatcherFailure
from zeropoint.quality.metrics import compute_metrics
from zeropoint.quality.verdict import format_value, judge, load_limits


@pytest.fixture(scope="module")
def good():
    return compute_metrics(make.report_data())


def _chance_matches(seed, n_match, radius_arcsec=1.0):
    """Return data of a wrong WCS: references anywhere within a radius, of any brightness."""
    rng = np.random.default_rng([seed, 9])
    data = make.report_data(seed=5)
    changes = {}
    for name, n in (("astrometry_matches", n_match), ("photometry_matches", n_match)):
        rows = rng.choice(200, n, replace=False)
        table = make.matches(data.stars, rows, rng)
        angle, r = rng.uniform(0, 2 * np.pi, n), radius_arcsec * np.sqrt(rng.uniform(0, 1, n)) * make.ARCSEC
        dec = np.asarray(data.stars["coord_dec"])[rows] + r * np.sin(angle)
        table["ref_coord_dec"] = dec
        table["ref_coord_ra"] = np.asarray(data.stars["coord_ra"])[rows] + r * np.cos(angle) / np.cos(dec)
        table["ref_r_flux"] = rng.permutation(np.asarray(table["ref_r_flux"]))
        changes[name] = table
    return changes


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n_match", [6, 15, 40])
def test_chance_matches_are_never_good_even_if_the_odds_claim_so(seed, n_match):
    data = make.report_data(**_chance_matches(seed, n_match))
    verdict = judge(compute_metrics(data))
    assert verdict.level != "good"


@pytest.mark.parametrize("seed", range(3))
def test_tight_chance_matches_are_not_good_either(seed):
    # as a fit with many free terms through few wrong pairs would leave them
    data = make.report_data(**_chance_matches(seed, 12, radius_arcsec=0.01))
    assert judge(compute_metrics(data)).level != "good"


@pytest.mark.parametrize(
    ("quantity", "value", "level"),
    [
        ("astrom_log10_false_probability", -1.0, "bad"),
        ("astrom_log10_false_probability", -4.0, "usable"),
        ("astrom_log10_false_probability", float("nan"), "usable"),
        ("astrom_n_match", 6, "usable"),
        ("astrom_n_match", 3, "bad"),
        ("astrom_chance_fraction", 0.9, "bad"),
        ("astrom_mag_rank_correlation", 0.05, "bad"),
        ("photom_matched_fraction", 0.02, "bad"),
        ("astrom_rms_pix", 1.5, "bad"),
        ("astrom_hold_out_pix", 3.0, "bad"),
        ("astrom_hold_out_pix", float("nan"), "usable"),
        ("astrom_rms_east_arcsec", 0.7, "usable"),
        ("photom_scatter_mag", 0.23, "usable"),
        ("photom_scatter_mag", 0.05, "good"),
        ("photom_scatter_mag", 1.1, "bad"),
        ("n_psf_used", 7, "usable"),
        ("n_psf_used", 2, "bad"),
        ("dT_T_reserved_excess", 0.02, "usable"),
        ("dT_T_reserved_excess", float("nan"), "good"),
        ("zeroPoint", float("nan"), "bad"),
        ("psfSigma", 0.3, "usable"),
        ("psfSigma", float("nan"), "bad"),
        ("noise_to_variance_ratio", 1.5, "usable"),
        ("noise_to_variance_ratio", 0.1, "bad"),
        ("wcs_fits_residual_mas", 4.0, "usable"),
    ],
)
def test_each_limit_gives_its_level(good, quantity, value, level):
    verdict = judge({**good, quantity: value})
    assert verdict.level == level
    assert verdict.exit_code == {"good": 0, "usable": 3, "bad": 4}[level]
    if level != "good":
        label = next(limit.label for limit in load_limits() if limit.quantity == quantity)
        assert any(label in reason for reason in verdict.reasons)


def test_a_good_image_is_good_without_reasons(good):
    verdict = judge(good)
    assert (verdict.level, verdict.reasons, verdict.exit_code) == ("good", (), 0)


def test_a_caveat_makes_the_best_image_usable(good):
    verdict = judge(good, ["gain estimated: 1.9 e-/ADU"])
    assert (verdict.level, verdict.exit_code) == ("usable", 3)
    assert verdict.reasons == ("gain estimated: 1.9 e-/ADU",)


def test_a_failure_is_bad_and_named_first(good):
    verdict = judge(good, ["gain estimated"], MatcherFailure("nothing matched"))
    assert (verdict.level, verdict.exit_code) == ("bad", 4)
    assert verdict.reasons[0] == "MatcherFailure: nothing matched"
    assert "gain estimated" in verdict.reasons


def test_the_worst_reason_comes_first(good):
    verdict = judge({**good, "n_psf_used": 5, "photom_scatter_mag": 2.0}, ["a caveat"])
    assert verdict.level == "bad"
    assert "Scatter of the zeropoint" in verdict.reasons[0]
    assert len(verdict.reasons) == 3


def test_nothing_known_is_bad():
    assert judge({}).level == "bad"


def test_json_null_counts_as_unknown(good):
    assert judge({**good, "zeroPoint": None}).level == "bad"


def test_limits_are_ordered_and_every_one_has_a_source(good):
    names = [limit.quantity for limit in load_limits()]
    assert len(set(names)) == len(names)
    for limit in load_limits():
        assert limit.source.endswith("."), limit.quantity
        assert limit.quantity in good, limit.quantity
        if isinstance(limit.warn, float) and isinstance(limit.fail, float):
            # what fails is worse than what warns
            assert limit.beyond(limit.fail, limit.warn), limit.quantity


def test_a_limit_itself_is_still_good(good):
    for limit in load_limits():
        value = limit.warn[0] if isinstance(limit.warn, tuple) else limit.warn
        assert judge({**good, limit.quantity: value}).level == "good", limit.quantity


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (0.012345, "0.0123"), (1234.56, "1235"), (-0.5, "-0.500"), (2e-7, "2.00e-07"), ("x", "x")],
)
def test_numbers_are_written_for_people(value, text):
    assert format_value(value) == text

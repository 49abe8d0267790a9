"""Color terms of reference magnitudes."""

from __future__ import annotations

import numpy as np
import pytest

from zeropoint.fgcm.terms.reference_color import fit_reference_color_terms

#: Reference minus own magnitude, mag for a slope of 1/Angstrom: 0.2 mag per mag of g - r.
TERM = -320.0
OWN_ERR, REF_ERR = 0.02, 0.05


def stars(rng: np.random.Generator, n: int, in_mean: bool) -> dict[str, np.ndarray]:
    """Stars of one band, whose references are part of the means or not, with five outliers."""
    slopes = rng.normal(3e-4, 2e-4, (n, 1))
    true = rng.uniform(10, 12, (n, 1))
    own = true + rng.normal(size=(n, 1)) * OWN_ERR
    reference = true + 0.3 + TERM * (slopes - 3e-4) + rng.normal(size=(n, 1)) * REF_ERR
    reference[:5] += 2.0
    own_weight, ref_weight = OWN_ERR**-2, REF_ERR**-2 * in_mean
    mean = (own_weight * own + ref_weight * reference) / (own_weight + ref_weight)
    err = np.full((n, 1), (own_weight + ref_weight) ** -0.5)
    return {
        "mean": mean,
        "mean_err": err,
        "ref_mag": reference,
        "ref_err": np.full((n, 1), REF_ERR),
        "slopes": slopes,
    }


@pytest.mark.parametrize("in_mean", [False, True])
def test_the_term_comes_back_though_references_pull_the_means(
    rng: np.random.Generator, in_mean: bool
) -> None:
    given = stars(rng, 1000, in_mean)
    given["slopes"][10] = np.nan
    terms = fit_reference_color_terms(
        **given, use=np.ones(1000, bool), fit_bands=np.array([True]), in_mean=np.full((1000, 1), in_mean)
    )
    # 0.054 mag of 1000 stars whose slopes scatter by 2e-4
    assert terms.err[0] == pytest.approx(np.hypot(OWN_ERR, REF_ERR) / (2e-4 * np.sqrt(1000)), rel=0.1)
    assert abs(terms.coefficient[0] - TERM) < 4 * terms.err[0]
    assert 990 <= terms.n_stars[0] <= 994
    corrected = terms.corrected(given["ref_mag"], given["slopes"])
    left = (corrected - given["ref_mag"])[:, 0]
    known = np.isfinite(given["slopes"][:, 0])
    # single precision at 12 mag
    assert abs(left[10]) < 1e-6
    np.testing.assert_allclose(
        left[known], -terms.coefficient[0] * (given["slopes"][known, 0] - terms.pivot[0]), atol=2e-6
    )


def test_bands_not_asked_for_and_few_stars_have_no_term(rng: np.random.Generator) -> None:
    given = stars(rng, 200, in_mean=False)
    for use, wanted in ((np.arange(200) < 40, True), (np.ones(200, bool), False)):
        terms = fit_reference_color_terms(**given, use=use, fit_bands=np.array([wanted]))
        assert terms.n_stars[0] == 0
        assert np.isnan(terms.err[0])
        np.testing.assert_array_equal(
            terms.corrected(given["ref_mag"], given["slopes"]), given["ref_mag"].astype("f4")
        )


def test_a_mean_that_is_the_reference_alone_tells_nothing(rng: np.random.Generator) -> None:
    given = stars(rng, 200, in_mean=False)
    given["mean"][:100], given["mean_err"][:100] = given["ref_mag"][:100], given["ref_err"][:100]
    within = np.arange(200)[:, None] < 100
    terms = fit_reference_color_terms(
        **given, use=np.ones(200, bool), fit_bands=np.array([True]), in_mean=within
    )
    assert 95 <= terms.n_stars[0] <= 100

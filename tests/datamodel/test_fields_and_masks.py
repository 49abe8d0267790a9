"""Chebyshev fields and mask planes."""

from __future__ import annotations

import numpy as np
import pytest
from lsst.images import Box
from lsst.images.fields import ChebyshevField

from zeropoint.datamodel.fields import ChebyshevPolynomial, chebyshev_terms, fit_chebyshev
from zeropoint.datamodel.mask_planes import ALIASES, PLANES, bitmask, canonical_name, has_any
from zeropoint.errors import InvalidInputError


def test_fit_recovers_a_polynomial_and_agrees_with_lsst_images(rng):
    coefficients = np.array([[1.0, 0.2, -0.1], [0.3, 0.05, 0.0], [0.02, 0.0, 0.0]])
    truth = ChebyshevPolynomial(300, 200, coefficients)
    x, y = rng.uniform(0, 299, 80), rng.uniform(0, 199, 80)
    values = truth(x=x, y=y)
    fitted = fit_chebyshev(x, y, values, 300, 200, 2, 2)
    np.testing.assert_allclose(fitted.coefficients, coefficients, atol=1e-12)
    theirs = ChebyshevField(Box.factory[0:200, 0:300], coefficients)
    np.testing.assert_allclose(theirs(x=x, y=y), values, atol=1e-12)


def test_image_equals_pointwise_evaluation():
    field = ChebyshevPolynomial(31, 17, np.array([[2.0, 0.5], [0.1, 0.2]]))
    y, x = np.mgrid[0:17, 0:31]
    np.testing.assert_allclose(field.image(np.float64), field(x=x, y=y), rtol=1e-12)


def test_products_and_means_of_fields(rng):
    one = ChebyshevPolynomial(30, 20, rng.normal(0, 1, (3, 2)))
    two = ChebyshevPolynomial(30, 20, rng.normal(0, 1, (2, 4)))
    x, y = rng.uniform(-0.5, 29.5, 50), rng.uniform(-0.5, 19.5, 50)
    np.testing.assert_allclose(one.times(two)(x=x, y=y), one(x=x, y=y) * two(x=x, y=y), atol=1e-12)
    # Gauss's points integrate a polynomial exactly
    nodes, weights = np.polynomial.legendre.leggauss(6)
    gx, gy = np.meshgrid(15 * nodes + 14.5, 10 * nodes + 9.5)
    assert two.mean() == pytest.approx(np.sum(np.outer(weights, weights) * two(x=gx, y=gy)) / 4, abs=1e-12)


def test_triangular_packing_counts_terms():
    assert len(chebyshev_terms(2, 2)) == 6
    assert len(chebyshev_terms(6, 6)) == 28
    assert len(chebyshev_terms(2, 1, triangular=False)) == 6


def test_planes_have_distinct_bits_within_31():
    bits = [bit for bit, _ in PLANES.values()]
    assert len(set(bits)) == len(bits)
    assert max(bits) < 31


@pytest.mark.parametrize("old", ALIASES)
def test_old_names_mean_the_same_plane(old):
    assert bitmask([old]) == bitmask([ALIASES[old]])
    assert canonical_name(old) in PLANES


def test_unknown_plane_is_named():
    with pytest.raises(InvalidInputError, match="'SATURTED'"):
        bitmask(["SATURTED"])


def test_has_any_sees_any_of_the_planes():
    mask = np.array([[0, bitmask(["CR"])], [bitmask(["BAD", "CR"]), bitmask(["SAT"])]], np.int32)
    assert has_any(mask, ["CR", "SAT"]).tolist() == [[False, True], [True, True]]

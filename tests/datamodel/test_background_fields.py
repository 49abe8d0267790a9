"""Backgrounds as lsst-images fields and back: bit for bit where they are ours, alike where they are not."""

from __future__ import annotations

from typing import Any

import astropy.units as u
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lsst.images import BackgroundMap, Box
from lsst.images.fields import ChebyshevField, ProductField, SplineField, SumField

from zeropoint.datamodel.background import BackgroundComponent, BackgroundList
from zeropoint.datamodel.background_fields import background_list, background_map, chebyshev_polynomial
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.errors import InvalidInputError

WIDTH, HEIGHT = 90, 70
RNG = np.random.default_rng(2)


def polynomial() -> ChebyshevPolynomial:
    return ChebyshevPolynomial(WIDTH, HEIGHT, RNG.normal(size=(3, 3)))


def component(style: str, *, factor: bool = False) -> BackgroundComponent:
    values = RNG.normal(600, 3, (5, 6))
    values[1, 2] = np.nan
    x, y = np.linspace(5, WIDTH - 6, 6), np.linspace(4, HEIGHT - 5, 5)
    fitted = polynomial() if style == "CHEBYSHEV" else None
    times = polynomial() if factor else None
    return BackgroundComponent(values, np.ones((5, 6)), x, y, WIDTH, HEIGHT, style, fitted, times)


STYLES = ["CHEBYSHEV", "AKIMA_SPLINE", "NATURAL_SPLINE", "LINEAR", "CONSTANT"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(STYLES), min_size=1, max_size=4))
def test_components_come_back_bit_for_bit(styles: list[str]) -> None:
    background = BackgroundList([component(style) for style in styles])
    back = background_list(background_map(background, u.electron, cells=True))
    assert [each.style for each in back] == styles
    for one, other in zip(background, back, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.image(), other.image())
        assert np.isnan(other.errors).all()
    np.testing.assert_array_equal(background.image(), back.image())


def test_a_factor_comes_back() -> None:
    background = BackgroundList([component("AKIMA_SPLINE", factor=True)])
    back = background_list(background_map(background, u.nJy))
    np.testing.assert_array_equal(background.image(), back.image())


def test_what_is_subtracted_does_not_depend_on_the_cells() -> None:
    background = BackgroundList([component("CHEBYSHEV"), component("AKIMA_SPLINE")])
    plain, full = (background_map(background, u.electron, cells=cells) for cells in (False, True))
    assert list(plain) == ["subtracted"]
    assert list(full) == ["subtracted", "cells_0"]
    assert full.subtracted.name == "subtracted"
    assert plain["subtracted"].field == full["subtracted"].field


def test_a_map_from_elsewhere_can_be_used() -> None:
    box = Box.factory[10 : 10 + HEIGHT, 20 : 20 + WIDTH]
    spline = SplineField(box, RNG.normal(size=(5, 6)), y=np.linspace(12, 75, 5), x=np.linspace(24, 104, 6))
    surface = ChebyshevField(box, RNG.normal(size=(3, 3)))
    fields = BackgroundMap()
    fields.add("mine", SumField([spline, surface]), is_subtracted=True)
    found = background_list(fields).image()
    # between the centres of cells splines agree in single precision; beyond, lsst-images goes on in another way
    inside = np.s_[2:65, 4:84]
    np.testing.assert_allclose(found[inside], fields["mine"].field.render().array[inside], atol=2e-5)
    middle = background_list(fields).components[1].values
    assert middle == pytest.approx(surface(x=20 + 0.5 * (WIDTH - 1), y=10 + 0.5 * (HEIGHT - 1)))
    assert len(background_list(BackgroundMap())) == 0


@pytest.mark.parametrize("make", [
    lambda spline, surface: ProductField([surface, spline]),
    lambda spline, surface: SumField([spline, ProductField([spline, spline])]),
])  # fmt: skip
def test_other_fields_are_refused(make: Any) -> None:
    box = Box.factory[0:HEIGHT, 0:WIDTH]
    spline = SplineField(box, np.ones((5, 6)), y=np.linspace(0, 69, 5), x=np.linspace(0, 89, 6))
    surface = ChebyshevField(box, np.ones((1, 1)))
    fields = BackgroundMap()
    fields.add("odd", make(spline, surface), is_subtracted=True)
    with pytest.raises(InvalidInputError, match="ProductField"):
        background_list(fields)
    with pytest.raises(TypeError, match="SplineField"):
        chebyshev_polynomial(spline)

"""PSF models as text."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.datamodel.psf_model import GaussianPsf, PixelGridPsf, PsfModel
from zeropoint.psf.psf_text import psf_from_text, psf_to_text

FLOATS = st.floats(0.1, 5000.0)
GAUSSIAN = GaussianPsf(1.7, 25)


@settings(max_examples=25, deadline=None)
@given(FLOATS, FLOATS, FLOATS, st.integers(0, 1000))
def test_a_grid_comes_back_bit_for_bit(x: float, y: float, norm: float, seed: int) -> None:
    exponents = np.array([(0, 0), (1, 0), (0, 1)])
    values = np.random.default_rng(seed).normal(size=(3, 17, 17)) * 1e-3
    model = PixelGridPsf(
        values, exponents, x_ref=x, y_ref=y, norm=norm, size=15, scale=0.7, lanczos=7, average_position=(y, x)
    )
    back = psf_from_text(psf_to_text(model), GAUSSIAN)
    assert isinstance(back, PixelGridPsf)
    np.testing.assert_array_equal(back.coefficients, model.coefficients)
    np.testing.assert_array_equal(back.exponents, model.exponents)
    assert back.average_position == (y, x)
    at = np.array([x, 3.3])
    np.testing.assert_array_equal(back.star_stamps(x=at, y=at), model.star_stamps(x=at, y=at))


@given(st.floats(0.3, 20.0), FLOATS)
def test_a_gaussian_comes_back(sigma: float, x: float) -> None:
    back = psf_from_text(psf_to_text(GaussianPsf(sigma, 31, (x, 2 * x))), GAUSSIAN)
    assert isinstance(back, GaussianPsf)
    assert (back.sigma_pix, back.size, back.average_position) == (sigma, 31, (x, 2 * x))


@pytest.mark.parametrize(
    "text", ['{"kind": "grid"}', "[1]", "nonsense", '{"average_position": [0, 0], "kind": "x"}']
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a PSF|Expecting value"):
        psf_from_text(text, GAUSSIAN)


def test_a_piff_model_needs_piffs_own_object() -> None:
    from zeropoint.psf.piff_io import PiffPsf

    impl = object()
    model = PiffPsf(impl, 21, (3.0, 4.0), {"colorValue": 0.7})  # type: ignore[arg-type]
    text = psf_to_text(model)
    back = psf_from_text(text, PiffPsf(impl, 21, (0.0, 0.0)))  # type: ignore[arg-type]
    assert isinstance(back, PiffPsf)
    assert (back.impl, back.average_position, back.properties) == (impl, (3.0, 4.0), {"colorValue": 0.7})
    with pytest.raises(ValueError, match="piff"):
        psf_from_text(text, GAUSSIAN)
    assert "impl" not in json.loads(text)


def test_another_kind_of_model_has_no_text() -> None:
    class Odd(PsfModel):
        size, average_position = 3, (0.0, 0.0)

        def star_stamps(self, *, x: object, y: object) -> np.ndarray:
            return np.ones((1, 3, 3))

    with pytest.raises(TypeError, match="Odd"):
        psf_to_text(Odd())

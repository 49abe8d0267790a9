import numpy as np
import pytest

from naive import matched_stars as sky
from zeropoint.errors import ColortermNotFoundError
from zeropoint.photometry.color_terms import (
    Colorterm,
    ColortermDict,
    ColortermLibrary,
    reference_color,
)


def library(*names):
    result = ColortermLibrary()
    for name in names:
        result.data[name] = ColortermDict()
        result.data[name].data["g DECam"] = Colorterm(primary="g", secondary="r", c0=0.1, c1=0.05, c2=-0.01)
    return result


def test_magnitudes_follow_the_quadratic():
    term = Colorterm(primary="g", secondary="r", c0=0.1, c1=0.05, c2=-0.01)
    np.testing.assert_allclose(
        term.transform_mags(np.array([20.0]), np.array([19.0])), [20.0 + 0.1 + 0.05 - 0.01]
    )
    np.testing.assert_allclose(
        term.propagate_flux_errors(np.array([0.03]), np.array([0.2])), [np.hypot(0.0315, 0.01)]
    )


def test_reference_magnitudes_need_both_bands_with_errors():
    refs = sky.references(np.zeros(3), np.zeros(3), np.full(3, 19.0), mag_err=0.02, g=np.full(3, 20.0))
    term = Colorterm(primary="g", secondary="r", c0=0.1, c1=0.5)
    mag, error = term.corrected_magnitudes(refs.table)
    np.testing.assert_allclose(mag, 20.6)
    np.testing.assert_allclose(error, 0.02 * np.hypot(1.5, 0.5), rtol=1e-10)
    with pytest.raises(KeyError):
        Colorterm(primary="z", secondary="r").corrected_magnitudes(refs.table)


def test_an_exact_name_wins_over_a_pattern():
    both = library("ps1*", "ps1_pv3")
    both.data["ps1_pv3"].data["g DECam"].c0 = 9.0
    assert both.getColorterm("g DECam", "ps1_pv3").c0 == 9.0
    assert both.getColorterm("g DECam", "ps1_other").c0 == 0.1


@pytest.mark.parametrize(
    ("names", "catalogue", "physical"),
    [((), "ps1", "g DECam"), (("ps1*", "ps*"), "ps1x", "g DECam"), (("ps1*",), "ps1x", "Y")],
)
def test_what_is_unknown_or_ambiguous_is_an_error(names, catalogue, physical):
    with pytest.raises(ColortermNotFoundError) as caught:
        library(*names).getColorterm(physical, catalogue)
    assert isinstance(caught.value, LookupError)


def test_an_unknown_filter_can_be_ignored():
    term = library("ps1*").getColorterm("Y", "ps1x", doRaise=False)
    assert (term.c0, term.c1, term.c2) == (0.0, 0.0, 0.0)


def test_the_reference_colour_is_antisymmetric():
    assert reference_color("g", "r") == -reference_color("r", "g") != 0
    assert reference_color("a", "b") == 0

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from zeropoint.datamodel.psf_model import GaussianPsf, PsfModel
from zeropoint.errors import InvalidInputError
from zeropoint.simulation.psf import TruthPsf
from zeropoint.simulation.settings import SimulationSettings
from zeropoint.simulation.survey_comparison import psf_errors, reserve_conflicts, reserved_residuals

SETTINGS = SimulationSettings(width=300, height=300, psf_variation=0.0, psf_ellipticity=0.0)


class Truth(PsfModel):
    """The truth of other settings, as a model."""

    size = 31

    def __init__(self, **changes: float) -> None:
        self.truth = TruthPsf(SimulationSettings(**{**SETTINGS.__dict__, **changes}))  # type: ignore[arg-type]

    def kernel_stamps(self, *, x, y):  # type: ignore[no-untyped-def]
        return self._stamps(x, y, centered=True)

    def star_stamps(self, *, x, y):  # type: ignore[no-untyped-def]
        return self._stamps(x, y, centered=False)

    def _stamps(self, x: np.ndarray, y: np.ndarray, *, centered: bool) -> np.ndarray:
        stamps = np.array([self.truth.stamp(a, b, self.size, centered=centered) for a, b in zip(x, y)])
        return stamps / stamps.sum(axis=(1, 2), keepdims=True)


def test_the_truth_has_no_errors() -> None:
    x, y = np.array([20.3, 150.0]), np.array([200.7, 30.0])
    errors = psf_errors(Truth(), TruthPsf(SETTINGS), x, y)
    for values in (errors.size, errors.e1, errors.e2):
        np.testing.assert_allclose(values, 0.0, atol=1e-9)


def test_errors_of_size_and_shape_are_told_apart() -> None:
    x = y = np.array([150.0])
    wider = psf_errors(Truth(fwhm_arcsec=0.8 * 1.01), TruthPsf(SETTINGS), x, y)
    # T goes with the square of the width; the pixels of a sharp core see a little less of it
    assert wider.size[0] == pytest.approx(0.0201, abs=5e-4)
    assert abs(wider.e1[0]) < 1e-6
    flat = psf_errors(Truth(psf_ellipticity=0.02), TruthPsf(SETTINGS), x, y)
    assert flat.e1[0] == pytest.approx(0.02, rel=0.05)
    assert flat.e2[0] == pytest.approx(0.01, rel=0.05)
    round_model = GaussianPsf(1.7, size=31)
    assert psf_errors(round_model, TruthPsf(SETTINGS), x, y).e2[0] == pytest.approx(0.0, abs=1e-9)


def stars(rng: np.random.Generator, n_images: int, per_image: int, **offsets: float) -> Table:
    """Stars of unit size and their models, with an error that the stars of an image share."""
    n = n_images * per_image
    image = np.repeat(np.arange(n_images), per_image)
    noise = 0.01 * rng.normal(size=(3, n)) + 0.003 * rng.normal(size=(3, n_images))[:, image]
    size = 1.0 + offsets.get("size", 0.0) + noise[0]
    e1, e2 = offsets.get("e1", 0.0) + noise[1], noise[2]
    table = Table({"visit": 100 + image // 4, "detector": image % 4})
    table["calib_psf_reserved"] = True
    table["slot_Shape_xx"], table["slot_Shape_yy"] = 2.0 * size * (1 + e1), 2.0 * size * (1 - e1)
    table["slot_Shape_xy"] = 2.0 * size * e2
    table["slot_PsfShape_xx"] = table["slot_PsfShape_yy"] = 2.0
    table["slot_PsfShape_xy"] = 0.0
    table["slot_Shape_flag"] = False
    table["slot_PsfFlux_instFlux"], table["slot_PsfFlux_instFluxErr"] = 1000.0, 10.0
    return table


def test_errors_of_mean_residuals_count_images_not_stars() -> None:
    rng = np.random.default_rng(5)
    significance = np.array(
        [[one.significance for one in reserved_residuals(stars(rng, 40, 20))] for _ in range(60)]
    )
    # 180 numbers of unit width: known to 5 %; stars counted as independent would give 1.7
    assert np.std(significance) == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize(("name", "offset"), [("dT/T", {"size": 0.01}), ("de1", {"e1": 0.01})])
def test_a_model_that_is_off_is_found_out(name: str, offset: dict[str, float]) -> None:
    found = {one.name: one for one in reserved_residuals(stars(np.random.default_rng(6), 40, 20, **offset))}
    assert found[name].significance > 5.0
    assert found[name].mean == pytest.approx(0.01, abs=4 * found[name].error)
    assert abs(found["de2"].significance) < 4.0


def test_only_good_reserved_stars_count() -> None:
    table = stars(np.random.default_rng(7), 8, 20)
    expected = reserved_residuals(table)
    more = stars(np.random.default_rng(8), 8, 20, size=0.5)
    more["calib_psf_reserved"] = np.arange(160) % 2 == 0
    more["slot_Shape_flag"] = more["calib_psf_reserved"]
    both = Table({name: np.concatenate([table[name], more[name]]) for name in table.colnames})
    assert reserved_residuals(both) == expected


def test_one_image_says_nothing_of_the_error() -> None:
    with pytest.raises(InvalidInputError, match="at least two images"):
        reserved_residuals(stars(np.random.default_rng(9), 1, 20))


def test_a_star_reserved_in_one_visit_of_a_band_only_is_found() -> None:
    sources = Table(
        {
            "sourceId": [11, 12, 13, 21, 22, 31],
            "band": ["g", "g", "i", "g", "g", "g"],
            "isolated_star_id": [1, 1, 1, 2, 2, 3],
        }
    )
    seen = Table({"id": [11, 12, 13, 21, 22, 31, 99]})
    # star 1 may be reserved in one band alone; a source that belongs to no star does not count
    seen["calib_psf_reserved"] = [True, True, False, False, False, True, True]
    assert reserve_conflicts(seen, sources) == (2, 0)
    seen["calib_psf_reserved"][3] = True
    assert reserve_conflicts(seen, sources) == (2, 1)

"""Rubin's keys of the zero point."""

from types import SimpleNamespace

import numpy as np
import pytest

from zeropoint.photometry.header import magzero_metadata

RESULT = SimpleNamespace(zp=31.5, sigma=0.002, n_good=87, color_coefficients=(0.01, -0.05, 0.002))


def test_magzero_is_that_of_one_count_per_second():
    assert magzero_metadata(RESULT, 100.0) == {
        "MAGZERO": pytest.approx(26.5),
        "MAGZERO_RMS": 0.002,
        "MAGZERO_NOBJ": 87,
        "COLORTERM1": 0.01,
        "COLORTERM2": -0.05,
        "COLORTERM3": 0.002,
    }


@pytest.mark.parametrize("time", [0.0, float("nan")])
def test_without_an_exposure_time_magzero_is_nan_and_says_so(time, caplog):
    assert np.isnan(magzero_metadata(RESULT, time)["MAGZERO"])
    assert "exposure time" in caplog.text

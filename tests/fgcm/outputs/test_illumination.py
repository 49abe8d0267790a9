"""Illumination corrections from the superstar flats."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.outputs.illumination import illumination_corrections


@pytest.fixture
def parameters() -> Table:
    """Two epochs, two filters, three detectors, first order; the last detector has no flat in the second filter."""
    flats = np.zeros((2, 2, 3, 4), np.float32)
    flats[..., 0] = 1.0 + 0.01 * np.arange(12).reshape(2, 2, 3)
    flats[..., 1] = 0.02
    flats[1, 1, 2] = [100.0, 0.0, 0.0, 0.0]
    flats[1, 0, 0] = [0.5, 0.6, 0.0, 0.0]
    table = Table(
        {
            "lutFilterNames": ["g_cam,r_cam"],
            "superstarSize": [flats.shape],
            "superstar": [flats.ravel()],
            "epochMjdStart": [[-np.inf, 60000.0]],
            "epochMjdEnd": [[60000.0, np.inf]],
        }
    )
    table.meta["DETECTORS"] = [1, 4, 6]
    return table


def test_the_image_is_the_flat_of_the_epoch(parameters):
    for mjd, epoch in ((59000.0, 0), (60000.0, 1)):
        image = illumination_corrections(parameters, mjd).image("r_cam", 4, 30, 20)
        field = ChebyshevPolynomial(30, 20, np.array([[1.0 + 0.01 * (6 * epoch + 4), 0.02], [0.0, 0.0]]))
        np.testing.assert_allclose(image, field.image(np.float64), rtol=1e-6)


def test_vignetted_pixels_keep_a_tenth(parameters):
    image = illumination_corrections(parameters, 60000.0).image("g_cam", 1, 30, 20)
    assert image.min() == np.float32(0.1)


def test_detectors_without_a_flat_and_unknown_filters_have_none(parameters):
    found = illumination_corrections(parameters, 60001.0)
    assert found.image("r_cam", 6, 30, 20) is None
    assert found.image("y_cam", 6, 30, 20) is None
    with pytest.raises(InvalidInputError, match="Detector 5"):
        found.image("r_cam", 5, 30, 20)


def test_what_cannot_be_is_named(parameters):
    parameters["epochMjdStart"][0, 0] = 59000.0
    with pytest.raises(InvalidInputError, match="no epoch of the fit"):
        illumination_corrections(parameters, 58000.0)
    parameters.meta["DETECTORS"] = [1, 4]
    with pytest.raises(InvalidInputError, match="3 detectors, and its metadata name 2"):
        illumination_corrections(parameters, 60000.0)

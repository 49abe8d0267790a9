"""Illumination corrections from the superstar flats."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.focal_plane import DetectorGeometry
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.outputs.illumination import illumination_corrections

WIDTH, HEIGHT = 30, 20


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


def detector(number, area=((1.0,),), x0=0) -> DetectorGeometry:
    polynomial = ChebyshevPolynomial(WIDTH, HEIGHT, np.array(area))
    return DetectorGeometry(number, str(number), x0, 0, WIDTH, HEIGHT, 0.0, 0.0, 0.2, polynomial)


def test_the_image_is_one_over_the_flat_of_the_epoch(parameters):
    for mjd, epoch in ((59000.0, 0), (60000.0, 1)):
        image = illumination_corrections(parameters, mjd).image("r_cam", detector(4), include_area=True)
        flat = np.array([[1.0 + 0.01 * (6 * epoch + 4), 0.02], [0.0, 0.0]])
        field = ChebyshevPolynomial(WIDTH, HEIGHT, flat)
        np.testing.assert_allclose(image * field.image(np.float64), 1.0, rtol=1e-6)


def test_areas_are_part_of_it_if_wanted(parameters):
    found = illumination_corrections(parameters, 59000.0)
    geometry = detector(4, [[1.0, 0.1]], x0=5)
    whole, bare = (found.image("r_cam", geometry, include_area=wanted) for wanted in (True, False))
    np.testing.assert_allclose(bare / whole, geometry.area.image(np.float64), rtol=1e-6)


def test_factors_keep_a_tenth(parameters):
    image = illumination_corrections(parameters, 60000.0).image("g_cam", detector(1), include_area=False)
    assert image.max() == np.float32(10.0)


def test_detectors_without_a_flat_and_unknown_filters_have_none(parameters):
    found = illumination_corrections(parameters, 60001.0)
    assert found.image("r_cam", detector(6), include_area=False) is None
    assert found.image("y_cam", detector(6), include_area=False) is None
    with pytest.raises(InvalidInputError, match="Detector 5"):
        found.image("r_cam", detector(5), include_area=False)


def test_what_cannot_be_is_named(parameters):
    parameters["epochMjdStart"][0, 0] = 59000.0
    with pytest.raises(InvalidInputError, match="no epoch of the fit"):
        illumination_corrections(parameters, 58000.0)
    parameters.meta["DETECTORS"] = [1, 4]
    with pytest.raises(InvalidInputError, match="3 detectors, and its metadata name 2"):
        illumination_corrections(parameters, 60000.0)

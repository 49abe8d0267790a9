"""Atmospheres of visits: the same as behind their zeropoints."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.atmosphere import Atmosphere, AtmosphereParameters
from zeropoint.fgcm.lut import LookUpTable
from zeropoint.fgcm.outputs.atmospheres import look_up_table_atmosphere, visit_atmospheres
from zeropoint.fgcm.quadrature import passband_integrals, simpson_weights

WAVELENGTH = np.arange(6000.0, 9001.0, 10.0)


@pytest.fixture(scope="module")
def atmosphere() -> Atmosphere:
    return Atmosphere.for_site(2663.0, wavelength=WAVELENGTH)


@pytest.fixture
def parameters() -> Table:
    n = 5
    return Table(
        {
            "visit": np.array([14, 11, 12, 13, 15]),
            "pmb": np.full(n, 740.0),
            "pwv": np.array([3.0, 1.0, 2.0, np.nan, 4.0]),
            "tau": np.array([0.04, 0.01, 0.02, 0.02, 0.03]),
            "alpha": np.full(n, 1.2),
            "o3": np.full(n, 260.0),
            "secZenith": np.array([1.8, 1.0, 1.4, 1.4, 7.0]),
            "cTrans": np.array([0.02, 0.0, 0.0, 0.0, 0.0]),
            "lamStd": np.full(n, 7500.0),
        }
    )


def test_integrals_through_a_curve_are_those_of_the_model(parameters, atmosphere):
    found = dict(visit_atmospheres(parameters, atmosphere))
    throughput = np.exp(-(((WAVELENGTH - 7500.0) / 700.0) ** 4))
    given = AtmosphereParameters(740.0, 2.0, 260.0, 0.02, 1.2, 1.4)
    model = passband_integrals(atmosphere, given, throughput, 7500.0, derivatives=False)
    weights = simpson_weights(WAVELENGTH) * throughput / WAVELENGTH
    i0 = weights @ found[12].sample(WAVELENGTH)
    assert -2.5 * np.log10(i0 / model.i0[0, 0]) == pytest.approx(0.0, abs=1e-9)


def test_the_mirror_tilts_the_curve_about_its_wavelength(parameters, atmosphere):
    tilted = dict(visit_atmospheres(parameters, atmosphere))[14].sample(WAVELENGTH)
    parameters["cTrans"] = 0.0
    plain = dict(visit_atmospheres(parameters, atmosphere))[14].sample(WAVELENGTH)
    np.testing.assert_allclose(tilted / plain, 1.0 + 0.02 * (WAVELENGTH - 7500.0) / 7500.0, rtol=1e-12)


def test_visits_without_an_atmosphere_are_counted(parameters, atmosphere):
    found = visit_atmospheres(parameters, atmosphere)
    stage = found.accounting["atmospheres"]
    assert found.visits.tolist() == [11, 12, 14]
    assert (stage.read, stage.kept, dict(stage.rejected)) == (5, 3, {"no_parameters": 1, "no_secant": 1})
    curve = found.curve(0)
    assert (curve.below, curve.above) == (curve.throughput[0], curve.throughput[-1])


def test_the_look_up_table_says_which_atmosphere_it_is(atmosphere):
    header = {
        "tablename": "NoTableWasUsed",
        "elevation": 2663.0,
        "lambdaNorm": 7750.0,
        "atmLambda": WAVELENGTH,
    }
    again = look_up_table_atmosphere(LookUpTable(header, None))
    given = AtmosphereParameters(740.0, 2.0, 260.0, 0.02, 1.2, 1.4)
    np.testing.assert_array_equal(again.transmission(given), atmosphere.transmission(given))
    with pytest.raises(InvalidInputError, match=r"lost\.fits, which is not there"):
        look_up_table_atmosphere(LookUpTable(header | {"tablename": "tables/lost.fits"}, None))

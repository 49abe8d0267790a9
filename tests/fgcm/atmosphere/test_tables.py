"""Tables in the reference's layout: written by us, read by us, and the real ones of the reference."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.atmosphere import Atmosphere, AtmosphereParameters, TableAxes, _coefficients

#: Columns of PARS in the reference's order, with their lengths: typed from the specification.
PARS = """
ELEVATION PMBELEVATION PMBSTD PWVSTD O3STD TAUSTD ALPHASTD AIRMASSSTD LAMBDARANGE:2 LAMBDASTEP LAMBDANORM
ATMLAMBDA:n ATMSTDTRANS:n PMB:5 PMBDELTA LNPWV:6 LNPWVDELTA O3:3 O3DELTA LNTAU:11 LNTAUDELTA ALPHA:9 ALPHADELTA
SECZENITH:7 SECZENITHDELTA
"""
AXES = TableAxes(
    pmb_range=(770.0, 790.0), pwv_range=(0.5, 12.0), pmb_std=778.0, pwv_std=3.0, airmass_std=1.2,
    pwv_steps=6, zenith_steps=7,
)  # fmt: skip
WAVELENGTH = np.arange(3000.0, 11000.1, 50.0)


@pytest.fixture(scope="module")
def site():
    return Atmosphere.for_site(2663.0, wavelength=WAVELENGTH)


@pytest.fixture(scope="module")
def path(site, tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "atmosphere.fits"
    site.write_table(path, AXES)
    return path


def test_layout_is_the_references(path):
    with fits.open(path) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "PARS", "PWVATM", "O3ATM", "O2ATM", "RAYATM"]
        n = WAVELENGTH.size
        for column, expected in zip(hdus["PARS"].columns, PARS.split(), strict=True):
            name, _, length = expected.partition(":")
            length = {"": "1", "n": str(n)}.get(length, length)
            assert (column.name, column.format.removesuffix("E") or "1") == (name, length)
        assert hdus["PARS"].data["LAMBDASTEP"][0] == 5.0  # nanometers
        shapes = {"PWVATM": (7, 8, n), "O3ATM": (4, 8, n), "O2ATM": (8, n), "RAYATM": (8, n)}
        for name, shape in shapes.items():
            assert hdus[name].data.shape == shape
            assert hdus[name].data.dtype == np.dtype(">f8")


def test_a_table_gives_back_its_nodes_and_nearly_what_lies_between(site, path):
    table = Atmosphere.from_table(path)
    assert table.elevation == 2663.0
    assert table.lambda_norm == 7750.0
    np.testing.assert_array_equal(table.wavelength, WAVELENGTH)
    at = AtmosphereParameters(740.0, AXES.nodes("pwv")[2], 220.0, 0.05, 1.2, AXES.nodes("secant")[[0, 3, 6]])
    # axes are single-precision numbers in the file
    without = site.absorbers["gases"].exponent == 1.0
    np.testing.assert_allclose(
        table.transmission(at)[:, without], site.transmission(at)[:, without], atol=3e-6
    )
    between = replace(at, pwv=np.full(3, 4.0), airmass=np.array([1.1, 1.4, 2.1]), o3=np.full(3, 300.0))
    assert np.abs(table.transmission(between) - site.transmission(between)).max() < 2e-3


def test_derivatives_of_a_table_are_those_of_its_transmission(path):
    table = Atmosphere.from_table(path, wavelength=WAVELENGTH[::7])
    at = AtmosphereParameters(740.0, [0.3, 4.0, 30.0], 290.0, 0.05, 1.2, [1.03, 1.5, 3.4])
    analytic = table.log_derivatives(at)
    for name, parameter, step in [
        ("ln_pwv", "pwv", 1e-4), ("o3", "o3", 1e-1), ("airmass", "airmass", 1e-5), ("pmb", "pmb", 1e-2),
    ]:  # fmt: skip
        value = getattr(at, parameter)
        factor = np.exp(step) if name.startswith("ln_") else None
        high, low = (value * factor, value / factor) if factor else (value + step, value - step)
        above, below = (table.transmission(replace(at, **{parameter: v})) for v in (high, low))
        np.testing.assert_allclose(
            np.log(above / below) / (2 * step), analytic[name], atol=1e-6, err_msg=name
        )


def test_true_amounts_of_water_replace_labels(path):
    at = AtmosphereParameters(740.0, 1.0, 263.0, 0.0, 1.0, 1.0)
    twice = Atmosphere.from_table(path, pwv=2 * AXES.nodes("pwv"))
    # twice the amount at the nodes: as much absorption at twice the water
    np.testing.assert_allclose(
        twice.transmission(replace(at, pwv=np.array([6.0]))),
        Atmosphere.from_table(path).transmission(replace(at, pwv=np.array([3.0]))),
        rtol=1e-6,
    )


def test_unusable_tables_are_named(site, path, tmp_path):
    with pytest.raises(InvalidInputError, match="exists"):
        site.write_table(path, AXES)
    with pytest.raises(InvalidInputError, match="even, ascending steps"):
        site.at([4000.0, 5000.0, 5500.0]).write_table(tmp_path / "new.fits", AXES)
    with pytest.raises(InvalidInputError, match=r"absent\.fits"):
        Atmosphere.from_table(tmp_path / "absent.fits")
    with pytest.raises(InvalidInputError, match="6 nodes of water; 2 amounts"):
        Atmosphere.from_table(path, pwv=[1.0, 8.1])
    with fits.open(path) as hdus:
        del hdus["O2ATM"]
        hdus.writeto(tmp_path / "less.fits")
    with pytest.raises(InvalidInputError, match=r"less\.fits.*O2ATM"):
        Atmosphere.from_table(tmp_path / "less.fits")
    with fits.open(path) as hdus:
        hdus["RAYATM"].data[0, 0] = 1.5
        hdus.writeto(tmp_path / "bright.fits")
    with pytest.raises(InvalidInputError, match="no transmissions"):
        Atmosphere.from_table(tmp_path / "bright.fits")


@pytest.mark.parametrize(
    "change",
    [
        {"pwv_steps": 1},
        {"pwv_range": (0.0, 12.0)},
        {"pmb_range": (790.0, 770.0)},
        {"zenith_range": (0.0, 80.0)},
        {"airmass_std": 0.5},
        {"pmb_std": 77800.0},
        {"pmb_range": (77000.0, 79000.0)},
    ],
)
def test_impossible_axes_are_named(change):
    with pytest.raises(InvalidInputError, match=next(iter(change)).split("_")[0]):
        replace(AXES, **change)


@pytest.mark.parity
@pytest.mark.parametrize(
    ("name", "pwv"), [("lsst2", (1.0, 8.1)), ("subaru2", (0.1, 3.6))], ids=["LSST", "Subaru"]
)
def test_the_model_reproduces_every_node_of_the_references_tables(testdata, name, pwv):
    path = testdata / "throughputs" / "fgcm-atm-test" / f"fgcm_atm_{name}_test.fits"
    with fits.open(path) as hdus:
        elevation = float(hdus["PARS"].data["ELEVATION"][0])
        secant = [float(value) for value in hdus["PARS"].data["SECZENITH"][0]]
        images = {key: hdus[key].data.astype(float) for key in ("PWVATM", "O3ATM", "O2ATM", "RAYATM")}
    model = Atmosphere.for_site(elevation, collision_bands=False)
    table = Atmosphere.from_table(path, pwv=pwv)
    for i, (water, ozone) in enumerate(zip(pwv, (220.0, 310.0), strict=True)):
        at = AtmosphereParameters(model.pmb_elevation, water, ozone, 0.0, 1.0, secant)
        true = images["PWVATM"][i, :2] * images["O3ATM"][i, :2] * images["O2ATM"][:2] * images["RAYATM"][:2]
        visible = _coefficients.WAVELENGTH > 3300
        # four decimals of four factors, and laws good to half a percent of a depth
        assert np.sqrt(np.mean((model.transmission(at) - true)[:, visible] ** 2)) < 4e-4
        assert np.abs(table.transmission(at) - true)[:, visible].max() < 2e-3


@pytest.mark.slow
@pytest.mark.parity
def test_coefficients_are_derived_again_byte_by_byte(testdata, tmp_path):
    script = Path(__file__).parents[3] / "tools" / "derive_atmosphere.py"
    tables = testdata / "throughputs" / "fgcm-atm-test"
    again = tmp_path / "again.npz"
    subprocess.run([sys.executable, script, tables, "--output", again], check=True, capture_output=True)
    assert again.read_bytes() == _coefficients.PATH.read_bytes()

"""The look-up table: layout, integrals, differences, interpolation, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from fgcm.lut.parts import CURVES, SENSORS, small_config
from naive.passband_integrals import integrals as naive_integrals
from naive.passband_integrals import interpolated
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm import make_lut
from zeropoint.fgcm.atmosphere import Atmosphere, AtmosphereParameters, TableAxes
from zeropoint.fgcm.lut import COLUMNS, LUT_TYPES, LookUpTable
from zeropoint.fgcm.lut_fill import fill_tables, table_shape
from zeropoint.fgcm.lut_grid import AXES, TABLE_NAMES, named_parameters
from zeropoint.fgcm.lut_interpolation import interpolate, places_within
from zeropoint.fgcm.make_lut import MadeLookUpTable, MakeLookUpTable
from zeropoint.fgcm.quadrature import passband_integrals

#: float32 holds 24 bits; a difference of two integrals over a step loses some of them.
SINGLE = 2.0**-23

#: Columns of fgcmLookUpTable, typed from its description: name, dtype and, for arrays, what its length is.
LAYOUT = [
    ("tablename", "str", None), ("elevation", "f8", None), ("physicalFilters", "str", None),
    ("stdPhysicalFilters", "str", None), ("pmb", "f8", 5), ("pmbFactor", "f8", 5), ("pmbElevation", "f8", None),
    ("pwv", "f8", 3), ("o3", "f8", 3), ("tau", "f8", 3), ("lambdaNorm", "f8", None), ("alpha", "f8", 3), ("zenith", "f8", 3),
    ("nCcd", "i4", None), ("pmbStd", "f8", None), ("pwvStd", "f8", None), ("o3Std", "f8", None), ("tauStd", "f8", None),
    ("alphaStd", "f8", None), ("zenithStd", "f8", None), ("lambdaRange", "f8", 2), ("lambdaStep", "f8", None),
    ("lambdaStd", "f8", 2), ("lambdaStdFilter", "f8", 2), ("i0Std", "f8", 2), ("i1Std", "f8", 2), ("i10Std", "f8", 2),
    ("i2Std", "f8", 2), ("lambdaB", "f8", 2), ("atmLambda", "f8", 1601), ("atmStdTrans", "f8", 1601),
    ("luttype", "str", None), ("lut", "f4", 2 * 3**5 * 4),
]  # fmt: skip
KINDS = [
    "I0",
    "I1",
    "D_PMB",
    "D_LNPWV",
    "D_O3",
    "D_LNTAU",
    "D_ALPHA",
    "D_SECZENITH",
    "D_PMB_I1",
    "D_LNPWV_I1",
    "D_O3_I1",
    "D_LNTAU_I1",
    "D_ALPHA_I1",
    "D_SECZENITH_I1",
]


def test_columns_and_rows_are_those_of_the_layout(made: MadeLookUpTable) -> None:
    table = made.lut.to_table()
    assert table.colnames == [name for name, _, _ in LAYOUT] == list(COLUMNS)
    assert list(table["luttype"]) == KINDS
    for name, dtype, size in LAYOUT:
        column = table[name]
        assert column.dtype.kind == "U" if dtype == "str" else column.dtype == np.dtype(dtype), name
        assert column.shape == ((14,) if size is None else (14, size)), name
        assert column.description
    assert table["zenith"].unit == "deg"
    assert table["lambdaStep"].unit == "nm"
    assert table["i2Std"].unit == "Angstrom2"
    # the rest of the header's columns is empty
    assert np.isnan(table["elevation"][1:]).all()
    assert (np.asarray(table["physicalFilters"][1:]) == "").all()


def test_header_says_what_the_table_is_of(made: MadeLookUpTable) -> None:
    lut = made.lut
    assert lut.physical_filters == ("R", "R2")
    assert lut.std_filter_of == {"R": "R2", "R2": "R2"}
    assert lut.detectors == (4, 7, 9)
    assert lut.header["tablename"] == "NoTableWasUsed"
    assert lut.header["zenithStd"] == pytest.approx(np.degrees(np.arccos(1 / 1.2)))
    assert (lut.header["pmbFactor"] == 1).all()
    assert "pmbFactor is 1" in lut.meta["pressure"]
    np.testing.assert_allclose(np.diff(np.log(lut.header["pwv"])), np.log(8.0) / 2)
    np.testing.assert_allclose(np.diff(np.log(lut.header["tau"])), np.log(20.0) / 2)
    np.testing.assert_allclose(
        np.diff(1 / np.cos(np.radians(lut.header["zenith"]))), lut.grid.steps["secant"]
    )
    assert lut.header["lambdaStep"] == pytest.approx(0.5)


def test_standard_passbands_are_those_of_the_standard_filter(made: MadeLookUpTable) -> None:
    lut, wavelength = made.lut, made.lut.header["atmLambda"]
    assert lut.lambda_std[0] == lut.lambda_std[1] == lut.lambda_std_filter[1] != lut.lambda_std_filter[0]
    air = Atmosphere.for_site(2663.0)
    standard = AtmosphereParameters(pmb=732.0, pwv=3.0, o3=263.0, tau=0.03, alpha=1.0, airmass=1.2)
    transmission = air.transmission(standard)[0]
    for k, name in enumerate(lut.physical_filters):
        # all detectors have light at the same wavelengths, so that the mean is that of the sensors
        mean = CURVES[name].sample(wavelength) * np.mean(
            [one.sample(wavelength) for one in SENSORS.values()], axis=0
        )
        want = naive_integrals(
            wavelength.tolist(), mean.tolist(), transmission.tolist(), float(lut.lambda_std[k])
        )
        got = [lut.header[column][k] for column in ("i0Std", "i1Std", "i2Std")]
        # i1 of a filter that is its own standard is zero but for rounding
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-9)
        assert lut.i10_std[k] == pytest.approx(got[1] / got[0])
    tables = made.band_passbands({"R": "r", "R2": "r"})
    assert list(tables) == ["r"]
    assert (tables["r"]["wavelength"].unit, tables["r"]["throughput"].unit) == ("nm", "%")
    np.testing.assert_allclose(tables["r"]["throughput"], 100 * made.passbands["R2"].throughput)
    config = small_config()
    config.stdPhysicalFilterOverrideMap = {}
    both = run(config)
    with pytest.raises(InvalidInputError, match="both of band r"):
        both.band_passbands({"R": "r", "R2": "r"})


def run(config: make_lut.FgcmMakeLutConfigBase) -> MadeLookUpTable:
    return MakeLookUpTable(config).run(
        list(SENSORS), filter_curve=lambda name, _: CURVES[name], sensors=SENSORS
    )


def test_every_node_holds_its_integrals_and_the_differences_to_the_next(made: MadeLookUpTable) -> None:
    """The next node is one step on, also beyond the end of the axis."""
    lut, air = made.lut, Atmosphere.for_site(2663.0)
    longer = lut.grid.extended()
    curve = made.passbands["R"].detector_throughput[1]

    def at(index: list[int]) -> np.ndarray:
        values = [axis[k] for axis, k in zip(longer.axes, index, strict=True)]
        row = air.transmission(
            AtmosphereParameters(732.0, np.exp(values[0]), values[1], np.exp(values[2]), values[3], values[4])  # type: ignore[arg-type]
        )[0]
        wavelength = air.wavelength.tolist()
        return np.array(
            naive_integrals(wavelength, curve.tolist(), row.tolist(), float(lut.lambda_std[0]))[:2]
        )

    for node in ([0, 0, 0, 0, 0], [2, 2, 2, 2, 2], [1, 2, 0, 1, 2]):
        here = at(node)
        place = (0, *node, 1)
        np.testing.assert_allclose([lut.kind("I0")[place], lut.kind("I1")[place]], here, rtol=SINGLE)
        for k, (axis, name) in enumerate(
            zip(AXES, ("LNPWV", "O3", "LNTAU", "ALPHA", "SECZENITH"), strict=True)
        ):
            change = (at([one + (j == k) for j, one in enumerate(node)]) - here) / lut.grid.steps[axis]
            got = [lut.kind(f"D_{name}{suffix}")[place] for suffix in ("", "_I1")]
            np.testing.assert_allclose(got, change, rtol=4 * SINGLE)
        assert lut.kind("D_PMB")[place] == lut.kind("D_PMB_I1")[place] == 0


def test_groups_of_filters_do_not_change_a_byte(
    made: MadeLookUpTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zeropoint.fgcm import lut_fill

    monkeypatch.setattr(lut_fill, "_MAX_COLUMNS", 4)
    out = np.zeros_like(made.lut.lut)
    steps: list[tuple[str, int, int]] = []
    air = Atmosphere.for_site(2663.0)
    fill_tables(out, made.lut.grid, made.passbands, air, 732.0, lambda *step: steps.append(step))
    np.testing.assert_array_equal(out, made.lut.lut)
    assert out.shape[1:] == table_shape(made.lut.grid, made.passbands)
    assert steps == [("integrals", k, 8) for k in range(1, 9)]


@pytest.mark.parametrize("newton", [False, True])
def test_interpolation_is_that_of_the_naive_twin(made: MadeLookUpTable, newton: bool) -> None:
    lut = made.lut
    places = places_within(lut.grid, 12)
    i0, i1 = interpolate(lut, 1, -1, places, newton=newton)
    for values, suffix, kind in ((i0, "", "I0"), (i1, "_I1", "I1")):
        names = dict(zip(AXES, ("LNPWV", "O3", "LNTAU", "ALPHA", "SECZENITH"), strict=True))
        tables: dict[str, object] = {
            axis: lut.kind(f"D_{name}{suffix}")[1, ..., -1].tolist() for axis, name in names.items()
        }
        tables["value"] = lut.kind(kind)[1, ..., -1].tolist()
        axes = {name: axis.tolist() for name, axis in zip(AXES, lut.grid.axes, strict=True)}
        want = [
            interpolated(axes, tables, {name: float(places[name][k]) for name in AXES}, newton=newton)
            for k in range(12)
        ]
        np.testing.assert_allclose(values, want, rtol=1e-9)


def test_nodes_interpolate_to_themselves_and_the_error_falls_with_the_steps(made: MadeLookUpTable) -> None:
    grid = made.lut.grid
    nodes = {name: axis[[0, 1, 2]] for name, axis in zip(AXES, grid.axes, strict=True)}
    i0, _ = interpolate(made.lut, 0, 2, nodes, newton=True)
    np.testing.assert_allclose(
        i0, [made.lut.kind("I0")[0, k, k, k, k, k, 2] for k in range(3)], rtol=4 * SINGLE
    )
    config = small_config()
    for axis in ("pwv", "tau", "alpha", "zenith"):
        setattr(config.parameters, f"{axis}Steps", 5)
    coarse, fine = (one.lut.meta["interpolationError"]["grid"]["R2"] for one in (made, run(config)))
    # second order in half the step: a quarter
    assert fine["rmsMmagNewton"] < 0.4 * coarse["rmsMmagNewton"]
    assert fine["maxMmag"] < 0.6 * coarse["maxMmag"]
    assert coarse["maxI10"] > fine["maxI10"] > 0


def test_nowhere_is_the_error_larger_than_stated(made: MadeLookUpTable, rng: np.random.Generator) -> None:
    places = {
        name: rng.uniform(axis[0], axis[-1], 2000)
        for name, axis in zip(AXES, made.lut.grid.axes, strict=True)
    }
    parameters = AtmosphereParameters(
        pmb=732.0,
        pwv=np.exp(places["ln_pwv"]),
        o3=places["o3"],
        tau=np.exp(places["ln_tau"]),
        alpha=places["alpha"],
        airmass=places["secant"],
    )
    for k, passband in enumerate(made.passbands.passbands):
        direct = passband_integrals(
            Atmosphere.for_site(2663.0),
            parameters,
            passband.detector_throughput[-1],
            passband.lambda_std,
            derivatives=False,
        )
        for label, newton in (("", False), ("Newton", True)):
            i0, _ = interpolate(made.lut, k, -1, places, newton=newton)
            largest = np.abs(2500 * np.log10(i0 / direct.i0[:, 0])).max()
            stated = made.lut.meta["interpolationError"]["grid"][passband.physical_filter][f"maxMmag{label}"]
            # the steepest corner of six dimensions is seldom met by chance
            assert 0.5 * stated < largest <= stated


@pytest.mark.parametrize("suffix", [".parq", ".fits"])
def test_tables_survive_files(made: MadeLookUpTable, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"lut{suffix}"
    made.lut.write(path)
    back = LookUpTable.read(path)
    assert back.lut is not None
    np.testing.assert_array_equal(back.lut, made.lut.lut)
    assert back.meta == made.lut.meta
    for name, value in made.lut.header.items():
        np.testing.assert_array_equal(back.header[name], value)
    assert back.standard == made.lut.standard
    if suffix == ".fits":
        with fits.open(path) as hdus:
            units = {column.name: column.unit for column in hdus[1].columns}
        assert (units["pmb"], units["pmbStd"], units["lambdaNorm"]) == ("hPa", "hPa", "Angstrom")
    header = LookUpTable.read(path, header_only=True)
    assert header.lut is None
    assert header.std_filter_of == made.lut.std_filter_of
    with pytest.raises(ValueError, match="header"):
        header.kind("I0")


def test_large_tables_go_through_a_file_that_leaves_nothing(
    made: MadeLookUpTable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(make_lut, "_IN_MEMORY", 0)
    again = MakeLookUpTable(small_config()).run(
        list(SENSORS), filter_curve=lambda name, _: CURVES[name], sensors=SENSORS, scratch=tmp_path
    )
    assert isinstance(again.lut.lut, np.memmap)
    np.testing.assert_array_equal(again.lut.lut, made.lut.lut)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InvalidInputError, match="scratch file"):
        MakeLookUpTable(small_config()).run(
            list(SENSORS),
            filter_curve=lambda name, _: CURVES[name],
            sensors=SENSORS,
            scratch=tmp_path / "absent",
        )


def test_published_names_stand_for_site_and_nodes() -> None:
    config = small_config()
    config.atmosphereTableName = "fgcm_atm_subaru3"
    site = MakeLookUpTable(config).site()
    assert (site.atmosphere.elevation, site.standard.pwv, site.grid.shape) == (
        4139.0,
        1.5,
        (15, 3, 11, 9, 23),
    )
    assert site.grid.zenith[-1] == pytest.approx(75.0)
    assert "open atmosphere" in site.description
    for name in TABLE_NAMES:
        assert named_parameters(name) is not None
    test = named_parameters("fgcm_atm_lsst2_test.fits")
    assert test is not None
    assert (test.pwvSteps, test.o3Steps, test.zenithSteps) == (2, 2, 2)
    config.atmosphereTableName = "my_table"
    with pytest.raises(InvalidInputError, match="is no file, and none of"):
        MakeLookUpTable(config).site()


def test_a_table_of_an_atmosphere_gives_its_own_nodes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    air = Atmosphere.for_site(1000.0, wavelength=np.arange(3000.0, 11001.0, 50.0))
    axes = TableAxes((890.0, 910.0), (0.5, 9.0), pmb_std=900.0, pwv_std=2.0, airmass_std=1.3, pwv_steps=4)
    air.write_table(tmp_path / "air.fits", axes)
    config = small_config()
    config.atmosphereTableName = str(tmp_path / "air")
    site = MakeLookUpTable(config).site()
    assert site.grid.shape == (4, 3, 11, 9, 21)
    assert site.standard.airmass == pytest.approx(1.3)
    np.testing.assert_allclose(np.exp(site.grid.ln_pwv), axes.nodes("pwv"), rtol=1e-6)
    assert not caplog.text
    config.atmosphereTableName = str((tmp_path / "air.fits").rename(tmp_path / "fgcm_atm_lsst2_test.fits"))
    assert MakeLookUpTable(config).site().grid.shape == (4, 3, 11, 9, 21)
    assert "fgcm_atm_lsst2_test.fits: some nodes of water" in caplog.text
    (tmp_path / "text.fits").write_text("no table")
    config.atmosphereTableName = str(tmp_path / "text.fits")
    with pytest.raises(InvalidInputError, match=r"text\.fits"):
        MakeLookUpTable(config).site()


def test_what_is_no_look_up_table_is_named(made: MadeLookUpTable, tmp_path: Path) -> None:
    table = made.lut.to_table()
    with pytest.raises(InvalidInputError, match="lacks the columns lambdaStd"):
        LookUpTable.from_table(table[[name for name in table.colnames if name != "lambdaStd"]])
    with pytest.raises(InvalidInputError, match="has rows"):
        LookUpTable.from_table(table[:13])
    short = table.copy()
    short["lut"] = np.asarray(table["lut"])[:, :-1]
    with pytest.raises(InvalidInputError, match="nodes and detectors want"):
        LookUpTable.from_table(short)
    (tmp_path / "some.parq").write_bytes(b"PAR1")
    with pytest.raises(InvalidInputError, match=r"some\.parq"):
        LookUpTable.read(tmp_path / "some.parq")
    shuffled = LookUpTable.from_table(table[[0, *range(13, 0, -1)]])
    np.testing.assert_array_equal(shuffled.lut, made.lut.lut)
    assert [*LUT_TYPES] == KINDS

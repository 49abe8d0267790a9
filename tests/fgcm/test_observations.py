"""The table of observations."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table, vstack
from hypothesis import given, settings
from hypothesis import strategies as st

from fgcm.build_stars_parts import catalog, config, focal_plane, sources
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.checkpoints import Checkpoints
from zeropoint.fgcm.observations import BYTES_PER_OBSERVATION, gather_observations
from zeropoint.fgcm.source_table import SourceReader

#: Column -> type and unit, as fgcmcal has them.
COLUMNS = {
    "ra": ("<f8", "rad"), "dec": ("<f8", "rad"), "x": ("<f8", "pix"), "y": ("<f8", "pix"),
    "psf_candidate": ("|b1", None), "visit": ("<i8", None), "ccd": ("<i4", None), "instMag": ("<f4", "mag"),
    "instMagErr": ("<f4", "mag"), "jacobian": ("<f4", None), "deltaMagBkg": ("<f4", "mag"),
    "deltaMagAper": ("<f4", "mag"),
}  # fmt: skip
K = 2.5 / np.log(10.0)
#: Rounding of float32 of magnitudes near 10.
FLOAT32 = 2e-6


def gather(tables, **fields):
    wanted = config(**fields)
    return gather_observations(tables, catalog(sorted(tables)), focal_plane(), wanted)


def test_the_columns_are_those_of_fgcmcal() -> None:
    table = gather({7: sources(7)}).table
    found = {
        name: (table.dtype[name].str, None if table[name].unit is None else str(table[name].unit))
        for name in table.colnames
    }
    assert found == COLUMNS
    assert list(found) == list(COLUMNS)
    assert table.dtype.itemsize == BYTES_PER_OBSERVATION == 65


def test_observations_are_what_the_formulas_say() -> None:
    one = sources(7)
    table = gather({7: one}).table
    flux = np.asarray(one["apFlux_12_0_instFlux"])
    # areas grow from 0.99 at -0.5 to 1.01 at 99.5
    area = 1.0 + 0.01 * (2.0 * one["x"] + 1.0 - 100.0) / 100.0
    assert table["jacobian"] == pytest.approx(area, abs=1e-7)
    magnitude = -2.5 * np.log10(flux / 30.0) - 2.5 * np.log10(area)
    assert table["instMag"] == pytest.approx(magnitude, abs=FLOAT32)
    assert table["instMagErr"] == pytest.approx(np.full(6, K / 50.0), rel=1e-6)
    assert table["deltaMagAper"] == pytest.approx(np.full(6, 2.5 * np.log10(1.01)), abs=FLOAT32)
    assert (table["deltaMagBkg"] == 0.0).all()
    assert table["ra"] == pytest.approx(np.deg2rad(one["ra"]), abs=1e-15)
    assert table["ccd"].tolist() == [0, 3, 0, 3, 0, 3]
    assert table["psf_candidate"].tolist() == [True, False] * 3


def test_areas_are_written_also_where_they_are_not_applied() -> None:
    applied, plain = (gather({7: sources(7)}, doApplyWcsJacobian=flag).table for flag in (True, False))
    assert (applied["jacobian"] == plain["jacobian"]).all()
    shift = applied["instMag"] - plain["instMag"]
    assert shift == pytest.approx(-2.5 * np.log10(plain["jacobian"]), abs=2 * FLOAT32)


def test_scaling_multiplies_fluxes_by_detector() -> None:
    visits = catalog([7])
    visits.table["scaling"][0] = [1.0, 2.0]
    table = gather_observations({7: sources(7)}, visits, focal_plane(), config()).table
    shift = table["instMag"] - gather({7: sources(7)}).table["instMag"]
    assert shift == pytest.approx([0.0, -2.5 * np.log10(2.0)] * 3, abs=FLOAT32)


def test_only_detectors_that_are_chosen_are_used() -> None:
    found = gather({7: sources(7), 8: sources(8)}, detectors=[3])
    assert found.table["ccd"].tolist() == [3] * 6
    assert found.accounting["sources"].rejected == {"detector_not_chosen": 6}
    found.accounting.check()


def test_detectors_that_there_are_not_are_what_the_error_speaks_of() -> None:
    with pytest.raises(InvalidInputError, match=r"Correct detectors: sources are on 0 to 3\."):
        gather({7: sources(7)}, detectors=[99])


def test_the_local_background_is_told_and_what_lies_below_it_left_out() -> None:
    one = sources(7)
    area = np.pi * 144.0
    one["localBackground_instFlux"][0] = one["apFlux_12_0_instFlux"][0] / area
    one["localBackground_instFlux"][1] = np.nan
    result = gather({7: one}, doSubtractLocalBackground=True)
    assert result.accounting["sources"].rejected == {"local_background": 2}
    flux = np.asarray(one["apFlux_12_0_instFlux"])[2:]
    assert result.table["deltaMagBkg"] == pytest.approx(-2.5 * np.log10(1.0 - area * 0.5 / flux), abs=FLOAT32)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("pixelFlags_saturated", True, "flags"),
        ("extendedness", 1.0, "unresolved"),
        ("apFlux_12_0_instFluxErr", 1e9, "signalToNoise"),
        ("apFlux_12_0_instFlux", -5.0, "signalToNoise"),
        ("apFlux_12_0_instFlux", np.nan, "signalToNoise"),
        ("deblend_nChild", 2, "isolated"),
        ("parentSourceId", 9, "isolated"),
        ("ra", np.nan, "requireFiniteRaDec"),
        ("detect_isPrimary", False, "requirePrimary"),
        ("detector", 8, "detector"),
        ("y", np.nan, "centroid"),
    ],
)
def test_each_cut_counts_what_it_rejects(column, value, reason) -> None:
    one = sources(7)
    one[column][2] = value
    result = gather({7: one})
    stage = result.accounting["sources"]
    assert (stage.read, stage.kept, dict(stage.rejected)) == (6, 5, {reason: 1})
    assert one["ra"][2] not in np.rad2deg(result.table["ra"])


@settings(max_examples=12)
@given(st.data())
def test_whatever_is_in_a_table_the_accounting_adds_up_and_what_is_kept_is_finite(data) -> None:
    one = sources(7, 12)
    for name in ("apFlux_12_0_instFlux", "apFlux_12_0_instFluxErr", "ra", "x", "apFlux_17_0_instFlux"):
        for row in data.draw(st.lists(st.integers(0, 11), max_size=2)):
            one[name][row] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, -1.0, 0.0]))
    wanted = config()
    wanted.sourceSelector.name = "null"  # nothing but what cannot be a magnitude is left out
    result = gather_observations({7: one}, catalog([7]), focal_plane(), wanted)
    stage = result.accounting["sources"]
    assert stage.read == 12
    assert stage.kept + sum(stage.rejected.values()) == 12
    assert stage.kept == len(result.table)
    for name in ("ra", "dec", "x", "y", "instMag", "instMagErr", "jacobian", "deltaMagBkg", "deltaMagAper"):
        assert np.isfinite(result.table[name]).all(), name


def test_the_flag_of_a_flux_counts_whatever_the_selector_says() -> None:
    one = sources(7)
    one["apFlux_3_0_instFlux"], one["apFlux_3_0_instFluxErr"] = one["apFlux_12_0_instFlux"], 1.0
    one["apFlux_3_0_flag"] = np.arange(6) == 4
    result = gather({7: one}, instFluxField="apFlux_3_0_instFlux")
    assert result.accounting["sources"].rejected == {"flux_flag": 1}
    assert result.table["instMagErr"][0] == pytest.approx(K / one["apFlux_12_0_instFlux"][0], rel=1e-6)


def test_the_median_difference_of_apertures_of_a_visit_is_kept() -> None:
    one, other, none = sources(7), sources(8), sources(9)
    one["apFlux_17_0_instFlux"] = one["apFlux_12_0_instFlux"] * [1.01, 1.02, 1.03, 1.0, -1.0, 1.5]
    none["apFlux_17_0_instFluxErr"] = np.nan
    visits = gather({7: one, 8: other, 9: none}).visits.table
    assert visits["deltaAper"][:2] == pytest.approx(2.5 * np.log10([1.02, 1.01]), abs=FLOAT32)
    assert np.isnan(visits["deltaAper"][2])
    assert visits["sources_read"].all()


def test_an_empty_visit_is_read_and_a_table_without_candidates_noted() -> None:
    one = sources(8)
    one.remove_column("calib_psf_candidate")
    result = gather({7: sources(7)[:0], 8: one})
    assert result.visits.table["sources_read"].tolist() == [True, True]
    assert (result.accounting["sources"].read, result.accounting["sources"].noted) == (
        6,
        {"no_psf_candidate_flag": 6},
    )
    assert not result.table["psf_candidate"].any()


@pytest.mark.parametrize("step", [1, 2, 500])
def test_neither_order_nor_parts_change_a_byte(step) -> None:
    tables = {visit: sources(visit) for visit in (9, 7, 8)}
    result = gather(tables, nVisitsPerCheckpoint=step)
    whole = vstack([gather({visit: tables[visit]}).table for visit in (7, 8, 9)], metadata_conflicts="silent")
    assert (result.table.as_array() == whole.as_array()).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.remove_column("apFlux_17_0_instFlux"), "visit 7 has no column apFlux_17_0_instFlux"),
        (lambda t: t.replace_column("visit", np.full(6, 8)), "visit 7 holds sources of visit 8"),
        (lambda t: t.replace_column("x", np.full(6, "a")), "column x must hold numbers"),
        (lambda t: t.replace_column("extendedness", np.ones(6)), r"No source of 1 visits.*unresolved 6"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(change, message) -> None:
    one = sources(7)
    change(one)
    with pytest.raises(InvalidInputError, match=message):
        gather({7: one})


def test_what_lacks_is_known_without_reading() -> None:
    one = sources(7)
    one.remove_columns(["x", "deblend_nChild", "calib_psf_candidate"])
    assert SourceReader(config()).missing_columns(one) == ["x", "deblend_nChild"]


class Killed(Exception):
    """Stands for a kill signal."""


class Reading(dict):
    """Tables that note which of them are read, and end the run at one of them."""

    def __init__(self, tables: dict[int, Table], last: int | None = None) -> None:
        super().__init__(tables)
        self.last, self.read = last, []

    def __getitem__(self, visit: int) -> Table:
        if visit == self.last:
            raise Killed
        self.read.append(visit)
        return super().__getitem__(visit)


def test_a_killed_run_goes_on_where_its_last_part_ends(tmp_path) -> None:
    tables = {visit: sources(visit) for visit in range(1, 8)}
    wanted, visits = config(nVisitsPerCheckpoint=2), catalog(tables)
    whole = gather_observations(tables, visits, focal_plane(), wanted)
    kept = Checkpoints(tmp_path / "run")
    with pytest.raises(Killed):
        gather_observations(Reading(tables, 6), visits, focal_plane(), wanted, checkpoints=kept)
    again = Reading(tables)
    result = gather_observations(again, visits, focal_plane(), wanted, checkpoints=kept)
    assert again.read == [5, 6, 7]
    assert (result.table.as_array() == whole.table.as_array()).all()
    assert result.accounting.to_meta() == whole.accounting.to_meta()
    assert (result.visits.table["deltaAper"] == whole.visits.table["deltaAper"]).all()
    kept.remove()
    assert list(tmp_path.iterdir()) == []
    assert (result.table.as_array() == whole.table.as_array()).all()


def test_a_run_that_cannot_save_goes_on_and_says_so(tmp_path, caplog) -> None:
    (tmp_path / "file").write_text("in the way")
    tables = {visit: sources(visit) for visit in (7, 8)}
    kept = Checkpoints(tmp_path / "file" / "run")
    wanted = config(nVisitsPerCheckpoint=1)
    result = gather_observations(tables, catalog(tables), focal_plane(), wanted, checkpoints=kept)
    assert len(result.table) == 12
    assert caplog.text.count("There are no more checkpoints") == 1

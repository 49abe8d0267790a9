"""Star lists of both forms as the data of a fit."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from fgcm.model.parts import fit_settings, load
from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.airmass import observation_secant
from zeropoint.fgcm.flags import ObservationFlag, StarFlag
from zeropoint.fgcm.model.load import load_fit_data
from zeropoint.fgcm.model.observations import FitData
from zeropoint.fgcm.model.passband_source import QuadraturePassbands
from zeropoint.fgcm.model.star_tables import hashed_uniform
from zeropoint.simulation.fgcm_star_list import SimulatedStarList
from zeropoint.simulation.fgcm_survey import FgcmSurvey


def same_bytes(a: Any, b: Any) -> bool:
    """Whether all arrays of two records have the same bytes."""
    for each in fields(a):
        first, second = getattr(a, each.name), getattr(b, each.name)
        if isinstance(first, np.ndarray) and first.tobytes() != second.tobytes():
            return False
    return True


def same_data(a: FitData, b: FitData) -> bool:
    return all(same_bytes(getattr(a, k), getattr(b, k)) for k in ("exposures", "observations", "stars"))


def isolated_form(stars: SimulatedStarList) -> tuple[Table, Table]:
    """The same star list as ``fgcm_star_observations`` and ``fgcm_star_ids``."""
    rows = np.asarray(stars.indices["obsIndex"])
    o = stars.observations[rows]
    names = {
        "visit": "visit", "ccd": "detector", "instMag": "inst_mag", "instMagErr": "inst_mag_err", "x": "x", "y": "y",
        "deltaMagBkg": "delta_mag_bkg", "deltaMagAper": "delta_mag_aper", "psf_candidate": "psf_candidate",
    }  # fmt: skip
    ids = Table(
        {
            "fgcm_id": np.asarray(stars.ids["fgcm_id"], np.int64),
            "isolated_star_id": np.asarray(stars.ids["fgcm_id"], np.int64) + 1000,
            "ra": stars.ids["ra"], "dec": stars.ids["dec"],
            "obs_arr_index": stars.ids["obsArrIndex"], "n_obs": stars.ids["nObs"],
            "obj_flag": np.arange(len(stars.ids), dtype=np.int32) % 2 * 16,
        }
    )  # fmt: skip
    return Table({new: np.asarray(o[old]) for old, new in names.items()}), ids


def shuffled(stars: SimulatedStarList, rng: np.random.Generator) -> SimulatedStarList:
    """The same star list with all rows of all tables in another order."""
    order = rng.permutation(len(stars.observations))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    ids = stars.ids[rng.permutation(len(stars.ids))]
    first, count = np.asarray(ids["obsArrIndex"]), np.asarray(ids["nObs"])
    rows = [rng.permutation(np.asarray(stars.indices["obsIndex"])[a : a + n]) for a, n in zip(first, count)]
    ids = ids.copy()
    ids["obsArrIndex"] = np.cumsum(count) - count
    return replace(
        stars, visits=stars.visits[::-1], observations=stars.observations[order], ids=ids,
        indices=Table({"obsIndex": place[np.concatenate(rows)].astype(np.int32)}),
        references=stars.references[::-1],
    )  # fmt: skip


def test_the_order_of_the_rows_changes_no_byte(
    fgcm_survey: FgcmSurvey, fit_stars: SimulatedStarList, passbands: QuadraturePassbands, data: FitData
) -> None:
    # two observations of a star on one detector of one visit have no order of their own
    doubled = fit_stars.observations.copy()
    rows = np.asarray(fit_stars.indices["obsIndex"])[:2]
    for name in ("visit", "ccd"):
        doubled[name][rows[1]] = doubled[name][rows[0]]
    stars = replace(fit_stars, observations=doubled)
    found = load(fgcm_survey, stars, passbands)
    assert not same_data(found, data)
    for seed in (1, 2):
        again = load(fgcm_survey, shuffled(stars, np.random.default_rng(seed)), passbands)
        assert same_data(found, again)


def test_tables_may_have_the_bytes_of_fits(
    fgcm_survey: FgcmSurvey, fit_stars: SimulatedStarList, passbands: QuadraturePassbands, data: FitData
) -> None:
    def turned(table: Table) -> Table:
        columns = {name: np.asarray(table[name]) for name in table.colnames}
        return Table({name: each.astype(each.dtype.newbyteorder(">")) for name, each in columns.items()})

    stars = replace(
        fit_stars, observations=turned(fit_stars.observations), ids=turned(fit_stars.ids),
        indices=turned(fit_stars.indices),
    )  # fmt: skip
    assert same_bytes(load(fgcm_survey, stars, passbands).observations, data.observations)


def test_both_forms_and_files_give_the_same(
    fgcm_survey: FgcmSurvey,
    fit_stars: SimulatedStarList,
    passbands: QuadraturePassbands,
    data: FitData,
    tmp_path: Path,
) -> None:
    observations, ids = isolated_form(fit_stars)
    for name, table in (("observations", observations), ("ids", ids), ("references", fit_stars.references)):
        pq.write_table(table_to_arrow(table), tmp_path / f"{name}.parquet")
    found = load_fit_data(
        fit_stars.visits, tmp_path / "observations.parquet", tmp_path / "ids.parquet", None, tmp_path / "references.parquet",
        passbands, fit_settings(fgcm_survey),
    )  # fmt: skip
    assert same_bytes(found.observations, data.observations)
    assert np.array_equal(found.stars.flag & StarFlag.RESERVED, np.asarray(ids["obj_flag"]))
    assert np.array_equal(found.stars.isolated_star_id, found.stars.fgcm_id + 1000)
    np.testing.assert_array_equal(found.stars.ref_mag, data.stars.ref_mag)


def test_observations_are_where_the_star_list_has_them(
    fgcm_survey: FgcmSurvey, fit_stars: SimulatedStarList, data: FitData
) -> None:
    o, e = data.observations, data.exposures
    star = 17
    first, count = int(fit_stars.ids["obsArrIndex"][star]), int(fit_stars.ids["nObs"][star])
    rows = np.asarray(fit_stars.indices["obsIndex"])[first : first + count]
    table = fit_stars.observations[rows]
    mine = np.flatnonzero(o.star == star)
    assert sorted(e.visit[o.exposure[mine]]) == sorted(table["visit"])
    assert sorted(o.mag[mine]) == sorted(np.asarray(table["instMag"]) + np.asarray(table["deltaMagBkg"]))
    assert np.all(e.band[o.exposure] == o.band)
    assert np.all(np.diff(o.exposure[mine])[np.diff(o.band[mine]) == 0] > 0)
    # the secant is that of the star, and the place between the nodes gives it back
    assert np.all((o.t >= 0) & (o.t <= 1))
    secant = e.airmass_low[o.exposure] + o.t * (e.airmass_high - e.airmass_low)[o.exposure]
    np.testing.assert_allclose(secant, o.secant, atol=1e-6)
    row = int(o.exposure[mine[0]])
    sidereal = np.radians(e.hour_angle[row] + e.ra[row])
    latitude = np.radians(fgcm_survey.settings.site.latitude)
    expected = observation_secant(
        np.radians(data.stars.ra[star]), np.radians(data.stars.dec[star]), sidereal, latitude
    )
    assert o.secant[mine[0]] == pytest.approx(float(expected), abs=1e-6)
    bytes_held = sum(
        getattr(o, each.name).nbytes
        for each in fields(o)
        if isinstance(getattr(o, each.name), np.ndarray) and each.name != "start"
    )
    assert bytes_held <= 60 * len(o)


def test_bad_values_are_flagged_and_counted(
    fgcm_survey: FgcmSurvey,
    fit_stars: SimulatedStarList,
    passbands: QuadraturePassbands,
    caplog: pytest.LogCaptureFixture,
) -> None:
    observations, visits = fit_stars.observations.copy(), fit_stars.visits.copy()
    rows = np.asarray(fit_stars.indices["obsIndex"])
    observations["instMagErr"][rows[:3]] = [np.nan, 0.0, -1.0]
    observations["instMag"][rows[3:5]] = [np.nan, 99.0]
    visits["pmb"][4] = np.nan
    visits["telha"][5], visits["airmass"][5] = np.nan, np.nan
    visits["telha"][6], visits["airmass"][6] = np.nan, 1.4
    visits["telha"][7] = 85.0
    visits["physicalFilter"][8] = "other"
    found = load(fgcm_survey, replace(fit_stars, observations=observations, visits=visits), passbands)
    o, e = found.observations, found.exposures
    noted = found.accounting["fit_observations"].noted
    assert (noted["bad_error"], noted["bad_mag"]) == (3, 2)
    assert noted["bad_airmass"] == np.count_nonzero(o.exposure == 7)
    assert np.all(o.secant[o.exposure == 7] == np.float32(passbands.ranges["airmass"][1]))
    assert not np.isfinite(o.mag[o.flag & ObservationFlag.BAD_MAG > 0]).any()
    assert "pressure of 1 of 32 visits" in caplog.text
    assert e.pmb[4] == passbands.standard.pmb
    assert np.all(o.secant[o.exposure == 5] == 1.0)
    assert np.all(o.secant[o.exposure == 6] == np.float32(1.4))
    assert e.band[8] == -1
    assert found.accounting["fit_visits"].rejected == {"no_band": 1}
    assert found.accounting["fit_observations"].rejected["no_band"] > 0


def test_reserved_stars_and_references_depend_on_ids_alone(
    fgcm_survey: FgcmSurvey, fit_stars: SimulatedStarList, passbands: QuadraturePassbands
) -> None:
    settings = replace(
        fit_settings(fgcm_survey), ref_star_max_frac_use=0.05, ref_star_sn_min=100.0, random_seed=3
    )
    args = fit_stars.visits, fit_stars.observations, fit_stars.ids, fit_stars.indices
    flagged = Table(
        {
            "objId": [int(fit_stars.ids["fgcm_id"][2])],
            "objFlag": [int(StarFlag.VARIABLE | StarFlag.TOO_FEW_OBS)],
        }
    )
    found = load_fit_data(*args, fit_stars.references, passbands, settings, flagged).stars
    n = len(found)
    reserved = found.flag & StarFlag.RESERVED > 0
    assert abs(reserved.sum() - 0.1 * n) < 4 * np.sqrt(0.09 * n)
    np.testing.assert_array_equal(reserved, hashed_uniform(found.fgcm_id, 3) < 0.1)
    has_reference = np.isfinite(found.ref_mag).any(axis=1)
    left_out = found.flag & StarFlag.REFSTAR_RESERVED > 0
    assert (has_reference & ~left_out).sum() == int(0.05 * n)
    assert not (left_out & ~has_reference).any()
    assert np.nanmax(found.ref_err) <= 1.0858 / 100.0
    # only what lasts is taken over
    assert found.flag[2] & StarFlag.VARIABLE
    assert not found.flag[2] & StarFlag.TOO_FEW_OBS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {"observations": _with(s.observations, "ccd", 77)}, r"detectors \[77\], which the look-up table"),
        (lambda s: {"observations": s.observations[:100]}, "different star lists"),
        (lambda s: {"observations": s.observations[["visit", "ccd", "x", "y"]]}, "lacks the column instMag"),
        (lambda s: {"visits": s.visits[[0, 0, 1]]}, "has visit 1001 twice"),
        (lambda s: {"observations": _with(s.observations, "visit", 5)}, "None of .* observations is in a visit"),
        (lambda s: {"ids": _exchanged(s.ids)}, "arcsec from their stars: the tables are of different star lists"),
        (lambda s: {"references": _with_other_ids(s.references)}, "references of stars that the star list does not have"),
        (lambda s: {"references": s.references[:0]["fgcm_id", "refMag"]}, "lacks the column refMagErr"),
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_named(
    fgcm_survey: FgcmSurvey,
    fit_stars: SimulatedStarList,
    passbands: QuadraturePassbands,
    change: Any,
    message: str,
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        load(fgcm_survey, replace(fit_stars, **change(fit_stars)), passbands)


def _with(table: Table, name: str, value: int) -> Table:
    table = table.copy()
    table[name][:] = value
    return table


def _exchanged(ids: Table) -> Table:
    """Ids of another run, with a star more before the others: each has as many observations as that beside it had."""
    ids = ids.copy()
    for name in ("ra", "dec"):
        ids[name] = np.roll(ids[name], 1)
    return ids


def _with_other_ids(references: Table) -> Table:
    references = references.copy()
    references["fgcm_id"] += 1_000_000
    return references


def test_a_list_of_isolated_stars_has_all_observations(
    fgcm_survey: FgcmSurvey, fit_stars: SimulatedStarList, passbands: QuadraturePassbands
) -> None:
    observations, ids = isolated_form(fit_stars)
    settings = fit_settings(fgcm_survey)
    with pytest.raises(InvalidInputError, match=r"counts .* observations, .* has .* different star lists"):
        load_fit_data(fit_stars.visits, observations, ids[:-1], None, None, passbands, settings)
    for name in ("ra", "dec"):
        observations[name] = np.rad2deg(fit_stars.observations[name])[
            np.asarray(fit_stars.indices["obsIndex"])
        ]
    load_fit_data(fit_stars.visits, observations, ids, None, None, passbands, settings)
    with pytest.raises(
        InvalidInputError, match="arcsec from their stars: the tables are of different star lists"
    ):
        load_fit_data(fit_stars.visits, observations, _exchanged(ids), None, None, passbands, settings)


def test_airmass_beyond_the_passbands_names_site_and_telescope(
    fgcm_survey: FgcmSurvey,
    fit_stars: SimulatedStarList,
    passbands: QuadraturePassbands,
    caplog: pytest.LogCaptureFixture,
) -> None:
    visits = fit_stars.visits.copy()
    visits["telha"][:] = 100.0
    visits["airmass"][:] = 1.1
    with pytest.raises(
        InvalidInputError, match=r"All \d+ observations .* hour angle .* 1.10 as the telescope told it"
    ):
        load(fgcm_survey, replace(fit_stars, visits=visits), passbands)
    # less than all is a warning
    visits = fit_stars.visits.copy()
    visits["airmass"][3] += 0.06
    load(fgcm_survey, replace(fit_stars, visits=visits), passbands)
    assert "The airmass of 1 of 32 visits is" in caplog.text

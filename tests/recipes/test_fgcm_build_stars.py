"""The star list of a survey, from tables in memory."""

from __future__ import annotations

import functools

import pytest
from astropy.table import Table

from fgcm.build_stars_parts import config, focal_plane, sources, summary
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.accounting import META_KEY, Accounting
from zeropoint.recipes.fgcm_build_stars import FgcmBuildStars, SurveyStars

VISITS = (11, 12, 13, 14)


class Stored:
    """A table that has an identity, as those of a repository have."""

    def __init__(self, table: Table, identity: str) -> None:
        self.table, self.identity = table, identity

    @property
    def column_names(self) -> list[str]:
        return self.table.colnames

    def read(self, columns) -> Table:
        return self.table[list(columns)]


def tables() -> dict[int, Table]:
    """Every visit sees the same eight stars, and two sources of its own."""
    stars = sources(1, 8)
    found = {}
    for visit in VISITS:
        table = sources(visit, 10)
        for name in ("ra", "dec"):
            table[name][:8] = stars[name] + 1e-6 * (visit - 12)
        found[visit] = table
    return found


@functools.cache
def summaries_of_all():
    """Return the summaries of all visits, which nothing changes."""
    return {visit: summary(visit) for visit in VISITS}


def build(given=None, summaries=None, plane=None, **fields) -> SurveyStars:
    given = tables() if given is None else given
    summaries = summaries_of_all() if summaries is None else summaries
    wanted = config(**{"checkpoint_directory": "", **fields})
    return FgcmBuildStars(wanted).run(given, summaries, focal_plane=plane or focal_plane())


def test_stars_are_those_that_several_visits_see() -> None:
    result = build()
    assert len(result.star_ids) == 8
    assert result.star_ids["nObs"].tolist() == [4] * 8
    assert result.visits["visit"].tolist() == list(VISITS)
    assert result.reference_stars is None


def test_every_stage_begins_with_what_the_one_before_kept() -> None:
    result = build(summaries={visit: summaries_of_all()[visit] for visit in VISITS[1:]})
    stages = Accounting.from_meta(result.visits.meta[META_KEY])
    assert stages.to_meta() == result.accounting.to_meta()
    assert (stages["visits"].read, stages["visits"].kept) == (4, 3)
    assert stages["sources"].kept == stages["observations_of_stars"].read == len(result.observations) == 30
    assert stages["observations_of_stars"].rejected == {"no_star": 6}
    assert stages["groups_of_observations"].kept == stages["stars"].read == 8


def test_the_order_of_the_visits_changes_no_byte() -> None:
    one = build()
    other = build(reversed(tables().items()), reversed(summaries_of_all().items()))
    for name in ("observations", "star_ids", "star_indices"):
        assert (getattr(one, name).as_array() == getattr(other, name).as_array()).all(), name
    assert one.visits.as_array().tobytes() == other.visits.as_array().tobytes()


def test_a_table_without_a_column_is_left_out_and_the_others_go_on(caplog) -> None:
    given = tables()
    given[12].remove_column("deblend_nChild")
    result = build(given)
    assert result.visits["visit"].tolist() == [11, 13, 14]
    assert result.accounting["visits"].rejected == {"missing_columns": 1}
    sentence = "1 visit is left out (missing_columns: deblend_nChild): 12."
    assert result.left_out == (sentence,)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    # the telescope of these visits tells another airmass than their hour angles, which is told once
    assert [told for told in warnings if "airmass" not in told] == [sentence]
    assert len(warnings) == 2


def test_visits_with_one_of_their_two_tables_are_named_and_counted() -> None:
    given = tables()
    del given[11], given[13]
    summaries = {visit: summaries_of_all()[visit] for visit in VISITS[:3]}
    result = build({**given, 15: sources(15), 16: sources(16)}, {**summaries, 15: summary(15)}, minPerBand=1)
    assert result.accounting["visits"].rejected == {"no_source_table": 2, "no_summary": 2}
    assert result.left_out == (
        "2 visits are left out (no_source_table): 11, 13.",
        "2 visits are left out (no_summary): 14, 16.",
    )


@pytest.mark.parametrize(
    ("given", "fields", "message"),
    [
        (tables(), {"instFluxField": "apFlux_9_0_instFlux"}, "source tables of all visits lack.* apFlux_9_0_instFlux"),
        ([*tables().items(), (12, sources(12))], {}, "Visit 12 has two source tables"),
        (tables(), {"requiredBands": ["g"]}, "requiredBands names g, but visits are in r only"),
        ({}, {}, r"No visit can be used.*no_source_table 4"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_an_error_that_names_it(given, fields, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        build(given, **fields)


def test_references_are_asked_for_where_they_are_wanted() -> None:
    wanted = config(doReferenceMatches=True)
    wanted.fgcmLoadReferenceCatalog.filterMap = {"CAM-R": "r"}
    wanted.fgcmLoadReferenceCatalog.applyColorTerms = False
    with pytest.raises(InvalidInputError, match="doReferenceMatches needs a reference catalogue"):
        FgcmBuildStars(wanted).run(tables(), {}, focal_plane=focal_plane())


def checkpoint(parent, change="", plane=None, **fields) -> str:
    """Return the name of the directory in which a run keeps its parts."""
    stored = {visit: Stored(table, f"{visit}{change}") for visit, table in tables().items()}
    result = build(stored, plane=plane, checkpoint_directory=str(parent), nVisitsPerCheckpoint=3, **fields)
    assert result.checkpoints is not None
    return result.checkpoints.directory.name


def test_newer_software_goes_on_unless_parts_have_another_form(tmp_path, monkeypatch) -> None:
    first = checkpoint(tmp_path)
    monkeypatch.setattr("zeropoint.__version__", "99.0", raising=False)
    rounded, moved = focal_plane(), focal_plane()
    for plane, offset in ((rounded, 1e-14), (moved, 1e-6)):
        object.__setattr__(plane.detectors[0], "offset_x", plane.detectors[0].offset_x + offset)
    assert checkpoint(tmp_path, plane=rounded) == first
    assert checkpoint(tmp_path, plane=moved) != first
    monkeypatch.setattr("zeropoint.recipes.fgcm_build_stars._CHECKPOINT_VERSION", 0)
    assert checkpoint(tmp_path) != first


def test_a_checkpoint_is_of_its_inputs_only(tmp_path) -> None:
    directory = functools.partial(checkpoint, tmp_path)

    first = directory()
    # what is done after reading, and how often it is saved, does not matter
    assert directory(minPerBand=1, matchRadius=0.5) == first
    others = [
        directory(change="again"),
        directory(instFluxField="apFlux_17_0_instFlux"),
        directory(doApplyWcsJacobian=False),
        directory(detectors=[0]),
    ]
    assert len({first, *others}) == 5
    assert build(checkpoint_directory=str(tmp_path)).checkpoints is None  # tables in memory

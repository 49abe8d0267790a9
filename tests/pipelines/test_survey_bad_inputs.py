"""Bad inputs of the tasks that work across visits: each costs what rests on it, says so, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table, vstack
from click.testing import CliRunner, Result
from lsst.daf.butler import Butler, CollectionType

from pipelines.survey import CATALOGUES, zeropoint
from zeropoint.cli import main
from zeropoint.datamodel.skymap import SkyMap
from zeropoint.simulation.survey import CAMERA, NUM_RINGS, SurveySettings, write_survey

pytestmark = pytest.mark.slow

#: Two visits of one band, on the same sky.
VISITS = (20261120, 20261122)
ASSOCIATION, REFIT = "associateIsolatedStar", "refitPsfModelDetector"
TASKS = (ASSOCIATION, REFIT, "consolidateRefitPsfModelDetector", "updateVisitSummary")


@dataclass(frozen=True)
class Survey:
    """A repository with a run of the whole pipeline in ``u/all``, of both visits."""

    root: Path
    butler: Butler

    def run(self, name: str, *inputs: str, tasks: tuple[str, ...] = TASKS, query: str = "") -> Result:
        words = ["-b", self.root, "-p", f"{CAMERA}/recalibrate#{','.join(tasks)}", "-o", f"u/{name}", "--json",
                 "-i", ",".join([*inputs, f"{CAMERA}/defaults"]), "-d", query or "skymap='survey'"]  # fmt: skip
        return CliRunner().invoke(main, ["run", *map(str, words)], catch_exceptions=False)

    def replaced(self, run: str, visit: int, change: Callable[[Table], Table]) -> str:
        """Put the changed star table of a visit into a collection; return its name."""
        data_id = {"instrument": CAMERA, "visit": visit}
        self.butler.collections.register(run, CollectionType.RUN)
        table = change(self.butler.get("single_visit_star", data_id, collections="u/all"))
        self.butler.put(table, "single_visit_star", data_id, run=run)
        return run


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    folder = tmp_path_factory.mktemp("bad")
    settings = SurveySettings(
        n_visits=2, size=448, n_stars=120, magnitude_bright=16.8, magnitude_faint=22.0, magnitude_slope=0.03
    )
    wanted = [(visit, detector) for visit in VISITS for detector in (0, 1)]
    simulated = write_survey(settings, folder / "images", only=wanted)
    root = folder / "repo"
    zeropoint("create-repo", root)
    zeropoint("register-camera", root, simulated.card)
    zeropoint("ingest-images", root, *simulated.images, "--camera", CAMERA)
    zeropoint("ingest-references", root, "simulated", simulated.references)
    zeropoint("make-skymap", root, "survey", "--rings", NUM_RINGS, "--patches", "none")
    zeropoint(
        "run",
        "-b",
        root,
        "-p",
        f"{CAMERA}/recalibrate",
        "-i",
        f"{CAMERA}/defaults",
        "-o",
        "u/all",
        *CATALOGUES,
    )
    return Survey(root, Butler.from_config(str(root), writeable=True))


def counts(result: Result, label: str) -> dict[str, int]:
    task = json.loads(result.stdout)["tasks"][label]
    names = ("good", "partial", "no_work", "failed", "blocked", "not_run")
    return {name: n for name in names if (n := task[name])}


def reasons(result: Result, label: str) -> list[str]:
    return [failure["message"] for failure in json.loads(result.stdout)["tasks"][label]["failures"]]


def test_a_tract_that_no_visit_overlaps_is_refused_with_those_that_there_are(survey: Survey) -> None:
    result = survey.run("elsewhere", "u/all", tasks=(ASSOCIATION,), query="skymap='survey' AND tract=7")
    assert result.exit_code == 1
    assert "nothing to run" in result.output
    assert "the images touch the tract" in result.output


def flagged(table: Table) -> Table:
    for name in table.colnames:
        if name.startswith("pixelFlags_"):
            table[name] = True
    return table


def test_a_visit_all_of_whose_sources_are_flagged_has_no_stars_and_the_other_has(survey: Survey) -> None:
    result = survey.run("flagged", survey.replaced("in/flagged", VISITS[0], flagged), "u/all")
    assert result.exit_code == 0, result.output
    assert set(counts(result, ASSOCIATION)) == {"good"}
    assert counts(result, REFIT) == {"good": 2, "no_work": 2}
    (reason,) = reasons(result, REFIT)
    assert "No isolated stars in g are sources of visit 20261120" in reason
    assert counts(result, "updateVisitSummary") == {"good": 1, "no_work": 1}


def test_where_all_sources_are_flagged_tables_are_empty_and_complete(survey: Survey) -> None:
    inputs = [survey.replaced(f"in/flagged{visit}", visit, flagged) for visit in VISITS]
    result = survey.run("dark", *inputs, "u/all", tasks=(ASSOCIATION,))
    assert result.exit_code == 0, result.output
    with Butler.from_config(str(survey.root), collections="u/all") as before:
        for name in ("isolated_star", "isolated_star_association"):
            ref = before.query_datasets(name)[0]
            full, empty = before.get(ref), before.get(name, ref.dataId, collections="u/dark")
            assert len(empty) == 0 < len(full)
            assert empty.colnames == full.colnames
            for column in full.colnames:
                assert empty[column].dtype.kind == full[column].dtype.kind, column


def test_duplicated_source_ids_are_an_error_that_names_visit_and_id(survey: Survey) -> None:
    def twice(table: Table) -> Table:
        return vstack([table, table[4:5]], metadata_conflicts="silent")

    twin = survey.replaced("in/twice", VISITS[1], twice)
    with Butler.from_config(str(survey.root), collections="in/twice", instrument=CAMERA) as butler:
        name = str(butler.get("single_visit_star", visit=VISITS[1])["sourceId"][4])
    result = survey.run("twice", twin, "u/all")
    assert result.exit_code == 1
    assert set(counts(result, ASSOCIATION)) == {"failed"}
    (reason,) = reasons(result, ASSOCIATION)
    assert "sourceId" in reason
    assert str(VISITS[1]) in reason
    assert name in reason
    assert set(counts(result, REFIT)) == {"blocked"}


def test_a_visit_without_its_summary_is_refitted_and_left_out_of_the_summaries(survey: Survey) -> None:
    names = ("preliminary_visit_summary_schema", "preliminary_visit_image", "single_visit_star",
             "single_visit_star_unstandardized", "single_visit_star_footprints", "isolated_star",
             "isolated_star_association")  # fmt: skip
    survey.butler.collections.register("in/lacking", CollectionType.TAGGED)
    for name in names:
        refs = survey.butler.query_datasets(name, collections="u/all", limit=None)
        survey.butler.registry.associate("in/lacking", refs)
    refs = survey.butler.query_datasets("preliminary_visit_summary", collections="u/all")
    survey.butler.registry.associate("in/lacking", [r for r in refs if r.dataId["visit"] == VISITS[0]])
    result = survey.run("lacking", "in/lacking", tasks=TASKS[1:])
    assert result.exit_code == 0, result.output
    assert counts(result, REFIT) == {"good": 4}
    assert counts(result, "updateVisitSummary") == {"good": 1}
    notes = json.loads(result.stdout)["notes"]
    assert any(
        f"visit={VISITS[1]}" in note for note in notes if note.startswith("updateVisitSummary: 1 left out")
    )


def test_one_visit_alone_has_stars_and_a_psf(survey: Survey) -> None:
    result = survey.run("alone", "u/all", query=f"skymap='survey' AND visit={VISITS[0]}")
    assert result.exit_code == 0, result.output
    assert {label: set(counts(result, label)) for label in TASKS} == {key: {"good"} for key in TASKS}
    with Butler.from_config(str(survey.root), collections="u/alone") as butler:
        for ref in butler.query_datasets("isolated_star_association"):
            assert np.all(np.asarray(butler.get(ref)["nsource"]) == 1)


def test_isolated_stars_of_another_sky_map_are_refused(survey: Survey) -> None:
    zeropoint("make-skymap", survey.root, "other", "--rings", NUM_RINGS + 1, "--patches", "none")
    other = SkyMap.rings(NUM_RINGS + 1, projection="TAN", pixelScale=0.2, tractOverlap=1 / 60)
    result = survey.run("absent", "u/all", tasks=TASKS[1:], query="skymap='other'")
    assert result.exit_code == 1
    assert "nothing to run" in result.output
    # and where somebody has filed them under a tract of the other map
    survey.butler.collections.register("in/other", CollectionType.RUN)
    ref = survey.butler.query_datasets("isolated_star_association", collections="u/all")[0]
    stars = survey.butler.get(ref)
    tract = int(other.find_tract_ids(np.median(stars["ra"]), np.median(stars["dec"]), degrees=True)[0])
    data_id = {"instrument": CAMERA, "skymap": "other", "tract": tract}
    with Butler.from_config(str(survey.root), writeable=True) as butler:
        for name in ("isolated_star", "isolated_star_association"):
            butler.put(butler.get(name, ref.dataId, collections="u/all"), name, data_id, run="in/other")
    result = survey.run("misfiled", "in/other", "u/all", tasks=(REFIT,), query="skymap='other'")
    assert result.exit_code == 1
    assert set(counts(result, REFIT)) == {"failed"}
    (reason,) = reasons(result, REFIT)
    assert "of another tract, or of another sky map" in reason

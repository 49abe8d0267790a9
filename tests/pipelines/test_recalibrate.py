"""The whole pipeline on a tiny survey: from images of two bands on two tracts to visit summaries, in one command."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table, vstack
from click.testing import CliRunner, Result
from lsst.ctrl.mpexec.cli.pipetask import cli as pipetask
from lsst.daf.butler import Butler

from pipelines.survey import zeropoint
from zeropoint.cli import main
from zeropoint.datamodel.exposure_catalog import ExposureCatalog
from zeropoint.simulation.survey import CAMERA, SurveySettings, write_survey

#: Detectors of the visits, which are in g, i, g; the last one has no stars.
IMAGES = ((20261120, 0), (20261121, 0), (20261122, 0), (20261122, 1))
BAD = IMAGES[-1]
GOOD = {image for image in IMAGES if image != BAD}
VISITS = {visit for visit, _ in IMAGES}
#: Two tracts whose border, as that of the survey's own map of the sky, runs through all visits.
TRACTS = ("151.2134,2.1951,0.3", "151.7134,2.1951,0.3")
CATALOGUES = [
    part
    for name in ("astrometry_ref_cat", "photometry_ref_cat")
    for part in ("-c", f"calibrateImage:connections.{name}=simulated")
]


@dataclass(frozen=True)
class Survey:
    """A repository, what a run of the whole pipeline said, and its outputs."""

    root: Path
    report: dict[str, Any]
    butler: Butler

    def run(
        self, *options: str, part: str = "", inputs: str = f"{CAMERA}/defaults", output: str = "u/all"
    ) -> Result:
        words = ["run", "-b", self.root, "-p", f"{CAMERA}/recalibrate{part}", "-i", inputs, "-o", output]
        catalogues = [] if part else CATALOGUES
        return CliRunner().invoke(
            main, [*map(str, words), *catalogues, "--json", *options], catch_exceptions=False
        )

    def ids(self, name: str, *dimensions: str) -> set[Any]:
        refs = self.butler.query_datasets(name, explain=False)
        return {tuple(ref.dataId[dimension] for dimension in dimensions) for ref in refs}

    def table(self, name: str) -> Table:
        refs = sorted(self.butler.query_datasets(name), key=lambda ref: str(ref.dataId))
        return vstack([self.butler.get(ref) for ref in refs], metadata_conflicts="silent")


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    folder = tmp_path_factory.mktemp("recalibrate")
    settings = SurveySettings(
        n_visits=2, size=448, n_stars=120, magnitude_bright=16.8, magnitude_faint=22.0, magnitude_slope=0.03
    )
    simulated = write_survey(settings, folder / "images", only=IMAGES)
    files = {(s.visit, s.detector): path for s, path in zip(simulated.settings, simulated.images)}
    with fits.open(files[BAD], mode="update") as hdus:
        sky = float(np.median(hdus[0].data))
        hdus[0].data[:] = np.random.default_rng(1).normal(sky, np.sqrt(sky), hdus[0].data.shape)
    root = folder / "repo"
    zeropoint("create-repo", root)
    zeropoint("register-camera", root, simulated.card)
    zeropoint("ingest-images", root, *(files[image] for image in IMAGES), "--camera", CAMERA)
    zeropoint("ingest-references", root, "simulated", simulated.references)
    tracts = (part for tract in TRACTS for part in ("--discrete", tract))
    zeropoint("make-skymap", root, "survey", *tracts, "--patches", "none")
    unfinished = Survey(root, {}, Butler.from_config(str(root)))
    result = unfinished.run()
    assert result.exit_code == 4, result.stderr
    butler = Butler.from_config(str(root), collections="u/all", instrument=CAMERA, skymap="survey")
    return Survey(root, json.loads(result.stdout), butler)


def counts(report: dict[str, Any], label: str) -> dict[str, int]:
    names = ("good", "partial", "no_work", "failed", "blocked", "not_run")
    return {name: n for name in names if (n := report["tasks"][label][name])}


def test_a_bad_image_costs_nothing_but_itself(survey: Survey) -> None:
    n = len(GOOD)
    assert counts(survey.report, "calibrateImage") == {"good": n, "partial": 1}
    after = (
        "standardizeSingleVisitStar",
        "refitPsfModelDetector",
        "recalibrateSingleVisitStar",
        "standardizeRecalibratedStar",
    )
    for label in after:
        assert counts(survey.report, label) == {"good": n, "no_work": 1}
        (failure,) = survey.report["tasks"][label]["failures"]
        assert "the task that makes it had no work, or failed" in failure["message"]
        (data_id,) = failure["data_ids"]
        assert {f"visit={BAD[0]}", f"detector={BAD[1]}"} < set(data_id.split())
    gathering = set(survey.report["tasks"]) - {"calibrateImage", *after}
    assert len(gathering) == 10
    for label in gathering:
        assert set(counts(survey.report, label)) == {"good"}, label


def test_every_output_is_there(survey: Survey) -> None:
    for name in ("single_visit_star_detector", "refit_psf_models_detector", "refit_psf_star_detector",
                 "recalibrated_star_unstandardized", "recalibrated_star_detector"):  # fmt: skip
        assert survey.ids(name, "visit", "detector") == GOOD, name
    for name in ("single_visit_star", "preliminary_visit_summary", "refit_psf_models", "refit_psf_star",
                 "visit_summary", "recalibrated_star"):  # fmt: skip
        assert survey.ids(name, "visit") == {(visit,) for visit in VISITS}, name
    assert len(survey.ids("isolated_star", "tract")) == 2
    for name in ("preliminary_visit_table", "visit_table"):
        assert sorted(survey.table(name)["visitId"]) == sorted(VISITS)
    for name in ("preliminary_visit_detector_table", "visit_detector_table"):
        table = survey.table(name)
        assert set(zip(table["visitId"], table["detector"])) == GOOD


def test_the_visit_summary_has_every_calibration_of_every_good_detector(survey: Survey) -> None:
    found = set()
    for (visit,) in survey.ids("visit_summary", "visit"):
        table = survey.butler.get("visit_summary", visit=visit, storageClass="ArrowTable")
        for row in ExposureCatalog.from_table(table):
            refit = ExposureCatalog.from_table(
                survey.butler.get("refit_psf_models", visit=visit, storageClass="ArrowTable")
            ).find(row.id)
            psf, expected = row.getPsf(), refit.getPsf()
            assert psf is not None
            kernels = [p.compute_kernel_image(x=200.0, y=100.0).array for p in (psf, expected)]
            np.testing.assert_array_equal(*kernels)
            assert row.getApCorrMap().keys() == refit.getApCorrMap().keys()
            assert row.getWcs() is not None
            assert row.getPhotoCalib() is not None
            assert row["nPsfStar"] > 0
            found.add((visit, row.id))
    assert found == GOOD


def test_a_star_that_is_reserved_is_reserved_in_every_visit_of_its_band(survey: Survey) -> None:
    stars = survey.table("refit_psf_star")
    sources = survey.table("isolated_star")
    associations = survey.table("isolated_star_association")
    offsets = np.cumsum([0, *(sources["obj_index"][:-1] > sources["obj_index"][1:])])
    assert len(associations) > 0
    reserved = dict(zip(stars["id"], stars["calib_psf_reserved"]))
    by_star: dict[Any, set[bool]] = {}
    for tract, source, band, star in zip(offsets, sources["sourceId"], sources["band"], sources["obj_index"]):
        if source in reserved:
            by_star.setdefault((tract, band, star), set()).add(bool(reserved[source]))
    assert all(len(values) == 1 for values in by_star.values())
    assert {True} in by_star.values()
    assert not np.any(stars["calib_psf_reserved"] & stars["calib_psf_used"])


def test_the_same_command_again_has_nothing_to_do(survey: Survey) -> None:
    result = survey.run()
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["skipped"] == survey.report["quanta"]
    assert not report["tasks"]


@pytest.mark.slow
def test_pipetask_gives_the_same_tables(survey: Survey) -> None:
    words = [
        "--log-level", "ERROR", "run", "-b", survey.root, "--register-dataset-types", "-i", f"u/all,{CAMERA}/defaults",
        "-p", f"{survey.root}/pipelines/{CAMERA}/recalibrate.yaml#associateIsolatedStar,makeVisitTable", "-o", "u/ref",
        "-d", f"instrument='{CAMERA}' AND skymap='survey'",
    ]  # fmt: skip
    result = CliRunner().invoke(pipetask, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    with Butler.from_config(str(survey.root), collections="u/ref") as reference:
        for name in ("isolated_star", "isolated_star_association", "visit_table"):
            refs = reference.query_datasets(name)
            assert {ref.dataId for ref in refs} == {ref.dataId for ref in survey.butler.query_datasets(name)}
            for ref in refs:
                ours, theirs = survey.butler.get(name, ref.dataId), reference.get(ref)
                assert ours.colnames == theirs.colnames
                for column in ours.colnames:
                    assert np.asarray(ours[column]).tobytes() == np.asarray(theirs[column]).tobytes(), column


@pytest.mark.parametrize(
    ("part", "inputs", "words"),
    [
        ("#step2d-recalibrate-visits", "u/all", "there is isolated_star of the tracts 0 of survey, 1 of survey."),
        ("", f"{CAMERA}/defaults", "the images touch the tracts 0 of survey, 1 of survey."),
    ],
)  # fmt: skip
def test_a_tract_without_data_is_told_which_have_some(
    survey: Survey, part: str, inputs: str, words: str
) -> None:
    result = survey.run("-d", "tract = 99", part=part, inputs=inputs, output="u/none")
    assert result.exit_code == 1
    assert words in result.stderr

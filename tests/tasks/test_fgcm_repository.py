"""Look-up table, star list, fit and products of a small simulated survey, in a repository."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table
from astropy.time import Time
from click.testing import CliRunner
from lsst.ctrl.mpexec.cli.pipetask import cli as pipetask
from lsst.daf.butler import Butler, DatasetType, Timespan

from zeropoint.butler.cameras import register_camera
from zeropoint.butler.refcats import ingest_references
from zeropoint.butler.repository import create_repository, open_repository
from zeropoint.butler.throughputs import Throughputs, ingest_throughputs
from zeropoint.datamodel.arrow import arrow_to_table, table_to_arrow
from zeropoint.datamodel.exposure_catalog import ExposureCatalog
from zeropoint.datamodel.photo_calib_catalog import PhotoCalibCatalog
from zeropoint.datamodel.visit_geometry import sky_polygon
from zeropoint.datamodel.wcs import unit_vectors
from zeropoint.fgcm.accounting import META_KEY, Accounting
from zeropoint.fgcm.cycle_checkpoints import CycleCheckpoints
from zeropoint.fgcm.source_table import SourceReader
from zeropoint.instruments.card import load_card
from zeropoint.simulation.fgcm_settings import small_survey
from zeropoint.simulation.fgcm_survey import FgcmSurvey, simulate_fgcm_survey
from zeropoint.simulation.fgcm_tables import (
    INSTRUMENT,
    camera_card,
    source_table,
    throughput_curves,
    visit_summary,
)
from zeropoint.tasks.fgcm_build_stars_table import FgcmBuildStarsTableTask
from zeropoint.tasks.fgcm_fit_cycle import FgcmFitCycleTask
from zeropoint.tasks.fgcm_output_products import FgcmOutputProductsTask

N_VISITS = 6
KILLED_AT = 1004
#: Instrumental magnitudes are float32 near -15; the relative areas are medians of those of several WCSs.
MAGNITUDE = 2e-5
#: A table of few nodes, and what has no default.
LOOK_UP_TABLE = {
    "physicalFilters": "['r_fgcm', 'i_fgcm']",
    "doOpticsTransmission": False,
    "doSensorTransmission": False,
    "doFilterDetectorTransmission": True,
    "parameters.elevation": 2663.0,
    "parameters.pmbRange": "[720.0, 745.0]",
    "parameters.pwvRange": "[0.5, 10.0]",
    "parameters.pwvSteps": 3,
    "parameters.tauSteps": 3,
    "parameters.alphaSteps": 2,
    "parameters.zenithSteps": 3,
    "parameters.pmbStd": 731.7,
    "parameters.pwvStd": 3.0,
    "parameters.airmassStd": 1.2,
}
FILTERS = "{'r_fgcm': 'r', 'i_fgcm': 'i'}"
STARS = {
    "connections.refCat": "references",
    "primaryBands": "['r', 'i']",
    "fgcmLoadReferenceCatalog.filterMap": FILTERS,
    "fgcmLoadReferenceCatalog.applyColorTerms": False,
    "nVisitsPerCheckpoint": 2,
}
#: Four exposures of one detector: the atmosphere is left to the priors.
FIT = """
config.bands = ["r", "i"]
config.complete()
config.physicalFilterMap = {"r_fgcm": "r", "i_fgcm": "i"}
config.latitude, config.utBoundary = -30.2446, 0.3
config.minStarPerExp, config.minExpPerNight, config.minCcdPerExp = 20, 1, 1
config.multipleCyclesFinalCycleNumber = 2
config.modelMagErrors = False
config.doPlots = False
"""


@pytest.fixture(scope="module")
def survey() -> FgcmSurvey:
    one_detector = {"n_side": 1, "detector_size": 2048}
    return simulate_fgcm_survey(replace(small_survey(), n_visits=N_VISITS, bands=("r", "i"), **one_detector))


@pytest.fixture(scope="module")
def repository(survey: FgcmSurvey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the tables of all visits, of which the last but one has no summary, and the last no sources."""
    folder = tmp_path_factory.mktemp("fgcm")
    (folder / "camera.yaml").write_text(camera_card(survey))
    survey.references.write(folder / "references.parquet")
    create_repository(folder / "repo")
    with open_repository(folder / "repo", writeable=True) as butler:
        register_camera(butler, load_card(str(folder / "camera.yaml")))
        ingest_references(butler, "references", folder / "references.parquet")
        put_visits(butler, survey)
        curves = throughput_curves(survey)
        ingest_throughputs(butler, INSTRUMENT, Throughputs(filter_detectors=curves))
    return folder / "repo"


def put_visits(butler: Butler, survey: FgcmSurvey) -> None:
    """Register detectors and visits, and put their tables into the run ``tables``."""
    registry = butler.registry
    butler.collections.register("tables")
    for number in range(survey.settings.n_detectors):
        record = {"instrument": INSTRUMENT, "id": number, "full_name": f"D{number}", "purpose": "SCIENCE"}
        registry.syncDimensionData("detector", record)
    registry.syncDimensionData("day_obs", {"instrument": INSTRUMENT, "id": 20250101})
    dimensions = butler.dimensions.conform(["instrument", "visit"])
    for name, storage_class in (
        ("single_visit_star", "ArrowAstropy"),
        ("preliminary_visit_summary", "ArrowTable"),
    ):
        registry.registerDatasetType(DatasetType(name, dimensions, storage_class))
    for row, visit in enumerate(survey.visits):
        summary = visit_summary(survey, row)
        number = int(visit["visit"])
        registry.syncDimensionData("visit", visit_record(survey, visit, summary))
        data_id = {"instrument": INSTRUMENT, "visit": number}
        if row != N_VISITS - 1:
            table = table_to_arrow(source_table(survey, survey.sources(row)))
            butler.put(table, "single_visit_star", data_id, run="tables")
        if row != N_VISITS - 2:
            butler.put(summary.to_arrow(), "preliminary_visit_summary", data_id, run="tables")


def visit_record(survey: FgcmSurvey, visit: Any, summary: ExposureCatalog) -> dict[str, Any]:
    """Return the registry's record of a visit, whose region has all detectors in it."""
    corners = [np.deg2rad(np.asarray(summary.table[name]).ravel()) for name in ("raCorners", "decCorners")]
    begin = Time(float(visit["mjd"]), format="mjd", scale="tai")
    return {
        "instrument": INSTRUMENT,
        "id": int(visit["visit"]),
        "name": str(visit["visit"]),
        "physical_filter": str(summary.table["physical_filter"][0]),
        "day_obs": 20250101,
        "timespan": Timespan.fromInstant(begin),
        "region": sky_polygon(unit_vectors(*corners)),
    }


def run(
    repository: Path,
    label: str,
    output: str,
    settings: dict[str, Any],
    *inputs: str,
    legacy: bool = False,
    options: tuple[str, ...] = (),
) -> Any:
    """Run one task of a shipped pipeline in this process."""
    name = "fgcm_legacy" if legacy else "fgcm"
    pipeline = f"resource://zeropoint.tasks/pipelines/{name}.yaml#{label}"
    overrides = [part for name, value in settings.items() for part in ("-c", f"{label}:{name}={value}")]
    arguments = [
        "--log-level", "ERROR", "run", "-b", str(repository), "-p", pipeline, "-i", ",".join(inputs), "-o", output,
        "-d", f"instrument='{INSTRUMENT}'", "--register-dataset-types", *options, *overrides,
    ]  # fmt: skip
    return CliRunner().invoke(pipetask, arguments)


class Killed(Exception):
    """Stands for a kill signal."""


def start(repository: Path, settings: dict[str, Any]) -> None:
    """Read the tables of all visits but those from `KILLED_AT` on."""
    config = FgcmBuildStarsTableTask.ConfigClass()
    config.update(primaryBands=["r", "i"], doReferenceMatches=False)
    config.update(**{name: settings[name] for name in ("nVisitsPerCheckpoint", "checkpoint_directory")})
    whole = SourceReader.read

    def read(self: Any, visit: int, *args: Any, **kwargs: Any) -> Any:
        if visit == KILLED_AT:
            raise Killed
        return whole(self, visit, *args, **kwargs)

    with (
        Butler.from_config(str(repository), collections=["tables"]) as butler,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(SourceReader, "read", read)
        tables, summaries = (
            {ref.dataId["visit"]: butler.getDeferred(ref) for ref in butler.query_datasets(name)}
            for name in ("single_visit_star", "preliminary_visit_summary")
        )
        with pytest.raises(Killed):
            FgcmBuildStarsTableTask(config=config).run(sourceTable_visit=tables, visitSummary=summaries)


@pytest.fixture(scope="module")
def outputs(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The star list, and which visits were read after a run had been killed."""
    cache = tmp_path_factory.mktemp("cache")
    look_up_table = run(repository, "fgcmMakeLut", "lut", LOOK_UP_TABLE, f"{INSTRUMENT}/defaults")
    assert look_up_table.exit_code == 0, look_up_table.output
    settings = STARS | {"checkpoint_directory": str(cache)}
    start(repository, settings)
    found: dict[str, Any] = {"left": sorted(path.name for path in cache.glob("*/*")), "read": []}
    whole = SourceReader.read

    def read(self: Any, visit: int, *args: Any, **kwargs: Any) -> Any:
        found["read"].append(visit)
        return whole(self, visit, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SourceReader, "read", read)
        done = run(
            repository, "fgcmBuildStarsTable", "stars", settings, "tables", "refcats/references", "lut"
        )
    assert done.exit_code == 0, done.output
    found["cache"] = list(cache.iterdir())
    with Butler.from_config(str(repository), collections=["stars"]) as butler:
        for name in ("VisitCatalog", "StarObservations", "StarIds", "StarIndices", "ReferenceStars"):
            handle = butler.getDeferred(f"fgcm{name}", instrument=INSTRUMENT)
            arrow = handle.get(storageClass="ArrowTable", parameters={"strip_astropy_meta_yaml": False})
            found[name] = arrow_to_table(arrow)
        found["metadata"], found["log"] = (
            butler.get(f"fgcmBuildStarsTable_{name}", instrument=INSTRUMENT) for name in ("metadata", "log")
        )
    return found


def test_a_killed_run_goes_on_and_leaves_nothing_behind(outputs: dict[str, Any]) -> None:
    assert outputs["left"] == ["part-00000.arrow"]
    assert outputs["read"] == [1003, 1004]
    assert outputs["cache"] == []


def test_visits_with_one_of_two_tables_are_left_out_and_everything_is_accounted_for(
    outputs: dict[str, Any],
) -> None:
    accounting = Accounting.from_meta(outputs["VisitCatalog"].meta[META_KEY])
    assert accounting["visits"].rejected == {"no_summary": 1, "no_source_table": 1}
    assert outputs["VisitCatalog"]["visit"].tolist() == [1001, 1002, 1003, 1004]
    assert accounting["sources"].kept == len(outputs["StarObservations"])
    assert accounting["observations_of_stars"].read == accounting["sources"].kept
    assert accounting["observations_of_stars"].kept == len(outputs["StarIndices"])
    assert accounting["stars"].kept == len(outputs["StarIds"])
    assert accounting["references"].kept == len(outputs["ReferenceStars"])
    metadata = outputs["metadata"]["fgcmBuildStarsTable"]
    assert metadata["accounting"]["visits"]["rejected"]["no_summary"] == 1
    assert metadata["note"] == (
        "1 visit is left out (no_source_table): 1006. 1 visit is left out (no_summary): 1005."
    )
    for sentence in metadata["note"].split(". "):
        assert sum(sentence in record.message for record in outputs["log"]) == 1


def test_observations_are_those_that_were_simulated(outputs: dict[str, Any], survey: FgcmSurvey) -> None:
    truth = survey.observations()
    truth = truth[truth["visit"] < 1005]
    table = outputs["StarObservations"]
    for name in ("ra", "dec", "x", "y", "visit", "ccd", "instMagErr", "deltaMagAper"):
        assert (np.asarray(table[name]) == np.asarray(truth[name])).all() or np.allclose(
            table[name], truth[name], rtol=1e-15, atol=0
        ), name
    assert np.abs(np.asarray(table["instMag"]) - np.asarray(truth["instMag"])).max() < MAGNITUDE


def test_stars_are_true_and_have_their_reference_magnitudes(
    outputs: dict[str, Any], survey: FgcmSurvey
) -> None:
    truth = survey.observations()
    star_of_row = np.asarray(truth["star"])
    ids, indices = outputs["StarIds"], np.asarray(outputs["StarIndices"]["obsIndex"])
    owner = np.repeat(np.arange(len(ids)), ids["nObs"])
    found = star_of_row[indices]
    first = found[np.asarray(ids["obsArrIndex"])]
    assert len(ids) > 200
    assert np.mean(found == first[owner]) > 0.999  # blends may swap
    references: Table = outputs["ReferenceStars"]
    assert references.meta["FILTERNAMES"] == ["r_fgcm", "i_fgcm"]
    assert references["refMag"].shape == (len(references), 2)
    # a reference has the number of its star, from 1
    place = np.searchsorted(ids["fgcm_id"], references["fgcm_id"])
    row = {int(number): k for k, number in enumerate(survey.references["id"])}
    rows = [row[int(star) + 1] for star in first[place]]
    for column, band in enumerate("ri"):
        flux = np.asarray(survey.references[f"{band}_flux"])[rows]
        assert references["refMag"][:, column] == pytest.approx(31.4 - 2.5 * np.log10(flux), abs=1e-4)
    assert len(references) > 30


def test_data_ids_of_visits_make_the_same_star_list(
    repository: Path, outputs: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    config = FgcmBuildStarsTableTask.ConfigClass()
    config.update(primaryBands=["r", "i"], checkpoint_directory="")
    config.connections.update(
        sourceTable_visit="single_visit_star", visitSummary="preliminary_visit_summary", refCat="references"
    )
    config.fgcmLoadReferenceCatalog.update(filterMap={"r_fgcm": "r", "i_fgcm": "i"}, applyColorTerms=False)
    inputs = ["tables", "refcats/references", "lut"]
    with Butler.from_config(str(repository), collections=inputs, run="by_data_ids") as butler:
        # one for each detector, as they once were
        data_ids = [{"instrument": INSTRUMENT, "visit": 1001 + k // 2, "detector": k % 2} for k in range(10)]
        data_ids.append({"instrument": INSTRUMENT, "visit": 4711})
        task = FgcmBuildStarsTableTask(butler=butler, initInputs=None, config=config)
        task.runDataRef(butler, data_ids)
        assert "1 visit is not there (neither source table nor summary): 4711." in caplog.text
        for name in ("StarObservations", "StarIds", "StarIndices", "ReferenceStars"):
            table = butler.get(
                f"fgcm{name}", instrument=INSTRUMENT, collections="by_data_ids", storageClass="ArrowTable"
            )
            assert (arrow_to_table(table).as_array() == outputs[name].as_array()).all(), name


@pytest.fixture(scope="module")
def calibrated(
    repository: Path, outputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What a fit leaves that was killed after its first cycle, and its products."""
    folder = tmp_path_factory.mktemp("fit")
    (folder / "fit.py").write_text(FIT)
    cache = folder / "cache"
    fit, products = (FgcmFitCycleTask._DefaultName, FgcmOutputProductsTask._DefaultName)
    settings = {"checkpoint_directory": str(cache)}
    options = ("-C", f"{fit}:{folder / 'fit.py'}")
    whole = CycleCheckpoints.save

    def save(self: Any, saved: Any) -> None:
        whole(self, saved)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CycleCheckpoints, "save", save)
        killed = run(repository, fit, "killed", settings, "stars", "lut", legacy=True, options=options)
    assert killed.exit_code != 0
    found: dict[str, Any] = {"left": sorted(path.name for path in cache.glob("*/*"))}
    of_products = ("connections.cycleNumber=2", "doTractStars=False", f"physicalFilterMap={FILTERS}")
    options += tuple(part for field in of_products for part in ("-c", f"{products}:{field}"))
    done = run(
        repository, f"{fit},{products}", "fit", {}, "stars", "lut", legacy=True,
        options=(*options, "-c", f"{fit}:checkpoint_directory={cache}"),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found["cache"] = list(cache.iterdir())
    with Butler.from_config(str(repository), collections=["fit"]) as butler:
        refs = butler.query_datasets("fgcmPhotoCalibCatalog", instrument=INSTRUMENT)
        found["calibs"] = {
            int(ref.dataId["visit"]): butler.get(ref, storageClass="ArrowTable") for ref in refs
        }
        found["names"] = {ref.datasetType.name for ref in butler.query_all_datasets(instrument=INSTRUMENT)}
        for name in ("Cycle2_Zeropoints", "Cycle2_StandardStars", "Cycle0_OutputConfig"):
            found[name] = butler.get(f"fgcm_{name}", instrument=INSTRUMENT)
        found["metadata"] = butler.get("fgcmFitCycle_metadata", instrument=INSTRUMENT)["fgcmFitCycle"]
    return found


def test_a_fit_that_was_killed_goes_on_and_writes_the_datasets_of_all_cycles(
    calibrated: dict[str, Any],
) -> None:
    assert calibrated["left"] == ["cycle-00"]
    assert calibrated["cache"] == []
    every = {"FitParameters", "FlaggedStars", "OutputConfig"}
    assert {name for name in calibrated["names"] if name.startswith("fgcm_Cycle")} == {
        *(f"fgcm_Cycle{cycle}_{name}" for cycle in range(3) for name in every),
        *(f"fgcm_Cycle2_{name}" for name in ("Zeropoints", "AtmosphereParameters", "StandardStars")),
    }
    following = calibrated["Cycle0_OutputConfig"]
    assert (following.cycleNumber, following.connections.previousCycleNumber) == (1, "0")
    metadata = calibrated["metadata"]
    assert [metadata[f"cycle{n}"]["n_photometric"] for n in range(3)] == [4, 4, 4]
    assert metadata["accounting"]["fit_visits"]["read"] == 4


def test_zeropoints_and_calibrations_give_the_standard_magnitudes(
    calibrated: dict[str, Any], outputs: dict[str, Any]
) -> None:
    zeropoints, stars = calibrated["Cycle2_Zeropoints"], calibrated["Cycle2_StandardStars"]
    assert (np.asarray(zeropoints["fgcmFlag"]) == 1).all()
    observations = outputs["StarObservations"][np.asarray(outputs["StarIndices"]["obsIndex"])]
    owner = np.repeat(np.asarray(outputs["StarIds"]["fgcm_id"]), outputs["StarIds"]["nObs"])
    place = {int(number): row for row, number in enumerate(stars["id"])}
    row = np.array([place.get(int(number), -1) for number in owner])
    assert set(calibrated["calibs"]) == set(zeropoints["visit"])
    for zeropoint, visit in zip(zeropoints, outputs["VisitCatalog"], strict=True):
        assert zeropoint["visit"] == visit["visit"]
        (calib,) = PhotoCalibCatalog.from_table(calibrated["calibs"][int(visit["visit"])])
        # the zeropoint is that of the detector's center
        assert -2.5 * np.log10(calib.calibration_mean) + 31.4 == pytest.approx(zeropoint["fgcmZpt"], abs=1e-3)
        band = "ri".index(str(visit["physicalFilter"])[0])
        mine = (np.asarray(observations["visit"]) == visit["visit"]) & (row >= 0)
        standard = np.asarray(stars["mag_std_noabs"])[row[mine], band]
        magnitude = np.asarray(observations["instMag"])[mine] + zeropoint["fgcmZpt"]
        difference = (magnitude - 2.5 * np.log10(visit["exptime"]) - standard)[standard < 90]
        assert len(difference) > 150
        # 10 mmag of noise and flat-field structure in the mean of two, by the root of the number
        assert abs(np.median(difference)) < 4 * 1.25 * 0.010 / len(difference) ** 0.5


def test_references_set_the_scale(calibrated: dict[str, Any], outputs: dict[str, Any]) -> None:
    stars, references = calibrated["Cycle2_StandardStars"], outputs["ReferenceStars"]
    place = {int(number): row for row, number in enumerate(stars["id"])}
    pairs = [(place[int(n)], k) for k, n in enumerate(references["fgcm_id"]) if int(n) in place]
    rows, of_references = np.array(pairs).T
    difference = np.asarray(stars["mag_std_noabs"])[rows] - np.asarray(references["refMag"])[of_references]
    for band in range(2):
        seen = np.abs(difference[:, band]) < 1.0
        assert seen.sum() > 25
        assert abs(np.median(difference[seen, band])) < 4 * 1.25 * 0.012 / seen.sum() ** 0.5

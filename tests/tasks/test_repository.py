"""The task under ``pipetask``: images from a real repository, outputs into it, failures counted."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Table
from click.testing import Result
from lsst.daf.butler import Butler
from lsst.images import Box, MaskedImage, VisitImage

from tasks import make
from zeropoint.butler.refcats import ingest_references
from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.datamodel.footprint_table import footprint_table
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.recipes.session import CalibrationSession, ImageRun

PIPELINE = Path(__file__).parents[2] / "src" / "zeropoint" / "tasks" / "pipelines" / "calibrate.yaml"
CATALOGUES = (
    "-c", "calibrateImage:connections.astrometry_ref_cat=simulated",
    "-c", "calibrateImage:connections.photometry_ref_cat=simulated",
)  # fmt: skip


#: Tables that must not depend on how they were made.
TABLES = (
    "single_visit_star_unstandardized",
    "single_visit_psf_star",
    "single_visit_star_footprints",
    "initial_astrometry_match_detector",
    "initial_photometry_match_detector",
)


def run(repository: Any, output: str, query: str, *options: str) -> Result:
    return repository.pipetask(
        "--log-level", "ERROR", "run", "-b", repository.path, "-p", PIPELINE, "-i", "SimCam/defaults",
        "-o", output, "-d", f"instrument='SimCam' AND {query}", "--register-dataset-types", *CATALOGUES, *options,
    )  # fmt: skip


@dataclass(frozen=True)
class Processed:
    """A run over all visits: what pipetask said, and where the outputs are."""

    repository: Any
    result: Result
    graph: Path
    butler: Butler

    def get(self, name: str, visit: int, **kwargs: Any) -> Any:
        return self.butler.get(name, instrument="SimCam", visit=visit, detector=0, **kwargs)

    def written(self, visit: int) -> set[str]:
        """Return the dataset types that exist for a visit, without log and metadata."""
        names = self.butler.registry.queryDatasetTypes()
        refs = [
            ref
            for dataset_type in names
            if "visit" in dataset_type.dimensions
            for ref in self.butler.registry.queryDatasets(
                dataset_type, collections=self.butler.collections.defaults, instrument="SimCam", visit=visit
            )
            if self.butler.stored(ref)
        ]
        return {ref.datasetType.name.replace("calibrateImage_", "_") for ref in refs}


@pytest.fixture(scope="session")
def processed(repository: Any, tmp_path_factory: pytest.TempPathFactory) -> Processed:
    graph = tmp_path_factory.mktemp("graph") / "run.qg"
    result = run(
        repository, "u/test/all", "visit IN (101..103)", "-c", "calibrateImage:do_first_look=True",
        "--no-raise-on-partial-outputs", "--save-qgraph", str(graph), "--qgraph-datastore-records",
    )  # fmt: skip
    return Processed(repository, result, graph, repository.open(collections="u/test/all"))


# -- success --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def on_the_command_line(repository: Any) -> ImageRun:
    """What `zeropoint calibrate` makes of the images of visit 103."""
    session = CalibrationSession(repository.card, ReferenceSource.open(repository.references))
    return session.calibrate(repository.images[103], repository.images[104])


def test_the_run_succeeds_though_one_image_is_bad(processed: Processed) -> None:
    assert processed.result.exit_code == 0, processed.result.output


def test_all_outputs_of_the_table_are_written_and_no_other(processed: Processed) -> None:
    assert processed.written(101) == {
        "_log", "_metadata", "preliminary_visit_image", "preliminary_visit_image_background", "preliminary_visit_mask",
        "single_visit_star_unstandardized", "single_visit_star_footprints", "single_visit_psf_star",
        "single_visit_psf_star_footprints", "initial_astrometry_match_detector", "initial_photometry_match_detector",
        "initial_photoCalib_detector",
    }  # fmt: skip
    assert processed.written(103) == processed.written(101)
    assert processed.written(102) == {
        "_log", "_metadata", "preliminary_visit_image_partial", "preliminary_visit_image_background",
    }  # fmt: skip


def test_tables_and_pixels_are_those_of_the_command_line(
    processed: Processed, on_the_command_line: ImageRun
) -> None:
    visit, expected = 103, on_the_command_line.result
    assert expected.failure is None
    tables = {
        "single_visit_star_unstandardized": expected.stars.to_table(),
        "single_visit_psf_star": expected.psf_stars.to_table(),
        "initial_astrometry_match_detector": expected.astrometry_matches,
        "initial_photometry_match_detector": expected.photometry_matches,
    }
    for name, table in tables.items():
        found = processed.get(name, visit)
        assert found.colnames == table.colnames, name
        for column in table.colnames:
            assert np.asarray(found[column]).tobytes() == np.asarray(table[column]).tobytes(), (name, column)
            assert found[column].unit == table[column].unit
            assert found[column].description == table[column].description
    image = processed.get("preliminary_visit_image", visit)
    assert image.image.array.tobytes() == expected.exposure.image.tobytes()
    assert image.variance.array.tobytes() == expected.exposure.variance.tobytes()
    for name, footprints in (
        ("single_visit_star_footprints", expected.stars_footprints),
        ("single_visit_psf_star_footprints", expected.psf_stars_footprints),
    ):
        assert processed.get(name, visit).equals(footprint_table(footprints.ids, footprints.footprints)), name


@pytest.mark.slow
def test_persistent_workers_write_the_same(processed: Processed, repository: Any) -> None:
    from zeropoint.butler.execution.graph import ConfigOverride, RunRequest
    from zeropoint.butler.execution.runner import run_pipeline

    fields = (
        "connections.astrometry_ref_cat=simulated",
        "connections.photometry_ref_cat=simulated",
        "do_first_look=True",
    )
    request = RunRequest(
        str(repository.path), str(PIPELINE), ("SimCam/defaults",), "u/test/workers",
        "visit IN (101..103)", tuple(ConfigOverride("calibrateImage", *field.split("=")) for field in fields),
    )  # fmt: skip
    report = run_pipeline(request)
    assert report.exit_code == 4
    assert [failure["data_ids"] for failure in report.to_dict()["tasks"]["calibrateImage"]["failures"]] == [
        ["instrument=SimCam detector=0 visit=102"]
    ]
    ours = Processed(
        repository, processed.result, processed.graph, repository.open(collections="u/test/workers")
    )
    for visit in (101, 102, 103):
        assert ours.written(visit) == processed.written(visit)
    for name in (*TABLES, "preliminary_visit_image"):
        one, other = (run.get(name, 103) for run in (ours, processed))
        assert _bytes(one) == _bytes(other), name
    one, other = (run.get("preliminary_visit_image_partial", 102) for run in (ours, processed))
    assert _bytes(one) == _bytes(other)


def _bytes(thing: Any) -> list[bytes]:
    """Return the values of a table or of an image's planes."""
    if isinstance(thing, MaskedImage):
        return [plane.array.tobytes() for plane in (thing.image, thing.variance, thing.mask)]
    if isinstance(thing, Table):
        return [np.asarray(thing[name]).tobytes() for name in thing.colnames]
    return [repr(thing.to_pydict()).encode()]


def test_datasets_come_back_as_documented(processed: Processed) -> None:
    image = processed.get("preliminary_visit_image", 101)
    assert type(image) is VisitImage
    assert image.unit == u.nJy
    assert image.psf.kernel_bbox.area > 9
    mask = processed.get("preliminary_visit_mask", 101)
    np.testing.assert_array_equal(mask.array, image.mask.array)
    calib = processed.get("initial_photoCalib_detector", 101)
    assert calib.unit == u.nJy / u.electron
    assert calib.render(Box.factory[0:2, 0:2]).array.std() == 0
    background = processed.get("preliminary_visit_image_background", 101)
    assert background["subtracted"].field.unit == u.nJy
    summary = processed.butler.get(
        "preliminary_visit_image.summary_stats", instrument="SimCam", visit=101, detector=0
    )
    assert 30 < summary.zeroPoint < 33


def test_two_snaps_are_one_image_in_the_order_of_their_numbers(processed: Processed) -> None:
    info = processed.get("preliminary_visit_image", 103).obs_info
    assert info.exposure_time.to_value("s") == 30.0
    assert (info.visit_id, info.exposure_id) == (103, 103)


def test_the_schema_is_that_of_every_table(processed: Processed) -> None:
    schema = processed.butler.get("single_visit_star_schema")
    table = processed.get("single_visit_star_unstandardized", 103)
    assert schema.remove_metadata().equals(
        table_to_arrow(table).schema.remove_metadata(), check_metadata=True
    )
    assert schema.field("coord_ra").metadata[b"unit"] == b"rad"


def test_ids_hold_visit_and_detector(processed: Processed) -> None:
    n_visits, n_detectors = processed.repository.card.id_limits
    ids = CatalogIdGenerator(101, 0, n_visits, n_detectors)
    found = ids.unpack(processed.get("single_visit_star_unstandardized", 101)["id"])
    assert (found.visit == 101).all()
    assert (found.detector == 0).all()
    assert len(np.unique(found.counter)) == len(found.counter)


# -- failures -------------------------------------------------------------------------------------------------


def test_the_partial_image_says_why(processed: Processed) -> None:
    image = processed.get("preliminary_visit_image_partial", 102)
    assert type(image) is MaskedImage
    assert image.unit == u.electron
    assert image.metadata["failure.type"] == "ObjectSizeNoGoodSourcesError"
    failure = processed.get("calibrateImage_metadata", 102)["calibrateImage"]["failure"]
    assert failure["type"] == "zeropoint.tasks._errors.ObjectSizeNoGoodSourcesError"
    assert failure["message"] == image.metadata["failure.message"]
    assert failure["metadata"]["n_input_sources"] > 0


def report(processed: Processed, graph: Path, *options: object) -> str:
    result = processed.repository.pipetask(
        "report", processed.repository.path, graph, "--force-v2", "--read-caveats", "exhaustive", *options
    )
    assert result.exit_code == 0, result.output
    return str(result.output)


def test_the_report_counts_the_failure_and_blames_no_good_image(processed: Processed) -> None:
    text = report(processed, processed.graph)
    assert re.search(r"calibrateImage +0 +3 +\+P\(1\) +0 +0 +0 +3 +3\n", text), text
    assert re.search(r"calibrateImage zeropoint.tasks._errors.ObjectSizeNoGoodSourcesError +1\n", text), text


@pytest.mark.slow
def test_without_the_option_the_image_counts_as_failed_and_the_others_go_on(
    processed: Processed, tmp_path: Path
) -> None:
    graph = tmp_path / "run.qg"
    result = run(
        processed.repository, "u/test/raise", "visit IN (101, 102)", "--raise-on-partial-outputs",
        "--save-qgraph", str(graph), "--qgraph-datastore-records",
    )  # fmt: skip
    assert result.exit_code != 0
    with processed.repository.open(collections="u/test/raise") as butler:
        raised = Processed(processed.repository, result, graph, butler)
        assert raised.written(101) == processed.written(101)
        assert raised.written(102) == processed.written(102) - {"_metadata"}
    full = tmp_path / "report.json"
    text = report(processed, graph, "--full-output-filename", full)
    assert re.search(r"calibrateImage +0 +1 +0 +1 +0 +2 +2\n", text), text
    task = json.loads(full.read_text())["tasks"]["calibrateImage"]
    assert (task["n_successful"], task["n_failed"]) == (1, 1)
    assert "Exception ObjectSizeNoGoodSourcesError: No source of" in task["failed_quanta"][0]["messages"][0]


@pytest.mark.slow  # failures of images that give partial outputs are those of test_partial_outputs
def test_a_catalogue_elsewhere_is_a_failure_of_the_image(processed: Processed) -> None:
    repository = processed.repository
    table = Table.read(repository.references)
    table["coord_dec"] -= np.deg2rad(40.0)
    with repository.open(writeable=True) as butler:
        path = repository.path.parent / "elsewhere.fits"
        table.write(path)
        ingest_references(butler, "elsewhere", path)
    result = run(
        repository, "u/test/elsewhere", "visit = 101", "--no-raise-on-partial-outputs",
        "-c", "calibrateImage:connections.astrometry_ref_cat=elsewhere",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    with repository.open(collections="u/test/elsewhere") as butler:
        found = Processed(repository, result, Path(), butler)
        assert found.written(101) == {"_log", "_metadata", "preliminary_visit_image_partial"}
        image = found.get("preliminary_visit_image_partial", 101)
        assert image.metadata["failure.type"] == "NoReferenceSourcesError"
        assert "none of its shards" in image.metadata["failure.message"]


def test_an_input_that_cannot_be_used_leaves_the_log_alone(processed: Processed) -> None:
    result = run(
        processed.repository, "u/test/band", "visit = 101", "--no-raise-on-partial-outputs",
        "-c", "calibrateImage:photometry_ref_loader.anyFilterMapsToThis=z",
    )  # fmt: skip
    assert result.exit_code != 0
    with processed.repository.open(collections="u/test/band") as butler:
        found = Processed(processed.repository, result, Path(), butler)
        assert found.written(101) == {"_log"}
        lines = [
            record.message for record in found.get("calibrateImage_log", 101) if record.levelname == "ERROR"
        ]
        assert any("InvalidInputError" in line and "has no band 'z'" in line for line in lines)


# -- calibrations from the repository -------------------------------------------------------------------------


def test_flat_camera_model_and_region_come_from_the_repository(processed: Processed, simulated: Any) -> None:
    result = repository_run_with_calibrations(processed)
    assert result.exit_code == 0, result.output
    with processed.repository.open(collections="u/test/calib") as butler:
        found = Processed(processed.repository, result, Path(), butler)
        _, correction = make.flat_fielded(simulated.exposure)
        ratio = found.get("background_to_photometric_ratio", 105)
        np.testing.assert_array_equal(ratio.array, correction)
        assert "initial_photoCalib_detector" not in found.written(105)
        assert "single_visit_psf_star" not in found.written(105)
        metadata = found.get("calibrateImage_metadata", 105)["calibrateImage"]
        # the camera model has the right pointing, the header is 3 arcsec off
        assert metadata["initial_to_final_wcs"] < 0.1
        image = found.get("preliminary_visit_image", 105)
        assert image.unit == u.electron
        assert image.metadata["LSST CALIB ILLUMCORR APPLIED"] is True


def repository_run_with_calibrations(processed: Processed) -> Result:
    options = {
        "do_illumination_correction": True,
        "psf_subtract_background.doApplyFlatBackgroundRatio": True,
        "star_background.doApplyFlatBackgroundRatio": True,
        "useButlerCamera": True,
        "useButlerExposureRegion": True,
        "do_calibrate_pixels": False,
        "optional_outputs": "['mask']",
    }
    overrides = [part for name, value in options.items() for part in ("-c", f"calibrateImage:{name}={value}")]
    return run(
        processed.repository, "u/test/calib", "visit = 105", "-i", "SimCam/defaults,SimCam/calib", *overrides
    )

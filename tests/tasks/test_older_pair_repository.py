"""The older pair under ``pipetask`` and ``zeropoint run``: through files, the bytes are those of the recipes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lsst.daf.butler import Butler

from tasks.older_pair import configured
from zeropoint.butler.execution.graph import ConfigOverride, RunRequest
from zeropoint.butler.execution.runner import run_pipeline
from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.datamodel.background_fields import background_list
from zeropoint.datamodel.footprint_table import footprint_table
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.instruments.reader import load_image
from zeropoint.recipes.calibrate import Calibrate, CalibrateConfig
from zeropoint.recipes.characterize_image import CharacterizeImage, CharacterizeImageConfig
from zeropoint.recipes.characterized_file import characterized_exposure
from zeropoint.recipes.post_isr import exposure_from_visit_image, post_isr_image

PIPELINE = Path(__file__).parents[2] / "src" / "zeropoint" / "tasks" / "pipelines" / "legacy.yaml"
TABLES = ("icSrc", "src", "srcMatch", "srcMatchFull")
FOOTPRINTS = ("icSrc_footprints", "src_footprints")
IMAGES = ("icExp", "calexp")
#: what is set of each task
FIELDS = {
    "characterizeImage": {"do_first_look": "True"},
    "calibrate": {
        "connections.astromRefCat": "simulated",
        "connections.photoRefCat": "simulated",
        "do_first_look": "True",
        "astrometry.wcsFitter": "FitAffineWcsTask",
    },
}


@dataclass(frozen=True)
class Outputs:
    """The outputs of a run."""

    butler: Butler
    exit_code: int

    def get(self, name: str, visit: int = 101) -> Any:
        return self.butler.get(name, instrument="SimCam", visit=visit, detector=0)

    def written(self, visit: int) -> set[str]:
        names = ("icExp", "icExpBackground", "calexp", "calexpBackground", *TABLES, *FOOTPRINTS)
        data_id = {"instrument": "SimCam", "visit": visit, "detector": 0}
        registry = self.butler.registry
        known = {kind.name for kind in registry.queryDatasetTypes()}
        refs = {name: self.butler.find_dataset(name, data_id) for name in names if name in known}
        return {name for name, ref in refs.items() if ref is not None and self.butler.stored(ref)}


@pytest.fixture(scope="module")
def by_zeropoint(repository: Any) -> Iterator[Outputs]:
    overrides = tuple(
        ConfigOverride(label, field, value)
        for label, fields in FIELDS.items()
        for field, value in fields.items()
    )
    request = RunRequest(
        str(repository.path), str(PIPELINE), ("SimCam/defaults",), "u/test/pair", "visit IN (101, 102)", overrides
    )  # fmt: skip
    report = run_pipeline(request)
    with repository.open(collections="u/test/pair") as butler:
        yield Outputs(butler, report.exit_code)


@pytest.fixture(scope="module")
def by_pipetask(repository: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outputs]:
    # a step is retargeted in a config file there
    file = tmp_path_factory.mktemp("config") / "calibrate.py"
    file.write_text(
        "from zeropoint.astrometry.affine import FitAffineWcs\nconfig.astrometry.wcsFitter.retarget(FitAffineWcs)\n"
    )
    options = [
        part
        for label, fields in FIELDS.items()
        for field, value in fields.items()
        if field != "astrometry.wcsFitter"
        for part in ("-c", f"{label}:{field}={value}")
    ]
    result = repository.pipetask(
        "--log-level", "ERROR", "run", "-b", repository.path, "-p", PIPELINE, "-i", "SimCam/defaults",
        "-o", "u/test/pair-pipetask", "-d", "instrument='SimCam' AND visit=101", "--register-dataset-types",
        *options, "-C", f"calibrate:{file}",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    with repository.open(collections="u/test/pair-pipetask") as butler:
        yield Outputs(butler, result.exit_code)


@pytest.fixture(scope="module")
def by_recipes(repository: Any) -> dict[str, Any]:
    """What the recipes make of visit 101 in one process, under the datasets' names."""
    first = CharacterizeImage(configured(CharacterizeImageConfig, {"do_first_look": True}))
    config = configured(CalibrateConfig, {"do_first_look": True, "astrometry.wcsFitter": "FitAffineWcsTask"})
    second = Calibrate(config, first.schema)
    exposure = exposure_from_visit_image(post_isr_image(load_image(repository.images[101], repository.card)))
    ids = CatalogIdGenerator(101, 0, *repository.card.id_limits)
    one = first.run(exposure, id_generator=ids)
    values = {
        "icSrc": one.catalog.to_table(),
        "icSrc_footprints": footprint_table(one.footprints.ids, one.footprints.footprints),
        "icExp": one.exposure.copy(),
        "icExpBackground": one.background,
    }
    source = ReferenceSource.open(repository.references)
    two = second.run(
        one.exposure,
        one.background,
        one.catalog,
        astrometry_references=ReferenceObjectLoader(source, config.astromRefObjLoader),
        photometry_references=ReferenceObjectLoader(source, config.photoRefObjLoader),
        id_generator=ids,
    )
    return values | {
        "src": two.sources.to_table(),
        "src_footprints": footprint_table(two.footprints.ids, two.footprints.footprints),
        "srcMatch": two.normalized_matches,
        "srcMatchFull": two.matches,
        "calexp": two.exposure,
        "calexpBackground": two.background,
        "summary": two.summary,
    }


def test_files_hold_the_bytes_of_the_recipes(by_zeropoint: Outputs, by_recipes: dict[str, Any]) -> None:
    for name in TABLES:
        found, expected = by_zeropoint.get(name), by_recipes[name]
        assert found.colnames == expected.colnames, name
        for column in expected.colnames:
            assert np.asarray(found[column]).tobytes() == np.asarray(expected[column]).tobytes(), (
                name,
                column,
            )
            assert (found[column].unit, found[column].description) == (
                expected[column].unit,
                expected[column].description,
            )
    for name in FOOTPRINTS:
        assert by_zeropoint.get(name).equals(by_recipes[name]), name
    for name in IMAGES:
        found, expected = by_zeropoint.get(name), by_recipes[name]
        assert found.image.array.tobytes() == expected.image.tobytes(), name
        assert found.variance.array.tobytes() == expected.variance.tobytes(), name
    assert by_zeropoint.get("calexp").summary_stats == by_recipes["summary"]


def test_a_characterized_image_comes_back_as_it_was(
    by_zeropoint: Outputs, by_recipes: dict[str, Any]
) -> None:
    found, expected = characterized_exposure(by_zeropoint.get("icExp")), by_recipes["icExp"]
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_array_equal(found.psf.coefficients, expected.psf.coefficients)
    assert found.psf.average_position == expected.psf.average_position
    assert found.wcs.to_text() == expected.wcs.to_text()
    assert repr(found.visit_info) == repr(expected.visit_info)  # NaN is NaN
    assert repr(found.detector) == repr(expected.detector)
    assert found.ap_corr_map.keys() == expected.ap_corr_map.keys()
    for name, field in expected.ap_corr_map.items():
        np.testing.assert_array_equal(found.ap_corr_map[name].coefficients, field.coefficients)
    assert expected.metadata.items() <= found.metadata.items()
    for name in ("icExpBackground", "calexpBackground"):
        background = background_list(by_zeropoint.get(name))
        assert len(background) == len(by_recipes[name]) > 1
        for one, other in zip(background, by_recipes[name]):
            np.testing.assert_array_equal(one.values, other.values)
            np.testing.assert_array_equal(one.image(), other.image())


@pytest.mark.slow
def test_pipetask_writes_the_same(by_zeropoint: Outputs, by_pipetask: Outputs) -> None:
    for name in TABLES:
        one, other = by_zeropoint.get(name), by_pipetask.get(name)
        for column in one.colnames:
            assert np.asarray(one[column]).tobytes() == np.asarray(other[column]).tobytes(), (name, column)
    for name in IMAGES:
        one, other = by_zeropoint.get(name), by_pipetask.get(name)
        for plane in ("image", "variance", "mask"):
            assert getattr(one, plane).array.tobytes() == getattr(other, plane).array.tobytes(), (name, plane)
        assert dict(one.metadata) == dict(other.metadata)


def test_an_image_that_fails_leaves_what_there_is_and_ends_there(by_zeropoint: Outputs) -> None:
    assert by_zeropoint.exit_code == 4
    assert by_zeropoint.written(101) == {
        "icExp", "icExpBackground", "calexp", "calexpBackground", *TABLES, *FOOTPRINTS,
    }  # fmt: skip
    assert by_zeropoint.written(102) == {"icExpBackground"}
    failure = by_zeropoint.get("characterizeImage_metadata", 102)["characterizeImage"]["failure"]
    assert failure["type"].startswith("zeropoint.tasks._errors.")


def test_the_header_has_the_cards_of_the_fit(by_zeropoint: Outputs) -> None:
    from astropy.io import fits

    ref = by_zeropoint.butler.find_dataset("calexp", instrument="SimCam", visit=101, detector=0)
    header = fits.getheader(by_zeropoint.butler.getURI(ref).ospath)
    image = by_zeropoint.get("calexp")
    for key in ("MAGZERO", "MAGZERO_RMS", "MAGZERO_NOBJ", "COLORTERM1", "COLORTERM2", "COLORTERM3"):
        assert header[key] == pytest.approx(image.metadata[key], rel=1e-12)
    assert by_zeropoint.get("calibrate_metadata")["calibrate"]["matchMeta"]["FILTER"] == "r"


def test_a_visit_of_snaps_is_refused_in_one_sentence(repository: Any) -> None:
    from zeropoint.errors import InvalidInputError

    overrides = tuple(
        ConfigOverride("calibrate", field, "simulated")
        for field in ("connections.astromRefCat", "connections.photoRefCat")
    )
    request = RunRequest(
        str(repository.path), str(PIPELINE), ("SimCam/defaults",), "u/test/pair-snaps", "visit = 103", overrides
    )  # fmt: skip
    with pytest.raises(InvalidInputError, match="visit 103 has several exposures"):
        run_pipeline(request)

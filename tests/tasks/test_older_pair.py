"""CharacterizeImageTask and CalibrateTask without a repository: connections, configuration, ``run`` and failures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import lsst.pex.config as pexConfig
import numpy as np
import pytest
from lsst.pipe.base import AlgorithmError, ScalarError, Struct

from tasks.older_pair import IDS, MakePair, Pair, configured
from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.datamodel.footprint_table import footprints_from_table
from zeropoint.errors import InvalidInputError
from zeropoint.tasks.calibrate import CalibrateConfig, CalibrateConnections, CalibrateTask
from zeropoint.tasks.characterize_image import (
    CharacterizeImageConfig,
    CharacterizeImageConnections,
    CharacterizeImageTask,
)

_VISIT = {"instrument", "visit", "detector"}

#: attribute: dataset type, storage class, dimensions; names and dimensions are Rubin's
FIRST = {
    "exposure": ("postISRCCD", "VisitImage", {"instrument", "exposure", "detector"}),
    "characterized": ("icExp", "VisitImage", _VISIT),
    "sourceCat": ("icSrc", "ArrowAstropy", _VISIT),
    "footprints": ("icSrc_footprints", "ArrowTable", _VISIT),
    "backgroundModel": ("icExpBackground", "BackgroundMap", _VISIT),
    "outputSchema": ("icSrc_schema", "ArrowSchema", set()),
}
SECOND = {
    "icSourceSchema": ("icSrc_schema", "ArrowSchema", set()),
    "exposure": ("icExp", "VisitImage", _VISIT),
    "background": ("icExpBackground", "BackgroundMap", _VISIT),
    "icSourceCat": ("icSrc", "ArrowAstropy", _VISIT),
    "astromRefCat": ("gaia_dr3_20230707", "ArrowAstropy", {"skypix"}),
    "photoRefCat": ("ps1_pv3_3pi_20170110", "ArrowAstropy", {"skypix"}),
    "outputExposure": ("calexp", "VisitImage", _VISIT),
    "outputCat": ("src", "ArrowAstropy", _VISIT),
    "footprints": ("src_footprints", "ArrowTable", _VISIT),
    "matches": ("srcMatch", "ArrowAstropy", _VISIT),
    "matchesDenormalized": ("srcMatchFull", "ArrowAstropy", _VISIT),
    "outputBackground": ("calexpBackground", "BackgroundMap", _VISIT),
    "outputSchema": ("src_schema", "ArrowSchema", set()),
}


# -- connections and configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("connections", "config", "expected"),
    [
        (CharacterizeImageConnections, CharacterizeImageConfig, FIRST),
        (CalibrateConnections, CalibrateConfig, SECOND),
    ],
)
def test_connections_are_rubins(connections: type, config: type, expected: dict[str, Any]) -> None:
    found = {
        name: (connection.name, connection.storageClass, set(getattr(connection, "dimensions", ())))
        for name, connection in connections(config=config()).allConnections.items()
    }
    assert found == expected


@pytest.mark.parametrize(
    ("overrides", "removed"),
    [
        ({"doWriteExposure": False}, {"characterized", "backgroundModel"}),
        ({"doWrite": False}, {"characterized", "backgroundModel", "sourceCat", "footprints"}),
    ],
)
def test_the_first_task_writes_what_is_wanted(overrides: dict[str, Any], removed: set[str]) -> None:
    connections = CharacterizeImageConnections(config=configured(CharacterizeImageConfig, overrides))
    assert set(FIRST) - set(connections.allConnections) == removed


def test_references_are_needed_where_the_selector_uses_matches() -> None:
    config = configured(CharacterizeImageConfig, {"measurePsf.starSelector.name": "diaCatalog"})
    connection = CharacterizeImageConnections(config=config).refCat
    assert (connection.storageClass, set(connection.dimensions)) == ("ArrowAstropy", {"skypix"})
    config.doMeasurePsf = config.doApCorr = config.doNormalizedCalibration = False
    assert not CharacterizeImageConnections(config=config).prerequisiteInputs


@pytest.mark.parametrize(
    ("overrides", "removed"),
    [
        ({"doWriteMatches": False}, {"matches"}),
        ({"doWriteMatchesDenormalized": False}, {"matchesDenormalized"}),
        ({"doAstrometry": False}, {"matches", "matchesDenormalized", "astromRefCat"}),
        ({"doPhotoCal": False}, {"photoRefCat"}),
        ({"doWriteExposure": False}, {"outputExposure", "outputBackground"}),
        ({"doWrite": False}, {
            "outputExposure", "outputBackground", "outputCat", "footprints", "matches", "matchesDenormalized",
        }),
    ],
)  # fmt: skip
def test_the_second_task_reads_and_writes_what_is_wanted(
    overrides: dict[str, Any], removed: set[str]
) -> None:
    connections = CalibrateConnections(config=configured(CalibrateConfig, overrides))
    assert set(SECOND) - set(connections.allConnections) == removed


def test_a_visit_of_two_exposures_is_refused_in_words() -> None:
    connections = CharacterizeImageConnections(config=CharacterizeImageConfig())

    refs = [SimpleNamespace(dataId={"exposure": number}) for number in (103, 104)]
    with pytest.raises(ScalarError, match=r"visit 103 has several exposures.*CalibrateImageTask"):
        connections.adjustQuantum(
            {"exposure": (connections.exposure, refs)}, {}, "characterizeImage", {"visit": 103}
        )


@pytest.mark.parametrize("task", [CharacterizeImageTask, CalibrateTask])
def test_a_dumped_configuration_loads_again(task: Any) -> None:
    config = task.ConfigClass()
    assert config.idGenerator.n_releases == 64
    again = task.ConfigClass()
    again.loadFromString(config.saveToString())
    assert again.compare(config)


def test_columns_that_cannot_be_copied_are_all_named(pair: Pair) -> None:
    config = configured(CalibrateConfig, {"icSourceFieldsToCopy": ["calib_psf_used", "a", "b"]})
    with pytest.raises(
        InvalidInputError, match=r"icSourceFieldsToCopy: .* no columns a, b; .*calib_psf_used"
    ):
        CalibrateTask(config=config, icSourceSchema=pair.first_task.outputSchema)


def test_a_bad_value_names_its_field() -> None:
    with pytest.raises(pexConfig.FieldValidationError, match="doMaskStreaks"):
        CharacterizeImageTask(config=configured(CharacterizeImageConfig, {"doMaskStreaks": True}))


# -- run ------------------------------------------------------------------------------------------------------


def test_results_have_rubins_names(pair: Pair) -> None:
    first, second = pair.first, pair.second
    assert first.exposure is first.characterized
    assert first.background is first.backgroundModel
    assert len(first.psfCellSet) > 20
    assert second.exposure is second.outputExposure
    assert second.sourceCat is second.outputCat
    assert second.background is second.outputBackground
    assert second.astromMatches is second.matchesDenormalized
    assert second.matchMeta["SMATCHV"] == 2
    assert (pair.second_task.calibSourceKey, pair.second_task.skySourceKey) == (
        "calib_detected",
        "sky_source",
    )
    assert set(pair.second_task.schemaMapper) == set(pair.second_task.config.icSourceFieldsToCopy)


def test_schemas_are_those_of_the_tables(pair: Pair) -> None:
    for task, table in ((pair.first_task, pair.first.sourceCat), (pair.second_task, pair.second.outputCat)):
        assert task.outputSchema.equals(table_to_arrow(table).schema.remove_metadata(), check_metadata=True)
        (empty,) = task.getSchemaCatalogs().values()
        assert len(empty) == 0
        assert empty.to_table().colnames == table.colnames


def test_the_image_carries_its_calibration(pair: Pair) -> None:
    image, record = pair.second.outputExposure, pair.second.record
    assert str(image.unit) == "electron"
    factor = float(image.photometric_scaling(x=1.0, y=1.0))
    assert factor == pytest.approx(record.exposure.photo_calib.calibration_mean)
    assert image.metadata["MAGZERO"] == record.exposure.metadata["MAGZERO"]
    assert image.summary_stats == record.summary
    assert set(image.aperture_corrections) == set(pair.first.exposure.aperture_corrections) != set()


def test_metadata_hold_numbers_and_cost(pair: Pair) -> None:
    first, second = pair.first_task.metadata, pair.second_task.metadata
    assert {"final_psf_sigma", "source_count", "sat_mask_fraction", "runStartUtc"} <= set(first.names())
    assert {"sky_footprint_count", "astrometry_matches_count", "photometry_matches_count"} <= set(
        second.names()
    )
    assert second["matchMeta"]["SMATCHV"] == 2
    assert list(first["stage_cpu_seconds"].to_dict())[-1] == "catalog"


def test_pixels_of_children_are_written_on_request(pair: Pair, make_pair: MakePair) -> None:
    ids, heavy = footprints_from_table(pair.second.footprints)
    np.testing.assert_array_equal(ids, pair.second.outputCat["id"])
    assert heavy.is_heavy.any()
    task = make_pair.second(pair, {"doWriteHeavyFootprintsInSources": False})
    _, bare = footprints_from_table(
        task._footprints(pair.second.record.footprints).table()  # what is written; a run takes seconds
    )
    assert not bare.is_heavy.any()
    np.testing.assert_array_equal(bare.areas(), heavy.areas())
    np.testing.assert_array_equal(bare.peak_value, heavy.peak_value)


def test_methods_of_the_older_interface(pair: Pair) -> None:
    task, record = pair.second_task, pair.second.record
    exposure = pair.simulated.exposure.copy()
    task.setMetadata(exposure, None)
    assert "MAGZERO" not in exposure.metadata
    task.setMetadata(exposure, record.photometry)
    assert exposure.metadata["MAGZERO_NOBJ"] == record.photometry.n_good
    sources = record.sources.copy()
    for name in ("calib_detected", *task.schemaMapper):
        sources[name] = False
    task.copyIcSourceFields(pair.first.sourceCat, sources)
    for name in ("calib_detected", *task.schemaMapper):
        np.testing.assert_array_equal(sources[name], record.sources[name])
    alone = CalibrateTask(config=task.config)
    assert alone.calibSourceKey is None
    with pytest.raises(InvalidInputError, match="schema"):
        alone.copyIcSourceFields(pair.first.sourceCat, sources)


def test_an_image_with_a_psf_keeps_it_if_none_is_to_be_measured(pair: Pair, make_pair: MakePair) -> None:
    off = {"doMeasurePsf": False, "doApCorr": False, "doNormalizedCalibration": False}
    result = make_pair.first(off).run(pair.copy_of_first(), pair.first.background, IDS)
    found, expected = result.record.exposure.psf, pair.first.record.exposure.psf
    np.testing.assert_array_equal(found.coefficients, expected.coefficients)
    assert len(result.sourceCat) > 20
    assert result.psfCellSet is None
    # what was subtracted before is kept, and more was subtracted
    assert len(result.record.background) > len(pair.first.record.background)


# -- failures -------------------------------------------------------------------------------------------------


def test_an_image_without_stars_leaves_its_background(make_pair: MakePair, simulated: Any) -> None:
    exposure = simulated.exposure.copy()
    rng = np.random.default_rng(5)
    exposure.image = rng.normal(600, 25, exposure.shape).astype(np.float32)
    result = Struct()
    with pytest.raises(AlgorithmError, match="source"):
        make_pair.first().run(exposure, result=result)
    assert result.backgroundModel.subtracted is not None
    assert result.characterized is result.sourceCat is result.footprints is None
    assert result.record.failure is not None


def test_a_wcs_that_is_not_good_enough_leaves_the_background(pair: Pair, make_pair: MakePair) -> None:
    task = make_pair.second(pair, {"astrometry.maxMeanDistanceArcsec": 1e-9})
    result = Struct()
    with pytest.raises(AlgorithmError):
        task.run(pair.copy_of_first(), pair.first.background, pair.first.sourceCat, IDS, result=result)
    assert result.outputExposure is result.outputCat is result.matches is None
    assert result.outputBackground.subtracted is not None


def test_astrometry_that_is_not_required_leaves_sources_without_image(
    pair: Pair, make_pair: MakePair, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = {"requireAstrometry": False, "requirePhotoCal": False}
    task = make_pair.second(pair, {"astrometry.maxMeanDistanceArcsec": 1e-9, **overrides})
    result = task.run(pair.copy_of_first(), pair.first.background, pair.first.sourceCat, IDS)
    assert result.outputExposure is None
    assert "no calibrated image" in caplog.text
    assert np.isnan(result.outputCat["coord_ra"]).all()
    assert np.isfinite(result.outputCat["base_PsfFlux_instFlux"]).any()
    assert len(task.metadata.getArray("caveats")) >= 2


def test_photometry_that_fails_leaves_the_image_without_zeropoint(pair: Pair, make_pair: MakePair) -> None:
    task = make_pair.second(pair, {"photoCal.match.referenceSelection.magLimit.maximum": 1.0,
                                   "photoCal.match.referenceSelection.doMagLimit": True,
                                   "photoCal.match.referenceSelection.magLimit.fluxField": "r_flux"})  # fmt: skip
    result = Struct()
    with pytest.raises(AlgorithmError):
        task.run(pair.copy_of_first(), pair.first.background, pair.first.sourceCat, IDS, result=result)
    image = result.outputExposure
    assert image.photometric_scaling is None
    assert image.metadata["failure.type"]
    assert "MAGZERO" not in image.metadata
    assert len(result.outputCat) == len(pair.second.outputCat)
    assert len(result.matches) == len(pair.second.matches)

"""The tasks of final characterization: detectors and visits agree, and what is missing ends as documented."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import astropy.units as u
import lsst.pipe.base as pipeBase
import numpy as np
import pytest
from astropy.table import Table, vstack
from lsst.images import Box, VisitImage
from lsst.pipe.base import InMemoryDatasetHandle

from final_scene import BAND, SHAPE, TRACT, VISIT, Scene, make_scene
from zeropoint.datamodel.exposure_catalog import ExposureCatalog
from zeropoint.datamodel.visit_image import visit_image
from zeropoint.errors import InvalidInputError
from zeropoint.psf.piff_io import from_lsst_psf, to_lsst_psf
from zeropoint.tasks.finalize_characterization import (
    ConsolidateFinalizeCharacterizationDetectorConfig,
    ConsolidateFinalizeCharacterizationDetectorTask,
    FinalizeCharacterizationConfig,
    FinalizeCharacterizationConnections,
    FinalizeCharacterizationDetectorConfig,
    FinalizeCharacterizationDetectorConnections,
    FinalizeCharacterizationDetectorTask,
    FinalizeCharacterizationTask,
)

DETECTORS = (3, 5)


@dataclass(frozen=True)
class Visit:
    """Two detectors, and the isolated stars of their tract."""

    scenes: dict[int, Scene]
    images: dict[int, VisitImage]
    stars: dict[int, Table]
    sources: dict[int, Table]

    def of(self, detector: int) -> tuple[Any, ...]:
        """Return what the task of one detector is given."""
        return (
            VISIT,
            BAND,
            detector,
            self.stars,
            self.sources,
            self.scenes[detector].table,
            self.images[detector],
        )

    def footprints(self, detector: int) -> Any:
        return self.scenes[detector].footprint_table


def image_of(scene: Scene) -> VisitImage:
    assert scene.exposure.psf is not None
    psf = to_lsst_psf(scene.exposure.psf, Box.factory[0 : SHAPE[0], 0 : SHAPE[1]])
    return visit_image(scene.exposure, psf=psf, unit=u.electron)


@pytest.fixture(scope="session")
def visit() -> Visit:
    scenes = {detector: make_scene(detector) for detector in DETECTORS}
    both = [scene.star_tables() for scene in scenes.values()]
    stars, sources = ([each[k][TRACT] for each in both] for k in (0, 1))
    n = len(stars[0])
    for name in ("source_cat_index", f"source_cat_index_{BAND}"):
        stars[1][name] += n
    stars[1]["isolated_star_id"] += 100 * n
    sources[1]["obj_index"] += n
    images = {detector: image_of(scene) for detector, scene in scenes.items()}
    return Visit(scenes, images, {TRACT: vstack(stars)}, {TRACT: vstack(sources)})


def detector_task(**fields: Any) -> FinalizeCharacterizationDetectorTask:
    config = FinalizeCharacterizationDetectorConfig()
    for name, value in fields.items():
        setattr(config, name, value)
    return FinalizeCharacterizationDetectorTask(config=config)


@pytest.fixture(scope="session")
def by_detector(visit: Visit) -> dict[int, pipeBase.Struct]:
    return {
        detector: detector_task().run(*visit.of(detector), footprints=visit.footprints(detector))
        for detector in DETECTORS
    }


@pytest.fixture(scope="session")
def consolidate() -> ConsolidateFinalizeCharacterizationDetectorTask:
    return ConsolidateFinalizeCharacterizationDetectorTask(
        config=ConsolidateFinalizeCharacterizationDetectorConfig()
    )


def same_tables(one: Table, other: Table) -> None:
    assert one.colnames == other.colnames
    for name in one.colnames:
        assert one[name].dtype == other[name].dtype, name
        assert one[name].unit == other[name].unit, name
        assert one[name].tobytes() == other[name].tobytes(), name


def test_detectors_and_visit_agree(
    visit: Visit,
    by_detector: dict[int, pipeBase.Struct],
    consolidate: ConsolidateFinalizeCharacterizationDetectorTask,
) -> None:
    task = FinalizeCharacterizationTask(config=FinalizeCharacterizationConfig())
    at_once = task.run(
        VISIT,
        BAND,
        visit.stars,
        visit.sources,
        {detector: scene.table for detector, scene in visit.scenes.items()},
        visit.images,
        footprints_dict={detector: visit.footprints(detector) for detector in DETECTORS},
    )
    joined = consolidate.run(
        # as the repository has them, and in another order
        psf_ap_corr_detector_dict={
            detector: InMemoryDatasetHandle(by_detector[detector].psf_ap_corr_cat.to_arrow())
            for detector in reversed(DETECTORS)
        },
        src_detector_table_dict={
            detector: InMemoryDatasetHandle(by_detector[detector].output_table) for detector in DETECTORS
        },
    )
    same_tables(at_once.output_table, joined.output_table)
    assert at_once.psf_ap_corr_cat.to_arrow().equals(joined.psf_ap_corr_cat.to_arrow())
    assert at_once.psf_ap_corr_cat.ids.tolist() == list(DETECTORS)
    assert at_once.output_table["detector"].tolist() == sorted(at_once.output_table["detector"])
    assert task.metadata["n_detectors_ok"] == 2
    assert task.metadata["detector_5"]["outcome"] == "ok"
    assert list(task.metadata.getArray("tracts_used")) == [TRACT]


def test_the_catalogue_gives_psf_and_corrections_back(by_detector: dict[int, pipeBase.Struct]) -> None:
    result = by_detector[3].result
    stored = ExposureCatalog.from_table(by_detector[3].psf_ap_corr_cat.to_arrow())
    row = stored.find(3)
    assert row is not None
    psf, corrections = row.getPsf(), row.getApCorrMap()
    assert psf is not None
    assert corrections is not None
    x, y = np.array([20.0, 300.0]), np.array([350.0, 40.0])
    # polynomials in another normalisation
    np.testing.assert_allclose(
        from_lsst_psf(psf).kernel_stamps(x=x, y=y), result.psf.kernel_stamps(x=x, y=y), atol=1e-12
    )
    assert set(corrections) == set(result.ap_corr_map)
    for name, field in corrections.items():
        np.testing.assert_array_equal(field.coefficients, result.ap_corr_map[name].coefficients)


def test_the_share_of_reserved_stars_is_the_configured_one(by_detector: dict[int, pipeBase.Struct]) -> None:
    reserved = sum(int(each.output_table["calib_psf_reserved"].sum()) for each in by_detector.values())
    assert reserved == int(0.1 * sum(len(each.output_table) for each in by_detector.values()))


def test_a_visit_goes_on_without_the_detectors_that_have_nothing(visit: Visit) -> None:
    empty = visit.scenes[3].table.copy()
    empty["base_GaussianFlux_flag"] = True
    task = FinalizeCharacterizationTask(config=FinalizeCharacterizationConfig())
    result = task.run(
        VISIT,
        BAND,
        visit.stars,
        visit.sources,
        {3: empty, 5: visit.scenes[5].table, 7: visit.scenes[5].table},
        visit.images,
        footprints_dict={detector: visit.footprints(detector) for detector in DETECTORS},
    )
    assert result.psf_ap_corr_cat.ids.tolist() == [5]
    assert set(result.output_table["detector"]) == {5}
    assert task.metadata["detector_3"]["outcome"] == "no_good_sources"
    assert (task.metadata["n_detectors"], task.metadata["n_detectors_kept"]) == (2, 1)


def without_sources(visit: Visit) -> Visit:
    sources = {TRACT: visit.sources[TRACT].copy()}
    sources[TRACT]["visit"] += 1
    return replace(visit, sources=sources)


def with_other_ids(visit: Visit) -> Visit:
    sources = {TRACT: visit.sources[TRACT].copy()}
    sources[TRACT]["sourceId"] += 10**6
    return replace(visit, sources=sources)


def without_the_band(visit: Visit) -> Visit:
    stars = {TRACT: visit.stars[TRACT].copy()}
    stars[TRACT][f"nsource_{BAND}"] = 0
    return replace(visit, stars=stars)


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        (without_sources, "no_isolated_sources"),
        (without_the_band, "no_isolated_sources"),
        (with_other_ids, "no_matched_sources"),
    ],
)
def test_no_work_has_its_reason(visit: Visit, change: Callable[[Visit], Visit], outcome: str) -> None:
    changed, task = change(visit), detector_task()
    with pytest.raises(pipeBase.NoWorkFound, match=f"visit {VISIT} detector 3"):
        task.run(*changed.of(3), footprints=changed.footprints(3))
    assert task.metadata["outcome"] == outcome
    at_once = FinalizeCharacterizationTask(config=FinalizeCharacterizationConfig())
    with pytest.raises(pipeBase.NoWorkFound, match=f"visit {VISIT}"):
        at_once.run(
            VISIT,
            BAND,
            changed.stars,
            changed.sources,
            {3: changed.scenes[3].table},
            changed.images,
            footprints_dict={3: changed.footprints(3)},
        )


def test_a_detector_without_a_psf_still_writes_both_outputs(visit: Visit) -> None:
    few = {TRACT: visit.sources[TRACT].copy()}
    few[TRACT]["sourceId"][2:] += 10**6
    result = detector_task().run(*replace(visit, sources=few).of(3), footprints=visit.footprints(3))
    assert len(result.output_table) == 2
    row = result.psf_ap_corr_cat.find(3)
    assert row.getPsf() is None
    assert row.getApCorrMap() is None
    assert not result.output_table["calib_psf_used"].any()


def test_a_tract_without_its_sources_is_left_out(
    visit: Visit, by_detector: dict[int, pipeBase.Struct]
) -> None:
    more = replace(visit, stars={**visit.stars, TRACT + 1: visit.stars[TRACT][:0]})
    task = detector_task()
    same_tables(
        task.run(*more.of(3), footprints=visit.footprints(3)).output_table, by_detector[3].output_table
    )
    assert task.metadata["n_tracts_given"] == 1


def test_sources_without_footprints_are_refused(visit: Visit) -> None:
    with pytest.raises(InvalidInputError, match="Sources need footprints"):
        detector_task().run(*visit.of(3))


def test_rubins_methods_give_what_theirs_give(visit: Visit, by_detector: dict[int, pipeBase.Struct]) -> None:
    task = detector_task()
    stars, sources = task.concat_isolated_star_cats(BAND, visit.stars, visit.sources, visit=VISIT, detector=3)
    assert stars is not None
    assert sources is not None
    assert sources["reserved"].sum() == by_detector[3].output_table["calib_psf_reserved"].sum()
    assert task.concat_isolated_star_cats(BAND, visit.stars, visit.sources, visit=1) == (None, None)
    psf, ap_corr_map, table = task.compute_psf_and_ap_corr_map(
        VISIT, 3, visit.images[3], visit.scenes[3].table, sources, footprints=visit.footprints(3)
    )
    assert psf is not None
    assert set(ap_corr_map or {}) == set(by_detector[3].result.ap_corr_map)
    same_tables(table, by_detector[3].output_table)  # type: ignore[arg-type]


def test_standard_stars_are_read_only_where_something_looks_at_them(visit: Visit) -> None:
    config = FinalizeCharacterizationDetectorConfig()
    names = FinalizeCharacterizationDetectorConnections(config=config).inputs
    assert "fgcm_standard_star" not in names
    config.do_add_fgcm_photometry = True
    config.fgcmPhotometryBands = [BAND]
    assert "fgcm_standard_star" in FinalizeCharacterizationDetectorConnections(config=config).inputs
    coloured = FinalizeCharacterizationConfig()
    coloured.psf_determiner["piff"].solver = "piff"
    coloured.psf_determiner["piff"].useColor = True
    assert "fgcm_standard_star" in FinalizeCharacterizationConnections(config=coloured).inputs
    stars = visit.stars[TRACT]
    standards = Table({"ra": stars["ra"], "dec": stars["dec"], f"mag_{BAND}": np.arange(len(stars)) * 0.01})
    task = FinalizeCharacterizationDetectorTask(config=config)
    table = task.run(*visit.of(3), {TRACT: standards}, footprints=visit.footprints(3)).output_table
    np.testing.assert_allclose(table[f"fgcm_mag_{BAND}"], np.arange(len(table)) * 0.01, atol=1e-6)


def test_consolidation_refuses_what_does_not_fit(
    by_detector: dict[int, pipeBase.Struct], consolidate: ConsolidateFinalizeCharacterizationDetectorTask
) -> None:
    catalogs = {detector: by_detector[detector].psf_ap_corr_cat for detector in DETECTORS}
    tables = {detector: by_detector[detector].output_table for detector in DETECTORS}
    with pytest.raises(pipeBase.NoWorkFound):
        consolidate.run(psf_ap_corr_detector_dict={}, src_detector_table_dict={})
    with pytest.raises(ValueError, match=r"\[5\]"):
        consolidate.run(psf_ap_corr_detector_dict=catalogs, src_detector_table_dict={3: tables[3]})
    other = tables[5].copy()
    other["detector"] = other["detector"].astype("i8")
    with pytest.raises(TypeError, match="detector"):
        consolidate.run(psf_ap_corr_detector_dict=catalogs, src_detector_table_dict={**tables, 5: other})

import lsst.pipe.base as pipeBase
import pytest
from astropy.table import Table

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.isolated_config import FgcmBuildFromIsolatedStarsConfig as StepConfig
from zeropoint.recipes.translate import translate_file
from zeropoint.tasks._references import survey_references
from zeropoint.tasks.fgcm_build_from_isolated_stars import (
    FgcmBuildFromIsolatedStarsConfig,
    FgcmBuildFromIsolatedStarsTask,
    _by_tract,
)

#: Connection -> dataset type, storage class, dimensions: fgcmcal's, with afw's catalogues as Arrow tables.
CONNECTIONS = {
    "camera": ("camera", "ZpCamera", {"instrument"}),
    "fgcm_lookup_table": ("fgcmLookUpTable", "ArrowAstropy", {"instrument"}),
    "ref_cat": ("cal_ref_cat", "ArrowAstropy", {"skypix"}),
    "isolated_star_cats": (
        "isolated_star_presource_associations", "ArrowAstropy", {"instrument", "tract", "skymap"},
    ),
    "isolated_star_sources": ("isolated_star_presources", "ArrowAstropy", {"instrument", "tract", "skymap"}),
    "visit_summaries": ("visitSummary", "ArrowTable", {"instrument", "visit"}),
    "fgcm_visit_catalog": ("fgcmVisitCatalog", "ArrowAstropy", {"instrument"}),
    "fgcm_star_observations": ("fgcm_star_observations", "ArrowAstropy", {"instrument"}),
    "fgcm_star_ids": ("fgcm_star_ids", "ArrowAstropy", {"instrument"}),
    "fgcm_reference_stars": ("fgcm_reference_stars", "ArrowAstropy", {"instrument"}),
}  # fmt: skip
OF_REFERENCES = {"fgcm_lookup_table", "ref_cat", "fgcm_reference_stars"}


def connections(config):
    return config.connections.ConnectionsClass(config=config)


def config(**settings):
    made = FgcmBuildFromIsolatedStarsConfig()
    made.update(**settings)
    return made


def test_the_datasets_are_those_of_the_reference():
    found = connections(config())
    assert {
        name: (each.name, each.storageClass, set(each.dimensions))
        for name, each in found.allConnections.items()
    } == CONNECTIONS
    assert set(found.prerequisiteInputs) == {"camera", "fgcm_lookup_table", "ref_cat"}
    assert set(found.getSpatialBoundsConnections()) == {"isolated_star_cats", "visit_summaries"}
    without = connections(config(doReferenceMatches=False))
    assert set(without.allConnections) == set(CONNECTIONS) - OF_REFERENCES


def test_the_task_has_the_fields_and_defaults_of_the_step():
    assert FgcmBuildFromIsolatedStarsTask._DefaultName == "fgcmBuildFromIsolatedStars"
    assert not FgcmBuildFromIsolatedStarsTask.canMultiprocess
    task, step = config().toDict(), StepConfig().toDict()
    for name in ("connections", "saveLogOutput"):
        del task[name]
    assert str(sorted(task.items())) == str(sorted(step.items()))


def test_tracts_without_one_of_their_tables_are_named():
    task = FgcmBuildFromIsolatedStarsTask(config=config(doReferenceMatches=False))
    with pytest.raises(InvalidInputError, match="missing for tract 7, 9"):
        task.run(
            visit_summary_handle_dict={},
            isolated_star_cat_handle_dict={7: Table(), 8: Table()},
            isolated_star_source_handle_dict={8: Table(), 9: Table()},
        )
    with pytest.raises(pipeBase.NoWorkFound, match="No tract"):
        task.run(
            visit_summary_handle_dict={},
            isolated_star_cat_handle_dict={},
            isolated_star_source_handle_dict={},
        )


def test_tracts_of_two_sky_maps_are_refused():
    handles = [
        pipeBase.InMemoryDatasetHandle(Table(), dataId={"instrument": "C", "tract": 7, "skymap": name})
        for name in ("rings", "cells")
    ]
    assert _by_tract(handles[:1]) == {7: handles[0]}
    with pytest.raises(InvalidInputError, match=r"several sky maps \(cells, rings\)"):
        _by_tract(handles)


def test_a_reference_catalogue_elsewhere_is_an_error_of_the_algorithm():
    settings = config()
    settings.connections.ref_cat = "my_refs"
    settings.fgcmLoadReferenceCatalog.filterMap = {"f": "r"}
    settings.fgcmLoadReferenceCatalog.applyColorTerms = False
    task = FgcmBuildFromIsolatedStarsTask(config=settings)
    with pytest.raises(pipeBase.AlgorithmError, match="No shard of the reference catalogue my_refs"):
        task.run(
            visit_summary_handle_dict={},
            isolated_star_cat_handle_dict={7: Table()},
            isolated_star_source_handle_dict={7: Table()},
            lookup_table_handle=object(),
        )


def test_shards_without_a_region_are_all_read():
    table = Table({"coord_ra": [0.1, 0.2], "coord_dec": [0.0, 0.0], "id": [1, 2], "r_flux": [1.0, 2.0]})
    table["coord_ra"].unit = table["coord_dec"].unit = "rad"
    loader = survey_references("refs", [pipeBase.InMemoryDatasetHandle(table)])
    assert loader.rows_in_circle(ra=0.2, dec=0.0, radius=0.01)["id"].tolist() == [2]


COLOR_TERMS = """\
from lsst.pipe.tasks.colorterms import Colorterm, ColortermDict

config.data = {"ps1*": ColortermDict(data={"C-g": Colorterm(primary="g", secondary="r", c0=0.01, c1=0.06, c2=-0.02)})}
"""
SETTINGS = """\
import os
from lsst.fgcmcal.fgcmLoadReferenceCatalog import FgcmLoadReferenceCatalogTask

here = os.path.dirname(__file__)
config.minPerBand = 2
config.primaryBands = ["i", "g"]
config.connections.ref_cat = "ps1_pv3_3pi_20170110"
config.physicalFilterMap = {"C-g": "g", "C-i": "i"}
config.fgcmLoadReferenceCatalog.retarget(FgcmLoadReferenceCatalogTask)
config.fgcmLoadReferenceCatalog.filterMap = {"C-g": "g"}
config.fgcmLoadReferenceCatalog.colorterms.load(os.path.join(here, "colorterms.py"))
config.fgcmLoadReferenceCatalog.referenceSelector.doSignalToNoise = True
config.fgcmLoadReferenceCatalog.referenceSelector.signalToNoise.fluxField = "i_flux"
config.fgcmLoadReferenceCatalog.referenceSelector.signalToNoise.errField = "i_fluxErr"
config.fgcmLoadReferenceCatalog.referenceSelector.signalToNoise.minimum = 10.0
config.sourceSelector["science"].signalToNoise.minimum = 11.0
"""


def test_files_in_the_manner_of_hscs_apply_after_translation(tmp_path):
    (tmp_path / "colorterms.py").write_text(COLOR_TERMS)
    (tmp_path / "fgcm.py").write_text(SETTINGS)
    translated = translate_file(tmp_path / "fgcm.py", config())
    assert [member.dropped for member in translated.family()] == [[], []]
    for member in translated.family():
        member.path.write_text(member.text)
    made = config()
    made.load(str(tmp_path / "fgcm.py"))
    made.validate()
    references = made.fgcmLoadReferenceCatalog
    assert references.colorterms.getColorterm("C-g", "ps1_pv3_3pi_20170110").c2 == -0.02
    assert references.referenceSelector.signalToNoise.minimum == 10.0
    assert made.sourceSelector.active.signalToNoise.minimum == 11.0

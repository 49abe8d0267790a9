"""IsolatedStarAssociationTask: what it connects to, and that handles give what tables give."""

import lsst.pipe.base as pipeBase
import numpy as np
import pytest

from association.make import association, sky_map, survey
from zeropoint.errors import InvalidInputError
from zeropoint.tasks.isolated_star_association import (
    IsolatedStarAssociationConfig,
    IsolatedStarAssociationConnections,
    IsolatedStarAssociationTask,
)


@pytest.fixture
def tables(rng):
    ra, dec = 150.0 + rng.uniform(-0.02, 0.02, 30), 2.0 + rng.uniform(-0.02, 0.02, 30)
    return survey(ra, dec, "irr", rng)


def test_connections_are_rubins():
    config = IsolatedStarAssociationConfig()
    connections = IsolatedStarAssociationConnections(config=config)
    assert connections.dimensions == {"instrument", "tract", "skymap"}
    names = {name: getattr(connections, name).name for name in connections.allConnections}
    assert (
        names.items()
        >= {
            "source_table_visit": "preSourceTable_visit",
            "skymap": "skyMap",
            "isolated_star_sources": "isolated_star_presources",
            "isolated_star_cat": "isolated_star_presource_associations",
        }.items()
    )
    assert connections.source_table_visit.deferLoad
    assert IsolatedStarAssociationTask._DefaultName == "isolatedStarAssociation"


def test_handles_give_the_tables_of_the_step_and_numbers_go_into_the_metadata(tables):
    task = IsolatedStarAssociationTask(config=IsolatedStarAssociationConfig())
    handles = {
        visit: pipeBase.InMemoryDatasetHandle(table, storageClass="ArrowAstropy", visit=visit)
        for visit, table in tables.items()
    }
    result = task.run(sky_map(), 0, handles)
    expected = association().run(tables, sky_map(), 0)
    for table, other in [(result.star_cat, expected.stars), (result.star_source_cat, expected.sources)]:
        assert table.meta == other.meta
        for name in other.colnames:
            assert table[name].dtype == other[name].dtype
            np.testing.assert_array_equal(table[name], other[name])
    assert task.metadata["counts"]["n_visits"] == 3
    assert task.metadata["counts"]["n_stars"] == len(result.star_cat)
    assert task.metadata["rejected"]["flags"] == 0


def test_no_visit_is_no_work_and_a_wrong_tract_is_said(tables):
    task = IsolatedStarAssociationTask(config=IsolatedStarAssociationConfig())
    with pytest.raises(pipeBase.NoWorkFound, match="overlaps tract 0"):
        task.run(sky_map(), 0, {})
    with pytest.raises(InvalidInputError, match="there is no tract 7"):
        task.run(sky_map(), 7, tables)


def test_a_tract_without_isolated_stars_has_empty_tables_and_a_warning(tables, caplog):
    for table in tables.values():
        table["centroid_flag"] = True
    task = IsolatedStarAssociationTask(config=IsolatedStarAssociationConfig())
    with caplog.at_level("WARNING"):
        result = task.run(sky_map(), 0, tables)
    assert len(result.star_cat) == len(result.star_source_cat) == 0
    assert "of 90 sources 0 were selected" in caplog.text

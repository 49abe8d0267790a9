"""IsolatedStarAssociationTask: the sources of all visits of a tract in; its isolated stars and their sources out.

The work is done by `zeropoint.association`; ``docs/datasets.md`` lists the datasets, ``docs/isolated_stars.md`` the
columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
from lsst.daf.butler import DeferredDatasetHandle
from lsst.utils.timer import timeMethod

from zeropoint.association import IsolatedStarAssociation
from zeropoint.association import IsolatedStarAssociationConfig as StepConfig
from zeropoint.association.tables import AnyTable
from zeropoint.datamodel.skymap import SkyMap
from zeropoint.errors import InvalidInputError
from zeropoint.tasks._tables import HandleTable, is_handle, stored

__all__ = [
    "IsolatedStarAssociationConfig",
    "IsolatedStarAssociationConnections",
    "IsolatedStarAssociationTask",
]

_TRACT = ("instrument", "tract", "skymap")


class IsolatedStarAssociationConnections(  # type: ignore[call-arg]  # a metaclass takes the dimensions
    pipeBase.PipelineTaskConnections, dimensions=_TRACT
):
    """Datasets of IsolatedStarAssociationTask, under Rubin's names."""

    source_table_visit = cT.Input(
        doc="Standardised table of each visit's sources.",
        name="preSourceTable_visit",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
        deferLoad=True,
        multiple=True,
    )
    skymap = cT.Input(
        doc="Sky map that the tract is of.", name="skyMap", storageClass="ZpSkyMap", dimensions=("skymap",)
    )
    isolated_star_sources = cT.Output(
        doc="Sources of the isolated stars, star by star.",
        name="isolated_star_presources",
        storageClass="ArrowAstropy",
        dimensions=_TRACT,
    )
    isolated_star_cat = cT.Output(
        doc="Isolated stars.",
        name="isolated_star_presource_associations",
        storageClass="ArrowAstropy",
        dimensions=_TRACT,
    )


class IsolatedStarAssociationConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    pipeBase.PipelineTaskConfig, StepConfig, pipelineConnections=IsolatedStarAssociationConnections
):
    """Configuration of `IsolatedStarAssociationTask`: that of the step."""


class IsolatedStarAssociationTask(pipeBase.PipelineTask):
    """Associate the sources of a tract's visits with isolated stars."""

    ConfigClass = IsolatedStarAssociationConfig
    _DefaultName = "isolatedStarAssociation"
    config: IsolatedStarAssociationConfig

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Associate the sources of one tract, and write the tables."""
        inputs = butlerQC.get(inputRefs)
        handles = {int(handle.dataId["visit"]): handle for handle in inputs["source_table_visit"]}
        result = self.run(inputs["skymap"], int(butlerQC.quantum.dataId["tract"]), handles)
        outputs = pipeBase.Struct(
            isolated_star_sources=result.star_source_cat, isolated_star_cat=result.star_cat
        )
        butlerQC.put(stored(outputs), outputRefs)

    @timeMethod
    def run(
        self,
        skymap: SkyMap,
        tract: int,
        source_table_handle_dict: Mapping[int, DeferredDatasetHandle | AnyTable],
    ) -> pipeBase.Struct:
        """Associate the sources of a tract.

        Parameters
        ----------
        skymap
            Sky map.
        tract
            Number of the tract in it.
        source_table_handle_dict
            Visit -> handle of its table, or the table itself. One is read at a time, and of it only what is needed.

        Returns
        -------
        result : lsst.pipe.base.Struct
            ``star_source_cat``: the sources; ``star_cat``: the stars; both without rows where no source is selected
            or no star is alone.

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            If there is no table.
        zeropoint.errors.InvalidInputError
            If a table cannot be used, or the sky map has no such tract.
        """
        if not source_table_handle_dict:
            raise pipeBase.NoWorkFound(f"No visit with a table of sources overlaps tract {tract}.")
        if not 0 <= tract < len(skymap):
            raise InvalidInputError(
                f"The sky map has tracts 0 to {len(skymap) - 1}; there is no tract {tract}."
            )
        tables: dict[int, Any] = {
            visit: HandleTable(table) if is_handle(table) else table
            for visit, table in source_table_handle_dict.items()
        }
        result = IsolatedStarAssociation(self.config).run(tables, skymap, tract)
        self.metadata["counts"] = dict(result.counts)
        self.metadata["rejected"] = dict(result.rejected)
        if result.note:
            self.metadata["note"] = result.note  # `zeropoint run` shows it in its report
        if len(result.stars) == 0:
            self.log.warning(
                "Tract %d has no isolated stars: of %d sources %d were selected, %d of these lie on the tract.",
                tract,
                *(result.counts[name] for name in ("n_read", "n_selected", "n_on_tract")),
            )
        return pipeBase.Struct(star_source_cat=result.sources, star_cat=result.stars)

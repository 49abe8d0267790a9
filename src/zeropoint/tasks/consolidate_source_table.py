"""ConsolidateSourceTableTask: the standardised sources of all detectors of a visit in one table.

The work is done by `zeropoint.catalogs.table_stack`; ``docs/datasets.md`` lists the datasets.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
from lsst.daf.butler import DeferredDatasetHandle
from lsst.utils.timer import timeMethod

from zeropoint.catalogs.table_stack import StackInput, stack_tables
from zeropoint.tasks._tables import read_table, stored

__all__ = ["ConsolidateSourceTableConfig", "ConsolidateSourceTableConnections", "ConsolidateSourceTableTask"]


class ConsolidateSourceTableConnections(  # type: ignore[call-arg]  # a metaclass takes the dimensions
    pipeBase.PipelineTaskConnections,
    dimensions=("instrument", "visit"),
    defaultTemplates={"catalogType": ""},
):
    """Datasets of ConsolidateSourceTableTask, under Rubin's names."""

    inputCatalogs = cT.Input(
        doc="Standardised table of each detector's sources.",
        name="{catalogType}sourceTable",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit", "detector"),
        multiple=True,
        deferLoad=True,
    )
    outputCatalog = cT.Output(
        doc="Sources of all detectors, in the order of the detectors.",
        name="{catalogType}sourceTable_visit",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
    )


class ConsolidateSourceTableConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    pipeBase.PipelineTaskConfig, pipelineConnections=ConsolidateSourceTableConnections
):
    """Nothing to configure."""


class ConsolidateSourceTableTask(pipeBase.PipelineTask):
    """Stack the source tables of a visit's detectors."""

    ConfigClass = ConsolidateSourceTableConfig
    _DefaultName = "consolidateSourceTable"
    config: ConsolidateSourceTableConfig

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Stack the tables of one quantum and write the result."""
        butlerQC.put(stored(self.run(**butlerQC.get(inputRefs))), outputRefs)

    @timeMethod
    def run(self, *, inputCatalogs: Sequence[DeferredDatasetHandle]) -> pipeBase.Struct:
        """Return the sources of a visit.

        Parameters
        ----------
        inputCatalogs
            Handles of the detectors' tables, in any order.

        Returns
        -------
        result : lsst.pipe.base.Struct
            ``outputCatalog``: their rows, by detector.

        Raises
        ------
        zeropoint.errors.MismatchedTablesError
            If columns or their dtypes differ between detectors; also a TypeError.
        lsst.pipe.base.NoWorkFound
            If there is no table.
        """
        if not inputCatalogs:
            raise pipeBase.NoWorkFound("No detector has a table of sources.")
        handles = sorted(inputCatalogs, key=lambda handle: int(handle.dataId["detector"]))
        table = stack_tables(
            [
                StackInput(
                    f"visit {handle.dataId['visit']} detector {handle.dataId['detector']}",
                    int(handle.get(component="rowcount")),
                    partial(read_table, handle),
                )
                for handle in handles
            ]
        )
        self.metadata["n_detectors"] = len(handles)
        self.metadata["n_sources"] = len(table)
        return pipeBase.Struct(outputCatalog=table)

"""WriteSourceTableTask: the sources of a detector as a flat table that says where they were seen.

The work is done by `zeropoint.catalogs.source_table`; ``docs/datasets.md`` lists the datasets.
"""

from __future__ import annotations

import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
from astropy.table import Table
from lsst.daf.butler import DeferredDatasetHandle
from lsst.utils.timer import timeMethod

from zeropoint.catalogs.source_table import flat_source_table
from zeropoint.tasks._tables import read_table, stored

__all__ = ["WriteSourceTableConfig", "WriteSourceTableConnections", "WriteSourceTableTask"]

_DETECTOR = ("instrument", "visit", "detector")


class WriteSourceTableConnections(  # type: ignore[call-arg]  # a metaclass takes the dimensions
    pipeBase.PipelineTaskConnections, dimensions=_DETECTOR, defaultTemplates={"catalogType": ""}
):
    """Datasets of WriteSourceTableTask, under Rubin's names."""

    catalog = cT.Input(
        doc="Sources as measurement writes them.",
        name="{catalogType}src",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
        deferLoad=True,
    )
    outputCatalog = cT.Output(
        doc="The same with visit and detector.",
        name="{catalogType}source",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
    )


class WriteSourceTableConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    pipeBase.PipelineTaskConfig, pipelineConnections=WriteSourceTableConnections
):
    """Nothing to configure."""


class WriteSourceTableTask(pipeBase.PipelineTask):
    """Add visit and detector to a detector's sources."""

    ConfigClass = WriteSourceTableConfig
    _DefaultName = "writeSourceTable"
    config: WriteSourceTableConfig

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Read the sources of one quantum, `run`, and write the table."""
        data_id = butlerQC.quantum.dataId
        inputs = butlerQC.get(inputRefs)
        result = self.run(**inputs, visit=int(data_id["visit"]), detector=int(data_id["detector"]))
        butlerQC.put(stored(result), outputRefs)

    @timeMethod
    def run(self, *, catalog: Table | DeferredDatasetHandle, visit: int, detector: int) -> pipeBase.Struct:
        """Return the flat table of a detector's sources.

        Parameters
        ----------
        catalog
            Sources, or a handle of them.
        visit, detector
            Where they were seen.

        Returns
        -------
        result : lsst.pipe.base.Struct
            ``outputCatalog``: the table, with ``visit`` (int64) and ``detector`` (int16).
        """
        table = flat_source_table(read_table(catalog), visit=visit, detector=detector)
        self.metadata["n_sources"] = len(table)
        return pipeBase.Struct(outputCatalog=table)

"""WriteRecalibratedSourceTableTask: a detector's sources with the final WCS and photometric calibration.

The work is done by `zeropoint.recipes.recalibrate_sources`; ``docs/datasets.md`` lists the datasets.
"""

from __future__ import annotations

import logging

import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
import pyarrow as pa
from astropy.table import Table
from lsst.daf.butler import DeferredDatasetHandle
from lsst.utils.timer import timeMethod

from zeropoint.datamodel.exposure_catalog import ExposureCatalog
from zeropoint.recipes.recalibrate_sources import RecalibrateSources, RecalibrateSourcesConfig
from zeropoint.tasks._tables import read_table, stored

__all__ = [
    "WriteRecalibratedSourceTableConfig",
    "WriteRecalibratedSourceTableConnections",
    "WriteRecalibratedSourceTableTask",
]

_LOG = logging.getLogger(__name__)
_DETECTOR = ("instrument", "visit", "detector")


class WriteRecalibratedSourceTableConnections(  # type: ignore[call-arg]  # a metaclass takes the dimensions
    pipeBase.PipelineTaskConnections, dimensions=_DETECTOR, defaultTemplates={"catalogType": ""}
):
    """Datasets of WriteRecalibratedSourceTableTask, under Rubin's names."""

    catalog = cT.Input(
        doc="Sources as measurement writes them.",
        name="{catalogType}src",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
        deferLoad=True,
        deferGraphConstraint=True,
    )
    visitSummary = cT.Input(
        doc="Final calibrations of each detector of the visit.",
        name="finalVisitSummary",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
        deferLoad=True,
    )
    outputCatalog = cT.Output(
        doc="Sources with these calibrations, visit and detector.",
        name="{catalogType}source",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
    )


class WriteRecalibratedSourceTableConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    pipeBase.PipelineTaskConfig,
    RecalibrateSourcesConfig,
    pipelineConnections=WriteRecalibratedSourceTableConnections,
):
    """What is evaluated anew."""


class WriteRecalibratedSourceTableTask(pipeBase.PipelineTask):
    """Evaluate coordinates and local calibrations of a detector's sources with the visit summary."""

    ConfigClass = WriteRecalibratedSourceTableConfig
    _DefaultName = "writeRecalibratedSourceTable"
    config: WriteRecalibratedSourceTableConfig

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.recipe = RecalibrateSources(self.config)

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Read the inputs of one quantum, `run`, and write the table."""
        inputs = butlerQC.get(inputRefs)
        detector = int(butlerQC.quantum.dataId["detector"])
        summary = inputs.pop("visitSummary").get(storageClass="ArrowTable")
        butlerQC.put(stored(self.run(**inputs, visitSummary=summary, detector=detector)), outputRefs)

    @timeMethod
    def run(
        self,
        *,
        catalog: Table | DeferredDatasetHandle,
        visitSummary: ExposureCatalog | Table | pa.Table,
        detector: int,
    ) -> pipeBase.Struct:
        """Return a detector's sources with the calibrations of the visit summary.

        Parameters
        ----------
        catalog
            Sources, or a handle of them.
        visitSummary
            Calibrations of the detectors of the visit.
        detector
            Which one.

        Returns
        -------
        result : lsst.pipe.base.Struct
            ``outputCatalog``: the table.  What the summary lacks is NaN and flagged, and a caveat in the metadata.

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            If the summary has no row of this detector.
        """
        summary = (
            visitSummary
            if isinstance(visitSummary, ExposureCatalog)
            else ExposureCatalog.from_table(visitSummary)
        )
        row = summary.find(detector)
        if row is None:
            raise pipeBase.NoWorkFound(f"The visit summary has no row of detector {detector}.")
        result = self.recipe.run(read_table(catalog), row)
        lacking = [
            name
            for name, present in (("WCS", result.has_wcs), ("photoCalib", result.has_photo_calib))
            if not present
        ]
        if lacking:
            caveat = f"Detector {detector} has no {' and no '.join(lacking)} in the visit summary."
            _LOG.warning("%s What depends on it is NaN and flagged.", caveat)
            self.metadata["caveats"] = [caveat]
        self.metadata["n_sources"] = len(result.table)
        return pipeBase.Struct(outputCatalog=result.table)

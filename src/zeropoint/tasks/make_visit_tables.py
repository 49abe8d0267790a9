"""MakeCcdVisitTableTask and MakeVisitTableTask: tables of all visits from their summaries.

The work is done by `zeropoint.recipes.visit_tables`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
from lsst.utils.timer import timeMethod

from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.datamodel.exposure_catalog import COMPONENTS, ExposureCatalog
from zeropoint.datamodel.ids import CatalogIdGenerator

# a module's names are known to config overrides, where those of its functions mean dataset types
from zeropoint.recipes import visit_tables
from zeropoint.tasks._tables import HandleTable
from zeropoint.tasks.ids import DetectorVisitIdGeneratorConfig

__all__ = [
    "MakeCcdVisitTableConfig",
    "MakeCcdVisitTableConnections",
    "MakeCcdVisitTableTask",
    "MakeVisitTableConfig",
    "MakeVisitTableConnections",
    "MakeVisitTableTask",
]


def _summaries(name: str = "finalVisitSummary") -> cT.Input:
    return cT.Input(
        doc="Visit summaries.",
        name=name,
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
        multiple=True,
        deferLoad=True,
    )


class MakeCcdVisitTableConnections(  # type: ignore[call-arg]  # a metaclass takes the dimensions
    pipeBase.PipelineTaskConnections, dimensions=("instrument",), defaultTemplates={"calexpType": ""}
):
    """Datasets of MakeCcdVisitTableTask, under Rubin's names."""

    visitSummaryRefs = _summaries()
    outputCatalog = cT.Output(
        doc="Table with one row per visit and detector.",
        name="ccdVisitTable",
        storageClass="ArrowAstropy",
        dimensions=("instrument",),
    )


class MakeCcdVisitTableConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    pipeBase.PipelineTaskConfig, pipelineConnections=MakeCcdVisitTableConnections
):
    """Configuration of `MakeCcdVisitTableTask`."""

    idGenerator = DetectorVisitIdGeneratorConfig.make_field()


class MakeCcdVisitTableTask(pipeBase.PipelineTask):
    """Make a table of all detectors of all visits.

    Parameters
    ----------
    **kwargs
        As for `lsst.pipe.base.PipelineTask`.
    """

    ConfigClass = MakeCcdVisitTableConfig
    _DefaultName = "makeCcdVisitTable"
    config: MakeCcdVisitTableConfig

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Read the summaries one after the other, `run`, and write the table."""
        handles = butlerQC.get(inputRefs)["visitSummaryRefs"]
        generators = (self.config.idGenerator.apply(handle.dataId, detector=0) for handle in handles)
        butlerQC.put(self.run(zip(_read(handles), generators)), outputRefs)

    @timeMethod
    def run(self, summaries: Iterable[tuple[ExposureCatalog, CatalogIdGenerator]]) -> pipeBase.Struct:
        """Make the table.

        Parameters
        ----------
        summaries
            Visit summaries, and for each the ids of one of its detectors.

        Returns
        -------
        result : lsst.pipe.base.Struct
            ``outputCatalog`` (`pyarrow.Table`).

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            If no summary has a row.
        """
        return _result(visit_tables.visit_detector_table(summaries))


class MakeVisitTableConnections(  # type: ignore[call-arg]  # a metaclass takes the dimensions
    pipeBase.PipelineTaskConnections, dimensions=("instrument",), defaultTemplates={"calexpType": ""}
):
    """Datasets of MakeVisitTableTask, under Rubin's names."""

    visitSummaries = _summaries()
    outputCatalog = cT.Output(
        doc="Table with one row per visit.",
        name="visitTable",
        storageClass="ArrowAstropy",
        dimensions=("instrument",),
    )


class MakeVisitTableConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    pipeBase.PipelineTaskConfig, pipelineConnections=MakeVisitTableConnections
):
    """Configuration of `MakeVisitTableTask`."""


class MakeVisitTableTask(pipeBase.PipelineTask):
    """Make a table of all visits.

    Parameters
    ----------
    **kwargs
        As for `lsst.pipe.base.PipelineTask`.
    """

    ConfigClass = MakeVisitTableConfig
    _DefaultName = "makeVisitTable"

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Read the summaries one after the other, `run`, and write the table."""
        handles = butlerQC.get(inputRefs)["visitSummaries"]
        butlerQC.put(self.run(_read(handles, visit_tables.VISIT_COLUMNS)), outputRefs)

    @timeMethod
    def run(self, visitSummaries: Iterable[ExposureCatalog]) -> pipeBase.Struct:
        """Make the table.

        Parameters
        ----------
        visitSummaries
            Visit summaries.

        Returns
        -------
        result : lsst.pipe.base.Struct
            ``outputCatalog`` (`pyarrow.Table`).

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            If no summary has a row.
        """
        return _result(visit_tables.visit_table(visitSummaries))


def _read(handles: Iterable[Any], columns: Collection[str] | None = None) -> Iterator[ExposureCatalog]:
    """Read summaries: these columns, or all but their components, which are nearly all of them."""
    for handle in handles:
        table = HandleTable(handle)
        names = [name for name in table.column_names if name == "visitInfo" or name not in COMPONENTS]
        wanted = [name for name in names if columns is None or name in columns]
        yield ExposureCatalog.from_table(table.read(wanted))


def _result(table: Any) -> pipeBase.Struct:
    if len(table) == 0:
        raise pipeBase.NoWorkFound("No visit summary has a row.")
    return pipeBase.Struct(outputCatalog=table_to_arrow(table))

"""TransformSourceTableTask: a detector's sources under the names, units and precisions of the Science Data Model.

The work is done by `zeropoint.catalogs.source_table`; ``docs/visit_tables.md`` describes columns and functor files.
"""

from __future__ import annotations

from collections.abc import Mapping

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
from astropy.table import Table
from lsst.daf.butler import DeferredDatasetHandle
from lsst.utils.timer import timeMethod

from zeropoint.catalogs.functor_file import FunctorFile
from zeropoint.catalogs.source_table import transform_source_table
from zeropoint.errors import InvalidInputError
from zeropoint.tasks._tables import column_names, read_table, stored

__all__ = ["TransformSourceTableConfig", "TransformSourceTableConnections", "TransformSourceTableTask"]

_DETECTOR = ("instrument", "visit", "detector")


class TransformSourceTableConnections(  # type: ignore[call-arg]  # a metaclass takes the dimensions
    pipeBase.PipelineTaskConnections, dimensions=_DETECTOR, defaultTemplates={"catalogType": ""}
):
    """Datasets of TransformSourceTableTask, under Rubin's names."""

    inputCatalog = cT.Input(
        doc="Flat table of a detector's sources.",
        name="{catalogType}source",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
        deferLoad=True,
    )
    outputCatalog = cT.Output(
        doc="Standardised table of a detector's sources.",
        name="{catalogType}sourceTable",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
    )


class TransformSourceTableConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    pipeBase.PipelineTaskConfig, pipelineConnections=TransformSourceTableConnections
):
    """Which columns there are, and what they are made of."""

    functorFile = pexConfig.Field[str](
        doc="Functor file: a path, resource://<package>/<path>, or $PIPE_TASKS_DIR/schemas/<name> for one of those "
        "that come with this package (Source, PreSource, initial_stars_detector_standardized).",
        default="resource://zeropoint.catalogs/schemas/Source.yaml",
    )
    primaryKey = pexConfig.Field[str](
        doc="Column that comes first; None: as the file has them.", default="sourceId", optional=True
    )
    columnsFromDataId = pexConfig.ListField[str](
        doc="Dimensions that become columns.",
        default=["visit", "detector", "band", "physical_filter"],
        optional=True,
    )

    extra_columns = pexConfig.ListField[str](
        doc="Further columns of the input, copied as those are that the file lists under flags.", default=[]
    )

    def validate(self) -> None:
        """Read the functor file, so that a wrong one is found before work starts."""
        super().validate()
        try:
            FunctorFile.read(self.functorFile, extra_columns=list(self.extra_columns))
        except InvalidInputError as error:
            raise pexConfig.FieldValidationError(type(self).functorFile, self, str(error)) from None


class TransformSourceTableTask(pipeBase.PipelineTask):
    """Standardise the sources of a detector.

    Attributes
    ----------
    functors : zeropoint.catalogs.functor_file.FunctorFile
        The columns.
    """

    ConfigClass = TransformSourceTableConfig
    _DefaultName = "transformSourceTable"
    config: TransformSourceTableConfig

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.functors = FunctorFile.read(
            self.config.functorFile, extra_columns=list(self.config.extra_columns)
        )

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Read the columns of one quantum that are needed, `run`, and write the table."""
        data_id = butlerQC.quantum.dataId
        values = {name: data_id[name] for name in data_id.dimensions.names}
        result = self.run(butlerQC.get(inputRefs)["inputCatalog"], dataId=values)
        butlerQC.put(stored(result), outputRefs)

    @timeMethod
    def run(
        self,
        handle: Table | DeferredDatasetHandle,
        funcs: FunctorFile | None = None,
        dataId: Mapping[str, int | str] | None = None,
    ) -> pipeBase.Struct:
        """Return the standardised table of a detector's sources.

        Parameters
        ----------
        handle
            Sources, or a handle of them; only the columns needed are read.
        funcs
            The columns; default: those of the configuration.
        dataId
            Values of the dimensions that become columns.

        Returns
        -------
        result : lsst.pipe.base.Struct
            ``outputCatalog``: the table.

        Raises
        ------
        lsst.pipe.base.UpstreamFailureNoWorkFound
            If there is no source.
        zeropoint.errors.InvalidInputError
            If a column that is not optional is missing.
        """
        functors = self.functors if funcs is None else funcs
        needed = functors.available(column_names(handle)).inputs
        result = transform_source_table(
            read_table(handle, needed),
            functors,
            data_id=dataId or {},
            columns_from_data_id=tuple(self.config.columnsFromDataId or ()),
            primary_key=self.config.primaryKey,
        )
        self.metadata["n_sources"] = len(result.table)
        if result.left_out:
            self.metadata["columns_left_out"] = list(result.left_out)
        if len(result.table) == 0:
            raise pipeBase.UpstreamFailureNoWorkFound("There is no source to transform.")
        return pipeBase.Struct(outputCatalog=result.table)

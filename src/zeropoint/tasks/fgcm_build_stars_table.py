"""FgcmBuildStarsTableTask: tables of sources and visit summaries of a survey in; its star list out.

The work is done by `zeropoint.recipes.fgcm_build_stars`; ``docs/datasets.md`` lists the datasets, ``docs/star_list.md`` the
columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
from lsst.daf.butler import Butler, DatasetType
from lsst.images.cameras import CameraFrameSet
from lsst.utils.timer import timeMethod

from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.errors import CalibrationFailure
from zeropoint.fgcm.build_stars_config import FgcmBuildStarsTableConfig as StepConfig
from zeropoint.fgcm.observations import BYTES_PER_OBSERVATION
from zeropoint.fgcm.visits import sentence_on
from zeropoint.recipes.fgcm_build_stars import FgcmBuildStars, SurveyStars
from zeropoint.tasks._errors import algorithm_error
from zeropoint.tasks._fgcm import (
    INSTRUMENT,
    camera_model,
    handle_table,
    look_up_table,
    reference_input,
    report,
    struct_of,
    summaries_of_visits,
    survey_table,
)
from zeropoint.tasks._progress import step_progress
from zeropoint.tasks._references import reference_catalog
from zeropoint.tasks._tables import stored

__all__ = ["FgcmBuildStarsTableConfig", "FgcmBuildStarsTableConnections", "FgcmBuildStarsTableTask"]


class FgcmBuildStarsTableConnections(  # type: ignore[call-arg]  # a metaclass takes the dimensions
    pipeBase.PipelineTaskConnections, dimensions=INSTRUMENT
):
    """Datasets of FgcmBuildStarsTableTask, under Rubin's names."""

    camera = camera_model()
    fgcmLookUpTable = look_up_table()
    sourceSchema = cT.InitInput(
        doc="Schema of the sources; not read, as the tables themselves say which columns they have.",
        name="src_schema",
        storageClass="ArrowSchema",
    )
    refCat = reference_catalog("Reference catalogue.", "cal_ref_cat")
    sourceTable_visit = cT.Input(
        doc="Standardised table of each visit's sources.",
        name="sourceTable_visit",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
        deferLoad=True,
        multiple=True,
        # a visit that has a summary only is left out by the task, which counts it
        deferGraphConstraint=True,
    )
    visitSummary = summaries_of_visits()
    fgcmVisitCatalog = survey_table("fgcmVisitCatalog", "Visits.")
    fgcmStarObservations = survey_table("fgcmStarObservations", "Observations of all visits.")
    fgcmStarIds = survey_table("fgcmStarIds", "Unique stars.")
    fgcmStarIndices = survey_table("fgcmStarIndices", "Rows of each star's observations.")
    fgcmReferenceStars = survey_table(
        "fgcmReferenceStars", "Reference magnitudes of the stars that have some."
    )

    def __init__(self, *, config: pipeBase.PipelineTaskConfig | None = None) -> None:
        super().__init__(config=config)
        del self.sourceSchema
        if not config.doReferenceMatches:  # type: ignore[union-attr]
            del self.refCat
            del self.fgcmLookUpTable
            del self.fgcmReferenceStars

    def getSpatialBoundsConnections(self) -> Iterable[str]:
        """Return the connections whose regions bound the reference catalogue."""
        return ("sourceTable_visit",)


class FgcmBuildStarsTableConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    pipeBase.PipelineTaskConfig, StepConfig, pipelineConnections=FgcmBuildStarsTableConnections
):
    """Configuration of `FgcmBuildStarsTableTask`: that of the recipe."""


class FgcmBuildStarsTableTask(pipeBase.PipelineTask):
    """Build the star list of a survey from the source tables of its visits.

    Parameters
    ----------
    initInputs
        Not used.
    butler
        Not used; scripts of old give one.
    **kwargs
        As for `lsst.pipe.base.PipelineTask`.
    """

    ConfigClass = FgcmBuildStarsTableConfig
    _DefaultName = "fgcmBuildStarsTable"
    config: FgcmBuildStarsTableConfig
    #: One quantum sees all visits.
    canMultiprocess = False

    def __init__(
        self, initInputs: Mapping[str, Any] | None = None, *, butler: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(initInputs=initInputs, **kwargs)

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Build the star list of the visits of a quantum, and write the tables."""
        inputs = butlerQC.get(inputRefs)
        for name in ("sourceTable_visit", "visitSummary"):
            inputs[name] = {int(handle.dataId["visit"]): handle for handle in inputs[name]}
        result = self._build(**inputs)
        butlerQC.put(stored(_struct(result)), outputRefs)
        if result.checkpoints is not None:
            result.checkpoints.remove()

    def run(self, **kwargs: Any) -> pipeBase.Struct:
        """Build the star list of a survey.

        Parameters
        ----------
        sourceTable_visit, visitSummary : mapping of int
            Visit -> table of its sources and its summary: a handle, or what is behind it. One is read at a time, and of it
            only what is needed.
        camera : lsst.images.cameras.CameraFrameSet, optional
            Camera model; by default the WCSs of the visits show where the detectors lie.
        fgcmLookUpTable : handle or zeropoint.fgcm.lut.LookUpTable
            Needed with ``doReferenceMatches``.
        refCat : sequence of handles
            Shards of the reference catalogue; needed with ``doReferenceMatches``.

        Returns
        -------
        result : lsst.pipe.base.Struct
            ``fgcmVisitCatalog``, ``fgcmStarObservations``, ``fgcmStarIds``, ``fgcmStarIndices``, and with
            ``doReferenceMatches`` ``fgcmReferenceStars``.

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            If there is no table.
        zeropoint.errors.InvalidInputError
            If a table cannot be used, or no visit or source is left.
        lsst.pipe.base.AlgorithmError
            If no star is left.
        """
        result = self._build(**kwargs)
        if result.checkpoints is not None:
            result.checkpoints.remove()
        return _struct(result)

    def runDataRef(self, butler: Butler, dataRefs: Iterable[Mapping[str, Any]]) -> pipeBase.Struct:
        """Build the star list of some visits of a repository, and write it into the Butler's run.

        Parameters
        ----------
        butler
            With the input collections, and a run for the outputs.
        dataRefs
            Data ids of the visits: ``instrument`` and ``visit``; others of their keys are passed over.

        Returns
        -------
        result : lsst.pipe.base.Struct
            As `run`, whose exceptions are raised.
        """
        names = self.config.connections.ConnectionsClass(config=self.config)
        visits = sorted({(str(each["instrument"]), int(each["visit"])) for each in dataRefs})
        inputs: dict[str, Any] = {"sourceTable_visit": {}, "visitSummary": {}}
        for name, found in inputs.items():
            for instrument, visit in visits:
                data_id = {"instrument": instrument, "visit": visit}
                ref = butler.find_dataset(getattr(names, name).name, data_id)
                if ref is not None:
                    found[visit] = butler.getDeferred(ref)
        lost = [visit for _, visit in visits if not any(visit in found for found in inputs.values())]
        if lost:
            self.log.warning("%s", sentence_on(lost, "not there", "neither source table nor summary"))
        instrument = visits[0][0] if visits else ""
        if self.config.doReferenceMatches and visits:
            numbers = ", ".join(str(visit) for _, visit in visits)
            where = f"instrument = '{instrument}' AND visit IN ({numbers})"
            shards = set(butler.registry.queryDatasets(names.refCat.name, where=where, findFirst=True))
            inputs["refCat"] = [butler.getDeferred(ref) for ref in sorted(shards)]
            inputs["fgcmLookUpTable"] = butler.getDeferred(names.fgcmLookUpTable.name, instrument=instrument)
        result = self._build(**inputs)
        struct = _struct(result)
        for name, table in stored(struct).getDict().items():
            output = getattr(names, name)
            dimensions = butler.dimensions.conform(output.dimensions)
            butler.registry.registerDatasetType(DatasetType(output.name, dimensions, output.storageClass))
            butler.put(table, output.name, instrument=instrument)
        if result.checkpoints is not None:
            result.checkpoints.remove()
        return struct

    @timeMethod
    def _build(
        self,
        *,
        sourceTable_visit: Mapping[int, Any],
        visitSummary: Mapping[int, Any],
        camera: CameraFrameSet | None = None,
        fgcmLookUpTable: Any = None,
        refCat: Sequence[Any] = (),
    ) -> SurveyStars:
        if not sourceTable_visit:
            raise pipeBase.NoWorkFound("No visit has a table of sources.")
        notes = self.config.retired_fields()
        references = None
        try:
            if self.config.doReferenceMatches and fgcmLookUpTable is not None:
                references = reference_input(self.config.connections.refCat, refCat, fgcmLookUpTable)
            with step_progress(self.log.name) as on_progress:
                result = FgcmBuildStars(self.config).run(
                    {visit: handle_table(table) for visit, table in sourceTable_visit.items()},
                    {visit: handle_table(table) for visit, table in visitSummary.items()},
                    focal_plane=None if camera is None else FocalPlane.from_camera(camera),
                    references=references,
                    on_progress=on_progress,
                )
        except CalibrationFailure as failure:
            raise algorithm_error(failure) from failure
        report(self, result.accounting, notes, logged=result.left_out)
        self.metadata["bytes_per_observation"] = BYTES_PER_OBSERVATION
        return result


def _struct(result: SurveyStars) -> pipeBase.Struct:
    """Return the tables under the names of the connections."""
    return struct_of(
        {
            "fgcmVisitCatalog": result.visits,
            "fgcmStarObservations": result.observations,
            "fgcmStarIds": result.star_ids,
            "fgcmStarIndices": result.star_indices,
            "fgcmReferenceStars": result.reference_stars,
        }
    )

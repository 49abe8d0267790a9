"""FgcmBuildFromIsolatedStarsTask: isolated stars and visit summaries of a survey in; its star list out.

The work is done by `zeropoint.recipes.fgcm_build_from_isolated_stars`; ``docs/datasets.md`` lists the datasets,
``docs/star_list_isolated.md`` the columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
from lsst.images.cameras import CameraFrameSet
from lsst.utils.timer import timeMethod

from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.errors import CalibrationFailure, InvalidInputError
from zeropoint.fgcm.isolated import IsolatedTract
from zeropoint.fgcm.isolated_config import FgcmBuildFromIsolatedStarsConfig as StepConfig
from zeropoint.recipes.fgcm_build_from_isolated_stars import IsolatedSurvey, build_from_isolated_stars
from zeropoint.tasks._errors import algorithm_error
from zeropoint.tasks._fgcm import (
    INSTRUMENT,
    camera_model,
    handle_table,
    left_out,
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

__all__ = [
    "FgcmBuildFromIsolatedStarsConfig",
    "FgcmBuildFromIsolatedStarsConnections",
    "FgcmBuildFromIsolatedStarsTask",
]

_TRACT = ("instrument", "tract", "skymap")


def _of_tracts(name: str, doc: str) -> cT.Input:
    return cT.Input(
        doc=doc, name=name, storageClass="ArrowAstropy", dimensions=_TRACT, deferLoad=True, multiple=True
    )


class FgcmBuildFromIsolatedStarsConnections(  # type: ignore[call-arg]  # a metaclass takes the dimensions
    pipeBase.PipelineTaskConnections, dimensions=INSTRUMENT
):
    """Datasets of FgcmBuildFromIsolatedStarsTask, under Rubin's names."""

    camera = camera_model()
    fgcm_lookup_table = look_up_table()
    ref_cat = reference_catalog("Reference catalogue.", "cal_ref_cat")
    isolated_star_cats = _of_tracts("isolated_star_presource_associations", "Isolated stars of each tract.")
    isolated_star_sources = _of_tracts(
        "isolated_star_presources", "Sources of the isolated stars of each tract."
    )
    visit_summaries = summaries_of_visits()
    fgcm_visit_catalog = survey_table("fgcmVisitCatalog", "Visits.")
    fgcm_star_observations = survey_table(
        "fgcm_star_observations", "Observations of the stars, star by star."
    )
    fgcm_star_ids = survey_table("fgcm_star_ids", "Stars.")
    fgcm_reference_stars = survey_table(
        "fgcm_reference_stars", "Reference magnitudes of the stars that have some."
    )

    def __init__(self, *, config: pipeBase.PipelineTaskConfig | None = None) -> None:
        super().__init__(config=config)
        if not config.doReferenceMatches:  # type: ignore[union-attr]
            del self.ref_cat
            del self.fgcm_lookup_table
            del self.fgcm_reference_stars

    def getSpatialBoundsConnections(self) -> Iterable[str]:
        """Return the connections whose regions bound the reference catalogue."""
        return ("isolated_star_cats", "visit_summaries")


class FgcmBuildFromIsolatedStarsConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    pipeBase.PipelineTaskConfig, StepConfig, pipelineConnections=FgcmBuildFromIsolatedStarsConnections
):
    """Configuration of `FgcmBuildFromIsolatedStarsTask`: that of the step."""


class FgcmBuildFromIsolatedStarsTask(pipeBase.PipelineTask):
    """Build the star list of a survey from its isolated stars."""

    ConfigClass = FgcmBuildFromIsolatedStarsConfig
    _DefaultName = "fgcmBuildFromIsolatedStars"
    config: FgcmBuildFromIsolatedStarsConfig
    #: One quantum sees all tracts.
    canMultiprocess = False

    def __init__(self, initInputs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(initInputs=initInputs, **kwargs)

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Build the star list of the tracts of a quantum, and write the tables."""
        inputs = butlerQC.get(inputRefs)
        result = self.run(
            visit_summary_handle_dict={
                int(handle.dataId["visit"]): handle for handle in inputs["visit_summaries"]
            },
            isolated_star_cat_handle_dict=_by_tract(inputs["isolated_star_cats"]),
            isolated_star_source_handle_dict=_by_tract(inputs["isolated_star_sources"]),
            camera=inputs.get("camera"),
            lookup_table_handle=inputs.get("fgcm_lookup_table"),
            ref_cat_handles=inputs.get("ref_cat", ()),
        )
        butlerQC.put(stored(result), outputRefs)

    @timeMethod
    def run(
        self,
        *,
        visit_summary_handle_dict: Mapping[int, Any],
        isolated_star_cat_handle_dict: Mapping[int, Any],
        isolated_star_source_handle_dict: Mapping[int, Any],
        camera: CameraFrameSet | None = None,
        lookup_table_handle: Any = None,
        ref_cat_handles: Sequence[Any] = (),
    ) -> pipeBase.Struct:
        """Build the star list of a survey.

        Parameters
        ----------
        visit_summary_handle_dict
            Visit -> its summary, or a handle of it.
        isolated_star_cat_handle_dict, isolated_star_source_handle_dict
            Tract -> its isolated stars and their sources: handles, or tables. One is read at a time, and of it only the
            columns needed.
        camera
            Camera model; None: the WCSs of the visits show where the detectors lie.
        lookup_table_handle : handle or zeropoint.fgcm.lut.LookUpTable
            Needed with ``doReferenceMatches``.
        ref_cat_handles
            Shards of the reference catalogue; needed with ``doReferenceMatches``.

        Returns
        -------
        result : lsst.pipe.base.Struct
            ``fgcm_visit_catalog``, ``fgcm_star_observations``, ``fgcm_star_ids``, and with ``doReferenceMatches``
            ``fgcm_reference_stars``.

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            If there is no tract.
        zeropoint.errors.InvalidInputError
            If a table cannot be used, stars or sources of a tract are missing, or no visit is left.
        lsst.pipe.base.AlgorithmError
            If no star is left, or there is no reference catalogue here.
        """
        tracts = _tracts(isolated_star_cat_handle_dict, isolated_star_source_handle_dict)
        notes = self.config.retired_fields()
        references = None
        try:
            if self.config.doReferenceMatches and lookup_table_handle is not None:
                name = self.config.connections.ref_cat
                references = reference_input(name, ref_cat_handles, lookup_table_handle)
            with step_progress(self.log.name) as on_progress:
                result = build_from_isolated_stars(
                    self.config,
                    tracts,
                    {visit: handle_table(table) for visit, table in visit_summary_handle_dict.items()},
                    focal_plane=None if camera is None else FocalPlane.from_camera(camera),
                    references=references,
                    on_progress=on_progress,
                )
        except CalibrationFailure as failure:
            raise algorithm_error(failure) from failure
        self._report(result, notes)
        return struct_of(
            {
                "fgcm_visit_catalog": result.visits,
                "fgcm_star_observations": result.observations,
                "fgcm_star_ids": result.stars,
                "fgcm_reference_stars": result.reference_stars,
            }
        )

    def _report(self, result: IsolatedSurvey, notes: list[str]) -> None:
        """Say in log and metadata what became of what was read."""
        for line in result.accounting.lines():
            self.log.info("%s", line)
        sources = result.accounting["sources"].rejected
        # other reasons are cuts; these hint at an input that is missing
        missing = {reason: sources[reason] for reason in ("no_visit", "no_detector") if sources[reason]}
        report(self, result.accounting, notes + left_out("source", missing), logged=result.left_out)


def _by_tract(handles: Iterable[Any]) -> dict[int, Any]:
    """Return handles by tract.

    Raises
    ------
    InvalidInputError
        If they are of several sky maps, whose tracts have the same numbers.
    """
    handles = list(handles)
    maps = sorted({str(handle.dataId["skymap"]) for handle in handles})
    if len(maps) > 1:
        raise InvalidInputError(
            f"Isolated stars are of several sky maps ({', '.join(maps)}); choose one with the data query, for instance "
            f"skymap='{maps[0]}'."
        )
    return {int(handle.dataId["tract"]): handle for handle in handles}


def _tracts(stars: Mapping[int, Any], sources: Mapping[int, Any]) -> dict[int, IsolatedTract]:
    """Return the tables of each tract.

    Raises
    ------
    lsst.pipe.base.NoWorkFound
        If there is none.
    InvalidInputError
        If one of a tract's two tables is missing.
    """
    if not stars and not sources:
        raise pipeBase.NoWorkFound("No tract has isolated stars.")
    odd = sorted(set(stars) ^ set(sources))
    if odd:
        raise InvalidInputError(
            f"Isolated stars or their sources are missing for tract {', '.join(map(str, odd))}; associate these tracts "
            "again, or leave them out."
        )
    return {tract: IsolatedTract(handle_table(stars[tract]), handle_table(sources[tract])) for tract in stars}

"""FgcmFitCycleTask: the star list of a survey and its passbands in; parameters, zeropoints and standard stars out.

The work is done by `zeropoint.recipes.fgcm_cycle`; ``docs/datasets.md`` lists the datasets, ``docs/fgcm_cycle.md`` says what a
cycle does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
from astropy.table import Table
from lsst.images.cameras import CameraFrameSet
from lsst.utils.timer import timeMethod

from zeropoint import __version__
from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.errors import CalibrationFailure
from zeropoint.fgcm.checkpoints import default_directory
from zeropoint.fgcm.cycle_checkpoints import CycleCheckpoints, SavedCycle
from zeropoint.fgcm.cycle_result import CycleResult
from zeropoint.fgcm.cycle_state import CycleState
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.lut import LookUpTable
from zeropoint.fgcm.lut_grid import StandardAtmosphere
from zeropoint.fgcm.outputs.fit_parameters import state_from_tables, state_to_tables
from zeropoint.fgcm.passband_choice import ChosenPassbands, choose_passbands
from zeropoint.recipes.fgcm_cycle import CycleInputs, FgcmCycle
from zeropoint.tasks._errors import algorithm_error
from zeropoint.tasks._fgcm import handle_table, look_up_table_header, report, stored_table
from zeropoint.tasks._fgcm_fit_connections import (
    FgcmFitCycleConnections,
    connection_name,
    cycle_outputs,
    plot_output,
)
from zeropoint.tasks._progress import step_progress
from zeropoint.tasks._tables import HandleTable, is_handle

__all__ = ["FgcmFitCycleConfig", "FgcmFitCycleConnections", "FgcmFitCycleTask"]

#: Inputs of the star list -> argument of `CycleInputs`.
_STAR_LIST = {
    "fgcmStarObservations": "observations",
    "fgcmStarIds": "star_ids",
    "fgcmStarIndices": "star_indices",
    "fgcmReferenceStars": "reference_stars",
    "fgcmStarObservationsParquet": "observations",
    "fgcmStarIdsParquet": "star_ids",
    "fgcmReferenceStarsParquet": "reference_stars",
}


class FgcmFitCycleConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    pipeBase.PipelineTaskConfig, FgcmFitCycleConfigBase, pipelineConnections=FgcmFitCycleConnections
):
    """Configuration of `FgcmFitCycleTask`: that of the recipe."""

    def validate(self) -> None:
        """Check that the connections' templates are of this cycle, and all else.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            If not; it names the field.
        """
        super().validate()
        templates = {"cycleNumber": self.cycleNumber, "previousCycleNumber": self.cycleNumber - 1}
        for name, number in templates.items():
            given = getattr(self.connections, name)
            if given != str(number):
                raise pexConfig.FieldValidationError(
                    type(self).cycleNumber,
                    self,
                    f"is {self.cycleNumber}, so connections.{name} must be '{number}', not {given!r}. For another cycle set all "
                    "three: cycleNumber=N, connections.cycleNumber=N and connections.previousCycleNumber=N-1; the file "
                    "that fgcm_Cycle{N-1}_OutputConfig saves has them.",
                )

    def of_next_cycle(
        self,
        photometric_cuts: Mapping[str, float] | None = None,
        high_cuts: Mapping[str, float] | None = None,
    ) -> FgcmFitCycleConfig:
        """Return the configuration of the next cycle; see `FgcmFitCycleConfigBase.of_next_cycle`."""
        config = super().of_next_cycle(photometric_cuts, high_cuts)
        config.connections.cycleNumber = str(config.cycleNumber)
        config.connections.previousCycleNumber = str(config.cycleNumber - 1)
        return config


@dataclass(frozen=True)
class _CycleDatasets:
    """Datasets of a cycle by the ends of their names, and what goes into the metadata."""

    cycle: int
    values: Mapping[str, Any]
    metrics: Mapping[str, Any]


#: What is done with each cycle's datasets as soon as they are there.
type _OnCycle = Callable[[_CycleDatasets], None]


class FgcmFitCycleTask(pipeBase.PipelineTask):
    """Fit atmosphere, instrument and zeropoints of a survey, in one cycle or all of them."""

    ConfigClass = FgcmFitCycleConfig
    _DefaultName: ClassVar[str] = "fgcmFitCycle"
    config: FgcmFitCycleConfig
    #: One quantum sees the whole survey.
    canMultiprocess = False

    def __init__(self, initInputs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(initInputs=initInputs, **kwargs)
        self._history: list[Mapping[str, Any]] = []

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Fit, and write the datasets of each cycle as soon as it is done."""

        def put(datasets: _CycleDatasets) -> None:
            for name, value in datasets.values.items():
                ref = getattr(outputRefs, connection_name(self.config, datasets.cycle, name))
                butlerQC.put(table_to_arrow(value) if isinstance(value, Table) else value, ref)

        inputs = butlerQC.get(inputRefs)
        try:
            self._run(inputs, put, threads=butlerQC.resources.num_cores)
        except pipeBase.AlgorithmError as failure:
            if not self._history:
                raise
            raise pipeBase.AnnotatedPartialOutputsError.annotate(failure, self, log=self.log) from failure

    def run(self, *, threads: int | None = None, **inputs: Any) -> pipeBase.Struct:
        """Fit.

        Parameters
        ----------
        threads
            Of the fit; None: what numba is set to. No bit of the result depends on it.
        **inputs
            By the names of the connections: tables, or handles of them. ``camera`` and ``fgcmDetectorThroughputs`` may be
            left out.

        Returns
        -------
        result : lsst.pipe.base.Struct
            By the names of the connections.

        Raises
        ------
        zeropoint.errors.InvalidInputError
            If a table cannot be used, or the star list is not of this look-up table.
        lsst.pipe.base.AlgorithmError
            If the data cannot be calibrated.
        """
        found: dict[str, Any] = {}

        def keep(datasets: _CycleDatasets) -> None:
            for name, value in datasets.values.items():
                found[connection_name(self.config, datasets.cycle, name)] = value

        self._run(inputs, keep, threads=threads)
        return pipeBase.Struct(**found)

    @timeMethod
    def _run(self, inputs: Mapping[str, Any], on_cycle: _OnCycle, *, threads: int | None) -> None:
        self._history.clear()
        passbands = self._passbands(inputs)
        self.log.info("%s", passbands.description)
        checkpoints = self._checkpoints(inputs)
        previous = self._previous(inputs, checkpoints, on_cycle)

        def done(result: CycleResult) -> None:
            datasets = self._datasets(result, passbands.source.standard)
            self._note(datasets)
            on_cycle(datasets)
            if checkpoints is not None and not self.config.makes_plots(result.cycle):
                self._save(checkpoints, datasets, result)

        try:
            with step_progress(self.log.name) as on_progress:
                results = FgcmCycle(self.config).run(
                    _cycle_inputs(inputs),
                    passbands.source,
                    previous=previous,
                    threads=threads,
                    facts=self.config.doPlots,
                    on_progress=on_progress,
                    on_cycle=done,
                )
        except CalibrationFailure as failure:
            raise algorithm_error(failure) from failure
        report(self, results[-1].accounting, self.config.retired_fields())
        if checkpoints is not None:
            checkpoints.remove()

    def _passbands(self, inputs: Mapping[str, Any]) -> ChosenPassbands:
        """Return the passbands; of the look-up table the header alone is read where that is enough."""
        table = inputs["fgcmLookUpTable"]
        throughputs = inputs.get("fgcmDetectorThroughputs")
        return choose_passbands(
            look_up_table_header(table),
            stored_table(throughputs),
            lambda: _look_up_table(table),
            self.config.passbandIntegrals,
        )

    def _previous(
        self, inputs: Mapping[str, Any], checkpoints: CycleCheckpoints | None, on_cycle: _OnCycle
    ) -> CycleState | None:
        """Return the state from which the fit goes on, after writing what a killed run had left; None: from the start."""
        if self.config.cycleNumber > 0:
            return state_from_tables(
                stored_table(inputs["fgcmFitParametersInput"]), stored_table(inputs["fgcmFlaggedStarsInput"])
            )
        saved = [] if checkpoints is None else checkpoints.load()
        for each in saved:
            changes = each.facts["config_changes"]
            values = {**each.tables, "OutputConfig": self._next_config(each.cycle, changes)}
            datasets = _CycleDatasets(each.cycle, values, each.facts["metrics"])
            self._note(datasets)
            on_cycle(datasets)
        if not saved:
            return None
        self.log.info("Went on after cycle %d, which a run before this one had done.", saved[-1].cycle)
        return state_from_tables(saved[-1].tables["FitParameters"], saved[-1].tables["FlaggedStars"])

    def _checkpoints(self, inputs: Mapping[str, Any]) -> CycleCheckpoints | None:
        """Return where cycles are kept; None: nowhere, as there is one cycle, it is not wanted, or inputs have no identity."""
        config = self.config
        if config.checkpoint_directory == "" or not config.doMultipleCycles:
            return None
        handles = {name: value for name, value in inputs.items() if is_handle(value)}
        identities = {name: HandleTable(value).identity for name, value in sorted(handles.items())}
        if not handles or None in identities.values():
            return None
        described = {"version": __version__, "inputs": identities, "config": config.toDict()}
        parent = config.checkpoint_directory
        return CycleCheckpoints.of(described, default_directory() if parent is None else Path(parent))

    def _datasets(self, result: CycleResult, standard: StandardAtmosphere) -> _CycleDatasets:
        """Return the datasets of a cycle."""
        parameters, flagged = state_to_tables(result.state)
        values: dict[str, Any] = {
            "FitParameters": parameters,
            "FlaggedStars": flagged,
            "OutputConfig": self._next_config(result.cycle, result.config_changes),
            "Zeropoints": result.zeropoints,
            "AtmosphereParameters": result.atmosphere,
            "StandardStars": result.standard_stars,
        }
        names = {output.name for output in cycle_outputs(self.config, result.cycle)}
        values = {name: value for name, value in values.items() if name in names and value is not None}
        if self.config.makes_plots(result.cycle):
            values |= self._plots(result, standard)
        return _CycleDatasets(result.cycle, values, result.metrics)

    def _plots(self, result: CycleResult, standard: StandardAtmosphere) -> dict[str, Any]:
        """Return the figures of a cycle by the ends of their datasets' names."""
        # matplotlib is loaded where there are plots
        from zeropoint.quality.fgcm.figures import figures
        from zeropoint.quality.fgcm.report_data import FgcmReportData

        data = FgcmReportData(
            self.config.outfileBase or "",
            result,
            (*self._history, result.metrics),
            standard=vars(standard),
        )
        return {plot_output(name): figure for name, _, figure in figures(data)}

    def _next_config(self, cycle: int, changes: Mapping[str, Any]) -> FgcmFitCycleConfig:
        """Return the configuration with which the cycle after this one can be run by itself."""
        config = self.config.copy()
        config.cycleNumber = cycle
        config = config.of_next_cycle()
        config.update(**changes)
        if config.doMultipleCycles:
            config.doMultipleCycles = False
            config.isFinalCycle = config.cycleNumber >= config.multipleCyclesFinalCycleNumber
        return config

    def _note(self, datasets: _CycleDatasets) -> None:
        """Keep what a cycle found, for the metadata and for plots of later cycles."""
        self._history.append(datasets.metrics)
        self.metadata.set_dict(f"cycle{datasets.cycle}", _known(datasets.metrics))

    def _save(self, checkpoints: CycleCheckpoints, datasets: _CycleDatasets, result: CycleResult) -> None:
        """Keep a cycle for a run that goes on from it; without room for it, this run goes on all the same."""
        tables = {name: value for name, value in datasets.values.items() if isinstance(value, Table)}
        facts = {"metrics": dict(datasets.metrics), "config_changes": dict(result.config_changes)}
        try:
            checkpoints.save(SavedCycle(result.cycle, tables, facts))
        except OSError as error:
            self.log.warning(
                "%s cannot be written (%s); a killed run begins anew.", checkpoints.directory, error
            )


def _known(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures that are known: the metadata of tasks have no place for others, as of bands without visits."""
    return {
        name: _known(value) if isinstance(value, Mapping) else value
        for name, value in metrics.items()
        if value is not None
    }


def _cycle_inputs(inputs: Mapping[str, Any]) -> CycleInputs:
    """Return the star list."""
    tables = {argument: handle_table(inputs[name]) for name, argument in _STAR_LIST.items() if name in inputs}
    camera: CameraFrameSet | None = inputs.get("camera")
    return CycleInputs(
        stored_table(inputs["fgcmVisitCatalog"]),
        **tables,
        focal_plane=None if camera is None else FocalPlane.from_camera(camera),
    )


def _look_up_table(table: Any) -> LookUpTable:
    """Return a look-up table with its integrals, or that behind a handle."""
    return (
        LookUpTable.from_arrow(HandleTable(table).read(HandleTable(table).column_names))
        if is_handle(table)
        else table
    )

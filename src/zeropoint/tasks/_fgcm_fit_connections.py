"""Connections of FgcmFitCycleTask, whose names depend on the number of the cycle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT

from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.quality.fgcm.figures import PLOT_NAMES
from zeropoint.tasks._fgcm import INSTRUMENT, camera_model

__all__ = ["FgcmFitCycleConnections", "connection_name", "cycle_outputs", "plot_output"]

#: Inputs that only one form of the star list has; whether it is that of isolated stars.
_FORMS = {
    "fgcmStarObservationsParquet": True,
    "fgcmStarIdsParquet": True,
    "fgcmReferenceStarsParquet": True,
    "fgcmStarObservations": False,
    "fgcmStarIds": False,
    "fgcmStarIndices": False,
    "fgcmReferenceStars": False,
}
_REFERENCES = ("fgcmReferenceStars", "fgcmReferenceStarsParquet")


class CycleOutput(NamedTuple):
    """An output of a cycle: the end of its name, and what it is."""

    name: str
    doc: str
    storage_class: str = "ArrowAstropy"


_PARAMETERS = (
    CycleOutput("FitParameters", "Parameters of the fit, one row."),
    CycleOutput("FlaggedStars", "Stars that are flagged."),
)
_CONFIG = CycleOutput("OutputConfig", "Configuration of the next cycle.", "Config")
_ZEROPOINTS = (
    CycleOutput("Zeropoints", "Zeropoint of each visit and detector."),
    CycleOutput("AtmosphereParameters", "Atmosphere of each visit."),
)
_STANDARD_STARS = CycleOutput("StandardStars", "Standard magnitudes of the stars.")


def plot_output(name: str) -> str:
    """Return the end of the name of a plot's dataset.

    Parameters
    ----------
    name
        Key of `zeropoint.quality.fgcm.figures.PLOT_NAMES`.
    """
    return f"{name}_Plot"


def cycle_outputs(config: FgcmFitCycleConfigBase, cycle: int) -> Iterator[CycleOutput]:
    """Yield the outputs of a cycle.

    Parameters
    ----------
    config
        Configuration of the task.
    cycle
        Number of the cycle.
    """
    final = config.isFinalCycle
    if config.doMultipleCycles:
        final = cycle == config.multipleCyclesFinalCycleNumber
    yield from (*_PARAMETERS, _CONFIG)
    if final or config.outputZeropointsBeforeFinalCycle:
        yield from _ZEROPOINTS
    if final or config.outputStandardsBeforeFinalCycle:
        yield _STANDARD_STARS
    if config.makes_plots(cycle):
        for name in PLOT_NAMES:
            yield CycleOutput(plot_output(name), f"Plot of the fit: {name}.", "Plot")


def connection_name(config: FgcmFitCycleConfigBase, cycle: int, output: str) -> str:
    """Return the name of the connection of an output: Rubin's.

    Parameters
    ----------
    config
        Configuration of the task.
    cycle
        Number of the cycle.
    output
        End of the output's name.
    """
    if config.doMultipleCycles or output.endswith("_Plot"):
        return f"fgcm_Cycle{cycle}_{output}"
    return f"fgcm{output}"


def _survey_input(name: str, doc: str) -> cT.Input:
    return cT.Input(doc=doc, name=name, storageClass="ArrowAstropy", dimensions=INSTRUMENT, deferLoad=True)


class FgcmFitCycleConnections(  # type: ignore[call-arg]  # a metaclass takes the dimensions
    pipeBase.PipelineTaskConnections,
    dimensions=INSTRUMENT,
    defaultTemplates={"previousCycleNumber": "-1", "cycleNumber": "0"},
):
    """Datasets of FgcmFitCycleTask, under Rubin's names."""

    camera = camera_model(
        "Where the detectors are on the sky; without it the positions of the stars show that."
    )
    fgcmLookUpTable = cT.PrerequisiteInput(
        doc="Look-up table: site, standard atmosphere, standard passbands, ranges of the parameters.",
        name="fgcmLookUpTable",
        storageClass="ArrowAstropy",
        dimensions=INSTRUMENT,
        deferLoad=True,
    )
    fgcmDetectorThroughputs = cT.PrerequisiteInput(
        doc="Throughput of each filter with each detector, from which passbands are integrated without the table's grid.",
        name="fgcm_detector_throughputs",
        storageClass="ArrowAstropy",
        dimensions=INSTRUMENT,
        deferLoad=True,
        # tables from elsewhere have none: the look-up table is interpolated then
        minimum=0,
    )
    fgcmVisitCatalog = _survey_input("fgcmVisitCatalog", "Visits.")
    fgcmStarObservationsParquet = _survey_input("fgcm_star_observations", "Observations, star by star.")
    fgcmStarIdsParquet = _survey_input("fgcm_star_ids", "Stars.")
    fgcmReferenceStarsParquet = _survey_input("fgcm_reference_stars", "Reference magnitudes of stars.")
    fgcmStarObservations = _survey_input("fgcmStarObservations", "Observations of all visits.")
    fgcmStarIds = _survey_input("fgcmStarIds", "Stars.")
    fgcmStarIndices = _survey_input("fgcmStarIndices", "Rows of each star's observations.")
    fgcmReferenceStars = _survey_input("fgcmReferenceStars", "Reference magnitudes of stars.")

    def __init__(self, *, config: pipeBase.PipelineTaskConfig | None = None) -> None:
        super().__init__(config=config)
        assert isinstance(config, FgcmFitCycleConfigBase)
        for name, isolated in _FORMS.items():
            needless = name in _REFERENCES and not config.doReferenceCalibration
            if isolated != config.useParquetCatalogFormat or needless:
                delattr(self, name)
        first = int(config.cycleNumber)
        last = config.multipleCyclesFinalCycleNumber if config.doMultipleCycles else first
        if first > 0:
            for output in _PARAMETERS:
                setattr(self, f"fgcm{output.name}Input", _previous(output, first - 1))
        for cycle in range(first, last + 1):
            for output in cycle_outputs(config, cycle):
                setattr(self, connection_name(config, cycle, output.name), _output(output, cycle))


def _previous(output: CycleOutput, cycle: int) -> cT.PrerequisiteInput:
    return cT.PrerequisiteInput(
        doc=f"{output.doc} Of the cycle before.",
        name=f"fgcm_Cycle{cycle}_{output.name}",
        storageClass=output.storage_class,
        dimensions=INSTRUMENT,
        deferLoad=True,
    )


def _output(output: CycleOutput, cycle: int) -> cT.Output:
    return cT.Output(
        doc=output.doc,
        name=f"fgcm_Cycle{cycle}_{output.name}",
        storageClass=output.storage_class,
        dimensions=INSTRUMENT,
    )

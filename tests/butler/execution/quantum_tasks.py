"""Small pipeline tasks for the executor's tests: a table and an image per detector, a mean per exposure.

Importable by worker processes as ``butler.execution.quantum_tasks`` (``tests`` is on their path).
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
import numpy as np
import pyarrow as pa
from astropy.table import Table

from zeropoint.errors import InvalidInputError

DETECTOR = ("instrument", "exposure", "detector")


class TooFewPhotons(pipeBase.AlgorithmError):
    """The failure that tasks raise on request."""

    def __init__(self, n_photons: int) -> None:
        super().__init__(f"only {n_photons} photons")
        self.n_photons = n_photons

    @property
    def metadata(self) -> dict[str, int]:
        return {"n_photons": self.n_photons}


class MeasureConnections(pipeBase.PipelineTaskConnections, dimensions=DETECTOR):
    numbers = cT.Input(name="raw_numbers", storageClass="ArrowAstropy", dimensions=DETECTOR, doc="input")
    stars_schema = cT.InitOutput(name="mock_stars_schema", storageClass="ArrowSchema", doc="schema")
    stars = cT.Output(name="mock_stars", storageClass="ArrowAstropy", dimensions=DETECTOR, doc="table")
    pixels = cT.Output(name="mock_pixels", storageClass="NumpyArray", dimensions=DETECTOR, doc="image")


class MeasureConfig(pipeBase.PipelineTaskConfig, pipelineConnections=MeasureConnections):
    scale = pexConfig.Field[float](doc="Factor.", default=2.0)
    seconds = pexConfig.Field[float](doc="Time to sleep.", default=0.0)
    fail_on = pexConfig.ListField[int](doc="Exposures that raise an AlgorithmError.", default=[])
    partial_on = pexConfig.ListField[int](doc="Exposures that end with partial outputs.", default=[])
    crash_on = pexConfig.ListField[int](doc="Exposures that raise something else after a put.", default=[])
    crash_detector = pexConfig.Field[int](doc="Only this detector crashes.", default=None, optional=True)
    no_work_on = pexConfig.ListField[int](doc="Exposures that have nothing to do.", default=[])
    hang_on = pexConfig.ListField[int](doc="Exposures that never end.", default=[])
    kill_on = pexConfig.ListField[int](doc="Exposures whose process kills itself.", default=[])
    kill_once = pexConfig.Field[str](
        doc="Folder of marks: a process kills itself once per exposure.", default="", optional=True
    )
    note = pexConfig.Field[str](doc="Note for the report.", default="")
    refused = pexConfig.Field[bool](doc="Refuse to be constructed?", default=False)
    full_on = pexConfig.ListField[int](doc="Exposures that find the disk full.", default=[])


class MeasureTask(pipeBase.PipelineTask):
    """Multiply a table and make an image of it; fail in every way on request."""

    ConfigClass = MeasureConfig
    _DefaultName = "measure"
    config: MeasureConfig

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.config.refused:
            raise InvalidInputError("refused: no column goes by that name")
        self.stars_schema = pa.schema([("id", pa.int64()), ("flux", pa.float64())])

    def runQuantum(self, butlerQC: Any, inputRefs: Any, outputRefs: Any) -> None:
        exposure = butlerQC.quantum.dataId["exposure"]
        if exposure in self.config.no_work_on:
            raise pipeBase.NoWorkFound("dark night")
        result = self.run(butlerQC.get(inputRefs.numbers))
        time.sleep(self.config.seconds)
        if exposure in self.config.hang_on:
            time.sleep(1000)
        if exposure in self.config.fail_on:
            raise TooFewPhotons(7)
        if exposure in self.config.partial_on:
            error = pipeBase.AnnotatedPartialOutputsError.annotate(TooFewPhotons(3), self, log=self.log)
            butlerQC.put(result.stars, outputRefs.stars)
            raise error from TooFewPhotons(3)
        butlerQC.put(result.stars, outputRefs.stars)
        crashes = self.config.crash_detector in (None, butlerQC.quantum.dataId["detector"])
        if exposure in self.config.crash_on and crashes:
            raise ValueError("a defect")
        if exposure in self.config.full_on:
            raise OSError(28, "No space left on device", "mock_pixels")
        if exposure in self.config.kill_on or self._first_time(exposure):
            os.kill(os.getpid(), signal.SIGKILL)
        butlerQC.put(result.pixels, outputRefs.pixels)

    def _first_time(self, exposure: int) -> bool:
        if not self.config.kill_once:
            return False
        mark = Path(self.config.kill_once) / str(exposure)
        if mark.exists():
            return False
        mark.touch()
        return True

    def run(self, numbers: Table) -> pipeBase.Struct:
        flux = np.asarray(numbers["flux"]) * self.config.scale
        stars = Table({"id": np.arange(len(flux)), "flux": flux})
        self.log.info("measured %d stars", len(stars))
        self.metadata["n_stars"] = len(stars)
        if self.config.note:
            self.metadata["note"] = self.config.note
        return pipeBase.Struct(stars=stars, pixels=np.outer(flux, flux).astype(np.float32))


class MeanConnections(pipeBase.PipelineTaskConnections, dimensions=("instrument", "exposure")):
    stars_schema = cT.InitInput(name="mock_stars_schema", storageClass="ArrowSchema", doc="schema")
    stars = cT.Input(
        name="mock_stars", storageClass="ArrowAstropy", dimensions=DETECTOR, multiple=True, doc="tables"
    )
    mean = cT.Output(
        name="mock_mean", storageClass="StructuredDataDict", dimensions=("instrument", "exposure"), doc="mean"
    )

    def adjustQuantum(self, inputs: Any, outputs: Any, label: str, data_id: Any) -> Any:
        """Leave an exposure out of the graph, as one that lacks an input is."""
        if data_id["exposure"] == self.config.without_inputs:
            raise pipeBase.NoWorkFound("no inputs")
        return super().adjustQuantum(inputs, outputs, label, data_id)


class MeanConfig(pipeBase.PipelineTaskConfig, pipelineConnections=MeanConnections):
    without_inputs = pexConfig.Field[int](doc="Exposure that the graph leaves out.", default=-1)


class MeanTask(pipeBase.PipelineTask):
    """The mean flux of an exposure's tables."""

    ConfigClass = MeanConfig
    _DefaultName = "mean"

    def __init__(self, *, initInputs: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.columns = initInputs["stars_schema"].names

    def run(self, stars: list[Table]) -> pipeBase.Struct:
        assert self.columns == stars[0].colnames
        return pipeBase.Struct(mean={"flux": float(np.mean([np.mean(table["flux"]) for table in stars]))})

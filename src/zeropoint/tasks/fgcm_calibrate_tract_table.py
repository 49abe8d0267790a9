"""FgcmCalibrateTractTableTask: source tables of the visits on a tract in; their calibrations on one scale out.

The work is done by `zeropoint.recipes.fgcm_calibrate_tract`; ``docs/fgcm_products.md`` describes the products,
``docs/datasets.md`` lists the datasets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
from lsst.images.cameras import CameraFrameSet
from lsst.utils.timer import timeMethod

from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.errors import CalibrationFailure
from zeropoint.fgcm.outputs.atmospheres import look_up_table_atmosphere
from zeropoint.fgcm.passband_choice import choose_passbands
from zeropoint.recipes.fgcm_calibrate_tract import (
    CalibratedTract,
    FgcmCalibrateTract,
    FgcmCalibrateTractConfigBase,
)
from zeropoint.tasks._errors import algorithm_error
from zeropoint.tasks._fgcm import (
    INSTRUMENT,
    camera_model,
    handle_table,
    look_up_table,
    reference_input,
    report,
    stored_table,
    summaries_of_visits,
    whole_look_up_table,
)
from zeropoint.tasks._progress import step_progress
from zeropoint.tasks._references import reference_catalog
from zeropoint.tasks._tables import stored

__all__ = [
    "FgcmCalibrateTractTableConfig",
    "FgcmCalibrateTractTableConnections",
    "FgcmCalibrateTractTableTask",
]

_TRACT = ("instrument", "tract", "skymap")


def _of_visits(name: str, doc: str) -> cT.Output:
    return cT.Output(
        doc=doc, name=name, storageClass="ArrowAstropy", dimensions=(*_TRACT, "visit"), multiple=True
    )


class FgcmCalibrateTractTableConnections(  # type: ignore[call-arg]  # a metaclass takes the dimensions
    pipeBase.PipelineTaskConnections, dimensions=_TRACT
):
    """Datasets of FgcmCalibrateTractTableTask, under Rubin's names."""

    camera = camera_model()
    fgcmLookUpTable = look_up_table()
    fgcmDetectorThroughputs = cT.PrerequisiteInput(
        doc="Throughput of each filter with each detector; without it the look-up table is interpolated.",
        name="fgcm_detector_throughputs",
        storageClass="ArrowAstropy",
        dimensions=INSTRUMENT,
        deferLoad=True,
        minimum=0,
    )
    refCat = reference_catalog("Reference catalogue.", "cal_ref_cat")
    source_catalogs = cT.Input(
        doc="Sources of each visit on the tract.",
        name="sourceTable_visit",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "visit"),
        deferLoad=True,
        multiple=True,
    )
    visitSummary = summaries_of_visits()
    fgcmPhotoCalib = _of_visits(
        "fgcmPhotoCalibTractCatalog", "Photometric calibrations of the detectors of each visit."
    )
    fgcmTransmissionAtmosphere = _of_visits(
        "transmission_atmosphere_fgcm_tract", "Transmission of the atmosphere in each visit."
    )
    fgcmRepeatability = cT.Output(
        doc="How well magnitudes repeat in each band.",
        name="fgcmRawRepeatability",
        storageClass="ArrowAstropy",
        dimensions=_TRACT,
    )

    def __init__(self, *, config: FgcmCalibrateTractConfigBase) -> None:
        super().__init__(config=config)
        if not config.fgcmOutputProducts.doZeropointOutput:
            del self.fgcmPhotoCalib
        if not config.fgcmOutputProducts.doAtmosphereOutput:
            del self.fgcmTransmissionAtmosphere

    def getSpatialBoundsConnections(self) -> Iterable[str]:
        """Return the connections whose regions bound the reference catalogue."""
        return ("source_catalogs",)


class FgcmCalibrateTractTableConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    pipeBase.PipelineTaskConfig,
    FgcmCalibrateTractConfigBase,
    pipelineConnections=FgcmCalibrateTractTableConnections,
):
    """Configuration of `FgcmCalibrateTractTableTask`: that of the recipe."""


class FgcmCalibrateTractTableTask(pipeBase.PipelineTask):
    """Calibrate the visits on a tract together."""

    ConfigClass = FgcmCalibrateTractTableConfig
    _DefaultName = "fgcmCalibrateTractTable"
    config: FgcmCalibrateTractTableConfig

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Calibrate the visits of a quantum, and write what comes of it."""
        inputs = butlerQC.get(inputRefs)
        for name in ("source_catalogs", "visitSummary"):
            inputs[name] = {int(handle.dataId["visit"]): handle for handle in inputs[name]}
        tract = self.run(**inputs, threads=butlerQC.resources.num_cores).tract
        products = tract.products
        butlerQC.put(stored(pipeBase.Struct(table=tract.repeatability)).table, outputRefs.fgcmRepeatability)
        if products.photo_calibs is not None:
            for ref in outputRefs.fgcmPhotoCalib:
                catalog = products.photo_calibs.catalog(int(ref.dataId["visit"]))
                if len(catalog):
                    butlerQC.put(catalog.to_arrow(), ref)
        if products.atmospheres is not None:
            curves = dict(products.atmospheres)
            for ref in outputRefs.fgcmTransmissionAtmosphere:
                if int(ref.dataId["visit"]) in curves:
                    butlerQC.put(curves[int(ref.dataId["visit"])].to_table(), ref)

    @timeMethod
    def run(
        self,
        *,
        source_catalogs: Mapping[int, Any],
        visitSummary: Mapping[int, Any],
        fgcmLookUpTable: Any,
        refCat: Sequence[Any],
        fgcmDetectorThroughputs: Any = None,
        camera: CameraFrameSet | None = None,
        threads: int | None = None,
    ) -> pipeBase.Struct:
        """Calibrate the visits on a tract.

        Parameters
        ----------
        source_catalogs, visitSummary
            Visit -> table of its sources, and its summary: handles, or what is behind them.
        fgcmLookUpTable : handle or zeropoint.fgcm.lut.LookUpTable
            Site, standard atmosphere and filters.
        refCat
            Shards of the reference catalogue.
        fgcmDetectorThroughputs
            Throughputs; None: the look-up table is interpolated.
        camera
            Camera model; None: the WCSs of the visits show where the detectors lie.
        threads
            Of the fit.

        Returns
        -------
        result : lsst.pipe.base.Struct
            ``tract`` (`~zeropoint.recipes.fgcm_calibrate_tract.CalibratedTract`), and as in Rubin's task ``repeatability``.

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            If no visit has a table.
        zeropoint.errors.InvalidInputError
            If a table cannot be used.
        lsst.pipe.base.AlgorithmError
            If the data cannot be calibrated.
        """
        if not source_catalogs:
            raise pipeBase.NoWorkFound("No visit on the tract has a table of sources.")
        try:
            references = reference_input(self.config.connections.refCat, refCat, fgcmLookUpTable)
            header = references.look_up_table
            passbands = choose_passbands(
                header,
                stored_table(fgcmDetectorThroughputs),
                lambda: whole_look_up_table(fgcmLookUpTable),
                self.config.fgcmFitCycle.passbandIntegrals,
            )
            self.log.info("%s", passbands.description)
            wants_air = self.config.fgcmOutputProducts.doAtmosphereOutput
            with step_progress(self.log.name) as on_progress:
                tract = FgcmCalibrateTract(self.config).run(
                    {visit: handle_table(table) for visit, table in source_catalogs.items()},
                    {visit: handle_table(table) for visit, table in visitSummary.items()},
                    passbands.source,
                    references,
                    atmosphere=look_up_table_atmosphere(header) if wants_air else None,
                    focal_plane=None if camera is None else FocalPlane.from_camera(camera),
                    threads=threads,
                    on_progress=on_progress,
                )
        except CalibrationFailure as failure:
            raise algorithm_error(failure) from failure
        self._report(tract)
        return pipeBase.Struct(tract=tract, repeatability=tract.repeatability["rawRepeatability"])

    def _report(self, tract: CalibratedTract) -> None:
        """Keep in the metadata what was found."""
        report(self, tract.accounting, tract.notes)
        self.metadata["n_cycles"], self.metadata["converged"] = len(tract.cycles), tract.converged
        for band, value in zip(
            tract.repeatability["band"], tract.repeatability["rawRepeatability"], strict=True
        ):
            self.metadata[f"rawRepeatability_{band}"] = float(value)

"""ConsolidateVisitSummaryTask: what the calibrated images of a visit say of themselves, in one table.

The work is done by `zeropoint.quality.visit_summary` and `zeropoint.astrometry.refit_pointing`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
from lsst.images.cameras import CameraFrameSet
from lsst.utils.timer import timeMethod

from zeropoint.astrometry.refit_pointing import RefitPointing, RefitPointingResult
from zeropoint.quality.visit_summary import DetectorSummary, empty_visit_summary, make_visit_summary
from zeropoint.recipes.config_files import FileConfig
from zeropoint.tasks._quantum import calibration_failures, partial_outputs

__all__ = [
    "ConsolidateVisitSummaryConfig",
    "ConsolidateVisitSummaryConnections",
    "ConsolidateVisitSummaryTask",
]

_VISIT = ("instrument", "visit")


class ConsolidateVisitSummaryConnections(  # type: ignore[call-arg]  # a metaclass takes the dimensions
    pipeBase.PipelineTaskConnections, dimensions=_VISIT, defaultTemplates={"calexpType": ""}
):
    """Datasets of ConsolidateVisitSummaryTask, under Rubin's names."""

    calexp = cT.Input(
        doc="Calibrated images; only components are read.",
        name="calexp",
        storageClass="VisitImage",
        dimensions=("instrument", "visit", "detector"),
        multiple=True,
        deferLoad=True,
    )
    camera = cT.PrerequisiteInput(
        doc="Camera model to which the pointing is fitted.",
        name="camera",
        storageClass="ZpCamera",
        dimensions=("instrument",),
        isCalibration=True,
        # most cameras have a card and no model: their WCSs are then not compared
        minimum=0,
    )
    visitSummary = cT.Output(
        doc="Table with one row per detector, sorted: WCS, photometric calibration, statistics.",
        name="visitSummary",
        storageClass="ArrowAstropy",
        dimensions=_VISIT,
    )
    visitSummarySchema = cT.InitOutput(
        doc="Schema of the visit summary.", name="visitSummary_schema", storageClass="ArrowSchema"
    )
    visit_geometry = cT.Output(
        doc="Pointing and sky regions of visit and detectors.",
        name="visit_geometry",
        storageClass="StructuredDataDict",
        dimensions=_VISIT,
    )

    def __init__(self, *, config: ConsolidateVisitSummaryConfig | None = None) -> None:
        super().__init__(config=config)
        assert config is not None
        if not config.do_refit_pointing:
            del self.camera
        elif tuple(config.cameraDimensions) != ("instrument",):
            self.camera = cT.PrerequisiteInput(
                doc=self.camera.doc,
                name=self.camera.name,
                storageClass="ZpCamera",
                dimensions=tuple(config.cameraDimensions),
                isCalibration=True,
                minimum=0,
            )
        if not config.do_write_visit_geometry:
            del self.visit_geometry


class ConsolidateVisitSummaryConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    pipeBase.PipelineTaskConfig, FileConfig, pipelineConnections=ConsolidateVisitSummaryConnections
):
    """Configuration of `ConsolidateVisitSummaryTask`."""

    full = pexConfig.Field[bool](
        doc="Copy PSF and aperture corrections too? The table is then some ten times larger.", default=False
    )
    refitPointing = pexConfig.ConfigurableField(target=RefitPointing, doc="Fit of the visit's pointing.")
    cameraDimensions = pexConfig.ListField[str](doc="Dimensions of the camera model.", default=["instrument"])
    do_refit_pointing = pexConfig.Field[bool](
        doc="Fit the pointing to the WCSs, and remove those that cannot be right?", default=True
    )
    do_write_visit_geometry = pexConfig.Field[bool](
        doc="Write pointing and sky regions? Needs do_refit_pointing.", default=True
    )

    def setDefaults(self) -> None:
        """Mark the columns as those of the first WCSs."""
        super().setDefaults()
        self.refitPointing.schema_prefix = "preliminary_"

    def validate(self) -> None:
        """Require the fit of the pointing where its result is to be written."""
        super().validate()
        if self.do_write_visit_geometry and not self.do_refit_pointing:
            raise pexConfig.FieldValidationError(
                type(self).do_write_visit_geometry,
                self,
                "the regions come from the fit of the pointing; set do_refit_pointing, or do_write_visit_geometry=False",
            )


class ConsolidateVisitSummaryTask(pipeBase.PipelineTask):
    """Make the summary of a visit from the calibrated images of its detectors.

    Parameters
    ----------
    **kwargs
        As for `lsst.pipe.base.PipelineTask`.

    Attributes
    ----------
    visitSummarySchema : pyarrow.Schema
        Schema of ``visitSummary``; units and descriptions are metadata of the fields.
    """

    ConfigClass = ConsolidateVisitSummaryConfig
    _DefaultName = "consolidateVisitSummary"
    config: ConsolidateVisitSummaryConfig

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.refitPointing: RefitPointing = self.config.refitPointing.apply()
        empty = empty_visit_summary()
        if self.config.do_refit_pointing:
            empty = empty.with_columns(self.refitPointing.columns(0))
        self.visitSummarySchema = empty.to_arrow().schema.remove_metadata()

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Read components of the images of one visit, `run`, and write the tables."""
        inputs = butlerQC.get(inputRefs)
        result = pipeBase.Struct()
        with partial_outputs(self, butlerQC, outputRefs, result):
            self.run(
                int(butlerQC.quantum.dataId["visit"]),  # type: ignore[index, arg-type]
                [self._summary(handle) for handle in inputs["calexp"]],
                inputs.get("camera"),
                result=result,
            )

    @timeMethod
    def run(
        self,
        visit: int,
        detectors: Iterable[DetectorSummary],
        camera: CameraFrameSet | None = None,
        *,
        result: pipeBase.Struct | None = None,
    ) -> pipeBase.Struct:
        """Summarize one visit.

        Parameters
        ----------
        visit
            Visit number.
        detectors
            What the images say.
        camera
            Camera model; without one the pointing is not fitted.
        result
            Filled in place, also if no WCS is left; default: a new one.

        Returns
        -------
        result : lsst.pipe.base.Struct
            ``visitSummary`` (`pyarrow.Table`), ``visit_geometry`` (`dict`, or None), and the same as
            `~zeropoint.datamodel.exposure_catalog.ExposureCatalog` in ``catalog``.

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            If there is no detector.
        lsst.pipe.base.AlgorithmError
            If no detector has a WCS that could be right; the summary is there, without WCSs.
        """
        struct = pipeBase.Struct() if result is None else result
        catalog = make_visit_summary(visit, detectors)
        if len(catalog) == 0:
            raise pipeBase.NoWorkFound(f"visit {visit}: no detector has a calibrated image to summarize.")
        unmeasured = [record.id for record in catalog if not record["psfSigma"] > 0]
        if unmeasured:
            self.log.warning("visit %d: detectors %s have no summary statistics.", visit, unmeasured)
        self.metadata["n_detectors"] = len(catalog)
        self.metadata["n_detectors_without_statistics"] = len(unmeasured)
        if not self.config.do_refit_pointing:
            self._keep(struct, RefitPointingResult(catalog, None, None))
            return struct
        self.metadata["pointing_refitted"] = camera is not None
        if camera is None:
            self.log.info(
                "visit %d: there is no dataset %r, so the pointing is not fitted and no WCS is compared with the camera.",
                visit,
                self.config.connections.camera,
            )
        with calibration_failures(lambda record: self._keep(struct, record)):
            fitted = self.refitPointing.run(catalog, camera)
        self._keep(struct, fitted)
        self._tell(visit, fitted)
        return struct

    def _summary(self, handle: Any) -> DetectorSummary:
        """Read what an image says of itself."""
        names = ["bbox", "obs_info", "sky_projection", "photometric_scaling", "summary_stats", "bounds"]
        if self.config.full:
            names += ["psf", "aperture_corrections"]
        parts = {name: handle.get(component=name) for name in names}
        return DetectorSummary(
            detector=int(handle.dataId["detector"]),
            bbox=parts["bbox"],
            physical_filter=str(handle.dataId["physical_filter"]),
            band=str(handle.dataId["band"]),
            obs_info=parts["obs_info"],
            sky_projection=parts["sky_projection"],
            photometric_scaling=parts["photometric_scaling"],
            statistics=parts["summary_stats"],
            bounds=parts["bounds"],
            psf=parts.get("psf"),
            aperture_corrections=parts.get("aperture_corrections"),
        )

    def _keep(self, struct: pipeBase.Struct, fitted: RefitPointingResult) -> None:
        """Put what was established into the result and the task's metadata."""
        self.metadata["rejected_detectors"] = list(fitted.rejected)
        self.metadata["detectors_without_wcs"] = list(fitted.removed)
        struct.catalog = fitted.catalog
        struct.visitSummary = fitted.catalog.to_arrow()
        struct.visit_geometry = None if fitted.geometry is None else fitted.geometry.to_dict()

    def _tell(self, visit: int, fitted: RefitPointingResult) -> None:
        boresight = fitted.boresight
        if boresight is not None:
            self.metadata["boresight"] = [boresight.ra_deg, boresight.dec_deg, boresight.rotation_deg]
            self.log.info(
                "visit %d: pointing fitted to %d detectors: ra %.6f, dec %.6f, orientation %.4f degrees.",
                visit,
                len(fitted.catalog) - len(fitted.rejected) - len(fitted.unknown),
                boresight.ra_deg,
                boresight.dec_deg,
                boresight.rotation_deg,
            )

"""FgcmOutputIlluminationCorrectionTask: superstar flats of a fit in, what images are divided by out.

The images are made by `zeropoint.fgcm.outputs.illumination`; ``docs/fgcm_products.md`` describes them, ``docs/datasets.md`` lists
the datasets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
import numpy as np
from astropy.time import Time, TimeDelta
from lsst.daf.butler import DataCoordinate, DatasetRef, DatasetType, Registry, Timespan
from lsst.images import Image
from lsst.images.cameras import CameraFrameSet
from lsst.utils.timer import timeMethod

from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.outputs.illumination import illumination_corrections
from zeropoint.fgcm.outputs.photo_calib import detector_box
from zeropoint.fgcm.visit_geometry import stored_focal_plane
from zeropoint.tasks._fgcm import INSTRUMENT, camera_model, require_cycle_number, stored_table

__all__ = [
    "FgcmOutputIlluminationCorrectionConfig",
    "FgcmOutputIlluminationCorrectionConnections",
    "FgcmOutputIlluminationCorrectionTask",
]

_FLAT = ("instrument", "detector", "physical_filter")
_SECOND = TimeDelta(1.0, format="sec")


class FgcmOutputIlluminationCorrectionConnections(  # type: ignore[call-arg]  # a metaclass takes the dimensions
    pipeBase.PipelineTaskConnections,
    dimensions=("instrument", "detector"),
    defaultTemplates={"cycleNumber": "0"},
):
    """Datasets of FgcmOutputIlluminationCorrectionTask, under Rubin's names."""

    camera = camera_model("Camera model, where the star list does not say with which it was made.")
    fgcm_visit_catalog = cT.Input(
        doc="Visits; the metadata have the detectors.",
        name="fgcmVisitCatalog",
        storageClass="ArrowAstropy",
        dimensions=INSTRUMENT,
        deferLoad=True,
    )
    fgcm_fit_parameters_catalog = cT.Input(
        doc="Parameters of the fit.",
        name="fgcm_Cycle{cycleNumber}_FitParameters",
        storageClass="ArrowAstropy",
        dimensions=INSTRUMENT,
        deferLoad=True,
    )
    flat = cT.PrerequisiteInput(
        doc="Flats of the epoch, which the corrections belong to.",
        name="flat",
        storageClass="ImageV2",
        dimensions=_FLAT,
        isCalibration=True,
        multiple=True,
        deferLoad=True,
    )
    illumination_corrections = cT.Output(
        doc="What flat-fielded images are divided by.",
        name="illuminationCorrection",
        storageClass="ImageV2",
        dimensions=_FLAT,
        isCalibration=True,
        multiple=True,
    )

    def __init__(self, *, config: FgcmOutputIlluminationCorrectionConfig) -> None:
        super().__init__(config=config)
        require_cycle_number(config)
        if config.use_flat_metadata:
            self.flat = dataclasses.replace(self.flat, lookupFunction=config.find_flats)
        else:
            del self.flat


class FgcmOutputIlluminationCorrectionConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    pipeBase.PipelineTaskConfig, pipelineConnections=FgcmOutputIlluminationCorrectionConnections
):
    """Configuration of `FgcmOutputIlluminationCorrectionTask`."""

    use_flat_metadata = pexConfig.Field[bool](
        doc="Say in the metadata of a correction which flat it belongs to?", default=True
    )
    epoch_time = pexConfig.Field[str](
        doc="A time (UTC) in the epoch of which corrections are wanted.", default=None
    )
    epoch_format = pexConfig.Field[str](
        doc="Format of epoch_time, for astropy.time.Time: iso, isot, mjd.", default="iso"
    )
    physical_filters = pexConfig.ListField[str](doc="Filters of which corrections are made.", default=[])
    include_wcs_jacobian = pexConfig.Field[bool](
        doc="Are the areas of pixels part of the corrections? Then later star lists of images with these corrections need "
        "doApplyWcsJacobian=False.",
        default=True,
    )

    @property
    def epoch(self) -> Time:
        """The time in the epoch.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            If it cannot be read.
        """
        value = float(self.epoch_time) if self.epoch_format.endswith("jd") else self.epoch_time
        try:
            return Time(value, format=self.epoch_format, scale="utc")
        except (ValueError, TypeError) as error:
            raise pexConfig.FieldValidationError(
                type(self).epoch_time,
                self,
                f"{self.epoch_time!r} is no time of format {self.epoch_format!r}: {error}",
            ) from error

    def validate(self) -> None:
        """Check that the time can be read."""
        super().validate()
        _ = self.epoch

    def find_flats(
        self,
        dataset_type: DatasetType,
        registry: Registry,
        data_id: DataCoordinate,
        collections: Sequence[str],
    ) -> list[DatasetRef]:
        """Return the flats of a detector that are valid at the epoch, as the middleware asks for them."""
        span = Timespan(self.epoch - _SECOND, self.epoch + _SECOND)
        found = (
            registry.findDataset(
                dataset_type, data_id, physical_filter=name, timespan=span, collections=collections
            )
            for name in self.physical_filters
        )
        return [ref for ref in found if ref is not None]


class FgcmOutputIlluminationCorrectionTask(pipeBase.PipelineTask):
    """Make illumination corrections of the superstar flats of a fit."""

    ConfigClass = FgcmOutputIlluminationCorrectionConfig
    _DefaultName = "fgcmOutputIlluminationCorrection"
    config: FgcmOutputIlluminationCorrectionConfig

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Make the corrections of a detector, and write them."""
        inputs = butlerQC.get(inputRefs)
        refs = {str(ref.dataId["physical_filter"]): ref for ref in outputRefs.illumination_corrections}
        result = self.run(
            fgcm_visit_catalog=inputs["fgcm_visit_catalog"],
            fgcm_fit_parameters_catalog=inputs["fgcm_fit_parameters_catalog"],
            detector_id=int(butlerQC.quantum.dataId["detector"]),  # type: ignore[index]
            physical_filters=list(refs),
            camera=inputs.get("camera"),
            flats={
                str(handle.dataId["physical_filter"]): str(handle.ref.id) for handle in inputs.get("flat", ())
            },
        )
        for name, image in result.illum_corr_dict.items():
            butlerQC.put(image, refs[name])

    @timeMethod
    def run(
        self,
        *,
        fgcm_visit_catalog: Any,
        fgcm_fit_parameters_catalog: Any,
        detector_id: int,
        physical_filters: Sequence[str],
        camera: CameraFrameSet | None = None,
        flats: Mapping[str, str] | None = None,
    ) -> pipeBase.Struct:
        """Make the corrections of a detector.

        Parameters
        ----------
        fgcm_visit_catalog, fgcm_fit_parameters_catalog
            Handles of the tables, or the tables with their metadata.
        detector_id
            Detector.
        physical_filters
            Filters for which a correction may be written; those of the configuration among them are made.
        camera
            Camera model, where the visit catalogue does not say which one it was made with.
        flats
            Filter -> id of the flat.

        Returns
        -------
        result : lsst.pipe.base.Struct
            ``illum_corr_dict``: filter -> `lsst.images.Image`. A detector without a superstar flat gets ones, which the log
            says, and the metadata (``unfitted``).

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            If the fit does not have the detector.
        zeropoint.errors.InvalidInputError
            If a table cannot be used, or the epoch is not one of the fit.
        """
        config, visits = self.config, stored_table(fgcm_visit_catalog)
        plane = stored_focal_plane(visits) or (None if camera is None else FocalPlane.from_camera(camera))
        if plane is None:
            raise InvalidInputError(
                "The size of the detectors is not known: there is no camera, and fgcmVisitCatalog does not say with which it was "
                "made. Make the star list again."
            )
        found = illumination_corrections(stored_table(fgcm_fit_parameters_catalog), float(config.epoch.mjd))
        if detector_id not in plane or detector_id not in found.detectors:
            raise pipeBase.NoWorkFound(f"Detector {detector_id} is not in the fit.")
        geometry, images, unfitted = plane[detector_id], {}, []
        for name in (each for each in config.physical_filters if each in physical_filters):
            values = found.image(name, geometry, include_area=config.include_wcs_jacobian)
            if values is None:
                unfitted.append(name)
                values = np.ones((geometry.height, geometry.width), np.float32)
            metadata = {
                "LSST CALIB UUID FLAT": (flats or {}).get(name, "Unknown"),
                "PHYSICAL FILTER": name,
                "EPOCH MJD": float(config.epoch.mjd),
                "PIXEL AREA": bool(config.include_wcs_jacobian),
                "FITTED": name not in unfitted,
            }
            images[name] = Image(values, bbox=detector_box(geometry), metadata=metadata)
        if unfitted:
            self.log.warning(
                "Detector %d has no superstar flat in %s: its correction is 1.",
                detector_id,
                ", ".join(unfitted),
            )
        self.metadata["unfitted"] = unfitted
        return pipeBase.Struct(illum_corr_dict=images)

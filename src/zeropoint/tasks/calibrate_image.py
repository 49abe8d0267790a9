"""CalibrateImageTask: a post-ISR image in, a calibrated image, its stars and its background out.

The work is done by `zeropoint.recipes.calibrate_image`; here is what the middleware needs to know of it.
``docs/datasets.md`` lists every dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
from lsst.daf.butler import DimensionRecord
from lsst.images import VisitImage
from lsst.images.cameras import CameraFrameSet
from lsst.sphgeom import Region
from lsst.utils.timer import timeMethod

from zeropoint.catalogs.references import LoadReferenceObjectsConfig, ReferenceObjectLoader
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.photometry.color_terms import ColortermLibrary
from zeropoint.recipes.calibrate_image import CalibratedImage, CalibrateImage
from zeropoint.recipes.calibrate_image import CalibrateImageConfig as RecipeConfig
from zeropoint.recipes.calibrate_image.derived import DERIVABLE_FIELDS
from zeropoint.recipes.post_isr import exposure_from_visit_image
from zeropoint.tasks import _outputs
from zeropoint.tasks._kept_fields import KeptFields
from zeropoint.tasks._pointing import initial_wcs
from zeropoint.tasks._quantum import calibration_failures, partial_outputs, read_image
from zeropoint.tasks._references import ReferenceInput, reference_catalog
from zeropoint.tasks.ids import DetectorVisitIdGeneratorConfig

__all__ = ["CalibrateImageConfig", "CalibrateImageConnections", "CalibrateImageTask"]

_DETECTOR = ("instrument", "visit", "detector")
_FLAT = ("instrument", "detector", "physical_filter")


class CalibrateImageConnections(  # type: ignore[call-arg]  # a metaclass takes the dimensions
    pipeBase.PipelineTaskConnections, dimensions=("instrument", "visit", "detector")
):
    """Datasets of CalibrateImageTask, under Rubin's names."""

    astrometry_ref_cat = reference_catalog("Reference catalogue of the astrometry.", "gaia_dr3_20230707")
    photometry_ref_cat = reference_catalog("Reference catalogue of the photometry.", "ps1_pv3_3pi_20170110")
    camera_model = cT.PrerequisiteInput(
        doc="Camera model that the initial WCS is made from.",
        name="astrometry_camera",
        storageClass="ZpCamera",
        dimensions=("instrument", "physical_filter"),
        isCalibration=True,
        minimum=0,
    )
    exposures = cT.Input(
        doc="Post-ISR image, or the two snaps of a visit.",
        name="postISRCCD",
        storageClass="VisitImage",
        dimensions=("instrument", "exposure", "detector"),
        multiple=True,
        deferLoad=True,
    )
    background_flat = cT.PrerequisiteInput(
        doc="Flat with which the image was flattened.",
        name="flat",
        storageClass="ImageV2",
        dimensions=_FLAT,
        isCalibration=True,
    )
    illumination_correction = cT.PrerequisiteInput(
        doc="Illumination correction, by which the image is divided.",
        name="illuminationCorrection",
        storageClass="ImageV2",
        dimensions=_FLAT,
        isCalibration=True,
    )
    initial_stars_schema = cT.InitOutput(
        doc="Schema of the catalogue of stars.", name="initial_stars_schema", storageClass="ArrowSchema"
    )
    exposure = cT.Output(
        doc="Calibrated, background-subtracted image.",
        name="initial_pvi",
        storageClass="VisitImage",
        dimensions=_DETECTOR,
    )
    partial_exposure = cT.Output(
        doc="Image of a visit whose PSF or WCS could not be established.",
        name="initial_pvi_partial",
        storageClass="MaskedImageV2",
        dimensions=_DETECTOR,
    )
    stars = cT.Output(
        doc="Stars used for calibration, with sky coordinates and calibrated fluxes.",
        name="initial_stars_detector",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
    )
    stars_footprints = cT.Output(
        doc="Footprints of the stars.",
        name="initial_stars_footprints_detector",
        storageClass="ArrowTable",
        dimensions=_DETECTOR,
    )
    applied_photo_calib = cT.Output(
        doc="Photometric calibration that was applied to the image.",
        name="initial_photoCalib_detector",
        storageClass="ImageField",
        dimensions=_DETECTOR,
    )
    background = cT.Output(
        doc="Background that was subtracted, in the unit of the image.",
        name="initial_pvi_background",
        storageClass="BackgroundMap",
        dimensions=_DETECTOR,
    )
    background_to_photometric_ratio = cT.Output(
        doc="Ratio of a background-flattened image to a photometrically flattened one.",
        name="background_to_photometric_ratio",
        storageClass="ImageV2",
        dimensions=_DETECTOR,
    )
    mask = cT.Output(
        doc="Mask of the calibrated image.",
        name="preliminary_visit_mask",
        storageClass="MaskV2",
        dimensions=_DETECTOR,
    )
    psf_stars_footprints = cT.Output(
        doc="Footprints of the sources of which the PSF stars were chosen.",
        name="initial_psf_stars_footprints_detector",
        storageClass="ArrowTable",
        dimensions=_DETECTOR,
    )
    psf_stars = cT.Output(
        doc="Sources of which the PSF stars were chosen; fluxes are instrumental.",
        name="initial_psf_stars_detector",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
    )
    astrometry_matches = cT.Output(
        doc="Matches of the astrometric fit.",
        name="initial_astrometry_match_detector",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
    )
    photometry_matches = cT.Output(
        doc="Matches of the photometric fit.",
        name="initial_photometry_match_detector",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
    )

    def __init__(self, *, config: CalibrateImageConfig | None = None) -> None:
        super().__init__(config=config)
        assert config is not None
        for name in _outputs.OPTIONAL:
            if name not in (config.optional_outputs or ()):
                delattr(self, name)
        if not config.useButlerCamera:
            del self.camera_model
        if not config.do_illumination_correction:
            del self.background_flat
            del self.illumination_correction
            del self.background_to_photometric_ratio
        if not config.do_calibrate_pixels:
            del self.applied_photo_calib


class DiffractionSpikeMaskConfig(pexConfig.Config):
    """Fields of Rubin's step, so that its config files apply; the step itself is not available."""

    refObjLoader = pexConfig.ConfigField(
        dtype=LoadReferenceObjectsConfig, doc="Loading of the reference objects."
    )
    applyColorTerms = pexConfig.Field[bool](doc="Apply color terms?", default=False, optional=True)
    colorterms = pexConfig.ConfigField(dtype=ColortermLibrary, doc="Color terms by catalogue and filter.")
    photoCatName = pexConfig.Field[str](
        doc="Name of the photometric catalogue in colorterms.", default=None, optional=True
    )


class CalibrateImageConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    KeptFields, pipeBase.PipelineTaskConfig, RecipeConfig, pipelineConnections=CalibrateImageConnections
):
    """Configuration of `CalibrateImageTask`: the recipe's, with what concerns the repository."""

    derivable_fields = DERIVABLE_FIELDS

    id_generator = DetectorVisitIdGeneratorConfig.make_field()
    diffractionSpikeMask = pexConfig.ConfigField(
        dtype=DiffractionSpikeMaskConfig, doc="Masking of diffraction spikes; not available."
    )
    useButlerExposureRegion = pexConfig.Field[bool](
        doc="Load references within the region that the registry has of the image, in place of its WCS?",
        default=False,
    )
    useButlerCamera = pexConfig.Field[bool](
        doc="Make the initial WCS from the camera model of the repository?", default=False
    )

    def setDefaults(self) -> None:
        """Keep what is left of a failed image, too."""
        super().setDefaults()
        self.optional_outputs.append("partial_exposure")


class CalibrateImageTask(pipeBase.PipelineTask):
    """Compute PSF, aperture corrections, WCS and zeropoint of a visit's detector image, and its stars.

    Parameters
    ----------
    initial_stars_schema
        Ignored; present as in Rubin's task.
    **kwargs
        As for `lsst.pipe.base.PipelineTask`.

    Attributes
    ----------
    initial_stars_schema : pyarrow.Schema
        Schema of ``stars``; units and descriptions are metadata of the fields.

    Examples
    --------
    Without a Butler::

        task = CalibrateImageTask(config=config)
        source = ReferenceSource.open("gaia.parquet")
        task.set_reference_loaders(ReferenceObjectLoader(source, config.astrometry_ref_loader))
        result = task.run(exposures=[visit_image])
        result.stars["base_PsfFlux_mag"]
    """

    ConfigClass = CalibrateImageConfig
    _DefaultName = "calibrateImage"
    config: CalibrateImageConfig

    def __init__(self, initial_stars_schema: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.recipe = CalibrateImage(self.config)
        self.initial_stars_schema = _outputs.table_schema(self.recipe.star_schema)
        self._astrometry_loader: ReferenceObjectLoader | None = None
        self._photometry_loader: ReferenceObjectLoader | None = None

    def set_reference_loaders(
        self, astrometry: ReferenceObjectLoader, photometry: ReferenceObjectLoader | None = None
    ) -> None:
        """Set where `run` gets its reference objects.

        Parameters
        ----------
        astrometry, photometry
            Loaders; without a second one, the catalogue of the first serves both.
        """
        self._astrometry_loader = astrometry
        self._photometry_loader = photometry or ReferenceObjectLoader(
            astrometry.source, self.config.photometry_ref_loader
        )

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Read the inputs of one quantum, `run`, and write what was established."""
        data_id = butlerQC.quantum.dataId
        inputs = butlerQC.get(inputRefs)
        handles = sorted(inputs.pop("exposures"), key=lambda handle: handle.dataId["exposure"])
        references, names = ReferenceInput(), self.config.connections
        self.set_reference_loaders(
            references.loader(
                names.astrometry_ref_cat, inputs.pop("astrometry_ref_cat"), self.config.astrometry_ref_loader
            ),
            references.loader(
                names.photometry_ref_cat, inputs.pop("photometry_ref_cat"), self.config.photometry_ref_loader
            ),
        )
        result = pipeBase.Struct()
        with partial_outputs(self, butlerQC, outputRefs, result):
            self.run(
                exposures=[read_image(handle) for handle in handles],
                id_generator=self.config.id_generator.apply(data_id),
                result=result,
                exposure_record=handles[0].dataId.records["exposure"],
                exposure_region=data_id.region if self.config.useButlerExposureRegion else None,
                **inputs,
            )
            _outputs.expect_no_partial(butlerQC, outputRefs)

    @timeMethod
    def run(
        self,
        *,
        exposures: Sequence[VisitImage | Exposure],
        id_generator: CatalogIdGenerator | None = None,
        result: pipeBase.Struct | None = None,
        background_flat: Any = None,
        illumination_correction: Any = None,
        camera_model: CameraFrameSet | None = None,
        exposure_record: DimensionRecord | None = None,
        exposure_region: Region | None = None,
    ) -> pipeBase.Struct:
        """Calibrate one detector of one visit.

        Parameters
        ----------
        exposures
            One post-ISR image, or two snaps; their pixels are modified in place.
        id_generator
            Packs row ids and gives the seed; default: ids count from 1, seed 0.
        result
            Filled in place, also if the image cannot be calibrated; default: a new one.
        background_flat
            Not used; present as in Rubin's task.
        illumination_correction
            Image that divides the exposure when ``do_illumination_correction``.
        camera_model
            Gives the initial WCS, from the pointing of the record or the exposure.
        exposure_record
            Its pointing, where it has one, replaces that of the exposure.
        exposure_region
            Region within which references are loaded; default: the image and a margin.

        Returns
        -------
        result : lsst.pipe.base.Struct
            One attribute for each output connection, None for what was not established, and ``record``: the
            recipe's `~zeropoint.recipes.calibrate_image.CalibratedImage`.

        Raises
        ------
        lsst.pipe.base.AlgorithmError
            If the image cannot be calibrated.
        zeropoint.errors.InvalidInputError
            If an input cannot be used.
        """
        struct = pipeBase.Struct() if result is None else result
        snaps = [
            image if isinstance(image, Exposure) else exposure_from_visit_image(image) for image in exposures
        ]
        with calibration_failures(lambda record: self._keep(struct, record)):
            record = self.recipe.run(
                snaps,
                astrometry_references=self._astrometry_loader,
                photometry_references=self._photometry_loader,
                id_generator=id_generator,
                illumination_correction=_outputs.plane(illumination_correction),
                initial_wcs=initial_wcs(snaps[0], camera_model, exposure_record),
                exposure_region=exposure_region,
                label=f"visit {snaps[0].visit_info.visit} detector {snaps[0].detector.id}",
            )
        self._keep(struct, record)
        return struct

    def _keep(self, struct: pipeBase.Struct, record: CalibratedImage) -> None:
        """Put what was established into the result and the task's metadata."""
        _outputs.fill(struct, record)
        _outputs.record_metadata(self.metadata, record)

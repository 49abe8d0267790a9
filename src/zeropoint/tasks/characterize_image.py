"""CharacterizeImageTask: a post-ISR image in; PSF, aperture corrections and bright sources out.

The work is done by `zeropoint.recipes.characterize_image`; here is what the middleware needs to know of it.
``docs/datasets.md`` lists every dataset.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
from lsst.images import BackgroundMap, VisitImage
from lsst.utils.timer import timeMethod

from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.datamodel.background import BackgroundList
from zeropoint.datamodel.background_fields import background_list
from zeropoint.datamodel.catalog import SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.recipes.calibrate_image.products import is_established
from zeropoint.recipes.characterize_image import CharacterizedImage, CharacterizeImage
from zeropoint.recipes.characterize_image import CharacterizeImageConfig as RecipeConfig
from zeropoint.recipes.characterize_image.config import DERIVED_NAMES
from zeropoint.recipes.characterized_file import characterized_exposure, characterized_image
from zeropoint.recipes.post_isr import NOMINAL_PSF, exposure_from_visit_image
from zeropoint.tasks import _outputs
from zeropoint.tasks._kept_fields import KeptFields
from zeropoint.tasks._quantum import calibration_failures, partial_outputs, read_image
from zeropoint.tasks._references import ReferenceInput, reference_catalog
from zeropoint.tasks.ids import DetectorVisitIdGeneratorConfig

__all__ = ["CharacterizeImageConfig", "CharacterizeImageConnections", "CharacterizeImageTask"]

_DETECTOR = ("instrument", "visit", "detector")


class CharacterizeImageConnections(  # type: ignore[call-arg]  # a metaclass takes the dimensions
    pipeBase.PipelineTaskConnections, dimensions=("instrument", "visit", "detector")
):
    """Datasets of CharacterizeImageTask, under Rubin's names."""

    refCat = reference_catalog(
        "Reference catalogue; only for star selectors that use matches.", "gaia_dr3_20230707"
    )
    exposure = cT.Input(
        doc="Post-ISR image; a visit has one.",
        name="postISRCCD",
        storageClass="VisitImage",
        dimensions=("instrument", "exposure", "detector"),
        deferLoad=True,
    )
    outputSchema = cT.InitOutput(
        doc="Schema of the catalogue of sources.", name="icSrc_schema", storageClass="ArrowSchema"
    )
    characterized = cT.Output(
        doc="Background-subtracted image with PSF and aperture corrections.",
        name="icExp",
        storageClass="VisitImage",
        dimensions=_DETECTOR,
    )
    sourceCat = cT.Output(
        doc="Bright sources; fluxes are instrumental.",
        name="icSrc",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
    )
    footprints = cT.Output(
        doc="Footprints of the sources.",
        name="icSrc_footprints",
        storageClass="ArrowTable",
        dimensions=_DETECTOR,
    )
    backgroundModel = cT.Output(
        doc="Background that was subtracted.",
        name="icExpBackground",
        storageClass="BackgroundMap",
        dimensions=_DETECTOR,
    )

    def __init__(self, *, config: CharacterizeImageConfig | None = None) -> None:
        super().__init__(config=config)
        assert config is not None
        selector = config.measurePsf.starSelector.target if config.doMeasurePsf else None
        if selector is None or not selector.usesMatches:
            del self.refCat
        if not (config.doWrite and config.doWriteExposure):
            del self.characterized
            del self.backgroundModel
        if not config.doWrite:
            del self.sourceCat
            del self.footprints

    def adjustQuantum(
        self,
        inputs: dict[str, tuple[Any, Collection[Any]]],
        outputs: dict[str, tuple[Any, Collection[Any]]],
        label: str,
        data_id: Any,
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Refuse a visit of several exposures in words."""
        try:
            return super().adjustQuantum(inputs, outputs, label, data_id)
        except pipeBase.ScalarError:
            raise pipeBase.ScalarError(
                f"{label}: visit {data_id['visit']} has several exposures, and CharacterizeImageTask takes visits of "
                "one. Leave it out of the data query, or calibrate it with CalibrateImageTask, which combines snaps."
            ) from None


class CharacterizeImageConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    KeptFields, pipeBase.PipelineTaskConfig, RecipeConfig, pipelineConnections=CharacterizeImageConnections
):
    """Configuration of `CharacterizeImageTask`: the recipe's, with what concerns the repository."""

    derivable_fields = tuple(DERIVED_NAMES.values())

    idGenerator = DetectorVisitIdGeneratorConfig.make_field()


class CharacterizeImageTask(pipeBase.PipelineTask):
    """Measure background, cosmic rays, PSF and aperture corrections of a visit's detector image.

    Parameters
    ----------
    refObjLoader
        Reference objects, for star selectors that use matches.
    schema
        Ignored; present as in Rubin's task.
    **kwargs
        As for `lsst.pipe.base.PipelineTask`.

    Attributes
    ----------
    schema : zeropoint.datamodel.catalog.Schema
        Columns of the catalogue.
    outputSchema : pyarrow.Schema
        Schema of ``sourceCat``; units and descriptions are metadata of the fields.
    recipe : zeropoint.recipes.characterize_image.CharacterizeImage
        What does the work.

    Examples
    --------
    Without a Butler::

        task = CharacterizeImageTask(config=CharacterizeImageConfig())
        result = task.run(visit_image)
        result.characterized.psf
    """

    ConfigClass = CharacterizeImageConfig
    _DefaultName = "characterizeImage"
    config: CharacterizeImageConfig

    def __init__(
        self, refObjLoader: ReferenceObjectLoader | None = None, schema: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.recipe = CharacterizeImage(self.config)
        self.schema = self.recipe.schema
        self.outputSchema = _outputs.table_schema(self.schema)
        self.refObjLoader = refObjLoader

    def getSchemaCatalogs(self) -> dict[str, SourceCatalog]:
        """Return an empty catalogue for each catalogue dataset."""
        return self.recipe.getSchemaCatalogs()

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Read the inputs of one quantum, `run`, and write what was established."""
        inputs = butlerQC.get(inputRefs)
        if "refCat" in inputs:
            name = self.config.connections.refCat
            self.refObjLoader = ReferenceInput().loader(name, inputs["refCat"], self.config.refObjLoader)
        result = pipeBase.Struct()
        with partial_outputs(self, butlerQC, outputRefs, result):
            self.run(
                read_image(inputs["exposure"]),
                idGenerator=self.config.idGenerator.apply(butlerQC.quantum.dataId),
                result=result,
            )

    @timeMethod
    def run(
        self,
        exposure: VisitImage | Exposure,
        background: BackgroundMap | BackgroundList | None = None,
        idGenerator: CatalogIdGenerator | None = None,
        *,
        result: pipeBase.Struct | None = None,
    ) -> pipeBase.Struct:
        """Characterize one detector of one visit.

        Parameters
        ----------
        exposure
            Post-ISR image; its pixels are modified in place.
        background
            What has been subtracted from it before.
        idGenerator
            Packs row ids and gives the seed; default: ids count from 1, seed 0.
        result
            Filled in place, also if the image cannot be characterized; default: a new one.

        Returns
        -------
        result : lsst.pipe.base.Struct
            One attribute for each output connection, None for what was not established; ``exposure`` and
            ``background`` are ``characterized`` and ``backgroundModel``; ``psfCellSet``: the PSF candidates;
            ``record``: the recipe's `~zeropoint.recipes.characterize_image.CharacterizedImage`.

        Raises
        ------
        lsst.pipe.base.AlgorithmError
            If the image cannot be characterized.
        zeropoint.errors.InvalidInputError
            If an input cannot be used.
        """
        struct = pipeBase.Struct() if result is None else result
        working = exposure if isinstance(exposure, Exposure) else self._working(exposure)
        with calibration_failures(lambda record: self._keep(struct, record)):
            record = self.recipe.run(
                working,
                background_list(background) if isinstance(background, BackgroundMap) else background,
                idGenerator,
                reference_loader=self.refObjLoader,
                label=f"visit {working.visit_info.visit} detector {working.detector.id}",
            )
        self._keep(struct, record)
        return struct

    def _working(self, image: VisitImage) -> Exposure:
        """Return the working exposure, with the image's own PSF where it has one and none is to be measured."""
        if self.config.doMeasurePsf or image.metadata.get(NOMINAL_PSF, False):
            return exposure_from_visit_image(image)
        return characterized_exposure(image)

    def _keep(self, struct: pipeBase.Struct, record: CharacterizedImage) -> None:
        """Put what was established into the result and the task's metadata."""
        background = _outputs.electron_background(record.background)
        image = characterized_image(record) if is_established(record) else None
        values = {
            "record": record,
            "characterized": image,
            "exposure": image,
            "sourceCat": _outputs.catalog_table(record.catalog),
            "footprints": _outputs.footprints_table(record.footprints, record),
            "backgroundModel": background,
            "background": background,
            "psfCellSet": record.psfCellSet,
        }
        for name, value in values.items():
            setattr(struct, name, value)
        _outputs.record_metadata(self.metadata, record)

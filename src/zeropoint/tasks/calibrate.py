"""CalibrateTask: a characterized image in; WCS, zeropoint and all its sources out.

The work is done by `zeropoint.recipes.calibrate`; here is what the middleware needs to know of it.
``docs/datasets.md`` lists every dataset.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
import numpy as np
from astropy.table import Table
from lsst.images import BackgroundMap, VisitImage
from lsst.utils.timer import timeMethod

from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.datamodel.background import BackgroundList
from zeropoint.datamodel.background_fields import background_list
from zeropoint.datamodel.catalog import Schema, SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.footprint_table import SourceFootprints
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.photometry.header import magzero_metadata
from zeropoint.photometry.photocal import PhotoCalResult
from zeropoint.recipes.calibrate import Calibrate, CalibratedExposure
from zeropoint.recipes.calibrate import CalibrateConfig as RecipeConfig
from zeropoint.recipes.calibrate.config import DERIVED_NAMES
from zeropoint.recipes.calibrate_image.products import is_established, to_visit_image
from zeropoint.recipes.characterized_file import characterized_exposure, schema_from_arrow
from zeropoint.tasks import _outputs
from zeropoint.tasks._kept_fields import KeptFields
from zeropoint.tasks._quantum import calibration_failures, partial_outputs
from zeropoint.tasks._references import ReferenceInput, reference_catalog
from zeropoint.tasks.ids import DetectorVisitIdGeneratorConfig

__all__ = ["CalibrateConfig", "CalibrateConnections", "CalibrateTask"]

_LOG = logging.getLogger(__name__)
_DETECTOR = ("instrument", "visit", "detector")


class CalibrateConnections(  # type: ignore[call-arg]  # a metaclass takes the dimensions
    pipeBase.PipelineTaskConnections, dimensions=("instrument", "visit", "detector")
):
    """Datasets of CalibrateTask, under Rubin's names."""

    icSourceSchema = cT.InitInput(
        doc="Schema of the sources of CharacterizeImageTask.",
        name="icSrc_schema",
        storageClass="ArrowSchema",
    )
    outputSchema = cT.InitOutput(
        doc="Schema of the catalogue of sources.", name="src_schema", storageClass="ArrowSchema"
    )
    exposure = cT.Input(
        doc="Characterized image.", name="icExp", storageClass="VisitImage", dimensions=_DETECTOR
    )
    background = cT.Input(
        doc="Background that was subtracted from it.",
        name="icExpBackground",
        storageClass="BackgroundMap",
        dimensions=_DETECTOR,
    )
    icSourceCat = cT.Input(
        doc="Sources of CharacterizeImageTask.",
        name="icSrc",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
    )
    astromRefCat = reference_catalog("Reference catalogue of the astrometry.", "gaia_dr3_20230707")
    photoRefCat = reference_catalog("Reference catalogue of the photometry.", "ps1_pv3_3pi_20170110")
    outputExposure = cT.Output(
        doc="Image in electrons with fitted WCS and photometric calibration.",
        name="calexp",
        storageClass="VisitImage",
        dimensions=_DETECTOR,
    )
    outputCat = cT.Output(
        doc="All sources; fluxes are instrumental.",
        name="src",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
    )
    footprints = cT.Output(
        doc="Footprints of the sources.",
        name="src_footprints",
        storageClass="ArrowTable",
        dimensions=_DETECTOR,
    )
    outputBackground = cT.Output(
        doc="Background that was subtracted.",
        name="calexpBackground",
        storageClass="BackgroundMap",
        dimensions=_DETECTOR,
    )
    matches = cT.Output(
        doc="Matches of the astrometry: ids of reference and source, and their distance.",
        name="srcMatch",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
    )
    matchesDenormalized = cT.Output(
        doc="Matches of the astrometry, with all columns of references and sources.",
        name="srcMatchFull",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
    )

    def __init__(self, *, config: CalibrateConfig | None = None) -> None:
        super().__init__(config=config)
        assert config is not None
        wanted = {
            "astromRefCat": config.doAstrometry,
            "photoRefCat": config.doPhotoCal,
            "outputExposure": config.doWrite and config.doWriteExposure,
            "outputBackground": config.doWrite and config.doWriteExposure,
            "outputCat": config.doWrite,
            "footprints": config.doWrite,
            "matches": config.doWrite and config.doWriteMatches and config.doAstrometry,
            "matchesDenormalized": config.doWrite
            and config.doWriteMatchesDenormalized
            and config.doAstrometry,
        }
        for name, is_wanted in wanted.items():
            if not is_wanted:
                delattr(self, name)


class CalibrateConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    KeptFields, pipeBase.PipelineTaskConfig, RecipeConfig, pipelineConnections=CalibrateConnections
):
    """Configuration of `CalibrateTask`: the recipe's, with what concerns the repository."""

    derivable_fields = tuple(DERIVED_NAMES.values())

    idGenerator = DetectorVisitIdGeneratorConfig.make_field()


class CalibrateTask(pipeBase.PipelineTask):
    """Fit WCS and zeropoint of a characterized detector image, and measure all its sources.

    Parameters
    ----------
    astromRefObjLoader, photoRefObjLoader
        Reference objects for `run`; in a pipeline they come from the connections.
    icSourceSchema : pyarrow.Schema or zeropoint.datamodel.catalog.Schema
        Columns of the sources of CharacterizeImageTask; None copies none of them.
    initInputs
        The same under the key ``icSourceSchema``, as the middleware gives it.
    **kwargs
        As for `lsst.pipe.base.PipelineTask`.

    Attributes
    ----------
    schema : zeropoint.datamodel.catalog.Schema
        Columns of the catalogue.
    outputSchema : pyarrow.Schema
        Schema of ``outputCat``; units and descriptions are metadata of the fields.
    calibSourceKey, skySourceKey : str or None
        Flags of sources found by CharacterizeImageTask, and of sky sources; None where there are none.
    schemaMapper : dict or None
        Column of those sources -> column here that it is copied to.
    recipe : zeropoint.recipes.calibrate.Calibrate
        What does the work.

    Raises
    ------
    zeropoint.errors.InvalidInputError
        If columns of ``icSourceFieldsToCopy`` do not exist; all are named.

    Examples
    --------
    Without a Butler::

        first = CharacterizeImageTask(config=CharacterizeImageConfig())
        bright = first.run(visit_image)
        task = CalibrateTask(config=config, icSourceSchema=first.outputSchema, photoRefObjLoader=loader)
        result = task.run(bright.exposure, bright.background, bright.sourceCat)
        result.outputExposure.photometric_scaling
    """

    ConfigClass = CalibrateConfig
    _DefaultName = "calibrate"
    config: CalibrateConfig

    def __init__(
        self,
        astromRefObjLoader: ReferenceObjectLoader | None = None,
        photoRefObjLoader: ReferenceObjectLoader | None = None,
        icSourceSchema: Any = None,
        initInputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(initInputs=initInputs, **kwargs)
        if icSourceSchema is None and initInputs is not None:
            icSourceSchema = initInputs["icSourceSchema"]
        if icSourceSchema is not None and not isinstance(icSourceSchema, Schema):
            icSourceSchema = schema_from_arrow(icSourceSchema)
        self.recipe = Calibrate(self.config, icSourceSchema)
        self.schema = self.recipe.schema
        self.outputSchema = _outputs.table_schema(self.schema)
        copies = icSourceSchema is not None
        self.calibSourceKey = "calib_detected" if copies else None
        self.skySourceKey = "sky_source" if self.config.doSkySources else None
        self.schemaMapper = {name: name for name in self.config.icSourceFieldsToCopy} if copies else None
        self.astromRefObjLoader, self.photoRefObjLoader = astromRefObjLoader, photoRefObjLoader

    def getSchemaCatalogs(self) -> dict[str, SourceCatalog]:
        """Return an empty catalogue for each catalogue dataset."""
        return self.recipe.getSchemaCatalogs()

    def setMetadata(self, exposure: Exposure, photoRes: PhotoCalResult | None = None) -> None:
        """Write MAGZERO and its kin into the metadata of an image, in place.

        Parameters
        ----------
        exposure
            The image.
        photoRes
            Result of the photometric fit; None changes nothing.
        """
        if photoRes is not None:
            exposure.metadata.update(magzero_metadata(photoRes, exposure.visit_info.exposure_time))

    def copyIcSourceFields(self, icSourceCat: SourceCatalog | Table, sourceCat: SourceCatalog) -> None:
        """Copy ``icSourceFieldsToCopy`` to the nearest sources, in place, and set ``calib_detected`` there."""
        self.recipe.sources.copy_ic_sources(icSourceCat, sourceCat)

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Read the inputs of one quantum, `run`, and write what was established."""
        inputs = butlerQC.get(inputRefs)
        references, names = ReferenceInput(), self.config.connections
        for catalog, loader in (
            ("astromRefCat", "astromRefObjLoader"),
            ("photoRefCat", "photoRefObjLoader"),
        ):
            if catalog in inputs:
                shards, name = inputs.pop(catalog), getattr(names, catalog)
                setattr(self, loader, references.loader(name, shards, getattr(self.config, loader)))
        result = pipeBase.Struct()
        with partial_outputs(self, butlerQC, outputRefs, result):
            self.run(
                **inputs,
                idGenerator=self.config.idGenerator.apply(butlerQC.quantum.dataId),
                result=result,
            )

    @timeMethod
    def run(
        self,
        exposure: VisitImage | Exposure,
        background: BackgroundMap | BackgroundList | None = None,
        icSourceCat: SourceCatalog | Table | None = None,
        idGenerator: CatalogIdGenerator | None = None,
        *,
        result: pipeBase.Struct | None = None,
    ) -> pipeBase.Struct:
        """Calibrate one detector of one visit.

        Parameters
        ----------
        exposure
            Characterized image; its pixels are modified in place.
        background
            What has been subtracted from it.
        icSourceCat
            Sources of CharacterizeImageTask, of which columns are copied; None copies none.
        idGenerator
            Packs row ids and gives the seed; default: ids count from 1, seed 0.
        result
            Filled in place, also if the image cannot be calibrated; default: a new one.

        Returns
        -------
        result : lsst.pipe.base.Struct
            One attribute for each output connection, None for what was not established; ``exposure``, ``sourceCat``
            and ``background`` are ``outputExposure``, ``outputCat`` and ``outputBackground``; ``astromMatches`` is
            ``matchesDenormalized``; ``matchMeta``: where its references were loaded; ``record``: the recipe's
            `~zeropoint.recipes.calibrate.CalibratedExposure`.

        Raises
        ------
        lsst.pipe.base.AlgorithmError
            If the image cannot be calibrated.
        zeropoint.errors.InvalidInputError
            If an input cannot be used.
        """
        struct = pipeBase.Struct() if result is None else result
        working = exposure if isinstance(exposure, Exposure) else characterized_exposure(exposure)
        with calibration_failures(lambda record: self._keep(struct, record)):
            record = self.recipe.run(
                working,
                background_list(background) if isinstance(background, BackgroundMap) else background,
                icSourceCat,
                astrometry_references=self.astromRefObjLoader,
                photometry_references=self.photoRefObjLoader,
                id_generator=idGenerator,
                label=f"visit {working.visit_info.visit} detector {working.detector.id}",
            )
        self._keep(struct, record)
        if struct.outputExposure is None:
            _LOG.warning("Without a WCS there is no calibrated image: its sources and background are all.")
        return struct

    def _keep(self, struct: pipeBase.Struct, record: CalibratedExposure) -> None:
        """Put what was established into the result and the task's metadata."""
        background = _outputs.electron_background(record.background)
        image = to_visit_image(record) if is_established(record) else None
        sources, matches = _outputs.catalog_table(record.sources), record.matches
        values = {
            "record": record,
            "outputExposure": image,
            "exposure": image,
            "outputCat": sources,
            "sourceCat": sources,
            "footprints": _outputs.footprints_table(self._footprints(record.footprints), record),
            "outputBackground": background,
            "background": background,
            "matches": record.normalized_matches,
            "matchesDenormalized": matches,
            "astromMatches": matches,
            "matchMeta": record.match_metadata,
        }
        for name, value in values.items():
            setattr(struct, name, value)
        _outputs.record_metadata(self.metadata, record)
        if record.match_metadata:
            self.metadata.set_dict("matchMeta", record.match_metadata)

    def _footprints(self, footprints: SourceFootprints | None) -> SourceFootprints | None:
        """Return footprints as they are written: with the pixels of deblended sources only if so configured."""
        if footprints is None or self.config.doWriteHeavyFootprintsInSources:
            return footprints
        none = np.zeros(len(footprints) + 1, np.int64)
        bare = replace(footprints.footprints, pixel_offsets=none, pixels=np.zeros(0, np.float32))
        return replace(footprints, footprints=bare)

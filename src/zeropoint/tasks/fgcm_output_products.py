"""FgcmOutputProductsTask: tables of the last cycle of a fit in; calibrations, atmospheres and standard stars out.

The work is done by `zeropoint.recipes.fgcm_output_products`; ``docs/fgcm_products.md`` describes the products,
``docs/datasets.md`` lists the datasets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
from lsst.images.cameras import CameraFrameSet
from lsst.utils.timer import timeMethod

from zeropoint.catalogs.references import LoadReferenceObjectsConfig, ReferenceObjectLoader
from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.datamodel.skymap import SkyMap
from zeropoint.errors import CalibrationFailure
from zeropoint.fgcm.outputs.atmospheres import look_up_table_atmosphere
from zeropoint.fgcm.outputs.config import FgcmOutputProductsConfigBase
from zeropoint.recipes.fgcm_output_products import FgcmOutputProducts, FgcmProducts
from zeropoint.tasks._errors import algorithm_error
from zeropoint.tasks._fgcm import (
    INSTRUMENT,
    camera_model,
    look_up_table,
    look_up_table_header,
    report,
    require_cycle_number,
    stored_table,
)
from zeropoint.tasks._progress import step_progress
from zeropoint.tasks._references import reference_catalog, survey_references
from zeropoint.tasks._tables import stored

__all__ = ["FgcmOutputProductsConfig", "FgcmOutputProductsConnections", "FgcmOutputProductsTask"]

_VISIT = ("instrument", "visit")


def _of_survey(name: str, doc: str) -> cT.Input:
    return cT.Input(doc=doc, name=name, storageClass="ArrowAstropy", dimensions=INSTRUMENT, deferLoad=True)


def _of_visits(name: str, doc: str) -> cT.Output:
    return cT.Output(doc=doc, name=name, storageClass="ArrowAstropy", dimensions=_VISIT, multiple=True)


class FgcmOutputProductsConnections(  # type: ignore[call-arg]  # a metaclass takes the dimensions
    pipeBase.PipelineTaskConnections, dimensions=INSTRUMENT, defaultTemplates={"cycleNumber": "0"}
):
    """Datasets of FgcmOutputProductsTask, under Rubin's names."""

    camera = camera_model("Camera model, where the star list does not have the areas of pixels.")
    skymap = cT.Input(
        doc="Sky map, by whose tracts stars are divided.",
        name="skyMap",
        storageClass="ZpSkyMap",
        dimensions=("skymap",),
    )
    fgcmLookUpTable = look_up_table()
    fgcmVisitCatalog = _of_survey("fgcmVisitCatalog", "Visits.")
    fgcmStandardStars = _of_survey("fgcm_Cycle{cycleNumber}_StandardStars", "Standard stars of the fit.")
    fgcmZeropoints = _of_survey("fgcm_Cycle{cycleNumber}_Zeropoints", "Zeropoints of the fit.")
    fgcmAtmosphereParameters = _of_survey(
        "fgcm_Cycle{cycleNumber}_AtmosphereParameters", "Atmosphere of each visit."
    )
    refCat = reference_catalog("Reference catalogue for the absolute calibration.", "cal_ref_cat")
    fgcmPhotoCalib = _of_visits(
        "fgcmPhotoCalibCatalog", "Photometric calibrations of the detectors of each visit."
    )
    fgcmTransmissionAtmosphere = _of_visits(
        "transmission_atmosphere_fgcm", "Transmission of the atmosphere in each visit."
    )
    fgcmOffsets = cT.Output(
        doc="What the comparison with references added to each band.",
        name="fgcmReferenceCalibrationOffsets",
        storageClass="ArrowAstropy",
        dimensions=INSTRUMENT,
    )
    fgcmTractStars = cT.Output(
        doc="Standard stars of each tract.",
        name="fgcm_standard_star",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "tract", "skymap"),
        multiple=True,
    )

    def __init__(self, *, config: FgcmOutputProductsConfigBase) -> None:
        super().__init__(config=config)
        require_cycle_number(config)
        wanted = {
            "refCat": config.doReferenceCalibration,
            "fgcmOffsets": config.doReferenceCalibration,
            "fgcmAtmosphereParameters": config.doAtmosphereOutput,
            "fgcmTransmissionAtmosphere": config.doAtmosphereOutput,
            "fgcmLookUpTable": config.doAtmosphereOutput or config.doReferenceCalibration,
            "camera": config.doZeropointOutput and config.doComposeWcsJacobian,
            "fgcmZeropoints": config.doZeropointOutput,
            "fgcmPhotoCalib": config.doZeropointOutput,
            "skymap": config.doTractStars,
            "fgcmTractStars": config.doTractStars,
        }
        for name, is_wanted in wanted.items():
            if not is_wanted:
                delattr(self, name)

    def getSpatialBoundsConnections(self) -> Iterable[str]:
        """Return the connections whose regions bound the reference catalogue."""
        return tuple(name for name in ("fgcmPhotoCalib", "fgcmTransmissionAtmosphere") if hasattr(self, name))


class FgcmOutputProductsConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    pipeBase.PipelineTaskConfig,
    FgcmOutputProductsConfigBase,
    pipelineConnections=FgcmOutputProductsConnections,
):
    """Configuration of `FgcmOutputProductsTask`: that of the recipe, and how references are loaded."""

    refObjLoader = pexConfig.ConfigField[LoadReferenceObjectsConfig](
        doc="How references are loaded, with doReferenceCalibration: bands of the catalogue, proper motions."
    )


class FgcmOutputProductsTask(pipeBase.PipelineTask):
    """Make the products of a finished fit."""

    ConfigClass = FgcmOutputProductsConfig
    _DefaultName = "fgcmOutputProducts"
    config: FgcmOutputProductsConfig

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Read the tables of the fit, make the products, and write them visit by visit and tract by tract."""
        inputs = butlerQC.get(inputRefs)
        products = self.run(**inputs).products
        if products.photo_calibs is not None:
            by_visit = {int(ref.dataId["visit"]): ref for ref in outputRefs.fgcmPhotoCalib}
            calibs = products.photo_calibs
            self._put(
                butlerQC,
                by_visit,
                calibs.visits.tolist(),
                lambda visit: calibs.catalog(visit).to_arrow(),
                "visit",
            )
        if products.atmospheres is not None:
            by_visit = {int(ref.dataId["visit"]): ref for ref in outputRefs.fgcmTransmissionAtmosphere}
            air = products.atmospheres
            rows = {int(visit): row for row, visit in enumerate(air.visits)}
            self._put(butlerQC, by_visit, rows, lambda visit: air.curve(rows[visit]).to_table(), "visit")
        if products.offsets is not None:
            butlerQC.put(products.offsets.to_table(), outputRefs.fgcmOffsets)
        if products.tract_stars is not None:
            by_tract = {int(ref.dataId["tract"]): ref for ref in outputRefs.fgcmTractStars}
            self._put(butlerQC, by_tract, products.tract_stars.tracts, products.tract_stars.of, "tract")

    def _put(
        self,
        butlerQC: pipeBase.QuantumContext,
        refs: Mapping[int, Any],
        keys: Iterable[int],
        make: Callable[[int], Any],
        what: str,
    ) -> None:
        """Write the products of those visits or tracts that the quantum has."""
        keys = list(keys)
        beside = [key for key in keys if key not in refs]
        if beside:
            self.log.warning(
                "%d %ss have products, but are not among those that the data query chose: %s.",
                len(beside),
                what,
                ", ".join(map(str, beside[:8])) + (", ..." if len(beside) > 8 else ""),
            )
        wanted = [key for key in keys if key in refs]
        with step_progress(self.log.name) as on_progress:
            for done, key in enumerate(wanted, 1):
                butlerQC.put(stored(pipeBase.Struct(product=make(key))).product, refs[key])
                on_progress(f"products of {what}s", done, len(wanted))

    @timeMethod
    def run(
        self,
        *,
        fgcmVisitCatalog: Any,
        fgcmStandardStars: Any,
        fgcmZeropoints: Any = None,
        fgcmAtmosphereParameters: Any = None,
        fgcmLookUpTable: Any = None,
        camera: CameraFrameSet | None = None,
        skymap: SkyMap | None = None,
        refCat: Sequence[Any] = (),
    ) -> pipeBase.Struct:
        """Make the products of a fit.

        Parameters
        ----------
        fgcmVisitCatalog, fgcmStandardStars, fgcmZeropoints, fgcmAtmosphereParameters
            Handles of the tables, or the tables with their metadata; the last two are needed with ``doZeropointOutput`` and
            ``doAtmosphereOutput``.
        fgcmLookUpTable : handle or zeropoint.fgcm.lut.LookUpTable
            Needed with ``doAtmosphereOutput`` and ``doReferenceCalibration``; the header is enough.
        camera
            Camera model, where ``fgcmVisitCatalog`` does not say which one it was made with.
        skymap
            Needed with ``doTractStars``.
        refCat
            Shards of the reference catalogue; needed with ``doReferenceCalibration``.

        Returns
        -------
        result : lsst.pipe.base.Struct
            ``products`` (`~zeropoint.recipes.fgcm_output_products.FgcmProducts`), and as in Rubin's task ``offsets`` (of each
            band), ``photoCalibCatalogs``, ``atmospheres`` and ``tractStars``, which yield pairs of visit or tract and product.

        Raises
        ------
        zeropoint.errors.InvalidInputError
            If a table cannot be used.
        lsst.pipe.base.AlgorithmError
            If the reference catalogue has too few of the standard stars.
        """
        config = self.config
        header = None if fgcmLookUpTable is None else look_up_table_header(fgcmLookUpTable)
        try:
            loader = None
            if config.doReferenceCalibration:
                every = survey_references(config.connections.refCat, refCat)
                loader = ReferenceObjectLoader(every.source, config.refObjLoader)
            with step_progress(self.log.name) as on_progress:
                products = FgcmOutputProducts(config).run(
                    stored_table(fgcmVisitCatalog),
                    stored_table(fgcmStandardStars),
                    zeropoints=stored_table(fgcmZeropoints),
                    atmospheres=stored_table(fgcmAtmosphereParameters),
                    atmosphere=look_up_table_atmosphere(header)
                    if config.doAtmosphereOutput and header
                    else None,
                    standard_filters=None if header is None else header.std_filter_of,
                    focal_plane=None if camera is None else FocalPlane.from_camera(camera),
                    sky_map=skymap,
                    references=loader,
                    on_progress=on_progress,
                )
        except CalibrationFailure as failure:
            raise algorithm_error(failure) from failure
        report(self, products.accounting, products.notes)
        return _struct(products)


def _struct(products: FgcmProducts) -> pipeBase.Struct:
    """Return the products, also under the names that Rubin's task gives them."""
    return pipeBase.Struct(
        products=products,
        offsets=None if products.offsets is None else products.offsets.offset,
        photoCalibCatalogs=None if products.photo_calibs is None else iter(products.photo_calibs),
        atmospheres=None if products.atmospheres is None else iter(products.atmospheres),
        tractStars=None if products.tract_stars is None else iter(products.tract_stars),
    )

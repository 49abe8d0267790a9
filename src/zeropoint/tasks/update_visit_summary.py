"""UpdateVisitSummaryTask: the final summary of a visit, from its preliminary one and final components.

The work is done by `zeropoint.recipes.update_visit_summary`; here is what the middleware needs to know of it.
``docs/visit_summary.md`` describes the tables, ``docs/datasets.md`` lists every dataset.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
import pyarrow as pa
from astropy.table import Table
from lsst.images import BackgroundMap, VisitImage
from lsst.images.cameras import CameraFrameSet
from lsst.utils.timer import timeMethod

from zeropoint.datamodel.exposure_catalog import ExposureCatalog
from zeropoint.datamodel.photo_calib_catalog import PhotoCalibCatalog, is_photo_calib_table
from zeropoint.datamodel.skymap import SkyMap
from zeropoint.quality.visit_summary import empty_visit_summary
from zeropoint.recipes.update_visit_summary import UpdatedVisitSummary, UpdateVisitSummary
from zeropoint.recipes.update_visit_summary import UpdateVisitSummaryConfig as RecipeConfig
from zeropoint.recipes.update_visit_summary.choosers import (
    GlobalInput,
    PerHealpixInput,
    PerTractInput,
    PossiblyMultipleInput,
)
from zeropoint.recipes.update_visit_summary.config import healpix_level
from zeropoint.recipes.update_visit_summary.images import ImageHandle
from zeropoint.tasks._quantum import calibration_failures, partial_outputs

__all__ = ["UpdateVisitSummaryConfig", "UpdateVisitSummaryConnections", "UpdateVisitSummaryTask"]

type AnyTable = Table | pa.Table

_VISIT = ("instrument", "visit")
_DETECTOR = ("instrument", "visit", "detector")
#: The default of ``wcs_overrides_skypix``; ``wcs_provider`` says which it is.
_HEALPIX = "healpix3"
#: Connections with one dataset for each detector of the summary.
_BY_DETECTOR = ("input_exposures", "background_originals", "background_overrides")


class UpdateVisitSummaryConnections(  # type: ignore[call-arg]  # a metaclass takes the dimensions
    pipeBase.PipelineTaskConnections,
    dimensions=_VISIT,
    defaultTemplates={"skyWcsName": "gbdesAstrometricFit", "photoCalibName": "fgcm"},
):
    """Datasets of UpdateVisitSummaryTask, under Rubin's names."""

    camera = cT.PrerequisiteInput(
        doc="Camera model with which WCSs are compared.",
        name="camera",
        storageClass="ZpCamera",
        dimensions=("instrument",),
        isCalibration=True,
        # most cameras have a card and no model: their WCSs are then not compared
        minimum=0,
    )
    sky_map = cT.Input(
        doc="Sky map, of whose tracts the nearest counts.",
        name="skyMap",
        storageClass="ZpSkyMap",
        dimensions=("skymap",),
    )
    input_summary_schema = cT.InitInput(
        doc="Schema of the preliminary summary.", name="visitSummary_schema", storageClass="ArrowSchema"
    )
    input_summary_catalog = cT.Input(
        doc="Preliminary summary.",
        name="visitSummary",
        storageClass="ArrowTable",
        dimensions=_VISIT,
        # a visit without one has no final summary, but its PSFs are fitted again
        deferGraphConstraint=True,
    )
    input_exposures = cT.Input(
        doc="Calibrated images; their masks are read, and their pixels where the background changes.",
        name="calexp",
        storageClass="VisitImage",
        dimensions=_DETECTOR,
        multiple=True,
        deferLoad=True,
        deferGraphConstraint=True,
    )
    psf_overrides = cT.Input(
        doc="Final PSFs.",
        name="finalized_psf_ap_corr_catalog",
        storageClass="ArrowTable",
        dimensions=_VISIT,
        deferGraphConstraint=True,
    )
    psf_star_catalog = cT.Input(
        doc="Stars measured with the final PSFs.",
        name="finalized_src_table",
        storageClass="ArrowAstropy",
        dimensions=_VISIT,
        deferGraphConstraint=True,
    )
    ap_corr_overrides = cT.Input(
        doc="Final aperture corrections.",
        name="finalized_psf_ap_corr_catalog",
        storageClass="ArrowTable",
        dimensions=_VISIT,
        deferGraphConstraint=True,
    )
    photo_calib_overrides_tract = cT.Input(
        doc="Final photometric calibrations, by tract.",
        name="{photoCalibName}PhotoCalibCatalog",
        storageClass="ArrowTable",
        dimensions=(*_VISIT, "tract"),
        multiple=True,
        deferGraphConstraint=True,
    )
    photo_calib_overrides_global = cT.Input(
        doc="Final photometric calibrations of the whole visit.",
        name="{photoCalibName}PhotoCalibCatalog",
        storageClass="ArrowTable",
        dimensions=_VISIT,
        deferGraphConstraint=True,
    )
    wcs_overrides_tract = cT.Input(
        doc="Final WCSs, by tract.",
        name="{skyWcsName}SkyWcsCatalog",
        storageClass="ArrowTable",
        dimensions=(*_VISIT, "tract"),
        multiple=True,
        deferGraphConstraint=True,
    )
    wcs_overrides_skypix = cT.Input(
        doc="Final WCSs, by HEALPix pixel.",
        name="gbdesHealpix3AstrometricFitSkyWcsCatalog",
        storageClass="ArrowTable",
        dimensions=(*_VISIT, _HEALPIX),
        multiple=True,
        deferGraphConstraint=True,
    )
    wcs_overrides_global = cT.Input(
        doc="Final WCSs of the whole visit.",
        name="{skyWcsName}SkyWcsCatalog",
        storageClass="ArrowTable",
        dimensions=_VISIT,
        deferGraphConstraint=True,
    )
    background_originals = cT.Input(
        doc="Backgrounds that were subtracted from the images.",
        name="calexpBackground",
        storageClass="BackgroundMap",
        dimensions=_DETECTOR,
        multiple=True,
        deferLoad=True,
        deferGraphConstraint=True,
    )
    background_overrides = cT.Input(
        doc="Backgrounds that are to be subtracted besides.",
        name="skyCorr",
        storageClass="BackgroundMap",
        dimensions=_DETECTOR,
        multiple=True,
        deferLoad=True,
        deferGraphConstraint=True,
    )
    output_summary_schema = cT.InitOutput(
        doc="Schema of the final summary.", name="finalVisitSummary_schema", storageClass="ArrowSchema"
    )
    output_summary_catalog = cT.Output(
        doc="Table with one row per detector, sorted: all final components, and statistics.",
        name="finalVisitSummary",
        storageClass="ArrowAstropy",
        dimensions=_VISIT,
    )
    visit_geometry = cT.Output(
        doc="Pointing and sky regions of visit and detectors.",
        name="visit_geometry",
        storageClass="StructuredDataDict",
        dimensions=_VISIT,
    )

    def __init__(self, *, config: UpdateVisitSummaryConfig | None = None) -> None:
        super().__init__(config=config)
        assert config is not None
        is_healpix = healpix_level(config.wcs_provider) is not None
        wanted = {
            "camera": config.do_refit_pointing,
            "sky_map": "tract" in (config.wcs_provider, config.photo_calib_provider),
            "photo_calib_overrides_tract": config.photo_calib_provider == "tract",
            "photo_calib_overrides_global": config.photo_calib_provider == "global",
            "wcs_overrides_tract": config.wcs_provider == "tract",
            "wcs_overrides_skypix": is_healpix,
            "wcs_overrides_global": config.wcs_provider == "global",
            "background_originals": config.background_provider == "replacement",
            "background_overrides": config.background_provider == "replacement",
            "visit_geometry": config.do_write_visit_geometry,
        }
        if is_healpix and config.wcs_provider != _HEALPIX:
            dimensions = (*_VISIT, config.wcs_provider)
            self.wcs_overrides_skypix = dataclasses.replace(self.wcs_overrides_skypix, dimensions=dimensions)
        if config.do_refit_pointing and tuple(config.camera_dimensions) != ("instrument",):
            self.camera = dataclasses.replace(self.camera, dimensions=tuple(config.camera_dimensions))
        for name, is_wanted in wanted.items():
            if not is_wanted:
                delattr(self, name)


class UpdateVisitSummaryConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    pipeBase.PipelineTaskConfig, RecipeConfig, pipelineConnections=UpdateVisitSummaryConnections
):
    """Configuration of `UpdateVisitSummaryTask`: the recipe's."""


class UpdateVisitSummaryTask(pipeBase.PipelineTask):
    """Make the final summary of a visit.

    Parameters
    ----------
    input_summary_schema : pyarrow.Schema
        Schema of the preliminary summaries; default: that of summaries made here, without refitted pointing.
    initInputs
        The same under the key ``input_summary_schema``, as the middleware gives it.
    **kwargs
        As for `lsst.pipe.base.PipelineTask`.

    Attributes
    ----------
    output_summary_schema : pyarrow.Schema
        Schema of ``output_summary_catalog``; units and descriptions are metadata of the fields.
    recipe : zeropoint.recipes.update_visit_summary.UpdateVisitSummary
        What does the work.
    """

    ConfigClass = UpdateVisitSummaryConfig
    _DefaultName = "updateVisitSummary"
    config: UpdateVisitSummaryConfig

    def __init__(
        self,
        input_summary_schema: pa.Schema | None = None,
        initInputs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(initInputs=initInputs, **kwargs)
        self.recipe = UpdateVisitSummary(self.config)
        schema = (initInputs or {}).get("input_summary_schema", input_summary_schema)
        empty = empty_visit_summary() if schema is None else ExposureCatalog.from_table(schema.empty_table())
        self.output_summary_schema = self.recipe.output_catalog(empty).to_arrow().schema.remove_metadata()

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Read the inputs of one visit, `run`, and write the summary."""
        inputs = butlerQC.get(inputRefs)
        summary = ExposureCatalog.from_table(inputs.pop("input_summary_catalog"))
        sky_map = inputs.pop("sky_map", None)
        for name in _BY_DETECTOR:
            if name in inputs:
                inputs[name] = {int(handle.dataId["detector"]): handle for handle in inputs[name]}
                self._require(name, summary, inputs[name], butlerQC)
        inputs["wcs_overrides"] = self._override("wcs_overrides", inputs, inputRefs, sky_map)
        inputs["photo_calib_overrides"] = self._override("photo_calib_overrides", inputs, inputRefs, sky_map)
        result = pipeBase.Struct()
        with partial_outputs(self, butlerQC, outputRefs, result):
            self.run(summary, **inputs, result=result)

    @timeMethod
    def run(
        self,
        input_summary_catalog: ExposureCatalog | AnyTable,
        input_exposures: Mapping[int, VisitImage | ImageHandle],
        psf_overrides: ExposureCatalog | AnyTable | None = None,
        psf_star_catalog: AnyTable | None = None,
        ap_corr_overrides: ExposureCatalog | AnyTable | None = None,
        photo_calib_overrides: PossiblyMultipleInput | None = None,
        wcs_overrides: PossiblyMultipleInput | None = None,
        background_originals: Mapping[int, BackgroundMap | ImageHandle] | None = None,
        background_overrides: Mapping[int, BackgroundMap | ImageHandle] | None = None,
        camera: CameraFrameSet | None = None,
        *,
        result: pipeBase.Struct | None = None,
    ) -> pipeBase.Struct:
        """Make the final summary of one visit.

        Parameters
        ----------
        input_summary_catalog, psf_overrides, ap_corr_overrides
            Exposure catalogues, or their tables.
        input_exposures, psf_star_catalog, photo_calib_overrides, wcs_overrides, background_originals, \
background_overrides, camera
            As for `zeropoint.recipes.update_visit_summary.UpdateVisitSummary.run`.
        result
            Filled in place, also if no WCS is left; default: a new one.

        Returns
        -------
        result : lsst.pipe.base.Struct
            ``output_summary_catalog`` (`pyarrow.Table`), ``visit_geometry`` (`dict`, or None), and the recipe's
            `~zeropoint.recipes.update_visit_summary.UpdatedVisitSummary` in ``record``.

        Raises
        ------
        lsst.pipe.base.AlgorithmError
            If no WCS agrees with the camera's geometry; the summary is there, without WCSs.
        zeropoint.errors.InvalidInputError
            If an input cannot be used.
        """
        struct = pipeBase.Struct() if result is None else result
        with calibration_failures(lambda record: self._keep(struct, record)):
            record = self.recipe.run(
                _catalog(input_summary_catalog),
                input_exposures,
                None if psf_overrides is None else _catalog(psf_overrides),
                psf_star_catalog,
                None if ap_corr_overrides is None else _catalog(ap_corr_overrides),
                photo_calib_overrides,
                wcs_overrides,
                background_originals,
                background_overrides,
                camera,
            )
        self._keep(struct, record)
        return struct

    def _keep(self, struct: pipeBase.Struct, record: UpdatedVisitSummary) -> None:
        """Put what was established into the result and the task's metadata."""
        struct.record = record
        struct.output_summary_catalog = record.catalog.to_arrow()
        struct.visit_geometry = None if record.visit_geometry is None else record.visit_geometry.to_dict()
        for name, value in record.metadata.items():
            if isinstance(value, dict):
                self.metadata.set_dict(name, value)
            else:
                self.metadata[name] = value

    def _require(
        self,
        name: str,
        summary: ExposureCatalog,
        handles: Mapping[int, Any],
        butlerQC: pipeBase.QuantumContext,
    ) -> None:
        """Raise unless there is a dataset for every detector of the summary."""
        missing = [detector for detector in summary.ids.tolist() if detector not in handles]
        if missing:
            raise pipeBase.InvalidQuantumError(
                f"{getattr(self.config.connections, name)} ({name}) lacks detector {', '.join(map(str, missing))} of "
                f"{butlerQC.quantum.dataId}, which the summary has. The quantum graph was probably made for a tract, or "
                "for datasets that belong to one: make it for whole visits."
            )

    def _override(
        self,
        name: str,
        inputs: dict[str, Any],
        refs: pipeBase.InputQuantizedConnection,
        sky_map: SkyMap | None,
    ) -> PossiblyMultipleInput | None:
        """Take the override catalogues of one kind out of the inputs, in place; None if there are none."""
        if f"{name}_global" in inputs:
            return GlobalInput(_override_catalog(inputs.pop(f"{name}_global")))
        if f"{name}_tract" in inputs:
            assert sky_map is not None
            tables = _by_dimension(refs, inputs, f"{name}_tract", "tract")
            return PerTractInput([(sky_map[i], _override_catalog(table)) for i, table in tables.items()])
        if f"{name}_skypix" in inputs:
            level = healpix_level(self.config.wcs_provider)
            assert level is not None
            tables = _by_dimension(refs, inputs, f"{name}_skypix", self.config.wcs_provider)
            return PerHealpixInput([(i, _override_catalog(table)) for i, table in tables.items()], level)
        return None


def _by_dimension(
    refs: pipeBase.InputQuantizedConnection, inputs: dict[str, Any], name: str, dimension: str
) -> dict[int, AnyTable]:
    """Take the tables of a connection out of the inputs, in place, by tract or pixel."""
    ids = [int(ref.dataId[dimension]) for ref in getattr(refs, name)]
    return dict(zip(ids, inputs.pop(name), strict=True))


def _catalog(table: ExposureCatalog | AnyTable) -> ExposureCatalog:
    return table if isinstance(table, ExposureCatalog) else ExposureCatalog.from_table(table)


def _override_catalog(table: AnyTable) -> ExposureCatalog | PhotoCalibCatalog:
    """Return a table of photometric calibrations or an exposure catalogue, whichever it is."""
    return (
        PhotoCalibCatalog.from_table(table)
        if is_photo_calib_table(table)
        else ExposureCatalog.from_table(table)
    )

"""Final characterization: PSF and aperture corrections again, from stars that all visits agree on.

The work is done by `zeropoint.recipes.finalize`; here is what the middleware needs to know of it. ``docs/final_psf.md``
describes it, ``docs/datasets.md`` lists every dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
from lsst.utils.timer import timeMethod

from zeropoint.datamodel.exposure_catalog import VISIT_COMMENTS, ExposureCatalog
from zeropoint.recipes.finalize import FinalizeCharacterizationConfig as RecipeConfig
from zeropoint.recipes.finalize import FinalizedDetector, Outcome
from zeropoint.recipes.finalize.products import (
    detector_catalog,
    stack_star_tables,
    star_table,
    visit_catalog,
    visit_star_table,
)
from zeropoint.tasks._finalize import FinalizeCharacterizationTaskBase, by_tract, loaded
from zeropoint.tasks._tables import stored

__all__ = [
    "ConsolidateFinalizeCharacterizationDetectorConfig",
    "ConsolidateFinalizeCharacterizationDetectorConnections",
    "ConsolidateFinalizeCharacterizationDetectorTask",
    "FinalizeCharacterizationConfig",
    "FinalizeCharacterizationConnections",
    "FinalizeCharacterizationDetectorConfig",
    "FinalizeCharacterizationDetectorConnections",
    "FinalizeCharacterizationDetectorTask",
    "FinalizeCharacterizationTask",
]

_TRACT = ("instrument", "tract", "skymap")
_VISIT = ("instrument", "visit")
_DETECTOR = ("instrument", "visit", "detector")


class _StarConnections(pipeBase.PipelineTaskConnections, dimensions=()):  # type: ignore[call-arg]  # a metaclass takes the dimensions
    """Inputs by tract, which both variants have."""

    isolated_star_cats = cT.Input(
        doc="Isolated stars.",
        name="isolated_star_presource_associations",
        storageClass="ArrowAstropy",
        dimensions=_TRACT,
        deferLoad=True,
        multiple=True,
    )
    isolated_star_sources = cT.Input(
        doc="Sources of the isolated stars.",
        name="isolated_star_presources",
        storageClass="ArrowAstropy",
        dimensions=_TRACT,
        deferLoad=True,
        multiple=True,
    )
    fgcm_standard_star = cT.Input(
        doc="Photometric standard stars, for colours and magnitudes.",
        name="fgcm_standard_star",
        storageClass="ArrowAstropy",
        dimensions=_TRACT,
        deferLoad=True,
        multiple=True,
    )

    def __init__(self, *, config: Any = None) -> None:
        super().__init__(config=config)
        assert config is not None
        if not config.uses_standard_stars:
            del self.fgcm_standard_star


class FinalizeCharacterizationConnections(_StarConnections, dimensions=_VISIT):  # type: ignore[call-arg]
    """Datasets of FinalizeCharacterizationTask, under Rubin's names, and the footprints."""

    srcs = cT.Input(
        doc="Sources of each detector.",
        name="src",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
        deferLoad=True,
        multiple=True,
        deferGraphConstraint=True,
    )
    src_footprints = cT.Input(
        doc="Footprints of the sources.",
        name="src_footprints",
        storageClass="ArrowTable",
        dimensions=_DETECTOR,
        deferLoad=True,
        multiple=True,
        deferGraphConstraint=True,
    )
    calexps = cT.Input(
        doc="Calibrated image of each detector.",
        name="calexp",
        storageClass="VisitImage",
        dimensions=_DETECTOR,
        deferLoad=True,
        multiple=True,
    )
    finalized_psf_ap_corr_cat = cT.Output(
        doc="PSF and aperture corrections of each detector; id is the detector.",
        name="finalized_psf_ap_corr_catalog",
        storageClass="ArrowAstropy",
        dimensions=_VISIT,
    )
    finalized_src_table = cT.Output(
        doc="Candidate stars of all detectors, measured with the new PSF.",
        name="finalized_src_table",
        storageClass="ArrowAstropy",
        dimensions=_VISIT,
    )


class FinalizeCharacterizationDetectorConnections(_StarConnections, dimensions=_DETECTOR):  # type: ignore[call-arg]
    """Datasets of FinalizeCharacterizationDetectorTask, under Rubin's names, and the footprints."""

    src = cT.Input(doc="Sources.", name="src", storageClass="ArrowAstropy", dimensions=_DETECTOR)
    src_footprints = cT.Input(
        doc="Footprints of the sources.",
        name="src_footprints",
        storageClass="ArrowTable",
        dimensions=_DETECTOR,
    )
    calexp = cT.Input(
        doc="Calibrated image.",
        name="calexp",
        storageClass="VisitImage",
        dimensions=_DETECTOR,
        deferLoad=True,
    )
    finalized_psf_ap_corr_detector_cat = cT.Output(
        doc="PSF and aperture corrections; id is the detector.",
        name="finalized_psf_ap_corr_detector_catalog",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
    )
    finalized_src_detector_table = cT.Output(
        doc="Candidate stars, measured with the new PSF.",
        name="finalized_src_detector_table",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
    )


class FinalizeCharacterizationConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    pipeBase.PipelineTaskConfig, RecipeConfig, pipelineConnections=FinalizeCharacterizationConnections
):
    """Configuration of `FinalizeCharacterizationTask`: the recipe's, with what concerns the repository."""


class FinalizeCharacterizationDetectorConfig(  # type: ignore[call-arg]
    pipeBase.PipelineTaskConfig, RecipeConfig, pipelineConnections=FinalizeCharacterizationDetectorConnections
):
    """Configuration of `FinalizeCharacterizationDetectorTask`: the recipe's, with what concerns the repository."""


class FinalizeCharacterizationTask(FinalizeCharacterizationTaskBase):
    """Fit PSF and aperture corrections of all detectors of a visit."""

    ConfigClass = FinalizeCharacterizationConfig
    _DefaultName = "finalize_characterization"

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Read the inputs of one quantum, `run`, and write the results."""
        inputs = butlerQC.get(inputRefs)
        data_id = butlerQC.quantum.dataId
        by_detector = {
            name: {int(handle.dataId["detector"]): handle for handle in inputs[name]}
            for name in ("srcs", "src_footprints", "calexps")
        }
        result = self.run(
            int(data_id["visit"]),
            str(data_id["band"]),
            by_tract(inputs["isolated_star_cats"]),
            by_tract(inputs["isolated_star_sources"]),
            by_detector["srcs"],
            by_detector["calexps"],
            by_tract(inputs.get("fgcm_standard_star", [])),
            footprints_dict=by_detector["src_footprints"],
        )
        outputs = pipeBase.Struct(
            finalized_psf_ap_corr_cat=result.psf_ap_corr_cat.to_arrow(),
            finalized_src_table=result.output_table,
        )
        butlerQC.put(stored(outputs), outputRefs)

    @timeMethod
    def run(
        self,
        visit: int,
        band: str,
        isolated_star_cat_dict: Mapping[int, Any],
        isolated_star_source_dict: Mapping[int, Any],
        src_dict: Mapping[int, Any],
        calexp_dict: Mapping[int, Any],
        fgcm_standard_star_dict: Mapping[int, Any] | None = None,
        *,
        footprints_dict: Mapping[int, Any] | None = None,
    ) -> pipeBase.Struct:
        """Characterize all detectors of a visit.

        Parameters
        ----------
        visit, band
            Visit number, and its band.
        isolated_star_cat_dict, isolated_star_source_dict, fgcm_standard_star_dict
            Tract -> table or handle.
        src_dict, calexp_dict, footprints_dict
            Detector -> sources, calibrated image and footprints of the sources, or a handle of them. Footprints may be
            those of the catalogues in ``src_dict``.

        Returns
        -------
        result : lsst.pipe.base.Struct
            ``psf_ap_corr_cat`` (`~zeropoint.datamodel.exposure_catalog.ExposureCatalog`), ``output_table``
            (`~astropy.table.Table`), and ``results``: what became of each detector.

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            If no detector has a source of an isolated star.
        """
        detectors = sorted(set(src_dict) & set(calexp_dict))
        odd = sorted(set(src_dict) ^ set(calexp_dict))
        if odd:
            self.log.warning("visit %d: detectors %s have sources or an image, but not both.", visit, odd)
        isolated = self._concatenate(band, isolated_star_cat_dict, isolated_star_source_dict, visit)
        if isolated is None:
            self.metadata["outcome"] = str(Outcome.NO_ISOLATED_SOURCES)
            raise pipeBase.NoWorkFound(f"No isolated stars in {band} are sources of visit {visit}.")
        standards = self._standards(fgcm_standard_star_dict)
        results: list[FinalizedDetector] = []
        for detector in detectors:
            result = self._finalize(
                visit,
                detector,
                calexp_dict[detector],
                src_dict[detector],
                (footprints_dict or {}).get(detector),
                isolated.sources,
                standards,
            )
            self.metadata.set_dict(f"detector_{detector}", result.metadata())
            results.append(result)
        kept = [result for result in results if result.measured is not None]
        self.metadata["n_detectors"], self.metadata["n_detectors_kept"] = len(detectors), len(kept)
        self.metadata["n_detectors_ok"] = sum(result.outcome is Outcome.OK for result in results)
        if not kept:
            raise pipeBase.NoWorkFound(f"No detector of visit {visit} has candidates for the PSF.")
        return pipeBase.Struct(
            psf_ap_corr_cat=visit_catalog(kept), output_table=visit_star_table(kept), results=results
        )


class FinalizeCharacterizationDetectorTask(FinalizeCharacterizationTaskBase):
    """Fit PSF and aperture corrections of one detector of a visit."""

    ConfigClass = FinalizeCharacterizationDetectorConfig
    _DefaultName = "finalize_characterization_detector"

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Read the inputs of one quantum, `run`, and write the results."""
        inputs = butlerQC.get(inputRefs)
        data_id = butlerQC.quantum.dataId
        result = self.run(
            int(data_id["visit"]),
            str(data_id["band"]),
            int(data_id["detector"]),
            by_tract(inputs["isolated_star_cats"]),
            by_tract(inputs["isolated_star_sources"]),
            inputs["src"],
            inputs["calexp"],
            by_tract(inputs.get("fgcm_standard_star", [])),
            footprints=inputs["src_footprints"],
        )
        outputs = pipeBase.Struct(
            finalized_psf_ap_corr_detector_cat=result.psf_ap_corr_cat.to_arrow(),
            finalized_src_detector_table=result.output_table,
        )
        butlerQC.put(stored(outputs), outputRefs)

    @timeMethod
    def run(
        self,
        visit: int,
        band: str,
        detector: int,
        isolated_star_cat_dict: Mapping[int, Any],
        isolated_star_source_dict: Mapping[int, Any],
        src: Any,
        exposure: Any,
        fgcm_standard_star_dict: Mapping[int, Any] | None = None,
        *,
        footprints: Any = None,
    ) -> pipeBase.Struct:
        """Characterize one detector of a visit.

        Parameters
        ----------
        visit, band, detector
            Numbers, and the visit's band.
        isolated_star_cat_dict, isolated_star_source_dict, fgcm_standard_star_dict
            Tract -> table or handle.
        src
            Table of the sources, or a catalogue that has footprints.
        exposure
            Calibrated image, or a handle of it.
        footprints
            Table of the footprints of the sources.

        Returns
        -------
        result : lsst.pipe.base.Struct
            ``psf_ap_corr_cat`` (`~zeropoint.datamodel.exposure_catalog.ExposureCatalog`), ``output_table``
            (`~astropy.table.Table`), and ``result``: what became of the detector. Where no PSF could be fitted, both
            outputs exist all the same, without PSF and measurements.

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            If the detector has no source of an isolated star, or none that may be a candidate.
        """
        place = f"visit {visit} detector {detector}"
        isolated = self._concatenate(band, isolated_star_cat_dict, isolated_star_source_dict, visit, detector)
        if isolated is None:
            self.metadata["outcome"] = str(Outcome.NO_ISOLATED_SOURCES)
            raise pipeBase.NoWorkFound(f"No isolated stars in {band} are sources of {place}.")
        standards = self._standards(fgcm_standard_star_dict)
        result = self._finalize(visit, detector, exposure, src, footprints, isolated.sources, standards)
        for name, value in result.metadata().items():
            self.metadata[name] = value
        if result.measured is None:
            raise pipeBase.NoWorkFound(f"{place}: {result.reason}")
        return pipeBase.Struct(
            psf_ap_corr_cat=detector_catalog(result), output_table=star_table(result), result=result
        )


class ConsolidateFinalizeCharacterizationDetectorConnections(  # type: ignore[call-arg]
    pipeBase.PipelineTaskConnections, dimensions=_VISIT
):
    """Datasets of ConsolidateFinalizeCharacterizationDetectorTask, under Rubin's names."""

    finalized_psf_ap_corr_detector_cats = cT.Input(
        doc="PSF and aperture corrections of each detector.",
        name="finalized_psf_ap_corr_detector_catalog",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
        deferLoad=True,
        multiple=True,
    )
    finalized_src_detector_tables = cT.Input(
        doc="Candidate stars of each detector.",
        name="finalized_src_detector_table",
        storageClass="ArrowAstropy",
        dimensions=_DETECTOR,
        deferLoad=True,
        multiple=True,
    )
    finalized_psf_ap_corr_cat = cT.Output(
        doc="PSF and aperture corrections of all detectors; id is the detector.",
        name="finalized_psf_ap_corr_catalog",
        storageClass="ArrowAstropy",
        dimensions=_VISIT,
    )
    finalized_src_table = cT.Output(
        doc="Candidate stars of all detectors.",
        name="finalized_src_table",
        storageClass="ArrowAstropy",
        dimensions=_VISIT,
    )


class ConsolidateFinalizeCharacterizationDetectorConfig(  # type: ignore[call-arg]
    pipeBase.PipelineTaskConfig, pipelineConnections=ConsolidateFinalizeCharacterizationDetectorConnections
):
    """Configuration of `ConsolidateFinalizeCharacterizationDetectorTask`; no fields."""


class ConsolidateFinalizeCharacterizationDetectorTask(pipeBase.PipelineTask):
    """Join the results of `FinalizeCharacterizationDetectorTask` for a visit."""

    ConfigClass = ConsolidateFinalizeCharacterizationDetectorConfig
    _DefaultName = "consolidate_finalize_characterization_detector"

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Read the inputs of one quantum, `run`, and write the results."""
        inputs = butlerQC.get(inputRefs)
        catalogs, tables = (
            {int(handle.dataId["detector"]): handle for handle in inputs[name]}
            for name in ("finalized_psf_ap_corr_detector_cats", "finalized_src_detector_tables")
        )
        result = self.run(psf_ap_corr_detector_dict=catalogs, src_detector_table_dict=tables)
        outputs = pipeBase.Struct(
            finalized_psf_ap_corr_cat=result.psf_ap_corr_cat.to_arrow(),
            finalized_src_table=result.output_table,
        )
        butlerQC.put(stored(outputs), outputRefs)

    @timeMethod
    def run(
        self, *, psf_ap_corr_detector_dict: Mapping[int, Any], src_detector_table_dict: Mapping[int, Any]
    ) -> pipeBase.Struct:
        """Join catalogues and tables of detectors.

        Parameters
        ----------
        psf_ap_corr_detector_dict, src_detector_table_dict
            Detector -> exposure catalogue, and star table, or a handle of them.

        Returns
        -------
        result : lsst.pipe.base.Struct
            ``psf_ap_corr_cat`` and ``output_table``.

        Raises
        ------
        lsst.pipe.base.NoWorkFound
            If there is nothing to join.
        ValueError
            If the detectors of both differ.
        TypeError
            If the columns of the star tables differ.
        """
        if not psf_ap_corr_detector_dict and not src_detector_table_dict:
            raise pipeBase.NoWorkFound("No detector of this visit has been characterized.")
        odd = sorted(set(psf_ap_corr_detector_dict) ^ set(src_detector_table_dict))
        if odd:
            raise ValueError(f"Detectors {odd} have an exposure catalogue or a star table, but not both.")
        detectors = sorted(psf_ap_corr_detector_dict)
        catalogs = [_catalog(psf_ap_corr_detector_dict[detector]) for detector in detectors]
        tables = {detector: loaded(src_detector_table_dict[detector]) for detector in detectors}
        return pipeBase.Struct(
            psf_ap_corr_cat=ExposureCatalog.concatenate(catalogs, comments=VISIT_COMMENTS),
            output_table=stack_star_tables(tables),
        )


def _catalog(value: Any) -> ExposureCatalog:
    """Return an exposure catalogue from what a repository has of it; its long texts stay Arrow's until then."""
    if isinstance(value, ExposureCatalog):
        return value
    table = value.get(storageClass="ArrowTable") if hasattr(value, "get") else value
    return ExposureCatalog.from_table(table)

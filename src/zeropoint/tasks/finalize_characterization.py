"""Final characterization: PSF and aperture corrections again, from stars that all visits agree on.

The work is done by `zeropoint.recipes.finalize`; here is what the middleware needs to know of it. ``docs/final_psf.md``
describes it, ``docs/datasets.md`` lists every dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lsst.pipe.base as pipeBase
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
from zeropoint.tasks._finalize_connections import (
    ConsolidateFinalizeCharacterizationDetectorConnections,
    FinalizeCharacterizationConnections,
    FinalizeCharacterizationDetectorConnections,
)
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

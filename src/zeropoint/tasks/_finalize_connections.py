"""Datasets of the three tasks of final characterization; ``docs/datasets.md`` lists them."""

from __future__ import annotations

from typing import Any

import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT

__all__ = [
    "ConsolidateFinalizeCharacterizationDetectorConnections",
    "FinalizeCharacterizationConnections",
    "FinalizeCharacterizationDetectorConnections",
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

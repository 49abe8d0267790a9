"""What final characterization has established for one detector, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from zeropoint.datamodel.catalog import SourceCatalog
from zeropoint.datamodel.psf_model import PsfModel
from zeropoint.measurement.aperture_corrections import ApCorrMap

__all__ = ["FinalizedDetector", "Outcome"]


class Outcome(StrEnum):
    """How the characterization of a detector ended: the ``outcome`` in the task's metadata."""

    #: PSF, aperture corrections and measurements are complete.
    OK = "ok"
    #: No tract has an isolated star in the band on this detector; there is nothing.
    NO_ISOLATED_SOURCES = "no_isolated_sources"
    #: The source selector leaves no source; there is nothing.
    NO_GOOD_SOURCES = "no_good_sources"
    #: No selected source is a source of an isolated star; there is nothing.
    NO_MATCHED_SOURCES = "no_matched_sources"
    #: No candidate has a whole stamp, or the step that cuts them failed; a table without measurements.
    CANDIDATES_FAILED = "candidates_failed"
    #: The PSF could not be fitted; a table without measurements.
    PSF_FAILED = "psf_failed"
    #: The fitted PSF has no finite size; a table without measurements.
    PSF_NOT_FINITE = "psf_not_finite"
    #: The PSF is good, but the candidates could not be measured with it.
    MEASUREMENT_FAILED = "measurement_failed"
    #: The PSF is good, but an aperture correction could not be measured, so there are none.
    AP_CORR_FAILED = "ap_corr_failed"
    #: Some aperture corrections could not be measured, the others were kept (``keep_partial_ap_corr_map``).
    AP_CORR_PARTIAL = "ap_corr_partial"


@dataclass(frozen=True)
class FinalizedDetector:
    """The final PSF and aperture corrections of one detector of one visit.

    Parameters
    ----------
    visit, detector
        Numbers.
    outcome
        How it ended.
    psf
        The model; None where there is none.
    ap_corr_map
        Aperture corrections by column name, with those of the input image that were not measured again; None where
        there are none.
    measured
        The candidates, one row each, sorted by id; None where there are none.
    numbers
        Counts of sources, and what the fits say of themselves.
    reason
        Why it ended early, one sentence; else empty.
    pixel_scale
        Arcsec, in the middle of the detector, as the stored PSF says; 1 without a WCS. Profiles do not depend on it.
    shape
        (height, width) of the detector.
    """

    visit: int
    detector: int
    outcome: Outcome
    psf: PsfModel | None = None
    ap_corr_map: ApCorrMap | None = None
    measured: SourceCatalog | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    pixel_scale: float = 1.0
    shape: tuple[int, int] = (0, 0)

    def metadata(self) -> dict[str, Any]:
        """Return outcome, reason and numbers as plain values; numbers that are not finite are left out."""
        result: dict[str, Any] = {"outcome": str(self.outcome)}
        if self.reason:
            result["reason"] = self.reason
        for name, value in self.numbers.items():
            plain = value.item() if hasattr(value, "item") else value
            if not isinstance(plain, float) or math.isfinite(plain):
                result[name] = plain
        return result

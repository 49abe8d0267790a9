"""What updating the summary of a visit has established."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zeropoint.datamodel.exposure_catalog import ExposureCatalog
from zeropoint.datamodel.visit_geometry import VisitGeometry

__all__ = ["NEEDED", "UpdatedVisitSummary"]

#: Components without which a detector is left out of final images -> their names in metadata.
NEEDED = {"wcs": "wcs", "psf": "psf", "apCorrMap": "ap_corr_map", "photoCalib": "photo_calib"}


@dataclass(frozen=True)
class UpdatedVisitSummary:
    """The final summary of a visit.

    Parameters
    ----------
    catalog
        One row per detector of the preliminary summary.
    reasons
        Detector -> component that is missing (of `NEEDED`) -> why.
    visit_geometry
        Regions of the visit and of its detectors; None where they were not made.
    numbers
        Further numbers for the metadata.
    """

    catalog: ExposureCatalog
    reasons: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    visit_geometry: VisitGeometry | None = None
    numbers: Mapping[str, float | int] = field(default_factory=dict)

    @property
    def metadata(self) -> dict[str, Any]:
        """Counts of detectors, complete and without each component, and the reasons by detector."""
        missing = {
            f"n_without_{name}": sum(not record.has(component) for record in self.catalog)
            for component, name in NEEDED.items()
        }
        complete = sum(all(record.has(name) for name in NEEDED) for record in self.catalog)
        result: dict[str, Any] = {"n_detectors": len(self.catalog), "n_complete": complete, **missing}
        result.update(self.numbers)
        for component, name in NEEDED.items():
            reasons = {str(i): why[component] for i, why in self.reasons.items() if component in why}
            if reasons:
                result[f"reasons_{name}"] = reasons
        return result

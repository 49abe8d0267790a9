"""What the report of a global calibration is made of; nothing is computed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zeropoint.fgcm.cycle_result import CycleResult
    from zeropoint.fgcm.facts.cycle_facts import CycleFacts

__all__ = ["FgcmReportData"]


@dataclass(frozen=True)
class FgcmReportData:
    """Everything known about a calibration, whole or broken off.

    Parameters
    ----------
    name
        Name of the survey.
    result
        Of the last cycle, with ``facts``; None if no cycle was finished.
    history
        Metrics of the cycles, in order.
    caveats
        Sentences on what keeps the verdict from being good.
    notes
        Sentences on settings that were derived from the data; without effect on the verdict.
    config_changes
        (field, value, class default) of the fields that differ.
    stages
        (name, CPU seconds, wall seconds, numbers) of what was done.
    versions
        Version of each package.
    failure
        Why the calibration ended early, or None.
    steps
        Cycle -> steps of its last fit: ``largest`` of each, the largest change of a parameter over its error.
    standard : dict
        PWV (mm), o3 (Dobson units), tau and alpha of the standard atmosphere; empty if unknown.
    """

    name: str
    result: CycleResult | None
    history: tuple[Mapping[str, Any], ...] = ()
    caveats: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    config_changes: tuple[tuple[str, Any, Any], ...] = ()
    stages: tuple[tuple[str, float, float, dict[str, Any]], ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    failure: Exception | None = None
    steps: Mapping[int, tuple[Mapping[str, float], ...]] = field(default_factory=dict)
    standard: Mapping[str, float] = field(default_factory=dict)

    @property
    def facts(self) -> CycleFacts | None:
        """Figures behind the plots, or None."""
        return None if self.result is None else self.result.facts

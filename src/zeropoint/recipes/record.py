"""What a recipe has established so far: facts in order, not flags."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lsst.images import ObservationSummaryStats

from zeropoint.datamodel.background import BackgroundList
from zeropoint.datamodel.exposure import Exposure, PhotoCalib
from zeropoint.errors import CalibrationFailure

__all__ = ["ImageRecord", "Stage", "StageTimer", "keep_failure", "note_psf_order"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """One finished stage: its name, what it cost, and its two or three numbers."""

    name: str
    cpu_seconds: float
    wall_seconds: float
    numbers: dict[str, Any]


@dataclass
class ImageRecord:
    """What every recipe that works on one image hands back; what was not reached is None.

    Parameters
    ----------
    exposure
        The working exposure. Its ``psf``, ``wcs`` and ``photo_calib`` are None where not established.
    background
        Subtracted background, in the unit of the pixels.
    applied_photo_calib
        The calibration that was applied to the pixels; None while they are in electrons.
    summary
        Summary statistics.
    derived
        Settings derived from the image (dotted field -> value).
    notes, caveats
        Sentences on derived settings, and on what was estimated or assumed.
    stages
        Finished stages in order.
    metadata
        The numbers that Rubin's task writes to its metadata, and ``derived.<field>``.
    failure
        Why processing ended early, or None.
    """

    exposure: Exposure
    background: BackgroundList | None = None
    applied_photo_calib: PhotoCalib | None = None
    summary: ObservationSummaryStats | None = None
    derived: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    failure: CalibrationFailure | None = None

    def reached(self, stage: str) -> bool:
        """Say whether a stage has been finished."""
        return any(done.name == stage for done in self.stages)


class StageTimer:
    """Record stages on a result, timing each and logging one INFO line.

    Parameters
    ----------
    result
        The record under construction.
    label
        Image name for the log.
    on_stage
        Called with the stage's name when it begins (progress bars).
    """

    def __init__(
        self, result: ImageRecord, label: str, on_stage: Callable[[str], None] | None = None
    ) -> None:
        self._result, self._label, self._on_stage = result, label, on_stage

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Time one stage; numbers put into the yielded dict are recorded."""
        if self._on_stage is not None:
            self._on_stage(name)
        numbers: dict[str, Any] = {}
        cpu, wall = time.process_time(), time.perf_counter()
        yield numbers
        stage = Stage(name, time.process_time() - cpu, time.perf_counter() - wall, numbers)
        self._result.stages.append(stage)
        shown = ", ".join(f"{key} {_short(value)}" for key, value in numbers.items())
        _LOG.info("%s: %s: %s (%.2f s)", self._label, name, shown or "done", stage.wall_seconds)


def note_psf_order(record: ImageRecord, metadata: Mapping[str, Any]) -> None:
    """Note on a record, in place, that the PSF's spatial order is lower than configured.

    Parameters
    ----------
    record
        What was established.
    metadata
        That of the PSF's fit.
    """
    if why := metadata.get("psfOrderReason"):
        order = metadata["psfSpatialOrder"]
        record.notes.append(f"the PSF has the spatial order {order}, lower than configured: {why}")


def keep_failure(record: ImageRecord, failure: CalibrationFailure, summarize: Callable[[], None]) -> None:
    """Attach a record and the failure that ended it to each other, in place, and summarise what there is.

    Parameters
    ----------
    record
        What was established; of what was not, the recipe has removed the rest.
    failure
        Why processing ended.
    summarize
        Fills ``record.summary`` as far as possible.
    """
    record.failure = failure
    try:
        summarize()
    except Exception:  # the summary must not hide the reason of the failure
        _LOG.debug("summary statistics of a failed image", exc_info=True)
    failure.record = record


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

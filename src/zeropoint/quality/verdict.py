"""Good, usable or bad: metrics against the limits of ``limits.yaml``."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import yaml

__all__ = ["EXIT_CODES", "Judgement", "Limit", "Verdict", "format_value", "judge", "judge_one", "load_limits"]

Level = Literal["good", "usable", "bad"]

#: Exit code of the command line for each verdict.
EXIT_CODES: dict[str, int] = {"good": 0, "usable": 3, "bad": 4}
_ORDER = ("good", "usable", "bad")
_MISSING: dict[str, Level] = {"ignore": "good", "warn": "usable", "fail": "bad"}


@dataclass(frozen=True)
class Limit:
    """One entry of ``limits.yaml``; see the comment at its top.

    Parameters
    ----------
    quantity, label, group, unit
        Name among the metrics, name for people, section of the report, unit.
    direction
        ``above``, ``below`` or ``outside``: on which side of the limits values are bad.
    warn, fail
        Number, pair of numbers for ``outside``, or None.
    missing
        Meaning of NaN: ``fail``, ``warn`` or ``ignore``.
    source
        Where the numbers come from.
    """

    quantity: str
    label: str
    group: str
    unit: str
    direction: str
    warn: float | tuple[float, float] | None
    fail: float | tuple[float, float] | None
    missing: str
    source: str

    def beyond(self, value: float, limit: float | tuple[float, float] | None) -> bool:
        """Say whether a value is on the wrong side of a limit."""
        if limit is None:
            return False
        if isinstance(limit, tuple):
            return value < limit[0] or value > limit[1]
        return value > limit if self.direction == "above" else value < limit

    def expected(self) -> str:
        """Return the range of good values in words."""
        if isinstance(self.warn, tuple):
            return f"{self.warn[0]:g} to {self.warn[1]:g}"
        if self.warn is None:
            return ""
        return f"{'≤' if self.direction == 'above' else '≥'} {self.warn:g}"


@dataclass(frozen=True)
class Judgement:
    """What one limit says of an image; the reason is empty if the level is good."""

    limit: Limit
    value: float
    level: Level
    reason: str


@dataclass(frozen=True)
class Verdict:
    """Verdict on one image.

    Parameters
    ----------
    level
        ``good``, ``usable`` or ``bad``.
    reasons
        Sentences, the worst first; empty if good.
    exit_code
        0, 3 or 4.
    """

    level: Level
    reasons: tuple[str, ...]
    exit_code: int


@functools.cache
def load_limits(name: str = "limits.yaml") -> tuple[Limit, ...]:
    """Return the limits of a file in their order.

    Parameters
    ----------
    name
        File in this package: ``limits.yaml``, those of an image, or ``fgcm_limits.yaml``, those of a global calibration.

    Raises
    ------
    ValueError
        If an entry contradicts itself.
    """
    text = (resources.files("zeropoint.quality") / name).read_text(encoding="utf-8")
    return tuple(_limit(entry) for entry in yaml.safe_load(text))


def _limit(entry: dict[str, Any]) -> Limit:
    values = dict(entry)
    for key in ("warn", "fail"):
        value = values[key]
        if isinstance(value, list):
            low, high = (float(v) for v in value)
            values[key] = (low, high)
        elif value is not None:
            values[key] = float(value)
    limit = Limit(**values)
    paired = [isinstance(value, tuple) for value in (limit.warn, limit.fail) if value is not None]
    if limit.direction not in ("above", "below", "outside") or limit.missing not in _MISSING:
        raise ValueError(f"limits.yaml: unknown direction or missing of {limit.quantity}.")
    if any(pair != (limit.direction == "outside") for pair in paired):
        raise ValueError(f"limits.yaml: limits of {limit.quantity} do not fit direction {limit.direction}.")
    return limit


def judge(
    metrics: Mapping[str, Any], caveats: Sequence[str] = (), failure: Exception | None = None
) -> Verdict:
    """Return the verdict on an image.

    Parameters
    ----------
    metrics
        As `zeropoint.quality.metrics.compute_metrics` returns them; a quantity that is not there counts as
        NaN.
    caveats
        What was estimated instead of known; with any the image is at best usable.
    failure
        Why processing ended early; with it the image is bad.

    Returns
    -------
    verdict : Verdict
    """
    if failure is not None:
        reasons = (f"{type(failure).__name__}: {failure}", *caveats)
        return Verdict("bad", reasons, EXIT_CODES["bad"])
    judgements = [judge_one(limit, metrics) for limit in load_limits()]
    found: list[tuple[Level, str]] = [(j.level, j.reason) for j in judgements if j.level != "good"]
    found += [("usable", caveat) for caveat in caveats]
    found.sort(key=lambda item: -_ORDER.index(item[0]))  # stable: the worst first
    level: Level = found[0][0] if found else "good"
    return Verdict(level, tuple(reason for _, reason in found), EXIT_CODES[level])


def judge_one(limit: Limit, metrics: Mapping[str, Any]) -> Judgement:
    """Return what one limit says of an image."""
    raw = metrics.get(limit.quantity)
    value = float(raw) if isinstance(raw, int | float) else math.nan
    if math.isnan(value):
        level = _MISSING[limit.missing]
        return Judgement(limit, value, level, "" if level == "good" else f"{limit.label}: not known")
    for level, bound in (("bad", limit.fail), ("usable", limit.warn)):
        if limit.beyond(value, bound):
            return Judgement(limit, value, level, _reason(limit, value, bound))  # type: ignore[arg-type]
    return Judgement(limit, value, "good", "")


def _reason(limit: Limit, value: float, bound: Any) -> str:
    unit = f" {limit.unit}" if limit.unit else ""
    shown = f"{limit.label}: {format_value(value)}{unit}"
    if isinstance(bound, tuple):
        return f"{shown} is outside of {bound[0]:g} to {bound[1]:g}{unit}"
    return f"{shown} is {limit.direction} {bound:g}{unit}"


def format_value(value: Any, digits: int = 3) -> str:
    """Return a number as people write it: integers whole, others with ``digits`` significant figures."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value)}"
    size = abs(value)
    if size >= 1e6 or size < 1e-4:
        return f"{value:.{digits - 1}e}"
    decimals = max(digits - 1 - math.floor(math.log10(size)), 0)
    return f"{value:.{decimals}f}"

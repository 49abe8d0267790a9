"""What became of what was read: at every stage, read = kept + rejected, with a reason for each rejection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = ["META_KEY", "Accounting", "Stage"]

#: Key of the accounting in the metadata of tables.
META_KEY = "ACCOUNTING"


@dataclass
class Stage:
    """What one stage did.

    Parameters
    ----------
    read, kept
        How many came in, and how many went on.
    rejected
        Reason -> how many were left out for it; each is counted once, under the first reason that applied.
    noted
        Condition -> how many of those kept it holds for: nothing is left out for it, but a user has to know.
    """

    read: int = 0
    kept: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)

    @property
    def adds_up(self) -> bool:
        """Whether what was read is what was kept and what was rejected."""
        return self.read == self.kept + sum(self.rejected.values())


class Accounting:
    """Stages in their order, and what each kept and rejected.

    Examples
    --------
    >>> accounting = Accounting()
    >>> accounting.add("visits", read=3, kept=2, rejected={"no_summary": 1})
    >>> accounting.lines()
    ['visits: 3 read, 2 kept, 1 rejected (no_summary 1)']
    """

    def __init__(self) -> None:
        self._stages: dict[str, Stage] = {}

    def add(
        self,
        stage: str,
        *,
        read: int,
        kept: int,
        rejected: Mapping[str, int] | None = None,
        noted: Mapping[str, int] | None = None,
    ) -> None:
        """Add numbers to a stage, which is begun if there is none of the name.

        Parameters
        ----------
        stage
            Name: what is counted, and where (``visits``, ``sources``, ``observations``, ``stars``, ``references``).
        read, kept
            How many came in, and how many went on.
        rejected
            Reason -> how many were left out for it.
        noted
            Condition -> how many of those kept it holds for.

        Raises
        ------
        ValueError
            If the numbers do not add up: something was lost without a reason.
        """
        part = Stage(int(read), int(kept), _counter(rejected), _counter(noted))
        _require(stage, part)
        total = self._stages.setdefault(stage, Stage())
        total.read += part.read
        total.kept += part.kept
        total.rejected.update(part.rejected)
        total.noted.update(part.noted)

    def merge(self, other: Accounting) -> None:
        """Add the numbers of another accounting, stage by stage.

        Parameters
        ----------
        other
            Of further stages, or of more of the same.
        """
        for name, stage in other.items():
            self.add(name, read=stage.read, kept=stage.kept, rejected=stage.rejected, noted=stage.noted)

    def check(self) -> None:
        """Check that every stage adds up.

        Raises
        ------
        ValueError
            If one does not.
        """
        for name, stage in self._stages.items():
            _require(name, stage)

    def items(self) -> Iterator[tuple[str, Stage]]:
        """Return the names of the stages, and the stages."""
        return iter(self._stages.items())

    def __getitem__(self, stage: str) -> Stage:
        return self._stages[stage]

    def __contains__(self, stage: str) -> bool:
        return stage in self._stages

    def __len__(self) -> int:
        return len(self._stages)

    def to_meta(self) -> dict[str, dict[str, Any]]:
        """Return plain values: what task metadata and the metadata of tables hold, under `META_KEY` in the latter.

        Reasons and conditions are in alphabetical order, so that equal accountings are stored as equal bytes.
        """
        meta: dict[str, dict[str, Any]] = {}
        for name, stage in self._stages.items():
            meta[name] = {
                "read": stage.read,
                "kept": stage.kept,
                "rejected": dict(sorted(stage.rejected.items())),
            }
            if stage.noted:
                meta[name]["noted"] = dict(sorted(stage.noted.items()))
        return meta

    @classmethod
    def from_meta(cls, meta: Mapping[str, Mapping[str, Any]]) -> Self:
        """Return what `to_meta` wrote.

        Parameters
        ----------
        meta
            Stage -> its numbers.

        Raises
        ------
        ValueError
            If a stage does not add up.
        """
        accounting = cls()
        for name, stage in meta.items():
            accounting.add(
                name,
                read=stage["read"],
                kept=stage["kept"],
                rejected=stage["rejected"],
                noted=stage.get("noted"),
            )
        return accounting

    def lines(self) -> list[str]:
        """Return one line for each stage, for the log; the largest rejection first."""
        return [_line(name, stage) for name, stage in self._stages.items()]


def _counter(counts: Mapping[str, int] | None) -> Counter[str]:
    """Return the counts that are not 0, as Python's integers."""
    return Counter({str(name): int(number) for name, number in (counts or {}).items() if number})


def _require(name: str, stage: Stage) -> None:
    lost = (
        min(stage.read, stage.kept, *stage.rejected.values(), *stage.noted.values()) < 0 or not stage.adds_up
    )
    if lost:
        raise ValueError(
            f"Accounting of {name}: {stage.read} read are not {stage.kept} kept and "
            f"{sum(stage.rejected.values())} rejected ({dict(stage.rejected)})."
        )


def _line(name: str, stage: Stage) -> str:
    text = f"{name}: {stage.read} read, {stage.kept} kept, {sum(stage.rejected.values())} rejected"
    if stage.rejected:
        reasons = sorted(stage.rejected.items(), key=lambda item: (-item[1], item[0]))
        text += f" ({', '.join(f'{reason} {number}' for reason, number in reasons)})"
    if stage.noted:
        text += f"; noted: {', '.join(f'{condition} {number}' for condition, number in sorted(stage.noted.items()))}"
    return text

"""What a quantum finds of its inputs as it runs, and why it has no work if it has none."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["FoundInputs"]


@dataclass
class FoundInputs:
    """Inputs of one quantum.

    Attributes
    ----------
    lost
        Datasets to be taken as absent, whatever is on disk: what should have made them failed.
    absent
        Dataset types of which none was found.
    no_work_type, no_work_reason
        Class and text of the exception with which the task said that there is no work, if it did.
    """

    lost: frozenset[uuid.UUID] = frozenset()
    absent: list[str] = field(default_factory=list)
    no_work_type: str = "NoWorkFound"
    no_work_reason: str = ""

    def look(self, name: str, stored: Mapping[uuid.UUID, bool]) -> dict[uuid.UUID, bool]:
        """Return which datasets of a type can be used, of those that are stored or not.

        Parameters
        ----------
        name
            Dataset type.
        stored
            Dataset id -> whether it is stored.
        """
        usable = {key: there and key not in self.lost for key, there in stored.items()}
        if usable and not any(usable.values()) and name not in self.absent:
            self.absent.append(name)
        return usable

    def note(self, error: BaseException) -> None:
        """Keep why a task has no work."""
        self.no_work_type, self.no_work_reason = type(error).__name__, str(error)

    def why(self) -> str:
        """Return why there was no work."""
        if self.no_work_reason:
            return self.no_work_reason
        if self.absent:
            return f"there is no {', '.join(self.absent)}: the task that makes it had no work, or failed"
        return "what it needs was not made by the tasks before it"

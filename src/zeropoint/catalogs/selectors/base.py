"""What every source selector has in common: the registry, the result, and the step's shape."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import lsst.pex.config as pexConfig
import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zeropoint.datamodel.catalog import Schema, SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.registry import make_registry

__all__ = [
    "AnyTable",
    "BaseSourceSelectorConfig",
    "BoolArray",
    "Cuts",
    "MatchedReferences",
    "SelectionResult",
    "SourceSelector",
    "reject_selectors_with_matches",
    "sourceSelectorRegistry",
]

BoolArray = npt.NDArray[np.bool_]

#: A `SourceCatalog`, an astropy `~astropy.table.Table` or an Arrow table.
type AnyTable = SourceCatalog | Table | Any

sourceSelectorRegistry = make_registry(
    "Source selectors: steps that say which rows of a table to use (name -> SourceSelector class)."
)


class BaseSourceSelectorConfig(pexConfig.Config):
    """Configuration that every selector's derives from; no fields."""


@dataclass(frozen=True)
class SelectionResult:
    """Which rows were selected.

    Parameters
    ----------
    selected : bool, shape (n_rows,)
        True where the row is selected.
    rejected
        Criterion (the config field that sets it) -> how many rows fail it, whatever the others say.
    dropped
        Criterion -> how many rows it was the first to drop: these and the selected rows are all rows.
    """

    selected: BoolArray
    rejected: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def n_selected(self) -> int:
        """Number of selected rows."""
        return int(np.count_nonzero(self.selected))


class Cuts:
    """Criteria applied one after the other, and what each rejects.

    Parameters
    ----------
    n_rows
        Rows of the table.

    Attributes
    ----------
    selected : bool, shape (n_rows,)
        Rows that have passed so far.
    rejected : dict
        Criterion -> how many rows fail it.
    """

    def __init__(self, n_rows: int) -> None:
        self.selected: BoolArray = np.ones(n_rows, np.bool_)
        self.rejected: dict[str, int] = {}
        self._criteria: list[str] = []
        self._first_failed = np.full(n_rows, -1, np.int16)

    def require(self, criterion: str, passed: np.ndarray) -> None:
        """Drop the rows that fail a criterion, in place.

        Parameters
        ----------
        criterion
            The config field that sets it; one that occurs twice counts the rows that fail either time, at least.
        passed : bool, shape (n_rows,)
            True where a row passes.
        """
        failed = ~np.asarray(passed, np.bool_)
        self.rejected[criterion] = max(int(np.count_nonzero(failed)), self.rejected.get(criterion, 0))
        self._first_failed[failed & (self._first_failed < 0)] = len(self._criteria)
        self._criteria.append(criterion)
        self.selected &= passed

    @property
    def dropped(self) -> dict[str, int]:
        """Criterion -> how many of the rows that are not selected failed it first."""
        first = self._first_failed[~self.selected] + 1
        counts: dict[str, int] = {}
        # 0: by a selector that sets `selected` itself
        for criterion, number in zip(["other", *self._criteria], np.bincount(first)):
            counts[criterion] = counts.get(criterion, 0) + int(number)
        return {criterion: number for criterion, number in counts.items() if number}


@dataclass(frozen=True)
class MatchedReferences:
    """Matches between reference objects and table rows.

    Parameters
    ----------
    references
        Table of reference objects.
    match_ref, match_src : int64, shape (n_matches,)
        Row of ``references`` and row of the table of each match.
    """

    references: AnyTable
    match_ref: npt.NDArray[np.int64]
    match_src: npt.NDArray[np.int64]


class SourceSelector(ABC):
    """Base class of the selectors: rows of a table in, a boolean array out.

    Parameters
    ----------
    config
        Instance of ``ConfigClass``; its defaults if None.
    schema
        Ignored (selectors add no columns); accepted because every step takes it.
    """

    ConfigClass: ClassVar[Any] = BaseSourceSelectorConfig
    #: Whether `run` needs ``matches``.
    usesMatches: ClassVar[bool] = False

    def __init__(self, config: Any = None, *, schema: Schema | None = None) -> None:
        self.config = self.ConfigClass() if config is None else config

    def run(
        self,
        table: AnyTable,
        *,
        exposure: Exposure | None = None,
        matches: MatchedReferences | None = None,
    ) -> SelectionResult:
        """Select rows; nothing is modified, and the order of the rows does not matter.

        Parameters
        ----------
        table
            Source catalogue, astropy table or Arrow table. Masked or null values count as NaN, such flags as not set.
        exposure
            The image the sources lie on, for selectors that look at its mask or WCS.
        matches
            Matched reference objects, for selectors with ``usesMatches``.

        Returns
        -------
        SelectionResult
            One boolean a row.

        Raises
        ------
        InvalidInputError
            If a column is missing, other than an optional flag.
        ValueError
            If the selector needs matches or an exposure and there are none.
        """
        if self.usesMatches and matches is None:
            raise ValueError(f"{self.place} ({type(self).__name__}) needs matches to reference objects.")
        cuts = self.select(table, exposure=exposure, matches=matches)
        return SelectionResult(
            np.ascontiguousarray(cuts.selected, dtype=np.bool_), cuts.rejected, cuts.dropped
        )

    @abstractmethod
    def select(
        self, table: AnyTable, *, exposure: Exposure | None, matches: MatchedReferences | None
    ) -> Cuts:
        """Return the criteria, applied to the rows of ``table``."""

    def columns(self) -> tuple[list[str], list[str]] | None:
        """Return the columns that `run` needs, and those it looks at where they exist; None: any."""
        return None

    @property
    def place(self) -> str:
        """The place of this selector's configuration in the whole, for messages."""
        return str(getattr(self.config, "_name", "")) or type(self).__name__

    def why_none(self, result: SelectionResult) -> str:
        """Return a sentence on a selection that is empty: which setting rejects how many rows.

        Parameters
        ----------
        result
            What `run` returned.
        """
        n = len(result.selected)
        if n == 0:
            return f"{self.place} was given an empty table."
        counts = sorted(((-count, name) for name, count in result.rejected.items() if count > 0))
        reasons = ", ".join(f"{name} {-count}" for count, name in counts)
        return f"{self.place} selects none of {n} rows" + (f" (rejected by {reasons})." if reasons else ".")


def reject_selectors_with_matches(config: pexConfig.Config, *names: str) -> None:
    """Check that selectors of a configuration need no matches, where none exist.

    Parameters
    ----------
    config
        Configuration of a step that selects before anything is matched.
    *names
        Its fields: choices from the registry, or steps that can be retargeted.

    Raises
    ------
    lsst.pex.config.FieldValidationError
        If one of them is set to a selector with ``usesMatches``.
    """
    for name in names:
        target = getattr(config, name).target
        if getattr(target, "usesMatches", False):
            raise pexConfig.FieldValidationError(
                getattr(type(config), name),
                config,
                f"{target.__name__} needs matches to reference objects, which do not exist at this step.",
            )

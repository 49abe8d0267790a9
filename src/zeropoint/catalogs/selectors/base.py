"""What every source selector has in common: the registry, the result, and the step's shape."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import lsst.pex.config as pexConfig
import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zeropoint.datamodel.catalog import Schema, SourceCatalog
from zeropoint.datamodel.exposure import Exposure

__all__ = [
    "AnyTable",
    "BaseSourceSelectorConfig",
    "BoolArray",
    "MatchedReferences",
    "SelectionResult",
    "SourceSelector",
    "sourceSelectorRegistry",
]

BoolArray = npt.NDArray[np.bool_]

#: A `SourceCatalog`, an astropy `~astropy.table.Table` or an Arrow table.
type AnyTable = SourceCatalog | Table | Any

sourceSelectorRegistry = pexConfig.makeRegistry(
    doc="Source selectors: steps that say which rows of a table to use (name -> SourceSelector class)."
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
    """

    selected: BoolArray

    @property
    def n_selected(self) -> int:
        """Number of selected rows."""
        return int(np.count_nonzero(self.selected))


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
        """Select rows; nothing is modified.

        Parameters
        ----------
        table
            Source catalogue, astropy table or Arrow table.
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
            If a column that the configuration names (other than an optional flag) is missing.
        KeyError
            If one of a fixed name is.
        """
        if self.usesMatches and matches is None:
            raise ValueError(f"{type(self).__name__} needs matches to reference objects.")
        selected = self.select(table, exposure=exposure, matches=matches)
        return SelectionResult(np.ascontiguousarray(selected, dtype=np.bool_))

    @abstractmethod
    def select(
        self, table: AnyTable, *, exposure: Exposure | None, matches: MatchedReferences | None
    ) -> BoolArray:
        """Return one boolean a row of ``table``."""

"""Columns whose names come from a configuration."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import numpy as np

from zeropoint.catalogs.selectors.base import AnyTable
from zeropoint.datamodel.catalog import SourceCatalog, column, has_column
from zeropoint.errors import InvalidInputError

__all__ = ["configured_column", "fixed_column", "required_column"]

#: Most column names that a message lists.
_MAX_SHOWN = 8


def configured_column(table: AnyTable, config: Any, field: str) -> np.ndarray:
    """Return the column that a configuration's field names.

    Parameters
    ----------
    table
        Source catalogue, astropy table or Arrow table.
    config
        Configuration; its place in the whole configuration is part of the message.
    field
        Name of its string field that holds the column's name.

    Raises
    ------
    InvalidInputError
        If there is no such column.
    """
    return required_column(table, getattr(config, field), config, field)


def required_column(table: AnyTable, name: str, config: Any, field: str) -> np.ndarray:
    """Return a column whose name was put together from a configuration's field (see `configured_column`)."""
    if not has_column(table, name):
        place = f"{config._name}.{field}" if config._name else field
        raise InvalidInputError(
            f"The {_kind(table, place)} has no column {name!r} (it has {_alike(table, name)}), which {place} "
            "asks for: set it to a column that exists, or turn this criterion off."
        )
    return column(table, name)


def fixed_column(table: AnyTable, name: str, config: Any) -> np.ndarray:
    """Return a column whose name no field sets.

    Raises
    ------
    InvalidInputError
        If there is no such column; the message has the place of the configuration.
    """
    if not has_column(table, name):
        raise InvalidInputError(
            f"The {_kind(table, config._name or '')} has no column {name!r} (it has {_alike(table, name)}), which "
            f"{config._name or type(config).__name__} needs."
        )
    return column(table, name)


def _kind(table: AnyTable, place: str) -> str:
    """Say which catalogue a table is; references come as plain tables, to selectors that are named so."""
    if isinstance(table, SourceCatalog):
        return "source catalogue"
    return "reference catalogue" if "reference" in place.lower() else "table"


def _alike(table: AnyTable, name: str) -> str:
    """Return the names of the columns that may have been meant: of the same ending, or spelt alike."""
    names = _column_names(table)
    ending = "_" + name.rpartition("_")[2]
    alike = get_close_matches(name, names, n=_MAX_SHOWN, cutoff=0.7)
    alike += [other for other in names if other.endswith(ending) and other not in alike]
    shown = (alike or names)[:_MAX_SHOWN]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")


def _column_names(table: AnyTable) -> list[str]:
    if isinstance(table, SourceCatalog):
        return [spec.name for spec in table.schema]
    names = getattr(table, "column_names", None) or getattr(table, "colnames", None)
    return [str(name) for name in (names if names is not None else table.columns)]

"""What the products have in common: columns that a table must have, and its bands."""

from __future__ import annotations

from collections.abc import Iterable

from astropy.table import Table

from zeropoint.errors import InvalidInputError

__all__ = ["NO_FLAT", "bands_of", "require_columns"]

#: Constant term from which on a superstar flat stands for none.
NO_FLAT = 100.0


def require_columns(table: Table, name: str, columns: Iterable[str]) -> None:
    """Check that a table has columns.

    Parameters
    ----------
    table
        The table.
    name
        What it is, for the message.
    columns
        What it must have.

    Raises
    ------
    InvalidInputError
        If one is missing.
    """
    missing = [column for column in columns if column not in table.colnames]
    if missing:
        raise InvalidInputError(
            f"The table of {name} has no column {', '.join(missing)}; give that of a fit cycle with outputs."
        )


def bands_of(stars: Table) -> tuple[str, ...]:
    """Return the bands of a table of standard stars.

    Parameters
    ----------
    stars
        ``fgcm_Cycle{N}_StandardStars`` with its metadata.

    Raises
    ------
    InvalidInputError
        If the metadata have no ``BANDS``.
    """
    bands = stars.meta.get("BANDS")
    if bands is None:
        raise InvalidInputError(
            "The table of standard stars does not say of which bands it is (BANDS in its metadata); read it with its "
            "metadata."
        )
    return tuple(bands.split(",") if isinstance(bands, str) else map(str, bands))

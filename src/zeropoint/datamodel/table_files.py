"""Small tables in files of any usual form."""

from __future__ import annotations

import re
from pathlib import Path

from astropy.table import Table

__all__ = ["read_table_file"]


def read_table_file(path: str | Path, hdu: int | str | None = None) -> Table:
    """Read a whole table, in the form that the file's ending tells: CSV, FITS, parquet, ECSV, else text.

    Parameters
    ----------
    path
        File; CSV and FITS may be gzipped.
    hdu
        Number or name of the extension of a FITS file; default: the first.

    Raises
    ------
    OSError, ValueError
        If the file cannot be read.
    """
    name = str(path).lower()
    if name.endswith((".csv", ".csv.gz")):
        return Table.read(path, format="ascii.csv")
    if re.search(r"\.fits?(\.gz|\.fz)?$", name):
        return Table.read(path, format="fits", hdu=1 if hdu is None else hdu, unit_parse_strict="silent")
    if name.endswith((".parquet", ".parq")):
        import pyarrow.parquet as pq

        from zeropoint.datamodel.arrow import arrow_to_table

        return arrow_to_table(pq.read_table(path))  # astropy's own reader needs pandas
    if name.endswith(".ecsv"):
        return Table.read(path, format="ascii.ecsv")
    return Table.read(path, format="ascii")

"""Files of reference catalogues as columns with units: FITS (also afw tables), parquet, ECSV, CSV and text."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from zeropoint.errors import InvalidInputError

__all__ = ["ParquetTable", "RawTable", "SkyRange", "open_table", "table_columns"]

_PARQUET = (".parquet", ".parq", ".pq")
_FITS = (".fits", ".fit", ".fts", ".cat", ".ldac")


@dataclass(frozen=True)
class SkyRange:
    """A range of two columns in the columns' own units, which a reader may use to skip rows.

    Parameters
    ----------
    ra_column, dec_column
        Names of the columns.
    ra_ranges
        One or more (lowest, highest) right ascensions; empty for all.
    dec_range
        (lowest, highest) declination.
    """

    ra_column: str
    dec_column: str
    ra_ranges: tuple[tuple[float, float], ...]
    dec_range: tuple[float, float]


@dataclass
class RawTable:
    """Columns as they are in a file.

    Parameters
    ----------
    path
        The file, for messages.
    columns
        One-dimensional arrays by name; any sequence type that numpy can convert.
    units
        Unit string of each column that states one.
    meta
        Header values.
    """

    path: Path
    columns: Mapping[str, Any]
    units: Mapping[str, str] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self.columns)

    def get(self, name: str) -> np.ndarray:
        """Return one column as a native array; masked values of float columns are NaN."""
        values = self.columns[name]
        if isinstance(values, np.ma.MaskedArray):
            values = _unmasked(values)
        values = np.asarray(values)
        if values.dtype.kind == "S":
            return values.astype(str)
        return values.astype(values.dtype.newbyteorder("=")) if not values.dtype.isnative else values

    def pieces(self, names: Iterable[str], n_rows: int) -> Iterator[RawTable]:
        """Return the named columns of all rows, at most ``n_rows`` at a time."""
        names = list(dict.fromkeys(names))
        for start in range(0, len(self.columns[names[0]]), n_rows):
            rows = slice(start, start + n_rows)
            yield RawTable(
                self.path, {name: self.columns[name][rows] for name in names}, self.units, self.meta
            )

    def narrow(self, sky_range: SkyRange, names: Iterable[str]) -> RawTable:
        """Return a table that holds at least the rows of a sky range and the named columns."""
        return self


@dataclass
class ParquetTable(RawTable):
    """A parquet file (or a directory of them), of which only the rows and columns wanted are read."""

    dataset: Any = None

    def get(self, name: str) -> np.ndarray:
        """Return one whole column."""
        return _arrow_column(self.dataset.to_table(columns=[name]), name)

    def pieces(self, names: Iterable[str], n_rows: int) -> Iterator[RawTable]:
        """Read the named columns of all rows, at most ``n_rows`` at a time; a row group is in memory as well."""
        from pyarrow import default_memory_pool
        from pyarrow import parquet as pq

        names = list(dict.fromkeys(names))
        for path in self.dataset.files:  # the dataset's own scanner reads gigabytes ahead
            with pq.ParquetFile(path, pre_buffer=False) as file:
                for batch in file.iter_batches(n_rows, columns=names, use_threads=False):
                    columns = {name: _arrow_column(batch, name) for name in names}
                    yield RawTable(self.path, columns, self.units, self.meta)
        default_memory_pool().release_unused()

    def narrow(self, sky_range: SkyRange, names: Iterable[str]) -> RawTable:
        """Read the rows of a sky range and the named columns."""
        import pyarrow.compute as pc

        ra, dec = pc.field(sky_range.ra_column), pc.field(sky_range.dec_column)
        rows = (dec >= sky_range.dec_range[0]) & (dec <= sky_range.dec_range[1])
        if sky_range.ra_ranges:
            in_ra = None
            for low, high in sky_range.ra_ranges:
                one = (ra >= low) & (ra <= high)
                in_ra = one if in_ra is None else in_ra | one
            rows = rows & in_ra
        table = self.dataset.to_table(columns=sorted(set(names)), filter=rows)
        columns = {name: _arrow_column(table, name) for name in table.column_names}
        return RawTable(self.path, columns, self.units, self.meta)


def _unmasked(values: Any) -> np.ndarray:
    """Return a masked array as a plain one, with NaN where numbers are masked."""
    if values.dtype.kind in "fiu" and np.any(values.mask):
        values = values.astype(np.float64)
        values.fill_value = np.nan
    return np.asarray(values.filled())


def _arrow_column(table: Any, name: str) -> np.ndarray:
    """Return a column of an Arrow table or batch as an array; nulls of numbers become NaN, of texts empty."""
    column = table[name]
    if str(column.type) in ("string", "large_string", "string_view") or str(column.type).startswith(
        "dictionary"
    ):
        return np.array(["" if value is None else str(value) for value in column.to_pylist()], np.str_)
    return np.asarray(column.to_numpy(zero_copy_only=False))


def open_table(path: Path) -> RawTable:
    """Open one file with the reader that its ending asks for.

    Raises
    ------
    InvalidInputError
        If the file does not exist or cannot be read as a table.
    """
    if not path.exists():
        raise InvalidInputError(f"Reference catalogue {path} does not exist; check the path.")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = next((s for s in reversed(suffixes) if s not in (".gz", ".bz2", ".fz", ".xz", ".zst")), "")
    try:
        if kind in _PARQUET or path.is_dir():
            return _open_parquet(path)
        if kind in _FITS:
            return _open_fits(path)
        return _open_text(path, kind)
    except InvalidInputError:
        raise
    except Exception as error:
        raise InvalidInputError(
            f"{path}: cannot be read as a table ({type(error).__name__}: {str(error)[:200]}).  Give a FITS, "
            "parquet, ECSV or CSV table with one header line of column names."
        ) from error


def _open_parquet(path: Path) -> ParquetTable:
    import pyarrow.dataset as ds

    dataset = ds.dataset(path, format="parquet")
    units: dict[str, str] = {}
    for item in dataset.schema:
        unit = (item.metadata or {}).get(b"unit")
        if unit:
            units[item.name] = unit.decode()
    serialized = (dataset.schema.metadata or {}).get(b"table_meta_yaml")
    if serialized:
        from astropy.table.meta import get_header_from_yaml

        for column in get_header_from_yaml(serialized.decode().split("\n"))["datatype"]:
            if column.get("unit"):
                units[column["name"]] = str(column["unit"])
    numeric = {
        item.name: None
        for item in dataset.schema
        if not str(item.type).startswith(("list", "large_list", "fixed_size_list", "struct", "map"))
    }
    return ParquetTable(path, numeric, units, {}, dataset)


def _open_fits(path: Path) -> RawTable:
    """Open the first binary table of a FITS file; bit columns are named by their TFLAG keywords."""
    with fits.open(path, memmap=path.suffix.lower() not in (".gz", ".bz2")) as hdus:
        tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU) and len(hdu.columns) > 1]
        if not tables:
            raise InvalidInputError(f"{path}: holds no binary table; give a FITS table, not an image.")
        hdu = tables[0]
        if "AFW_TYPE" not in hdu.header:
            hdu = max(tables, key=lambda one: one.header["NAXIS2"])
        data, header = hdu.data, hdu.header
        columns: dict[str, Any] = {}
        units: dict[str, str] = {}
        flag_column = header.get("FLAGCOL")
        for number, item in enumerate(hdu.columns, start=1):
            values = data.field(number - 1)
            if number == flag_column:
                for bit in range(values.shape[1]):
                    columns[header[f"TFLAG{bit + 1}"]] = values[:, bit]
            elif values.ndim == 1 and values.dtype.kind in "fiubSU":
                columns[item.name] = values
                if item.unit:
                    units[item.name] = item.unit
            elif item.name == "coord" and values.ndim == 2:  # afw tables before format 1
                columns["coord_ra"], columns["coord_dec"] = values[:, 0], values[:, 1]
        aliases = [str(value) for key, value in header.items() if key == "ALIAS"]
        meta = {key: header[key] for key in ("REFCAT_FORMAT_VERSION", "AFW_TYPE") if key in header}
    for alias in aliases:
        name, _, target = alias.partition(":")
        if target in columns:
            columns.setdefault(name, columns[target])
            if target in units:
                units.setdefault(name, units[target])
    return RawTable(path, columns, units, meta)


def _open_text(path: Path, kind: str) -> RawTable:
    """Open ECSV, VOTable, CSV or any text table with one header line."""
    if kind == ".csv" and not _starts_with_comment(path):
        from pyarrow import csv

        arrow = csv.read_csv(path)
        return RawTable(path, {name: _arrow_column(arrow, name) for name in arrow.column_names})
    formats = {".ecsv": "ascii.ecsv", ".vot": "votable", ".xml": "votable", ".votable": "votable"}
    return table_columns(Table.read(path, format=formats.get(kind, "ascii")), path)


def table_columns(table: Table, path: Path) -> RawTable:
    """Return the columns of an astropy table.

    Parameters
    ----------
    table
        The table; of two-dimensional columns only ``coord`` (position in shards before format version 1) is kept.
    path
        Where it comes from, for messages.
    """
    columns: dict[str, Any] = {}
    units: dict[str, str] = {}
    for name in table.colnames:
        values = table[name]
        plain = np.ma.MaskedArray(values.data, values.mask) if hasattr(values, "mask") else np.asarray(values)
        targets: tuple[str, ...] = (name,)
        if plain.ndim == 1:
            columns[name] = plain
        elif name == "coord" and plain.ndim == 2:
            targets = ("coord_ra", "coord_dec")
            columns["coord_ra"], columns["coord_dec"] = plain[:, 0], plain[:, 1]
        if values.unit is not None:
            units.update(dict.fromkeys(targets, str(values.unit)))
    return RawTable(path, columns, units, dict(table.meta))


def _starts_with_comment(path: Path) -> bool:
    """Return whether a (perhaps gzipped) text file begins with a comment line."""
    opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "rb") as stream:
        return bool(stream.read(1) == b"#")

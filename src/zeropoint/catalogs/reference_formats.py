"""Files of reference catalogues as columns with units: FITS (also afw tables), parquet, ECSV, CSV and text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table

from zeropoint.catalogs.reference_raw import RawTable, SkyRange, arrow_column
from zeropoint.catalogs.reference_text import TextTable, csv_layout
from zeropoint.errors import InvalidInputError

__all__ = ["TABLE_ENDINGS", "ParquetTable", "is_table", "open_table", "table_columns"]

_PARQUET = (".parquet", ".parq", ".pq")
_FITS = (".fits", ".fit", ".fts", ".cat", ".ldac")
_TEXT = {".csv": "ascii", ".ecsv": "ascii.ecsv", ".vot": "votable", ".xml": "votable", ".votable": "votable"}
_COMPRESSED = (".gz", ".bz2", ".fz", ".xz", ".zst")

#: Endings, before one of compression, of the files that a directory of tables is searched for.
TABLE_ENDINGS = (*_PARQUET, *_FITS[:3], *_TEXT)


@dataclass
class ParquetTable(RawTable):
    """A parquet file (or a directory of them), of which only the rows and columns wanted are read."""

    dataset: Any = None

    def get(self, name: str) -> np.ndarray:
        """Return one whole column."""
        return arrow_column(self.dataset.to_table(columns=[name]), name)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.dataset.count_rows())

    def pieces(self, names: Iterable[str], n_rows: int, start: int = 0) -> Iterator[RawTable]:
        """Read the named columns of all rows from ``start`` on, at most ``n_rows`` at a time.

        A row group is in memory as well.
        """
        from pyarrow import default_memory_pool
        from pyarrow import parquet as pq

        names = list(dict.fromkeys(names))
        for path in self.dataset.files:  # the dataset's own scanner reads gigabytes ahead
            with pq.ParquetFile(path, pre_buffer=False) as file:
                counts = [file.metadata.row_group(k).num_rows for k in range(file.metadata.num_row_groups)]
                ends = np.cumsum(counts, dtype=np.int64)
                first = int(np.searchsorted(ends, start, side="right"))
                start -= int(ends[first - 1]) if first else 0
                for batch in file.iter_batches(
                    n_rows, row_groups=range(first, len(counts)), columns=names, use_threads=False
                ):
                    skipped = min(start, batch.num_rows)
                    start -= skipped
                    if skipped < batch.num_rows:
                        columns = {name: arrow_column(batch.slice(skipped), name) for name in names}
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
        columns = {name: arrow_column(table, name) for name in table.column_names}
        return RawTable(self.path, columns, self.units, self.meta)


def _ending(path: Path) -> str:
    """Return the ending that tells a file's format, without one of compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return next((suffix for suffix in reversed(suffixes) if suffix not in _COMPRESSED), "")


def is_table(path: Path) -> bool:
    """Return whether a file's name says that it is a table."""
    return _ending(path) in TABLE_ENDINGS and not path.name.startswith((".", "_"))


def open_table(path: Path) -> RawTable:
    """Open one file with the reader that its ending asks for.

    Raises
    ------
    InvalidInputError
        If the file does not exist or cannot be read as a table.
    """
    if not path.exists():
        raise InvalidInputError(f"Reference catalogue {path} does not exist; check the path.")
    if path.is_file() and path.stat().st_size == 0:
        raise InvalidInputError(
            f"{path} is empty (0 bytes): write it again, with a header line of column names at least."
        )
    kind = _ending(path)
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
    meta: dict[str, Any] = {}
    for item in dataset.schema:
        unit = (item.metadata or {}).get(b"unit")
        if unit:
            units[item.name] = unit.decode()
    serialized = (dataset.schema.metadata or {}).get(b"table_meta_yaml")
    if serialized:
        from astropy.table.meta import get_header_from_yaml

        header = get_header_from_yaml(serialized.decode().split("\n"))
        meta = dict(header.get("meta") or {})
        for column in header["datatype"]:
            if column.get("unit"):
                units[column["name"]] = str(column["unit"])
    numeric = {
        item.name: None
        for item in dataset.schema
        if not str(item.type).startswith(("list", "large_list", "fixed_size_list", "struct", "map"))
    }
    return ParquetTable(path, numeric, units, meta, dataset)


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
                missing = None if item.null is None or values.dtype.kind not in "iu" else values == item.null
                columns[item.name] = values if missing is None else np.ma.MaskedArray(values, missing)
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
    if kind in (".csv", ".ecsv"):
        layout = csv_layout(path, ecsv=kind == ".ecsv")
        if layout is not None:
            columns = {name: None for name in layout.names if name not in layout.left_out}
            return TextTable(path, columns, layout.units, {}, layout)
    return table_columns(Table.read(path, format=_TEXT.get(kind, "ascii")), path)


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

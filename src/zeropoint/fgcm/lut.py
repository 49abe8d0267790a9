"""The look-up table of passband integrals, in the layout that FGCM's tasks read: fourteen rows, one per kind of table.

The fit does not interpolate in it: it integrates each exposure (`zeropoint.fgcm.quadrature`). The table serves programs that
expect it, and its header says what the filters' standard passbands are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from astropy.table import Column, Table

from zeropoint.datamodel.arrow import arrow_to_table, read_columns, table_to_arrow, write_long_rows
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.lut_grid import LutGrid, StandardAtmosphere

__all__ = ["COLUMNS", "FITS_SUFFIXES", "LUT_TYPES", "LookUpTable"]

FloatArray = npt.NDArray[np.float64]

#: Kinds of table, in the order of the rows: integrals, then their derivatives.
LUT_TYPES = (
    "I0", "I1", "D_PMB", "D_LNPWV", "D_O3", "D_LNTAU", "D_ALPHA", "D_SECZENITH",
    "D_PMB_I1", "D_LNPWV_I1", "D_O3_I1", "D_LNTAU_I1", "D_ALPHA_I1", "D_SECZENITH_I1",
)  # fmt: skip

#: Column -> (dtype, unit, description); those but the last two have their values in the first row alone.
COLUMNS: dict[str, tuple[str, str | None, str]] = {
    "tablename": ("str", None, "Atmosphere table, or NoTableWasUsed"),
    "elevation": ("f8", "m", "Elevation of the telescope"),
    "physicalFilters": ("str", None, "Filters, separated by commas"),
    "stdPhysicalFilters": (
        "str",
        None,
        "Filter that defines the standard passband of each, separated by commas",
    ),
    "pmb": ("f8[]", "mbar", "Nodes of pressure"),
    "pmbFactor": (
        "f8[]",
        None,
        "Factor of the integrals at these nodes: 1, as pressure acts on molecular depths",
    ),
    "pmbElevation": ("f8", "mbar", "Pressure at the elevation"),
    "pwv": ("f8[]", "mm", "Nodes of precipitable water vapor, uniform in the logarithm"),
    "o3": ("f8[]", None, "Nodes of ozone, Dobson units"),
    "tau": ("f8[]", None, "Nodes of aerosol depth, uniform in the logarithm"),
    "lambdaNorm": ("f8", "Angstrom", "Wavelength of the aerosol depth"),
    "alpha": ("f8[]", None, "Nodes of the aerosol slope"),
    "zenith": ("f8[]", "deg", "Nodes of zenith distance, uniform in its secant"),
    "nCcd": ("i4", None, "Number of detectors; the table has one column more, for their mean"),
    "pmbStd": ("f8", "mbar", "Pressure of the standard atmosphere"),
    "pwvStd": ("f8", "mm", "Water vapor of the standard atmosphere"),
    "o3Std": ("f8", None, "Ozone of the standard atmosphere, Dobson units"),
    "tauStd": ("f8", None, "Aerosol depth of the standard atmosphere"),
    "alphaStd": ("f8", None, "Aerosol slope of the standard atmosphere"),
    "zenithStd": ("f8", "deg", "Zenith distance of the standard atmosphere"),
    "lambdaRange": ("f8[]", "Angstrom", "First and last wavelength"),
    "lambdaStep": ("f8", "nm", "Step of the wavelengths"),
    "lambdaStd": ("f8[]", "Angstrom", "Standard wavelength of each filter: that of its standard filter"),
    "lambdaStdFilter": ("f8[]", "Angstrom", "Mean wavelength of each filter with the standard atmosphere"),
    "i0Std": ("f8[]", None, "I0 of each filter with the standard atmosphere"),
    "i1Std": ("f8[]", "Angstrom", "I1 of each filter with the standard atmosphere, about lambdaStd"),
    "i10Std": ("f8[]", "Angstrom", "i1Std / i0Std"),
    "i2Std": ("f8[]", "Angstrom2", "I2 of each filter with the standard atmosphere, about lambdaStd"),
    "lambdaB": ("f8[]", "Angstrom", "Mean wavelength of each filter without atmosphere"),
    "atmLambda": ("f8[]", "Angstrom", "Wavelengths of the standard atmosphere"),
    "atmStdTrans": ("f8[]", None, "Transmission of the standard atmosphere"),
    "luttype": ("str", None, "Kind of the table in this row"),
    "lut": (
        "f4[]",
        None,
        "Table, flattened: filter, water vapor, ozone, aerosol depth, slope, zenith distance, detector",
    ),
}
#: Files that are FITS; others are parquet.
FITS_SUFFIXES = (".fits", ".fit")
#: Header card that holds what the layout has no column for, as JSON.
_FITS_META = "ZPMETA"
_HEADER = tuple(name for name in COLUMNS if name not in ("luttype", "lut"))


@dataclass(frozen=True)
class LookUpTable:
    """Passband integrals on a grid of atmospheres, with the standard passbands' numbers.

    Parameters
    ----------
    header
        Every column of `COLUMNS` but the last two: text, numbers and arrays.
    lut
        float32, shape (14, filters, pwv, o3, tau, alpha, zenith, detectors + 1), perhaps mapped from a file; None where the
        header alone was read.
    meta
        What the layout has no column for: ``detectors`` (their ids, in order), ``atmosphere`` and ``pressure`` (sentences),
        ``lutPmb`` (pressure of the integrals, mb), ``interpolationError`` (of the reference's rule, in mmag),
        ``samplingErrorMmag`` (of filters that are narrow for the steps of the wavelengths).
    """

    header: Mapping[str, Any]
    lut: npt.NDArray[np.float32] | None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def physical_filters(self) -> tuple[str, ...]:
        """Names of the filters."""
        return tuple(str(self.header["physicalFilters"]).split(","))

    @cached_property
    def std_physical_filters(self) -> tuple[str, ...]:
        """For each filter, the one that defines its standard passband."""
        return tuple(str(self.header["stdPhysicalFilters"]).split(","))

    @cached_property
    def detectors(self) -> tuple[int, ...]:
        """Ids in the order of the last axis; positions where the table does not say."""
        known = self.meta.get("detectors")
        return tuple(range(self.n_ccd)) if known is None else tuple(int(each) for each in known)

    @property
    def n_ccd(self) -> int:
        """Number of detectors."""
        return int(self.header["nCcd"])

    @property
    def lambda_std(self) -> FloatArray:
        """Standard wavelength of each filter, Angstrom."""
        return np.asarray(self.header["lambdaStd"], float)

    @property
    def lambda_std_filter(self) -> FloatArray:
        """Mean wavelength of each filter with the standard atmosphere, Angstrom."""
        return np.asarray(self.header["lambdaStdFilter"], float)

    @property
    def i10_std(self) -> FloatArray:
        """I1 / I0 of each filter with the standard atmosphere, Angstrom."""
        return np.asarray(self.header["i10Std"], float)

    @cached_property
    def std_filter_of(self) -> dict[str, str]:
        """Filter -> filter that defines its standard passband."""
        return dict(zip(self.physical_filters, self.std_physical_filters, strict=True))

    @cached_property
    def grid(self) -> LutGrid:
        """The nodes."""
        columns = {
            name: np.asarray(self.header[name], float)
            for name in ("pmb", "pwv", "o3", "tau", "alpha", "zenith")
        }
        return LutGrid(
            columns["pmb"],
            np.log(columns["pwv"]),
            columns["o3"],
            np.log(columns["tau"]),
            columns["alpha"],
            1.0 / np.cos(np.radians(columns["zenith"])),
        )

    @cached_property
    def standard(self) -> StandardAtmosphere:
        """The standard atmosphere."""
        values = {name: float(self.header[f"{name}Std"]) for name in ("pmb", "pwv", "o3", "tau", "alpha")}
        return StandardAtmosphere(**values, airmass=1.0 / float(np.cos(np.radians(self.header["zenithStd"]))))

    def kind(self, name: str) -> npt.NDArray[np.float32]:
        """Return one kind of table, shape (filters, pwv, o3, tau, alpha, zenith, detectors + 1).

        Parameters
        ----------
        name
            One of `LUT_TYPES`.

        Raises
        ------
        ValueError
            If the header alone was read.
        """
        if self.lut is None:
            raise ValueError("This is the header of a look-up table; read it with its column 'lut'.")
        return self.lut[LUT_TYPES.index(name)]  # type: ignore[no-any-return]

    def to_table(self) -> Table:
        """Return the fourteen rows; values of the header are in the first, the others are empty (NaN, 0, no text)."""
        columns = {}
        for name, (dtype, unit, text) in COLUMNS.items():
            if name == "luttype":
                values: Any = np.array(LUT_TYPES)
            elif name == "lut":
                if self.lut is None:
                    continue
                values = self.lut.reshape(len(LUT_TYPES), -1)
            else:
                values = _first_row(self.header[name], dtype)
            columns[name] = Column(values, unit=unit, description=text, copy=False)
        return Table(columns, meta=dict(self.meta), copy=False)

    def to_arrow(self) -> pa.Table:
        """Return the fourteen rows as an Arrow table, without copying the integrals."""
        return table_to_arrow(self.to_table())

    @classmethod
    def from_table(cls, table: Table) -> LookUpTable:
        """Return the look-up table of fourteen rows; of the header alone if the column ``lut`` was not read.

        Parameters
        ----------
        table
            As `to_table` gives it.

        Raises
        ------
        InvalidInputError
            If columns or rows are missing, or the table's size is not that of its nodes.
        """
        missing = [name for name in (*_HEADER, "luttype") if name not in table.colnames]
        if missing:
            raise InvalidInputError(f"Look-up table lacks the columns {', '.join(missing)}.")
        rows = [str(name) for name in table["luttype"]]
        if sorted(rows) != sorted(LUT_TYPES):
            raise InvalidInputError(
                f"Look-up table has rows {', '.join(rows)}; needed are {', '.join(LUT_TYPES)}."
            )
        header = {name: _plain(table[name][0]) for name in _HEADER}
        result = cls(header, None, dict(table.meta))
        if "lut" not in table.colnames:
            return result
        shape = (len(result.physical_filters), *result.grid.shape, result.n_ccd + 1)
        values = np.asarray(table["lut"])
        if values.ndim != 2 or values.shape[1] != np.prod(shape):
            raise InvalidInputError(
                f"Look-up table has {values.shape[-1]} values in a row; its nodes and detectors want {np.prod(shape)} {shape}."
            )
        if rows != list(LUT_TYPES):
            values = values[[rows.index(name) for name in LUT_TYPES]]
        return cls(header, values.reshape(len(LUT_TYPES), *shape), dict(table.meta))

    @classmethod
    def from_arrow(cls, arrow: pa.Table) -> LookUpTable:
        """Return the look-up table of an Arrow table, without copying the integrals where they are in one piece.

        Parameters
        ----------
        arrow
            As `to_arrow` gives it.

        Raises
        ------
        InvalidInputError
            As for `from_table`.
        """
        return cls.from_table(arrow_to_table(arrow))

    @classmethod
    def read(cls, path: str | Path, *, header_only: bool = False) -> LookUpTable:
        """Read a look-up table from parquet or FITS.

        Parameters
        ----------
        path
            File.
        header_only
            Leave out the integrals; of a parquet file they are not even read.

        Raises
        ------
        InvalidInputError
            If the file is no look-up table.
        """
        try:
            if Path(path).suffix in FITS_SUFFIXES:
                table = Table.read(path)
                table.meta = json.loads(table.meta.get(_FITS_META, "{}"))
                return cls.from_table(table[[*_HEADER, "luttype"]] if header_only else table)
            return cls.from_arrow(read_columns(path, [*_HEADER, "luttype"] if header_only else None))
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise InvalidInputError(f"{path}: is no look-up table ({error}).") from None

    def write(self, path: str | Path) -> None:
        """Write the fourteen rows to parquet or FITS, by the path's suffix; parquet row by row.

        Parameters
        ----------
        path
            File, replaced if it exists.
        """
        if Path(path).suffix in FITS_SUFFIXES:
            table = self.to_table()
            table.meta = {_FITS_META: json.dumps(table.meta)}
            for column in table.itercols():
                if column.unit == "mbar":
                    column.unit = "hPa"  # the same; FITS has no bar
            table.write(path, overwrite=True)
        else:
            write_long_rows(self.to_arrow(), path)


def _first_row(value: Any, dtype: str) -> np.ndarray:
    """Return a column with a value in the first of the fourteen rows."""
    if dtype == "str":
        return np.array([str(value)] + [""] * (len(LUT_TYPES) - 1))
    array = np.asarray(value, dtype.removesuffix("[]"))
    column = np.zeros((len(LUT_TYPES), *array.shape), array.dtype)
    if array.dtype.kind == "f":
        column[1:] = np.nan
    column[0] = array
    return column


def _plain(value: Any) -> Any:
    """Return a cell as Python's own number or text, or an array."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray) and value.ndim:
        return np.array(value)
    return value.item() if isinstance(value, np.generic) else value

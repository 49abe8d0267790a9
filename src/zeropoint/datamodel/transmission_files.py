"""Files of transmission curves: text, tables, afw's FITS files, and FITS tables with a column for each detector."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy import units
from astropy.io import fits
from astropy.table import Table

from zeropoint.datamodel.table_files import read_table_file
from zeropoint.datamodel.transmission_curve import TransmissionCurve
from zeropoint.errors import InvalidInputError

__all__ = ["read_curve", "read_detector_curves"]

FloatArray = npt.NDArray[np.float64]

#: How comments and names of columns say the unit of wavelengths.
_UNITS = (
    ("nm", re.compile(r"(?:\b|_)nm\b|nanomet", re.IGNORECASE)),
    ("um", re.compile(r"(?:\b|_)um\b|micron|\bµm\b|\bμm\b", re.IGNORECASE)),
    ("Angstrom", re.compile(r"angstr|\(A\)|\[A\]|\bAA\b|Å", re.IGNORECASE)),
)
#: How they say that throughputs are in percent, and that they are fractions.
_PERCENT = re.compile(
    r"per\s?cent|[\[(]\s*%\s*[\])]|\b(?:t|qe|throughput|trans\w*|efficiency|response)\W{0,2}%|%\s*(?:t|qe|trans\w*)\b",
    re.IGNORECASE,
)
_FRACTION = re.compile(r"[\[(]\s*0\s*(?:-|to|\.{2,3})\s*1\s*[\])]|fraction", re.IGNORECASE)
#: From how many rows on gaps are looked for; and how wide they are, in Angstrom and in units of the usual step.
_GAP_ROWS, _GAP, _GAP_STEPS = 10, 200.0, 8.0
#: Spectral ranges that are read without being told the unit: unit, least start and greatest end.
_RANGES = (("um", 0.2, 3.0), ("nm", 200.0, 2700.0), ("Angstrom", 2701.0, 30000.0))
_WAVELENGTH = ("wavelength", "wavelengths", "wave", "wavelen", "lambda", "lam", "wl")
_THROUGHPUT = ("throughput", "transmission", "throughput_avg", "efficiency", "response", "trans", "qe")
_PER_DETECTOR = "throughput_ccd"
#: Units of columns in FITS files.
_FITS_UNITS = {
    **dict.fromkeys(("angstrom", "angstroms", "0.1nm", "0.1 nm"), units.Angstrom),
    **dict.fromkeys(("nm", "nanometer", "nanometers"), units.nm),
    **dict.fromkeys(("um", "micron", "microns", "micrometer"), units.um),
    **dict.fromkeys(("%", "percent"), units.percent),
}
#: How gzipped files begin.
_GZIP = b"\x1f\x8b"


def read_curve(
    path: str | Path,
    *,
    detector: int | None = None,
    wavelength_unit: str = "",
    percent: bool = False,
    clip: bool = False,
) -> TransmissionCurve:
    """Read a transmission curve.

    Parameters
    ----------
    path
        Text of two columns (with comments, commas or blanks, perhaps gzipped); ECSV, parquet or a FITS table with columns
        of wavelength and throughput; a file of afw's ``TransmissionCurve`` (constant, radial, or products of these); or a FITS
        table whose column ``throughput_ccd`` has the curve of each detector.
    detector
        Which detector of a file with many; the first is 1. None: the mean, ``throughput_avg``.
    wavelength_unit
        Unit where the file does not say: nm, um, Angstrom. Without it the range of the wavelengths decides.
    percent
        Throughputs are in percent, unless the file says what they are: by units of columns, or, in text, by "percent", "%",
        "fraction" or "0-1" in comments and names of columns.
    clip
        Make throughputs below 0 and above 1, as noise makes them, 0 and 1.

    Returns
    -------
    TransmissionCurve
        Zero outside of the wavelengths given, except for afw's files, which say what it is. Its ``notes`` say what was taken
        from a header or decided by range, and where the curve has gaps or more columns than two.

    Raises
    ------
    InvalidInputError
        If the file cannot be read, holds no such curve, or one that is impossible, as throughputs of less than 1 percent; or
        its unit is not clear.
    """
    file = Path(path)
    if not file.is_file():
        raise InvalidInputError(f"{file}: no such file of a transmission curve.")
    try:
        if _is_fits(file):
            return _of_fits(file, detector, wavelength_unit, percent, clip)
        if file.suffix in (".parq", ".parquet", ".ecsv"):
            return _of_columns(read_table_file(file), str(file), wavelength_unit, percent, clip)
        return _of_text(file, wavelength_unit, percent, clip)
    except InvalidInputError:
        raise
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InvalidInputError(
            f"{file}: cannot be read as a transmission curve ({error or type(error).__name__})."
        ) from error


def read_detector_curves(
    path: str | Path, *, wavelength_unit: str = "", percent: bool = False, clip: bool = False
) -> dict[int, TransmissionCurve]:
    """Read the curves of all detectors from a FITS table with the column ``throughput_ccd``; the first detector is 1.

    Parameters
    ----------
    path
        FITS file.
    wavelength_unit, percent, clip
        As for `read_curve`.

    Returns
    -------
    curves
        Detector -> curve.

    Raises
    ------
    InvalidInputError
        If the file has no such column, or cannot be read; and as `read_curve`.
    """
    file = Path(path)
    if not file.is_file():
        raise InvalidInputError(f"{file}: no such file of transmission curves.")
    table = _first_table(file) if _is_fits(file) else None
    if table is None or _PER_DETECTOR not in table.colnames:
        raise InvalidInputError(
            f"{file}: has no column {_PER_DETECTOR}; curves of single detectors are given as DETECTOR:NAME=FILE."
        )
    n = table[_PER_DETECTOR].shape[1]
    return {
        d: _of_table(table, f"{file} detector {d}", d, wavelength_unit, percent, clip)
        for d in range(1, n + 1)
    }


def _is_fits(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(6)
    if head[:2] == _GZIP:
        with gzip.open(file) as stream:
            head = stream.read(6)
    return head == b"SIMPLE"


def _of_text(file: Path, unit: str, percent: bool, clip: bool) -> TransmissionCurve:
    content = file.read_bytes()
    text = gzip.decompress(content) if content[:2] == _GZIP else content
    lines = [line.strip() for line in text.decode().splitlines()]
    comments = [line for line in lines if line.startswith("#")]
    rows: list[list[float]] = []
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            continue
        values = _numbers(line)
        if values is None:
            if not rows:  # the names of the columns
                comments.append(line)
                continue
            raise InvalidInputError(f"{file}: line {number} holds no two numbers: {line[:60]!r}.")
        rows.append(values)
    if len(rows) < 2:
        raise InvalidInputError(
            f"{file}: holds {len(rows)} rows of wavelength and throughput; write two numbers a row, "
            "separated by a blank or a comma."
        )
    wavelength, throughput, n_columns = np.array(rows).T
    stated = next((name for name, found in _UNITS if any(found.search(c) for c in comments)), unit)
    table = Table({"wavelength": wavelength, "throughput": throughput})
    notes = ["only the first two columns are read"] if n_columns.max() > 2 else []
    says = [any(form.search(c) for c in comments) for form in (_PERCENT, _FRACTION)]
    if says == [True, False] and not percent:
        notes.append("its header says that throughputs are in percent")
    if says == [False, True] and percent:
        notes.append("its header says that throughputs are fractions")
    in_percent = percent if says[0] == says[1] else says[0]
    return _curve(table, str(file), stated, in_percent, clip, notes)


def _numbers(line: str) -> list[float] | None:
    """Return the first two numbers of a line, and how many columns it has; None if there are not two."""
    parts = line.replace(",", " ").split()
    try:
        return [float(parts[0]), float(parts[1]), len(parts)]
    except (ValueError, IndexError):
        return None


def _of_columns(table: Table, source: str, unit: str, percent: bool, clip: bool) -> TransmissionCurve:
    """Return the curve of a table, whose columns may have any of the usual names."""
    by_name = {name.lower(): name for name in table.colnames}
    found = [next((by_name[n] for n in names if n in by_name), "") for names in (_WAVELENGTH, _THROUGHPUT)]
    if not all(found):
        raise InvalidInputError(
            f"{source}: needs a column {' or '.join(_WAVELENGTH[:3])} and a column {' or '.join(_THROUGHPUT[:2])}; it has "
            f"{', '.join(table.colnames)}."
        )
    renamed = Table({"wavelength": table[found[0]], "throughput": table[found[1]]}, meta=table.meta)
    return _curve(renamed, source, unit, percent, clip)


def _curve(
    table: Table, source: str, unit: str, percent: bool, clip: bool, notes: Sequence[str] = ()
) -> TransmissionCurve:
    found = list(notes)
    if not unit and table["wavelength"].unit is None:
        unit = _unit_by_range(np.asarray(table["wavelength"], np.float64), source)
        found.append(f"wavelengths are taken to be in {unit}, by their range")
    curve = TransmissionCurve.from_table(
        table, source=source, wavelength_unit=unit, percent=percent, clip=clip
    )
    return replace(curve, notes=(*found, *_gaps(curve)))


def _gaps(curve: TransmissionCurve) -> list[str]:
    """Return sentences about places where rows seem to be missing; between two zeros nothing can be."""
    steps = np.diff(curve.wavelength)
    bright = np.atleast_2d(curve.throughput).max(axis=0)
    wide = (steps > _GAP) & (steps > _GAP_STEPS * np.median(steps)) & (bright[1:] + bright[:-1] > 0)
    wide &= steps.size >= _GAP_ROWS
    return [
        f"there is nothing from {curve.wavelength[k]:g} to {curve.wavelength[k + 1]:g} Angstrom; the curve is taken to be "
        "straight there"
        for k in np.flatnonzero(wide)
    ]


def _unit_by_range(wavelength: FloatArray, source: str) -> str:
    low, high = float(wavelength.min()), float(wavelength.max())
    for unit, least, greatest in _RANGES:
        if least <= low and high <= greatest:
            return unit
    raise InvalidInputError(
        f"{source}: does not say the unit of its wavelengths, and {low:g} to {high:g} does not tell; say it "
        "(--wavelength-unit nm, um or Angstrom)."
    )


# -- FITS -------------------------------------------------------------------------------------------


def _first_table(file: Path) -> Table | None:
    with fits.open(file) as hdus:
        for hdu in hdus:
            if isinstance(hdu, fits.BinTableHDU):
                table = Table(hdu.data)
                for column in hdu.columns:
                    # other units, and spellings that FITS does not have, are as if there were none
                    table[column.name].unit = _FITS_UNITS.get((column.unit or "").strip().lower())
                return table
    return None


def _of_fits(file: Path, detector: int | None, unit: str, percent: bool, clip: bool) -> TransmissionCurve:
    with fits.open(file) as hdus:
        if any("AR_NAME" in hdu.header for hdu in hdus):
            return _Archive(hdus, str(file)).curve(1)
    table = _first_table(file)
    if table is None:
        raise InvalidInputError(f"{file}: has no table.")
    source = str(file) if detector is None else f"{file} detector {detector}"
    return _of_table(table, source, detector, unit, percent, clip)


def _of_table(
    table: Table, source: str, detector: int | None, unit: str, percent: bool, clip: bool
) -> TransmissionCurve:
    """Return the curve of a table, of one detector where it has several."""
    if _PER_DETECTOR in table.colnames and detector is not None:
        every = np.asarray(table[_PER_DETECTOR])
        if not 1 <= detector <= every.shape[1]:
            raise InvalidInputError(f"{source}: the file has detectors 1 to {every.shape[1]}.")
        found = Table(
            {"wavelength": table[_wavelength_of(table, source)], "throughput": every[:, detector - 1]}
        )
        found["throughput"].unit = table[_PER_DETECTOR].unit
        table = found
    return _of_columns(table, source, unit, percent, clip)


def _wavelength_of(table: Table, source: str) -> str:
    for name in table.colnames:
        if name.lower() in _WAVELENGTH:
            return str(name)
    raise InvalidInputError(f"{source}: has no column {' or '.join(_WAVELENGTH[:3])}.")


class _Archive:
    """The curves in a file that afw wrote: a table of objects, and tables with the content of each kind of object.

    Facts as in the LSST Science Pipelines: identifiers are numbers in the first table, which says in which of the others,
    and in which rows, an object is; wavelengths are Angstrom and radii pixels.
    """

    def __init__(self, hdus: fits.HDUList, source: str) -> None:
        self.source = source
        self._index = {int(row["id"]): row for row in hdus[1].data if int(row["row0"]) >= 0}
        self._contents: dict[tuple[int, str], Any] = {}
        for hdu in hdus[2:]:
            self._contents[int(hdu.header["AR_CATN"]), str(hdu.header["AR_NAME"]).strip()] = hdu.data
        self._readers: Mapping[str, Any] = {
            "SpatiallyConstantTransmissionCurve": self._constant,
            "RadialTransmissionCurve": self._radial,
            "ProductTransmissionCurve": self._product,
            "IdentityTransmissionCurve": self._identity,
        }

    def curve(self, number: int) -> TransmissionCurve:
        """Return an object by its identifier; that of the whole is 1."""
        if number not in self._index:
            raise InvalidInputError(f"{self.source}: object {number} of its archive is missing.")
        entry = self._index[number]
        kind = str(entry["name"]).strip()
        if kind not in self._readers:
            raise InvalidInputError(f"{self.source}: holds a {kind}; {', '.join(self._readers)} can be read.")
        table = self._contents.get((int(entry["cat.archive"]), kind))
        row = None if table is None else table[int(entry["row0"])]
        return self._readers[kind](row)

    def _constant(self, row: Any) -> TransmissionCurve:
        return TransmissionCurve(
            _native(row["wavelengths"]),
            _native(row["throughput"]),
            below=float(row["throughputAtMin"]),
            above=float(row["throughputAtMax"]),
            source=self.source,
        )

    def _radial(self, row: Any) -> TransmissionCurve:
        wavelengths, radii = _native(row["wavelengths"]), _native(row["radii"])
        return TransmissionCurve(
            wavelengths,
            _native(row["throughput"]).reshape(radii.size, wavelengths.size),
            radii,
            "pixel",
            below=float(row["throughputAtMin"]),
            above=float(row["throughputAtMax"]),
            source=self.source,
        )

    def _product(self, row: Any) -> TransmissionCurve:
        return TransmissionCurve.product(
            [self.curve(int(row["a"])), self.curve(int(row["b"]))], source=self.source
        )

    def _identity(self, row: Any) -> TransmissionCurve:
        return TransmissionCurve.constant(1.0, source=self.source)


def _native(values: Any) -> FloatArray:
    return np.asarray(values, np.float64)

"""Throughputs of filters and detectors as a table, from which the fit integrates passbands without the look-up table's grid."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from astropy.table import Table

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.atmosphere import Atmosphere
from zeropoint.fgcm.lut import LookUpTable
from zeropoint.fgcm.passbands import (
    DetectorThroughputs,
    StandardPassbands,
    focal_plane_mean,
    standard_passbands,
)

__all__ = ["atmosphere_of", "passbands_of", "throughput_table", "throughputs_of"]

_COLUMNS = {
    "physical_filter": (None, "Filter"),
    "detector": (None, "Id of the detector"),
    "wavelength": ("Angstrom", "Wavelengths"),
    "throughput": (None, "Of optics, filter and detector, without atmosphere"),
}
#: How the metadata of look-up tables begin where no table of transmissions was used.
_OPEN = "the open atmosphere"
#: Largest difference between wavelengths of the same passband, Angstrom.
_SAME_WAVELENGTH = 1e-6


def throughput_table(passbands: StandardPassbands) -> Table:
    """Return the throughputs of a camera, a row for each filter and detector.

    Parameters
    ----------
    passbands
        Of the camera.

    Returns
    -------
    table : Table
        Columns ``physical_filter``, ``detector``, ``wavelength`` (Angstrom) and ``throughput`` (0 to 1), the last two
        arrays.
    """
    filters, detectors = passbands.passbands, passbands.detectors
    n_rows = len(filters) * len(detectors)
    wavelength = filters[0].wavelength
    columns = {
        "physical_filter": np.repeat(passbands.physical_filters, len(detectors)),
        "detector": np.tile(np.array(detectors, np.int32), len(filters)),
        "wavelength": np.broadcast_to(wavelength, (n_rows, len(wavelength))).copy(),
        "throughput": np.concatenate([each.detector_throughput[:-1] for each in filters]),
    }
    table = Table(columns)
    for name, (unit, text) in _COLUMNS.items():
        table[name].unit, table[name].description = unit, text
    return table


def throughputs_of(table: Table, lut: LookUpTable | None = None) -> DetectorThroughputs:
    """Return the throughputs of a table.

    Parameters
    ----------
    table
        As `throughput_table` gives it; rows may be in any order.
    lut
        Look-up table, whose filters and detectors come in its order; None: they come as in the table.

    Raises
    ------
    InvalidInputError
        If columns are missing, rows are missing or there twice, or wavelengths differ from row to row.
    """
    missing = [name for name in _COLUMNS if name not in table.colnames]
    if missing:
        raise InvalidInputError(f"Table of throughputs lacks the columns {', '.join(missing)}.")
    names = [str(name) for name in table["physical_filter"]]
    filters = _ordered(names, [] if lut is None else lut.physical_filters)
    detectors = _ordered(np.asarray(table["detector"]).tolist(), [] if lut is None else lut.detectors)
    row_of = {
        (name, int(detector)): row
        for row, (name, detector) in enumerate(zip(names, table["detector"], strict=True))
    }
    if len(row_of) != len(table) or len(table) != len(filters) * len(detectors):
        raise InvalidInputError(
            f"Table of throughputs has {len(table)} rows of {len(filters)} filters and {len(detectors)} detectors; it needs "
            "one of each pair."
        )
    wavelength = np.asarray(table["wavelength"], float)
    if (wavelength != wavelength[0]).any():
        raise InvalidInputError("Table of throughputs has other wavelengths in some rows than in the first.")
    values = np.asarray(table["throughput"], float)
    out = np.empty((len(filters), len(detectors) + 1, wavelength.shape[1]))
    for k, name in enumerate(filters):
        out[k, :-1] = values[[row_of[name, detector] for detector in detectors]]
        out[k, -1] = focal_plane_mean(out[k, :-1])
    return DetectorThroughputs(filters, detectors, wavelength[0], out)


def _ordered[T](found: Iterable[T], first: Iterable[T]) -> tuple[T, ...]:
    """Return each once: those that come first in their order, then the others as they are found."""
    there = dict.fromkeys(found)
    return tuple(dict.fromkeys([*(each for each in first if each in there), *there]))


def passbands_of(table: Table, lut: LookUpTable) -> StandardPassbands:
    """Return the passbands of a table of throughputs, with the standard atmosphere of a look-up table.

    Parameters
    ----------
    table
        As `throughput_table` gives it.
    lut
        Look-up table that was made of them; its header is enough.

    Raises
    ------
    InvalidInputError
        If the throughputs are not those of the look-up table.
    """
    throughputs = throughputs_of(table, lut)
    at = np.asarray(lut.header["atmLambda"], float)
    same = (
        throughputs.physical_filters == lut.physical_filters
        and throughputs.detectors == lut.detectors
        and np.array_equal(at, throughputs.wavelength)
    )
    if same:
        passbands = standard_passbands(
            throughputs, np.asarray(lut.header["atmStdTrans"], float), lut.std_physical_filters
        )
        same = bool((abs(passbands.column("lambda_std") - lut.lambda_std) < _SAME_WAVELENGTH).all())
    if not same:
        raise InvalidInputError(
            "The table of throughputs is not that of the look-up table: filters, detectors, wavelengths or standard passbands "
            "differ. Take both from one run of fgcmMakeLut."
        )
    return passbands


def atmosphere_of(lut: LookUpTable) -> Atmosphere:
    """Return the atmosphere that a look-up table was made of.

    Parameters
    ----------
    lut
        Look-up table; its header is enough.

    Raises
    ------
    InvalidInputError
        If it was made of a table of transmissions that is not there any more, or does not say what it was made of.
    """
    wavelength = np.asarray(lut.header["atmLambda"], float)
    made_of, name = str(lut.meta.get("atmosphere", "")), str(lut.header["tablename"])
    if made_of.startswith(_OPEN):
        return Atmosphere.for_site(
            float(lut.header["elevation"]),
            wavelength=wavelength,
            lambda_norm=float(lut.header["lambdaNorm"]),
        )
    path = next((path for path in (Path(name), Path(f"{name}.fits")) if path.is_file()), None)
    if path is None:
        raise InvalidInputError(
            f"The look-up table was made of {made_of or 'an atmosphere that it does not name'} ({name}), which is not there; "
            "integrals by quadrature need it."
        )
    return Atmosphere.from_table(path)

"""Passbands of a fit without a repository: of files, of curves, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from astropy.table import Table

from zeropoint.datamodel.table_files import read_table_file
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.lut import LookUpTable
from zeropoint.fgcm.lut_grid import StandardAtmosphere
from zeropoint.fgcm.make_lut import LutSite
from zeropoint.fgcm.model.passband_source import GrayPassbands, QuadraturePassbands, ranges_of_grid
from zeropoint.fgcm.passband_choice import ChosenPassbands, choose_passbands
from zeropoint.fgcm.passbands import StandardPassbands

__all__ = ["passbands_of_curves", "passbands_of_files", "without_atmosphere"]

#: Middle of bands by their usual names, Angstrom, for what is ordered by wavelength.
_USUAL = {
    "U": 3650.0, "u": 3600.0, "B": 4400.0, "g": 4800.0, "G": 5900.0, "V": 5500.0, "r": 6200.0, "R": 6500.0, "i": 7500.0,
    "I": 8000.0, "z": 8900.0, "Z": 8900.0, "y": 9700.0, "Y": 10000.0, "J": 12400.0, "H": 16500.0, "K": 22000.0,
}  # fmt: skip
_UNKNOWN = 5500.0


def passbands_of_files(lut: Path, throughputs: Path | None, choice: str = "auto") -> ChosenPassbands:
    """Return the passbands of a look-up table and, with them, of a table of throughputs.

    Parameters
    ----------
    lut
        Look-up table.
    throughputs
        Table of throughputs: as ``fgcm lut --passbands`` writes it, or the dataset ``fgcm_detector_throughputs``. With it,
        passbands are integrated for each exposure.
    choice
        Value of the field ``passbandIntegrals``.

    Raises
    ------
    InvalidInputError
        If a file cannot be used, or they are not of each other.
    """
    header = LookUpTable.read(lut, header_only=True)
    table = None if throughputs is None else _throughputs(throughputs)
    return choose_passbands(header, table, lambda: LookUpTable.read(lut), choice)


def _throughputs(path: Path) -> Table:
    """Return a table with a row for each filter and detector."""
    table = read_table_file(path)
    if "physical_filter" in table.colnames:
        return table
    suffix = "_throughput"
    filters = [name.removesuffix(suffix) for name in table.colnames if name.endswith(suffix)]
    detectors = [int(text) for text in str(table.meta.get("DETECTOR", "")).split(",") if text]
    if not filters or not detectors or "wavelength" not in table.colnames:
        raise InvalidInputError(
            f"{path}: holds no throughputs; give the file that `zeropoint fgcm lut --passbands FILE` writes."
        )
    wavelength = np.asarray(table["wavelength"], float)
    curves = np.concatenate([np.asarray(table[f"{name}{suffix}"], float).T[:-1] for name in filters])
    return Table(
        {
            "physical_filter": np.repeat(filters, len(detectors)),
            "detector": np.tile(np.array(detectors, np.int32), len(filters)),
            "wavelength": np.broadcast_to(wavelength, curves.shape).copy(),
            "throughput": curves,
        }
    )


def passbands_of_curves(site: LutSite, passbands: StandardPassbands) -> ChosenPassbands:
    """Return passbands that are integrated for each exposure, without a look-up table.

    Parameters
    ----------
    site, passbands
        As `zeropoint.fgcm.make_lut.MakeLookUpTable.passbands` gives them.
    """
    return ChosenPassbands(
        QuadraturePassbands(site.atmosphere, passbands, site.standard, ranges_of_grid(site.grid)),
        f"Passbands are integrated for each exposure, with {site.description}.",
    )


def without_atmosphere(
    filter_bands: Mapping[str, str],
    detectors: Sequence[int],
    wavelengths: Mapping[str, float] | None = None,
) -> ChosenPassbands:
    """Return passbands of no color and no atmosphere: what is left to fit are flats, gray and the instrument.

    Parameters
    ----------
    filter_bands
        Filter -> band.
    detectors
        Ids.
    wavelengths
        Filter -> its wavelength, Angstrom; others have that of their band's usual name.
    """
    known = wavelengths or {}
    names = tuple(filter_bands)
    middle = np.array([known.get(name, _USUAL.get(filter_bands[name], _UNKNOWN)) for name in names])
    return ChosenPassbands(
        GrayPassbands(
            names, tuple(detectors), names, middle, StandardAtmosphere(1013.25, 3.0, 263.0, 0.03, 1.0, 1.2)
        ),
        "No atmosphere, and no color: every passband is its standard.",
    )

"""Where a fit gets the integrals of passbands from: quadrature, or the look-up table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from astropy.table import Table

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.lut import LookUpTable
from zeropoint.fgcm.model.lut_passbands import LutPassbands
from zeropoint.fgcm.model.passband_source import PassbandSource, QuadraturePassbands, ranges_of_grid
from zeropoint.fgcm.throughput_table import atmosphere_of, passbands_of

__all__ = ["ChosenPassbands", "choose_passbands"]


@dataclass(frozen=True)
class ChosenPassbands:
    """Passbands of a fit.

    Parameters
    ----------
    source
        The integrals.
    description
        Where they come from, in a sentence.
    """

    source: PassbandSource
    description: str


def choose_passbands(
    header: LookUpTable,
    throughputs: Table | None,
    read_lut: Callable[[], LookUpTable],
    choice: str = "auto",
) -> ChosenPassbands:
    """Return the passbands of a fit.

    Parameters
    ----------
    header
        Look-up table, of which the header is enough: site, standard atmosphere and ranges.
    throughputs
        Of filters and detectors, as `zeropoint.fgcm.throughput_table.throughput_table` gives them; None: unknown.
    read_lut
        Returns the whole look-up table.
    choice
        Value of the field ``passbandIntegrals``.

    Raises
    ------
    InvalidInputError
        If quadrature is asked for and throughputs or atmosphere are not there, or if throughputs are not those of the
        look-up table.
    """
    why = "passbandIntegrals asks for it"
    if choice != "lut":
        try:
            return _quadrature(header, throughputs)
        except _Absent as absent:
            if choice == "quadrature":
                raise InvalidInputError(
                    f"{absent}; with passbandIntegrals='lut' the look-up table is interpolated instead."
                ) from None
            why = str(absent)
    return ChosenPassbands(
        LutPassbands(read_lut()), f"Passbands are interpolated in the look-up table: {why}."
    )


class _Absent(Exception):
    """What quadrature needs is not there."""


def _quadrature(header: LookUpTable, throughputs: Table | None) -> ChosenPassbands:
    if throughputs is None:
        raise _Absent("There are no throughputs of detectors (fgcm_detector_throughputs)")
    passbands = passbands_of(throughputs, header)
    try:
        atmosphere = atmosphere_of(header)
    except InvalidInputError as error:
        raise _Absent(str(error).rstrip(".")) from None
    return ChosenPassbands(
        QuadraturePassbands(atmosphere, passbands, header.standard, ranges_of_grid(header.grid)),
        "Passbands are integrated for each exposure.",
    )

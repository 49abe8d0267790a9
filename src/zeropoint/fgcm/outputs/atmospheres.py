"""Transmission of the atmosphere in each visit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zeropoint.datamodel.transmission_curve import TransmissionCurve
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.accounting import Accounting
from zeropoint.fgcm.atmosphere import Atmosphere, AtmosphereParameters
from zeropoint.fgcm.atmosphere.parameters import MAX_AIRMASS
from zeropoint.fgcm.lut import LookUpTable
from zeropoint.fgcm.lut_grid import named_parameters
from zeropoint.fgcm.outputs.tables import require_columns

__all__ = ["VisitAtmospheres", "look_up_table_atmosphere", "visit_atmospheres"]

_NAMES = {"pmb": "pmb", "pwv": "pwv", "o3": "o3", "tau": "tau", "alpha": "alpha", "airmass": "secZenith"}
_NO_TABLE = "NoTableWasUsed"

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class VisitAtmospheres:
    """The atmospheres of visits at their boresights, made one after the other.

    Parameters
    ----------
    visits
        Visits whose atmosphere is known, int64, ascending.
    parameters
        Of these.
    mirror
        Slope C of the mirror's throughput, 1 + C (lam - lam_std) / lam_std, and lam_std (Angstrom); float64, shape (n, 2).
    atmosphere
        Makes transmission of parameters, at its wavelengths.
    accounting
        Stage ``atmospheres``: visits read, and why some have none.
    """

    visits: IntArray
    parameters: AtmosphereParameters
    mirror: FloatArray
    atmosphere: Atmosphere
    accounting: Accounting

    def __len__(self) -> int:
        return len(self.visits)

    def __iter__(self) -> Iterator[tuple[int, TransmissionCurve]]:
        return ((int(visit), self.curve(row)) for row, visit in enumerate(self.visits))

    def curve(self, row: int) -> TransmissionCurve:
        """Return the transmission in the visit of a row; beyond its wavelengths it is as at the last of them."""
        wavelength = self.atmosphere.wavelength
        values = self.atmosphere.transmission(self.parameters.rows(slice(row, row + 1)))[0]
        slope, standard = self.mirror[row]
        if slope != 0.0:
            # the slope holds about lam_std: far from it the factor may make more light than there was
            values = np.clip(values * (1.0 + slope * (wavelength - standard) / standard), 0.0, 1.0)
        return TransmissionCurve(
            wavelength,
            values,
            below=float(values[0]),
            above=float(values[-1]),
            source=f"atmosphere of visit {int(self.visits[row])}",
        )


def visit_atmospheres(parameters: Table, atmosphere: Atmosphere) -> VisitAtmospheres:
    """Return the atmospheres that a fit found.

    Parameters
    ----------
    parameters
        ``fgcm_Cycle{N}_AtmosphereParameters``.
    atmosphere
        The one with which the fit was made, so that a visit's transmission is the one behind its zeropoints (one rule for
        airmasses); that of a look-up table: `look_up_table_atmosphere`.

    Raises
    ------
    InvalidInputError
        If columns are missing.

    Notes
    -----
    A visit has no atmosphere if a parameter is not finite or not positive (``no_parameters``), or if the secant at the
    boresight is not between 1 and 5 (``no_secant``).
    """
    require_columns(parameters, "atmospheres", ("visit", *_NAMES.values(), "cTrans", "lamStd"))
    table = parameters[np.argsort(np.asarray(parameters["visit"]))]
    values = {name: np.asarray(table[column], np.float64) for name, column in _NAMES.items()}
    wrong = ~np.isfinite(np.stack(list(values.values()))).all(axis=0)
    wrong |= (values["pmb"] <= 0) | (values["pwv"] <= 0) | (values["o3"] < 0) | (values["tau"] < 0)
    low = ~wrong & ((values["airmass"] < 1.0) | (values["airmass"] > MAX_AIRMASS))
    good = ~(wrong | low)
    accounting = Accounting()
    rejected = {"no_parameters": int(wrong.sum()), "no_secant": int(low.sum())}
    accounting.add("atmospheres", read=len(table), kept=int(good.sum()), rejected=rejected)
    mirror = np.stack([np.asarray(table[name], np.float64) for name in ("cTrans", "lamStd")], axis=1)
    return VisitAtmospheres(
        np.asarray(table["visit"], np.int64)[good],
        AtmosphereParameters(**{name: column[good] for name, column in values.items()}),
        np.where(np.isfinite(mirror).all(axis=1, keepdims=True), mirror, (0.0, 1.0))[good],
        atmosphere,
        accounting,
    )


def look_up_table_atmosphere(table: LookUpTable) -> Atmosphere:
    """Return the atmosphere with which a look-up table was made, at the wavelengths of its standard atmosphere.

    Parameters
    ----------
    table
        The header is enough.

    Raises
    ------
    InvalidInputError
        If it was made of a table of transmissions that is not there any more.
    """
    header = table.header
    name, wavelength = str(header["tablename"]), np.asarray(header["atmLambda"], np.float64)
    path = next((path for path in (Path(name), Path(f"{name}.fits")) if path.is_file()), None)
    if path is not None:
        return Atmosphere.from_table(path, wavelength=wavelength, lambda_norm=float(header["lambdaNorm"]))
    if name != _NO_TABLE and named_parameters(name) is None:
        raise InvalidInputError(
            f"The look-up table was made with the atmosphere {name}, which is not there; put it back, or make the table again."
        )
    return Atmosphere.for_site(
        float(header["elevation"]), wavelength=wavelength, lambda_norm=float(header["lambdaNorm"])
    )

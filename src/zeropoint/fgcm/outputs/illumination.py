"""Illumination corrections: what flat fields leave, from the superstar flats of a fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.outputs.tables import NO_FLAT, require_columns

__all__ = ["IlluminationCorrections", "illumination_corrections"]

#: Smallest value of a correction, where a detector is vignetted.
_LEAST = 0.1
_COLUMNS = ("lutFilterNames", "superstarSize", "superstar", "epochMjdStart", "epochMjdEnd")

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class IlluminationCorrections:
    """The superstar flats of one epoch.

    Parameters
    ----------
    physical_filters
        Filters of the fit.
    detectors
        Detectors of the fit, in the order of ``coefficients``.
    coefficients : float64, shape (n_filters, n_detectors, n)
        Chebyshev coefficients of each, in flux, row by row of the matrix [y order, x order].
    epoch
        Its index, and first and last time, MJD.
    """

    physical_filters: tuple[str, ...]
    detectors: tuple[int, ...]
    coefficients: FloatArray
    epoch: tuple[int, float, float]

    def image(
        self, physical_filter: str, detector: int, width: int, height: int
    ) -> npt.NDArray[np.float32] | None:
        """Return what fluxes on each pixel are multiplied by.

        Parameters
        ----------
        physical_filter, detector
            Which.
        width, height
            Size of the detector, pixels.

        Returns
        -------
        image : float32, shape (height, width)
            Not below 0.1; None: the fit has no superstar flat here.

        Raises
        ------
        InvalidInputError
            If the fit does not know the detector.
        """
        if detector not in self.detectors:
            raise InvalidInputError(
                f"Detector {detector} is not of the fit, which has {', '.join(map(str, self.detectors))}."
            )
        if physical_filter not in self.physical_filters:
            return None
        values = self.coefficients[
            self.physical_filters.index(physical_filter), self.detectors.index(detector)
        ]
        if not np.isfinite(values).all() or values[0] >= NO_FLAT:
            return None
        side = round(values.size**0.5)
        field = ChebyshevPolynomial(width, height, values.reshape(side, side))
        return np.maximum(field.image(), np.float32(_LEAST))


def illumination_corrections(parameters: Table, mjd: float) -> IlluminationCorrections:
    """Return the superstar flats of the epoch of a time.

    Parameters
    ----------
    parameters
        ``fgcm_Cycle{N}_FitParameters``, one row, with its metadata.
    mjd
        A time in the epoch, MJD in UTC.

    Raises
    ------
    InvalidInputError
        If columns are missing, no epoch of the fit contains the time, or the metadata do not name its detectors.
    """
    require_columns(parameters, "fit parameters", _COLUMNS)
    row = parameters[0]
    size = tuple(int(n) for n in np.asarray(row["superstarSize"]))
    flats = np.asarray(row["superstar"], np.float64).reshape(size)
    start, stop = (np.asarray(row[name], np.float64).ravel() for name in ("epochMjdStart", "epochMjdEnd"))
    inside = np.flatnonzero((mjd >= start) & (mjd < stop))
    if len(inside) == 0:
        known = ", ".join(f"{a:.1f} to {b:.1f}" for a, b in zip(start, stop, strict=True))
        raise InvalidInputError(
            f"MJD {mjd:.3f} is in no epoch of the fit ({known}); choose another epoch_time."
        )
    ids = tuple(int(each) for each in parameters.meta.get("DETECTORS", ()))
    if len(ids) != size[2]:
        raise InvalidInputError(
            f"The fit has superstar flats of {size[2]} detectors, and its metadata name {len(ids)}; read the table of fit "
            "parameters with its metadata."
        )
    filters = tuple(str(row["lutFilterNames"]).split(","))
    epoch = int(inside[0])
    return IlluminationCorrections(
        filters, ids, flats[epoch], (epoch, float(start[epoch]), float(stop[epoch]))
    )

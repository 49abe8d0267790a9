"""The nodes of a band: what the magnitudes of its observations follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Nodes"]

IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Nodes:
    """The nodes of a band: its exposures, then constants of its superstar flats.

    Parameters
    ----------
    band
        Index.
    exposures : int64, shape (n_exposures,)
        Of the band, ascending.
    flats : int64, shape (n_flats,)
        Columns of the vector of free parameters.
    of_exposure : int32, shape (n_exp,)
        Node of each exposure of the survey, -1: of another band.
    of_flat : int32, shape (n_exp * n_det,)
        Node of each exposure and detector, -1: none.
    """

    band: int
    exposures: npt.NDArray[np.int64]
    flats: npt.NDArray[np.int64]
    of_exposure: IntArray
    of_flat: IntArray

    def __len__(self) -> int:
        return len(self.exposures) + len(self.flats)

    @classmethod
    def of(cls, band: int, exposure_band: npt.NDArray[Any], flat_column: npt.NDArray[Any]) -> Nodes:
        """Return the nodes of a band.

        Parameters
        ----------
        band
            Index.
        exposure_band : integer, shape (n_exp,)
            Band of each exposure, -1: none.
        flat_column : integer, shape (n_exp, n_det)
            Column of the free superstar constant that acts on each exposure and detector, -1: none.
        """
        exposures = np.flatnonzero(exposure_band == band)
        of_exposure = np.full(len(exposure_band), -1, np.int32)
        of_exposure[exposures] = np.arange(len(exposures))
        of_flat = np.full(flat_column.shape, -1, np.int32)
        flats = np.unique(flat_column[exposures])
        flats = flats[flats >= 0]
        if len(flats):
            columns = flat_column[exposures]
            place = np.searchsorted(flats, columns)
            of_flat[exposures] = np.where(columns >= 0, place + len(exposures), -1)
        # a plain integer: each type of integer is a compilation of its own
        return cls(int(band), exposures, flats.astype(np.int64), of_exposure, of_flat.ravel())

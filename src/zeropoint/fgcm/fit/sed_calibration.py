"""How the slopes of spectra follow from colors: a scale and an offset for each band, fitted with everything else.

The constants that turn colors into slopes hold for some library of stars, to ten or twenty percent.  Detectors whose
passbands differ, and the atmosphere, show how stars of different colors really move against each other; so the fit finds
scale and offset by itself, and slopes that are wrong do not pass for an atmosphere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["SedCalibration", "typical_slopes"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SedCalibration:
    """Scale and offset of the slopes of each band; arrays of shape (n_band,).

    Parameters
    ----------
    scale
        Factor on how far a star's slope is from the pivot.
    offset
        Added to all slopes, 1/Angstrom.
    pivot
        Slope of a typical star, 1/Angstrom.

    Notes
    -----
    They act on the slope as the color term has it, ``f = F' / (1 + F' I10std)``:
    ``f -> pivot + scale (f - pivot) + offset``.
    """

    scale: FloatArray
    offset: FloatArray
    pivot: FloatArray

    @classmethod
    def none(cls, n_band: int) -> SedCalibration:
        """Return one that changes nothing.

        Parameters
        ----------
        n_band
            Number of bands.
        """
        return cls(np.ones(n_band), np.zeros(n_band), np.zeros(n_band))

    @property
    def shift(self) -> FloatArray:
        """What is added to ``scale f``, 1/Angstrom."""
        return np.asarray((1.0 - self.scale) * self.pivot + self.offset)

    def apply(self, slopes: FloatArray, i10_std: FloatArray) -> FloatArray:
        """Return calibrated slopes F', of the shape given.

        Parameters
        ----------
        slopes : float64, shape (n_star * n_band,) or (n_star, n_band)
            F', 1/Angstrom.
        i10_std : float64, shape (n_band,)
            Of the standard passbands, Angstrom.
        """
        f = slopes.reshape(-1, len(i10_std))
        f = f / (1.0 + f * i10_std)
        f = self.scale * f + self.shift
        return np.asarray((f / (1.0 - f * i10_std)).reshape(slopes.shape))


def typical_slopes(slopes: FloatArray, i10_std: FloatArray, weight_sum: FloatArray) -> FloatArray:
    """Return the weighted mean of the relative slopes of each band, 1/Angstrom, shape (n_band,).

    Parameters
    ----------
    slopes : float64, shape (n_star * n_band,)
        F', 1/Angstrom.
    i10_std : float64, shape (n_band,)
        Of the standard passbands, Angstrom.
    weight_sum : float64, shape (n_star, n_band)
        Weight of each star in the fit.
    """
    f = slopes.reshape(weight_sum.shape)
    f = f / (1.0 + f * i10_std)
    total = weight_sum.sum(axis=0)
    return np.asarray((f * weight_sum).sum(axis=0) / np.where(total > 0, total, 1.0))

"""Slopes of the stars' spectra from their magnitudes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.magnitudes import MAG_PER_LN

__all__ = ["MAX_SLOPE", "SedSettings", "SedTerm", "fill_slopes", "sed_slopes"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Largest slope of a spectrum, 1/Angstrom: steeper ones come from magnitudes that are wrong, and are cut to it.
MAX_SLOPE = 1.0 / 400.0
#: Fewer slopes than these in a band give no median.
_LEAST = 3


@dataclass(frozen=True)
class SedTerm:
    """How the slope in a band follows from boundary terms.

    Parameters
    ----------
    primary, secondary
        Names of boundary terms; the second may be None unless the slope is extrapolated.
    constant
        Factor.
    extrapolated
        Whether the band is at the end of the row of bands.
    bands
        Of an extrapolated slope: primary, secondary and tertiary band.
    """

    primary: str
    secondary: str | None = None
    constant: float = 1.0
    extrapolated: bool = False
    bands: tuple[str, str, str] | None = None


@dataclass(frozen=True)
class SedSettings:
    """Which magnitudes the slopes follow from.

    Parameters
    ----------
    boundary
        Name of a boundary term -> its two bands, in the order of their difference.
    terms
        Band -> its term; bands without one have no slope.
    """

    boundary: Mapping[str, tuple[str, str]]
    terms: Mapping[str, SedTerm]

    @classmethod
    def from_config(cls, boundary: Any, terms: Any) -> SedSettings:
        """Return the settings of ``sedboundaryterms`` and ``sedterms``.

        Parameters
        ----------
        boundary, terms
            Configurations with a ``data`` of named entries.
        """
        return cls(
            {name: (each.primary, each.secondary) for name, each in boundary.data.items()},
            {
                band: SedTerm(
                    each.primaryTerm,
                    each.secondaryTerm,
                    each.constant,
                    each.extrapolated,
                    (each.primaryBand, each.secondaryBand, each.tertiaryBand) if each.extrapolated else None,
                )
                for band, each in terms.data.items()
            },
        )


def sed_slopes(
    mean: FloatArray, bands: Sequence[str], lambda_std: FloatArray, settings: SedSettings
) -> FloatArray:
    """Return the slopes of stars of known magnitudes.

    Parameters
    ----------
    mean : float64, shape (n_star, n_band)
        Standard magnitudes; NaN: unknown.
    bands
        Their names.
    lambda_std : float64, shape (n_band,)
        Standard wavelengths, Angstrom.
    settings
        Which magnitudes count.

    Returns
    -------
    slopes : float64, shape (n_star, n_band)
        1/Angstrom; NaN where a magnitude is missing or the band has no term.

    Raises
    ------
    InvalidInputError
        If a term names a band or a boundary term that there is not.
    """
    index = {band: k for k, band in enumerate(bands)}
    boundary: dict[str, FloatArray] = {}

    def place(band: str, where: str) -> int:
        if band not in index:
            raise InvalidInputError(f"{where} names the band {band}, which is not among {', '.join(bands)}.")
        return index[band]

    def difference(name: str, where: str) -> FloatArray:
        if name not in settings.boundary:
            raise InvalidInputError(f"{where} names the boundary term {name}, which sedboundaryterms lacks.")
        if name not in boundary:
            a, b = (place(band, f"sedboundaryterms[{name!r}]") for band in settings.boundary[name])
            boundary[name] = -(mean[:, a] - mean[:, b]) / (lambda_std[a] - lambda_std[b]) / MAG_PER_LN
        return boundary[name]

    slopes = np.full(mean.shape, np.nan)
    for band, term in settings.terms.items():
        where = f"sedterms[{band!r}]"
        k = place(band, where)
        first = difference(term.primary, where)
        if term.extrapolated:
            if term.bands is None or term.secondary is None:
                raise InvalidInputError(
                    f"{where} is extrapolated: it needs two boundary terms and three bands."
                )
            p, s, t = (lambda_std[place(each, where)] for each in term.bands)
            slopes[:, k] = first + term.constant * (p - s) / (p - t) * (
                first - difference(term.secondary, where)
            )
        elif term.secondary is None:
            slopes[:, k] = term.constant * first
        else:
            slopes[:, k] = term.constant * 0.5 * (first + difference(term.secondary, where))
    return np.asarray(np.clip(slopes, -MAX_SLOPE, MAX_SLOPE))


def fill_slopes(slopes: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Return the slopes with those that are unknown set to the median of their band, and which are known.

    Parameters
    ----------
    slopes : float64, shape (n_star, n_band)
        NaN: unknown.

    Returns
    -------
    filled : float64, shape (n_star, n_band)
        The filler is 0 where fewer than three slopes of a band are known.
    known : bool, shape (n_star, n_band)
    """
    known = np.isfinite(slopes)
    filled = slopes.copy()
    for k in range(slopes.shape[1]):
        good = known[:, k]
        median = float(np.median(slopes[good, k])) if good.sum() >= _LEAST else 0.0
        filled[~good, k] = median
    return filled, known

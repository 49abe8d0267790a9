"""Colour terms: from a reference catalogue's magnitudes to the camera's, given or fitted."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import lsst.pex.config as pexConfig
import numpy as np
from astropy.table import Table

from zeropoint.datamodel.catalog import column
from zeropoint.datamodel.exposure import AB_FLUX_NJY
from zeropoint.errors import ColortermNotFoundError, InvalidInputError

__all__ = [
    "REFERENCE_COLORS",
    "USUAL_COLORS",
    "Colorterm",
    "ColortermDict",
    "ColortermLibrary",
    "FittedColorTerm",
    "ab_magnitude",
    "reference_color",
    "usual_bands",
]

#: Colour (mag) at which the zero point holds when a colour term is fitted: that of common field stars.
REFERENCE_COLORS: dict[str, float] = {
    "u-g": 1.2,
    "g-r": 0.5,
    "r-i": 0.2,
    "i-z": 0.1,
    "z-y": 0.05,
    "g-i": 0.7,
    "phot_bp_mean-phot_rp_mean": 0.5,
}
#: Colours for each band of the catalogue, the first that is available serves; under "" those for any band.
USUAL_COLORS: dict[str, tuple[tuple[str, str], ...]] = {
    "u": (("u", "g"),),
    "g": (("g", "r"), ("g", "i")),
    "r": (("g", "r"), ("r", "i")),
    "i": (("r", "i"), ("g", "i"), ("i", "z")),
    "z": (("i", "z"), ("z", "y")),
    "y": (("z", "y"), ("i", "y")),
    "": (("phot_bp_mean", "phot_rp_mean"), ("g", "r"), ("r", "i")),
}


def ab_magnitude(flux_njy: np.ndarray) -> np.ndarray:
    """Return AB magnitudes of fluxes in nJy; NaN where not positive."""
    flux = np.asarray(flux_njy, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(flux > 0, -2.5 * np.log10(flux / AB_FLUX_NJY), np.nan)


class Colorterm(pexConfig.Config):
    """A quadratic colour term: ``m = p + c0 + (p - s) (c1 + c2 (p - s))``, p and s in AB magnitudes."""

    primary = pexConfig.Field[str](doc="Band p of the reference catalogue.")
    secondary = pexConfig.Field[str](doc="Band s of the reference catalogue.")
    c0 = pexConfig.Field[float](doc="Constant (mag).", default=0.0)
    c1 = pexConfig.Field[float](doc="Linear coefficient.", default=0.0)
    c2 = pexConfig.Field[float](doc="Quadratic coefficient (1/mag).", default=0.0)

    def transform_mags(self, primary: np.ndarray, secondary: np.ndarray) -> np.ndarray:
        """Return the camera's magnitudes of catalogue magnitudes."""
        color = primary - secondary
        return np.asarray(primary + self.c0 + color * (self.c1 + color * self.c2))

    def propagate_flux_errors(self, primary_err: np.ndarray, secondary_err: np.ndarray) -> np.ndarray:
        """Return errors through the linear part: ``hypot((1 + c1) p_err, c1 s_err)``.

        Holds for magnitude errors and for relative flux errors alike.
        """
        return np.hypot((1.0 + self.c1) * primary_err, self.c1 * secondary_err)

    def propagate_mag_errors(
        self,
        primary: np.ndarray,
        secondary: np.ndarray,
        primary_err: np.ndarray,
        secondary_err: np.ndarray,
    ) -> np.ndarray:
        """Return magnitude errors through all of the term: ``hypot((1 + k) p_err, k s_err)``.

        Here ``k = c1 + 2 c2 (p - s)`` is the term's slope at the object's colour.
        """
        slope = self.c1 + 2.0 * self.c2 * (primary - secondary)
        return np.hypot((1.0 + slope) * primary_err, slope * secondary_err)

    def corrected_magnitudes(self, table: Table | Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the camera's AB magnitudes of references, and their errors.

        Raises
        ------
        KeyError
            If a flux or flux-error column of either band is missing.
        """
        mags, errors = [], []
        for band in (self.primary, self.secondary):
            flux = np.asarray(column(table, f"{band}_flux"), np.float64)
            flux_err = np.asarray(column(table, f"{band}_fluxErr"), np.float64)
            mags.append(ab_magnitude(flux))
            with np.errstate(invalid="ignore", divide="ignore"):
                errors.append(np.where(flux > 0, 2.5 / np.log(10.0) * flux_err / flux, np.nan))
        return self.transform_mags(*mags), self.propagate_flux_errors(*errors)


class ColortermDict(pexConfig.Config):
    """Colour terms of one reference catalogue."""

    data = pexConfig.ConfigDictField[str, Colorterm](doc="Physical filter to its colour term.", default={})


class ColortermLibrary(pexConfig.Config):
    """Colour terms of several reference catalogues."""

    data = pexConfig.ConfigDictField[str, ColortermDict](
        doc="Name of a reference catalogue, or a shell pattern of names, to its colour terms.", default={}
    )

    def getColorterm(self, physicalFilter: str, photoCatName: str, doRaise: bool = True) -> Colorterm:
        """Return the colour term of a filter and a catalogue.

        Parameters
        ----------
        physicalFilter
            Label of the camera's filter.
        photoCatName
            Name of the reference catalogue; an exact name wins over patterns.
        doRaise
            False returns a term without effect for an unknown filter of a known catalogue.

        Raises
        ------
        ColortermNotFoundError
            If no entry, or more than one pattern, fits.
        """
        terms = self.terms_of(photoCatName)
        if physicalFilter in terms.data:
            return terms.data[physicalFilter]
        if doRaise:
            raise ColortermNotFoundError(
                f"The colour-term library has no term of filter {physicalFilter!r} for the reference catalogue "
                f"{photoCatName!r}; it has {_listed(terms.data)}.",
                photoCatName=photoCatName,
                physicalFilter=physicalFilter,
            )
        return Colorterm(primary=physicalFilter, secondary=physicalFilter)

    def terms_of(self, photoCatName: str) -> ColortermDict:
        """Return the colour terms of a catalogue; an exact name wins over patterns.

        Raises
        ------
        ColortermNotFoundError
            If no entry, or more than one pattern, fits.
        """
        if photoCatName in self.data:
            return self.data[photoCatName]
        fitting = [name for name in self.data if fnmatchcase(photoCatName, name)]
        if not fitting:
            raise ColortermNotFoundError(
                f"No entry of the colour-term library fits the reference catalogue {photoCatName!r}; it has "
                f"{_listed(self.data)}.",
                photoCatName=photoCatName,
            )
        if len(fitting) > 1:
            raise ColortermNotFoundError(
                f"Several entries of the colour-term library fit the reference catalogue {photoCatName!r}: "
                f"{_listed(fitting)}.",
                photoCatName=photoCatName,
            )
        return self.data[fitting[0]]


@dataclass(frozen=True)
class FittedColorTerm:
    """A colour term fitted to one image: ``m_camera = m_catalogue + slope c + curvature c^2``.

    Here ``c`` is the colour less the reference colour.

    Parameters
    ----------
    primary, secondary
        Bands of the colour, primary minus secondary.
    reference_color
        Colour at which camera and catalogue agree by definition, mag.
    slope, slope_err
        mag per mag.
    hold_out_without, hold_out_with
        Robust scatter of held-out stars without and with the term, mag.
    kept
        Whether the term is used.
    n_stars
        Stars with the colour.
    reason
        Why it was not used, else an empty string.
    curvature, curvature_err
        Of a quadratic term, 1/mag; 0 of a linear one.
    """

    primary: str
    secondary: str
    reference_color: float
    slope: float
    slope_err: float
    hold_out_without: float
    hold_out_with: float
    kept: bool
    n_stars: int
    reason: str = ""
    curvature: float = 0.0
    curvature_err: float = 0.0

    @property
    def coefficients(self) -> tuple[float, float, float]:
        """(c0, c1, c2) of ``m_camera - m_catalogue`` as a polynomial of the colour itself; zeros if not kept."""
        if not self.kept:
            return 0.0, 0.0, 0.0
        ref, slope, curvature = self.reference_color, self.slope, self.curvature
        return ref * (ref * curvature - slope), slope - 2.0 * ref * curvature, curvature

    def correction(self, color: np.ndarray) -> np.ndarray:
        """Return camera minus catalogue magnitude for colours less the reference colour; 0 if not kept."""
        return (
            np.asarray(color * (self.slope + color * self.curvature)) if self.kept else np.zeros_like(color)
        )

    def colorterm(self, band: str) -> Colorterm:
        """Return the term as an entry of a `ColortermLibrary`, for images of the same filter.

        Parameters
        ----------
        band
            The reference catalogue's band that the image was compared with.

        Raises
        ------
        InvalidInputError
            If the colour does not contain that band: Rubin's form has no place for it.
        """
        c0, c1, c2 = self.coefficients
        if band == self.primary:
            return Colorterm(primary=band, secondary=self.secondary, c0=c0, c1=c1, c2=c2)
        if band == self.secondary:
            return Colorterm(primary=band, secondary=self.primary, c0=c0, c1=-c1, c2=c2)
        raise InvalidInputError(
            f"A colour term in {self.primary} - {self.secondary} cannot be written for the band {band!r}: one of "
            "the two color_term_bands must be that band."
        )


def _listed(names: Iterable[str]) -> str:
    """Return names for a message."""
    return ", ".join(sorted(names)) or "none"


def reference_color(primary: str, secondary: str) -> float:
    """Return the fixed reference colour of a pair of bands (0 for unknown pairs)."""
    return REFERENCE_COLORS.get(
        f"{primary}-{secondary}", -REFERENCE_COLORS.get(f"{secondary}-{primary}", 0.0)
    )


def usual_bands(band: str, available: Collection[str]) -> tuple[str, str] | None:
    """Return the pair of bands of a colour term for a band: with its neighbour if available, else Gaia's two."""
    pairs = (*USUAL_COLORS.get(band, ()), *USUAL_COLORS[""])
    return next((pair for pair in pairs if pair[0] in available and pair[1] in available), None)

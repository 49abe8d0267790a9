"""Colour terms: from a reference catalogue's magnitudes to the camera's, given or fitted."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import lsst.pex.config as pexConfig
import numpy as np
from astropy.table import Table

from zeropoint.datamodel.catalog import column, has_column
from zeropoint.datamodel.exposure import AB_FLUX_NJY
from zeropoint.errors import ColortermNotFoundError

__all__ = [
    "REFERENCE_COLORS",
    "Colorterm",
    "ColortermDict",
    "ColortermLibrary",
    "FittedColorTerm",
    "ab_magnitude",
    "fit_color_term",
]

#: Colour (mag) at which the zero point holds when a colour term is fitted: that of common field stars.
REFERENCE_COLORS: dict[str, float] = {"u-g": 1.2, "g-r": 0.5, "r-i": 0.2, "i-z": 0.1, "z-y": 0.05, "g-i": 0.7}
#: Fewer stars than this allow no fitted colour term.
MIN_COLOR_TERM_STARS = 50


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
        if photoCatName in self.data:
            terms = self.data[photoCatName]
        else:
            fitting = [name for name in self.data if fnmatchcase(photoCatName, name)]
            if len(fitting) != 1:
                what = "No entry" if not fitting else f"Entries {sorted(fitting)} all"
                raise ColortermNotFoundError(
                    f"{what} of the colour-term library {'fits' if not fitting else 'fit'} the reference catalogue "
                    f"{photoCatName!r}.",
                    photoCatName=photoCatName,
                    physicalFilter=physicalFilter,
                )
            terms = self.data[fitting[0]]
        if physicalFilter in terms.data:
            return terms.data[physicalFilter]
        if doRaise:
            raise ColortermNotFoundError(
                f"No colour term of filter {physicalFilter!r} for the reference catalogue {photoCatName!r}; known "
                f"filters: {sorted(terms.data)}.",
                photoCatName=photoCatName,
                physicalFilter=physicalFilter,
            )
        return Colorterm(primary=physicalFilter, secondary=physicalFilter)


@dataclass(frozen=True)
class FittedColorTerm:
    """A linear colour term fitted to one image: ``m_camera = m_catalogue + slope (colour - reference colour)``.

    Parameters
    ----------
    primary, secondary
        Bands of the colour.
    reference_color
        Colour at which camera and catalogue agree by definition, mag.
    slope, slope_err
        mag per mag.
    hold_out_without, hold_out_with
        Robust scatter of held-out stars without and with the term, mag.
    kept
        Whether the term is used.
    n_stars
        Stars in the fit.
    reason
        Why it was not used, else an empty string.
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


def reference_color(primary: str, secondary: str) -> float:
    """Return the fixed reference colour of a pair of bands (0 for unknown pairs)."""
    return REFERENCE_COLORS.get(
        f"{primary}-{secondary}", -REFERENCE_COLORS.get(f"{secondary}-{primary}", 0.0)
    )


def _line(color: np.ndarray, difference: np.ndarray, error: np.ndarray) -> tuple[float, float, float]:
    """Return (intercept, slope, slope error) of a clipped weighted line."""
    good = np.ones(len(color), bool)
    intercept = slope = slope_err = 0.0
    for _ in range(6):
        weight = 1.0 / error[good] ** 2
        design = np.column_stack([np.ones(int(good.sum())), color[good]])
        normal = design.T @ (design * weight[:, None])
        intercept, slope = np.linalg.solve(normal, design.T @ (difference[good] * weight)).tolist()
        residual = difference - intercept - slope * color
        scaled = np.abs(residual) / error
        spread = max(1.4826 * float(np.median(scaled[good])), 1e-12)
        slope_err = float(np.sqrt(np.linalg.inv(normal)[1, 1])) * spread
        keep = scaled <= 3.0 * spread
        if np.array_equal(keep, good) or keep.sum() < 10:
            break
        good = keep
    return intercept, slope, slope_err


def fit_color_term(
    color: np.ndarray,
    difference: np.ndarray,
    error: np.ndarray,
    folds: np.ndarray,
    *,
    primary: str,
    secondary: str,
    reference: float,
) -> FittedColorTerm:
    """Fit (catalogue - instrumental) on colour and decide by held-out stars whether the term is worth it.

    Parameters
    ----------
    color, difference, error : float64, shape (n,)
        Catalogue colour, catalogue minus instrumental magnitude, its error; rows with NaN are left out.
    folds : int64, shape (n,)
        Fold of each star.
    primary, secondary, reference
        Bands of the colour, and the fixed colour at which the zero point holds.

    Notes
    -----
    The term is kept if at least 50 stars have colours, the slope is three sigma from zero and the scatter of
    held-out stars falls.
    """
    known = np.isfinite(color) & np.isfinite(difference) & np.isfinite(error) & (error > 0)
    color, difference, error, folds = color[known], difference[known], error[known], folds[known]
    n, nan = len(color), float("nan")
    if n < MIN_COLOR_TERM_STARS:
        reason = f"{n} stars have the colour; {MIN_COLOR_TERM_STARS} are needed"
        return FittedColorTerm(primary, secondary, reference, 0.0, nan, nan, nan, False, n, reason)
    _, slope, slope_err = _line(color, difference, error)
    without, with_term = np.empty(n), np.empty(n)
    for k in range(int(folds.max()) + 1):
        train, held = folds != k, folds == k
        intercept, fold_slope, _ = _line(color[train], difference[train], error[train])
        with_term[held] = difference[held] - intercept - fold_slope * color[held]
        without[held] = difference[held] - np.median(difference[train])
    before, after = (1.4826 * float(np.median(np.abs(r))) for r in (without, with_term))
    kept = after < before and abs(slope) > 3.0 * slope_err
    reason = (
        ""
        if kept
        else f"held-out scatter {before:.4f} -> {after:.4f} mag, slope {slope:.4f} +- {slope_err:.4f}"
    )
    # the camera's magnitude is instrumental + zero point = catalogue - slope (colour - reference)
    return FittedColorTerm(primary, secondary, reference, -slope, slope_err, before, after, kept, n, reason)


def fluxes_available(table: Table | Any, primary: str, secondary: str) -> bool:
    """Say whether a table has fluxes in both bands."""
    return has_column(table, f"{primary}_flux") and has_column(table, f"{secondary}_flux")

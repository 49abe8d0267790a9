"""Whether the airmass that the telescope told and the one that follows from hour angle and site agree."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zeropoint.fgcm.airmass import observation_secant

__all__ = ["MANY_BEYOND", "airmass_doubt", "beyond_airmass", "secant_of_visits"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Airmasses of one visit that differ by more contradict each other: in an exposure of five minutes airmass changes by less
#: up to two.
_TOLERANCE = 0.05
#: Airmass at which few surveys take exposures.
_HIGH = 2.5
#: From this part of visits or observations on a site that is wrong is likelier than exposures near the horizon.
MANY_BEYOND = 0.02
_ADVICE = "check the latitude and longitude (east is positive) of the site, and the times of the visits"


def secant_of_visits(visits: Table, latitude: float) -> FloatArray:
    """Return the secant of the zenith distance of pointings, negative below the horizon, NaN where it is unknown.

    Parameters
    ----------
    visits
        ``fgcmVisitCatalog``.
    latitude
        Of the site, degrees; NaN if unknown.

    Returns
    -------
    secant : float64, shape (n_visits,)
        From hour angle and declination.
    """
    dec, hour_angle = (np.radians(_filled(visits, name)) for name in ("teldec", "telha"))
    return observation_secant(0.0, dec, hour_angle, np.radians(latitude))


def airmass_doubt(visits: Table, latitude: float) -> str | None:
    """Return a sentence on airmasses that tell of a wrong site or wrong times; None if nothing does.

    Parameters
    ----------
    visits
        ``fgcmVisitCatalog``; its column ``airmass`` is the telescope's own.
    latitude
        Of the site, degrees; NaN if unknown.
    """
    told, secant, wrong = _compared(visits, latitude)
    if not wrong.any():
        return _near_the_horizon(secant, np.isfinite(told), latitude)
    return (
        f"The airmass of {int(wrong.sum())} of {len(visits)} visits is {_span(secant[wrong])} by hour angle and latitude "
        f"({latitude:g} deg), but {_span(told[wrong])} as the telescope told it: {_ADVICE}."
    )


def _near_the_horizon(secant: FloatArray, is_told: BoolArray, latitude: float) -> str | None:
    """Return a sentence on visits near the horizon by hour angle alone, if there are many; the telescope's airmass vouches for it."""
    by_angle = np.isfinite(secant) & ~is_told
    high = by_angle & ((secant < 0) | (secant > _HIGH))
    if high.sum() <= MANY_BEYOND * by_angle.sum():
        return None
    return (
        f"By hour angle and latitude ({latitude:g} deg) the airmass of {int(high.sum())} of {len(secant)} visits is "
        f"{_span(secant[high])}, and no airmass that the telescope told is known: {_ADVICE}."
    )


def beyond_airmass(
    visits: Table, latitude: float, n_beyond: int, n_observations: int, limits: tuple[float, float]
) -> str:
    """Return why observations have no airmass for which there is a passband.

    Parameters
    ----------
    visits
        ``fgcmVisitCatalog``, of those that they are in.
    latitude
        Of the site, degrees.
    n_beyond, n_observations
        How many are beyond the passbands, and how many there are.
    limits
        Least and greatest secant of the passbands.
    """
    told, secant, wrong = _compared(visits, latitude)
    used = np.where(np.isfinite(secant), secant, told)
    number = f"All {n_observations}" if n_beyond == n_observations else f"{n_beyond} of {n_observations}"
    cause = f"{number} observations are beyond the airmass that the passbands cover ({limits[0]:g} to {limits[1]:g}): "
    if wrong.any():
        return (
            f"{cause}that of their visits is {_span(used)} by hour angle (telha) and latitude ({latitude:g} deg), but "
            f"{_span(told[wrong])} as the telescope told it; {_ADVICE}, and make the star list again. Visits whose telha is NaN "
            "count with the telescope's airmass."
        )
    source = (
        f"by hour angle (telha) and latitude ({latitude:g} deg)"
        if np.isfinite(secant).any()
        else "as the telescope told it"
    )
    return f"{cause}that of their visits is {_span(used)} {source}; {_ADVICE}, or make a look-up table that reaches further."


def _compared(visits: Table, latitude: float) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return the telescope's airmass, that of hour angle and site, and where they contradict each other."""
    secant = secant_of_visits(visits, latitude)
    told = _filled(visits, "airmass") if "airmass" in visits.colnames else np.full(len(visits), np.nan)
    told[~(told > 0)] = np.nan
    known = np.isfinite(told) & np.isfinite(secant)
    return told, secant, known & ((secant < 0) | (np.abs(secant - told) > _TOLERANCE))


def _filled(visits: Table, name: str) -> FloatArray:
    return np.array(np.ma.filled(np.ma.asarray(visits[name]).astype(np.float64), np.nan))


def _span(airmass: FloatArray) -> str:
    """Return the range of airmasses in words."""
    above = airmass[airmass > 0]
    text = ""
    if len(above):
        low, high = f"{above.min():.2f}", f"{above.max():.2f}"
        text = low if low == high else f"{low} to {high}"
    n_below = int((airmass < 0).sum())
    if not n_below:
        return text
    below = f"that of pointings below the horizon ({n_below} visits)"
    return f"{text} or {below}" if text else below

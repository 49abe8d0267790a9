"""The ten covariances of position, proper motion and parallax: their names, units, and names of correlations."""

from __future__ import annotations

from itertools import combinations

__all__ = ["COVARIANCES", "ERRORS", "correlation_names", "covariance_unit"]

#: The astrometric parameters; right ascension and its motion with the factor cos(dec).
PARAMETERS = ("coord_ra", "coord_dec", "pm_ra", "pm_dec", "parallax")
#: Column of the error of each.
ERRORS = tuple(f"{name}Err" for name in PARAMETERS)
#: Column of each covariance -> numbers of the two parameters in `PARAMETERS`.
COVARIANCES = {
    f"{PARAMETERS[i]}_{PARAMETERS[j]}_Cov": (i, j) for i, j in combinations(range(len(PARAMETERS)), 2)
}

_GAIA = ("ra", "dec", "pmra", "pmdec", "parallax")
_VIZIER = ("RA", "DE", "pmRA", "pmDE", "Plx")


def covariance_unit(name: str) -> str:
    """Return the unit of a covariance column."""
    motions = sum(index in (2, 3) for index in COVARIANCES[name])
    return ("rad2", "rad2 / yr", "rad2 / yr2")[motions]


def correlation_names(name: str) -> tuple[str, ...]:
    """Return names that tables of Gaia give to the correlation that belongs to a covariance column."""
    i, j = COVARIANCES[name]
    return (
        *(f"{_GAIA[a]}_{_GAIA[b]}_corr" for a, b in ((i, j), (j, i))),
        *(f"{_VIZIER[a]}{_VIZIER[b]}cor" for a, b in ((i, j), (j, i))),
    )

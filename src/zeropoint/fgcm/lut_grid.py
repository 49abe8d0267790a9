"""The nodes of a look-up table, its standard atmosphere, and the published tables' sites and grids."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.make_lut_config import FgcmMakeLutParametersConfig

__all__ = ["AXES", "TABLE_NAMES", "LutGrid", "StandardAtmosphere", "named_parameters", "read_grid"]

FloatArray = npt.NDArray[np.float64]

#: Axes of a filter's table, slowest first, before that of the detectors.
AXES = ("ln_pwv", "o3", "ln_tau", "alpha", "secant")


@dataclass(frozen=True)
class StandardAtmosphere:
    """The atmosphere that defines the standard passbands.

    Parameters
    ----------
    pmb, pwv, o3, tau, alpha, airmass
        Pressure (mb), water vapour (mm), ozone (Dobson units), aerosol depth and slope, secant of the zenith distance.
    """

    pmb: float
    pwv: float
    o3: float
    tau: float
    alpha: float
    airmass: float


@dataclass(frozen=True)
class LutGrid:
    """Nodes in the quantities in which they are uniform.

    Parameters
    ----------
    pmb
        Pressures, mb. The integrals do not depend on them.
    ln_pwv, o3, ln_tau, alpha, secant
        Logarithm of water vapour in mm, ozone in Dobson units, logarithm of aerosol depth, aerosol slope, secant of the
        zenith distance; each of two nodes or more, in equal steps.
    """

    pmb: FloatArray
    ln_pwv: FloatArray
    o3: FloatArray
    ln_tau: FloatArray
    alpha: FloatArray
    secant: FloatArray

    @classmethod
    def from_parameters(cls, config: FgcmMakeLutParametersConfig) -> LutGrid:
        """Return the grid of a configuration.

        Parameters
        ----------
        config
            Ranges and numbers of nodes.
        """

        def nodes(name: str, change: Callable[[float], float] = float) -> FloatArray:
            first, last = getattr(config, f"{name}Range")
            return np.linspace(change(first), change(last), getattr(config, f"{name}Steps"))

        return cls(
            nodes("pmb"),
            nodes("pwv", math.log),
            nodes("o3"),
            nodes("tau", math.log),
            nodes("alpha"),
            nodes("zenith", lambda angle: 1.0 / math.cos(math.radians(angle))),
        )

    @cached_property
    def axes(self) -> tuple[FloatArray, ...]:
        """The nodes of `AXES`."""
        return tuple(getattr(self, name) for name in AXES)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """How many nodes each of `AXES` has."""
        return tuple(len(axis) for axis in self.axes)

    @cached_property
    def steps(self) -> dict[str, float]:
        """The step of each of `AXES`."""
        return {
            name: float((axis[-1] - axis[0]) / (len(axis) - 1))
            for name, axis in zip(AXES, self.axes, strict=True)
        }

    @cached_property
    def zenith(self) -> FloatArray:
        """Zenith distances of the nodes, degrees."""
        return np.degrees(np.arccos(1.0 / self.secant))

    def extended(self) -> LutGrid:
        """Return the grid with one more node at the end of every axis, from which differences at the last node come."""
        longer = {
            name: np.append(axis, axis[-1] + self.steps[name])
            for name, axis in zip(AXES, self.axes, strict=True)
        }
        return LutGrid(pmb=self.pmb, **longer)


#: Site, water, zenith distances and standard values of FGCM's tables: elevation (m), pressures of the standard and of the
#: nodes (mb), water vapour (mm) and its nodes, zenith distances (degrees) and their nodes, standard secant.
_SITES: dict[str, dict[str, Any]] = {
    "blanco": {
        "elevation": 2220.0, "pmbStd": 778.0, "pwvStd": 3.0, "airmassStd": 1.2, "pmbRange": [770.0, 790.0],
        "pwvRange": [0.1, 12.0], "pwvSteps": 21, "zenithRange": [0.0, 70.0], "zenithSteps": 21,
    },
    "lsst": {
        "elevation": 2663.0, "pmbStd": 778.0, "pwvStd": 3.0, "airmassStd": 1.2, "pmbRange": [770.0, 790.0],
        "pwvRange": [0.1, 12.0], "pwvSteps": 21, "zenithRange": [0.0, 70.0], "zenithSteps": 21,
    },
    "subaru": {
        "elevation": 4139.0, "pmbStd": 828.0, "pwvStd": 1.5, "airmassStd": 1.1, "pmbRange": [820.0, 835.0],
        "pwvRange": [0.1, 3.6], "pwvSteps": 15, "zenithRange": [0.0, 75.0], "zenithSteps": 23,
    },
}  # fmt: skip
_VERSIONS = {"blanco": (1, 2), "lsst": (1, 2), "subaru": (1, 2, 3)}

#: Names of FGCM's tables.
TABLE_NAMES = tuple(
    f"fgcm_atm_{site}{version}{test}"
    for site, versions in _VERSIONS.items()
    for version in versions
    for test in ("", "_test")
)


def named_parameters(name: str) -> FgcmMakeLutParametersConfig | None:
    """Return site, grid and standard atmosphere of one of FGCM's tables, or None where it has no such table.

    Parameters
    ----------
    name
        One of `TABLE_NAMES`, with or without ``.fits``.
    """
    stem = name.removesuffix(".fits")
    if stem not in TABLE_NAMES:
        return None
    config = FgcmMakeLutParametersConfig()
    config.update(**_SITES[stem.removeprefix("fgcm_atm_").removesuffix("_test").rstrip("123")])
    if stem.endswith("_test"):
        for axis in ("pmb", "pwv", "o3", "tau", "alpha", "zenith"):
            setattr(config, f"{axis}Steps", 2)
        config.zenithRange = [0.0, 70.0]
    config.validate()
    return config


def read_grid(path: Path) -> tuple[LutGrid, StandardAtmosphere]:
    """Read the grid and the standard atmosphere of a table in FGCM's layout.

    Parameters
    ----------
    path
        FITS file with the extension ``PARS``.

    Raises
    ------
    InvalidInputError
        If the file cannot be read, or a column is missing.
    """
    from astropy.io import fits

    try:
        with fits.open(path) as hdus:
            pars = hdus["PARS"].data
            columns = {name: np.array(pars[name][0], float) for name in pars.dtype.names}
    except (OSError, KeyError, TypeError, IndexError) as error:
        raise InvalidInputError(f"{path}: is no atmosphere table in FGCM's layout ({error}).") from None
    names = {
        "pmb": "PMB", "ln_pwv": "LNPWV", "o3": "O3", "ln_tau": "LNTAU", "alpha": "ALPHA", "secant": "SECZENITH",
    }  # fmt: skip
    missing = [name for name in (*names.values(), *_STANDARD.values()) if name not in columns]
    if missing:
        raise InvalidInputError(
            f"{path}: its PARS extension lacks {', '.join(missing)}; tables that are linear in water vapour cannot be used."
        )
    grid = LutGrid(**{ours: np.atleast_1d(columns[theirs]) for ours, theirs in names.items()})
    return grid, StandardAtmosphere(**{ours: float(columns[theirs]) for ours, theirs in _STANDARD.items()})


_STANDARD = {
    "pmb": "PMBSTD", "pwv": "PWVSTD", "o3": "O3STD", "tau": "TAUSTD", "alpha": "ALPHASTD", "airmass": "AIRMASSSTD",
}  # fmt: skip

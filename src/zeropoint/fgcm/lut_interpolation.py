"""Interpolation in a look-up table by the reference's rule, and how far it is from the integrals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.atmosphere import Atmosphere, AtmosphereParameters
from zeropoint.fgcm.lut import LookUpTable
from zeropoint.fgcm.lut_grid import AXES, LutGrid
from zeropoint.fgcm.passbands import StandardPassbands
from zeropoint.fgcm.quadrature import passband_integrals

__all__ = ["interpolate", "interpolation_error", "places_within"]

FloatArray = npt.NDArray[np.float64]

_SUFFIXES = {"I0": "", "I1": "_I1"}
#: Points of the statement on a table's error.
_N_POINTS = 512
#: Where most exposures are: water vapor in mm, aerosol depth and slope, secant.
_USUAL = {
    "ln_pwv": (math.log(1.0), math.log(10.0)),
    "ln_tau": (math.log(0.01), math.log(0.1)),
    "alpha": (0.5, 1.5),
    "secant": (1.0, 2.0),
}


def interpolate(
    lut: LookUpTable, filter_index: int, column: int, places: Mapping[str, FloatArray], *, newton: bool
) -> tuple[FloatArray, FloatArray]:
    """Interpolate I0 and I1 by the reference's rule.

    Parameters
    ----------
    lut
        With its integrals.
    filter_index
        Filter, by its position.
    column
        Detector, by its position; -1: their mean.
    places
        Values of each of `AXES`, shape (n,).
    newton
        Whether the second-order term of water vapor has the factor 1/(2 step) of Newton's forward formula; the reference's
        lacks it.

    Returns
    -------
    i0, i1 : ndarray
        Shape (n,).

    Notes
    -----
    To the node below a place are added the first differences along each axis, the cross differences of the secant with
    aerosol depth and with water vapor, and a second-order term of water vapor.
    """
    grid = lut.grid
    node, beyond = _nodes(grid, places)
    after = {
        name: tuple(
            np.minimum(index + (axis == name), n - 1)
            for axis, index, n in zip(AXES, node, grid.shape, strict=True)
        )
        for name in ("ln_pwv", "secant")
    }
    pwv_step, secant_step = grid.steps["ln_pwv"], grid.steps["secant"]
    # the reference's term is not divided by twice the step
    factor = 1.0 / (2.0 * pwv_step) if newton else 1.0
    out = []
    for kind, suffix in _SUFFIXES.items():
        tables = {
            axis: lut.kind(name + suffix)[filter_index, ..., column]
            for axis, name in zip(AXES, _D_NAMES, strict=True)
        }
        value = lut.kind(kind)[filter_index, ..., column][node].astype(float)
        for axis in AXES:
            value += beyond[axis] * tables[axis][node]
        for axis in ("ln_tau", "ln_pwv"):
            slope = (tables[axis][after["secant"]].astype(float) - tables[axis][node]) / secant_step
            value += beyond[axis] * beyond["secant"] * slope
        change = tables["ln_pwv"][after["ln_pwv"]].astype(float) - tables["ln_pwv"][node]
        value += factor * beyond["ln_pwv"] * (beyond["ln_pwv"] - pwv_step) * change
        out.append(value)
    return out[0], out[1]


_D_NAMES = ("D_LNPWV", "D_O3", "D_LNTAU", "D_ALPHA", "D_SECZENITH")


def _nodes(
    grid: LutGrid, places: Mapping[str, FloatArray]
) -> tuple[tuple[np.ndarray, ...], dict[str, FloatArray]]:
    """Return the node below each place, and how far beyond it the place is."""
    nodes, beyond = [], {}
    for name, axis in zip(AXES, grid.axes, strict=True):
        step = grid.steps[name]
        index = np.clip(np.floor((places[name] - axis[0]) / step).astype(int), 0, len(axis) - 1)
        nodes.append(index)
        beyond[name] = places[name] - axis[index]
    return tuple(nodes), beyond


def places_within(
    grid: LutGrid, n: int, limits: Mapping[str, tuple[float, float]] | None = None
) -> dict[str, FloatArray]:
    """Return n places spread evenly over a grid: the same for the same grid.

    Parameters
    ----------
    grid
        Nodes.
    n
        How many.
    limits
        Some of `AXES` -> range beyond which no place is wanted, as far as the grid has it.

    Returns
    -------
    places : dict
        Values of each of `AXES`, shape (n,).

    Notes
    -----
    The additive sequence of Roberts (2018): multiples of the powers of the inverse of the root of x^6 = x + 1, modulo 1.
    """
    root = 1.0
    for _ in range(50):
        root = (1.0 + root) ** (1.0 / (len(AXES) + 1))
    steps = root ** -np.arange(1.0, len(AXES) + 1)
    unit = (0.5 + np.arange(1, n + 1)[:, None] * steps) % 1.0
    places = {}
    for k, (name, axis) in enumerate(zip(AXES, grid.axes, strict=True)):
        first, last = np.clip((limits or {}).get(name, (-np.inf, np.inf)), axis[0], axis[-1])
        places[name] = first + unit[:, k] * (last - first)
    return places


def interpolation_error(
    lut: LookUpTable, passbands: StandardPassbands, atmosphere: Atmosphere, pmb: float
) -> dict[str, Any]:
    """Compare the reference's interpolation with the integrals themselves, for the mean over the focal plane.

    Parameters
    ----------
    lut
        With its integrals.
    passbands, atmosphere, pmb
        That it was made with.

    Returns
    -------
    statement : dict
        Plain numbers and text: ``nPoints``, and over the whole ``grid`` and over ``usual`` atmospheres (water vapor 1 to
        10 mm, aerosol depth 0.01 to 0.1, slope 0.5 to 1.5, secant to 2, all ozone) per filter the largest error and the rms
        of 2.5 log10 I0 in mmag (``maxMmag``, ``rmsMmag``), the same with the second-order term's factor right
        (``maxMmagNewton``, ``rmsMmagNewton``), and the largest error of I10 in Angstrom (``maxI10``).
    """
    return {
        "rule": "linear, with cross terms of the secant and a second order in water vapor",
        "nPoints": _N_POINTS,
        **{
            name: _errors(lut, passbands, atmosphere, pmb, places_within(lut.grid, _N_POINTS, limits))
            for name, limits in (("grid", None), ("usual", _USUAL))
        },
    }


def _errors(
    lut: LookUpTable,
    passbands: StandardPassbands,
    atmosphere: Atmosphere,
    pmb: float,
    places: Mapping[str, FloatArray],
) -> dict[str, dict[str, float]]:
    """Return the errors of each filter at some places."""
    parameters = AtmosphereParameters(
        pmb=np.full(len(places["o3"]), pmb),
        pwv=np.exp(places["ln_pwv"]),
        o3=places["o3"],
        tau=np.exp(places["ln_tau"]),
        alpha=places["alpha"],
        airmass=places["secant"],
    )
    filters = {}
    for k, each in enumerate(passbands.passbands):
        direct = passband_integrals(
            atmosphere, parameters, each.detector_throughput[-1], each.lambda_std, derivatives=False
        )
        entry: dict[str, float] = {}
        for label, newton in (("", False), ("Newton", True)):
            i0, i1 = interpolate(lut, k, -1, places, newton=newton)
            # where few nodes make it negative, it is wrong by 15 mag
            error = 2500.0 * np.log10(np.maximum(i0 / direct.i0[:, 0], 1e-6))
            entry[f"maxMmag{label}"] = round(float(np.abs(error).max()), 4)
            entry[f"rmsMmag{label}"] = round(float(np.sqrt(np.mean(error**2))), 4)
            if not newton:
                entry["maxI10"] = round(float(np.abs(i1 / i0 - direct.i10[:, 0]).max()), 4)
        filters[each.physical_filter] = entry
    return filters

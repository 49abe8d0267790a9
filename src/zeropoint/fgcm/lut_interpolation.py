"""Interpolation in a look-up table by the reference's rule, and how far it is from the integrals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.atmosphere import Atmosphere, AtmosphereParameters
from zeropoint.fgcm.lut import LookUpTable
from zeropoint.fgcm.lut_grid import AXES, LutGrid
from zeropoint.fgcm.passbands import StandardPassband, StandardPassbands
from zeropoint.fgcm.quadrature import passband_integrals

__all__ = ["USUAL", "interpolate", "interpolation_error", "places_within"]

FloatArray = npt.NDArray[np.float64]

_SUFFIXES = {"I0": "", "I1": "_I1"}
#: Points of the statement on a table's error.
_N_POINTS = 512
#: From how many of them the largest error is sought, how often along all axes, and where in each cell, in steps.
_N_STARTS, _ROUNDS, _PARTS = 2, 4, (0.5, 0.75, 0.999)
#: Where most exposures are: water vapor in mm, aerosol depth and slope, secant.
USUAL = {
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
        (``maxMmagNewton``, ``rmsMmagNewton``), and the largest error of I10 in Angstrom (``maxI10``). ``sampled`` says where.

    Notes
    -----
    The rms and the error of I10 are over ``nPoints`` places. The largest errors of I0 are sought: from the worst of these
    places along one axis after the other, through all cells of the grid.
    """
    return {
        "rule": "linear, with cross terms of the secant and a second order in water vapor",
        "nPoints": _N_POINTS,
        "sampled": "rms and I10 at nPoints places; maxima of I0 sought from the worst of them along the axes",
        **{
            name: {
                each.physical_filter: _errors(lut, k, each, atmosphere, pmb, limits)
                for k, each in enumerate(passbands.passbands)
            }
            for name, limits in (("grid", {}), ("usual", USUAL))
        },
    }


def _errors(
    lut: LookUpTable,
    filter_index: int,
    passband: StandardPassband,
    atmosphere: Atmosphere,
    pmb: float,
    limits: Mapping[str, tuple[float, float]],
) -> dict[str, float]:
    """Return the errors of a filter within limits."""
    throughput = passband.detector_throughput[-1]

    def errors(where: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray]:
        parameters = AtmosphereParameters(
            pmb=np.full(len(where["o3"]), pmb),
            pwv=np.exp(where["ln_pwv"]),
            o3=where["o3"],
            tau=np.exp(where["ln_tau"]),
            alpha=where["alpha"],
            airmass=where["secant"],
        )
        direct = passband_integrals(
            atmosphere, parameters, throughput, passband.lambda_std, derivatives=False
        )
        both = [interpolate(lut, filter_index, -1, where, newton=newton) for newton in (False, True)]
        ratio = np.stack([i0 / direct.i0[:, 0] for i0, _ in both])
        i0, i1 = both[0]
        # where few nodes make it negative, it is wrong by 15 mag
        return 2500.0 * np.log10(np.maximum(ratio, 1e-6)), i1 / i0 - direct.i10[:, 0]

    places = places_within(lut.grid, _N_POINTS, limits)
    along = {name: _within_cells(lut.grid, name, limits.get(name)) for name in AXES}
    error, error_i10 = errors(places)
    largest = _largest(lambda where: np.abs(errors(where)[0]), np.abs(error), places, along)
    entry = {"maxI10": round(float(np.abs(error_i10).max()), 4)}
    for label, most, values in zip(("", "Newton"), largest, error, strict=True):
        entry[f"maxMmag{label}"] = round(float(most), 4)
        entry[f"rmsMmag{label}"] = round(float(np.sqrt(np.mean(values**2))), 4)
    return entry


def _within_cells(grid: LutGrid, name: str, limits: tuple[float, float] | None) -> FloatArray:
    """Return values of an axis within its cells and shortly before their ends, and the first and last."""
    axis = getattr(grid, name)
    first, last = np.clip(limits or (-np.inf, np.inf), axis[0], axis[-1])
    inner = np.concatenate([axis[:-1] + part * grid.steps[name] for part in _PARTS])
    # at the end itself the next cell begins
    end = max(first, min(last, axis[-1] - (1 - _PARTS[-1]) * grid.steps[name]))
    return np.unique(np.concatenate([[first], inner[(inner > first) & (inner < end)], [end]]))


def _largest(
    sizes_at: Callable[[Mapping[str, FloatArray]], FloatArray],
    found: FloatArray,
    places: Mapping[str, FloatArray],
    along: Mapping[str, FloatArray],
) -> FloatArray:
    """Return the largest errors of both rules: from the worst places of the first, the worst along axis after axis."""
    worst = np.argsort(-found[0], kind="stable")[:_N_STARTS]
    best, here = found[0, worst], {name: values[worst] for name, values in places.items()}
    largest = found.max(axis=1)
    for _ in range(_ROUNDS):
        before = best.max()
        for name, values in along.items():
            trial = {axis: np.repeat(at, len(values)) for axis, at in here.items()}
            trial[name] = np.tile(values, len(worst))
            both = sizes_at(trial)
            largest = np.maximum(largest, both.max(axis=1))
            sizes = both[0].reshape(len(worst), len(values))
            top = sizes.argmax(axis=1)
            higher = sizes.max(axis=1)
            here[name] = np.where(higher > best, values[top], here[name])
            best = np.maximum(best, higher)
        if best.max() <= 1.001 * before:
            break
    return largest

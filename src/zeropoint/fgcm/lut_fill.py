"""The integrals of a look-up table at all nodes, streamed: memory is bounded whatever the number of detectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from zeropoint.fgcm.atmosphere import Atmosphere, AtmosphereParameters
from zeropoint.fgcm.lut import LUT_TYPES
from zeropoint.fgcm.lut_grid import AXES, LutGrid
from zeropoint.fgcm.passbands import StandardPassbands
from zeropoint.fgcm.progress import OnProgress
from zeropoint.fgcm.quadrature import PassbandMoments, parameter_blocks

__all__ = ["fill_tables", "table_shape"]

FloatArray = npt.NDArray[np.float64]

#: Kind of derivative along each of `AXES`.
_DERIVATIVES = dict(zip(AXES, ("D_LNPWV", "D_O3", "D_LNTAU", "D_ALPHA", "D_SECZENITH"), strict=True))
_SUFFIXES = ("", "_I1")
#: Columns (detectors of several filters) that are integrated together.
_MAX_COLUMNS = 400


def table_shape(grid: LutGrid, passbands: StandardPassbands) -> tuple[int, ...]:
    """Return the shape of one kind of table: filters, nodes of each of `AXES`, detectors and their mean.

    Parameters
    ----------
    grid
        The nodes.
    passbands
        Passbands of the filters.
    """
    return (len(passbands.passbands), *grid.shape, len(passbands.detectors) + 1)


def fill_tables(
    out: np.ndarray,
    grid: LutGrid,
    passbands: StandardPassbands,
    atmosphere: Atmosphere,
    pmb: float,
    on_progress: OnProgress | None = None,
) -> None:
    """Write the integrals of all nodes and their forward differences into an array, which may be a file's.

    Parameters
    ----------
    out
        Shape (14, ...) with `table_shape`, in the order of `LUT_TYPES`; zero on entry, as pressure has no derivative there.
    grid
        Nodes.
    passbands
        Of the filters, at the atmosphere's wavelengths.
    atmosphere
        Transmission.
    pmb
        Pressure of all nodes, mb.
    on_progress
        Is told a title, how many steps are done, and of how many.

    Notes
    -----
    A derivative is the difference to the next node over the step, so that the reference's interpolation gives the integral
    of that node; the differences at the last node of an axis come from one node more. Nodes beyond the end of two axes are
    not needed.
    """
    groups = list(_groups(passbands))
    n_steps, done = len(groups) * (grid.shape[0] + 1), 0
    for filters in groups:
        moments = [
            PassbandMoments.of(each.wavelength, each.detector_throughput, each.lambda_std)
            for each in (passbands.passbands[k] for k in filters)
        ]
        before: FloatArray | None = None
        for i_pwv, ln_pwv in enumerate(grid.extended().ln_pwv):
            slab = _Slab(grid, is_last=i_pwv == grid.shape[0])
            # the products are too small for threads to help
            with threadpool_limits(limits=1, user_api="blas"):
                values = _integrate(slab, moments, atmosphere, ln_pwv, pmb)
            inner = values[(slice(None),) * 2 + slab.inner]
            if before is not None:
                _write(out, "D_LNPWV", filters, i_pwv - 1, (inner - before) / grid.steps["ln_pwv"])
            if not slab.is_last:
                for order, name in enumerate(("I0", "I1")):
                    out[LUT_TYPES.index(name), filters, i_pwv] = inner[order]
                _write_differences(out, filters, i_pwv, values, slab)
            before = inner
            done += 1
            if on_progress is not None:
                on_progress("integrals", done, n_steps)


@dataclass(frozen=True)
class _Slab:
    """The nodes of one water vapour: those of the grid, and those one step beyond the end of one axis."""

    grid: LutGrid
    is_last: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Nodes of each axis but the first, with the one beyond its end."""
        return tuple(n + 1 for n in self.grid.shape[1:])

    @property
    def inner(self) -> tuple[slice, ...]:
        """Index of the grid's own nodes."""
        return tuple(slice(0, n) for n in self.grid.shape[1:])

    @cached_property
    def nodes(self) -> tuple[np.ndarray, ...]:
        """Indices of the nodes that are integrated; beyond the last water vapour the grid's own suffice."""
        indices = np.indices(self.shape)
        beyond = sum(index == n for index, n in zip(indices, self.grid.shape[1:], strict=True))
        return np.nonzero(beyond <= (0 if self.is_last else 1))


def _groups(passbands: StandardPassbands) -> Iterator[list[int]]:
    """Yield filters whose columns together bound the memory; one at least."""
    size = max(1, _MAX_COLUMNS // (len(passbands.detectors) + 1))
    numbers = list(range(len(passbands.passbands)))
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def _integrate(
    slab: _Slab,
    moments: Sequence[PassbandMoments],
    atmosphere: Atmosphere,
    ln_pwv: float,
    pmb: float,
) -> FloatArray:
    """Return the integrals at the nodes of one water vapour, shape (2, filters, nodes of each axis, detectors)."""
    o3, ln_tau, alpha, secant = (
        axis[index] for axis, index in zip(slab.grid.extended().axes[1:], slab.nodes, strict=True)
    )
    constant = np.ones(len(o3))
    parameters = AtmosphereParameters(
        pmb=pmb * constant,
        pwv=np.exp(ln_pwv) * constant,
        o3=o3,
        tau=np.exp(ln_tau),
        alpha=alpha,
        airmass=secant,
    )
    values = np.empty((2, len(moments), *slab.shape, moments[0].n_detectors))
    for rows, block in parameter_blocks(parameters):
        transmission = atmosphere.transmission(block)
        where: tuple[Any, ...] = (slice(None), *(index[rows] for index in slab.nodes))
        for k, moment in enumerate(moments):
            values[:, k][where] = moment.integrate(transmission[:, moment.support])[
                :, : rows.stop - rows.start
            ]
    return values


def _write_differences(
    out: np.ndarray, filters: list[int], i_pwv: int, values: FloatArray, slab: _Slab
) -> None:
    """Write the forward differences along all axes but the first."""
    for axis, name in enumerate(AXES[1:]):
        following = list(slab.inner)
        following[axis] = slice(1, slab.shape[axis])
        difference = values[(slice(None),) * 2 + tuple(following)] - values[(slice(None),) * 2 + slab.inner]
        _write(out, _DERIVATIVES[name], filters, i_pwv, difference / slab.grid.steps[name])


def _write(out: np.ndarray, name: str, filters: list[int], i_pwv: int, values: FloatArray) -> None:
    """Write the derivatives of I0 and of I1 at one water vapour."""
    for order, suffix in enumerate(_SUFFIXES):
        out[LUT_TYPES.index(name + suffix), filters, i_pwv] = values[order]

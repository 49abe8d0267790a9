"""Groups of positions on the sphere: who belongs together, who has a neighbor, and who is nearest.

Nothing depends on the order of the positions, except ties in the greedy rule, which go to the earlier one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.association import _kernels
from zeropoint.datamodel.wcs import unit_vectors

__all__ = ["Groups", "Positions", "friends", "greedy_groups", "groups_by_label", "wrapped"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: Positions that are searched for at a time, which bounds the memory.
_CHUNK = 1 << 19


@dataclass(frozen=True)
class _Cells:
    """Positions sorted into cells (see `zeropoint.association._kernels`)."""

    keys: IntArray
    starts: IntArray
    xyz: FloatArray
    order: IntArray
    height: float


@dataclass(frozen=True)
class Positions:
    """Positions on the sphere.

    Parameters
    ----------
    ra, dec : float64, shape (n,)
        Radians, finite; ra in [0, 2 pi).
    """

    ra: FloatArray
    dec: FloatArray

    @classmethod
    def from_degrees(cls, ra: np.ndarray, dec: np.ndarray) -> Positions:
        """Return positions given in degrees."""
        return cls(wrapped(np.deg2rad(ra), 2.0 * math.pi), np.deg2rad(np.asarray(dec, np.float64)))

    @classmethod
    def from_vectors(cls, xyz: FloatArray) -> Positions:
        """Return the directions of vectors, shape (n, 3), of any length."""
        ra = wrapped(np.arctan2(xyz[:, 1], xyz[:, 0]), 2.0 * math.pi)
        return cls(ra, np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1])))

    def __len__(self) -> int:
        return len(self.ra)

    def __getitem__(self, rows: np.ndarray | slice) -> Positions:
        return Positions(self.ra[rows], self.dec[rows])

    @cached_property
    def xyz(self) -> FloatArray:
        """Unit vectors, shape (n, 3)."""
        return unit_vectors(self.ra, self.dec)

    def joined(self, other: Positions) -> Positions:
        """Return these positions followed by others."""
        return Positions(np.concatenate([self.ra, other.ra]), np.concatenate([self.dec, other.dec]))

    def cells(self, height: float) -> _Cells:
        """Return the positions sorted into cells of a height in radians."""
        keys = np.empty(len(self), np.int64)
        _kernels.cell_keys(self.ra, self.dec, height, keys)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        new = np.ones(len(keys), np.bool_)
        new[1:] = keys[1:] != keys[:-1]
        starts = np.append(np.flatnonzero(new), len(keys))
        return _Cells(keys[new], starts, self.xyz[order], order, height)

    def count_within(self, others: Positions, radius: float) -> IntArray:
        """Return how many of ``others`` lie within a radius (radians) of each position."""
        return self._search(_kernels.count_within, others, radius)[0]

    def nearest(self, others: Positions, radius: float) -> IntArray:
        """Return the row of the nearest of ``others`` within a radius (radians) of each position, or -1."""
        found, grid = self._search(_kernels.nearest_within, others, radius)
        return np.where(found >= 0, grid.order[found], -1) if len(others) else found

    def _search(self, kernel: Any, others: Positions, radius: float) -> tuple[IntArray, _Cells]:
        """Return what a kernel says of each position, and the cells of the others."""
        height = _search_height(radius)
        grid = others.cells(height)
        out = np.empty(len(self), np.int64)
        for begin in range(0, len(self), _CHUNK):
            part = self[slice(begin, begin + _CHUNK)]
            # neighbors one after the other: what is looked at is still in the processor's cache
            queries = part.cells(height)
            ra, dec = part.ra[queries.order], part.dec[queries.order]
            found = np.empty(len(part), np.int64)
            args = (ra, dec, queries.xyz, grid.keys, grid.starts, grid.xyz, grid.height)
            kernel(*args, math.sin(0.5 * radius), found)
            out[begin + queries.order] = found
        return out, grid


def wrapped(angles: np.ndarray, turn: float) -> FloatArray:
    """Return angles in [0, turn)."""
    within = np.mod(np.asarray(angles, np.float64), turn)
    return np.where(within < turn, within, 0.0)  # a tiny negative angle rounds to the whole turn


def _search_height(radius: float) -> float:
    """Return a height of stripes that a search within a radius leaves by one stripe at most, despite rounding."""
    return radius * (1.0 + 1e-6)


@dataclass(frozen=True)
class Groups:
    """Groups of positions.

    Parameters
    ----------
    starts : int64, shape (n_groups + 1,)
        Where each group begins in ``members``.
    members : int64, shape (n,)
        Rows of the positions, group by group, ascending in each.
    """

    starts: IntArray
    members: IntArray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def rows_of(self, groups: BoolArray) -> IntArray:
        """Return the members' rows of some groups."""
        return self.members[np.repeat(groups, np.diff(self.starts))]

    def centers(self, positions: Positions) -> Positions:
        """Return the mean position of each group, none of which is empty.

        Notes
        -----
        The mean is the direction of the sum of the unit vectors, summed by ascending row.
        """
        sums = np.zeros((len(self), 3))
        _kernels.group_sums(self.starts, self.members, positions.xyz, sums)
        return Positions.from_vectors(sums)

    def with_repeats(self, labels: IntArray) -> BoolArray:
        """Return which groups have two members of one label; labels, shape (n,), must ascend."""
        repeated = np.zeros(len(self), np.bool_)
        _kernels.repeated_labels(self.starts, self.members, labels, repeated)
        return repeated


def friends(positions: Positions, radius: float) -> Groups:
    """Group positions by chains of neighbors: connected components of the pairs within a radius (radians).

    Returns
    -------
    Groups
        A partition of the positions, in no particular order.

    Notes
    -----
    Positions in cells whose diagonal is the radius belong together without a look at them; only cells are joined, each
    with those around it, and the search ends with the first pair.  So the work grows with the number of positions and
    hardly with how often each star was seen.
    """
    half_chord = math.sin(0.5 * radius)
    # diagonal of a cell: the chord, less what rounding could add
    grid = positions.cells(math.sqrt(2.0) * half_chord * (1.0 - 1e-6))
    parent = np.empty(len(grid.keys), np.int64)
    _kernels.join_cells(grid.keys, grid.starts, grid.xyz, grid.height, half_chord, parent)
    roots, group_of_cell = np.unique(parent, return_inverse=True)
    labels = np.empty(len(positions), np.int64)
    labels[grid.order] = np.repeat(group_of_cell, np.diff(grid.starts))
    return groups_by_label(labels, len(roots))


def groups_by_label(labels: IntArray, n_labels: int) -> Groups:
    """Return the rows of each label 0 to ``n_labels - 1``; negative labels are left out."""
    counts = np.bincount(labels[labels >= 0], minlength=n_labels)
    starts = np.concatenate([[0], np.cumsum(counts)])
    members = np.empty(starts[-1], np.int64)
    _kernels.stable_order(labels, starts, members)
    return Groups(starts, members)


def greedy_groups(
    positions: Positions, radius: float, *, first_come: bool = False, min_members: int = 1
) -> Groups:
    """Group positions around those with most neighbors within a radius (radians).

    The position with most neighbors (of equals the earlier one) and all its neighbors are a group; then the one with
    most neighbors of those not in a group yet, and so on. A neighbor may be in several groups.

    Parameters
    ----------
    positions
        n positions.
    radius
        Radians.
    first_come
        Go by the order of the positions instead of the number of neighbors.
    min_members
        Positions that would be in a smaller group with their neighbors do not found one.
    """
    half_chord = math.sin(0.5 * radius)
    counts = positions.count_within(positions, radius)
    grid = positions.cells(_search_height(radius))
    args = (
        positions.ra,
        positions.dec,
        grid.keys,
        grid.starts,
        grid.xyz,
        grid.order,
        grid.height,
        half_chord,
    )
    is_seed = np.zeros(len(positions), np.bool_)
    priority = np.arange(len(counts)) if first_come else np.argsort(-counts, kind="stable")
    priority = priority[counts[priority] >= min_members]
    _kernels.greedy_seeds(priority, counts, *args, positions.xyz, is_seed)
    seeds = np.flatnonzero(is_seed)
    starts = np.concatenate([[0], np.cumsum(counts[seeds])])
    members = np.empty(starts[-1], np.int64)
    _kernels.greedy_members(seeds, starts, *args, positions.xyz, members)
    return Groups(starts, members)

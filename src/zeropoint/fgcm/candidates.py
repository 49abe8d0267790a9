"""Groups of observations that may be stars: the compact ones among chains of neighbors, or by the rule of fgcm."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import hpgeom
import numpy as np
import numpy.typing as npt

from zeropoint.association.grouping import Groups, Positions, friends, greedy_groups, wrapped

__all__ = ["Candidates", "compact_candidates", "fgcm_candidates", "sky_order"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Sums of coordinates are sums of whole numbers of this fraction of a radian (0.2 micro-arcsec): exact, and so the
#: same in any order, for up to 8 million observations of one star.
_GRAIN = 2.0**-40

#: Chains wider than a star are linked anew with half the radius, so often at most: what then still is wider than
#: a star is more than a hundred observations in a row, and none.
_MAX_HALVINGS = 6

#: Stars are put in the order of HEALPix cells of 0.2 arcsec, nested: neighbors on the sky are near in the table.
_ORDER_NSIDE = 1 << 20


@dataclass(frozen=True)
class Candidates:
    """Where stars may be.

    Parameters
    ----------
    positions
        Mean position of each candidate's observations in the primary band that found it.
    n_groups
        Groups of observations looked at, over all primary bands.
    n_few
        Groups of fewer than the least number of observations.
    n_known
        Groups at candidates of an earlier primary band.
    """

    positions: Positions
    n_groups: int = 0
    n_few: int = 0
    n_known: int = 0

    def __len__(self) -> int:
        return len(self.positions)


@dataclass
class _Pool:
    """Candidates while the primary bands are gone through."""

    positions: Positions
    n_groups: int = 0
    n_few: int = 0
    n_known: int = 0

    @classmethod
    def empty(cls) -> _Pool:
        return cls(Positions(np.zeros(0), np.zeros(0)))

    def add(self, found: Positions, radius: float) -> None:
        """Append candidates that are not within a radius (radians) of those of earlier bands."""
        known = found.count_within(self.positions, radius) > 0
        self.n_known += int(np.count_nonzero(known))
        self.positions = self.positions.joined(found[~known])


def compact_candidates(
    positions: Positions,
    bands: np.ndarray,
    primary: Sequence[int],
    *,
    radius: float,
    min_per_band: int,
    on_step: Callable[[int, int], None],
) -> Candidates:
    """Return the groups of observations all of which lie within a radius of their mean.

    Parameters
    ----------
    positions
        Positions of n observations.
    bands : integers, shape (n,)
        Band of each.
    primary
        Bands in which stars are sought, in order of preference.
    radius
        Radians.
    min_per_band
        Least number of observations of a group.
    on_step
        Called with the number of steps (bands) done, and how many there are.

    Notes
    -----
    Chains of neighbors are groups; one with an observation beyond the radius from its mean is linked anew with half
    the radius, and so on: what holds together most closely is found, whatever the order of the observations.
    The candidates come in the order of nested HEALPix cells.
    """
    pool = _Pool.empty()
    for done, band in enumerate(primary):
        on_step(done, len(primary))
        in_band = positions[np.flatnonzero(bands == band)]
        centers, sizes = _compact_groups(in_band, radius, min_per_band)
        enough = sizes >= min_per_band
        pool.n_groups += len(sizes)
        pool.n_few += int(np.count_nonzero(~enough))
        pool.add(centers[enough], radius)
    on_step(len(primary), len(primary))
    found = pool.positions
    return Candidates(found[sky_order(found)], pool.n_groups, pool.n_few, pool.n_known)


def _compact_groups(positions: Positions, radius: float, min_per_band: int) -> tuple[Positions, IntArray]:
    """Return the means of compact groups, and how many observations each has.

    What is left of wide ones is a group of no observation.
    """
    centers, sizes, link = Positions(np.zeros(0), np.zeros(0)), [np.zeros(0, np.int64)], radius
    for _ in range(_MAX_HALVINGS + 1):
        groups = friends(positions, link)
        means = _exact_centers(groups, positions)
        size = np.diff(groups.starts)
        wide = (size >= min_per_band) & _is_wide(groups, positions, means, radius)
        centers = centers.joined(means[~wide])
        sizes.append(size[~wide])
        if not wide.any():
            break
        positions = positions[groups.rows_of(wide)]
        link *= 0.5
    else:
        centers = centers.joined(means[wide])
        sizes.append(np.zeros(np.count_nonzero(wide), np.int64))
    return centers, np.concatenate(sizes)


def _exact_centers(groups: Groups, positions: Positions) -> Positions:
    """Return the mean direction of each group, summed exactly."""
    sums = np.empty((len(groups), 3))
    for axis in range(3):
        grains = np.rint(positions.xyz[groups.members, axis] / _GRAIN).astype(np.int64)
        sums[:, axis] = np.add.reduceat(grains, groups.starts[:-1]) if len(groups) else 0.0
    return Positions.from_vectors(sums)


def _is_wide(groups: Groups, positions: Positions, centers: Positions, radius: float) -> np.ndarray:
    """Return which groups have a member beyond a radius (radians) from their center."""
    if len(groups) == 0:
        return np.zeros(0, np.bool_)
    size = np.diff(groups.starts)
    squared = np.zeros(len(groups.members))
    for axis in range(3):
        squared += (positions.xyz[groups.members, axis] - np.repeat(centers.xyz[:, axis], size)) ** 2
    return np.maximum.reduceat(squared, groups.starts[:-1]) > 4.0 * math.sin(0.5 * radius) ** 2


def sky_order(positions: Positions) -> IntArray:
    """Return the rows in the order of nested HEALPix cells of 0.2 arcsec, in a cell by declination and right ascension.

    Parameters
    ----------
    positions
        On the sky.
    """
    ra, dec = positions.ra, positions.dec
    cells = hpgeom.angle_to_pixel(_ORDER_NSIDE, ra, dec, nest=True, lonlat=True, degrees=False)
    return np.lexsort((ra, dec, cells))


def fgcm_candidates(
    positions: Positions,
    bands: np.ndarray,
    primary: Sequence[int],
    *,
    radius: float,
    min_per_band: int,
    coarse_nside: int,
    on_step: Callable[[int, int], None],
) -> Candidates:
    """Return the candidates that the rule of the fgcm package (3.16) finds.

    Parameters
    ----------
    positions, bands, primary, radius, min_per_band, on_step
        As for `compact_candidates`.
    coarse_nside
        HEALPix nside (RING) of the pixels in which the rule is applied, each for itself: the steps.

    Notes
    -----
    In the order of the table, an observation that is in no group yet and has enough neighbors founds one of all its
    neighbors, those of earlier groups included.  The mean is that of right ascension (half a turn either side of zero)
    and declination.  A pixel and band in which no observation has a neighbor gives none.  The order is that of the
    pixels, bands, and founders.
    """
    nest = {"nest": False, "lonlat": True, "degrees": False}
    pixels = hpgeom.angle_to_pixel(coarse_nside, positions.ra, positions.dec, **nest)
    order = np.argsort(pixels, kind="stable")
    edges = np.flatnonzero(np.diff(pixels[order], prepend=-1, append=-1))
    found, counts = Positions(np.zeros(0), np.zeros(0)), np.zeros(3, np.int64)
    for done, (begin, end) in enumerate(itertools.pairwise(edges)):
        on_step(done, len(edges) - 1)
        pool = _Pool.empty()
        rows = order[begin:end]
        for band in primary:
            in_band = positions[rows[bands[rows] == band]]
            groups = _founded_groups(in_band, radius, min_per_band)
            pool.n_groups += len(groups)
            pool.add(_plain_means(groups, in_band), radius)
        found = found.joined(pool.positions)
        on_step(done + 1, len(edges) - 1)
        counts += (pool.n_groups, pool.n_few, pool.n_known)
    return Candidates(found, *counts.tolist())


def _founded_groups(positions: Positions, radius: float, min_per_band: int) -> Groups:
    """Return the groups that observations found in their order."""
    groups = greedy_groups(positions, radius, first_come=True, min_members=min_per_band)
    alone = len(groups.members) == len(groups)
    return Groups(np.zeros(1, np.int64), np.zeros(0, np.int64)) if alone else groups


def _plain_means(groups: Groups, positions: Positions) -> Positions:
    """Return the means of right ascension and declination of each group."""
    if len(groups) == 0:
        return Positions(np.zeros(0), np.zeros(0))
    size = np.diff(groups.starts)
    ra = np.where(positions.ra > math.pi, positions.ra - 2.0 * math.pi, positions.ra)
    mean_ra, mean_dec = (
        np.add.reduceat(angle[groups.members], groups.starts[:-1]) / size for angle in (ra, positions.dec)
    )
    return Positions(wrapped(mean_ra, 2.0 * math.pi), mean_dec)

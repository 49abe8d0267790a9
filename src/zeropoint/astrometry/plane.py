"""Two star lists on one plane: a grid for look-ups, mutual nearest pairs, transforms, and the odds of chance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import bdtrc

__all__ = ["Field", "Grid", "MatchOdds", "PlaneTransform", "fit_transform", "mutual_pairs"]

#: Pairs from which a shape of that many free numbers is fitted (rigid, similarity, affine).
MIN_PAIRS_SIMILARITY = 6
MIN_PAIRS_AFFINE = 10
#: Range of the two shear-like numbers of an affine fit, relative to the field, when counting placements.
_SHEAR_RANGE = 0.02


@dataclass(frozen=True)
class Grid:
    """Points sorted into square cells, as the compiled searches want them.

    Parameters
    ----------
    points : float64, shape (n, 2)
        Sorted by cell, pixels.
    starts : int64, shape (nx * ny + 1,)
        First row of each cell.
    geometry : float64, shape (5,)
        ``[x0, y0, 1 / cell size, nx, ny]``.
    """

    points: np.ndarray
    starts: np.ndarray
    geometry: np.ndarray

    @classmethod
    def build(cls, points: np.ndarray) -> Grid:
        """Sort points (n >= 1) into about one cell each."""
        low, high = points.min(axis=0), points.max(axis=0)
        extent = np.maximum(high - low, 1.0)
        cell = max(float(np.sqrt(extent[0] * extent[1] / len(points))), float(extent.max()) / 2000.0, 1.0)
        nx, ny = (int(v) for v in np.floor(extent / cell) + 1)
        index = np.floor((points - low) / cell).astype(np.int64)
        flat = np.minimum(index[:, 1], ny - 1) * nx + np.minimum(index[:, 0], nx - 1)
        order = np.argsort(flat, kind="stable")
        starts = np.searchsorted(flat[order], np.arange(nx * ny + 1))
        return cls(
            np.ascontiguousarray(points[order]),
            starts.astype(np.int64),
            np.array([low[0], low[1], 1.0 / cell, nx, ny], np.float64),
        )


@dataclass(frozen=True)
class PlaneTransform:
    """An affine map of the plane, ``p -> matrix @ p + offset`` (pixels)."""

    matrix: np.ndarray
    offset: np.ndarray

    @classmethod
    def identity(cls) -> PlaneTransform:
        """Return the map that moves nothing."""
        return cls(np.eye(2), np.zeros(2))

    @classmethod
    def similarity(cls, a: float, b: float, u: float, v: float) -> PlaneTransform:
        """Return ``X = a x - b y + u``, ``Y = b x + a y + v``."""
        return cls(np.array([[a, -b], [b, a]]), np.array([u, v]))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Map points of shape (n, 2)."""
        return points @ self.matrix.T + self.offset

    def inverse(self) -> PlaneTransform:
        """Return the inverse map."""
        inverse = np.linalg.inv(self.matrix)
        return PlaneTransform(inverse, -inverse @ self.offset)

    @property
    def rotation(self) -> float:
        """Mean rotation, radians."""
        m = self.matrix
        return float(np.arctan2(m[1, 0] - m[0, 1], m[0, 0] + m[1, 1]))

    @property
    def stretch(self) -> float:
        """Largest deviation of a singular value from 1."""
        return float(np.abs(np.linalg.svd(self.matrix, compute_uv=False) - 1.0).max())

    def differs(self, other: PlaneTransform, corners: np.ndarray) -> float:
        """Return the largest distance between the images of some points under two maps."""
        return float(np.hypot(*(self(corners) - other(corners)).T).max())


def mutual_pairs(
    moved: np.ndarray, targets: np.ndarray, tree: cKDTree, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (moved, targets) of pairs that are each other's nearest and closer than the tolerance."""
    distance, nearest = tree.query(moved, distance_upper_bound=tolerance)
    rows = np.flatnonzero(np.isfinite(distance))
    if len(rows) == 0:
        return rows, rows
    hit = nearest[rows]
    # a pair is mutual if no other moved point is closer to the target
    back = cKDTree(moved).query(targets[hit])[1]
    keep = back == rows
    return rows[keep], hit[keep]


def _rigid_or_similar(source: np.ndarray, target: np.ndarray, *, scale: bool) -> PlaneTransform:
    ms, mt = source.mean(axis=0), target.mean(axis=0)
    s, t = source - ms, target - mt
    dot, cross = float((s * t).sum()), float((s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]).sum())
    norm = float((s * s).sum()) if scale else float(np.hypot(dot, cross))
    if norm == 0.0:
        return PlaneTransform(np.eye(2), mt - ms)
    result = PlaneTransform.similarity(dot / norm, cross / norm, 0.0, 0.0)
    return PlaneTransform(result.matrix, mt - result.matrix @ ms)


def _fit_once(source: np.ndarray, target: np.ndarray) -> PlaneTransform:
    n = len(source)
    if n < MIN_PAIRS_AFFINE:
        return _rigid_or_similar(source, target, scale=n >= MIN_PAIRS_SIMILARITY)
    centre = source.mean(axis=0)
    design = np.column_stack([source - centre, np.ones(n)])
    solution = np.linalg.lstsq(design, target, rcond=None)[0]
    matrix = solution[:2].T
    return PlaneTransform(matrix, solution[2] - matrix @ centre)


def fit_transform(source: np.ndarray, target: np.ndarray) -> tuple[PlaneTransform, float]:
    """Fit the map from source to target points, rejecting outliers.

    Parameters
    ----------
    source, target : float64, shape (n, 2)
        Pairs of positions, n >= 2.

    Returns
    -------
    transform, sigma
        Rigid below 6 pairs, a similarity below 10, else affine; and the scatter of an axis (from the median
        distance), pixels.
    """
    good = np.ones(len(source), bool)
    transform = _fit_once(source, target)
    sigma = 0.0
    for _ in range(4):
        distance = np.hypot(*(transform(source) - target).T)
        sigma = float(np.median(distance[good])) / 1.1774  # median of a Rayleigh distribution
        keep = distance <= max(3.5 * sigma, 1e-6)
        if keep.sum() < 3 or np.array_equal(keep, good):
            break
        good = keep
        transform = _fit_once(source[good], target[good])
    return transform, sigma


@dataclass(frozen=True)
class MatchOdds:
    """How many of the pairs chance would give, and how probable so many are anywhere in the search.

    Parameters
    ----------
    n_pairs
        Pairs found.
    n_possible
        Size of the smaller list inside the common area.
    n_chance
        Expected number of chance pairs.
    log10_probability
        log10 of the expected number of placements, of all that were searched, with as many pairs by chance.
    """

    n_pairs: int
    n_possible: int
    n_chance: float
    log10_probability: float


class Field:
    """Sources and references on one plane in pixels, brightest first; pairs and their odds.

    Parameters
    ----------
    sources, references : float64, shape (n, 2)
        Positions, pixels, origin in the middle of the sources.
    """

    def __init__(self, sources: np.ndarray, references: np.ndarray) -> None:
        self.sources, self.references = sources, references
        self.low, self.high = sources.min(axis=0), sources.max(axis=0)
        self.corners = np.array(
            [(x, y) for x in (self.low[0], self.high[0]) for y in (self.low[1], self.high[1])]
        )
        self.radius = float(0.5 * np.hypot(*(self.high - self.low)))

    @cached_property
    def reference_tree(self) -> cKDTree:
        """KD-tree of the references."""
        return cKDTree(self.references)

    @cached_property
    def source_grid(self) -> Grid:
        """Grid of the sources."""
        return Grid.build(self.sources)

    @cached_property
    def reference_grid(self) -> Grid:
        """Grid of the references."""
        return Grid.build(self.references)

    def references_inside(self, transform: PlaneTransform, margin: float) -> np.ndarray:
        """Return True for references that fall on the sources' box (grown by a margin)."""
        back = transform.inverse()(self.references)
        return np.all((back >= self.low - margin) & (back <= self.high + margin), axis=1)

    def pairs(self, transform: PlaneTransform, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        """Return rows (sources, references) of mutual nearest pairs within the tolerance."""
        return mutual_pairs(transform(self.sources), self.references, self.reference_tree, tolerance)

    def odds(
        self, transform: PlaneTransform, n_pairs: int, tolerance: float, log10_placements: float
    ) -> MatchOdds:
        """Compare the number of pairs with what chance gives.

        The chance rate is the larger of the Poisson value from the mean density and the rate measured with the
        sources moved by a few tolerances, which knows about clusters; the probability is the binomial tail.
        """
        inside = int(self.references_inside(transform, tolerance).sum())
        n_sources = len(self.sources)
        n = max(min(n_sources, inside), n_pairs)
        area = float(np.prod(np.maximum(self.high - self.low, 2.0 * tolerance)))
        rate = -np.expm1(-max(n_sources, inside) / area * np.pi * tolerance**2)
        moved = transform(self.sources)
        directions = 16 if n_sources < 1000 else 4
        hits = 0
        for k in range(directions):
            angle, reach = 2.0 * np.pi * k / directions, (6.0 + 6.0 * (k % 2)) * tolerance
            step = reach * np.array([np.cos(angle), np.sin(angle)])
            distance = self.reference_tree.query(moved + step, distance_upper_bound=tolerance)[0]
            hits += int(np.isfinite(distance).sum())
        if hits >= 3:
            rate = max(rate, hits / directions / n)
        rate = min(float(rate), 1.0)
        tail = float(np.log10(max(bdtrc(n_pairs - 1, n, rate), 1e-300))) if rate < 1.0 else 0.0
        return MatchOdds(n_pairs, n, n * rate, max(tail, -300.0) + log10_placements)

    def log10_placements(
        self, tolerance: float, max_shift: float, max_rotation: float, max_scale: float, n_pairs: int
    ) -> float:
        """Return log10 of the number of distinguishable transforms that a search may try."""
        reach = self.radius / tolerance
        factors = [max_shift / tolerance, max_shift / tolerance, max_rotation * reach, max_scale * reach]
        if n_pairs >= MIN_PAIRS_AFFINE:
            factors += [_SHEAR_RANGE * reach, _SHEAR_RANGE * reach]
        return float(np.sum(np.log10(np.maximum(2.0 * np.array(factors), 1.0))))

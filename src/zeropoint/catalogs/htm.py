"""The hierarchical triangular mesh: which trixels touch a circle on the sky.

Each root triangle of an octahedron is split at the midpoints of its edges, again and again; a trixel's index is
its parent's index times four plus its place (Kunszt, Szalay & Thakar 2001).  At depth d indices run from
``8 * 4**d`` to ``16 * 4**d - 1``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.wcs import unit_vectors

__all__ = ["htm_depth", "htm_index", "touches_circle", "trixel_vertices"]

FloatArray = npt.NDArray[np.float64]

#: Depth of the ancestors that are tested first.
_COARSE = 3

_CORNERS = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0], [0, 0, -1]], np.float64)
#: Corners of the eight root triangles, in the order of their indices 8 to 15 (S0..S3, N0..N3).
_ROOTS = np.ascontiguousarray(
    _CORNERS[
        np.array([[1, 5, 2], [2, 5, 3], [3, 5, 4], [4, 5, 1], [1, 0, 4], [4, 0, 3], [3, 0, 2], [2, 0, 1]])
    ]
)


def htm_depth(index: int) -> int:
    """Return the depth that a trixel index belongs to, or -1 if it is no trixel index."""
    length = int(index).bit_length()
    return (length - 4) // 2 if length >= 4 and length % 2 == 0 else -1


def trixel_vertices(index: npt.ArrayLike, depth: int) -> FloatArray:
    """Return the corners of trixels.

    Parameters
    ----------
    index : int64, shape (n,)
        Trixel indices of one depth.
    depth
        Their depth.

    Returns
    -------
    float64, shape (n, 3, 3)
        Unit vectors [trixel, corner, axis], counterclockwise as seen from outside.
    """
    index = np.atleast_1d(np.asarray(index, np.int64))
    vertices = _ROOTS[(index >> (2 * depth)) - 8]
    for level in range(depth - 1, -1, -1):
        children = _children(vertices)
        vertices = children[np.arange(len(index)), (index >> (2 * level)) & 3]
    return np.asarray(vertices)


def _children(vertices: FloatArray) -> FloatArray:
    """Return the corners of the four children of each trixel, shape (n, 4, 3, 3)."""
    v0, v1, v2 = vertices[:, 0], vertices[:, 1], vertices[:, 2]
    w0, w1, w2 = _unit(v1 + v2), _unit(v0 + v2), _unit(v0 + v1)
    children = ((v0, w2, w1), (v1, w0, w2), (v2, w1, w0), (w0, w1, w2))
    return np.stack([np.stack(child, axis=1) for child in children], axis=1)


def _unit(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _inside(vertices: FloatArray, points: FloatArray) -> npt.NDArray[np.bool_]:
    """Return whether each point lies in its trixel; both broadcast to (..., 3, 3) and (..., 3)."""
    normals = np.cross(vertices, np.roll(vertices, -1, axis=-2))
    return np.all(np.einsum("...ij,...j->...i", normals, points) >= -1e-15, axis=-1)


def htm_index(ra: npt.ArrayLike, dec: npt.ArrayLike, depth: int) -> npt.NDArray[np.int64]:
    """Return the trixel index of positions in radians, -1 where one is not finite.

    A position on an edge belongs to the trixel that ``lsst.sphgeom`` puts it in, except within rounding of it.
    """
    from zeropoint.catalogs._kernels import trixel_indices  # compiled only where positions are indexed

    with np.errstate(invalid="ignore"):  # infinite angles become NaN
        points = np.ascontiguousarray(
            unit_vectors(np.atleast_1d(np.asarray(ra)), np.atleast_1d(np.asarray(dec)))
        )
    result = np.empty(len(points), np.int64)
    trixel_indices(points, _ROOTS, depth, result)
    return result


def touches_circle(
    index: npt.ArrayLike, depth: int, ra: float, dec: float, radius: float
) -> npt.NDArray[np.bool_]:
    """Return which trixels touch a circle on the sky.

    Parameters
    ----------
    index : int64, shape (n,)
        Trixel indices of one depth.
    depth
        Their depth.
    ra, dec, radius
        Center and radius in radians.

    Returns
    -------
    bool, shape (n,)
        True where trixel and circle have a point in common.
    """
    index = np.atleast_1d(np.asarray(index, np.int64))
    if depth > _COARSE:  # most trixels are ruled out together with a coarse ancestor
        ancestors = index >> (2 * (depth - _COARSE))
        coarse = np.unique(ancestors)
        near = np.isin(ancestors, coarse[_touches(coarse, _COARSE, ra, dec, radius)])
        result = np.zeros(index.size, np.bool_)
        result[near] = _touches(index[near], depth, ra, dec, radius)
        return result
    return _touches(index, depth, ra, dec, radius)


def _touches(
    index: npt.NDArray[np.int64], depth: int, ra: float, dec: float, radius: float
) -> npt.NDArray[np.bool_]:
    """Test every trixel against the circle."""
    vertices = trixel_vertices(index, depth)
    center = unit_vectors(np.asarray(ra), np.asarray(dec))
    touches = _inside(vertices, center[None])
    for k in range(3):
        touches |= _distance_to_edge(vertices[:, k], vertices[:, (k + 1) % 3], center) <= radius
    return touches


def _distance_to_edge(a: FloatArray, b: FloatArray, point: FloatArray) -> FloatArray:
    """Return the angle from a point to great-circle arcs from a to b, shape (n,)."""
    normal = _unit(np.cross(a, b))
    foot_is_on_arc = (np.cross(normal, a) @ point >= 0.0) & (np.cross(b, normal) @ point >= 0.0)
    to_circle = np.abs(np.arcsin(np.clip(normal @ point, -1.0, 1.0)))
    to_ends = np.minimum(_angle(a, point), _angle(b, point))
    return np.where(foot_is_on_arc, to_circle, to_ends)


def _angle(vectors: FloatArray, point: FloatArray) -> FloatArray:
    chord = np.linalg.norm(vectors - point, axis=-1)
    return np.asarray(2.0 * np.arcsin(np.clip(0.5 * chord, 0.0, 1.0)))

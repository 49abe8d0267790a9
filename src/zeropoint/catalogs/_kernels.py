"""Compiled descent of the hierarchical triangular mesh."""

from __future__ import annotations

import math

from zeropoint.kernels._compile import helper, kernel

__all__ = ["trixel_indices"]


@helper
def midpoint(a, b):  # type: ignore[no-untyped-def]
    """Return the unit vector halfway between two."""
    x, y, z = a[0] + b[0], a[1] + b[1], a[2] + b[2]
    length = math.sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length


@helper
def is_left(p, a, b):  # type: ignore[no-untyped-def]
    """Return whether a point lies to the left of, or on, the great circle from a to b: ``p (a x b) >= 0``."""
    volume = (
        p[0] * (a[1] * b[2] - a[2] * b[1])
        + p[1] * (a[2] * b[0] - a[0] * b[2])
        + p[2] * (a[0] * b[1] - a[1] * b[0])
    )
    return volume >= 0.0


@helper
def root_trixel(x, y, z):  # type: ignore[no-untyped-def]
    """Return the root triangle (0 to 7: S0..S3, N0..N3) of a vector; meridians belong to the one East of them."""
    # quadrant of right ascension, counted from 0 at [0, 90) degrees
    if y >= 0.0:
        quadrant = 0 if x > 0.0 or (y == 0.0 and x == 0.0) else (1 if y > 0.0 else 2)
    else:
        quadrant = 2 if x < 0.0 else 3
    return quadrant if z < 0.0 else 7 - quadrant


@kernel
def trixel_indices(points, roots, depth, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with the trixel index of each point.

    points float64 (n, 3), unit vectors; roots float64 (8, 3, 3), the corners of the root triangles
    [triangle, corner, axis]; out int64 (n).  NaN gives -1.
    """
    for k in range(points.shape[0]):
        p = (points[k, 0], points[k, 1], points[k, 2])
        if not math.isfinite(p[0] + p[1] + p[2]):
            out[k] = -1
            continue
        root = root_trixel(p[0], p[1], p[2])
        index = 8 + root
        v0 = (roots[root, 0, 0], roots[root, 0, 1], roots[root, 0, 2])
        v1 = (roots[root, 1, 0], roots[root, 1, 1], roots[root, 1, 2])
        v2 = (roots[root, 2, 0], roots[root, 2, 1], roots[root, 2, 2])
        for _ in range(depth):
            w0, w1, w2 = midpoint(v1, v2), midpoint(v0, v2), midpoint(v0, v1)
            # a child touches one corner, or is the middle one
            if is_left(p, w2, w1):
                index = 4 * index
                v1, v2 = w2, w1
            elif is_left(p, w0, w2):
                index = 4 * index + 1
                v0, v1, v2 = v1, w0, w2
            elif is_left(p, w1, w0):
                index = 4 * index + 2
                v0, v1, v2 = v2, w1, w0
            else:
                index = 4 * index + 3
                v0, v1, v2 = w0, w1, w2
        out[k] = index

"""Compiled search for neighbors on the sphere, in cells of declination stripes.

A stripe is a belt of declination of one height; it is cut into equal cells of right ascension, none wider than high.
The key of a cell is ``(stripe << 32) + cell``; points are sorted by it.  Distances are chords of unit vectors, so
nothing is special at the poles or where right ascension begins anew.
"""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import helper, kernel

__all__ = [
    "cell_keys",
    "count_within",
    "greedy_members",
    "greedy_seeds",
    "group_sums",
    "join_cells",
    "nearest_within",
    "repeated_labels",
    "stable_order",
]

_TWO_PI = 2.0 * math.pi
_HALF_PI = 0.5 * math.pi
_LOW_BITS = 0xFFFFFFFF


@helper
def stripe_cells(stripe, height):  # type: ignore[no-untyped-def]
    """Return the number of cells of a stripe, and the least cosine of a declination in it."""
    south = stripe * height - _HALF_PI
    north = south + height
    if south <= 0.0 <= north:
        widest = 1.0
    else:
        widest = math.cos(min(abs(south), abs(north)))
    least = max(0.0, math.cos(min(max(abs(south), abs(north)), _HALF_PI)))
    return max(1, math.ceil(_TWO_PI * widest / height)), least


@kernel
def cell_keys(ra, dec, height, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (int64, n) with the key of each point's cell; ra in [0, 2 pi), dec float64 (n), radians."""
    last = math.ceil(math.pi / height) - 1
    for k in range(ra.shape[0]):
        stripe = min(max(math.floor((dec[k] + _HALF_PI) / height), 0), last)
        n_cells, _ = stripe_cells(stripe, height)
        cell = min(max(math.floor(ra[k] / _TWO_PI * n_cells), 0), n_cells - 1)
        out[k] = (stripe << 32) + cell


@helper
def lower_bound(keys, value):  # type: ignore[no-untyped-def]
    """Return the first place in sorted keys whose key is not below the value."""
    low, high = 0, keys.shape[0]
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@helper
def cell_ranges(keys, stripe, west, east, reach, height):  # type: ignore[no-untyped-def]
    """Return two ranges (begin, end) of occupied cells of a stripe that reach the right ascensions west to east.

    ``reach`` is how far a neighbor may lie in right ascension, radians.  The second range, often empty, is what lies
    beyond 0 or 2 pi.
    """
    base = stripe << 32
    n_cells, _ = stripe_cells(stripe, height)
    scale = n_cells / _TWO_PI
    first = math.floor((west - reach) * scale - 1e-6)
    last = math.floor((east + reach) * scale + 1e-6)
    if reach >= math.pi or last - first + 1 >= n_cells:
        return lower_bound(keys, base), lower_bound(keys, base + n_cells), 0, 0
    begin = lower_bound(keys, base + max(first, 0))
    end = lower_bound(keys, base + min(last, n_cells - 1) + 1)
    if first < 0:
        return begin, end, lower_bound(keys, base + first + n_cells), lower_bound(keys, base + n_cells)
    if last >= n_cells:
        return begin, end, lower_bound(keys, base), lower_bound(keys, base + last - n_cells + 1)
    return begin, end, 0, 0


@helper
def ra_reach(half_chord, cosine_a, cosine_b):  # type: ignore[no-untyped-def]
    """Return the greatest difference in right ascension of points within a chord: ``sin^2(d/2) >= cos cos sin^2(a/2)``."""
    product = cosine_a * cosine_b
    if product <= half_chord * half_chord:
        return math.pi
    return 2.0 * math.asin(half_chord / math.sqrt(product))


@helper
def root_of(parent, k):  # type: ignore[no-untyped-def]
    """Return the root of an element, halving the path to it."""
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k


@helper
def cells_touch(xyz, begin_a, end_a, begin_b, end_b, chord_squared):  # type: ignore[no-untyped-def]
    """Return whether a point of one cell lies within the chord of a point of another."""
    for i in range(begin_a, end_a):
        for j in range(begin_b, end_b):
            dx, dy, dz = xyz[i, 0] - xyz[j, 0], xyz[i, 1] - xyz[j, 1], xyz[i, 2] - xyz[j, 2]
            if dx * dx + dy * dy + dz * dz <= chord_squared:
                return True
    return False


@kernel
def join_cells(keys, starts, xyz, height, half_chord, parent):  # type: ignore[no-untyped-def]
    """Join cells that hold points within the chord of each other; ``parent`` (int64, cells) becomes the roots.

    keys int64 (cells), sorted; starts int64 (cells + 1): its points' rows of xyz float64 (n, 3).  A cell's diagonal must
    not exceed the chord, so that all of its points belong together.
    """
    chord_squared = 4.0 * half_chord * half_chord
    n_up = math.ceil(2.0 * math.asin(min(1.0, half_chord)) / height + 1e-6)
    for c in range(keys.shape[0]):
        parent[c] = c
    for c in range(keys.shape[0]):
        stripe = keys[c] >> 32
        n_cells, cosine = stripe_cells(stripe, height)
        west = (keys[c] & _LOW_BITS) * _TWO_PI / n_cells
        east = west + _TWO_PI / n_cells
        for other_stripe in range(stripe, stripe + n_up + 1):  # pairs downward are seen from below
            reach = ra_reach(half_chord, cosine, stripe_cells(other_stripe, height)[1])
            begin, end, begin_2, end_2 = cell_ranges(keys, other_stripe, west, east, reach, height)
            for part in range(2):
                for o in range(begin if part == 0 else begin_2, end if part == 0 else end_2):
                    if other_stripe == stripe and o <= c:
                        continue
                    a, b = root_of(parent, c), root_of(parent, o)
                    if a != b and cells_touch(
                        xyz, starts[c], starts[c + 1], starts[o], starts[o + 1], chord_squared
                    ):
                        parent[max(a, b)] = min(a, b)
    for c in range(keys.shape[0]):
        parent[c] = root_of(parent, c)


@kernel
def count_within(ra, dec, points, keys, starts, xyz, height, half_chord, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (int64, m) with how many points of the grid lie within the chord of each query.

    ra, dec float64 (m), radians; points float64 (m, 3): their unit vectors; the grid as in `join_cells`, its stripes
    at least as high as the angle of the chord.
    """
    chord_squared = 4.0 * half_chord * half_chord
    last = math.ceil(math.pi / height) - 1
    for k in range(ra.shape[0]):
        stripe = min(max(math.floor((dec[k] + _HALF_PI) / height), 0), last)
        cosine = max(0.0, math.cos(dec[k]))
        n = 0
        for other in range(max(0, stripe - 1), min(last, stripe + 1) + 1):
            reach = ra_reach(half_chord, cosine, stripe_cells(other, height)[1])
            begin, end, begin_2, end_2 = cell_ranges(keys, other, ra[k], ra[k], reach, height)
            for part in range(2):
                low, high = (begin, end) if part == 0 else (begin_2, end_2)
                for i in range(starts[low], starts[high]):
                    dx, dy, dz = points[k, 0] - xyz[i, 0], points[k, 1] - xyz[i, 1], points[k, 2] - xyz[i, 2]
                    if dx * dx + dy * dy + dz * dz <= chord_squared:
                        n += 1
        out[k] = n


@kernel
def nearest_within(ra, dec, points, keys, starts, xyz, height, half_chord, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (int64, m) with the grid's row (of xyz) nearest to each query within the chord, or -1.

    Arguments as for `count_within`.
    """
    chord_squared = 4.0 * half_chord * half_chord
    last = math.ceil(math.pi / height) - 1
    for k in range(ra.shape[0]):
        stripe = min(max(math.floor((dec[k] + _HALF_PI) / height), 0), last)
        cosine = max(0.0, math.cos(dec[k]))
        least, found = chord_squared, -1
        for other in range(max(0, stripe - 1), min(last, stripe + 1) + 1):
            reach = ra_reach(half_chord, cosine, stripe_cells(other, height)[1])
            begin, end, begin_2, end_2 = cell_ranges(keys, other, ra[k], ra[k], reach, height)
            for part in range(2):
                low, high = (begin, end) if part == 0 else (begin_2, end_2)
                for i in range(starts[low], starts[high]):
                    dx, dy, dz = points[k, 0] - xyz[i, 0], points[k, 1] - xyz[i, 1], points[k, 2] - xyz[i, 2]
                    squared = dx * dx + dy * dy + dz * dz
                    if squared < least or (squared == least and found < 0):
                        least, found = squared, i
        out[k] = found


@helper
def neighbor_rows(k, ra, dec, keys, starts, xyz, order, height, half_chord, points, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (int64) from its start with the rows of the points within the chord of point k, and return how many.

    Arguments as for `count_within`; order int64 (n): row of each of the grid's points.
    """
    chord_squared = 4.0 * half_chord * half_chord
    last = math.ceil(math.pi / height) - 1
    stripe = min(max(math.floor((dec[k] + _HALF_PI) / height), 0), last)
    cosine = max(0.0, math.cos(dec[k]))
    n = 0
    for other in range(max(0, stripe - 1), min(last, stripe + 1) + 1):
        reach = ra_reach(half_chord, cosine, stripe_cells(other, height)[1])
        begin, end, begin_2, end_2 = cell_ranges(keys, other, ra[k], ra[k], reach, height)
        for part in range(2):
            low, high = (begin, end) if part == 0 else (begin_2, end_2)
            for i in range(starts[low], starts[high]):
                dx, dy, dz = points[k, 0] - xyz[i, 0], points[k, 1] - xyz[i, 1], points[k, 2] - xyz[i, 2]
                if dx * dx + dy * dy + dz * dz <= chord_squared:
                    out[n] = order[i]
                    n += 1
    return n


@kernel
def greedy_seeds(  # type: ignore[no-untyped-def]
    priority, counts, ra, dec, keys, starts, xyz, order, height, half_chord, points, is_seed
):
    """Mark in ``is_seed`` (bool, n) the points that no point before them in ``priority`` (int64, n) has taken.

    counts int64 (n): neighbors of each point, itself included; other arguments as for `neighbor_rows`.
    """
    taken = np.zeros(ra.shape[0], np.bool_)
    rows = np.empty(counts.max() if counts.shape[0] > 0 else 0, np.int64)
    for k in priority:
        if taken[k]:
            continue
        is_seed[k] = True
        n = neighbor_rows(k, ra, dec, keys, starts, xyz, order, height, half_chord, points, rows)
        for i in range(n):
            taken[rows[i]] = True


@kernel
def greedy_members(  # type: ignore[no-untyped-def]
    seeds, group_starts, ra, dec, keys, starts, xyz, order, height, half_chord, points, members
):
    """Fill ``members`` (int64) with the neighbors of each seed, ascending; arguments as for `neighbor_rows`."""
    for g in range(seeds.shape[0]):
        rows = members[group_starts[g] : group_starts[g + 1]]
        neighbor_rows(seeds[g], ra, dec, keys, starts, xyz, order, height, half_chord, points, rows)
        rows.sort()


@kernel
def stable_order(labels, starts, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (int64) with the rows sorted by label, rows of one label in their order; negative labels are left out.

    labels int64 (n); starts int64 (labels + 1): where each label's rows begin.
    """
    place = starts.copy()
    for k in range(labels.shape[0]):
        if labels[k] >= 0:
            out[place[labels[k]]] = k
            place[labels[k]] += 1


@kernel
def group_sums(starts, members, xyz, sums):  # type: ignore[no-untyped-def]
    """Sum the unit vectors of each group's members in their order.

    starts int64 (groups + 1); members int64: rows of xyz float64 (n, 3); sums float64 (groups, 3) is filled.
    """
    for g in range(starts.shape[0] - 1):
        x = y = z = 0.0
        for i in range(starts[g], starts[g + 1]):
            row = members[i]
            x, y, z = x + xyz[row, 0], y + xyz[row, 1], z + xyz[row, 2]
        sums[g, 0], sums[g, 1], sums[g, 2] = x, y, z


@kernel
def repeated_labels(starts, members, labels, repeated):  # type: ignore[no-untyped-def]
    """Mark in ``repeated`` (bool, groups) the groups in which a label (int64, n) follows itself; others as they are.

    starts int64 (groups + 1); members int64: rows of labels.
    """
    for g in range(starts.shape[0] - 1):
        for i in range(starts[g] + 1, starts[g + 1]):
            if labels[members[i]] == labels[members[i - 1]]:
                repeated[g] = True

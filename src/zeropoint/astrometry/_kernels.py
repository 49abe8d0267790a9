"""Compiled searches of the pattern matcher: points on a plane against points sorted into square cells.

A grid is three arrays: ``points`` float64 (n, 2) sorted by cell, ``starts`` int64 (nx * ny + 1) and ``geometry``
float64 ``[x0, y0, 1 / cell size, nx, ny]``.  Transforms map leading points to grid points:
``X = a x - b y + u``, ``Y = b x + a y + v``.
"""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import helper, kernel

__all__ = ["best_pair", "best_pair_any_rotation", "best_pattern", "count_hits", "nearest"]


@helper
def cell_range(x, y, radius, geometry):  # type: ignore[no-untyped-def]
    """Return the cells (i0, i1, j0, j1; half open) that a disc can touch."""
    x0, y0, inverse = geometry[0], geometry[1], geometry[2]
    nx, ny = geometry[3], geometry[4]
    i0 = max(0.0, math.floor((x - radius - x0) * inverse))
    i1 = min(nx - 1.0, math.floor((x + radius - x0) * inverse))
    j0 = max(0.0, math.floor((y - radius - y0) * inverse))
    j1 = min(ny - 1.0, math.floor((y + radius - y0) * inverse))
    return int(i0), int(i1) + 1, int(j0), int(j1) + 1


@kernel
def nearest(x, y, radius, points, starts, geometry):  # type: ignore[no-untyped-def]
    """Return the row of the nearest point within a radius, or -1."""
    i0, i1, j0, j1 = cell_range(x, y, radius, geometry)
    nx = int(geometry[3])
    best, best_row = radius * radius, -1
    for j in range(j0, j1):
        if i0 >= i1:
            break
        for k in range(starts[j * nx + i0], starts[j * nx + i1 - 1 + 1]):
            dx, dy = points[k, 0] - x, points[k, 1] - y
            d = dx * dx + dy * dy
            if d <= best:
                best, best_row = d, k
    return best_row


@kernel
def count_hits(lead, n_verify, a, b, u, v, tolerance, needed, points, starts, geometry):  # type: ignore[no-untyped-def]
    """Count leading points that land within the tolerance of a grid point, giving up early.

    Returns (hits, tested): points that fall outside the grid's box are not tested.  The count ends when fewer
    than ``needed`` (a fraction) of at least twelve tested points hit.
    """
    hits, tested = 0, 0
    width, height = geometry[3] / geometry[2], geometry[4] / geometry[2]
    for k in range(n_verify):
        x = a * lead[k, 0] - b * lead[k, 1] + u
        y = b * lead[k, 0] + a * lead[k, 1] + v
        if x < geometry[0] or y < geometry[1] or x > geometry[0] + width or y > geometry[1] + height:
            continue
        tested += 1
        if nearest(x, y, tolerance, points, starts, geometry) >= 0:
            hits += 1
        if tested >= 12 and hits < needed * tested:
            break
    return hits, tested


@helper
def _rigid(lead, rows, targets, n, points):  # type: ignore[no-untyped-def]
    """Return the rotation and shift (a, b, u, v; a^2 + b^2 = 1) that map ``n`` rows best (Kabsch in 2-d)."""
    mx, my, px, py = 0.0, 0.0, 0.0, 0.0
    for k in range(n):
        mx += lead[rows[k], 0]
        my += lead[rows[k], 1]
        px += points[targets[k], 0]
        py += points[targets[k], 1]
    mx, my, px, py = mx / n, my / n, px / n, py / n
    dot, cross = 0.0, 0.0
    for k in range(n):
        x, y = lead[rows[k], 0] - mx, lead[rows[k], 1] - my
        s, t = points[targets[k], 0] - px, points[targets[k], 1] - py
        dot += x * s + y * t
        cross += x * t - y * s
    norm = math.sqrt(dot * dot + cross * cross)
    if norm == 0.0:
        return 1.0, 0.0, px - mx, py - my
    a, b = dot / norm, cross / norm
    return a, b, px - (a * mx - b * my), py - (b * mx + a * my)


@helper
def _complete_pattern(lead, members, spoke, c, e, limits, rows, targets, points, starts, geometry):  # type: ignore[no-untyped-def]
    """Look up every point of a pattern under the hypothesis (members[0] -> c, members[spoke] -> e).

    ``limits`` = [tolerance, number of points needed].  Fills rows and targets; returns their number, 0 if the
    pattern fails.
    """
    tolerance, n_match, n_check = limits[0], int(limits[1]), len(members)
    p0, p1 = members[0], members[spoke]
    dx, dy = lead[p1, 0] - lead[p0, 0], lead[p1, 1] - lead[p0, 1]
    ex, ey = points[e, 0] - points[c, 0], points[e, 1] - points[c, 1]
    length = math.sqrt(dx * dx + dy * dy)
    norm = length * math.sqrt(ex * ex + ey * ey)
    a, b = (dx * ex + dy * ey) / norm, (dx * ey - dy * ex) / norm
    rows[0], rows[1], targets[0], targets[1] = p0, p1, c, e
    n, misses = 2, 0
    for k in range(1, n_check):
        if k == spoke:
            continue
        x, y = lead[members[k], 0] - lead[p0, 0], lead[members[k], 1] - lead[p0, 1]
        # the first spoke fixes the angle to about tolerance / length
        reach = tolerance * (1.0 + min(1.0, math.sqrt(x * x + y * y) / length))
        row = nearest(
            points[c, 0] + a * x - b * y, points[c, 1] + b * x + a * y, reach, points, starts, geometry
        )
        if row < 0:
            misses += 1
            if misses > n_check - n_match:
                return 0
        else:
            rows[n], targets[n] = members[k], row
            n += 1
    return n


@helper
def _n_within(lead, rows, targets, n, a, b, u, v, tolerance, points):  # type: ignore[no-untyped-def]
    """Count pattern points within the tolerance of their partners."""
    good = 0
    for k in range(n):
        x, y = lead[rows[k], 0], lead[rows[k], 1]
        dx, dy = a * x - b * y + u - points[targets[k], 0], b * x + a * y + v - points[targets[k], 1]
        if dx * dx + dy * dy <= tolerance * tolerance:
            good += 1
    return good


@kernel
def best_pattern(lead, members, limits, points, starts, geometry, best):  # type: ignore[no-untyped-def]
    """Find the rotation and shift under which a whole pattern of points agrees with grid points.

    Every candidate is verified here: all its points within the tolerance after the closed-form rotation, then
    as many of the brightest leading points as possible.

    Parameters
    ----------
    lead : float64, shape (n, 2)
        Leading points, brightest first.
    members : int64
        Rows of the pattern: centre, then ends of spokes, longest first.
    limits : float64
        [tolerance, points needed, largest shift, largest rotation (radians), number of points to verify,
        smallest fraction of hits].
    points, starts, geometry
        Grid.
    best : float64, shape (5,)
        Filled with a, b, u, v and the number of verified hits of the best candidate; hits 0 if none.
    """
    tolerance, n_match, max_shift, max_rotation = limits[0], int(limits[1]), limits[2], limits[3]
    n_verify, needed = int(limits[4]), limits[5]
    n_check, nx = len(members), int(geometry[3])
    rows, targets = np.empty(n_check, np.int64), np.empty(n_check, np.int64)
    best[4] = 0.0
    x0, y0 = lead[members[0], 0], lead[members[0], 1]
    i0, i1, j0, j1 = cell_range(x0, y0, max_shift, geometry)
    for spoke in range(1, n_check - n_match + 2):
        dx, dy = lead[members[spoke], 0] - x0, lead[members[spoke], 1] - y0
        length = math.sqrt(dx * dx + dy * dy)
        if length < 4.0 * tolerance:
            break
        reach = length * max_rotation + tolerance
        for j in range(j0, j1):
            if i0 >= i1:
                break
            for c in range(starts[j * nx + i0], starts[j * nx + i1]):
                if (points[c, 0] - x0) ** 2 + (points[c, 1] - y0) ** 2 > max_shift * max_shift:
                    continue
                k0, k1, l0, l1 = cell_range(points[c, 0] + dx, points[c, 1] + dy, reach, geometry)
                for m in range(l0, l1):
                    if k0 >= k1:
                        break
                    for e in range(starts[m * nx + k0], starts[m * nx + k1]):
                        if e == c:
                            continue
                        ex, ey = points[e, 0] - points[c, 0], points[e, 1] - points[c, 1]
                        if abs(math.sqrt(ex * ex + ey * ey) - length) > tolerance:
                            continue
                        if abs(math.atan2(dx * ey - dy * ex, dx * ex + dy * ey)) > max_rotation:
                            continue
                        n = _complete_pattern(
                            lead, members, spoke, c, e, limits, rows, targets, points, starts, geometry
                        )
                        if n < n_match:
                            continue
                        a, b, u, v = _rigid(lead, rows, targets, n, points)
                        if _n_within(lead, rows, targets, n, a, b, u, v, tolerance, points) < n_match:
                            continue
                        hits, _ = count_hits(
                            lead, n_verify, a, b, u, v, tolerance, needed, points, starts, geometry
                        )
                        if hits > best[4]:
                            best[0], best[1], best[2], best[3], best[4] = a, b, u, v, hits


@kernel
def best_pair(lead, limits, points, starts, geometry, best):  # type: ignore[no-untyped-def]
    """Find the similarity transform, fixed by two pairs of points, that most leading points agree with.

    Parameters
    ----------
    lead : float64, shape (n, 2)
        Leading points, brightest first.
    limits : float64
        [tolerance, number of points to form pairs from, largest shift, largest rotation (radians), number of
        points to verify, smallest fraction of hits, largest relative scale error, shortest pair, hits that
        end the search].
    points, starts, geometry
        Grid.
    best : float64, shape (5,)
        Filled as by `best_pattern`.
    """
    tolerance, n_pair, max_shift, max_rotation = limits[0], int(limits[1]), limits[2], limits[3]
    n_verify, needed, max_scale, shortest, enough = int(limits[4]), limits[5], limits[6], limits[7], limits[8]
    nx = int(geometry[3])
    best[4] = 0.0
    for q in range(1, n_pair):
        for p in range(q):
            dx, dy = lead[q, 0] - lead[p, 0], lead[q, 1] - lead[p, 1]
            square = dx * dx + dy * dy
            if square < shortest * shortest:
                continue
            reach = math.sqrt(square) * (max_rotation + max_scale) + tolerance
            slack = max_scale + tolerance / math.sqrt(square)
            i0, i1, j0, j1 = cell_range(lead[p, 0], lead[p, 1], max_shift, geometry)
            for j in range(j0, j1):
                if i0 >= i1:
                    break
                for c in range(starts[j * nx + i0], starts[j * nx + i1]):
                    cx, cy = points[c, 0], points[c, 1]
                    if (cx - lead[p, 0]) ** 2 + (cy - lead[p, 1]) ** 2 > max_shift * max_shift:
                        continue
                    k0, k1, l0, l1 = cell_range(cx + dx, cy + dy, reach, geometry)
                    for m in range(l0, l1):
                        if k0 >= k1:
                            break
                        for e in range(starts[m * nx + k0], starts[m * nx + k1]):
                            ex, ey = points[e, 0] - cx, points[e, 1] - cy
                            a, b = (dx * ex + dy * ey) / square, (dx * ey - dy * ex) / square
                            if abs(math.sqrt(a * a + b * b) - 1.0) > slack:
                                continue
                            if abs(math.atan2(b, a)) > max_rotation:
                                continue
                            u = cx - (a * lead[p, 0] - b * lead[p, 1])
                            v = cy - (b * lead[p, 0] + a * lead[p, 1])
                            hits, _ = count_hits(
                                lead, n_verify, a, b, u, v, tolerance, needed, points, starts, geometry
                            )
                            if hits > best[4]:
                                best[0], best[1], best[2], best[3], best[4] = a, b, u, v, hits
            if best[4] >= enough:
                return


@kernel
def best_pair_any_rotation(lead, limits, bright, points, starts, geometry, best):  # type: ignore[no-untyped-def]
    """Like `best_pair` with any rotation: the shift of the origin is limited instead of that of each point.

    ``bright`` (n, 2) are the grid points, brightest first, from which hypotheses are formed.
    """
    tolerance, n_pair, max_shift = limits[0], int(limits[1]), limits[2]
    n_verify, needed, max_scale, shortest, enough = int(limits[4]), limits[5], limits[6], limits[7], limits[8]
    best[4] = 0.0
    for q in range(1, n_pair):
        for p in range(q):
            dx, dy = lead[q, 0] - lead[p, 0], lead[q, 1] - lead[p, 1]
            square = dx * dx + dy * dy
            if square < shortest * shortest:
                continue
            length = math.sqrt(square)
            slack = length * max_scale + tolerance
            low, high = max(0.0, length - slack) ** 2, (length + slack) ** 2
            for c in range(len(bright)):
                for e in range(len(bright)):
                    ex, ey = bright[e, 0] - bright[c, 0], bright[e, 1] - bright[c, 1]
                    d = ex * ex + ey * ey
                    if d < low or d > high:
                        continue
                    a, b = (dx * ex + dy * ey) / square, (dx * ey - dy * ex) / square
                    u = bright[c, 0] - (a * lead[p, 0] - b * lead[p, 1])
                    v = bright[c, 1] - (b * lead[p, 0] + a * lead[p, 1])
                    if u * u + v * v > max_shift * max_shift:
                        continue
                    hits, _ = count_hits(
                        lead, n_verify, a, b, u, v, tolerance, needed, points, starts, geometry
                    )
                    if hits > best[4]:
                        best[0], best[1], best[2], best[3], best[4] = a, b, u, v, hits
            if best[4] >= enough:
                return

"""Obvious versions of the compiled pattern searches: every candidate, no cells, numpy only."""

import numpy as np


def nearest(x, y, radius, points):
    distance = np.hypot(points[:, 0] - x, points[:, 1] - y)
    row = int(np.argmin(distance))
    return row if distance[row] <= radius else -1


def count_hits(lead, n_verify, a, b, u, v, tolerance, points, low, high):
    hits = tested = 0
    for x, y in lead[:n_verify]:
        p = np.array([a * x - b * y + u, b * x + a * y + v])
        if np.any(p < low) or np.any(p > high):
            continue
        tested += 1
        hits += nearest(p[0], p[1], tolerance, points) >= 0
    return hits, tested


def rigid(source, target):
    ms, mt = source.mean(axis=0), target.mean(axis=0)
    uu, _, vt = np.linalg.svd((source - ms).T @ (target - mt))
    flip = np.diag([1.0, np.sign(np.linalg.det(vt.T @ uu.T))])
    rotation = vt.T @ flip @ uu.T
    return rotation, mt - rotation @ ms


def best_pattern(lead, members, tolerance, n_match, max_shift, max_rotation, n_verify, points, low, high):
    """Return (hits, a, b) of the best whole pattern; hits 0 if none."""
    best = (0, np.nan, np.nan)
    centre = lead[members[0]]
    for spoke in range(1, len(members) - n_match + 2):
        d = lead[members[spoke]] - centre
        for c in range(len(points)):
            if np.hypot(*(points[c] - centre)) > max_shift:
                continue
            for e in range(len(points)):
                w = points[e] - points[c]
                if e == c or abs(np.hypot(*w) - np.hypot(*d)) > tolerance:
                    continue
                angle = np.angle(complex(*w) / complex(*d))
                if abs(angle) > max_rotation:
                    continue
                turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
                rows, targets = [members[0], members[spoke]], [c, e]
                for k in range(1, len(members)):
                    if k == spoke:
                        continue
                    step = lead[members[k]] - centre
                    reach = tolerance * (1.0 + min(1.0, np.hypot(*step) / np.hypot(*d)))
                    row = nearest(*(points[c] + turn @ step), reach, points)
                    if row >= 0:
                        rows.append(members[k])
                        targets.append(row)
                if len(rows) < n_match:
                    continue
                rotation, offset = rigid(lead[rows], points[targets])
                residual = np.hypot(*(lead[rows] @ rotation.T + offset - points[targets]).T)
                if (residual <= tolerance).sum() < n_match:
                    continue
                a, b = rotation[0, 0], rotation[1, 0]
                hits, _ = count_hits(lead, n_verify, a, b, *offset, tolerance, points, low, high)
                if hits > best[0]:
                    best = (hits, a, b)
    return best


def best_pair(
    lead, n_pair, tolerance, max_shift, max_rotation, max_scale, shortest, n_verify, points, low, high
):
    """Return (hits, a, b) of the best transform fixed by two pairs."""
    best = (0, np.nan, np.nan)
    for q in range(1, n_pair):
        for p in range(q):
            d = complex(*(lead[q] - lead[p]))
            if abs(d) < shortest:
                continue
            for c in range(len(points)):
                if np.hypot(*(points[c] - lead[p])) > max_shift:
                    continue
                for e in range(len(points)):
                    z = complex(*(points[e] - points[c])) / d
                    if abs(abs(z) - 1.0) > max_scale + tolerance / abs(d) or abs(np.angle(z)) > max_rotation:
                        continue
                    offset = complex(*points[c]) - z * complex(*lead[p])
                    hits, _ = count_hits(
                        lead, n_verify, z.real, z.imag, offset.real, offset.imag, tolerance, points, low, high
                    )
                    if hits > best[0]:
                        best = (hits, z.real, z.imag)
    return best

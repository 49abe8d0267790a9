"""Isolated stars from the matrix of all distances: the obvious way, for small fields."""

import numpy as np


def close_pairs(a, b, radius):
    """Boolean matrix: which unit vectors lie within a radius (radians) of which."""
    squared = ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2)
    return squared <= 4.0 * np.sin(0.5 * radius) ** 2


def components(close):
    """Connected components of a symmetrical matrix, as sorted tuples of rows."""
    left, groups = set(range(len(close))), []
    while left:
        group = {left.pop()}
        fresh = set(group)
        while fresh:
            fresh = {int(j) for i in fresh for j in np.flatnonzero(close[i])} - group
            group |= fresh
        left -= group
        groups.append(tuple(sorted(group)))
    return sorted(groups)


def greedy(close):
    """Groups around the rows with most neighbors, first ones first; a neighbor may be in several."""
    taken, groups = set(), []
    for k in sorted(range(len(close)), key=lambda i: (-close[i].sum(), i)):
        if k not in taken:
            groups.append(tuple(np.flatnonzero(close[k]).tolist()))
            taken.update(groups[-1])
    return sorted(groups)


def nearest(a, b, radius):
    """Row of the nearest of ``b`` within a radius of each of ``a``, or -1."""
    if len(b) == 0:
        return np.full(len(a), -1)
    squared = ((a[:, None, :] - b[None, :, :]) ** 2).sum(axis=2)
    return np.where(close_pairs(a, b, radius).any(axis=1), squared.argmin(axis=1), -1)


def associate(xyz, visits, bands, n_bands, *, match, isolation, greedy_rule=False, reject=True):
    """Isolated stars of a field without borders: list of (band, mean unit vector, rows of the sources).

    xyz (n, 3); visits, bands (n); radii in radians.
    """
    grouped = [[] for _ in range(n_bands)]
    for band in range(n_bands):
        rows = np.flatnonzero(bands == band)
        rule = greedy if greedy_rule else components
        grouped[band] = [rows[list(group)] for group in rule(close_pairs(xyz[rows], xyz[rows], match))]
    stars, blends = [], np.zeros((0, 3))
    for band in range(n_bands):
        repeated = [reject and len(set(visits[g])) < len(g) for g in grouped[band]]
        for group, bad in zip(grouped[band], repeated, strict=True):
            blends = np.concatenate([blends, xyz[group]]) if bad else blends
        fresh = []
        for group, bad in zip(grouped[band], repeated, strict=True):
            mean = xyz[group].sum(axis=0)
            mean /= np.linalg.norm(mean)
            others = np.concatenate([np.array([s[1] for s in stars]).reshape(-1, 3), blends])
            if not bad and not close_pairs(mean[None], others, match).any():
                fresh.append((band, mean))
        stars += fresh
    means = np.array([s[1] for s in stars]).reshape(-1, 3)
    crowded = close_pairs(means, means, isolation).sum(axis=1) > 1
    crowded |= close_pairs(means, blends, isolation).any(axis=1)
    stars = [star for star, bad in zip(stars, crowded, strict=True) if not bad]
    star_of = nearest(xyz, means[~crowded], match)
    result = []
    for k, (band, mean) in enumerate(stars):
        rows = np.flatnonzero(star_of == k)
        own = (bands[rows] == band).any()
        if own and not (reject and len(set(visits[rows])) < len(rows)):
            result.append((band, mean, rows))
    return result

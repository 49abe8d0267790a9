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

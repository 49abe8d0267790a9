"""Unique stars from the matrix of all distances: the obvious way, for small fields."""

import hpgeom
import numpy as np

from naive.isolated_stars import close_pairs, components, nearest


def mean_of(xyz):
    """Direction of the mean of unit vectors."""
    mean = xyz.sum(axis=0)
    return mean / np.linalg.norm(mean)


def compact(xyz, radius, least, halvings=6):
    """Groups of rows that lie within the radius of their mean, wide chains linked anew with half the radius."""
    groups = []

    def split(rows, link, left):
        for part in components(close_pairs(xyz[rows], xyz[rows], link)):
            group = rows[list(part)]
            wide = not close_pairs(mean_of(xyz[group])[None], xyz[group], radius).all()
            if wide and len(group) >= least and left:
                split(group, 0.5 * link, left - 1)
            elif len(group) >= least and not wide:
                groups.append(group)

    split(np.arange(len(xyz)), radius, halvings)
    return [mean_of(xyz[group]) for group in groups]


def founded(ra, dec, xyz, radius, least):
    """Means of the groups that rows found in their order: the reference's walk."""
    close = close_pairs(xyz, xyz, radius)
    counts, means = close.sum(axis=1), []
    if len(counts) == 0 or counts.max() == 1:
        return []
    for row in range(len(xyz)):
        if counts[row] >= least:
            group = np.flatnonzero(close[row])
            counts[group] = 0
            around_zero = np.where(ra[group] > np.pi, ra[group] - 2.0 * np.pi, ra[group])
            a, d = around_zero.mean(), dec[group].mean()
            means.append(np.array([np.cos(a) * np.cos(d), np.sin(a) * np.cos(d), np.sin(d)]))
    return means


def candidates(ra, dec, xyz, band, primary, *, radius, least, coarse_nside=None):
    """Unit vectors of candidates, band by band; by the reference's rule where a coarse nside is given."""
    everything = np.zeros(len(xyz), int)
    pixel = hpgeom.angle_to_pixel(coarse_nside, ra, dec, nest=False, degrees=False) if coarse_nside else None
    found = []
    for cell in np.unique(everything if pixel is None else pixel):
        here = everything == cell if pixel is None else pixel == cell
        stars = []
        for code in primary:
            rows = np.flatnonzero(here & (band == code))
            if coarse_nside:
                fresh = founded(ra[rows], dec[rows], xyz[rows], radius, least)
            else:
                fresh = compact(xyz[rows], radius, least)
            known = np.array(stars).reshape(-1, 3)
            stars += [mean for mean in fresh if not close_pairs(mean[None], known, radius).any()]
        found += stars
    return np.array(found).reshape(-1, 3)


def match(xyz, band, visit, stars, *, radius, isolation, least, required, max_duplicates, one_per_visit=True):
    """Stars kept, with their rows: list of (unit vector, sorted rows)."""
    star_of = nearest(xyz, stars, radius)
    crowded = close_pairs(stars, stars, isolation).sum(axis=1) > 1
    result = []
    for k in np.flatnonzero(~crowded):
        rows = np.flatnonzero(star_of == k)
        visits, seen = np.unique(visit[rows], return_counts=True)
        if one_per_visit:
            if len(visits) == 0 or (seen > 1).mean() > max_duplicates:
                continue
            squared = ((xyz - stars[k]) ** 2).sum(axis=1)
            rows = np.array([min(rows[visit[rows] == v], key=lambda row: squared[row]) for v in visits])
        if len(rows) and all((band[rows] == code).sum() >= least for code in required):
            result.append((stars[k], tuple(sorted(rows.tolist()))))
    return result

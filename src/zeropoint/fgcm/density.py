"""Fewer stars where there are too many: a random choice that depends on nothing but the place on the sky."""

from __future__ import annotations

import hpgeom
import numpy as np
import numpy.typing as npt

from zeropoint.association.grouping import Positions

__all__ = ["too_dense"]

#: HEALPix cells of 3.2 arcsec: stars hardly share one, and a star that further visits move a little stays in its own.
_CELL_NSIDE = 65536


def too_dense(positions: Positions, *, nside: int, max_per_pixel: int, seed: int) -> npt.NDArray[np.bool_]:
    """Return which stars to drop so that no pixel holds too many.

    Parameters
    ----------
    positions
        Positions of n stars.
    nside
        HEALPix nside (RING) of the pixels.
    max_per_pixel
        Most stars to keep in a pixel.
    seed
        Other seeds drop other stars.

    Returns
    -------
    bool, shape (n,)

    Notes
    -----
    In each pixel the stars of lowest rank are kept.  The rank is a hash of the seed and of the cell of 3.2 arcsec (nside
    65536, nested) in which the star lies; stars of one cell go by declination and right ascension.  So the choice depends
    neither on the order of the stars nor on any other pixel, and a star more or less in a pixel changes at most one other.
    """
    ra, dec = positions.ra, positions.dec
    pixels = hpgeom.angle_to_pixel(nside, ra, dec, nest=False, lonlat=True, degrees=False)
    drop = np.zeros(len(positions), np.bool_)
    _, pixel, counts = np.unique(pixels, return_inverse=True, return_counts=True)
    rows = np.flatnonzero(counts[pixel] > max_per_pixel)
    if len(rows) == 0:
        return drop
    cells = hpgeom.angle_to_pixel(_CELL_NSIDE, ra[rows], dec[rows], nest=True, lonlat=True, degrees=False)
    rank = _mixed(cells.astype(np.uint64) ^ _mixed(np.array([seed], np.int64).astype(np.uint64)))
    order = np.lexsort((ra[rows], dec[rows], rank, pixels[rows]))
    begin = np.flatnonzero(np.diff(pixels[rows][order], prepend=-1))
    place = np.arange(len(rows)) - np.repeat(begin, np.diff(np.append(begin, len(rows))))
    drop[rows[order[place >= max_per_pixel]]] = True
    return drop


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return a hash of each number: the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))

"""Compiled passes over a star list that put its observations in order and place them in the sky."""

from __future__ import annotations

from typing import Any

import numpy as np

from zeropoint.kernels._compile import kernel

__all__ = ["airmass_ends", "between_ends", "secants", "sort_stars"]


@kernel
def sort_stars(
    first: Any, begin: Any, indices: Any, visit: Any, detector: Any, visits: Any, bands: Any,
    n_band: Any, n_det: Any, star_first: Any, star_last: Any, row: Any, ec: Any, count: Any, found: Any,
) -> None:  # fmt: skip
    """Sort the observations of stars by band, exposure and detector; those of no exposure or band come last of their star.

    Parameters
    ----------
    first : int64, shape (n_star,)
        Entry of each star's first observation: of ``indices``, or of the table of observations where that is empty.
    begin : int64, shape (n_star + 1,)
        Where the observations of each star begin in what is filled.
    indices : int32, shape (n_entries,) or (0,)
        Rows of the table of observations.
    visit, detector : int64, int32; shape (n_rows,)
        Visit, and position of the detector, of each row of that table.
    visits : int64; bands : int32; shape (n_exp,)
        Visits of the exposures, ascending, and their bands, -1: none.
    n_band, n_det : int64
        Numbers of bands and detectors.
    star_first, star_last : int64
        Stars.
    row : int, ec : int32; shape (n,)
        Filled: row of the table, and exposure times number of detectors plus detector; -1 where there is no band, -2 where
        there is no exposure.
    count : int64, shape (n_star * n_band,)
        Filled: observations in each star and band.
    found : int64, shape (4,)
        Filled: observations without an exposure; those without a band; those that follow another of the same star,
        exposure and detector; 1 if a row is beyond the table, of which nothing else is filled then.
    """
    longest = np.int64(0)
    for s in range(star_first, star_last):
        longest = max(longest, begin[s + 1] - begin[s])
    key = np.empty(longest, np.int64)
    place = np.empty(longest, np.int32)
    rows = np.empty(longest, np.int64)
    n_exp = np.int64(len(visits))
    n_last = n_band * n_exp * n_det
    for s in range(star_first, star_last):
        n = begin[s + 1] - begin[s]
        for j in range(n):
            r = first[s] + j
            if len(indices) > 0:
                if r < 0 or r >= len(indices):
                    found[3] = 1
                    return
                r = np.int64(indices[r])
            if r < 0 or r >= len(visit):
                found[3] = 1
                return
            rows[j] = r
            wanted = visit[r]
            low, high = np.int64(0), n_exp
            while low < high:
                middle = (low + high) // 2
                if visits[middle] < wanted:
                    low = middle + 1
                else:
                    high = middle
            if low == n_exp or visits[low] != wanted:
                found[0] += 1
                place[j] = np.int32(-2)
                order = n_last
            elif bands[low] < 0:
                found[1] += 1
                place[j] = np.int32(-1)
                order = n_last
            else:
                at = low * n_det + detector[r]
                place[j] = np.int32(at)
                order = np.int64(bands[low]) * n_exp * n_det + at
                count[s * n_band + bands[low]] += 1
            # no two are the same, so any way of sorting gives the same
            key[j] = order * n + j
        sorted_keys = np.sort(key[:n])
        before = np.int64(-1)
        for j in range(n):
            order, source = sorted_keys[j] // n, sorted_keys[j] % n
            row[begin[s] + j] = rows[source]
            ec[begin[s] + j] = place[source]
            if order == before and order < n_last:
                found[2] += 1
            before = order


@kernel
def secants(
    start: Any, ec: Any, n_band: Any, n_det: Any, along: Any, across: Any, sidereal: Any, boresight: Any,
    least: Any, most: Any, first: Any, last: Any, secant: Any, outside: Any,
) -> None:  # fmt: skip
    """Fill the secants of the zenith distance, 1/cos z, of the observations of segments, within limits.

    Parameters
    ----------
    start : int64, shape (n_segment + 1,); ec : int32, shape (n_obs,)
        Observations.
    n_band, n_det : int64
        Numbers of bands and detectors.
    along : float64, shape (n_star,)
        What of cos z does not change with the hour angle.
    across : float64, shape (n_star, 2)
        What cosine and sine of the sidereal time are multiplied by in it.
    sidereal : float64, shape (n_exp, 2)
        These; not finite: unknown.
    boresight : float64, shape (n_exp,)
        Secants that observations of such exposures get.
    least, most : float64
        Limits.
    first, last : int64
        Segments.
    secant, outside : float32, bool; shape (n_obs,)
        Filled: the secant, and whether it was beyond the upper limit.
    """
    for s in range(first, last):
        star = s // n_band
        a, b, c = along[star], across[star, 0], across[star, 1]
        for i in range(start[s], start[s + 1]):
            e = ec[i] // n_det
            cosine = a + b * sidereal[e, 0] + c * sidereal[e, 1]
            if np.isnan(cosine):
                value = boresight[e]
            elif cosine > 0.0:
                value = 1.0 / max(cosine, 1e-6)
            else:
                value = np.inf
            outside[i] = value > most
            secant[i] = min(max(value, least), most)


@kernel
def airmass_ends(ec: Any, n_det: Any, secant: Any, low: Any, high: Any) -> None:
    """Widen ``low`` and ``high`` (float64, shape (n_exp,)) to the secants (float32) of each exposure's observations."""
    for i in range(len(ec)):
        e = ec[i] // n_det
        value = np.float64(secant[i])
        low[e] = min(low[e], value)
        high[e] = max(high[e], value)


@kernel
def between_ends(
    ec: Any, n_det: Any, secant: Any, low: Any, high: Any, first: Any, last: Any, t: Any
) -> None:
    """Fill ``t`` (float32) with the place of each secant between the ends of its exposure, 0 to 1."""
    for i in range(first, last):
        e = ec[i] // n_det
        t[i] = min(max((np.float64(secant[i]) - low[e]) / (high[e] - low[e]), 0.0), 1.0)

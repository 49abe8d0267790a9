"""A compare-exchange network that finds the median of 25 values."""

from __future__ import annotations

import numpy as np

__all__ = ["MEDIAN_OF_25", "median_network"]


def median_network(n: int) -> np.ndarray:
    """Return pairs ``(i, j)``, ``i < j``: exchange so that the smaller value is in ``i``; ends with the median.

    Batcher's odd-even merge sort on ``n`` wires, from which every exchange that cannot reach the middle wire
    is removed.

    Returns
    -------
    pairs : int64, shape (n_pairs, 2)
        Exchanges in order; afterwards wire ``n // 2`` holds the median of ``n`` (odd) values.

    References
    ----------
    Batcher 1968, AFIPS Spring Joint Computer Conference 32, 307.
    """
    pairs: list[tuple[int, int]] = []
    p = 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                near = range(j, j + min(k, n - j - k))
                pairs += [(i, i + k) for i in near if i // (2 * p) == (i + k) // (2 * p)]
            k //= 2
        p *= 2
    needed = {n // 2}
    kept = []
    for a, b in reversed(pairs):
        if a in needed or b in needed:
            needed |= {a, b}
            kept.append((a, b))
    return np.array(kept[::-1], np.int64)


MEDIAN_OF_25 = median_network(25)

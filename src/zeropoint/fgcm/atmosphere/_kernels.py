"""Compiled sum over absorbers."""

from __future__ import annotations

import numpy as np

from zeropoint.kernels._compile import kernel

__all__ = ["take_away"]


@kernel
def take_away(scale, weights, rows, slopes, place, log_transmission, derivatives):  # type: ignore[no-untyped-def]
    """Subtract the depth of an absorber from ``log_transmission`` (n x n_lambda), and its slopes from ``derivatives``.

    With e = weights @ rows (n x k, k x n_lambda), the depth is scale exp(e) and its slopes are exp(e) (slopes[q] @ rows); or,
    with a ``scale`` of no elements, e and slopes[q] @ rows. Slope q (q x n x k) goes to row ``place[q]`` (int64) of
    ``derivatives`` (all x n x n_lambda). The others are float64.
    """
    n, k = weights.shape
    n_lambda = rows.shape[1]
    is_exponential = scale.shape[0] > 0
    value = np.empty(n_lambda)
    slope = np.empty(n_lambda)
    for i in range(n):
        for m in range(n_lambda):
            value[m] = 0.0
        for j in range(k):
            weight = weights[i, j]
            # splines and tables have few that are not 0
            if weight != 0.0:
                for m in range(n_lambda):
                    value[m] += weight * rows[j, m]
        if is_exponential:
            for m in range(n_lambda):
                value[m] = np.exp(value[m])
                log_transmission[i, m] -= scale[i] * value[m]
        else:
            for m in range(n_lambda):
                log_transmission[i, m] -= value[m]
        for q in range(place.shape[0]):
            p = place[q]
            for m in range(n_lambda):
                slope[m] = 0.0
            for j in range(k):
                weight = slopes[q, i, j]
                if weight != 0.0:
                    for m in range(n_lambda):
                        slope[m] += weight * rows[j, m]
            if is_exponential:
                for m in range(n_lambda):
                    derivatives[p, i, m] -= value[m] * slope[m]
            else:
                for m in range(n_lambda):
                    derivatives[p, i, m] -= slope[m]

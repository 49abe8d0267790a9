"""Compiled sums over the observations of stars, between the nodes (exposures and superstar constants) of a band."""

from __future__ import annotations

import numpy as np

from zeropoint.kernels._compile import kernel

__all__ = ["add_curvature", "mean_response", "node_blocks", "sum_weights"]


@kernel
def node_blocks(  # type: ignore[no-untyped-def]
    start, ec, weight, color, reference, band, n_band, n_det, exposure_node, flat_node, longest, out
):
    """Add to ``out`` (float64, nodes x nodes x 3; lower triangle) the curvature of chi-square/2 in the magnitudes of nodes.

    With u the two nodes of an observation and q = 0, 1, 2: sum_i w_i c^q u u' - sum_s c^q (sum w u)(sum w u)' / W_s.
    ``start`` int64 (segments + 1), ``ec`` int32, ``weight`` float32 (observations); ``color`` and ``reference`` (weight of the
    star's reference magnitude) float64 (segments); ``exposure_node`` int32 (exposures), ``flat_node`` int32
    (exposures x detectors), -1: no node; the nodes of flats come after those of exposures.
    """
    node = np.empty(2 * longest, np.int64)
    total = np.empty(2 * longest, np.float64)
    place = np.full(out.shape[0], -1, np.int64)
    for s in range(band, start.shape[0] - 1, n_band):
        c = color[s]
        used = 0
        summed = reference[s]
        for i in range(start[s], start[s + 1]):
            w = np.float64(weight[i])
            if w <= 0.0:
                continue
            summed += w
            e = exposure_node[ec[i] // n_det]
            f = flat_node[ec[i]]
            if e >= 0:
                out[e, e, 0] += w
                out[e, e, 1] += w * c
                out[e, e, 2] += w * c * c
                if place[e] < 0:
                    place[e] = used
                    node[used] = e
                    total[used] = 0.0
                    used += 1
                total[place[e]] += w
            if f >= 0:
                out[f, f, 0] += w
                out[f, f, 1] += w * c
                out[f, f, 2] += w * c * c
                if e >= 0:
                    out[f, e, 0] += w
                    out[f, e, 1] += w * c
                    out[f, e, 2] += w * c * c
                if place[f] < 0:
                    place[f] = used
                    node[used] = f
                    total[used] = 0.0
                    used += 1
                total[place[f]] += w
        # ascending, so that each row is gone through from its left
        for a in range(used):
            n = node[a]
            t = total[a]
            place[n] = -1
            b = a
            while b > 0 and node[b - 1] > n:
                node[b] = node[b - 1]
                total[b] = total[b - 1]
                b -= 1
            node[b] = n
            total[b] = t
        for a in range(used):
            n = node[a]
            share = total[a] / summed
            for b in range(a + 1):
                m = node[b]
                k0 = share * total[b]
                k1 = k0 * c
                out[n, m, 0] -= k0
                out[n, m, 1] -= k1
                out[n, m, 2] -= k1 * c


@kernel
def mean_response(  # type: ignore[no-untyped-def]
    start,
    ec,
    weight,
    sample,
    color,
    reference,
    band,
    n_band,
    n_det,
    exposure_node,
    flat_node,
    row,
    longest,
    total,
    out,
):
    """Add to ``out`` (float64, rows x nodes x 2) the response of the stars' means, averaged over the sample of a row.

    For an observation i of the sample, ``row[ec]`` (int32, -1: none) gets ``sample_i c^q w_n / W_s`` for each node n of its
    star, q = 0, 1; ``total`` (float64, rows) gets ``sample_i``. The others are as in `node_blocks`.
    """
    node = np.empty(2 * longest, np.int64)
    summed = np.empty(2 * longest, np.float64)
    place = np.full(out.shape[1], -1, np.int64)
    for s in range(band, start.shape[0] - 1, n_band):
        used = 0
        whole = reference[s]
        for i in range(start[s], start[s + 1]):
            w = np.float64(weight[i])
            if w <= 0.0:
                continue
            whole += w
            for k in range(2):
                n = np.int64(exposure_node[ec[i] // n_det]) if k == 0 else np.int64(flat_node[ec[i]])
                if n < 0:
                    continue
                if place[n] < 0:
                    place[n] = used
                    node[used] = n
                    summed[used] = 0.0
                    used += 1
                summed[place[n]] += w
        for a in range(used):
            place[node[a]] = -1
        if used == 0:
            continue
        for i in range(start[s], start[s + 1]):
            weighted = np.float64(sample[i])
            r = row[ec[i]]
            if weighted <= 0.0 or r < 0:
                continue
            total[r] += weighted
            for a in range(used):
                share = weighted * summed[a] / whole
                out[r, node[a], 0] += share
                out[r, node[a], 1] += share * color[s]


@kernel
def sum_weights(start, ec, weight, t, mag, by_node, by_segment, counts):  # type: ignore[no-untyped-def]
    """Add up the weights of observations.

    ``start`` int64 (segments + 1), ``ec`` int32, ``weight``, ``t``, ``mag`` float32 (observations). Added to are ``by_node``
    float64 (exposures x detectors, 2): w, w t; ``by_segment`` float64 (segments): w; and ``counts`` int64 (4): observations
    with a weight, segments with one, weights that are negative or no numbers, and magnitudes that are none but count.
    """
    for s in range(start.shape[0] - 1):
        before = counts[0]
        total = 0.0
        for i in range(start[s], start[s + 1]):
            w = weight[i]
            if not (w >= 0.0 and w < np.inf):
                counts[2] += 1
            elif w > 0.0:
                counts[0] += 1
                if not np.isfinite(mag[i]):
                    counts[3] += 1
                by_node[ec[i], 0] += w
                by_node[ec[i], 1] += w * t[i]
                total += w
        by_segment[s] += total
        if counts[0] > before:
            counts[1] += 1


@kernel
def add_curvature(blocks, rows, columns, gray, chromatic, hessian):  # type: ignore[no-untyped-def]
    """Add to ``hessian`` (float64, parameters x parameters) the curvature in the parameters that nodes depend on.

    With k_q the curvature in the nodes' magnitudes (``blocks``, float64, 3 x nodes x nodes, symmetric), and g and h the
    derivatives of a node's A and I10: sum_ab g_a g_b' k_0 + (g_a h_b' + h_a g_b') k_1 + h_a h_b' k_2. ``rows`` int64 (nodes)
    are those of ``columns`` int64 (parameters, -1: none), ``gray`` and ``chromatic`` float64 (each rows x entries).
    """
    n, m = rows.shape[0], columns.shape[1]
    place = np.full(hessian.shape[0], -1, np.int64)
    touched = np.empty(hessian.shape[0], np.int64)
    n_touched = 0
    for a in range(n):
        for k in range(m):
            column = columns[rows[a], k]
            if column >= 0 and place[column] < 0:
                place[column] = n_touched
                touched[n_touched] = column
                n_touched += 1
    left = np.empty(n_touched)
    right = np.empty(n_touched)
    for b in range(n):
        for c in range(n_touched):
            left[c] = 0.0
            right[c] = 0.0
        for a in range(n):
            k0 = blocks[0, b, a]
            k1 = blocks[1, b, a]
            k2 = blocks[2, b, a]
            row = rows[a]
            for k in range(m):
                column = columns[row, k]
                if column >= 0:
                    c = place[column]
                    left[c] += gray[row, k] * k0 + chromatic[row, k] * k1
                    right[c] += gray[row, k] * k1 + chromatic[row, k] * k2
        row = rows[b]
        for k in range(m):
            column = columns[row, k]
            if column >= 0:
                g = gray[row, k]
                h = chromatic[row, k]
                for c in range(n_touched):
                    hessian[column, touched[c]] += g * left[c] + h * right[c]

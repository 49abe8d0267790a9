"""Kernels of the cosmic-ray search: test, scan, grouping, growth and replacement of pixels."""

from __future__ import annotations

import math

import numpy as np

from zeropoint.kernels._compile import helper, kernel

__all__ = ["grow_pass", "label_pixels", "predict_pixels", "scan_pixels"]

#: Directions (dx, dy) in the order of the thresholds: along y, along x, and the two diagonals.
_DX = np.array([0, 1, 1, 1])
_DY = np.array([1, 0, -1, 1])

#: Mean of the smallest of k standard normal variates, k = 1 .. 4.
_MEAN_OF_MINIMUM = np.array([0.0, -0.5641895835, -0.8462843753, -1.0293753730])


@helper
def _test(image, variance, y, x, background, min_sigma, noise_factor, thresholds):  # type: ignore[no-untyped-def]
    """Return ``(is_cosmic_ray, estimate)``: whether a pixel is sharper than the PSF allows.

    It must stand ``min_sigma`` of its noise above the mean of two opposite neighbors in some direction (or
    above ``-min_sigma`` counts if that is negative), and in some direction the neighbors must hold less than
    ``threshold`` times its value, with ``noise_factor`` sigma of allowance on both.  The estimate is the
    neighbors' mean in that direction.
    """
    v = float(image[y, x])
    if not (v >= 0.0):
        return False, v
    sigma = math.sqrt(variance[y, x])
    if min_sigma < 0.0:
        if v < -min_sigma:
            return False, v
    else:
        stands_out = False
        for k in range(4):
            dx, dy = _DX[k], _DY[k]
            mean = 0.5 * (float(image[y - dy, x - dx]) + float(image[y + dy, x + dx]))
            if v >= mean + min_sigma * sigma:
                stands_out = True
        if not stands_out:
            return False, v
    height = v - background - noise_factor * sigma
    for k in range(4):
        dx, dy = _DX[k], _DY[k]
        mean = 0.5 * (float(image[y - dy, x - dx]) + float(image[y + dy, x + dx]))
        mean_err = 0.5 * math.sqrt(float(variance[y - dy, x - dx]) + float(variance[y + dy, x + dx]))
        if thresholds[k] * height > mean - background + noise_factor * mean_err:
            return True, mean
    return False, v


@helper
def _star_excess(image, variance, y, x, background, ratios):  # type: ignore[no-untyped-def]
    """Return by how many sigma the neighbors lack the light that a star's pixel of this value would give them.

    ``ratios`` are the PSF's neighbors over its peak in the four directions.  The larger of two numbers: the
    best single direction (a track is sharp across only) and all four with optimal weights (a lone pixel).
    """
    height = float(image[y, x]) - background
    height_var = float(variance[y, x])
    best, lack_sum, weight_sum = 0.0, 0.0, 0.0
    for k in range(4):
        dx, dy, ratio = _DX[k], _DY[k], ratios[k]
        mean = 0.5 * (float(image[y - dy, x - dx]) + float(image[y + dy, x + dx])) - background
        mean_var = 0.25 * (float(variance[y - dy, x - dx]) + float(variance[y + dy, x + dx]))
        lack = ratio * height - mean
        best = max(best, lack / math.sqrt(mean_var + ratio * ratio * height_var))
        lack_sum += ratio * lack / mean_var
        weight_sum += ratio * ratio / mean_var
    return max(best, lack_sum / math.sqrt(weight_sum + weight_sum * weight_sum * height_var))


@helper
def _usable(mask, y, x, bad_bits, interpolated_bit):  # type: ignore[no-untyped-def]
    """Say that a pixel is not bad, nor any of its eight neighbors interpolated."""
    near = 0
    for j in range(y - 1, y + 2):
        for i in range(x - 1, x + 2):
            near |= mask[j, i]
    return (mask[y, x] & bad_bits) == 0 and (near & interpolated_bit) == 0


@kernel
def scan_pixels(  # type: ignore[no-untyped-def]
    work,
    variance,
    mask,
    bits,
    background,
    min_sigma,
    noise_factor,
    thresholds,
    ratios,
    min_star_sigma,
    xs,
    ys,
):
    """Find cosmic-ray pixels in raster order, replacing each at once so that the next sees a clean neighbor.

    Parameters
    ----------
    work : float32, shape (h, w)
        Image; changed.
    variance : float32, shape (h, w)
    mask : int32, shape (h, w)
    bits : int32, shape (2,)
        Bits that disqualify a pixel itself, and those that do so also through a neighbor.
    background, min_sigma, noise_factor : float
        See `_test`.
    thresholds, ratios : float64, shape (4,)
        Sharpness thresholds, and the PSF's own ratios, along y, x and the diagonals.
    min_star_sigma : float
        Least `_star_excess`.
    xs, ys : int32, shape (capacity,)
        Filled with the pixels found.

    Returns
    -------
    n : int
        Pixels found; ``capacity + 1`` if they did not all fit.
    """
    h, w = work.shape
    half = np.float32(0.5)
    square = np.float32(min_sigma * min_sigma * 0.9999)
    n = 0
    for y in range(1, h - 1):
        up, row, down = work[y - 1], work[y], work[y + 1]
        for x in range(1, w - 1):
            v = row[x]
            # the smallest of the four means decides cheaply for nearly all pixels
            vertical = min(up[x] + down[x], row[x - 1] + row[x + 1])
            diagonal = min(up[x + 1] + down[x - 1], up[x - 1] + down[x + 1])
            step = v - half * min(vertical, diagonal)
            if min_sigma >= 0.0 and not (v >= 0.0 and step >= 0.0 and step * step >= square * variance[y, x]):
                continue
            hit, estimate = _test(work, variance, y, x, background, min_sigma, noise_factor, thresholds)
            if (
                hit
                and _usable(mask, y, x, bits[0], bits[1])
                and _star_excess(work, variance, y, x, background, ratios) >= min_star_sigma
            ):
                if n == xs.size:
                    return n + 1
                xs[n], ys[n] = x, y
                row[x] = estimate
                n += 1
    return n


@kernel
def label_pixels(xs, ys):  # type: ignore[no-untyped-def]
    """Group pixels given in raster order into 8-connected components.

    Returns
    -------
    labels : int32, shape (n,)
        Component of each pixel, numbered in the order of their first pixels.
    n_labels : int
    """
    n = xs.size
    parent = np.arange(n)
    above = 0  # first pixel of the previous row that may still touch
    for i in range(n):
        if i > 0 and ys[i - 1] == ys[i] and xs[i - 1] == xs[i] - 1:
            parent[i] = i - 1
        while above < i and (ys[above] < ys[i] - 1 or (ys[above] == ys[i] - 1 and xs[above] < xs[i] - 1)):
            above += 1
        j = above
        while j < i and ys[j] == ys[i] - 1 and xs[j] <= xs[i] + 1:
            a, b = i, j
            while parent[a] != a:
                a = parent[a]
            while parent[b] != b:
                b = parent[b]
            parent[max(a, b)] = min(a, b)
            j += 1
    labels = np.empty(n, np.int32)
    n_labels = 0
    for i in range(n):
        root = i
        while parent[root] != root:
            root = parent[root]
        parent[i] = root
        if root == i:
            labels[i] = n_labels
            n_labels += 1
        else:
            labels[i] = labels[root]
    return labels, n_labels


@kernel
def grow_pass(  # type: ignore[no-untyped-def]
    work,
    variance,
    taken,
    background,
    min_sigma,
    thresholds,
    peaks,
    xs,
    ys,
    labels,
    new_xs,
    new_ys,
    new_labels,
):
    """Test the eight neighbors of every cosmic-ray pixel, at ``min_sigma`` and without noise allowance.

    A pixel brighter than ``peaks`` (float32, shape (n_labels,)) of the cosmic ray it would join is left alone: a
    star's core looks sharp beside a wing that was taken for a cosmic ray.
    Hits are replaced in ``work`` at once, marked in ``taken`` (uint8, shape (h, w)) and written to
    ``new_xs, new_ys, new_labels`` (int32, shape (8 n,)) with the label of the pixel they touch.  Two pixels
    at each border are left alone.  Returns the number of hits.
    """
    h, w = work.shape
    n = 0
    for i in range(xs.size):
        for y in range(max(ys[i] - 1, 2), min(ys[i] + 2, h - 2)):
            for x in range(max(xs[i] - 1, 2), min(xs[i] + 2, w - 2)):
                if taken[y, x] or work[y, x] > peaks[labels[i]]:
                    continue
                hit, estimate = _test(work, variance, y, x, background, min_sigma, 0.0, thresholds)
                if hit:
                    taken[y, x] = 1
                    work[y, x] = estimate
                    new_xs[n], new_ys[n], new_labels[n] = x, y, labels[i]
                    n += 1
    return n


@helper
def _distance_to_good(mask, taken, bad_bits, y, x, dy, dx, limit):  # type: ignore[no-untyped-def]
    """Return ``(distance, has_second)`` of the nearest good pixel in a direction; distance 0 if there is none."""
    h, w = mask.shape
    for d in range(1, limit + 1):
        j, i = y + d * dy, x + d * dx
        if j < 0 or j >= h or i < 0 or i >= w:
            return 0, 0
        if taken[j, i] == 0 and (mask[j, i] & bad_bits) == 0:
            j, i = j + dy, i + dx
            inside = j >= 0 and j < h and i >= 0 and i < w
            return d, 1 if inside and taken[j, i] == 0 and (mask[j, i] & bad_bits) == 0 else 0
    return 0, 0


@kernel
def predict_pixels(  # type: ignore[no-untyped-def]
    work, variance, mask, taken, bad_bits, weights, xs, ys, values, variances
):
    """Predict pixels from good ones along four lines by 1-d kriging.

    Of the directions with two good pixels on both sides the smallest prediction is taken, since a neighbor
    may be contaminated unnoticed, and corrected for the mean of the smallest of that many noisy values.
    Without such a direction the one with the narrowest gap predicts.

    Parameters
    ----------
    work, variance : float32, shape (h, w)
    mask : int32, shape (h, w)
    taken : uint8, shape (h, w)
        Pixels not to use, besides those with ``bad_bits`` in the mask.
    weights : float64, shape (2, r, r, 2, 2, 4)
        Kriging weights: [diagonal, gap before - 1, gap after - 1, second before, second after].
    xs, ys : int32, shape (n,)
        Pixels to predict.
    values, variances : float32, shape (n,)
        Filled: prediction and mean variance of the pixels used, NaN where nothing predicts.
    """
    limit = weights.shape[1]
    steps = np.empty(4, np.int64)
    for p in range(xs.size):
        y, x = ys[p], xs[p]
        best, best_var, narrowest = np.nan, np.nan, np.inf
        n_full, noise_sum = 0, 0.0
        for k in range(4):
            dx, dy = _DX[k], _DY[k]
            a, second_a = _distance_to_good(mask, taken, bad_bits, y, x, -dy, -dx, limit)
            b, second_b = _distance_to_good(mask, taken, bad_bits, y, x, dy, dx, limit)
            if a == 0 or b == 0:
                continue
            line = weights[1 if k > 1 else 0, a - 1, b - 1, second_a, second_b]
            value, noise, var, n_used = 0.0, 0.0, 0.0, 0
            steps[0], steps[1], steps[2], steps[3] = -a - second_a, -a, b, b + second_b
            for q in range(4):
                j, i = y + steps[q] * dy, x + steps[q] * dx
                if line[q] != 0.0:
                    value += line[q] * work[j, i]
                    noise += line[q] * line[q] * variance[j, i]
                    var += variance[j, i]
                    n_used += 1
            if not math.isfinite(value):
                continue
            gap = (a + b) * (math.sqrt(2.0) if k > 1 else 1.0)
            if a == 1 and b == 1 and second_a == 1 and second_b == 1:
                n_full += 1
                noise_sum += noise
                if n_full == 1 or value < best:
                    best, best_var = value, var / n_used
            elif n_full == 0 and gap < narrowest:
                best, best_var, narrowest = value, var / n_used, gap
        if n_full > 1:
            best -= _MEAN_OF_MINIMUM[n_full - 1] * math.sqrt(noise_sum / n_full)
        values[p], variances[p] = best, best_var

"""Obvious versions of the candidate masks."""

import numpy as np
from scipy.ndimage import label


def mask_other_peaks(mask, x, y, x0, y0, pixels, peaks, detected, ignore):
    """Mark each footprint pixel (list of (x, y) per star) nearer to another peak, in place."""
    for k in range(len(mask)):
        if len(peaks[k]) < 2:
            continue
        to_star = [(px - x[k]) ** 2 + (py - y[k]) ** 2 for px, py in peaks[k]]
        own = int(np.argmin(to_star))
        for xi, yi in pixels[k]:
            d = [(px - xi) ** 2 + (py - yi) ** 2 for px, py in peaks[k]]
            i, j = xi - x0[k], yi - y0[k]
            if min(d) < d[own] and 0 <= i < mask.shape[2] and 0 <= j < mask.shape[1]:
                mask[k, j, i] = (mask[k, j, i] | ignore) & ~detected


def mask_neighbors(mask, grow, detected, ignore):
    """Mark labelled detected regions without the middle pixel, grown by a circle, in place."""
    side = mask.shape[1]
    yy, xx = np.mgrid[:side, :side]
    for k in range(len(mask)):
        labels, n = label((mask[k] & detected) != 0, structure=np.ones((3, 3)))
        centre = labels[side // 2, side // 2]
        for value in range(1, n + 1):
            if value == centre:
                continue
            near = np.zeros((side, side), bool)
            for j, i in np.argwhere(labels == value):
                near |= (yy - j) ** 2 + (xx - i) ** 2 <= grow**2
            mask[k][near] = (mask[k][near] | ignore) & ~detected


def mask_faint_neighbors(mask, image, variance, threshold, detected, ignore):
    """Mark regions above threshold without the middle pixel, in place."""
    side = mask.shape[1]
    for k in range(len(mask)):
        above = (variance[k] > 0) & (image[k] > threshold * np.sqrt(np.maximum(variance[k], 0)))
        labels, _ = label(above, structure=np.ones((3, 3)))
        centre = labels[side // 2, side // 2]
        other = (labels > 0) & (labels != centre)
        mask[k][other] = (mask[k][other] | ignore) & ~detected

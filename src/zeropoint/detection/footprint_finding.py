"""Footprints and peaks of one image: find, search peaks again on a flattened image, grow and merge."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from zeropoint.datamodel.exposure import FloatImage
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.detection._kernels import refind_peaks
from zeropoint.kernels.dilate import dilate
from zeropoint.kernels.labels import find_runs, group_runs, join_runs, label_mask
from zeropoint.kernels.regions import find_regions, region_peaks
from zeropoint.kernels.spans import paint_spans

__all__ = ["Threshold", "find_footprints", "footprint_flags", "grow_footprints", "search_peaks_again"]


@dataclass(frozen=True)
class Threshold:
    """What counts as detected.

    Parameters
    ----------
    value
        Every pixel of a footprint reaches this multiple of the noise image.
    multiplier
        At least one pixel reaches ``value * multiplier``.
    positive
        Look for positive flux, else for negative flux.
    min_pixels
        Smallest area, pixels.
    """

    value: float
    multiplier: float = 1.0
    positive: bool = True
    min_pixels: int = 1

    @property
    def sign(self) -> np.float32:
        """+1 or -1."""
        return np.float32(1.0 if self.positive else -1.0)

    @property
    def levels(self) -> tuple[np.float32, np.float32]:
        """Threshold of every pixel, and of one."""
        return np.float32(self.value), np.float32(self.value * self.multiplier)


def _sorted_peaks(
    owner: np.ndarray, x: np.ndarray, y: np.ndarray, value: np.ndarray, sign: np.float32
) -> np.ndarray:
    """Return the order by owner, then strongest first, ties by x, then y."""
    return np.lexsort((y, x, -sign * value, owner))


def find_footprints(
    smoothed: FloatImage, noise: FloatImage, threshold: Threshold, *, border: int = 1
) -> FootprintSet:
    """Find 8-connected regions above a threshold, and their peaks.

    Parameters
    ----------
    smoothed, noise : float32, shape (h, w)
        Image and the noise that the threshold multiplies; NaN in either is never detected.
    threshold
        What counts as detected.
    border
        Local maxima closer than this to the image's border are no peaks, pixels.

    Returns
    -------
    footprints
        In the raster order of their first pixels; peaks strongest first, ties by x, then y.  Every local
        maximum of a footprint is a peak, however low: the multiplier chooses footprints, not peaks.  The
        peaks' significance is not set.
    """
    low, high = threshold.levels
    span_offsets, span_y, x0, x1 = find_regions(
        smoothed, noise, low, high, threshold.sign, threshold.min_pixels
    )
    offsets, x, y, value = region_peaks(smoothed, span_offsets, span_y, x0, x1, threshold.sign, border)
    order = _sorted_peaks(
        np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)), x, y, value, threshold.sign
    )
    return FootprintSet.build(span_offsets, span_y, x0, x1, offsets, x[order], y[order], value[order])


def search_peaks_again(
    footprints: FootprintSet,
    flattened: FloatImage,
    noise: FloatImage,
    threshold: Threshold,
    n_peaks_max_simple: int = 1,
) -> FootprintSet:
    """Return footprints whose peaks, where there are many, come from a locally flattened image.

    Footprints with more than ``n_peaks_max_simple`` peaks are searched within their boxes with the same
    threshold; peaks found inside the footprint replace the old ones; if there is none only the strongest old
    peak stays.
    """
    which = np.flatnonzero(footprints.n_peaks > n_peaks_max_simple)
    if not len(which):
        return footprints
    low, high = threshold.levels
    new_offsets, x, y, value = refind_peaks(
        flattened,
        noise,
        footprints.span_offsets,
        footprints.span_y,
        footprints.span_x0,
        footprints.span_x1,
        which,
        low,
        high,
        threshold.sign,
        threshold.min_pixels,
    )
    found = np.diff(new_offsets)
    owner_old = np.repeat(np.arange(len(footprints)), footprints.n_peaks)
    first = np.zeros(len(owner_old), np.bool_)
    first[footprints.peak_offsets[:-1][footprints.n_peaks > 0]] = True
    searched = np.zeros(len(footprints), np.bool_)
    searched[which] = True
    lost = np.zeros(len(footprints), np.bool_)
    lost[which[found == 0]] = True
    keep = ~searched[owner_old] | (lost[owner_old] & first)
    owner = np.concatenate([owner_old[keep], np.repeat(which, found)])
    x = np.concatenate([footprints.peak_x[keep], x])
    y = np.concatenate([footprints.peak_y[keep], y])
    value = np.concatenate([footprints.peak_value[keep], value])
    order = _sorted_peaks(owner, x, y, value, threshold.sign)
    return _with_peaks(footprints, owner[order], x[order], y[order], value[order])


def _with_peaks(
    footprints: FootprintSet, owner: np.ndarray, x: np.ndarray, y: np.ndarray, value: np.ndarray
) -> FootprintSet:
    """Return the footprints with other peaks, given sorted by owner."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(footprints)))])
    return replace(
        footprints,
        peak_offsets=offsets.astype(np.int64),
        peak_x=x.astype(np.int32),
        peak_y=y.astype(np.int32),
        peak_value=value.astype(np.float32),
        peak_significance=np.zeros(len(x), np.float32),
    )


def footprint_flags(footprints: FootprintSet, shape: tuple[int, int]) -> np.ndarray:
    """Return a boolean image that is True inside any footprint."""
    flags = np.zeros(shape, np.uint8)
    paint_spans(footprints.span_y, footprints.span_x0, footprints.span_x1, flags)
    return flags.view(np.bool_)


def grow_footprints(
    footprints: FootprintSet,
    shape: tuple[int, int],
    radius: int,
    *,
    positive: bool = True,
    isotropic: bool = True,
    combined: bool = True,
) -> FootprintSet:
    """Return footprints grown by a disc (or diamond), clipped to the image.

    Parameters
    ----------
    footprints
        Footprints to grow.
    shape
        (height, width) of the image.
    radius
        Growth, pixels.
    positive
        Whether larger or smaller values are the stronger ones when peaks are merged.
    isotropic
        Disc, else diamond.
    combined
        Merge footprints that overlap or touch: the new one has all their peaks, strongest first.  Else each
        grows alone and they may overlap.
    """
    if not len(footprints):
        return footprints
    if not combined:
        return _grow_each(footprints, shape, radius, isotropic)
    grown = dilate(footprint_flags(footprints, shape), radius, manhattan=not isotropic).view(np.uint8)
    row_offsets, x0, x1 = find_runs(grown)
    label, n = join_runs(row_offsets, x0, x1)
    spans = group_runs(row_offsets, x0, x1, label, np.arange(n), n)
    region = _region_of(footprints, row_offsets, x0, label)
    owner = np.repeat(region, footprints.n_peaks)
    order = _sorted_peaks(
        owner,
        footprints.peak_x,
        footprints.peak_y,
        footprints.peak_value,
        np.float32(1.0 if positive else -1.0),
    )
    return _with_peaks(
        FootprintSet.build(*spans),
        owner[order],
        footprints.peak_x[order],
        footprints.peak_y[order],
        footprints.peak_value[order],
    )


def _region_of(
    footprints: FootprintSet, row_offsets: np.ndarray, x0: np.ndarray, label: np.ndarray
) -> np.ndarray:
    """Return the region that holds the first pixel of each footprint."""
    first = footprints.span_offsets[:-1]
    y, x = footprints.span_y[first].astype(np.int64), footprints.span_x0[first].astype(np.int64)
    width = int(max(x.max(), x0.max())) + 1
    run_row = np.repeat(np.arange(len(row_offsets) - 1), np.diff(row_offsets))
    run = np.searchsorted(run_row * width + x0, y * width + x, side="right") - 1
    return label[run]


def _grow_each(
    footprints: FootprintSet, shape: tuple[int, int], radius: int, isotropic: bool
) -> FootprintSet:
    """Grow every footprint alone."""
    height, width = shape
    counts, parts = [], []
    for i, (left, bottom, right, top) in enumerate(footprints.boxes()):
        left, bottom = max(0, left - radius), max(0, bottom - radius)
        right, top = min(width - 1, right + radius), min(height - 1, top + radius)
        flags = np.zeros((top - bottom + 1, right - left + 1), np.uint8)
        y, x0, x1 = footprints.spans_of(i)
        paint_spans(y - np.int32(bottom), x0 - np.int32(left), x1 - np.int32(left), flags)
        _, y, x0, x1 = label_mask(dilate(flags, radius, manhattan=not isotropic))
        counts.append(len(y))
        parts.append((y + bottom, x0 + left, x1 + left))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    y, x0, x1 = (np.concatenate([part[k] for part in parts]) for k in range(3))
    grown = FootprintSet.build(offsets, y, x0, x1)
    owner = np.repeat(np.arange(len(footprints)), footprints.n_peaks)
    return _with_peaks(grown, owner, footprints.peak_x, footprints.peak_y, footprints.peak_value)

"""Footprints of many sources as flat arrays: runs of pixels, peaks, and pixel values of deblended children.

A *span* is a horizontal run of pixels ``(y, x0..x1)``, both ends inclusive; a *footprint* is an ordered set
of spans plus its peaks; a *heavy* footprint also holds one value per pixel in span order.
All footprints of a catalogue live in one `FootprintSet` in compressed-row form, so kernels can loop over
sources without Python objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["FootprintSet", "gather"]


def gather(offsets: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(index, new_offsets)`` that gather the chosen rows of a compressed-row array."""
    counts = (offsets[1:] - offsets[:-1])[rows]
    new_offsets = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(counts, out=new_offsets[1:])
    index = np.arange(new_offsets[-1]) + np.repeat(offsets[:-1][rows] - new_offsets[:-1], counts)
    return index, new_offsets


@dataclass(frozen=True)
class FootprintSet:
    """The footprints of ``n`` sources.

    Parameters
    ----------
    span_offsets : int64, shape (n + 1,)
        Footprint ``i`` owns spans ``span_offsets[i]:span_offsets[i+1]``, sorted by (y, x0).
    span_y, span_x0, span_x1 : int32
        Row, first and last column of each span (inclusive), in pixels of the image.
    peak_offsets : int64, shape (n + 1,)
        Footprint ``i`` owns these peaks, brightest first.
    peak_x, peak_y : int32
        Peak pixel.
    peak_value : float32
        Value of the smoothed image at the peak.
    peak_significance : float32
        Peak value over its standard deviation, positive also for negative detections.
    pixel_offsets : int64, shape (n + 1,)
        Heavy footprints own these pixel values (area many); others own none.
    pixels : float32
        Pixel values of heavy footprints in span order.
    """

    span_offsets: np.ndarray
    span_y: np.ndarray
    span_x0: np.ndarray
    span_x1: np.ndarray
    peak_offsets: np.ndarray
    peak_x: np.ndarray
    peak_y: np.ndarray
    peak_value: np.ndarray
    peak_significance: np.ndarray
    pixel_offsets: np.ndarray
    pixels: np.ndarray

    def __len__(self) -> int:
        return len(self.span_offsets) - 1

    @classmethod
    def empty(cls) -> FootprintSet:
        """Return a set of no footprints."""
        return cls.build(np.zeros(1, np.int64), *(np.zeros(0, np.int32),) * 3)

    @classmethod
    def build(
        cls,
        span_offsets: np.ndarray,
        span_y: np.ndarray,
        span_x0: np.ndarray,
        span_x1: np.ndarray,
        peak_offsets: np.ndarray | None = None,
        peak_x: np.ndarray | None = None,
        peak_y: np.ndarray | None = None,
        peak_value: np.ndarray | None = None,
        peak_significance: np.ndarray | None = None,
        pixel_offsets: np.ndarray | None = None,
        pixels: np.ndarray | None = None,
    ) -> FootprintSet:
        """Make a set with canonical dtypes; peaks and pixels default to none."""
        n = len(span_offsets) - 1
        n_peaks = 0 if peak_x is None else len(peak_x)

        def default(values: np.ndarray | None, dtype: type, length: int) -> np.ndarray:
            return np.zeros(length, dtype) if values is None else np.ascontiguousarray(values, dtype)

        return cls(
            np.ascontiguousarray(span_offsets, np.int64),
            np.ascontiguousarray(span_y, np.int32),
            np.ascontiguousarray(span_x0, np.int32),
            np.ascontiguousarray(span_x1, np.int32),
            default(peak_offsets, np.int64, n + 1),
            default(peak_x, np.int32, 0),
            default(peak_y, np.int32, 0),
            default(peak_value, np.float32, n_peaks),
            default(peak_significance, np.float32, n_peaks),
            default(pixel_offsets, np.int64, n + 1),
            default(pixels, np.float32, 0),
        )

    @property
    def n_peaks(self) -> np.ndarray:
        """Number of peaks of each footprint, int64, shape (n,)."""
        return np.diff(self.peak_offsets)

    @property
    def is_heavy(self) -> np.ndarray:
        """True for footprints that hold pixel values, shape (n,)."""
        return np.diff(self.pixel_offsets) > 0

    def areas(self) -> np.ndarray:
        """Return the number of pixels of each footprint, int64, shape (n,)."""
        lengths = (self.span_x1 - self.span_x0 + 1).astype(np.int64)
        total = np.concatenate([[0], np.cumsum(lengths)])
        return total[self.span_offsets[1:]] - total[self.span_offsets[:-1]]

    def boxes(self) -> np.ndarray:
        """Return inclusive boxes ``(x0, y0, x1, y1)``, int64, shape (n, 4); empty ones are (0, 0, -1, -1)."""
        result = np.tile(np.array([0, 0, -1, -1], np.int64), (len(self), 1))
        has = self.span_offsets[1:] > self.span_offsets[:-1]
        starts = self.span_offsets[:-1][has]
        if len(starts):
            result[has, 0] = np.minimum.reduceat(self.span_x0, starts)
            result[has, 1] = np.minimum.reduceat(self.span_y, starts)
            result[has, 2] = np.maximum.reduceat(self.span_x1, starts)
            result[has, 3] = np.maximum.reduceat(self.span_y, starts)
        return result

    def first_peaks(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the brightest peak's pixel ``(x, y)`` of each footprint; -1 where there is no peak."""
        x = np.full(len(self), -1, np.int64)
        y = np.full(len(self), -1, np.int64)
        has = self.n_peaks > 0
        first = self.peak_offsets[:-1][has]
        x[has], y[has] = self.peak_x[first], self.peak_y[first]
        return x, y

    def spans_of(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return ``(y, x0, x1)`` of one footprint's spans."""
        s = slice(self.span_offsets[i], self.span_offsets[i + 1])
        return self.span_y[s], self.span_x0[s], self.span_x1[s]

    def take(self, rows: np.ndarray) -> FootprintSet:
        """Return the chosen footprints, in that order."""
        rows = np.asarray(rows, np.int64)
        spans, span_offsets = gather(self.span_offsets, rows)
        peaks, peak_offsets = gather(self.peak_offsets, rows)
        pixels, pixel_offsets = gather(self.pixel_offsets, rows)
        return FootprintSet(
            span_offsets,
            self.span_y[spans],
            self.span_x0[spans],
            self.span_x1[spans],
            peak_offsets,
            self.peak_x[peaks],
            self.peak_y[peaks],
            self.peak_value[peaks],
            self.peak_significance[peaks],
            pixel_offsets,
            self.pixels[pixels],
        )

    @classmethod
    def concatenate(cls, parts: Sequence[FootprintSet]) -> FootprintSet:
        """Return the footprints of several sets one after another."""

        def joined(name: str) -> np.ndarray:
            return np.concatenate([getattr(part, name) for part in parts])

        def offsets(name: str) -> np.ndarray:
            counts = np.concatenate([np.diff(getattr(part, name)) for part in parts])
            return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])

        return cls(
            offsets("span_offsets"),
            joined("span_y"),
            joined("span_x0"),
            joined("span_x1"),
            offsets("peak_offsets"),
            joined("peak_x"),
            joined("peak_y"),
            joined("peak_value"),
            joined("peak_significance"),
            offsets("pixel_offsets"),
            joined("pixels"),
        )

    def paint(self, shape: tuple[int, int], rows: np.ndarray | None = None) -> np.ndarray:
        """Return a boolean image that is True inside any of the (chosen) footprints."""
        image = np.zeros(shape, np.bool_)
        which = range(len(self)) if rows is None else rows
        for i in which:
            for y, x0, x1 in zip(*self.spans_of(i)):
                image[y, x0 : x1 + 1] = True
        return image

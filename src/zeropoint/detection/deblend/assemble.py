"""From the kernels' buffers to footprints and column values."""

from __future__ import annotations

import numpy as np

from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.detection.deblend import _kernels as k
from zeropoint.detection.deblend.columns import COLUMNS
from zeropoint.detection.deblend.templates import BlockResult, Blocks

__all__ = ["assemble", "expand_ranges"]


def expand_ranges(starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices ``starts[i] ... starts[i] + counts[i] - 1`` one after another, and their offsets."""
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts), offsets


def assemble(
    footprints: FootprintSet,
    blocks: Blocks,
    results: list[tuple[slice, BlockResult]],
    columns: dict[str, np.ndarray],
    propagate_all: bool,
) -> tuple[FootprintSet, np.ndarray, dict[str, np.ndarray], FootprintSet]:
    """Collect children, and complete the parents' columns in place.

    Parameters
    ----------
    footprints
        Footprints of the catalogue.
    blocks
        Parents as given to the kernels.
    results
        Parents done, in order.
    columns
        Columns of the catalogue's rows; ``deblend_nChild`` and ``deblend_skipped`` are updated.
    propagate_all
        Make a child of zero flux of every peak that has none.

    Returns
    -------
    children, parent_rows, child_columns, parent_footprints
        As in `DeblendResult`.
    """
    parents = np.concatenate(
        [np.zeros(0, np.int64)] + [np.arange(len(blocks.rows))[part] for part, _ in results]
    )
    rows = blocks.rows[parents]
    parent_footprints = _union_footprints(footprints, rows, results)

    # the peaks that may become children: those used, or all of them
    n_used = blocks.table[parents, 3] - blocks.table[parents, 2]
    n_listed = footprints.n_peaks[rows] if propagate_all else n_used
    peak, listed_offsets = expand_ranges(footprints.peak_offsets[:-1][rows], n_listed)
    used, _ = expand_ranges(listed_offsets[:-1], n_used)
    rank = np.arange(len(peak)) - np.repeat(listed_offsets[:-1], n_listed)
    owner = np.repeat(rows, n_listed)

    where, spans, pixels = _join_buffers(results)
    place = np.zeros((len(peak), 4), np.int64)
    place[used] = where
    alive = place[:, 1] > place[:, 0]
    n_alive = np.bincount(np.repeat(np.arange(len(rows)), n_listed)[alive], minlength=len(rows))
    columns["deblend_skipped"][rows] |= n_alive < n_used
    columns["deblend_nChild"][rows] = n_listed if propagate_all else n_alive

    if propagate_all and not alive.all():
        empty = ~alive
        areas = parent_footprints.areas()[owner[empty]]
        place[empty, 0] = parent_footprints.span_offsets[owner[empty]] + len(spans)
        place[empty, 1] = parent_footprints.span_offsets[owner[empty] + 1] + len(spans)
        place[empty, 2] = len(pixels)
        place[empty, 3] = len(pixels) + areas
        own = (parent_footprints.span_y, parent_footprints.span_x0, parent_footprints.span_x1)
        spans = np.concatenate([spans, np.stack(own, axis=1)])
        pixels = np.concatenate([pixels, np.zeros(int(areas.max()), np.float32)])
    chosen = np.arange(len(peak)) if propagate_all else np.flatnonzero(alive)

    span_index, span_offsets = expand_ranges(place[chosen, 0], place[chosen, 1] - place[chosen, 0])
    pixel_index, pixel_offsets = expand_ranges(place[chosen, 2], place[chosen, 3] - place[chosen, 2])
    child_peak = peak[chosen]
    children = FootprintSet.build(
        span_offsets,
        spans[span_index, 0],
        spans[span_index, 1],
        spans[span_index, 2],
        peak_offsets=np.arange(len(chosen) + 1),
        peak_x=footprints.peak_x[child_peak],
        peak_y=footprints.peak_y[child_peak],
        peak_value=footprints.peak_value[child_peak],
        peak_significance=footprints.peak_significance[child_peak],
        pixel_offsets=pixel_offsets,
        pixels=pixels[pixel_index],
    )
    fitted = np.full(len(peak), -1, np.int64)
    fitted[used] = np.arange(len(used))
    child_columns = _child_columns(results, fitted[chosen], alive[chosen])
    child_columns["deblend_peak_center_x"][:] = children.peak_x
    child_columns["deblend_peak_center_y"][:] = children.peak_y
    child_columns["deblend_peakId"][:] = rank[chosen] + 1
    child_columns["deblend_nPeaks"][:] = 1
    child_columns["deblend_parentNPeaks"][:] = footprints.n_peaks[owner[chosen]]
    return children, owner[chosen], child_columns, parent_footprints


def _join_buffers(results: list[tuple[slice, BlockResult]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``where``, ``spans`` and ``pixels`` of all blocks as one set of buffers."""
    where = [np.zeros((0, 4), np.int64)]
    n_spans = n_pixels = 0
    for _, block in results:
        where.append(block.where + np.array([n_spans, n_spans, n_pixels, n_pixels]))
        n_spans += len(block.spans)
        n_pixels += len(block.pixels)
    spans = np.concatenate([np.zeros((0, 3), np.int32)] + [block.spans for _, block in results])
    pixels = np.concatenate([np.zeros(0, np.float32)] + [block.pixels for _, block in results])
    return np.concatenate(where), spans, pixels


def _child_columns(
    results: list[tuple[slice, BlockResult]], fitted: np.ndarray, alive: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the children's columns; ``fitted`` is each child's place among all fitted peaks, or -1."""
    columns = {spec.name: spec.empty(len(fitted)) for spec in COLUMNS}
    columns["deblend_skipped"][:] = ~alive
    if not alive.any():
        return columns
    source = fitted[alive]
    flags = np.concatenate([block.flags for _, block in results])[source]
    columns["deblend_rampedTemplate"][alive] = (flags & k.FLAG_RAMPED) != 0
    columns["deblend_patchedTemplate"][alive] = (flags & k.FLAG_PATCHED) != 0
    columns["deblend_hasStrayFlux"][alive] = (flags & k.FLAG_STRAY) != 0
    amplitude = np.concatenate([block.fits.amplitude for _, block in results])[source]
    is_psf = amplitude > 0
    columns["deblend_deblendedAsPsf"][alive] = is_psf
    columns["deblend_psf_instFlux"][alive] = np.where(is_psf, amplitude, np.nan)
    columns["deblend_psfCenter_x"][alive] = np.concatenate([block.fits.x for _, block in results])[source]
    columns["deblend_psfCenter_y"][alive] = np.concatenate([block.fits.y for _, block in results])[source]
    return columns


def _union_footprints(
    footprints: FootprintSet, rows: np.ndarray, results: list[tuple[slice, BlockResult]]
) -> FootprintSet:
    """Return the footprints with the runs of parents that have children replaced."""
    if len(rows) == 0:
        return footprints
    counts = np.concatenate([np.diff(block.union_offsets) for _, block in results])
    replaced = counts > 0
    rows, counts = rows[replaced], counts[replaced]
    if len(rows) == 0:
        return footprints
    spans = np.concatenate([block.union_spans for _, block in results])
    old = footprints.take(rows)
    new = FootprintSet.build(
        np.concatenate([[0], np.cumsum(counts)]),
        spans[:, 0],
        spans[:, 1],
        spans[:, 2],
        peak_offsets=old.peak_offsets,
        peak_x=old.peak_x,
        peak_y=old.peak_y,
        peak_value=old.peak_value,
        peak_significance=old.peak_significance,
    )
    order = np.arange(len(footprints))
    order[rows] = len(footprints) + np.arange(len(rows))
    return FootprintSet.concatenate([footprints, new]).take(order)

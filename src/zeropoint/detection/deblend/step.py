"""The deblending step: catalogue in, children out."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from zeropoint.datamodel.catalog import Schema, SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.datamodel.psf_model import PsfModel
from zeropoint.detection.deblend._kernels_spans import mark_mask, paint_image, parent_statistics
from zeropoint.detection.deblend.assemble import assemble, expand_ranges
from zeropoint.detection.deblend.columns import COLUMNS
from zeropoint.detection.deblend.config import SourceDeblendConfig
from zeropoint.detection.deblend.psf_fit import psf_fwhm
from zeropoint.detection.deblend.templates import BlockResult, Blocks, deblend_block
from zeropoint.errors import InvalidInputError

__all__ = ["DeblendResult", "SourceDeblend", "pixel_noise"]

_log = logging.getLogger(__name__)

#: Peaks whose PSF stamps are held in memory at once.
_PEAKS_PER_BLOCK = 1024
#: Pixels from which the noise is estimated.
_NOISE_SAMPLE = 1 << 18


@dataclass(frozen=True)
class DeblendResult:
    """Children of a catalogue, and what its rows have become.

    Parameters
    ----------
    children
        Heavy footprints with exactly one peak each, parents in catalogue order, brightest peak first.
    parent_rows : int64, shape (n_children,)
        Catalogue row of the parent of each child.
    child_columns
        Every ``deblend_*`` column for the children, each of shape (n_children,).
    parent_columns
        Every ``deblend_*`` column for the catalogue's rows, each of shape (n_rows,).
    parent_footprints
        The catalogue's footprints; those of deblended parents are the union of their children's (and of the
        old one, unless stray flux is trimmed).
    """

    children: FootprintSet
    parent_rows: np.ndarray
    child_columns: dict[str, np.ndarray]
    parent_columns: dict[str, np.ndarray]
    parent_footprints: FootprintSet


def pixel_noise(exposure: Exposure, planes: list[str]) -> float:
    """Return the square root of the median variance of pixels without ``planes``; NaN if there are none.

    Large images are sampled on a grid of odd step, at least 2**18 pixels less edge effects.
    """
    height, width = exposure.shape
    step = max(int(np.sqrt(height * width / _NOISE_SAMPLE)), 1)
    step -= 1 - step % 2
    variance = exposure.variance[::step, ::step]
    good = ((exposure.mask[::step, ::step] & np.int32(bitmask(planes))) == 0) & np.isfinite(variance)
    if not good.any():
        return float("nan")
    return float(np.sqrt(max(float(np.median(variance[good])), 0.0)))


class SourceDeblend:
    """Divides the pixels of blends among their peaks with one template a peak.

    Peaks that the PSF fits become point sources; the template of any other peak is its own image made
    symmetric about the peak, smoothed, and made to fall outwards.

    Parameters
    ----------
    config
        Settings.
    schema
        If given, the ``deblend_*`` columns are appended to it.

    References
    ----------
    The method is that of the SDSS ``photo`` pipeline (R. H. Lupton), as in SourceDeblendTask of the LSST
    Science Pipelines.
    """

    ConfigClass = SourceDeblendConfig

    def __init__(self, config: SourceDeblendConfig | None = None, *, schema: Schema | None = None) -> None:
        self.config = SourceDeblendConfig() if config is None else config
        if schema is not None:
            schema.add(*COLUMNS)

    def run(self, exposure: Exposure, catalog: SourceCatalog) -> DeblendResult:
        """Deblend a catalogue; sets ``notDeblendedMask`` in ``exposure.mask`` on skipped parents, in place.

        Parameters
        ----------
        exposure
            Background-subtracted image with variance, mask and PSF.
        catalog
            Rows with footprints and peaks, brightest peak first; not modified.

        Returns
        -------
        result
            Children and column values.

        Raises
        ------
        InvalidInputError
            If the exposure has no PSF, or the catalogue no footprints, or they leave the image.
        """
        psf, footprints = exposure.psf, catalog.footprints
        if psf is None:
            raise InvalidInputError("Deblending needs a PSF, but the exposure has none.")
        if footprints is None:
            raise InvalidInputError("Deblending needs footprints, but the catalogue has none.")
        _check_inside(footprints, exposure.shape)
        columns = {spec.name: spec.empty(len(footprints)) for spec in COLUMNS}
        blocks = self._prepare(exposure, psf, footprints, columns)
        results: list[tuple[slice, BlockResult]] = []
        for part in blocks.slices(_PEAKS_PER_BLOCK):
            results += self._deblend(exposure, psf, blocks, part, columns)
        children, parent_rows, child_columns, parent_footprints = assemble(
            footprints, blocks, results, columns, self.config.propagateAllPeaks
        )
        _log.debug("deblended %d parents into %d children", len(blocks.rows), len(children))
        return DeblendResult(children, parent_rows, child_columns, columns, parent_footprints)

    def _prepare(
        self, exposure: Exposure, psf: PsfModel, footprints: FootprintSet, columns: dict[str, np.ndarray]
    ) -> Blocks:
        """Choose the parents to deblend; flag and mask those that are skipped."""
        config = self.config
        spans = np.stack([footprints.span_y, footprints.span_x0, footprints.span_x1], axis=1)
        has_area = footprints.span_offsets[1:] > footprints.span_offsets[:-1]
        rows = np.flatnonzero((footprints.n_peaks > 1) & has_area)
        ranges = np.stack([footprints.span_offsets[:-1][rows], footprints.span_offsets[1:][rows]], axis=1)
        boxes = footprints.boxes()[rows]
        bits = np.array([bitmask([name]) for name in config.maskLimits], np.int32)
        limits = np.array(list(config.maskLimits.values()), np.float64)
        stats = np.empty((len(rows), 4 + len(bits)))
        parent_statistics(exposure.mask, spans, ranges, bits, stats)

        columns["deblend_nPeaks"][rows] = footprints.n_peaks[rows]
        columns["deblend_peak_center_x"][rows] = (boxes[:, 0] + boxes[:, 2]) // 2
        columns["deblend_peak_center_y"][rows] = (boxes[:, 1] + boxes[:, 3]) // 2
        big = self._too_big(stats, boxes)
        masked = ~big & (stats[:, 4:] > limits * stats[:, :1]).any(axis=1)
        limited = ~(big | masked) & self._beyond_ci_limits(footprints.n_peaks[rows], big | masked)
        columns["deblend_parentTooBig"][rows] = big
        columns["deblend_masked"][rows] = masked
        columns["deblend_skipped"][rows] = big | masked | limited
        if config.notDeblendedMask:
            mark_mask(
                exposure.mask, spans, ranges[big | masked], np.int32(bitmask([config.notDeblendedMask]))
            )

        keep = ~(big | masked | limited)
        fwhm = np.full(len(rows), np.nan)
        if keep.any():
            fwhm[keep] = self._widths(exposure, psf, stats[keep])
        failed = keep & ~((fwhm > 0) & np.isfinite(fwhm))
        columns["deblend_failed"][rows] = failed
        keep &= ~failed
        rows = rows[keep]
        n_peaks = footprints.n_peaks[rows]
        if config.maxNumberOfPeaks > 0:
            columns["deblend_tooManyPeaks"][rows] = n_peaks > config.maxNumberOfPeaks
            n_peaks = np.minimum(n_peaks, config.maxNumberOfPeaks)
        starts = footprints.peak_offsets[:-1][rows]
        index, offsets = expand_ranges(starts, n_peaks)
        taken = np.zeros(exposure.shape, np.uint8)
        if len(rows):
            paint_image(spans, taken)
        return Blocks(
            rows=rows,
            spans=spans,
            table=np.column_stack([ranges[keep], offsets[:-1], offsets[1:], boxes[keep]]),
            fwhm=fwhm[keep],
            peaks=np.stack([footprints.peak_x[index], footprints.peak_y[index]], axis=1),
            taken=taken,
            sigma=pixel_noise(exposure, list(config.maskPlanes)),
        )

    def _widths(self, exposure: Exposure, psf: PsfModel, stats: np.ndarray) -> np.ndarray:
        """Return the PSF's FWHM at the parents' centroids, NaN where the model fails."""
        try:
            return psf_fwhm(psf, exposure.shape, x=stats[:, 1], y=stats[:, 2])
        except Exception:
            if not self.config.catchFailures:
                raise
            _log.debug("the PSF has no width", exc_info=True)
            return np.full(len(stats), np.nan)

    def _too_big(self, stats: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Say which parents exceed the limits of area, size or axis ratio."""
        config = self.config
        big = np.zeros(len(stats), np.bool_)
        if config.maxFootprintArea > 0:
            big |= stats[:, 0] > config.maxFootprintArea
        if config.maxFootprintSize > 0:
            big |= (boxes[:, 2:] - boxes[:, :2] + 1).max(axis=1) > config.maxFootprintSize
        if config.minFootprintAxisRatio > 0:
            big |= stats[:, 3] < config.minFootprintAxisRatio
        return big

    def _beyond_ci_limits(self, n_peaks: np.ndarray, skipped: np.ndarray) -> np.ndarray:
        """Say which parents a quick test leaves alone."""
        config = self.config
        if not config.useCiLimits:
            return np.zeros(len(n_peaks), np.bool_)
        low, high = config.ciDeblendChildRange
        eligible = ~skipped & (n_peaks >= low) & (n_peaks <= high)
        return ~(eligible & (np.cumsum(eligible) <= config.ciNumParentsToDeblend))

    def _deblend(
        self, exposure: Exposure, psf: PsfModel, blocks: Blocks, part: slice, columns: dict[str, np.ndarray]
    ) -> list[tuple[slice, BlockResult]]:
        """Deblend some parents; if that fails, one after another, flagging those that fail."""
        try:
            return [(part, deblend_block(exposure, psf, blocks, part, self.config))]
        except Exception:
            if not self.config.catchFailures:
                raise
            if part.stop - part.start == 1:
                _log.debug("deblending row %d failed", blocks.rows[part.start], exc_info=True)
                columns["deblend_failed"][blocks.rows[part]] = True
                return []
        results = []
        for i in range(part.start, part.stop):
            results += self._deblend(exposure, psf, blocks, slice(i, i + 1), columns)
        return results


def _check_inside(footprints: FootprintSet, shape: tuple[int, int]) -> None:
    """Raise if a run of pixels leaves the image."""
    if len(footprints.span_y) == 0:
        return
    low = min(footprints.span_y.min(), footprints.span_x0.min())
    y, x = footprints.span_y.max(), footprints.span_x1.max()
    if low < 0 or y >= shape[0] or x >= shape[1]:
        raise InvalidInputError(
            f"Footprints reach pixel (x={x}, y={y}), minimum {low}; the image is {shape}."
        )

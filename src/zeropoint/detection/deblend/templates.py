"""Children of a block of parents: settings to option vectors, kernels called, results collected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.datamodel.psf_model import PsfModel
from zeropoint.detection.deblend import _kernels as k
from zeropoint.detection.deblend.config import SourceDeblendConfig
from zeropoint.detection.deblend.psf_fit import PointSourceFits, fit_peaks

__all__ = ["BlockResult", "Blocks", "deblend_block"]

_EDGE_MODES = {"clip": 0, "ramp": 1, "noclip": 2}
_STRAY_RULES = {"r-to-peak": 1, "r-to-footprint": 2, "nearest-footprint": 3}
_STRAY_TO_PSF = {"never": 0, "necessary": 1, "always": 2}


@dataclass(frozen=True)
class Blocks:
    """All parents to deblend, as kernels want them.

    Parameters
    ----------
    rows : int64, shape (n,)
        Catalogue row of each parent.
    spans : int32, shape (n_spans, 3)
        Runs ``(y, x0, x1)`` of the whole catalogue.
    table : int64, shape (n, 8)
        First and last run, first and last peak (one past, into ``peaks``), box x0, y0, x1, y1 (inclusive).
    fwhm : float64, shape (n,)
        PSF width, pixels.
    peaks : int32, shape (n_peaks, 2)
        Peak pixels (x, y) to use.
    taken : uint8, shape (height, width)
        1 on any footprint of the catalogue.
    sigma : float
        Noise of a pixel.
    """

    rows: np.ndarray
    spans: np.ndarray
    table: np.ndarray
    fwhm: np.ndarray
    peaks: np.ndarray
    taken: np.ndarray
    sigma: float

    def slices(self, n_peaks: int) -> list[slice]:
        """Return runs of parents with about ``n_peaks`` peaks each, at least one parent."""
        if len(self.rows) == 0:
            return []
        number = self.table[:, 2] // n_peaks
        starts = np.flatnonzero(np.diff(number, prepend=-1))
        return [slice(int(a), int(b)) for a, b in zip(starts, [*starts[1:], len(self.rows)])]


@dataclass(frozen=True)
class BlockResult:
    """Children of some parents.

    Parameters
    ----------
    fits
        PSF fits of all peaks.
    where : int64, shape (n_peaks, 4)
        Runs and pixels of each peak's child in ``spans`` and ``pixels``; no runs if it has none.
    flags : uint8, shape (n_peaks,)
        ``FLAG_*`` bits.
    spans, pixels : int32, shape (m, 3); float32, shape (k,)
        Runs and values.
    union_spans, union_offsets : int32, shape (u, 3); int64, shape (n_parents + 1,)
        New footprints of the parents; no runs for a parent without children.
    """

    fits: PointSourceFits
    where: np.ndarray
    flags: np.ndarray
    spans: np.ndarray
    pixels: np.ndarray
    union_spans: np.ndarray
    union_offsets: np.ndarray


def _options(config: SourceDeblendConfig, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the integer and the float option vector of `deblend_parents`."""
    options = np.zeros(7, np.int64)
    options[k.EDGE_MODE] = _EDGE_MODES[config.edgeHandling]
    options[k.MEDIAN] = config.medianSmoothTemplate
    options[k.WEIGHT] = config.weightTemplates
    options[k.REMOVE_DEGENERATE] = config.removeDegenerateTemplates
    if config.strayFluxRule == "trim":
        options[k.STRAY_RULE] = -1
    elif config.assignStrayFlux:
        options[k.STRAY_RULE] = _STRAY_RULES[config.strayFluxRule]
    options[k.STRAY_TO_PSF] = _STRAY_TO_PSF[config.strayFluxToPointSources]
    options[k.EDGE_BIT] = bitmask(["DETECTION_EDGE"])
    levels = np.zeros(3)
    levels[k.SIGMA] = sigma
    levels[k.CLIP_FRACTION] = config.clipStrayFluxFraction
    levels[k.MAX_DOT] = config.maxTempDotProd
    return options, levels


def deblend_block(
    exposure: Exposure, psf: PsfModel, blocks: Blocks, part: slice, config: SourceDeblendConfig
) -> BlockResult:
    """Deblend the parents ``part`` of ``blocks``: PSF fits, templates, division of the flux."""
    table = blocks.table[part].copy()
    first, last = table[0, 2], table[-1, 3]
    table[:, 2:4] -= first
    fwhm = np.ascontiguousarray(blocks.fwhm[part])
    peaks = np.ascontiguousarray(blocks.peaks[first:last])
    fits = fit_peaks(exposure, psf, blocks.spans, table, fwhm, peaks, config)
    options, levels = _options(config, blocks.sigma)
    where = np.zeros((len(peaks), 4), np.int64)
    flags = np.zeros(len(peaks), np.uint8)
    spans, pixels, union_spans, union_offsets = k.deblend_parents(
        exposure.image,
        exposure.mask,
        blocks.taken,
        blocks.spans,
        table,
        fwhm,
        np.concatenate([peaks.astype(np.int64), fits.middle], axis=1),
        fits.amplitude,
        fits.stamps,
        options,
        levels,
        where,
        flags,
    )
    return BlockResult(fits, where, flags, spans, pixels, union_spans, union_offsets)

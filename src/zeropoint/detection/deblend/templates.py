"""Children of a block of parents: settings to option vectors, kernels called, results collected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.datamodel.psf_model import PsfModel
from zeropoint.detection.deblend._kernels import CLIP, FLAG_STRAY, NOCLIP, RAMP, make_templates
from zeropoint.detection.deblend._kernels_apportion import (
    divide_flux,
    join_children,
    remove_degenerate,
    share_stray_flux,
    weight_templates,
)
from zeropoint.detection.deblend.config import SourceDeblendConfig
from zeropoint.detection.deblend.psf_fit import PointSourceFits, fit_peaks

__all__ = ["BlockResult", "Blocks", "deblend_block"]

_EDGE_MODES = {"clip": CLIP, "ramp": RAMP, "noclip": NOCLIP}
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


def odd_reach(fwhm: np.ndarray) -> np.ndarray:
    """Return the odd integer nearest to 1.5 FWHM: how far templates are continued at an edge, pixels."""
    return 2 * np.floor(0.75 * fwhm).astype(np.int64) + 1


def _windows(table: np.ndarray, reach: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return where children can lie, ``(x0, y0, h, w)``: the parents' boxes, widened within the image."""
    low = np.maximum(table[:, 4:6] - reach[:, None], 0)
    high = np.minimum(table[:, 6:8] + reach[:, None], [shape[1] - 1, shape[0] - 1])
    return np.column_stack([low, (high - low + 1)[:, ::-1]])


def deblend_block(
    exposure: Exposure, psf: PsfModel, blocks: Blocks, part: slice, config: SourceDeblendConfig
) -> BlockResult:
    """Deblend the parents ``part`` of ``blocks``: PSF fits, templates, division of the flux."""
    image = exposure.image
    table = blocks.table[part].copy()
    first, last = table[0, 2], table[-1, 3]
    table[:, 2:4] -= first
    fwhm = np.ascontiguousarray(blocks.fwhm[part])
    peaks = np.ascontiguousarray(blocks.peaks[first:last])
    fits = fit_peaks(exposure, psf, blocks.spans, table, fwhm, peaks, config)

    mode = _EDGE_MODES[config.edgeHandling]
    reach = odd_reach(fwhm) if mode == RAMP else np.zeros(len(table), np.int64)
    windows = _windows(table, reach, exposure.shape)
    places = np.concatenate([peaks.astype(np.int64), fits.middle], axis=1)
    options = np.array([mode, config.medianSmoothTemplate, bitmask(["DETECTION_EDGE"])], np.int64)
    where = np.zeros((len(peaks), 4), np.int64)
    flags = np.zeros(len(peaks), np.uint8)
    spans, n_spans, pixels, n_pixels = make_templates(
        image, exposure.mask, blocks.taken, blocks.spans, table, reach, places, fits.amplitude, fits.stamps,
        options, blocks.sigma, where, flags,
    )  # fmt: skip
    if config.weightTemplates:
        weight_templates(image, spans, pixels, where, table, windows)
    if config.removeDegenerateTemplates:
        limit = float(config.maxTempDotProd)
        remove_degenerate(spans, pixels, where, fits.amplitude, limit, table, windows)
    divide_flux(image, spans, pixels, where, table, windows)
    if config.assignStrayFlux and config.strayFluxRule != "trim":
        spans, n_spans, pixels, n_pixels = share_stray_flux(
            image, blocks.spans, table, windows, places, fits.amplitude, spans[:n_spans], pixels[:n_pixels], where,
            flags, _STRAY_RULES[config.strayFluxRule], _STRAY_TO_PSF[config.strayFluxToPointSources],
            float(config.clipStrayFluxFraction), np.uint8(FLAG_STRAY),
        )  # fmt: skip
    union_offsets = np.zeros(len(table) + 1, np.int64)
    union, n_union = join_children(
        spans, where, blocks.spans, table, windows, config.strayFluxRule != "trim", union_offsets
    )
    return BlockResult(fits, where, flags, spans[:n_spans], pixels[:n_pixels], union[:n_union], union_offsets)

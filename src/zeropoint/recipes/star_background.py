"""Measure the background again with the bright stars widely masked.

The first background is fitted before anything is detected, so it holds part of the stars' light.  Here it is
put back; a detection threshold is sought at which the stars, grown by 70 PSF widths, leave a small but
sufficient part of every amplifier as sky; the background is fitted there, and a constant is taken off after.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.background import BackgroundList
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.detection._kernels import count_boxes, find_regions, mark_bits, region_peaks
from zeropoint.detection.footprint_finding import footprint_flags
from zeropoint.detection.significance import SignificanceImage
from zeropoint.detection.source_detection import Ratio, SourceDetection, SourceDetectionConfig
from zeropoint.kernels.dilate import dilate
from zeropoint.kernels.labels import find_runs, join_runs
from zeropoint.pixels.background import SubtractBackground, SubtractBackgroundConfig

__all__ = ["StarBackgroundResult", "remeasure_star_background"]

_LOG = logging.getLogger(__name__)

_DETECTED = ("DETECTED", "DETECTED_NEGATIVE")
_NOT_GOOD = ("BAD", "DETECTION_EDGE", "NO_DATA")
#: Limits of the fraction of good pixels that may be masked.
_MIN_FRACTION, _MAX_FRACTION = 0.02, 0.93
_MAX_TRIALS = 40
_GROWTH_SIGMA = 70.0
#: Most footprints that are ever asked for.
_MAX_FOOTPRINTS = 200
#: An amplifier masked less than this counts as empty; two empty ones are allowed.
_EMPTY_FRACTION, _MAX_EMPTY = 0.002, 2
#: Tiles per axis where the detector has no amplifiers.
_TILES = 4

BoolImage = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class StarBackgroundResult:
    """The background measured between the stars.

    Parameters
    ----------
    background
        New list: the fitted surface, then constants.
    adaptive_threshold_value
        Threshold (standard deviations, sky included) that was settled on; NaN if none left enough sky and the
        stars of the PSF phase were masked instead.
    n_iterations
        Thresholds tried.
    masked_fraction
        Fraction of the good pixels that the fit left out.
    pedestal
        Sum of the constants, counts.
    """

    background: BackgroundList
    adaptive_threshold_value: float
    n_iterations: int
    masked_fraction: float
    pedestal: float


@dataclass
class _Trial:
    """One threshold: what it finds; the number of peaks is counted only if it matters."""

    significance: SignificanceImage
    threshold: float
    growth: int
    spans: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] = field(init=False)
    grown: BoolImage = field(init=False)
    n_footprints: int = field(init=False)

    def __post_init__(self) -> None:
        s, level = self.significance, np.float32(self.threshold)
        self.spans = find_regions(s.smoothed, s.noise, level, level, np.float32(1.0), 1)
        found = FootprintSet.build(*self.spans)
        self.grown = footprint_flags(found, s.smoothed.shape)
        self.n_footprints = 0
        if len(found):
            self.grown = dilate(self.grown, self.growth)
            self.n_footprints = int(join_runs(*find_runs(self.grown.view(np.uint8)))[1])

    def surplus(self, fewest: int, peak_fraction: float) -> int:
        """Return by how many footprints there are more than ``clip(peak_fraction * peaks, fewest, 200)``.

        Peaks are counted only where they decide; elsewhere only the sign is right.
        """
        if not fewest <= self.n_footprints <= _MAX_FOOTPRINTS:
            return self.n_footprints - fewest
        peaks = region_peaks(self.significance.smoothed, *self.spans, np.float32(1.0), self.significance.border)
        return self.n_footprints - min(_MAX_FOOTPRINTS, max(fewest, int(peak_fraction * len(peaks[1]))))


@dataclass(frozen=True)
class _Coverage:
    """Which pixels count, and in which boxes they are counted."""

    good: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.int64]

    @classmethod
    def of(cls, exposure: Exposure) -> _Coverage:
        good = np.empty(exposure.shape, np.uint8)
        mark_bits(exposure.mask, np.int32(bitmask(_NOT_GOOD)), good)
        np.equal(good, 0, out=good.view(np.bool_))
        return cls(good, _amplifier_boxes(exposure))

    def fractions(self, flags: BoolImage) -> tuple[float, npt.NDArray[np.float64]]:
        """Return the masked fraction of the image and of each amplifier (0 where nothing is good)."""
        height, width = self.good.shape
        boxes = np.concatenate([[[0, 0, width - 1, height - 1]], self.boxes])
        counts = np.empty((len(boxes), 2), np.int64)
        count_boxes(flags.view(np.uint8), self.good, boxes, counts)
        result = counts[:, 0] / np.maximum(counts[:, 1], 1)
        return float(result[0]), result[1:]


def _amplifier_boxes(exposure: Exposure) -> npt.NDArray[np.int64]:
    """Return the boxes of the amplifiers inside the image, or a grid of tiles where there is one at most."""
    height, width = exposure.shape
    boxes = [amplifier.box for amplifier in exposure.detector.amplifiers]
    inside = [b for b in boxes if b[0] >= 0 and b[1] >= 0 and b[2] < width and b[3] < height]
    if len(inside) > 1:
        return np.array(inside, np.int64)
    n_x, n_y = min(_TILES, width), min(_TILES, height)
    x, y = np.arange(n_x + 1) * width // n_x, np.arange(n_y + 1) * height // n_y
    tiles = [(x[i], y[j], x[i + 1] - 1, y[j + 1] - 1) for j in range(n_y) for i in range(n_x)]
    return np.array(tiles, np.int64)


def _check_amplifiers(total: float, fractions: npt.NDArray[np.float64]) -> tuple[int, bool]:
    """Return the number of amplifiers that are masked too much (at most 3), and whether few are empty.

    The maximum so far is compared, not each amplifier's own fraction, so that every amplifier after the first
    overfull one counts.
    """
    limit = min(0.998, max(0.8, 3.0 * total))
    n_hot, n_empty, largest = 0, 0, 0.0
    for fraction in fractions:
        if fraction < _EMPTY_FRACTION:
            n_empty += 1
            if n_empty > _MAX_EMPTY:
                return n_hot, False
        largest = max(largest, float(fraction))
        if largest > limit:
            n_hot += 1
            if n_hot > 2:
                break
    return n_hot, True


def remeasure_star_background(
    exposure: Exposure,
    background: BackgroundList,
    star_background: SubtractBackground,
    *,
    min_footprints: int = 3,
    peak_fraction: float = 0.01,
    background_to_photometric_ratio: Ratio | None = None,
) -> StarBackgroundResult:
    """Replace the background of ``exposure.image``, in place, by one fitted between widely masked stars.

    Parameters
    ----------
    exposure
        Background-subtracted, with a PSF and the detected planes of the PSF phase. Its image changes; its
        detected planes are clear afterwards.
    background
        What was subtracted so far; not modified, void afterwards.
    star_background
        Fits the new surface.
    min_footprints
        Fewest footprints that a threshold must find (``star_background_min_footprints``).
    peak_fraction
        Fewest footprints as a fraction of the peaks (``star_background_peak_fraction``).
    background_to_photometric_ratio
        For ``star_background``, if its configuration wants it.

    Raises
    ------
    PsfGenerationError
        If the PSF has no usable size.
    TooManyMaskedPixelsError
        If no pixel is left.
    """
    level = 0.0
    if len(background):
        model = background.image()
        exposure.image += model
        level = float(np.median(model))
        del model
    coverage = _Coverage.of(exposure)
    stars = _dilated_star_masks(exposure, coverage)
    threshold, masked, fraction, n_trials = _search_threshold(
        exposure, coverage, stars[0] | stars[1], level, min_footprints, peak_fraction
    )
    exposure.clear_mask(*_DETECTED)
    if fraction > _MAX_FRACTION:
        _LOG.warning("No threshold leaves enough sky; only the stars of the PSF phase are masked.")
        threshold = math.nan
        fraction = coverage.fractions(stars[0] | stars[1])[0]
        exposure.set_mask(stars[0], "DETECTED")
    else:
        exposure.set_mask(masked | stars[0], "DETECTED")
    exposure.set_mask(stars[1], "DETECTED_NEGATIVE")
    new = star_background.run(
        exposure,
        BackgroundList(),
        background_to_photometric_ratio=background_to_photometric_ratio,
        stats=False,
    ).background
    if fraction < 0.5:
        for plane in _DETECTED:
            exposure.set_mask(dilate(exposure.masked(plane), 2), plane)
    pedestal = _subtract_pedestal(exposure, new)
    exposure.clear_mask(*_DETECTED)
    _LOG.debug("Star background: threshold %g, %g of the sky masked.", threshold, fraction)
    return StarBackgroundResult(new, threshold, n_trials, fraction, pedestal)


def _dilated_star_masks(exposure: Exposure, coverage: _Coverage) -> tuple[BoolImage, BoolImage]:
    """Return both detected planes grown by as many pixels, ten at most, as leave enough sky."""
    planes = [exposure.masked(plane) for plane in _DETECTED]
    positive, negative = planes
    for radius in range(10, 0, -1):
        positive, negative = (dilate(plane, radius) for plane in planes)
        if coverage.fractions(positive | negative)[0] < _MAX_FRACTION:
            break
    return positive, negative


def _search_threshold(
    exposure: Exposure,
    coverage: _Coverage,
    stars: BoolImage,
    level: float,
    min_footprints: int,
    peak_fraction: float,
) -> tuple[float, BoolImage, float, int]:
    """Return ``(threshold, mask, masked fraction, number of trials)``; the mask holds ``stars`` too.

    The rules that move the threshold are those of CalibrateImageTask of the LSST Science Pipelines (2026),
    later ones overriding earlier ones.
    """
    config = SourceDetectionConfig()
    config.doTempLocalBackground = False
    significance = SourceDetection(config).prepare(exposure)
    growth = int(_GROWTH_SIGMA * significance.sigma + 0.5)
    n_boxes = len(coverage.boxes)
    threshold = max(2.0, 0.2 * level)
    fraction, n_footprints, n_hot, surplus = 1.0, 10**12, -99, 10**12
    masked, n_empty_trials, n_trials = stars, 0, 0
    while n_trials < _MAX_TRIALS:
        n_trials += 1
        last = threshold
        if n_footprints == 0:
            n_empty_trials += 1
            threshold = last * max(0.5, 1.0 - 0.1 * n_empty_trials)
        else:
            n_empty_trials = 0
            threshold = _next_threshold(last, fraction, n_footprints, surplus, n_hot)
        trial = _Trial(significance, threshold, growth)
        surplus = trial.surplus(min_footprints, peak_fraction)
        masked = trial.grown | stars
        fraction, fractions = coverage.fractions(masked)
        if n_footprints == 0:
            if surplus >= 0:
                break
            continue
        n_footprints = trial.n_footprints
        n_hot, few_empty = _check_amplifiers(fraction, fractions)
        if not few_empty:
            threshold = 0.95 * last
        acceptable = _MIN_FRACTION < fraction < _MAX_FRACTION and n_hot < int(0.75 * n_boxes)
        if acceptable and few_empty and surplus >= 0:
            if n_hot < max(1, int(0.15 * n_boxes)) or fraction < 0.85 * _MAX_FRACTION:
                break
            threshold = 1.05 * last
    return threshold, masked, fraction, n_trials


def _next_threshold(last: float, fraction: float, n_footprints: int, surplus: int, n_hot: int) -> float:
    """Return the threshold to try after ``last``."""
    threshold = last
    if fraction > _MAX_FRACTION or surplus <= 0:
        threshold = 1.07 * last
        if surplus < 0 and fraction > 0.9 * _MAX_FRACTION:
            threshold = (1.4 if n_footprints == 1 else 1.2) * last
    if n_hot > 1:
        threshold = 1.1 * last
    if fraction < _MIN_FRACTION:
        threshold = 0.8 * last
    return threshold


def _subtract_pedestal(exposure: Exposure, background: BackgroundList) -> float:
    """Subtract constants, in place, from ever larger bins until they settle; return their sum."""
    height, width = exposure.shape
    config = SubtractBackgroundConfig()
    config.statisticsProperty = "MEDIAN"
    config.approxOrderX = 0
    config.ignoredPixelMask = [*config.ignoredPixelMask, "SAT", "SUSPECT", "SPIKE"]
    config.binSize = min(32, math.ceil(max(width, height) / 4))
    total, change = 0.0, math.inf
    while True:
        component = SubtractBackground(config).run(exposure, background, stats=False).component
        assert component.polynomial is not None  # useApprox
        step = float(component.polynomial(x=np.zeros(1), y=np.zeros(1))[0])
        change = abs(step)
        relative = change / abs(total) if total != 0.0 else 1.0
        total += step
        if relative < 0.05 or change < 0.5:
            return total
        if config.binSize >= max(width, height):
            _LOG.warning("The constant background did not settle; its last step was %g counts.", step)
            return total
        config.binSize *= 2

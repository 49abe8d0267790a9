"""The threshold at which widely grown stars cover most of an image, but not all of any amplifier.

The rules are those of CalibrateImageTask of the LSST Science Pipelines (2026).  They are followed on blocks
of 4 x 4 pixels, because they only ask what fraction is covered, by discs of a hundred pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.detection.significance import SignificanceImage
from zeropoint.kernels.dilate import dilate
from zeropoint.kernels.labels import find_runs, join_runs
from zeropoint.kernels.regions import block_maxima, count_boxes, find_regions, region_peaks

__all__ = ["MAX_FRACTION", "Coverage", "ThresholdSearch", "search_threshold"]

BoolImage = npt.NDArray[np.bool_]

#: Limits of the fraction of good pixels that may be masked.
MIN_FRACTION, MAX_FRACTION = 0.02, 0.93
#: Side of the blocks, pixels.
BLOCK = 4
_NOT_GOOD = ("BAD", "DETECTION_EDGE", "NO_DATA")
_MAX_TRIALS = 40
#: Most footprints that are ever asked for.
_MAX_FOOTPRINTS = 200
#: An amplifier masked less than this counts as empty; two empty ones are allowed.
_EMPTY_FRACTION, _MAX_EMPTY = 0.002, 2
#: Tiles per axis where the detector has no amplifiers.
_TILES = 4


@dataclass(frozen=True)
class ThresholdSearch:
    """What was settled on.

    Parameters
    ----------
    threshold
        Standard deviations of the smoothed image, sky included.
    fraction
        Fraction of the good pixels that is covered (counted on blocks).
    n_trials
        Thresholds tried.
    """

    threshold: float
    fraction: float
    n_trials: int


@dataclass(frozen=True)
class Coverage:
    """Which pixels count (sampled once a block), and the boxes, in blocks, in which they are counted."""

    good: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.int64]

    @classmethod
    def of(cls, exposure: Exposure) -> Coverage:
        """Sample an exposure."""
        good = (exposure.mask[::BLOCK, ::BLOCK] & np.int32(bitmask(_NOT_GOOD))) == 0
        return cls(good.view(np.uint8), _amplifier_boxes(exposure) // BLOCK)

    def fractions(self, flags: BoolImage) -> tuple[float, npt.NDArray[np.float64]]:
        """Return the flagged fraction of the image and of each amplifier (0 where nothing is good).

        Parameters
        ----------
        flags : bool
            One value a block.
        """
        height, width = self.good.shape
        boxes = np.concatenate([[[0, 0, width - 1, height - 1]], self.boxes])
        counts = np.empty((len(boxes), 2), np.int64)
        count_boxes(np.ascontiguousarray(flags).view(np.uint8), self.good, boxes, counts)
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


@dataclass
class _Trial:
    """One threshold: what it covers, in blocks; peaks are counted only if they matter."""

    significance: SignificanceImage
    maxima: npt.NDArray[np.float32]
    threshold: float
    growth: int
    grown: BoolImage = field(init=False)
    n_footprints: int = field(init=False)

    def __post_init__(self) -> None:
        self.grown = dilate(self.maxima >= np.float32(self.threshold), round(self.growth / BLOCK))
        self.n_footprints = int(join_runs(*find_runs(self.grown.view(np.uint8)))[1])

    def surplus(self, fewest: int, peak_fraction: float) -> int:
        """Return by how many footprints there are more than ``clip(peak_fraction * peaks, fewest, 200)``.

        Peaks are counted only where they decide; elsewhere only the sign is right.
        """
        if not fewest <= self.n_footprints <= _MAX_FOOTPRINTS:
            return self.n_footprints - fewest
        s, level = self.significance, np.float32(self.threshold)
        spans = find_regions(s.smoothed, s.noise, level, level, np.float32(1.0), 1)
        peaks = region_peaks(s.smoothed, *spans, np.float32(1.0), s.border)
        return self.n_footprints - min(_MAX_FOOTPRINTS, max(fewest, int(peak_fraction * len(peaks[1]))))


def _check_amplifiers(total: float, fractions: npt.NDArray[np.float64]) -> tuple[int, bool]:
    """Return the number of amplifiers that are covered too much (at most 3), and whether few are empty.

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


def _next_threshold(last: float, fraction: float, n_footprints: int, surplus: int, n_hot: int) -> float:
    """Return the threshold to try after ``last``; later rules override earlier ones."""
    threshold = last
    if fraction > MAX_FRACTION or surplus <= 0:
        threshold = 1.07 * last
        if surplus < 0 and fraction > 0.9 * MAX_FRACTION:
            threshold = (1.4 if n_footprints == 1 else 1.2) * last
    if n_hot > 1:
        threshold = 1.1 * last
    if fraction < MIN_FRACTION:
        threshold = 0.8 * last
    return threshold


def search_threshold(
    significance: SignificanceImage,
    coverage: Coverage,
    stars: BoolImage,
    *,
    start: float,
    growth: int,
    min_footprints: int,
    peak_fraction: float,
) -> ThresholdSearch:
    """Search the threshold whose footprints, grown, leave some sky but not too much.

    Parameters
    ----------
    significance
        Of the image with its sky.
    coverage
        What counts.
    stars : bool
        Covered in any case; one value a block.
    start
        Threshold to start from.
    growth
        Growth of the footprints, pixels.
    min_footprints, peak_fraction
        Fewest footprints, absolutely and as a fraction of the peaks.
    """
    height, width = significance.smoothed.shape
    maxima = np.empty((-(-height // BLOCK), -(-width // BLOCK)), np.float32)
    block_maxima(significance.smoothed, significance.noise, BLOCK, maxima)
    n_boxes = len(coverage.boxes)
    threshold = tried = start
    fraction, n_footprints, n_hot, surplus = 1.0, 10**12, -99, 10**12
    n_trials, n_empty_trials = 0, 0
    while n_trials < _MAX_TRIALS:
        n_trials += 1
        if n_footprints == 0:
            n_empty_trials += 1
            tried = threshold * max(0.5, 1.0 - 0.1 * n_empty_trials)
        else:
            n_empty_trials = 0
            tried = _next_threshold(threshold, fraction, n_footprints, surplus, n_hot)
        last, threshold = threshold, tried
        trial = _Trial(significance, maxima, tried, growth)
        surplus = trial.surplus(min_footprints, peak_fraction)
        fraction, fractions = coverage.fractions(trial.grown | stars)
        if n_footprints == 0:
            if surplus >= 0:
                break
            continue
        n_footprints = trial.n_footprints
        n_hot, few_empty = _check_amplifiers(fraction, fractions)
        if not few_empty:
            threshold = 0.95 * last
        acceptable = MIN_FRACTION < fraction < MAX_FRACTION and n_hot < int(0.75 * n_boxes)
        if acceptable and few_empty and surplus >= 0:
            if n_hot < max(1, int(0.15 * n_boxes)) or fraction < 0.85 * MAX_FRACTION:
                break
            threshold = 1.05 * last
    return ThresholdSearch(tried, fraction, n_trials)

"""Measure the background again with the stars masked.

The first background is fitted before anything is detected, so it holds part of the stars' light.  Here it is
put back; a detection threshold is sought at which the stars, grown by 70 PSF widths, leave a small but
sufficient part of every amplifier as sky; fainter sources that lie in it are masked too; the background is
fitted there, and a constant is taken off after.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.background import BackgroundList
from zeropoint.datamodel.exposure import Exposure, FloatImage
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.detection.footprint_finding import footprint_flags
from zeropoint.detection.significance import SignificanceImage
from zeropoint.detection.source_detection import Ratio, SourceDetection, SourceDetectionConfig
from zeropoint.kernels.dilate import dilate
from zeropoint.kernels.labels import mark_above
from zeropoint.kernels.regions import find_regions
from zeropoint.pixels.background import SubtractBackground, SubtractBackgroundConfig
from zeropoint.recipes.star_background_search import BLOCK, MAX_FRACTION, Coverage, search_threshold

__all__ = ["StarBackgroundResult", "remeasure_star_background"]

_LOG = logging.getLogger(__name__)

_DETECTED = ("DETECTED", "DETECTED_NEGATIVE")
#: Growth of the bright stars in widths of the PSF.
_GROWTH_SIGMA = 70.0
#: Faint sources: thresholds to try, growth in widths of the PSF, largest fraction masked with them.
#: Masking noise peaks above 3.5 sigma lowers the mean of the rest by 0.0014 standard deviations of a pixel.
_FAINT_THRESHOLDS, _FAINT_GROWTH_SIGMA, _FAINT_MAX_FRACTION = (3.5, 5.0, 8.0), 4.8, 0.97

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
    faint_threshold
        Threshold of the faint sources that were masked too, standard deviations; NaN if too much would be.
    pedestal
        Sum of the constants, counts.
    """

    background: BackgroundList
    adaptive_threshold_value: float
    n_iterations: int
    masked_fraction: float
    faint_threshold: float
    pedestal: float


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
    model = background.image() if len(background) else np.zeros(exposure.shape, np.float32)
    exposure.image += model
    config = SourceDetectionConfig()
    config.doTempLocalBackground = False
    significance = SourceDetection(config).prepare(exposure)
    coverage = Coverage.of(exposure)
    positive, negative = _dilated_star_masks(exposure, coverage)
    growth = int(_GROWTH_SIGMA * significance.sigma + 0.5)
    search = search_threshold(
        significance,
        coverage,
        (positive | negative)[::BLOCK, ::BLOCK],
        start=max(2.0, 0.2 * float(np.median(model[::BLOCK, ::BLOCK]))),
        growth=growth,
        min_footprints=min_footprints,
        peak_fraction=peak_fraction,
    )
    threshold = search.threshold
    if search.fraction > MAX_FRACTION:
        _LOG.warning(
            "No detection threshold leaves enough sky, so the final sky is fitted with the wings of bright stars masked "
            "no further than for the PSF: it may be too high near them, and faint fluxes there too low (the report's "
            "empty apertures show it)."
        )
        threshold = math.nan
    else:
        positive |= _bright_stars(significance, threshold, growth)
    faint = _mask_faint_sources(positive, negative, significance, coverage, model)
    del model, significance
    exposure.clear_mask(*_DETECTED)
    fraction = coverage.fractions((positive | negative)[::BLOCK, ::BLOCK])[0]
    exposure.set_mask(positive, "DETECTED")
    exposure.set_mask(negative, "DETECTED_NEGATIVE")
    new = star_background.run(
        exposure,
        BackgroundList(),
        background_to_photometric_ratio=background_to_photometric_ratio,
        stats=False,
    ).background
    if fraction < 0.5:
        exposure.set_mask(dilate(positive, 2), "DETECTED")
        exposure.set_mask(dilate(negative, 2), "DETECTED_NEGATIVE")
    pedestal = _subtract_pedestal(exposure, new)
    exposure.clear_mask(*_DETECTED)
    _LOG.debug("Star background: threshold %g, %g of the sky masked.", threshold, fraction)
    return StarBackgroundResult(new, threshold, search.n_trials, fraction, faint, pedestal)


def _dilated_star_masks(exposure: Exposure, coverage: Coverage) -> tuple[BoolImage, BoolImage]:
    """Return both detected planes grown by as many pixels, ten at most, as leave enough sky."""
    planes = [exposure.masked(plane) for plane in _DETECTED]
    positive, negative = planes
    for radius in range(10, 0, -1):
        positive, negative = (dilate(plane, radius) for plane in planes)
        if coverage.fractions((positive | negative)[::BLOCK, ::BLOCK])[0] < MAX_FRACTION:
            break
    return positive, negative


def _bright_stars(significance: SignificanceImage, threshold: float, growth: int) -> BoolImage:
    """Return where footprints above the threshold reach when grown."""
    level = np.float32(threshold)
    spans = find_regions(significance.smoothed, significance.noise, level, level, np.float32(1.0), 1)
    return dilate(footprint_flags(FootprintSet.build(*spans), significance.smoothed.shape), growth)


def _mask_faint_sources(
    positive: BoolImage,
    negative: BoolImage,
    significance: SignificanceImage,
    coverage: Coverage,
    model: FloatImage,
) -> float:
    """Add sources that stand out of the sky to ``positive``, in place; return their threshold, or NaN.

    The sky is the old background plus the median difference from it in what is not masked, because the old
    background is too high.
    """
    excess = significance.smoothed - model
    sky = coverage.good.view(np.bool_) & ~(positive | negative)[::BLOCK, ::BLOCK]
    values = excess[::BLOCK, ::BLOCK][sky]
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan
    excess -= np.median(values)
    growth = int(_FAINT_GROWTH_SIGMA * significance.sigma + 0.5)
    found = np.empty(excess.shape, np.uint8)
    for threshold in _FAINT_THRESHOLDS:
        mark_above(excess, significance.noise, np.float32(threshold), np.float32(1.0), found)
        grown = dilate(found, growth)
        grown |= positive
        if coverage.fractions((grown | negative)[::BLOCK, ::BLOCK])[0] < _FAINT_MAX_FRACTION:
            positive[:] = grown
            return threshold
    return math.nan


def _subtract_pedestal(exposure: Exposure, background: BackgroundList) -> float:
    """Subtract constants, in place, from ever larger bins until they settle; return their sum."""
    size = max(exposure.shape)
    config = SubtractBackgroundConfig()
    config.statisticsProperty = "MEANCLIP"
    config.approxOrderX = 0
    config.ignoredPixelMask = [*config.ignoredPixelMask, "SAT", "SUSPECT", "SPIKE"]
    config.binSize = min(32, math.ceil(size / 4))
    total = 0.0
    while True:
        component = SubtractBackground(config).run(exposure, background, stats=False).component
        assert component.polynomial is not None  # useApprox
        step = float(component.polynomial(x=0.0, y=0.0))
        change = abs(step)
        relative = change / abs(total) if total != 0.0 else 1.0
        total += step
        if relative < 0.05 or change < 0.5:
            return total
        if config.binSize >= size:
            _LOG.warning("The constant background did not settle; its last step was %g counts.", step)
            return total
        config.binSize *= 2

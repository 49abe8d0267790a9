"""The deep detection: a threshold that follows from the one the PSF stars were found with."""

from __future__ import annotations

import logging
from dataclasses import replace

from zeropoint.datamodel.background import BackgroundList
from zeropoint.datamodel.exposure import Exposure
from zeropoint.detection.source_detection import DetectionResult, Ratio, SourceDetection

__all__ = ["detect_stars_adaptively"]

_LOG = logging.getLogger(__name__)
_MAX_TRIALS = 8
_MAX_PEAKS_PER_FOOTPRINT = 800


def detect_stars_adaptively(
    detection: SourceDetection,
    exposure: Exposure,
    psf_threshold: float,
    psf_multiplier: float,
    n_astrometry_matches: int,
    *,
    background: BackgroundList | None = None,
    background_to_photometric_ratio: Ratio | None = None,
) -> DetectionResult:
    """Detect faint sources as `SourceDetection.run` does, at a threshold high enough to keep some isolated.

    Parameters
    ----------
    detection
        Its whole configuration is honoured; ``thresholdValue`` is the lowest threshold.
    exposure
        Detection planes are set in place; with ``reEstimateBackground`` a background is subtracted at the end.
    psf_threshold, psf_multiplier
        What the adaptive detection of PSF stars settled on.
    n_astrometry_matches
        Matches of the astrometric fit: how many isolated stars there should be at least.
    background, background_to_photometric_ratio
        As for `SourceDetection.run`.

    Returns
    -------
    result
        Of the last trial, the eighth at most.

    Notes
    -----
    The trial threshold is ``max(thresholdValue, k psf_threshold psf_multiplier / 2)``, with k = 0.2 at first.
    """
    config = detection.config
    polarity = "both" if config.reEstimateBackground else config.thresholdPolarity
    significance = detection.prepare(exposure)
    k, last, result = 0.2, None, None
    for trial in range(_MAX_TRIALS):
        threshold = max(config.thresholdValue, 0.5 * k * psf_threshold * psf_multiplier)
        if result is None or threshold != last:
            result = detection.detect_on(significance, exposure, threshold, polarity=polarity)
            last = threshold
        n_peaks = result.positive.n_peaks
        if config.thresholdPolarity != "positive":
            n_peaks = result.footprints.n_peaks
        n_footprints, n_isolated = len(n_peaks), int((n_peaks == 1).sum())
        wanted = min(400.0, max(3.0, 0.005 * n_peaks.sum(), 0.6 * n_astrometry_matches))
        _LOG.debug("Trial %d at %g: %d footprints, %d isolated.", trial, threshold, n_footprints, n_isolated)
        if n_footprints == 0:
            k *= 0.75
        elif n_peaks.sum() / n_footprints > _MAX_PEAKS_PER_FOOTPRINT or n_isolated < wanted:
            k = max(0.01, 1.5 * k)
        else:
            break
    assert result is not None  # there is at least one trial
    result = replace(result, background=background)
    if config.reEstimateBackground:
        result = detection.re_estimate_background(exposure, result, background_to_photometric_ratio)
    return result

"""Detection that looks for its own threshold: enough isolated sources, not too many peaks."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import Schema
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.detection.source_detection import DetectionResult, SourceDetection, SourceDetectionConfig

__all__ = ["AdaptiveDetectionResult", "AdaptiveThresholdDetection", "AdaptiveThresholdDetectionConfig"]

_LOG = logging.getLogger(__name__)


class AdaptiveThresholdDetectionConfig(pexConfig.Config):
    """What a good detection looks like, and how long to search for it."""

    maxAdaptiveDetIter = pexConfig.RangeField(dtype=int, default=20, min=1, doc="Most detections to try.")
    maxNumPeakPerBand = pexConfig.DictField(
        keytype=str,
        itemtype=int,
        default={"u": 3000, "g": 3000, "r": 3000, "i": 5000, "z": 5000, "y": 3000, "fallback": 5000},
        doc="Most peaks wanted, by band; the key 'fallback' serves every other band.",
    )
    minFootprint = pexConfig.Field(dtype=int, default=15, doc="Fewest footprints wanted.")
    maxPeakToFootRatio = pexConfig.Field(
        dtype=float, default=800.0, doc="Largest mean number of peaks of a footprint."
    )
    minIsolated = pexConfig.Field(dtype=int, default=6, doc="Fewest footprints of one peak wanted.")
    sufficientIsolated = pexConfig.Field(
        dtype=int, default=100, doc="Footprints of one peak that suffice whatever the limits say."
    )
    sufficientFractionIsolated = pexConfig.Field(
        dtype=float, default=0.45, doc="Fraction of footprints of one peak that suffices."
    )

    def validate(self) -> None:
        """Check that the limits agree with each other."""
        super().validate()
        if "fallback" not in self.maxNumPeakPerBand:
            raise pexConfig.FieldValidationError(
                self.__class__.maxNumPeakPerBand, self, "The key 'fallback' is missing."
            )
        if self.minFootprint < self.minIsolated:
            raise pexConfig.FieldValidationError(
                self.__class__.minFootprint, self, "minFootprint must not be less than minIsolated."
            )
        if self.sufficientIsolated < self.minIsolated:
            raise pexConfig.FieldValidationError(
                self.__class__.sufficientIsolated,
                self,
                "sufficientIsolated must not be less than minIsolated.",
            )


@dataclass(frozen=True)
class AdaptiveDetectionResult:
    """The detection that was settled on.

    Parameters
    ----------
    detection
        Positive sources at the final threshold.
    threshold, multiplier
        What was settled on.
    n_iterations
        Thresholds tried.
    """

    detection: DetectionResult
    threshold: float
    multiplier: float
    n_iterations: int


@dataclass
class _Search:
    """Where the search stands."""

    threshold: float
    multiplier: float
    max_peaks: int
    negative_boost: float = 1.0


@dataclass(frozen=True)
class _Counts:
    """What one trial found."""

    n_footprints: int
    n_positive_peaks: int
    n_negative_peaks: int
    n_isolated: int
    most_peaks: int

    @classmethod
    def of(cls, result: DetectionResult) -> _Counts:
        n_peaks = np.concatenate([result.negative.n_peaks, result.positive.n_peaks])
        return cls(
            len(n_peaks),
            result.n_positive_peaks,
            result.n_negative_peaks,
            int((n_peaks == 1).sum()),
            int(n_peaks.max(initial=0)),
        )

    @property
    def n_peaks(self) -> int:
        return self.n_positive_peaks + self.n_negative_peaks


class AdaptiveThresholdDetection:
    """Detect sources at a threshold that suits the field.

    Parameters
    ----------
    config
        Limits; the defaults if None.
    schema
        Not used: no columns are added.

    Notes
    -----
    The image is smoothed once; every trial thresholds the same significance image.
    """

    ConfigClass = AdaptiveThresholdDetectionConfig

    def __init__(
        self, config: AdaptiveThresholdDetectionConfig | None = None, *, schema: Schema | None = None
    ) -> None:
        self.config = AdaptiveThresholdDetectionConfig() if config is None else config
        detection = SourceDetectionConfig()
        detection.reEstimateBackground = False
        detection.doTempWideBackground = True
        detection.doTempLocalBackground = True
        detection.thresholdPolarity = "both"
        self.detection = SourceDetection(detection)

    def run(
        self,
        exposure: Exposure,
        *,
        initial_threshold: float | None = None,
        initial_multiplier: float = 2.0,
        band: str = "",
    ) -> AdaptiveDetectionResult:
        """Find a threshold and detect positive sources; sets detection planes of ``exposure.mask`` in place.

        Parameters
        ----------
        exposure
            Needs a PSF; only its mask is changed.
        initial_threshold
            First threshold, standard deviations; if None the smaller of 5 and the largest S/N of a pixel.
        initial_multiplier
            First include-multiplier.
        band
            Chooses the largest number of peaks.

        Raises
        ------
        PsfGenerationError
            If the PSF has no usable size.
        """
        if initial_threshold is None:
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = exposure.image / np.sqrt(exposure.variance)
            initial_threshold = min(float(ratio[np.isfinite(ratio)].max(initial=5.0)), 5.0)
        peaks = self.config.maxNumPeakPerBand
        search = _Search(
            initial_threshold, initial_multiplier, peaks[band] if band in peaks else peaks["fallback"]
        )
        significance = self.detection.prepare(exposure)
        result: DetectionResult | None = None
        settled, n = False, 0
        while not settled and n < self.config.maxAdaptiveDetIter:
            n += 1
            result = self.detection.detect_on(significance, exposure, search.threshold, search.multiplier)
            settled = self._judge(search, _Counts.of(result), n)
        if settled and result is not None:
            exposure.clear_mask("DETECTED_NEGATIVE")
            result = _positive_only(result)
        else:  # the threshold moved after the last trial
            result = self.detection.detect_on(
                significance, exposure, search.threshold, search.multiplier, "positive"
            )
        _LOG.debug("Threshold %g x %g after %d trials.", search.threshold, search.multiplier, n)
        return AdaptiveDetectionResult(result, search.threshold, search.multiplier, n)

    def _judge(self, search: _Search, counts: _Counts, n: int) -> bool:
        """Return whether a trial is good enough; otherwise move the threshold of ``search`` in place."""
        config = self.config
        max_negative = max(15, int(0.025 * counts.n_positive_peaks)) * search.negative_boost
        if self._suffices(search, counts, max_negative, n):
            return True
        if counts.n_footprints == 0 or counts.n_positive_peaks == 0:
            search.threshold *= 0.25
            search.negative_boost *= 10
            return False
        crowded = counts.n_peaks / counts.n_footprints > config.maxPeakToFootRatio
        if (crowded and counts.n_isolated < config.minIsolated) or counts.n_negative_peaks > max_negative:
            factor = 1.5 if counts.n_negative_peaks > 2 * max_negative else 1.25
            search.threshold *= factor * search.multiplier
            search.multiplier = 1.0
            return False
        few = counts.n_footprints <= config.minFootprint
        if not (counts.n_peaks > search.max_peaks or counts.most_peaks > 0.2 * search.max_peaks or few):
            return True
        self._move(search, counts, few, n)
        return False

    def _suffices(self, search: _Search, counts: _Counts, max_negative: float, n: int) -> bool:
        """Return whether there are enough isolated sources, even if another limit is broken."""
        config = self.config
        if n == 1 and config.maxAdaptiveDetIter > 1:
            return False
        if counts.n_isolated <= config.sufficientIsolated:
            return False
        if counts.n_isolated / counts.n_footprints <= config.sufficientFractionIsolated:
            return False
        many = counts.n_isolated > 5 * config.sufficientIsolated
        return (
            many and counts.n_peaks < 2.5 * search.max_peaks and counts.n_negative_peaks < 100 * max_negative
        ) or (counts.n_negative_peaks < 5 * max_negative and counts.n_peaks < 1.2 * search.max_peaks)

    def _move(self, search: _Search, counts: _Counts, few: bool, n: int) -> None:
        """Raise the threshold if there are too many peaks, lower it if there are too few footprints."""
        limit = search.max_peaks
        if counts.n_peaks > limit or counts.most_peaks > 0.25 * limit:
            factor = 1.2
            if n < 0.5 * self.config.maxAdaptiveDetIter:
                if counts.n_peaks > 3 * limit or counts.most_peaks > limit:
                    factor = 1.7
                elif counts.n_peaks > 2 * limit or counts.most_peaks > 0.5 * limit:
                    factor = 1.4
            search.threshold *= factor * search.multiplier
            search.multiplier = max(1.0, 0.5 * search.multiplier)
            return
        factor = 1.1
        if few:
            search.negative_boost *= 10
            factor = min(0.85, 0.4 * math.log10(10 * (counts.n_footprints + 1)))
        search.threshold *= factor


def _positive_only(result: DetectionResult) -> DetectionResult:
    """Return a result without its negative sources."""
    return DetectionResult(
        result.positive,
        FootprintSet.empty(),
        result.n_positive_peaks,
        0,
        result.sigma,
        result.kernel_width,
        result.n_grow,
        result.background,
    )

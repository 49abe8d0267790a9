"""Detection of sources: smooth, threshold, find peaks, grow."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import lsst.pex.config as pexConfig
import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.background import BackgroundComponent, BackgroundList
from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.datamodel.exposure import Exposure, FloatImage, MaskImage
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.detection._kernels import or_bits
from zeropoint.detection.footprint_finding import (
    Threshold,
    find_footprints,
    grow_footprints,
    search_peaks_again,
)
from zeropoint.detection.significance import SignificanceImage, detection_sigma, smooth_for_detection
from zeropoint.pixels.background import SubtractBackground, fit_background

__all__ = ["DetectionResult", "SourceDetection", "SourceDetectionConfig"]

_LOG = logging.getLogger(__name__)
_DETECTED = ("DETECTED", "DETECTED_NEGATIVE")

Ratio = ChebyshevPolynomial | FloatImage


class SourceDetectionConfig(pexConfig.Config):
    """How sources are detected."""

    minPixels = pexConfig.RangeField(dtype=int, default=1, min=0, doc="Smallest footprint, pixels.")
    isotropicGrow = pexConfig.Field(
        dtype=bool, default=True, doc="Grow footprints by a disc, else by a diamond."
    )
    combinedGrow = pexConfig.Field(
        dtype=bool,
        default=True,
        doc="Grow all footprints together and merge those that meet, else each alone.",
    )
    nSigmaToGrow = pexConfig.Field(
        dtype=float, default=2.4, doc="Growth of footprints in units of the PSF's sigma; 0 for none."
    )
    returnOriginalFootprints = pexConfig.Field(
        dtype=bool,
        default=False,
        doc="Set the mask from the grown footprints but return those before growth.",
    )
    thresholdValue = pexConfig.RangeField(
        dtype=float, default=5.0, min=0.0, inclusiveMin=True, doc="Threshold of every pixel of a footprint."
    )
    includeThresholdMultiplier = pexConfig.RangeField(
        dtype=float,
        default=1.0,
        min=0.0,
        inclusiveMin=True,
        doc="A footprint is kept if one of its pixels reaches thresholdValue times this.",
    )
    thresholdType = pexConfig.ChoiceField(
        dtype=str,
        default="pixel_stdev",
        doc="What the threshold multiplies.",
        allowed={
            "pixel_stdev": "the standard deviation of each smoothed pixel, from the variance plane",
            "stdev": "the clipped standard deviation of the smoothed image",
            "variance": "the clipped variance of the smoothed image (compared with the pixel squared)",
            "value": "one count",
        },
    )
    thresholdPolarity = pexConfig.ChoiceField(
        dtype=str,
        default="positive",
        doc="Which sources to return.",
        allowed={
            "positive": "sources with positive flux",
            "negative": "sources with negative flux",
            "both": "both, the negative ones first",
        },
    )
    adjustBackground = pexConfig.Field(
        dtype=float, default=0.0, doc="Counts added to the re-estimated background, for experiments."
    )
    reEstimateBackground = pexConfig.Field(
        dtype=bool,
        default=True,
        doc="Fit and subtract a background after detection, detected pixels ignored.",
    )
    doApplyFlatBackgroundRatio = pexConfig.Field(
        dtype=bool,
        default=False,
        doc="Multiply by the background-to-photometric ratio while the background is re-estimated.",
    )
    background = pexConfig.ConfigurableField(
        target=SubtractBackground, doc="Background that is subtracted after detection."
    )
    tempLocalBackground = pexConfig.ConfigurableField(
        target=SubtractBackground,
        doc="Small-scale background, taken away only while peaks are searched again in merged footprints.",
    )
    doTempLocalBackground = pexConfig.Field(
        dtype=bool, default=True, doc="Search the peaks of merged footprints on a locally flattened image."
    )
    tempWideBackground = pexConfig.ConfigurableField(
        target=SubtractBackground, doc="Large-scale background, taken away only during detection."
    )
    doTempWideBackground = pexConfig.Field(
        dtype=bool, default=False, doc="Take a large-scale background away during detection."
    )
    nPeaksMaxSimple = pexConfig.Field(
        dtype=int, default=1, doc="Footprints with more peaks than this are searched again."
    )
    nSigmaForKernel = pexConfig.RangeField(
        dtype=float, default=7.0, min=0.0, doc="Full width of the smoothing kernel in units of sigma."
    )
    statsMask = pexConfig.ListField(
        dtype=str,
        default=["BAD", "SAT", "EDGE", "NO_DATA"],
        doc="Planes left out of the image's standard deviation (threshold types stdev and variance).",
    )
    excludeMaskPlanes = pexConfig.ListField(dtype=str, default=[], doc="Planes where nothing is detected.")

    def setDefaults(self) -> None:
        """Set the scales of the temporary backgrounds."""
        super().setDefaults()
        for field, size in (("tempLocalBackground", 64), ("tempWideBackground", 512)):
            sub = getattr(self, field)
            sub.binSize = size
            sub.algorithm = "AKIMA_SPLINE"
            sub.useApprox = False
        self.tempWideBackground.ignoredPixelMask = [
            plane for plane in self.tempWideBackground.ignoredPixelMask if plane not in _DETECTED
        ]


@dataclass(frozen=True)
class DetectionResult:
    """Detected sources.

    Parameters
    ----------
    positive, negative
        Footprints by sign of the flux; peaks strongest first, values of the smoothed image.
    n_positive_peaks, n_negative_peaks
        Number of peaks.
    sigma
        Width of the detection Gaussian, pixels.
    kernel_width
        Taps of the detection Gaussian per axis.
    n_grow
        Growth of the footprints, pixels.
    background
        The list that was given, with the re-estimated background if there is one; None if neither.
    """

    positive: FootprintSet
    negative: FootprintSet
    n_positive_peaks: int
    n_negative_peaks: int
    sigma: float
    kernel_width: int
    n_grow: int
    background: BackgroundList | None = None

    @property
    def footprints(self) -> FootprintSet:
        """All footprints in the order of catalogue rows: negative ones first."""
        return FootprintSet.concatenate([self.negative, self.positive])

    @property
    def is_negative(self) -> npt.NDArray[np.bool_]:
        """Which of `footprints` are negative, shape (n,)."""
        return np.arange(len(self.negative) + len(self.positive)) < len(self.negative)


class SourceDetection:
    """Detect sources in an exposure.

    Parameters
    ----------
    config
        How; the defaults if None.
    schema
        If given and both polarities are wanted, a flag ``is_negative`` is added.

    Notes
    -----
    `run` is `prepare` (smooth once) followed by `detect_on` (threshold, label, grow), so that a caller who
    looks for the right threshold repeats only the second.
    """

    ConfigClass = SourceDetectionConfig

    def __init__(self, config: SourceDetectionConfig | None = None, *, schema: Schema | None = None) -> None:
        self.config = SourceDetectionConfig() if config is None else config
        self.background = self.config.background.apply()
        if schema is not None and self.config.thresholdPolarity == "both":
            schema.add(ColumnSpec("is_negative", "bool", "", "True if source was detected as negative."))

    def run(
        self,
        exposure: Exposure,
        *,
        background: BackgroundList | None = None,
        sigma: float | None = None,
        clear_mask: bool = True,
        background_to_photometric_ratio: Ratio | None = None,
    ) -> DetectionResult:
        """Detect sources; sets detection planes of ``exposure.mask``, may subtract a background, in place.

        Parameters
        ----------
        exposure
            Its DETECTED, DETECTED_NEGATIVE and DETECTION_EDGE planes are set; with ``reEstimateBackground`` its
            image loses a background.
        background
            Backgrounds subtracted so far; a re-estimated one is appended.
        sigma
            Width of the detection Gaussian, pixels; the PSF's determinant radius if None.
        clear_mask
            Clear the detected planes first.
        background_to_photometric_ratio
            Needed if the configuration wants it applied.

        Raises
        ------
        PsfGenerationError
            If sigma is not given and the PSF has no usable size.
        TooManyMaskedPixelsError
            If a background is wanted and every pixel is masked.
        """
        polarity = self.config.thresholdPolarity
        significance = self.prepare(exposure, sigma, clear_mask=clear_mask)
        result = self.detect_on(
            significance,
            exposure,
            polarity="both" if self.config.reEstimateBackground else polarity,
            clear_mask=clear_mask,
        )
        result = replace(result, background=background)
        if not self.config.reEstimateBackground:
            return result
        return self.re_estimate_background(exposure, result, background_to_photometric_ratio)

    def prepare(
        self, exposure: Exposure, sigma: float | None = None, *, clear_mask: bool = True
    ) -> SignificanceImage:
        """Smooth the image and fit the temporary backgrounds; sets DETECTION_EDGE in ``exposure.mask``.

        Parameters
        ----------
        exposure
            Image; only its mask is changed.
        sigma
            Width of the detection Gaussian, pixels; the PSF's determinant radius if None.
        clear_mask
            Fit the temporary backgrounds as if the detected planes were clear.

        Returns
        -------
        significance
            Input of `detect_on`; stays valid while image and variance do not change.
        """
        config = self.config
        sigma = detection_sigma(exposure, sigma)
        image, mask = exposure.image, exposure.mask
        if clear_mask and (config.doTempWideBackground or config.doTempLocalBackground):
            mask = mask & np.int32(~bitmask(_DETECTED))
        if config.doTempWideBackground:
            image = image - fit_background(image, mask, config.tempWideBackground.value).image()
            self._fill_missing(image, mask)
        significance = smooth_for_detection(
            image,
            exposure.variance,
            mask,
            sigma=sigma,
            n_sigma=config.nSigmaForKernel,
            threshold_type=config.thresholdType,
            exclude_planes=tuple(config.excludeMaskPlanes),
            stats_planes=tuple(config.statsMask),
        )
        for each in {id(mask): mask, id(exposure.mask): exposure.mask}.values():
            _set_margin(each, significance.kernel_width // 2)
        if config.doTempLocalBackground:
            local = fit_background(image, mask, config.tempLocalBackground.value)
            significance = replace(significance, local_background=local)
        return significance

    def detect_on(
        self,
        significance: SignificanceImage,
        exposure: Exposure,
        threshold: float | None = None,
        multiplier: float | None = None,
        polarity: str | None = None,
        *,
        clear_mask: bool = True,
    ) -> DetectionResult:
        """Threshold a prepared image; sets the detected planes of ``exposure.mask`` in place.

        Parameters
        ----------
        significance
            From `prepare`.
        exposure
            Its mask is changed.
        threshold, multiplier, polarity
            Instead of the configured ``thresholdValue``, ``includeThresholdMultiplier``, ``thresholdPolarity``.
        clear_mask
            Clear the detected planes first.
        """
        config = self.config
        polarity = config.thresholdPolarity if polarity is None else polarity
        value = significance.multiple(config.thresholdValue if threshold is None else threshold)
        factor = config.includeThresholdMultiplier if multiplier is None else multiplier
        n_grow = int(config.nSigmaToGrow * significance.sigma + 0.5) if config.nSigmaToGrow > 0 else 0
        if clear_mask:
            exposure.clear_mask(*_DETECTED)
        found = {True: FootprintSet.empty(), False: FootprintSet.empty()}
        for positive, plane in ((True, "DETECTED"), (False, "DETECTED_NEGATIVE")):
            if polarity == ("negative" if positive else "positive"):
                continue
            limit = Threshold(value, factor, positive, config.minPixels)
            found[positive] = self._detect_sign(significance, limit, exposure, n_grow, plane)
        positives, negatives = found[True], found[False]
        _LOG.debug("Threshold %g x %g: %d + %d footprints.", value, factor, len(positives), len(negatives))
        return DetectionResult(
            positives,
            negatives,
            len(positives.peak_x),
            len(negatives.peak_x),
            significance.sigma,
            significance.kernel_width,
            n_grow,
        )

    def re_estimate_background(
        self,
        exposure: Exposure,
        result: DetectionResult,
        background_to_photometric_ratio: Ratio | None = None,
    ) -> DetectionResult:
        """Fit and subtract the background in place, then drop the polarity that was only needed for it."""
        config = self.config
        background = BackgroundList() if result.background is None else result.background
        ratio = _ratio_image(config.doApplyFlatBackgroundRatio, background_to_photometric_ratio)
        if ratio is not None:
            exposure.image *= ratio
        try:
            background = self.background.run(exposure, background).background
            if config.adjustBackground:
                exposure.image -= np.float32(config.adjustBackground)
                background.append(_constant(config.adjustBackground, exposure.shape))
        finally:
            if ratio is not None:
                exposure.image /= ratio
        result = replace(result, background=background)
        if config.thresholdPolarity == "positive":
            exposure.clear_mask("DETECTED_NEGATIVE")
            result = replace(result, negative=FootprintSet.empty(), n_negative_peaks=0)
        elif config.thresholdPolarity == "negative":
            exposure.clear_mask("DETECTED")
            result = replace(result, positive=FootprintSet.empty(), n_positive_peaks=0)
        return result

    def _detect_sign(
        self,
        significance: SignificanceImage,
        limit: Threshold,
        exposure: Exposure,
        n_grow: int,
        plane: str,
    ) -> FootprintSet:
        """Return the footprints of one polarity and set its mask plane."""
        config = self.config
        found = find_footprints(significance.smoothed, significance.noise, limit, border=significance.border)
        if significance.local_background is not None and (found.n_peaks > config.nPeaksMaxSimple).any():
            found = search_peaks_again(
                found, significance.flattened, significance.noise, limit, config.nPeaksMaxSimple
            )
        grown = grow_footprints(
            found,
            exposure.shape,
            n_grow,
            positive=limit.positive,
            isotropic=config.isotropicGrow,
            combined=config.combinedGrow,
        )
        or_bits(exposure.mask, grown.span_y, grown.span_x0, grown.span_x1, np.int32(bitmask([plane])))
        chosen = found if config.returnOriginalFootprints else grown
        return significance.with_peak_significance(chosen, positive=limit.positive)

    def _fill_missing(self, image: FloatImage, mask: MaskImage) -> None:
        """Replace NO_DATA pixels by the median of the good ones, in place."""
        missing = (mask & np.int32(bitmask(["NO_DATA"]))) != 0
        if missing.any():
            good = (mask & np.int32(bitmask(self.config.statsMask))) == 0
            values = image[good & np.isfinite(image)]
            image[missing] = np.median(values) if len(values) else 0.0


def _set_margin(mask: MaskImage, width: int) -> None:
    """Set DETECTION_EDGE within ``width`` pixels of the border, in place."""
    bit = np.int32(bitmask(["DETECTION_EDGE"]))
    if width > 0:
        for strip in (mask[:width], mask[-width:], mask[:, :width], mask[:, -width:]):
            strip |= bit


def _ratio_image(wanted: bool, ratio: Ratio | None) -> FloatImage | None:
    """Return the ratio as an image, or None if it is not wanted."""
    if not wanted:
        return None
    if ratio is None:
        raise ValueError("doApplyFlatBackgroundRatio needs background_to_photometric_ratio.")
    return ratio.image() if isinstance(ratio, ChebyshevPolynomial) else np.asarray(ratio, np.float32)


def _constant(level: float, shape: tuple[int, int]) -> BackgroundComponent:
    """Return a background that is the same everywhere."""
    height, width = shape
    return BackgroundComponent(
        np.array([[level]]),
        np.zeros((1, 1)),
        np.array([0.5 * (width - 1)]),
        np.array([0.5 * (height - 1)]),
        width,
        height,
        "CONSTANT",
    )

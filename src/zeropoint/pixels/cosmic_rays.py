"""Cosmic rays: pixels too sharp for the PSF, found and replaced.

A pixel is hit if it stands out from the mean of two opposite neighbors by several sigma, and these hold less
light, relative to the pixel, than the PSF of any star would give them (the rule of the SDSS photometric
pipeline and of the LSST Science Pipelines).  Hit pixels are predicted from unmasked neighbors.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import lsst.pex.config as pexConfig
import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.exposure import FloatImage, MaskImage
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.errors import TooManyCosmicRays
from zeropoint.kernels.statistics import quartiles
from zeropoint.pixels import _kernels
from zeropoint.pixels.background import SubtractBackground
from zeropoint.pixels.interpolation import line_weights

__all__ = ["CosmicRays", "FindCosmicRaysConfig", "find_cosmic_rays", "neighbor_ratios"]

_LOG = logging.getLogger(__name__)

#: Planes that disqualify a pixel, as a cosmic ray and as a source of predictions.
BAD_PLANES = ("BAD", "INTERPOLATED", "SATURATED", "NO_DATA")

#: Widest half-gap (pixels) that is predicted across; beyond it, noise is drawn.
_REACH = 5

#: Seed of the noise drawn where nothing predicts: fixed, so that equal images give equal results.
_NOISE_SEED = (1, 0x435259)


class FindCosmicRaysConfig(pexConfig.Config):
    """Parameters of the search for cosmic rays."""

    nCrPixelMax = pexConfig.Field(
        dtype=int, default=1000000, doc="More contaminated pixels than this are a failure."
    )
    minSigma = pexConfig.Field(
        dtype=float,
        default=6.0,
        doc="Height of a cosmic ray over the mean of two opposite neighbors in units of the pixel's noise; if "
        "negative, minus the least pixel value, counts.",
    )
    min_DN = pexConfig.Field(dtype=float, default=150.0, doc="Least sum of a cosmic ray's pixels, counts.")
    cond3_fac = pexConfig.Field(
        dtype=float, default=2.0, doc="Allowance for noise, sigma, when a pixel is compared with the PSF."
    )
    cond3_fac2 = pexConfig.Field(
        dtype=float,
        default=0.35,
        doc="A cosmic ray's neighbors hold less than this times what the PSF's neighbors hold.",
    )
    min_star_sigma = pexConfig.Field(
        dtype=float,
        default=5.0,
        doc="Significance at which the neighbors must exclude that the pixel belongs to a star. Well-sampled "
        "images never come near it; where a star's neighbors are faint, it keeps noise from felling stars.",
    )
    niteration = pexConfig.Field(
        dtype=int, default=6, doc="Most passes that look for contaminated neighbors."
    )
    keepCRs = pexConfig.Field(dtype=bool, default=False, doc="Only mark cosmic rays, do not replace them.")
    background = pexConfig.ConfigurableField(
        target=SubtractBackground,
        doc="Background below the cosmic rays; an image smaller than a bin has its median as background.",
    )

    def setDefaults(self) -> None:
        """Set the background to the median of the image."""
        self.background.useApprox = False
        self.background.binSize = 100000
        self.background.statisticsProperty = "MEDIAN"
        self.background.undersampleStyle = "REDUCE_INTERP_ORDER"
        self.background.algorithm = "AKIMA_SPLINE"


@dataclass(frozen=True)
class CosmicRays:
    """The cosmic-ray pixels of an image, and what they are replaced by.

    Parameters
    ----------
    x, y : int32, shape (n,)
        Pixels, each once.
    label : int32, shape (n,)
        Which cosmic ray, 0 .. n_events - 1.
    value, variance : float32, shape (n,)
        Replacement pixels.
    n_events
        Number of cosmic rays.
    """

    x: npt.NDArray[np.int32]
    y: npt.NDArray[np.int32]
    label: npt.NDArray[np.int32]
    value: npt.NDArray[np.float32]
    variance: npt.NDArray[np.float32]
    n_events: int

    def __len__(self) -> int:
        return len(self.x)


def neighbor_ratios(psf_image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the mean of opposite neighbors over the peak of a PSF.

    Parameters
    ----------
    psf_image : float64, shape (size, size)
        PSF centered on the middle pixel, size odd and at least 3.

    Returns
    -------
    ratios : float64, shape (4,)
        For neighbors along y, along x, and (twice) along the mean diagonal.
    """
    c = psf_image.shape[0] // 2
    if c == 0:
        raise ValueError("A PSF image of one pixel says nothing of sharpness.")
    box = psf_image[c - 1 : c + 2, c - 1 : c + 2]
    vertical, horizontal = 0.5 * (box[0, 1] + box[2, 1]), 0.5 * (box[1, 0] + box[1, 2])
    diagonal = 0.25 * (box[0, 0] + box[0, 2] + box[2, 0] + box[2, 2])
    return np.array([vertical, horizontal, diagonal, diagonal]) / box[1, 1]


def _too_many(config: FindCosmicRaysConfig) -> TooManyCosmicRays:
    return TooManyCosmicRays(
        f"More than {config.nCrPixelMax} cosmic-ray pixels; raise nCrPixelMax or minSigma, or check that the "
        "PSF is not wider than the image's.",
        maxCosmicRays=int(config.nCrPixelMax),
    )


def find_cosmic_rays(
    image: FloatImage,
    variance: FloatImage,
    mask: MaskImage,
    psf_image: npt.NDArray[np.float64],
    config: FindCosmicRaysConfig | None = None,
    *,
    background: float | None = None,
) -> CosmicRays:
    """Find the cosmic rays of an image and predict what lies below them; nothing is modified.

    Parameters
    ----------
    image, variance : float32, shape (height, width)
        Counts and counts squared.
    mask : int32, shape (height, width)
        Bit planes; pixels of BAD, SATURATED, INTERPOLATED or NO_DATA are never cosmic rays.
    psf_image : float64, shape (size, size)
        PSF centered on the middle pixel.
    config
        Parameters; the defaults if None.
    background
        Sky level of the image, counts; its median (of the finite pixels) if None.

    Returns
    -------
    cosmic_rays
        Pixels, grouped into events, with replacement values.

    Raises
    ------
    TooManyCosmicRays
        If there are more pixels than ``config.nCrPixelMax``.
    """
    config = FindCosmicRaysConfig() if config is None else config
    ratios = neighbor_ratios(psf_image)
    thresholds = config.cond3_fac2 * ratios
    if background is None:
        background = _median(image)
    bad_bits = np.int32(bitmask(BAD_PLANES))
    work = np.array(image, np.float32, order="C")
    xs, ys, labels, n_events = _scan(work, image, variance, mask, ratios, background, config)
    taken = np.zeros(image.shape, np.uint8)
    taken[ys, xs] = 1
    predict = _Predictor(work, variance, mask, taken, bad_bits, background)
    peaks = np.full(n_events, -np.inf, np.float32)
    np.maximum.at(peaks, labels, work[ys, xs])
    work[ys, xs] = predict(xs, ys)[0]
    n_found = len(xs)
    for _ in range(config.niteration):
        new = [np.empty(8 * len(xs), np.int32) for _ in range(3)]
        n = _kernels.grow_pass(
            work, variance, taken, background, 0.5 * config.minSigma, thresholds, peaks, xs, ys, labels, *new
        )
        if n == 0:
            break
        xs, ys, labels = (np.concatenate([old, add[:n]]) for old, add in zip((xs, ys, labels), new))
        if len(xs) > config.nCrPixelMax:
            raise _too_many(config)
    values, variances = predict(xs, ys)
    _LOG.debug("%d cosmic rays: %d pixels found, %d added by growth.", n_events, n_found, len(xs) - n_found)
    return CosmicRays(xs, ys, labels, values, variances, n_events)


def _median(image: FloatImage) -> float:
    """Return the median of the finite pixels, NaN if there are none."""
    flat = np.ascontiguousarray(image, np.float32).reshape(-1)
    median = quartiles(flat)[1]
    return float(quartiles(flat[np.isfinite(flat)])[1] if not np.isfinite(median) else median)


def _scan(
    work: FloatImage,
    image: FloatImage,
    variance: FloatImage,
    mask: MaskImage,
    ratios: npt.NDArray[np.float64],
    background: float,
    config: FindCosmicRaysConfig,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32], int]:
    """Return pixels and labels of the cosmic rays with enough counts; ``work`` comes back unchanged."""
    capacity = int(min(config.nCrPixelMax, image.size))
    xs, ys = np.empty(capacity, np.int32), np.empty(capacity, np.int32)
    n = _kernels.scan_pixels(
        work,
        variance,
        mask,
        np.array([bitmask(BAD_PLANES), bitmask(["INTERPOLATED"])], np.int32),
        float(background),
        float(config.minSigma),
        float(config.cond3_fac),
        config.cond3_fac2 * ratios,
        ratios,
        float(config.min_star_sigma),
        xs,
        ys,
    )
    if n > capacity:
        raise _too_many(config)
    xs, ys = xs[:n].copy(), ys[:n].copy()
    work[ys, xs] = image[ys, xs]
    labels, n_labels = _kernels.label_pixels(xs, ys)
    counts = np.bincount(labels, image[ys, xs].astype(np.float64) - background, minlength=n_labels)
    keep = counts >= config.min_DN
    renumbered = (np.cumsum(keep) - 1).astype(np.int32)
    chosen = keep[labels]
    return xs[chosen], ys[chosen], renumbered[labels[chosen]], int(keep.sum())


class _Predictor:
    """Replacement values of pixels, with noise where no good pixel is near."""

    def __init__(
        self,
        work: FloatImage,
        variance: FloatImage,
        mask: MaskImage,
        taken: npt.NDArray[np.uint8],
        bad_bits: np.int32,
        background: float,
    ) -> None:
        self.planes = work, variance, mask, taken, bad_bits
        self.background = background

    def __call__(
        self, xs: npt.NDArray[np.int32], ys: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        values, variances = np.empty(len(xs), np.float32), np.empty(len(xs), np.float32)
        _kernels.predict_pixels(*self.planes, line_weights(_REACH), xs, ys, values, variances)
        lost = np.flatnonzero(~np.isfinite(values))
        if len(lost):
            variances[lost] = _median(self.planes[1])
            sigma = np.sqrt(np.maximum(variances[lost], 0.0))
            noise = np.random.default_rng(_NOISE_SEED).standard_normal(len(lost))
            values[lost] = self.background + sigma * noise
        return values, variances

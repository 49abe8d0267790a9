"""The smoothed image that detection thresholds, made once and used for every threshold that is tried."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.ndimage import maximum_filter

from zeropoint.datamodel.background import BackgroundComponent
from zeropoint.datamodel.exposure import Exposure, FloatImage, MaskImage
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.errors import PsfGenerationError
from zeropoint.kernels.convolve import smooth_with_variance
from zeropoint.kernels.statistics import clipped_stats

__all__ = ["SignificanceImage", "detection_sigma", "kernel_width", "reach_of_planes", "smooth_for_detection"]


@dataclass(frozen=True)
class SignificanceImage:
    """A smoothed image and the noise that thresholds multiply.

    Parameters
    ----------
    smoothed : float32, shape (h, w)
        Image correlated with the detection Gaussian; NaN within half a kernel of the border.
    noise : float32, shape (h, w)
        A pixel is detected at threshold T where ``smoothed >= T * noise``: the propagated standard deviation
        (``pixel_stdev``), one standard deviation for the whole image (``stdev``, ``variance``), or 1 (``value``).
    sigma
        Width of the Gaussian, pixels.
    kernel_width
        Taps of the Gaussian per axis.
    threshold_type
        ``pixel_stdev``, ``stdev``, ``variance`` or ``value``.
    local_background
        Small-scale background fitted to the unsmoothed image, objects included, or None.  Subtracted before
        peaks are searched again, never before the threshold.
    """

    smoothed: FloatImage
    noise: FloatImage
    sigma: float
    kernel_width: int
    threshold_type: str = "pixel_stdev"
    local_background: BackgroundComponent | None = None

    @cached_property
    def flattened(self) -> FloatImage:
        """`smoothed` minus the local background (or `smoothed` itself), float32, shape (h, w)."""
        if self.local_background is None:
            return self.smoothed
        model = self.local_background.image()
        return np.subtract(self.smoothed, model, out=model)

    @property
    def border(self) -> int:
        """Peaks are at least this far from the image's border, pixels."""
        return self.kernel_width // 2 + 1

    def multiple(self, threshold: float) -> float:
        """Return the multiple of `noise` that a configured threshold means."""
        return float(np.sqrt(threshold)) if self.threshold_type == "variance" else threshold

    def with_peak_significance(self, footprints: FootprintSet, *, positive: bool = True) -> FootprintSet:
        """Return footprints whose peaks know how many standard deviations high (or deep) they are.

        For the threshold types ``value`` and ``variance`` the significance is 0.
        """
        if self.threshold_type not in ("pixel_stdev", "stdev") or not len(footprints.peak_x):
            return footprints
        noise = self.noise[footprints.peak_y, footprints.peak_x]
        with np.errstate(divide="ignore", invalid="ignore"):
            significance = footprints.peak_value / noise
        if not positive:
            significance = -significance
        return FootprintSet(**{**vars(footprints), "peak_significance": significance.astype(np.float32)})


def detection_sigma(exposure: Exposure, sigma: float | None = None) -> float:
    """Return the width of the detection Gaussian: the given one, else the PSF's determinant radius, pixels.

    Raises
    ------
    PsfGenerationError
        If there is no PSF, or its size is not finite and positive.
    """
    if sigma is None:
        if exposure.psf is None:
            raise PsfGenerationError("The exposure has no PSF; install one or pass the detection sigma.")
        sigma = exposure.psf.sigma()
    if not (np.isfinite(sigma) and sigma > 0):
        raise PsfGenerationError(
            f"The PSF has no usable size: sigma is {sigma} pixels.", psf_sigma=float(sigma)
        )
    return float(sigma)


def kernel_width(sigma: float, n_sigma: float = 7.0) -> int:
    """Return the odd number of taps that hold ``n_sigma`` widths."""
    return (int(n_sigma * sigma + 0.5) // 2) * 2 + 1


def reach_of_planes(mask: MaskImage, planes: tuple[str, ...], width: int) -> npt.NDArray[np.bool_]:
    """Return where a square kernel of ``width`` pixels touches a pixel with one of the planes."""
    flagged = (mask & np.int32(bitmask(planes))) != 0
    return maximum_filter(flagged, size=width, mode="constant", cval=False) if flagged.any() else flagged


def smooth_for_detection(
    image: FloatImage,
    variance: FloatImage,
    mask: MaskImage,
    *,
    sigma: float,
    n_sigma: float = 7.0,
    threshold_type: str = "pixel_stdev",
    exclude_planes: tuple[str, ...] = (),
    stats_planes: tuple[str, ...] = (),
    local_background: BackgroundComponent | None = None,
) -> SignificanceImage:
    """Smooth an image with the detection Gaussian and work out the noise that thresholds multiply.

    Parameters
    ----------
    image, variance : float32, shape (h, w)
    mask : int32, shape (h, w)
    sigma, n_sigma
        Width of the Gaussian (pixels), and of the kernel in units of it.
    threshold_type
        See `SignificanceImage`.
    exclude_planes
        Where the kernel touches these the smoothed image is set to 0.
    stats_planes
        Where the kernel touches these, pixels do not count for the standard deviation of the image.
    local_background
        Passed on.
    """
    width = kernel_width(sigma, n_sigma)
    smoothed, noise = smooth_with_variance(image, variance, sigma, width)
    if exclude_planes:
        excluded = reach_of_planes(mask, exclude_planes, width)
        smoothed[excluded & np.isfinite(smoothed)] = 0.0
    if threshold_type == "pixel_stdev":
        with np.errstate(invalid="ignore"):
            np.sqrt(noise, out=noise)
    elif threshold_type == "value":
        noise.fill(1.0)
    else:
        good = np.isfinite(smoothed) & ~reach_of_planes(mask, stats_planes, width)
        noise.fill(clipped_stats(smoothed[good])[1])
    return SignificanceImage(smoothed, noise, sigma, width, threshold_type, local_background)

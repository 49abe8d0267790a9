"""Whether a fitted PSF can be true everywhere on the detector."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.psf_model import PsfModel

__all__ = ["FWHM_PER_SIGMA", "equivalent_sigma", "why_insane"]

#: Full width at half maximum of a Gaussian over its sigma.
FWHM_PER_SIGMA = 2.3548
#: The model's size must lie within this factor of the stars' sizes.
SIZE_FACTOR = 1.5
#: The deepest trough, in units of the peak.
DEEPEST_TROUGH = 0.3


def equivalent_sigma(stamps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the Gaussian sigma of the noise-equivalent area in the central 11 x 11 pixels, pixels, shape (n,).

    ``(sum I)^2 / sum I^2 = 4 pi sigma^2``; NaN where that is not positive.
    """
    half = stamps.shape[1] // 2
    reach = min(5, half)
    window = slice(half - reach, half + reach + 1)
    inner = stamps[:, window, window]
    total, squares = inner.sum(axis=(1, 2)), (inner * inner).sum(axis=(1, 2))
    result = np.full(len(stamps), np.nan)
    ok = (total > 0) & (squares > 0)
    result[ok] = total[ok] / np.sqrt(4.0 * np.pi * squares[ok])
    return result


def why_insane(psf: PsfModel, shape: tuple[int, int], star_sizes: npt.NDArray[np.float64]) -> str:
    """Return why a PSF cannot be true somewhere on the detector, or an empty string.

    Looked at in the corners, the middles of the sides and the centre: it must be finite, peak within two pixels of
    its centre, have no deep troughs, and a size within a factor of those of the stars that made it.

    Parameters
    ----------
    psf
        The model.
    shape
        (height, width) of the detector.
    star_sizes : float64, shape (n,)
        Equivalent sigma of the stars, pixels.
    """
    height, width = shape
    y, x = np.meshgrid([0.0, 0.5 * (height - 1), height - 1.0], [0.0, 0.5 * (width - 1), width - 1.0])
    stamps = psf.kernel_stamps(x=x.ravel(), y=y.ravel())
    if not np.isfinite(stamps).all():
        return "not finite"
    half = stamps.shape[1] // 2
    reach = min(2, half)
    window = slice(half - reach, half + reach + 1)
    peak = stamps.max(axis=(1, 2))
    if (stamps[:, window, window].max(axis=(1, 2)) < peak).any() or (peak <= 0).any():
        return "peak off centre"
    if (stamps.min(axis=(1, 2)) < -DEEPEST_TROUGH * peak).any():
        return "deep troughs"
    sizes = star_sizes[np.isfinite(star_sizes)]
    if len(sizes) == 0:
        return ""
    low, high = np.quantile(sizes, [0.1, 0.9])
    model = equivalent_sigma(stamps)
    if not ((model > low / SIZE_FACTOR) & (model < high * SIZE_FACTOR)).all():
        return "size far from the stars'"
    return ""

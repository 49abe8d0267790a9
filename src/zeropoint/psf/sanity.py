"""Whether a fitted PSF can be true everywhere on the detector."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.psf_model import PsfModel
from zeropoint.psf.candidates import PsfCandidates
from zeropoint.psf.pixel_grid_stars import star_sizes
from zeropoint.psf.quality import fit_stars

__all__ = ["FWHM_PER_SIGMA", "equivalent_sigma", "profile_misfit", "why_contradicted", "why_insane"]

#: Full width at half maximum of a Gaussian over its sigma.
FWHM_PER_SIGMA = 2.3548
#: The model's size must lie within this factor of the stars' sizes.
SIZE_FACTOR = 1.5
#: The typical star may differ from the model by this fraction of its profile (root of the ratio of powers).
MISFIT_LIMIT = 0.25
#: The profile counts out to this many sigma of the typical star, and at least so many pixels. Beyond is hardly any of its
#: power, but there are neighbours.
MISFIT_REACH = (3.0, 2.0)
#: Fewer stars than this do not judge a model.
JUDGES = 3
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


def profile_misfit(psf: PsfModel, candidates: PsfCandidates) -> npt.NDArray[np.float64]:
    """Return by how much stars differ from the model beyond their noise, as a fraction of the profile.

    Parameters
    ----------
    psf
        The model.
    candidates
        Stars.

    Returns
    -------
    misfit : float64, shape (n,)
        ``sqrt(sum(r^2 - v) / sum m^2)`` over the good pixels within 3 sigma of the typical star (2 pixels at least),
        with residual r, noise variance v and model m of the fitted flux; 0 where the residual is below the noise,
        infinite where the star has no positive flux in the model. Unlike moments it is defined at any sampling, and
        unlike a chi-square of whole stamps it does not count neighbours. Stars with fewer than half good pixels are
        left out.
    """
    fits = fit_stars(psf, candidates)
    sizes = star_sizes(fits.stars)
    sizes = sizes[np.isfinite(sizes)]
    by_size, least = MISFIT_REACH
    reach = max(by_size * float(np.median(sizes)), least) if len(sizes) else np.inf
    axis = np.arange(fits.model.shape[1]) - fits.model.shape[1] // 2
    counted = fits.good & (np.hypot(axis[:, None], axis) <= reach)
    residual = np.where(counted, fits.stars.image - fits.model, 0.0)
    excess = (residual * residual - np.where(counted, fits.variance, 0.0)).sum(axis=(1, 2))
    total = (np.where(counted, fits.model, 0.0) ** 2).sum(axis=(1, 2))
    result = np.full(len(total), np.inf)
    ok = np.isfinite(excess) & (fits.flux > 0) & (total > 0)
    result[ok] = np.sqrt(np.maximum(excess[ok], 0.0) / total[ok])
    return result


def why_contradicted(psf: PsfModel, candidates: PsfCandidates) -> str:
    """Return how stars contradict a PSF model, or an empty string.

    Parameters
    ----------
    psf
        The model.
    candidates
        Stars, best ones that did not shape it.

    Notes
    -----
    A model is contradicted when the median `profile_misfit` is above `MISFIT_LIMIT`. Noise of the stars does not
    count, and a few galaxies or doubles among them do not decide. Fewer than `JUDGES` stars say nothing.
    """
    misfit = profile_misfit(psf, candidates)
    if len(misfit) < JUDGES:
        return ""
    typical = float(np.median(misfit))
    return f"stars differ from it by {100 * typical:.0f} % of their profile" if typical > MISFIT_LIMIT else ""

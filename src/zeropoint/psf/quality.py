"""How well a PSF model describes stars, those that made it and those that were set aside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.datamodel.psf_model import PsfModel
from zeropoint.psf.candidates import PsfCandidates
from zeropoint.psf.moment_residuals import MomentResiduals, moment_residuals
from zeropoint.psf.outliers import MAD_TO_SIGMA
from zeropoint.psf.stars import PsfStars, make_psf_stars

__all__ = [
    "PsfResiduals",
    "ResidualStatistics",
    "StarFits",
    "fit_stars",
    "psf_residuals",
    "residual_statistics",
]

#: Planes whose pixels are filled from the model.
BAD_PLANES = ("BAD", "COSMIC_RAY", "INTERPOLATED", "SATURATED", "SUSPECT", "NO_DATA")
#: Gauss-Newton steps for flux and centre.
_STEPS = 2
#: Step of the numerical derivative, pixels.
_SHIFT = 1e-4
#: Residuals beyond this many standard deviations do not enter the means.
CLIP = 4.0


@dataclass(frozen=True)
class PsfResiduals:
    """Star minus model of each star.

    Parameters
    ----------
    index : int64, shape (n,)
        Which candidate each row is; stars with fewer than half good pixels are left out.
    x, y : float64, shape (n,)
        Position, pixels.
    flux, signal_to_noise : float64, shape (n,)
        PSF flux and its signal-to-noise ratio.
    residuals
        `MomentResiduals`.
    reduced_chi2 : float64, shape (n,)
        Of the stamp under its true noise.
    """

    index: npt.NDArray[np.int64]
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    flux: npt.NDArray[np.float64]
    signal_to_noise: npt.NDArray[np.float64]
    residuals: MomentResiduals
    reduced_chi2: npt.NDArray[np.float64]


@dataclass(frozen=True)
class ResidualStatistics:
    """Clipped inverse-variance means with errors, and robust scatter, of some stars' residuals; NaN without stars.

    The error of a mean is the larger of that from pixel noise and that from the scatter of the stars.
    """

    n: int
    size: float
    size_err: float
    size_scatter: float
    e1: float
    e1_err: float
    e1_scatter: float
    e2: float
    e2_err: float
    e2_scatter: float

    @property
    def consistent_with_zero(self) -> bool:
        """Whether all three means are within 3 of their errors of zero."""
        pairs = ((self.size, self.size_err), (self.e1, self.e1_err), (self.e2, self.e2_err))
        return all(abs(mean) <= 3.0 * err for mean, err in pairs)


@dataclass(frozen=True)
class StarFits:
    """A PSF fitted to stars: flux and centre.

    Parameters
    ----------
    stars
        The stars with at least half good pixels.
    good : bool, shape (n, side, side)
        Usable pixels.
    flux, dx, dy : float64, shape (n,)
        Flux, and centre from the stamp's middle pixel.
    model, variance : float64, shape (n, side, side)
        The PSF at its place, scaled to the flux, and the noise variance it implies.
    """

    stars: PsfStars
    good: npt.NDArray[np.bool_]
    flux: npt.NDArray[np.float64]
    dx: npt.NDArray[np.float64]
    dy: npt.NDArray[np.float64]
    model: npt.NDArray[np.float64]
    variance: npt.NDArray[np.float64]

    @property
    def reduced_chi2(self) -> npt.NDArray[np.float64]:
        """Chi-square per degree of freedom of each stamp under its true noise."""
        deviation = np.where(self.good, self.stars.image - self.model, 0.0)
        dof = np.maximum(self.good.sum(axis=(1, 2)) - 3, 1)
        return np.asarray((deviation * deviation / self.variance).sum(axis=(1, 2)) / dof)


def fit_stars(
    psf: PsfModel, candidates: PsfCandidates, *, bad_planes: tuple[str, ...] = BAD_PLANES
) -> StarFits:
    """Fit flux and centre of stars to a PSF model.

    Parameters
    ----------
    psf
        The model.
    candidates
        Stamps.
    bad_planes
        Mask planes whose pixels do not count.

    Returns
    -------
    fits
        `StarFits`, on stamps of the smaller of the model's and the candidates' sides.
    """
    side = min(psf.size, candidates.side)
    stars = make_psf_stars(
        candidates, side=side, bad_bits=bitmask(bad_planes), minimum_unmasked_fraction=0.5, max_snr=np.inf
    )
    n = len(stars)
    good = stars.weight > 0
    xc, yc = np.floor(stars.x + 0.5), np.floor(stars.y + 0.5)
    dx, dy = stars.dx.copy(), stars.dy.copy()
    cut = (psf.size - side) // 2
    window = slice(cut, cut + side)

    def stamps(by_x: float = 0.0, by_y: float = 0.0) -> npt.NDArray[np.float64]:
        drawn = psf.star_stamps(x=xc + dx + by_x, y=yc + dy + by_y)
        return _moved(drawn, xc + dx + by_x, yc + dy + by_y, xc, yc)[:, window, window]

    model = stamps()
    flux = np.ones(n)
    for _ in range(_STEPS):
        weight = np.where(good, model * model, 0.0)  # a Gaussian-like window of the star's own size
        by_x = (stamps(_SHIFT) - model) / _SHIFT
        by_y = (stamps(0.0, _SHIFT) - model) / _SHIFT
        design = np.stack([model, by_x, by_y], axis=1).reshape(n, 3, -1)
        weighted = design * weight.reshape(n, 1, -1)
        normal = weighted @ design.transpose(0, 2, 1)
        right = weighted @ stars.image.reshape(n, -1, 1)
        ok = np.abs(np.linalg.det(normal)) > 0
        solution = np.zeros((n, 3))
        solution[ok] = np.linalg.solve(normal[ok], right[ok])[:, :, 0]
        flux = solution[:, 0]
        step = np.divide(solution[:, 1:], flux[:, None], out=np.zeros((n, 2)), where=flux[:, None] > 0)
        step = np.clip(step, -0.5, 0.5)
        dx, dy = dx + step[:, 0], dy + step[:, 1]
        model = stamps()
    scaled = model * flux[:, None, None]
    variance = stars.sky_variance[:, None, None] + stars.variance_slope[:, None, None] * np.maximum(
        scaled, 0.0
    )
    return StarFits(stars=stars, good=good, flux=flux, dx=dx, dy=dy, model=scaled, variance=variance)


def psf_residuals(
    psf: PsfModel, candidates: PsfCandidates, *, bad_planes: tuple[str, ...] = BAD_PLANES
) -> PsfResiduals:
    """Compare stars with the model at their places.

    Parameters
    ----------
    psf
        The model.
    candidates
        Stamps.
    bad_planes
        Mask planes whose pixels do not count.

    Returns
    -------
    residuals
        `PsfResiduals`. Flux and centre of each star are fitted first.
    """
    fits = fit_stars(psf, candidates, bad_planes=bad_planes)
    stars, good, scaled, variance = fits.stars, fits.good, fits.model, fits.variance
    return PsfResiduals(
        index=stars.index,
        x=stars.x,
        y=stars.y,
        flux=fits.flux,
        signal_to_noise=np.sqrt((good * scaled * scaled / variance).sum(axis=(1, 2))),
        residuals=moment_residuals(stars.image, variance, good, scaled, fits.dx, fits.dy),
        reduced_chi2=fits.reduced_chi2,
    )


def _moved(
    stamps: npt.NDArray[np.float64],
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    xc: npt.NDArray[np.float64],
    yc: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Return star images at (x, y) on stamps around other pixels (xc, yc), by whole-pixel shifts, in place."""
    by_x = (np.floor(x + 0.5) - xc).astype(np.int64)
    by_y = (np.floor(y + 0.5) - yc).astype(np.int64)
    for k in np.flatnonzero((by_x != 0) | (by_y != 0)):
        stamps[k] = np.roll(stamps[k], (by_y[k], by_x[k]), axis=(0, 1))
    return stamps


def _mean(values: npt.NDArray[np.float64], err: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return clipped inverse-variance mean, its error and the robust scatter of all."""
    median = float(np.median(values))
    scatter = MAD_TO_SIGMA * float(np.median(np.abs(values - median)))
    # scatter beyond noise, in the better half, keeps a few bright stars from being the whole mean
    better = err <= np.median(err)
    scatter_better = MAD_TO_SIGMA * float(np.median(np.abs(values[better] - np.median(values[better]))))
    intrinsic = max(scatter_better**2 - float(np.median(err[better])) ** 2, 0.0)
    variance = err**2 + intrinsic
    # stars with neighbours too faint to be masked are not the model's fault
    keep = np.abs(values - median) <= CLIP * np.sqrt(np.maximum(variance, scatter_better**2))
    values, weight = values[keep], 1.0 / variance[keep]
    mean = float((weight * values).sum() / weight.sum())
    from_noise = float(weight.sum() ** -0.5)
    n = len(values)
    if n < 2:
        return mean, from_noise, scatter
    from_scatter = float(np.sqrt((weight * (values - mean) ** 2).sum() / weight.sum() / (n - 1)))
    return mean, max(from_noise, from_scatter), scatter


def residual_statistics(result: PsfResiduals, chosen: npt.NDArray[np.bool_]) -> ResidualStatistics:
    """Summarise the residuals of some candidates.

    Parameters
    ----------
    result
        From `psf_residuals`.
    chosen : bool, shape (n_candidates,)
        Which candidates, for example those used or those reserved.

    Returns
    -------
    statistics
        `ResidualStatistics`.
    """
    r = result.residuals
    keep = np.asarray(chosen, np.bool_)[result.index] & np.isfinite(r.size) & (r.size_err > 0)
    n = int(keep.sum())
    if n == 0:
        return ResidualStatistics(0, *([float("nan")] * 9))
    size = _mean(r.size[keep], r.size_err[keep])
    e1 = _mean(r.e1[keep], r.e1_err[keep])
    e2 = _mean(r.e2[keep], r.e2_err[keep])
    return ResidualStatistics(n, *size, *e1, *e2)

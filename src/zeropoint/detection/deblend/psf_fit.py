"""Which peaks are point sources: PSF fits at all peaks of many parents at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.psf_model import PsfModel
from zeropoint.detection.deblend._kernels_psf_fit import fit_point_sources
from zeropoint.detection.deblend.config import SourceDeblendConfig

__all__ = ["FWHM_PER_SIGMA", "PointSourceFits", "fit_peaks", "psf_fwhm"]

#: PSF full width at half maximum over its determinant radius.
FWHM_PER_SIGMA = 2.35
#: The PSF width is interpolated between this many nodes a side.
_NODES = 9


@dataclass(frozen=True)
class PointSourceFits:
    """What the PSF fit says of each of ``n`` peaks.

    Parameters
    ----------
    amplitude : float64, shape (n,)
        Flux of a point source; 0 for other peaks, NaN for peaks that cannot be fitted.
    x, y : float64, shape (n,)
        Centre of the point source; NaN for other peaks.
    stamps : float64, shape (n, s, s)
        PSF: at the accepted centre of a point source, else at the peak pixel.
    middle : int64, shape (n, 2)
        Image pixel (x, y) under the middle of each stamp.
    """

    amplitude: np.ndarray
    x: np.ndarray
    y: np.ndarray
    stamps: np.ndarray
    middle: np.ndarray

    @property
    def is_psf(self) -> np.ndarray:
        """True for point sources, shape (n,)."""
        return self.amplitude > 0


def psf_fwhm(psf: PsfModel, shape: tuple[int, int], *, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the full width at half maximum of the PSF at positions, pixels, shape (n,).

    It is evaluated at 9 x 9 nodes and interpolated linearly, since only its rounded multiples are used.
    Where a node fails the PSF is measured at the position itself; NaN if that fails too.
    """
    height, width = shape
    gx, gy = np.meshgrid(np.linspace(0, width - 1, _NODES), np.linspace(0, height - 1, _NODES))
    grid = psf.shapes(x=gx.ravel(), y=gy.ravel()).determinant_radius.reshape(_NODES, _NODES)
    u = np.clip(x / max(width - 1, 1) * (_NODES - 1), 0, _NODES - 1)
    v = np.clip(y / max(height - 1, 1) * (_NODES - 1), 0, _NODES - 1)
    i, j = np.minimum(u.astype(np.int64), _NODES - 2), np.minimum(v.astype(np.int64), _NODES - 2)
    u, v = u - i, v - j
    low = grid[j, i] * (1 - u) + grid[j, i + 1] * u
    high = grid[j + 1, i] * (1 - u) + grid[j + 1, i + 1] * u
    sigma = np.asarray(low * (1 - v) + high * v)
    bad = ~(sigma > 0)
    if bad.any():
        sigma[bad] = psf.shapes(x=x[bad], y=y[bad]).determinant_radius
    return FWHM_PER_SIGMA * sigma


def fit_peaks(
    exposure: Exposure,
    psf: PsfModel,
    spans: np.ndarray,
    table: np.ndarray,
    fwhm: np.ndarray,
    peaks: np.ndarray,
    config: SourceDeblendConfig,
) -> PointSourceFits:
    """Fit a point source to every peak, at the peak pixel and at the best displacement from it.

    Parameters
    ----------
    exposure
        Image and variance.
    psf
        PSF model.
    spans : int32, shape (n_spans, 3)
        Runs ``(y, x0, x1)`` of the parents.
    table : int64, shape (n_parents, 8)
        First and last run, first and last peak (one past), box x0, y0, x1, y1 (inclusive).
    fwhm : float64, shape (n_parents,)
        PSF width, pixels.
    peaks : int32, shape (n_peaks, 2)
        Peak pixels (x, y).
    config
        Limits on chi2 per degree of freedom.

    Notes
    -----
    A point source has chi2/dof below ``psfChisq1`` at the peak pixel, or below ``psfChisq2`` with a displacement
    of less than a pixel and below ``psfChisq2b`` with the PSF drawn there; the better of the two counts.  Its
    flux must be positive.
    """
    n = len(peaks)
    x, y = peaks[:, 0].astype(np.float64), peaks[:, 1].astype(np.float64)
    stamps = np.ascontiguousarray(psf.star_stamps(x=x, y=y), np.float64)
    middle = peaks.astype(np.int64)

    def fit(which: np.ndarray, images: np.ndarray, pixel: np.ndarray, n_variants: int) -> np.ndarray:
        out = np.empty((len(which), 6))
        options = np.array([n_variants, config.tinyFootprintSize], np.int64)
        fit_point_sources(
            exposure.image,
            exposure.variance,
            spans,
            table,
            fwhm,
            peaks,
            stamps,
            which,
            images,
            pixel,
            options,
            out,
        )
        return out

    status, q1, a1, q2, dx, dy = fit(np.arange(n), stamps, middle, 2).T
    accepted = (q1 < config.psfChisq1) & (a1 > 0)
    amplitude = np.where(accepted, a1, 0.0)
    centre_x, centre_y = np.where(accepted, x, np.nan), np.where(accepted, y, np.nan)

    movable = np.flatnonzero((q2 < config.psfChisq2) & (np.abs(dx) < 1) & (np.abs(dy) < 1))
    if len(movable):
        mx, my = x[movable] + dx[movable], y[movable] + dy[movable]
        moved = np.ascontiguousarray(psf.star_stamps(x=mx, y=my), np.float64)
        moved_middle = np.floor(np.stack([mx, my], axis=1) + 0.5).astype(np.int64)
        _, q2b, a2b, _, _, _ = fit(movable, moved, moved_middle, 1).T
        better = (q2b < config.psfChisq2b) & (a2b > 0) & (~accepted[movable] | (q2b < q1[movable]))
        rows = movable[better]
        stamps[rows], middle[rows], amplitude[rows] = moved[better], moved_middle[better], a2b[better]
        centre_x[rows], centre_y[rows] = mx[better], my[better]
    amplitude[status > 0] = np.nan
    return PointSourceFits(amplitude, centre_x, centre_y, stamps, middle)

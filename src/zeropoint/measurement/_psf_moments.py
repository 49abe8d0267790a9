"""HSM moments of the PSF anywhere on an exposure, from a coarse grid of kernel images."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
from scipy.interpolate import RectBivariateSpline

from zeropoint.datamodel.psf_model import PsfModel
from zeropoint.measurement._hsm_kernels import hsm_stack

__all__ = ["UNDERSAMPLED", "PsfMomentsGrid", "psf_moments_grid"]

#: Below this determinant radius (pixels) sums over pixels no longer approximate integrals (error of the size
#: above 1 %, rising steeply), and moments come from a Gaussian fit instead.
UNDERSAMPLED = 0.9


class PsfMomentsGrid:
    """HSM adaptive moments of the kernel images of a PSF model.

    Models vary smoothly, so a cubic spline through nodes at most 256 pixels apart replaces the moments of
    every source's own stamp.

    Parameters
    ----------
    psf
        PSF model.
    shape
        (height, width) of the image.
    round_weight
        Keep the weight circular.
    """

    SPACING = 256

    def __init__(self, psf: PsfModel, shape: tuple[int, int], round_weight: bool) -> None:
        height, width = shape
        self._psf = psf
        self._round = round_weight
        self._x = np.linspace(0.0, max(width - 1, 1), max(4, -(-width // self.SPACING) + 1))
        self._y = np.linspace(0.0, max(height - 1, 1), max(4, -(-height // self.SPACING) + 1))
        gx, gy = (grid.ravel() for grid in np.meshgrid(self._x, self._y))
        values, status = self._measure(gx, gy)
        self._complete = bool((status == 0).all())
        layout = (len(self._y), len(self._x))
        self._splines = [
            RectBivariateSpline(self._y, self._x, np.nan_to_num(v).reshape(layout), kx=3, ky=3)
            for v in values.T
        ]

    def _measure(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        stamps = np.ascontiguousarray(self._psf.kernel_stamps(x=x, y=y), np.float64)
        n = len(stamps)
        centre = np.full(n, float(self._psf.size // 2))
        out, status = np.empty((n, 6)), np.zeros(n, np.int64)
        hsm_stack(stamps, centre, centre, np.full(n, 1.5), self._round, UNDERSAMPLED, out, status)
        out[:, :2] -= self._psf.size // 2
        return out, status

    def at(self, *, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return moments and status at positions.

        Parameters
        ----------
        x, y : float64, shape (n,)
            Finite positions; those off the image take the value of the nearest edge.

        Returns
        -------
        values : float64, shape (n, 6)
            Offset from the centre of the kernel image (x, y), xx, yy, xy [pixels], flux.
        status : int64, shape (n,)
            0 where good (`hsm_moments`).
        """
        if not self._complete:
            return self._measure(x, y)
        xc = np.clip(x, self._x[0], self._x[-1])
        yc = np.clip(y, self._y[0], self._y[-1])
        return np.column_stack([s.ev(yc, xc) for s in self._splines]), np.zeros(len(x), np.int64)


_GRIDS: WeakKeyDictionary[PsfModel, dict[tuple[tuple[int, int], bool], PsfMomentsGrid]] = WeakKeyDictionary()


def psf_moments_grid(psf: PsfModel, shape: tuple[int, int], *, round_weight: bool = False) -> PsfMomentsGrid:
    """Return the grid of a PSF model on an image, made once for each model."""
    grids = _GRIDS.setdefault(psf, {})
    key = (shape, round_weight)
    if key not in grids:
        grids[key] = PsfMomentsGrid(psf, shape, round_weight)
    return grids[key]

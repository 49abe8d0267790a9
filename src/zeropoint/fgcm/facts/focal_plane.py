"""Mean residuals over the focal plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.facts.layout import DetectorLayout, detector_layout

if TYPE_CHECKING:
    from zeropoint.fgcm.model.observations import FitData

__all__ = ["FocalPlaneFacts", "focal_plane_facts"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


#: Observations that a cell has in the mean, at least.
_LEAST = 50


@dataclass(frozen=True)
class FocalPlaneFacts:
    """Mean residual (star's mean minus observation) in cells of the detectors.

    Parameters
    ----------
    layout
        Where the detectors are.
    size
        Width and height of a detector, pixels.
    residual, residual_err : float64, shape (n_band, n_det, n_cell, n_cell)
        Mag, indexed [..., y, x]; NaN in empty cells. Each exposure has its own mean removed.
    """

    layout: DetectorLayout
    size: tuple[float, float]
    residual: FloatArray
    residual_err: FloatArray

    @property
    def n_cell(self) -> int:
        """Cells along a side of a detector."""
        return int(self.residual.shape[-1])

    def corners(self, n_cell: int | None = None) -> FloatArray:
        """Return the corners of the cells on the focal plane, shape (n_det, n_cell, n_cell, 4, 2).

        Parameters
        ----------
        n_cell
            Cells along a side; None: those of the residuals.
        """
        n = self.n_cell if n_cell is None else n_cell
        n_det = len(self.layout.affine)
        width, height = self.size
        column, row = np.meshgrid(np.arange(n), np.arange(n))
        detector = np.broadcast_to(np.arange(n_det)[:, None, None], (n_det, n, n))
        out = np.empty((n_det, n, n, 4, 2))
        for k, (right, up) in enumerate(((0, 0), (1, 0), (1, 1), (0, 1))):
            x = (column + right) * width / n - 0.5
            y = (row + up) * height / n - 0.5
            out[..., k, 0], out[..., k, 1] = self.layout.places(detector, x, y)
        return out


def focal_plane_facts(
    data: FitData,
    residual: npt.NDArray[np.floating],
    error: npt.NDArray[np.floating],
    use: BoolArray,
    size: tuple[float, float],
) -> FocalPlaneFacts:
    """Return mean residuals over the focal plane.

    Parameters
    ----------
    data
        Exposures, observations and stars.
    residual : float, shape (n_obs,)
        Star's mean minus observation.
    error : float, shape (n_obs,)
        Errors of the observations.
    use : bool, shape (n_obs,)
        Which observations count.
    size
        Width and height of a detector, pixels.
    """
    o = data.observations
    n_cell = _cells(o.n_det, int(np.count_nonzero(use)) // (o.n_band * o.n_det))
    n_exp = len(data.exposures.visit)
    rows = np.flatnonzero(use & np.isfinite(residual) & np.isfinite(o.x) & np.isfinite(o.y))
    exposure = o.exposure[rows]
    weight = 1.0 / np.square(error[rows], dtype=np.float64)
    y = residual[rows].astype(np.float64)
    column, row = (
        np.clip(((position[rows] + 0.5) * n_cell / side).astype(np.int64), 0, n_cell - 1)
        for position, side in ((o.x, size[0]), (o.y, size[1]))
    )
    shape = (o.n_band, o.n_det, n_cell, n_cell)
    cell = ((o.band[rows].astype(np.int64) * o.n_det + o.detector[rows]) * n_cell + row) * n_cell + column
    with np.errstate(invalid="ignore", divide="ignore"):
        y = y - (np.bincount(exposure, weight * y, n_exp) / np.bincount(exposure, weight, n_exp))[exposure]
        weights = np.bincount(cell, weight, int(np.prod(shape))).reshape(shape)
        mean = np.bincount(cell, weight * y, int(np.prod(shape))).reshape(shape) / weights
        mean_error = np.where(weights > 0, 1.0 / np.sqrt(weights), np.nan)
    return FocalPlaneFacts(detector_layout(data, size), size, mean, mean_error)


def _cells(n_det: int, n_observations: int) -> int:
    """Return into how many cells along a side a detector is divided: about as many over any focal plane, none nearly empty."""
    filled = int(np.sqrt(n_observations / _LEAST))
    return int(np.clip(min(round(24.0 / np.sqrt(n_det)), filled), 1, 12))

"""Where the detectors are on the focal plane, as the stars show it: no camera model is needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from zeropoint.fgcm.model.observations import FitData

__all__ = ["DetectorLayout", "detector_layout"]

FloatArray = npt.NDArray[np.float64]

#: Observations that are looked at; more would not tell more.
_MOST = 60_000
#: Largest scatter about the straight lines, as a part of the size of a detector, of a layout that is believed.
_SCATTER = 0.05


@dataclass(frozen=True)
class DetectorLayout:
    """Places on the focal plane as linear functions of the pixel.

    Parameters
    ----------
    affine : float64, shape (n_det, 2, 3)
        Place = ``affine @ (x, y, 1)``.
    unit
        ``deg``: degrees from the optical axis; empty: the places are not known, and the detectors stand in rows by number.
    """

    affine: FloatArray
    unit: str

    def places(
        self, detector: npt.NDArray[np.integer], x: FloatArray, y: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return places on the focal plane.

        Parameters
        ----------
        detector : int, shape (n,)
            Positions of the detectors in the list of detectors.
        x, y : float, shape (n,)
            Pixels.
        """
        a = self.affine[detector]
        return a[..., 0, 0] * x + a[..., 0, 1] * y + a[..., 0, 2], a[..., 1, 0] * x + a[..., 1, 1] * y + a[
            ..., 1, 2
        ]


def detector_layout(data: FitData, size: tuple[float, float]) -> DetectorLayout:
    """Return where the detectors are.

    Parameters
    ----------
    data
        Exposures, observations and stars.
    size
        Width and height of a detector, pixels.

    Notes
    -----
    Stars' places on the tangent plane of the pointing, turned back by the exposure's rotation, are linear functions of
    the pixel. How the rotation counts is tried out: it may be measured either way, or not be there at all. Where no way is
    right (unknown pointings, say) the detectors stand in rows by number.
    """
    n_det = data.observations.n_det
    rows = _sample(data)
    best: tuple[float, FloatArray] | None = None
    if len(rows) >= 10 * n_det:
        xi, eta = _offsets(data, rows)
        rotation = np.deg2rad(np.nan_to_num(data.exposures.rotation))[data.observations.exposure[rows]]
        known = np.isfinite(xi) & np.isfinite(eta)
        for sign in (1.0, -1.0, 0.0):
            cosine, sine = np.cos(sign * rotation), np.sin(sign * rotation)
            u, v = cosine * xi - sine * eta, sine * xi + cosine * eta
            found = _affine(data, rows[known], u[known], v[known], n_det)
            if found is not None and (best is None or found[0] < best[0]):
                best = found
    if best is not None:
        scale = float(np.median(np.sqrt(np.abs(np.linalg.det(best[1][:, :, :2])))))
        if best[0] < _SCATTER * scale * min(size):
            return DetectorLayout(best[1], "deg")
    return DetectorLayout(_in_rows(n_det, size), "")


def _sample(data: FitData) -> npt.NDArray[np.int64]:
    """Return observations, evenly chosen, whose places are known."""
    o = data.observations
    step = max(len(o.ec) // _MOST, 1)
    rows = np.arange(0, len(o.ec), step)
    return np.asarray(rows[np.isfinite(o.x[rows]) & np.isfinite(o.y[rows])])


def _offsets(data: FitData, rows: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """Return places on the tangent plane of the pointing, degrees to East and North."""
    o, exposures, stars = data.observations, data.exposures, data.stars
    ra0, dec0 = (np.deg2rad(getattr(exposures, name))[o.exposure[rows]] for name in ("ra", "dec"))
    ra, dec = (np.deg2rad(getattr(stars, name))[o.star[rows]] for name in ("ra", "dec"))
    cosine = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra - ra0)
    with np.errstate(invalid="ignore", divide="ignore"):
        xi = np.cos(dec) * np.sin(ra - ra0) / cosine
        eta = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra - ra0)) / cosine
    return np.rad2deg(xi), np.rad2deg(eta)


def _affine(
    data: FitData, rows: npt.NDArray[np.int64], u: FloatArray, v: FloatArray, n_det: int
) -> tuple[float, FloatArray] | None:
    """Return the scatter, degrees, about the best linear functions of each detector, and these; None if one has too few."""
    o = data.observations
    detector = o.detector[rows]
    order = np.argsort(detector, kind="stable")
    ends = np.cumsum(np.bincount(detector, minlength=n_det))
    affine = np.empty((n_det, 2, 3))
    squares = []
    for k, chosen in enumerate(np.split(order, ends[:-1])):
        if len(chosen) < 10:
            return None
        design = np.column_stack([o.x[rows[chosen]], o.y[rows[chosen]], np.ones(len(chosen))]).astype(
            np.float64
        )
        target = np.column_stack([u[chosen], v[chosen]])
        solution = np.linalg.lstsq(design, target)[0]
        affine[k] = solution.T
        squares.append(np.median(np.sum((target - design @ solution) ** 2, axis=1)))
    return float(np.sqrt(np.median(squares))), affine


def _in_rows(n_det: int, size: tuple[float, float]) -> FloatArray:
    """Return a layout in rows by number."""
    columns = int(np.ceil(np.sqrt(n_det)))
    affine = np.zeros((n_det, 2, 3))
    affine[:, 0, 0] = affine[:, 1, 1] = 1.0
    number = np.arange(n_det)
    affine[:, 0, 2] = 1.04 * size[0] * (number % columns)
    affine[:, 1, 2] = 1.04 * size[1] * (number // columns)
    return affine

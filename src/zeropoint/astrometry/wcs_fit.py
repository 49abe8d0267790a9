"""What the WCS fitters share: matched stars, weights with an estimated floor, robust least squares."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from zeropoint.datamodel.wcs import SkyWcs, gnomonic
from zeropoint.errors import AstrometryFitFailure

__all__ = [
    "MatchedStars",
    "RobustFit",
    "WcsFitResult",
    "residuals",
    "robust_least_squares",
    "separation_arcsec",
]

_ARCSEC = np.pi / 648000.0
#: Matches below which no WCS is fitted.
MIN_MATCHES = 3
#: Noise that every star has at least, radians (0.1 mas): only keeps weights finite.
_SMALLEST_ERROR = 1e-4 * _ARCSEC


@dataclass(frozen=True)
class MatchedStars:
    """Pixel and sky positions of matched stars, one row a match.

    Parameters
    ----------
    x, y : float64, shape (n,)
        Centroids, pixels.
    ra, dec : float64, shape (n,)
        Reference positions, radians.
    x_err, y_err : float64, shape (n,)
        Centroid errors, pixels; NaN if unknown.
    ra_err, dec_err : float64, shape (n,)
        Reference errors along East and North, radians; NaN if unknown.
    """

    x: np.ndarray
    y: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    x_err: np.ndarray
    y_err: np.ndarray
    ra_err: np.ndarray
    dec_err: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: np.ndarray) -> MatchedStars:
        """Return some rows."""
        return MatchedStars(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})

    def variance(self, wcs: SkyWcs) -> np.ndarray:
        """Return the variance of an axis of (reference - source) from the quoted errors, radians squared."""
        scale = np.sqrt(np.abs(np.linalg.det(wcs.local_jacobian(x=self.x, y=self.y))))
        pixel = 0.5 * (_known(self.x_err) ** 2 + _known(self.y_err) ** 2) * scale**2
        sky = 0.5 * (_known(self.ra_err) ** 2 + _known(self.dec_err) ** 2)
        return pixel + sky + _SMALLEST_ERROR**2


@dataclass(frozen=True)
class WcsFitResult:
    """A fitted WCS.

    Parameters
    ----------
    wcs
        The fit.
    good : bool, shape (n,)
        Matches that were used in it.
    scatter_arcsec
        Median separation of all matches.
    floor_arcsec
        Scatter per axis beyond the quoted errors, as the fit estimated it.
    metadata
        Model, order, numbers; plain scalars.
    """

    wcs: SkyWcs
    good: np.ndarray
    scatter_arcsec: float
    floor_arcsec: float
    metadata: dict[str, int | float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class RobustFit:
    """Solution (p, k), rows used, and the estimated extra variance of an axis."""

    solution: np.ndarray
    good: np.ndarray
    floor: float


def _known(error: np.ndarray) -> np.ndarray:
    """Return errors with the unknown ones replaced by the median of the known ones, or zero."""
    error = np.asarray(error, np.float64)
    known = np.isfinite(error) & (error > 0)
    return np.where(known, error, np.median(error[known]) if known.any() else 0.0)


def residuals(stars: MatchedStars, wcs: SkyWcs) -> tuple[np.ndarray, np.ndarray]:
    """Return (East, North) of source minus reference, radians, on the plane tangent at the WCS's tangent point."""
    xi, eta = gnomonic(stars.ra, stars.dec, wcs.ra0, wcs.dec0)
    px, py = wcs.pixel_to_tangent(x=stars.x, y=stars.y)
    return px - xi, py - eta


def separation_arcsec(stars: MatchedStars, wcs: SkyWcs) -> np.ndarray:
    """Return the separation of each match, arcsec."""
    return np.hypot(*residuals(stars, wcs)) / _ARCSEC


def _floor(scaled: np.ndarray, variance: np.ndarray, expected: float) -> float:
    """Return the extra variance under which the median of |residual| / sigma has its expected value."""

    def excess(extra: float) -> float:
        return float(np.median(scaled / (variance + extra))) - expected**2

    if excess(0.0) <= 0.0:
        return 0.0
    low, high = 0.0, float(np.median(scaled)) / expected**2
    for _ in range(24):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return 0.5 * (low + high)


def robust_least_squares(
    design: np.ndarray,
    target: np.ndarray,
    variance: np.ndarray,
    *,
    n_iter: int,
    n_reject: int,
    reject_sigma: float,
    joint: bool = False,
) -> RobustFit:
    """Solve ``design @ solution = target`` with known plus estimated noise, without outliers.

    Parameters
    ----------
    design : float64, shape (n, p), or (2, n, p) with ``joint``
        Design matrix; with ``joint`` one for each axis and one common solution.
    target : float64, shape (n, 2)
        Both axes.
    variance : float64, shape (n,)
        Known variance of an axis.
    n_iter
        Reweighting rounds (Cauchy weights, and the noise floor estimated anew) before each rejection.
    n_reject
        Rejection rounds: |residual| above ``reject_sigma`` sigma in either axis, either sign.

    Raises
    ------
    AstrometryFitFailure
        If fewer rows are left than there are parameters.
    """
    n, p = target.shape[0], design.shape[-1]
    rows_per_star = 2.0 if joint else 1.0
    good, floor, soft = np.ones(n, bool), 0.0, np.ones(n)
    # orthonormal columns keep the normal equations well conditioned whatever the order
    stacked, right = (design.reshape(-1, p), target.T.reshape(-1, 1)) if joint else (design, target)
    values, vectors = np.linalg.eigh(stacked.T @ stacked)
    kept = values > 1e-14 * values[-1]
    to_basis = vectors[:, kept] / np.sqrt(values[kept])
    basis = stacked @ to_basis
    coefficients = np.zeros((basis.shape[1], right.shape[1]))
    for round_ in range(n_reject + 1):
        if good.sum() * rows_per_star < p:
            raise AstrometryFitFailure(
                f"The WCS fit rejected all but {int(good.sum())} of {n} matches.",
                n_matches=n,
                n_good=int(good.sum()),
            )
        share = max(1.0 - p / (rows_per_star * good.sum()), 0.05)
        for _ in range(max(n_iter, 1)):
            weight = np.where(good, soft / (variance + floor), 0.0)
            weight = np.tile(weight / weight.max(), 2 if joint else 1)[:, None]
            normal = basis.T @ (basis * weight)
            coefficients = np.linalg.lstsq(normal, basis.T @ (right * weight), rcond=None)[0]
            model = basis @ coefficients
            if joint:
                model = model.reshape(2, n).T
            square = (target - model) ** 2
            # both axes together: the median of |r| of a 2-d Gaussian is 1.1774 sigma
            total = square.sum(axis=1)
            floor = _floor(total[good], variance[good], 1.1774 * np.sqrt(share))
            soft = (
                1.0 / (1.0 + total / (variance + floor) / (2.0 * 2.385**2))
                if round_ < n_reject
                else np.ones(n)
            )
        if round_ < n_reject:
            limit = reject_sigma**2 * (variance + floor)
            good = np.all(square <= limit[:, None], axis=1)
            soft = np.ones(n)
    return RobustFit(to_basis @ coefficients, good, float(np.sqrt(floor)))

"""Fit a TAN-SIP WCS from scratch: tangent plane at the middle of the references, polynomial distortion."""

from __future__ import annotations

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.astrometry.affine import MIN_MATCHES_AFFINE, FitAffineWcs
from zeropoint.astrometry.matcher import mean_direction
from zeropoint.astrometry.wcs_fit import MatchedStars, WcsFitResult, robust_least_squares, separation_arcsec
from zeropoint.datamodel.catalog import Schema
from zeropoint.datamodel.wcs import SkyWcs, gnomonic
from zeropoint.errors import AstrometryFitFailure

__all__ = ["FitTanSipWcs", "FitTanSipWcsConfig"]

_ARCSEC = np.pi / 648000.0
#: Matches needed for each coefficient of an axis.
MATCHES_PER_TERM = 3
#: Largest variance of the fit at a corner of the image, in units of a star's.
MAX_CORNER_VARIANCE = 4.0


class FitTanSipWcsConfig(pexConfig.Config):
    """Configuration of `FitTanSipWcs`."""

    order = pexConfig.RangeField[int](
        doc="Highest order of the distortion polynomial.", default=2, min=0, max=9
    )
    numIter = pexConfig.RangeField[int](doc="Reweighting rounds of each fit.", default=3, min=1)
    numRejIter = pexConfig.RangeField[int](doc="Rounds of outlier rejection.", default=1, min=0)
    rejSigma = pexConfig.RangeField[float](
        doc="Matches further than this many sigma in either axis, of either sign, are rejected.",
        default=3.0,
        min=0.0,
    )
    maxScatterArcsec = pexConfig.RangeField[float](
        doc="Largest median scatter of a fit that is not a failure (arcsec).", default=10.0, min=0.0
    )


def _terms(order: int) -> list[tuple[int, int]]:
    return [(j, i) for j in range(order + 1) for i in range(order + 1 - j)]


def _design(x: np.ndarray, y: np.ndarray, order: int, x_ref: float, y_ref: float, scale: float) -> np.ndarray:
    u, v = (x - x_ref) / scale, (y - y_ref) / scale
    return np.stack([v**j * u**i for j, i in _terms(order)], axis=1)


class FitTanSipWcs:
    """Fit a polynomial of the pixel position on the tangent plane; modifies nothing.

    Notes
    -----
    The model is linear: both axes of the tangent plane at the references' mean position are polynomials of the
    pixel position, which is TAN-SIP exactly.  The order falls below the configured one until there are three
    matches a coefficient and the corners of the image are constrained; the metadata says so (``order``,
    ``order_wanted``).  With fewer than six matches only shift, rotation and scale of the initial WCS are fitted.
    """

    ConfigClass = FitTanSipWcsConfig

    def __init__(self, config: FitTanSipWcsConfig | None = None, *, schema: Schema | None = None) -> None:
        self.config = FitTanSipWcsConfig() if config is None else config

    def run(self, stars: MatchedStars, wcs: SkyWcs, *, shape: tuple[int, int]) -> WcsFitResult:
        """Fit a new WCS.

        Parameters
        ----------
        stars
            Matches.
        wcs
            Initial WCS; it only scales the errors, unless there are fewer than six matches.
        shape
            (height, width) of the image: the polynomial is normalised to it and its corners are guarded.

        Raises
        ------
        AstrometryFitFailure
            With too few matches, or if the scatter exceeds ``maxScatterArcsec``.
        """
        wanted = max(self.config.order, 1)
        if len(stars) < MIN_MATCHES_AFFINE:
            result = FitAffineWcs().run(stars, wcs, shape=shape)
            result.metadata.update(fitter="tan_sip", order_wanted=wanted)
        else:
            result = self._fit(stars, wcs, shape, wanted)
        if not result.scatter_arcsec <= self.config.maxScatterArcsec:
            raise AstrometryFitFailure(
                f"The WCS fit scatters by {result.scatter_arcsec:.2f} arcsec (limit "
                f"{self.config.maxScatterArcsec}); the matches are probably wrong.",
                scatter_arcsec=result.scatter_arcsec,
                max_scatter_arcsec=float(self.config.maxScatterArcsec),
                n_matches=len(stars),
            )
        return result

    def _fit(self, stars: MatchedStars, wcs: SkyWcs, shape: tuple[int, int], wanted: int) -> WcsFitResult:
        config, n = self.config, len(stars)
        ra0, dec0 = mean_direction(stars.ra, stars.dec)
        target = np.stack(gnomonic(stars.ra, stars.dec, ra0, dec0), axis=1)
        height, width = shape
        frame = (0.5 * (width - 1), 0.5 * (height - 1), 0.5 * max(width, height))
        variance = stars.variance(wcs)
        order = _affordable_order(stars, wanted, shape, frame)
        fit = robust_least_squares(
            _design(stars.x, stars.y, order, *frame),
            target,
            variance,
            n_iter=config.numIter,
            n_reject=config.numRejIter,
            reject_sigma=config.rejSigma,
        )
        coefficients = np.zeros((2, order + 1, order + 1))
        for k, (j, i) in enumerate(_terms(order)):
            coefficients[:, j, i] = fit.solution[k]
        new = SkyWcs(ra0, dec0, coefficients, *frame)
        return WcsFitResult(
            wcs=new,
            good=fit.good,
            scatter_arcsec=float(np.median(separation_arcsec(stars, new))),
            floor_arcsec=fit.floor / _ARCSEC,
            metadata={
                "fitter": "tan_sip",
                "model": "polynomial",
                "order": order,
                "order_wanted": wanted,
                "n_good": int(fit.good.sum()),
                "n_matches": n,
            },
        )


def _affordable_order(
    stars: MatchedStars, wanted: int, shape: tuple[int, int], frame: tuple[float, float, float]
) -> int:
    """Return the highest order not above ``wanted`` that the matches constrain all over the image."""
    height, width = shape
    corner_x = np.array([0.0, width - 1.0, 0.0, width - 1.0])
    corner_y = np.array([0.0, 0.0, height - 1.0, height - 1.0])
    for order in range(wanted, 1, -1):
        design = _design(stars.x, stars.y, order, *frame)
        if len(stars) < MATCHES_PER_TERM * design.shape[1]:
            continue
        values, vectors = np.linalg.eigh(design.T @ design)
        if values[0] < 1e-12 * values[-1]:
            continue
        corners = (_design(corner_x, corner_y, order, *frame) @ vectors) ** 2 / values
        if corners.sum(axis=1).max() <= MAX_CORNER_VARIANCE:
            return order
    return 1

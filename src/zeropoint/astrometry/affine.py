"""Fit an affine correction of a WCS on its tangent plane: the camera's distortion stays as it is."""

from __future__ import annotations

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.astrometry.wcs_fit import (
    MIN_MATCHES,
    MatchedStars,
    WcsFitResult,
    robust_least_squares,
    separation_arcsec,
)
from zeropoint.datamodel.catalog import Schema
from zeropoint.datamodel.wcs import SkyWcs, gnomonic
from zeropoint.errors import AstrometryFitFailure

__all__ = ["FitAffineWcs", "FitAffineWcsConfig"]

_ARCSEC = np.pi / 648000.0
#: From this number of matches on all six parameters are free; below it shift, rotation and scale.
MIN_MATCHES_AFFINE = 6


class FitAffineWcsConfig(pexConfig.Config):
    """Configuration of `FitAffineWcs`."""

    num_rej_iter = pexConfig.RangeField[int](doc="Rounds of outlier rejection.", default=2, min=0)
    rej_sigma = pexConfig.RangeField[float](
        doc="Matches further than this many sigma in either axis are rejected.", default=4.0, min=0.0
    )


class FitAffineWcs:
    """Fit shift, rotation, scale and shear on the tangent plane of a WCS; modifies nothing.

    Notes
    -----
    With ``a`` the sources on the tangent plane and ``b`` the references, ``b = M a + t`` is solved by weighted
    least squares; weights come from the quoted errors plus a scatter estimated from the residuals.  With fewer
    than six matches ``M`` is a rotation times a scale.
    """

    ConfigClass = FitAffineWcsConfig

    def __init__(self, config: FitAffineWcsConfig | None = None, *, schema: Schema | None = None) -> None:
        self.config = FitAffineWcsConfig() if config is None else config

    def run(self, stars: MatchedStars, wcs: SkyWcs, *, shape: tuple[int, int]) -> WcsFitResult:
        """Fit a correction of ``wcs``.

        Parameters
        ----------
        stars
            Matches.
        wcs
            Initial WCS.
        shape
            (height, width) of the image; unused here.

        Raises
        ------
        AstrometryFitFailure
            With fewer than three matches, or if rejection leaves too few.
        """
        n = len(stars)
        if n < MIN_MATCHES:
            raise AstrometryFitFailure(
                f"{n} matches are too few to fit a WCS; at least {MIN_MATCHES} are needed.", n_matches=n
            )
        px, py = wcs.pixel_to_tangent(x=stars.x, y=stars.y)
        target = np.stack(gnomonic(stars.ra, stars.dec, wcs.ra0, wcs.dec0), axis=1)
        scale = max(float(np.abs(px).max()), float(np.abs(py).max()), _ARCSEC)
        affine = n >= MIN_MATCHES_AFFINE
        one, zero = np.ones(n), np.zeros(n)
        if affine:
            design = np.stack([px / scale, py / scale, one], axis=1)
        else:  # xi = a x - b y + t, eta = a y + b x + u
            design = np.stack(
                [
                    np.stack([px / scale, -py / scale, one, zero], axis=1),
                    np.stack([py / scale, px / scale, zero, one], axis=1),
                ]
            )
        fit = robust_least_squares(
            design,
            target,
            stars.variance(wcs),
            n_iter=3,
            n_reject=self.config.num_rej_iter if affine else 0,
            reject_sigma=self.config.rej_sigma,
            joint=not affine,
        )
        if affine:
            matrix, offset = fit.solution[:2].T / scale, fit.solution[2]
        else:
            a, b, t, u = fit.solution[:, 0]
            matrix, offset = np.array([[a, -b], [b, a]]) / scale, np.array([t, u])
        new = wcs.with_affine(matrix, offset)
        return WcsFitResult(
            wcs=new,
            good=fit.good,
            scatter_arcsec=float(np.median(separation_arcsec(stars, new))),
            floor_arcsec=fit.floor / _ARCSEC,
            metadata={
                "fitter": "affine",
                "model": "affine" if affine else "similarity",
                "order": wcs.order,
                "n_good": int(fit.good.sum()),
            },
        )

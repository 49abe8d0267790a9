"""Piff itself as the solver: for its other models, interpolants, coordinates and colours, and to compare with."""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.exposure import Exposure
from zeropoint.errors import InvalidInputError, PiffTooFewGoodStarsError, PsfFitError
from zeropoint.psf.stars import PsfStars

if TYPE_CHECKING:
    import galsim
    import piff

__all__ = ["fit_with_piff", "piff_config", "piff_stars"]

_LOG = logging.getLogger(__name__)
_LEVELS = {0: logging.CRITICAL, 1: logging.WARNING, 2: logging.INFO, 3: logging.DEBUG}


def _pixel_scale(exposure: Exposure) -> float:
    """Return arcsec per pixel at the centre; 1 without a WCS, which changes nothing in pixel coordinates."""
    if exposure.wcs is None:
        return 1.0
    height, width = exposure.shape
    scale = exposure.wcs.pixel_scale(x=np.array([0.5 * (width - 1)]), y=np.array([0.5 * (height - 1)]))
    return float(np.atleast_1d(scale)[0])


def _wcs(exposure: Exposure, coordinates: str) -> tuple[galsim.BaseWCS, galsim.CelestialCoord | None]:
    """Return GalSim's WCS and pointing for the coordinates in which the model is defined.

    ``field`` uses the tangent plane of the exposure's WCS, in arcsec, as a Euclidean system.
    """
    import galsim

    if coordinates == "pixel" or exposure.wcs is None:
        return galsim.PixelScale(_pixel_scale(exposure)), None
    wcs = exposure.wcs
    if coordinates == "sky":
        astropy_wcs = wcs.to_astropy(exposure.shape)
        pointing = galsim.CelestialCoord(
            float(astropy_wcs.wcs.crval[0]) * galsim.degrees, float(astropy_wcs.wcs.crval[1]) * galsim.degrees
        )
        # FITS pixels start at 1, ours at 0
        return galsim.AstropyWCS(wcs=astropy_wcs, origin=galsim.PositionD(-1, -1)), pointing
    arcsec = np.degrees(1.0) * 3600.0

    def u(x: Any, y: Any) -> Any:
        return wcs.pixel_to_tangent(x=x, y=y)[0] * arcsec

    def v(x: Any, y: Any) -> Any:
        return wcs.pixel_to_tangent(x=x, y=y)[1] * arcsec

    return galsim.UVFunction(u, v), None


def piff_config(config: Any, order: int, scale: float) -> dict[str, Any]:
    """Return Piff's configuration dictionary of the PSF for a determiner's config.

    Parameters
    ----------
    config
        A ``PiffPsfDeterminerConfig``.
    order
        Spatial order.
    scale
        Arcsec per pixel.
    """
    keys = ["x", "y"] if config.useCoordinates == "pixel" else ["u", "v"]
    orders = [order, order]
    if config.useColor:
        keys, orders = [*keys, "colorValue"], [*orders, config.colorOrder]
    return {
        "type": "Simple",
        "model": {
            "type": "PixelGrid",
            "scale": scale * config.samplingSize,
            "size": config.modelSize,
            # Piff evaluates the string and needs an instance; upstream's names are those of classes
            "interp": config.interpolant if "(" in config.interpolant else f"{config.interpolant}()",
            "centered": config.piffPixelGridFitCenter,
        },
        "interp": {
            "type": "BasisPolynomial",
            "order": orders if config.useColor else order,
            "keys": keys,
            "solver": config.piffBasisPolynomialSolver,
        },
        "outliers": {
            "type": "Chisq",
            "nsigma": config.outlierNSigma,
            "max_remove": config.outlierMaxRemove,
        },
        "max_iter": config.piffMaxIter,
    }


def piff_stars(
    stars: PsfStars,
    wcs: galsim.BaseWCS,
    pointing: galsim.CelestialCoord | None,
    color: npt.NDArray[np.float64] | None = None,
) -> list[piff.Star]:
    """Return Piff stars of the same pixels, weights and positions."""
    import galsim
    import piff

    result = []
    half = stars.side // 2
    for k in range(len(stars)):
        x0 = int(np.floor(stars.x[k] + 0.5)) - half
        y0 = int(np.floor(stars.y[k] + 0.5)) - half
        image = galsim.Image(np.ascontiguousarray(stars.image[k]), xmin=x0, ymin=y0, wcs=wcs)
        weight = galsim.Image(np.ascontiguousarray(stars.weight[k]), xmin=x0, ymin=y0, wcs=wcs)
        properties: dict[str, Any] = {"starId": k, "chipnum": 0}
        if color is not None:
            properties["colorValue"] = float(color[k])
        data = piff.StarData(
            image,
            galsim.PositionD(float(stars.x[k]), float(stars.y[k])),
            weight=weight,
            pointing=pointing,
            properties=properties,
        )
        result.append(piff.Star(data, None))
    return result


def fit_with_piff(
    stars: PsfStars,
    exposure: Exposure,
    config: Any,
    order: int,
    color: npt.NDArray[np.float64] | None = None,
) -> tuple[piff.PSF, npt.NDArray[np.bool_], float]:
    """Fit with Piff.

    Parameters
    ----------
    stars
        Pixels, weights, positions.
    exposure
        For the WCS.
    config
        A ``PiffPsfDeterminerConfig``.
    order
        Spatial order.
    color : float64, shape (n,)
        Colour of each star, with ``useColor``.

    Returns
    -------
    psf
        The Piff PSF.
    used : bool, shape (n,)
        Stars not flagged by Piff.
    reduced_chi2
        Piff's chi-square per degree of freedom.

    Raises
    ------
    InvalidInputError
        If the YAML or the solver named in the config cannot be used.
    PiffTooFewGoodStarsError
        If Piff flagged all stars.
    PsfFitError
        If Piff's fit broke down.
    """
    import piff
    import yaml

    wcs, pointing = _wcs(exposure, config.useCoordinates)
    if config.piffBasisPolynomialSolver == "jax" and importlib.util.find_spec("jax") is None:
        raise InvalidInputError(
            "piffBasisPolynomialSolver='jax' needs the package jax, which is not installed (Piff itself would quietly "
            "take 'scipy')."
        )
    if config.piffPsfConfigYaml:
        description = yaml.safe_load(config.piffPsfConfigYaml)
    else:
        description = piff_config(config, order, _pixel_scale(exposure))
    logger = piff.config.LoggerWrapper(logging.getLogger(f"{__name__}.piff"))
    logging.getLogger(f"{__name__}.piff").setLevel(_LEVELS[config.piffLoggingLevel])
    try:
        psf = piff.PSF.process(description, logger=logger)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInputError(f"Piff does not accept the PSF's configuration: {error}") from error
    try:
        psf.fit(piff_stars(stars, wcs, pointing, color), {0: wcs}, pointing, logger=logger)
    except (RuntimeError, ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        raise PsfFitError(
            f"Piff's fit of order {order} to {len(stars)} stars broke down: {error}",
            num_stars=len(stars),
            spatial_order=order,
        ) from error
    used = np.zeros(len(stars), np.bool_)
    for star in psf.stars:
        used[int(star.data.properties["starId"])] = not star.is_flagged
    if not used.any():
        raise PiffTooFewGoodStarsError(
            f"Piff rejected all {len(stars)} stars.", num_good_stars=0, minimum_dof=1, poly_ndim=order
        )
    if not config.debugStarData:
        psf.stars = [
            piff.Star.makeTarget(
                x=star.image_pos.x, y=star.image_pos.y, wcs=wcs, pointing=pointing, stamp_size=1,
                properties={
                    key: value for key, value in star.data.properties.items()
                    if key in ("starId", "chipnum", "colorValue", "is_flagged", "is_reserve")
                },
            )
            for star in psf.stars
        ]  # fmt: skip
    return psf, used, float(psf.chisq / max(psf.dof, 1))

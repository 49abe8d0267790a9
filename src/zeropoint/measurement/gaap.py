"""Gaussian-aperture-and-PSF (GAaP) photometry: fluxes as if the PSF were a Gaussian."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.errors import InvalidInputError
from zeropoint.measurement._weight_apertures import MAX_REACH, blocks, odd_fast_size, sum_under_weights
from zeropoint.measurement.base import (
    FLUX_ORDER,
    MeasurementPlugin,
    PluginConfig,
    SlotsConfig,
    flag_spec,
    register,
)
from zeropoint.measurement.context import MeasurementContext

__all__ = ["GaapFlux", "GaapFluxConfig", "band_limits", "gaap_weights"]

PLUGIN_NAME = "ext_gaap_GaapFlux"
#: Power of the PSF's transform, relative to that at zero, below which frequencies fade out of the matching.
REGULARIZATION = 1e-8
#: Transforms of apertures below this part of their height do not count.
NEGLIGIBLE = 1e-10
#: Weights reach so many sigma of the aperture on the image with a Gaussian PSF.
REACH = 4.5
ARCSEC = np.deg2rad(1.0 / 3600.0)


class GaapFluxConfig(PluginConfig):
    """Parameters of GAaP photometry."""

    sigmas = pexConfig.ListField(
        dtype=float,
        default=[0.7, 1.0],
        doc="Sigmas of the circular Gaussian apertures on the image with a Gaussian PSF, arcsec.",
        itemCheck=lambda value: value > 0,
    )
    scalingFactors = pexConfig.ListField(
        dtype=float,
        default=[1.15],
        doc="Factors between the size of the PSF and that of the Gaussian it is matched to.",
        itemCheck=lambda value: value >= 1,
    )
    doPsfPhotometry = pexConfig.Field(
        dtype=bool, default=False, doc="Measure also with the Gaussian PSF itself as aperture?"
    )
    doOptimalPhotometry = pexConfig.Field(
        dtype=bool, default=True, doc="Measure also with an ellipse like the source's own shape?"
    )
    registerForApCorr = pexConfig.Field(
        dtype=bool, default=True, doc="Ask for aperture corrections of all these fluxes?"
    )

    def getAllGaapResultNames(self, name: str = PLUGIN_NAME) -> Iterator[str]:
        """Yield the prefixes of all fluxes, e.g. ``ext_gaap_GaapFlux_1_15x_0_7``."""
        special = ["PsfFlux"] * self.doPsfPhotometry + ["Optimal"] * self.doOptimalPhotometry
        for factor, sigma in itertools.product(self.scalingFactors, [*self.sigmas, *special]):
            yield f"{scaled_name(name, factor)}_{str(sigma).replace('.', '_')}"


def scaled_name(name: str, factor: float) -> str:
    """Return the prefix of the columns of one scaling factor, e.g. ``ext_gaap_GaapFlux_1_15x``."""
    return f"{name}_{str(factor).replace('.', '_')}x"


@dataclass(frozen=True)
class _Aperture:
    """One flux: its prefix, whether it can fail for want of size, and the apertures of all sources.

    ``moments`` (n, 3) are those of the aperture on the image before any PSF, pixel^2; NaN rows are not measured.
    """

    prefix: str
    big_psf: np.ndarray | None
    moments: np.ndarray


def gaap_weights(
    stamps: np.ndarray, moments: np.ndarray, size: int, band: tuple[int, int] | None = None
) -> np.ndarray:
    """Return pixel weights of GAaP fluxes.

    Parameters
    ----------
    stamps : float64, shape (m, s, s)
        PSF at the sub-pixel places of sources; s odd.
    moments : float64, shape (m, 3)
        xx, yy, xy of the Gaussian ``S``, the aperture before the PSF, pixel^2.
    size
        Side of the weights, odd, at least s.
    band
        Highest frequencies along x and y, in units of ``1/size`` per pixel (`band_limits`); None for all.

    Returns
    -------
    weights : float64, shape (m, size, size)
        Offset 0, the stamp's middle pixel, is at index 0; negative offsets count from the end.

    Notes
    -----
    With a kernel K that makes the PSF a Gaussian of moments T, the flux is the sum of ``K * image`` under a Gaussian of
    moments ``Q = S - T``, times ``sqrt(det S/det Q)`` (Kuijken et al. 2015, equation A16). Seen as a sum over the pixels
    of the image the weight has the transform ``2 pi sqrt(det S) exp(-k^T S k/2) / P(k)``: T drops out. Frequencies at
    which the PSF holds nothing are left out, as ``1/P`` becomes ``P/(|P|^2 + r)`` with `REGULARIZATION` r.
    """
    limit_x, limit_y = (size // 2, size // 2) if band is None else band
    step = 2.0 * np.pi / size
    fy, fx = np.arange(-limit_y, limit_y + 1) * step, np.arange(limit_x + 1) * step
    offset = np.arange(size)
    offset[size // 2 + 1 :] -= size
    half = stamps.shape[1] // 2
    place = np.arange(-half, half + 1)
    # transforms by matrices: only the frequencies that a wide aperture lets through
    along_x = np.concatenate([np.cos(np.outer(place, fx)), -np.sin(np.outer(place, fx))], axis=1)
    part = stamps @ along_x
    psf = np.exp(-1j * np.outer(fy, place)) @ (part[:, :, : len(fx)] + 1j * part[:, :, len(fx) :])
    xx, yy, xy = (moments[:, k, None, None] for k in range(3))
    gaussian = np.exp(-0.5 * (xx * fx**2 + 2.0 * xy * fx * fy[:, None] + yy * fy[:, None] ** 2))
    twice = np.where(fx > 0, 2.0, 1.0)  # for the negative frequencies along x
    # unit height at the center: 2 pi sqrt(det S), but for what lies beyond the frequencies of the pixels
    height = (gaussian * twice).sum(axis=(1, 2))
    transform = psf * (gaussian * twice / height[:, None, None] / (np.abs(psf) ** 2 + REGULARIZATION))
    part = np.exp(1j * np.outer(offset, fy)) @ transform
    back = np.concatenate([np.cos(np.outer(fx, offset)), -np.sin(np.outer(fx, offset))])
    return np.asarray(np.concatenate([part.real, part.imag], axis=2) @ back)


def band_limits(moments: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return the highest frequencies along x and y that Gaussian apertures let through.

    Parameters
    ----------
    moments : float64, shape (m, 3)
        xx, yy, xy, pixel^2.
    sizes : int64, shape (m,)
        Sides of the weights.

    Returns
    -------
    limits : int64, shape (m, 2)
        In units of ``1/size`` per pixel, rounded up to a few values, at most ``size // 2``.
    """
    det = moments[:, 0] * moments[:, 1] - moments[:, 2] ** 2
    # extents of the ellipse k^T S k = 2 ln(1/NEGLIGIBLE): those of S^-1, where x and y change places
    reach = np.sqrt(-2.0 * np.log(NEGLIGIBLE) * moments[:, 1::-1] / det[:, None])
    limits = 4 * np.ceil(reach * sizes[:, None] / (8.0 * np.pi))
    return np.minimum(limits, sizes[:, None] // 2).astype(np.int64)


@register(PLUGIN_NAME)
class GaapFlux(MeasurementPlugin):
    """Gaussian-weighted fluxes on an image whose PSF is made Gaussian (Kuijken et al. 2015).

    Notes
    -----
    The flux is that of the image before the PSF under a Gaussian of unit height: for a point source its flux, whatever
    PSF and aperture. See `gaap_weights` for the method; errors are those of the image's independent pixels.
    """

    ConfigClass: ClassVar[type[PluginConfig]] = GaapFluxConfig
    execution_order: ClassVar[float] = FLUX_ORDER
    config: GaapFluxConfig

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        for prefix in self.config.getAllGaapResultNames(name):
            self.declare(
                schema,
                ColumnSpec(f"{prefix}_instFlux", "f8", "count", "GAaP flux"),
                ColumnSpec(f"{prefix}_instFluxErr", "f8", "count", "its 1-sigma error"),
                flag_spec(f"{prefix}_flag", "general failure"),
            )
            if not prefix.endswith("PsfFlux"):
                self.declare(
                    schema, flag_spec(f"{prefix}_flag_bigPsf", "Gaussian PSF not smaller than the aperture")
                )
        if self.config.doOptimalPhotometry:
            self.declare(
                schema,
                *(
                    ColumnSpec(f"{name}_OptimalShape_{c}", "f8", "pixel2", "moment of the optimal aperture")
                    for c in ("xx", "yy", "xy")
                ),
            )
        for factor in self.config.scalingFactors:
            self.declare(
                schema,
                flag_spec(f"{scaled_name(name, factor)}_flag_gaussianization", "PSF could not be matched"),
            )
        self.declare(
            schema,
            flag_spec(f"{name}_flag_edge", "PSF or footprint leaves the image"),
            flag_spec(f"{name}_flag", "general failure"),
        )
        self.alias_bad_centroid(schema)
        if self.config.registerForApCorr:
            schema.corrected_fluxes.update(self.config.getAllGaapResultNames(name))

    def measure(self, context: MeasurementContext) -> None:
        """Fill the columns.

        Raises
        ------
        InvalidInputError
            If the exposure has no PSF, or slots that the optimal aperture needs are not set.
        """
        cat, name = context.catalog, self.name
        sigma = np.asarray(context.psf_kernel_shapes.determinant_radius, np.float64)
        stamps = context.psf_stamps
        matched = np.isfinite(sigma) & (sigma > 0) & ~context.invalid_psf
        matched &= np.isfinite(stamps.sum(axis=(1, 2)))
        placed = np.isfinite(context.x + context.y)
        cat[f"{name}_flag"] = ~placed | context.centroid_flagged
        cat[f"{name}_flag_edge"] = self._near_edge(context)
        cuts = _Cuts(context, stamps)
        for factor in self.config.scalingFactors:
            cat[f"{scaled_name(name, factor)}_flag_gaussianization"] = placed & ~matched
            for aperture in self._apertures(context, factor, factor * sigma):
                usable = matched & placed & np.isfinite(aperture.moments).all(axis=1)
                flux, err = cuts.measure(aperture.moments, np.flatnonzero(usable))
                cat[f"{aperture.prefix}_instFlux"] = flux
                cat[f"{aperture.prefix}_instFluxErr"] = err
                cat[f"{aperture.prefix}_flag"] = ~np.isfinite(flux) | context.centroid_flagged
                if aperture.big_psf is not None:
                    cat[f"{aperture.prefix}_flag_bigPsf"] = aperture.big_psf

    def _near_edge(self, context: MeasurementContext) -> np.ndarray:
        """Return where a source's PSF or footprint box, grown by half the PSF's side, leaves the image."""
        height, width = context.exposure.shape
        half = context.psf.size // 2
        box = context.boxes + np.array([-1, -1, 1, 1]) * half
        edge = (box[:, 0] < 0) | (box[:, 1] < 0) | (box[:, 2] >= width) | (box[:, 3] >= height)
        x, y = np.floor(context.x + 0.5), np.floor(context.y + 0.5)
        return np.asarray(
            edge | (x < half) | (y < half) | (x >= width - half) | (y >= height - half), np.bool_
        )

    def _apertures(
        self, context: MeasurementContext, factor: float, target: np.ndarray
    ) -> Iterator[_Aperture]:
        """Yield the apertures of one scaling factor, for Gaussian PSFs of sigma ``target``, shape (n,), pixels."""
        prefix = scaled_name(self.name, factor)
        unit, scale = self._square_arcsec(context)
        for sigma in self.config.sigmas:
            with np.errstate(invalid="ignore"):
                big = ~(sigma > target * scale) & np.isfinite(scale)
            moments = np.where(big[:, None], np.nan, sigma**2 * unit)
            big |= _not_larger(moments, target)
            moments[big] = np.nan
            yield _Aperture(f"{prefix}_{str(sigma).replace('.', '_')}", big, moments)
        if self.config.doPsfPhotometry:
            moments = np.column_stack([2.0 * target**2, 2.0 * target**2, np.zeros(len(target))])
            yield _Aperture(f"{prefix}_PsfFlux", None, moments)
        if self.config.doOptimalPhotometry:
            moments = self._optimal_shape(context)
            big = _not_larger(moments, target)
            yield _Aperture(f"{prefix}_Optimal", big, np.where(big[:, None], np.nan, moments))

    def _square_arcsec(self, context: MeasurementContext) -> tuple[np.ndarray, np.ndarray]:
        """Return moments of a Gaussian of 1 arcsec, (n, 3), pixel^2, and pixel scales (n,), NaN without a WCS."""
        moments, scale = np.full((len(context), 3), np.nan), np.full(len(context), np.nan)
        wcs = context.exposure.wcs
        good = np.isfinite(context.x + context.y)
        if wcs is not None and good.any():
            inverse = np.linalg.inv(wcs.local_jacobian(x=context.x[good], y=context.y[good])) * ARCSEC
            covariance = inverse @ np.swapaxes(inverse, -1, -2)
            moments[good] = np.stack(
                [covariance[..., 0, 0], covariance[..., 1, 1], covariance[..., 0, 1]], axis=-1
            )
            scale[good] = 1.0 / np.sqrt(np.abs(np.linalg.det(inverse)))
        return moments, scale

    def _optimal_shape(self, context: MeasurementContext) -> np.ndarray:
        """Return the sum of the moments of source and PSF, shape (n, 3), and fill its columns."""
        cat, slots = context.catalog, self.slots
        if slots.shape is None or slots.psfShape is None:
            raise InvalidInputError(
                f"{self.name}.doOptimalPhotometry needs slots.shape and slots.psfShape: set them, or set it to False."
            )
        columns = ("xx", "yy", "xy")
        moments = np.column_stack([cat[f"{slots.shape}_{c}"] + cat[f"{slots.psfShape}_{c}"] for c in columns])
        for k, column in enumerate(columns):
            cat[f"{self.name}_OptimalShape_{column}"] = moments[:, k]
        return moments


def _not_larger(moments: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return where an ellipse, shape (n, 3), minus a circle of some sigma, (n,), is none; False for NaN."""
    with np.errstate(invalid="ignore"):
        xx, yy, xy = moments[:, 0] - target**2, moments[:, 1] - target**2, moments[:, 2]
        valid = (xx > 0) & (yy > 0) & (xx * yy > xy**2)
    return ~valid & np.isfinite(moments).all(axis=1) & np.isfinite(target)


class _Cuts:
    """Sums of the sources of a context under weights made from their PSF."""

    def __init__(self, context: MeasurementContext, stamps: np.ndarray) -> None:
        self._context, self._stamps = context, stamps

    def measure(self, moments: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return fluxes and errors of all sources for apertures (n, 3); NaN but in some rows."""
        context, n = self._context, len(self._context)
        mean, half = 0.5 * (moments[:, 0] + moments[:, 1]), 0.5 * (moments[:, 0] - moments[:, 1])
        major = np.sqrt(mean + np.hypot(half, moments[:, 2]))
        rows = rows[REACH * major[rows] < MAX_REACH]
        flux, err = np.full(n, np.nan), np.full(n, np.nan)
        reach = np.ceil(REACH * major[rows]).astype(np.int64)
        sizes = np.array([odd_fast_size(max(2 * r + 1, self._stamps.shape[1])) for r in reach], np.int64)
        keys = np.column_stack([sizes, band_limits(moments[rows], sizes)])
        for (size, *band), part in blocks(keys):
            block = rows[part]
            weights = gaap_weights(self._stamps[block], moments[block], size, (band[0], band[1]))
            ix = np.floor(context.x[block] + 0.5).astype(np.int64)
            iy = np.floor(context.y[block] + 0.5).astype(np.int64)
            sums = sum_under_weights(context, block, ix, iy, weights)
            good = np.isfinite(sums[:, 0]) & (sums[:, 1] >= 0)
            flux[block] = np.where(good, sums[:, 0], np.nan)
            err[block] = np.sqrt(np.where(good, sums[:, 1], np.nan))
        return flux, err

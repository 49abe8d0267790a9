"""Circular aperture fluxes, and the tophat with its own background."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar, cast

import lsst.pex.config as pexConfig
import numpy as np
from scipy.special import j1

from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.measurement._kernels_aperture import (
    LANCZOS_ORDER,
    box_mask_bits,
    plain_apertures,
    sinc_apertures,
)
from zeropoint.measurement._kernels_exact_aperture import exact_apertures
from zeropoint.measurement._psf_moments import UNDERSAMPLED
from zeropoint.measurement.base import (
    FLUX_ORDER,
    MeasurementPlugin,
    PluginConfig,
    SlotsConfig,
    flag_spec,
    register,
)
from zeropoint.measurement.context import MeasurementContext

__all__ = [
    "ApertureSums",
    "CircularApertureFlux",
    "CircularApertureFluxConfig",
    "CompensatedTophatFlux",
    "CompensatedTophatFluxConfig",
    "aperture_sums",
    "sinc_coefficients",
    "undersampled",
]

DEFAULT_MAX_SINC_RADIUS = 10.0


@functools.lru_cache(maxsize=32)
def sinc_coefficients(radius: float) -> np.ndarray:
    """Return pixel weights of a band-limited circular aperture centred on the middle pixel.

    The continuous Fourier transform of a disc, ``R J1(2 pi R k)/k``, is sampled on the pixel grid's frequencies
    and transformed back, so the weighted sum is what a perfect aperture measures on a well-sampled image
    (Bickerton & Lupton 2013).

    Parameters
    ----------
    radius
        Pixels.

    Returns
    -------
    weights : float64, shape (2 h - 1, 2 h - 1)
        ``h`` is the power of two not below the diameter, at least 8. The weights sum to ``pi radius^2``.
    """
    half = max(8, 2 ** math.ceil(math.log2(2.0 * radius)))
    size = 2 * half - 1
    frequency = np.fft.fftfreq(size)
    k = np.hypot(frequency[:, None], frequency[None, :])
    k[0, 0] = 1.0
    transform = radius * j1(2.0 * np.pi * radius * k) / k
    transform[0, 0] = np.pi * radius**2
    weights = np.fft.fftshift(np.fft.ifft2(transform).real)
    weights.setflags(write=False)
    return weights


@dataclass(frozen=True)
class ApertureSums:
    """Sums over circles, one column a radius; arrays of shape (n, n_radii).

    ``flux`` and ``var`` are NaN where the circle leaves the image; ``clipped`` is True where only the sinc
    coefficients do, or parts of cut pixels.
    """

    flux: np.ndarray
    var: np.ndarray
    clipped: np.ndarray


def aperture_sums(context: MeasurementContext, radii: list[float], max_sinc_radius: float) -> ApertureSums:
    """Sum image and variance around the safe centroids within some radii (any order).

    Radii up to ``max_sinc_radius`` use `sinc_coefficients`, larger ones the pixels whose centres are inside.  Where the
    PSF is undersampled, circles that cut pixels exactly take the place of the former, whose weights ring.
    """
    n = len(context)
    radius = np.asarray(radii, np.float64)
    flux, var = np.full((n, len(radius)), np.nan), np.full((n, len(radius)), np.nan)
    clipped = np.zeros((n, len(radius)), np.bool_)
    images = (context.work, context.noise, context.exposure.variance)
    sources = (context.spans, context.pixel_offsets, context.pixels, context.x, context.y)
    plain = np.flatnonzero(radius > max_sinc_radius)
    if len(plain):
        plain = plain[np.argsort(radius[plain], kind="stable")]
        f, v = np.empty((n, len(plain))), np.empty((n, len(plain)))
        plain_apertures(*images, *sources, radius[plain], f, v)
        flux[:, plain], var[:, plain] = f, v
    sinc = np.flatnonzero(radius <= max_sinc_radius)
    if len(sinc) and undersampled(context):
        f, v = np.empty((n, len(sinc))), np.empty((n, len(sinc)))
        c = np.empty((n, len(sinc)), np.bool_)
        exact_apertures(*images, *sources, radius[sinc], f, v, c)
        flux[:, sinc], var[:, sinc], clipped[:, sinc] = f, v, c
    elif len(sinc):
        tables = [np.pad(sinc_coefficients(float(radius[k])), LANCZOS_ORDER) for k in sinc]
        sizes = np.array([len(table) - 2 * LANCZOS_ORDER for table in tables], np.int64)
        starts = np.cumsum([0] + [table.size for table in tables[:-1]]).astype(np.int64)
        padded = np.concatenate([table.ravel() for table in tables])
        f, v = np.empty((n, len(sinc))), np.empty((n, len(sinc)))
        c = np.empty((n, len(sinc)), np.bool_)
        sinc_apertures(*images, *sources, radius[sinc], sizes, starts, padded, f, v, c)
        flux[:, sinc], var[:, sinc], clipped[:, sinc] = f, v, c
    return ApertureSums(flux, var, clipped)


def undersampled(context: MeasurementContext) -> bool:
    """Return whether stars are too sharp for band-limited apertures: one answer for the whole image."""
    if context.exposure.psf is None:
        return False
    return bool(np.median(context.shape_grid.node_sigma) < UNDERSAMPLED)


def _root(var: np.ndarray) -> np.ndarray:
    """Return the square root, NaN for negative values."""
    with np.errstate(invalid="ignore"):
        return np.sqrt(np.where(var >= 0, var, np.nan))


class CircularApertureFluxConfig(PluginConfig):
    """Parameters of circular apertures."""

    radii = pexConfig.ListField(
        dtype=float,
        default=[3.0, 4.5, 6.0, 9.0, 12.0, 17.0, 25.0, 35.0, 50.0, 70.0],
        doc="Radii, pixels.",
    )
    maxSincRadius = pexConfig.Field(
        dtype=float,
        default=DEFAULT_MAX_SINC_RADIUS,
        doc="Largest radius measured by sinc photometry, pixels.",
    )
    shiftKernel = pexConfig.ChoiceField(
        dtype=str,
        default="lanczos5",
        doc="Interpolant that moves the sinc coefficients to the centre.",
        allowed={"lanczos5": "Lanczos of order 5."},
    )


@register("base_CircularApertureFlux")
class CircularApertureFlux(MeasurementPlugin):
    """Fluxes within circles around the safe centroid."""

    ConfigClass: ClassVar[type[PluginConfig]] = CircularApertureFluxConfig
    execution_order: ClassVar[float] = FLUX_ORDER

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        self.prefixes = [self.prefix(name, radius) for radius in self._config.radii]
        for prefix, radius in zip(self.prefixes, self._config.radii):
            self.declare(
                schema,
                ColumnSpec(f"{prefix}_instFlux", "f8", "count", "instrumental flux"),
                ColumnSpec(f"{prefix}_instFluxErr", "f8", "count", "its 1-sigma error"),
                flag_spec(f"{prefix}_flag", "general failure"),
                flag_spec(f"{prefix}_flag_apertureTruncated", "aperture off image"),
            )
            if radius <= self._config.maxSincRadius:
                self.declare(
                    schema, flag_spec(f"{prefix}_flag_sincCoeffsTruncated", "sinc coefficients off image")
                )
        self.alias_bad_centroid(schema)

    @property
    def _config(self) -> CircularApertureFluxConfig:
        return cast(CircularApertureFluxConfig, self.config)

    @staticmethod
    def prefix(name: str, radius: float) -> str:
        """Return the column prefix of one radius, e.g. ``base_CircularApertureFlux_12_0``."""
        return f"{name}_" + f"{radius:.1f}".replace(".", "_")

    def measure(self, context: MeasurementContext) -> None:
        """Fill the flux columns."""
        sums = aperture_sums(context, list(self._config.radii), self._config.maxSincRadius)
        cat = context.catalog
        for k, (prefix, radius) in enumerate(zip(self.prefixes, self._config.radii)):
            flux, err = sums.flux[:, k], _root(sums.var[:, k])
            truncated = ~self._fits(context, radius)
            cat[f"{prefix}_instFlux"], cat[f"{prefix}_instFluxErr"] = flux, err
            cat[f"{prefix}_flag_apertureTruncated"] = truncated
            cat[f"{prefix}_flag"] = truncated | context.centroid_flagged | ~np.isfinite(flux + err)
            if radius <= self._config.maxSincRadius:
                cat[f"{prefix}_flag_sincCoeffsTruncated"] = sums.clipped[:, k]

    @staticmethod
    def _fits(context: MeasurementContext, radius: float) -> np.ndarray:
        """Return True where the circle lies on the image (also where there is no position at all)."""
        height, width = context.exposure.shape
        x, y = np.nan_to_num(context.x, nan=width // 2), np.nan_to_num(context.y, nan=height // 2)
        return (
            (np.ceil(x - radius) >= 0)
            & (np.ceil(y - radius) >= 0)
            & (np.floor(x + radius) < width)
            & (np.floor(y + radius) < height)
        ) | ~np.isfinite(context.x + context.y)


class CompensatedTophatFluxConfig(PluginConfig):
    """Parameters of the compensated tophat."""

    apertures = pexConfig.ListField(dtype=int, default=[12], doc="Radii of the tophats, pixels.")
    inner_scale = pexConfig.Field(dtype=float, default=1.0, doc="Inner annulus radius over aperture radius.")
    outer_scale = pexConfig.Field(dtype=float, default=1.7, doc="Outer annulus radius over aperture radius.")

    def validate(self) -> None:
        """Check that the annulus has an area."""
        super().validate()
        if self.outer_scale <= self.inner_scale:
            raise ValueError(
                f"outer_scale = {self.outer_scale} must be larger than inner_scale = {self.inner_scale}."
            )


@register("base_CompensatedTophatFlux")
class CompensatedTophatFlux(MeasurementPlugin):
    """Aperture fluxes minus the mean of an annulus, with nominal areas."""

    ConfigClass: ClassVar[type[PluginConfig]] = CompensatedTophatFluxConfig
    execution_order: ClassVar[float] = FLUX_ORDER

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        for radius in self._config.apertures:
            self.declare(
                schema,
                ColumnSpec(f"{name}_{radius}_instFlux", "f8", "count", "instrumental flux"),
                ColumnSpec(f"{name}_{radius}_instFluxErr", "f8", "count", "its 1-sigma error"),
                ColumnSpec(f"{name}_{radius}_mask_bits", "i4", "", "OR of the mask over the box"),
                flag_spec(f"{name}_{radius}_flag", "general failure"),
                flag_spec(f"{name}_{radius}_flag_bounds", "box off image"),
            )

    @property
    def _config(self) -> CompensatedTophatFluxConfig:
        return cast(CompensatedTophatFluxConfig, self.config)

    def measure(self, context: MeasurementContext) -> None:
        """Fill the flux columns."""
        config, cat = self._config, context.catalog
        scales = (1.0, config.inner_scale, config.outer_scale)
        radii = sorted({scale * radius for radius in config.apertures for scale in scales})
        sums = aperture_sums(context, radii, DEFAULT_MAX_SINC_RADIUS)
        share = 1.0 / (config.outer_scale**2 - config.inner_scale**2)
        for radius in config.apertures:
            tophat, inner, outer = (radii.index(scale * radius) for scale in scales)
            flux = sums.flux[:, tophat] - share * (sums.flux[:, outer] - sums.flux[:, inner])
            err = _root(sums.var[:, tophat] + share**2 * (sums.var[:, outer] - sums.var[:, inner]))
            bits, inside = np.empty(len(context), np.int32), np.empty(len(context), np.bool_)
            half = math.ceil(config.outer_scale * radius)
            box_mask_bits(context.exposure.mask, context.x, context.y, half, bits, inside)
            prefix = f"{self.name}_{radius}"
            cat[f"{prefix}_instFlux"] = np.where(inside, flux, np.nan)
            cat[f"{prefix}_instFluxErr"] = np.where(inside, err, np.nan)
            cat[f"{prefix}_mask_bits"] = bits
            cat[f"{prefix}_flag_bounds"] = ~inside
            cat[f"{prefix}_flag"] = ~inside | ~np.isfinite(flux + err)

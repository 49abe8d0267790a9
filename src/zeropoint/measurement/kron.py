"""Kron photometry: flux inside an ellipse of the source's form and of 2.5 times its mean radius."""

from __future__ import annotations

import math
from typing import ClassVar

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.measurement._kernels_ellipse import BAD_SUMS, EDGE, footprint_moments, kron_radii
from zeropoint.measurement._weight_apertures import ellipse_fluxes
from zeropoint.measurement.base import (
    FLUX_ORDER,
    MeasurementPlugin,
    PluginConfig,
    SlotsConfig,
    flag_spec,
    register,
)
from zeropoint.measurement.context import MeasurementContext
from zeropoint.measurement.gaussian_flux import safe_shapes

__all__ = ["KronFlux", "KronFluxConfig", "scaled_ellipses"]

#: Kron radius of a Gaussian in units of its sigma.
GAUSSIAN_KRON_RADIUS = math.sqrt(0.5 * math.pi)

_FLAGS = {
    "flag": "general failure",
    "flag_edge": "aperture leaves the image",
    "flag_bad_shape_no_psf": "bad shape, and no PSF instead",
    "flag_no_minimum_radius": "neither a minimum radius nor a PSF to take it from",
    "flag_no_fallback_radius": "no radius measured, and neither minimum radius nor PSF instead",
    "flag_bad_radius": "the Kron radius could not be measured",
    "flag_used_minimum_radius": "the minimum radius is used",
    "flag_used_psf_radius": "the Kron radius of the PSF is used",
    "flag_small_radius": "the measured radius was below the minimum or the PSF's",
    "flag_bad_shape": "bad shape; that of the PSF is used",
}


class KronFluxConfig(PluginConfig):
    """Parameters of the Kron flux."""

    fixed = pexConfig.Field(
        dtype=bool, default=False, doc="Take the shape slot's ellipse itself, instead of measuring a radius?"
    )
    nSigmaForRadius = pexConfig.RangeField(
        dtype=float,
        default=6.0,
        min=0.0,
        inclusiveMin=False,
        doc="The Kron radius is a mean over the shape slot's ellipse times this.",
    )
    nIterForRadius = pexConfig.RangeField(
        dtype=int, default=1, min=1, doc="Times to measure the radius, while it grows."
    )
    nRadiusForFlux = pexConfig.RangeField(
        dtype=float,
        default=2.5,
        min=0.0,
        inclusiveMin=False,
        doc="The aperture's radius in units of the Kron radius.",
    )
    maxSincRadius = pexConfig.Field(
        dtype=float, default=10.0, doc="Largest minor half axis measured by sinc photometry, pixels."
    )
    minimumRadius = pexConfig.Field(
        dtype=float, default=0.0, doc="Smallest Kron radius, pixels; 0 for that of the PSF."
    )
    enforceMinimumRadius = pexConfig.Field(
        dtype=bool, default=True, doc="Raise smaller Kron radii to the minimum?"
    )
    useFootprintRadius = pexConfig.Field(
        dtype=bool, default=False, doc="Measure the radius at least over an area like the footprint's?"
    )
    smoothingSigma = pexConfig.Field(
        dtype=float,
        default=-1.0,
        doc="Sigma of the Gaussian that smooths the image for the radius, pixels; none unless positive.",
    )


def scaled_ellipses(shapes: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Return ellipses of the form of some moments with ``sqrt(a b)`` of ``radius``.

    Parameters
    ----------
    shapes : float64, shape (n, 3)
        xx, yy, xy.
    radius : float64, shape (n,)
        Pixels.

    Returns
    -------
    ellipses : float64, shape (n, 3)
        xx, yy, xy of the matrix ``E`` with the border at ``r^T E^-1 r = 1``.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        root = np.sqrt(shapes[:, 0] * shapes[:, 1] - shapes[:, 2] ** 2)
        return np.asarray(shapes * (radius**2 / root)[:, None])


@register("ext_photometryKron_KronFlux")
class KronFlux(MeasurementPlugin):
    """Flux inside an ellipse with the form of the shape slot and 2.5 times the Kron radius (Kron 1980).

    The Kron radius is the flux-weighted mean elliptical radius, as ``sqrt(a b)``, inside six times the ellipse of the
    shape slot; it is at least that of the PSF.
    """

    ConfigClass: ClassVar[type[PluginConfig]] = KronFluxConfig
    execution_order: ClassVar[float] = FLUX_ORDER
    config: KronFluxConfig

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        self.declare(
            schema,
            ColumnSpec(f"{name}_instFlux", "f8", "count", "instrumental flux"),
            ColumnSpec(f"{name}_instFluxErr", "f8", "count", "its 1-sigma error"),
            ColumnSpec(f"{name}_radius", "f4", "pixel", "Kron radius, sqrt(a b)"),
            ColumnSpec(
                f"{name}_radius_for_radius", "f4", "pixel", "sqrt(a b) of the ellipse it is a mean over"
            ),
            ColumnSpec(f"{name}_psf_radius", "f4", "pixel", "Kron radius of the PSF"),
            *(flag_spec(f"{name}_{flag}", doc) for flag, doc in _FLAGS.items()),
        )
        self.alias_bad_centroid(schema)

    @classmethod
    def ap_corr_names(cls, name: str, config: PluginConfig) -> tuple[str, ...]:
        """Return the prefix of the flux that is corrected to the aperture of the calibration flux."""
        return (name,)

    def measure(self, context: MeasurementContext) -> None:
        """Fill the columns."""
        cat, name = context.catalog, self.name
        psf_radius = np.full(len(context), np.nan)
        if context.exposure.psf is not None:
            sigma = context.psf_kernel_shapes.determinant_radius
            psf_radius = GAUSSIAN_KRON_RADIUS * np.hypot(sigma, max(self.config.smoothingSigma, 0.0))
        cat[f"{name}_psf_radius"] = psf_radius
        shapes, bad_shape = self._shapes(context)
        radius = self._radii(context, shapes)
        radius = self._at_least(context, radius, psf_radius)
        ellipses = scaled_ellipses(shapes, self.config.nRadiusForFlux * radius)
        usable = np.isfinite(ellipses).all(axis=1) & (radius > 0) & np.isfinite(context.x + context.y)
        rows = np.flatnonzero(usable)
        result = ellipse_fluxes(context, rows, ellipses[rows], max_sinc_radius=self.config.maxSincRadius)
        flux, err = np.full(len(context), np.nan), np.full(len(context), np.nan)
        flux[rows], err[rows] = result.flux, result.err
        edge = cat[f"{name}_flag_edge"].copy()
        edge[rows] |= ~result.inside
        good = np.isfinite(flux + err)
        cat[f"{name}_instFlux"] = np.where(good, flux, np.nan)
        cat[f"{name}_instFluxErr"] = np.where(good, err, np.nan)
        cat[f"{name}_radius"] = np.where(usable, radius, np.nan)
        cat[f"{name}_flag_edge"] = edge
        cat[f"{name}_flag"] = ~good | bad_shape | context.centroid_flagged

    def _shapes(self, context: MeasurementContext) -> tuple[np.ndarray, np.ndarray]:
        """Return xx, yy, xy that give the form, shape (n, 3), NaN where there is none, and where the slot's is bad."""
        cat, name = context.catalog, self.name
        xx, yy, xy, bad = safe_shapes(context, self.slots.shape)
        shapes = np.column_stack([xx, yy, xy])
        if context.exposure.psf is None:
            shapes[bad] = np.nan
            cat[f"{name}_flag_bad_shape_no_psf"] = bad
        else:
            psf = context.psf_kernel_shapes
            shapes[bad] = np.column_stack([psf.xx, psf.yy, psf.xy])[bad]
            cat[f"{name}_flag_bad_shape"] = bad
        if self.config.useFootprintRadius:
            moments = np.empty((len(context), 3))
            footprint_moments(context.spans, moments)
            with np.errstate(invalid="ignore"):
                # a disc counts with its radius over sqrt(2)
                area = np.sqrt(moments[:, 0] * moments[:, 1] - moments[:, 2] ** 2)
                least = np.sqrt(2.0 * area) / self.config.nSigmaForRadius
                size = (shapes[:, 0] * shapes[:, 1] - shapes[:, 2] ** 2) ** 0.25
                larger = least > size
            shapes[larger] = scaled_ellipses(shapes[larger], least[larger])
        return np.ascontiguousarray(shapes), bad

    def _radii(self, context: MeasurementContext, shapes: np.ndarray) -> np.ndarray:
        """Return the Kron radii, NaN where there is none, and set the columns that say how it went."""
        cat, name, config = context.catalog, self.name, self.config
        if config.fixed:
            with np.errstate(invalid="ignore"):
                return np.asarray((shapes[:, 0] * shapes[:, 1] - shapes[:, 2] ** 2) ** 0.25)
        taps = np.ones(1)
        if config.smoothingSigma > 0:
            half = int(2.0 * config.smoothingSigma)
            taps = np.exp(-0.5 * (np.arange(-half, half + 1) / config.smoothingSigma) ** 2)
            taps /= taps.sum()
        out, status = np.empty((len(context), 2)), np.empty(len(context), np.int64)
        kron_radii(
            context.work,
            context.noise,
            context.spans,
            context.pixel_offsets,
            context.pixels,
            context.x,
            context.y,
            shapes,
            config.nSigmaForRadius,
            config.nIterForRadius,
            taps,
            out,
            status,
        )
        cat[f"{name}_radius_for_radius"] = out[:, 1]
        cat[f"{name}_flag_edge"] = status == EDGE
        cat[f"{name}_flag_bad_radius"] = status == BAD_SUMS
        return out[:, 0]

    def _at_least(
        self, context: MeasurementContext, radius: np.ndarray, psf_radius: np.ndarray
    ) -> np.ndarray:
        """Return radii with those that failed replaced, and small ones raised."""
        cat, name, config = context.catalog, self.name, self.config
        fixed = config.minimumRadius > 0
        least = np.full(len(radius), config.minimumRadius) if fixed else psf_radius
        used = f"{name}_flag_used_minimum_radius" if fixed else f"{name}_flag_used_psf_radius"
        failed = cat[f"{name}_flag_bad_radius"]
        known = least > 0
        cat[f"{name}_flag_no_fallback_radius"] = failed & ~known
        small = np.zeros(len(radius), np.bool_)
        if config.enforceMinimumRadius:
            measured = np.isfinite(radius)
            cat[f"{name}_flag_no_minimum_radius"] = measured & ~known
            small = measured & (radius < least)
            radius = np.where(measured & ~known, np.nan, radius)
        replaced = (failed & known) | small
        cat[used] = replaced
        cat[f"{name}_flag_small_radius"] = small
        return np.where(replaced, least, radius)

"""Background around each source, and variance of the pixels under it."""

from __future__ import annotations

from typing import ClassVar, cast

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.measurement._kernels_local import annulus_statistics, ellipse_medians
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

__all__ = ["LocalBackground", "LocalBackgroundConfig", "Variance", "VarianceConfig"]


class LocalBackgroundConfig(PluginConfig):
    """Parameters of the local background."""

    badMaskPlanes = pexConfig.ListField(
        dtype=str, default=["BAD", "SAT", "NO_DATA"], doc="Mask planes of pixels that do not count."
    )
    annulusInner = pexConfig.Field(dtype=float, default=7.0, doc="Inner radius, PSF sigmas.")
    annulusOuter = pexConfig.Field(dtype=float, default=15.0, doc="Outer radius, PSF sigmas.")
    bgRej = pexConfig.Field(dtype=float, default=3.0, doc="Clipping, sigmas.")
    bgIter = pexConfig.Field(dtype=int, default=3, doc="Iterations of clipping.")

    def validate(self) -> None:
        """Check that the annulus has an area."""
        super().validate()
        if self.annulusOuter <= self.annulusInner:
            raise ValueError(f"annulusOuter = {self.annulusOuter} <= annulusInner = {self.annulusInner}.")


@register("base_LocalBackground")
class LocalBackground(MeasurementPlugin):
    """Clipped mean and scatter of an annulus; the error is that of one pixel, not of the mean."""

    ConfigClass: ClassVar[type[PluginConfig]] = LocalBackgroundConfig
    execution_order: ClassVar[float] = FLUX_ORDER

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        self.declare(
            schema,
            ColumnSpec(f"{name}_instFlux", "f8", "count", "background in an annulus around the source"),
            ColumnSpec(f"{name}_instFluxErr", "f8", "count", "scatter of the annulus' pixels"),
            flag_spec(f"{name}_flag", "general failure"),
            flag_spec(f"{name}_flag_noGoodPixels", "no good pixels in the annulus"),
            flag_spec(f"{name}_flag_noPsf", "no PSF"),
        )
        self.alias_bad_centroid(schema)

    def measure(self, context: MeasurementContext) -> None:
        """Fill the background columns."""
        config, cat, name = cast(LocalBackgroundConfig, self.config), context.catalog, self.name
        if context.exposure.psf is None:
            cat[f"{name}_flag_noPsf"] = True
            cat[f"{name}_flag"] = True
            return
        with np.errstate(invalid="ignore"):
            sigma = np.asarray(context.psf_kernel_shapes.determinant_radius, np.float64)
        no_psf = ~(np.isfinite(sigma) & (sigma > 0))
        out = np.empty((len(context), 2))
        annulus_statistics(
            context.work,
            context.noise,
            context.exposure.mask,
            np.int32(bitmask(config.badMaskPlanes)),
            context.spans,
            context.pixel_offsets,
            context.pixels,
            context.x,
            context.y,
            config.annulusInner * sigma,
            config.annulusOuter * sigma,
            float(config.bgRej),
            int(config.bgIter),
            out,
        )
        cat[f"{name}_instFlux"], cat[f"{name}_instFluxErr"] = out[:, 0], out[:, 1]
        empty = ~np.isfinite(out[:, 0])
        cat[f"{name}_flag_noPsf"] = no_psf
        cat[f"{name}_flag_noGoodPixels"] = empty & ~no_psf
        cat[f"{name}_flag"] = empty | no_psf | context.centroid_flagged


class VarianceConfig(PluginConfig):
    """Parameters of the local variance."""

    scale = pexConfig.Field(dtype=float, default=5.0, doc="Ellipse in units of the source's shape.")
    mask = pexConfig.ListField(
        dtype=str,
        default=["DETECTED", "DETECTED_NEGATIVE", "BAD", "SAT"],
        doc="Mask planes of pixels that do not count.",
    )


@register("base_Variance")
class Variance(MeasurementPlugin):
    """Median variance of the undetected pixels in an ellipse around the source."""

    ConfigClass: ClassVar[type[PluginConfig]] = VarianceConfig
    execution_order: ClassVar[float] = FLUX_ORDER

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        self.declare(
            schema,
            ColumnSpec(f"{name}_value", "f8", "count^2", "variance around the source"),
            flag_spec(f"{name}_flag", "general failure"),
            flag_spec(f"{name}_flag_emptyFootprint", "no usable pixels"),
        )
        self.alias_bad_centroid(schema)

    def measure(self, context: MeasurementContext) -> None:
        """Fill the variance columns."""
        config, cat = cast(VarianceConfig, self.config), context.catalog
        xx, yy, xy, _ = safe_shapes(context, self.slots.shape)
        area = config.scale**2
        ellipses = np.column_stack([context.x, context.y, area * xx, area * yy, area * xy])
        out = np.empty(len(context))
        ellipse_medians(
            context.exposure.variance,
            context.exposure.mask,
            np.int32(bitmask(config.mask)),
            np.ascontiguousarray(ellipses),
            out,
        )
        usable = np.isfinite(ellipses).all(axis=1)
        failed = ~np.isfinite(out)
        cat[f"{self.name}_value"] = out
        cat[f"{self.name}_flag_emptyFootprint"] = failed & usable
        cat[f"{self.name}_flag"] = failed

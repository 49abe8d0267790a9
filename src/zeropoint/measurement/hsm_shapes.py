"""PSF-corrected shapes and higher moments of sources."""

from __future__ import annotations

from typing import ClassVar

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.errors import InvalidInputError
from zeropoint.measurement._hsm_base import SHAPE_FLAGS, HsmPlugin
from zeropoint.measurement._hsm_sources import MAX_REACH, NO_PIXELS, clip_boxes, higher_order_sources
from zeropoint.measurement._kernels_local import box_medians
from zeropoint.measurement._regauss_kernels import regauss_sources
from zeropoint.measurement.base import FLUX_ORDER, SHAPE_ORDER, PluginConfig, SlotsConfig, flag_spec, register
from zeropoint.measurement.context import MeasurementContext

__all__ = [
    "HigherOrderMomentsSource",
    "HigherOrderMomentsSourceConfig",
    "HsmShapeRegauss",
    "HsmShapeRegaussConfig",
]


class HsmShapeRegaussConfig(PluginConfig):
    """Options of ext_shapeHSM_HsmShapeRegauss."""

    deblendNChild = pexConfig.Field(
        dtype=str, default="", doc="Column with the number of children; rows that have some are skipped."
    )
    badMaskPlanes = pexConfig.ListField(
        dtype=str, default=["BAD", "SAT"], doc="Mask planes whose pixels are rejected."
    )


@register("ext_shapeHSM_HsmShapeRegauss")
class HsmShapeRegauss(HsmPlugin):
    """PSF-corrected ellipticity by re-Gaussianization (Hirata & Seljak 2003)."""

    ConfigClass = HsmShapeRegaussConfig
    execution_order: ClassVar[float] = SHAPE_ORDER
    config: HsmShapeRegaussConfig

    def __init__(self, config: HsmShapeRegaussConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        self.declare(schema, *(flag_spec(f"{name}_{flag}", doc) for flag, doc in SHAPE_FLAGS.items()))
        self.declare(
            schema,
            ColumnSpec(f"{name}_e1", "f8", "", "PSF-corrected ellipticity, + component"),
            ColumnSpec(f"{name}_e2", "f8", "", "PSF-corrected ellipticity, x component"),
            ColumnSpec(f"{name}_sigma", "f8", "", "1-sigma error of each component"),
            ColumnSpec(f"{name}_resolution", "f8", "", "resolution factor, 0 unresolved to 1 resolved"),
        )
        self.alias_bad_centroid(schema)

    def measure(self, context: MeasurementContext) -> None:
        """See `MeasurementPlugin.measure`."""
        cat, name = context.catalog, self.name
        boxes, _ = self.source_boxes(context)
        # the iteration begins where that of the sources' own moments ended
        start, status = self.source_moments(context, list(self.config.badMaskPlanes), False)
        parent = np.zeros(len(context), np.bool_)
        if self.config.deblendNChild:
            parent = cat[self.config.deblendNChild] > 0
            status[parent] = NO_PIXELS
        _, psf_start = self.starting_values(context)
        px, py = context.psf_positions(context.x, context.y)
        half = context.psf.size // 2
        psf_start[:, 0] += px - np.floor(px + 0.5) + half
        psf_start[:, 1] += py - np.floor(py + 0.5) + half
        bad_bits = np.int32(bitmask(self.config.badMaskPlanes))
        out = np.empty((len(context), 4))
        regauss_sources(
            context.work,
            context.noise,
            context.spans,
            context.pixel_offsets,
            context.pixels,
            context.exposure.mask,
            bad_bits,
            boxes,
            context.psf_stamps,
            np.ascontiguousarray(start[:, :5]),
            np.ascontiguousarray(psf_start[:, :5]),
            out,
            status,
        )
        # two components' worth of the white-noise error of a Gaussian-weighted ellipticity
        variance = np.full(len(context), np.nan)
        good = np.flatnonzero(status == 0)
        medians = np.empty(len(good))
        box_medians(context.exposure.variance, context.exposure.mask, bad_bits, boxes[good], medians)
        variance[good] = medians
        cat[f"{name}_e1"], cat[f"{name}_e2"] = out[:, 0], out[:, 1]
        cat[f"{name}_resolution"] = out[:, 2]
        cat[f"{name}_sigma"] = 2.0 * np.sqrt(4.0 * np.pi * variance) * out[:, 3]
        self.set_flags(context, status)
        cat[f"{name}_flag_no_pixels"] &= ~parent
        cat[f"{name}_flag_parent_source"] = parent


class HigherOrderMomentsSourceConfig(PluginConfig):
    """Options of ext_shapeHSM_HigherOrderMomentsSource."""

    min_order = pexConfig.Field(dtype=int, default=3, doc="Lowest order of the moments.")
    max_order = pexConfig.Field(dtype=int, default=4, doc="Highest order of the moments.")
    badMaskPlanes = pexConfig.ListField(
        dtype=str, default=["BAD", "SAT"], doc="Mask planes whose pixels are rejected."
    )
    setMaskedPixelsToZero = pexConfig.Field(
        dtype=bool,
        default=False,
        doc="Set rejected pixels to zero, instead of to the scaled adaptive weight?",
    )

    def validate(self) -> None:
        """Check the orders."""
        super().validate()
        if self.min_order > self.max_order:
            raise ValueError(f"min_order {self.min_order} is above max_order {self.max_order}.")


@register("ext_shapeHSM_HigherOrderMomentsSource")
class HigherOrderMomentsSource(HsmPlugin):
    """Moments of order 3 and 4 in coordinates in which the source's second moments are round.

    Column ``_pq`` is ``sum w I u^p v^q / sum w I`` with ``(u, v) = M^(-1/2) (r - r0)`` and the weight
    ``w = exp(-(u^2 + v^2)/2)`` of ext_shapeHSM_HsmSourceMoments, which must be measured before.
    """

    ConfigClass = HigherOrderMomentsSourceConfig
    execution_order: ClassVar[float] = FLUX_ORDER
    config: HigherOrderMomentsSourceConfig
    source = "ext_shapeHSM_HsmSourceMoments"

    def __init__(
        self, config: HigherOrderMomentsSourceConfig, name: str, schema: Schema, slots: SlotsConfig
    ) -> None:
        super().__init__(config, name, schema, slots)
        self.orders = np.array(
            [(p, n - p) for n in range(config.min_order, config.max_order + 1) for p in range(n + 1)],
            np.int64,
        ).T.copy()
        self.declare(schema, flag_spec(f"{name}_flag", "any failure"))
        for p, q in self.orders.T:
            self.declare(schema, ColumnSpec(f"{name}_{p}{q}", "f8", "", f"higher moment M_{p}{q}"))

    def measure(self, context: MeasurementContext) -> None:
        """See `MeasurementPlugin.measure`."""
        cat = context.catalog
        if f"{self.source}_xx" not in cat:
            raise InvalidInputError(f"{self.name} needs {self.source} among the plugins.")
        shapes = np.column_stack([cat[f"{self.source}_{c}"] for c in ("x", "y", "xx", "yy", "xy")])
        boxes, status = context.boxes.copy(), np.zeros(len(context), np.int64)
        cx, cy = np.ascontiguousarray(shapes[:, 0]), np.ascontiguousarray(shapes[:, 1])
        clip_boxes(context.boxes, cx, cy, MAX_REACH, boxes, status)
        shapes[status != 0] = np.nan
        out = np.empty((len(context), self.orders.shape[1]))
        higher_order_sources(
            context.work,
            context.noise,
            context.spans,
            context.pixel_offsets,
            context.pixels,
            context.exposure.mask,
            np.int32(bitmask(self.config.badMaskPlanes)),
            boxes,
            shapes,
            not self.config.setMaskedPixelsToZero,
            self.orders,
            out,
        )
        for k, (p, q) in enumerate(self.orders.T):
            cat[f"{self.name}_{p}{q}"] = out[:, k]
        cat[f"{self.name}_flag"] = ~np.isfinite(out).all(axis=1)

"""Flags that say which mask planes a source touches."""

from __future__ import annotations

from typing import ClassVar, cast

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import Schema
from zeropoint.datamodel.mask_planes import plane_bit
from zeropoint.measurement._kernels_flags import mask_bits_by_source
from zeropoint.measurement.base import (
    FLUX_ORDER,
    MeasurementPlugin,
    PluginConfig,
    SlotsConfig,
    flag_spec,
    register,
)
from zeropoint.measurement.context import MeasurementContext

__all__ = ["PixelFlags", "PixelFlagsConfig"]

#: Flag suffix -> mask plane, in column order.
_PLANES = {
    "edge": "EDGE",
    "nodata": "NO_DATA",
    "interpolated": "INTRP",
    "saturated": "SAT",
    "cr": "CR",
    "bad": "BAD",
    "suspect": "SUSPECT",
}


class PixelFlagsConfig(PluginConfig):
    """Mask planes that get flags besides the usual ones."""

    masksFpAnywhere = pexConfig.ListField(
        dtype=str, default=[], doc="Further planes looked for anywhere in the footprint."
    )
    masksFpCenter = pexConfig.ListField(
        dtype=str, default=[], doc="Further planes looked for in the center of the footprint."
    )


@register("base_PixelFlags")
class PixelFlags(MeasurementPlugin):
    """Mask planes under the footprint and under the 3 x 3 pixels at the centroid."""

    ConfigClass: ClassVar[type[PluginConfig]] = PixelFlagsConfig
    execution_order: ClassVar[float] = FLUX_ORDER

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        config = cast(PixelFlagsConfig, config)
        extra_anywhere = {plane.lower(): plane for plane in config.masksFpAnywhere}
        extra_center = {plane.lower(): plane for plane in config.masksFpCenter}
        self.anywhere = _PLANES | extra_anywhere
        self.center = _PLANES | extra_center
        for plane in (*self.anywhere.values(), *self.center.values()):
            plane_bit(plane)  # an unknown plane fails here
        self.declare(
            schema,
            flag_spec(f"{name}_flag", "general failure"),
            flag_spec(f"{name}_flag_offimage", "off image"),
        )
        self.declare(schema, *(flag_spec(f"{name}_flag_{k}", f"{k}: any footprint pixel") for k in _PLANES))
        self.declare(schema, *(flag_spec(f"{name}_flag_{k}Center", f"{k}: any of the 3x3") for k in _PLANES))
        self.declare(
            schema, *(flag_spec(f"{name}_flag_{k}CenterAll", f"{k}: all of the 3x3") for k in _PLANES)
        )
        self.declare(
            schema,
            *(flag_spec(f"{name}_flag_{k}", f"{k}: any footprint pixel") for k in extra_anywhere),
            *(flag_spec(f"{name}_flag_{k}Center", f"{k}: any of the 3x3") for k in extra_center),
            *(flag_spec(f"{name}_flag_{k}CenterAll", f"{k}: all of the 3x3") for k in extra_center),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill the flags."""
        n, name, cat = len(context), self.name, context.catalog
        x, y = self._centroid(context)
        bits = np.empty((n, 4), np.int64)
        mask_bits_by_source(context.exposure.mask, context.spans, x, y, bits)
        height, width = context.exposure.shape
        known = np.isfinite(x) & np.isfinite(y)
        on_image = known & (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
        for key, plane in self.anywhere.items():
            cat[f"{name}_flag_{key}"] = bits[:, 0] & plane_bit(plane) != 0
        for key, plane in self.center.items():
            cat[f"{name}_flag_{key}Center"] = bits[:, 1] & plane_bit(plane) != 0
            cat[f"{name}_flag_{key}CenterAll"] = (bits[:, 2] & plane_bit(plane) != 0) & (bits[:, 3] > 0)
        cat[f"{name}_flag_offimage"] = ~on_image
        for key in ("edge", "edgeCenter", "edgeCenterAll"):
            cat[f"{name}_flag_{key}"] |= ~on_image
        cat[f"{name}_flag"] = ~known | (context.footprints.areas() == 0)

    def _centroid(self, context: MeasurementContext) -> tuple[np.ndarray, np.ndarray]:
        """Return the centroid slot as it is, not the safe one."""
        slot = self.slots.centroid
        if slot is None:
            return context.x, context.y
        return context.catalog[f"{slot}_x"], context.catalog[f"{slot}_y"]

"""Where sources are: focal plane, pixel area, sky."""

from __future__ import annotations

from typing import ClassVar, cast

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.measurement.base import (
    SHAPE_ORDER,
    MeasurementPlugin,
    PluginConfig,
    SlotsConfig,
    flag_spec,
    register,
)
from zeropoint.measurement.context import MeasurementContext

__all__ = ["FPPosition", "FPPositionConfig", "Jacobian", "JacobianConfig", "SkyCoord", "SkyCoordConfig"]


class FPPositionConfig(PluginConfig):
    """No parameters."""


@register("base_FPPosition")
class FPPosition(MeasurementPlugin):
    """Position on the focal plane, from the detector's center, pixel size and rotation."""

    ConfigClass: ClassVar[type[PluginConfig]] = FPPositionConfig
    execution_order: ClassVar[float] = SHAPE_ORDER

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        self.declare(
            schema,
            ColumnSpec(f"{name}_x", "f8", "mm", "position on the focal plane"),
            ColumnSpec(f"{name}_y", "f8", "mm", "position on the focal plane"),
            flag_spec(f"{name}_flag", "general failure"),
            flag_spec(f"{name}_missingDetector_flag", "the place of the detector is not known"),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill the focal-plane columns."""
        detector, cat = context.exposure.detector, context.catalog
        angle = np.deg2rad(detector.rotation_deg)
        known = bool(np.isfinite(detector.pixel_size_mm) and np.isfinite(angle))
        dx = (context.x - 0.5 * (detector.width - 1)) * detector.pixel_size_mm
        dy = (context.y - 0.5 * (detector.height - 1)) * detector.pixel_size_mm
        x = detector.center_mm[0] + np.cos(angle) * dx - np.sin(angle) * dy
        y = detector.center_mm[1] + np.sin(angle) * dx + np.cos(angle) * dy
        cat[f"{self.name}_x"], cat[f"{self.name}_y"] = x, y
        cat[f"{self.name}_missingDetector_flag"] = not known
        cat[f"{self.name}_flag"] = ~np.isfinite(x + y) | context.centroid_flagged


class JacobianConfig(PluginConfig):
    """Parameters of the pixel-area ratio."""

    pixelScale = pexConfig.Field(dtype=float, default=0.5, doc="Nominal pixel side, arcsec.")


@register("base_Jacobian")
class Jacobian(MeasurementPlugin):
    """Area of the pixel on the sky relative to the nominal pixel."""

    ConfigClass: ClassVar[type[PluginConfig]] = JacobianConfig
    execution_order: ClassVar[float] = SHAPE_ORDER

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        self.declare(
            schema,
            ColumnSpec(f"{name}_value", "f8", "", "pixel area relative to the nominal pixel"),
            flag_spec(f"{name}_flag", "general failure"),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill the pixel-area columns."""
        wcs, cat = context.exposure.wcs, context.catalog
        if wcs is None:
            cat[f"{self.name}_flag"] = True
            return
        good = np.isfinite(context.x) & np.isfinite(context.y)
        value = np.full(len(context), np.nan)
        jacobian = wcs.local_jacobian(x=context.x[good], y=context.y[good])
        nominal = np.deg2rad(cast(JacobianConfig, self.config).pixelScale / 3600.0) ** 2
        value[good] = np.abs(np.linalg.det(jacobian)) / nominal
        cat[f"{self.name}_value"] = value
        cat[f"{self.name}_flag"] = ~np.isfinite(value)


class SkyCoordConfig(PluginConfig):
    """No parameters."""


@register("base_SkyCoord")
class SkyCoord(MeasurementPlugin):
    """Sky coordinates of the centroid; nothing happens without a WCS."""

    ConfigClass: ClassVar[type[PluginConfig]] = SkyCoordConfig
    execution_order: ClassVar[float] = SHAPE_ORDER

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        schema.add(
            ColumnSpec("coord_ra", "f8", "rad", "right ascension"),
            ColumnSpec("coord_dec", "f8", "rad", "declination"),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill ``coord_ra`` and ``coord_dec``."""
        wcs = context.exposure.wcs
        if wcs is not None:
            ra, dec = wcs.pixel_to_sky(x=context.x, y=context.y)
            context.catalog["coord_ra"], context.catalog["coord_dec"] = ra, dec

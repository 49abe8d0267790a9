"""How much of the light at a source belongs to its neighbors."""

from __future__ import annotations

from typing import ClassVar, cast

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.measurement._kernels_moments import blendedness
from zeropoint.measurement.base import (
    SHAPE_ORDER,
    MeasurementPlugin,
    PluginConfig,
    SlotsConfig,
    flag_spec,
    register,
)
from zeropoint.measurement.context import MeasurementContext
from zeropoint.measurement.gaussian_flux import safe_shapes

__all__ = ["Blendedness", "BlendednessConfig"]

_SIDES = ("child", "parent")
_MOMENTS = ("xx", "yy", "xy")


class BlendednessConfig(PluginConfig):
    """Which blendedness numbers are measured."""

    doOld = pexConfig.Field(dtype=bool, default=True, doc="Measure the dot-product blendedness?")
    doFlux = pexConfig.Field(dtype=bool, default=True, doc="Measure flux-based blendedness?")
    doShape = pexConfig.Field(dtype=bool, default=True, doc="Measure moments of child and parent?")
    nSigmaWeightMax = pexConfig.Field(dtype=float, default=3.0, doc="Radius of the Gaussian weight, sigmas.")


@register("base_Blendedness")
class Blendedness(MeasurementPlugin):
    """Compare a source's own pixels (child) with the image at its place (parent).

    Notes
    -----
    ``raw`` numbers weigh the pixels with the Gaussian of the shape slot; ``abs`` numbers use absolute values
    corrected for their noise bias (Bosch et al. 2018, section 4.9.11). Runs after the shapes.
    """

    ConfigClass: ClassVar[type[PluginConfig]] = BlendednessConfig
    #: After the shape slot's plugin, whatever its name.
    execution_order: ClassVar[float] = SHAPE_ORDER + 0.5

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        config = cast(BlendednessConfig, config)
        if config.doOld:
            self.declare(schema, ColumnSpec(f"{name}_old", "f8", "", "child.(parent - child)/child.child"))
        if config.doFlux:
            for kind in ("raw", "abs"):
                self.declare(
                    schema,
                    ColumnSpec(f"{name}_{kind}", "f8", "", f"1 - child/parent flux, {kind} pixel values"),
                    *(
                        ColumnSpec(
                            f"{name}_{kind}_{side}_instFlux", "f8", "count", f"weighted flux of the {side}"
                        )
                        for side in _SIDES
                    ),
                )
        if config.doShape:
            for kind in ("raw", "abs"):
                for side in _SIDES:
                    self.declare(
                        schema,
                        *(
                            ColumnSpec(f"{name}_{kind}_{side}_{m}", "f8", "pixel^2", f"moment of the {side}")
                            for m in _MOMENTS
                        ),
                    )
        self.declare(
            schema,
            flag_spec(f"{name}_flag", "general failure"),
            flag_spec(f"{name}_flag_noCentroid", "no centroid"),
            flag_spec(f"{name}_flag_noShape", "no shape"),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill the blendedness columns."""
        config, cat, name = cast(BlendednessConfig, self.config), context.catalog, self.name
        xx, yy, xy, bad_shape = safe_shapes(context, self.slots.shape)
        out = np.empty((len(context), 17))
        blendedness(
            context.work,
            context.noise,
            context.exposure.image,
            context.exposure.variance,
            context.spans,
            context.pixel_offsets,
            context.pixels,
            np.column_stack([context.x, context.y, xx, yy, xy]),
            float(config.nSigmaWeightMax),
            np.zeros(11),
            out,
        )
        if config.doOld:
            cat[f"{name}_old"] = out[:, 0]
        for k, kind in enumerate(("raw", "abs")):
            child, parent = (out[:, 1 + 8 * k + 4 * side : 5 + 8 * k + 4 * side] for side in range(2))
            if config.doFlux:
                positive = parent[:, 0] != 0
                share = np.divide(child[:, 0], parent[:, 0], out=np.full(len(out), np.nan), where=positive)
                cat[f"{name}_{kind}"] = 1.0 - share
                cat[f"{name}_{kind}_child_instFlux"] = child[:, 0]
                cat[f"{name}_{kind}_parent_instFlux"] = parent[:, 0]
            if config.doShape:
                for side, values in zip(_SIDES, (child, parent)):
                    for m, moment in enumerate(_MOMENTS):
                        cat[f"{name}_{kind}_{side}_{moment}"] = values[:, 1 + m]
        cat[f"{name}_flag_noCentroid"] = context.centroid_flagged
        cat[f"{name}_flag_noShape"] = bad_shape
        cat[f"{name}_flag"] = context.centroid_flagged | bad_shape

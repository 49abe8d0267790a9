"""Flux under a Gaussian of the source's own shape."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.errors import InvalidInputError
from zeropoint.measurement._kernels_moments import gaussian_fluxes
from zeropoint.measurement.base import (
    FLUX_ORDER,
    MeasurementPlugin,
    PluginConfig,
    SlotsConfig,
    flag_spec,
    register,
)
from zeropoint.measurement.context import MeasurementContext

__all__ = ["GaussianFlux", "GaussianFluxConfig", "safe_shapes"]

#: ``xx yy`` must exceed ``xy^2`` by this factor.
_NOT_A_LINE = 1.0 + 1e-6


def safe_shapes(
    context: MeasurementContext, slot: str | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return ``(xx, yy, xy, flagged)`` of the shape slot, NaN where they are not those of an ellipse.

    Raises
    ------
    InvalidInputError
        If there is no shape slot.
    """
    if slot is None:
        raise InvalidInputError("This measurement needs a shape slot.")
    cat = context.catalog
    xx, yy, xy = (np.array(cat[f"{slot}_{moment}"], np.float64) for moment in ("xx", "yy", "xy"))
    with np.errstate(invalid="ignore", over="ignore"):
        bad = ~(xx * yy >= _NOT_A_LINE * xy * xy) | ~(xx > 0)
    for moment in (xx, yy, xy):
        moment[bad] = np.nan
    return xx, yy, xy, bad | cat[f"{slot}_flag"]


class GaussianFluxConfig(PluginConfig):
    """No parameters."""


@register("base_GaussianFlux")
class GaussianFlux(MeasurementPlugin):
    """Gaussian-weighted flux at the safe centroid with the moments of the shape slot."""

    ConfigClass: ClassVar[type[PluginConfig]] = GaussianFluxConfig
    execution_order: ClassVar[float] = FLUX_ORDER

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        self.declare(
            schema,
            ColumnSpec(f"{name}_instFlux", "f8", "count", "instrumental flux"),
            ColumnSpec(f"{name}_instFluxErr", "f8", "count", "its 1-sigma error"),
            flag_spec(f"{name}_flag", "general failure"),
        )
        self.alias_bad_centroid(schema)
        if slots.shape is not None:
            schema.alias(f"{name}_flag_badShape", f"{slots.shape}_flag")

    @classmethod
    def ap_corr_names(cls, name: str, config: PluginConfig) -> tuple[str, ...]:
        """Return the prefix of the flux that is corrected to the aperture of the calibration flux."""
        return (name,)

    def measure(self, context: MeasurementContext) -> None:
        """Fill the flux columns."""
        xx, yy, xy, bad_shape = safe_shapes(context, self.slots.shape)
        flux, err = np.empty(len(context)), np.empty(len(context))
        gaussian_fluxes(
            context.work,
            context.noise,
            context.exposure.variance,
            context.spans,
            context.pixel_offsets,
            context.pixels,
            context.x,
            context.y,
            xx,
            yy,
            xy,
            flux,
            err,
        )
        cat = context.catalog
        cat[f"{self.name}_instFlux"], cat[f"{self.name}_instFluxErr"] = flux, err
        cat[f"{self.name}_flag"] = ~np.isfinite(flux + err) | bad_shape | context.centroid_flagged

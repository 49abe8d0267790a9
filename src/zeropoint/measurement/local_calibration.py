"""The calibrations of an exposure where each source is: WCS and photometry, linear approximations."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.measurement.base import (
    FLUX_ORDER,
    SHAPE_ORDER,
    MeasurementPlugin,
    PluginConfig,
    SlotsConfig,
    flag_spec,
    register,
)
from zeropoint.measurement.context import MeasurementContext

__all__ = ["LocalPhotoCalib", "LocalPhotoCalibConfig", "LocalWcs", "LocalWcsConfig"]


class LocalWcsConfig(PluginConfig):
    """No parameters."""


@register("base_LocalWcs")
class LocalWcs(MeasurementPlugin):
    """Jacobian from pixels to the plane tangent to the sky at each source, rad / pixel.

    Rows are (East, North), columns (x, y); without a WCS NaN and a flag.
    """

    ConfigClass: ClassVar[type[PluginConfig]] = LocalWcsConfig
    execution_order: ClassVar[float] = SHAPE_ORDER
    needs_psf: ClassVar[bool] = False

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        self.declare(schema, flag_spec(f"{name}_flag", "general failure"))
        self._elements = [(f"{name}_CDMatrix_{i + 1}_{j + 1}", i, j) for i in (0, 1) for j in (0, 1)]
        for column, i, j in self._elements:
            doc = f"derivative of the {('Eastward', 'Northward')[i]} position by {'xy'[j]}"
            self.declare(schema, ColumnSpec(column, "f8", "rad / pixel", doc))

    def measure(self, context: MeasurementContext) -> None:
        """Fill the four elements."""
        wcs, catalog = context.exposure.wcs, context.catalog
        x, y, good = _positions(context)
        if wcs is None:
            good = np.zeros(len(context), np.bool_)
        else:
            jacobian = wcs.local_jacobian(x=x[good], y=y[good])
            for column, i, j in self._elements:
                catalog[column][good] = jacobian[:, i, j]
        catalog[f"{self.name}_flag"] = ~good


class LocalPhotoCalibConfig(PluginConfig):
    """No parameters."""


@register("base_LocalPhotoCalib")
class LocalPhotoCalib(MeasurementPlugin):
    """Flux of one electron at each source, nJy; without a photometric calibration NaN and a flag."""

    ConfigClass: ClassVar[type[PluginConfig]] = LocalPhotoCalibConfig
    execution_order: ClassVar[float] = FLUX_ORDER
    needs_psf: ClassVar[bool] = False

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        self.declare(
            schema,
            flag_spec(f"{name}_flag", "general failure"),
            ColumnSpec(name, "f8", "nJy / count", "flux of one count at the place of the source"),
            ColumnSpec(f"{name}Err", "f8", "nJy / count", "its 1-sigma error"),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill the factor and its error."""
        calibration, catalog = context.exposure.photo_calib, context.catalog
        x, y, good = _positions(context)
        if calibration is None:
            good = np.zeros(len(context), np.bool_)
        else:
            catalog[self.name][good] = calibration.at(x=x[good], y=y[good])
            catalog[f"{self.name}Err"][good] = calibration.calibration_err
        catalog[f"{self.name}_flag"] = ~good


def _positions(context: MeasurementContext) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions and which are known: the catalogue's centroid slot, else what the step itself measured.

    A second measurement step without slots of its own shares the catalogue of the first.
    """
    x, y = context.x, context.y
    if "slot_Centroid_x" in context.catalog:
        slot_x, slot_y = context.catalog["slot_Centroid_x"], context.catalog["slot_Centroid_y"]
        known = np.isfinite(slot_x) & np.isfinite(slot_y)
        x, y = np.where(known, slot_x, x), np.where(known, slot_y, y)
    return x, y, np.isfinite(x) & np.isfinite(y)

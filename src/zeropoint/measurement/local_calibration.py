"""The calibrations of an exposure where each source is: WCS and photometry, linear approximations."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.exposure import PhotoCalib
from zeropoint.datamodel.wcs import SkyWcs
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

__all__ = [
    "LocalPhotoCalib",
    "LocalPhotoCalibConfig",
    "LocalWcs",
    "LocalWcsConfig",
    "fill_local_photo_calib",
    "fill_local_wcs",
]

#: Elements of the Jacobian, in the order of the columns.
_ELEMENTS = ((0, 0), (0, 1), (1, 0), (1, 1))


def fill_local_wcs(
    catalog: SourceCatalog, name: str, wcs: SkyWcs | None, *, x: np.ndarray, y: np.ndarray
) -> None:
    """Fill the columns of `LocalWcs`, in place.

    Parameters
    ----------
    catalog
        With the columns that the plugin declares.
    name
        Name of the plugin.
    wcs
        None: NaN and the flag everywhere.
    x, y : float64, shape (n,)
        Positions; NaN and the flag where they are not finite.
    """
    good = np.isfinite(x) & np.isfinite(y) & (wcs is not None)
    jacobian = np.full((len(catalog), 2, 2), np.nan)
    if wcs is not None:
        jacobian[good] = wcs.local_jacobian(x=x[good], y=y[good])
    for i, j in _ELEMENTS:
        catalog[f"{name}_CDMatrix_{i + 1}_{j + 1}"] = jacobian[:, i, j]
    catalog[f"{name}_flag"] = ~good


def fill_local_photo_calib(
    catalog: SourceCatalog, name: str, calibration: PhotoCalib | None, *, x: np.ndarray, y: np.ndarray
) -> None:
    """Fill the columns of `LocalPhotoCalib`, in place.

    Parameters
    ----------
    catalog
        With the columns that the plugin declares.
    name
        Name of the plugin.
    calibration
        None: NaN and the flag everywhere.
    x, y : float64, shape (n,)
        Positions; NaN and the flag where they are not finite.
    """
    good = np.isfinite(x) & np.isfinite(y) & (calibration is not None)
    factor, error = np.full((2, len(catalog)), np.nan)
    if calibration is not None:
        factor[good] = calibration.at(x=x[good], y=y[good])
        error[good] = calibration.calibration_err
    catalog[name], catalog[f"{name}Err"] = factor, error
    catalog[f"{name}_flag"] = ~good


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
        for i, j in _ELEMENTS:
            doc = f"derivative of the {('Eastward', 'Northward')[i]} position by {'xy'[j]}"
            self.declare(schema, ColumnSpec(f"{name}_CDMatrix_{i + 1}_{j + 1}", "f8", "rad / pixel", doc))

    def measure(self, context: MeasurementContext) -> None:
        """Fill the four elements."""
        x, y = _positions(context)
        fill_local_wcs(context.catalog, self.name, context.exposure.wcs, x=x, y=y)


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
        x, y = _positions(context)
        fill_local_photo_calib(context.catalog, self.name, context.exposure.photo_calib, x=x, y=y)


def _positions(context: MeasurementContext) -> tuple[np.ndarray, np.ndarray]:
    """Return positions: the catalogue's centroid slot, else what the step itself measured.

    A second measurement step without slots of its own shares the catalogue of the first.
    """
    x, y = context.x, context.y
    if "slot_Centroid_x" in context.catalog:
        slot_x, slot_y = context.catalog["slot_Centroid_x"], context.catalog["slot_Centroid_y"]
        known = np.isfinite(slot_x) & np.isfinite(slot_y)
        x, y = np.where(known, slot_x, x), np.where(known, slot_y, y)
    return x, y

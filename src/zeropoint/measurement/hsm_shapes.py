"""PSF-corrected shapes, and higher moments of sources and PSF."""

from __future__ import annotations

from typing import ClassVar

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.errors import InvalidInputError
from zeropoint.measurement._hsm_base import SHAPE_FLAGS, HsmPlugin
from zeropoint.measurement._hsm_kernels import hsm_stack
from zeropoint.measurement._hsm_sources import MAX_REACH, NO_PIXELS, clip_boxes, higher_order_sources
from zeropoint.measurement._kernels_local import box_medians
from zeropoint.measurement._psf_moments import UNDERSAMPLED
from zeropoint.measurement._regauss_kernels import regauss_sources
from zeropoint.measurement.base import FLUX_ORDER, SHAPE_ORDER, PluginConfig, SlotsConfig, flag_spec, register
from zeropoint.measurement.context import MeasurementContext

__all__ = [
    "HigherOrderMomentsPSF",
    "HigherOrderMomentsPSFConfig",
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


class HigherOrderMomentsConfig(PluginConfig):
    """Orders of higher moments."""

    min_order = pexConfig.Field(dtype=int, default=3, doc="Lowest order of the moments.")
    max_order = pexConfig.Field(dtype=int, default=4, doc="Highest order of the moments.")

    def validate(self) -> None:
        """Check the orders."""
        super().validate()
        if self.min_order > self.max_order:
            raise ValueError(f"min_order {self.min_order} is above max_order {self.max_order}.")


class HigherOrderMoments(HsmPlugin):
    """Columns of moments in coordinates in which the second moments of the subject are round.

    Column ``_pq`` is ``sum w I u^p v^q / sum w I`` with ``(u, v) = M^(-1/2) (r - r0)`` and the weight
    ``w = exp(-(u^2 + v^2)/2)``; center r0 and moments M are adaptive.
    """

    execution_order: ClassVar[float] = FLUX_ORDER
    config: HigherOrderMomentsConfig

    def __init__(
        self, config: HigherOrderMomentsConfig, name: str, schema: Schema, slots: SlotsConfig
    ) -> None:
        super().__init__(config, name, schema, slots)
        self.orders = np.array(
            [(p, n - p) for n in range(config.min_order, config.max_order + 1) for p in range(n + 1)],
            np.int64,
        ).T.copy()
        self.declare(schema, flag_spec(f"{name}_flag", "any failure"))
        for p, q in self.orders.T:
            self.declare(schema, ColumnSpec(f"{name}_{p}{q}", "f8", "", f"higher moment M_{p}{q}"))

    def store(self, context: MeasurementContext, values: np.ndarray) -> None:
        """Fill the columns with moments, shape (n, n_orders); rows where one is not finite are flagged."""
        cat = context.catalog
        for k, (p, q) in enumerate(self.orders.T):
            cat[f"{self.name}_{p}{q}"] = values[:, k]
        cat[f"{self.name}_flag"] = ~np.isfinite(values).all(axis=1)


class HigherOrderMomentsSourceConfig(HigherOrderMomentsConfig):
    """Options of ext_shapeHSM_HigherOrderMomentsSource."""

    badMaskPlanes = pexConfig.ListField(
        dtype=str, default=["BAD", "SAT"], doc="Mask planes whose pixels are rejected."
    )
    setMaskedPixelsToZero = pexConfig.Field(
        dtype=bool,
        default=False,
        doc="Set rejected pixels to zero, instead of to the scaled adaptive weight?",
    )


@register("ext_shapeHSM_HigherOrderMomentsSource")
class HigherOrderMomentsSource(HigherOrderMoments):
    """Moments of order 3 and 4 of sources.

    Center and second moments are those of ext_shapeHSM_HsmSourceMoments, which must be measured before.
    """

    ConfigClass = HigherOrderMomentsSourceConfig
    config: HigherOrderMomentsSourceConfig
    source = "ext_shapeHSM_HsmSourceMoments"

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
        self.store(context, out)


class HigherOrderMomentsPSFConfig(HigherOrderMomentsConfig):
    """Options of ext_shapeHSM_HigherOrderMomentsPSF."""

    useSourceCentroidOffset = pexConfig.Field(
        dtype=bool,
        default=False,
        doc="Measure the PSF at the source's sub-pixel place, instead of centered on a pixel?",
    )


@register("ext_shapeHSM_HigherOrderMomentsPSF")
class HigherOrderMomentsPSF(HigherOrderMoments):
    """Moments of order 3 and 4 of the PSF model at the sources."""

    ConfigClass = HigherOrderMomentsPSFConfig
    config: HigherOrderMomentsPSFConfig

    def measure(self, context: MeasurementContext) -> None:
        """See `MeasurementPlugin.measure`."""
        n = len(context)
        values = np.full((n, self.orders.shape[1]), np.nan)
        if context.exposure.psf is not None:
            px, py = context.psf_positions(context.x, context.y)
            half = context.psf.size // 2
            x, y = np.full(n, float(half)), np.full(n, float(half))
            if self.config.useSourceCentroidOffset:
                stamps = context.psf_stamps
                x, y = x + px - np.floor(px + 0.5), y + py - np.floor(py + 0.5)
            else:
                stamps = np.ascontiguousarray(context.psf.kernel_stamps(x=px, y=py), np.float64)
            shapes, status = np.empty((n, 6)), np.zeros(n, np.int64)
            hsm_stack(stamps, x, y, np.full(n, 1.5), False, UNDERSAMPLED, shapes, status)
            good = (status == 0) & np.isfinite(context.x + context.y)
            values[good] = _stamp_moments(stamps[good], shapes[good], self.orders)
        self.store(context, values)


def _stamp_moments(stamps: np.ndarray, shapes: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Return higher moments of stamps.

    Parameters
    ----------
    stamps : float64, shape (n, size, size)
        Images.
    shapes : float64, shape (n, 6)
        x, y, xx, yy, xy of each, in its own pixels, and a column that is not used.
    orders : int64, shape (2, n_orders)
        p and q.

    Returns
    -------
    moments : float64, shape (n, n_orders)
    """
    x, y, xx, yy, xy = (shapes[:, k, None, None] for k in range(5))
    pixels = np.arange(stamps.shape[1], dtype=np.float64)
    dx, dy = pixels[None, None, :] - x, pixels[None, :, None] - y
    # the inverse square root of a symmetric 2 x 2 matrix, from its determinant and trace
    root = np.sqrt(xx * yy - xy * xy)
    scale = root * np.sqrt(xx + yy + 2.0 * root)
    u = ((yy + root) * dx - xy * dy) / scale
    v = ((xx + root) * dy - xy * dx) / scale
    weighted = stamps * np.exp(-0.5 * (u * u + v * v))
    total = weighted.sum(axis=(1, 2))
    sums = [(weighted * u**p * v**q).sum(axis=(1, 2)) for p, q in orders.T]
    return np.stack(sums, axis=1) / total[:, None]

"""What the plugins of the HSM family share: regions, starting values, columns and flags."""

from __future__ import annotations

from typing import ClassVar

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.measurement._hsm_sources import MAX_REACH, NO_PIXELS, NOT_CONTAINED, clip_boxes, hsm_sources
from zeropoint.measurement._psf_moments import UNDERSAMPLED, psf_moments_grid
from zeropoint.measurement.base import SHAPE_ORDER, MeasurementPlugin, PluginConfig, SlotsConfig, flag_spec
from zeropoint.measurement.context import MeasurementContext

__all__ = ["SHAPE_FLAGS", "HsmMoments", "HsmMomentsConfig", "HsmPlugin"]

#: Starting width of a source in trace radii of the PSF.
START_SCALE = 2.5

SHAPE_FLAGS = {
    "flag": "any failure",
    "flag_no_pixels": "no pixels to measure",
    "flag_not_contained": "center not contained in the footprint's bounding box",
    "flag_parent_source": "parent source, ignored",
    "flag_galsim": "moments did not converge",
}
_MOMENTS_FLAGS = SHAPE_FLAGS | {
    "flag_invalid_param": "invalid combination of moments",
    "flag_edge": "variance undefined outside the image",
    "flag_no_psf": "exposure lacks a PSF",
}


class HsmMomentsConfig(PluginConfig):
    """What all adaptive moments can be told."""

    roundMoments = pexConfig.Field(dtype=bool, default=False, doc="Use a circular weight function?")
    addFlux = pexConfig.Field(dtype=bool, default=False, doc="Store the measured flux?")
    subtractCenter = pexConfig.Field(
        dtype=bool, default=False, doc="Subtract the starting center from the x and y outputs?"
    )


class HsmPlugin(MeasurementPlugin):
    """Shared by plugins that measure footprint boxes."""

    def source_boxes(self, context: MeasurementContext) -> tuple[np.ndarray, np.ndarray]:
        """Return the boxes of sources' pixels, int64, shape (n, 4), and the status of each, 0 where it can be measured.

        Boxes are the footprints', cut to `MAX_REACH` pixels about the centre.
        """
        boxes, status = context.boxes.copy(), np.zeros(len(context), np.int64)
        clip_boxes(context.boxes, context.x, context.y, MAX_REACH, boxes, status)
        return boxes, status

    def starting_values(self, context: MeasurementContext) -> tuple[np.ndarray, np.ndarray]:
        """Return starting (x, y, width) of sources, shape (n, 3), and the PSF's moments, shape (n, 6)."""
        px, py = context.psf_positions(context.x, context.y)
        moments, _ = psf_moments_grid(context.psf, context.exposure.shape).at(x=px, y=py)
        sigma = START_SCALE * np.sqrt(0.5 * (moments[:, 2] + moments[:, 3]))
        return np.column_stack([context.x, context.y, sigma]), moments

    def source_moments(
        self, context: MeasurementContext, planes: list[str], round_weight: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return x, y, xx, yy, xy, flux of all sources, shape (n, 6), and their status; shared by plugins.

        Where the PSF is undersampled, compact sources get the moments of a fitted Gaussian instead.
        """
        bad_bits = np.int32(bitmask(planes))
        key = ("adaptive moments", int(bad_bits), round_weight)
        if key not in context.shared:
            boxes, status = self.source_boxes(context)
            start, psf = self.starting_values(context)
            fit_below = 0.0
            if float(np.nanmedian(psf[:, 2] * psf[:, 3] - psf[:, 4] ** 2)) < UNDERSAMPLED**4:
                fit_below = UNDERSAMPLED
            out = np.empty((len(context), 6))
            hsm_sources(
                context.work,
                context.noise,
                context.spans,
                context.pixel_offsets,
                context.pixels,
                context.exposure.mask,
                bad_bits,
                boxes,
                start,
                np.array([float(round_weight), fit_below]),
                out,
                status,
            )
            context.shared[key] = (out, status)
        out, status = context.shared[key]
        return out.copy(), status.copy()

    def set_flags(self, context: MeasurementContext, status: np.ndarray) -> None:
        """Set the flags that all these plugins have from the status of each source, int64, shape (n,), in place."""
        cat, name = context.catalog, self.name
        cat[f"{name}_flag"] = (status != 0) | context.centroid_flagged
        cat[f"{name}_flag_no_pixels"] = status == NO_PIXELS
        cat[f"{name}_flag_not_contained"] = status == NOT_CONTAINED
        cat[f"{name}_flag_galsim"] = status > 0


class HsmMoments(HsmPlugin):
    """Columns and flags of adaptive moments."""

    execution_order: ClassVar[float] = SHAPE_ORDER
    config: HsmMomentsConfig
    subject = "source"

    def __init__(self, config: HsmMomentsConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        self.declare(schema, *(flag_spec(f"{name}_{flag}", doc) for flag, doc in _MOMENTS_FLAGS.items()))
        self.declare(
            schema,
            *(ColumnSpec(f"{name}_{c}", "f8", "pixel", f"HSM centroid of the {self.subject}") for c in "xy"),
            *(
                ColumnSpec(f"{name}_{c}", "f8", "pixel2", f"adaptive moment of the {self.subject}")
                for c in ("xx", "yy", "xy")
            ),
        )
        if config.addFlux:
            self.declare(schema, ColumnSpec(f"{name}_Flux", "f8", "count", f"flux of the {self.subject}"))
        self.alias_bad_centroid(schema)

    def store(self, context: MeasurementContext, values: np.ndarray) -> None:
        """Fill the columns, in place, from x, y, xx, yy, xy and flux, float64, shape (n, 6), pixels and counts."""
        cat, name = context.catalog, self.name
        for k, column in enumerate(("x", "y", "xx", "yy", "xy")):
            cat[f"{name}_{column}"] = values[:, k]
        if self.config.addFlux:
            cat[f"{name}_Flux"] = values[:, 5]

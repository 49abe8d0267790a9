"""Centroids: PSF-weighted maximum with a PSF-fit refinement, plain peak, and the 3 x 3 of old catalogues."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.measurement._kernels_centroid import (
    EDGE,
    NEAR_EDGE,
    NO_SECOND_DERIVATIVE,
    NOT_AT_MAXIMUM,
    refine_centroids,
    smoothed_peaks,
)
from zeropoint.measurement._kernels_flags import naive_centroids, spans_contain
from zeropoint.measurement.base import (
    CENTROID_ORDER,
    MeasurementPlugin,
    PluginConfig,
    SlotsConfig,
    flag_spec,
    register,
)
from zeropoint.measurement.context import MeasurementContext

__all__ = [
    "NaiveCentroid",
    "NaiveCentroidConfig",
    "PeakCentroid",
    "PeakCentroidConfig",
    "SdssCentroid",
    "SdssCentroidConfig",
]

#: Pixels whose values say nothing about a star's position.
_UNUSABLE = ("BAD", "SATURATED", "NO_DATA")
#: A step longer than this (pixels) is repeated from where it ended.
_LONG_STEP = 0.1
#: Far from the star the curvature misleads: no step is longer than this (pixels).
_LONGEST_STEP = 0.75
#: A fit that leaves its start by more than this (pixels) is not believed.
_MAX_SHIFT = 3.0
#: Half side of the fit region in units of the PSF's determinant radius.
_FIT_SIGMAS = 5.0
_MAX_STEPS = 8


def _centroid_specs(name: str, errors: bool) -> list[ColumnSpec]:
    specs = [
        ColumnSpec(f"{name}_x", "f8", "pixel", "centroid"),
        ColumnSpec(f"{name}_y", "f8", "pixel", "centroid"),
    ]
    if errors:
        specs += [
            ColumnSpec(f"{name}_xErr", "f4", "pixel", "1-sigma error"),
            ColumnSpec(f"{name}_yErr", "f4", "pixel", "1-sigma error"),
        ]
    return specs


def _reset_to_peak(
    context: MeasurementContext, name: str, x: np.ndarray, y: np.ndarray, check_footprint: bool, limit: float
) -> None:
    """Move centroids that left their footprint or their peak back to the peak, in place, and flag them."""
    inside = np.ones(len(x), np.bool_)
    if check_footprint:
        spans_contain(context.spans, x, y, inside)
    far = np.hypot(x - context.peak_x, y - context.peak_y) > limit if limit >= 0 else ~inside
    reset = (~inside | far) & np.isfinite(context.peak_x)
    x[reset], y[reset] = context.peak_x[reset], context.peak_y[reset]
    context.catalog[f"{name}_flag_resetToPeak"] = reset
    context.catalog[f"{name}_flag"] |= reset


class SdssCentroidConfig(PluginConfig):
    """Parameters of the PSF-weighted centroid."""

    binmax = pexConfig.Field(dtype=int, default=16, doc="Largest binning tried.")
    peakMin = pexConfig.Field(
        dtype=float, default=-1.0, doc="If >= 0, peaks fainter than this are binned at least once."
    )
    wfac = pexConfig.Field(dtype=float, default=1.5, doc="Binning stops below this times (1 + sigma^2).")
    doFootprintCheck = pexConfig.Field(
        dtype=bool, default=True, doc="Must the centroid lie in the footprint?"
    )
    maxDistToPeak = pexConfig.Field(
        dtype=float, default=1.0, doc="Largest distance from the peak, pixels; negative for no limit."
    )


@dataclass
class _Positions:
    """Working state of one run over all rows."""

    x: np.ndarray
    y: np.ndarray
    x_err: np.ndarray
    y_err: np.ndarray


@register("base_SdssCentroid")
class SdssCentroid(MeasurementPlugin):
    """Centroid of the PSF-smoothed image, refined by a photon-weighted PSF fit.

    Notes
    -----
    The start is the SDSS algorithm (quartic interpolation of the 3 x 3 smoothed pixels around the peak, binned
    for large sources). For sources that are not much larger than the PSF, Gauss-Newton steps then maximize
    the likelihood of a point source with pixel weights ``1/(sky + slope * PSF)``, a line fitted to the variance
    plane. Errors propagate the variance plane through that estimator. The flags are those of the start.
    """

    ConfigClass: ClassVar[type[PluginConfig]] = SdssCentroidConfig
    execution_order: ClassVar[float] = CENTROID_ORDER

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        self.declare(
            schema,
            *_centroid_specs(name, errors=True),
            flag_spec(f"{name}_flag", "any failure"),
            flag_spec(f"{name}_flag_edge", "too close to edge, peak used"),
            flag_spec(f"{name}_flag_noSecondDerivative", "vanishing curvature"),
            flag_spec(f"{name}_flag_almostNoSecondDerivative", "never set"),
            flag_spec(f"{name}_flag_notAtMaximum", "not a maximum"),
            flag_spec(f"{name}_flag_near_edge", "fallback kernel used"),
            flag_spec(f"{name}_flag_resetToPeak", "moved back to the peak"),
            flag_spec(f"{name}_flag_badError", "error is NaN"),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill the centroid columns."""
        config = cast(SdssCentroidConfig, self.config)
        n = len(context)
        state, found = np.zeros((n, 2), np.int64), np.empty((n, 4))
        grid = context.shape_grid
        node = grid.nearest(x=context.peak_x, y=context.peak_y)
        smoothed_peaks(
            context.work,
            context.noise,
            context.exposure.variance,
            context.spans,
            context.pixel_offsets,
            context.pixels,
            np.column_stack([context.peak_x, context.peak_y]),
            grid.kernels,
            node,
            grid.node_sigma,
            (int(config.binmax), float(config.peakMin), float(config.wfac)),
            state,
            found,
        )
        at = _Positions(*(np.ascontiguousarray(column) for column in found.T))
        self._refine(context, state, at, grid.node_sigma[node])
        self._write(context, state[:, 0], at)

    def _refine(
        self, context: MeasurementContext, state: np.ndarray, at: _Positions, sigma: np.ndarray
    ) -> None:
        """Improve positions and errors by PSF-fit steps, in place, where the fit can be trusted."""
        rows = np.flatnonzero((state[:, 0] & ~NEAR_EDGE == 0) & (state[:, 1] <= 4))
        x, y = at.x.copy(), at.y.copy()
        margin = context.psf.size // 2 - 3
        if margin < 1:
            return
        half = np.clip(np.ceil(_FIT_SIGMAS * sigma), 2, margin).astype(np.int64)
        for _ in range(_MAX_STEPS):
            if len(rows) == 0:
                break
            xr, yr = x[rows], y[rows]
            stamps = np.ascontiguousarray(context.psf.star_stamps(x=xr, y=yr), np.float64)
            done, out = np.zeros(len(rows), np.bool_), np.full((len(rows), 7), np.nan)
            refine_centroids(
                context.work,
                context.noise,
                context.exposure.variance,
                context.exposure.mask,
                np.int32(bitmask(_UNUSABLE)),
                context.spans,
                context.pixel_offsets,
                context.pixels,
                rows,
                stamps,
                xr,
                yr,
                half[rows],
                done,
                out,
            )
            step = np.hypot(out[:, 0], out[:, 1])
            damping = np.minimum(1.0, _LONGEST_STEP / np.maximum(step, _LONGEST_STEP))
            x[rows], y[rows] = xr + damping * out[:, 0], yr + damping * out[:, 1]
            shift = np.hypot(x[rows] - at.x[rows], y[rows] - at.y[rows])
            # a binned source is refined only if its curvature is a point source's
            like_star = np.abs(out[:, 4] - 1.0) <= 3.0 * out[:, 5]
            good = done & np.isfinite(out[:, :4]).all(axis=1) & (shift <= _MAX_SHIFT)
            good &= like_star | (state[rows, 1] == 1)
            final = good & (step <= _LONG_STEP)
            chosen = rows[final]
            at.x[chosen], at.y[chosen] = x[chosen], y[chosen]
            at.x_err[chosen], at.y_err[chosen] = out[final, 2], out[final, 3]
            rows = rows[good & ~final]

    def _write(self, context: MeasurementContext, state: np.ndarray, at: _Positions) -> None:
        name, cat = self.name, context.catalog
        cat[f"{name}_flag_edge"] = state & EDGE != 0
        cat[f"{name}_flag_noSecondDerivative"] = state & NO_SECOND_DERIVATIVE != 0
        cat[f"{name}_flag_notAtMaximum"] = state & NOT_AT_MAXIMUM != 0
        cat[f"{name}_flag_near_edge"] = state & NEAR_EDGE != 0
        bad_error = (state & ~NEAR_EDGE == 0) & ~(np.isfinite(at.x_err) & np.isfinite(at.y_err))
        cat[f"{name}_flag_badError"] = bad_error
        cat[f"{name}_flag"] = (state != 0) | bad_error
        config = cast(SdssCentroidConfig, self.config)
        _reset_to_peak(context, name, at.x, at.y, config.doFootprintCheck, config.maxDistToPeak)
        cat[f"{name}_x"], cat[f"{name}_y"] = at.x, at.y
        cat[f"{name}_xErr"], cat[f"{name}_yErr"] = at.x_err, at.y_err


class PeakCentroidConfig(PluginConfig):
    """No parameters."""


@register("base_PeakCentroid")
class PeakCentroid(MeasurementPlugin):
    """The first peak of the footprint."""

    ConfigClass: ClassVar[type[PluginConfig]] = PeakCentroidConfig
    execution_order: ClassVar[float] = CENTROID_ORDER

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        self.declare(
            schema, *_centroid_specs(name, errors=False), flag_spec(f"{name}_flag", "the source has no peak")
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill the centroid columns."""
        cat = context.catalog
        cat[f"{self.name}_x"], cat[f"{self.name}_y"] = context.peak_x, context.peak_y
        cat[f"{self.name}_flag"] = ~np.isfinite(context.peak_x)


class NaiveCentroidConfig(PluginConfig):
    """Parameters of the 3 x 3 centroid."""

    background = pexConfig.Field(dtype=float, default=0.0, doc="Subtracted from every pixel.")
    doFootprintCheck = pexConfig.Field(
        dtype=bool, default=True, doc="Must the centroid lie in the footprint?"
    )
    maxDistToPeak = pexConfig.Field(
        dtype=float, default=-1.0, doc="Largest distance from the peak, pixels; negative for no limit."
    )


@register("base_NaiveCentroid")
class NaiveCentroid(MeasurementPlugin):
    """Center of mass of the 3 x 3 pixels around the peak."""

    ConfigClass: ClassVar[type[PluginConfig]] = NaiveCentroidConfig
    execution_order: ClassVar[float] = CENTROID_ORDER

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        self.declare(
            schema,
            *_centroid_specs(name, errors=False),
            flag_spec(f"{name}_flag", "any failure"),
            flag_spec(f"{name}_flag_noCounts", "no counts around the peak"),
            flag_spec(f"{name}_flag_edge", "too close to the edge"),
            flag_spec(f"{name}_flag_resetToPeak", "moved back to the peak"),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill the centroid columns."""
        config = cast(NaiveCentroidConfig, self.config)
        x, y = context.peak_x.copy(), context.peak_y.copy()
        state = np.zeros(len(x), np.int64)
        naive_centroids(
            context.work,
            context.noise,
            context.spans,
            context.pixel_offsets,
            context.pixels,
            float(config.background),
            x,
            y,
            state,
        )
        cat = context.catalog
        cat[f"{self.name}_flag_edge"] = state == 1
        cat[f"{self.name}_flag_noCounts"] = state == 2
        cat[f"{self.name}_flag"] = state != 0
        _reset_to_peak(context, self.name, x, y, config.doFootprintCheck, config.maxDistToPeak)
        cat[f"{self.name}_x"], cat[f"{self.name}_y"] = x, y

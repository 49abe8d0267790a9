"""Plugins base_SdssShape and base_ClassificationSizeExtendedness."""

from __future__ import annotations

from typing import ClassVar

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.measurement._psf_moments import UNDERSAMPLED
from zeropoint.measurement._shape_kernels import (
    MAX_ITER,
    SHIFT,
    UNWEIGHTED,
    UNWEIGHTED_BAD,
    sdss_shape_sources,
    sdss_shape_stack,
)
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
    "ClassificationSizeExtendedness",
    "ClassificationSizeExtendednessConfig",
    "SdssShape",
    "SdssShapeConfig",
    "gaussian_fit_covariance",
]


def gaussian_fit_covariance(
    peak: np.ndarray, xx: np.ndarray, yy: np.ndarray, xy: np.ndarray, variance: np.ndarray
) -> np.ndarray:
    """Return the covariance of a Gaussian's (peak, xx, yy, xy) fitted in uniform white noise.

    Parameters
    ----------
    peak, xx, yy, xy, variance : float64, shape (n,)
        Peak value, second moments [pixel^2] and variance of a pixel.

    Returns
    -------
    covariance : float64, shape (n, 4, 4)
        Inverse Fisher matrix; NaN where it does not exist.

    Notes
    -----
    With ``F0 = pi sqrt(det)/variance`` the Fisher matrix is the integral of products of the derivatives
    ``dI/dI0 = w``, ``dI/dM_ij = I0 w u_i u_j (1 - d_ij/2)``, ``u = M^-1 d``, under the weight ``w^2``.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        det = xx * yy - xy * xy
        f0 = np.pi * np.sqrt(det) / variance
        a = f0 * peak / (4.0 * det)
        g = 3.0 * f0 * peak * peak / (16.0 * det * det)
        fisher = np.empty((len(peak), 4, 4))
        entries = {
            (0, 0): f0,
            (0, 1): a * yy,
            (0, 2): a * xx,
            (0, 3): -2.0 * a * xy,
            (1, 1): g * yy * yy,
            (2, 2): g * xx * xx,
            (3, 3): 4.0 * g * (xy * xy + det / 3.0),
            (1, 2): g * (xy * xy + det / 3.0),
            (1, 3): -2.0 * g * yy * xy,
            (2, 3): -2.0 * g * xx * xy,
        }
    for (i, j), values in entries.items():
        fisher[:, i, j] = fisher[:, j, i] = values
    result = np.full_like(fisher, np.nan)
    good = np.isfinite(fisher).all(axis=(1, 2)) & (peak > 0) & (det > 0)
    # unit diagonal, so that peaks of a million and moments of one invert equally well
    scale = np.sqrt(np.diagonal(fisher[good], axis1=1, axis2=2))
    outer = scale[:, :, None] * scale[:, None, :]
    result[good] = np.linalg.inv(fisher[good] / outer) / outer
    return result


class SdssShapeConfig(PluginConfig):
    """Options of base_SdssShape."""

    background = pexConfig.Field(dtype=float, default=0.0, doc="Level to subtract from the image.")
    maxIter = pexConfig.Field(dtype=int, default=100, doc="Largest number of iterations.")
    maxShift = pexConfig.Field(
        dtype=float, default=0.0, doc="Largest centroid shift, pixels; taken within 2 to 10."
    )
    tol1 = pexConfig.Field(dtype=float, default=1e-5, doc="Change of ellipticity at convergence.")
    tol2 = pexConfig.Field(dtype=float, default=1e-4, doc="Relative change of size at convergence.")
    doMeasurePsf = pexConfig.Field(dtype=bool, default=True, doc="Store the shape of the PSF as well?")


@register("base_SdssShape")
class SdssShape(MeasurementPlugin):
    """Adaptive moments about the fixed centroid, with errors from the Fisher matrix of a Gaussian."""

    ConfigClass = SdssShapeConfig
    execution_order: ClassVar[float] = SHAPE_ORDER
    config: SdssShapeConfig

    def __init__(self, config: SdssShapeConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        moments = ("xx", "yy", "xy")
        specs = [ColumnSpec(f"{name}_{m}", "f8", "pixel2", "adaptive second moment") for m in moments]
        specs += [ColumnSpec(f"{name}_{m}Err", "f4", "pixel2", "1-sigma error") for m in moments]
        specs += [ColumnSpec(f"{name}_{axis}", "f8", "pixel", "weighted centroid") for axis in "xy"]
        specs += [
            ColumnSpec(f"{name}_instFlux", "f8", "count", "flux of the matched Gaussian"),
            ColumnSpec(f"{name}_instFluxErr", "f8", "count", "its 1-sigma error"),
        ]
        if config.doMeasurePsf:
            specs += [
                ColumnSpec(f"{name}_psf_{m}", "f8", "pixel2", "second moment of the PSF") for m in moments
            ]
        specs += [
            ColumnSpec(f"{name}_instFlux_{m}_Cov", "f4", "count pixel2", "flux-moment covariance")
            for m in moments
        ]
        specs += [
            flag_spec(f"{name}_flag", "any failure"),
            flag_spec(f"{name}_flag_unweightedBad", "both weighted and unweighted moments were invalid"),
            flag_spec(f"{name}_flag_unweighted", "weighted moments failed, unweighted ones are given"),
            flag_spec(f"{name}_flag_shift", "centroid shifted by more than the maximum"),
            flag_spec(f"{name}_flag_maxIter", "too many iterations"),
        ]
        if config.doMeasurePsf:
            specs.append(flag_spec(f"{name}_flag_psf", "PSF shape could not be measured"))
        self.declare(schema, *specs)
        self.alias_bad_centroid(schema)

    def measure(self, context: MeasurementContext) -> None:
        """See `MeasurementPlugin.measure`."""
        n, name, cat = len(context), self.name, context.catalog
        out, status = np.empty((n, 6)), np.zeros(n, np.int64)
        sdss_shape_sources(
            context.work,
            context.noise,
            context.spans,
            context.pixel_offsets,
            context.pixels,
            context.x,
            context.y,
            float(np.clip(self.config.maxShift, 2.0, 10.0)),
            self.config.maxIter,
            self.config.background,
            self.config.tol1,
            self.config.tol2,
            out,
            status,
        )
        for k, column in enumerate(("x", "y", "xx", "yy", "xy")):
            cat[f"{name}_{column}"] = out[:, k]
        for bit, flag in (
            (UNWEIGHTED_BAD, "unweightedBad"),
            (UNWEIGHTED, "unweighted"),
            (SHIFT, "shift"),
            (MAX_ITER, "maxIter"),
        ):
            cat[f"{name}_flag_{flag}"] = (status & bit) != 0
        cat[f"{name}_flag"] = (status & (UNWEIGHTED | UNWEIGHTED_BAD | SHIFT)) != 0
        cat[f"{name}_flag"] |= context.centroid_flagged
        self._set_errors(context, out)
        if self.config.doMeasurePsf:
            self._set_psf(context)

    def _set_errors(self, context: MeasurementContext, out: np.ndarray) -> None:
        cat, name = context.catalog, self.name
        xx, yy, xy, peak = out[:, 2], out[:, 3], out[:, 4], out[:, 5]
        height, width = context.exposure.shape
        ix = np.clip(np.nan_to_num(np.floor(context.x + 0.5)), 0, width - 1).astype(np.int64)
        iy = np.clip(np.nan_to_num(np.floor(context.y + 0.5)), 0, height - 1).astype(np.int64)
        variance = context.exposure.variance[iy, ix].astype(np.float64)
        covariance = gaussian_fit_covariance(peak, xx, yy, xy, variance)
        with np.errstate(invalid="ignore", divide="ignore"):
            det = xx * yy - xy * xy
            flux = 2.0 * np.pi * np.sqrt(det) * peak
            # d flux = flux (d peak/peak + d det/(2 det)), d det = yy dxx + xx dyy - 2 xy dxy
            half = (flux / (2.0 * det))[:, None]
            gradient = np.column_stack([flux / peak, half * np.column_stack([yy, xx, -2.0 * xy])])
            with_all = np.einsum("nij,nj->ni", covariance, gradient)
            cat[f"{name}_instFlux"] = flux
            cat[f"{name}_instFluxErr"] = np.sqrt(np.einsum("ni,ni->n", with_all, gradient))
            for k, m in enumerate(("xx", "yy", "xy"), start=1):
                cat[f"{name}_{m}Err"] = np.sqrt(covariance[:, k, k])
                cat[f"{name}_instFlux_{m}_Cov"] = with_all[:, k]

    def _set_psf(self, context: MeasurementContext) -> None:
        cat, name = context.catalog, self.name
        if context.exposure.psf is None:
            cat[f"{name}_flag_psf"] = True
            cat[f"{name}_flag"] = True
            return
        shapes = context.psf_kernel_shapes
        values = np.column_stack([shapes.xx, shapes.yy, shapes.xy])
        with np.errstate(invalid="ignore"):
            small = ~(values[:, 0] * values[:, 1] - values[:, 2] ** 2 >= UNDERSAMPLED**4)
        if small.any():
            # a PSF smaller than a pixel is measured like a star: at its sub-pixel place, by the same sums
            rows = np.flatnonzero(small)
            px, py = context.psf_positions(context.x[rows], context.y[rows])
            half = context.psf.size // 2
            out, status = np.empty((len(rows), 6)), np.zeros(len(rows), np.int64)
            sx, sy = px - np.floor(px + 0.5) + half, py - np.floor(py + 0.5) + half
            stamps = np.ascontiguousarray(context.psf_stamps[rows])
            sdss_shape_stack(stamps, sx, sy, 2.0, self.config.maxIter, out, status)
            values[rows] = np.where((status == 0)[:, None], out[:, 2:5], np.nan)
        for k, m in enumerate(("xx", "yy", "xy")):
            cat[f"{name}_psf_{m}"] = values[:, k]
        bad = ~np.isfinite(values).all(axis=1)
        cat[f"{name}_flag_psf"] = bad
        cat[f"{name}_flag"] |= bad


class ClassificationSizeExtendednessConfig(PluginConfig):
    """Options of base_ClassificationSizeExtendedness."""

    exponent = pexConfig.Field(
        dtype=float, default=0.5, doc="Power of the PSF's size by which the excess size is divided."
    )


@register("base_ClassificationSizeExtendedness")
class ClassificationSizeExtendedness(MeasurementPlugin):
    """Extendedness between 0 (star) and 1 from the trace of the shape slot against that of the PSF."""

    ConfigClass = ClassificationSizeExtendednessConfig
    execution_order: ClassVar[float] = FLUX_ORDER
    config: ClassificationSizeExtendednessConfig

    def __init__(
        self, config: ClassificationSizeExtendednessConfig, name: str, schema: Schema, slots: SlotsConfig
    ) -> None:
        super().__init__(config, name, schema, slots)
        self.declare(
            schema,
            ColumnSpec(f"{name}_value", "f8", "", "0 (star) to 1 (galaxy)"),
            flag_spec(f"{name}_flag", "general failure"),
        )

    def measure(self, context: MeasurementContext) -> None:
        """See `MeasurementPlugin.measure`."""
        cat = context.catalog
        trace = cat["slot_Shape_xx"] + cat["slot_Shape_yy"]
        psf_trace = cat["slot_PsfShape_xx"] + cat["slot_PsfShape_yy"]
        bad = cat["slot_Shape_flag"].copy()
        if "slot_PsfShape_flag" in cat:
            bad |= cat["slot_PsfShape_flag"]
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            excess = (trace - psf_trace) / psf_trace**self.config.exponent
            value = 1.0 - np.exp(-0.5 * excess**2)
        bad |= ~np.isfinite(value)
        cat[f"{self.name}_value"] = np.where(bad, np.nan, value)
        cat[f"{self.name}_flag"] = bad

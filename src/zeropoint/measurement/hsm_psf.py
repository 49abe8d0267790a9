"""Adaptive moments of the PSF model at the sources, as it is and with the image's noise."""

from __future__ import annotations

from typing import ClassVar

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.errors import InvalidInputError
from zeropoint.measurement._hsm_base import HsmMoments, HsmMomentsConfig
from zeropoint.measurement._hsm_kernels import hsm_stack
from zeropoint.measurement._hsm_sources import NOT_CONTAINED
from zeropoint.measurement._psf_moments import UNDERSAMPLED, psf_moments_grid
from zeropoint.measurement._psf_noise import EDGE, cut_noisy_psfs
from zeropoint.measurement.base import FLUX_ORDER, register
from zeropoint.measurement.context import MeasurementContext

__all__ = ["HsmPsfMoments", "HsmPsfMomentsConfig", "HsmPsfMomentsDebiased", "HsmPsfMomentsDebiasedConfig"]


class HsmPsfMomentsConfig(HsmMomentsConfig):
    """Options of ext_shapeHSM_HsmPsfMoments."""

    useSourceCentroidOffset = pexConfig.Field(
        dtype=bool,
        default=False,
        doc="Measure the PSF at the source's sub-pixel place, instead of centered on a pixel?",
    )

    def setDefaults(self) -> None:
        """Offsets from the center."""
        super().setDefaults()
        self.subtractCenter = True


@register("ext_shapeHSM_HsmPsfMoments")
class HsmPsfMoments(HsmMoments):
    """Adaptive moments of the PSF model at the sources."""

    ConfigClass = HsmPsfMomentsConfig
    config: HsmPsfMomentsConfig
    subject = "PSF"

    def measure(self, context: MeasurementContext) -> None:
        """See `MeasurementPlugin.measure`."""
        cat, name = context.catalog, self.name
        if context.exposure.psf is None:
            cat[f"{name}_flag_no_psf"] = True
            cat[f"{name}_flag"] = True
            return
        px, py = context.psf_positions(context.x, context.y)
        half = context.psf.size // 2
        corner_x, corner_y = np.floor(px + 0.5) - half, np.floor(py + 0.5) - half
        if self.config.useSourceCentroidOffset:
            n = len(context)
            values, status = np.empty((n, 6)), np.zeros(n, np.int64)
            sx, sy = px - corner_x, py - corner_y
            hsm_stack(
                context.psf_stamps,
                sx,
                sy,
                np.full(n, 1.5),
                self.config.roundMoments,
                UNDERSAMPLED,
                values,
                status,
            )
            values[:, 0] -= sx
            values[:, 1] -= sy
            centre_x, centre_y = px, py
        else:
            grid = psf_moments_grid(
                context.psf, context.exposure.shape, round_weight=self.config.roundMoments
            )
            values, status = grid.at(x=px, y=py)
            centre_x, centre_y = corner_x + half, corner_y + half
        if not self.config.subtractCenter:
            values[:, 0] += centre_x
            values[:, 1] += centre_y
        status[~np.isfinite(context.x + context.y)] = NOT_CONTAINED
        values[status != 0] = np.nan
        self.store(context, values)
        self.set_flags(context, status)


class HsmPsfMomentsDebiasedConfig(HsmPsfMomentsConfig):
    """Options of ext_shapeHSM_HsmPsfMomentsDebiased."""

    noiseSource = pexConfig.ChoiceField(
        dtype=str,
        default="variance",
        allowed={"meta": "variance = the BGMEAN metadata entry", "variance": "the variance plane"},
        doc="Variance of the noise added to the PSF image.",
    )
    seedOffset = pexConfig.Field(dtype=int, default=0, doc="Added to the source id to seed its noise.")
    badMaskPlanes = pexConfig.ListField(
        dtype=str, default=["BAD", "SAT"], doc="Mask planes whose pixels are rejected."
    )

    def setDefaults(self) -> None:
        """The PSF at the source's sub-pixel place."""
        super().setDefaults()
        self.useSourceCentroidOffset = True


@register("ext_shapeHSM_HsmPsfMomentsDebiased")
class HsmPsfMomentsDebiased(HsmMoments):
    """Adaptive moments of the PSF model at the source's flux with the image's noise.

    Their noise bias is that of a star of the same flux, so it cancels in star-PSF comparisons.
    """

    ConfigClass = HsmPsfMomentsDebiasedConfig
    execution_order: ClassVar[float] = FLUX_ORDER + 0.1
    config: HsmPsfMomentsDebiasedConfig
    subject = "PSF with noise"

    def measure(self, context: MeasurementContext) -> None:
        """See `MeasurementPlugin.measure`."""
        cat, name, config = context.catalog, self.name, self.config
        if "slot_PsfFlux_instFlux" not in cat:
            raise InvalidInputError(f"{name} needs the PSF-flux slot: set slots.psfFlux and run its plugin.")
        if context.exposure.psf is None:
            cat[f"{name}_flag_no_psf"] = True
            cat[f"{name}_flag"] = True
            return
        px, py = context.psf_positions(context.x, context.y)
        if config.useSourceCentroidOffset:
            stamps, sub_x, sub_y = context.psf_stamps, px, py
        else:
            stamps = np.ascontiguousarray(context.psf.kernel_stamps(x=px, y=py), np.float64)
            sub_x, sub_y = np.floor(px + 0.5), np.floor(py + 0.5)
        level = (
            float(context.exposure.metadata.get("BGMEAN", np.nan)) if config.noiseSource == "meta" else -1.0
        )
        _, moments = self.starting_values(context)
        sigma = np.sqrt(0.5 * (moments[:, 2] + moments[:, 3]))
        half = int(min(context.psf.size // 2, np.ceil(6.5 * np.nanmax(sigma) + 2))) if len(sigma) else 1
        n, size = len(context), 2 * half + 1
        noisy, status = np.empty((n, size, size)), np.zeros(n, np.int64)
        cut_noisy_psfs(
            stamps,
            context.exposure.variance,
            context.exposure.mask,
            np.int32(bitmask(config.badMaskPlanes)),
            np.floor(px + 0.5).astype(np.int64),
            np.floor(py + 0.5).astype(np.int64),
            cat["slot_PsfFlux_instFlux"],
            (cat["id"] + config.seedOffset).astype(np.uint64),
            level,
            noisy,
            status,
        )
        values, code = np.empty((n, 6)), np.zeros(n, np.int64)
        sx, sy = sub_x - np.floor(px + 0.5) + half, sub_y - np.floor(py + 0.5) + half
        fit_below = UNDERSAMPLED if np.nanmedian(sigma) < UNDERSAMPLED else 0.0
        hsm_stack(noisy, sx, sy, sigma, config.roundMoments, fit_below, values, code)
        values[:, 0] += (0.0 if config.subtractCenter else sub_x) - sx
        values[:, 1] += (0.0 if config.subtractCenter else sub_y) - sy
        at_edge = (status & EDGE) != 0
        failed = at_edge & (config.noiseSource == "variance")
        code[~np.isfinite(context.x + context.y)] = NOT_CONTAINED
        values[failed | (code != 0)] = np.nan
        self.store(context, values)
        self.set_flags(context, np.where(failed, 0, code))
        cat[f"{name}_flag"] |= failed
        cat[f"{name}_flag_edge"] = at_edge

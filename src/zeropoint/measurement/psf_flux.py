"""PSF flux at the centroid."""

from __future__ import annotations

from typing import ClassVar, cast

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.measurement._kernels_psf import psf_fluxes
from zeropoint.measurement.base import (
    FLUX_ORDER,
    MeasurementPlugin,
    PluginConfig,
    SlotsConfig,
    flag_spec,
    register,
)
from zeropoint.measurement.context import MeasurementContext

__all__ = ["PsfFlux", "PsfFluxConfig"]


class PsfFluxConfig(PluginConfig):
    """Parameters of the PSF flux."""

    badMaskPlanes = pexConfig.ListField(
        dtype=str, default=[], doc="Mask planes whose pixels are left out of the fit."
    )


@register("base_PsfFlux")
class PsfFlux(MeasurementPlugin):
    """Equal-weight least-squares flux of the PSF model at the safe centroid.

    Notes
    -----
    Equal weights keep the flux linear: an error of the PSF model changes fluxes of bright and faint stars by
    the same factor. The price is scatter above the photon-noise bound for stars much brighter than the sky.
    """

    ConfigClass: ClassVar[type[PluginConfig]] = PsfFluxConfig
    execution_order: ClassVar[float] = FLUX_ORDER

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        self.declare(
            schema,
            ColumnSpec(f"{name}_instFlux", "f8", "count", "instrumental flux"),
            ColumnSpec(f"{name}_instFluxErr", "f8", "count", "its 1-sigma error"),
            ColumnSpec(f"{name}_area", "f4", "pixel", "effective PSF area"),
            ColumnSpec(f"{name}_chi2", "f4", "", "chi2 of the PSF fit"),
            ColumnSpec(f"{name}_npixels", "i4", "pixel", "pixels in the PSF fit"),
            flag_spec(f"{name}_flag", "general failure"),
            flag_spec(f"{name}_flag_noGoodPixels", "no usable pixels"),
            flag_spec(f"{name}_flag_edge", "PSF box clipped"),
        )
        self.alias_bad_centroid(schema)

    @classmethod
    def ap_corr_names(cls, name: str, config: PluginConfig) -> tuple[str, ...]:
        """Return the prefix of the flux that is corrected to the aperture of the calibration flux."""
        return (name,)

    def measure(self, context: MeasurementContext) -> None:
        """Fill the flux columns."""
        planes = cast(PsfFluxConfig, self.config).badMaskPlanes
        out = np.empty((len(context), 6))
        psf_fluxes(
            context.work,
            context.noise,
            context.exposure.variance,
            context.exposure.mask,
            np.int32(bitmask(planes)),
            context.spans,
            context.pixel_offsets,
            context.pixels,
            context.psf_stamps,
            context.x,
            context.y,
            out,
        )
        flux, err, area, chi2, count, clipped = out.T
        good = np.isfinite(flux) & np.isfinite(err)
        name, cat = self.name, context.catalog
        cat[f"{name}_instFlux"] = np.where(good, flux, np.nan)
        cat[f"{name}_instFluxErr"] = np.where(good, err, np.nan)
        cat[f"{name}_chi2"] = np.where(good, chi2, np.nan)
        cat[f"{name}_area"] = area
        cat[f"{name}_npixels"] = count
        cat[f"{name}_flag_noGoodPixels"] = count == 0
        cat[f"{name}_flag_edge"] = clipped != 0
        cat[f"{name}_flag"] = ~good | (clipped != 0) | context.centroid_flagged | context.invalid_psf

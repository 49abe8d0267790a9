"""Aperture fluxes of the image smoothed to a common seeing."""

from __future__ import annotations

import math
from typing import ClassVar

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.measurement._weight_apertures import EllipseFluxes, ellipse_fluxes
from zeropoint.measurement.aperture_flux import CircularApertureFlux, CircularApertureFluxConfig
from zeropoint.measurement.base import (
    FLUX_ORDER,
    MeasurementPlugin,
    PluginConfig,
    SlotsConfig,
    flag_spec,
    register,
)
from zeropoint.measurement.context import MeasurementContext
from zeropoint.measurement.gaussian_flux import safe_shapes
from zeropoint.measurement.kron import scaled_ellipses

__all__ = ["ConvolvedFlux", "ConvolvedFluxConfig"]

PLUGIN_NAME = "ext_convolved_ConvolvedFlux"
SIGMA_TO_FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))


class ConvolvedFluxConfig(PluginConfig):
    """Parameters of fluxes at a common seeing."""

    seeing = pexConfig.ListField(
        dtype=float, default=[3.5, 5.0, 6.5], doc="Seeings to smooth the image to, FWHM in pixels."
    )
    kernelScale = pexConfig.RangeField(
        dtype=float,
        default=4.0,
        min=0.0,
        inclusiveMin=False,
        doc="Half side of the smoothing kernel in units of its sigma.",
    )
    aperture = pexConfig.ConfigField(dtype=CircularApertureFluxConfig, doc="The circular apertures.")
    kronRadiusName = pexConfig.Field(
        dtype=str, default="ext_photometryKron_KronFlux_radius", doc="Column with the Kron radius."
    )
    maxSincRadius = pexConfig.Field(
        dtype=float,
        default=10.0,
        doc="Largest minor half axis of a Kron aperture measured by sinc photometry, pixels.",
    )
    kronRadiusForFlux = pexConfig.RangeField(
        dtype=float,
        default=2.5,
        min=0.0,
        inclusiveMin=False,
        doc="Radius of the Kron aperture in units of the Kron radius.",
    )
    registerForApCorr = pexConfig.Field(
        dtype=bool, default=True, doc="Ask for aperture corrections of all these fluxes?"
    )

    def setDefaults(self) -> None:
        """Small apertures: large ones hardly depend on the seeing."""
        super().setDefaults()
        self.aperture.radii = [3.3, 4.5, 6.0]

    def validate(self) -> None:
        """Check the seeings."""
        super().validate()
        if len(set(self.seeing)) < len(self.seeing) or any(not value > 0 for value in self.seeing):
            raise pexConfig.FieldValidationError(
                type(self)._fields["seeing"],
                self,
                f"{list(self.seeing)}: seeings must be positive and differ.",
            )

    def getBaseNameForSeeing(self, seeing: float, name: str = PLUGIN_NAME) -> str:
        """Return the prefix of all columns of one seeing of the list."""
        return f"{name}_{list(self.seeing).index(seeing)}"

    def getApertureResultName(self, seeing: float, radius: float, name: str = PLUGIN_NAME) -> str:
        """Return the prefix of the flux in one circle at one seeing."""
        return CircularApertureFlux.prefix(self.getBaseNameForSeeing(seeing, name), radius)

    def getKronResultName(self, seeing: float, name: str = PLUGIN_NAME) -> str:
        """Return the prefix of the Kron flux at one seeing."""
        return f"{self.getBaseNameForSeeing(seeing, name)}_kron"

    def getAllApertureResultNames(self, name: str = PLUGIN_NAME) -> list[str]:
        """Return the prefixes of the fluxes in circles."""
        return [self.getApertureResultName(s, r, name) for s in self.seeing for r in self.aperture.radii]

    def getAllKronResultNames(self, name: str = PLUGIN_NAME) -> list[str]:
        """Return the prefixes of the Kron fluxes."""
        return [self.getKronResultName(seeing, name) for seeing in self.seeing]

    def getAllResultNames(self, name: str = PLUGIN_NAME) -> list[str]:
        """Return the prefixes of all fluxes."""
        return self.getAllApertureResultNames(name) + self.getAllKronResultNames(name)


@register(PLUGIN_NAME)
class ConvolvedFlux(MeasurementPlugin):
    """Fluxes in circles and in the Kron aperture after smoothing the image by Gaussians to common seeings.

    Notes
    -----
    The PSF counts as a Gaussian of its determinant radius. Where the image is worse than the wanted seeing it is
    measured as it is, with the flag ``_deconv``. The smoothing acts on the weights of the aperture, so that errors
    are those of the image's independent pixels.
    """

    ConfigClass: ClassVar[type[PluginConfig]] = ConvolvedFluxConfig
    execution_order: ClassVar[float] = FLUX_ORDER + 0.1
    config: ConvolvedFluxConfig

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        super().__init__(config, name, schema, slots)
        self.declare(schema, ColumnSpec(f"{name}_seeing", "f4", "pixel", "sigma of the PSF at the source"))
        for seeing in self.config.seeing:
            self._declare_seeing(schema, seeing)
        self.declare(schema, flag_spec(f"{name}_flag", "general failure"))
        self.alias_bad_centroid(schema)
        if self.config.registerForApCorr:
            schema.corrected_fluxes.update(self.config.getAllResultNames(name))

    def _declare_seeing(self, schema: Schema, seeing: float) -> None:
        base = self.config.getBaseNameForSeeing(seeing, self.name)
        self.declare(
            schema, flag_spec(f"{base}_deconv", f"the seeing is worse than {seeing:g}; not smoothed")
        )
        for radius in self.config.aperture.radii:
            prefix = CircularApertureFlux.prefix(base, radius)
            self._declare_flux(
                schema, prefix, f"flux within {radius:g} pixels at a seeing of {seeing:g} pixels"
            )
            self.declare(schema, flag_spec(f"{prefix}_flag_apertureTruncated", "smoothed aperture off image"))
            if radius <= self.config.aperture.maxSincRadius:
                self.declare(
                    schema, flag_spec(f"{prefix}_flag_sincCoeffsTruncated", "sinc coefficients off image")
                )
        self._declare_flux(schema, f"{base}_kron", f"Kron flux at a seeing of {seeing:g} pixels")

    def _declare_flux(self, schema: Schema, prefix: str, doc: str) -> None:
        self.declare(
            schema,
            ColumnSpec(f"{prefix}_instFlux", "f8", "count", doc),
            ColumnSpec(f"{prefix}_instFluxErr", "f8", "count", "its 1-sigma error"),
            flag_spec(f"{prefix}_flag", "general failure"),
        )

    def measure(self, context: MeasurementContext) -> None:
        """Fill the columns."""
        cat, name, config = context.catalog, self.name, self.config
        if context.exposure.psf is None:
            cat[f"{name}_flag"] = True
            for prefix in config.getAllResultNames(name):
                cat[f"{prefix}_flag"] = True
            return
        sigma = np.asarray(context.psf_kernel_shapes.determinant_radius, np.float64)
        cat[f"{name}_seeing"] = sigma
        usable = np.isfinite(sigma) & np.isfinite(context.x + context.y)
        cat[f"{name}_flag"] = ~usable | context.centroid_flagged
        rows = np.flatnonzero(usable)
        ellipses = self._kron_ellipses(context)
        kron = np.flatnonzero(usable & np.isfinite(ellipses).all(axis=1) & (ellipses[:, 0] > 0))
        for seeing in config.seeing:
            base = config.getBaseNameForSeeing(seeing, name)
            excess = (seeing / SIGMA_TO_FWHM) ** 2 - sigma**2
            cat[f"{base}_deconv"] = excess < 0
            smoothing = np.sqrt(np.maximum(excess, 0.0))
            for radius in config.aperture.radii:
                prefix = CircularApertureFlux.prefix(base, radius)
                circles = np.tile([radius**2, radius**2, 0.0], (len(rows), 1))
                result = self._fluxes(context, rows, circles, config.aperture.maxSincRadius, smoothing)
                self._store(context, prefix, rows, result)
                self._store_bounds(context, prefix, rows, result, radius)
            result = self._fluxes(context, kron, ellipses[kron], config.maxSincRadius, smoothing)
            self._store(context, f"{base}_kron", kron, result)

    def _kron_ellipses(self, context: MeasurementContext) -> np.ndarray:
        """Return the Kron apertures, shape (n, 3), NaN where there is none (`scaled_ellipses`)."""
        config = self.config
        if config.kronRadiusName not in context.catalog or self.slots.shape is None:
            return np.full((len(context), 3), np.nan)
        xx, yy, xy, _ = safe_shapes(context, self.slots.shape)
        radius = np.asarray(context.catalog[config.kronRadiusName], np.float64)
        return scaled_ellipses(np.column_stack([xx, yy, xy]), config.kronRadiusForFlux * radius)

    def _fluxes(
        self,
        context: MeasurementContext,
        rows: np.ndarray,
        ellipses: np.ndarray,
        max_sinc_radius: float,
        smoothing: np.ndarray,
    ) -> EllipseFluxes:
        return ellipse_fluxes(
            context,
            rows,
            ellipses,
            max_sinc_radius=max_sinc_radius,
            smoothing=smoothing[rows],
            kernel_scale=self.config.kernelScale,
        )

    def _store(
        self, context: MeasurementContext, prefix: str, rows: np.ndarray, result: EllipseFluxes
    ) -> None:
        """Fill flux, error and flag of one aperture; other rows are flagged."""
        flux, err = np.full(len(context), np.nan), np.full(len(context), np.nan)
        good = np.isfinite(result.flux + result.err)
        flux[rows], err[rows] = np.where(good, result.flux, np.nan), np.where(good, result.err, np.nan)
        cat = context.catalog
        cat[f"{prefix}_instFlux"], cat[f"{prefix}_instFluxErr"] = flux, err
        cat[f"{prefix}_flag"] = ~np.isfinite(flux) | context.centroid_flagged

    def _store_bounds(
        self,
        context: MeasurementContext,
        prefix: str,
        rows: np.ndarray,
        result: EllipseFluxes,
        radius: float,
    ) -> None:
        """Fill the flags that say what lies off the image."""
        columns = [("apertureTruncated", ~result.inside)]
        if radius <= self.config.aperture.maxSincRadius:
            columns.append(("sincCoeffsTruncated", result.clipped | ~result.inside))
        for column, where in columns:
            flags = np.zeros(len(context), np.bool_)
            flags[rows] = where
            context.catalog[f"{prefix}_flag_{column}"] = flags

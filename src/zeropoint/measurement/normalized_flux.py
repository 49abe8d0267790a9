"""Put compensated-tophat fluxes on the scale of an aperture flux."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.catalogs.selectors import reject_selectors_with_matches, sourceSelectorRegistry
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.errors import MeasureApCorrError, NormalizedCalibrationFluxError
from zeropoint.measurement.aperture_corrections import ApCorrMap, MeasureApCorr
from zeropoint.measurement.base import flag_spec

__all__ = [
    "NormalizedCalibrationFlux",
    "NormalizedCalibrationFluxConfig",
    "NormalizedCalibrationFluxResult",
]

log = logging.getLogger(__name__)


class NormalizedCalibrationFluxConfig(pexConfig.Config):
    """Which flux is scaled to which."""

    raw_calibflux_name = pexConfig.Field(
        dtype=str, default="base_CompensatedTophatFlux_12", doc="Flux to scale."
    )
    normalized_calibflux_name = pexConfig.Field(
        dtype=str, default="base_NormalizedCompensatedTophatFlux", doc="Name of the scaled flux."
    )
    do_set_calib_slot = pexConfig.Field(
        dtype=bool, default=True, doc="Point the calibration-flux slot to the scaled flux?"
    )
    do_measure_ap_corr = pexConfig.Field(
        dtype=bool, default=True, doc="Measure the scale, instead of taking it from the exposure?"
    )
    measure_ap_corr = pexConfig.ConfigurableField(target=MeasureApCorr, doc="Measurement of the scale.")
    fallback_source_selector = sourceSelectorRegistry.makeField(
        doc="Selection of stars for the median ratio, where the fit finds too few.", default="science"
    )

    def setDefaults(self) -> None:
        """Use the PSF stars and a constant."""
        self.measure_ap_corr.refFluxName = "base_CircularApertureFlux_12_0"
        self.measure_ap_corr.fitConfig.orderX = self.measure_ap_corr.fitConfig.orderY = 0
        selector = self.measure_ap_corr.sourceSelector["science"]
        selector.doUnresolved = False
        selector.flags.good = ["calib_psf_used"]
        selector.flags.bad = []
        selector.signalToNoise.fluxField = f"{self.raw_calibflux_name}_instFlux"
        selector.signalToNoise.errField = f"{self.raw_calibflux_name}_instFluxErr"
        fallback = self.fallback_source_selector["science"]
        fallback.doFlags = True
        fallback.flags.good = ["calib_psf_used"]
        fallback.flags.bad = []

    def validate(self) -> None:
        """Reject selectors that need reference matches."""
        super().validate()
        reject_selectors_with_matches(self, "fallback_source_selector")


@dataclass(frozen=True)
class NormalizedCalibrationFluxResult:
    """The scale of the raw flux.

    Parameters
    ----------
    ap_corr_map
        ``<raw>_instFlux`` -> scale, ``<raw>_instFluxErr`` -> 0.
    """

    ap_corr_map: ApCorrMap


class NormalizedCalibrationFlux:
    """Scale the raw calibration flux; `run` fills the normalized columns in place.

    Parameters
    ----------
    config
        Names and how to measure; defaults if None.
    schema
        Schema with the fluxes, to which the scaled flux and the slot are added.
    """

    ConfigClass: ClassVar[type[NormalizedCalibrationFluxConfig]] = NormalizedCalibrationFluxConfig

    def __init__(
        self, config: NormalizedCalibrationFluxConfig | None = None, *, schema: Schema | None = None
    ) -> None:
        self.config = NormalizedCalibrationFluxConfig() if config is None else config
        schema = Schema() if schema is None else schema
        raw, name = self.config.raw_calibflux_name, self.config.normalized_calibflux_name
        self.measure_ap_corr: MeasureApCorr | None = None
        if self.config.do_measure_ap_corr:
            self.measure_ap_corr = self.config.measure_ap_corr.apply(schema=schema, names_to_correct=(raw,))
            self.fallback_selector = self.config.fallback_source_selector.apply()
        schema.add(
            ColumnSpec(f"{name}_instFlux", "f8", "count", f"{raw} on the scale of an aperture flux"),
            ColumnSpec(f"{name}_instFluxErr", "f8", "count", "its 1-sigma error"),
            flag_spec(f"{name}_flag", "general failure"),
        )
        if self.config.do_set_calib_slot:
            schema.alias("slot_CalibFlux", name)

    def run(self, exposure: Exposure, catalog: SourceCatalog) -> NormalizedCalibrationFluxResult:
        """Fill the scaled flux of all rows.

        Parameters
        ----------
        exposure
            Its aperture corrections hold the scale when only applying; not changed.
        catalog
            Measured sources.

        Raises
        ------
        NormalizedCalibrationFluxError
            If no star has both fluxes.
        """
        raw, name = self.config.raw_calibflux_name, self.config.normalized_calibflux_name
        if self.measure_ap_corr is not None:
            entries = self._measure(exposure, catalog, self.measure_ap_corr)
        else:
            entries = self._stored(exposure)
        field = entries[f"{raw}_instFlux"]
        x, y = catalog["slot_Centroid_x"], catalog["slot_Centroid_y"]
        inside = np.isfinite(x) & np.isfinite(y)
        scale = np.full(len(catalog), np.nan)
        scale[inside] = field(x=x[inside], y=y[inside])
        catalog[f"{name}_instFlux"] = catalog[f"{raw}_instFlux"] * scale
        catalog[f"{name}_instFluxErr"] = catalog[f"{raw}_instFluxErr"] * scale
        with np.errstate(invalid="ignore"):
            catalog[f"{name}_flag"] = catalog[f"{raw}_flag"] | ~(scale > 0)
        return NormalizedCalibrationFluxResult(entries)

    def _entries(self, exposure: Exposure, field: ChebyshevPolynomial) -> ApCorrMap:
        raw = self.config.raw_calibflux_name
        height, width = exposure.shape
        return {
            f"{raw}_instFlux": field,
            f"{raw}_instFluxErr": ChebyshevPolynomial.constant(width, height, 0.0),
        }

    def _stored(self, exposure: Exposure) -> ApCorrMap:
        field = (exposure.ap_corr_map or {}).get(f"{self.config.raw_calibflux_name}_instFlux")
        if field is None:
            log.warning("No scale of %s on the exposure: taken as 1.", self.config.raw_calibflux_name)
            field = ChebyshevPolynomial.constant(exposure.shape[1], exposure.shape[0], 1.0)
        return self._entries(exposure, field)

    def _measure(self, exposure: Exposure, catalog: SourceCatalog, step: MeasureApCorr) -> ApCorrMap:
        raw, reference = self.config.raw_calibflux_name, step.config.refFluxName
        try:
            found = step.run(exposure, catalog).ap_corr_map
            if found:
                return self._entries(exposure, found[f"{raw}_instFlux"])
        except MeasureApCorrError as error:
            log.warning("%s Taking the median ratio of the PSF stars.", error)
        raw_bad, ref_bad = catalog[f"{raw}_flag"], catalog[f"{reference}_flag"]
        flux, ref_flux = catalog[f"{raw}_instFlux"], catalog[f"{reference}_instFlux"]
        selection = self.fallback_selector.run(catalog, exposure=exposure)
        selected = selection.selected
        with np.errstate(invalid="ignore"):
            good = selected & ~raw_bad & ~ref_bad & np.isfinite(ref_flux) & (flux > 0)
        if not good.any():
            raise NormalizedCalibrationFluxError(
                f"No star to scale {raw} to {reference}: {int(selected.sum())} selected, "
                f"{int((selected & raw_bad).sum())} and {int((selected & ref_bad).sum())} of them flagged."
                + ("" if selected.any() else f" {self.fallback_selector.why_none(selection)}"),
                n_init_sources=int(selected.sum()),
                n_calib_flux_flag=int((selected & raw_bad).sum()),
                n_ref_flux_flag=int((selected & ref_bad).sum()),
            )
        catalog[f"apcorr_{raw}_used"] = good
        ratio = float(np.median(ref_flux[good] / flux[good]))
        return self._entries(
            exposure, ChebyshevPolynomial.constant(exposure.shape[1], exposure.shape[0], ratio)
        )

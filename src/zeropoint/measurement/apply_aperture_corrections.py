"""Apply aperture corrections to the fluxes of a catalogue."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import lsst.pex.config as pexConfig
import numpy as np
from astropy.table import Table

from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog, has_column
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.measurement.aperture_corrections import ap_corr_names, require_fluxes
from zeropoint.measurement.base import flag_spec

__all__ = ["ApplyApCorr", "ApplyApCorrConfig", "ApplyApCorrResult"]

log = logging.getLogger(__name__)


class ApplyApCorrConfig(pexConfig.Config):
    """Which fluxes are corrected, and where."""

    ignoreList = pexConfig.ListField(dtype=str, default=[], doc="Fluxes that are left alone.")
    doFlagApCorrFailures = pexConfig.Field(
        dtype=bool, default=True, doc="Set the general flag of fluxes that could not be corrected?"
    )
    proxies = pexConfig.DictField(
        keytype=str, itemtype=str, default={}, doc="Flux -> the flux whose correction it gets."
    )
    additional_fluxes = pexConfig.ListField(
        dtype=str,
        default=[],
        doc="Fluxes to correct besides those whose plugins ask for it; those of the step that measures the "
        "corrections.",
    )
    xColumn = pexConfig.Field(dtype=str, default="slot_Centroid_x", doc="Column of x.")
    yColumn = pexConfig.Field(dtype=str, default="slot_Centroid_y", doc="Column of y.")


@dataclass(frozen=True)
class ApplyApCorrResult:
    """How many rows of each flux were corrected."""

    n_corrected: dict[str, int]


class ApplyApCorr:
    """Apply aperture corrections; `run` multiplies fluxes and errors in place.

    Parameters
    ----------
    config
        Fluxes and columns; defaults if None.
    schema
        Schema with the fluxes, to which the correction's columns are added.
    """

    ConfigClass: ClassVar[type[ApplyApCorrConfig]] = ApplyApCorrConfig

    def __init__(self, config: ApplyApCorrConfig | None = None, *, schema: Schema | None = None) -> None:
        self.config = ApplyApCorrConfig() if config is None else config
        schema = Schema() if schema is None else schema
        require_fluxes(schema, self.config, "additional_fluxes")
        ignored = set(self.config.ignoreList)
        known = [name for name in ap_corr_names(schema, self.config.additional_fluxes) if name not in ignored]
        proxies = [name for name in sorted(self.config.proxies) if f"{name}_instFlux" in schema]
        #: Flux -> flux whose correction it gets.
        self.models = {name: name for name in known} | {name: self.config.proxies[name] for name in proxies}
        for name, model in self.models.items():
            if name == model:
                schema.add(
                    ColumnSpec(f"{name}_apCorr", "f8", "", "aperture correction applied"),
                    ColumnSpec(f"{name}_apCorrErr", "f8", "", "its contribution to the flux error"),
                )
            else:
                schema.alias(f"{name}_apCorr", f"{model}_apCorr")
                schema.alias(f"{name}_apCorrErr", f"{model}_apCorrErr")
            schema.add(flag_spec(f"{name}_flag_apCorr", "aperture correction could not be applied"))

    def run(
        self, catalog: SourceCatalog | Table, ap_corr_map: Mapping[str, ChebyshevPolynomial]
    ) -> ApplyApCorrResult:
        """Correct fluxes and errors in place.

        Parameters
        ----------
        catalog
            Source catalogue, or astropy table (columns that are missing are added to it).
        ap_corr_map
            Corrections by column name.

        Notes
        -----
        Rows whose correction is not finite and positive keep their flux and get ``<A>_flag_apCorr``, and the
        general flag if ``doFlagApCorrFailures``. The correction's own error is not added to flux errors.
        """
        x = np.asarray(catalog[self.config.xColumn], np.float64)
        y = np.asarray(catalog[self.config.yColumn], np.float64)
        counts = {}
        for name, model in self.models.items():
            if has_column(catalog, f"{name}_instFlux"):
                counts[name] = self._apply_one(catalog, name, model, x, y, ap_corr_map)
        return ApplyApCorrResult(counts)

    def _apply_one(
        self,
        catalog: SourceCatalog | Table,
        name: str,
        model: str,
        x: np.ndarray,
        y: np.ndarray,
        ap_corr_map: Mapping[str, ChebyshevPolynomial],
    ) -> int:
        field, error = ap_corr_map.get(f"{model}_instFlux"), ap_corr_map.get(f"{model}_instFluxErr")
        value = np.full(len(x), np.nan)
        good = np.zeros(len(x), np.bool_)
        if field is None or error is None:
            unusable = has_column(catalog, f"{name}_flag") and bool(np.all(catalog[f"{name}_flag"]))
            level = logging.DEBUG if unusable else logging.WARNING
            log.log(level, "No aperture correction for %s: its fluxes stay as they are, flagged.", model)
        else:
            inside = np.isfinite(x) & np.isfinite(y)
            value[inside] = field(x=x[inside], y=y[inside])
            good[inside] = np.isfinite(value[inside]) & (value[inside] > 0)
            good[inside] &= error(x=x[inside], y=y[inside]) >= 0
        for column in (f"{name}_instFlux", f"{name}_instFluxErr"):
            old = np.asarray(catalog[column], np.float64)
            catalog[column] = np.where(good, old * np.where(good, value, 1.0), old)
        if name == model:
            catalog[f"{name}_apCorr"] = np.where(good, value, np.nan)
            catalog[f"{name}_apCorrErr"] = np.where(good, 0.0, np.nan)
        catalog[f"{name}_flag_apCorr"] = ~good
        if self.config.doFlagApCorrFailures:
            flagged = has_column(catalog, f"{name}_flag")
            old_flag = (
                np.asarray(catalog[f"{name}_flag"], np.bool_) if flagged else np.zeros(len(x), np.bool_)
            )
            if field is not None and error is not None:
                catalog[f"{name}_flag"] = old_flag | ~good
        return int(np.count_nonzero(good))

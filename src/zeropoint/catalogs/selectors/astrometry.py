"""Selector ``astrometry``: well measured single sources for an astrometric fit (an older selector)."""

from __future__ import annotations

from typing import Any

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.catalogs.selectors.base import (
    AnyTable,
    BaseSourceSelectorConfig,
    BoolArray,
    Cuts,
    MatchedReferences,
    SourceSelector,
    sourceSelectorRegistry,
)
from zeropoint.catalogs.selectors.columns import fixed_column, required_column
from zeropoint.catalogs.selectors.limits import flag_column
from zeropoint.datamodel.catalog import SourceCatalog, column, has_column
from zeropoint.datamodel.exposure import Exposure

__all__ = [
    "AstrometrySourceSelector",
    "AstrometrySourceSelectorConfig",
    "require_finite",
    "require_flux",
    "without_parent",
]


class AstrometrySourceSelectorConfig(BaseSourceSelectorConfig):
    """Configuration of `AstrometrySourceSelector`."""

    badFlags = pexConfig.ListField[str](
        default=[
            "base_PixelFlags_flag_edge",
            "base_PixelFlags_flag_nodata",
            "base_PixelFlags_flag_interpolatedCenter",
            "base_PixelFlags_flag_saturatedCenter",
            "base_PixelFlags_flag_crCenter",
            "base_PixelFlags_flag_bad",
        ],
        doc="Flags that reject a source; a column that the table lacks rejects none.",
    )
    sourceFluxType = pexConfig.Field[str](default="Ap", doc="Flux slot: Ap, Psf, Calib, Model or Gaussian.")
    minSnr = pexConfig.Field[float](default=10.0, doc="Lowest signal-to-noise; no limit if 0 or less.")


class AstrometrySourceSelector(SourceSelector):
    """Select single, unsaturated sources with a good centroid and flux.

    `ScienceSourceSelector` with suitable settings replaces it.
    """

    ConfigClass = AstrometrySourceSelectorConfig

    def select(
        self, table: AnyTable, *, exposure: Exposure | None, matches: MatchedReferences | None
    ) -> Cuts:
        """Return the criteria, applied to the rows of ``table``."""
        config, cuts = self.config, Cuts(len(table))
        require_finite(cuts, table, config, "slot_Centroid_x", "slot_Centroid_y")
        require_finite(cuts, table, config, "slot_Centroid_xErr", "slot_Centroid_yErr")
        require_flux(cuts, table, config)
        cuts.require("blends", without_parent(table) & _without_children(table))
        if has_column(table, "detect_isPrimary"):
            cuts.require("detect_isPrimary", flag_column(table, "detect_isPrimary"))
        for name in config.badFlags:
            cuts.require("badFlags", ~flag_column(table, name))
        for name in (
            "slot_Centroid_flag",
            "base_PixelFlags_flag_saturated",
            "base_PixelFlags_flag_interpolatedCenter",
            "base_PixelFlags_flag_edge",
        ):
            cuts.require(name, ~flag_column(table, name))
        return cuts


def require_finite(cuts: Cuts, table: AnyTable, config: Any, *names: str) -> None:
    """Require finite values of columns, in place."""
    for name in names:
        cuts.require(f"finite {name}", np.isfinite(fixed_column(table, name, config)))


def require_flux(cuts: Cuts, table: AnyTable, config: Any) -> None:
    """Require that a flux slot is unflagged and its signal-to-noise above a limit, in place.

    Parameters
    ----------
    cuts
        Criteria so far.
    table
        Table with ``slot_<sourceFluxType>Flux_instFlux``, ``_instFluxErr`` and perhaps ``_flag``.
    config
        With ``sourceFluxType``, the name of the slot without its ending ``Flux``, and ``minSnr``, an exclusive limit;
        if 0 or less, only the flag counts.
    """
    slot = f"slot_{config.sourceFluxType}Flux"
    cuts.require(f"{slot}_flag", ~flag_column(table, f"{slot}_flag"))
    if config.minSnr > 0:
        flux, error = (
            np.asarray(required_column(table, f"{slot}_{name}", config, "sourceFluxType"), np.float64)
            for name in ("instFlux", "instFluxErr")
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            cuts.require("minSnr", (flux / error > config.minSnr) & (error >= 0))


def without_parent(table: AnyTable) -> BoolArray:
    """Return True for rows that are not deblended children; all True before deblending."""
    if not has_column(table, "parent"):
        return np.ones(len(table), np.bool_)
    return np.asarray(column(table, "parent") == 0, np.bool_)


def _without_children(table: AnyTable) -> BoolArray:
    """Return True for rows without children and with at most one peak, as far as the table knows."""
    single = np.ones(len(table), np.bool_)
    if has_column(table, "deblend_nChild"):
        single &= column(table, "deblend_nChild") == 0
    if isinstance(table, SourceCatalog) and table.footprints is not None:
        single &= np.diff(table.footprints.peak_offsets) <= 1
    return single


sourceSelectorRegistry.register("astrometry", AstrometrySourceSelector)

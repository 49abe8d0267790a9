"""Selector ``astrometry``: well measured single sources for an astrometric fit (an older selector)."""

from __future__ import annotations

from typing import Any

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.catalogs.selectors.base import (
    AnyTable,
    BaseSourceSelectorConfig,
    BoolArray,
    MatchedReferences,
    SourceSelector,
    sourceSelectorRegistry,
)
from zeropoint.catalogs.selectors.columns import required_column
from zeropoint.catalogs.selectors.limits import flag_column
from zeropoint.datamodel.catalog import SourceCatalog, column, has_column
from zeropoint.datamodel.exposure import Exposure

__all__ = [
    "AstrometrySourceSelector",
    "AstrometrySourceSelectorConfig",
    "finite_columns",
    "flux_above",
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
    ) -> BoolArray:
        """Return one boolean a row of ``table``."""
        config = self.config
        selected = finite_columns(table, "slot_Centroid_x", "slot_Centroid_y")
        selected &= finite_columns(table, "slot_Centroid_xErr", "slot_Centroid_yErr")
        selected &= flux_above(table, config)
        selected &= without_parent(table) & _without_children(table)
        if has_column(table, "detect_isPrimary"):
            selected &= flag_column(table, "detect_isPrimary")
        for name in (
            *config.badFlags,
            "slot_Centroid_flag",
            "base_PixelFlags_flag_saturated",
            "base_PixelFlags_flag_interpolatedCenter",
            "base_PixelFlags_flag_edge",
        ):
            selected &= ~flag_column(table, name)
        return selected


def finite_columns(table: AnyTable, *names: str) -> BoolArray:
    """Return True where all of the columns are finite."""
    return np.logical_and.reduce([np.isfinite(column(table, name)) for name in names])


def flux_above(table: AnyTable, config: Any) -> BoolArray:
    """Return True where a flux slot is unflagged and its signal-to-noise above a limit.

    Parameters
    ----------
    table
        Table with ``slot_<sourceFluxType>Flux_instFlux``, ``_instFluxErr`` and perhaps ``_flag``.
    config
        With ``sourceFluxType``, the name of the slot without its ending ``Flux``, and ``minSnr``, an exclusive limit;
        if 0 or less, only the flag counts.
    """
    slot = f"slot_{config.sourceFluxType}Flux"
    selected = ~flag_column(table, f"{slot}_flag")
    if config.minSnr > 0:
        flux, error = (
            np.asarray(required_column(table, f"{slot}_{name}", config, "sourceFluxType"), np.float64)
            for name in ("instFlux", "instFluxErr")
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            selected &= flux / error > config.minSnr
    return selected


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

"""Selector ``diaCatalog``: sources by the kind, variability and color of the matched reference (older)."""

from __future__ import annotations

import logging

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
from zeropoint.catalogs.selectors.columns import fixed_column
from zeropoint.catalogs.selectors.limits import ab_magnitude, flag_column, reject_empty_interval
from zeropoint.datamodel.catalog import column, has_column
from zeropoint.datamodel.exposure import Exposure

__all__ = ["DiaCatalogSourceSelector", "DiaCatalogSourceSelectorConfig"]

_log = logging.getLogger(__name__)


class DiaCatalogSourceSelectorConfig(BaseSourceSelectorConfig):
    """Configuration of `DiaCatalogSourceSelector`."""

    fluxLim = pexConfig.Field[float](default=0.0, doc="Faintest PSF flux.")
    fluxMax = pexConfig.Field[float](default=0.0, doc="Brightest PSF flux; no limit if 0.")
    badFlags = pexConfig.ListField[str](
        default=[
            "base_PixelFlags_flag_edge",
            "base_PixelFlags_flag_interpolatedCenter",
            "base_PixelFlags_flag_saturatedCenter",
            "slot_Centroid_flag",
        ],
        doc="Flags that reject a source; a column that the table lacks rejects none.",
    )
    selectStar = pexConfig.Field[bool](default=True, doc="Select stars?")
    selectGalaxy = pexConfig.Field[bool](default=False, doc="Select galaxies?")
    includeVariable = pexConfig.Field[bool](default=False, doc="Include variable objects?")
    grMin = pexConfig.Field[float](default=0.0, doc="Smallest g - r of the reference, inclusive.")
    grMax = pexConfig.Field[float](default=3.0, doc="Largest g - r of the reference, inclusive.")

    def validate(self) -> None:
        """Check that something can be selected."""
        super().validate()
        reject_empty_interval(self, "grMin", "grMax", closed=True)
        if self.fluxMax > 0:
            reject_empty_interval(self, "fluxLim", "fluxMax", closed=True)
        if not (self.selectStar or self.selectGalaxy):
            raise pexConfig.FieldValidationError(
                type(self).selectStar,
                self,
                "selectStar and selectGalaxy are both False: nothing would be selected.",
            )


class DiaCatalogSourceSelector(SourceSelector):
    """Select sources whose matched reference is of the right kind, constant, and of the right color.

    A source with several matches is selected if one of them fits; a source without matches never is.
    """

    ConfigClass = DiaCatalogSourceSelectorConfig
    usesMatches = True

    def select(
        self, table: AnyTable, *, exposure: Exposure | None, matches: MatchedReferences | None
    ) -> Cuts:
        """Return the criteria, applied to the rows of ``table``."""
        assert matches is not None  # `run` has checked
        config, cuts = self.config, Cuts(len(table))
        flux = fixed_column(table, "slot_PsfFlux_instFlux", config)
        with np.errstate(invalid="ignore"):
            cuts.require("fluxLim", flux >= config.fluxLim)
            if config.fluxMax > 0:
                cuts.require("fluxMax", flux <= config.fluxMax)
        for name in config.badFlags:
            cuts.require("badFlags", ~flag_column(table, name))
        matched, fitting = np.zeros(len(table), np.bool_), np.zeros(len(table), np.bool_)
        matched[matches.match_src] = True
        fitting[matches.match_src[self._good_reference(matches)[matches.match_ref]]] = True
        cuts.require("matches", matched)
        cuts.require("kind, variability or color of the reference", fitting | ~matched)
        return cuts

    def _good_reference(self, matches: MatchedReferences) -> BoolArray:
        """Return which rows of the reference table are of the right kind, variability and color."""
        config, references = self.config, matches.references
        star = ~flag_column(references, "resolved")
        good = (config.selectStar & star) | (config.selectGalaxy & ~star)
        if not config.includeVariable and has_column(references, "photometric"):
            good &= flag_column(references, "photometric")
        if not (has_column(references, "g_flux") and has_column(references, "r_flux")):
            _log.warning("The references have no g and r fluxes, so no color cut is made.")
            return good
        with np.errstate(invalid="ignore"):
            color = ab_magnitude(column(references, "g_flux")) - ab_magnitude(column(references, "r_flux"))
        return good & (color >= config.grMin) & (color <= config.grMax)


sourceSelectorRegistry.register("diaCatalog", DiaCatalogSourceSelector)

"""Selector ``science``: the usual criteria for measured sources."""

from __future__ import annotations

import lsst.pex.config as pexConfig

from zeropoint.catalogs.selectors import limits
from zeropoint.catalogs.selectors.base import (
    AnyTable,
    BaseSourceSelectorConfig,
    Cuts,
    MatchedReferences,
    SourceSelector,
    sourceSelectorRegistry,
)
from zeropoint.datamodel.exposure import Exposure

__all__ = ["ScienceSourceSelector", "ScienceSourceSelectorConfig"]


class ScienceSourceSelectorConfig(BaseSourceSelectorConfig):
    """Configuration of `ScienceSourceSelector`."""

    doFluxLimit = pexConfig.Field[bool](default=False, doc="Apply the flux limit?")
    doFlags = pexConfig.Field[bool](default=False, doc="Apply the flag requirements?")
    doUnresolved = pexConfig.Field[bool](default=False, doc="Require unresolved sources?")
    doSignalToNoise = pexConfig.Field[bool](default=False, doc="Apply the signal-to-noise limit?")
    doIsolated = pexConfig.Field[bool](default=False, doc="Require isolated sources?")
    doRequireFiniteRaDec = pexConfig.Field[bool](default=False, doc="Require a finite sky position?")
    doRequirePrimary = pexConfig.Field[bool](default=False, doc="Require the primary flag?")
    doSkySources = pexConfig.Field[bool](
        default=False, doc="Include sky sources, whatever the other criteria say?"
    )
    doCentroidErrorLimit = pexConfig.Field[bool](default=False, doc="Apply the centroid-error limit?")

    fluxLimit = pexConfig.ConfigField[limits.FluxLimit](doc="Flux limit.")
    flags = pexConfig.ConfigField[limits.RequireFlags](doc="Flags to require.")
    unresolved = pexConfig.ConfigField[limits.RequireUnresolved](doc="Star/galaxy separation.")
    signalToNoise = pexConfig.ConfigField[limits.SignalToNoiseLimit](doc="Signal-to-noise limit.")
    isolated = pexConfig.ConfigField[limits.RequireIsolated](doc="Isolation criteria.")
    requireFiniteRaDec = pexConfig.ConfigField[limits.RequireFiniteRaDec](doc="Finite sky position.")
    requirePrimary = pexConfig.ConfigField[limits.RequirePrimary](doc="Primary criterion.")
    skyFlag = pexConfig.ConfigField[limits.RequireFlags](doc="Flags that mark sky sources.")
    centroidErrorLimit = pexConfig.ConfigField[limits.CentroidErrorLimit](doc="Centroid-error limit.")

    def setDefaults(self) -> None:
        """Flags and signal-to-noise of the PSF flux."""
        self.flags.bad = [
            "base_PixelFlags_flag_edge",
            "base_PixelFlags_flag_nodata",
            "base_PixelFlags_flag_saturated",
            "base_PsfFlux_flag",
        ]
        self.signalToNoise.fluxField = "base_PsfFlux_instFlux"
        self.signalToNoise.errField = "base_PsfFlux_instFluxErr"
        self.skyFlag.good = ["sky_source"]


class ScienceSourceSelector(SourceSelector):
    """Select sources by flags, flux, signal-to-noise, extendedness, isolation and centroid error.

    All criteria must hold; sky sources are then added, if wanted, and no criterion removes them again.
    """

    ConfigClass = ScienceSourceSelectorConfig

    def columns(self) -> tuple[list[str], list[str]]:
        """Return the columns that `run` needs, and those it looks at where they exist."""
        config = self.config
        needed: list[str] = []
        optional: list[str] = []
        if config.doFlags:
            needed += [*config.flags.good, *config.flags.bad]
        if config.doUnresolved:
            needed.append(config.unresolved.name)
        if config.doSignalToNoise:
            needed += [config.signalToNoise.fluxField, config.signalToNoise.errField]
            optional += limits.flux_flags(config.signalToNoise.fluxField)
        if config.doFluxLimit:
            needed.append(config.fluxLimit.fluxField)
            optional += limits.flux_flags(config.fluxLimit.fluxField)
        if config.doIsolated:
            needed += [config.isolated.parentName, config.isolated.nChildName]
        if config.doRequireFiniteRaDec:
            needed += [config.requireFiniteRaDec.raColName, config.requireFiniteRaDec.decColName]
        if config.doRequirePrimary:
            needed.append(config.requirePrimary.primaryColName)
        if config.doCentroidErrorLimit:
            needed += [f"{config.centroidErrorLimit.centroidField}_{axis}Err" for axis in "xy"]
        if config.doSkySources:
            needed += [*config.skyFlag.good, *config.skyFlag.bad]
        return needed, optional

    def select(
        self, table: AnyTable, *, exposure: Exposure | None, matches: MatchedReferences | None
    ) -> Cuts:
        """Return the criteria, applied to the rows of ``table``."""
        config, cuts = self.config, Cuts(len(table))
        if config.doFluxLimit:
            cuts.require("fluxLimit", limits.flux_limit(table, config.fluxLimit))
        if config.doFlags:
            cuts.require("flags", limits.require_flags(table, config.flags))
        if config.doUnresolved:
            cuts.require("unresolved", limits.require_unresolved(table, config.unresolved))
        if config.doSignalToNoise:
            cuts.require("signalToNoise", limits.signal_to_noise_limit(table, config.signalToNoise))
        if config.doIsolated:
            cuts.require("isolated", limits.require_isolated(table, config.isolated))
        if config.doRequireFiniteRaDec:
            cuts.require("requireFiniteRaDec", limits.require_finite_ra_dec(table, config.requireFiniteRaDec))
        if config.doRequirePrimary:
            cuts.require("requirePrimary", limits.require_primary(table, config.requirePrimary))
        if config.doCentroidErrorLimit:
            cuts.require("centroidErrorLimit", limits.centroid_error_limit(table, config.centroidErrorLimit))
        if config.doSkySources:
            cuts.selected |= limits.require_flags(table, config.skyFlag)
        return cuts


sourceSelectorRegistry.register("science", ScienceSourceSelector)

"""Selector ``references``: criteria for reference-catalogue objects."""

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

__all__ = ["ReferenceSourceSelector", "ReferenceSourceSelectorConfig"]


class ReferenceSourceSelectorConfig(BaseSourceSelectorConfig):
    """Configuration of `ReferenceSourceSelector`."""

    doMagLimit = pexConfig.Field[bool](default=False, doc="Apply the magnitude limit?")
    doFlags = pexConfig.Field[bool](default=False, doc="Apply the flag requirements?")
    doUnresolved = pexConfig.Field[bool](default=False, doc="Require unresolved objects?")
    doSignalToNoise = pexConfig.Field[bool](default=False, doc="Apply the signal-to-noise limit?")
    doMagError = pexConfig.Field[bool](default=False, doc="Apply the magnitude-error limit?")
    doRequireFiniteRaDec = pexConfig.Field[bool](default=True, doc="Require a finite sky position?")
    doCullFromMaskedRegion = pexConfig.Field[bool](
        default=False, doc="Drop objects on masked pixels?  Needs an exposure."
    )

    magLimit = pexConfig.ConfigField[limits.MagnitudeLimit](doc="Magnitude limit.")
    flags = pexConfig.ConfigField[limits.RequireFlags](doc="Flags to require.")
    unresolved = pexConfig.ConfigField[limits.RequireUnresolved](doc="Star/galaxy separation.")
    requireFiniteRaDec = pexConfig.ConfigField[limits.RequireFiniteRaDec](doc="Finite sky position.")
    signalToNoise = pexConfig.ConfigField[limits.SignalToNoiseLimit](doc="Signal-to-noise limit.")
    magError = pexConfig.ConfigField[limits.MagnitudeErrorLimit](doc="Magnitude-error limit.")
    colorLimits = pexConfig.ConfigDictField[str, limits.ColorLimit](
        default={}, doc="Color limits; the key is only a label."
    )
    cullFromMaskedRegion = pexConfig.ConfigField[limits.CullFromMaskedRegion](doc="Masked regions.")


class ReferenceSourceSelector(SourceSelector):
    """Select reference objects by magnitude, error, color, flags and masked pixels; all must hold."""

    ConfigClass = ReferenceSourceSelectorConfig

    def select(
        self, table: AnyTable, *, exposure: Exposure | None, matches: MatchedReferences | None
    ) -> Cuts:
        """Return the criteria, applied to the rows of ``table``."""
        config, cuts = self.config, Cuts(len(table))
        if config.doMagLimit:
            cuts.require("magLimit", limits.magnitude_limit(table, config.magLimit))
        if config.doFlags:
            cuts.require("flags", limits.require_flags(table, config.flags))
        if config.doUnresolved:
            cuts.require("unresolved", limits.require_unresolved(table, config.unresolved))
        if config.doSignalToNoise:
            cuts.require("signalToNoise", limits.signal_to_noise_limit(table, config.signalToNoise))
        if config.doMagError:
            cuts.require("magError", limits.magnitude_error_limit(table, config.magError))
        if config.doRequireFiniteRaDec:
            cuts.require("requireFiniteRaDec", limits.require_finite_ra_dec(table, config.requireFiniteRaDec))
        for label in sorted(config.colorLimits):
            passed = limits.color_limit(table, config.colorLimits[label])
            cuts.require(f"colorLimits[{label!r}]", passed)
        if config.doCullFromMaskedRegion:
            passed = limits.cull_from_masked_region(table, config.cullFromMaskedRegion, exposure)
            cuts.require("cullFromMaskedRegion", passed)
        return cuts


sourceSelectorRegistry.register("references", ReferenceSourceSelector)

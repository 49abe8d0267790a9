"""What a measurement plugin is, and the registry that configs choose from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, TypeVar

import lsst.pex.config as pexConfig

from zeropoint.datamodel.catalog import ColumnSpec, Schema
from zeropoint.datamodel.registry import make_registry

if TYPE_CHECKING:
    from zeropoint.measurement.context import MeasurementContext

__all__ = [
    "APCORR_ORDER",
    "CATALOG_ORDER",
    "CENTROID_ORDER",
    "FLUX_ORDER",
    "SHAPE_ORDER",
    "MeasurementPlugin",
    "PluginConfig",
    "SlotsConfig",
    "flag_spec",
    "pluginRegistry",
    "register",
]

CENTROID_ORDER = 0.0
SHAPE_ORDER = 1.0
FLUX_ORDER = 2.0
APCORR_ORDER = 3.0
CATALOG_ORDER = 4.0


class PluginConfig(pexConfig.Config):
    """What every plugin can be told."""

    doMeasure = pexConfig.Field(dtype=bool, default=True, doc="Measure, or only declare the columns?")


class SlotsConfig(pexConfig.Config):
    """Which plugin's columns a slot stands for; None removes the slot."""

    centroid = pexConfig.Field(dtype=str, default="base_SdssCentroid", optional=True, doc="Position.")
    shape = pexConfig.Field(dtype=str, default="base_SdssShape", optional=True, doc="Second moments.")
    psfShape = pexConfig.Field(
        dtype=str, default="base_SdssShape_psf", optional=True, doc="Second moments of the PSF."
    )
    apFlux = pexConfig.Field(
        dtype=str, default="base_CircularApertureFlux_12_0", optional=True, doc="Aperture flux."
    )
    modelFlux = pexConfig.Field(dtype=str, default="base_GaussianFlux", optional=True, doc="Model flux.")
    psfFlux = pexConfig.Field(dtype=str, default="base_PsfFlux", optional=True, doc="PSF flux.")
    gaussianFlux = pexConfig.Field(
        dtype=str, default="base_GaussianFlux", optional=True, doc="Gaussian-weighted flux."
    )
    calibFlux = pexConfig.Field(
        dtype=str,
        default="base_CircularApertureFlux_12_0",
        optional=True,
        doc="Flux that photometric calibration uses.",
    )

    def add_aliases(self, schema: Schema) -> None:
        """Declare ``slot_Centroid`` and so on in a schema, in place."""
        for field in self._fields:
            target = getattr(self, field)
            if target is not None:
                schema.alias("slot_" + field[0].upper() + field[1:], target)


def flag_spec(name: str, doc: str) -> ColumnSpec:
    """Return the column of one boolean flag."""
    return ColumnSpec(name, "bool", "", doc)


class MeasurementPlugin(ABC):
    """One measurement made on every source of an exposure.

    A plugin declares its columns when it is built and fills them for all sources in `measure`.

    Parameters
    ----------
    config
        Instance of ``ConfigClass``.
    name
        Prefix of the columns; the registry name, with a prefix for measurements on undeblended images.
    schema
        Schema to which the columns are added.
    slots
        Slot choices of the measurement step.
    """

    ConfigClass: ClassVar[type[PluginConfig]] = PluginConfig
    #: Plugins run in increasing order, then by name.
    execution_order: ClassVar[float] = FLUX_ORDER
    #: Whether the plugin may look at the PSF.
    needs_psf: ClassVar[bool] = True

    def __init__(self, config: PluginConfig, name: str, schema: Schema, slots: SlotsConfig) -> None:
        self.config = config
        self.name = name
        self.slots = slots
        #: Names of the columns this plugin fills.
        self.columns: list[str] = []

    @classmethod
    def ap_corr_names(cls, name: str, config: PluginConfig) -> tuple[str, ...]:
        """Return the prefixes of the fluxes that get aperture corrections.

        Plugins whose prefixes follow from their configuration put them into `Schema.corrected_fluxes` instead.
        """
        return ()

    def declare(self, schema: Schema, *specs: ColumnSpec) -> None:
        """Append columns of this plugin to the schema."""
        schema.add(*specs)
        self.columns += [spec.name for spec in specs]

    def alias_bad_centroid(self, schema: Schema) -> None:
        """Make ``<name>_flag_badCentroid`` another name of the centroid slot's flag."""
        if self.slots.centroid is not None:
            schema.alias(f"{self.name}_flag_badCentroid", f"{self.slots.centroid}_flag")

    @abstractmethod
    def measure(self, context: MeasurementContext) -> None:
        """Fill the columns of ``context.catalog`` in place, for all its rows."""


#: Every plugin by name.
pluginRegistry = make_registry("Measurement plugins by name.", PluginConfig)

P = TypeVar("P", bound=type[MeasurementPlugin])


def register(*names: str) -> Callable[[P], P]:
    """Class decorator: enter a plugin into `pluginRegistry` under some names."""

    def wrap(plugin: P) -> P:
        for name in names:
            pluginRegistry.register(name, plugin)
        return plugin

    return wrap

"""Measure every source of one exposure with a configured list of plugins."""

from __future__ import annotations

import logging
from typing import ClassVar

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import Schema, SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.errors import InvalidInputError
from zeropoint.measurement.base import MeasurementPlugin, SlotsConfig, flag_spec, pluginRegistry
from zeropoint.measurement.context import MeasurementContext, PsfShapeGrid
from zeropoint.measurement.noise import NoiseReplacerConfig, replace_sources_with_noise
from zeropoint.measurement.plugins import MODULES as PLUGIN_MODULES  # fills the registry

__all__ = ["PLUGIN_MODULES", "SingleFrameMeasurement", "SingleFrameMeasurementConfig"]

log = logging.getLogger(__name__)

INVALID_PSF = "base_InvalidPsf_flag"

_CENTROID_SLOT = "slot_Centroid"

_DEFAULT_PLUGINS = (
    "base_PixelFlags",
    "base_SdssCentroid",
    "base_SdssShape",
    "base_GaussianFlux",
    "base_PsfFlux",
    "base_CircularApertureFlux",
    "base_SkyCoord",
    "base_Variance",
    "base_Blendedness",
    "base_LocalBackground",
    "base_CompensatedTophatFlux",
    "base_ClassificationSizeExtendedness",
)

#: Rows measured at once: bounds the memory of PSF stamps in crowded fields.
BLOCK_ROWS = 8192


class SingleFrameMeasurementConfig(pexConfig.Config):
    """Which plugins run, what the slots mean, how neighbors are hidden."""

    slots = pexConfig.ConfigField(dtype=SlotsConfig, doc="Plugins that the slots stand for.")
    plugins = pluginRegistry.makeField(
        multi=True,
        default=list(_DEFAULT_PLUGINS),
        doc="Plugins to run.",
    )
    undeblended = pluginRegistry.makeField(
        multi=True, default=[], doc="Plugins to run also on the image as it is, neighbors included."
    )
    undeblendedPrefix = pexConfig.Field(
        dtype=str, default="undeblended_", doc="Prefix of the columns of undeblended plugins."
    )
    doReplaceWithNoise = pexConfig.Field(
        dtype=bool, default=True, doc="Replace all sources but the one being measured by noise?"
    )
    noiseReplacer = pexConfig.ConfigField(dtype=NoiseReplacerConfig, doc="The replacement noise.")

    def validate(self) -> None:
        """Check that the plugins behind the slots run."""
        super().validate()
        names = set(self.plugins.names)
        for slot in ("centroid", "shape"):
            target = getattr(self.slots, slot)
            if target is not None and target not in names:
                raise ValueError(f"Slot {slot} is {target!r}, which is not in plugins.names.")
        for slot in ("apFlux", "modelFlux", "psfFlux", "gaussianFlux", "calibFlux"):
            target = getattr(self.slots, slot)
            if target is not None and not any(target.startswith(name) for name in names):
                raise ValueError(f"Slot {slot} is {target!r}, but no plugin in plugins.names begins so.")


class SingleFrameMeasurement:
    """Measure sources; `run` modifies the catalogue in place.

    Parameters
    ----------
    config
        Plugins, slots, noise; defaults if None.
    schema
        Schema to which columns and slot aliases are added; a new one if None (see `schema`).

    Notes
    -----
    Without a centroid slot of its own the step measures at the ``slot_Centroid`` that the schema already has.
    """

    ConfigClass: ClassVar[type[SingleFrameMeasurementConfig]] = SingleFrameMeasurementConfig

    def __init__(
        self, config: SingleFrameMeasurementConfig | None = None, *, schema: Schema | None = None
    ) -> None:
        self.config = SingleFrameMeasurementConfig() if config is None else config
        self.schema = Schema() if schema is None else schema
        slots = self.config.slots
        known = all(f"{_CENTROID_SLOT}_{name}" in self.schema for name in ("x", "y", "flag"))
        #: Whether the positions are measured before this step.
        self._has_positions = slots.centroid is None and known
        self._centroid = _CENTROID_SLOT if self._has_positions else slots.centroid
        slots.add_aliases(self.schema)
        self.plugins = self._build(self.config.plugins, "", slots.centroid)
        self.undeblended = self._build(self.config.undeblended, self.config.undeblendedPrefix, None)
        every = (*self.plugins, *self.undeblended)
        names = [name for plugin in every for name in plugin.columns]
        #: Whether a plugin of this step looks at the PSF; a step that does not leaves the flag to the others.
        self._needs_psf = any(plugin.needs_psf for plugin in every)
        if self._needs_psf:
            self.schema.add(flag_spec(INVALID_PSF, "PSF could not be evaluated here"))
            names.append(INVALID_PSF)
        self._columns = [self.schema.columns[name] for name in names]

    def _build(self, choice: pexConfig.Config, prefix: str, first: str | None) -> list[MeasurementPlugin]:
        """Build the chosen plugins: the centroid slot's first, then by execution order and name."""
        names = sorted(
            choice.names, key=lambda name: (name != first, pluginRegistry[name].execution_order, name)
        )
        built = []
        for name in names:
            before = set(self.schema.columns)
            plugin = pluginRegistry[name](choice[name], prefix + name, self.schema, self.config.slots)
            added = [column for column in self.schema.columns if column not in before]
            plugin.columns += [column for column in added if column not in plugin.columns]
            built.append(plugin)
        return built

    def run(
        self,
        exposure: Exposure,
        catalog: SourceCatalog,
        *,
        seed: int,
        neighbors: FootprintSet | None = None,
    ) -> None:
        """Measure all rows with all plugins, in place; earlier results of these columns are cleared first.

        Parameters
        ----------
        exposure
            Exposure with a PSF; not changed.
        catalog
            Sources with footprints, under a schema that has this step's columns.
        seed
            Seed of the replacement noise, e.g. the catalogue id.
        neighbors
            Footprints of all sources of the image, where the catalogue holds only some of them; noise replaces them all.

        Raises
        ------
        InvalidInputError
            If the catalogue has no footprints or lacks columns, or a plugin that needs a PSF finds none.
        """
        if catalog.footprints is None:
            raise InvalidInputError("Measurement needs a catalogue with footprints.")
        missing = [spec.name for spec in self._columns if spec.name not in catalog.schema.columns]
        if missing:
            raise InvalidInputError(f"The catalogue lacks measurement columns, e.g. {missing[0]!r}.")
        catalog.clear_columns(self._columns)
        if len(catalog) == 0:
            return
        noise = work = None
        if self.config.doReplaceWithNoise:
            hidden = catalog.footprints if neighbors is None else neighbors
            noise = replace_sources_with_noise(exposure, hidden, self.config.noiseReplacer, seed=seed)
            work = noise.copy()
        grid = None
        if self._needs_psf and exposure.psf is not None:
            grid = PsfShapeGrid(exposure.psf, exposure.shape)
        for start in range(0, len(catalog), BLOCK_ROWS):
            rows = np.arange(start, min(start + BLOCK_ROWS, len(catalog)))
            block = _view(catalog, rows)
            slot = self._centroid
            context = MeasurementContext(
                exposure, block, noise=noise, work=work, centroid_slot=slot, shape_grid=grid
            )
            if self._has_positions:
                context.update_centroids()
            for plugin in self.plugins:
                if plugin.config.doMeasure:
                    plugin.measure(context)
                if plugin.name == slot:
                    context.update_centroids()
            if self._needs_psf:
                block[INVALID_PSF] = context.invalid_psf
            if self.undeblended:
                self._measure_undeblended(exposure, block, grid)
        log.debug("Measured %d sources with %d plugins", len(catalog), len(self.plugins))

    def _measure_undeblended(
        self, exposure: Exposure, block: SourceCatalog, grid: PsfShapeGrid | None
    ) -> None:
        """Run the undeblended plugins on the image as it is, at the positions already measured."""
        context = MeasurementContext(
            exposure, block, noise=None, centroid_slot=self._centroid, shape_grid=grid
        )
        context.update_centroids()
        for plugin in self.undeblended:
            if plugin.config.doMeasure:
                plugin.measure(context)
        if self._needs_psf:
            block[INVALID_PSF] = block[INVALID_PSF] | context.invalid_psf


def _view(catalog: SourceCatalog, rows: np.ndarray) -> SourceCatalog:
    """Return consecutive rows as a catalogue whose columns are views."""
    if len(rows) == len(catalog) or catalog.footprints is None:
        return catalog
    part = slice(int(rows[0]), int(rows[-1]) + 1)
    return SourceCatalog(
        catalog.schema,
        columns={name: catalog[name][part] for name in catalog.colnames},
        footprints=catalog.footprints.take(rows),
        metadata=catalog.metadata,
    )

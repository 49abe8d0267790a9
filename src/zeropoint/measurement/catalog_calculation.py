"""Columns computed from other columns, without pixels."""

from __future__ import annotations

from typing import Any, ClassVar

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.registry import make_registry
from zeropoint.measurement.base import flag_spec

__all__ = [
    "CatalogCalculation",
    "CatalogCalculationConfig",
    "CatalogCalculationResult",
    "ClassificationExtendedness",
    "ClassificationExtendednessConfig",
    "FootprintArea",
    "FootprintAreaConfig",
    "catalogCalculationRegistry",
]

#: Calculations by name.
catalogCalculationRegistry = make_registry("Calculations on source catalogues by name.")


class ClassificationExtendednessConfig(pexConfig.Config):
    """How much more model flux than PSF flux a galaxy has."""

    fluxRatio = pexConfig.Field(
        dtype=float, default=0.95, doc="Sources with fluxRatio x model flux below the PSF flux are stars."
    )
    modelErrFactor = pexConfig.Field(
        dtype=float, default=0.0, doc="Model-flux errors added to the model flux, as a factor."
    )
    psfErrFactor = pexConfig.Field(
        dtype=float, default=0.0, doc="PSF-flux errors added to the PSF flux, as a factor."
    )


class ClassificationExtendedness:
    """0 for stars, 1 for extended sources, by the ratio of the model-flux and PSF-flux slots."""

    ConfigClass = ClassificationExtendednessConfig

    def __init__(self, config: ClassificationExtendednessConfig, name: str, schema: Schema) -> None:
        self.config, self.name = config, name
        schema.add(
            ColumnSpec(f"{name}_value", "f8", "", "0 (star) or 1 (extended) from PSF and model flux"),
            flag_spec(f"{name}_flag", "general failure"),
        )

    def calculate(self, catalog: SourceCatalog) -> None:
        """Fill the columns in place."""
        model, psf = catalog["slot_ModelFlux_instFlux"], catalog["slot_PsfFlux_instFlux"]
        left, right = self.config.fluxRatio * model, psf
        if self.config.modelErrFactor != 0:
            left = left + self.config.modelErrFactor * catalog["slot_ModelFlux_instFluxErr"]
        if self.config.psfErrFactor != 0:
            right = right + self.config.psfErrFactor * catalog["slot_PsfFlux_instFluxErr"]
        bad = catalog["slot_ModelFlux_flag"] | catalog["slot_PsfFlux_flag"]
        bad = bad | ~(np.isfinite(left) & np.isfinite(right))
        with np.errstate(invalid="ignore"):
            catalog[f"{self.name}_value"] = np.where(bad, np.nan, np.where(left < right, 0.0, 1.0))
        catalog[f"{self.name}_flag"] = bad


class FootprintAreaConfig(pexConfig.Config):
    """No options."""


class FootprintArea:
    """Number of pixels of the footprint."""

    ConfigClass = FootprintAreaConfig

    def __init__(self, config: FootprintAreaConfig, name: str, schema: Schema) -> None:
        self.config, self.name = config, name
        schema.add(ColumnSpec(f"{name}_value", "i4", "pixel", "number of pixels of the footprint"))

    def calculate(self, catalog: SourceCatalog) -> None:
        """Fill the column in place."""
        if catalog.footprints is not None:
            catalog[f"{self.name}_value"] = catalog.footprints.areas()


catalogCalculationRegistry.register("base_ClassificationExtendedness", ClassificationExtendedness)
catalogCalculationRegistry.register("base_FootprintArea", FootprintArea)


class CatalogCalculationConfig(pexConfig.Config):
    """Which calculations are made."""

    plugins = catalogCalculationRegistry.makeField(
        multi=True,
        default=["base_ClassificationExtendedness", "base_FootprintArea"],
        doc="Calculations to make.",
    )


class CatalogCalculationResult:
    """Nothing beyond the filled columns."""


class CatalogCalculation:
    """Compute columns from others; `run` fills them in place.

    Parameters
    ----------
    config
        The calculations; defaults if None.
    schema
        Schema to which their columns are added, in order of name.
    """

    ConfigClass: ClassVar[type[CatalogCalculationConfig]] = CatalogCalculationConfig

    def __init__(
        self, config: CatalogCalculationConfig | None = None, *, schema: Schema | None = None
    ) -> None:
        self.config = CatalogCalculationConfig() if config is None else config
        schema = Schema() if schema is None else schema
        self.calculations: list[Any] = [
            catalogCalculationRegistry[name](self.config.plugins[name], name, schema)
            for name in sorted(self.config.plugins.names)
        ]

    def run(self, catalog: SourceCatalog) -> CatalogCalculationResult:
        """Fill the columns of all rows."""
        for calculation in self.calculations:
            calculation.calculate(catalog)
        return CatalogCalculationResult()

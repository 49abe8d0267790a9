"""One small simulated image, and the older pair of recipes on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.recipes.calibrate import Calibrate, CalibrateConfig, CalibratedExposure
from zeropoint.recipes.characterize_image import (
    CharacterizedImage,
    CharacterizeImage,
    CharacterizeImageConfig,
)
from zeropoint.recipes.overrides import apply_override
from zeropoint.simulation import SimulatedExposure, SimulationSettings

SETTINGS = SimulationSettings(
    width=1100,
    height=1000,
    n_stars=520,
    n_cosmic_rays=40,
    # the class default fits a quadratic, which has no cubic distortion
    distortion_pixels=0.05,
    seed=3,
)
IDS = CatalogIdGenerator(20261120, 3, 1 << 28, 1 << 8)


def configured(kind: type, overrides: dict[str, Any]) -> Any:
    """Return a configuration with some fields set."""
    config = kind()
    for name, value in overrides.items():
        apply_override(config, name, value)
    return config


def characterize(
    exposure: Exposure, overrides: dict[str, Any] | None = None, **arguments: Any
) -> tuple[CharacterizeImage, CharacterizedImage]:
    """Run the first recipe; the exposure is changed."""
    recipe = CharacterizeImage(configured(CharacterizeImageConfig, overrides or {}))
    return recipe, recipe.run(exposure, id_generator=IDS, label="test", **arguments)


def calibrate(
    first: CharacterizedImage,
    references: ReferenceSource,
    overrides: dict[str, Any] | None = None,
    **arguments: Any,
) -> tuple[Calibrate, CalibratedExposure]:
    """Run the second recipe on a copy of what the first one made."""
    assert first.catalog is not None
    config = configured(CalibrateConfig, overrides or {})
    recipe = Calibrate(config, first.catalog.schema)
    loaders = {
        "astrometry_references": ReferenceObjectLoader(references, config.astromRefObjLoader),
        "photometry_references": ReferenceObjectLoader(references, config.photoRefObjLoader),
        **arguments,
    }
    exposure = first.exposure.copy()
    return recipe, recipe.run(
        exposure, first.background, first.catalog, id_generator=IDS, label="test", **loaders
    )


@dataclass(frozen=True)
class Pair:
    """The image and what both recipes made of it."""

    simulated: SimulatedExposure
    references: ReferenceSource
    first_recipe: CharacterizeImage
    first: CharacterizedImage
    second_recipe: Calibrate
    second: CalibratedExposure

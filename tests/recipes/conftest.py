"""What several tests share: one small image through the older pair of recipes, and a visit made of numbers."""

from __future__ import annotations

import pytest

from recipes import small_visit
from recipes.legacy_pair import SETTINGS, Pair, calibrate, characterize
from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.simulation import simulate_exposure, write_simulation


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The pair with its class defaults."""
    simulated = simulate_exposure(SETTINGS)
    _, path = write_simulation(simulated, tmp_path_factory.mktemp("legacy"))
    references = ReferenceSource.open(path)
    first_recipe, first = characterize(simulated.exposure.copy())
    return Pair(simulated, references, first_recipe, first, *calibrate(first, references))


@pytest.fixture(scope="session")
def electrons() -> small_visit.SmallVisit:
    """The small visit with images in electrons; tests replace, but do not change what it holds."""
    return small_visit.make_small_visit(nanojansky=False)

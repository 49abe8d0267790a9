"""One small image through the older pair of recipes, for all tests of them."""

from __future__ import annotations

import pytest

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

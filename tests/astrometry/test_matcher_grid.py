"""Fifty fields of the grid that ``make validate`` runs in full, and lists that must be refused."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from zeropoint.errors import MatcherFailure


@pytest.fixture(scope="module")
def grid():
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "matcher_grid.py"
    spec = importlib.util.spec_from_file_location("matcher_grid", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["matcher_grid"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_fields_are_solved_or_fail_by_name_and_never_wrong(grid):
    # the hardest mistakes of the initial WCS: 60 arcsec, 2 degrees, 1 %, 20 pixels of distortion
    sizes, hard = (16, 25, 50, 150), grid.MISTAKES[-1]
    trials = [grid.Trial(n, c, hard, kind, 70) for n in sizes for c in (0.0, 0.5) for kind in grid.KINDS]
    trials += [grid.Trial(500, 0.5, hard, kind, 70) for kind in ("uniform", "deep")]
    assert len(trials) == 50
    outcomes = [grid.run_trial(trial) for trial in trials]
    assert not [o for o in outcomes if o.wrong]
    assert {o.failure for o in outcomes} <= {"", "MatcherFailure"}
    enough = [o for o in outcomes if o.n_common >= grid.ENOUGH_STARS]
    # at the required 99 % two failures among 44 have a probability of 6 %, three of 1 %
    assert sum(not o.solved for o in enough) <= 2
    many = [o for o in outcomes if o.n_common >= 75]
    # noise of 0.1 pixel, ten coefficients an axis; the distortion is a cubic, so nothing else is left
    assert np.median([o.error_pix for o in many]) < 0.1


@pytest.mark.parametrize("kind", ["uniform", "clustered", "artifacts", "doubles"])
def test_unrelated_lists_fail_with_numbers(grid, kind):
    for seed in range(10):
        outcome = grid.run_trial(grid.Trial(20, 1.0, grid.MISTAKES[-1], kind, seed))
        assert outcome.failure == "MatcherFailure"
    _, lists = grid.simulate(grid.Trial(20, 1.0, grid.MISTAKES[-1], kind, 1))
    with pytest.raises(MatcherFailure, match="stands out from chance") as caught:
        grid.solve(grid.grid_config(), lists)
    numbers = caught.value.metadata
    assert numbers["n_sources"] == 20
    assert numbers["n_references"] == len(lists["ra"])
    assert numbers["n_pairs"] < 10
    assert numbers["iterations"] == 1


def test_a_mirrored_image_is_refused(grid):
    for seed in range(4):
        _, lists = grid.simulate(grid.Trial(100, 0.0, grid.MISTAKES[0], "uniform", seed))
        with pytest.raises(MatcherFailure, match="flip"):
            grid.solve(grid.grid_config(), lists | {"x": grid.SIZE - 1 - lists["x"]})


def test_mistakes_beyond_the_limits_are_refused_or_solved(grid):
    for seed in range(12):
        mistake = replace(grid.MISTAKES[-1], offset=120.0, rotation=4.0)
        outcome = grid.run_trial(grid.Trial(60, 0.3, mistake, "uniform", seed))
        assert outcome.failure == "MatcherFailure" or outcome.solved

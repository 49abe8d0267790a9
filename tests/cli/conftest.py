"""One small simulated exposure on disk, and a way to run the command in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from zeropoint.cli import main

Run = Callable[..., Result]


@dataclass(frozen=True)
class SimulatedFiles:
    """An image of 600 x 600 pixels and its references."""

    image: Path
    references: Path


@pytest.fixture(scope="session")
def simulated_files(tmp_path_factory: pytest.TempPathFactory) -> SimulatedFiles:
    from zeropoint.simulation import SimulationSettings, simulate_exposure, write_simulation

    settings = SimulationSettings(
        width=600, height=600, n_stars=260, magnitude_bright=17.0, n_cosmic_rays=20, seed=1
    )
    folder = tmp_path_factory.mktemp("simulated")
    return SimulatedFiles(*write_simulation(simulate_exposure(settings), folder))


@pytest.fixture
def run() -> Run:
    """Run ``zeropoint ARGUMENTS``; unexpected exceptions are raised, and no error shows a traceback."""

    def call(*arguments: object) -> Result:
        result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
        assert "Traceback" not in result.output
        return result

    return call


@pytest.fixture
def one_error() -> Callable[..., str]:
    """Assert that a run failed with one line on stderr that holds some words; return the line."""

    def check(result: Result, code: int, *words: str) -> str:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("error: ")
        assert result.exit_code == code, result.stderr
        for word in words:
            assert word in lines[0], f"{word!r} is not in {lines[0]!r}"
        return lines[0]

    return check

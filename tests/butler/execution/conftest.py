"""One mock repository for all tests of the executor; each test writes to a collection of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lsst.daf.butler import Butler

from butler.execution.mock_repository import make_repository
from zeropoint.butler.execution.graph import ConfigOverride, RunRequest
from zeropoint.butler.execution.journal import interrupted_runs
from zeropoint.butler.execution.report import RunReport
from zeropoint.butler.execution.runner import run_pipeline
from zeropoint.butler.repository import open_repository

#: 2 tables and a mean each: 165 quanta, beyond what the standard library's zip reading stands.
N_EXPOSURES = 55


@dataclass(frozen=True)
class Mock:
    """A repository and its pipeline."""

    root: Path
    pipeline: str

    def request(self, output: str, query: str = "", *overrides: str, **options: Any) -> RunRequest:
        parts = [text.replace(":", "=", 1).split("=", 2) for text in overrides]
        return RunRequest(
            **{
                "repository": str(self.root),
                "pipeline": self.pipeline,
                "inputs": ("MockCam/defaults",),
                "output": output,
                "data_query": query,
                "overrides": tuple(ConfigOverride(*part) for part in parts),
                **options,
            }
        )

    def run(self, output: str, query: str = "", *overrides: str, **options: Any) -> RunReport:
        return run_pipeline(self.request(output, query, *overrides, **options))

    def open(self) -> Butler:
        return open_repository(self.root)

    def interrupted(self, output: str) -> list[str]:
        """Return the runs of an output that were killed and not yet taken up; other tests may have left theirs."""
        with self.open() as butler:
            return [run for run in interrupted_runs(butler) if run.startswith(f"{output}/")]


@pytest.fixture(scope="session")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Mock:
    root = tmp_path_factory.mktemp("execution") / "repo"
    return Mock(root, make_repository(root, N_EXPOSURES))


@pytest.fixture(scope="session")
def stray_files() -> Callable[[Path, Butler, str], set[Path]]:
    """A function that returns the files of an output chain's folder that are no datasets."""

    def find(root: Path, butler: Butler, output: str) -> set[Path]:
        known = set()
        for run in butler.collections.get_info(output).children:
            if run.startswith(f"{output}/"):
                refs = butler.query_all_datasets(run, find_first=False)
                known.update(Path(butler.getURI(ref).ospath) for ref in refs)
        return {path for path in (root / output).rglob("*") if path.is_file()} - known

    return find

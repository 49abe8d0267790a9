"""A repository of one invented camera; each test gets a copy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from lsst.daf.butler import Butler

from butler.frames import card
from zeropoint.butler.cameras import register_camera
from zeropoint.butler.repository import create_repository, open_repository


@pytest.fixture(scope="session")
def camera_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which TestCam is registered; not to be changed."""
    root = tmp_path_factory.mktemp("repository") / "REPO"
    create_repository(root)
    butler = open_repository(root, writeable=True)
    register_camera(butler, card())
    butler.close()
    return root


@pytest.fixture
def repo(camera_repository: Path, tmp_path: Path) -> Path:
    """A copy of `camera_repository`."""
    root = tmp_path / "REPO"
    shutil.copytree(camera_repository, root)
    return root


@pytest.fixture
def butler(repo: Path) -> Iterator[Butler]:
    """The copy, opened."""
    opened = open_repository(repo, writeable=True)
    yield opened
    opened.close()

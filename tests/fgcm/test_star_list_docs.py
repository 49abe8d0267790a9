"""The page on the star list."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fgcm.build_stars_parts import catalog, config, focal_plane, sources
from zeropoint.fgcm import source_table, visits
from zeropoint.fgcm.build_stars_config import FgcmBuildStarsTableConfig
from zeropoint.fgcm.observations import gather_observations

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "star_list.md").read_text()
WORDS = {word for words in re.findall(r"`([^`\n]+)`", PAGE) for word in re.split(r"[ ,=]+", words)}


def test_every_column_is_on_the_page() -> None:
    assert set(catalog([7]).table.colnames) <= WORDS
    assert (
        set(gather_observations({7: sources(7)}, catalog([7]), focal_plane(), config()).table.colnames)
        <= WORDS
    )


@pytest.mark.parametrize(
    ("module", "pattern"), [(visits, r'"(no_\w+)"'), (source_table, r'require\("(\w+)"')]
)
def test_every_reason_is_on_the_page(module, pattern) -> None:
    reasons = set(re.findall(pattern, Path(module.__file__).read_text()))
    assert len(reasons) > 5
    assert reasons <= WORDS


def test_the_selectors_criteria_are_on_the_page() -> None:
    science = FgcmBuildStarsTableConfig().sourceSelector["science"]
    on = {name[2].lower() + name[3:] for name in science if name.startswith("do") and getattr(science, name)}
    assert on <= WORDS

"""The page on the tables of a visit."""

from __future__ import annotations

import re
from pathlib import Path

from catalogs.source_columns import COLUMNS, LOCAL
from zeropoint.catalogs.functor_file import FunctorFile
from zeropoint.catalogs.functors import FUNCTORS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "visit_tables.md").read_text()
WORDS = re.findall(r"`([^`\n]+)`", PAGE)
#: Endings that the page names once for several columns.
ENDINGS = ("Err", "_flag")


def is_named(name: str) -> bool:
    """Say whether the page names a column, or its part behind what a group shares."""
    stems = [name, *(name.removesuffix(ending) for ending in ENDINGS), name.replace("_0_flag", "_0_instFlux")]
    parts = [name[cut:] for cut in range(1, len(name)) if name[cut] == "_" or name[cut - 1] == "_"]
    return any(word in WORDS for word in [*stems, *parts])


def test_every_column_is_on_the_page() -> None:
    assert [name for name in COLUMNS | LOCAL if not is_named(name)] == []
    assert not is_named("psfFlux_nothing")


def test_every_functor_is_on_the_page() -> None:
    assert set(FUNCTORS) <= set(WORDS)


def test_the_example_of_the_language_is_one() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    file = FunctorFile.from_text(text)
    assert list(file.functors) == ["sourceId", "ra", "kronFlux", "pixelFlags_bad"]
    assert "kronFlux" not in file.available(["id", "coord_ra", "base_PixelFlags_flag_bad"]).functors

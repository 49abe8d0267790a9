"""docs/selectors.md lists every selector with every field and its default."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lsst.pex.config as pexConfig
import pytest

from zeropoint.catalogs.selectors import sourceSelectorRegistry

PAGE = Path(__file__).resolve().parents[2] / "docs" / "selectors.md"


def fields(config: pexConfig.Config, prefix: str = "") -> Iterator[str]:
    """Yield a row of the table for every field, those of nested configurations too."""
    for name, field in type(config)._fields.items():
        value, doc = getattr(config, name), " ".join(field.doc.split())
        if isinstance(value, pexConfig.Config):
            yield from fields(value, f"{prefix}{name}.")
        elif isinstance(field, pexConfig.ConfigDictField):
            yield row(prefix + name, "none", doc)
            yield from fields(field.itemtype(), f'{prefix}{name}["..."].')
        elif isinstance(field, pexConfig.ListField):
            yield row(prefix + name, ", ".join(value) or "none", doc)
        else:
            required = value is None and not field.optional
            text = f"{value:g}" if isinstance(value, float) else str(value)
            yield row(prefix + name, "required" if required else "none" if value is None else text, doc)


def row(path: str, default: str, doc: str) -> str:
    return f"| `{path}` | {default.replace('base_PixelFlags_flag_', '.')} | {doc} |"


@pytest.mark.parametrize("name", sorted(sourceSelectorRegistry))
def test_the_page_has_every_field_and_default(name):
    section = PAGE.read_text().split(f"\n### `{name}`\n")[1].split("\n### ")[0].split("\n## ")[0]
    lines = {" ".join(line.split()) for line in section.splitlines()}
    expected = list(fields(sourceSelectorRegistry[name].ConfigClass()))
    assert [line for line in expected if line not in lines] == []
    assert sum(line.startswith("| `") for line in lines) == len(expected)


if __name__ == "__main__":  # print the tables for the page
    for selector in sorted(sourceSelectorRegistry):
        print(f"### `{selector}`\n\n| field | default | meaning |\n|---|---|---|")
        print("\n".join(fields(sourceSelectorRegistry[selector].ConfigClass())), "\n")

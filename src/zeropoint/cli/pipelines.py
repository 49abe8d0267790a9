"""``zeropoint pipelines``: the pipelines that come with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import click

from zeropoint.cli.errors import clear_errors


@click.command()
@click.option("--paths", is_flag=True, help="Print the paths alone.")
@clear_errors
def pipelines(paths: bool) -> None:
    """List the shipped pipelines with their paths, labels and subsets.

    A path is what `-p` of zeropoint run, pipetask and bps wants; PATH#LABEL or PATH#SUBSET runs a part of it.

    \b
    Example
      zeropoint run -b REPO -p $(zeropoint pipelines --paths | grep /calibrate.yaml) \\
          -i MyCam/defaults -o u/me/run1 -d "instrument='MyCam'" -j 4
    """
    folder = Path(str(resources.files("zeropoint.tasks") / "pipelines"))
    for path in sorted(folder.glob("*.yaml")):
        click.echo(path)
        if paths:
            continue
        content = _read(path)
        click.echo(f"  {content['description']}")
        if "instrument" in content:
            click.echo(f"  instrument: {content['instrument'].rpartition('.')[2]}")
        click.echo(f"  labels: {', '.join(content['tasks'])}")
        click.echo(f"  subsets: {', '.join(content['subsets'])}")


def _read(path: Path) -> dict[str, Any]:
    """Return a pipeline with its imports merged, as far as it is shown here."""
    import yaml

    content: dict[str, Any] = yaml.safe_load(path.read_text())
    merged: dict[str, Any] = {"tasks": {}, "subsets": {}}
    for entry in content.get("imports", ()):
        package, _, name = entry["location"].removeprefix("resource://").partition("/")
        imported = _read(Path(str(resources.files(package) / name)))
        for key in merged:
            merged[key].update(imported[key])
    for key in merged:
        merged[key].update(content.get(key) or {})
    return {**content, **merged}

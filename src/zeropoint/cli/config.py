"""``zeropoint config``: the recipe's configuration fields with defaults and meaning."""

from __future__ import annotations

from typing import Any

import click

from zeropoint.cli.errors import clear_errors


@click.command()
@click.argument("pattern", required=False, default="")
@click.option("--class-defaults", is_flag=True, help="Show class defaults instead of the production values.")
@clear_errors
def config(pattern: str, class_defaults: bool) -> None:
    """List configuration fields whose name contains PATTERN, with their values.

    Any of them can be set with `-c FIELD=VALUE` or in a Python file given with `-C`.
    """
    from zeropoint.recipes.calibrate_image import CalibrateImageConfig
    from zeropoint.recipes.session import production_config

    current = CalibrateImageConfig() if class_defaults else production_config()
    shown = 0
    for name, value in _fields(current.toDict()):
        if pattern.lower() in name.lower():
            click.echo(f"{name}={value!r}")
            shown += 1
    if not shown:
        click.echo(f"no field contains {pattern!r}", err=True)


def _fields(data: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(data, dict) or (prefix and not data):
        return [(prefix, data)]
    fields: list[tuple[str, Any]] = []
    for key, value in data.items():
        fields += _fields(value, f"{prefix}.{key}" if prefix else str(key))
    return fields

"""The repository's commands as sub-commands of ``butler`` (entry point ``butler.cli``)."""

from __future__ import annotations

import importlib

import click

from zeropoint.cli import COMMANDS

__all__ = ["BUTLER_COMMANDS", "commands"]

#: Those of our commands that concern a repository alone.
BUTLER_COMMANDS = (
    "create-repo",
    "register-camera",
    "ingest-images",
    "ingest-references",
    "ingest-throughputs",
    "make-skymap",
)


def commands() -> list[click.Command]:
    """Return the sub-commands; their modules load nothing heavy until one runs."""
    found = []
    for name in BUTLER_COMMANDS:
        module, attribute, _ = COMMANDS[name]
        found.append(getattr(importlib.import_module(module), attribute))
    return found

"""Mask and variance files that accompany images under names that the camera card gives."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard
from zeropoint.instruments.values import ImageContext

__all__ = ["companion_file", "without_companions"]

_ENTRIES = ("mask", "variance")


def companion_file(context: ImageContext, entry: str) -> Path | None:
    """Return the file that holds an image's mask or variance, which may be its own.

    Parameters
    ----------
    context
        The image.
    entry
        ``mask`` or ``variance``.

    Returns
    -------
    path
        None where the card has no such entry, or the file is optional and does not exist.

    Raises
    ------
    InvalidInputError
        If it does not exist.
    """
    spec = context.card.get(entry)
    if not spec:
        return None
    path = Path(context.expand(str(spec["file"]))) if "file" in spec else context.path
    if path.exists():
        return path
    if spec.get("optional"):
        return None
    raise InvalidInputError(
        f"{context.path}: the {entry} file {path} does not exist; put it there, or set {entry}.optional in the "
        "camera card."
    )


def without_companions(files: Sequence[Path], card: CameraCard) -> tuple[list[Path], list[Path]]:
    """Tell images from the mask and variance files that a shell's ``*`` gave with them.

    A companion is a file that belongs to another one of those given, or whose name is that of companions and that has
    none itself.

    Parameters
    ----------
    files
        Absolute paths.
    card
        The camera card.

    Returns
    -------
    images, companions
        In the order given.
    """
    patterns = [str(spec["file"]) for entry in _ENTRIES if "file" in (spec := card.get(entry) or {})]
    if not patterns:
        return list(files), []
    names = [_expression(pattern) for pattern in patterns]
    own = {path: _companions(path, card, patterns) for path in files}
    of_others = {companion for paths in own.values() for companion in paths}
    images: list[Path] = []
    companions: list[Path] = []
    for path in files:
        named_so = any(name.fullmatch(str(path)) for name in names)
        alone = named_so and not any(companion.exists() for companion in own[path])
        (companions if path in of_others or alone else images).append(path)
    return images, companions


def _companions(path: Path, card: CameraCard, patterns: list[str]) -> set[Path]:
    """Return the other files that the card names for one, whether they exist or not."""
    try:
        context = ImageContext(path, card, [])
        paths = {Path(os.path.abspath(context.expand(pattern))) for pattern in patterns}
    except InvalidInputError:
        # its name is not one of the camera's images
        return set()
    return paths - {path}


def _expression(pattern: str) -> re.Pattern[str]:
    """Return what the absolute paths of a pattern's files look like."""
    # the parent of any directory is any directory
    while "{dir}/.." in pattern:
        pattern = pattern.replace("{dir}/..", "{dir}")
    if not pattern.startswith("{"):
        pattern = os.path.abspath(pattern)
    parts = re.split(r"(\{[^{}]*\})", pattern)
    return re.compile(
        "".join(
            ".*" if part == "{dir}" else "[^/]+" if part.startswith("{") else re.escape(part)
            for part in parts
        )
    )

"""Where commands write to: looked at before the work, not after it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from zeropoint.errors import InvalidInputError

__all__ = ["require_writable"]


def require_writable(folder: Path, what: str) -> None:
    """Check that files can be written to a folder, which need not be there yet.

    Parameters
    ----------
    folder
        The folder.
    what
        How the user named it, for the message.

    Raises
    ------
    InvalidInputError
        If it, or the nearest folder above it that is there, is no folder, or takes no files.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise InvalidInputError(f"{what}: {there} is no folder; choose another one, or move that file away.")
    try:
        # permissions do not tell of read-only file systems, nor root of any
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise InvalidInputError(
            f"{what}: {there} cannot be written to ({error.strerror}); choose another folder."
        ) from None

"""Calibrate astronomical survey images, from post-ISR pixels to a trusted zeropoint.

Importing the package loads nothing heavy: the version and the rooms are found on first use.
"""

from __future__ import annotations

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    """Resolve ``__version__`` lazily, since reading package metadata costs tens of milliseconds."""
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("zeropoint")
        except PackageNotFoundError:
            return "0+unknown"
    raise AttributeError(f"module 'zeropoint' has no attribute {name!r}")

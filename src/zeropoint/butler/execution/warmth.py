"""Whether the compiled kernels of the package are cached on disk already."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["cache_folders", "kernels_are_cold"]


def cache_folders() -> set[Path]:
    """Return the folders in which the kernels of all modules that are loaded are cached."""
    return {Path(path) for _, path in _caches()}


def kernels_are_cold() -> bool:
    """Say whether most of the kernel modules that are loaded have no compiled kernel cached."""
    modules: dict[str, bool] = {}
    for module, path in _caches():
        stem = module.rpartition(".")[2]
        modules[module] = any(Path(path).glob(f"{stem}.*.nbi"))
    return bool(modules) and sum(modules.values()) * 2 < len(modules)


def _caches() -> Iterator[tuple[str, str]]:
    """Yield module name and cache folder of each kernel that is loaded and cached."""
    for name, module in list(sys.modules.items()):
        if not name.startswith("zeropoint."):
            continue
        for value in list(vars(module).values()):
            statistics: Any = getattr(value, "stats", None)
            path = getattr(statistics, "cache_path", None)
            if path and getattr(value, "__module__", None) == name:
                yield name, path

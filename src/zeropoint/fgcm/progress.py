"""How long steps tell how far they are."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["OnProgress"]

#: Called with what is being done, how much of it is done, and how much there is.
type OnProgress = Callable[[str, int, int], None]

"""The commands' log on stderr: every line of an image's calibration names the image."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["about_image", "quiet_middleware", "start_logging"]

_IMAGE: ContextVar[str] = ContextVar("image", default="")


class _ImageFormatter(logging.Formatter):
    """Put the current image before messages that do not begin with it, whichever step they come from."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line without a traceback."""
        image = _IMAGE.get()
        if image and not record.message.startswith(f"{image}:"):
            record.message = f"{image}: {record.message}"
        return super().formatMessage(record)


@contextmanager
def about_image(label: str) -> Iterator[None]:
    """Name the image that what is logged meanwhile is about."""
    token = _IMAGE.set(label)
    try:
        yield
    finally:
        _IMAGE.reset(token)


def start_logging(level: str) -> None:
    """Send the log to stderr from a level on, ours and other packages'."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_ImageFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("zeropoint").setLevel(level)


def quiet_middleware() -> None:
    """Keep the middleware from telling what it misses and nobody needs: a tool of the compiled stack, and pandas."""
    for name in ("lsst.utils.packages", "lsst.daf.butler._storage_class"):
        logging.getLogger(name).setLevel(logging.ERROR)

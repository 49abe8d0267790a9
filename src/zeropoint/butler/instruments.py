"""Instrument classes for the middleware, one for every camera card.

The registry keeps the name of a class per instrument, and every worker imports it. Cameras are YAML, so the classes
are made on demand: ``zeropoint.butler.instruments.NAME`` is the class of the instrument ``NAME``, whatever the name.
"""

from __future__ import annotations

import functools
import re
from typing import Any, ClassVar

from lsst.daf.butler import DataId, FormatterV2, Registry
from lsst.pipe.base import Instrument

from zeropoint.errors import InvalidInputError

__all__ = ["CardInstrument", "check_instrument_name", "class_name"]

# the registry's limits are 32 characters for the name, 64 for the class name
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")


class CardInstrument(Instrument):
    """An instrument that a camera card describes; sub-classes add the name."""

    name: ClassVar[str]

    @classmethod
    def getName(cls) -> str:
        """Return the instrument's name."""
        return cls.name

    def register(self, registry: Registry, *, update: bool = False) -> None:
        """Register a built-in camera's instrument, filters and visit systems.

        Parameters
        ----------
        registry
            Writeable.
        update
            Replace records that differ.

        Raises
        ------
        InvalidInputError
            If the camera is not a built-in one: then only `zeropoint.butler.cameras.register_camera`, which is given
            the card, can register it.
        """
        from zeropoint.butler.cameras import register_records
        from zeropoint.instruments.card import BUILTIN_CARDS, load_card

        for card in map(load_card, BUILTIN_CARDS):
            if card.get("instrument") == self.name:
                with registry.transaction():
                    register_records(registry, card, update=update)
                return
        raise InvalidInputError(
            f"Instrument {self.name} is not one of the built-in cameras: register it from its camera card with "
            "`zeropoint register-camera REPO CARD`."
        )

    def getRawFormatter(self, dataId: DataId) -> type[FormatterV2]:
        """Return the formatter that reads a camera's own files."""
        from zeropoint.butler.formatters import CardImageFormatter

        return CardImageFormatter


def check_instrument_name(name: Any, source: str) -> str:
    """Return an instrument name if a repository can have it.

    Parameters
    ----------
    name
        A card's ``instrument``.
    source
        The card, for messages.

    Raises
    ------
    InvalidInputError
        If it is not a constant, or not a name.
    """
    if not isinstance(name, str):
        found = "none" if name is None else "one that changes from image to image"
        raise InvalidInputError(
            f"Camera card {source}: a repository needs a fixed instrument name, and the card has {found}; write a card "
            f"with `extends: {source.removesuffix(' (built in)')}` and `instrument: NAME`."
        )
    if not _NAME.fullmatch(name) or name in globals():
        raise InvalidInputError(
            f"Camera card {source}: instrument {name!r} cannot be a name in a repository; use a letter and up to 31 "
            "letters, digits, _ or -."
        )
    return name


def class_name(instrument: str) -> str:
    """Return the full name of an instrument's class, as the registry keeps it."""
    return f"{__name__}.{instrument}"


@functools.cache
def _card_instrument(name: str) -> type[CardInstrument]:
    return type(
        name, (CardInstrument,), {"name": name, "__module__": __name__, "__doc__": f"The camera {name}."}
    )


def __getattr__(name: str) -> type[CardInstrument]:
    if not _NAME.fullmatch(name):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _card_instrument(name)

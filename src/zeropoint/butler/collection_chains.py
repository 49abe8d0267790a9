"""The collections that every command agrees on, and the chains that lead to them."""

from __future__ import annotations

from lsst.daf.butler import Butler, CollectionType, MissingCollectionError

from zeropoint.errors import InvalidInputError

__all__ = [
    "REFCATS_CHAIN",
    "SKYMAPS_RUN",
    "add_to_chain",
    "calib_collection",
    "card_run",
    "defaults_chain",
    "images_run",
    "refcat_run",
    "update_defaults",
]

#: Chain of all reference catalogues.
REFCATS_CHAIN = "refcats"
#: Run of all sky maps.
SKYMAPS_RUN = "skymaps"


def refcat_run(name: str) -> str:
    """Return the run of a reference catalogue."""
    return f"{REFCATS_CHAIN}/{name}"


def images_run(instrument: str) -> str:
    """Return the run of an instrument's post-ISR images."""
    return f"{instrument}/post_isr"


def card_run(instrument: str) -> str:
    """Return the run of an instrument's camera card."""
    return f"{instrument}/card"


def calib_collection(instrument: str) -> str:
    """Return the collection of an instrument's calibrations, which are valid for some time or for ever."""
    return f"{instrument}/calib"


def defaults_chain(instrument: str) -> str:
    """Return the chain of all inputs of an instrument's pipelines."""
    return f"{instrument}/defaults"


def update_defaults(butler: Butler, *instruments: str) -> None:
    """Make or complete the chain of all inputs of instruments' pipelines.

    Parameters
    ----------
    butler
        Writeable.
    instruments
        Names; default: all registered ones.

    Notes
    -----
    What a chain holds beyond images, card, reference catalogues and sky maps stays in it, in its place.
    """
    names = instruments or [record.name for record in butler.registry.queryDimensionRecords("instrument")]
    if not names:
        return
    butler.collections.register(REFCATS_CHAIN, CollectionType.CHAINED)
    butler.collections.register(SKYMAPS_RUN, CollectionType.RUN)
    for name in names:
        for run in (images_run(name), card_run(name)):
            butler.collections.register(run, CollectionType.RUN)
        for child in (images_run(name), card_run(name), REFCATS_CHAIN, SKYMAPS_RUN):
            add_to_chain(butler, defaults_chain(name), child)


def add_to_chain(butler: Butler, chain: str, child: str) -> bool:
    """Append a collection to a chain, which is made if it does not exist; return whether anything changed.

    Raises
    ------
    InvalidInputError
        If a collection of that name is no chain.
    """
    try:
        info = butler.collections.get_info(chain)
    except MissingCollectionError:
        butler.collections.register(chain, CollectionType.CHAINED)
        info = butler.collections.get_info(chain)
    if info.type is not CollectionType.CHAINED:
        raise InvalidInputError(
            f"Collection {chain} is a {info.type.name}, where a chain is needed; rename or remove it."
        )
    if child in info.children:
        return False
    butler.collections.extend_chain(chain, child)
    return True

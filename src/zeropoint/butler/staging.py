"""What is done for each file on its way into a repository; importable by worker processes."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lsst.daf.butler import Butler

from zeropoint.butler.image_facts import ImageFacts, read_facts
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard

__all__ = ["SOURCE_KEY", "StagedFile", "read_facts_or_problem", "stage", "staging_folder"]

#: Metadata key of a copied image that says which file it was made from.
SOURCE_KEY = "ingest.source"
_STAGING, _LOCK = ".ingest-", ".lock"
_IN_PLACE = "zeropoint.butler.formatters.CardImageFormatter"
_IMAGE = "zeropoint.butler.formatters.VisitImageFormatter"


@dataclass(frozen=True)
class StagedFile:
    """A file to ingest and the formatter that reads it."""

    file: Path
    formatter: str


def read_facts_or_problem(path: Path, card: CameraCard) -> ImageFacts | str:
    """Return an image's facts, or what is wrong with it."""
    try:
        return read_facts(path, card)
    except InvalidInputError as error:
        text = str(error)
    except OSError as error:
        text = f"{path}: cannot be read ({error.strerror or error})."
    except Exception as error:  # what one file does to a library must not keep the others out
        text = f"{path}: unexpected {type(error).__name__}: {' '.join(str(error).split())}"
    return text if str(path) in text else f"{path}: {text}"


def stage(facts: ImageFacts, card: CameraCard, folder: Path, transfer: str) -> StagedFile | str:
    """Write the file that stands for an image in the repository, or say what is wrong.

    Parameters
    ----------
    facts
        The image.
    card
        Its camera card.
    folder
        For temporary files.
    transfer
        ``direct``: a descriptor; ``copy``: a visit image.  Visit images stand for themselves.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    if facts.observation is None:
        return StagedFile(facts.path, _IMAGE)
    stem = f"{facts.exposure}-{facts.detector}"
    try:
        if transfer == "direct":
            from zeropoint.butler.descriptor import CardDescriptor

            file = folder / f"{stem}.json"
            file.write_text(CardDescriptor.of(facts.observation, card).to_json())
            return StagedFile(file, _IN_PLACE)
        file = folder / f"{stem}.fits"
        _convert(facts.path, card, file)
        return StagedFile(file, _IMAGE)
    except InvalidInputError as error:
        return str(error)


def _convert(path: Path, card: CameraCard, file: Path) -> None:
    from lsst.images.serialization import write_archive

    from zeropoint.datamodel.header_cards import add_ordinary_cards
    from zeropoint.instruments.reader import load_image
    from zeropoint.recipes.post_isr import post_isr_image

    image = post_isr_image(load_image(path, card))
    image.metadata[SOURCE_KEY] = str(path)
    write_archive(image, str(file), update_header=lambda header: add_ordinary_cards(header, image))


@contextlib.contextmanager
def staging_folder(butler: Butler) -> Iterator[Path]:
    """Give a folder for files on their way into the datastore, on its file system if it is a local one.

    Folders that processes which were killed left behind are removed: nobody holds the lock in them any more.
    """
    roots = [root for root in butler.get_datastore_roots().values() if root is not None and root.isLocal]
    parent = Path(roots[0].ospath) if roots else Path(tempfile.gettempdir())
    for lock in parent.glob(f"{_STAGING}*/{_LOCK}"):
        with contextlib.suppress(OSError), lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_STAGING, dir=parent))
    try:
        with (folder / _LOCK).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)

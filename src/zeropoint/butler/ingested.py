"""What is known of images that a repository holds already."""

from __future__ import annotations

import filecmp
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lsst.daf.butler import Butler, DatasetRef
from lsst.resources import ResourcePath

from zeropoint.butler.cameras import card_content
from zeropoint.butler.descriptor import CardDescriptor
from zeropoint.butler.image_facts import ImageFacts
from zeropoint.butler.staging import SOURCE_KEY
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard

__all__ = ["Ingested", "ingested_images"]


@dataclass(frozen=True)
class Ingested:
    """An image in the repository.

    Parameters
    ----------
    ref
        Its dataset.
    source
        The file it was ingested from; the datastore's own where that is not known.
    descriptor
        Of an image that is read in place.
    """

    ref: DatasetRef
    source: Path
    descriptor: CardDescriptor | None

    @classmethod
    def of(cls, butler: Butler, ref: DatasetRef) -> Ingested:
        """Find out where a dataset came from."""
        uri = butler.getURI(ref)
        if uri.getExtension() == ".json":
            with uri.as_local() as local:
                descriptor = CardDescriptor.read(local.ospath)
            return cls(ref, descriptor.path, descriptor)
        return cls(ref, _archive_source(uri), None)

    @staticmethod
    def identity_in(butler: Butler, dataset_type: str, run: str) -> dict[str, str]:
        """Return the header keywords that tell cameras apart, of one image that is read in place, if there is one."""
        for ref in butler.query_datasets(dataset_type, collections=run, limit=1, explain=False):
            descriptor = Ingested.of(butler, ref).descriptor
            if descriptor is not None:
                return descriptor.identity
        return {}

    def source_exists(self) -> bool:
        """Say whether the file it came from is still there."""
        return self.source.exists()

    def is_of(self, path: Path) -> bool:
        """Say whether it was made from a file, or is a copy of it."""
        if path == self.source:
            return True
        if not self.source_exists():
            return False
        if self.source.samefile(path):
            return True
        return self.descriptor is None and filecmp.cmp(self.source, path, shallow=False)

    def stale_reason(self, facts: ImageFacts, card: CameraCard) -> str:
        """Return in which way it differs from what would be ingested now; empty if in none."""
        if self.descriptor is None:
            return ""
        if card_content(self.descriptor.card)["data"] != card_content(card)["data"]:
            return "with another version of the camera card"
        observation = facts.observation
        if observation is not None and observation.header_digest != self.descriptor.header_digest:
            return "and changed since"
        return ""


def ingested_images(
    butler: Butler, dataset_type: str, run: str, facts: Sequence[ImageFacts]
) -> dict[tuple[int, int], Ingested]:
    """Return the images in a run that have the exposure and detector of some files, by these two numbers."""
    wanted = {(each.exposure, each.detector) for each in facts}
    result: dict[tuple[int, int], Ingested] = {}
    exposures = sorted({exposure for exposure, _ in wanted})
    for start in range(0, len(exposures), 500):
        refs = butler.query_datasets(
            dataset_type,
            collections=run,
            instrument=facts[0].instrument,
            where="exposure IN (numbers)",
            bind={"numbers": exposures[start : start + 500]},
            limit=None,
            explain=False,
        )
        for ref in refs:
            key = (int(ref.dataId["exposure"]), int(ref.dataId["detector"]))
            if key in wanted:
                result[key] = Ingested.of(butler, ref)
    return result


def _archive_source(uri: ResourcePath) -> Path:
    """Return the file that a stored visit image was made from, else its own."""
    from lsst.images import VisitImage
    from lsst.images.serialization import open_archive

    path = Path(uri.ospath) if uri.isLocal else Path(str(uri))
    try:
        with open_archive(uri, cls=VisitImage, partial=True) as reader:
            source = reader.get_tree().metadata.get(SOURCE_KEY)
    except Exception as error:
        raise InvalidInputError(f"{path}: is in the repository but cannot be read ({error}).") from None
    return path if source is None else Path(str(source))

"""Descriptors of camera images that are read in place: what a repository stores instead of their pixels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeropoint.butler.cameras import card_content
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard
from zeropoint.instruments.image_file import open_headers
from zeropoint.instruments.observation_file import Observation, header_digest, read_observation
from zeropoint.instruments.reader import LoadedImage, load_image

__all__ = ["CardDescriptor"]

_FORMAT = "zeropoint-card-image"
_VERSION = 1


@dataclass(frozen=True)
class CardDescriptor:
    """Where a camera's image is and how to read it.

    Parameters
    ----------
    path
        The image, absolute.
    card
        The camera card it is read with.
    exposure, visit, detector
        Its numbers.
    size, mtime_ns, header_digest
        Length, time of modification and hash of the headers of the file that was ingested.
    identity
        Header keywords that tell cameras apart.
    """

    path: Path
    card: CameraCard
    exposure: int
    visit: int
    detector: int
    size: int
    mtime_ns: int
    header_digest: str
    identity: dict[str, str]

    @classmethod
    def of(cls, observation: Observation, card: CameraCard) -> CardDescriptor:
        """Describe an image that was just read."""
        path = observation.path.absolute()
        status = path.stat()
        info = observation.visit_info
        return cls(
            path,
            card,
            info.exposure,
            info.visit,
            observation.detector.id,
            status.st_size,
            status.st_mtime_ns,
            observation.header_digest,
            observation.identity,
        )

    @classmethod
    def read(cls, file: str | Path) -> CardDescriptor:
        """Read a descriptor.

        Raises
        ------
        InvalidInputError
            If the file is not one, or one of a later version.
        """
        try:
            data = json.loads(Path(file).read_text())
            known = data["format"] == _FORMAT
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise InvalidInputError(f"{file}: is not a descriptor of a camera image.")
        if data["version"] > _VERSION:
            raise InvalidInputError(
                f"{file}: was written by a later version of zeropoint (descriptor version {data['version']}); upgrade."
            )
        card = CameraCard(data["card_name"], data["card_source"], data["card"])
        numbers = {name: int(data[name]) for name in ("exposure", "visit", "detector", "size", "mtime_ns")}
        return cls(
            Path(data["path"]),
            card,
            header_digest=data["header_digest"],
            identity=dict(data["identity"]),
            **numbers,
        )

    def to_json(self) -> str:
        """Return the descriptor's text."""
        content = card_content(self.card)
        data: dict[str, Any] = {
            "format": _FORMAT,
            "version": _VERSION,
            "path": str(self.path),
            "exposure": self.exposure,
            "visit": self.visit,
            "detector": self.detector,
            "size": self.size,
            "mtime_ns": self.mtime_ns,
            "header_digest": self.header_digest,
            "identity": self.identity,
            "card_name": content["name"],
            "card_source": content["source"],
            "card": content["data"],
        }
        return json.dumps(data, indent=1)

    def load(self) -> LoadedImage:
        """Read the image.

        Raises
        ------
        InvalidInputError
            If it is missing, unusable, or no longer what was ingested.
        """
        self._check_file()
        loaded = load_image(self.path, self.card)
        info = loaded.exposure.visit_info
        self._check_numbers(info.exposure, info.visit, loaded.exposure.detector.id)
        return loaded

    def observation(self) -> Observation:
        """Read what the image's headers say; errors are those of `load`."""
        self._check_file()
        observation = read_observation(self.path, self.card)
        info = observation.visit_info
        self._check_numbers(info.exposure, info.visit, observation.detector.id)
        return observation

    def _check_file(self) -> None:
        try:
            status = self.path.stat()
        except OSError as error:
            raise InvalidInputError(
                f"{self.path}: cannot be read ({error.strerror}); it was ingested in place: put it back, or ingest it from "
                "where it is now with `zeropoint ingest-images --update`."
            ) from None
        if status.st_size == self.size and status.st_mtime_ns == self.mtime_ns:
            return
        if status.st_size != self.size or header_digest(self._headers()) != self.header_digest:
            self._fail_changed("its length" if status.st_size != self.size else "its header")

    def _headers(self) -> Any:
        return open_headers(self.path, self.card)[0]

    def _check_numbers(self, exposure: int, visit: int, detector: int) -> None:
        if (exposure, visit, detector) != (self.exposure, self.visit, self.detector):
            self._fail_changed("the number of its exposure, visit or detector")

    def _fail_changed(self, what: str) -> None:
        raise InvalidInputError(
            f"{self.path}: has changed since it was ingested ({what}); ingest it again with "
            "`zeropoint ingest-images --update`."
        )

"""The manifest of a built reference catalogue: what it was made from, its columns, and every shard's checksum."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from zeropoint.errors import InvalidInputError

__all__ = [
    "BUILD_FOLDER",
    "MANIFEST",
    "Manifest",
    "ShardEntry",
    "read_manifest",
    "sha256_of",
    "verify_shards",
]

#: File that makes a directory a complete catalogue.
MANIFEST = "manifest.json"
#: Directory that exists while a catalogue is being built.
BUILD_FOLDER = ".build"
_FORMAT = "zeropoint reference catalogue 1"


class ShardEntry(NamedTuple):
    """One shard; a tuple, because a catalogue of the whole sky has 131,072.

    Parameters
    ----------
    trixel
        Index of its trixel.
    rows, bytes
        Its size.
    sha256
        Checksum of the file.
    """

    trixel: int
    rows: int
    bytes: int
    sha256: str

    @property
    def file_name(self) -> str:
        """Name of the file."""
        return f"{self.trixel}.parquet"

    def check(self, folder: Path, *, content: bool) -> str | None:
        """Return what is wrong with the file, or None.

        Parameters
        ----------
        folder
            The catalogue.
        content
            Compare the checksum, not only the size.
        """
        path = folder / self.file_name
        if not path.is_file():
            return f"{path}: is missing"
        size = path.stat().st_size
        if size != self.bytes:
            return f"{path}: has {size} bytes instead of {self.bytes}"
        if content and sha256_of(path) != self.sha256:
            return f"{path}: its content does not match its checksum"
        return None


@dataclass(frozen=True)
class Manifest:
    """What a directory of shards holds.

    Parameters
    ----------
    name
        Name of the catalogue.
    depth
        Depth of the trixels.
    format_version
        Rubin's: 1, or 2 with covariances.
    n_rows, n_dropped, n_duplicates
        Rows kept, left out for want of a position, and left out because the same object was there already.
    n_repeated_ids
        Rows that share their id, but not their position, with another one.
    bands
        Band -> number of rows with a flux.
    has_proper_motion, has_epoch
        Whether positions can be moved to another epoch; whether there is an epoch at all.
    columns
        Standard column -> its unit, and the column of the input that it was made from and how.
    plan
        What was to be built: inputs with sizes and dates of change, column map and the like.
    shards
        The shards by trixel.
    sha256
        Checksum of the shards' checksums.
    zeropoint
        Version of this package that wrote it.
    """

    name: str
    depth: int
    format_version: int
    n_rows: int
    n_dropped: int
    n_duplicates: int
    n_repeated_ids: int
    bands: Mapping[str, int]
    has_proper_motion: bool
    has_epoch: bool
    columns: Mapping[str, Mapping[str, Any]]
    plan: Mapping[str, Any]
    shards: tuple[ShardEntry, ...]
    sha256: str
    zeropoint: str

    @property
    def n_bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.bytes for shard in self.shards)

    def write(self, folder: Path) -> None:
        """Write the manifest; it appears at once."""
        content = asdict(self) | {"shards": {}}
        content = {"format": _FORMAT} | content
        lines = [
            f'"{one.trixel}": {json.dumps({"rows": one.rows, "bytes": one.bytes, "sha256": one.sha256})}'
            for one in self.shards
        ]
        text = json.dumps(content, indent=1)
        shards = "{\n  " + ",\n  ".join(lines) + "\n }" if lines else "{}"
        scratch = folder / f".{MANIFEST}.tmp"
        scratch.write_text(text.replace('"shards": {}', f'"shards": {shards}', 1) + "\n")
        scratch.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a directory, or None if it has none.

    Raises
    ------
    InvalidInputError
        If the manifest is broken or of another kind, or the catalogue is not complete.
    """
    path = folder / MANIFEST
    if not path.is_file():
        if (folder / BUILD_FOLDER).is_dir():
            raise InvalidInputError(
                f"{folder}: holds a reference catalogue that was not built to its end; run the same `zeropoint "
                "references build` again, which goes on where it stopped."
            )
        return None
    try:
        content = json.loads(path.read_text())
        if content.pop("format") != _FORMAT:
            raise ValueError("unknown format")
        shards = tuple(
            ShardEntry(int(trixel), entry["rows"], entry["bytes"], entry["sha256"])
            for trixel, entry in content.pop("shards").items()
        )
        manifest = Manifest(shards=shards, **content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInputError(
            f"{path}: is not the manifest of a reference catalogue, or it is damaged ({error}); build the catalogue "
            "again."
        ) from error
    if manifest.sha256 != checksum(shards):
        raise InvalidInputError(f"{path}: its checksums do not fit together; build the catalogue again.")
    return manifest


def checksum(shards: Sequence[ShardEntry]) -> str:
    """Return the checksum of shards' checksums."""
    return hashlib.sha256("".join(f"{one.trixel}:{one.sha256}\n" for one in shards).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_shards(
    folder: Path, manifest: Manifest, on_shard: Callable[[int, int], object] | None = None
) -> Iterator[str]:
    """Read every shard and compare it with its checksum.

    Parameters
    ----------
    folder
        The catalogue.
    manifest
        Its manifest.
    on_shard
        Called with the number of shards read so far, and of all.

    Yields
    ------
    str
        What is wrong with a shard.
    """
    for k, shard in enumerate(manifest.shards, start=1):
        problem = shard.check(folder, content=True)
        if problem is not None:
            yield problem
        if on_shard is not None:
            on_shard(k, len(manifest.shards))

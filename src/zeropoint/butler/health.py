"""Is this machine, and is this repository, fit for work? One finding for each thing looked at."""

from __future__ import annotations

import io
import os
import platform
import shutil
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lsst.daf.butler import Butler

__all__ = ["Finding", "check_machine", "check_repository"]

#: Memory that one worker needs for a 4k x 4k image, in bytes.
_MEMORY_PER_WORKER = 1_500_000_000
_MIN_FREE_DISK = 5_000_000_000
#: File systems on which SQLite's locks cannot be relied on.
_NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "lustre", "cifs", "smb3", "fuse.sshfs", "beegfs", "gpfs", "ceph")


@dataclass(frozen=True)
class Finding:
    """Something that was looked at.

    Attributes
    ----------
    level
        ``ok``; ``warning``: works, with what the text says; ``problem``: will not work.
    text
        What was found.
    advice
        What to do about it.
    """

    level: Literal["ok", "warning", "problem"]
    text: str
    advice: str = ""


def check_machine() -> Iterator[Finding]:
    """Yield what is found about Python, packages, kernel cache, cores and memory."""
    yield _check_python()
    yield _check_zip()
    yield from _check_packages()
    yield _check_byte_code()
    yield from _check_kernels()
    yield _check_cores()


def check_repository(path: str) -> Iterator[Finding]:
    """Yield what is found about a repository."""
    from zeropoint.butler.repository import open_repository
    from zeropoint.errors import InvalidInputError

    try:
        butler = open_repository(path)
    except InvalidInputError as error:
        yield Finding("problem", str(error))
        return
    with butler:
        yield Finding("ok", f"{path}: opens, and has the storage classes of our datasets")
        yield from _check_pipeline(butler)
        yield from _check_formatters(butler, path)
        names = sorted(str(record.name) for record in butler.registry.queryDimensionRecords("instrument"))
        if names:
            yield Finding("ok", f"instruments: {', '.join(names)}")
        else:
            yield Finding("warning", "no instrument", f"zeropoint register-camera {path} CARD")
        yield from _check_roots(butler, path)
        yield from _check_interrupted(butler)


def _check_python() -> Finding:
    return Finding("ok", f"Python {platform.python_version()}")


def zip_seeks_correctly() -> bool:
    """Say whether this Python's zipfile keeps the places of two members apart that are read in turns.

    Some patch releases move one member's place from where the other one was left.
    """
    first, second = bytes(20000), b"\1" * 20000
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        file.writestr("first", first)
        file.writestr("second", second)
    with zipfile.ZipFile(archive) as file, file.open("first") as one, file.open("second") as other:
        one.read(10)
        other.read(10)
        one.seek(10000)
        return one.read(10) == first[10000:10010]


def _check_zip() -> Finding:
    if zip_seeks_correctly():
        return Finding("ok", "zipfile reads two members in turns, as graph files need")
    return Finding(
        "warning",
        f"zipfile of Python {platform.python_version()} confuses members that are read in turns: "
        "`butler aggregate-graph`, the last job of `bps submit`, fails for graphs beyond some 150 quanta",
        "use a newer patch release of Python for BPS; `zeropoint run` and `pipetask` are not affected",
    )


def _check_packages() -> Iterator[Finding]:
    """Compare what is installed with what the package declares."""
    from packaging.requirements import Requirement

    wrong = 0
    for text in metadata.requires("zeropoint") or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong += 1
            yield Finding("problem", f"{requirement.name} is missing", f"pip install '{requirement}'")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong += 1
            reason = ": with this release, images cannot be read back" if requirement.name == "piff" else ""
            yield Finding(
                "problem",
                f"{requirement.name} {version}, where {requirement.specifier} is needed{reason}",
                f"pip install '{requirement.name}{requirement.specifier}'",
            )
    if not wrong:
        yield Finding("ok", f"packages: lsst-pipe-base {metadata.version('lsst-pipe-base')}, all as declared")


def _check_byte_code() -> Finding:
    import lsst.pipe.base

    cached = lsst.pipe.base.__cached__
    if sys.dont_write_bytecode and not (cached and Path(cached).exists()):
        return Finding(
            "warning",
            "packages are not byte-compiled and PYTHONDONTWRITEBYTECODE is set: every process starts slowly",
            "unset it, or install with `uv pip install --compile-bytecode`",
        )
    return Finding("ok", "packages are byte-compiled")


def _check_kernels() -> Iterator[Finding]:
    import zeropoint.recipes.calibrate_image  # noqa: F401  (loads the kernels)
    from zeropoint.butler.execution.warmth import cache_folders, kernels_are_cold

    folders = cache_folders()
    if not folders:
        yield Finding(
            "warning",
            "compiled kernels are not cached: every process compiles them for a minute or two",
            "unset ZEROPOINT_KERNEL_CACHE and NUMBA_DISABLE_JIT",
        )
        return
    unwritable = sorted(str(folder) for folder in folders if not _can_write(folder))
    if unwritable:
        yield Finding(
            "problem",
            f"kernel cache {unwritable[0]} cannot be written",
            "set NUMBA_CACHE_DIR to a folder that can, for instance ~/.cache/numba",
        )
    elif kernels_are_cold():
        yield Finding("ok", "kernel cache: writable, still empty; the first image takes a minute or two more")
    else:
        yield Finding("ok", "kernel cache: writable, filled")


def _can_write(folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK)


def _check_cores() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    workers = max(1, min(cores, int(memory / _MEMORY_PER_WORKER)))
    text = f"{cores} cores, {memory / 1e9:.0f} GB: up to -j {workers} for 4k images"
    return Finding("ok" if memory > _MEMORY_PER_WORKER else "warning", text)


def _check_pipeline(butler: Butler) -> Iterator[Finding]:
    """Look whether the storage class of each dataset of the shipped pipeline can be used."""
    from importlib import resources

    from lsst.pipe.base import Pipeline

    path = resources.files("zeropoint.tasks") / "pipelines" / "calibrate.yaml"
    broken = set()
    for node in Pipeline.from_uri(str(path)).to_graph().tasks.values():
        for edge in (*node.iter_all_inputs(), *node.iter_all_outputs()):
            try:
                assert butler.storageClasses.getStorageClass(edge.storage_class_name).pytype is not None
            except (KeyError, ImportError, TypeError):
                broken.add(edge.storage_class_name)
    if broken:
        yield Finding(
            "problem",
            f"storage classes without a Python type here: {', '.join(sorted(broken))}",
            "compare the repository's butler.yaml with zeropoint/butler/seed.yaml",
        )
    else:
        yield Finding("ok", "all datasets of the calibrate pipeline can be stored")


def _check_formatters(butler: Butler, path: str) -> Iterator[Finding]:
    from zeropoint.butler.repository import missing_formatters

    for name, formatter in missing_formatters(butler).items():
        yield Finding(
            "warning",
            f"{path}/butler.yaml is older than {name}: a large one takes much memory to write and to read",
            f"add the line `{name}: {formatter}` to it, below datastore: formatters:",
        )


def _check_roots(butler: Butler, path: str) -> Iterator[Finding]:
    for root in butler.get_datastore_roots().values():
        if root is None or not root.isLocal:
            continue
        folder = Path(root.ospath)
        free = shutil.disk_usage(folder).free
        if not os.access(folder, os.W_OK):
            yield Finding("warning", f"{folder} cannot be written", "read-only use only")
        elif free < _MIN_FREE_DISK:
            yield Finding("warning", f"{free / 1e9:.1f} GB free in {folder}", "a 4k image takes some 0.1 GB")
        else:
            yield Finding("ok", f"{free / 1e9:.0f} GB free in {folder}")
        kind = _file_system(folder)
        if kind in _NETWORK_FILE_SYSTEMS and (folder / "gen3.sqlite3").exists():
            yield Finding(
                "warning",
                f"SQLite registry on a network file system ({kind})",
                "one machine at a time; for several, `zeropoint create-repo --db postgresql://...`",
            )


def _file_system(folder: Path) -> str:
    """Return the kind of file system that a folder is on, empty if that is not told."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    target = str(folder.resolve())
    fitting = [
        (where, kind)
        for where, kind in mounts
        if target == where or target.startswith(where.rstrip("/") + "/")
    ]
    return max(fitting, key=lambda pair: len(pair[0]))[1] if fitting else ""


def _check_interrupted(butler: Butler) -> Iterator[Finding]:
    from zeropoint.butler.execution.journal import interrupted_runs

    for run in interrupted_runs(butler):
        yield Finding(
            "warning",
            f"run {run} was interrupted: some finished outputs may not be registered",
            "give the same `zeropoint run` command again; it takes them up",
        )

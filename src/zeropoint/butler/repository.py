"""Create and open a Butler repository; what can be wrong with one is said in a sentence."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import NoReturn

from lsst.daf.butler import Butler, Config
from lsst.daf.butler.registry.versions import (
    IncompatibleVersionError,
    ManagerMismatchError,
    MissingManagerError,
)
from sqlalchemy.exc import SQLAlchemyError
from yaml import YAMLError

from zeropoint.butler.dataset_types import card_type, ensure_dataset_type, post_isr_type
from zeropoint.errors import InvalidInputError

__all__ = [
    "SEED_STORAGE_CLASSES",
    "create_repository",
    "missing_formatters",
    "open_repository",
    "seed_config",
]

#: Storage classes that `seed_config` declares.
SEED_STORAGE_CLASSES = ("ZpCamera", "ZpSkyMap")
#: Storage classes of the Butler's own for which `seed_config` names a formatter.
_SEED_FORMATTERS = ("BackgroundMap", "ImageField")
#: Dataset types for which it names one; without, they can be stored, if they are small.
_DATASET_FORMATTERS = ("fgcmLookUpTable",)
_SQLITE_FILE = "gen3.sqlite3"


def seed_config(*, lossy16: bool = False) -> Config:
    """Return what a repository of ours has beyond the Butler's defaults.

    Parameters
    ----------
    lossy16
        Quantise the pixels of calibrated images to a 16th of their noise (a quarter of the size); else lossless.
        Copies of post-ISR images are always lossless.
    """
    config = Config.fromString((resources.files("zeropoint.butler") / "seed.yaml").read_text())
    if lossy16:
        config["datastore", "formatters", "VisitImage"] = {
            "formatter": config["datastore", "formatters", "VisitImage"],
            "parameters": {"recipe": "lossy16"},
        }
        # what one puts in comes out unchanged
        config["datastore", "formatters", "post_isr_image"] = (
            "zeropoint.butler.formatters.VisitImageFormatter"
        )
    return config


def create_repository(
    path: str | Path, db: str | None = None, namespace: str | None = None, lossy16: bool = False
) -> bool:
    """Create a repository.

    Parameters
    ----------
    path
        New or empty directory.
    db
        SQLAlchemy URL of its registry, such as ``postgresql://user@host/database``; default: an SQLite file in the
        directory.
    namespace
        Schema in that database; one for each repository.
    lossy16
        See `seed_config`.

    Returns
    -------
    created : bool
        False if there is one already.

    Raises
    ------
    InvalidInputError
        If something else is in the way, the directory cannot be written or the database cannot be used. What was
        begun is removed.
    """
    root = Path(path)
    if (root / "butler.yaml").exists():
        _require_same(root, db, namespace, lossy16)
        open_repository(root).close()
        return False
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InvalidInputError(
            f"{root}: exists and is not a Butler repository; name a new or an empty directory."
        )
    config = seed_config(lossy16=lossy16)
    if db is not None:
        config["registry", "db"] = db
    if namespace is not None:
        config["registry", "namespace"] = namespace
    existed = root.exists()
    try:
        Butler.makeRepo(str(root), config)
        butler = Butler.from_config(str(root), writeable=True)
        for dataset_type in (card_type(butler.dimensions), post_isr_type(butler.dimensions)):
            ensure_dataset_type(butler, dataset_type)
        butler.close()
    except Exception as error:
        _remove(root, existed)
        _fail_to_create(root, db, error)
    except BaseException:
        _remove(root, existed)
        raise
    return True


def open_repository(path: str | Path, writeable: bool = False) -> Butler:
    """Open a repository and check that it can hold our datasets.

    Parameters
    ----------
    path
        Directory, URI, or an alias of the repository index.
    writeable
        Open for writing.

    Returns
    -------
    butler : lsst.daf.butler.Butler

    Raises
    ------
    InvalidInputError
        If there is none, it cannot be opened or written, or it lacks the storage classes of `seed_config`.
    """
    if writeable:
        _require_writeable(Path(path))
    try:
        with _without_log():
            butler = Butler.from_config(str(path), writeable=writeable)
    except FileNotFoundError as error:
        local = Path(path)
        if local.is_dir():
            raise InvalidInputError(
                f"{path}: is not a Butler repository (it has no butler.yaml); `zeropoint create-repo {path}` makes "
                "one of an empty directory."
            ) from None
        if (local / "butler.yaml").exists() or local.exists():
            raise InvalidInputError(f"{path}: cannot be opened: {error}.") from None
        raise InvalidInputError(
            f"{path}: no such repository; `zeropoint create-repo {path}` creates one."
        ) from None
    except SQLAlchemyError as error:
        raise InvalidInputError(f"{path}: the registry cannot be used: {_reason(error)}.") from None
    except (IncompatibleVersionError, ManagerMismatchError, MissingManagerError) as error:
        raise InvalidInputError(
            f"{path}: was made by another version of the Butler: {_reason(error)}; create a new repository."
        ) from None
    except ImportError as error:
        raise InvalidInputError(f"{path}: {_missing_driver(error)}.") from None
    except (RuntimeError, ValueError, OSError, KeyError, YAMLError) as error:
        raise InvalidInputError(f"{path}: is not a Butler repository: {_reason(error)}.") from None
    try:
        _require_universe(butler, path)
        _require_seed(butler, path)
    except InvalidInputError:
        butler.close()
        raise
    return butler


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Keep the Butler from logging a failure that is raised as well."""
    logger = logging.getLogger("lsst.daf.butler.direct_butler._direct_butler")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def _require_universe(butler: Butler, path: str | Path) -> None:
    universe = butler.dimensions
    needed = ("day_obs", "group", "exposure", "visit", "visit_system_membership", "visit_detector_region")
    missing = [name for name in needed if name not in universe.elements]
    if universe.namespace != "daf_butler" or missing:
        raise InvalidInputError(
            f"{path}: has dimensions {universe.namespace} version {universe.version}, where day_obs and group of "
            "daf_butler version 6 or later are needed; create a new repository, or migrate this one."
        )


def _require_seed(butler: Butler, path: str | Path) -> None:
    """Raise if datasets of ours could not be stored, naming what is missing."""
    config = Config(butler._config)  # type: ignore[attr-defined]  # the Butler has no public way to its configuration
    needed = {
        "storageClasses": SEED_STORAGE_CLASSES,
        "datastore/formatters": (*SEED_STORAGE_CLASSES, *_SEED_FORMATTERS),
    }
    missing = [
        f"{section}/{name}"
        for section, names in needed.items()
        for name in names
        if (*section.split("/"), name) not in config
    ]
    if missing:
        raise InvalidInputError(
            f"{path}: its configuration lacks {', '.join(missing)}, without which some of our datasets cannot be "
            f"stored; add the lines of {resources.files('zeropoint.butler') / 'seed.yaml'} to {path}/butler.yaml."
        )


def missing_formatters(butler: Butler) -> dict[str, str]:
    """Return the dataset types for which a repository, made when they were unknown, names no formatter: which it should.

    Parameters
    ----------
    butler
        Repository.
    """
    config = Config(butler._config)  # type: ignore[attr-defined]  # the Butler has no public way to its configuration
    place = ("datastore", "formatters")
    wanted = seed_config()[place]
    return {name: str(wanted[name]) for name in _DATASET_FORMATTERS if (*place, name) not in config}


def _require_writeable(path: Path) -> None:
    """Raise if a local repository cannot be written; others tell when it is tried."""
    root = path.parent if path.suffix == ".yaml" else path
    for place in (root, root / _SQLITE_FILE) if (root / "butler.yaml").exists() else ():
        if place.exists() and not os.access(place, os.W_OK):
            raise InvalidInputError(f"{place}: cannot be written; the repository is read-only for you.")


def _require_same(root: Path, db: str | None, namespace: str | None, lossy16: bool) -> None:
    """Raise if a repository exists with other options than those asked for."""
    config = Config(str(root / "butler.yaml"))
    asked = {("registry", "db"): db, ("registry", "namespace"): namespace}
    differs = [
        "/".join(key) for key, value in asked.items() if value is not None and config.get(key) != value
    ]
    if lossy16 and config.get(("datastore", "formatters", "VisitImage")) != seed_config(lossy16=True).get(
        ("datastore", "formatters", "VisitImage")
    ):
        differs.append("datastore/formatters/VisitImage")
    if differs:
        raise InvalidInputError(
            f"{root}: a repository exists there already with another {' and '.join(differs)}; see "
            f"{root / 'butler.yaml'}."
        )


def _remove(root: Path, existed: bool) -> None:
    """Remove what a failed creation left behind."""
    if not root.is_dir():
        return
    if existed:
        for name in ("butler.yaml", _SQLITE_FILE):
            (root / name).unlink(missing_ok=True)
    else:
        shutil.rmtree(root, ignore_errors=True)


def _fail_to_create(root: Path, db: str | None, error: Exception) -> NoReturn:
    if isinstance(error, ImportError):
        raise InvalidInputError(f"{root}: {_missing_driver(error)}.") from None
    if isinstance(error, SQLAlchemyError) or (db is not None and not isinstance(error, OSError)):
        hint = ""
        if db is not None and db.startswith("postgresql"):
            hint = (
                "; the database must exist, and its owner must have run `create extension btree_gist` in it"
            )
        raise InvalidInputError(
            f"{root}: the registry {db or _SQLITE_FILE} cannot be made: {_reason(error)}{hint}."
        ) from None
    raise InvalidInputError(f"{root}: cannot create a repository there: {_reason(error)}.") from None


def _missing_driver(error: ImportError) -> str:
    return (
        f"the database's driver is not installed ({error}); for PostgreSQL: pip install 'zeropoint[postgres]'"
    )


def _reason(error: Exception) -> str:
    """Return the first line of an error's text, without the database's statement and address."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip() for line in str(getattr(error, "orig", None) or error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")

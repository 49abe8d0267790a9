"""The display hook: what a recipe shows while it works, saved as plots or handed to a function of yours."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lsst.pex.config as pexConfig
from astropy.table import Table

from zeropoint.datamodel.catalog import SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.errors import InvalidInputError

__all__ = ["DebugConfig", "DebugDisplay", "DebugFrame", "DisplayHook", "debug_field"]


class DebugConfig(pexConfig.Config):
    """What is shown while the recipe works."""

    display = pexConfig.ListField[str](
        doc="Moments to show, by name; the documentation of the recipe lists them. None by default.",
        default=[],
    )
    directory = pexConfig.Field[str](
        doc="Folder for the plots, one PNG file each; made when the first is written.", default="debug"
    )


def debug_field(moments: Sequence[str]) -> pexConfig.ConfigField:
    """Return the field ``debug`` of a recipe that can show these moments."""
    return pexConfig.ConfigField(
        dtype=DebugConfig,
        doc=f"Plots made while the recipe works; `debug.display` may name {', '.join(moments)}.",
    )


@dataclass(frozen=True)
class DebugFrame:
    """What a recipe shows at one moment; the objects are the recipe's own and must not be changed.

    Parameters
    ----------
    task
        Name of the task whose work the recipe does.
    moment
        Name, as in ``debug.display``.
    number
        How many moments have been shown before, plus one.
    label
        The image's name.
    exposure
        The image as it is at this moment.
    catalog
        Its sources, if there are any yet.
    matches
        Matches with reference objects (``ref_*`` and ``src_*`` columns), if there are any.
    """

    task: str
    moment: str
    number: int
    label: str
    exposure: Exposure
    catalog: SourceCatalog | None = None
    matches: Table | None = None


type DisplayHook = Callable[[DebugFrame], None]


class DebugDisplay:
    """Hands the wanted moments of one image to a hook.

    Parameters
    ----------
    config
        Which moments, and where plots are saved.
    task
        Name of the task whose work the recipe does.
    label
        The image's name; names the files.
    hook
        Called with each wanted moment; None saves a plot in ``config.directory``.
    """

    def __init__(self, config: DebugConfig, task: str, label: str, hook: DisplayHook | None = None) -> None:
        self._config, self._task, self._label = config, task, label
        self._hook = self._save if hook is None else hook
        self._number = 0

    def show(
        self,
        moment: str,
        exposure: Exposure,
        catalog: SourceCatalog | None = None,
        *,
        matches: Table | None = None,
    ) -> None:
        """Show one moment, if it is wanted."""
        if moment not in self._config.display:
            return
        self._number += 1
        self._hook(DebugFrame(self._task, moment, self._number, self._label, exposure, catalog, matches))

    def _save(self, frame: DebugFrame) -> None:
        # matplotlib is loaded by those who want plots, and by nobody else
        from zeropoint.quality.plots.debug import save_debug_frame

        folder = Path(self._config.directory)
        stem = re.sub(r"[^\w.-]+", "_", frame.label)
        path = folder / f"{stem}.{frame.task}.{frame.number:02d}.{frame.moment}.png"
        title = f"{frame.label}: {frame.task}, {frame.moment}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_debug_frame(path, frame.exposure, title, catalog=frame.catalog, matches=frame.matches)
        except OSError as error:
            raise InvalidInputError(
                f"{path}: cannot write there ({error.strerror}); choose another folder with debug.directory."
            ) from None

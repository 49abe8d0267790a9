"""Find where an image is from its stars alone, with the index files of astrometry.net that a user has.

The search itself is that of the optional package ``astrometry`` (``pip install 'zeropoint[blind]'``).  Its WCS is good
to a pixel or so; the usual matching and fitting goes on from there.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import InvalidInputError, MatcherFailure

__all__ = ["BlindWcs", "BlindWcsConfig", "BlindWcsResult"]

_log = logging.getLogger(__name__)
#: Fewer stars than this make no quadrilateral with a star to check it.
MIN_STARS = 5


class BlindWcsConfig(pexConfig.Config):
    """Configuration of `BlindWcs`."""

    index_files = pexConfig.ListField[str](
        doc="Index files of astrometry.net, or folders of them, for images without an initial WCS; none: no search.",
        default=[],
    )
    pixel_scale_low = pexConfig.RangeField[float](
        doc="Smallest pixel scale searched (arcsec). The time grows steeply with the range of scales.",
        default=0.1,
        min=0.0,
        inclusiveMin=False,
    )
    pixel_scale_high = pexConfig.RangeField[float](
        doc="Largest pixel scale searched (arcsec).", default=60.0, min=0.0, inclusiveMin=False
    )
    max_stars = pexConfig.RangeField[int](doc="Brightest stars used.", default=100, min=MIN_STARS)
    min_log_odds = pexConfig.RangeField[float](
        doc="Natural logarithm of the odds against chance from which on a WCS is accepted.",
        default=21.0,
        min=0.0,
    )

    def validate(self) -> None:
        """Check the range of scales."""
        super().validate()
        if self.pixel_scale_low >= self.pixel_scale_high:
            raise pexConfig.FieldValidationError(
                type(self).pixel_scale_low,
                self,
                f"pixel_scale_low = {self.pixel_scale_low:g} must be below pixel_scale_high = "
                f"{self.pixel_scale_high:g}.",
            )


@dataclass(frozen=True)
class BlindWcsResult:
    """A WCS found without any knowledge of the pointing.

    Parameters
    ----------
    wcs
        The WCS.
    log_odds
        Natural logarithm of the odds against chance.
    pixel_scale
        Arcsec.
    index_file
        Name of the index file that knew the stars.
    n_stars
        Stars given to the search.
    """

    wcs: SkyWcs
    log_odds: float
    pixel_scale: float
    index_file: str
    n_stars: int


class BlindWcs:
    """Search index files of astrometry.net for the stars of an image; modifies nothing.

    Parameters
    ----------
    config
        Configuration.
    """

    ConfigClass = BlindWcsConfig

    def __init__(self, config: BlindWcsConfig | None = None) -> None:
        self.config: Any = BlindWcsConfig() if config is None else config

    @property
    def is_configured(self) -> bool:
        """Whether there are index files."""
        return bool(self.config.index_files)

    def run(self, *, x: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> BlindWcsResult:
        """Find the WCS.

        Parameters
        ----------
        x, y : float64, shape (n,)
            Positions of stars, the brightest first, pixels.
        shape
            (height, width) of the image.

        Raises
        ------
        InvalidInputError
            If the optional package or an index file is missing.
        MatcherFailure
            If there are too few stars or no index file knows them.
        """
        config, library = self.config, _library()
        files = _index_files(config.index_files)
        n = min(len(x), int(config.max_stars))
        numbers: dict[str, int | float | str] = {
            "n_stars": n,
            "n_index_files": len(files),
            "pixel_scale_low": float(config.pixel_scale_low),
            "pixel_scale_high": float(config.pixel_scale_high),
        }
        if n < MIN_STARS:
            raise MatcherFailure(f"{n} stars are too few to find the image on the sky.", **numbers)
        # index files count pixels from 1, as FITS does
        stars = np.column_stack([x[:n] + 1.0, y[:n] + 1.0]).tolist()
        match = _search(library, files, stars, config)
        if match is None:
            raise MatcherFailure(
                f"None of {len(files)} index files knows the {n} brightest stars at {config.pixel_scale_low:.4g} to "
                f"{config.pixel_scale_high:.4g} arcsec a pixel. Check that range and that the index files are for "
                "fields of this size.",
                **numbers,
            )
        result = BlindWcsResult(
            SkyWcs.from_astropy(match.astropy_wcs(), shape),
            float(match.logodds),
            float(match.scale_arcsec_per_pixel),
            match.index_path.name,
            n,
        )
        _log.debug("Blind WCS from %s, log odds %.0f", result.index_file, result.log_odds)
        return result


def _library() -> Any:
    """Return the optional package that searches index files."""
    try:
        return importlib.import_module("astrometry")
    except ImportError:
        raise InvalidInputError(
            "index_files are given, but the package that searches index files is not installed: "
            "pip install 'zeropoint[blind]'."
        ) from None


def _index_files(names: Sequence[str]) -> list[Path]:
    """Return the files, those of folders in order of their names."""
    files: list[Path] = []
    for name in names:
        path = Path(name).expanduser()
        found = sorted(path.glob("*.fits")) if path.is_dir() else [path]
        if not found or not found[0].is_file():
            raise InvalidInputError(f"index_files: {name} is no index file and no folder of them.")
        files += found
    return files


def _search(library: Any, files: list[Path], stars: list[list[float]], config: Any) -> Any:
    """Return the first match that is beyond chance, or None."""
    parameters = library.SolutionParameters(
        sip_order=2,
        output_logodds_threshold=float(config.min_log_odds),
        logodds_callback=lambda _: library.Action.STOP,
    )
    scales = library.SizeHint(float(config.pixel_scale_low), float(config.pixel_scale_high))
    try:
        with library.Solver(files) as solver:
            solution = solver.solve(
                stars=stars, size_hint=scales, position_hint=None, solution_parameters=parameters
            )
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise InvalidInputError(f"index_files: {error}") from None
    return solution.best_match() if solution.has_match() else None

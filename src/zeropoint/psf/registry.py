"""What a PSF determiner is, and the registry that configs choose from."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import lsst.pex.config as pexConfig
import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.catalog import SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.psf_model import PsfModel
from zeropoint.datamodel.registry import make_registry
from zeropoint.psf.candidates import PsfCandidates

__all__ = ["BasePsfDeterminerConfig", "PsfDeterminer", "PsfDeterminerResult", "psfDeterminerRegistry"]

_LOG = logging.getLogger(__name__)

#: Determiners by name: classes with ``ConfigClass`` and `PsfDeterminer.determine_psf`.
psfDeterminerRegistry = make_registry("PSF determiners: fit a PSF model to candidate stars.")


class BasePsfDeterminerConfig(pexConfig.Config):
    """Settings common to all determiners."""

    stampSize = pexConfig.Field(
        dtype=int,
        default=None,
        optional=True,
        check=lambda value: value > 0 and value % 2 == 1,
        doc="Odd side of the stamps used, pixels; None for the candidates' own. Clipped to the candidates' size.",
    )
    maxCandidates = pexConfig.RangeField(
        dtype=int, default=300, min=1, doc="Fit at most this many candidates; see candidateChoice."
    )
    downsampleRandomSeed = pexConfig.Field(
        dtype=int, default=98765, doc="Seed of the choice among too many candidates when it is random."
    )
    candidateChoice = pexConfig.ChoiceField(
        dtype=str,
        default="brightest",
        allowed={
            "brightest": "The brightest of each cell of a grid over the detector, so that all of it is covered.",
            "random": "At random, as upstream.",
        },
        doc="Which candidates to keep if there are more than maxCandidates.",
    )


@dataclass(frozen=True)
class PsfDeterminerResult:
    """A fitted PSF and how the fit went.

    Parameters
    ----------
    psf
        The model.
    used : bool, shape (n_candidates,)
        Candidates that shaped it.
    reduced_chi2
        Chi-square per degree of freedom of the used stars.
    metadata
        ``spatialFitChi2``, ``numAvailStars``, ``numGoodStars``, ``avgX``, ``avgY``, and what is special to the
        determiner; plain numbers and strings.
    star_x, star_y : float64, shape (n_used,)
        Positions of the used stars.
    """

    psf: PsfModel
    used: npt.NDArray[np.bool_]
    reduced_chi2: float
    metadata: dict[str, int | float | str | bool] = field(default_factory=dict)
    star_x: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    star_y: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


#: Cells per axis over which bright candidates are spread.
_CELLS = 6


class PsfDeterminer(ABC):
    """Fit a PSF model to candidate stars.

    Parameters
    ----------
    config
        Settings; None for the defaults.
    """

    ConfigClass: ClassVar[type[BasePsfDeterminerConfig]] = BasePsfDeterminerConfig

    def __init__(self, config: BasePsfDeterminerConfig | None = None) -> None:
        self.config = config if config is not None else self.ConfigClass()

    @property
    def candidate_side(self) -> int:
        """Side of the stamps that the determiner needs where it is larger than the candidates' own; 0 for theirs."""
        return 0

    def screen(self, catalog: SourceCatalog, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which candidates may be given to `determine_psf`, judged by columns of the catalogue.

        Parameters
        ----------
        catalog
            Measured sources.
        rows : int64, shape (n,)
            The candidates' rows.

        Returns
        -------
        keep : bool, shape (n,)
            All, unless a determiner has conditions of its own.

        Raises
        ------
        CalibrationFailure
            If there are candidates and none may be used.
        """
        return np.ones(len(rows), np.bool_)

    @abstractmethod
    def determine_psf(self, exposure: Exposure, candidates: PsfCandidates) -> PsfDeterminerResult:
        """Return the PSF of an exposure; neither argument is modified.

        Parameters
        ----------
        exposure
            Size, filter and WCS; the pixels are in the candidates.
        candidates
            Stars that may be used; reserved ones are not among them.

        Raises
        ------
        CalibrationFailure
            A subclass that says why there is no PSF.
        """

    def at_order(self, order: int) -> PsfDeterminer | None:
        """Return the same determiner with another spatial order for all bands; None if its config does not allow it.

        Parameters
        ----------
        order
            Degree of the polynomial over the detector.
        """
        config = self.config.copy()
        if not hasattr(config, "spatialOrder"):
            return None
        try:
            config.spatialOrder = order
            if hasattr(config, "spatialOrderPerBand"):
                config.spatialOrderPerBand = {}
            config.validate()
        except pexConfig.FieldValidationError:
            return None
        return type(self)(config)

    def choose(self, candidates: PsfCandidates, shape: tuple[int, int]) -> npt.NDArray[np.int64]:
        """Return which candidates to fit, in ascending order, at most ``maxCandidates``.

        Parameters
        ----------
        candidates
            All of them.
        shape
            (height, width) of the detector.
        """
        n, limit = len(candidates), self.config.maxCandidates
        if n <= limit:
            return np.arange(n)
        _LOG.debug("%d candidates reduced to %d (%s).", n, limit, self.config.candidateChoice)
        if self.config.candidateChoice == "random":
            generator = np.random.RandomState(self.config.downsampleRandomSeed)
            return np.sort(generator.choice(n, limit, replace=False))
        inner = candidates.image[:, candidates.side // 4 : -(candidates.side // 4) or None]
        brightness = np.nansum(inner, axis=(1, 2), dtype=np.float64)
        column = np.clip((candidates.x * _CELLS / shape[1]).astype(np.int64), 0, _CELLS - 1)
        row = np.clip((candidates.y * _CELLS / shape[0]).astype(np.int64), 0, _CELLS - 1)
        cell = row * _CELLS + column
        order = np.lexsort((-brightness, cell))
        starts = np.searchsorted(cell[order], np.arange(_CELLS * _CELLS))
        rank = np.empty(n, np.int64)
        rank[order] = np.arange(n) - starts[cell[order]]
        return np.sort(np.lexsort((-brightness, rank))[:limit])

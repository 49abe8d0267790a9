"""From a catalogue to the PSF of its exposure: select, cut, reserve, fit, check."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import lsst.pex.config as pexConfig
import numpy as np
import numpy.typing as npt

from zeropoint.catalogs.reserve import ReserveSources
from zeropoint.catalogs.selectors import sourceSelectorRegistry
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.datamodel.psf_model import PsfModel
from zeropoint.errors import (
    NonfinitePsfShapeError,
    NoPsfCandidatesError,
    NoStarsSelectedError,
    UnreliablePsfError,
)
from zeropoint.psf import pca_determiner as _pca_determiner  # noqa: F401  (registers "pca")
from zeropoint.psf import piff_determiner as _piff_determiner  # noqa: F401  (registers "piff")
from zeropoint.psf import psfex_determiner as _psfex_determiner  # noqa: F401  (registers "psfex")
from zeropoint.psf.candidates import MakePsfCandidates, PsfCandidates
from zeropoint.psf.pixel_grid_stars import star_sizes
from zeropoint.psf.quality import BAD_PLANES
from zeropoint.psf.registry import PsfDeterminer, PsfDeterminerResult, psfDeterminerRegistry
from zeropoint.psf.sanity import JUDGES, why_contradicted, why_insane
from zeropoint.psf.stars import make_psf_stars

__all__ = ["MeasurePsf", "MeasurePsfConfig", "MeasurePsfResult", "candidate_maker", "reliable_fit"]

_LOG = logging.getLogger(__name__)


class MeasurePsfConfig(pexConfig.Config):
    """Which steps measure the PSF."""

    starSelector = sourceSelectorRegistry.makeField(
        doc="Selects the stars that may become PSF candidates.", default="objectSize"
    )
    makePsfCandidates = pexConfig.ConfigurableField(
        target=MakePsfCandidates, doc="Cuts and masks the candidates' stamps."
    )
    psfDeterminer = psfDeterminerRegistry.makeField(doc="Fits the PSF model.", default="piff")
    reserve = pexConfig.ConfigurableField(
        target=ReserveSources, doc="Sets aside candidates that judge the model and do not shape it."
    )

    def validate(self) -> None:
        """Check that the candidates' stamps hold what the determiner needs."""
        super().validate()
        if self.psfDeterminer.name != "piff":
            return
        determiner = self.psfDeterminer["piff"]
        kernel_size = self.makePsfCandidates.value.kernelSize
        extent = determiner.modelSize * determiner.samplingSize
        if determiner.useCoordinates == "sky":
            extent *= math.sqrt(2.0)
        for what, least in (("stampSize", determiner.stampSize or 0), ("model's extent", int(extent))):
            if kernel_size < least:
                message = (
                    f"makePsfCandidates.kernelSize ({kernel_size}) must be at least the {what} ({least})."
                )
                raise pexConfig.FieldValidationError(MeasurePsfConfig.makePsfCandidates, self, message)


@dataclass(frozen=True)
class MeasurePsfResult:
    """The PSF of an exposure and what it was made from.

    Parameters
    ----------
    psf
        The model; also attached to the exposure.
    n_available, n_good
        Candidates given to the fit, and those that shaped the model.
    reduced_chi2
        Chi-square per degree of freedom of the used stars.
    metadata
        ``spatialFitChi2``, ``numAvailStars``, ``numGoodStars``, ``avgX``, ``avgY`` and the determiner's own.
    candidates
        Stamps of all candidates, reserved ones included.
    used, reserved : bool, shape (n_candidates,)
        Which candidates shaped the model; which were set aside.
    """

    psf: PsfModel
    n_available: int
    n_good: int
    reduced_chi2: float
    metadata: dict[str, int | float | str | bool]
    candidates: PsfCandidates
    used: npt.NDArray[np.bool_]
    reserved: npt.NDArray[np.bool_]


class MeasurePsf:
    """Measure the PSF of an exposure from its stars.

    Parameters
    ----------
    config
        Settings; None for the defaults.
    schema
        If given, the flags ``calib_psf_candidate``, ``calib_psf_used`` and ``calib_psf_reserved`` are appended.
    """

    ConfigClass = MeasurePsfConfig

    def __init__(self, config: MeasurePsfConfig | None = None, *, schema: Schema | None = None) -> None:
        self.config = config if config is not None else MeasurePsfConfig()
        if schema is not None:
            schema.add(
                ColumnSpec(
                    "calib_psf_candidate", "bool", "", "Set if the source was a candidate for the PSF."
                ),
                ColumnSpec("calib_psf_used", "bool", "", "Set if the source shaped the PSF model."),
            )
        self.star_selector = self.config.starSelector.apply()
        self.determiner: PsfDeterminer = self.config.psfDeterminer.apply()
        self.make_candidates = candidate_maker(self.config.makePsfCandidates, self.determiner)
        self.reserve: ReserveSources = self.config.reserve.apply(column_stem="calib_psf", schema=schema)

    def run(
        self, exposure: Exposure, catalog: SourceCatalog, *, exp_id: int = 0, matches: Any = None
    ) -> MeasurePsfResult:
        """Measure the PSF; the exposure's ``psf`` and the catalogue's flags are set in place.

        Parameters
        ----------
        exposure
            Image, variance, mask.
        catalog
            Measured sources with footprints.
        exp_id
            Id of the exposure or catalogue, which seeds the choice of reserved stars. Give every image its own.
        matches
            Matches to references, for selectors that need them.

        Returns
        -------
        result
            `MeasurePsfResult`.

        Raises
        ------
        NonfinitePsfShapeError
            If the fitted PSF has no finite size.
        NoPsfCandidatesError
            If no selected star has a whole stamp of finite pixels.
        UnreliablePsfError
            If the PSF is absurd somewhere on the detector, or contradicted by the reserved stars (the fitted ones
            where fewer than 3 are reserved), at every spatial order.
        CalibrationFailure
            From the selector (no stars) or the determiner (too few).
        """
        selection = self.star_selector.run(catalog, exposure=exposure, matches=matches)
        selected = selection.selected
        if not selected.any():
            raise NoStarsSelectedError(
                f"No star for the PSF: {self.star_selector.why_none(selection)}", n_input_sources=len(catalog)
            )
        candidates = self.make_candidates.run(exposure, catalog, selected)
        if len(candidates) == 0:
            stamp = candidates.side
            raise NoPsfCandidatesError(
                f"None of {int(np.count_nonzero(selected))} selected stars has a whole stamp of {stamp} x {stamp} "
                "finite pixels; lower psf_measure_psf.makePsfCandidates.kernelSize, or select more stars.",
                n_selected=int(np.count_nonzero(selected)),
                stamp_size=stamp,
            )
        reserved = self.reserve.run(len(candidates), exp_id=exp_id).reserved
        self._flag(catalog, "calib_psf_candidate", candidates.rows)
        self._flag(catalog, self.reserve.column, candidates.rows[reserved])
        available = np.flatnonzero(~reserved)
        available = available[self.determiner.screen(catalog, candidates.rows[available])]
        fitted = candidates.take(available)
        judges = candidates.take(reserved) if reserved.sum() >= JUDGES else fitted
        result = reliable_fit(self.determiner, exposure, fitted, judges=judges, sizes=_sizes(candidates))
        used = np.zeros(len(candidates), np.bool_)
        used[available[result.used]] = True
        self._flag(catalog, "calib_psf_used", candidates.rows[used])
        size = result.psf.sigma()
        if not np.isfinite(size):
            raise NonfinitePsfShapeError(
                f"The PSF fitted to {int(used.sum())} stars has no finite size at its average position; look at "
                "the selected stars, or lower the spatial order.",
                psf_size=float(size),
            )
        exposure.psf = result.psf
        _LOG.debug(
            "PSF from %d of %d candidates (%d reserved): sigma %.3f pixels, reduced chi2 %.3f.",
            int(used.sum()), len(candidates), int(reserved.sum()), size, result.reduced_chi2,
        )  # fmt: skip
        return MeasurePsfResult(
            psf=result.psf,
            n_available=len(available),
            n_good=int(used.sum()),
            reduced_chi2=result.reduced_chi2,
            metadata=dict(result.metadata),
            candidates=candidates,
            used=used,
            reserved=reserved,
        )

    @staticmethod
    def _flag(catalog: SourceCatalog, name: str, rows: npt.NDArray[np.int64]) -> None:
        """Set a flag column on exactly these rows, if the catalogue has it."""
        if name in catalog:
            flag = np.zeros(len(catalog), np.bool_)
            flag[rows] = True
            catalog[name] = flag


def candidate_maker(field: Any, determiner: PsfDeterminer) -> MakePsfCandidates:
    """Return the step that cuts stamps, wider than configured if the determiner's are.

    Parameters
    ----------
    field
        What a configuration holds of its field for this step: ``target`` and ``value``.
    determiner
        Who gets the candidates.
    """
    config = field.value
    least = determiner.candidate_side - 2 * config.borderWidth
    if config.kernelSize < least:
        wider = type(config)()
        wider.update(**config.toDict())
        wider.kernelSize = least
        config = wider
    maker: MakePsfCandidates = field.target(config)
    return maker


def reliable_fit(
    determiner: PsfDeterminer,
    exposure: Exposure,
    fitted: PsfCandidates,
    *,
    judges: PsfCandidates | None = None,
    sizes: npt.NDArray[np.float64] | None = None,
) -> PsfDeterminerResult:
    """Return the PSF of an exposure, at the highest spatial order up to the configured one that no star contradicts.

    Parameters
    ----------
    determiner
        Who fits.
    exposure
        Its size, filter and WCS are used.
    fitted
        Stars for the fit.
    judges
        Stars that judge the result; those of the fit if None.
    sizes : float64, shape (n,)
        Equivalent sigma of stars, pixels; those of the fit if None.

    Raises
    ------
    UnreliablePsfError
        If the PSF is wrong at every order.
    CalibrationFailure
        From the determiner.
    """
    judges = fitted if judges is None else judges
    sizes = _sizes(fitted) if sizes is None else sizes
    first_reason = ""
    while True:
        result = determiner.determine_psf(exposure, fitted)
        trouble = why_insane(result.psf, exposure.shape, sizes) or why_contradicted(result.psf, judges)
        order = int(result.metadata.get("psfSpatialOrder", getattr(determiner.config, "spatialOrder", 0)))
        if not trouble:
            break
        first_reason = first_reason or f"order {order}: {trouble}"
        lower = determiner.at_order(order - 1) if order > 0 else None
        if lower is None:
            raise UnreliablePsfError(
                f"The PSF fitted to {int(result.used.sum())} stars is wrong at every spatial order ({trouble}); "
                "look at the selected stars: are they stars, and not saturated?",
                reason=trouble,
                spatial_order=order,
                num_stars=int(result.used.sum()),
            )
        _LOG.warning("Spatial order of the PSF lowered from %d to %d (%s).", order, order - 1, trouble)
        determiner = lower
    if first_reason:
        result.metadata["psfOrderReason"] = first_reason
    return result


def _sizes(candidates: PsfCandidates) -> npt.NDArray[np.float64]:
    """Return the equivalent Gaussian sigma of each candidate, pixels; NaN where it has none."""
    stars = make_psf_stars(
        candidates,
        side=candidates.side,
        bad_bits=bitmask(BAD_PLANES),
        minimum_unmasked_fraction=0.0,
        max_snr=np.inf,
    )
    return star_sizes(stars)

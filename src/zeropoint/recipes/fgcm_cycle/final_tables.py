"""Tables that only some cycles write: zeropoints, atmospheres, standard stars."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zeropoint.fgcm.fit.posterior import ZeropointErrors
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.terms.gray import DetectorGray
from zeropoint.fgcm.terms.zeropoints import ChosenGray, Zeropoints
from zeropoint.recipes.fgcm_cycle.cautions import warn_of_lost_references
from zeropoint.recipes.fgcm_cycle.fitting import Work
from zeropoint.recipes.fgcm_cycle.instrument import flat_variance
from zeropoint.recipes.fgcm_cycle.measurements import Measurements
from zeropoint.recipes.fgcm_cycle.other_bands import zeropoint_errors
from zeropoint.recipes.fgcm_cycle.products import (
    FinalStars,
    atmospheres,
    final_stars,
    standard_stars,
    zeropoints,
    zeropoints_as_table,
)
from zeropoint.recipes.fgcm_cycle.solution import Solution
from zeropoint.recipes.fgcm_cycle.survey import Survey

__all__ = ["FinalTables", "final_tables"]


@dataclass(frozen=True)
class FinalTables:
    """What a cycle writes besides its state; None where that is not wanted.

    Parameters
    ----------
    found, stars
        Zeropoints, and means of the stars with them.
    zeropoints, atmosphere, standard_stars
        Tables.
    """

    found: Zeropoints | None
    stars: FinalStars | None
    zeropoints: Table | None
    atmosphere: Table | None
    standard_stars: Table | None


def final_tables(
    survey: Survey,
    config: FgcmFitCycleConfigBase,
    work: Work,
    solution: Solution,
    gray: DetectorGray,
    chosen: ChosenGray,
    flags: npt.NDArray[np.int32],
    measured: Measurements,
) -> FinalTables:
    """Return zeropoints, atmospheres and standard stars.

    Parameters
    ----------
    survey, config, work, solution
        Data, settings, corrections and model.
    gray, chosen, flags
        Gray of the detectors, that of each zeropoint, and flags of the exposures.
    measured
        What else was measured.
    """
    posterior = None if solution.fit is None else solution.fit.posterior
    errors: ZeropointErrors | None = None
    if posterior is not None:
        errors = zeropoint_errors(survey, solution, posterior, work.photometry.inverse_variance)
    reference = measured.ref_offset if config.useExposureReferenceOffset else None
    if reference is not None:
        warn_of_lost_references(survey, reference, config.minStarPerExp)
    of_flats = flat_variance(survey, config, work.photometry, work.instrument, solution)
    found = zeropoints(
        survey, config, solution, work.instrument, gray, chosen, flags, errors, of_flats, measured.background, reference,
    )  # fmt: skip
    stars = final_stars(survey, work.photometry, solution, found, gray)
    retrieved = measured.retrieved
    r = None if retrieved is None else (retrieved.r0, retrieved.r10)
    with_zeropoints = config.writes_zeropoints
    return FinalTables(
        found,
        stars,
        zeropoints_as_table(survey, solution, found, measured.split, errors, r) if with_zeropoints else None,
        atmospheres(survey, solution, work.instrument) if with_zeropoints else None,
        standard_stars(survey, solution, stars, measured.apertures.star)
        if config.writes_standard_stars
        else None,
    )

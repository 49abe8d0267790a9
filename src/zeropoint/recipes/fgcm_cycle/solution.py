"""A model of a survey with what it leaves, as the stages of a cycle hand it on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from zeropoint.fgcm.fit import FitResult
from zeropoint.fgcm.fit.sed_calibration import SedCalibration
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.flags import StarFlag
from zeropoint.fgcm.model.model import ModelTables
from zeropoint.fgcm.model.sweep import References
from zeropoint.fgcm.terms.gray import GrayResiduals
from zeropoint.recipes.fgcm_cycle.residuals import (
    Means,
    Photometry,
    Residuals,
    Slopes,
    mean_magnitudes,
    measure_residuals,
    star_slopes,
)
from zeropoint.recipes.fgcm_cycle.selection import Selection
from zeropoint.recipes.fgcm_cycle.survey import FloatArray, Survey

if TYPE_CHECKING:
    from zeropoint.fgcm.model.parameters import FitParameters

__all__ = ["Cuts", "Solution", "evaluate", "fitted_residuals", "references_of"]


@dataclass(frozen=True)
class Cuts:
    """Gray between which exposures are photometric, mag, shape (n_band,).

    Parameters
    ----------
    low, high
        Limits.
    """

    low: FloatArray
    high: FloatArray


@dataclass(frozen=True)
class Solution:
    """A model with what it leaves.

    Parameters
    ----------
    parameters, tables
        The model; the tables without the gray of exposures that a joint fit has.
    selection
        What takes part.
    slopes, means, residuals
        Of the stars, and of their observations.
    fit
        The last fit; None: none was made.
    cuts
        By which exposures were chosen.
    n_fits
        How many fits were made.
    """

    parameters: FitParameters
    tables: ModelTables
    selection: Selection
    slopes: Slopes
    means: Means
    residuals: Residuals
    cuts: Cuts
    sed: SedCalibration
    fit: FitResult | None = None
    n_fits: int = 0


def references_of(survey: Survey, config: FgcmFitCycleConfigBase, selection: Selection) -> References | None:
    """Return the reference magnitudes that take part; None without any.

    Parameters
    ----------
    survey, config, selection
        Data, settings and flags.
    """
    stars = survey.data.stars
    if not config.doReferenceCalibration or not stars.has_references:
        return None
    bad = StarFlag.REFSTAR_OUTLIER | StarFlag.REFSTAR_BAD_COLOR | StarFlag.REFSTAR_RESERVED
    used = selection.good_star & ((selection.star & np.int32(bad)) == 0)
    references = References.of(stars.ref_mag, stars.ref_err, used[:, None] & survey.fit_band)
    return references if references.weight.any() else None


def evaluate(
    survey: Survey,
    photometry: Photometry,
    config: FgcmFitCycleConfigBase,
    parameters: FitParameters,
    selection: Selection,
    slopes: Slopes,
    cuts: Cuts,
    sed: SedCalibration,
    *,
    tables: ModelTables | None = None,
) -> Solution:
    """Return a model with its means, slopes of spectra and residuals.

    Parameters
    ----------
    survey, photometry, config
        Data and settings.
    parameters, selection, slopes, cuts, sed
        The model, and with what it is to be evaluated; the slopes are those that a first mean is made with.
    tables
        Of the parameters, gray of exposures included, where they are known.
    """
    if tables is None:
        tables = survey.model.tables(parameters, derivatives=False)
    references = references_of(survey, config, selection)
    means = mean_magnitudes(survey, photometry, selection, slopes.value, tables, references)
    slopes = star_slopes(survey, config, means.magnitude, sed)
    means = mean_magnitudes(survey, photometry, selection, slopes.value, tables, references)
    if parameters.exposure_gray.any():
        # means are of what gray was taken off, which residuals then show
        without = parameters.replace(exposure_gray=np.zeros_like(parameters.exposure_gray))
        tables = survey.model.tables(without, derivatives=False)
    residuals = measure_residuals(survey, photometry, selection, config, slopes.value, tables, means)
    return Solution(parameters, tables, selection, slopes, means, residuals, cuts, sed)


def fitted_residuals(survey: Survey, solution: Solution) -> GrayResiduals:
    """Return the gray of the observations without what a joint fit took as the gray of their exposures.

    Parameters
    ----------
    survey, solution
        Data and model.
    """
    gray, of_exposure = solution.residuals.gray, solution.parameters.exposure_gray
    if not of_exposure.any():
        return gray
    return replace(gray, gray=gray.gray - survey.of_exposure(of_exposure.astype(np.float32)))

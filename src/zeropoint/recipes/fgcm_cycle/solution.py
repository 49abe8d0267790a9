"""A model of a survey with what it leaves, as the stages of a cycle hand it on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
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
    star_slopes,
)
from zeropoint.recipes.fgcm_cycle.selection import Selection, good_observations
from zeropoint.recipes.fgcm_cycle.survey import FloatArray, Survey

if TYPE_CHECKING:
    from zeropoint.fgcm.model.parameters import FitParameters

__all__ = ["Cuts", "Look", "Solution", "evaluate", "fitted_residuals", "references_of"]


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
class Look:
    """Stars and residuals of a model, each computed when it is asked for.

    Parameters
    ----------
    survey, photometry, config
        Data and settings.
    parameters, selection, sed
        The model, and with what it is looked at.
    first_slopes
        Slopes of the spectra that a first mean is made with.
    keeps_slopes
        Whether they stay, but for their calibration, or follow from the colors of that mean.
    given
        Tables of the parameters, gray of exposures included; None: not known.
    """

    survey: Survey
    photometry: Photometry
    config: FgcmFitCycleConfigBase
    parameters: FitParameters
    selection: Selection
    sed: SedCalibration
    first_slopes: Slopes
    keeps_slopes: bool = False
    given: ModelTables | None = None

    @cached_property
    def tables(self) -> ModelTables:
        """The model without the gray of exposures that a joint fit has: residuals show it."""
        gray = self.parameters.exposure_gray
        if self.given is not None and not gray.any():
            return self.given
        without = (
            self.parameters.replace(exposure_gray=np.zeros_like(gray)) if gray.any() else self.parameters
        )
        return self.survey.model.tables(without, derivatives=False)

    @cached_property
    def _stars(self) -> tuple[Slopes, Means]:
        tables = self.given
        if tables is None:
            # means are of what gray was taken off
            gray = self.parameters.exposure_gray.any()
            tables = self.survey.model.tables(self.parameters, derivatives=False) if gray else self.tables
        survey, photometry = self.survey, self.photometry
        references = references_of(survey, self.config, self.selection)
        member = good_observations(survey, self.selection, reserve=True)
        first = self.first_slopes
        if self.keeps_slopes:
            slopes = Slopes.of(survey, first.raw, first.known, self.sed)
        else:
            means = mean_magnitudes(survey, photometry, member, first.relative, tables, references)
            slopes = star_slopes(survey, self.config, means.magnitude, self.sed)
        return slopes, mean_magnitudes(survey, photometry, member, slopes.relative, tables, references)

    @property
    def slopes(self) -> Slopes:
        """Of the stars' spectra."""
        return self._stars[0]

    @property
    def means(self) -> Means:
        """Of the stars."""
        return self._stars[1]

    @cached_property
    def residuals(self) -> Residuals:
        """Of the observations."""
        return Residuals(
            self.survey, self.photometry, self.selection, self.config, self.slopes.relative, self.tables, self.means
        )  # fmt: skip


@dataclass(frozen=True)
class Solution:
    """A model with what it leaves.

    Parameters
    ----------
    parameters, sed
        The model.
    selection
        What takes part.
    cuts
        By which exposures were chosen.
    look
        At the model, with the selection of then.
    fit
        The last fit; None: none was made.
    n_fits
        How many fits were made.
    fit_of_others
        Of the bands outside ``fitBands``; None: there are none.
    """

    parameters: FitParameters
    sed: SedCalibration
    selection: Selection
    cuts: Cuts
    look: Look
    fit: FitResult | None = None
    n_fits: int = 0
    fit_of_others: FitResult | None = None

    def without_residuals(self) -> Solution:
        """Return the same with residuals that are still to be computed: memory is freed."""
        look = replace(self.look)
        # the stars are small, and already known
        vars(look).update(
            {name: vars(self.look)[name] for name in ("_stars", "tables") if name in vars(self.look)}
        )
        return replace(self, look=look)

    @property
    def tables(self) -> ModelTables:
        """The model without the gray of exposures that a joint fit has."""
        return self.look.tables

    @property
    def slopes(self) -> Slopes:
        """Of the stars' spectra."""
        return self.look.slopes

    @property
    def means(self) -> Means:
        """Of the stars."""
        return self.look.means

    @property
    def residuals(self) -> Residuals:
        """Of the observations."""
        return self.look.residuals


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
    keep_slopes: bool = False,
    tables: ModelTables | None = None,
) -> Solution:
    """Return a model with its means, slopes of spectra and residuals: computed when they are asked for.

    Parameters
    ----------
    survey, photometry, config
        Data and settings.
    parameters, selection, slopes, cuts, sed
        The model, and with what it is to be evaluated; the slopes are those that a first mean is made with.
    keep_slopes
        Whether the slopes stay: where little has changed since they were found.
    tables
        Of the parameters, gray of exposures included, where they are known.
    """
    look = Look(survey, photometry, config, parameters, selection, sed, slopes, keep_slopes, tables)
    return Solution(parameters, sed, selection, cuts, look)


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

"""Reference magnitudes in the instrument's own system."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.flags import StarFlag
from zeropoint.fgcm.terms.reference_color import ReferenceColorTerms, fit_reference_color_terms
from zeropoint.recipes.fgcm_cycle.solution import Solution, references_of
from zeropoint.recipes.fgcm_cycle.survey import Survey

__all__ = ["with_color_terms", "with_reference_colors"]

_log = logging.getLogger(__name__)


def with_reference_colors(
    survey: Survey, config: FgcmFitCycleConfigBase, start: Solution
) -> tuple[Survey, ReferenceColorTerms | None]:
    """Return the survey with reference magnitudes corrected for color terms that a solution suggests.

    Parameters
    ----------
    survey
        With the magnitudes of the catalogue: each cycle fits the whole terms.
    config
        Settings (``refStarColorTermDict``).
    start
        Model with its means, from before the fit of a cycle.

    Returns
    -------
    survey : Survey
        The same survey where no terms are asked for.
    terms : ReferenceColorTerms or None
        None without any.
    """
    bands = survey.data.exposures.bands
    wanted = np.array([config.refStarColorTermDict.get(band, False) for band in bands], bool)
    references = references_of(survey, config, start.selection)
    if references is None or not wanted.any():
        return survey, None
    stars = survey.data.stars
    bad = StarFlag.REFSTAR_OUTLIER | StarFlag.REFSTAR_BAD_COLOR
    terms = fit_reference_color_terms(
        start.means.magnitude,
        start.means.err,
        stars.ref_mag,
        stars.ref_err,
        np.where(start.slopes.known, start.slopes.value, np.nan),
        start.selection.good_star & ((start.selection.star & np.int32(bad)) == 0),
        wanted,
        in_mean=(references.weight > 0).reshape(stars.ref_mag.shape),
    )
    for band, coefficient, err, n in zip(bands, terms.coefficient, terms.err, terms.n_stars, strict=True):
        if n:
            _log.info(
                "Color term of references in %s: %.1f +- %.1f mag Angstrom, %d stars.",
                band,
                coefficient,
                err,
                n,
            )
    slopes = np.where(start.slopes.known, start.slopes.value, np.nan)
    corrected = replace(stars, ref_mag=terms.corrected(stars.ref_mag, slopes))
    return replace(survey, data=replace(survey.data, stars=corrected)), terms


def with_color_terms(metrics: Mapping[str, Any], terms: ReferenceColorTerms) -> dict[str, Any]:
    """Return the metrics of a cycle with the color terms of its references.

    Parameters
    ----------
    metrics
        With an entry ``bands``, in their order.
    terms
        Color terms.
    """
    bands = {
        band: {
            **of_band,
            "reference_color_term": float(coefficient),
            "reference_color_term_err": float(err) if np.isfinite(err) else None,
            "reference_color_pivot": float(pivot),
        }
        for (band, of_band), coefficient, err, pivot in zip(
            metrics["bands"].items(), terms.coefficient, terms.err, terms.pivot, strict=True
        )
    }
    return {**metrics, "bands": bands}

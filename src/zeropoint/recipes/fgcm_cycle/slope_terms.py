"""Terms of the slopes of spectra where bands of the configuration have no exposures."""

from __future__ import annotations

import logging

import numpy as np

from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.sed_terms_config import sed_terms_of
from zeropoint.recipes.fgcm_cycle.survey import Survey

__all__ = ["with_possible_slopes"]

_log = logging.getLogger(__name__)


def with_possible_slopes(
    config: FgcmFitCycleConfigBase, survey: Survey, *, warn: bool = True
) -> FgcmFitCycleConfigBase:
    """Return a configuration whose terms of slopes name bands with exposures only, and warn of those that did not.

    Parameters
    ----------
    config
        Settings; they stay as they are.
    survey
        Data.
    warn
        Whether to: once is enough.

    Returns
    -------
    config
        With terms of neighbors among the bands with exposures for those bands whose own terms need others; the same
        configuration where there is none.
    """
    e = survey.data.exposures
    present = np.bincount(e.band[e.band >= 0], minlength=e.n_band) > 0
    seen = [band for band, has in zip(e.bands, present, strict=True) if has]
    lost = {band: sorted(_needed(config, band) - set(seen)) for band in seen if band in config.sedterms.data}
    lost = {band: names for band, names in lost.items() if names}
    if not lost:
        return config
    boundary, terms = sed_terms_of(seen)
    changed: FgcmFitCycleConfigBase = config.copy()
    for band, names in lost.items():
        del changed.sedterms.data[band]
        if band in terms.data:
            changed.sedterms.data[band] = terms.data[band]
            remedy = f"its stars' slopes follow from {', '.join(seen)} instead"
        else:
            remedy = "its stars' slopes are taken as 0, so that zeropoints have no chromatic correction"
        if warn:
            _log.warning(
                "sedterms of %s needs %s, of which there is no exposure: %s.", band, ", ".join(names), remedy
            )
    for name, term in boundary.data.items():
        changed.sedboundaryterms.data[name] = term
    return changed


def _needed(config: FgcmFitCycleConfigBase, band: str) -> set[str]:
    """Return the bands that the slope in a band follows from."""
    term = config.sedterms.data[band]
    bands = {term.primaryBand, term.secondaryBand, term.tertiaryBand} if term.extrapolated else set()
    for name in (term.primaryTerm, term.secondaryTerm):
        if name is not None and name in config.sedboundaryterms.data:
            pair = config.sedboundaryterms.data[name]
            bands |= {pair.primary, pair.secondary}
    return bands - {None}

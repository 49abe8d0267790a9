"""How tests update the summary of the small visit, and what they compare."""

from __future__ import annotations

import numpy as np

from recipes import small_visit as small
from zeropoint.quality.residual_correlations import CORRELATION_STATISTICS
from zeropoint.quality.visit_summary import statistics_columns
from zeropoint.recipes.update_visit_summary import UpdateVisitSummary, UpdateVisitSummaryConfig

FIRST, SECOND = small.DETECTORS
ARCSEC = np.pi / 648000.0
#: Statistics are kept in single precision.
SINGLE = 3e-7
ALL = [column.name for column in statistics_columns()]
ONE_DETECTOR = [name for name in ALL if name not in CORRELATION_STATISTICS]


def psf_inputs(detectors=small.DETECTORS):
    psfs = small.final_psfs(detectors)
    return {"psf_overrides": psfs, "ap_corr_overrides": psfs, "psf_star_catalog": small.stars()}


def recipe(**fields):
    config = UpdateVisitSummaryConfig()
    config.do_refit_pointing = False
    config.update(**fields)
    config.validate()
    return UpdateVisitSummary(config)


def update(visit, fields=None, summary=None, **inputs):
    return recipe(**(fields or {})).run(summary or visit.summary, visit.images, **inputs)


def assert_same_statistics(ours, theirs, names, rtol=SINGLE):
    for name in names:
        one, other = (np.array(getattr(each, name), np.float64) for each in (ours, theirs))
        np.testing.assert_allclose(one, other, rtol=rtol, err_msg=name)


def assert_same_table(ours, theirs):
    assert ours.table.colnames == theirs.table.colnames
    for name in ours.table.colnames:
        np.testing.assert_array_equal(ours.table[name], theirs.table[name], err_msg=name)
    assert dict(ours.texts) == dict(theirs.texts)

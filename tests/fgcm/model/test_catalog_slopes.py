"""Slopes of spectra from the magnitudes of a catalogue of references."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fgcm.model.parts import fit_settings
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.model.load import load_fit_data
from zeropoint.fgcm.model.passband_source import QuadraturePassbands
from zeropoint.fgcm.model.settings import CatalogSlope
from zeropoint.simulation.fgcm_star_list import SimulatedStarList
from zeropoint.simulation.fgcm_survey import FgcmSurvey


def test_two_reference_magnitudes_tell_the_slope(
    fgcm_survey: FgcmSurvey, fit_stars: SimulatedStarList, passbands: QuadraturePassbands
) -> None:
    tables = fit_stars.visits, fit_stars.observations, fit_stars.ids, fit_stars.indices
    names = passbands.physical_filters
    references = fit_stars.references.copy()
    references["refMag"][0, 1] = 99.0
    each = CatalogSlope(names[0], names[1], 4800.0, 6200.0, constant=0.5)
    settings = replace(fit_settings(fgcm_survey), catalog_slopes={"r": each})
    stars = load_fit_data(*tables, references, passbands, settings).stars
    assert stars.catalog_slope is not None
    row = np.searchsorted(stars.fgcm_id, np.asarray(references["fgcm_id"]))
    color = np.asarray(references["refMag"][:, 0] - references["refMag"][:, 1], float)
    expected = np.clip(0.5 * color / 1400.0 / 1.0857362, -1 / 400, 1 / 400)
    expected[np.abs(references["refMag"][:, :2]).max(axis=1) > 90] = np.nan
    np.testing.assert_allclose(stars.catalog_slope[row, 1], expected, rtol=1e-5)
    assert np.isnan(stars.catalog_slope[:, 0]).all()
    assert np.isfinite(stars.catalog_slope).sum() > 10

    wrong = replace(settings, catalog_slopes={"r": replace(each, first="V")})
    with pytest.raises(InvalidInputError, match="names V of"):
        load_fit_data(*tables, references, passbands, wrong)
    other = replace(settings, catalog_slopes={"y": each})
    with pytest.raises(InvalidInputError, match="names the band y"):
        load_fit_data(*tables, references, passbands, other)

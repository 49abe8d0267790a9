"""The flat vector of free parameters, and the exposures' place in time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table

from fgcm.model.parts import Problem, fit_settings, full_layout
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.model.exposures import FitExposures
from zeropoint.fgcm.model.layout import LayoutSettings, ParameterLayout
from zeropoint.fgcm.model.model import PhotometricModel
from zeropoint.fgcm.model.parameters import PARAMETER_CLASSES
from zeropoint.fgcm.model.passband_source import QuadraturePassbands
from zeropoint.simulation.fgcm_star_list import SimulatedStarList
from zeropoint.simulation.fgcm_survey import FgcmSurvey


def build(problem: Problem, settings: LayoutSettings, used: np.ndarray | None = None) -> ParameterLayout:
    e, source = problem.data.exposures, problem.model.passbands
    used = e.has_passband if used is None else used
    return ParameterLayout.build(
        e, used, problem.parameters, source.ranges, source.standard, source.std_physical_filters, settings
    )


@pytest.mark.parametrize("retrieved", [False, True])
def test_the_flat_vector_holds_what_is_free(problem: Problem, retrieved: bool) -> None:
    layout = full_layout(problem, retrieved=retrieved)
    flat = layout.pack(problem.parameters)
    assert len(layout.names) == len(set(layout.names)) == layout.n_free == len(flat)
    again = layout.unpack(flat, problem.parameters)
    changed = layout.unpack(flat + 1.0, problem.parameters)
    for name in PARAMETER_CLASSES:
        before, free = getattr(problem.parameters, name), layout.indices[name] >= 0
        np.testing.assert_array_equal(getattr(again, name), before)
        np.testing.assert_allclose(getattr(changed, name), before + free)
    assert np.all(layout.lower < layout.upper)
    assert flat[layout.names.index("superstar[1,2,3]")] == problem.parameters.superstar[1, 2, 3]
    assert (layout.slices["ln_pwv_intercept"].stop > layout.slices["ln_pwv_intercept"].start) != retrieved


def test_without_bands_of_their_own_washes_share_a_value(problem: Problem) -> None:
    layout = build(problem, LayoutSettings())
    index = layout.indices["qe_slope"]
    assert index.shape == (4, 2)
    assert np.all(index == index[0])
    assert np.all(layout.indices["qe_intercept"][:, 0] == -1)
    assert layout.slices["qe_intercept"].stop - layout.slices["qe_intercept"].start == 1
    flat = layout.pack(problem.parameters)
    assert flat[index[0, 1]] == pytest.approx(problem.parameters.qe_slope[:, 1].mean())


def test_what_no_exposure_touches_is_fixed(problem: Problem) -> None:
    e = problem.data.exposures
    used = (e.night != 2) & (e.band != 1)
    layout = build(problem, LayoutSettings(abs_offset=True, exposure_gray=True), used)
    assert layout.indices["alpha"][2] == -1
    assert layout.indices["abs_offset"][1] == -1
    assert not (layout.indices["superstar"][:, e.filter_band == 1] >= 0).any()
    assert (layout.indices["exposure_gray"] >= 0).sum() == used.sum()
    frozen = build(problem, LayoutSettings(atmosphere=False))
    assert frozen.names[0].startswith("qe_")
    # every filter is its band's standard here
    assert not (layout.indices["filter_offset"] >= 0).any()


def test_exposures_know_their_nights_and_intervals(
    fgcm_survey: FgcmSurvey, fit_stars: SimulatedStarList, passbands: QuadraturePassbands, problem: Problem
) -> None:
    e, visits = problem.data.exposures, fgcm_survey.visits
    np.testing.assert_array_equal(e.visit, visits["visit"])
    np.testing.assert_array_equal(e.night_numbers[e.night], visits["night"])
    boundary = fgcm_survey.settings.site.ut_boundary
    np.testing.assert_allclose(e.night_time, (np.asarray(visits["mjd"]) + boundary) % 1.0, atol=1e-9)
    np.testing.assert_allclose(e.airmass, visits["airmass"], atol=1e-9)
    settings = fit_settings(fgcm_survey)
    assert e.wash_mjds[1] == settings.wash_mjds[1]
    assert e.wash_mjds[0] == pytest.approx(e.mjd.min() - 1.0)
    np.testing.assert_array_equal(e.wash, (e.mjd >= e.wash_mjds[1]).astype(int))
    assert np.all(e.wash_time >= 0)
    assert e.n_epoch == 2
    assert e.n_coating == 1
    visits = fit_stars.visits.copy()
    visits["mjd"][3] = np.nan
    found = FitExposures.from_visit_catalog(visits, settings, passbands)
    assert found.n_nights == e.n_nights + 1
    assert found.night_numbers[found.night[3]] == -1
    assert found.night_time[3] == found.wash_time[3] == 0.0


def test_visits_of_other_bands_are_named(
    fgcm_survey: FgcmSurvey,
    fit_stars: SimulatedStarList,
    passbands: QuadraturePassbands,
    problem: Problem,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = fit_settings(fgcm_survey)
    with pytest.raises(InvalidInputError, match="No visit is in a band of u"):
        FitExposures.from_visit_catalog(fit_stars.visits, replace(settings, bands=("u",)), passbands)
    unknown = fit_stars.visits.copy()
    unknown.meta["BANDS"] = {**unknown.meta["BANDS"], "q": "r"}
    unknown["physicalFilter"][[0, 2, 3]] = "q", "q", "odd"
    other = replace(settings, filter_bands={**unknown.meta["BANDS"], passbands.physical_filters[0]: "none"})
    found = FitExposures.from_visit_catalog(unknown, settings, passbands)
    assert (found.band[[0, 2, 3]] == -1).all()
    assert found.has_passband.sum() == len(found) - 3
    assert (
        "No zeropoint for 1 visit in odd, 2 visits in q: the look-up table or throughputs have no"
        in caplog.text
    )
    FitExposures.from_visit_catalog(unknown, other, passbands)
    assert f"visits in {passbands.physical_filters[0]}: physicalFilterMap has" in caplog.text
    unknown["physicalFilter"][:] = "q"
    with pytest.raises(
        InvalidInputError, match=r"No visit has a passband: .* visits in q, the look-up table"
    ):
        FitExposures.from_visit_catalog(unknown, settings, passbands)
    silent = Table(fit_stars.visits, copy=True)
    silent.meta.clear()
    with pytest.raises(InvalidInputError, match="set physicalFilterMap"):
        FitExposures.from_visit_catalog(silent, settings, passbands)
    silent.remove_column("telha")
    with pytest.raises(InvalidInputError, match="lacks the column telha"):
        FitExposures.from_visit_catalog(
            silent, replace(settings, filter_bands=fit_stars.visits.meta["BANDS"]), passbands
        )
    # two filters of one band with a standard each
    both = replace(problem.data.exposures, filter_band=np.zeros(4, np.int16))
    with pytest.raises(InvalidInputError, match="different standard passbands"):
        PhotometricModel(both, passbands)

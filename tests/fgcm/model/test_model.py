"""The model, its sweep and its gradient against twins and differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fgcm.model.parts import Problem, full_layout, load, random_problem, thinned
from naive import fgcm_model as naive
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.lut import LUT_TYPES, LookUpTable
from zeropoint.fgcm.lut_interpolation import interpolate
from zeropoint.fgcm.model.layout import ParameterLayout
from zeropoint.fgcm.model.lut_passbands import LutPassbands
from zeropoint.fgcm.model.model import PhotometricModel
from zeropoint.fgcm.model.observations import FitData
from zeropoint.fgcm.model.parameters import PARAMETER_CLASSES
from zeropoint.fgcm.model.passband_source import GrayPassbands, QuadraturePassbands
from zeropoint.fgcm.model.sweep import standard_magnitudes, sweep
from zeropoint.simulation.fgcm_star_list import SimulatedStarList
from zeropoint.simulation.fgcm_survey import FgcmSurvey


@pytest.fixture(scope="module")
def lut_passbands(passbands: QuadraturePassbands) -> LutPassbands:
    """A look-up table of random numbers: its interpolation is a function all the same."""
    rng = np.random.default_rng(5)
    names = ",".join(passbands.physical_filters)
    header = {
        "physicalFilters": names, "stdPhysicalFilters": names, "pmb": [700.0, 760.0], "pwv": [0.5, 3.0, 18.0],
        "o3": [200.0, 340.0], "tau": [0.002, 0.4], "alpha": [0.0, 2.5], "zenith": [0.0, 65.0], "nCcd": len(passbands.detectors),
        "pmbStd": 732.0, "pwvStd": 3.0, "o3Std": 263.0, "tauStd": 0.03, "alphaStd": 1.0, "zenithStd": 30.0,
        "lambdaStd": passbands.lambda_std, "i0Std": np.ones(4), "i1Std": np.zeros(4), "i2Std": np.ones(4),
        "i10Std": np.zeros(4),
    }  # fmt: skip
    size = {"O3": 1e-4, "ALPHA": 0.02, "LNPWV": 0.02, "LNTAU": 0.02, "SECZENITH": 0.02, "PMB": 0.0}
    shape = (4, 3, 2, 2, 2, 2, len(passbands.detectors) + 1)
    values = np.empty((len(LUT_TYPES), *shape), np.float32)
    for k, name in enumerate(LUT_TYPES):
        scale = next((value for key, value in size.items() if key in name), 0.1)
        values[k] = (name == "I0") + scale * (100.0 if "I1" in name else 1.0) * rng.normal(size=shape)
    return LutPassbands(LookUpTable(header, values))


def objective(problem: Problem, flat: np.ndarray, layout: ParameterLayout, references: bool) -> float:
    parameters = layout.unpack(flat, problem.parameters)
    tables = problem.model.tables(parameters, derivatives=False)
    refs = problem.references if references else None
    return sweep(problem.data.observations, problem.weight, problem.slopes, refs, tables, gradient=False).chi2


def gradient(problem: Problem, flat: np.ndarray, layout: ParameterLayout, references: bool) -> np.ndarray:
    parameters = layout.unpack(flat, problem.parameters)
    tables = problem.model.tables(parameters)
    refs = problem.references if references else None
    found = sweep(problem.data.observations, problem.weight, problem.slopes, refs, tables)
    assert found.gradient is not None
    return problem.model.gradient(found.gradient, tables, parameters, layout)


def check_gradient(problem: Problem, layout: ParameterLayout, *, references: bool) -> None:
    """Compare with central differences along a random direction within each class."""
    flat = layout.pack(problem.parameters)
    found = gradient(problem, flat, layout, references)
    rng = np.random.default_rng(3)
    seen = 0
    for name in PARAMETER_CLASSES:
        part = layout.slices[name]
        if part.stop == part.start:
            continue
        direction = np.zeros(layout.n_free)
        direction[part] = rng.choice([-1.0, 1.0], part.stop - part.start)
        step = 1e-3 * direction * (100.0 if name == "o3" else 1.0)
        # the fourth-order rule: its own error is far below that of the gradient
        h = [objective(problem, flat + k * step, layout, references) for k in (-2, -1, 1, 2)]
        expected = (h[0] - 8.0 * h[1] + 8.0 * h[2] - h[3]) / 12.0
        # rounding of chi-square itself remains where it does not depend on a class
        allowed = 1e-5 * np.abs(found * step).sum() + 1e-14 * h[0]
        assert abs(found @ step - expected) <= allowed, name
        seen += 1
    assert seen >= 12


@pytest.mark.parametrize("references", [False, True])
@pytest.mark.parametrize("retrieved", [False, True])
def test_the_gradient_is_that_of_the_objective(problem: Problem, references: bool, retrieved: bool) -> None:
    e = problem.data.exposures
    if retrieved:
        ln_pwv = np.random.default_rng(1).normal(1.0, 0.2, len(e))
        problem = replace(problem, parameters=problem.parameters.replace(retrieved_ln_pwv=ln_pwv))
    layout = full_layout(problem, retrieved=retrieved, per_band=not retrieved)
    check_gradient(problem, layout, references=references)


def test_the_gradient_holds_for_look_up_tables(
    fgcm_survey: FgcmSurvey, fit_stars: SimulatedStarList, lut_passbands: LutPassbands
) -> None:
    found = load(fgcm_survey, fit_stars, lut_passbands)
    # steps of water lead over no node of the table, where it has a kink
    problem = random_problem(found, lut_passbands, np.random.default_rng(12))
    check_gradient(problem, full_layout(problem), references=True)


def test_each_reference_is_one_more_measurement_of_its_star(problem: Problem) -> None:
    small, weight = thinned(problem, 30, 8)
    exact = replace(problem.model.passbands, max_error=None)
    model = PhotometricModel(small.exposures, exact)
    tables = model.tables(problem.parameters)
    mag, color = naive.standard_magnitudes(small, problem.parameters, exact, problem.slopes)
    found_mag, found_color = standard_magnitudes(small.observations, problem.slopes, tables)
    # single precision of magnitudes of 25
    np.testing.assert_allclose(found_mag, mag, atol=2e-6)
    np.testing.assert_allclose(found_color, color, atol=1e-8)
    assert np.abs(color).max() > 1e-3
    for references in (problem.references, None):
        expected, means = naive.chi2(small.observations, weight, mag, references)
        found = sweep(small.observations, weight, problem.slopes, references, tables)
        assert found.chi2 == pytest.approx(expected, rel=1e-9)
        np.testing.assert_allclose(found.mean.ravel(), means, atol=1e-9)
        assert found.n_used == np.count_nonzero(weight)


def test_few_wavelengths_give_the_integrals_of_all(passbands: QuadraturePassbands, problem: Problem) -> None:
    exact = replace(passbands, max_error=None)
    atmosphere = problem.parameters.at(problem.data.exposures, passbands.ranges)
    for filter_index in range(4):
        few = passbands.evaluate(filter_index, atmosphere, derivatives=True)
        all_ = exact.evaluate(filter_index, atmosphere, derivatives=True)
        assert np.abs(few.magnitude() - all_.magnitude()).max() < 2e-5
        assert np.abs(few.i10 - all_.i10).max() < 0.1
        for name in few.d_i0:
            span = {"o3": 90.0, "alpha": 2.0}.get(name, 3.0)
            assert np.abs(few.d_magnitude(name) - all_.d_magnitude(name)).max() * span < 2e-3
    assert all(len(each.atmosphere.wavelength) < 40 for each in passbands._reduced.values())


def test_look_up_tables_interpolate_by_the_rule(lut_passbands: LutPassbands, problem: Problem) -> None:
    atmosphere = problem.parameters.at(problem.data.exposures, lut_passbands.ranges)
    places = {
        "ln_pwv": np.log(atmosphere.pwv), "o3": atmosphere.o3, "ln_tau": np.log(atmosphere.tau),
        "alpha": atmosphere.alpha, "secant": atmosphere.airmass,
    }  # fmt: skip
    found = lut_passbands.evaluate(2, atmosphere, derivatives=False)
    i0, i1 = interpolate(lut_passbands.lut, 2, 1, places, newton=True)
    np.testing.assert_allclose(found.i0[:, 1], i0, rtol=1e-12)
    np.testing.assert_allclose(found.i1[:, 1], i1, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_no_bit(problem: Problem, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zeropoint.fgcm.threads._LEAST_PART", 500)
    tables = problem.model.tables(problem.parameters)
    args = (problem.data.observations, problem.weight, problem.slopes, problem.references, tables)
    one, several = sweep(*args), sweep(*args, threads=threads)
    assert one.chi2 == several.chi2
    assert one.gradient is not None
    assert several.gradient is not None
    assert one.gradient.tobytes() == several.gradient.tobytes()
    assert one.mean.tobytes() == several.mean.tobytes()


def test_other_parts_give_the_same_sums_to_rounding(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = problem.model.tables(problem.parameters)
    args = (problem.data.observations, problem.weight, problem.slopes, problem.references, tables)
    whole = sweep(*args)
    monkeypatch.setattr("zeropoint.fgcm.threads._LEAST_PART", 500)
    parts = sweep(*args)
    assert parts.chi2 == pytest.approx(whole.chi2, rel=1e-12)
    # compact observations, those without weight left out, are the same fit
    used = problem.weight > 0
    few = sweep(problem.data.observations.select(used), problem.weight[used], *args[2:])
    assert few.chi2 == pytest.approx(whole.chi2, rel=1e-12)


def test_what_has_no_weight_may_be_anything(problem: Problem) -> None:
    o, e = problem.data.observations, problem.data.exposures
    used = e.night != 1
    weight = np.where(used[o.exposure], problem.weight, 0.0).astype(np.float32)
    bad = np.flatnonzero(weight == 0.0)[::7]
    mag = o.mag.copy()
    mag[bad] = np.nan
    few, all_ = (problem.model.tables(problem.parameters, mask) for mask in (used, None))
    expected = sweep(o, weight, problem.slopes, None, all_)
    weight[bad] = np.nan
    found = sweep(replace(o, mag=mag), weight, problem.slopes, None, few)
    assert found.chi2 == expected.chi2
    assert found.n_used == expected.n_used
    assert found.gradient is not None
    assert expected.gradient is not None
    assert found.gradient.tobytes() == expected.gradient.tobytes()


def test_a_constant_of_a_band_is_seen_by_references_only(problem: Problem) -> None:
    offset = problem.parameters.abs_offset + np.array([0.0, 0.3, 0.0, 0.0])
    shifted = problem.model.tables(problem.parameters.replace(abs_offset=offset), derivatives=False)
    here = problem.model.tables(problem.parameters, derivatives=False)
    o, w, slopes = problem.data.observations, problem.weight, problem.slopes
    alone = [sweep(o, w, slopes, None, t, gradient=False).chi2 for t in (here, shifted)]
    assert alone[0] == pytest.approx(alone[1], rel=1e-10)
    with_references = [
        sweep(o, w, slopes, problem.references, t, gradient=False).chi2 for t in (here, shifted)
    ]
    assert abs(with_references[0] - with_references[1]) > 1.0


def test_without_atmosphere_the_gray_terms_remain(data: FitData, problem: Problem) -> None:
    e, source = data.exposures, problem.model.passbands
    gray = GrayPassbands(
        e.physical_filters, e.detectors, e.physical_filters, source.lambda_std, source.standard
    )
    model = PhotometricModel(e, gray, zp_ab=1.5)
    tables = model.tables(problem.parameters)
    assert not tables.derivatives
    a, i10 = tables.at(0.0)
    assert not i10.any()
    rise = problem.parameters.airmass_residual[e.band[5]] * (e.airmass_low[5] - 1.0)
    expected = 1.5 + rise + naive.gray_term(e, problem.parameters, 5, 2)
    assert a[5, 2] == pytest.approx(expected, abs=1e-12)
    check_gradient(replace(problem, model=model), full_layout(problem), references=True)


def test_slopes_that_are_no_spectra_are_refused(problem: Problem) -> None:
    tables = problem.model.tables(problem.parameters, derivatives=False)
    o = problem.data.observations
    slopes = problem.slopes.copy()
    slopes[3, 1] = np.nan
    with pytest.raises(InvalidInputError, match=r"1 of .* not finite"):
        sweep(o, problem.weight, slopes, None, tables)
    slopes[3, 1] = 0.5
    with pytest.raises(InvalidInputError, match="no linear spectra"):
        sweep(o, problem.weight, slopes, None, tables)


def test_parameters_beyond_the_ranges_are_clipped_and_flat(problem: Problem) -> None:
    far = problem.parameters.replace(o3=np.full_like(problem.parameters.o3, 1000.0))
    tables = problem.model.tables(far)
    assert np.all(tables.atmosphere.o3 == problem.model.passbands.ranges["o3"][1])
    assert not tables.derivatives["o3"].any()
    assert tables.derivatives["alpha"].any()

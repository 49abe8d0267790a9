"""The simulated survey for the global calibration: its truth is what its tables hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from zeropoint.errors import InvalidInputError
from zeropoint.simulation.fgcm_conditions import secant
from zeropoint.simulation.fgcm_measured import measured_physics
from zeropoint.simulation.fgcm_photometry import photon_constant, standard_passbands
from zeropoint.simulation.fgcm_settings import FgcmSurveySettings, small_survey, wide_survey
from zeropoint.simulation.fgcm_sources import aperture_loss
from zeropoint.simulation.fgcm_survey import FgcmSurvey, simulate_fgcm_survey
from zeropoint.simulation.fgcm_tables import source_table, throughput_curves, visit_summary, write_fgcm_survey
from zeropoint.simulation.fgcm_truth import compare_star_list, observation_truth, true_zeropoints


@pytest.fixture(scope="module")
def survey() -> FgcmSurvey:
    return simulate_fgcm_survey(small_survey())


@pytest.fixture(scope="module")
def observations(survey: FgcmSurvey) -> Table:
    return survey.observations()


def test_the_same_settings_give_the_same_observations_whichever_visit_is_asked_first(
    survey: FgcmSurvey, observations: Table
) -> None:
    again = simulate_fgcm_survey(small_survey())
    assert np.array_equal(again.sources(20).magnitude, survey.sources(20).magnitude)
    repeated = again.observations()
    for name in observations.colnames:
        assert np.array_equal(repeated[name], observations[name]), name
    other = simulate_fgcm_survey(small_survey(seed=2))
    assert not np.array_equal(other.stars["ra"], survey.stars["ra"])


def _integrated(survey: FgcmSurvey, row: int, detector: int, star: int, x: float) -> float:
    """Return a star's magnitude by an integral that is written out: a sum over wavelengths for one star."""
    s, visit, lam = survey.settings, survey.visits[row], survey.physics.wavelength
    air = survey.physics.transmission(
        *(np.array([visit[k]]) for k in ("pressure", "pwv", "ozone", "tau", "alpha")), np.array([x])
    )[0]
    spectrum = survey.physics.spectra[survey.stars["spectrum"][star]]
    standard = standard_passbands(s, survey.physics, survey.throughput)[1]  # the band in the middle
    mean = np.sum(spectrum * standard / lam) / np.sum(standard / lam)
    total = np.sum(spectrum / mean * survey.throughput[visit["band"], detector] * air / lam) * (
        lam[1] - lam[0]
    )
    return float(survey.stars["mag"][star] - 2.5 * np.log10(photon_constant(s) * s.throughput * total))


def test_magnitudes_are_integrals_of_spectra_with_stated_noise(
    survey: FgcmSurvey, observations: Table
) -> None:
    s, pulls = survey.settings, []
    alone = (observations["star"] >= 0) & (observations["merged"] < 0)
    some = observations[alone][:: int(alone.sum()) // 300]
    for one in some:
        row = int(np.flatnonzero(survey.visits["visit"] == one["visit"])[0])
        visit = survey.visits[row]
        ra, dec = (np.asarray(survey.stars[k])[one["star"]] for k in ("ra", "dec"))
        ra0, hour_angle = (float(np.deg2rad(visit[k])) for k in ("ra", "hour_angle"))
        x = float(secant(ra, dec, hour_angle, ra0, np.deg2rad(s.site.latitude)))
        u, v = np.array([one["x"], one["y"]]) + survey.camera.origins[one["ccd"]]
        truth = _integrated(survey, row, one["ccd"], one["star"], x) + float(survey.gray(row, u, v))
        truth += aperture_loss(float(visit["fwhm"]), 12.0 * s.pixel_scale)
        a, b = 2.0 * (np.array([one["x"], one["y"]]) + 0.5) / s.detector_size - 1.0
        terms = np.outer([1.0, b, 2.0 * b**2 - 1.0], [1.0, a, 2.0 * a**2 - 1.0])
        truth += float(np.sum(survey.flats[visit["band"], one["ccd"]] * terms))
        pulls.append((one["instMag"] - truth) / np.hypot(one["instMagErr"], s.sigma_phot))
    # mean and width of 300 unit normals, 4 sigma
    assert abs(np.mean(pulls)) < 4.0 / np.sqrt(len(pulls))
    assert abs(np.std(pulls) - 1.0) < 4.0 / np.sqrt(2.0 * len(pulls))


def test_zeropoints_of_the_truth_bring_stars_to_their_standard_magnitudes(
    survey: FgcmSurvey, observations: Table
) -> None:
    spectrum = int(np.argmax(np.bincount(survey.stars["spectrum"])))
    true = true_zeropoints(survey, spectrum)
    zeropoint = {(int(z["visit"]), int(z["detector"])): float(z["zeropoint"]) for z in true}
    same = (observations["star"] >= 0) & (observations["merged"] < 0)
    same &= np.asarray(survey.stars["spectrum"])[observations["star"]] == spectrum
    pulls = []
    for one in observations[same]:
        band = survey.settings.bands[
            survey.visits["band"][np.searchsorted(survey.visits["visit"], one["visit"])]
        ]
        magnitude = one["instMag"] + zeropoint[one["visit"], one["ccd"]] - 2.5 * np.log10(30.0)
        difference = magnitude - survey.stars[f"mag_{band}"][one["star"]]
        # flat and extinction change by a few mmag between a detector's centre and its edge
        pulls.append(difference / np.hypot(one["instMagErr"], 0.008))
    assert abs(np.mean(pulls)) < 0.25
    assert np.std(pulls) < 1.2


def test_tables_and_summaries_say_what_the_truth_does(survey: FgcmSurvey) -> None:
    row = 3
    sources, visit = survey.sources(row), survey.visits[row]
    table, summary = source_table(survey, sources), visit_summary(survey, row)
    magnitude = -2.5 * np.log10(np.asarray(table["apFlux_12_0_instFlux"]) / survey.settings.exposure_time)
    assert np.allclose(magnitude, sources.magnitude, rtol=0, atol=1e-12)
    sn = table["apFlux_12_0_instFlux"] / table["apFlux_12_0_instFluxErr"]
    assert sn.min() > survey.settings.sn_limit
    for record in summary:
        here = table["detector"] == record.id
        wcs, info = record.getWcs(), record.getVisitInfo()
        assert wcs is not None
        assert info is not None
        assert info.pressure.to_value("hPa") == pytest.approx(visit["pressure"])
        ra, dec = wcs.pixel_to_sky(x=table["x"][here], y=table["y"][here])
        assert np.allclose(np.rad2deg(ra), table["ra"][here], rtol=0, atol=1e-10)
        assert np.allclose(np.rad2deg(dec), table["dec"][here], rtol=0, atol=1e-10)
        # areas are relative to the median scale at the centres
        scale = wcs.pixel_scale(x=table["x"][here], y=table["y"][here])
        ratio = scale**2 / sources.jacobian[np.asarray(here)]
        assert np.ptp(ratio) < 1e-5 * ratio.mean()
    curves = throughput_curves(survey)["r_fgcm"]
    assert np.array_equal(curves[2].throughput, survey.throughput[1, 2])


def test_pairs_are_one_source_in_bad_seeing_and_two_in_good(survey: FgcmSurvey) -> None:
    seeing = np.asarray(survey.visits["fwhm"])
    best, worst = survey.sources(int(np.argmin(seeing))), survey.sources(int(np.argmax(seeing)))
    assert (worst.merged >= 0).sum() >= (best.merged >= 0).sum()
    merged = worst.merged >= 0
    stars = survey.stars
    faint, bright = worst.merged[merged], worst.star[merged]
    east = (stars["ra"][faint] - stars["ra"][bright]) * np.cos(stars["dec"][bright])
    separation = np.rad2deg(np.hypot(east, stars["dec"][faint] - stars["dec"][bright])) * 3600.0
    assert separation.max() < 0.8 * seeing.max()
    assert not np.isin(faint, worst.star).any()


def test_the_truth_of_observations_is_found_from_their_positions(
    survey: FgcmSurvey, observations: Table, rng: np.random.Generator
) -> None:
    shuffled = observations[rng.permutation(len(observations))]
    star, merged = observation_truth(survey, shuffled)
    assert np.array_equal(star, shuffled["star"])
    assert np.array_equal(merged, shuffled["merged"])
    shuffled["x"][5] += 1.0
    with pytest.raises(InvalidInputError, match="not all observations"):
        observation_truth(survey, shuffled)


def test_the_comparison_counts_lost_split_and_mixed_stars(survey: FgcmSurvey, observations: Table) -> None:
    star = np.asarray(observations["star"])
    order = np.argsort(star, kind="stable")
    order = order[star[order] >= 0]
    numbers, starts, counts = np.unique(star[order], return_index=True, return_counts=True)
    kept = counts >= 20
    kept[np.flatnonzero(kept)[0]] = False  # lost
    numbers, starts, counts = numbers[kept], starts[kept], counts[kept]
    starts, counts = np.append(starts, starts[-1] + 10), np.append(counts, counts[-1] - 10)  # split
    counts[-2] = 10
    numbers = np.append(numbers, numbers[-1])
    order[starts[0]], order[starts[3]] = order[starts[3]], order[starts[0]]  # mixed
    ids = Table({
        "ra": np.rad2deg(survey.stars["ra"][numbers]), "dec": np.rad2deg(survey.stars["dec"][numbers]),
        "obsArrIndex": starts, "nObs": counts,
    })  # fmt: skip
    result = compare_star_list(
        survey,
        observations,
        ids,
        Table({"obsIndex": order}),
        primary_bands=["r"],
        min_per_band=2,
        isolation_radius=1e-3,
    )
    assert result.n_wrong == 2
    assert result.n_split == 1
    assert result.n_found + result.n_lost == result.n_expected
    assert result.n_found == len(np.unique(numbers))
    assert result.n_assigned == counts.sum()
    assert result.n_unassigned == 0
    assert result.position_error_mas == pytest.approx(0.0, abs=1e-3)


def test_a_survey_on_disk_has_a_table_and_a_summary_for_each_visit(tmp_path: Path) -> None:
    tiny = replace(small_survey(), n_visits=2, n_nights=1, n_side=1, n_stars=50, bands=("r", "z"))
    survey = simulate_fgcm_survey(tiny)
    write_fgcm_survey(survey, tmp_path)
    for kind in ("sources", "summaries", "truth_sources"):
        assert sorted(path.stem for path in (tmp_path / kind).iterdir()) == ["1001", "1002"]
    assert pq.read_table(tmp_path / "sources" / "1001.parquet").num_rows == len(survey.sources(0))
    assert pq.read_table(tmp_path / "truth_visits.parquet").num_rows == 2


def test_measured_physics_needs_its_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZEROPOINT_TESTDATA", raising=False)
    with pytest.raises(InvalidInputError, match="ZEROPOINT_TESTDATA"):
        measured_physics()
    with pytest.raises(InvalidInputError, match="is this the folder of test data"):
        measured_physics(tmp_path)
    with pytest.raises(InvalidInputError, match="no physics 'invented'"):
        simulate_fgcm_survey(FgcmSurveySettings(physics="invented"))


def test_the_measured_atmosphere_behaves_as_air_does(testdata: Path) -> None:
    physics = measured_physics(testdata)
    n = 5

    def air(**changed: np.ndarray) -> np.ndarray:
        base = {"pressure": 731.0, "pwv": 4.3, "ozone": 263.0, "tau": 0.03, "alpha": 1.0, "secant": 1.2}
        return physics.transmission(
            *(np.broadcast_to(changed.get(k, v), n).astype(float) for k, v in base.items())
        )

    lam = physics.wavelength
    water = air(pwv=np.linspace(1.0, 12.0, n))
    z = (lam > 9300) & (lam < 9700)
    assert (np.diff(water[:, z].mean(axis=1)) < -0.01).all()
    dry = (lam > 5000) & (lam < 5500)
    assert np.array_equal(water[0, dry], water[-1, dry])
    assert (np.diff(air(secant=np.linspace(1.0, 2.5, n)), axis=0) <= 1e-12).all()
    # two closed forms and one number: Rayleigh at 4000 A for 731 mb, and 30 DU more of ozone at its peak
    clear = -np.log(air(tau=0.0, ozone=0.0)[0, np.argmin(np.abs(lam - 4000.0))]) / 1.2
    assert clear == pytest.approx(0.3618 * 731.0 / 1013.25, rel=0.02)
    with pytest.raises(InvalidInputError, match="secants from"):
        air(secant=3.0)


@pytest.mark.slow
def test_the_whole_survey_is_as_its_description_says(testdata: Path) -> None:
    survey = simulate_fgcm_survey(FgcmSurveySettings(), testdata)
    observations = survey.observations()
    assert len(observations) == pytest.approx(1.13e6, rel=0.01)
    assert len(np.unique(survey.visits["night"])) == 20
    assert (~np.asarray(survey.visits["photometric"])).sum() == 36
    # the survey's mean is one sigma of the prior off
    assert np.mean(survey.nights["ln_tau"]) == pytest.approx(np.log(0.03) + 0.6)
    assert (survey.visits["airmass"] < 2.0).all()


@pytest.mark.slow
def test_the_fields_of_the_wide_survey_are_chained_by_their_stars() -> None:
    survey = simulate_fgcm_survey(replace(wide_survey(), physics="simple"))
    settings = survey.settings
    assert np.prod((np.array(settings.fields) - 1) * settings.field_spacing + settings.camera_side) > 30.0
    seen = np.zeros((len(survey.stars), 24), bool)
    for sources in survey.all_sources():
        seen[sources.star[sources.clean & (sources.star >= 0)], survey.visits["field"][sources.row]] = True
    shared = seen.astype(int).T @ seen.astype(int)
    # enough to tie two fields to a few millimagnitudes
    links, reached = shared >= 10, np.arange(24) == 0
    for _ in range(24):
        reached = links[reached].any(axis=0)
    assert reached.all()
    assert np.diag(shared).min() > 1000

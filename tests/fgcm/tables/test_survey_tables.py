"""Surveys from tables of any origin: columns and units, what is left out and what is absent, in any order."""

import numpy as np
import pytest

from zeropoint.catalogs.reference_raw import RawTable
from zeropoint.errors import InvalidInputError, NoUniqueStarsError
from zeropoint.fgcm.accounting import META_KEY, Accounting
from zeropoint.fgcm.column_map import SurveyColumns
from zeropoint.fgcm.observations import describe_observations
from zeropoint.fgcm.survey_tables import StarsFromTablesConfig, read_survey_tables
from zeropoint.fgcm.visits import describe_visits
from zeropoint.recipes.fgcm_stars_from_tables import FgcmStarsFromTables, filters_by_wavelength

MAP = {
    "observations": {
        "ra": "A",
        "dec": {"column": "D", "unit": "rad"},
        "instFlux": "F",
        "instFluxErr": "E",
        "flags": ["bad"],
    },
    "visits": {"physicalFilter": "FILT"},
    "filters": {"R1": "r", "G1": "g"},
}
N_STARS, N_VISITS = 5, 4


def tables(order=slice(None), **changes):
    """Visits 10 to 13, in R1 and G1 by turns, of five stars 30 arcsec apart; some columns replaced, or left out if empty."""
    star, visit = np.tile(np.arange(N_STARS), N_VISITS), np.repeat(np.arange(N_VISITS), N_STARS)
    observations = {
        "visit": visit + 10,
        "A": 10.0 + star * 30 / 3600,
        "D": np.deg2rad(np.full(len(star), -20.0)),
        "F": 1000.0 * (star + 1.0),
        "E": np.full(len(star), 10.0),
        "bad": np.zeros(len(star), bool),
    }
    visits = {
        "visit": np.arange(N_VISITS) + 10,
        "FILT": np.array(["R1", "G1"] * 2),
        "exptime": np.full(N_VISITS, 100.0),
    }
    for name, values in changes.items():
        is_of_visits = name in visits or name in ("mjd", "telra", "airmass")
        (visits if is_of_visits and len(values) == N_VISITS else observations)[name] = np.asarray(values)
    there = {name: values[order] for name, values in observations.items() if len(values)}
    return RawTable("obs.fits", there), RawTable("visits.fits", visits)


def config_of(**fields):
    config = StarsFromTablesConfig()
    config.update(**{"primaryBands": ["r"], **fields})
    return config


def read(*, given=None, config=None, **changes):
    return read_survey_tables(
        *tables(**changes), SurveyColumns.from_mapping(given or MAP), config or config_of()
    )


def test_fluxes_and_angles_become_magnitudes_of_one_second_and_radians():
    survey = read()
    sources = survey.observations
    assert sources.colnames == describe_observations({name: [] for name in sources.colnames}).colnames
    np.testing.assert_allclose(sources["instMag"][:2], -2.5 * np.log10([10.0, 20.0]), rtol=1e-6)
    np.testing.assert_allclose(
        sources["instMagErr"][:2], 2.5 / np.log(10) * np.array([0.01, 0.005]), rtol=1e-6
    )
    np.testing.assert_allclose(np.rad2deg(sources["dec"]), -20.0, rtol=1e-14)
    np.testing.assert_allclose(np.rad2deg(sources["ra"][:2]), [10.0, 10.0 + 30 / 3600], rtol=1e-14)
    assert sources["visit"].tolist() == np.repeat([10, 11, 12, 13], 5).tolist()
    assert survey.bands == {"R1": "r", "G1": "g"}


def test_what_the_tables_do_not_say_is_stated():
    survey = read()
    visits = survey.visits
    assert visits.colnames == describe_visits({name: [] for name in visits.colnames}).colnames
    absent = visits.meta["ABSENT"]
    assert {"visits.mjd", "visits.airmass", "visits.pmb", "visits.psfFwhm", "observations.detector"} <= set(
        absent
    )
    assert not {"visits.exptime", "observations.instFlux", "observations.instMag"} & set(absent)
    assert (visits["airmass"] == 1.0).all()
    assert visits.meta["SECANT_ONE"] == survey.accounting["visits"].noted["secant_one"] == 4
    assert np.isnan(visits["mjd"]).all()
    assert np.isnan(survey.observations["x"]).all()
    assert (survey.observations["deltaMagAper"] == 99.0).all()
    assert np.isnan(visits["deltaAper"]).all()
    assert Accounting.from_meta(visits.meta[META_KEY]).lines() == survey.accounting.lines()


def test_hour_angles_come_from_time_and_site():
    given = {**MAP, "site": {"latitude": -30.0, "longitude": -70.0}}
    # at the epoch J2000.0 the Earth rotation angle is 280.4606 degrees
    visits = read(given=given, mjd=np.full(4, 51544.5), telra=np.full(4, 200.0)).visits
    np.testing.assert_allclose(visits["telha"], 280.4606 - 70.0 - 200.0, atol=1e-4)
    assert np.isnan(visits["airmass"]).all()
    assert visits.meta["SECANT_ONE"] == 0
    assert visits.meta["LATITUDE"] == -30.0
    assert read(airmass=[1.1, np.nan, 1.2, 1.3]).visits.meta["SECANT_ONE"] == 1


def test_magnitudes_are_taken_as_they_are():
    mag = np.linspace(-9.0, -5.0, 20)
    given = {**MAP, "observations": {"ra": "A", "dec": {"column": "D", "unit": "rad"}}}
    survey = read(given=given, F=[], E=[], instMag=mag, instMagErr=np.full(20, 0.02))
    np.testing.assert_array_equal(np.sort(survey.observations["instMag"]), mag.astype(np.float32))


def test_magnitudes_that_the_map_asks_for_go_before_fluxes_that_are_there():
    magnitudes = {"observations": {"ra": "A", "dec": "D", "instMag": "M", "instMagErr": "S"}}
    changes = {"M": np.full(20, -9.0), "S": np.full(20, 0.02), "instFlux": np.full(20, 50.0)}
    survey = read(given={**MAP, **magnitudes}, **changes, instFluxErr=np.full(20, 1.0))
    assert set(survey.observations["instMag"].tolist()) == {-9.0}


def test_visits_that_are_only_in_the_observations_are_named(caplog):
    visit = np.repeat([10, 11, 12, 13], 5)
    visit[[3, 9]] = 77
    survey = read(visit=visit, exptime=[100.0, 100.0, 100.0, 0.0])
    assert survey.accounting["sources"].rejected["no_visit"] == 7
    assert "2 observations are of visits that the table of visits does not have: 77." in caplog.text


def test_each_observation_left_out_has_a_reason():
    flux, error, ra, bad = np.full(20, 1e3), np.full(20, 10.0), np.full(20, 10.0), np.zeros(20, bool)
    flux[:3] = [np.nan, -5.0, 0.0]
    error[3:6] = [np.nan, 0.0, 200.0]
    error[6], ra[7], bad[8:10] = 0.1, np.inf, True
    accounting = read(F=flux, E=error, A=ra, bad=bad, FILT=["R1", "G1", "R1", "odd"]).accounting
    stage = accounting["sources"]
    assert (stage.read, stage.kept, stage.adds_up) == (20, 5, True)
    assert stage.rejected == {
        "flux": 3,
        "flux_error": 2,
        "low_signal_to_noise": 1,
        "high_signal_to_noise": 1,
        "position": 1,
        "flagged": 2,
        "no_visit": 5,
    }
    # all that visits 10 and 11 saw is left out, and 13 is in a filter without band
    assert accounting["visits"].rejected == {"no_sources": 2, "no_band": 1}


def test_limits_of_signal_to_noise_are_those_of_the_selector():
    config = config_of()
    config.sourceSelector["science"].signalToNoise.minimum = 250.0
    assert read(config=config).accounting["sources"].rejected == {"low_signal_to_noise": 8}
    config.sourceSelector["science"].doSignalToNoise = False
    assert len(read(config=config).observations) == 20


def test_pixel_areas_brighten_fluxes_where_pixels_see_more_sky():
    given = {**MAP, "observations": {**MAP["observations"], "jacobian": {"value": 1.01}}}
    change = read(given=given).observations["instMag"] - read().observations["instMag"]
    np.testing.assert_allclose(change, -0.010803, atol=1e-6)
    kept = read(given=given, config=config_of(doApplyWcsJacobian=False)).observations
    np.testing.assert_array_equal(kept["instMag"], read().observations["instMag"])
    np.testing.assert_array_equal(kept["jacobian"], np.float32(1.01))


def test_visits_have_the_median_of_their_aperture_differences():
    given = {**MAP, "observations": {**MAP["observations"], "innerFlux": "F", "outerFlux": "F17"}}
    inner = tables()[0].columns["F"]
    survey = read(given=given, F17=inner * np.repeat([1.1, 1.2, np.nan, 1.0], 5))
    np.testing.assert_allclose(survey.visits["deltaAper"], [0.10348, 0.19795, np.nan, 0.0], atol=1e-4)
    assert survey.accounting["sources"].noted["no_aperture_difference"] == 5


def test_units_of_all_columns_of_visits_are_kept():
    visits = read().visits
    described = describe_visits({name: visits[name].data for name in visits.colnames})
    assert {name: visits[name].unit for name in visits.colnames} == {
        name: described[name].unit for name in described.colnames
    }


def test_the_order_of_rows_changes_nothing(rng):
    columns = SurveyColumns.from_mapping(MAP)
    straight, shuffled = (
        FgcmStarsFromTables(config_of()).run(*tables(order), columns)
        for order in (slice(None), rng.permutation(20))
    )
    for name in ("visits", "observations", "star_ids", "star_indices"):
        one, other = getattr(straight, name), getattr(shuffled, name)
        for column in one.colnames:
            np.testing.assert_array_equal(one[column], other[column])
    assert straight.star_ids["nObs"].tolist() == [4] * 5


def test_without_primary_bands_all_bands_are_searched():
    result = FgcmStarsFromTables(StarsFromTablesConfig()).run(*tables(), SurveyColumns.from_mapping(MAP))
    assert result.accounting["groups_of_observations"].rejected == {"star_of_earlier_band": 5}
    with pytest.raises(NoUniqueStarsError, match="too_few_in_required_band 5"):
        FgcmStarsFromTables(config_of(requiredBands=["g"], minPerBand=2)).run(
            *tables(FILT=["R1", "R1", "R1", "G1"]), SurveyColumns.from_mapping(MAP)
        )


@pytest.mark.parametrize(
    ("given", "changes", "words"),
    [
        ({"observation": {}}, {}, "no key 'observation'.*Did you mean 'observations'"),
        ({"observations": {"rra": "A"}}, {}, "observations has no key 'rra'"),
        ({**MAP, "observations": {"ra": "B"}}, {}, "obs.fits: no column 'B'.*gives for ra"),
        ({"visits": MAP["visits"]}, {}, "obs.fits: no column for ra, dec, instFlux, instFluxErr"),
        (
            {**MAP, "observations": {**MAP["observations"], "ra": {"column": "A", "unit": "mag"}}},
            {},
            "ra is in 'mag'",
        ),
        ({**MAP, "observations": {**MAP["observations"], "flags": ["worse"]}}, {}, "no column worse.*flags"),
        ({**MAP, "site": {"latitude": "south"}}, {}, "site must hold numbers"),
        (MAP, {"visit": np.full(20, 10.5)}, "column visit must hold whole numbers"),
        (MAP, {"bad": np.full(20, "no")}, "column bad must hold true or false"),
        (MAP, {"F": np.full(20, "?")}, "column F must hold numbers"),
        (MAP, {"FILT": ["X"] * 4}, "no visit can be used: no_band 4. Filters there: X; with a band: R1, G1"),
        (MAP, {"exptime": [0.0, -1.0, np.nan, 0.0]}, "no visit can be used: no_exposure_time 4"),
        (MAP, {"F": np.full(20, -1.0)}, "no observation can be used: .*flux 20"),
        (MAP, {"D": np.full(20, 20.0)}, r"rejected \(position 20\). Are ra and dec in degrees"),
        (MAP, {"A": np.full(20, 7200.0)}, r"rejected \(position 20\). Are ra and dec in degrees"),
        (MAP, {"visit": np.arange(20) + 100}, r"\(no_visit 20\). Do both tables number the visits alike"),
        (MAP, {"E": np.full(20, 1e4)}, r"low_signal_to_noise 20\). Are the errors in the unit of the fluxes"),
        (
            {**MAP, "observations": {**MAP["observations"], "instFlux": {"column": "F", "unit": "mag"}}},
            {},
            "instFlux is in 'mag', which is no flux; magnitudes are instMag",
        ),
        (
            {**MAP, "site": {"latitude": -130.0}},
            {},
            "latitude is -130, but lies between -90 and 90 degrees",
        ),
        (
            MAP,
            {"mjd": [2460000.5, np.nan, 60000.0, 60000.0]},
            r"visits.fits: mjd holds 2460000.5, but mjd lies between 0 and 100000 d; it looks like a Julian date.*\(1 of 4 values are wrong\)",
        ),
        (MAP, {"airmass": [1.2, 0.5, -9999.0, np.nan]}, r"airmass holds 0.5, .*2 of 4 .*leave empty what is"),
        (
            {**MAP, "visits": {**MAP["visits"], "pmb": {"value": 78000.0}}},
            {},
            "pmb holds 78000, but pmb lies between 100 and 1200 mbar; it looks like Pa .*correct the column or its unit",
        ),
        (
            {**MAP, "observations": {**MAP["observations"], "instMag": "F"}},
            {},
            "observations has instFlux and instMag; give one",
        ),
    ],
)
def test_tables_that_cannot_be_used_are_named(given, changes, words):
    with pytest.raises(InvalidInputError, match=words):
        read(given=given, **changes)


def test_a_visit_with_two_rows_is_refused():
    observations, visits = tables()
    twice = RawTable("visits.fits", {name: np.append(v, v[-1:]) for name, v in visits.columns.items()})
    with pytest.raises(InvalidInputError, match=r"visits.fits: 1 visits have more than one row \(13\)"):
        read_survey_tables(observations, twice, SurveyColumns.from_mapping(MAP), config_of())


def test_a_table_without_visits_is_named():
    observations, _ = tables()
    visits = RawTable("visits.fits", {"visit": np.zeros(0, int), "FILT": np.zeros(0, "U2")})
    with pytest.raises(InvalidInputError, match=r"visits.fits: no visit can be used: it has no rows\.$"):
        read_survey_tables(observations, visits, SurveyColumns.from_mapping(MAP), config_of())


def test_observations_that_are_there_twice_are_what_is_said_to_be_wrong():
    observations, visits = tables(order=np.repeat(np.arange(20), 2))
    with pytest.raises(NoUniqueStarsError, match="check that no observation is in the tables twice"):
        FgcmStarsFromTables(config_of()).run(observations, visits, SurveyColumns.from_mapping(MAP))


def test_filters_are_in_the_order_of_wavelength_as_far_as_it_is_known():
    bands = {"z1": "z", "r2": "r", "r1": "r", "N501": "N501", "g1": "g", "clear": "clear"}
    assert filters_by_wavelength(bands) == ["g1", "r2", "z1", "N501", "clear"]

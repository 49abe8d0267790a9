"""Settings, camera and passbands that a star list tells by itself."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.fit_defaults import SurveyFacts, derive_settings
from zeropoint.fgcm.fit_passbands import passbands_of_files, without_atmosphere
from zeropoint.fgcm.model.star_tables import StarColumns
from zeropoint.fgcm.star_list_camera import star_list_camera
from zeropoint.simulation.fgcm_star_list import star_list


def _visits(n=24, hours=None, **meta):
    mjd = 60000.0 + np.repeat(np.arange(n // 8), 8) + (0.1 + 0.03 * (np.arange(n) % 8))
    names = np.array(["G1", "R1"])[np.arange(n) % 2]
    telha = np.full(n, np.nan) if hours is None else np.full(n, hours)
    table = Table({"visit": np.arange(n), "physicalFilter": names, "mjd": mjd, "telha": telha})
    table.meta |= {"BANDS": {"G1": "g", "R1": "r"}, **meta}
    return table


def _survey(visits, stars=200, detectors=4, references=False):
    visit = np.repeat(np.asarray(visits["visit"]), stars)
    return SurveyFacts(visits, visit, np.arange(len(visit)) % detectors, references)


def _source(detectors=4, bands=None):
    names = bands or {"R1": "r", "G1": "g"}
    return without_atmosphere(names, range(detectors)).source


def test_settings_come_from_the_data_and_are_said():
    config = FgcmFitCycleConfigBase()
    notes = derive_settings(config, _survey(_visits(LATITUDE=-30.0, LONGITUDE=-70.7494)), _source())
    assert list(config.bands) == ["g", "r"]  # by wavelength
    assert (config.latitude, config.utBoundary) == (-30.0, 0.3035)
    assert (config.minStarPerExp, config.minCcdPerExp, config.minExpPerNight) == (60, 2, 2)
    assert not config.doReferenceCalibration
    config.validate()
    assert "minStarPerExp = 60: a typical exposure has 200 stars" in notes
    assert sum("minExpPerNight" in note for note in notes) == 1


def test_what_somebody_set_stays():
    config = FgcmFitCycleConfigBase()
    config.minStarPerExp, config.utBoundary, config.latitude = 600, 0.25, 10.0
    config.superStarSubCcdDict = {"g": False, "r": True}
    notes = derive_settings(config, _survey(_visits()), _source())
    assert (config.minStarPerExp, config.utBoundary, config.latitude) == (600, 0.25, 10.0)
    assert dict(config.superStarSubCcdDict) == {"g": False, "r": True}
    assert not any("minStarPerExp" in note or "superStarSubCcdDict" in note for note in notes)


def test_without_a_site_nights_end_in_the_longest_time_of_day_without_exposures():
    config = FgcmFitCycleConfigBase()
    derive_settings(config, _survey(_visits()), _source())
    night = np.floor(np.asarray(_visits()["mjd"]) + config.utBoundary)
    assert len(np.unique(night)) == 3
    assert config.latitude == 0.0  # no hour angles either


def test_hour_angles_need_a_latitude():
    with pytest.raises(InvalidInputError, match="latitude"):
        derive_settings(FgcmFitCycleConfigBase(), _survey(_visits(hours=10.0)), _source())


def test_passbands_of_another_camera_are_named():
    with pytest.raises(InvalidInputError, match=r"visits are in G1, R1, passbands are of Z9"):
        derive_settings(FgcmFitCycleConfigBase(), _survey(_visits()), _source(bands={"Z9": "z"}))


@pytest.mark.parametrize(
    ("stars", "epochs", "vary", "order"),
    # 12 exposures of a band on four detectors: 1200, 900, 180 and 120 observations of each; two epochs have half of that
    [
        (400, [], True, 2),
        (300, [], True, 1),
        (60, [], True, 1),
        (40, [], False, 1),
        (400, [60001.5], True, 1),
    ],
)
def test_flats_within_detectors_have_the_order_for_which_there_are_stars_enough(stars, epochs, vary, order):
    config = FgcmFitCycleConfigBase()
    config.epochMjds = epochs
    notes = derive_settings(config, _survey(_visits(), stars=stars), _source())
    assert dict(config.superStarSubCcdDict) == {"g": vary, "r": vary}
    assert config.superStarSubCcdChebyshevOrder == order
    if not epochs:
        (note,) = (note for note in notes if note.startswith("superStarSubCcdDict"))
        assert f"g {3 * stars:,}, r {3 * stars:,}. Flats vary" in note


def test_a_filter_with_few_exposures_does_not_take_the_flats_of_its_band():
    visits = _visits()
    visits.meta["BANDS"] = {"G1": "g", "R1": "r", "R2": "r"}
    visits["physicalFilter"][1] = "R2"
    config = FgcmFitCycleConfigBase()
    derive_settings(config, _survey(visits, stars=500), _source(bands={"R1": "r", "R2": "r", "G1": "g"}))
    assert dict(config.superStarSubCcdDict) == {"g": True, "r": True}
    assert config.superStarSubCcdChebyshevOrder == 2


def test_the_star_list_shows_the_camera(fgcm_survey):
    stars = star_list(fgcm_survey)
    camera = star_list_camera(stars.visits, StarColumns(stars.observations, "observations"), (0, 1, 2, 3, 7))
    assert camera.turn == 1.0
    plane = camera.focal_plane
    s = fgcm_survey.settings
    assert [(each.id, each.width, each.height) for each in plane] == [
        (d, 1024, 1024) for d in (0, 1, 2, 3, 7)
    ]
    # distortion changes the scale by less than a percent on this small field
    assert plane[0].pixel_scale == pytest.approx(s.pixel_scale, rel=0.01)
    offset = 0.5 * (s.detector_size + s.gap) * s.pixel_scale / 3600.0
    places = np.array([[each.offset_x, each.offset_y] for each in list(plane)[:4]])
    assert np.abs(places) == pytest.approx(np.full((4, 2), offset), rel=0.01)
    assert len(np.unique(np.sign(places), axis=0)) == 4
    assert (plane[7].offset_x, plane[7].offset_y) == (0.0, 0.0)  # no star was seen there


def test_pixels_that_are_not_known_are_no_camera(fgcm_survey):
    stars = star_list(fgcm_survey)
    stars.observations["x"] = np.nan
    assert (
        star_list_camera(stars.visits, StarColumns(stars.observations, "observations"), (0, 1, 2, 3)) is None
    )


def test_a_table_without_throughputs_is_refused(tmp_path):
    from click.testing import CliRunner

    from zeropoint.cli import main

    lut, curves = tmp_path / "lut.parq", tmp_path / "curves.parq"
    small = [f"-cparameters.{axis}Steps=2" for axis in ("pwv", "o3", "tau", "alpha", "zenith")]
    hats = ["--band", "g=4000:5500", "--detectors", "0,3", "-cparameters.lambdaStep=2.0"]
    CliRunner().invoke(
        main, ["fgcm", "lut", str(lut), "--elevation", "2200", *hats, *small, "--passbands", str(curves)]
    )
    chosen = passbands_of_files(lut, curves)
    assert chosen.description == "Passbands are integrated for each exposure."
    assert chosen.source.detectors == (0, 3)
    assert "interpolated" in passbands_of_files(lut, None).description
    Table({"a": [1]}).write(tmp_path / "no.csv")
    with pytest.raises(InvalidInputError, match="holds no throughputs"):
        passbands_of_files(lut, tmp_path / "no.csv")

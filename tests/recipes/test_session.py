"""One configuration and one recipe for many images: each image's own settings stay its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import load_card
from zeropoint.photometry.color_terms import Colorterm, ColortermDict
from zeropoint.recipes.report_data import report_data
from zeropoint.recipes.session import CalibrationSession, ImageRun
from zeropoint.simulation import Night, night_settings, write_night


def visits(n: int, **changes: object):
    small = {
        "n_stars": 260,
        "magnitude_bright": 17.0,
        "n_cosmic_rays": 10,
        "distortion_pixels": 0.5,
        **changes,
    }
    return [replace(s, **small) for s in night_settings(n, size=600, seed=6)]


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Night:
    first, second = visits(2)
    return write_night([first, replace(second, fwhm_arcsec=1.25)], tmp_path_factory.mktemp("night"), seed=6)


@pytest.fixture(scope="module")
def references(night) -> ReferenceSource:
    return ReferenceSource.open(night.references)


@pytest.fixture(scope="module")
def runs(night, references) -> list[ImageRun]:
    """The two images and the first again, in one session."""
    session = CalibrationSession(load_card("simcam"), references)
    return [session.calibrate(night.images[i]) for i in (0, 1, 0)]


def changed(run: ImageRun) -> dict[str, object]:
    return {name: value for name, value, _ in run.config_changes}


def test_each_image_has_its_own_settings_and_says_so(runs) -> None:
    narrow, wide, _ = runs
    assert narrow.result.failure is None
    assert wide.result.failure is None
    name = "install_simple_psf.fwhm"
    assert narrow.result.derived[name] < wide.result.derived[name] - 1
    for run in (narrow, wide):
        assert changed(run)[name] == run.result.derived[name] == run.result.metadata[f"derived.{name}"]
        assert changed(run)["do_first_look"] is True
        assert any("FWHM" in note and name in note for note in run.notes)
        assert any("no band 'phot_g_mean'" in note for note in run.notes)
        assert run.caveats == []
    assert "psf_measure_psf.makePsfCandidates.kernelSize" in wide.result.derived
    assert "psf_measure_psf.makePsfCandidates.kernelSize" not in narrow.result.derived


def test_images_before_leave_no_trace(runs) -> None:
    first, _, again = runs
    assert first.config_changes == again.config_changes
    assert first.notes == again.notes
    for plane in ("image", "variance", "mask"):
        one, two = getattr(first.result.exposure, plane), getattr(again.result.exposure, plane)
        assert one.tobytes() == two.tobytes(), plane
    for name in first.result.stars.colnames:
        assert first.result.stars[name].tobytes() == again.result.stars[name].tobytes(), name


def test_the_users_word_beats_the_image(night, references) -> None:
    session = CalibrationSession(
        load_card("simcam"),
        references,
        overrides=[
            ("install_simple_psf.fwhm", 4.5),
            ("astrometry.maxMeanDistanceArcsec", 1e-5),
            ('psf_measure_psf.psfDeterminer["piff"].spatialOrder', 7),  # needs 108 stars
        ],
    )
    run = session.calibrate(night.images[0])
    assert changed(run)["install_simple_psf.fwhm"] == 4.5
    assert "install_simple_psf.fwhm" not in run.result.derived
    # a failed image says what was derived, too
    assert type(run.result.failure).__name__ == "BadAstrometryFit"
    assert any("phot_g_mean" in note for note in run.notes)
    n_stars = run.result.psf_fit.n_available
    assert (
        sum("the PSF has the spatial order" in note and f"{n_stars} stars" in note for note in run.notes) == 1
    )


def test_the_report_is_told_what_made_the_psf_and_which_color_term_a_library_gave(runs) -> None:
    run = runs[0]
    facts = report_data(run, "made-up stars").extra
    assert (facts["psf_determiner"], facts["psf_solver"]) == ("piff", "native")
    assert facts["psf_fit_psfSpatialOrder"] == 2
    assert not any("spatial order" in note for note in run.notes)
    assert "color_term_library" not in facts
    config = run.result.config.copy()
    terms = {run.result.exposure.visit_info.physical_filter: Colorterm(primary="i", secondary="z", c1=-0.03)}
    config.photometry.colorterms.data = {"stripe*": ColortermDict(data=terms), "gaia": ColortermDict(data={})}
    config.photometry.photoCatName, config.photometry.applyColorTerms = "stripe82", True
    facts = report_data(replace(run, result=replace(run.result, config=config)), "made-up stars").extra
    assert [facts[f"color_term_{key}"] for key in ("library", "color", "c0", "c1", "c2")] == [
        "stripe*", "i - z", 0.0, -0.03, 0.0,
    ]  # fmt: skip


def test_snaps_become_one_visit(tmp_path) -> None:
    pair = write_night(visits(1), tmp_path, seed=6, snaps=2)
    session = CalibrationSession(load_card("simcam"), ReferenceSource.open(pair.references))
    run = session.calibrate(*pair.images)
    assert run.result.failure is None
    info = run.result.exposure.visit_info
    assert (info.visit, info.exposure) == (pair.settings[0].visit, pair.settings[0].exposure)
    assert info.exposure_time == 30.0
    assert info.mjd_tai == pytest.approx(np.mean([s.mjd_tai for s in pair.settings]), abs=1e-8)


def test_an_inconsistent_configuration_is_said_before_any_image(references) -> None:
    with pytest.raises(InvalidInputError, match="not consistent"):
        CalibrationSession(
            load_card("simcam"), references, overrides=[("do_adaptive_threshold_detection", False)]
        )

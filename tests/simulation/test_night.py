"""A night of simulated exposures: one sky, many pointings, files that the simulated camera's card reads."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from zeropoint.datamodel.wcs import angular_separation
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import load_card
from zeropoint.instruments.reader import load_image
from zeropoint.simulation import (
    SPOILED_KINDS,
    Night,
    SimulationSettings,
    night_settings,
    simulate_exposure,
    simulate_snaps,
    spoil,
    write_night,
)

ARCSEC = np.pi / 648000.0
SIMCAM = load_card("simcam")


def settings(n: int = 3) -> list[SimulationSettings]:
    # little distortion: its cubic grows fast beyond the edges of so small an image
    changes = {"n_stars": 60, "n_cosmic_rays": 5, "distortion_pixels": 0.2}
    return [replace(s, **changes) for s in night_settings(n, size=256, seed=4)]


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Night:
    return write_night(settings(), tmp_path_factory.mktemp("night"), seed=4)


def test_visits_differ_as_those_of_a_night_do() -> None:
    visits = night_settings(40)
    assert [v.visit for v in visits] == list(range(visits[0].visit, visits[0].visit + 40))
    assert len({v.seed for v in visits}) == 40
    assert np.diff([v.mjd_tai for v in visits]).min() * 86400 > visits[0].exposure_time
    assert len({v.fwhm_arcsec for v in visits}) >= 5
    away = [
        angular_separation(*np.deg2rad([v.ra_deg, v.dec_deg]), *np.deg2rad([150.1, 2.2])) / ARCSEC
        for v in visits
    ]
    assert 30 < max(away) < 90
    assert visits[0].width == visits[0].height == 1024


def test_the_card_reads_every_file(night) -> None:
    assert len(night.images) == len(set(night.images)) == 3
    for path, truth in zip(night.images, night.settings):
        loaded = load_image(path, SIMCAM)
        info = loaded.exposure.visit_info
        assert loaded.caveats == ()
        assert (info.visit, info.exposure) == (truth.visit, truth.visit)
        assert info.mjd_tai == pytest.approx(truth.mjd_tai, abs=1e-8)


def test_one_catalogue_covers_all(night) -> None:
    references = Table.read(night.references)
    assert len(set(references["id"])) == len(references)
    for truth in night.settings:
        simulated = simulate_exposure(truth)
        x, y = simulated.wcs.sky_to_pixel(ra=references["coord_ra"], dec=references["coord_dec"])
        near = (np.abs(x - 127.5) < 378) & (np.abs(y - 127.5) < 378)
        bright, faint, limit = (
            10 ** (truth.magnitude_slope * m)
            for m in (truth.magnitude_bright, truth.magnitude_faint, truth.reference_limit)
        )
        # as dense around the image as the settings ask for on it, within four times the Poisson noise
        expected = truth.n_stars * (756 / 256) ** 2 * (limit - bright) / (faint - bright)
        assert near.sum() == pytest.approx(expected, abs=4 * np.sqrt(expected))


def test_exposures_show_the_same_stars(night) -> None:
    references = Table.read(night.references)
    bright = references[np.argsort(-references["r_flux"])]
    for truth, path in zip(night.settings, night.images):
        image = load_image(path, SIMCAM).exposure.image
        wcs = simulate_exposure(truth).wcs
        x, y = (
            np.round(v).astype(int) for v in wcs.sky_to_pixel(ra=bright["coord_ra"], dec=bright["coord_dec"])
        )
        on = np.flatnonzero((x > 5) & (x < 250) & (y > 5) & (y < 250))[:5]
        for i in on:
            assert image[y[i] - 1 : y[i] + 2, x[i] - 1 : x[i] + 2].max() > 1.3 * np.median(image)


def test_the_same_arguments_give_the_same_files(night, tmp_path) -> None:
    again = write_night(settings(), tmp_path, seed=4)
    for one, two in zip([*night.images, night.references], [*again.images, again.references]):
        assert one.read_bytes() == two.read_bytes()
    other = write_night(settings(1), tmp_path / "other", seed=5)
    assert other.references.read_bytes() != night.references.read_bytes()


def test_snaps_are_one_visit_of_two_exposures(tmp_path) -> None:
    pair = write_night(settings(2), tmp_path, seed=4, snaps=2)
    assert len(pair.images) == 4
    infos = [load_image(path, SIMCAM).exposure.visit_info for path in pair.images]
    assert len({info.exposure for info in infos}) == 4
    assert [info.visit for info in infos] == [v.visit for v in settings(2) for _ in range(2)]
    assert {info.exposure_time for info in infos} == {15.0}
    assert (infos[1].mjd_tai - infos[0].mjd_tai) * 86400 == pytest.approx(15.0, abs=1e-2)


def test_snaps_add_up_to_the_exposure() -> None:
    whole = replace(settings(1)[0], width=200, height=190)
    parts = simulate_snaps(whole)
    total = parts[0].noiseless.astype(np.float64) + parts[1].noiseless
    np.testing.assert_allclose(total, simulate_exposure(whole).noiseless, rtol=2e-3)
    noise = [part.exposure.image - part.noiseless for part in parts]
    quiet = (parts[0].cosmic_ray_charge == 0) & (parts[1].cosmic_ray_charge == 0)
    # noise of one's own: 38,000 pixels know a correlation to 0.005
    assert abs(np.corrcoef(noise[0][quiet], noise[1][quiet])[0, 1]) < 0.03


def spoiled(night: Night, tmp_path: Path, kind: str) -> Path:
    path = Path(shutil.copy(night.images[0], tmp_path / f"{kind}.fits"))
    spoil(path, kind)
    return path


def test_spoiled_files_that_cannot_be_read(night, tmp_path) -> None:
    for kind, words in (("truncated", "truncated"), ("nan", "only NaN")):
        with pytest.raises(InvalidInputError, match=words):
            load_image(spoiled(night, tmp_path, kind), SIMCAM)


def test_spoiled_files_that_can_be_read(night, tmp_path) -> None:
    good = load_image(night.images[0], SIMCAM).exposure
    images = {
        kind: load_image(spoiled(night, tmp_path, kind), SIMCAM).exposure
        for kind in ("blank", "saturated", "wrong_field")
    }
    assert {e.visit_info.visit for e in images.values()} == {good.visit_info.visit}
    blank = images["blank"]
    pull = (blank.image - np.median(good.image)) / np.sqrt(blank.variance)
    assert np.abs(pull).max() < 6
    assert pull.std() == pytest.approx(1.0, abs=0.02)
    assert images["saturated"].masked("SATURATED").all()
    np.testing.assert_array_equal(images["wrong_field"].image, good.image[:, ::-1])
    assert set(SPOILED_KINDS) == {*images, "truncated", "nan"}


def test_spoiling_is_repeatable_and_knows_its_kinds(night, tmp_path) -> None:
    one = spoiled(night, tmp_path, "blank").read_bytes()
    assert spoiled(night, tmp_path, "blank").read_bytes() == one
    with pytest.raises(ValueError, match="wrong_field"):
        spoil(night.images[0], "melted")

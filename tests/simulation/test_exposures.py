from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from zeropoint.datamodel.exposure import AB_FLUX_NJY
from zeropoint.datamodel.wcs import angular_separation
from zeropoint.instruments.card import load_card
from zeropoint.instruments.reader import load_image
from zeropoint.simulation import SimulatedExposure, SimulationSettings, simulate_exposure, write_simulation
from zeropoint.simulation.exposures import grown

ARCSEC = np.pi / 648000.0
SETTINGS = SimulationSettings(width=400, height=360, n_stars=200, n_cosmic_rays=12, seed=7)


@pytest.fixture(scope="module")
def simulated() -> SimulatedExposure:
    return simulate_exposure(SETTINGS)


def with_settings(**changes: object) -> SimulatedExposure:
    return simulate_exposure(SimulationSettings(**{**SETTINGS.__dict__, **changes}))  # type: ignore[arg-type]


def test_same_settings_same_bytes(simulated: SimulatedExposure) -> None:
    again = simulate_exposure(SETTINGS)
    for one, two in (
        (simulated.exposure.image, again.exposure.image),
        (simulated.exposure.variance, again.exposure.variance),
        (simulated.exposure.mask, again.exposure.mask),
        (simulated.noiseless, again.noiseless),
        (simulated.cosmic_rays, again.cosmic_rays),
    ):
        assert one.tobytes() == two.tobytes()
    for one, two in ((simulated.stars, again.stars), (simulated.references, again.references)):
        assert one.as_array().tobytes() == two.as_array().tobytes()
    other = with_settings(seed=8)
    assert not np.array_equal(other.exposure.image, simulated.exposure.image)


def test_image_has_the_noise_of_its_variance(simulated: SimulatedExposure) -> None:
    quiet = simulated.cosmic_ray_charge == 0
    truth = simulated.noiseless + SETTINGS.read_noise_electrons**2
    pull = ((simulated.exposure.image - simulated.noiseless) / np.sqrt(truth))[
        quiet & ~simulated.exposure.masked("SATURATED")
    ]
    # 144,000 pixels: 0.003 on the mean, 0.002 on the scatter
    assert abs(pull.mean()) < 0.015
    assert pull.std() == pytest.approx(1.0, abs=0.01)
    sky = simulated.noiseless < 1.1 * SETTINGS.sky_electrons
    np.testing.assert_allclose(
        simulated.exposure.variance[sky & quiet].mean(), truth[sky & quiet].mean(), rtol=0.01
    )


def test_every_cosmic_ray_is_known(simulated: SimulatedExposure) -> None:
    assert set(np.unique(simulated.cosmic_rays)) <= set(range(SETTINGS.n_cosmic_rays + 1))
    np.testing.assert_array_equal(simulated.cosmic_rays > 0, simulated.cosmic_ray_charge > 0)
    assert not with_settings(n_cosmic_rays=0).cosmic_ray_charge.any()


def test_star_light_adds_up() -> None:
    # one star at a time: what is drawn is its flux but for the far wings
    lone = with_settings(n_stars=1, sky_gradient=0.0, magnitude_bright=18.0, magnitude_faint=18.01, seed=3)
    light = float((lone.noiseless.astype(np.float64) - SETTINGS.sky_electrons).sum())
    assert len(lone.stars) >= 1
    inside = [
        row["flux"]
        for row in lone.stars
        if 100 < row["x"] < SETTINGS.width - 100 and 100 < row["y"] < SETTINGS.height - 100
    ]
    assert inside
    outside = sum(row["flux"] for row in lone.stars) - sum(inside)
    assert sum(inside) * 0.99 < light < (sum(inside) + outside) * 1.001


def test_stars_lie_where_the_true_wcs_says(simulated: SimulatedExposure) -> None:
    stars = simulated.stars
    ra, dec = simulated.wcs.pixel_to_sky(x=np.asarray(stars["x"]), y=np.asarray(stars["y"]))
    assert (
        angular_separation(ra, dec, np.asarray(stars["ra"]), np.asarray(stars["dec"])).max() < 1e-6 * ARCSEC
    )
    x, y = simulated.wcs.sky_to_pixel(ra=np.asarray(stars["ra"]), dec=np.asarray(stars["dec"]))
    np.testing.assert_allclose(x, stars["x"], atol=1e-6)
    np.testing.assert_allclose(y, stars["y"], atol=1e-6)
    np.testing.assert_allclose(stars["flux"], 10 ** (0.4 * (SETTINGS.zeropoint - stars["mag"])), rtol=1e-12)
    bright = stars[(stars["snr"] > 300) & (np.abs(stars["x"] - 200) < 180) & (np.abs(stars["y"] - 180) < 160)]
    assert len(bright) > 2
    for row in bright:
        j, i = int(np.floor(row["y"] + 0.5)), int(np.floor(row["x"] + 0.5))
        # a star's pixel is within one pixel of a local maximum (a neighbour may be brighter still)
        around = simulated.noiseless[j - 1 : j + 2, i - 1 : i + 2]
        assert around.max() >= simulated.noiseless[j - 4 : j + 5 : 8, i - 4 : i + 5 : 8].max()


def test_initial_wcs_is_off_as_asked(simulated: SimulatedExposure) -> None:
    wrong = simulated.exposure.wcs
    assert wrong is not None
    x, y = np.array([199.5, 0.0]), np.array([179.5, 0.0])
    away = angular_separation(*wrong.pixel_to_sky(x=x, y=y), *simulated.wcs.pixel_to_sky(x=x, y=y)) / ARCSEC
    assert away[0] == pytest.approx(SETTINGS.wcs_offset_arcsec, abs=0.01)
    turn = np.deg2rad(SETTINGS.wcs_rotation_deg) * 0.2 * np.hypot(199.5, 179.5)
    assert abs(away[1] - away[0]) <= turn + 0.01


def test_distortion_at_the_corner() -> None:
    bent, straight = with_settings(distortion_pixels=5.0).wcs, with_settings(distortion_pixels=0.0).wcs
    corner = {"x": 399.5, "y": 359.5}
    away = angular_separation(*bent.pixel_to_sky(**corner), *straight.pixel_to_sky(**corner)) / ARCSEC / 0.2
    assert away == pytest.approx(5.0, rel=0.02)


def test_references_are_complete_and_in_error_as_stated(simulated: SimulatedExposure) -> None:
    references, stars = simulated.references, simulated.stars
    bright = stars[stars["mag"] < SETTINGS.reference_limit]
    assert len(bright) > 10
    ra, dec = np.asarray(references["coord_ra"]), np.asarray(references["coord_dec"])
    residual, pull = [], []
    for row in bright:
        distance = angular_separation(row["ra"], row["dec"], ra, dec)
        k = int(np.argmin(distance))
        assert distance[k] < 0.05 * ARCSEC
        residual += [
            (ra[k] - row["ra"]) * np.cos(row["dec"]) / ARCSEC * 1000,
            (dec[k] - row["dec"]) / ARCSEC * 1000,
        ]
        magnitude = -2.5 * np.log10(references["r_flux"][k] / AB_FLUX_NJY)
        pull.append((magnitude - row["mag"]) / SETTINGS.reference_magnitude_error)
    # scatter of n numbers is known to 1/sqrt(2n)
    assert np.std(residual) == pytest.approx(
        SETTINGS.reference_position_error_mas, rel=4 / np.sqrt(2 * len(residual))
    )
    assert np.std(pull) == pytest.approx(1.0, rel=4 / np.sqrt(2 * len(pull)))
    assert len(set(references["id"])) == len(references)
    assert (-2.5 * np.log10(references["r_flux"] / AB_FLUX_NJY)).max() < SETTINGS.reference_limit + 0.1
    np.testing.assert_allclose(references["coord_raErr"], 0.005 * ARCSEC, rtol=1e-6)


@pytest.mark.parametrize("pixel_response", [False, True])
def test_psf_stamps_are_normalised_and_vary(pixel_response: bool) -> None:
    psf = with_settings(pixel_response=pixel_response, n_stars=2).psf
    small, large = psf.stamp(100.0, 100.0, 25), psf.stamp(100.0, 100.0, 301)
    assert large.sum() == pytest.approx(1.0, abs=2e-3)
    assert small.sum() < large.sum()
    np.testing.assert_allclose(large[138:163, 138:163], small, atol=1e-6)
    centred = psf.stamp(100.3, 99.8, 25, centered=True)
    np.testing.assert_allclose(centred, centred[::-1, ::-1], atol=1e-8)
    moved = psf.stamp(100.3, 99.8, 25)
    grid = np.arange(25) - 12
    assert (moved.sum(0) * grid).sum() == pytest.approx(0.3 * moved.sum(), abs=0.03)
    assert (moved.sum(1) * grid).sum() == pytest.approx(-0.2 * moved.sum(), abs=0.03)
    assert psf.parameters(0, 0) != psf.parameters(399, 359)


def test_aperture_zeropoint_is_the_mean_aperture_loss(simulated: SimulatedExposure) -> None:
    losses = [
        simulated.psf.aperture_fraction(x, y, 12.0)
        for x in (50.2, 199.5, 350.7)
        for y in (45.1, 180.0, 320.6)
    ]
    assert simulated.aperture_zeropoint() == pytest.approx(
        SETTINGS.zeropoint + 2.5 * np.log10(np.mean(losses)), abs=2e-3
    )
    assert (
        simulated.aperture_zeropoint(40.0)
        > simulated.aperture_zeropoint(12.0)
        > simulated.aperture_zeropoint(5.0)
    )
    assert SETTINGS.zeropoint - simulated.aperture_zeropoint(60.0) < 0.003


def test_saturated_stars_are_clipped_and_marked() -> None:
    bright = with_settings(magnitude_bright=14.0, magnitude_faint=15.0, n_stars=5)
    saturated = bright.exposure.masked("SATURATED")
    assert saturated.any()
    assert bright.exposure.image.max() < SETTINGS.full_well_electrons + 10 * SETTINGS.read_noise_electrons
    assert saturated[bright.exposure.image > SETTINGS.full_well_electrons - 1].all()


def test_saturation_does_not_wrap_around_the_border() -> None:
    corner = np.zeros((6, 7), bool)
    corner[0, 0] = True
    assert np.argwhere(grown(corner)).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_written_files_read_back(simulated: SimulatedExposure, tmp_path: Path) -> None:
    image, references = write_simulation(simulated, tmp_path / "new")
    loaded = load_image(image, load_card("simcam"))
    back, original = loaded.exposure, simulated.exposure
    assert loaded.caveats == ()
    np.testing.assert_allclose(back.image, original.image, rtol=1e-6)
    np.testing.assert_allclose(back.variance, original.variance, rtol=1e-6)
    np.testing.assert_array_equal(back.mask & original.mask, original.mask)
    assert back.visit_info.mjd_tai == pytest.approx(original.visit_info.mjd_tai, abs=1e-8)
    assert (back.visit_info.visit, back.visit_info.band) == (SETTINGS.visit, "r")
    assert back.wcs is not None
    assert original.wcs is not None
    x, y = np.meshgrid(np.linspace(0, 399, 9), np.linspace(0, 359, 9))
    away = angular_separation(*back.wcs.pixel_to_sky(x=x, y=y), *original.wcs.pixel_to_sky(x=x, y=y))
    assert away.max() < 1e-3 * ARCSEC
    table = Table.read(references)
    assert table.colnames == simulated.references.colnames
    np.testing.assert_array_equal(table["coord_ra"], simulated.references["coord_ra"])
    assert fits.getheader(image)["BUNIT"] == "adu"

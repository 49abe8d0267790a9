"""SdssShape, the HSM plugins, size extendedness: truth on simulated stars, flags on broken input."""

from __future__ import annotations

import time

import galsim
import numpy as np
import pytest
import scipy.linalg

from naive import hsm as naive
from naive.star_field import catalog_of, disc_footprints, exposure_of, grid_of_stars, start_schema
from zeropoint.datamodel.psf_model import GaussianPsf
from zeropoint.errors import InvalidInputError
from zeropoint.measurement._shape_kernels import (
    N_SUB,
    RHO2_MAX,
    WIDE,
    sdss_shape_stack,
    smeared_sums,
    subsampled_sums,
)
from zeropoint.measurement.hsm_shapes import _stamp_moments
from zeropoint.measurement.shapes import gaussian_fit_covariance
from zeropoint.measurement.single_frame import SingleFrameMeasurement, SingleFrameMeasurementConfig

SOURCE = "ext_shapeHSM_HsmSourceMoments"
PSF = "ext_shapeHSM_HsmPsfMoments"
DEBIASED = "ext_shapeHSM_HsmPsfMomentsDebiased"
REGAUSS = "ext_shapeHSM_HsmShapeRegauss"
HIGHER = "ext_shapeHSM_HigherOrderMomentsSource"
HIGHER_PSF = "ext_shapeHSM_HigherOrderMomentsPSF"
SIGMA = 1.8


def shape_config():
    config = SingleFrameMeasurementConfig()
    config.plugins.names = [
        "base_SdssCentroid",
        "base_SdssShape",
        "base_PsfFlux",
        SOURCE,
        PSF,
        DEBIASED,
        REGAUSS,
        HIGHER,
        HIGHER_PSF,
        "base_ClassificationSizeExtendedness",
    ]
    config.slots.shape, config.slots.psfShape = SOURCE, PSF
    for slot in ("apFlux", "modelFlux", "gaussianFlux", "calibFlux"):
        setattr(config.slots, slot, None)
    return config


def run(exposure, footprints, config=None):
    schema = start_schema()
    step = SingleFrameMeasurement(shape_config() if config is None else config, schema=schema)
    catalog = catalog_of(schema, footprints)
    step.run(exposure, catalog, seed=5)
    return catalog


@pytest.fixture(scope="module")
def bright_stars():
    flux = np.full(196, 1e5)
    exposure, footprints, x, y = grid_of_stars(GaussianPsf(SIGMA, 25), flux)
    return run(exposure, footprints), x, y


def mean_and_error(values):
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values))


@pytest.mark.parametrize("name", [SOURCE, "base_SdssShape", DEBIASED])
@pytest.mark.parametrize(("moment", "truth"), [("xx", SIGMA**2), ("yy", SIGMA**2), ("xy", 0.0)])
def test_moments_of_bright_stars_are_unbiased(bright_stars, name, moment, truth):
    catalog, _, _ = bright_stars
    assert not catalog[f"{name}_flag"].any()
    mean, error = mean_and_error(catalog[f"{name}_{moment}"])
    # besides noise: the SDSS iteration stops at a relative change of 1e-4
    assert abs(mean - truth) < 4 * error + 2e-4 * SIGMA**2


def test_psf_moments_are_exact(bright_stars):
    catalog, _, _ = bright_stars
    assert not catalog[f"{PSF}_flag"].any()
    np.testing.assert_allclose(catalog[f"{PSF}_xx"], SIGMA**2, rtol=1e-6)
    np.testing.assert_allclose(catalog[f"{PSF}_x"], 0.0, atol=1e-6)
    np.testing.assert_allclose(catalog["base_SdssShape_psf_yy"], SIGMA**2, rtol=1e-5)


@pytest.mark.parametrize("column", ["xx", "yy", "xy", "instFlux"])
def test_sdss_errors_have_pulls_of_unit_width(bright_stars, column):
    catalog, _, _ = bright_stars
    truth = {"xx": SIGMA**2, "yy": SIGMA**2, "xy": 0.0, "instFlux": 1e5}[column]
    pulls = (catalog[f"base_SdssShape_{column}"] - truth) / catalog[f"base_SdssShape_{column}Err"]
    # 196 pulls: their standard deviation has an error of 0.05
    assert 0.8 < pulls.std() < 1.2
    assert abs(pulls.mean()) < 0.3


def test_sdss_flux_covariance_matches_the_scatter(bright_stars):
    catalog, _, _ = bright_stars
    observed = np.cov(catalog["base_SdssShape_instFlux"], catalog["base_SdssShape_xx"])[0, 1]
    expected = catalog["base_SdssShape_instFlux_xx_Cov"].mean()
    assert abs(observed / expected - 1) < 0.5


def test_debiased_moments_scatter_like_those_of_stars(bright_stars):
    catalog, _, _ = bright_stars
    ratio = catalog[f"{DEBIASED}_xx"].std() / catalog[f"{SOURCE}_xx"].std()
    assert 0.8 < ratio < 1.25


def test_stars_are_not_extended_and_unresolved(bright_stars):
    catalog, _, _ = bright_stars
    assert (catalog["base_ClassificationSizeExtendedness_value"] < 0.01).all()
    assert np.nanmax(catalog[f"{REGAUSS}_resolution"]) < 0.02
    # half of the stars come out smaller than the PSF, and have no corrected shape
    assert 0.3 < catalog[f"{REGAUSS}_flag_galsim"].mean() < 0.7


def test_higher_moments_of_gaussian_stars_are_known(bright_stars):
    catalog, _, _ = bright_stars
    for column, truth in (("40", 0.75), ("04", 0.75), ("22", 0.25), ("30", 0.0), ("12", 0.0), ("31", 0.0)):
        mean, error = mean_and_error(catalog[f"{HIGHER}_{column}"])
        assert abs(mean - truth) < 4 * error + 1e-3


def test_higher_moments_of_the_psf_are_exact(bright_stars):
    catalog, _, _ = bright_stars
    assert not catalog[f"{HIGHER_PSF}_flag"].any()
    for column, truth in (("40", 0.75), ("04", 0.75), ("22", 0.25), ("30", 0.0), ("12", 0.0), ("31", 0.0)):
        # sampled at pixels of half its width
        np.testing.assert_allclose(catalog[f"{HIGHER_PSF}_{column}"], truth, atol=1e-5)


def test_higher_moments_of_stamps_follow_their_definition(rng):
    y, x = np.mgrid[:21, :21].astype(float)
    stamps = np.exp(-0.1 * ((x - 10.2) ** 2 + (y - 9.7) ** 2)) * rng.uniform(0.5, 1.5, (3, 21, 21))
    shapes = np.array([[10.1, 9.6, 5.0, 4.0, 1.5, 0], [10.3, 9.8, 4.0, 6.0, -2.0, 0], [10, 10, 5, 5, 0, 0]])
    orders = np.array([[3, 1, 2, 0], [0, 2, 2, 4]])
    for stamp, shape, moments in zip(stamps, shapes, _stamp_moments(stamps, shapes, orders)):
        x0, y0, xx, yy, xy, _ = shape
        matrix = np.linalg.inv(scipy.linalg.sqrtm(np.array([[xx, xy], [xy, yy]])))
        u, v = np.tensordot(matrix, np.stack([x - x0, y - y0]), axes=1)
        weight = stamp * np.exp(-0.5 * (u**2 + v**2))
        expected = [np.sum(weight * u**p * v**q) / np.sum(weight) for p, q in orders.T]
        np.testing.assert_allclose(moments, expected, rtol=1e-12, atol=1e-14)


def test_regauss_recovers_the_ellipticity_of_galaxies():
    psf = GaussianPsf(SIGMA, 25)
    galaxy = galsim.Gaussian(sigma=2.0).shear(g1=0.2, g2=-0.1)
    blurred = galsim.Convolve(galaxy, galsim.Gaussian(sigma=SIGMA))
    stamp = blurred.drawImage(nx=41, ny=41, scale=1, method="no_pixel", dtype=float).array * 1e5
    image = np.random.default_rng(2).normal(0, 1, (80, 80))
    image[20:61, 20:61] += stamp
    centre = np.array([40.0])
    catalog = run(exposure_of(image, 1.0, psf), disc_footprints(centre, centre, 16))
    truth = galsim.Shear(g1=0.2, g2=-0.1)
    assert not catalog[f"{REGAUSS}_flag"][0]
    error = catalog[f"{REGAUSS}_sigma"][0]
    assert 0 < error < 0.01
    assert abs(catalog[f"{REGAUSS}_e1"][0] - truth.e1) < 4 * error
    assert abs(catalog[f"{REGAUSS}_e2"][0] - truth.e2) < 4 * error
    assert catalog["base_ClassificationSizeExtendedness_value"][0] > 0.9


@pytest.mark.parametrize("sigma", [0.4, 0.49, 0.7])
def test_undersampled_stars_have_shapes(sigma):
    flux = np.full(49, 1e5)
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(sigma, 15), flux, radius=5, spacing=20)
    catalog = run(exposure, footprints)
    assert np.count_nonzero(catalog[f"{SOURCE}_flag"]) == 0
    assert not catalog[f"{PSF}_flag"].any()
    np.testing.assert_allclose(catalog[f"{PSF}_xx"], sigma**2, rtol=1e-4)
    mean, error = mean_and_error(catalog[f"{SOURCE}_xx"])
    assert abs(mean - sigma**2) < 4 * error + 1e-4
    assert (catalog["base_ClassificationSizeExtendedness_value"] < 0.1).all()
    # sub-pixel sums see the pixel as part of the object, of the star and of the PSF alike
    good = ~catalog["base_SdssShape_flag"]
    assert good.mean() > 0.9
    difference = (catalog["base_SdssShape_xx"] - catalog["base_SdssShape_psf_xx"])[good]
    assert abs(np.median(difference)) < 0.02


def test_saturated_pixels_do_not_count():
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(SIGMA, 25), np.full(4, 1e5), noise=1.0)
    y0, x0 = int(footprints.peak_y[0]) + 7, int(footprints.peak_x[0])
    exposure.image[y0, x0] = 1e7
    where = np.zeros(exposure.shape, np.bool_)
    where[y0, x0] = True
    spoiled = run(exposure, footprints)
    exposure.set_mask(where, "SAT")
    catalog = run(exposure, footprints)
    assert abs(spoiled[f"{SOURCE}_xx"][0] - SIGMA**2) > 0.1 or spoiled[f"{SOURCE}_flag"][0]
    assert abs(catalog[f"{SOURCE}_xx"][0] - SIGMA**2) < 0.01


def test_no_psf_is_a_flag_for_psf_moments():
    config = shape_config()
    config.plugins.names = ["base_PeakCentroid", PSF]
    config.slots.centroid, config.slots.shape = "base_PeakCentroid", None
    config.slots.psfShape, config.slots.psfFlux = PSF, None
    image = np.zeros((40, 40))
    catalog = run(
        exposure_of(image, 1.0, None), disc_footprints(np.array([20.0]), np.array([20.0]), 3), config
    )
    assert catalog[f"{PSF}_flag"][0]
    assert catalog[f"{PSF}_flag_no_psf"][0]
    assert np.isnan(catalog[f"{PSF}_xx"][0])


def test_noise_and_tiny_footprints_are_flagged_not_raised():
    rng = np.random.default_rng(9)
    x, y = np.array([20.0, 50.0, 3.0]), np.array([20.0, 50.0, 3.0])
    exposure = exposure_of(rng.normal(0, 1, (80, 80)), 1.0, GaussianPsf(SIGMA, 25))
    exposure.image[48:53, 48:53] = -100.0
    catalog = run(exposure, disc_footprints(x, y, 0))
    for name in (SOURCE, REGAUSS):
        assert np.isnan(
            catalog[f"{name}_{'xx' if name == SOURCE else 'e1'}"][catalog[f"{name}_flag_galsim"]]
        ).all()
        assert catalog[f"{name}_flag_galsim"].any()
    assert (catalog["base_ClassificationSizeExtendedness_flag"] >= catalog[f"{SOURCE}_flag"]).all()
    # the PSF's stamp of the star at (3, 3) leaves the image
    assert catalog[f"{DEBIASED}_flag_edge"][2]
    assert catalog[f"{DEBIASED}_flag"][2]


def test_empty_catalog_is_fine():
    exposure = exposure_of(np.zeros((40, 40)), 1.0, GaussianPsf(SIGMA, 25))
    assert len(run(exposure, disc_footprints(np.zeros(0), np.zeros(0), 3))) == 0


def test_measurement_repeats_and_does_not_depend_on_other_rows(bright_stars):
    flux = np.full(16, 1e4)
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(SIGMA, 25), flux)
    first, second = run(exposure, footprints), run(exposure, footprints)
    for name in first.colnames:
        np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize("sigma", [1.2, 2.5])
def test_sdss_shape_equals_its_twin_and_is_exact_for_gaussians(sigma):
    moffat = galsim.Moffat(beta=3, fwhm=2.355 * sigma).shear(g1=0.1, g2=0.05)
    gauss = galsim.Gaussian(sigma=sigma).shear(g1=-0.1)
    stamps = np.stack(
        [p.drawImage(nx=51, ny=51, scale=1, method="no_pixel", dtype=float).array for p in (moffat, gauss)]
    )
    out, status = np.empty((2, 6)), np.zeros(2, np.int64)
    sdss_shape_stack(np.ascontiguousarray(stamps), np.full(2, 25.0), np.full(2, 25.0), 2.0, 100, out, status)
    assert not status.any()
    for stamp, values in zip(stamps, out):
        expected = naive.sdss_moments(stamp, 25.0, 25.0)
        # the kernel stops at a relative change of 1e-4
        np.testing.assert_allclose(values[2:4], np.diag(expected), rtol=3e-4)
        np.testing.assert_allclose(values[4], expected[0, 1], atol=1e-3)


def glow(side: int = 301) -> np.ndarray:
    """Return noise upon what a background fit may leave of a nebula."""
    y, x = np.mgrid[:side, :side] - side // 2
    return np.random.default_rng(0).normal(0, 1, (side, side)) + 0.3 * np.exp(-(x**2 + y**2) / 7200.0)


@pytest.mark.parametrize(
    ("sums", "scale", "rtol"),
    [(subsampled_sums, 0.02, 1e-11), (subsampled_sums, 20.0, 1e-11), (smeared_sums, WIDE, 6e-4)],
)
def test_sums_over_points_of_pixels_equal_their_twin(sums, scale, rtol):
    image, out = glow(81) + 5.0, np.empty(6)
    for shape in ([[1.0, 0.0], [0.0, 1.0]], [[1.3, 0.4], [0.4, 2.5]], [[3.0, -0.9], [-0.9, 1.5]]):
        # on the middle, and over a corner of the image
        for cx, cy in ((40.3, 39.6), (1.7, 79.4)):
            w = scale * np.array(shape)
            expected = naive.subsampled_sums(image, cx, cy, w, RHO2_MAX, N_SUB)
            sums(image, cx, cy, w[0, 0], w[1, 1], w[0, 1], out)
            size = np.sqrt(np.diag(w))
            units = expected[0] * np.array([1, *size, *size**2, size[0] * size[1]])
            np.testing.assert_allclose(out / units, expected / units, rtol=0, atol=rtol)


def test_sdss_shape_of_noise_that_runs_away_is_cheap():
    # begins smaller than a pixel and ends 64 pixels wide: with points of pixels throughout it took 0.4 s
    image = np.ascontiguousarray(glow()[None])
    x, y, status = np.array([179.0]), np.array([165.0]), np.zeros(1, np.int64)
    out = np.empty((1, 6))
    sdss_shape_stack(image, x, y, 2.0, 100, out, status)
    assert status[0] & 4
    # as with points throughout
    np.testing.assert_allclose(out[0, 2:5], [4091.162, 4084.303, 182.788], rtol=1e-4)
    start = time.process_time()
    sdss_shape_stack(image, x, y, 2.0, 100, out, status)
    assert time.process_time() - start < 0.1


def test_sdss_shape_falls_back_to_unweighted_moments():
    hollow = np.full((1, 21, 21), 5.0)
    hollow[0, 8:13, 8:13] = -50.0
    hollow[0, 10, 10] = 1.0
    out, status = np.empty((1, 6)), np.zeros(1, np.int64)
    sdss_shape_stack(hollow, np.array([10.0]), np.array([10.0]), 2.0, 100, out, status)
    assert status[0] & 2
    sdss_shape_stack(np.zeros((1, 21, 21)), np.array([10.0]), np.array([10.0]), 2.0, 100, out, status)
    assert status[0] & 3 == 3


def test_gaussian_covariance_is_the_inverse_of_numerical_fisher():
    peak, xx, yy, xy, variance = 50.0, 5.0, 3.0, 1.0, 4.0
    y, x = np.mgrid[-25:26, -25:26].astype(float)

    def model(p):
        det = p[1] * p[2] - p[3] ** 2
        return p[0] * np.exp(-0.5 * (p[2] * x**2 - 2 * p[3] * x * y + p[1] * y**2) / det)

    p0 = np.array([peak, xx, yy, xy])
    steps = 1e-5 * np.eye(4)
    gradient = [(model(p0 + s) - model(p0 - s)).ravel() / 2e-5 for s in steps]
    fisher = np.array([[a @ b for a in gradient] for b in gradient]) / variance
    result = gaussian_fit_covariance(*(np.array([v]) for v in (peak, xx, yy, xy, variance)))[0]
    np.testing.assert_allclose(result, np.linalg.inv(fisher), rtol=1e-4, atol=1e-8)
    assert np.isnan(gaussian_fit_covariance(*(np.array([v]) for v in (peak, xx, yy, 9.0, variance)))).all()


@pytest.mark.parametrize(("plugin", "words"), [(DEBIASED, "PSF-flux slot"), (HIGHER, "HsmSourceMoments")])
def test_plugins_name_what_they_need(plugin, words):
    config = shape_config()
    config.plugins.names = ["base_SdssCentroid", "base_SdssShape", plugin]
    config.slots.shape, config.slots.psfFlux = "base_SdssShape", None
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(SIGMA, 25), np.full(1, 1e5))
    with pytest.raises(InvalidInputError, match=words):
        run(exposure, footprints, config)

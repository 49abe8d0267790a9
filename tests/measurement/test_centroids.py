"""Centroids: photon-noise bound, honest errors, failure flags."""

from __future__ import annotations

import numpy as np
import pytest

from naive.measurement import config_of, measure, moffat_psf, photon_stars
from naive.star_field import disc_footprints, exposure_of, grid_of_stars
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.psf_model import GaussianPsf
from zeropoint.errors import InvalidInputError

SDSS = "base_SdssCentroid"
#: Statistical error of a standard deviation from 625 values is 2.8 %; four of them, for 18 pulls.
SCATTER = 0.115


@pytest.mark.parametrize("snr", [20, 100, 1000])
@pytest.mark.parametrize("psf", [GaussianPsf(1.5, 25), moffat_psf(3.5), moffat_psf(2.3)], ids=["g", "m", "u"])
def test_scatter_is_at_the_photon_bound_and_errors_are_honest(psf, snr):
    exposure, footprints, truth = photon_stars(psf, snr, 800.0, 25, seed=snr)
    cat = measure(config_of(SDSS), exposure, footprints)
    # a faint star may scatter by more than a pixel from its peak, and is then reset to it
    assert cat[f"{SDSS}_flag"].mean() < 0.005
    assert (cat[f"{SDSS}_flag"] == cat[f"{SDSS}_flag_resetToPeak"]).all()
    offset = cat[f"{SDSS}_x"] - truth["x"]
    bound = np.median(truth["x_bound"])
    assert offset.std() < (1.0 + SCATTER) * bound
    assert abs(offset.mean()) < 3 * bound / np.sqrt(len(offset)) + 2e-4
    for axis in "xy":
        pull = (cat[f"{SDSS}_{axis}"] - truth[axis]) / cat[f"{SDSS}_{axis}Err"]
        assert abs(pull.std() - 1.0) < SCATTER


def test_noiseless_stars_are_placed_within_a_hundredth_of_a_millipixel():
    exposure, footprints, x, y = grid_of_stars(GaussianPsf(1.6, 25), np.full(36, 1e5), noise=1e-3)
    cat = measure(config_of(SDSS), exposure, footprints)
    np.testing.assert_allclose(cat[f"{SDSS}_x"], x, atol=1e-5)
    np.testing.assert_allclose(cat[f"{SDSS}_y"], y, atol=1e-5)


def test_symmetric_galaxy_keeps_its_center_and_has_an_honest_error():
    # four times the area of the PSF: the fit of a point source must not overshoot
    psf = GaussianPsf(1.5, 25)
    exposure, footprints, x, _ = grid_of_stars(GaussianPsf(3.0, 25), np.full(400, 2e4), noise=10.0)
    exposure.psf = psf
    cat = measure(config_of(SDSS), exposure, footprints)
    good = ~cat[f"{SDSS}_flag"]
    assert good.mean() > 0.99
    pull = ((cat[f"{SDSS}_x"] - x) / cat[f"{SDSS}_xErr"])[good]
    assert 0.7 < pull.std() < 1.3


def test_masked_and_nan_pixels_do_not_move_a_star():
    exposure, footprints, x, y = grid_of_stars(GaussianPsf(1.6, 25), np.full(4, 1e5), noise=1e-3)
    ix, iy = np.floor(x + 0.5).astype(int), np.floor(y + 0.5).astype(int)
    exposure.image[iy[0] + 4, ix[0]] += 3e4
    exposure.mask[iy[0] + 4, ix[0]] = 1
    cat = measure(config_of(SDSS), exposure, footprints)
    np.testing.assert_allclose(cat[f"{SDSS}_y"], y, atol=1e-4)
    exposure.image[iy[1], ix[1] + 1] = np.nan
    cat = measure(config_of(SDSS), exposure, footprints)
    assert cat[f"{SDSS}_flag_noSecondDerivative"].tolist() == [False, True, False, False]
    assert cat[f"{SDSS}_x"][1] == ix[1]


def single(image: np.ndarray, x: float, y: float, radius: int = 3):
    exposure = exposure_of(image, 100.0, GaussianPsf(1.5, 15))
    return measure(config_of(SDSS), exposure, disc_footprints(np.array([x]), np.array([y]), radius))


def test_pit_is_not_a_maximum_and_stays_at_its_peak():
    image = np.zeros((61, 61))
    image[25:36, 25:36] = -1000 * GaussianPsf(2.0, 11).kernel_image()
    cat = single(image, 30.0, 30.0)
    assert cat[f"{SDSS}_flag_notAtMaximum"][0]
    assert cat[f"{SDSS}_flag"][0]
    assert (cat[f"{SDSS}_x"][0], cat[f"{SDSS}_y"][0]) == (30.0, 30.0)


def test_flat_image_has_no_second_derivative():
    cat = single(np.zeros((61, 61)), 30.0, 30.0)
    assert cat[f"{SDSS}_flag_noSecondDerivative"][0]


def test_near_the_border_the_small_kernel_is_used_and_flagged():
    image = np.random.default_rng(0).normal(0, 1e-3, (61, 61))
    image[23:38, 0:15] += 1e4 * GaussianPsf(1.5, 15).kernel_image()
    cat = single(image, 7.0, 30.0)
    assert cat[f"{SDSS}_flag_near_edge"][0]
    assert cat[f"{SDSS}_flag"][0]
    np.testing.assert_allclose(cat[f"{SDSS}_x"][0], 7.0, atol=0.01)
    image = np.roll(image, -5, axis=1)
    cat = single(image, 2.0, 30.0, radius=2)
    assert cat[f"{SDSS}_flag_edge"][0]
    assert cat[f"{SDSS}_x"][0] == 2.0


def test_centroid_outside_its_footprint_is_reset():
    exposure, _, x, y = grid_of_stars(GaussianPsf(1.6, 25), np.full(9, 1e5), noise=1e-3)
    pixel = np.floor(x + 0.5)
    # the neighboring pixel on the star's side is the whole footprint
    footprints = disc_footprints(pixel + np.sign(x - pixel), y, 0)
    cat = measure(config_of(SDSS), exposure, footprints)
    assert cat[f"{SDSS}_flag_resetToPeak"].all()
    assert cat[f"{SDSS}_flag"].all()
    np.testing.assert_array_equal(cat[f"{SDSS}_x"], footprints.peak_x)


def test_centroid_far_from_its_peak_is_reset():
    exposure, footprints, x, y = grid_of_stars(GaussianPsf(1.6, 25), np.full(36, 1e5), noise=1e-3)
    config = config_of(SDSS)
    config.plugins[SDSS].maxDistToPeak = 0.35
    cat = measure(config, exposure, footprints)
    far = np.hypot(x - footprints.peak_x, y - footprints.peak_y) > 0.35
    assert 0 < far.sum() < 36
    np.testing.assert_array_equal(cat[f"{SDSS}_flag_resetToPeak"], far)
    np.testing.assert_array_equal(cat[f"{SDSS}_x"][far], footprints.peak_x[far])


def test_source_without_peak_is_flagged_and_unset():
    exposure, _, x, y = grid_of_stars(GaussianPsf(1.6, 25), np.full(4, 1e5))
    full = disc_footprints(x, y, 5)
    bare = FootprintSet.build(full.span_offsets, full.span_y, full.span_x0, full.span_x1)
    cat = measure(config_of(SDSS, "base_PeakCentroid", "base_NaiveCentroid"), exposure, bare)
    for name in (SDSS, "base_PeakCentroid", "base_NaiveCentroid"):
        assert cat[f"{name}_flag"].all()
        assert np.isnan(cat[f"{name}_x"]).all()


def test_no_psf_is_an_input_error():
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(1.6, 25), np.full(4, 1e5))
    exposure.psf = None
    with pytest.raises(InvalidInputError, match="PSF"):
        measure(config_of(SDSS), exposure, footprints)


def test_stamps_too_small_for_the_fit_leave_the_first_estimate():
    exposure, footprints, x, _ = grid_of_stars(GaussianPsf(1.0, 7), np.full(9, 1e5), noise=1e-3)
    cat = measure(config_of(SDSS), exposure, footprints)
    np.testing.assert_allclose(cat[f"{SDSS}_x"], x, atol=0.05)


def test_naive_centroid_is_the_center_of_mass_of_nine_pixels():
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(1.6, 25), np.full(9, 1e5))
    cat = measure(config_of(SDSS, "base_NaiveCentroid", "base_PeakCentroid"), exposure, footprints)
    i, j = int(footprints.peak_x[4]), int(footprints.peak_y[4])
    nine = exposure.image[j - 1 : j + 2, i - 1 : i + 2].astype(np.float64)
    expected = i + (nine[:, 2] - nine[:, 0]).sum() / nine.sum()
    np.testing.assert_allclose(cat["base_NaiveCentroid_x"][4], expected, rtol=1e-9)
    np.testing.assert_array_equal(cat["base_PeakCentroid_x"], footprints.peak_x)

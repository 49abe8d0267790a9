"""PSF flux: formula, photon-noise bound, honest errors, edges."""

from __future__ import annotations

import numpy as np
import pytest

from naive.measurement import config_of, measure, moffat_psf, photon_stars
from naive.star_field import disc_footprints, exposure_of, grid_of_stars
from zeropoint.datamodel.psf_model import GaussianPsf

PLUGINS = ("base_SdssCentroid", "base_PsfFlux")
#: Magnitudes a flux may scatter on top of 1.1 times the photon-noise bound.
ALLOWED_MMAG = 2.0
#: Three statistical errors of a standard deviation from 625 values.
SCATTER = 0.085


@pytest.mark.parametrize("snr", [20, 100, 1000])
@pytest.mark.parametrize("psf", [GaussianPsf(1.5, 25), moffat_psf(3.5)], ids=["gauss", "moffat"])
def test_scatter_and_errors(psf, snr):
    exposure, footprints, truth = photon_stars(psf, snr, 800.0, 25, seed=snr + 1)
    cat = measure(config_of(*PLUGINS), exposure, footprints)
    flux, err = cat["base_PsfFlux_instFlux"], cat["base_PsfFlux_instFluxErr"]
    assert not cat["base_PsfFlux_flag"].any()
    relative = (flux / truth["flux"]).std()
    bound = np.median(truth["flux_bound"] / truth["flux"])
    assert relative < np.hypot(1.10 * bound, ALLOWED_MMAG * 1e-3 / 1.0857) * (1 + SCATTER / 2)
    assert abs(((flux - truth["flux"]) / err).std() - 1.0) < SCATTER


def test_columns_are_those_of_the_formula():
    exposure, footprints, _, _ = grid_of_stars(moffat_psf(3.5), np.full(4, 5e3), spacing=40)
    cat = measure(config_of(*PLUGINS), exposure, footprints)
    x, y = cat["base_SdssCentroid_x"][2:3], cat["base_SdssCentroid_y"][2:3]
    stamp = exposure.psf.star_stamps(x=x, y=y)[0]
    i, j = int(np.floor(x[0] + 0.5)), int(np.floor(y[0] + 0.5))
    data = exposure.image[j - 12 : j + 13, i - 12 : i + 13].astype(np.float64)
    flux = (stamp * data).sum() / (stamp**2).sum()
    # the noise under other footprints does not reach this stamp
    np.testing.assert_allclose(cat["base_PsfFlux_instFlux"][2], flux, rtol=1e-10)
    np.testing.assert_allclose(
        cat["base_PsfFlux_instFluxErr"][2], 10.0 / np.sqrt((stamp**2).sum()), rtol=1e-6
    )
    np.testing.assert_allclose(cat["base_PsfFlux_area"][2], stamp.sum() ** 2 / (stamp**2).sum(), rtol=1e-6)
    np.testing.assert_allclose(
        cat["base_PsfFlux_chi2"][2], ((data - flux * stamp) ** 2 / 100.0).sum(), rtol=1e-5
    )
    assert cat["base_PsfFlux_npixels"][2] == 625


def test_clipped_stamp_is_flagged_but_measured():
    psf = GaussianPsf(1.5, 25)
    image = np.zeros((60, 60))
    image[18:43, 0:20] += 1e4 * psf.kernel_image()[:, 5:]
    exposure = exposure_of(image, 1.0, psf)
    footprints = disc_footprints(np.array([7.0]), np.array([30.0]), 5)
    cat = measure(config_of("base_PsfFlux"), exposure, footprints)
    assert cat["base_PsfFlux_flag_edge"][0]
    assert cat["base_PsfFlux_flag"][0]
    assert cat["base_PsfFlux_npixels"][0] == 25 * 20
    np.testing.assert_allclose(cat["base_PsfFlux_instFlux"][0], 1e4, rtol=1e-5)


def test_masked_planes_can_be_left_out():
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(1.5, 25), np.full(4, 5e3), noise=1e-3)
    rows, columns = footprints.peak_y - 6, footprints.peak_x
    exposure.image[rows, columns] += 1e4
    exposure.mask[rows, columns] = 1
    config = config_of(*PLUGINS)
    config.plugins["base_PsfFlux"].badMaskPlanes = ["BAD"]
    cat = measure(config, exposure, footprints)
    np.testing.assert_allclose(cat["base_PsfFlux_instFlux"], 5e3, rtol=1e-3)
    exposure.mask[...] = 1
    cat = measure(config, exposure, footprints)
    assert cat["base_PsfFlux_flag_noGoodPixels"].all()
    assert np.isnan(cat["base_PsfFlux_instFlux"]).all()


def test_nan_pixel_gives_an_unset_flagged_flux():
    exposure, footprints, x, y = grid_of_stars(GaussianPsf(1.5, 25), np.full(4, 5e3))
    exposure.image[int(y[3]) + 5, int(x[3])] = np.nan
    cat = measure(config_of(*PLUGINS), exposure, footprints)
    assert cat["base_PsfFlux_flag"].tolist() == [False, False, False, True]
    assert np.isnan(cat["base_PsfFlux_instFlux"][3])


def test_psf_that_cannot_be_evaluated_is_flagged():
    class Broken(GaussianPsf):
        def star_stamps(self, *, x, y):
            stamps = super().star_stamps(x=x, y=y)
            stamps[np.atleast_1d(x) > 45] = np.nan
            return stamps

    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(1.5, 25), np.full(4, 5e3))
    exposure.psf = Broken(1.5, 25)
    cat = measure(config_of(*PLUGINS), exposure, footprints)
    expected = footprints.peak_x > 45
    np.testing.assert_array_equal(cat["base_InvalidPsf_flag"], expected)
    np.testing.assert_array_equal(cat["base_PsfFlux_flag"], expected)

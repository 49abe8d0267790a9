"""Options of the Piff determiner beyond the default: colours, coordinates, solvers; and what stores their PSFs."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from naive.psf_stars import blank_exposure, make_candidates, true_stamps
from zeropoint.datamodel.psf_model import GaussianPsf, PixelGridPsf
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import InvalidInputError, PsfFitError
from zeropoint.psf.piff_determiner import PiffPsfDeterminer, PiffPsfDeterminerConfig
from zeropoint.psf.piff_io import to_lsst_psf
from zeropoint.psf.pixel_projection import project_to_pixels


def _small(**changes):
    config = PiffPsfDeterminerConfig()
    config.update(
        solver="piff", spatialOrder=0, modelSize=11, stampSize=15, interpolant="Lanczos(5)", piffMaxIter=3
    )
    config.update(**changes)
    config.validate()
    return PiffPsfDeterminer(config)


def _colored_candidates(rng, n=16):
    """Stars whose PSF is 10 % wider for each magnitude of colour."""
    color = rng.uniform(0.0, 2.0, n)
    candidates, _ = make_candidates(n, rng, side=15, flux=(5.5, 5.5), jitter=0.0, noise=False)
    n = len(candidates)
    color = color[:n]
    image = np.stack([
        1e5 * true_stamps([2000.0 + dx], [2000.0 + dy], 15, fwhm=2.6 * (1 + 0.1 * c), centered=False)[0]
        for dx, dy, c in zip(candidates.x - np.floor(candidates.x + 0.5), candidates.y - np.floor(candidates.y + 0.5),
                             color, strict=True)
    ])  # fmt: skip
    noise = rng.normal(size=image.shape) * np.sqrt(400 + image)
    return replace(
        candidates,
        image=(image + noise).astype(np.float32),
        variance=(400 + image).astype(np.float32),
        color=color,
    )


def test_a_colour_term_is_fitted_and_stored_at_the_mean_colour(rng):
    from lsst.images import Box

    candidates = _colored_candidates(rng)
    candidates.color[3] = np.nan
    exposure = blank_exposure(4000, 4000)
    result = _small(useColor=True, modelSize=9).determine_psf(exposure, candidates)
    mean = np.nanmean(candidates.color)
    assert result.metadata["psfMeanColor"] == pytest.approx(mean)
    assert isinstance(result.psf, PixelGridPsf)
    at_mean = true_stamps([2000.0], [2000.0], 15, fwhm=2.6 * (1 + 0.1 * mean))[0]
    at_red = true_stamps([2000.0], [2000.0], 15, fwhm=2.6 * 1.2)[0]
    drawn = result.psf.kernel_image(x=2000.0, y=2000.0)
    assert np.abs(drawn - at_mean / at_mean.sum()).max() < 0.03 * at_mean.max()
    assert np.abs(at_red - at_mean).max() > 0.1 * at_mean.max()  # what the wrong colour would give
    stored = to_lsst_psf(result.psf, Box.factory[0:4000, 0:4000]).compute_kernel_image(x=2000, y=2000)
    assert np.abs(stored.array - drawn).max() < 1e-6


def test_a_psf_in_field_coordinates_is_stored_in_pixels(rng):
    candidates, _ = make_candidates(12, rng, side=21, fwhm=2.8, flux=(5.0, 5.0))
    exposure = blank_exposure(4000, 4000)
    exposure.wcs = SkyWcs.from_boresight(
        0.1, 0.2, x=2000.0, y=2000.0, pixel_scale_arcsec=0.2, rotation_deg=10.0
    )
    determiner = _small(modelSize=9, interpolant="Lanczos(3)", piffMaxIter=2, useCoordinates="field")
    result = determiner.determine_psf(exposure, candidates)
    assert isinstance(result.psf, PixelGridPsf)
    assert result.metadata["psfProjectionError"] < 0.02
    truth = true_stamps([2000.0], [2000.0], 15, fwhm=2.8)[0]
    stamp = result.psf.kernel_image(x=2000.0, y=2000.0)
    assert np.abs(stamp - truth / truth.sum()).max() < 0.05 * truth.max()


def test_a_psf_without_a_form_in_pixels_is_a_failure(rng):
    # linear interpolation has corners between the pixels
    candidates, _ = make_candidates(8, rng, side=15, fwhm=2.8, flux=(5.0, 5.0))
    determiner = _small(interpolant="galsim.Linear", modelSize=9, piffMaxIter=2)
    with pytest.raises(PsfFitError, match="no form in detector pixels") as failure:
        determiner.determine_psf(blank_exposure(4000, 4000), candidates)
    assert failure.value.metadata["spatial_order"] == 0


def test_the_projection_of_a_smooth_psf_is_exact_and_that_of_a_sharp_one_says_how_wrong_it_is():
    smooth, error = project_to_pixels(GaussianPsf(1.5, 21), (1000, 2000), 1)
    assert error < 2e-3
    assert np.abs(smooth.kernel_image() - GaussianPsf(1.5, 21).kernel_image()).max() < 1e-12
    assert project_to_pixels(GaussianPsf(0.5, 21), (1000, 2000), 1)[1] > 0.05


@pytest.mark.parametrize("solver", ["cpp", "qr"])
def test_piffs_solvers_agree(rng, solver):
    candidates, _ = make_candidates(10, rng, side=15, fwhm=2.8, flux=(5.0, 5.0))
    exposure = blank_exposure(4000, 4000)
    fits = [
        _small(piffBasisPolynomialSolver=name, modelSize=7, piffMaxIter=2).determine_psf(exposure, candidates)
        for name in ("scipy", solver)
    ]
    stamps = [fit.psf.kernel_image(x=2000.0, y=2000.0) for fit in fits]
    assert np.abs(stamps[0] - stamps[1]).max() < 1e-4 * stamps[0].max()


@pytest.mark.skipif(importlib.util.find_spec("jax") is not None, reason="jax is installed")
def test_a_solver_that_is_not_installed_is_named(rng):
    candidates, _ = make_candidates(5, rng, side=15)
    with pytest.raises(InvalidInputError, match="piffBasisPolynomialSolver"):
        _small(piffBasisPolynomialSolver="jax").determine_psf(blank_exposure(4000, 4000), candidates)


def test_yaml_that_piff_does_not_accept_is_named(rng):
    candidates, _ = make_candidates(5, rng, side=15)
    yaml = "type: Simple\nmodel: {type: NoSuchModel}\ninterp: {type: Mean}"
    with pytest.raises(InvalidInputError, match="NoSuchModel"):
        _small(piffPsfConfigYaml=yaml).determine_psf(blank_exposure(4000, 4000), candidates)


def test_a_fixed_centre_is_kept(rng):
    candidates, _ = make_candidates(30, rng, jitter=0.0, flux=(5.5, 5.5), fwhm=3.0)
    shifted = replace(candidates, x=candidates.x + 0.2)  # the catalogue's centroids are all 0.2 pixels off
    same = np.floor(shifted.x + 0.5) == np.floor(candidates.x + 0.5)
    shifted = shifted.take(same)
    exposure = blank_exposure(4000, 4000)
    centres = []
    for fit_center in (True, False):
        config = PiffPsfDeterminerConfig()
        config.update(spatialOrder=0, piffPixelGridFitCenter=fit_center)
        stamp = PiffPsfDeterminer(config).determine_psf(exposure, shifted).psf.kernel_image()
        axis = np.arange(stamp.shape[0]) - stamp.shape[0] // 2
        core = stamp * np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / 2.0)
        centres.append(float((core * axis).sum() / core.sum()))
    assert abs(centres[0]) < 0.02
    assert centres[1] < -0.05

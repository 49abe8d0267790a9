"""The eigen-image determiner: against truth, what it stores, choices, clipping, failures."""

from dataclasses import replace

import astropy.units as u
import lsst.pex.config as pexConfig
import numpy as np
import pytest
from lsst.images import Box, VisitImage
from lsst.images.fits import write
from lsst.images.serialization import read_archive

from naive.psf_stars import WIDTH, blank_exposure, make_candidates, true_stamps
from zeropoint.datamodel.exposure import PhotoCalib
from zeropoint.datamodel.mask_planes import plane_bit
from zeropoint.datamodel.psf_model import PixelGridPsf, shapes_of_stamps
from zeropoint.datamodel.visit_image import visit_image
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import PcaNoGoodStarsError, PcaNoStarsError, PcaTooFewGoodStarsError
from zeropoint.psf.pca_determiner import PcaPsfDeterminer, PcaPsfDeterminerConfig
from zeropoint.psf.piff_io import to_lsst_psf
from zeropoint.psf.registry import psfDeterminerRegistry
from zeropoint.psf.sanity import equivalent_sigma

#: Errors of a fit to 60 stars of S/N 100 to 1000 at order 2: each of its 6 terms has 10 stars, so a size that each
#: star tells to about 2/(S/N) is known to some 2e-3 rms over the field; twice that.
SIZE_TOLERANCE = 4e-3
#: The same for two ellipticities.
SHAPE_TOLERANCE = 4e-3
#: 6 terms from 55 stars leave 1 - 6/55 = 0.89 of the chi-square; its error is below 0.01.
CHI2 = (0.86, 0.92)


def _determine(candidates, exposure=None, **changes):
    config = PcaPsfDeterminerConfig()
    config.update(**changes)
    config.validate()
    return PcaPsfDeterminer(config).determine_psf(exposure or blank_exposure(4000, 4000), candidates)


def _errors(psf):
    """Return dT/T, de1, de2 on a grid over the detector."""
    x, y = (a.ravel() for a in np.meshgrid(*[np.linspace(300, 3700, 7)] * 2))
    drawn = shapes_of_stamps(np.ascontiguousarray(psf.kernel_stamps(x=x, y=y)))
    true = shapes_of_stamps(true_stamps(x, y, psf.size))
    size, wanted = drawn.xx + drawn.yy, true.xx + true.yy
    return (
        size / wanted - 1,
        (drawn.xx - drawn.yy) / size - (true.xx - true.yy) / wanted,
        2 * drawn.xy / size - 2 * true.xy / wanted,
    )


@pytest.fixture(scope="module")
def stars():
    return make_candidates(60, np.random.default_rng(11), flux=(4.6, 5.9))[0]


@pytest.fixture(scope="module")
def fitted(stars):
    return _determine(stars)


@pytest.mark.parametrize("nonlinear", [False, True])
def test_the_psf_is_the_true_one_over_the_detector(stars, fitted, nonlinear):
    result = _determine(stars, nonLinearSpatialFit=True) if nonlinear else fitted
    size, e1, e2 = _errors(result.psf)
    assert np.sqrt((size**2).mean()) < SIZE_TOLERANCE
    assert np.sqrt((e1**2 + e2**2).mean()) < SHAPE_TOLERANCE
    assert CHI2[0] < result.reduced_chi2 < CHI2[1]


def test_without_noise_it_is_exact_but_for_what_polynomials_cannot_do(rng):
    candidates, _ = make_candidates(60, rng, flux=(5.0, 5.0), noise=False, jitter=0.0)
    size, e1, e2 = _errors(_determine(candidates).psf)
    # profiles of a quadratic size and shape are not quadratics of position: 2e-4 is left
    assert np.sqrt((size**2).mean()) < 4e-4
    assert np.sqrt((e1**2 + e2**2).mean()) < 4e-4


def test_metadata_and_used_stars(stars, fitted):
    meta = fitted.metadata
    assert meta["numAvailStars"] == len(stars)
    assert meta["numGoodStars"] == fitted.used.sum() == len(fitted.star_x) > 0.9 * len(stars)
    assert meta["avgX"] == pytest.approx(stars.x[fitted.used].mean(), abs=60)
    assert meta["psfSpatialOrder"] == meta["psfSpatialOrderWanted"] == 2
    assert meta["psfEigenComponents"] == 6
    assert meta["psfOrderReason"] == ""
    assert all(isinstance(value, (int, float, str)) for value in meta.values())


def test_row_order_does_not_matter(stars, fitted, rng):
    order = rng.permutation(len(stars))
    other = _determine(stars.take(order))
    assert np.array_equal(other.used, fitted.used[order])
    x, y = np.array([400.0, 2000.0]), np.array([3600.0, 100.0])
    # sums are added in another order
    assert np.abs(other.psf.kernel_stamps(x=x, y=y) - fitted.psf.kernel_stamps(x=x, y=y)).max() < 1e-6


def test_the_stored_form_draws_the_same(fitted, tmp_path):
    assert isinstance(fitted.psf, PixelGridPsf)
    stored = to_lsst_psf(fitted.psf, Box.factory[0:4000, 0:4000], star_x=fitted.star_x, star_y=fitted.star_y)
    path = tmp_path / "psf.fits"
    write(stored, path)
    read = read_archive(str(path), type(stored))
    for x, y in ((31.0, 3960.4), (1999.3, 2000.4), (3950.8, 12.9)):
        star, kernel = fitted.psf.star_stamps(x=x, y=y)[0], fitted.psf.kernel_stamps(x=x, y=y)[0]
        # 1e-5 of the peak is asked for; rounding alone leaves 1e-12
        assert np.abs(read.compute_stellar_image(x=x, y=y).array - star).max() < 1e-10 * star.max()
        assert np.abs(read.compute_kernel_image(x=x, y=y).array - kernel).max() < 1e-10 * kernel.max()


def test_a_visit_image_with_it_is_read_by_lsst_images_and_piff(rng, tmp_path):
    candidates, _ = make_candidates(40, rng, flux=(4.6, 5.9), width=400)
    exposure = blank_exposure(400, 400)
    exposure.wcs = SkyWcs.from_boresight(
        150.0, 2.0, x=200.0, y=200.0, pixel_scale_arcsec=0.2, rotation_deg=0.0
    )
    result = _determine(candidates, exposure)
    psf = to_lsst_psf(result.psf, Box.factory[0:400, 0:400], star_x=result.star_x, star_y=result.star_y)
    path = tmp_path / "visit.fits"
    visit_image(exposure, psf=psf, unit=u.nJy, applied=PhotoCalib(1.0, 0.0), metadata={}).write(str(path))
    read = VisitImage.read(str(path)).psf
    for x, y in ((20.2, 390.4), (199.3, 200.4), (371.8, 12.9)):
        star = result.psf.star_stamps(x=x, y=y)[0]
        assert np.abs(read.compute_stellar_image(x=x, y=y).array - star).max() < 1e-10 * star.max()
        drawn = read.piff_psf.draw(x, y, stamp_size=result.psf.size).array
        assert np.abs(drawn / drawn.sum() - star).max() < 1e-10 * star.max()


def test_stars_that_are_not_like_the_others_are_rejected(stars):
    image = stars.image.copy()
    wide, _ = make_candidates(60, np.random.default_rng(3), fwhm=6.0, flux=(5.0, 5.0), jitter=0.0)
    image[[4, 17]] = wide.image[[4, 17]]
    image[30, 13:19, 14:22] += 0.3 * image[30].max()
    odd = replace(stars, image=image)
    result = _determine(odd)
    assert not result.used[[4, 17, 30]].any()
    assert result.used.sum() > 50
    size, _, _ = _errors(result.psf)
    assert np.sqrt((size**2).mean()) < SIZE_TOLERANCE


def test_masked_pixels_are_not_looked_at(stars, fitted):
    rng = np.random.default_rng(2)
    hit = rng.random(stars.image.shape) < 0.03
    image = np.where(hit, 1e6, stars.image).astype(np.float32)
    result = _determine(replace(stars, image=image, mask=np.where(hit, plane_bit("BAD"), 0).astype(np.int32)))
    size, e1, e2 = _errors(result.psf)
    assert np.sqrt((size**2).mean()) < SIZE_TOLERANCE
    assert np.sqrt((e1**2 + e2**2).mean()) < SHAPE_TOLERANCE


def test_undersampled_stars_get_half_size_model_pixels(rng):
    candidates, _ = make_candidates(80, rng, fwhm=1.6, flux=(4.6, 5.6), side=21)
    result = _determine(candidates)
    assert result.metadata["psfSamplingSize"] == 0.5
    assert result.psf.size == 21
    x = np.full(5, 2000.0) + np.linspace(-0.5, 0.4, 5)
    drawn = result.psf.star_stamps(x=x, y=x)
    true = true_stamps(x, x, 21, fwhm=1.6, centered=False)
    # with detector pixels in the model aliasing leaves 10 to 30 %
    assert np.abs(drawn - true / true.sum(axis=(1, 2), keepdims=True)).max() < 0.03 * true.max()


def test_few_stars_lower_the_order_with_a_warning(rng, caplog):
    candidates, _ = make_candidates(10, rng, flux=(5.0, 5.5))
    result = _determine(candidates)
    assert result.metadata["psfSpatialOrder"] == 1
    assert f"{len(candidates)} stars for order 2" in result.metadata["psfOrderReason"]
    assert "lowered from 2 to 1" in caplog.text


def test_eigen_images_are_at_most_as_many_as_terms_and_as_asked(stars):
    assert _determine(stars, spatialOrder=1).metadata["psfEigenComponents"] == 3
    assert _determine(stars, nEigenComponents=2).metadata["psfEigenComponents"] == 2
    constant = _determine(stars, nEigenComponents=1).psf
    a, b = constant.kernel_stamps(x=np.array([0.0, WIDTH]), y=np.array([0.0, WIDTH]))
    assert np.array_equal(a, b)


def test_equal_weights_use_the_information_worse(rng):
    candidates, _ = make_candidates(60, rng, flux=(3.8, 6.0))
    equal, weighted = (
        np.sqrt(np.mean(np.square(_errors(_determine(candidates, constantWeight=flag).psf))))
        for flag in (True, False)
    )
    assert equal > 1.5 * weighted


def test_limits_per_cell_leave_stars_out(stars, fitted):
    # cells as large as the detector: the spatial fit sees 20 stars only
    few = _determine(stars, sizeCellX=4000, sizeCellY=4000, nStarPerCell=0, nStarPerCellSpatialFit=20)
    x, y = np.array([500.0]), np.array([3000.0])
    assert not np.array_equal(few.psf.kernel_stamps(x=x, y=y), fitted.psf.kernel_stamps(x=x, y=y))
    size, _, _ = _errors(few.psf)
    assert np.sqrt((size**2).mean()) < 2 * SIZE_TOLERANCE


def test_blended_candidates_are_left_out_on_request(stars):
    blended = replace(stars, n_peaks=np.where(np.arange(len(stars)) % 4 == 0, 2, 1))
    result = _determine(blended, doRejectBlends=True)
    assert not result.used[::4].any()
    assert _determine(blended).used[::4].any()
    with pytest.raises(PcaNoGoodStarsError) as caught:
        _determine(replace(stars, n_peaks=np.full(len(stars), 2)), doRejectBlends=True)
    assert caught.value.metadata == {"num_available_stars": len(stars), "num_blended_stars": len(stars)}


def test_blend_masks_are_dropped_on_request(stars):
    # the candidates' masks hide everything; the exposure's own mask is clean
    hidden = replace(stars, mask=np.full_like(stars.mask, plane_bit("INTERPOLATED")))
    with pytest.raises(PcaNoGoodStarsError, match="half of its pixels"):
        _determine(hidden)
    assert _determine(hidden, doMaskBlends=False).used.sum() > 50


def test_faint_neighbours_are_masked_on_request(stars):
    # one in each stamp, 10 pixels from the star, beyond what is seen of the star itself, at any angle
    angle = np.random.default_rng(8).uniform(0, 2 * np.pi, len(stars))
    y, x = np.mgrid[:27, :27] - 13.0
    distance = np.hypot(x - 10 * np.cos(angle)[:, None, None], y - 10 * np.sin(angle)[:, None, None])
    image = stars.image + 2000.0 * np.exp(-(distance**2)).astype(np.float32)
    spoiled, masked = (_determine(replace(stars, image=image), pixelThreshold=t) for t in (0.0, 5.0))
    assert spoiled.reduced_chi2 > 2 * masked.reduced_chi2
    size, _, _ = _errors(masked.psf)
    assert np.sqrt((size**2).mean()) < SIZE_TOLERANCE


def test_the_border_is_ignored(stars):
    assert _determine(stars, borderWidth=3).psf.size == 21
    assert _determine(stars, stampSize=19).psf.size == 19
    with pytest.raises(pexConfig.FieldValidationError, match="borderWidth"):
        _determine(stars, stampSize=5, borderWidth=2)
    with pytest.raises(pexConfig.FieldValidationError, match="borderWidth"):
        _determine(stars, borderWidth=13)


def test_failures_have_names_and_numbers(stars):
    with pytest.raises(PcaNoStarsError) as none:
        _determine(stars.take(np.arange(0)))
    assert none.value.metadata == {"num_available_stars": 0}
    with pytest.raises(PcaTooFewGoodStarsError) as few:
        _determine(stars.take(np.arange(2)))
    assert few.value.metadata["num_good_stars"] == 2
    bad = replace(stars, mask=np.full_like(stars.mask, plane_bit("SATURATED")))
    with pytest.raises(PcaNoGoodStarsError):
        _determine(bad)


def test_two_hundred_stars_are_fast():
    import time

    candidates, _ = make_candidates(200, np.random.default_rng(5), flux=(4.3, 6.0))
    _determine(candidates.take(np.arange(20)))
    start = time.process_time()
    result = _determine(candidates)
    # measured 0.5 s; twice the promise leaves room for a busy machine
    assert time.process_time() - start < 5.0
    assert equivalent_sigma(result.psf.kernel_stamps(x=np.array([2000.0]), y=np.array([2000.0]))) > 0


def test_it_is_registered():
    assert psfDeterminerRegistry["pca"] is PcaPsfDeterminer

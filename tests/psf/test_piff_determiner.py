"""The determiner: against Piff itself, choices of order and sampling, failures."""

import lsst.pex.config as pexConfig
import numpy as np
import pytest

from naive.psf_stars import blank_exposure, make_candidates, true_stamps
from zeropoint.datamodel.psf_model import GaussianPsf, PixelGridPsf, shapes_of_stamps
from zeropoint.errors import PiffTooFewGoodStarsError
from zeropoint.psf.piff_determiner import PiffPsfDeterminer, PiffPsfDeterminerConfig
from zeropoint.psf.registry import psfDeterminerRegistry
from zeropoint.psf.sanity import equivalent_sigma, profile_misfit, why_contradicted, why_insane


def _determiner(**changes):
    config = PiffPsfDeterminerConfig()
    config.update(**changes)
    config.validate()
    return PiffPsfDeterminer(config)


def _small(solver, order, **changes):
    """A model small enough for Piff to take a second or two."""
    return _determiner(
        solver=solver, spatialOrder=order, modelSize=13, stampSize=21, interpolant="Lanczos(9)",
        adaptive_max_snr=False, photon_noise_weights=False, core_normalization=False, outlierNSigma=50.0,
        prior_strength=0.0, **changes,
    )  # fmt: skip


@pytest.mark.parametrize("order", [1, 2])
def test_the_native_solver_gives_piffs_psf(rng, order):
    # Piff leaves the sum of its model free; bright stars on wide stamps make it 1 to 4e-4, as ours is
    candidates, _ = make_candidates(24, rng, side=21, fwhm=2.8, flux=(6.5, 6.5), jitter=0.01)
    exposure = blank_exposure(4000, 4000)
    native = _small("native", order).determine_psf(exposure, candidates)
    yaml = f"""
        type: Simple
        model: {{type: PixelGrid, scale: 1.0, size: 13, interp: Lanczos(9), centered: true}}
        interp: {{type: BasisPolynomial, order: {order}, keys: [x, y]}}
        chisq_thresh: 1.0e-6
        max_iter: 5
    """
    piff = _small("piff", order, piffPsfConfigYaml=yaml).determine_psf(exposure, candidates)
    assert isinstance(piff.psf, PixelGridPsf)
    x, y = candidates.x, candidates.y
    ours, theirs = native.psf.kernel_stamps(x=x, y=y), piff.psf.kernel_stamps(x=x, y=y)
    assert np.abs(ours - theirs).max() < 1e-4 * theirs.max()


def test_metadata_and_used_stars(rng):
    candidates, _ = make_candidates(40, rng)
    candidates.mask[3] = 4
    result = _determiner(spatialOrder=1).determine_psf(blank_exposure(4000, 4000), candidates)
    assert not result.used[3]
    assert result.metadata["numAvailStars"] == len(candidates)
    assert result.metadata["numGoodStars"] == result.used.sum() == len(result.star_x)
    assert result.metadata["avgX"] == pytest.approx(candidates.x[result.used].mean())
    assert result.metadata["psfSpatialOrder"] == 1
    assert result.metadata["psfOrderReason"] == ""
    assert result.psf.average_position == (result.metadata["avgX"], result.metadata["avgY"])
    assert all(isinstance(value, int | float | str | bool) for value in result.metadata.values())


@pytest.mark.parametrize(("n", "order"), [(20, 2), (17, 1), (9, 1), (8, 0), (3, 0)])
def test_the_order_falls_with_the_number_of_stars(rng, n, order):
    candidates, _ = make_candidates(n, rng, jitter=0.0, flux=(5.3, 5.3))
    result = _determiner(piffMaxIter=2).determine_psf(blank_exposure(4000, 4000), candidates)
    assert result.metadata["psfSpatialOrder"] == order
    assert result.metadata["psfSpatialOrderWanted"] == 2
    assert bool(result.metadata["psfOrderReason"]) == (order < 2)


@pytest.mark.parametrize("n", [0, 2])
def test_too_few_stars_are_a_failure_with_numbers(rng, n):
    candidates, _ = make_candidates(max(n, 1), rng, jitter=0.0)
    with pytest.raises(PiffTooFewGoodStarsError) as failure:
        _determiner().determine_psf(blank_exposure(4000, 4000), candidates.take(np.arange(n)))
    assert failure.value.metadata == {"num_good_stars": n, "minimum_dof": 3, "poly_ndim": 0}


def test_one_star_is_enough_on_request(rng):
    candidates, _ = make_candidates(1, rng, jitter=0.0, flux=(5.3, 5.3))
    result = _determiner(zerothOrderInterpNotEnoughStars=True).determine_psf(
        blank_exposure(4000, 4000), candidates
    )
    assert result.metadata["psfSpatialOrder"] == 0
    assert np.isfinite(result.psf.sigma())


def test_the_order_of_a_band_wins(rng):
    candidates, _ = make_candidates(30, rng)
    determiner = _determiner(spatialOrderPerBand={"u": 0}, piffMaxIter=2)
    result = determiner.determine_psf(blank_exposure(4000, 4000, band="u"), candidates)
    assert len(result.psf.coefficients) == 1


def test_undersampled_stars_get_half_size_model_pixels(rng):
    candidates, _ = make_candidates(40, rng, fwhm=1.5, flux=(5.0, 5.0), jitter=0.01)
    result = _determiner(spatialOrder=0).determine_psf(blank_exposure(4000, 4000), candidates)
    assert result.metadata["psfSamplingSize"] == 0.5
    truth = true_stamps(candidates.x, candidates.y, 25, fwhm=1.5, centered=False)
    assert np.abs(result.psf.star_stamps(x=candidates.x, y=candidates.y) - truth).max() < 0.15 * truth.max()
    same = _determiner(spatialOrder=0, undersampled_fwhm=0.0, piffMaxIter=2)
    assert same.determine_psf(blank_exposure(4000, 4000), candidates).metadata["psfSamplingSize"] == 1.0


def _size_error(result, candidates, fwhm):
    truth = true_stamps(candidates.x, candidates.y, 25, fwhm=fwhm)
    ours = result.psf.shapes(x=candidates.x, y=candidates.y).trace_radius
    return float(np.mean((ours / shapes_of_stamps(np.ascontiguousarray(truth)).trace_radius) ** 2) - 1)


def test_sharp_stars_are_not_made_wider_where_they_are_many(rng):
    # whole pixels give 9e-3 at this FWHM
    candidates, _ = make_candidates(50, rng, fwhm=2.4, flux=(5.5, 5.5), jitter=0.005)
    exposure = blank_exposure(4000, 4000)
    result = _determiner(spatialOrder=1).determine_psf(exposure, candidates)
    assert result.metadata["psfSamplingSize"] == 0.5
    assert abs(_size_error(result, candidates, 2.4)) < 4e-3
    few = _determiner(spatialOrder=1).determine_psf(exposure, candidates.take(np.arange(30)))
    assert few.metadata["psfSamplingSize"] == 1.0
    assert few.metadata["psfSpatialOrder"] == 1


def test_photon_noise_weights_do_not_widen_sharp_stars_that_are_few(rng):
    candidates, _ = make_candidates(30, rng, fwhm=2.3, flux=(5.0, 5.5), jitter=0.005)
    exposure = blank_exposure(4000, 4000)
    flat = _determiner(spatialOrder=1).determine_psf(exposure, candidates)
    photon = _determiner(spatialOrder=1, flat_weights_fwhm=0.0).determine_psf(exposure, candidates)
    assert flat.metadata["psfSamplingSize"] == photon.metadata["psfSamplingSize"] == 1.0
    assert flat.metadata["psfFlatWeights"]
    assert not photon.metadata["psfFlatWeights"]
    assert _size_error(photon, candidates, 2.3) > 9e-3
    assert abs(_size_error(flat, candidates, 2.3)) < 6e-3
    wide, _ = make_candidates(30, rng, fwhm=3.0)
    assert not _determiner(spatialOrder=1).determine_psf(exposure, wide).metadata["psfFlatWeights"]


def test_the_prior_helps_faint_stars_and_does_not_touch_bright_ones(rng):
    exposure = blank_exposure(4000, 4000)
    errors = {}
    for name, flux in (("faint", (3.8, 4.2)), ("bright", (6.5, 6.5))):
        candidates, _ = make_candidates(30, rng, flux=flux, jitter=0.0)
        for strength in (0.0, 1.0):
            result = _determiner(spatialOrder=1, prior_strength=strength).determine_psf(exposure, candidates)
            truth = true_stamps(candidates.x, candidates.y, 25)
            drawn = result.psf.kernel_stamps(x=candidates.x, y=candidates.y)
            errors[name, strength] = float(np.sqrt(((drawn - truth) ** 2).sum() / (truth**2).sum()))
    assert errors["faint", 1.0] < 0.75 * errors["faint", 0.0]
    assert errors["bright", 1.0] < 1.05 * errors["bright", 0.0]


def test_a_corner_without_stars_gets_no_absurd_extrapolation(rng):
    candidates, _ = make_candidates(40, rng, width=400.0)  # all stars in one corner of a large detector
    result = _determiner().determine_psf(blank_exposure(8000, 8000), candidates)
    shapes = shapes_of_stamps(
        result.psf.kernel_stamps(x=np.array([200.0, 7900.0]), y=np.array([200.0, 7900.0]))
    )
    # the PSF of this corner is what is expected elsewhere, to the fraction that a PSF is expected to vary by
    assert (shapes.xx + shapes.yy)[1] == pytest.approx((shapes.xx + shapes.yy)[0], rel=0.4)
    assert result.metadata["psfSpatialOrder"] == 2


def test_an_absurd_extrapolation_lowers_the_order(rng):
    candidates, _ = make_candidates(40, rng, width=400.0)
    result = _determiner(prior_strength=0.0).determine_psf(blank_exposure(8000, 8000), candidates)
    assert result.metadata["psfSpatialOrder"] < 2
    assert result.metadata["psfOrderReason"]


def test_too_many_candidates_are_chosen_bright_and_spread(rng):
    candidates, flux = make_candidates(400, rng, jitter=0.0, noise=False)
    chosen = _determiner(maxCandidates=72).choose(candidates, (4000, 4000))
    assert len(chosen) == 72
    assert np.median(flux[chosen]) > 2 * np.median(flux)
    cells = np.floor(candidates.x[chosen] * 6 / 4000) * 6 + np.floor(candidates.y[chosen] * 6 / 4000)
    assert len(np.unique(cells)) == 36


def test_the_random_choice_is_that_of_the_legacy_generator(rng):
    candidates, _ = make_candidates(30, rng, jitter=0.0)
    chosen = _determiner(maxCandidates=10, candidateChoice="random").choose(candidates, (4000, 4000))
    expected = np.sort(np.random.RandomState(98765).choice(30, 10, replace=False))
    assert np.array_equal(chosen, expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"interpolant": "Bicubic"},
        {"interpolant": "galsim.Cubic"},
        {"useCoordinates": "sky"},
        {"useColor": True},
        {"piffPsfConfigYaml": "type: Simple"},
        {"stampSize": 23},
        {"stampSize": 24},
        {"modelSize": 31},
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes):
    with pytest.raises(pexConfig.FieldValidationError):
        _determiner(**changes)


def test_fine_sampling_needs_no_larger_stamp():
    _determiner(samplingSize=0.5, modelSize=49)


def test_the_determiner_is_registered_as_piff():
    assert psfDeterminerRegistry["piff"] is PiffPsfDeterminer


def test_sanity_names_what_is_wrong():
    good = GaussianPsf(1.7, 25)
    assert why_insane(good, (100, 100), np.array([1.7])) == ""
    assert "size" in why_insane(good, (100, 100), np.array([0.8]))

    class Bad(GaussianPsf):
        stamps = np.zeros((9, 25, 25))

        def kernel_stamps(self, *, x, y):
            return self.stamps

    bad = Bad(1.7, 25)
    assert why_insane(bad, (10, 10), np.array([1.7])) == "peak off centre"
    bad.stamps = np.full((9, 25, 25), np.nan)
    assert why_insane(bad, (10, 10), np.array([1.7])) == "not finite"
    bad.stamps = good.kernel_stamps(x=np.zeros(9), y=np.zeros(9))
    bad.stamps[4, 3, 3] = -0.5
    assert why_insane(bad, (10, 10), np.array([1.7])) == "deep troughs"


def test_neighbours_do_not_contradict_a_psf(rng):
    candidates, _ = make_candidates(20, rng, flux=(5.0, 5.0), jitter=0.0)
    result = _determiner(spatialOrder=1).determine_psf(blank_exposure(4000, 4000), candidates)
    assert np.median(profile_misfit(result.psf, candidates)) < 0.02
    candidates.image[:, 1:5, 1:5] += (
        0.5 * candidates.image[:, 11:15, 11:15]
    )  # half as bright, 9 pixels away each way
    assert np.median(profile_misfit(result.psf, candidates)) < 0.02
    assert why_contradicted(result.psf, candidates) == ""
    narrow = GaussianPsf(0.6 * result.psf.sigma(), 25)
    assert "of their profile" in why_contradicted(narrow, candidates)


def test_equivalent_sigma_of_gaussians():
    stamps = np.concatenate([GaussianPsf(s, 25).kernel_stamps(x=[0], y=[0]) for s in (0.8, 1.5, 2.0)])
    np.testing.assert_allclose(equivalent_sigma(stamps), [0.8, 1.5, 2.0], rtol=0.02)
    assert np.isnan(equivalent_sigma(np.zeros((1, 25, 25)))[0])

"""Kernels of the HSM family against GalSim and against slow twins."""

from __future__ import annotations

import galsim
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import hsm as naive
from zeropoint.measurement._hsm_kernels import fit_gaussian, hsm_stack, weighted_sums
from zeropoint.measurement._hsm_sources import higher_moments
from zeropoint.measurement._kernels_local import box_medians
from zeropoint.measurement._psf_noise import hashed_normals
from zeropoint.measurement._regauss_kernels import _add_convolved, regauss

#: Both stop at relative steps of 1e-6 and converge at least linearly by a factor of ten a step.
GALSIM_TOLERANCE = 1e-5


def draw(profile, size=41, offset=(0.0, 0.0)):
    """Return point samples of a profile centred on the stamp's middle plus an offset."""
    image = profile.drawImage(nx=size, ny=size, scale=1, dtype=float, method="no_pixel", offset=offset)
    return np.ascontiguousarray(image.array)


def measure(stamps, sigma=4.5, *, round_weight=False, fit_below=0.0):
    stamps = np.ascontiguousarray(stamps, np.float64)
    n, h, w = stamps.shape
    out, status = np.empty((n, 6)), np.zeros(n, np.int64)
    cx, cy = np.full(n, float(w // 2)), np.full(n, float(h // 2))
    hsm_stack(stamps, cx, cy, np.full(n, sigma), round_weight, fit_below, out, status)
    return out, status


def galsim_moments(stamp, sigma=4.5, *, round_weight=False):
    image = galsim.Image(np.ascontiguousarray(stamp, np.float64), xmin=0, ymin=0)
    centre = galsim.PositionD(stamp.shape[1] // 2, stamp.shape[0] // 2)
    m = galsim.hsm.FindAdaptiveMom(image, guess_sig=sigma, guess_centroid=centre, round_moments=round_weight)
    e1, e2 = m.observed_shape.e1, m.observed_shape.e2
    trace = 2.0 * m.moments_sigma**2 / np.sqrt(1.0 - e1**2 - e2**2)
    xx, yy, xy = trace / 2 * (1 + e1), trace / 2 * (1 - e1), trace / 2 * e2
    return np.array([m.moments_centroid.x, m.moments_centroid.y, xx, yy, xy, m.moments_amp])


@pytest.mark.parametrize("round_weight", [False, True])
def test_moments_equal_galsim(round_weight):
    rng = np.random.default_rng(11)
    stamps = []
    for _ in range(40):
        shear = {"g1": rng.uniform(-0.3, 0.3), "g2": rng.uniform(-0.3, 0.3)}
        profile = galsim.Moffat(beta=rng.uniform(2.5, 5), fwhm=rng.uniform(2.4, 7)).shear(**shear)
        stamps.append(draw(profile, offset=rng.uniform(-0.5, 0.5, 2)) * 1e5 + rng.normal(0, 3, (41, 41)))
    out, status = measure(stamps, round_weight=round_weight)
    assert not status.any()
    expected = np.array([galsim_moments(s, round_weight=round_weight) for s in stamps])
    np.testing.assert_allclose(out, expected, rtol=GALSIM_TOLERANCE, atol=GALSIM_TOLERANCE)


def test_failures_are_those_of_galsim():
    rng = np.random.default_rng(12)
    stamps = rng.normal(0, 1, (60, 25, 25))
    out, status = measure(stamps)
    for stamp, values, code in zip(stamps, out, status):
        try:
            expected = galsim_moments(stamp)
        except galsim.GalSimHSMError:
            assert code != 0
            assert np.isnan(values).all()
            continue
        assert code == 0
        # on noise the fixed point is shallow, so the last step says less about what is left
        np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3)
    assert (status != 0).any()


def test_nothing_to_measure_is_a_status():
    stamps = np.stack([np.zeros((9, 9)), np.full((9, 9), np.nan), np.full((9, 9), np.inf)])
    out, status = measure(stamps)
    assert (status != 0).all()
    assert np.isnan(out).all()
    _, status = measure(np.ones((1, 1, 1)))
    assert status[0] != 0
    _, status = measure(np.ones((1, 9, 9)), sigma=np.nan)
    assert status[0] != 0


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1000), st.floats(0.3, 30), st.floats(0.3, 30), st.floats(-0.95, 0.95), st.floats(-3, 25)
)
def test_weighted_sums_equal_their_twin(seed, xx, yy, correlation, cx):
    rng = np.random.default_rng(seed)
    image = rng.normal(1, 1, (17, 23))
    xy = correlation * np.sqrt(xx * yy)
    out = np.empty(6)
    weighted_sums(image, cx, 7.3, xx, yy, xy, 32.236, out)
    expected = naive.weighted_sums(image, cx, 7.3, np.array([[xx, xy], [xy, yy]]), 32.236)
    # pixels whose weight is the cut's 1e-7 may fall on either side of it
    np.testing.assert_allclose(out, expected, rtol=1e-9, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.4, 0.49, 0.7, 1.5])
@pytest.mark.parametrize("offset", [(0.0, 0.0), (0.5, 0.5), (0.3, -0.2)])
def test_gaussian_fit_is_exact_at_any_size_and_phase(sigma, offset):
    profile = galsim.Gaussian(sigma=sigma).shear(g1=0.1, g2=-0.05)
    stamp = draw(profile, 15, offset) * 1e4
    out = np.empty(6)
    good = np.ones(stamp.size, np.bool_)
    good[3] = False
    assert fit_gaussian(stamp.ravel(), good, 15, 15, 7.0, 7.0, 0.8, out) == 0
    determinant = out[2] * out[3] - out[4] ** 2
    np.testing.assert_allclose(out[:2], np.array(offset) + 7, atol=1e-6)
    np.testing.assert_allclose(determinant**0.25, sigma, rtol=1e-6)
    np.testing.assert_allclose(out[5], 1e4, rtol=1e-5)


def test_undersampled_objects_get_a_fit_where_moments_collapse():
    stamps = [draw(galsim.Gaussian(sigma=0.49), 15, (dx, 0.1)) * 1e4 for dx in (0.0, 0.25, 0.5)]
    _, plain = measure(stamps, 1.0)
    assert (plain != 0).any()
    out, status = measure(stamps, 1.0, fit_below=0.9)
    assert not status.any()
    np.testing.assert_allclose(out[:, 2:4], 0.49**2, rtol=1e-5)


def test_gaussian_fit_refuses_noise_and_emptiness():
    good = np.ones(25, np.bool_)
    out = np.empty(6)
    for stamp in (np.zeros(25), np.full(25, -1.0), np.full(25, np.inf)):
        assert fit_gaussian(stamp, good, 5, 5, 2.0, 2.0, 1.0, out) != 0


@pytest.mark.parametrize("fill", [False, True])
def test_higher_moments_equal_their_twin(fill):
    rng = np.random.default_rng(4)
    stamp = draw(galsim.Moffat(beta=3, fwhm=4).shear(g1=0.2, g2=0.1), 31, (0.3, 0.2)) * 1e4
    stamp += rng.normal(0, 1, stamp.shape)
    stamp[:, 18:] *= 1.1
    shape = np.array([15.3, 15.2, 4.2, 3.1, 0.6])
    good = rng.uniform(size=stamp.shape) > 0.02
    stamp[~good] = 0.0
    orders = np.array([(p, n - p) for n in (3, 4) for p in range(n + 1)]).T.copy()
    out = np.empty(9)
    assert higher_moments(stamp.ravel(), good.ravel(), 31, 31, shape, fill, orders[0], orders[1], out)
    expected = [naive.higher_moment(stamp, good, shape, p, q, fill) for p, q in orders.T]
    # the kernel leaves out rho^2 > 50, where the weight is below 2e-11
    np.testing.assert_allclose(out, expected, atol=1e-7)


def test_higher_moments_of_a_gaussian_are_known():
    stamp = draw(galsim.Gaussian(sigma=2.5).shear(g1=0.2), 41)
    m, _ = measure([stamp])
    orders = np.array([[0, 1, 2, 3, 4, 0, 2], [3, 2, 1, 0, 0, 4, 2]])
    out = np.empty(7)
    good = np.ones(stamp.size, np.bool_)
    assert higher_moments(
        stamp.ravel(), good, 41, 41, np.ascontiguousarray(m[0, :5]), True, orders[0], orders[1], out
    )
    # under its own weight the covariance is 1/2: odd moments 0, <u^4> = 3/4, <u^2 v^2> = 1/4
    np.testing.assert_allclose(out, [0, 0, 0, 0, 0.75, 0.75, 0.25], atol=1e-4)


def test_higher_moments_refuse_bad_shapes():
    out = np.empty(1)
    one = np.ones(1, np.int64)
    stamp, good = np.ones(9), np.ones(9, np.bool_)
    for shape in ([1, 1, -1.0, 1, 0], [1, 1, 1.0, 1.0, 1.0], [1, 1, np.nan, 1, 0]):
        assert not higher_moments(stamp, good, 3, 3, np.array(shape, float), True, one, one, out)
    assert not higher_moments(-stamp, good, 3, 3, np.array([1, 1, 1.0, 1, 0]), True, one, one, out)


def test_regauss_equals_galsim():
    rng = np.random.default_rng(5)
    for _ in range(15):
        psf = galsim.Moffat(beta=rng.uniform(2.5, 4), fwhm=rng.uniform(3, 5))
        psf = psf.shear(g1=rng.uniform(-0.05, 0.05), g2=rng.uniform(-0.05, 0.05))
        shear = {"g1": rng.uniform(-0.4, 0.4), "g2": rng.uniform(-0.4, 0.4)}
        galaxy = galsim.Exponential(half_light_radius=rng.uniform(0.6, 4)).shear(**shear)
        image = galsim.Convolve(galaxy, psf).drawImage(nx=45, ny=39, scale=1, dtype=float, offset=(0.3, -0.2))
        image.array[:] = image.array * 1e5 + rng.normal(0, 5, image.array.shape)
        psf_image = psf.drawImage(nx=35, ny=35, scale=1, dtype=float, offset=(0.3, -0.2))
        expected = galsim.hsm.EstimateShear(
            image, psf_image, sky_var=25.0, guess_sig_gal=4.5, guess_sig_PSF=1.8, recompute_flux="FIT"
        )
        out = np.empty(4)
        psf_start = np.array([17.0, 17.0, 3.2, 3.2, 0.0])
        code = regauss(
            image.array.copy(),
            psf_image.array.copy(),
            np.array([22.0, 19.0, 4.5**2, 4.5**2, 0.0]),
            psf_start,
            np.zeros((35, 35)),
            np.empty(24),
            out,
        )
        assert code == 0
        np.testing.assert_allclose(out[0], expected.corrected_e1, atol=3 * GALSIM_TOLERANCE)
        np.testing.assert_allclose(out[1], expected.corrected_e2, atol=3 * GALSIM_TOLERANCE)
        np.testing.assert_allclose(out[2], expected.resolution_factor, atol=GALSIM_TOLERANCE)
        error = np.sqrt(4 * np.pi * 25.0) * out[3]
        np.testing.assert_allclose(error, expected.corrected_shape_err, rtol=GALSIM_TOLERANCE)


def test_hashed_noise_is_normal_and_repeats():
    values = np.array([hashed_normals(np.uint64(s), np.uint64(k)) for s in range(40) for k in range(100)])
    n = values.size
    assert abs(values.mean()) < 4 / np.sqrt(n)
    assert abs(values.var() - 1) < 4 * np.sqrt(2 / n)
    assert abs(np.mean(values[:, 0] * values[:, 1])) < 4 / np.sqrt(len(values))
    assert abs(np.mean(values[1:, 0] * values[:-1, 0])) < 4 / np.sqrt(len(values))
    assert hashed_normals(np.uint64(7), np.uint64(3)) == hashed_normals(np.uint64(7), np.uint64(3))
    assert len(np.unique(values)) == n


def test_medians_of_boxes_equal_numpy():
    rng = np.random.default_rng(4)
    variance = rng.gamma(9.0, 10.0, (60, 70)).astype(np.float32)
    mask = (rng.random(variance.shape) < 0.2).astype(np.int32) * 4
    mask[:3, :3] = 4
    boxes = np.array([[0, 0, 69, 59], [5, 5, 5, 5], [10, 20, 30, 21], [0, 0, 2, 2]], np.int64)
    mask[5, 5] = 0
    out = np.empty(len(boxes))
    box_medians(variance, mask, np.int32(4), boxes, out)
    for (x0, y0, x1, y1), value in zip(boxes[:3], out):
        cut = np.s_[y0 : y1 + 1, x0 : x1 + 1]
        good = variance[cut][mask[cut] == 0].astype(np.float64)
        assert value == pytest.approx(np.median(good), rel=1e-14)
    assert np.isnan(out[3])


@pytest.mark.parametrize(
    ("shape", "x", "y"), [((30, 31), 2.3, -1.2), ((25, 25), 0.1, 0.3), ((12, 9), -6, -5), ((40, 40), 12, 11)]
)
def test_round_stand_ins_are_convolved_as_any_others(shape, x, y):
    rng = np.random.default_rng(6)
    residual, box = rng.normal(size=(21, 21)), (2, 1, 18, 20)
    images = np.zeros((2, *shape))
    expected = np.zeros(shape)
    for image, covariance in zip(images, (0.0, 1e-15)):  # of which the second takes the general way
        _add_convolved(image, residual, box, np.array([0.25, 0.25, covariance]), float(x), float(y), 3.0)
    np.testing.assert_allclose(images[0], images[1], atol=1e-12)
    # plain twin: every shift of the residual, weighted
    d, e = np.arange(max(-20, np.floor(x - 3)), x + 4), np.arange(max(-20, np.floor(y - 3)), y + 4)
    weights = np.exp(-2.0 * ((d[None, :] - x) ** 2 + (e[:, None] - y) ** 2))
    d, e = d[d <= min(shape[1] - 1, np.ceil(x + 3))], e[e <= min(shape[0] - 1, np.ceil(y + 3))]
    weights = weights[: len(e), : len(d)]
    for k, dy in enumerate(e.astype(int)):
        for m, dx in enumerate(d.astype(int)):
            for j in range(box[1], box[3] + 1):
                for i in range(box[0], box[2] + 1):
                    if 0 <= j + dy < shape[0] and 0 <= i + dx < shape[1]:
                        expected[j + dy, i + dx] += 3.0 * weights[k, m] / weights.sum() * residual[j, i]
    np.testing.assert_allclose(images[0], expected, atol=1e-12)

"""Superstar flats, and gray that varies within detectors and over the focal plane."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.polynomial import chebyshev

from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.fgcm.terms.chebyshev import fit_flux_fields, flux_field_magnitudes
from zeropoint.fgcm.terms.gray import GrayResiduals, detector_gray
from zeropoint.fgcm.terms.gray_fields import (
    FocalPlaneForm,
    focal_plane_gray,
    focal_plane_offsets,
    sub_detector_gray,
)
from zeropoint.fgcm.terms.superstar import flat_index, shape_variance, superstar_flats

SIZE = (200, 300)
#: Error of each star, and what a field of four parameters is known to with 500 of them: 0.004 x 2 / sqrt(500).
ERR, FIELD_ERR = 0.004, 0.0004


def positions(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(-0.5, SIZE[0] - 0.5, n), rng.uniform(-0.5, SIZE[1] - 0.5, n)


def residuals_of(gray: np.ndarray, err: float = ERR) -> GrayResiduals:
    return GrayResiduals(gray.astype(np.float32), np.full(len(gray), err**2, np.float32))


def test_fields_have_the_convention_of_images(rng: np.random.Generator) -> None:
    coefficients = rng.normal(0, 0.02, (3, 3, 3)) + np.eye(3)[0][:, None] * np.eye(3)[0]
    x, y = (p.astype(np.float32) for p in positions(rng, 50))
    group = rng.integers(0, 3, 50)
    found = flux_field_magnitudes(coefficients, group, x, y, SIZE)
    expected = [ChebyshevPolynomial(*SIZE, coefficients[g])(x=a, y=b) for g, a, b in zip(group, x, y)]
    np.testing.assert_allclose(found, -2.5 * np.log10(expected), atol=1e-12)


def test_a_plane_is_known_at_its_corners() -> None:
    plane = np.array([[[1.0, 0.03], [0.02, 0.0]]])  # [y, x]
    corners = flux_field_magnitudes(
        plane,
        np.zeros(4, int),
        np.array([-0.5, 199.5, -0.5, 199.5]),
        np.array([-0.5, -0.5, 299.5, 299.5]),
        SIZE,
    )
    np.testing.assert_allclose(10 ** (-0.4 * corners), [0.95, 1.01, 0.99, 1.05], rtol=1e-12)


@pytest.mark.parametrize(("order", "triangular"), [(1, False), (1, True), (2, True)])
def test_noiseless_fields_come_back(rng: np.random.Generator, order: int, triangular: bool) -> None:
    n = 1500
    true = rng.normal(0, 0.05, (3, order + 1, order + 1))
    true[:, 0, 0] = [1.0, 2.5, 1.1]
    if triangular:
        true[:, np.add.outer(np.arange(order + 1), np.arange(order + 1)) > order] = 0.0
    x, y = positions(rng, n)
    group = rng.permutation(np.repeat([0, 1, 2], [200, 600, 700]))
    magnitudes = flux_field_magnitudes(true, group, x, y, SIZE)
    variance = rng.uniform(1e-5, 1e-3, n)
    fields = fit_flux_fields(magnitudes, variance, group, 3, x, y, SIZE, order=order, triangular=triangular)
    assert fields.has_shape.all()
    np.testing.assert_allclose(fields.coefficients, true, atol=1e-5)
    grid = chebyshev.chebval2d(*np.meshgrid(np.linspace(-1, 1, 801), np.linspace(-1, 1, 801)), true[1].T)
    assert fields.mean_flux[1] == pytest.approx(grid.mean(), rel=2e-3)


def test_fields_are_the_weighted_least_squares_solution_whatever_else_is_fitted(
    rng: np.random.Generator,
) -> None:
    """Small and large groups are padded together; weights are 1/variance, not its square."""
    x, y = positions(rng, 400)
    group = np.repeat([0, 1], [50, 350])
    err = rng.uniform(0.001, 0.01, 400)
    magnitudes = rng.normal(0, 1e-4, 400) * err / 0.001
    fields = fit_flux_fields(magnitudes, err**2, group, 2, x, y, SIZE, order=1)
    for g in range(2):
        m = group == g
        u, v = (2 * x[m] + 1 - SIZE[0]) / SIZE[0], (2 * y[m] + 1 - SIZE[1]) / SIZE[1]
        design = np.stack([np.ones_like(u), u, v, u * v], axis=1)
        expected = np.linalg.lstsq(design / err[m, None], magnitudes[m] / err[m])[0]
        found = (fields.coefficients[g] - [[1, 0], [0, 0]]) * -2.5 / np.log(10)
        # fields of a thousandth differ from magnitudes by a millionth
        np.testing.assert_allclose(found, [[expected[0], expected[1]], [expected[2], expected[3]]], atol=2e-6)


def test_few_stars_have_a_constant_and_fewer_have_nothing(rng: np.random.Generator) -> None:
    x, y = positions(rng, 42)
    group = np.repeat([0, 1], [40, 2])
    fields = fit_flux_fields(np.full(42, 0.1), np.full(42, 1e-4), group, 3, x, y, SIZE, order=2)
    assert not fields.has_shape.any()
    np.testing.assert_allclose(fields.coefficients[0], [[10**-0.04, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert np.isnan(fields.coefficients[1:]).all()


def test_stars_on_a_line_and_fields_with_a_hole_have_a_constant(rng: np.random.Generator) -> None:
    x, y = positions(rng, 600)
    group = np.repeat([0, 1, 2], 200)
    y[group == 0] = x[group == 0]
    mild = np.where(group == 1, 0.2 * (x / SIZE[0]), 0.0)
    fields = fit_flux_fields(mild, np.full(600, 1e-4), group, 3, x, y, SIZE, order=1)
    assert fields.has_shape.tolist() == [False, True, True]
    # 6 mag across the detector: no plane in flux
    steep = np.where(group == 1, 6.0 * (x / SIZE[0]), 0.0)
    fields = fit_flux_fields(steep, np.full(600, 1e-4), group, 3, x, y, SIZE, order=1)
    assert not fields.has_shape[1]
    assert fields.coefficients[1, 0, 0] == pytest.approx(10 ** (-0.4 * steep[group == 1].mean()), rel=1e-6)
    assert (fields.coefficients[1].ravel()[1:] == 0).all()


def test_superstar_flats_are_whole_and_not_changes(rng: np.random.Generator) -> None:
    shape = (2, 2, 3)
    n = 12 * 500
    flat = np.repeat(np.arange(12), 500).astype("i4")
    true = np.zeros((12, 2, 2))
    true[:, 0, 0] = rng.normal(1.0, 0.01, 12)
    true[:, 0, 1], true[:, 1, 0] = rng.normal(0, 0.01, (2, 12))
    x, y = positions(rng, n)
    whole = flux_field_magnitudes(true, flat, x, y, SIZE)
    applied = rng.normal(0, 0.01, 12)[flat]
    sample = np.ones(n, bool)
    sample[flat == 11] = False
    flats = superstar_flats(
        residuals_of(whole - applied + rng.normal(0, ERR, n)),
        applied,
        flat,
        shape,
        sample,
        x,
        y,
        SIZE,
        order=1,
        sub_ccd=np.array([True, False]),
    )
    assert flats.has_shape[:, 0].all()
    assert not flats.has_shape[:, 1].any()
    assert not flats.measured[1, 1, 2]
    np.testing.assert_allclose(
        flats.constants.ravel()[:11], -2.5 * np.log10(true[:11, 0, 0]), atol=5 * FIELD_ERR
    )
    varies = flats.has_shape.ravel()[flat]
    away = flats.magnitudes(flat, x, y, SIZE) - whole
    assert np.abs(away[varies]).max() < 6 * FIELD_ERR
    assert (away[flat == 11] == -whole[flat == 11]).all()
    np.testing.assert_allclose(flats.shapes().mean_flux.ravel()[:11], 1.0)


def test_the_mean_over_the_focal_plane_can_be_forced_to_one(rng: np.random.Generator) -> None:
    flat = np.repeat(np.arange(3), 100).astype("i4")
    flats = superstar_flats(
        residuals_of(np.repeat([0.1, 0.2, 0.3], 100)),
        0.0,
        flat,
        (1, 1, 3),
        np.ones(300, bool),
        *positions(rng, 300),
        SIZE,
        order=1,
        sub_ccd=np.array([False]),
        force_zero_mean=True,
    )
    assert flats.mean_flux.mean() == pytest.approx(1.0)
    np.testing.assert_allclose(np.diff(flats.constants.ravel()), 0.1, atol=1e-6)


def test_each_exposure_and_detector_has_the_flat_of_its_epoch_and_filter() -> None:
    index = flat_index(np.array([0, 1, 1]), np.array([1, 0, -1]), 2, 2)
    assert index.tolist() == [2, 3, 4, 5, -1, -1]


def test_flats_are_known_at_their_centers_as_they_scatter_there(rng: np.random.Generator) -> None:
    # stars seen six times; flats of order 2 are fitted to residuals from their means
    n_star, n_seen, n_flat = 300, 6, 120
    n = n_star * n_seen * n_flat
    x, y = positions(rng, n)
    err = np.repeat(rng.uniform(0.5 * ERR, 2 * ERR, n_star * n_flat), n_seen)
    star = np.repeat(np.arange(n_star * n_flat), n_seen)
    weight = err**-2.0
    noise = rng.normal(0, 1, n) * err
    total = np.bincount(star, weight)
    gray = (np.bincount(star, weight * noise) / total)[star] - noise
    variance = err**2 - 1 / total[star]
    # the stars are dealt out to flats that are all alike: so many tries of one
    flat, sample, shape = star // n_star, np.ones(n, bool), (1, 1, n_flat)
    residuals = GrayResiduals(gray.astype(np.float32), variance.astype(np.float32))
    flats = superstar_flats(
        residuals, 0.0, flat, shape, sample, x, y, SIZE, order=2, sub_ccd=np.array([True])
    )
    shapes = flats.shapes().coefficients
    found = shape_variance(residuals.variance, weight, flat, shapes, sample, x, y, SIZE)
    middle = np.tile(0.5 * (np.array(SIZE)[:, None] - 1), n_flat)
    center = flux_field_magnitudes(shapes[0, 0], np.arange(n_flat), *middle, SIZE)
    # as well as 120 tries tell it; the flats' own share of the stars' means is not iterated away here
    assert np.mean(center**2 / found[0, 0]) == pytest.approx(
        (1 - 1 / n_seen) ** 2, rel=4 * np.sqrt(2 / n_flat)
    )
    constant = np.zeros_like(shapes)
    constant[..., 0, 0] = 1.0
    assert not shape_variance(residuals.variance, weight, flat, constant, sample, x, y, SIZE).any()


def test_gray_within_detectors_is_given_at_their_centers(rng: np.random.Generator) -> None:
    n = 1200
    ec = np.repeat([0, 1, 2, 3], 300)
    x, y = positions(rng, n)
    slope = np.array([0.05, -0.05, 0.05, 0.05])[ec] * (2 * x / SIZE[0] - 1)
    found = residuals_of(-0.2 + slope + rng.normal(0, ERR, n))
    sample = np.ones(n, bool)
    constant = detector_gray(found, ec, (2, 2), sample)
    gray = sub_detector_gray(
        constant, found, ec, sample, x, y, SIZE, order=1, triangular=True, chosen=np.array([True, False])
    )
    assert gray.coefficients is not None
    # the coefficient of x is the slope in flux: 10^0.08 (1 - 10^(-0.4 x 0.05))
    np.testing.assert_allclose(gray.coefficients[0, :, 0, 1], [-0.0553, 0.0553], atol=0.002)
    assert (gray.coefficients[1, :, 0, 1] == 0).all()
    np.testing.assert_allclose(gray.gray[0], -0.2, atol=5 * FIELD_ERR)
    np.testing.assert_array_equal(gray.gray[1], constant.gray[1])


def focal_plane(rng: np.random.Generator, n: int):  # type: ignore[no-untyped-def]
    """Four detectors in a square of 2 x 2 degrees, all of three exposures."""
    x, y = positions(rng, n)
    ec = rng.integers(0, 12, n)
    det = ec % 4
    u = (det % 2) - 1 + (x + 0.5) / SIZE[0]
    v = (det // 2) - 1 + (y + 0.5) / SIZE[1]
    return ec, x, y, u, v


def test_a_surface_over_the_focal_plane_gives_each_detector_its_field(rng: np.random.Generator) -> None:
    n = 9000
    ec, x, y, u, v = focal_plane(rng, n)
    cloud = -0.3 + 0.05 * u - 0.03 * v + 0.02 * u * v
    found = residuals_of(cloud + rng.normal(0, ERR, n))
    sample = ec != 5
    sample &= (ec // 4 != 2) | (rng.random(n) < 0.03)  # the last exposure has too few stars
    constant = detector_gray(found, ec, (3, 4), sample)
    gray = focal_plane_gray(
        constant,
        found,
        ec,
        sample,
        (u, v),
        x,
        y,
        SIZE,
        FocalPlaneForm(sub_order=1, sub_triangular=False, max_stars=2000),
        np.ones(3, bool),
    )
    assert gray.coefficients is not None
    inner = flux_field_magnitudes(gray.coefficients.reshape(12, 2, 2), ec, x, y, SIZE)
    fitted = (ec // 4 < 2) & (ec != 5)
    # 16 parameters from 2000 stars: 0.004 x 4 / sqrt(2000) = 0.4 mmag, several times as much at the edges
    assert np.std((inner - cloud)[fitted]) < 0.001
    assert np.isnan(gray.gray[1, 1])
    np.testing.assert_allclose(
        gray.gray[0],
        [-0.3 + 0.05 * a - 0.03 * b + 0.02 * a * b for b in (-0.5, 0.5) for a in (-0.5, 0.5)],
        atol=0.002,
    )
    np.testing.assert_array_equal(gray.gray[2], constant.gray[2])
    assert (gray.err[0] > 0.0003).all()


def test_a_surface_without_fields_is_averaged_over_the_stars(rng: np.random.Generator) -> None:
    n = 4000
    ec, x, y, u, v = focal_plane(rng, n)
    found = residuals_of(np.full(n, -0.1) + rng.normal(0, ERR, n))
    sample = np.ones(n, bool)
    constant = detector_gray(found, ec, (3, 4), sample)
    chosen = np.array([True, True, False])
    form = FocalPlaneForm(order=2, min_ccd=4)
    gray = focal_plane_gray(constant, found, ec, sample, (u, v), x, y, SIZE, form, chosen)
    np.testing.assert_allclose(gray.gray[:2], -0.1, atol=0.002)
    assert (gray.gray[0] != constant.gray[0]).all()
    np.testing.assert_array_equal(gray.gray[2], constant.gray[2])
    few = focal_plane_gray(
        constant, found, ec, sample, (u, v), x, y, SIZE, FocalPlaneForm(order=2, min_ccd=5), chosen
    )
    np.testing.assert_array_equal(few.gray, constant.gray)


def test_offsets_turn_with_the_camera() -> None:
    one = np.zeros(2, int)
    for angle, expected in ((0.0, ([-0.1, 0.0], [0.0, 0.1])), (90.0, ([0.0, 0.1], [0.1, 0.0]))):
        u, v = focal_plane_offsets(
            np.array([30.1, 30.0]),
            np.array([0.0, 0.1]),
            one,
            np.array([30.0]),
            np.array([0.0]),
            np.array([angle]),
        )
        np.testing.assert_allclose((u, v), expected, atol=1e-6)

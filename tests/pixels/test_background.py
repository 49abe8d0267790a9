"""Bins, polynomial and spline backgrounds, and their subtraction."""

import itertools

import lsst.pex.config as pexConfig
import numpy as np
import pytest
from scipy.interpolate import Akima1DInterpolator, CubicSpline

from naive import statistics as naive
from naive.exposures import exposure
from zeropoint.datamodel.background import BackgroundComponent, BackgroundList
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.errors import TooManyMaskedPixelsError
from zeropoint.pixels.background import (
    SubtractBackground,
    SubtractBackgroundConfig,
    bin_edges,
    fit_background,
)

FLOAT32 = 2e-6  # relative rounding of single-precision surfaces


def config(**values):
    result = SubtractBackgroundConfig()
    for name, value in values.items():
        setattr(result, name, value)
    return result


def no_mask(image):
    return np.zeros(image.shape, np.int32)


@pytest.mark.parametrize(("size", "n"), [(4072, 32), (4000, 32), (130, 7), (5, 5), (9, 1)])
def test_bin_edges_follow_the_rounding_rule(size, n):
    edges = bin_edges(size, n)
    assert edges.tolist() == [0] + [min(((i + 1) * size + n // 2) // n, size) for i in range(n)]
    assert np.ptp(np.diff(edges)) <= 1


def test_component_holds_the_bins_of_the_twin():
    rng = np.random.default_rng(0)
    image = rng.normal(100, 5, (100, 130)).astype(np.float32)
    mask = (rng.random(image.shape) < 0.1).astype(np.int32) << 5  # DETECTED
    component = fit_background(image, mask, config(binSize=32, useApprox=False))
    x_edges, y_edges = bin_edges(130, 5), bin_edges(100, 4)
    assert component.values.shape == (4, 5)
    np.testing.assert_allclose(component.x_centers, [(a + b - 1) / 2 for a, b in itertools.pairwise(x_edges)])
    for j, i in ((0, 0), (3, 4), (2, 1)):
        box = np.s_[y_edges[j] : y_edges[j + 1], x_edges[i] : x_edges[i + 1]]
        value, error = naive.cell(image[box][mask[box] == 0], "MEANCLIP")
        assert component.values[j, i] == pytest.approx(value, rel=1e-12)
        assert component.errors[j, i] == pytest.approx(error, rel=1e-12)


def test_polynomial_background_is_recovered_and_stars_are_not():
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:500, :600]
    sky = 1000 + 20 * np.cos(x / 400.0) + 10 * (y / 500.0) ** 2 + 1e-4 * x * y
    image = rng.normal(sky, 10.0)
    image[::20, ::20] += 300
    exp = exposure(image, np.full(sky.shape, 100.0))
    result = SubtractBackground(config(binSize=50)).run(exp)
    residual = result.component.image() - sky
    # 28 terms from 300,000 pixels of 10 counts: 0.1 rms; clipping leaves a small bias of the stars' pixels
    assert residual.std() < 0.3
    assert abs(residual.mean()) < 0.15
    np.testing.assert_allclose(exp.image, image.astype(np.float32) - result.component.image(), atol=1e-3)
    assert (exp.variance == 100).all()


def test_weighted_fit_uses_the_inverse_of_the_standard_error():
    rng = np.random.default_rng(4)
    image = rng.normal(10, 1, (64, 64)).astype(np.float32)
    image[:, 32:] *= 5
    cfg = config(binSize=8, approxOrderX=1, statisticsProperty="MEAN")
    component = fit_background(image, no_mask(image), cfg)
    y, x = np.meshgrid(component.y_centers, component.x_centers, indexing="ij")
    u, v = ((2 * p.ravel() + 1 - 64) / 64 for p in (x, y))
    design = np.stack([np.ones(64), u, v], axis=1)
    weights = 1 / component.errors.ravel()
    c = np.linalg.solve(
        design.T @ (design * weights[:, None]), design.T @ (weights * component.values.ravel())
    )
    fitted = component.polynomial.coefficients
    np.testing.assert_allclose([fitted[0, 0], fitted[0, 1], fitted[1, 0], fitted[1, 1]], [*c, 0.0], rtol=1e-9)


def naive_spline_image(component, kind):
    def line(x, y, at):
        curve = Akima1DInterpolator(x, y) if kind == "AKIMA_SPLINE" else CubicSpline(x, y, bc_type="natural")
        result = []
        for p in at:
            e = min(max(p, x[0]), x[-1])
            result.append(curve(e) + (p - e) * curve(e, 1) + 0.5 * (p - e) ** 2 * curve(e, 2))
        return np.array(result)

    columns = []
    for v in component.values.T:
        good = np.isfinite(v)
        columns.append(line(component.y_centers[good], v[good], np.arange(component.height)))
    table = np.array(columns)
    return np.array([line(component.x_centers, table[:, y], np.arange(component.width)) for y in range(60)])


@pytest.mark.parametrize("kind", ["AKIMA_SPLINE", "NATURAL_SPLINE"])
def test_spline_background_equals_line_by_line_interpolation(kind):
    rng = np.random.default_rng(2)
    values = rng.normal(500, 20, (6, 7))
    values[2, 3] = np.nan
    component = BackgroundComponent(
        values, values, np.arange(7) * 10.0 + 4.5, np.arange(6) * 10.0 + 4.5, 70, 60, kind
    )
    np.testing.assert_allclose(component.image(), naive_spline_image(component, kind), rtol=FLOAT32)


def test_linear_and_constant_backgrounds():
    values = np.array([[1.0, 3.0, 4.0]])
    x = np.array([1.0, 4.0, 7.0])
    linear = BackgroundComponent(values, values, x, np.array([0.0]), 9, 2, "LINEAR").image()
    np.testing.assert_allclose(linear[1, [0, 1, 4, 7, 8]], [1 - 2 / 3, 1, 3, 4, 4 + 1 / 3], rtol=FLOAT32)
    constant = BackgroundComponent(values, values, x, np.array([0.0]), 9, 2, "CONSTANT").image()
    np.testing.assert_array_equal(constant[0], [1, 1, 1, 3, 3, 3, 4, 4, 4])


@pytest.mark.parametrize(
    ("n", "style"), [(1, "CONSTANT"), (2, "LINEAR"), (4, "NATURAL_SPLINE"), (5, "AKIMA_SPLINE")]
)
def test_few_bins_reduce_the_interpolation(n, style):
    image = np.ones((20 * n, 200), np.float32)
    component = fit_background(image, no_mask(image), config(useApprox=False, binSize=20))
    assert component.style == style
    np.testing.assert_allclose(component.image(), 1.0, rtol=FLOAT32)


def test_too_few_bins_obey_the_undersample_style():
    image = np.random.default_rng(0).normal(5, 1, (100, 100)).astype(np.float32)
    mask = no_mask(image)
    reduced = fit_background(image, mask, config(binSize=40))
    assert reduced.polynomial.coefficients.shape == (3, 3)
    with pytest.raises(ValueError, match="too few"):
        fit_background(image, mask, config(binSize=40, undersampleStyle="THROW_EXCEPTION"))
    more = fit_background(image, mask, config(binSize=40, undersampleStyle="INCREASE_NXNYSAMPLE"))
    assert more.polynomial.coefficients.shape == (7, 7)
    assert more.values.shape == (100 // 16 + 1, 100 // 16 + 1)
    spline = {"binSize": 40, "useApprox": False}
    assert fit_background(
        image, mask, config(undersampleStyle="INCREASE_NXNYSAMPLE", **spline)
    ).values.shape == (5, 5)
    with pytest.raises(ValueError, match="too few"):
        fit_background(image, mask, config(undersampleStyle="THROW_EXCEPTION", **spline))
    with pytest.raises(ValueError, match="approxOrderY"):
        fit_background(image, mask, config(approxOrderY=2))
    with pytest.raises(ValueError, match="algorithm"):
        fit_background(image, mask, config(useApprox=False, algorithm="NONE"))


def test_everything_masked_raises():
    image = np.ones((30, 30), np.float32)
    with pytest.raises(TooManyMaskedPixelsError):
        fit_background(image, np.ones((30, 30), np.int32))
    with pytest.raises(TooManyMaskedPixelsError):
        fit_background(np.full((30, 30), np.nan, np.float32), no_mask(image), config(isNanSafe=True))


def test_one_nan_spoils_its_bin_only_unless_nan_safe():
    image = np.random.default_rng(0).normal(5, 1, (90, 90)).astype(np.float32)
    image[3, 3] = np.nan
    values = fit_background(image, no_mask(image), config(binSize=10)).values
    assert np.isnan(values[0, 0])
    assert np.isnan(values).sum() == 1
    assert np.isfinite(fit_background(image, no_mask(image), config(binSize=10, isNanSafe=True)).values).all()


def test_filtered_bins_have_neither_holes_nor_outliers():
    image = np.full((90, 90), 5.0, np.float32)
    image[20:30, 30:40] = 100
    mask = no_mask(image)
    mask[60:70, 60:70] = 1
    component = fit_background(image, mask, config(binSize=10, doFilterSuperPixels=True))
    np.testing.assert_array_equal(component.values, 5.0)


def test_ratio_is_applied_while_measuring_and_undone():
    rng = np.random.default_rng(6)
    vignetting = ChebyshevPolynomial(300, 300, np.array([[1.0, 0.2], [0.1, 0.0]]))
    flat_sky = rng.normal(1000.0, 5.0, (300, 300))
    exp = exposure(flat_sky / vignetting.image())
    step = SubtractBackground(config(binSize=30, doApplyFlatBackgroundRatio=True, approxOrderX=1))
    result = step.run(exp, background_to_photometric_ratio=vignetting)
    np.testing.assert_allclose(result.component.image(), 1000.0, atol=0.5)
    assert abs(float(exp.image.mean())) < 0.2
    array = exposure(flat_sky / vignetting.image())
    step.run(array, background_to_photometric_ratio=vignetting.image())
    np.testing.assert_array_equal(array.image, exp.image)
    with pytest.raises(ValueError, match="needs"):
        step.run(exp)
    with pytest.raises(ValueError, match="shape"):
        step.run(exp, background_to_photometric_ratio=2.0)


def test_total_background_statistics_are_final():
    y = np.mgrid[:200, :200][0]
    exp = exposure(1000.0 + y)
    step = SubtractBackground(config(binSize=20, approxOrderX=1, undersampleStyle="THROW_EXCEPTION"))
    first = step.run(exp, stats=False)
    assert exp.metadata == {}
    exp.image += 7
    second = step.run(exp, first.background)
    assert second.background is first.background
    assert len(second.background) == 2
    assert exp.metadata["BGMEAN"] == pytest.approx(1106.5, abs=0.01)
    assert exp.metadata["BGVAR"] == pytest.approx(np.var(np.arange(200.0)), rel=1e-3)
    np.testing.assert_allclose(second.background.image(), 1007.0 + y, atol=0.02)


def test_background_lists_scale_and_refuse_to_be_empty():
    image = np.random.default_rng(0).normal(5, 1, (90, 90)).astype(np.float32)
    backgrounds = BackgroundList(
        [fit_background(image, no_mask(image), config(binSize=10, useApprox=a)) for a in (True, False)]
    )
    np.testing.assert_allclose(backgrounds.scaled(3.0).image(), 3.0 * backgrounds.image(), rtol=1e-5)
    with pytest.raises(ValueError, match="empty"):
        BackgroundList().image()


def test_config_refuses_unknown_choices():
    with pytest.raises(pexConfig.FieldValidationError):
        config(statisticsProperty="MODE")

"""Pixel flags, Gaussian flux, local background, variance, blendedness, places."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from naive import measurement as naive
from naive.measurement import config_of, measure
from naive.star_field import disc_footprints, exposure_of, grid_of_stars
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.mask_planes import plane_bit
from zeropoint.datamodel.psf_model import GaussianPsf
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import InvalidInputError
from zeropoint.measurement._kernels_flags import mask_bits_by_source, spans_contain
from zeropoint.measurement._kernels_moments import _unbiased_abs, blendedness, gaussian_fluxes

SDSS, FLAGS = "base_SdssCentroid", "base_PixelFlags"


# --- pixel flags -----------------------------------------------------------------------------------------


def flags_with_mask(paint):
    exposure, footprints, x, y = grid_of_stars(GaussianPsf(1.6, 25), np.full(4, 1e5))
    paint(exposure.mask, np.floor(x + 0.5).astype(int), np.floor(y + 0.5).astype(int))
    config = config_of(SDSS, FLAGS)
    return measure(config, exposure, footprints)


def test_anywhere_center_and_all_of_the_center():
    def paint(mask, x, y):
        mask[y[0] + 6, x[0]] |= plane_bit("CR")
        mask[y[1] + 1, x[1] + 1] |= plane_bit("CR")
        mask[y[2] - 1 : y[2] + 2, x[2] - 1 : x[2] + 2] |= plane_bit("CR")

    cat = flags_with_mask(paint)
    assert cat[f"{FLAGS}_flag_cr"].tolist() == [True, True, True, False]
    assert cat[f"{FLAGS}_flag_crCenter"].tolist() == [False, True, True, False]
    assert cat[f"{FLAGS}_flag_crCenterAll"].tolist() == [False, False, True, False]
    assert not cat[f"{FLAGS}_flag"].any()
    assert not cat[f"{FLAGS}_flag_offimage"].any()


@pytest.mark.parametrize(
    ("plane", "flag"),
    [
        ("EDGE", "edge"),
        ("NO_DATA", "nodata"),
        ("INTRP", "interpolated"),
        ("SAT", "saturated"),
        ("BAD", "bad"),
    ],
)
def test_every_plane_has_its_flag(plane, flag):
    def paint(mask, x, y):
        mask[y[3] + 5, x[3]] |= plane_bit(plane)

    cat = flags_with_mask(paint)
    set_flags = {name for name in cat.colnames if name.startswith(FLAGS) and cat[name].any()}
    assert set_flags == {f"{FLAGS}_flag_{flag}"}


def test_off_image_source_is_at_the_edge_but_touches_no_other_plane():
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(1.6, 25), np.full(4, 1e5))

    from zeropoint.datamodel.catalog import SourceCatalog
    from zeropoint.measurement.single_frame import SingleFrameMeasurement

    step = SingleFrameMeasurement(config_of(SDSS, FLAGS))
    centroid = step.plugins[0]
    inner = centroid.measure

    def moved(context):
        inner(context)
        context.catalog[f"{SDSS}_x"][:2] = [-3.0, np.nan]

    centroid.measure = moved
    cat = SourceCatalog(step.schema, 4, footprints=footprints)
    step.run(exposure, cat, seed=1)
    for end in ("offimage", "edge", "edgeCenter", "edgeCenterAll"):
        assert cat[f"{FLAGS}_flag_{end}"].tolist() == [True, True, False, False]
    assert not cat[f"{FLAGS}_flag_crCenterAll"].any()
    assert cat[f"{FLAGS}_flag"].tolist() == [False, True, False, False]


def test_extra_planes_get_flags_and_unknown_ones_fail():
    config = config_of(SDSS, FLAGS)
    config.plugins[FLAGS].masksFpAnywhere = ["STREAK"]
    config.plugins[FLAGS].masksFpCenter = ["STREAK"]
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(1.6, 25), np.full(4, 1e5))
    exposure.mask[...] = plane_bit("STREAK")
    cat = measure(config, exposure, footprints)
    assert cat[f"{FLAGS}_flag_streak"].all()
    assert cat[f"{FLAGS}_flag_streakCenterAll"].all()
    config.plugins[FLAGS].masksFpAnywhere = ["NOT_A_PLANE"]
    with pytest.raises(InvalidInputError, match="NOT_A_PLANE"):
        measure(config, exposure, footprints)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_mask_reductions_match_slicing(seed):
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 2**12, (30, 40)).astype(np.int32)
    x, y = rng.uniform(4, 35, 8), rng.uniform(4, 25, 8)
    footprints = disc_footprints(x, y, 3)
    spans = (footprints.span_offsets, footprints.span_y, footprints.span_x0, footprints.span_x1)
    px, py = rng.uniform(-3, 43, 8), rng.uniform(-3, 33, 8)
    out, inside = np.empty((8, 4), np.int64), np.empty(8, np.bool_)
    mask_bits_by_source(mask, spans, px, py, out)
    spans_contain(spans, px, py, inside)
    for i in range(8):
        painted = footprints.paint((30, 40), [i])
        assert out[i, 0] == np.bitwise_or.reduce(mask[painted])
        ix, iy = int(np.floor(px[i] + 0.5)), int(np.floor(py[i] + 0.5))
        box = mask[max(iy - 1, 0) : max(iy + 2, 0), max(ix - 1, 0) : max(ix + 2, 0)]
        assert out[i, 3] == box.size
        assert out[i, 1] == (np.bitwise_or.reduce(box, axis=None) if box.size else 0)
        assert out[i, 2] == (np.bitwise_and.reduce(box, axis=None) if box.size else -1)
        expected = 0 <= ix < 40 and 0 <= iy < 30 and painted[iy, ix]
        assert inside[i] == expected


# --- Gaussian flux ---------------------------------------------------------------------------------------


def no_spans(n):
    empty = np.zeros(0, np.int32)
    return (
        (np.zeros(n + 1, np.int64), empty, empty, empty),
        np.zeros(n + 1, np.int64),
        np.zeros(0, np.float32),
    )


def gaussian_at(image, x, y, xx, yy, xy):
    image = np.ascontiguousarray(image, np.float32)
    columns = [np.atleast_1d(np.asarray(v, np.float64)) for v in (x, y, xx, yy, xy)]
    n = len(columns[0])
    flux, err = np.empty(n), np.empty(n)
    gaussian_fluxes(image.copy(), image, np.ones_like(image), *no_spans(n), *columns, flux, err)
    return flux, err


def test_gaussian_sums_match_the_obvious_ones():
    rng = np.random.default_rng(4)
    image = rng.normal(3.0, 1.0, (50, 60)).astype(np.float32)
    x, y = rng.uniform(-0.4, 59, 40), rng.uniform(-0.4, 49, 40)
    xx, yy = rng.uniform(0.5, 30, 40), rng.uniform(0.5, 30, 40)
    xy = rng.uniform(-0.8, 0.8, 40) * np.sqrt(xx * yy)
    wide = xx * yy - xy**2 > 0.1
    flux, err = gaussian_at(image, x, y, xx, yy, xy)
    for i in np.flatnonzero(wide):
        expected = 2 * naive.weighted_gaussian_sum(image, x[i], y[i], (xx[i], yy[i], xy[i]))
        np.testing.assert_allclose(flux[i], expected, rtol=1e-9)
    det = xx * yy - xy**2
    np.testing.assert_allclose(err, 2 * np.sqrt(np.pi * np.sqrt(det)), rtol=1e-12)


def test_gaussian_flux_of_a_gaussian_is_its_flux():
    image = np.zeros((61, 61))
    image[10:51, 10:51] = 1e4 * GaussianPsf(2.0, 41).kernel_image()
    flux, _ = gaussian_at(image, 30.0, 30.0, 4.0, 4.0, 0.0)
    # the weight stops at q = 14, where exp(-q) is 1e-6
    np.testing.assert_allclose(flux, 1e4, rtol=1e-4)


def test_narrow_weights_are_averages_over_the_pixel():
    flux, _ = gaussian_at(np.ones((41, 41)), 20.2, 20.1, 0.2, 0.2, 0.0)
    # sum of w over the plane is 2 pi sigma^2; the tail beyond q = 14 is 0.1 % of it
    np.testing.assert_allclose(flux, 2 * 2 * np.pi * 0.2, rtol=2e-3)


@pytest.mark.parametrize(
    ("x", "y", "xx", "yy", "xy"),
    [
        (np.nan, 5, 1, 1, 0),
        (-1.0, 5, 1, 1, 0),
        (5, 20, 1, 1, 0),
        (5, 5, np.nan, 1, 0),
        (5, 5, 1, 1, 1),
        (5, 5, -1, -1, 0),
    ],
)
def test_gaussian_flux_without_ellipse_or_place_is_unset(x, y, xx, yy, xy):
    flux, err = gaussian_at(np.ones((11, 11)), x, y, xx, yy, xy)
    assert np.isnan(flux[0])
    assert np.isnan(err[0])


def test_gaussian_flux_plugin_keeps_the_flags_of_shape_and_centroid():
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(2.0, 25), np.full(9, 1e5))
    config = config_of(SDSS, "base_SdssShape", "base_GaussianFlux", shape="base_SdssShape")
    cat = measure(config, exposure, footprints)
    assert not cat["base_GaussianFlux_flag"].any()
    # shape noise couples to the flux: 1e5 at S/N above 1000
    np.testing.assert_allclose(cat["base_GaussianFlux_instFlux"], 1e5, rtol=0.01)
    exposure.image[...] = np.random.default_rng(0).normal(0, 10, exposure.shape)
    cat = measure(config, exposure, footprints)
    bad = cat["base_SdssShape_flag"] | cat[f"{SDSS}_flag"]
    assert bad.any()
    assert cat["base_GaussianFlux_flag"][bad].all()
    assert cat.schema.resolve("base_GaussianFlux_flag_badShape") == "base_SdssShape_flag"


# --- local background and variance -----------------------------------------------------------------------


def test_local_background_is_that_of_the_annulus():
    rng = np.random.default_rng(2)
    exposure = exposure_of(rng.normal(7.0, 2.0, (150, 150)), 4.0, GaussianPsf(2.0, 15))
    x, y = np.array([75.0, 20.0, 140.0]), np.array([75.0, 30.0, 145.0])
    footprints = disc_footprints(x, y, 3)
    cat = measure(config_of("base_LocalBackground"), exposure, footprints)
    yy, xx = np.mgrid[:150, :150]
    for i in range(3):
        r = np.hypot(xx - x[i], yy - y[i])
        values = exposure.image[(r > 14) & (r <= 30)].astype(np.float64)
        # three clippings at 3 sigma leave the mean of a Gaussian alone
        assert abs(cat["base_LocalBackground_instFlux"][i] - values.mean()) < 0.05
        np.testing.assert_allclose(cat["base_LocalBackground_instFluxErr"][i], 2.0 * 0.986, rtol=0.05)
    assert not cat["base_LocalBackground_flag"].any()


def test_local_background_leaves_out_masked_and_nan_pixels():
    exposure = exposure_of(np.full((150, 150), 7.0), 4.0, GaussianPsf(2.0, 15))
    exposure.image[:, 80:] = 1e5
    exposure.mask[:, 80:] = 1
    exposure.image[50:70, :] = np.nan
    footprints = disc_footprints(np.array([75.0]), np.array([75.0]), 3)
    cat = measure(config_of("base_LocalBackground"), exposure, footprints)
    assert cat["base_LocalBackground_instFlux"][0] == 7.0
    exposure.mask[...] = 1
    cat = measure(config_of("base_LocalBackground"), exposure, footprints)
    assert cat["base_LocalBackground_flag_noGoodPixels"][0]
    assert cat["base_LocalBackground_flag"][0]
    exposure.psf = None
    cat = measure(config_of("base_LocalBackground"), exposure, footprints)
    assert cat["base_LocalBackground_flag_noPsf"][0]


def test_variance_is_the_median_of_undetected_pixels():
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(2.0, 25), np.full(9, 1e5), spacing=40)
    exposure.variance[...] = np.random.default_rng(1).uniform(50, 150, exposure.shape)
    exposure.variance[footprints.paint(exposure.shape)] = 1e6
    config = config_of(SDSS, "base_SdssShape", "base_Variance", shape="base_SdssShape")
    config.plugins["base_Variance"].scale = 8.0
    exposure.set_mask(footprints.paint(exposure.shape), "DETECTED")
    cat = measure(config, exposure, footprints)
    np.testing.assert_allclose(cat["base_Variance_value"], 100.0, rtol=0.15)
    assert not cat["base_Variance_flag"].any()
    exposure.set_mask(np.ones(exposure.shape, np.bool_), "DETECTED")
    cat = measure(config, exposure, footprints)
    assert cat["base_Variance_flag_emptyFootprint"].all()
    assert cat["base_Variance_flag"].all()
    assert np.isnan(cat["base_Variance_value"]).all()


# --- blendedness -----------------------------------------------------------------------------------------


def test_isolated_source_is_not_blended():
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(2.0, 25), np.full(9, 1e5))
    config = config_of(SDSS, "base_SdssShape", "base_Blendedness", shape="base_SdssShape")
    cat = measure(config, exposure, footprints)
    for end in ("old", "raw", "abs"):
        np.testing.assert_allclose(cat[f"base_Blendedness_{end}"], 0.0, atol=1e-12)
    # a Gaussian weight halves the moments of a Gaussian of its own shape, and the factor 2 restores them
    np.testing.assert_allclose(cat["base_Blendedness_raw_child_xx"], 4.0, rtol=0.05)
    np.testing.assert_array_equal(cat["base_Blendedness_raw_child_xx"], cat["base_Blendedness_raw_parent_xx"])


def blend_out(child_flux, other_flux, variance):
    psf = GaussianPsf(2.0, 41)
    child = np.pad(child_flux * psf.kernel_image(), 10)
    parent = child + np.roll(np.pad(other_flux * psf.kernel_image(), 10), 4, axis=1)
    where = np.ones((61, 61), bool)
    y = np.arange(61)
    footprint = FootprintSet.build([0, 61], y, np.zeros(61), np.full(61, 60))
    spans = (footprint.span_offsets, footprint.span_y, footprint.span_x0, footprint.span_x1)
    parent32 = parent.astype(np.float32)
    noise = np.zeros_like(parent32)
    out = np.empty((1, 17))
    blendedness(
        noise.copy(),
        noise,
        parent32,
        np.full((61, 61), variance, np.float32),
        spans,
        np.array([0, 61 * 61]),
        child.astype(np.float32)[where],
        np.array([[30.0, 30.0, 4.0, 4.0, 0.0]]),
        3.0,
        np.zeros(11),
        out,
    )
    return child, parent, out[0]


def test_blendedness_matches_its_definition():
    child, parent, out = blend_out(1e4, 2e4, 1e-6)
    np.testing.assert_allclose(out[0], (child * (parent - child)).sum() / (child**2).sum(), rtol=1e-5)
    y, x = np.mgrid[:61, :61] - 30
    q = (x**2 + y**2) / 4.0
    w = np.where(q <= 9, np.exp(-0.5 * q), 0.0)
    for first, image in ((1, child), (5, parent)):
        np.testing.assert_allclose(out[first], w.sum() * (w * image).sum() / (w**2).sum(), rtol=1e-5)
        np.testing.assert_allclose(
            out[first + 1], 2 * (w * image * x**2).sum() / (w * image).sum(), rtol=1e-5
        )
        np.testing.assert_allclose(
            out[first + 3], 2 * (w * image * x * y).sum() / (w * image).sum(), atol=1e-4
        )
        # without noise absolute values are the values
        np.testing.assert_allclose(out[first + 8], out[first], rtol=1e-4)


@pytest.mark.parametrize("value", [-4.0, -1.0, 0.0, 0.3, 2.0, 8.0])
def test_absolute_values_lose_the_noise_bias_of_their_expectation(value):
    # mean of the positive part of a unit Gaussian at the value, and what noise adds to its absolute value
    mu = value + norm.pdf(value) / norm.cdf(value)
    bias = 2 * norm.pdf(mu) - 2 * mu * norm.sf(mu)
    assert _unbiased_abs(value, 1.0) == pytest.approx(abs(value) - bias, rel=1e-9)


def test_absolute_values_are_safe_at_the_extremes():
    assert _unbiased_abs(30.0, 1.0) == pytest.approx(30.0, rel=1e-9)
    assert np.isfinite(_unbiased_abs(-60.0, 1.0))
    assert _unbiased_abs(-3.0, 0.0) == 3.0


# --- places ----------------------------------------------------------------------------------------------


def test_focal_plane_position_follows_center_scale_and_rotation():
    from dataclasses import replace

    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(1.6, 25), np.full(4, 1e5), noise=1e-3)
    exposure.detector = replace(
        exposure.detector, pixel_size_mm=0.01, center_mm=(5.0, -3.0), rotation_deg=90.0
    )
    cat = measure(config_of(SDSS, "base_FPPosition"), exposure, footprints)
    middle = 0.5 * (exposure.shape[1] - 1)
    np.testing.assert_allclose(cat["base_FPPosition_x"], 5.0 - 0.01 * (cat[f"{SDSS}_y"] - middle), rtol=1e-12)
    np.testing.assert_allclose(
        cat["base_FPPosition_y"], -3.0 + 0.01 * (cat[f"{SDSS}_x"] - middle), rtol=1e-12
    )
    exposure.detector = replace(exposure.detector, pixel_size_mm=np.nan)
    cat = measure(config_of(SDSS, "base_FPPosition"), exposure, footprints)
    assert cat["base_FPPosition_missingDetector_flag"].all()
    assert cat["base_FPPosition_flag"].all()


def test_pixel_area_and_sky_position_come_from_the_wcs():
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(1.6, 25), np.full(4, 1e5))
    config = config_of(SDSS, "base_Jacobian", "base_SkyCoord")
    cat = measure(config, exposure, footprints)
    assert cat["base_Jacobian_flag"].all()
    assert np.isnan(cat["coord_ra"]).all()
    exposure.wcs = wcs = SkyWcs.from_boresight(
        30.0, -10.0, x=45.0, y=45.0, pixel_scale_arcsec=0.2, rotation_deg=20.0
    )
    cat = measure(config, exposure, footprints)
    np.testing.assert_allclose(cat["base_Jacobian_value"], (0.2 / 0.5) ** 2, rtol=1e-4)
    ra, dec = wcs.pixel_to_sky(x=cat[f"{SDSS}_x"], y=cat[f"{SDSS}_y"])
    np.testing.assert_array_equal(cat["coord_ra"], ra)
    np.testing.assert_array_equal(cat["coord_dec"], dec)

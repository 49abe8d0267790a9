"""Figures behind the plots of a global calibration: planted residuals come back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality import fgcm_make as make
from zeropoint.fgcm.facts.colors import grouped_slopes
from zeropoint.fgcm.facts.layout import fit_layout, tangent_offsets
from zeropoint.fgcm.facts.residuals import group_scatter, mixture_noise, star_residuals
from zeropoint.fgcm.facts.sky import choose_nside, sky_facts


@pytest.fixture(scope="module")
def facts():
    return make.facts()


def test_residuals_of_one_star_have_the_error_of_one_observation(rng):
    segment = np.repeat(np.arange(4000), 3)
    error = np.tile([0.01, 0.02, 0.03], 4000)
    residual, mean = star_residuals(segment, 15.0 + rng.normal(0.0, error), error, 4000)
    # 4000 residuals of each error: their standard deviation is known to 1.1 %; four sigma
    for k, expected in enumerate((0.01, 0.02, 0.03)):
        assert np.std(residual[k::3]) == pytest.approx(expected, rel=0.045)
    assert np.abs(mean - 15.0).max() < 0.05
    alone, _ = star_residuals(np.array([0, 1]), np.array([15.0, 16.0]), np.array([0.01, 0.01]), 2)
    assert np.isnan(alone).all()


def test_the_scatter_of_groups_is_that_of_each_by_itself(rng):
    values, group = rng.normal(size=300), rng.integers(0, 5, 300)
    expected = [1.4826 * np.median(np.abs(v - np.median(v))) for v in (values[group == k] for k in range(5))]
    assert group_scatter(values, group, 6)[:5] == pytest.approx(expected)
    assert np.isnan(group_scatter(values, group, 6)[5])


def test_the_noise_of_errors_of_many_sizes_is_the_scatter_that_they_make(rng):
    error = rng.uniform(0.001, 0.02, 20000)
    expected = group_scatter(rng.normal(0.0, error), np.zeros(20000, int), 1)[0]
    # a robust scatter of 20,000 values is known to 0.8 %; four sigma
    assert mixture_noise(error, np.zeros(20000, int), 2)[0] == pytest.approx(expected, rel=0.032)
    assert np.isnan(mixture_noise(error, np.zeros(20000, int), 2)[1])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(-1.0, 1.0))
def test_slopes_of_groups_are_those_of_straight_lines(seed, slope):
    rng = np.random.default_rng(seed)
    x, error, group = rng.normal(1.0, 0.5, 60), rng.uniform(0.01, 0.1, 60), np.repeat([0, 1, 2], 20)
    y = slope * x + group + rng.normal(0.0, error)
    found, found_err = grouped_slopes(x, y, error**-2, group, 4)
    for k in range(3):
        own = group == k
        line, covariance = np.polyfit(x[own], y[own], 1, w=1.0 / error[own], cov="unscaled")
        assert found[k] == pytest.approx(line[0], rel=1e-9, abs=1e-12)
        assert found_err[k] == pytest.approx(np.sqrt(covariance[0, 0]))
    assert np.isnan(found[3])


def test_scatter_before_and_after_the_fit_is_what_was_planted(facts):
    before, model, final = facts.residuals
    assert [each.stage for each in facts.residuals] == ["nominal", "model", "zeropoints"]
    assert facts.of_reserve.all()
    # 50 reserve stars in 11 exposures of a band: 550 residuals, 4 % for a robust scatter; four sigma
    assert final.scatter == pytest.approx(make.NOISE, rel=0.18)
    assert final.noise == pytest.approx(make.NOISE, rel=2e-4)
    assert (before.scatter > 5 * make.NOISE).all()
    assert final.histogram.sum(axis=1) == pytest.approx(final.n_bright, abs=1)
    assert model.mag_scatter.shape == (3, 14)


def test_a_gradient_over_the_detectors_is_in_the_map_of_the_focal_plane():
    plane = make.facts(pattern=0.02).focal_plane
    # observations too faint at the right are residuals below 0 there
    columns = np.nanmean(plane.residual, axis=(0, 1, 2))
    # a star's mean holds a share of 1/11 of each of its observations, which shrinks residuals by sqrt(1 - 1/11)
    expected = -0.02 * np.sqrt(10 / 11) * ((np.arange(plane.n_cell) + 0.5) / plane.n_cell - 0.5)
    assert columns == pytest.approx(expected, abs=4 * make.NOISE / np.sqrt(3 * 250 * 11 / plane.n_cell))
    assert plane.layout.unit == ""  # no pointings: the detectors stand side by side
    corners = plane.corners(1)
    assert corners[1, 0, 0, 0, 0] > corners[0, 0, 0, 1, 0]


def test_without_color_bands_the_first_and_third_are_taken_and_one_band_has_none():
    assert make.facts().color.bands == ("g", "i")
    assert make.facts(bands=("r",)).color is None


def test_references_keep_their_offset(facts):
    known = facts.references.difference[np.isfinite(facts.references.difference)]
    assert np.mean(known) == pytest.approx(0.005, abs=4 * 0.0101 / np.sqrt(len(known)))
    assert make.facts(references=False).references is None


def test_nights_that_differ_show_in_the_halves():
    data, _, model, mean, err = make.survey()
    o = data.observations
    east = data.stars.ra[o.star] > 150.5
    odd = data.exposures.night[o.exposure] % 2 == 1
    planted = model + np.where(east & odd, 0.02, 0.0)
    sky = sky_facts(
        data, planted, o.err, np.ones(len(model), bool), mean, err, np.zeros(len(mean), bool), map_nside=64
    )
    ra = np.array([np.mean(data.stars.ra)])
    assert sky.nside <= 64
    assert sky.split == "every other night"
    import hpgeom

    pixel_ra = np.asarray(hpgeom.pixel_to_angle(sky.nside, sky.pixel, nest=True)[0])
    # half of 0.02 mag between the two halves of the sky
    step = np.nanmean(sky.halves[:, pixel_ra > ra + 0.3]) - np.nanmean(sky.halves[:, pixel_ra < ra - 0.3])
    assert step == pytest.approx(0.01, abs=0.002)


def test_of_many_observations_some_stars_are_looked_at(monkeypatch, facts):
    monkeypatch.setattr("zeropoint.fgcm.facts.cycle_facts._MOST", 4500)  # of 9000
    thin = make.facts()
    assert (facts.thinned, thin.thinned) == (1, 2)
    assert thin.focal_plane.residual_err.shape[-1] <= facts.focal_plane.residual_err.shape[-1]
    assert thin.sky.n_star.sum() == facts.sky.n_star.sum() / 2
    assert thin.residuals[-1].scatter == pytest.approx(make.NOISE, rel=0.26)


def test_pixels_hold_twenty_stars(rng):
    ra, dec = rng.uniform(10, 12, 4000), rng.uniform(0, 2, 4000)
    # a thousand stars per square degree: 52 in a pixel of nside 256, 13 in one of 512
    assert choose_nside(ra, dec, 1024) == 256
    assert choose_nside(ra[:5], dec[:5], 256) == 1


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_layout_does_not_mind_how_the_rotation_counts(rng, sign):
    n, scale = 4000, 0.4 / 3600
    x, y, detector = rng.uniform(0, 1000, n), rng.uniform(0, 1000, n), rng.integers(0, 2, n)
    rotation, dec0 = rng.uniform(-180, 180, n), np.full(n, -30.0)
    u, v = scale * (x + 1040 * detector - 1020), scale * (y - 500)
    angle = np.deg2rad(sign * rotation)
    xi, eta = u * np.cos(angle) - v * np.sin(angle), u * np.sin(angle) + v * np.cos(angle)
    found = fit_layout(x, y, detector, xi, eta, rotation, 2, (1000, 1000))
    # the angles here run from East to North
    assert found.turn == -sign
    assert found.affine[1, 0] == pytest.approx([scale, 0.0, 20 * scale], abs=1e-9)
    # rotations by nothing or by half a turn look the same either way: they count as they are told
    half = np.where(rotation > 0, 180.0, 0.0)
    flip = np.where(rotation > 0, -1.0, 1.0)
    assert fit_layout(x, y, detector, flip * u, flip * v, half, 2, (1000, 1000)).turn == 1.0
    ra0 = np.full(n, 200.0)
    dec = dec0 + eta  # small offsets
    assert tangent_offsets(ra0, dec, ra0, dec0)[1] == pytest.approx(
        np.rad2deg(np.tan(np.deg2rad(eta))), abs=1e-9
    )
    assert fit_layout(x, y, detector, rng.normal(size=n), eta, rotation, 2, (1000, 1000)) is None

import lsst.pex.config as pexConfig
import numpy as np
import pytest
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from naive import object_size as naive
from zeropoint.catalogs.selectors import ObjectSizeStarSelector, ObjectSizeStarSelectorConfig
from zeropoint.catalogs.selectors.object_size import (
    cluster_sizes,
    flatten_sizes,
    smallest_cluster,
    tighten_cluster,
    undistorted_widths,
)
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import ObjectSizeNoGoodSourcesError, ObjectSizeNoSourcesError

WIDTHS = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(0.5, 10.0, width=32))


def table_of(width, flux=1.0e4, error=1.0):
    width = np.asarray(width, float)
    n = width.size
    return Table(
        {
            "slot_Shape_xx": width**2,
            "slot_Shape_yy": width**2,
            "slot_Shape_xy": np.zeros(n),
            "slot_Centroid_x": np.linspace(0, 1000, n),
            "slot_Centroid_y": np.linspace(0, 1000, n),
            "base_PsfFlux_instFlux": np.full(n, flux),
            "base_PsfFlux_instFluxErr": np.full(n, error),
        }
    )


@given(WIDTHS)
def test_clusters_equal_the_obvious_version(width):
    assert cluster_sizes(width, 0.15).tolist() == naive.cluster_sizes(width.tolist(), 0.15)


@given(WIDTHS)
def test_clipping_equals_the_obvious_version(width):
    members = np.arange(width.size) % 3 != 0
    expected = naive.tighten_cluster(width.tolist(), members.tolist(), 2.0, 0.15)
    assert tighten_cluster(width, members, 2.0, 0.15).tolist() == expected


def test_stars_are_found_among_galaxies():
    rng = np.random.default_rng(5)
    n_star, n_galaxy = 150, 400
    width = np.concatenate([rng.normal(1.7, 0.03, n_star), rng.uniform(1.9, 5.0, n_galaxy)])
    selected = ObjectSizeStarSelector().run(table_of(width)).selected
    # one clip at two sigma keeps 95 per cent of a Gaussian: 3 sigma of the binomial below that
    assert np.count_nonzero(selected[:n_star]) >= 0.95 * n_star - 3 * np.sqrt(n_star * 0.05 * 0.95)
    assert np.count_nonzero(selected[n_star:]) <= 0.05 * n_star


def test_selection_does_not_depend_on_row_order():
    rng = np.random.default_rng(6)
    table = table_of(np.concatenate([rng.normal(1.7, 0.05, 40), rng.uniform(1.6, 6.0, 80)]))
    order = rng.permutation(len(table))
    selector = ObjectSizeStarSelector()
    assert np.array_equal(selector.run(table[order]).selected, selector.run(table).selected[order])


def test_identical_sizes_are_all_stars():
    assert ObjectSizeStarSelector().run(table_of(np.full(20, 2.0))).selected.all()


def test_a_nan_error_fails_the_signal_to_noise_cut():
    table = table_of(np.full(10, 2.0))
    table["base_PsfFlux_instFluxErr"][4] = np.nan
    assert np.flatnonzero(~ObjectSizeStarSelector().run(table).selected).tolist() == [4]


def test_values_equal_to_a_limit_pass():
    table = table_of(np.full(10, 0.9), flux=50.0)
    assert ObjectSizeStarSelector().run(table).selected.all()
    config = ObjectSizeStarSelectorConfig(signalToNoiseMax=50.0, doFluxLimit=True, fluxMin=50.0, fluxMax=50.0)
    assert ObjectSizeStarSelector(config).run(table).selected.all()


@pytest.mark.parametrize(
    "change",
    [
        {"base_PixelFlags_flag_crCenter": True},
        {"base_PsfFlux_instFlux": 40.0},
        {"base_PsfFlux_instFlux": np.nan},
        {"slot_Shape_xx": -50.0},
        {"slot_Shape_xx": 1000.0},
        {"slot_Shape_xx": np.nan},
    ],
)
def test_each_cut_rejects_its_row(change):
    table = table_of(np.full(10, 2.0))
    table["base_PixelFlags_flag_crCenter"] = False
    for name, value in change.items():
        table[name][3] = value
    assert np.flatnonzero(~ObjectSizeStarSelector().run(table).selected).tolist() == [3]


def test_an_empty_table_raises():
    with pytest.raises(ObjectSizeNoSourcesError):
        ObjectSizeStarSelector().run(table_of([]))


def test_undersampled_stars_need_a_lower_width_limit():
    table = table_of(np.full(10, 0.6))
    with pytest.raises(
        ObjectSizeNoGoodSourcesError, match=r"widthMin 10.*median width is 0\.60.*Lower widthMin"
    ) as caught:
        ObjectSizeStarSelector().run(table)
    assert caught.value.metadata == {
        "n_input_sources": 10,
        "n_usable_sources": 10,
        "largest_signal_to_noise": 1.0e4,
        "median_width": pytest.approx(0.6),
    }
    assert ObjectSizeStarSelector(ObjectSizeStarSelectorConfig(widthMin=0.3)).run(table).n_selected == 10


def test_an_image_of_noise_is_said_to_hold_no_stars_perhaps():
    table = table_of([2.0, 2.2, np.nan, 1.9], flux=np.array([5.0, 6.0, 4.0, np.nan]))
    with pytest.raises(ObjectSizeNoGoodSourcesError) as caught:
        ObjectSizeStarSelector().run(table)
    assert "Of the 2 usable ones the brightest has S/N 6.0" in str(caught.value)
    assert "may hold no stars" in str(caught.value)
    assert "widthMin." not in str(caught.value)
    table["slot_Shape_xx"] = np.nan
    with pytest.raises(ObjectSizeNoGoodSourcesError, match=r"All are flagged .* may hold no stars") as caught:
        ObjectSizeStarSelector().run(table)
    assert caught.value.metadata == {"n_input_sources": 4, "n_usable_sources": 0}


def test_the_width_window_must_not_be_empty():
    config = ObjectSizeStarSelectorConfig(widthMin=5.0, widthMax=2.0)
    with pytest.raises(pexConfig.FieldValidationError, match="widthMin"):
        config.validate()


def test_widths_on_a_flat_sky_are_trace_radii():
    wcs = SkyWcs.from_boresight(10.0, 60.0, x=500, y=500, pixel_scale_arcsec=0.2, rotation_deg=33.0)
    x, y = np.array([0.0, 500.0, 1000.0]), np.array([1000.0, 500.0, 0.0])
    xx, yy, xy = np.array([4.0, 2.0, 3.0]), np.array([2.0, 2.0, 1.0]), np.array([0.5, 0.0, -0.3])
    width = undistorted_widths(xx, yy, xy, x=x, y=y, wcs=wcs, shape=(1001, 1001))
    # the gnomonic projection stretches by (0.2" * 700)^2 / 2 = 2e-7 in the corner
    assert width == pytest.approx(np.sqrt(0.5 * (xx + yy)), rel=1e-6)


def test_radial_distortion_is_taken_out():
    # pixel -> tangent plane r (1 + k r^2): a round source on the sky has a smaller image further out
    k, s = 0.05, 1e-6
    c = np.zeros((2, 4, 4))
    c[0, 0, 1] = c[1, 1, 0] = s
    c[0, 0, 3] = c[0, 2, 1] = c[1, 3, 0] = c[1, 1, 2] = k * s
    wcs = SkyWcs(0.3, 0.2, c * 1000.0, 500.0, 500.0, 1000.0)
    x, y = np.array([500.0, 1000.0]), np.array([500.0, 500.0])
    radial, tangential = 1.0 + 3 * k * 0.25, 1.0 + k * 0.25
    xx, yy = np.array([4.0, 4.0 / radial**2]), np.array([4.0, 4.0 / tangential**2])
    width = undistorted_widths(xx, yy, np.zeros(2), x=x, y=y, wcs=wcs, shape=(1001, 1001))
    assert width == pytest.approx([2.0, 2.0], rel=1e-6)


def test_one_population_is_not_cut_in_pieces():
    # sizes spread by a varying PSF, with a few blends that found clusters of their own in the middle of the stars
    rng = np.random.default_rng(8)
    stars = rng.normal(1.9, 0.05, 900)
    width = np.concatenate([stars, [2.2, 2.3, 2.35, 2.9, 3.6]])
    members = smallest_cluster(width, cluster_sizes(width, 0.15), 0.15)
    assert members[:900].mean() > 0.99


def test_no_corner_of_a_varying_psf_is_lost():
    rng = np.random.default_rng(9)
    n = 600
    x, y = rng.uniform(0, 4000, (2, n))
    surface = 1.8 + 0.2 * (x / 4000) ** 2 + 0.1 * (x / 4000) * (y / 4000)
    width = surface * rng.normal(1.0, 0.01, n)
    flat, members = flatten_sizes(width, np.ones(n, bool), x, y, 0.15)
    kept = tighten_cluster(flat, members, 2.0, 0.15)
    corner = (x > 3400) & (y > 3400)
    # two sigma keep 95 %; a single median for the whole image would keep nothing here
    assert kept[corner].mean() > 0.8
    assert kept.mean() > 0.9
    assert np.std(flat) < 0.03

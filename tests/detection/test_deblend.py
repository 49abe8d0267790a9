"""The deblending step on small scenes with known truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import deblend as naive
from zeropoint.datamodel.catalog import Schema
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.datamodel.psf_model import GaussianPsf, PsfShapes
from zeropoint.detection.deblend import COLUMNS, SourceDeblend, SourceDeblendConfig
from zeropoint.detection.deblend.psf_fit import psf_fwhm
from zeropoint.detection.deblend.step import pixel_noise
from zeropoint.errors import InvalidInputError

SIGMA = 2.0
FWHM = 2.35482 * SIGMA
# sums of float32 portions against float32 pixels: a few units in the last place of the largest addend
SUM_RTOL = 5e-6


def config(**values):
    result = SourceDeblendConfig()
    result.update(**values)
    return result


def disc_union(shape, positions, radius):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.any([(x - px) ** 2 + (y - py) ** 2 <= radius**2 for px, py in positions], axis=0)


def pair(
    separation=12.0,
    fluxes=(20000.0, 8000.0),
    shape=(50, 60),
    centre=(24.0, 25.0),
    sky=50.0,
    seed=1,
    widths=None,
):
    """Two sources in one footprint, and everything known about them."""
    x = [centre[0], centre[0] + separation]
    y = [centre[1], centre[1]]
    image = np.zeros(shape)
    for i, sigma in enumerate(widths or (SIGMA, SIGMA)):
        image += naive.stars(shape, x[i : i + 1], y[i : i + 1], fluxes[i : i + 1], sigma)
    variance = (image + sky).astype(np.float32)
    noisy = image + np.random.default_rng(seed).normal(size=shape) * np.sqrt(variance)
    peaks = [(int(np.floor(a + 0.5)), int(np.floor(b + 0.5))) for a, b in zip(x, y)]
    region = disc_union(shape, peaks, 9)
    return naive.make_exposure(noisy, variance), naive.footprints_of([region], [peaks]), (x, y, fluxes)


def child_sums(result):
    starts = result.children.pixel_offsets[:-1]
    return np.add.reduceat(result.children.pixels.astype(np.float64), starts) if len(starts) else np.zeros(0)


def child_image(result, shape, rows=None):
    """Sum of the chosen children's pixels, and how many of them cover each pixel."""
    total, count = np.zeros(shape), np.zeros(shape, int)
    children = result.children
    for i in range(len(children)) if rows is None else rows:
        k = children.pixel_offsets[i]
        for y, x0, x1 in zip(*children.spans_of(i)):
            n = x1 - x0 + 1
            total[y, x0 : x1 + 1] += children.pixels[k : k + n]
            count[y, x0 : x1 + 1] += 1
            k += n
        assert k == children.pixel_offsets[i + 1]
    return total, count


def assert_same(a, b):
    for name in a.children.__dataclass_fields__:
        assert getattr(a.children, name).tobytes() == getattr(b.children, name).tobytes(), name
    for name in a.child_columns:
        assert a.child_columns[name].tobytes() == b.child_columns[name].tobytes(), name


def test_columns_are_appended_to_the_schema_in_order():
    schema = Schema()
    SourceDeblend(schema=schema)
    assert [spec.name for spec in schema] == [spec.name for spec in COLUMNS]
    assert len(schema.columns) == 18


def test_every_column_has_one_value_per_row_and_child():
    exposure, footprints, _ = pair()
    result = SourceDeblend().run(exposure, naive.make_catalog(footprints))
    for spec in COLUMNS:
        assert result.parent_columns[spec.name].shape == (1,)
        assert result.child_columns[spec.name].shape == (2,)
        assert result.child_columns[spec.name].dtype == spec.numpy_dtype


def test_two_stars_are_point_sources_with_the_right_flux_and_position():
    pulls = []
    for seed in range(30):
        exposure, footprints, (x, y, fluxes) = pair(separation=2.5 * FWHM, centre=(24.3, 24.8), seed=seed)
        result = SourceDeblend().run(exposure, naive.make_catalog(footprints))
        columns = result.child_columns
        if not columns["deblend_deblendedAsPsf"].all():
            continue
        error = np.sqrt(np.array(fluxes) + 50 * 4 * np.pi * SIGMA**2)
        pulls.append((columns["deblend_psf_instFlux"] - fluxes) / error)
        # a star's position error is sigma/(signal to noise), half as much again for the ramp and the slopes
        limit = 5 * 1.5 * SIGMA * error / fluxes
        assert (abs(columns["deblend_psfCenter_x"] - x) < limit).all()
        assert (abs(columns["deblend_psfCenter_y"] - y) < limit).all()
    assert len(pulls) >= 25  # chi2/dof of a right model stays below 1.5 nearly always
    pulls = np.concatenate(pulls)
    assert abs(pulls.mean()) < 3 * pulls.std() / np.sqrt(len(pulls))
    assert 0.7 < pulls.std() < 1.6  # the local background and its slopes are fitted too


@pytest.mark.parametrize("separation", [1.6, 2.0, 3.0])
@pytest.mark.parametrize("widths", [(SIGMA, SIGMA), (3.0, 2.6)])
def test_both_members_keep_their_flux(separation, widths):
    # sums over a child's pixels: aperture noise, plus the flux beyond the template's reach and overlap errors,
    # for which 6 % of the brighter member's light is the budget
    step = separation * 2.35 * max(widths)
    for seed in range(3):
        exposure, footprints, (_, _, fluxes) = pair(step, shape=(60, 90), seed=seed, widths=widths)
        shape = exposure.shape
        peaks = list(zip(footprints.peak_x.tolist(), footprints.peak_y.tolist()))
        footprints = naive.footprints_of([disc_union(shape, peaks, 4 * max(widths))], [peaks])
        result = SourceDeblend().run(exposure, naive.make_catalog(footprints))
        assert len(result.children) == 2
        sums = child_sums(result)
        noise = np.sqrt(np.array(fluxes) + 50 * np.pi * (4 * max(widths)) ** 2)
        assert (abs(sums - fluxes) < 3 * noise + 0.06 * np.array(fluxes)).all()


def test_a_galaxy_is_not_a_point_source_and_a_star_beside_it_is():
    exposure, footprints, _ = pair(16.0, fluxes=(60000.0, 8000.0), widths=(3.5, SIGMA))
    result = SourceDeblend().run(exposure, naive.make_catalog(footprints))
    assert result.child_columns["deblend_deblendedAsPsf"].tolist() == [False, True]
    assert np.isnan(result.child_columns["deblend_psf_instFlux"][0])
    assert np.isnan(result.child_columns["deblend_psfCenter_x"][0])


@pytest.mark.parametrize("widths", [(SIGMA, SIGMA), (3.5, 3.0)])
@pytest.mark.parametrize("edge", ["ramp", "clip", "noclip"])
def test_children_sum_to_the_parent_where_any_has_flux(widths, edge):
    exposure, footprints, _ = pair(9.0, widths=widths)
    result = SourceDeblend(config(edgeHandling=edge)).run(exposure, naive.make_catalog(footprints))
    total, count = child_image(result, exposure.shape)
    lit = total != 0
    assert lit.sum() > 200
    np.testing.assert_allclose(total[lit], exposure.image[lit], rtol=SUM_RTOL)
    np.testing.assert_array_equal(result.parent_footprints.paint(exposure.shape), count > 0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 6), st.sampled_from(["ramp", "clip", "noclip"]), st.booleans())
def test_flux_is_conserved_on_any_blend(seed, n, edge, smooth):
    rng = np.random.default_rng(seed)
    shape = (40, 45)
    peaks = [(int(a), int(b)) for a, b in zip(rng.integers(0, 45, n), rng.integers(0, 40, n))]
    image = naive.stars(shape, *np.array(peaks, float).T, 10 ** rng.uniform(2.5, 5, n), rng.uniform(1.5, 4))
    image = image + rng.normal(0, 5, shape)
    region = disc_union(shape, peaks, rng.uniform(3, 12))
    exposure = naive.make_exposure(image, np.full(shape, 25, np.float32))
    step = SourceDeblend(config(edgeHandling=edge, medianSmoothTemplate=smooth))
    result = step.run(exposure, naive.make_catalog(naive.footprints_of([region], [peaks])))
    total, _ = child_image(result, shape)
    lit = total != 0
    # all portions of a pixel have its sign, so a sum of 0 means no portion
    np.testing.assert_allclose(total[lit], exposure.image[lit], rtol=SUM_RTOL)
    assert (result.children.n_peaks == 1).all()
    assert (np.diff(result.children.pixel_offsets) == result.children.areas()).all()
    assert (result.children.areas() > 0).all()
    n_children = result.parent_columns["deblend_nChild"][0]
    assert n_children == len(result.children)
    assert result.parent_columns["deblend_skipped"][0] == (n_children < n)


def test_single_peaks_and_footprints_without_peaks_are_untouched():
    exposure, _, _ = pair()
    region = disc_union(exposure.shape, [(24, 25)], 8)
    other = disc_union(exposure.shape, [(45, 25)], 5)
    footprints = naive.footprints_of([region, other], [[(24, 25)], []])
    before = exposure.mask.copy()
    result = SourceDeblend().run(exposure, naive.make_catalog(footprints))
    assert len(result.children) == 0
    assert len(result.parent_rows) == 0
    for spec in COLUMNS:
        np.testing.assert_array_equal(result.parent_columns[spec.name], spec.empty(2))
    np.testing.assert_array_equal(result.parent_footprints.span_x0, footprints.span_x0)
    np.testing.assert_array_equal(exposure.mask, before)


def test_an_empty_catalogue_gives_no_children():
    exposure, footprints, _ = pair()
    result = SourceDeblend().run(exposure, naive.make_catalog(footprints.take(np.zeros(0, int))))
    assert len(result.children) == len(result.parent_footprints) == 0


def test_inputs_are_checked():
    exposure, footprints, _ = pair()
    catalog = naive.make_catalog(footprints)
    exposure.psf = None
    with pytest.raises(InvalidInputError, match="PSF"):
        SourceDeblend().run(exposure, catalog)
    small = naive.make_exposure(np.zeros((20, 20)))
    with pytest.raises(InvalidInputError, match="reach"):
        SourceDeblend().run(small, catalog)
    catalog.footprints = None
    with pytest.raises(InvalidInputError, match="footprints"):
        SourceDeblend().run(small, catalog)


def test_parent_and_child_bookkeeping():
    exposure, footprints, _ = pair()
    single = naive.footprints_of([disc_union(exposure.shape, [(52, 6)], 4)], [[(52, 6)]])
    footprints = type(footprints).concatenate([single, footprints])
    result = SourceDeblend().run(exposure, naive.make_catalog(footprints))
    assert result.parent_rows.tolist() == [1, 1]
    assert result.parent_columns["deblend_nChild"].tolist() == [0, 2]
    assert result.parent_columns["deblend_nPeaks"].tolist() == [0, 2]
    assert not result.parent_columns["deblend_tooManyPeaks"].any()
    assert not result.parent_columns["deblend_skipped"].any()
    columns = result.child_columns
    assert columns["deblend_peakId"].tolist() == [1, 2]
    assert columns["deblend_nPeaks"].tolist() == [1, 1]
    assert columns["deblend_parentNPeaks"].tolist() == [2, 2]
    assert columns["deblend_peak_center_x"].tolist() == footprints.peak_x[1:].tolist()
    assert columns["deblend_peak_center_y"].tolist() == footprints.peak_y[1:].tolist()
    np.testing.assert_array_equal(result.children.peak_significance, footprints.peak_significance[1:])
    assert result.children.is_heavy.all()


@pytest.mark.parametrize(
    "limits",
    [{"maxFootprintArea": 300}, {"maxFootprintSize": 25}, {"minFootprintAxisRatio": 0.8}],
    ids=lambda v: next(iter(v)),
)
def test_too_big_parents_are_skipped_and_masked(limits):
    exposure, footprints, _ = pair()
    result = SourceDeblend(config(**limits)).run(exposure, naive.make_catalog(footprints))
    columns = result.parent_columns
    assert len(result.children) == 0
    assert columns["deblend_parentTooBig"][0]
    assert columns["deblend_skipped"][0]
    assert columns["deblend_nPeaks"][0] == 2
    x0, y0, x1, y1 = footprints.boxes()[0]
    assert columns["deblend_peak_center_x"][0] == (x0 + x1) // 2
    assert columns["deblend_peak_center_y"][0] == (y0 + y1) // 2
    np.testing.assert_array_equal(exposure.masked("NOT_DEBLENDED"), footprints.paint(exposure.shape))


def test_limits_that_are_not_exceeded_do_nothing():
    exposure, footprints, _ = pair()
    area, box = int(footprints.areas()[0]), footprints.boxes()[0]
    limits = {
        "maxFootprintArea": area,
        "maxFootprintSize": int(box[2] - box[0] + 1),
        "minFootprintAxisRatio": 0.1,
    }
    result = SourceDeblend(config(**limits)).run(exposure, naive.make_catalog(footprints))
    assert len(result.children) == 2
    assert not exposure.masked("NOT_DEBLENDED").any()


def test_no_plane_is_set_when_none_is_asked_for():
    exposure, footprints, _ = pair()
    SourceDeblend(config(maxFootprintArea=300, notDeblendedMask=None)).run(
        exposure, naive.make_catalog(footprints)
    )
    assert not exposure.mask.any()


@pytest.mark.parametrize(("fraction", "masked"), [(0.2, False), (0.3, True)])
def test_parents_without_data_are_skipped(fraction, masked):
    exposure, footprints, _ = pair()
    y, x = np.nonzero(footprints.paint(exposure.shape))
    n = int(fraction * len(y))
    exposure.mask[y[:n], x[:n]] |= bitmask(["NO_DATA"])
    result = SourceDeblend().run(exposure, naive.make_catalog(footprints))
    assert result.parent_columns["deblend_masked"][0] == masked
    assert result.parent_columns["deblend_skipped"][0] == masked
    assert len(result.children) == (0 if masked else 2)
    assert exposure.masked("NOT_DEBLENDED").any() == masked


def test_only_the_brightest_peaks_are_used_when_limited():
    exposure, footprints, _ = pair()
    catalog = naive.make_catalog(footprints)
    result = SourceDeblend(config(maxNumberOfPeaks=1)).run(exposure, catalog)
    assert result.parent_columns["deblend_tooManyPeaks"][0]
    assert result.child_columns["deblend_peakId"].tolist() == [1]
    assert result.child_columns["deblend_parentNPeaks"].tolist() == [2]
    result = SourceDeblend(config(maxNumberOfPeaks=2)).run(exposure, catalog)
    assert not result.parent_columns["deblend_tooManyPeaks"][0]
    assert len(result.children) == 2


def test_peaks_outside_their_footprint_are_dropped_and_the_flag_stays():
    # the dropped peak comes first, so that later successes could reset the flag
    exposure, footprints, _ = pair()
    region = footprints.paint(exposure.shape)
    inside = list(zip(footprints.peak_x.tolist(), footprints.peak_y.tolist()))
    footprints = naive.footprints_of([region], [[(3, 3), (5000, -70), *inside]])
    result = SourceDeblend().run(exposure, naive.make_catalog(footprints))
    assert result.parent_columns["deblend_skipped"][0]
    assert result.parent_columns["deblend_nChild"][0] == 2
    assert result.child_columns["deblend_peakId"].tolist() == [3, 4]
    assert not result.child_columns["deblend_skipped"].any()


def test_tiny_footprints_have_no_children():
    exposure, _, _ = pair()
    region = np.zeros(exposure.shape, bool)
    region[10:12, 10:30] = True
    footprints = naive.footprints_of([region], [[(12, 10), (20, 11)]])
    result = SourceDeblend().run(exposure, naive.make_catalog(footprints))
    assert len(result.children) == 0
    assert result.parent_columns["deblend_skipped"][0]
    assert result.parent_columns["deblend_nChild"][0] == 0
    np.testing.assert_array_equal(result.parent_footprints.paint(exposure.shape), region)


def test_peaks_without_a_child_are_propagated_on_request():
    exposure, footprints, _ = pair()
    region = footprints.paint(exposure.shape)
    inside = list(zip(footprints.peak_x.tolist(), footprints.peak_y.tolist()))
    footprints = naive.footprints_of([region], [[inside[0], (3, 3), inside[1]]])
    catalog = naive.make_catalog(footprints)
    result = SourceDeblend(config(propagateAllPeaks=True)).run(exposure, catalog)
    assert result.child_columns["deblend_peakId"].tolist() == [1, 2, 3]
    assert result.child_columns["deblend_skipped"].tolist() == [False, True, False]
    assert result.parent_columns["deblend_nChild"][0] == 3
    sums = child_sums(result)
    assert sums[1] == 0
    plain = SourceDeblend().run(exposure, catalog)
    np.testing.assert_array_equal(sums[[0, 2]], child_sums(plain))
    np.testing.assert_array_equal(
        result.children.take(np.array([1])).paint(exposure.shape),
        result.parent_footprints.paint(exposure.shape),
    )
    both = SourceDeblend(config(propagateAllPeaks=True, maxNumberOfPeaks=1)).run(exposure, catalog)
    assert both.child_columns["deblend_skipped"].tolist() == [False, True, True]


@pytest.mark.parametrize("widths", [(SIGMA, SIGMA), (3.5, 3.0)])
def test_pixels_that_are_not_finite_harm_only_themselves(widths):
    exposure, footprints, _ = pair(widths=widths)
    exposure.image[25, 27] = np.nan
    exposure.image[20, 36] = np.inf
    exposure.variance[30, 24] = np.nan
    result = SourceDeblend().run(exposure, naive.make_catalog(footprints))
    assert len(result.children) == 2
    total, count = child_image(result, exposure.shape)
    bad = (count > 0) & ~np.isfinite(total)
    assert set(map(tuple, np.argwhere(bad))) <= {(25, 27), (20, 36)}


def test_a_source_cut_by_the_image_edge_is_ramped():
    shape = (60, 60)
    image = naive.stars(shape, [2.0, 14.0], [30.0, 30.0], [80000.0, 30000.0], 3.2)
    variance = np.full(shape, 100, np.float32)
    image += np.random.default_rng(2).normal(0, 10, shape)
    peaks = [(2, 30), (14, 30)]
    region = disc_union(shape, peaks, 10)
    catalog = naive.make_catalog(naive.footprints_of([region], [peaks]))
    exposure = naive.make_exposure(image, variance)
    ramped = SourceDeblend().run(exposure, catalog)
    clipped = SourceDeblend(config(edgeHandling="clip")).run(exposure, catalog)
    assert ramped.child_columns["deblend_rampedTemplate"].tolist() == [True, False]
    assert not clipped.child_columns["deblend_rampedTemplate"].any()
    # the flux on the image; clipping mirrors only two columns beyond the peak
    on_image = naive.stars(shape, [2.0], [30.0], [80000.0], 3.2).sum()
    assert child_sums(clipped)[0] < 0.85 * on_image
    assert abs(child_sums(ramped)[0] - on_image) < 0.1 * on_image
    assert (ramped.children.span_x0 >= 0).all()


def test_noclip_patches_only_parents_that_touch_the_edge_plane():
    shape = (60, 60)
    image = naive.stars(shape, [3.0, 15.0], [30.0, 30.0], [80000.0, 30000.0], 3.2)
    peaks = [(3, 30), (15, 30)]
    catalog = naive.make_catalog(naive.footprints_of([disc_union(shape, peaks, 10)], [peaks]))
    exposure = naive.make_exposure(image, np.full(shape, 100, np.float32))
    step = SourceDeblend(config(edgeHandling="noclip"))
    assert not step.run(exposure, catalog).child_columns["deblend_patchedTemplate"].any()
    exposure.mask[:, :2] |= bitmask(["EDGE"])
    result = step.run(exposure, catalog)
    assert result.child_columns["deblend_patchedTemplate"].all()
    assert child_sums(result).sum() == pytest.approx(image[catalog.footprints.paint(shape)].sum(), rel=1e-3)


def test_children_never_enter_another_footprint():
    shape = (60, 60)
    image = naive.stars(shape, [3.0, 13.0, 6.0], [30.0, 30.0, 45.0], [80000.0, 30000.0, 50000.0], 3.2)
    exposure = naive.make_exposure(image, np.full(shape, 4, np.float32))
    blend = disc_union(shape, [(3, 30), (13, 30)], 8)
    other = disc_union(shape, [(6, 45)], 6) & ~blend
    footprints = naive.footprints_of([blend, other], [[(3, 30), (13, 30)], [(6, 45)]])
    result = SourceDeblend().run(exposure, naive.make_catalog(footprints))
    assert result.child_columns["deblend_rampedTemplate"].any()
    assert (result.children.paint(shape) & ~blend).any()
    assert not (result.children.paint(shape) & other).any()


@pytest.mark.parametrize("rule", ["r-to-peak", "r-to-footprint", "nearest-footprint"])
@pytest.mark.parametrize("to_psf", ["necessary", "always", "never"])
def test_stray_flux_goes_where_the_rule_says(rule, to_psf):
    exposure, footprints, _ = pair(16.0, fluxes=(60000.0, 8000.0), widths=(3.5, SIGMA))
    # a bay whose mirror images are outside the footprint
    region = footprints.paint(exposure.shape) | disc_union(exposure.shape, [(30, 38)], 6)
    peaks = list(zip(footprints.peak_x.tolist(), footprints.peak_y.tolist()))
    catalog = naive.make_catalog(naive.footprints_of([region], [peaks]))
    rules = config(strayFluxRule=rule, strayFluxToPointSources=to_psf, edgeHandling="clip")
    result = SourceDeblend(rules).run(exposure, catalog)
    assert result.child_columns["deblend_deblendedAsPsf"].tolist() == [False, True]
    assert result.child_columns["deblend_hasStrayFlux"].tolist() == [True, to_psf == "always"]
    total, _ = child_image(result, exposure.shape)
    positive = region & (exposure.image > 0)
    np.testing.assert_allclose(total[positive], exposure.image[positive], rtol=SUM_RTOL)
    np.testing.assert_array_equal(result.parent_footprints.paint(exposure.shape), region)
    off = SourceDeblend(config(strayFluxRule=rule, assignStrayFlux=False, edgeHandling="clip")).run(
        exposure, catalog
    )
    assert not off.child_columns["deblend_hasStrayFlux"].any()
    assert child_sums(off).sum() < child_sums(result).sum()
    np.testing.assert_array_equal(off.parent_footprints.paint(exposure.shape), region)


@pytest.mark.parametrize(("to_psf", "gains"), [("necessary", True), ("never", False)])
def test_point_sources_get_stray_flux_only_if_there_is_no_other_child(to_psf, gains):
    exposure, footprints, _ = pair(14.0)
    rules = config(strayFluxRule="r-to-peak", strayFluxToPointSources=to_psf)
    # a small PSF stamp leaves pixels uncovered
    exposure.psf = GaussianPsf(SIGMA, 11)
    result = SourceDeblend(rules).run(exposure, naive.make_catalog(footprints))
    assert result.child_columns["deblend_deblendedAsPsf"].all()
    assert (result.child_columns["deblend_hasStrayFlux"] == gains).all()


def test_small_shares_of_stray_flux_are_dropped():
    exposure, footprints, _ = pair(14.0)
    exposure.psf = GaussianPsf(SIGMA, 11)
    catalog = naive.make_catalog(footprints)
    shared = {"strayFluxRule": "r-to-peak", "strayFluxToPointSources": "always"}
    low = SourceDeblend(config(clipStrayFluxFraction=0.0, **shared)).run(exposure, catalog)
    high = SourceDeblend(config(clipStrayFluxFraction=0.45, **shared)).run(exposure, catalog)
    assert high.children.areas().sum() < low.children.areas().sum()
    assert child_sums(high).sum() == pytest.approx(child_sums(low).sum(), rel=1e-6)


def test_degenerate_templates_are_removed_on_request():
    exposure, footprints, _ = pair(6.0, widths=(3.5, 3.5))
    catalog = naive.make_catalog(footprints)
    assert len(SourceDeblend().run(exposure, catalog).children) == 2
    result = SourceDeblend(config(removeDegenerateTemplates=True, maxTempDotProd=0.2)).run(exposure, catalog)
    assert len(result.children) == 1
    assert result.parent_columns["deblend_skipped"][0]


def test_weighted_templates_still_conserve_flux():
    exposure, footprints, _ = pair(9.0, widths=(3.5, 3.0))
    result = SourceDeblend(config(weightTemplates=True)).run(exposure, naive.make_catalog(footprints))
    assert len(result.children) == 2
    total, _ = child_image(result, exposure.shape)
    lit = total != 0
    np.testing.assert_allclose(total[lit], exposure.image[lit], rtol=SUM_RTOL)


class BrokenPsf(GaussianPsf):
    """Fails left of x = 40."""

    def star_stamps(self, *, x, y):
        if (np.asarray(x) < 40).any():
            raise RuntimeError("no PSF here")
        return super().star_stamps(x=x, y=y)


def wide_scene():
    left, _, _ = pair(shape=(50, 110), seed=1)
    x = [24, 36, 74, 86]
    image = left.image + naive.stars((50, 110), x[2:], [25.0, 25.0], [20000.0, 8000.0], SIGMA)
    exposure = naive.make_exposure(image, left.variance)
    peaks = [[(24, 25), (36, 25)], [(74, 25), (86, 25)]]
    regions = [disc_union(exposure.shape, own, 9) for own in peaks]
    return exposure, naive.footprints_of(regions, peaks)


def test_a_failure_flags_one_parent_and_spares_the_others():
    exposure, footprints = wide_scene()
    exposure.psf = BrokenPsf(SIGMA, 25)
    result = SourceDeblend().run(exposure, naive.make_catalog(footprints))
    assert result.parent_columns["deblend_failed"].tolist() == [True, False]
    assert result.parent_columns["deblend_nChild"].tolist() == [0, 2]
    assert result.parent_rows.tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="no PSF"):
        SourceDeblend(config(catchFailures=False)).run(exposure, naive.make_catalog(footprints))


class WidthlessPsf(GaussianPsf):
    def kernel_stamps(self, *, x, y):
        return -super().kernel_stamps(x=x, y=y)


def test_a_psf_without_width_fails_the_parent():
    exposure, footprints, _ = pair()
    exposure.psf = WidthlessPsf(SIGMA, 25)
    result = SourceDeblend().run(exposure, naive.make_catalog(footprints))
    assert result.parent_columns["deblend_failed"][0]
    assert len(result.children) == 0


def test_ci_limits_deblend_a_few_parents():
    exposure, footprints = wide_scene()
    result = SourceDeblend(config(useCiLimits=True, ciNumParentsToDeblend=1)).run(
        exposure, naive.make_catalog(footprints)
    )
    assert result.parent_columns["deblend_nChild"].tolist() == [2, 0]
    assert result.parent_columns["deblend_skipped"].tolist() == [False, True]
    result = SourceDeblend(config(useCiLimits=True, ciDeblendChildRange=[3, 10])).run(
        exposure, naive.make_catalog(footprints)
    )
    assert len(result.children) == 0


def test_width_is_interpolated_between_nodes():
    class Growing(GaussianPsf):
        def shapes(self, *, x, y):
            variance = (2 + 0.001 * np.asarray(x) + 0.002 * np.asarray(y)) ** 2
            variance = np.where(np.asarray(x) > 900, np.nan, variance)
            return PsfShapes(variance, variance, 0 * variance)

    x, y = np.array([0.0, 399.0, 123.4, 950.0]), np.array([0.0, 300.0, 77.7, 10.0])
    got = psf_fwhm(Growing(2.0, 25), (301, 1000), x=x, y=y)
    np.testing.assert_allclose(got[:3], 2.35 * (2 + 0.001 * x + 0.002 * y)[:3])
    assert np.isnan(got[3])


def test_pixel_noise_is_the_median_of_good_pixels():
    variance = np.random.default_rng(1).uniform(10, 20, (31, 40)).astype(np.float32)
    mask = np.zeros((31, 40), np.int32)
    variance[:, :5] = 1000
    mask[:, :5] = bitmask(["SAT"])
    variance[3, 9] = np.nan
    exposure = naive.make_exposure(np.zeros((31, 40)), variance, mask)
    expected = np.sqrt(np.median(variance[:, 5:][np.isfinite(variance[:, 5:])]))
    assert pixel_noise(exposure, ["SAT"]) == pytest.approx(expected)
    mask[:] = bitmask(["SAT"])
    assert np.isnan(pixel_noise(naive.make_exposure(variance, variance, mask), ["SAT"]))


@pytest.fixture(scope="module")
def field():
    """A crowded field with stars and galaxies."""
    rng = np.random.default_rng(11)
    shape, n = (400, 400), 260
    x, y, flux = rng.uniform(0, 399, n), rng.uniform(0, 399, n), 10 ** rng.uniform(3, 5, n)
    image = naive.stars(shape, x, y, flux, 1.8) + naive.stars(shape, x[:60], y[:60], flux[:60], 3.5)
    variance = (image + 100).astype(np.float32)
    noisy = image + rng.normal(size=shape) * np.sqrt(variance)
    exposure = naive.make_exposure(noisy, variance, psf=GaussianPsf(1.8, 25))
    return exposure, naive.detect(noisy, 1.8, 10.0)


def test_two_runs_give_the_same_bytes(field):
    exposure, footprints = field
    catalog = naive.make_catalog(footprints)
    assert (footprints.n_peaks > 1).sum() > 20
    assert_same(SourceDeblend().run(exposure, catalog), SourceDeblend().run(exposure, catalog))


def test_blocks_do_not_matter(field, monkeypatch):
    exposure, footprints = field
    catalog = naive.make_catalog(footprints)
    whole = SourceDeblend().run(exposure, catalog)
    monkeypatch.setattr("zeropoint.detection.deblend.step._PEAKS_PER_BLOCK", 3)
    parts = SourceDeblend().run(exposure, catalog)
    assert_same(whole, parts)
    assert whole.parent_footprints.span_x0.tobytes() == parts.parent_footprints.span_x0.tobytes()


def test_order_of_the_catalogue_does_not_matter(field):
    exposure, footprints = field
    order = np.random.default_rng(0).permutation(len(footprints))
    straight = SourceDeblend().run(exposure, naive.make_catalog(footprints))
    mixed = SourceDeblend().run(exposure, naive.make_catalog(footprints.take(order)))
    back = np.lexsort((np.arange(len(mixed.parent_rows)), order[mixed.parent_rows]))
    np.testing.assert_array_equal(order[mixed.parent_rows][back], straight.parent_rows)
    children = mixed.children.take(back)
    for name in children.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(children, name), getattr(straight.children, name))
    for name, values in straight.child_columns.items():
        np.testing.assert_array_equal(mixed.child_columns[name][back], values)


def test_the_image_is_not_modified(field):
    exposure, footprints = field
    before = exposure.copy()
    SourceDeblend().run(exposure, naive.make_catalog(footprints))
    np.testing.assert_array_equal(exposure.image, before.image)
    np.testing.assert_array_equal(exposure.variance, before.variance)
    np.testing.assert_array_equal(exposure.mask, before.mask)


def test_fields_have_the_defaults_of_the_science_pipelines():
    defaults = {
        "edgeHandling": "ramp", "strayFluxRule": "trim", "strayFluxToPointSources": "necessary",
        "assignStrayFlux": True, "clipStrayFluxFraction": 0.001, "psfChisq1": 1.5, "psfChisq2": 1.5,
        "psfChisq2b": 1.5, "maskPlanes": ["SAT", "INTRP", "NO_DATA"], "maskLimits": {"NO_DATA": 0.25},
        "weightTemplates": False, "removeDegenerateTemplates": False, "maxTempDotProd": 0.5,
        "medianSmoothTemplate": True, "maxNumberOfPeaks": 0, "maxFootprintArea": 10000, "maxFootprintSize": 0,
        "minFootprintAxisRatio": 0.0, "notDeblendedMask": "NOT_DEBLENDED", "tinyFootprintSize": 2,
        "propagateAllPeaks": False, "catchFailures": True, "useCiLimits": False, "ciDeblendChildRange": [2, 10],
        "ciNumParentsToDeblend": 10,
    }  # fmt: skip
    assert SourceDeblendConfig().toDict() == defaults

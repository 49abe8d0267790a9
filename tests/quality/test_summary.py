"""Summary statistics in closed form."""

import numpy as np
import pytest
from astropy.table import Table
from lsst.images import ObservationSummaryStats

from quality import make
from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.datamodel.background import BackgroundComponent, BackgroundList
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.exposure import VisitInfo
from zeropoint.quality import summary as summary_module
from zeropoint.quality.depth import zenith_distance
from zeropoint.quality.summary import ComputeExposureSummaryStats, _largest_distance

GROUPS = {
    name.removesuffix("_STATISTICS"): getattr(summary_module, name)
    for name in summary_module.__all__
    if name.endswith("_STATISTICS")
}
MOMENTS = {"Coma1", "Coma2", "Trefoil1", "Trefoil2", "Kurtosis", "E41", "E42"}
#: A Gaussian sampled at sigma 1.8 px and cut at 25 px differs from the continuous one by less than this.
SAMPLING = 2e-3


@pytest.fixture(scope="module")
def exposure():
    return make.exposure(calibrated=False)


@pytest.fixture(scope="module")
def background():
    def component(level):
        values = np.full((3, 3), level)
        values[0, 0] = np.nan
        return BackgroundComponent(values, values, np.arange(3.0), np.arange(3.0), 320, 300, "CONSTANT")

    return BackgroundList([component(390.0), component(10.0)])


def catalog(exposure, de1=0.01):
    """Five PSF stars of S/N 100 with one ellipticity, 2 % larger than the model in size."""
    schema = Schema()
    names = [f"slot_{slot}_{part}" for slot in ("Shape", "PsfShape") for part in ("xx", "yy", "xy")]
    names += ["slot_Centroid_x", "slot_Centroid_y", "slot_PsfFlux_instFlux", "slot_PsfFlux_instFluxErr"]
    schema.add(*(ColumnSpec(name, "f8") for name in names))
    schema.add(*(ColumnSpec(n, "bool") for n in ("calib_psf_used", "slot_Shape_flag", "slot_PsfFlux_flag")))
    cat = SourceCatalog(schema, 5)
    variance = make.SIGMA**2
    cat["slot_Shape_xx"], cat["slot_Shape_yy"] = (
        1.02**2 * variance * (1 + de1),
        1.02**2 * variance * (1 - de1),
    )
    cat["slot_Shape_xy"] = cat["slot_PsfShape_xy"] = 0.0
    cat["slot_PsfShape_xx"] = cat["slot_PsfShape_yy"] = variance
    cat["slot_Centroid_x"] = [0.0, 319.0, 0.0, 319.0, 160.0]
    cat["slot_Centroid_y"] = [0.0, 0.0, 299.0, 299.0, 150.0]
    cat["slot_PsfFlux_instFlux"], cat["slot_PsfFlux_instFluxErr"] = 1e5, 1e3
    cat["calib_psf_used"] = True
    return cat


@pytest.fixture(scope="module")
def summary(exposure, background):
    return ComputeExposureSummaryStats().run(exposure, catalog(exposure), background)


def test_a_gaussian_psf_has_its_sigma_and_area(summary):
    assert summary.psfSigma == pytest.approx(make.SIGMA, rel=SAMPLING)
    assert summary.psfArea == pytest.approx(4 * np.pi * make.SIGMA**2, rel=SAMPLING)
    assert summary.psfTraceRadiusDelta == pytest.approx(0.0, abs=1e-6)
    assert summary.psfApFluxDelta == pytest.approx(0.0, abs=1e-6)


def test_noise_and_background_are_those_put_in(summary):
    noise = np.sqrt(make.SKY + make.READ_NOISE**2)
    # 96,000 pixels: error 0.23 % of the standard deviation; clipping at 3 sigma takes 1.5 % away
    assert summary.skyNoise == pytest.approx(0.985 * noise, rel=0.01)
    assert summary.meanVar == pytest.approx(noise**2)
    assert summary.skyBg == pytest.approx(400.0)


def test_depth_follows_from_the_formula(summary):
    s, n = 5.0, summary.psfArea
    counts = s**2 / 2 + np.sqrt(s**4 / 4 + s**2 * (400.0 + make.READ_NOISE**2) * n)
    assert summary.zeroPoint == pytest.approx(make.ZEROPOINT)
    assert summary.magLim == pytest.approx(make.ZEROPOINT - 2.5 * np.log10(counts))
    assert summary.effTime == pytest.approx(30.0 * 10 ** (0.8 * (summary.magLim - 25.0)))
    per_second = make.ZEROPOINT - 2.5 * np.log10(30.0)
    assert summary.effTimeZeroPointScale == pytest.approx(10 ** (-0.8 * (25.0 - per_second)))
    assert summary.effTimeSkyBgScale == pytest.approx(30.0 / 400.0)


def test_star_statistics_are_star_minus_model(summary):
    assert summary.nPsfStar == 5
    assert summary.starEMedian == pytest.approx(0.01)
    assert summary.psfStarDeltaE1Median == pytest.approx(0.01)
    assert summary.psfStarDeltaE2Median == pytest.approx(0.0)
    assert summary.psfStarDeltaSizeMedian == pytest.approx(0.02 * make.SIGMA)
    assert summary.psfStarDeltaSizeScatter == pytest.approx(0.0, abs=1e-12)


def test_distance_to_the_nearest_star_is_the_largest_on_the_grid(summary, exposure):
    stars = catalog(exposure)
    gx, gy = np.meshgrid(np.arange(0, 320, 8), np.arange(0, 300, 8))
    distance = np.hypot(
        gx[..., None] - stars["slot_Centroid_x"], gy[..., None] - stars["slot_Centroid_y"]
    ).min(axis=-1)
    assert summary.maxDistToNearestPsf == pytest.approx(distance.max(), rel=0.02)


def test_the_sky_position_is_the_middle_of_the_image(summary):
    assert (summary.ra, summary.dec) == pytest.approx((150.1, 2.2))
    assert summary.pixelScale == pytest.approx(0.2)
    assert len(summary.raCorners) == 4
    assert np.hypot(
        (summary.raCorners[0] - 150.1) * np.cos(np.deg2rad(2.2)), summary.decCorners[0] - 2.2
    ) == pytest.approx(0.2 / 3600 * np.hypot(160, 150), rel=1e-4)


def test_what_was_not_established_is_nan():
    bare = make.exposure(calibrated=False)
    bare.psf = bare.wcs = bare.photo_calib = None
    summary = ComputeExposureSummaryStats().run(bare, None, None)
    for name in ("psfSigma", "ra", "zeroPoint", "magLim", "skyBg", "starEMedian"):
        assert np.isnan(getattr(summary, name)), name
    assert np.isfinite(summary.skyNoise)


def test_no_finite_background_cell_is_no_background(exposure):
    empty = BackgroundComponent(
        np.full((1, 1), np.nan), np.ones((1, 1)), np.zeros(1), np.zeros(1), 320, 300, "CONSTANT"
    )
    summary = ComputeExposureSummaryStats().run(exposure, None, BackgroundList([empty]))
    assert np.isnan(summary.skyBg)


def test_no_good_pixel_leaves_the_grids_nan():
    masked = make.exposure(calibrated=False)
    masked.set_mask(np.ones(masked.shape, bool), "BAD")
    summary = ComputeExposureSummaryStats().run(masked, catalog(masked), None)
    assert np.isnan(summary.psfTraceRadiusDelta)
    assert np.isnan(summary.maxDistToNearestPsf)


def test_a_star_at_the_local_sidereal_time_and_latitude_is_at_the_zenith():
    longitude, latitude, mjd_utc = -70.75, -30.24, 57000.3
    # Greenwich mean sidereal time of the Astronomical Almanac, hours, independent of the code's degrees
    days = mjd_utc - 51544.5
    hours = (18.697374558 + 24.06570982441908 * days) % 24
    tai = mjd_utc + 35.0 / 86400.0  # 35 leap seconds at the end of 2014
    info = VisitInfo(1, 30.0, tai, "r", "r", longitude_deg=longitude, latitude_deg=latitude)
    # 0.15 degree: precession since 2000 in declination is 0.08 degree, and is only roughly corrected
    assert zenith_distance(info, (15 * hours + longitude) % 360, latitude) < 0.25
    assert np.isnan(zenith_distance(VisitInfo(1, 30.0, tai, "r", "r"), 10.0, 10.0))


def test_made_tables_have_the_residuals_they_claim():
    assert isinstance(make.stars(make.exposure()), Table)


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_distance_to_a_star_is_exact(seed):
    rng = np.random.default_rng(seed)
    step = 8
    y, x = np.nonzero(rng.random((60, 75)) < (0.9 if seed else 0.01))
    points = np.stack([x, y], axis=1) * float(step)
    stars = rng.uniform(-20, 620, (1 + 3 * seed, 2))
    every = np.hypot(*(points[:, None, :] - stars[None, :, :]).transpose(2, 0, 1)).min(axis=1)
    assert _largest_distance(points, stars, step) == pytest.approx(every.max(), rel=1e-14)


def test_every_group_gives_its_own_statistics(exposure, background):
    compute = ComputeExposureSummaryStats()
    names = [name for group in GROUPS.values() for name in group]
    assert len(names) == len(set(names))
    assert set(names) <= set(ObservationSummaryStats.model_fields)
    found = {
        "WCS": compute.wcs_values(exposure.wcs, exposure.shape, exposure.visit_info),
        "PSF": compute.psf_values(exposure.psf, exposure.mask, exposure.ap_corr_map),
        "STAR": compute.star_values(catalog(exposure), exposure.mask),
        "PHOTO_CALIB": compute.photo_calib_values(exposure.photo_calib),
        "BACKGROUND": compute.background_values(background),
        "PIXEL": compute.pixel_values(exposure),
    }
    known = {name: value for values in found.values() for name, value in values.items()}
    visit = exposure.visit_info
    found["DEPTH"] = compute.depth_values(known, exposure.detector, visit.band, visit.exposure_time)
    for group, values in found.items():
        assert set(values) <= set(GROUPS[group])
    # all but the higher moments, which the catalogue lacks
    assert set(names) - {name for values in found.values() for name in values} == {
        name for name in GROUPS["STAR"] if name[4:-6] in MOMENTS
    }


def test_stars_may_be_a_table(exposure):
    compute = ComputeExposureSummaryStats()
    stars = catalog(exposure)
    expected = compute.star_values(stars, exposure.mask)
    for table in (stars.to_table(), table_to_arrow(stars.to_table())):
        assert compute.star_values(table, exposure.mask) == expected

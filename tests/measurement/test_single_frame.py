"""The measurement framework: config, order, noise replacement, clearing, blends, blocks."""

from __future__ import annotations

import numpy as np
import pytest

from naive.measurement import config_of, measure
from naive.star_field import disc_footprints, exposure_of, grid_of_stars
from zeropoint.datamodel.catalog import Schema, SourceCatalog
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.psf_model import GaussianPsf
from zeropoint.errors import InvalidInputError
from zeropoint.measurement import single_frame
from zeropoint.measurement.base import pluginRegistry
from zeropoint.measurement.context import MeasurementContext, PsfShapeGrid
from zeropoint.measurement.noise import NoiseReplacerConfig, noise_level, replace_sources_with_noise
from zeropoint.measurement.single_frame import SingleFrameMeasurement, SingleFrameMeasurementConfig

APERTURE, PSF_FLUX = "base_CircularApertureFlux", "base_PsfFlux"


def test_default_config_is_valid_and_plugins_run_in_order():
    config = SingleFrameMeasurementConfig()
    config.validate()
    step = SingleFrameMeasurement(config)
    names = [plugin.name for plugin in step.plugins]
    assert names[0] == "base_SdssCentroid"
    orders = [pluginRegistry[name].execution_order for name in names[1:]]
    assert orders == sorted(orders)
    columns = list(step.schema.columns)
    assert columns[-1] == "base_InvalidPsf_flag"
    assert step.schema.resolve("slot_Centroid_x") == "base_SdssCentroid_x"
    assert step.schema.resolve("slot_ApFlux_instFlux") == "base_CircularApertureFlux_12_0_instFlux"
    assert step.schema.resolve("base_PsfFlux_flag_badCentroid") == "base_SdssCentroid_flag"


def test_stars_list_of_calibrate_image_has_the_documented_columns_in_order():
    config = config_of(
        "base_PixelFlags",
        "base_SdssCentroid",
        APERTURE,
        "base_GaussianFlux",
        PSF_FLUX,
        "base_CompensatedTophatFlux",
    )
    config.plugins[APERTURE].radii = [12.0]
    columns = list(SingleFrameMeasurement(config).schema)
    names = [column.name for column in columns]
    assert names[:12] == [
        *(f"base_SdssCentroid_{end}" for end in ("x", "y", "xErr", "yErr", "flag", "flag_edge")),
        "base_SdssCentroid_flag_noSecondDerivative",
        "base_SdssCentroid_flag_almostNoSecondDerivative",
        "base_SdssCentroid_flag_notAtMaximum",
        "base_SdssCentroid_flag_near_edge",
        "base_SdssCentroid_flag_resetToPeak",
        "base_SdssCentroid_flag_badError",
    ]
    flux = ("instFlux", "instFluxErr")
    assert names[12:24] == [
        *(f"{APERTURE}_12_0_{end}" for end in (*flux, "flag", "flag_apertureTruncated")),
        *(f"base_CompensatedTophatFlux_12_{end}" for end in (*flux, "mask_bits", "flag", "flag_bounds")),
        *(f"base_GaussianFlux_{end}" for end in (*flux, "flag")),
    ]
    planes = ("edge", "nodata", "interpolated", "saturated", "cr", "bad", "suspect")
    flags = [
        "flag",
        "flag_offimage",
        *(f"flag_{p}{where}" for where in ("", "Center", "CenterAll") for p in planes),
    ]
    assert names[24:47] == [f"base_PixelFlags_{flag}" for flag in flags]
    ends = (*flux, "area", "chi2", "npixels", "flag", "flag_noGoodPixels", "flag_edge")
    assert names[47:] == [*(f"{PSF_FLUX}_{end}" for end in ends), "base_InvalidPsf_flag"]
    dtypes = {column.name: column.dtype for column in columns}
    assert dtypes["base_PsfFlux_npixels"] == dtypes["base_CompensatedTophatFlux_12_mask_bits"] == "i4"
    assert dtypes["base_PsfFlux_area"] == dtypes["base_SdssCentroid_xErr"] == "f4"


def test_slots_must_point_at_plugins_that_run():
    config = SingleFrameMeasurementConfig()
    config.plugins.names = ["base_SdssCentroid"]
    with pytest.raises(ValueError, match="Slot shape"):
        config.validate()
    config.slots.shape = None
    with pytest.raises(ValueError, match="Slot apFlux"):
        config.validate()


def test_earlier_results_and_flags_do_not_survive_a_second_run():
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(1.6, 25), np.full(4, 1e5))
    config = config_of("base_SdssCentroid", PSF_FLUX, "base_PixelFlags")
    step = SingleFrameMeasurement(config)
    catalog = SourceCatalog(step.schema, 4, footprints=footprints)
    exposure.mask[...] = 8
    exposure.image[...] *= -1
    step.run(exposure, catalog, seed=3)
    assert catalog["base_SdssCentroid_flag"].all()
    assert catalog["base_PixelFlags_flag_cr"].all()
    exposure.mask[...] = 0
    exposure.image[...] *= -1
    step.run(exposure, catalog, seed=3)
    fresh = measure(config, exposure, footprints, seed=3)
    for name in fresh.colnames:
        np.testing.assert_array_equal(catalog[name], fresh[name])
    assert not fresh["base_SdssCentroid_flag"].any()


def test_a_step_on_a_schema_that_has_its_columns_still_clears_them():
    schema = Schema()
    config = config_of("base_SdssCentroid")
    SingleFrameMeasurement(config, schema=schema)
    second = SingleFrameMeasurement(config, schema=schema)
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(1.6, 25), np.full(4, 1e5))
    catalog = SourceCatalog(schema, 4, footprints=footprints)
    catalog["base_SdssCentroid_flag_almostNoSecondDerivative"] = True
    second.run(exposure, catalog, seed=1)
    assert not catalog["base_SdssCentroid_flag_almostNoSecondDerivative"].any()


def test_exposure_is_not_changed_and_results_repeat_with_the_seed():
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(1.6, 25), np.full(16, 1e4), spacing=18, radius=8)
    before = exposure.image.copy()
    config = config_of("base_SdssCentroid", APERTURE)
    config.plugins[APERTURE].radii = [14.0]
    first, second, other = (measure(config, exposure, footprints, seed=s) for s in (5, 5, 6))
    np.testing.assert_array_equal(exposure.image, before)
    flux = f"{APERTURE}_14_0_instFlux"
    np.testing.assert_array_equal(first[flux], second[flux])
    inner = ~first[f"{APERTURE}_14_0_flag"]
    assert inner.any()
    assert (first[flux][inner] != other[flux][inner]).all()


def test_neighbors_are_hidden_from_apertures():
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(1.6, 25), np.full(25, 1e5), spacing=22, radius=9)
    config = config_of("base_SdssCentroid", APERTURE)
    config.plugins[APERTURE].radii = [21.0]
    flux, flag = f"{APERTURE}_21_0_instFlux", f"{APERTURE}_21_0_flag"
    cat = measure(config, exposure, footprints)
    good = ~cat[flag]
    assert good.any()
    # sky noise of 10 in 1385 pixels is 372
    np.testing.assert_allclose(cat[flux][good], 1e5, atol=5 * 372)
    config.doReplaceWithNoise = False
    assert (measure(config, exposure, footprints)[flux][good] > 1.2e5).all()


def blend():
    """Return an exposure with two overlapping stars, and parent and children as footprints."""
    psf = GaussianPsf(1.6, 25)
    image = np.zeros((80, 80))
    images = []
    for x, flux in ((37, 4e4), (43, 2e4)):
        one = np.zeros((80, 80))
        one[40 - 12 : 40 + 13, x - 12 : x + 13] = flux * psf.kernel_image()
        images.append(one)
        image += one
    exposure = exposure_of(image, 1.0, psf)
    parent = disc_footprints(np.array([40.0]), np.array([40.0]), 14)
    spans = parent.spans_of(0)
    where = parent.paint((80, 80))
    offsets = np.array([0, 1, 2, 3]) * len(spans[0])
    area = int(where.sum())
    footprints = FootprintSet.build(
        offsets,
        *(np.tile(part, 3) for part in spans),
        np.array([0, 1, 2, 3]),
        np.array([37, 37, 43]),
        np.array([40, 40, 40]),
        pixel_offsets=np.array([0, 0, area, 2 * area]),
        pixels=np.concatenate([one[where] for one in images]),
    )
    return exposure, footprints


def test_children_are_measured_with_their_share_and_parents_with_all():
    exposure, footprints = blend()
    config = config_of("base_SdssCentroid", PSF_FLUX, APERTURE)
    config.plugins[APERTURE].radii = [13.5]
    cat = measure(config, exposure, footprints)
    np.testing.assert_allclose(cat["base_PsfFlux_instFlux"][1:], [4e4, 2e4], rtol=2e-3)
    np.testing.assert_allclose(cat[f"{APERTURE}_13_5_instFlux"], [6e4, 4e4, 2e4], rtol=5e-3)


def test_undeblended_plugins_see_the_image_as_it_is():
    exposure, footprints = blend()
    config = config_of("base_SdssCentroid", PSF_FLUX)
    config.undeblended.names = [APERTURE]
    config.undeblended[APERTURE].radii = [13.5]
    cat = measure(config, exposure, footprints)
    np.testing.assert_allclose(cat[f"undeblended_{APERTURE}_13_5_instFlux"][1:], 6e4, rtol=2e-2)
    assert f"{APERTURE}_13_5_instFlux" not in cat


def test_plugins_that_do_not_measure_only_declare():
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(1.6, 25), np.full(4, 1e5))
    config = config_of("base_SdssCentroid", PSF_FLUX)
    config.plugins[PSF_FLUX].doMeasure = False
    cat = measure(config, exposure, footprints)
    assert np.isnan(cat["base_PsfFlux_instFlux"]).all()


def test_blocks_of_rows_give_the_same_bytes(monkeypatch):
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(1.6, 25), np.full(25, 3e3))
    config = config_of("base_SdssCentroid", PSF_FLUX, "base_PixelFlags", "base_LocalBackground")
    whole = measure(config, exposure, footprints)
    monkeypatch.setattr(single_frame, "BLOCK_ROWS", 7)
    parts = measure(config, exposure, footprints)
    for name in whole.colnames:
        assert whole[name].tobytes() == parts[name].tobytes()


def test_empty_catalogue_and_wrong_catalogues():
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(1.6, 25), np.full(4, 1e5))
    config = config_of("base_SdssCentroid")
    assert len(measure(config, exposure, FootprintSet.empty())) == 0
    step = SingleFrameMeasurement(config)
    with pytest.raises(InvalidInputError, match="footprints"):
        step.run(exposure, SourceCatalog(step.schema, 4), seed=1)
    with pytest.raises(InvalidInputError, match="lacks"):
        step.run(exposure, SourceCatalog(Schema(), 4, footprints=footprints), seed=1)
    outside = disc_footprints(np.array([2.0]), np.array([2.0]), 5)
    with pytest.raises(InvalidInputError, match="leaves the image"):
        measure(config, exposure, outside)


def test_heavy_footprint_of_wrong_length_is_refused():
    exposure, footprints = blend()
    wrong = FootprintSet.build(
        footprints.span_offsets,
        footprints.span_y,
        footprints.span_x0,
        footprints.span_x1,
        footprints.peak_offsets,
        footprints.peak_x,
        footprints.peak_y,
        pixel_offsets=np.array([0, 0, 5, 10]),
        pixels=np.zeros(10),
    )
    with pytest.raises(InvalidInputError, match="number of pixels"):
        measure(config_of("base_SdssCentroid"), exposure, wrong)


def test_noise_covers_footprints_only_and_has_the_level_of_the_sky():
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(1.6, 25), np.full(100, 1e5))
    config = NoiseReplacerConfig()
    noise = replace_sources_with_noise(exposure, footprints, config, seed=9)
    inside = footprints.paint(exposure.shape)
    np.testing.assert_array_equal(noise[~inside], exposure.image[~inside])
    n = inside.sum()
    # clipping a Gaussian at 3 sigma narrows it by 1.4 %
    assert abs(noise[inside].std() / 10.0 - 0.986) < 0.02 + 4 / np.sqrt(2 * n)
    assert abs(noise[inside].mean()) < 5 * 10 / np.sqrt(n) + 0.2


@pytest.mark.parametrize(
    ("source", "expected"), [("variance", None), ("variance_median", 10.0), ("meta", 12.0), ("measure", 9.86)]
)
def test_noise_sources(source, expected):
    exposure, _, _, _ = grid_of_stars(GaussianPsf(1.6, 25), np.full(16, 1e3))
    exposure.metadata["BGMEAN"] = 144.0
    config = NoiseReplacerConfig()
    config.noiseSource, config.noiseOffset = source, 3.0
    mean, std = noise_level(exposure, config)
    # faint wings of the stars remain in a small image
    assert mean == pytest.approx(3.0, abs=0.6)
    assert std == (None if expected is None else pytest.approx(expected, rel=0.02))
    noise = replace_sources_with_noise(exposure, FootprintSet.empty(), config, seed=0)
    np.testing.assert_array_equal(noise, exposure.image)


def test_missing_background_level_falls_back_to_a_measurement():
    exposure, _, _, _ = grid_of_stars(GaussianPsf(1.6, 25), np.full(16, 1e3))
    config = NoiseReplacerConfig()
    config.noiseSource = "meta"
    assert noise_level(exposure, config)[1] == pytest.approx(9.86, rel=0.02)


def test_interpolated_psf_shapes_match_direct_ones():
    from naive.measurement import moffat_psf

    psf = moffat_psf(3.5)
    grid = PsfShapeGrid(psf, (1000, 1000))
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 999, 20), rng.uniform(0, 999, 20)
    direct, fast = psf.shapes(x=x, y=y), grid.shapes(x=x, y=y)
    np.testing.assert_allclose(fast.xx, direct.xx, rtol=1e-5)
    np.testing.assert_allclose(fast.xy, direct.xy, atol=1e-4)


def test_context_falls_back_to_peaks_without_a_centroid():
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(1.6, 25), np.full(4, 1e5))
    step = SingleFrameMeasurement(config_of("base_SdssCentroid"))
    catalog = SourceCatalog(step.schema, 4, footprints=footprints)
    context = MeasurementContext(exposure, catalog, noise=None, centroid_slot="base_SdssCentroid")
    context.update_centroids()
    np.testing.assert_array_equal(context.x, footprints.peak_x)
    assert context.centroid_flagged.all()

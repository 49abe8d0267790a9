import numpy as np

from zeropoint.datamodel.catalog import Schema
from zeropoint.detection.sky_sources import SkyObjects, SkyObjectsConfig


def _mask(seed=1, shape=(400, 420)):
    mask = np.zeros(shape, np.int32)
    for y, x in np.random.default_rng(seed).integers(0, 380, (60, 2)):
        mask[y : y + 20, x : x + 20] |= 32
    return mask


def test_sky_sources_avoid_sources_and_each_other():
    mask = _mask()
    found = SkyObjects().run(mask, 7)
    assert 30 < len(found) <= 100
    painted = np.zeros(mask.shape, int)
    for k in range(len(found)):
        painted += found.paint(mask.shape, [k])
    assert painted.max() == 1
    assert not (painted.astype(bool) & (mask != 0)).any()
    assert set(found.areas()) == {197}
    d = np.hypot(*(np.subtract.outer(v, v) for v in (found.peak_x.astype(float), found.peak_y)))
    assert d[d > 0].min() > 16


def test_the_seed_alone_decides():
    mask = _mask()
    a, b, c = (SkyObjects().run(mask, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.span_x0, b.span_x0)
    assert not np.array_equal(a.peak_x, c.peak_x)


def test_an_empty_image_holds_as_many_as_wanted_well_inside():
    mask = np.zeros((1000, 1000), np.int32)
    found = SkyObjects().run(mask, 3)
    assert len(found) == 100
    assert found.boxes().min() >= 1
    assert found.boxes().max() <= 998
    np.testing.assert_array_equal(found.n_peaks, 1)
    assert (found.peak_value == 0).all()


def test_grown_masks_small_images_and_zero_sources():
    mask = np.zeros((100, 100), np.int32)
    mask[50, 50] = 1
    config = SkyObjectsConfig()
    config.growMask = 80
    assert len(SkyObjects(config).run(mask, 1)) == 0
    assert len(SkyObjects().run(np.zeros((15, 90), np.int32), 1)) == 0
    config = SkyObjectsConfig()
    config.nSources = 0
    assert len(SkyObjects(config).run(mask, 1)) == 0


def test_the_flag_column_is_added():
    schema = Schema()
    SkyObjects(schema=schema)
    assert "sky_source" in schema

"""Standard stars for users, by tract."""

from __future__ import annotations

import numpy as np
import pytest

from zeropoint.datamodel.skymap import SkyMap
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.outputs.standard_stars import standard_stars, stars_by_tract


def test_magnitudes_have_the_offsets_and_gaps_are_not_numbers(stars):
    table = standard_stars(stars, {"r": 0.5})
    assert table["fgcm_id"].tolist() == [3, 7, 9]
    assert table["isolated_star_id"].tolist() == [30, 70, 90]
    np.testing.assert_array_equal(table["mag_g"], np.array([19.0, 18.0, 20.0], np.float32))
    np.testing.assert_array_equal(table["mag_r"], np.array([np.nan, 18.0, 20.5], np.float32))
    np.testing.assert_array_equal(table["magErr_r"], np.array([np.nan, 0.01, 0.1], np.float32))
    assert table["ngood_r"].tolist() == [0, 3, 1]
    assert table["ra"].unit == "deg"
    np.testing.assert_allclose(table["ra"][:2], [350.0, 10.0])
    assert (table["ra"].dtype, table["mag_g"].dtype, table["fgcm_id"].dtype) == ("f8", "f4", "i8")


def test_each_star_is_in_one_tract(stars):
    sky_map = SkyMap.rings(30)
    found = stars_by_tract(standard_stars(stars), sky_map)
    by_tract = dict(found)
    assert len(by_tract) == 2
    for tract, table in by_tract.items():
        ra, dec = np.deg2rad(table["ra"][0]), np.deg2rad(table["dec"][0])
        assert sky_map.find_tract(float(ra), float(dec)).id == tract
    assert dict(found.accounting["standard_stars"].rejected) == {"no_position": 1}
    assert len(found.of(0)) == 0


def test_bands_must_be_known(stars):
    del stars.meta["BANDS"]
    with pytest.raises(InvalidInputError, match="BANDS"):
        standard_stars(stars)

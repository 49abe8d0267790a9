"""Reserved sources."""

import numpy as np
import pytest

from zeropoint.catalogs.reserve import ReserveSources, ReserveSourcesConfig
from zeropoint.datamodel.catalog import Schema


def _reserve(fraction, seed=1):
    config = ReserveSourcesConfig()
    config.fraction, config.seed = fraction, seed
    return ReserveSources(config, column_stem="calib_psf")


def test_the_choice_is_that_of_the_legacy_generator():
    expected = np.arange(10) < 3
    np.random.RandomState(8).shuffle(expected)
    result = _reserve(0.3).run(10, exp_id=7)
    assert np.array_equal(result.reserved, expected)
    assert np.array_equal(result.use, ~expected)


def test_number_reserved_rounds_half_to_even():
    assert _reserve(0.5).run(5).reserved.sum() == 2
    assert _reserve(0.5).run(7).reserved.sum() == 4


def test_large_ids_wrap_to_32_bits():
    first = _reserve(0.2).run(50, exp_id=5)
    wrapped = _reserve(0.2).run(50, exp_id=5 + 2**32)
    assert np.array_equal(first.reserved, wrapped.reserved)


def test_different_exposures_reserve_different_sources():
    assert not np.array_equal(
        _reserve(0.2).run(100, exp_id=1).reserved, _reserve(0.2).run(100, exp_id=2).reserved
    )


def test_only_the_prior_population_is_drawn_from():
    prior = np.arange(40) % 2 == 0
    result = _reserve(0.25).run(40, prior=prior)
    assert result.reserved.sum() == 5
    assert not (result.reserved & ~prior).any()
    assert np.array_equal(result.use, prior & ~result.reserved)


def test_no_sources_and_no_fraction():
    assert len(_reserve(0.2).run(0).reserved) == 0
    assert not _reserve(0.0).run(10).reserved.any()


def test_a_prior_of_wrong_length_is_an_error():
    with pytest.raises(ValueError, match="3 values for 4"):
        _reserve(0.1).run(4, prior=np.ones(3, bool))


def test_the_flag_is_declared():
    schema = Schema()
    ReserveSources(schema=schema, column_stem="calib_psf")
    assert list(schema.columns) == ["calib_psf_reserved"]

"""Passes over observations do what numpy does in several."""

import numpy as np
import pytest

from zeropoint.fgcm.model.rows import chosen_rows, count_chosen, segment_parts, take


@pytest.fixture
def start(rng: np.random.Generator) -> np.ndarray:
    """Segments, some without observations, the last among them; enough for several parts."""
    counts = np.append(rng.poisson(3.0, 40_000), 0)
    return np.concatenate([[0], np.cumsum(counts)])


@pytest.mark.parametrize("threads", [1, 2])
def test_rows_are_chosen_and_counted(start: np.ndarray, rng: np.random.Generator, threads: int) -> None:
    n, n_segment, n_ec = int(start[-1]), len(start) - 1, 50
    ec = rng.integers(0, n_ec, n).astype(np.int32)
    flag = (rng.integers(0, 4, n) == 0).astype(np.uint16) * np.uint16(256)
    segment, place = rng.random(n_segment) < 0.7, rng.random(n_ec) < 0.8
    of = np.repeat(np.arange(n_segment), np.diff(start))
    chosen = chosen_rows(start, ec, flag, segment, place, threads)
    np.testing.assert_array_equal(chosen, (flag == 0) & segment[of] & place[ec])
    found = count_chosen(start, chosen, threads)
    np.testing.assert_array_equal(found, np.bincount(of[chosen], minlength=n_segment))


def test_parts_hold_each_segment_once(start: np.ndarray) -> None:
    parts = segment_parts(start)
    assert len(parts) > 2
    assert parts[0] == 0
    assert parts[-1] == len(start) - 1
    assert (np.diff(parts) >= 0).all()
    np.testing.assert_array_equal(segment_parts(np.zeros(4, np.int64)), [0, 3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.bool_])
def test_values_of_rows(rng: np.random.Generator, dtype: type) -> None:
    values, rows = (rng.random(50) * 3).astype(dtype), rng.integers(0, 50, 1000).astype(np.int32)
    found = take(values, rows, dtype, 1)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values[rows])

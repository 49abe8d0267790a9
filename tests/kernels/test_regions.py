import numpy as np

from zeropoint.kernels.regions import block_maxima, count_boxes


def test_box_and_block_reductions_equal_numpy():
    rng = np.random.default_rng(7)
    mask = rng.integers(0, 16, (23, 31)).astype(np.int32)
    flags = ((mask & 6) != 0).view(np.uint8)
    good = (mask & 1).astype(np.uint8)
    out = np.empty((2, 2), np.int64)
    count_boxes(flags, good, np.array([[0, 0, 30, 22], [3, 4, 9, 7]]), out)
    part = np.s_[4:8, 3:10]
    assert out.tolist() == [
        [(flags & good).sum(), good.sum()],
        [(flags & good)[part].sum(), good[part].sum()],
    ]
    values = rng.normal(size=(23, 31)).astype(np.float32)
    noise = rng.uniform(0.5, 1.5, (23, 31)).astype(np.float32)
    values[:4, :4] = np.nan
    values[9, 9] = np.nan
    maxima = np.empty((6, 8), np.float32)
    block_maxima(values, noise, 4, maxima)
    ratio = np.where(np.isnan(values), -np.inf, values / noise)
    for j in range(6):
        for i in range(8):
            assert maxima[j, i] == ratio[4 * j : 4 * j + 4, 4 * i : 4 * i + 4].max()

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from naive import frames
from zeropoint.datamodel.mask_planes import PLANES, bitmask
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard
from zeropoint.instruments.masks import read_mask
from zeropoint.instruments.values import ImageContext


def read(folder: Path, raw: np.ndarray | None, **spec: Any) -> np.ndarray:
    if raw is not None:
        fits.PrimaryHDU(raw).writeto(folder / "m.fits", overwrite=True)
    card = CameraCard("t", "t.yaml", {"mask": {"file": "{dir}/m.fits", **spec}})
    return read_mask(ImageContext(folder / "a.fits", card, [fits.Header()]), frames.SHAPE)


def expected(select: np.ndarray, plane: str) -> np.ndarray:
    return np.where(select, bitmask([plane]), 0)


def test_no_mask_entry(tmp_path: Path) -> None:
    context = ImageContext(tmp_path / "a.fits", CameraCard("t", "t.yaml", {}), [fits.Header()])
    mask = read_mask(context, frames.SHAPE)
    assert mask.dtype == np.int32
    assert not mask.any()


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.int64, np.float32, np.uint8])
def test_bits_against_bit_by_bit(tmp_path: Path, dtype: Any) -> None:
    raw = np.random.default_rng(3).integers(0, 128, frames.SHAPE).astype(dtype)
    planes = {"BAD": [0, 4], "SAT": 2, "COSMIC_RAY": [6]}
    mask = read(tmp_path, raw, kind="bits", planes=planes)
    numbers = raw.astype(int)
    for plane, bits in (("BAD", [0, 4]), ("SATURATED", [2]), ("COSMIC_RAY", [6])):
        select = np.zeros(frames.SHAPE, bool)
        for bit in bits:
            select |= (numbers // 2**bit) % 2 == 1
        np.testing.assert_array_equal(mask & bitmask([plane]), expected(select, plane))
    assert not (mask & ~bitmask(["BAD", "SATURATED", "COSMIC_RAY"])).any()


def test_the_sign_bit_is_a_bit(tmp_path: Path) -> None:
    raw = np.zeros(frames.SHAPE, np.int32)
    raw[4, 5] = np.int32(-(2**31))
    assert np.argwhere(read(tmp_path, raw, planes={"BAD": [31]})).tolist() == [[4, 5]]


def test_other_kinds(tmp_path: Path) -> None:
    raw = np.random.default_rng(4).integers(0, 5, frames.SHAPE).astype(np.int16)
    np.testing.assert_array_equal(read(tmp_path, raw, kind="nonzero"), expected(raw != 0, "BAD"))
    mask = read(tmp_path, raw, kind="values", planes={"SUSPECT": [2, 4], "BAD": 3})
    np.testing.assert_array_equal(
        mask, expected((raw == 2) | (raw == 4), "SUSPECT") | expected(raw == 3, "BAD")
    )
    own = (raw.astype(np.int32)) << max(bit for bit, _ in PLANES.values()) - 4
    np.testing.assert_array_equal(read(tmp_path, own, kind="zeropoint"), own)


@pytest.mark.parametrize(
    ("raw", "spec", "match"),
    [
        (np.zeros((70, 80), np.int16), {}, "m.fits: the mask has 80 x 70 pixels, the image a.fits 100 x 90"),
        (np.zeros(frames.SHAPE, np.int16), {"hdu": 3}, "no mask image in HDU 3"),
        (np.full(frames.SHAPE, 0.5, np.float32), {}, "not integers"),
        (np.zeros(frames.SHAPE, np.int16), {"planes": {"BAD": [63]}}, "63, which is not a bit number"),
        (np.zeros(frames.SHAPE, np.int16), {"planes": {"BAD": ["sat"]}}, "'sat', which is not a bit number"),
        (np.zeros(frames.SHAPE, np.int16), {"kind": "values", "planes": {"BAD": 1.5}}, "not an integer"),
        (None, {}, "m.fits does not exist"),
        (
            np.zeros(frames.SHAPE, np.int16),
            {"kind": "sdss", "planes": {"BAD": [0]}},
            "cannot be read as an SDSS mask",
        ),
    ],
)
def test_masks_that_are_refused(
    tmp_path: Path, raw: np.ndarray | None, spec: dict[str, Any], match: str
) -> None:
    with pytest.raises(InvalidInputError, match=match):
        read(tmp_path, raw, **spec)


def test_optional_masks(tmp_path: Path) -> None:
    assert not read(tmp_path, None, optional=True).any()
    assert not read(tmp_path, np.ones(frames.SHAPE, np.int16), hdu="MASK", optional=True).any()

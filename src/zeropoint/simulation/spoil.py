"""Spoil a written image in the ways in which real nights go wrong."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
from astropy.io import fits

__all__ = ["SPOILED_KINDS", "spoil"]

#: Ways to spoil an image: sky without a star, every pixel saturated, stars of another field than the header
#: says, a file that ends early, pixels that are all NaN.
SPOILED_KINDS = ("blank", "saturated", "wrong_field", "truncated", "nan")


def spoil(path: str | Path, kind: str) -> None:
    """Spoil a file written by `zeropoint.simulation.write_simulation` or `write_night`, in place.

    Parameters
    ----------
    path
        The image.
    kind
        One of `SPOILED_KINDS`.

    Raises
    ------
    ValueError
        If there is no such kind.
    """
    file = Path(path)
    if kind not in SPOILED_KINDS:
        raise ValueError(f"An image can be spoiled in these ways: {', '.join(SPOILED_KINDS)}; not {kind!r}.")
    if kind == "truncated":
        os.truncate(file, file.stat().st_size // 3)
        return
    with fits.open(file, mode="update", memmap=False) as hdus:
        image, mask, variance = hdus[0].data, hdus["MASK"].data, hdus["VARIANCE"].data
        if kind == "nan":
            image[...] = np.nan
        elif kind == "saturated":
            image[...] = variance[...] = 1.05 * hdus[0].header["SATURATE"]
        elif kind == "wrong_field":
            # a mirrored field has no star where it should, and the same noise
            for plane in (image, mask, variance):
                plane[...] = plane[:, ::-1].copy()
        else:
            level, noise = float(np.median(image)), float(np.sqrt(np.median(variance)))
            rng = np.random.default_rng(zlib.crc32(file.name.encode()))
            image[...] = rng.normal(level, noise, image.shape)
            variance[...] = noise**2
            mask[...] = 0

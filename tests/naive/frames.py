"""Small FITS frames of a made-up camera, and plain twins of what the reader does with real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

SHAPE = (90, 100)
SKY, NOISE, GAIN = 400.0, 20.0, 1.0

#: A TAN WCS of 0.5 arcsec pixels, North up, East left.
WCS_CARDS: dict[str, Any] = {
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 30.0,
    "CRVAL2": -12.0,
    "CRPIX1": 50.5,
    "CRPIX2": 45.5,
    "CD1_1": -0.5 / 3600,
    "CD1_2": 0.0,
    "CD2_1": 0.0,
    "CD2_2": 0.5 / 3600,
}
CAMERA_CARDS: dict[str, Any] = {
    "INSTRUME": "Toy",
    "GAIN": GAIN,
    "RDNOISE": 3.0,
    "SATURATE": 60000.0,
    "EXPTIME": 40.0,
    "DATE-OBS": "2021-03-04T05:06:07.5",
    "FILTER": "r",
}


def pixels(seed: int = 1, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Return a sky with photon noise for a gain of 1."""
    return np.random.default_rng(seed).normal(SKY, NOISE, shape).astype(np.float32)


def header(**cards: Any) -> fits.Header:
    """Return a header of the made-up camera; None removes a keyword."""
    result = fits.Header()
    for key, value in {**CAMERA_CARDS, **WCS_CARDS, **cards}.items():
        if value is not None:
            result[key.replace("_", "-") if key == "DATE_OBS" else key] = value
    return result


def write(path: Path, data: np.ndarray | None = None, extensions: tuple[Any, ...] = (), **cards: Any) -> Path:
    """Write a frame; ``cards`` change its header."""
    primary = fits.PrimaryHDU(pixels() if data is None else data, header(**cards))
    fits.HDUList([primary, *extensions]).writeto(path, output_verify="silentfix")
    return path


def sdss_mask(path: Path, kind: int, shape: tuple[int, int]) -> np.ndarray:
    """Decode one mask type of an fpM file byte by byte, from the objects' own run lists."""
    flagged = np.zeros(shape, bool)
    with fits.open(path) as hdus:
        table = hdus[kind + 1].data
        for row in [] if table is None else table:
            data = [int(v) for v in row["s"]]
            for k in range(int(row["nspan"])):
                y, x0, x1 = (256 * data[6 * k + 2 * j] + data[6 * k + 2 * j + 1] for j in range(3))
                for x in range(x0, x1 + 1):
                    if 0 <= y < shape[0] and 0 <= x < shape[1]:
                        flagged[y, x] = True
    return flagged

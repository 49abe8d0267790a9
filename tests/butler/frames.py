"""Small FITS frames of an invented camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from zeropoint.instruments.card import CameraCard

CARD: dict[str, Any] = {
    "instrument": "TestCam",
    "gain": {"key": "GAIN"},
    "exposure_time": {"key": "EXPTIME"},
    "date": {"value": {"key": "DATE-OBS"}},
    "filter": {"key": "FILTER"},
    "bands": {"test_r": "r"},
    "object": {"key": "OBJECT"},
    "visit": {"key": "VISIT"},
    "detector": {"id": {"key": "CCD"}},
    "observatory": {"longitude_deg": -70.0, "latitude_deg": -30.0, "elevation_m": 2000.0},
    "wcs": {"from": "header"},
}
#: Pixels are 0.36 arcsec wide.
HEADER: dict[str, Any] = {
    "GAIN": 2.0,
    "EXPTIME": 30.0,
    "DATE-OBS": "2020-03-01T02:00:00",
    "FILTER": "test_r",
    "OBJECT": "a field",
    "VISIT": 1,
    "CCD": 3,
    "INSTRUME": "TheCamera",
    "CTYPE1": "RA---TAN",
    "CTYPE2": "DEC--TAN",
    "CRVAL1": 10.0,
    "CRVAL2": 20.0,
    "CRPIX1": 50.5,
    "CRPIX2": 40.5,
    "CDELT1": -1e-4,
    "CDELT2": 1e-4,
}
WIDTH, HEIGHT = 100, 80


def card(**changes: Any) -> CameraCard:
    return CameraCard("testcam", "testcam.yaml", CARD | changes)


def frame(path: Path, **changes: Any) -> Path:
    """Write a frame; a header value of None leaves the key out."""
    header = {key: value for key, value in (HEADER | changes).items() if value is not None}
    pixels = np.random.default_rng(int(header.get("VISIT", 0))).normal(100, 5, (HEIGHT, WIDTH))
    fits.PrimaryHDU(pixels.astype(np.float32), fits.Header(header)).writeto(path, overwrite=True)
    return path


def frames(folder: Path, n: int, **changes: Any) -> list[Path]:
    """Write frames of visits 1 to n, a minute apart."""
    return [
        frame(folder / f"{i}.fits", **({"VISIT": i, "DATE-OBS": f"2020-03-01T02:{i:02d}:00"} | changes))
        for i in range(1, n + 1)
    ]

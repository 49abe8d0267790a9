"""Import every module that registers plugins."""

from __future__ import annotations

import importlib
import importlib.util

__all__ = ["MODULES"]

MODULES = (
    "centroids",
    "pixel_flags",
    "psf_flux",
    "aperture_flux",
    "gaussian_flux",
    "local_background",
    "blendedness",
    "geometry",
    "shapes",
    "hsm",
)

for _module in MODULES:
    if importlib.util.find_spec(f"zeropoint.measurement.{_module}") is not None:
        importlib.import_module(f"zeropoint.measurement.{_module}")

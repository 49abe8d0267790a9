"""Import every module that registers plugins."""

from __future__ import annotations

from zeropoint.measurement import (
    aperture_flux,
    blendedness,
    centroids,
    convolved,
    gaap,
    gaussian_flux,
    geometry,
    hsm,
    kron,
    local_background,
    local_calibration,
    pixel_flags,
    psf_flux,
    shapes,
)

__all__ = ["MODULES"]

#: Modules whose import registers plugins.
MODULES = (
    aperture_flux,
    blendedness,
    centroids,
    convolved,
    gaap,
    gaussian_flux,
    geometry,
    hsm,
    kron,
    local_background,
    local_calibration,
    pixel_flags,
    psf_flux,
    shapes,
)

"""Sky coordinates of catalogue rows and their errors."""

from __future__ import annotations

import numpy as np

from zeropoint.datamodel.catalog import SourceCatalog
from zeropoint.datamodel.wcs import SkyWcs

__all__ = ["clear_sky_coords", "update_sky_coords"]

_COORDINATES = ("coord_ra", "coord_dec")
_ERRORS = ("coord_raErr", "coord_decErr", "coord_ra_dec_Cov")


def clear_sky_coords(catalog: SourceCatalog) -> None:
    """Set every sky coordinate and error of a catalogue to NaN, in place."""
    for name in (*_COORDINATES, *_ERRORS):
        if name in catalog:
            catalog[name] = np.nan


def update_sky_coords(catalog: SourceCatalog, wcs: SkyWcs | None, include_errors: bool = True) -> None:
    """Fill the sky coordinates of a catalogue from its centroids, in place.

    Parameters
    ----------
    catalog
        With ``slot_Centroid_x``, ``_y`` (and ``_xErr``, ``_yErr``; ``_x_y_Cov`` if it exists).  ``coord_ra`` and
        ``coord_dec`` (radians) are filled; ``coord_raErr``, ``coord_decErr`` and ``coord_ra_dec_Cov`` too if
        the schema has them.  No column is added.
    wcs
        None clears the coordinates.
    include_errors
        Propagate the centroid errors?

    Notes
    -----
    ``C_sky = J C_pixel J^T`` with the Jacobian ``J`` from pixels to the plane tangent at the source, so the
    error in right ascension is along a great circle (contains cos dec).
    """
    if wcs is None:
        clear_sky_coords(catalog)
        return
    x, y = catalog["slot_Centroid_x"], catalog["slot_Centroid_y"]
    with np.errstate(invalid="ignore"):
        ra, dec = wcs.pixel_to_sky(x=x, y=y)
    catalog["coord_ra"], catalog["coord_dec"] = ra, dec
    if not include_errors or any(name not in catalog for name in (*_ERRORS, "slot_Centroid_xErr")):
        return
    vx = catalog["slot_Centroid_xErr"].astype(np.float64) ** 2
    vy = catalog["slot_Centroid_yErr"].astype(np.float64) ** 2
    cov = np.zeros(len(catalog))
    if "slot_Centroid_x_y_Cov" in catalog:
        known = catalog["slot_Centroid_x_y_Cov"].astype(np.float64)
        cov = np.where(np.isfinite(known), known, 0.0)
    with np.errstate(invalid="ignore"):
        j = wcs.local_jacobian(x=x, y=y)
        east = j[:, 0, 0] ** 2 * vx + 2.0 * j[:, 0, 0] * j[:, 0, 1] * cov + j[:, 0, 1] ** 2 * vy
        north = j[:, 1, 0] ** 2 * vx + 2.0 * j[:, 1, 0] * j[:, 1, 1] * cov + j[:, 1, 1] ** 2 * vy
        both = (
            j[:, 0, 0] * j[:, 1, 0] * vx
            + (j[:, 0, 0] * j[:, 1, 1] + j[:, 0, 1] * j[:, 1, 0]) * cov
            + j[:, 0, 1] * j[:, 1, 1] * vy
        )
        catalog["coord_raErr"], catalog["coord_decErr"] = np.sqrt(east), np.sqrt(north)
    catalog["coord_ra_dec_Cov"] = both

"""The camera that a star list was made with, in the metadata of its visits: what is made of the fit later uses the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.table import Table

from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.errors import InvalidInputError

__all__ = ["AREA_KEY", "FOCAL_PLANE_KEY", "focal_plane_meta", "is_area_applied", "stored_focal_plane"]

#: Where the metadata of ``fgcmVisitCatalog`` have the detectors.
FOCAL_PLANE_KEY = "FOCAL_PLANE"
#: Where they say whether magnitudes were corrected for the areas of pixels.
AREA_KEY = "PIXEL_AREA_APPLIED"


def focal_plane_meta(focal_plane: FocalPlane, *, is_area_applied: bool) -> dict[str, Any]:
    """Return what the metadata of a visit catalogue say of the camera.

    Parameters
    ----------
    focal_plane
        The camera.
    is_area_applied
        Whether the magnitudes of the star list are corrected for the areas of its pixels.
    """
    table = focal_plane.to_table()
    columns = {name: np.asarray(table[name]).tolist() for name in table.colnames}
    return {FOCAL_PLANE_KEY: columns, AREA_KEY: bool(is_area_applied)}


def stored_focal_plane(visits: Table) -> FocalPlane | None:
    """Return the camera that a star list was made with.

    Parameters
    ----------
    visits
        ``fgcmVisitCatalog``, with its metadata.

    Returns
    -------
    focal_plane
        None: the metadata do not say, as those of lists made from tables.

    Raises
    ------
    InvalidInputError
        If what they say is not complete.
    """
    columns = visits.meta.get(FOCAL_PLANE_KEY)
    if columns is None:
        return None
    try:
        return FocalPlane.from_table(Table({name: np.array(values) for name, values in columns.items()}))
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInputError(
            f"The focal plane in the metadata of fgcmVisitCatalog cannot be read ({error}); make the star list again."
        ) from error


def is_area_applied(visits: Table) -> bool | None:
    """Return whether magnitudes of a star list were corrected for the areas of pixels; None: it does not say.

    Parameters
    ----------
    visits
        ``fgcmVisitCatalog``, with its metadata.
    """
    value = visits.meta.get(AREA_KEY)
    return None if value is None else bool(value)

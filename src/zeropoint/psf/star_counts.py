"""How many stars a PSF model takes: the highest order and the finest model pixels that they allow."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from zeropoint.psf.sanity import FWHM_PER_SIGMA

__all__ = [
    "MINIMUM_STARS",
    "STARS_PER_TERM",
    "STARS_PER_TERM_FINE",
    "affordable_order",
    "fine_grid_side",
    "spatial_terms",
    "stars_per_term",
    "typical_fwhm",
]

_LOG = logging.getLogger(__name__)

#: Stars wanted for each polynomial term; with fewer the spatial order falls.
STARS_PER_TERM = 3
#: The same where model pixels are smaller than the detector's, so that four times as many are to be found.
STARS_PER_TERM_FINE = 12
#: No PSF from fewer stars than this.
MINIMUM_STARS = 3
#: An undersampled PSF is modelled with half-size pixels, out to half this many FWHM on either side, on a grid of at most
#: `FINE_GRID_MAX` model pixels on a side.
FINE_GRID_FWHM = 8.0
FINE_GRID_MAX = 41
#: Below this FWHM (pixels) whole model pixels still make the PSF up to 1 % too large. Half-size ones do not; they are
#: used if there are stars enough for the order wanted, out to half this many FWHM.
SHARP_FWHM = 2.8
SHARP_GRID_FWHM = 6.0


def spatial_terms(order: int) -> int:
    """Return the number of terms of a polynomial in x and y."""
    return (order + 1) * (order + 2) // 2


def stars_per_term(scale: float) -> int:
    """Return how many stars each term takes, for model pixels of a size in detector pixels."""
    return STARS_PER_TERM_FINE if scale < 1 else STARS_PER_TERM


def affordable_order(
    n_stars: int, order: int, per_term: int, n_terms: Callable[[int], int] = spatial_terms
) -> int:
    """Return the highest order up to ``order`` for which there are enough stars.

    Parameters
    ----------
    n_stars
        Number of stars.
    order
        Order wanted.
    per_term
        Stars that each term takes.
    n_terms
        Number of terms of an order.
    """
    while order > 0 and n_stars < per_term * n_terms(order):
        order -= 1
    return order


def typical_fwhm(sizes: npt.NDArray[np.float64]) -> float:
    """Return the FWHM of the typical star, pixels; NaN if none is known.

    Parameters
    ----------
    sizes : float64, shape (n,)
        Equivalent sigmas of the stars, pixels; NaN where unknown.
    """
    known = sizes[np.isfinite(sizes)]
    return FWHM_PER_SIGMA * float(np.median(known)) if len(known) else math.nan


def fine_grid_side(fwhm: float, undersampled_fwhm: float, *, many: bool, stamp_side: int) -> int | None:
    """Return the side of a grid of half-size model pixels, or None where whole ones serve.

    Parameters
    ----------
    fwhm
        Of the typical star, pixels; NaN if unknown.
    undersampled_fwhm
        Half-size pixels are used below this FWHM, pixels; 0 never.
    many
        Whether there are `STARS_PER_TERM_FINE` stars for each term wanted: then below `SHARP_FWHM`, too.
    stamp_side
        Side of the stars' stamps, pixels.
    """
    limit = max(undersampled_fwhm, SHARP_FWHM) if many else undersampled_fwhm
    if undersampled_fwhm <= 0 or not fwhm < limit:
        return None
    _LOG.info("The stars' FWHM is %.2f pixels: the PSF is modelled with half-size pixels.", fwhm)
    reach = FINE_GRID_FWHM if fwhm < undersampled_fwhm else SHARP_GRID_FWHM
    return 2 * min(math.ceil(reach * fwhm), FINE_GRID_MAX // 2, stamp_side) + 1

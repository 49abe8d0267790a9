"""Second moments on the sky: along East and North, and along altitude and azimuth."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.catalog import ColumnSpec, SourceCatalog
from zeropoint.datamodel.exposure import VisitInfo
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.quality.depth import horizontal_position

__all__ = ["SKY_MOMENT_COLUMNS", "add_sky_moments", "parallactic_angle", "sky_moments"]

_LOG = logging.getLogger(__name__)

_ARCSEC = 648000.0 / np.pi
_STEP_DEG = 0.01
_PAIRS = {"uu": "along East", "vv": "along North", "uv": "East-North"}
_ALT_AZ = {"altalt": "along altitude", "azaz": "along azimuth", "altaz": "altitude-azimuth"}

#: Columns that `add_sky_moments` fills.
SKY_MOMENT_COLUMNS = tuple(
    ColumnSpec(f"{what}_I{pair}", "f4", "arcsec2", f"second moment of the {subject} on the sky, {doc}")
    for what, subject in (("shape", "source"), ("psfShape", "PSF"))
    for pair, doc in (_PAIRS | _ALT_AZ).items()
)


def parallactic_angle(info: VisitInfo) -> float:
    """Return the direction of the zenith at a visit's boresight, radians from North through East; NaN if unknown.

    It is the direction in which the altitude grows, from differences to the four sides.
    """
    ra, dec = info.boresight_ra_deg, info.boresight_dec_deg
    east = _STEP_DEG / np.cos(np.deg2rad(dec))
    rise = [
        horizontal_position(info, ra + i * east, dec + j * _STEP_DEG)[1]
        for i, j in ((1, 0), (-1, 0), (0, 1), (0, -1))
    ]
    return float(np.arctan2(rise[0] - rise[1], rise[2] - rise[3]))


def sky_moments(
    xx: np.ndarray, yy: np.ndarray, xy: np.ndarray, jacobian: np.ndarray, parallactic: float
) -> dict[str, npt.NDArray[np.float64]]:
    """Return second moments on the sky, arcsec^2; NaN where an input is.

    Parameters
    ----------
    xx, yy, xy : float64, shape (n,)
        Moments in pixels.
    jacobian : float64, shape (n, 2, 2)
        d(East, North)/d(x, y), rad/pixel.
    parallactic
        From `parallactic_angle`.

    Returns
    -------
    moments
        ``uu``, ``vv``, ``uv``: East and North; ``altalt``, ``azaz``, ``altaz``: towards the zenith, and towards
        growing azimuth (North through East).
    """
    tensor = np.stack([np.stack([xx, xy], -1), np.stack([xy, yy], -1)], -2)
    scale = jacobian * _ARCSEC
    sky = scale @ tensor @ np.swapaxes(scale, -1, -2)
    uu, vv, uv = sky[:, 0, 0], sky[:, 1, 1], sky[:, 0, 1]
    s, c = np.sin(parallactic), np.cos(parallactic)
    # the zenith lies towards (s, c), growing azimuth towards (-c, s)
    return {
        "uu": uu,
        "vv": vv,
        "uv": uv,
        "altalt": s * s * uu + 2.0 * s * c * uv + c * c * vv,
        "azaz": c * c * uu - 2.0 * s * c * uv + s * s * vv,
        "altaz": s * c * (vv - uu) + (s * s - c * c) * uv,
    }


def add_sky_moments(catalog: SourceCatalog, wcs: SkyWcs, info: VisitInfo) -> None:
    """Fill `SKY_MOMENT_COLUMNS` from the shape slots, in place.

    Without the visit's boresight, time and site those along altitude and azimuth are NaN, with a warning.

    Parameters
    ----------
    catalog
        With ``slot_Centroid``, ``slot_Shape`` and ``slot_PsfShape``.
    wcs
        WCS of the image.
    info
        Visit.
    """
    x, y = catalog["slot_Centroid_x"], catalog["slot_Centroid_y"]
    jacobian = np.full((len(catalog), 2, 2), np.nan)
    known = np.isfinite(x) & np.isfinite(y)
    jacobian[known] = wcs.local_jacobian(x=x[known], y=y[known])
    parallactic = parallactic_angle(info)
    if not np.isfinite(parallactic):
        _LOG.warning(
            "visit %d: boresight, time or site is unknown: moments along altitude and azimuth are unset.",
            info.visit,
        )
    for what, slot in (("shape", "slot_Shape"), ("psfShape", "slot_PsfShape")):
        xx, yy, xy = (catalog[f"{slot}_{part}"] for part in ("xx", "yy", "xy"))
        for name, values in sky_moments(xx, yy, xy, jacobian, parallactic).items():
            catalog[f"{what}_I{name}"] = values

"""What a list of matches says about the reference objects that were looked for, so that they can be loaded again."""

from __future__ import annotations

import numpy as np

from zeropoint.datamodel.wcs import SkyWcs, angular_separation

__all__ = ["match_metadata"]

#: Pixels between the box and the outer and inner outlines.
_OUTLINE_PIXELS = 100.0
_CORNERS = (("UPPER_LEFT", 0, 1), ("UPPER_RIGHT", 1, 1), ("LOWER_LEFT", 0, 0), ("LOWER_RIGHT", 1, 0))


def match_metadata(
    wcs: SkyWcs,
    shape: tuple[int, int],
    *,
    band: str,
    mjd_tai: float = float("nan"),
    pixel_margin: float = 250.0,
) -> dict[str, str | int | float]:
    """Return the metadata of the matches of an image, as the LSST Science Pipelines write them.

    Parameters
    ----------
    wcs
        The image's WCS when the references were loaded.
    shape
        (height, width) of the image.
    band
        Its band.
    mjd_tai
        Its epoch; NaN if unknown.
    pixel_margin
        Margin within which references were loaded (``pixelMargin``).

    Returns
    -------
    dict
        ``RA``, ``DEC`` and ``RADIUS`` (degrees) of a circle around the padded box; ``SMATCHV`` = 2, ``FILTER``,
        ``TIMESYS``, ``JEPOCH`` (Julian year; without an epoch left out); and the corners of the box 100 pixels
        outside and inside of the padded one, ``OUTER_UPPER_LEFT_RA`` and so on (degrees).
    """
    height, width = shape
    ra, dec = wcs.pixel_to_sky(x=0.5 * (width - 1), y=0.5 * (height - 1))
    corner_ra, corner_dec = _corners(wcs, shape, pixel_margin)
    radius = np.max(angular_separation(corner_ra, corner_dec, ra, dec))
    metadata: dict[str, str | int | float] = {
        "RA": float(np.rad2deg(ra)) % 360.0,
        "DEC": float(np.rad2deg(dec)),
        "RADIUS": float(np.rad2deg(radius)),
        "SMATCHV": 2,
        "FILTER": band,
        "TIMESYS": "TAI",
    }
    if np.isfinite(mjd_tai):
        metadata["JEPOCH"] = 2000.0 + (mjd_tai - 51544.5) / 365.25
    for which, extra in (("OUTER", _OUTLINE_PIXELS), ("INNER", -_OUTLINE_PIXELS)):
        ras, decs = _corners(wcs, shape, pixel_margin + extra)
        for (name, _, _), one_ra, one_dec in zip(_CORNERS, ras, decs, strict=True):
            metadata[f"{which}_{name}_RA"] = float(np.rad2deg(one_ra)) % 360.0
            metadata[f"{which}_{name}_DEC"] = float(np.rad2deg(one_dec))
    return metadata


def _corners(wcs: SkyWcs, shape: tuple[int, int], margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Return right ascensions and declinations (radians) of the corners of the grown box, in the order above."""
    height, width = shape
    x = np.array([(-0.5 - margin, width - 0.5 + margin)[right] for _, right, _ in _CORNERS])
    y = np.array([(-0.5 - margin, height - 0.5 + margin)[upper] for _, _, upper in _CORNERS])
    ra, dec = wcs.pixel_to_sky(x=x, y=y)
    return np.asarray(ra), np.asarray(dec)

"""Ordinary FITS header cards of a visit image, for tools that do not read lsst-images' JSON tree."""

from __future__ import annotations

import astropy.units as u
import numpy as np
from astropy.io import fits
from lsst.images import VisitImage

__all__ = ["add_ordinary_cards"]

_FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
#: AB magnitude of one nanojansky.
_NANOJANSKY = 31.4
#: Numbers of the photometric fit under Rubin's keys, which are longer than plain cards allow.
_FIT_CARDS = {
    "MAGZERO_RMS": "[mag] error of the zeropoint",
    "MAGZERO_NOBJ": "stars behind the zeropoint",
    "COLORTERM1": "c0 of camera - catalog = c0 + c1 C + c2 C^2",
    "COLORTERM2": "c1, C being the color of the color term",
    "COLORTERM3": "c2",
}


def add_ordinary_cards(header: fits.Header, image: VisitImage) -> None:
    """Add what ordinary FITS tools look for to a header, in place: instrument, filter, times, zeropoint, seeing.

    Parameters
    ----------
    header
        Primary header of the file to be written.
    image
        The image; what it does not know gives no card.
    """
    info = image.obs_info
    _add(header, "INSTRUME", info.instrument, "instrument")
    _add(header, "DETECTOR", info.detector_num, "number of the detector")
    _add(header, "FILTER", info.physical_filter, "physical filter")
    _add(header, "OBJECT", info.object, "object or field")
    if info.exposure_time is not None:
        _add(header, "EXPTIME", float(info.exposure_time.to_value(u.s)), "[s] exposure time")
    if info.datetime_begin is not None and info.datetime_end is not None:
        begin, end = info.datetime_begin, info.datetime_end
        middle = begin + 0.5 * (end - begin)
        _add(header, "TIMESYS", "UTC", "time system of DATE-* and MJD-OBS")
        _add(header, "DATE-OBS", begin.utc.isot, "beginning of the exposure")
        _add(header, "MJD-OBS", float(begin.utc.mjd), "[d] beginning of the exposure, UTC")
        _add(header, "DATE-END", end.utc.isot, "end of the exposure")
        _add(header, "MJD-MID", float(middle.tai.mjd), "[d] middle of the exposure, TAI")
    if info.boresight_airmass is not None:
        _add(header, "AIRMASS", float(info.boresight_airmass), "airmass")
    _add_photometry(header, image)
    stats = image.summary_stats
    fwhm = _FWHM_PER_SIGMA * stats.psfSigma * stats.pixelScale
    if np.isfinite(fwhm):
        _add(header, "SEEING", round(float(fwhm), 4), "[arcsec] PSF full width at half maximum")


def _add_photometry(header: fits.Header, image: VisitImage) -> None:
    """Add the zeropoints of the image's unit and of one electron, and what its fit says of itself."""
    rate = image.metadata.get("MAGZERO")
    if isinstance(rate, (int, float)):  # Rubin's older tasks give that of one count per second
        _add(header, "MAGZERO", float(rate), "[mag] AB magnitude of one electron per second")
    elif image.unit == u.nJy:
        _add(header, "MAGZERO", _NANOJANSKY, "[mag] AB magnitude of one unit of the image")
    for key, comment in _FIT_CARDS.items():
        value = image.metadata.get(key)
        if isinstance(value, (int, float)):
            _add(header, f"HIERARCH {key}", value, comment)
    scaling = image.photometric_scaling
    if scaling is None or scaling.unit is None or not scaling.unit.is_equivalent(u.nJy / u.electron):
        return
    y, x = (0.5 * (axis.start + axis.stop - 1) for axis in (image.bbox.y, image.bbox.x))
    mean = float(scaling(x=x, y=y)) * scaling.unit.to(u.nJy / u.electron)
    if not (np.isfinite(mean) and mean > 0):
        return
    zeropoint = round(_NANOJANSKY - 2.5 * float(np.log10(mean)), 6)
    if image.unit == u.electron and "MAGZERO" not in header:
        _add(header, "MAGZERO", zeropoint, "[mag] AB magnitude of one unit of the image")
    where = "one electron" if scaling.is_constant else "an electron at the center"
    _add(header, "MAGZPINS", zeropoint, f"[mag] AB magnitude of {where}")


def _add(header: fits.Header, key: str, value: str | float | None, comment: str) -> None:
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return
    if isinstance(value, str):
        # a header holds printable ASCII only
        value = "".join(c if " " <= c <= "~" else "?" for c in value)
    header[key] = (value, comment)

"""Residuals of PSF, astrometry and photometry, star by star: what metrics summarise and plots show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from zeropoint.datamodel.catalog import column, has_column
from zeropoint.datamodel.exposure import AB_FLUX_NJY
from zeropoint.quality.report_data import ReportData

__all__ = [
    "AstrometryResiduals",
    "PhotometryResiduals",
    "PsfResiduals",
    "astrometry_residuals",
    "flags",
    "floats",
    "photometry_residuals",
    "psf_residuals",
    "star_magnitudes",
]

_ARCSEC = np.pi / 648000.0
_MAG = 2.5 / np.log(10.0)
#: Pairs of reference bands that make a color, the first that exists wins.
_COLORS = (
    ("g", "i"),
    ("g", "r"),
    ("r", "i"),
    ("i", "z"),
    ("phot_bp_mean", "phot_rp_mean"),
    ("bp", "rp"),
    ("BT", "VT"),
    ("bt", "vt"),
    ("B", "V"),
    ("u", "g"),
    ("z", "y"),
)


@dataclass(frozen=True)
class PsfResiduals:
    """Size and shape of PSF stars against the PSF model.

    Parameters
    ----------
    x, y
        Pixels.
    mag
        Magnitude of the PSF flux: AB with a zeropoint, else instrumental.
    snr
        Signal to noise of the PSF flux.
    size
        ``T = Ixx + Iyy`` of the star, pixels squared.
    dsize
        ``(T_star - T_model) / T_model``.
    e1, e2, de1, de2
        Ellipticity ``(Ixx - Iyy, 2 Ixy) / T`` of the star, and star minus model.
    used, reserved
        Stars of the fit, and stars kept out of it.
    """

    x: np.ndarray
    y: np.ndarray
    mag: np.ndarray
    snr: np.ndarray
    size: np.ndarray
    dsize: np.ndarray
    e1: np.ndarray
    e2: np.ndarray
    de1: np.ndarray
    de2: np.ndarray
    used: np.ndarray
    reserved: np.ndarray


@dataclass(frozen=True)
class AstrometryResiduals:
    """Source minus reference position of each astrometric match.

    Parameters
    ----------
    x, y
        Pixels.
    east, north
        Source minus reference, arcsec on the sky.
    ref_mag, src_mag
        Reference magnitude (NaN if it has none) and instrumental magnitude.
    used
        Matches that the fit used.
    """

    x: np.ndarray
    y: np.ndarray
    east: np.ndarray
    north: np.ndarray
    ref_mag: np.ndarray
    src_mag: np.ndarray
    used: np.ndarray


@dataclass(frozen=True)
class PhotometryResiduals:
    """Reference minus calibrated magnitude of each photometric match.

    Parameters
    ----------
    x, y
        Pixels.
    residual, error
        Magnitudes; the error is of source and reference together.
    mag
        Reference magnitude.
    snr
        Signal to noise of the source.
    color, color_name
        Color from two reference bands (NaN without) and its name.
    used
        Matches behind the zeropoint.
    """

    x: np.ndarray
    y: np.ndarray
    residual: np.ndarray
    error: np.ndarray
    mag: np.ndarray
    snr: np.ndarray
    color: np.ndarray
    color_name: str
    used: np.ndarray


def floats(table: Any, name: str, n: int | None = None) -> np.ndarray:
    """Return a column as float64, NaN where masked or if there is no such column."""
    if not has_column(table, name):
        return np.full(len(table) if n is None else n, np.nan)
    values = table[name]
    if hasattr(values, "filled"):
        values = values.astype(np.float64).filled(np.nan)
    else:
        values = column(table, name)
    return np.asarray(values, np.float64)


def flags(table: Any, name: str) -> np.ndarray:
    """Return a boolean column, False if there is no such column."""
    return column(table, name).astype(bool) if has_column(table, name) else np.zeros(len(table), bool)


def _magnitude(flux: np.ndarray, zeropoint: float) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(flux > 0, zeropoint - 2.5 * np.log10(flux), np.nan)


def star_magnitudes(data: ReportData, table: Any, name: str = "slot_PsfFlux_instFlux") -> np.ndarray:
    """Return magnitudes of an instrumental flux: AB if there is a zeropoint, else instrumental."""
    zeropoint = data.zeropoint
    return _magnitude(floats(table, name), zeropoint if np.isfinite(zeropoint) else 0.0)


# -- PSF ------------------------------------------------------------------------------------------------


def psf_residuals(data: ReportData) -> PsfResiduals | None:
    """Return the residuals of used and reserved PSF stars, or None if there are none to compare.

    The deep catalogue is preferred, where star and model were measured by the same code on the final
    pixels; else the model is evaluated at the stars of the PSF phase.
    """
    moments = ("xx", "yy", "xy")
    stars = data.stars
    if stars is not None and len(stars) and all(has_column(stars, f"slot_PsfShape_{m}") for m in moments):
        rows = np.flatnonzero(_psf_star_rows(stars))
        if len(rows):
            model = [floats(stars, f"slot_PsfShape_{m}")[rows] for m in moments]
            return _psf_residuals(data, stars, rows, model)
    table, psf = data.psf_stars, data.exposure.psf
    if table is None or psf is None or not has_column(table, "slot_Shape_xx"):
        return None
    x, y = floats(table, "slot_Centroid_x"), floats(table, "slot_Centroid_y")
    rows = np.flatnonzero(_psf_star_rows(table) & np.isfinite(x) & np.isfinite(y))
    if len(rows) == 0:
        return None
    shapes = psf.shapes(x=x[rows], y=y[rows])
    return _psf_residuals(data, table, rows, [shapes.xx, shapes.yy, shapes.xy])


def _psf_star_rows(table: Any) -> np.ndarray:
    chosen = flags(table, "calib_psf_used") | flags(table, "calib_psf_reserved")
    return chosen & ~flags(table, "slot_Shape_flag") & np.isfinite(floats(table, "slot_Shape_xx"))


def _psf_residuals(data: ReportData, table: Any, rows: np.ndarray, model: list[np.ndarray]) -> PsfResiduals:
    xx, yy, xy = (floats(table, f"slot_Shape_{m}")[rows] for m in ("xx", "yy", "xy"))
    mxx, myy, mxy = (np.asarray(m, np.float64) for m in model)
    flux, flux_err = floats(table, "slot_PsfFlux_instFlux"), floats(table, "slot_PsfFlux_instFluxErr")
    size, model_size = xx + yy, mxx + myy
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = (flux / flux_err)[rows]
        e1, e2 = (xx - yy) / size, 2.0 * xy / size
        de1, de2 = e1 - (mxx - myy) / model_size, e2 - 2.0 * mxy / model_size
        dsize = (size - model_size) / model_size
    return PsfResiduals(
        x=floats(table, "slot_Centroid_x")[rows],
        y=floats(table, "slot_Centroid_y")[rows],
        mag=star_magnitudes(data, table)[rows],
        snr=snr,
        size=size,
        dsize=dsize,
        e1=e1,
        e2=e2,
        de1=de1,
        de2=de2,
        used=flags(table, "calib_psf_used")[rows],
        reserved=flags(table, "calib_psf_reserved")[rows],
    )


# -- astrometry -----------------------------------------------------------------------------------------


def astrometry_residuals(data: ReportData) -> AstrometryResiduals | None:
    """Return the residuals of the astrometric matches under the final WCS, or None without matches.

    Without a WCS (it was withdrawn) the source coordinates in the table are used.
    """
    matches = data.astrometry_matches
    if matches is None or len(matches) == 0:
        return None
    x, y = floats(matches, "src_slot_Centroid_x"), floats(matches, "src_slot_Centroid_y")
    if data.exposure.wcs is not None:
        ra, dec = data.exposure.wcs.pixel_to_sky(x=x, y=y)
    else:
        ra, dec = floats(matches, "src_coord_ra"), floats(matches, "src_coord_dec")
    ref_ra, ref_dec = floats(matches, "ref_coord_ra"), floats(matches, "ref_coord_dec")
    turned = np.mod(ra - ref_ra + np.pi, 2.0 * np.pi) - np.pi
    flux_name = _reference_flux(data, matches)
    ref_flux = floats(matches, flux_name) if flux_name else np.full(len(matches), np.nan)
    return AstrometryResiduals(
        x=x,
        y=y,
        east=turned * np.cos(ref_dec) / _ARCSEC,
        north=(dec - ref_dec) / _ARCSEC,
        ref_mag=_magnitude(ref_flux / AB_FLUX_NJY, 0.0),
        src_mag=_magnitude(floats(matches, "src_slot_PsfFlux_instFlux"), 0.0),
        used=_used(matches, "src_calib_astrometry_used"),
    )


def _used(matches: Any, flag: str) -> np.ndarray:
    if has_column(matches, "used"):
        return flags(matches, "used")
    chosen = flags(matches, flag)
    return chosen if chosen.any() else np.ones(len(matches), bool)


def _reference_flux(data: ReportData, matches: Any) -> str:
    """Return the column of the reference flux: as told, of the band, or the only or best filled one."""
    for name in (data.reference_flux, f"{data.band}_flux"):
        if name and has_column(matches, f"ref_{name}"):
            return f"ref_{name}"
    names = [n for n in _names(matches) if n.startswith("ref_") and n.endswith("_flux")]
    return max(names, key=lambda name: int(np.sum(floats(matches, name) > 0)), default="")


def _names(table: Any) -> list[str]:
    return list(getattr(table, "colnames", None) or getattr(table, "column_names", []))


# -- photometry -----------------------------------------------------------------------------------------


def photometry_residuals(data: ReportData) -> PhotometryResiduals | None:
    """Return the residuals of the photometric matches, or None without matches or zeropoint.

    A column ``residual`` of the matches, if there is one, is used as it is: it includes color terms.
    """
    matches, zeropoint = data.photometry_matches, data.zeropoint
    if matches is None or len(matches) == 0 or not np.isfinite(zeropoint):
        return None
    flux_name = _reference_flux(data, matches)
    ref_flux = floats(matches, flux_name)
    ref_err = floats(matches, f"{flux_name}Err")
    flux, flux_err = floats(matches, f"src_{data.flux_column}"), floats(matches, f"src_{data.flux_column}Err")
    ref_mag = _magnitude(ref_flux / AB_FLUX_NJY, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.hypot(_MAG * flux_err / flux, np.nan_to_num(_MAG * ref_err / ref_flux))
        snr = flux / flux_err
    computed = ref_mag - _magnitude(flux, zeropoint)
    residual = floats(matches, "residual") if has_column(matches, "residual") else computed
    color, color_name = _color(matches)
    return PhotometryResiduals(
        x=floats(matches, "src_slot_Centroid_x"),
        y=floats(matches, "src_slot_Centroid_y"),
        residual=residual,
        error=error,
        mag=ref_mag,
        snr=snr,
        color=color,
        color_name=color_name,
        used=_used(matches, "src_calib_photometry_used"),
    )


def _color(matches: Any) -> tuple[np.ndarray, str]:
    """Return the color of the references and its name: a usual pair of bands, else the first two."""
    bands = [n[4:-5] for n in _names(matches) if n.startswith("ref_") and n.endswith("_flux")]
    filled = [b for b in bands if np.mean(floats(matches, f"ref_{b}_flux") > 0) > 0.5]
    pairs = [pair for pair in _COLORS if pair[0] in filled and pair[1] in filled]
    if not pairs and len(filled) >= 2:
        pairs = [(filled[0], filled[1])]
    if not pairs:
        return np.full(len(matches), np.nan), ""
    first, second = pairs[0]
    a, b = floats(matches, f"ref_{first}_flux"), floats(matches, f"ref_{second}_flux")
    return _magnitude(a, 0.0) - _magnitude(b, 0.0), f"{first} − {second}"

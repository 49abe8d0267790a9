"""Every number reported with a run, flat and JSON-able."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zeropoint.datamodel.catalog import has_column
from zeropoint.datamodel.mask_planes import LEGACY_NAMES, PLANES, plane_bit
from zeropoint.quality.report_data import ReportData
from zeropoint.quality.residuals import (
    PsfResiduals,
    astrometry_residuals,
    flags,
    floats,
    photometry_residuals,
    psf_residuals,
)
from zeropoint.quality.robust import binned_spatial_rms, clipped_mean, fit_line, mad_sigma

__all__ = ["EXTRA_NAMES", "Metric", "compute_metrics", "write_metrics"]

Metric = float | int | str

_ARCSEC = np.pi / 648000.0
#: Standard deviation to full width at half maximum of a Gaussian.
SIGMA_TO_FWHM = 2.354820045030949
#: Aperture in which sky sources are measured (pixels) and its column.
SKY_APERTURE = 12.0
_SKY_FLUX = "base_CircularApertureFlux_12_0_instFlux"
_PSF_AP_CORR = "base_PsfFlux_instFlux"

#: Name in ``ReportData.extra`` (as the fits give it) -> name among the metrics.
EXTRA_NAMES = {
    "hold_out_east": "astrom_hold_out_east_arcsec",
    "hold_out_north": "astrom_hold_out_north_arcsec",
    "n_chance_expected": "astrom_n_chance_expected",
    "log10_false_probability": "astrom_log10_false_probability",
    "n_sources": "astrom_n_sources",
    "n_references": "astrom_n_references",
    "n_astrometry_sources": "astrom_n_sources",
    "n_astrometry_references": "astrom_n_references",
    "match_method": "astrom_match_method",
    "iterations": "astrom_iterations",
    "initial_to_final_wcs": "initial_to_final_wcs_arcsec",
    "hold_out_scatter": "photom_hold_out_scatter_mag",
    "zeropoint_hold_out": "photom_hold_out_scatter_mag",
    "hold_out_zp_std": "photom_hold_out_zp_std_mag",
    "excess_scatter": "photom_excess_scatter_mag",
    "zeropoint_err": "zeropoint_err",
    "color_term_kept": "color_term_kept",
    "color_term_slope": "color_term_slope",
    "color_term_slope_err": "color_term_slope_err",
}


def compute_metrics(data: ReportData) -> dict[str, Metric]:
    """Return the metrics of an image; what was not reached is NaN.

    Parameters
    ----------
    data
        Results of one image.

    Returns
    -------
    metrics
        Plain numbers and strings.  Names follow ObservationSummaryStats where it has one.  Lengths are in
        pixels unless the name says ``arcsec`` or ``mas``; fluxes and sky are in electrons, magnitudes are AB.
    """
    metrics: dict[str, Metric] = {}
    metrics.update(_identity(data))
    metrics.update(_summary(data))
    metrics.update(_extra(data))
    metrics.update(_counts(data))
    metrics.update(_psf(data, metrics))
    metrics.update(_astrometry(data, metrics))
    metrics.update(_photometry(data, metrics))
    metrics.update(_aperture_correction(data))
    metrics.update(_pixels(data))
    metrics.update(_sky_sources(data, metrics))
    return {name: _plain(value) for name, value in metrics.items()}


def write_metrics(path: str | Path, metrics: Mapping[str, Any], run: Mapping[str, Any] | None = None) -> None:
    """Write metrics as JSON, in one step; NaN and infinities become null.

    Parameters
    ----------
    path
        File to write.
    metrics
        Flat metrics; lists of strings (reasons, caveats) are welcome too.
    run
        What differs between two runs on the same input: times, dates, versions; goes under ``run``.
    """
    target = Path(path)
    content = {key: _json(value) for key, value in metrics.items()}
    if run is not None:
        content["run"] = _json(dict(run))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


# -- parts ----------------------------------------------------------------------------------------------


def _identity(data: ReportData) -> dict[str, Metric]:
    info = data.exposure.visit_info
    return {
        "image": data.stem,
        "camera": data.camera or data.exposure.detector.instrument,
        "band": data.band or info.band,
        "references": data.references,
        "airmass": info.airmass,
    }


def _summary(data: ReportData) -> dict[str, Metric]:
    """Return the scalars of the summary; those of a whole visit, which stay NaN here, are left out."""
    if data.summary is None:
        return {}
    values: dict[str, Metric] = {
        name: value
        for name, value in data.summary.model_dump().items()
        if isinstance(value, int | float) and not name.startswith(("psfTE", "min_read"))
    }
    fwhm = SIGMA_TO_FWHM * data.summary.psfSigma
    return values | {"fwhm_pix": fwhm, "fwhm_arcsec": fwhm * data.summary.pixelScale}


def _extra(data: ReportData) -> dict[str, Metric]:
    result: dict[str, Metric] = {}
    for name, value in data.extra.items():
        if isinstance(value, int | float | str | np.number | np.bool_):
            result[EXTRA_NAMES.get(name, name)] = _plain(value)
    return result


def _counts(data: ReportData) -> dict[str, Metric]:
    result: dict[str, Metric] = {"n_sources": 0, "n_sky_sources": 0}
    if data.stars is not None:
        sky = flags(data.stars, "sky_source")
        result["n_sources"], result["n_sky_sources"] = int(np.sum(~sky)), int(np.sum(sky))
    table = data.psf_stars if data.psf_stars is not None else data.stars
    for name in ("candidate", "used", "reserved"):
        chosen = flags(table, f"calib_psf_{name}").sum() if table is not None else 0
        result[f"n_psf_{'candidates' if name == 'candidate' else name}"] = int(chosen)
    result["cosmic_ray_count"] = data.metadata.get("cosmic_ray_count", float("nan"))
    return result


def _psf(data: ReportData, metrics: Mapping[str, Any]) -> dict[str, Metric]:
    """Residuals of used and reserved PSF stars; the ``excess`` of a mean is what 3 of its errors leave."""
    residuals = psf_residuals(data)
    nan = float("nan")
    result: dict[str, Metric] = {"psf_size_variation": nan}
    sigma, delta = metrics.get("psfSigma", nan), metrics.get("psfTraceRadiusDelta", nan)
    if sigma > 0:
        result["psf_size_variation"] = delta / sigma
    for kind in ("used", "reserved"):
        quantities = _psf_quantities(residuals, kind)
        for name, values in quantities.items():
            mean, error = clipped_mean(values)
            result[f"{name}_{kind}_mean"], result[f"{name}_{kind}_err"] = mean, error
            result[f"{name}_{kind}_scatter"] = mad_sigma(values)
            result[f"{name}_{kind}_excess"] = float(np.fmax(abs(mean) - 3.0 * np.nan_to_num(error), 0.0))
            if not np.isfinite(mean):
                result[f"{name}_{kind}_excess"] = nan
    return result


def _psf_quantities(residuals: PsfResiduals | None, kind: str) -> dict[str, np.ndarray]:
    if residuals is None:
        return {"dT_T": np.zeros(0), "de1": np.zeros(0), "de2": np.zeros(0)}
    rows = residuals.used if kind == "used" else residuals.reserved
    return {"dT_T": residuals.dsize[rows], "de1": residuals.de1[rows], "de2": residuals.de2[rows]}


def _astrometry(data: ReportData, metrics: Mapping[str, Any]) -> dict[str, Metric]:
    nan = float("nan")
    residuals = astrometry_residuals(data)
    scale = data.pixel_scale
    result: dict[str, Metric] = {
        "astrom_n_match": 0 if residuals is None else len(residuals.east),
        "astrom_n_used": 0 if residuals is None else int(residuals.used.sum()),
        "wcs_fits_residual_mas": _fits_residual(data),
    }
    if "initial_to_final_wcs_arcsec" not in metrics:
        result["initial_to_final_wcs_arcsec"] = data.metadata.get("initial_to_final_wcs", nan)
    east = north = separation = np.zeros(0)
    if residuals is not None:
        rows = residuals.used & np.isfinite(residuals.east) & np.isfinite(residuals.north)
        east, north = residuals.east[rows], residuals.north[rows]
        separation = np.hypot(east, north)
    rms = (mad_sigma(east), mad_sigma(north))
    p95 = float(np.percentile(separation, 95)) if separation.size else nan
    held = [metrics.get(f"astrom_hold_out_{axis}_arcsec", nan) for axis in ("east", "north")]
    result |= {
        "astrom_rms_east_arcsec": rms[0],
        "astrom_rms_north_arcsec": rms[1],
        "astrom_rms_pix": max(rms) / scale,
        "astrom_p95_arcsec": p95,
        "astrom_p95_pix": p95 / scale,
        "astrom_hold_out_pix": float(np.max(held)) / scale,
        "astrom_mag_rank_correlation": nan,
        "astrom_matched_fraction": nan,
        "astrom_chance_fraction": nan,
    }
    n = int(result["astrom_n_match"])
    if residuals is not None:
        result["astrom_mag_rank_correlation"] = _rank_correlation(residuals.ref_mag, residuals.src_mag)
    possible = min(metrics.get("astrom_n_sources", 0), metrics.get("astrom_n_references", 0))
    if possible > 0:
        result["astrom_matched_fraction"] = n / possible
    if n > 0:
        result["astrom_chance_fraction"] = metrics.get("astrom_n_chance_expected", nan) / n
    return result


def _rank_correlation(a: np.ndarray, b: np.ndarray, n_min: int = 5) -> float:
    """Return Spearman's rank correlation of the finite pairs, NaN if there are few."""
    good = np.isfinite(a) & np.isfinite(b)
    if good.sum() < n_min or np.ptp(a[good]) == 0 or np.ptp(b[good]) == 0:
        return float("nan")
    from scipy.stats import rankdata  # slow to import

    return float(np.corrcoef(rankdata(a[good]), rankdata(b[good]))[0, 1])


def _fits_residual(data: ReportData) -> float:
    """Return the largest separation (mas) of the WCS from its FITS form on a grid over the image."""
    wcs = data.exposure.wcs
    if wcs is None:
        return float("nan")
    height, width = data.exposure.shape
    x, y = (
        g.ravel()
        for g in np.meshgrid(np.linspace(-0.5, width - 0.5, 15), np.linspace(-0.5, height - 0.5, 15))
    )
    ra, dec = wcs.pixel_to_sky(x=x, y=y)
    fits_ra, fits_dec = np.deg2rad(wcs.to_astropy(data.exposure.shape).all_pix2world(x, y, 0))
    turned = np.mod(ra - fits_ra + np.pi, 2.0 * np.pi) - np.pi
    return float(np.max(np.hypot(turned * np.cos(dec), dec - fits_dec))) / _ARCSEC * 1e3


def _photometry(data: ReportData, metrics: Mapping[str, Any]) -> dict[str, Metric]:
    nan = float("nan")
    residuals, zeropoint = photometry_residuals(data), data.zeropoint
    time = data.exposure.visit_info.exposure_time
    result: dict[str, Metric] = {
        "zeroPoint": zeropoint,
        "zeropoint_per_second": zeropoint - 2.5 * float(np.log10(time)) if time > 0 else nan,
        "photom_n_match": 0 if data.photometry_matches is None else len(data.photometry_matches),
        "photom_n_cal": 0 if residuals is None else int(residuals.used.sum()),
    }
    if "zeropoint_err" not in metrics:
        result["zeropoint_err"] = data.zeropoint_err
    empty = np.zeros(0)
    used = np.zeros(0, bool) if residuals is None else residuals.used
    value = empty if residuals is None else residuals.residual
    bright = used if residuals is None else residuals.snr > 50
    by_mag = fit_line(empty, empty) if residuals is None else fit_line(residuals.mag[used], value[used])
    color = empty if residuals is None else residuals.color[used]
    by_color, finite = fit_line(color, value[used]), color[np.isfinite(color)]
    spatial, noise, n_side = nan, nan, 0
    if residuals is not None:
        spatial, noise, n_side = binned_spatial_rms(
            residuals.x[used], residuals.y[used], value[used], data.exposure.shape
        )
    n_match = int(result["photom_n_match"])
    return result | {
        "photom_used_fraction": int(result["photom_n_cal"]) / n_match if n_match else nan,
        "photom_scatter_mag": mad_sigma(value[used]),
        "photom_scatter_all_mag": mad_sigma(value),
        "photom_scatter_bright_mag": mad_sigma(value[bright]),
        "photom_slope_mag": by_mag.slope,
        "photom_slope_mag_err": by_mag.slope_err,
        "photom_slope_mag_excess": _excess(by_mag.slope, by_mag.slope_err),
        "photom_color": "" if residuals is None else residuals.color_name,
        "photom_color_min": float(np.percentile(finite, 1)) if finite.size else nan,
        "photom_color_max": float(np.percentile(finite, 99)) if finite.size else nan,
        "photom_color_slope": by_color.slope,
        "photom_color_slope_err": by_color.slope_err,
        "photom_color_slope_excess": _excess(by_color.slope, by_color.slope_err),
        "photom_spatial_rms_mag": spatial,
        "photom_spatial_noise_mag": noise,
        "photom_spatial_excess_mag": float(np.sqrt(max(spatial**2 - noise**2, 0.0)))
        if spatial == spatial
        else nan,
        "photom_spatial_cells": n_side,
        "photom_matched_fraction": _matched_fraction(data),
    }


def _excess(value: float, error: float) -> float:
    """Return what three errors leave of an absolute value."""
    return max(abs(value) - 3.0 * error, 0.0) if value == value and error == error else float("nan")


def _matched_fraction(data: ReportData) -> float:
    """Return the matched fraction of clean stars as bright as those that are matched.

    The range of brightness is that of the middle 90 % of the matches, so the depth of the reference catalogue
    does not matter.  References elsewhere on the sky match few.
    """
    stars, matches, name = data.stars, data.photometry_matches, data.flux_column
    if stars is None or matches is None or len(matches) == 0 or not has_column(matches, "src_id"):
        return float("nan")
    matched = floats(matches, f"src_{name}")
    matched = matched[np.isfinite(matched) & (matched > 0)]
    if matched.size < 3:
        return float("nan")
    low, high = np.percentile(matched, [5, 95])
    flux = floats(stars, name)
    good = np.isfinite(flux) & ~flags(stars, "sky_source")
    if has_column(stars, "detect_isPrimary"):
        good &= flags(stars, "detect_isPrimary")
    for flag in ("saturated", "edge", "interpolated", "nodata"):
        good &= ~flags(stars, f"base_PixelFlags_flag_{flag}")
    with np.errstate(invalid="ignore"):
        good &= (flux >= low) & (flux <= high)
    if not good.any():
        return float("nan")
    return float(np.mean(np.isin(np.asarray(stars["id"])[good], np.asarray(matches["src_id"]))))


def _aperture_correction(data: ReportData) -> dict[str, Metric]:
    nan = float("nan")
    result: dict[str, Metric] = {"apcorr_median": nan, "apcorr_range": nan, "apcorr_err": nan}
    fields = data.exposure.ap_corr_map or {}
    field = fields.get(_PSF_AP_CORR)
    if field is not None:
        height, width = data.exposure.shape
        x, y = np.meshgrid(np.linspace(0, width - 1, 16), np.linspace(0, height - 1, 16))
        values = field(x=x, y=y)
        result["apcorr_median"], result["apcorr_range"] = float(np.median(values)), float(np.ptp(values))
    error = fields.get(f"{_PSF_AP_CORR}Err")
    if error is not None:
        height, width = data.exposure.shape
        result["apcorr_err"] = float(error(x=0.5 * width, y=0.5 * height))
    return result


def _pixels(data: ReportData) -> dict[str, Metric]:
    """Return the fraction of pixels in each mask plane under the names of Rubin's metadata."""
    mask = data.exposure.mask
    result: dict[str, Metric] = {}
    for plane in PLANES:
        name = f"{LEGACY_NAMES[plane].lower()}_mask_fraction"
        known = data.metadata.get(name)
        if known is None:
            known = float(np.count_nonzero(mask & np.int32(plane_bit(plane)))) / mask.size
        result[name] = float(known)
    summary = data.summary
    ratio = float("nan")
    if summary is not None and summary.meanVar > 0:
        ratio = summary.skyNoise / float(np.sqrt(summary.meanVar))
    return result | {"noise_to_variance_ratio": ratio}


def _sky_sources(data: ReportData, metrics: Mapping[str, Any]) -> dict[str, Metric]:
    """Return the flux of empty apertures: its median is what is left of the background."""
    nan = float("nan")
    values = np.zeros(0)
    if data.stars is not None and has_column(data.stars, _SKY_FLUX):
        values = floats(data.stars, _SKY_FLUX)[flags(data.stars, "sky_source")]
        values = values[np.isfinite(values)]
    middle = float(np.median(values)) if values.size else nan
    scatter = mad_sigma(values)
    # the median's standard error is sqrt(pi/2) times the mean's
    error = float(np.sqrt(0.5 * np.pi / values.size)) * scatter if values.size > 1 else nan
    noise = metrics.get("skyNoise", nan)
    area = np.pi * SKY_APERTURE**2
    residual = middle / area / noise if noise > 0 else nan
    residual_err = error / area / noise if noise > 0 else nan
    return {
        "sky_source_flux_median": middle,
        "sky_source_flux_err": error,
        "sky_source_flux_scatter": scatter,
        "sky_residual_per_noise": residual,
        "sky_residual_per_noise_excess": _excess(residual, residual_err),
    }


def _plain(value: Any) -> Metric:
    if isinstance(value, bool | np.bool_):
        return int(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, np.floating):
        return float(value)
    if isinstance(value, int | float | str):
        return value
    return str(value)


def _json(value: Any) -> Any:
    """Return a value that strict JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [_json(item) for item in value]
    if value is None:
        return None
    plain = _plain(value)
    return None if isinstance(plain, float) and not np.isfinite(plain) else plain

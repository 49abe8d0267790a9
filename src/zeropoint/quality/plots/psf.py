"""PSF stars against the PSF model, sizes of all sources, and the aperture correction."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from zeropoint.datamodel.catalog import has_column
from zeropoint.quality.plots.style import (
    COLORS,
    STYLE,
    color_bar,
    detector_limits,
    finish,
    flat_axes,
    image_axes,
    note,
    robust_limit,
)
from zeropoint.quality.report_data import ReportData
from zeropoint.quality.residuals import PsfResiduals, flags, floats, psf_residuals, star_magnitudes

__all__ = [
    "aperture_correction_caption",
    "plot_aperture_correction",
    "plot_psf_size_by_magnitude",
    "plot_psf_size_by_position",
    "plot_psf_whiskers",
    "plot_size_magnitude",
    "psf_size_caption",
    "size_magnitude_caption",
    "whiskers_caption",
]

_NO_STARS = "no PSF stars to compare"
_AP_CORR = "base_PsfFlux_instFlux"


def _magnitude_label(data: ReportData) -> str:
    return "PSF magnitude (AB)" if np.isfinite(data.zeropoint) else "PSF magnitude (instrumental)"


def plot_psf_whiskers(data: ReportData, ax: Axes | None = None) -> Axes:
    """Plot the ellipticity of each PSF star as a line along its long axis, and what the model leaves of it."""
    shape = data.exposure.shape
    ax = image_axes(ax, shape)
    residuals = psf_residuals(data)
    finish(ax, "PSF ellipticity", "x (pixel)", "y (pixel)", grid=False)
    if residuals is None:
        return note(ax, _NO_STARS)
    length = 0.06 * max(shape)
    unit = max(robust_limit(np.hypot(residuals.e1, residuals.e2), 0.01, 90, 1.0), 0.01)
    unit = float(f"{unit:.1g}")
    for e1, e2, color, width, label in (
        (residuals.e1, residuals.e2, COLORS["sky"], 0.024, "stars"),
        (residuals.de1, residuals.de2, COLORS["vermillion"], 0.016, "star − model"),
    ):
        # the long axis of (e1, e2) lies at half its angle
        size, angle = np.minimum(np.hypot(e1, e2) / unit, 3.0) * length, 0.5 * np.arctan2(e2, e1)
        options: dict[str, Any] = {
            "angles": "xy", "scale_units": "xy", "scale": 1.0, "pivot": "mid", "headwidth": 0,
            "headlength": 0, "headaxislength": 0, "units": "inches",
        }  # fmt: skip
        ax.quiver(
            residuals.x,
            residuals.y,
            size * np.cos(angle),
            size * np.sin(angle),
            color=color,
            width=width,
            label=label,
            **options,
        )
    kept = residuals.reserved
    if kept.any():
        ax.scatter(
            residuals.x[kept], residuals.y[kept], s=34, facecolors="none", edgecolors=COLORS["black"], lw=0.8
        )
    detector_limits(ax, shape)
    _whisker_key(ax, unit, length, bool(kept.any()))
    return ax


def _whisker_key(ax: Axes, unit: float, length: float, reserved: bool) -> None:
    """Explain colors and lengths right of the axes."""
    key = {"transform": ax.transAxes, "fontsize": STYLE["legend"], "va": "top"}
    ax.text(1.02, 0.98, "star", color=COLORS["sky"], fontweight="bold", **key)
    ax.text(1.02, 0.92, "residual", color=COLORS["vermillion"], fontweight="bold", **key)
    if reserved:
        ax.text(1.02, 0.86, "○ reserved", color=STYLE["ink"], **key)
    low, high = ax.get_xlim()
    fraction = length / (high - low)
    ax.plot(
        [1.02, 1.02 + fraction],
        [0.75, 0.75],
        color=STYLE["ink"],
        lw=1.4,
        transform=ax.transAxes,
        clip_on=False,
    )
    ax.text(1.02, 0.735, f"|e| = {unit:g}", color=STYLE["ink"], **key)


def whiskers_caption(data: ReportData, metrics: dict[str, Any]) -> str:
    """Return the caption of `plot_psf_whiskers`."""
    residuals = psf_residuals(data)
    if residuals is None:
        return "No PSF stars were measured."
    size = float(np.nanmedian(np.hypot(residuals.e1, residuals.e2)))
    text = f"Median ellipticity {size:.3f}. "
    return text + " ".join(_shape_sentence(residuals, metrics, kind) for kind in ("used", "reserved")).strip()


def _shape_sentence(residuals: PsfResiduals, metrics: dict[str, Any], kind: str) -> str:
    n = int((residuals.used if kind == "used" else residuals.reserved).sum())
    if n == 0:
        return "No star was reserved." if kind == "reserved" else ""
    de1, err1 = metrics[f"de1_{kind}_mean"], metrics[f"de1_{kind}_err"]
    de2, err2 = metrics[f"de2_{kind}_mean"], metrics[f"de2_{kind}_err"]
    name = "fitted" if kind == "used" else "reserved"
    return (
        f"{n} {name} stars, star − model: e1 {_pm(de1, err1, 1e3, 1)}, e2 {_pm(de2, err2, 1e3, 1)} "
        "(in thousandths)."
    )


def _pm(value: float, error: float, scale: float, decimals: int) -> str:
    if not np.isfinite(value):
        return "unknown"
    shown = f"{scale * value:+.{decimals}f}"
    return f"{shown} ± {scale * error:.{decimals}f}" if np.isfinite(error) else shown


def plot_psf_size_by_magnitude(data: ReportData, ax: Axes | None = None) -> Axes:
    """Plot the relative size residual of PSF stars against magnitude, reserved stars apart."""
    ax = flat_axes(ax, data.exposure.shape)
    residuals = psf_residuals(data)
    title = "PSF size residual by magnitude"
    if residuals is None:
        return note(finish(ax, title, _magnitude_label(data), "(T★ − T model) / T model"), _NO_STARS)
    limit = robust_limit(residuals.dsize, 0.02)
    ax.axhline(0.0, color=STYLE["ink"], lw=0.8)
    for rows, marker, color, label in _kinds(residuals):
        if rows.any():
            y = np.clip(residuals.dsize[rows], -limit, limit)
            ax.scatter(
                residuals.mag[rows], y, marker=marker, s=20, color=color, alpha=0.75, lw=0, label=label
            )
    ax.set_ylim(-1.05 * limit, 1.05 * limit)
    return finish(ax, title, _magnitude_label(data), "(T★ − T model) / T model")


def _kinds(residuals: PsfResiduals) -> tuple[tuple[np.ndarray, str, str, str], ...]:
    used, kept = residuals.used & ~residuals.reserved, residuals.reserved
    return (
        (used, "o", COLORS["blue"], f"fitted ({int(used.sum())})"),
        (kept, "D", COLORS["vermillion"], f"reserved ({int(kept.sum())})"),
    )


def psf_size_caption(data: ReportData, metrics: dict[str, Any]) -> str:
    """Return the caption of the two size-residual plots."""
    sentences = []
    for kind, name in (("used", "fitted"), ("reserved", "reserved")):
        mean = metrics.get(f"dT_T_{kind}_mean", np.nan)
        if mean == mean:
            scatter = 100 * metrics[f"dT_T_{kind}_scatter"]
            shown = _pm(mean, metrics[f"dT_T_{kind}_err"], 100, 2)
            sentences.append(f"{name} stars: mean dT/T {shown} %, scatter {scatter:.2f} %")
    if not sentences:
        return "No PSF stars were measured."
    if len(sentences) == 1:
        sentences.append("no star was reserved from the fit")
    text = "; ".join(sentences)
    return text[0].upper() + text[1:] + "."


def plot_psf_size_by_position(data: ReportData, ax: Axes | None = None) -> Axes:
    """Plot the relative size residual of PSF stars on the detector, reserved stars as diamonds."""
    shape = data.exposure.shape
    ax = image_axes(ax, shape)
    finish(ax, "PSF size residual by position", "x (pixel)", "y (pixel)", grid=False)
    residuals = psf_residuals(data)
    if residuals is None:
        return note(ax, _NO_STARS)
    limit = robust_limit(residuals.dsize, 0.005, 95, 1.0)
    shown = None
    for rows, marker, _, _ in _kinds(residuals):
        if rows.any():
            options: dict[str, Any] = {"vmin": -limit, "vmax": limit, "cmap": STYLE["diverging"]}
            shown = ax.scatter(
                residuals.x[rows],
                residuals.y[rows],
                c=residuals.dsize[rows],
                marker=marker,
                s=42 if marker == "D" else 26,
                edgecolors=COLORS["black"] if marker == "D" else STYLE["line"],
                linewidths=1.0 if marker == "D" else 0.4,
                **options,
            )
    detector_limits(ax, shape)
    if shown is not None:
        color_bar(ax, shown, "(T★ − T model) / T model")
    return ax


def plot_size_magnitude(data: ReportData, ax: Axes | None = None) -> Axes:
    """Plot the size of every source against magnitude; PSF stars are marked."""
    ax = flat_axes(ax, data.exposure.shape)
    table = data.psf_stars if data.psf_stars is not None else data.stars
    title = "Size against magnitude"
    if table is None or not len(table) or not has_column(table, "slot_Shape_xx"):
        return note(finish(ax, title, _magnitude_label(data), "size σ (pixel)"), "no sizes were measured")
    mag, size = _sizes(data, table)
    used, reserved = flags(table, "calib_psf_used"), flags(table, "calib_psf_reserved")
    other = ~used & ~reserved
    for rows, color, marker, area, label in (
        (other, COLORS["gray"], "o", 8, "sources"),
        (used, COLORS["blue"], "o", 18, "PSF stars"),
        (reserved, COLORS["vermillion"], "D", 20, "reserved"),
    ):
        if (rows & np.isfinite(size) & np.isfinite(mag)).any():
            ax.scatter(
                mag[rows], size[rows], s=area, marker=marker, color=color, alpha=0.7, lw=0, label=label
            )
    reference = size[used] if (used & np.isfinite(size)).any() else size
    reference = reference[np.isfinite(reference)]
    if reference.size:
        middle = float(np.median(reference))
        ax.axhline(middle, color=STYLE["ink"], lw=0.7, ls=":")
        ax.set_ylim(0.0, 2.5 * middle)
    return finish(ax, title, _magnitude_label(data), "size σ (pixel)")


def _sizes(data: ReportData, table: Any) -> tuple[np.ndarray, np.ndarray]:
    total = floats(table, "slot_Shape_xx") + floats(table, "slot_Shape_yy")
    with np.errstate(invalid="ignore"):
        return star_magnitudes(data, table), np.sqrt(np.where(total > 0, 0.5 * total, np.nan))


def size_magnitude_caption(data: ReportData, metrics: dict[str, Any]) -> str:
    """Return the caption of `plot_size_magnitude`."""
    text = (
        f"{metrics['n_psf_used']} stars were fitted and {metrics['n_psf_reserved']} reserved, "
        f"of {metrics['n_psf_candidates']} candidates."
    )
    sigma, fwhm = metrics.get("psfSigma", np.nan), metrics.get("fwhm_arcsec", np.nan)
    if sigma == sigma:
        text += f" The PSF has σ = {sigma:.2f} pixels"
        text += f", FWHM {fwhm:.2f} arcsec." if fwhm == fwhm else "."
    return text


def plot_aperture_correction(data: ReportData, ax: Axes | None = None) -> Axes:
    """Plot the aperture correction of the PSF flux on the detector, and the stars behind it."""
    shape = data.exposure.shape
    ax = image_axes(ax, shape)
    finish(ax, "Aperture correction of the PSF flux", "x (pixel)", "y (pixel)", grid=False)
    field = (data.exposure.ap_corr_map or {}).get(_AP_CORR)
    if field is None:
        return note(ax, "no aperture correction was measured")
    height, width = shape
    gx, gy = np.meshgrid((np.arange(48) + 0.5) / 48 * width - 0.5, (np.arange(48) + 0.5) / 48 * height - 0.5)
    extent = (-0.5, width - 0.5, -0.5, height - 0.5)
    values = field(x=gx, y=gy)
    middle = float(np.median(values))
    reach = max(float(np.ptp(values)) / 2, 5e-4)
    shown = ax.imshow(
        values,
        origin="lower",
        extent=extent,
        cmap=STYLE["sequential"],
        vmin=middle - reach,
        vmax=middle + reach,
        interpolation="bilinear",
    )
    table = data.psf_stars
    if table is not None:
        used = flags(table, "apcorr_base_PsfFlux_used")
        x, y = floats(table, "slot_Centroid_x"), floats(table, "slot_Centroid_y")
        ax.scatter(x[used], y[used], s=9, facecolors="none", edgecolors="white", lw=0.7)
    detector_limits(ax, shape)
    color_bar(ax, shown, "factor on the PSF flux")
    return ax


def aperture_correction_caption(data: ReportData, metrics: dict[str, Any]) -> str:
    """Return the caption of `plot_aperture_correction`."""
    middle = metrics.get("apcorr_median", np.nan)
    if middle != middle:
        return "No aperture correction was measured."
    error = metrics.get("apcorr_err", np.nan)
    text = f"Median {middle:.4f}, range {metrics['apcorr_range']:.4f} over the image"
    text += f", scatter of the stars {error:.4f}." if error == error else "."
    used = 0 if data.psf_stars is None else int(flags(data.psf_stars, "apcorr_base_PsfFlux_used").sum())
    return text + (f" {used} stars (circles)." if used else "")

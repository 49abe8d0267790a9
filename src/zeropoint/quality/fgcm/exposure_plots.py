"""Plots of exposures: gray, atmosphere and zeropoints in time."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zeropoint.fgcm.facts.cycle_facts import CycleFacts
from zeropoint.fgcm.flags import ZeropointFlag
from zeropoint.quality.fgcm.grids import (
    band_colors,
    finish_panel,
    grid,
    legend_above,
    no_data,
    small_legend,
    title_of,
)
from zeropoint.quality.plots.style import COLORS, STYLE, robust_limit

__all__ = [
    "plot_atmosphere",
    "plot_gray_airmass",
    "plot_gray_time",
    "plot_zeropoint_errors",
    "plot_zeropoint_time",
]

#: Parameter -> what its axis says, and whether its error is one of the logarithm.
_ATMOSPHERE = {
    "pwv": ("water vapor (mm)", "ln_pwv_err", True),
    "tau": ("aerosol depth", "ln_tau_err", True),
    "alpha": ("aerosol slope", "alpha_err", False),
    "o3": ("ozone (DU)", "o3_err", False),
}


def plot_gray_time(facts: CycleFacts, cuts: Mapping[str, tuple[float, float]] | None = None) -> Figure:
    """Plot the gray of exposures in the order in which they were taken.

    Parameters
    ----------
    facts
        Figures.
    cuts
        Band -> gray between which exposures are photometric, mag.
    """
    order = np.argsort(facts.mjd, kind="stable")
    x = np.empty(len(order))
    x[order] = np.arange(len(order))
    figure = _gray(facts, x, "exposure, in order of time", cuts or {})
    for ax in figure.axes:
        _night_lines(ax, facts.night[order])
    title_of(figure, "Gray in time")
    return figure


def _night_lines(ax: Axes, night: npt.NDArray[np.integer]) -> None:
    """Mark where nights end, unless they are too many to tell apart."""
    ends = np.flatnonzero(np.diff(night)) + 0.5
    if ax.lines and len(ends) <= 60:
        for end in ends:
            ax.axvline(end, color=STYLE["grid"], lw=0.8, zorder=0)


def plot_gray_airmass(facts: CycleFacts, cuts: Mapping[str, tuple[float, float]] | None = None) -> Figure:
    """Plot the gray of exposures against airmass; parameters as for `plot_gray_time`."""
    figure = _gray(facts, facts.airmass, "airmass", cuts or {})
    title_of(figure, "Gray by airmass")
    return figure


def _gray(
    facts: CycleFacts, x: npt.NDArray[np.floating], label: str, cuts: Mapping[str, tuple[float, float]]
) -> Figure:
    """Draw the gray of exposures, band by band."""
    figure, axes = grid(len(facts.bands))
    colors, e = band_colors(facts.bands), facts.exposures
    for b, (band, ax) in enumerate(zip(facts.bands, axes, strict=True)):
        rows = np.flatnonzero((facts.exposure_band == b) & np.isfinite(e.gray) & np.isfinite(x))
        if not len(rows):
            no_data(ax, band, "gray not measured")
            continue
        used = e.photometric[rows]
        gray, error = 1e3 * e.gray[rows], 1e3 * np.nan_to_num(e.gray_err[rows])
        limit = max(robust_limit(gray[used], 2.0, 99, 1.8), 6.0 * float(np.median(error)))
        ax.set_ylim(-limit, limit)
        ax.axhline(0.0, color=STYLE["ink"], lw=0.8)
        for cut in cuts.get(band, ()):
            if abs(1e3 * cut) < limit:
                ax.axhline(1e3 * cut, color=COLORS["gray"], lw=0.9, ls=":")
        ax.errorbar(
            x[rows][used], gray[used], error[used], fmt="o", ms=3.0, lw=0.7, color=colors[band], label="in the fit"
        )  # fmt: skip
        inside = np.abs(gray) <= limit
        shown = (
            (~used & inside, "x", COLORS["gray"], "not in the fit"),
            (~used & ~inside, "v", COLORS["gray"], "beyond the axis"),
            (used & ~inside, "v", colors[band], "beyond the axis"),
        )
        for chosen, marker, color, text in shown:
            if chosen.any():
                y = np.clip(gray[chosen], -0.93 * limit, 0.93 * limit)
                ax.plot(x[rows][chosen], y, marker, ms=4.0, mew=0.9, color=color, mfc="none", label=text)
        scatter = np.std(gray[used]) if used.sum() > 1 else np.nan
        counts = f"{int(used.sum())} of {len(rows)} used"
        finish_panel(ax, f"{band}: scatter {scatter:.1f} mmag, {counts}", label, "gray (mmag)")
    legend_above(figure, *axes)
    return figure


def plot_atmosphere(facts: CycleFacts, standard: Mapping[str, float] | None = None) -> Figure:
    """Plot the atmosphere of each exposure in time, with posterior errors.

    Parameters
    ----------
    facts
        Figures.
    standard
        pwv, o3, tau and alpha of the standard atmosphere.
    """
    figure, axes = grid(len(_ATMOSPHERE), columns=1, height=1.75)
    order = np.argsort(facts.mjd, kind="stable")
    place = np.arange(len(order))
    e = facts.exposures
    ends = np.concatenate([[0], np.flatnonzero(np.diff(facts.night[order])) + 1, [len(order)]])
    for ax, (name, (label, error_name, is_log)) in zip(axes, _ATMOSPHERE.items(), strict=True):
        value = getattr(e, name)[order]
        error = getattr(e, error_name)[order] * (value if is_log else 1.0)
        used = e.photometric[order]
        for first, last in itertools.pairwise(ends):
            part = slice(first, last)
            ax.plot(place[part], value[part], color=COLORS["blue"], lw=1.0)
            if np.isfinite(error[part]).any():
                ax.fill_between(
                    place[part], value[part] - error[part], value[part] + error[part], color=COLORS["sky"], alpha=0.45, lw=0
                )  # fmt: skip
        ax.plot(place[used], value[used], ".", ms=3.0, color=COLORS["blue"], label="exposures in the fit")
        if standard and name in standard:
            ax.axhline(standard[name], color=COLORS["gray"], lw=0.9, ls="--", label="standard")
        _night_lines(ax, facts.night[order])
        ax.set_xlim(-1, len(order))
        _limits(ax, value, error)
        finish_panel(ax, _spread(name, value, error, used, is_log), "exposure, in order of time", label)
    legend_above(figure, axes[0])
    title_of(figure, "Atmosphere with its posterior errors")
    return figure


def _limits(ax: Axes, value: npt.NDArray[np.floating], error: npt.NDArray[np.floating]) -> None:
    """Set the axis so that wide errors of few exposures do not hide the others."""
    reach = np.nan_to_num(error)
    reach = np.minimum(reach, 3.0 * np.median(reach) + 1e-12)
    low, high = float(np.nanmin(value - reach)), float(np.nanmax(value + reach))
    margin = 0.08 * max(high - low, 1e-3 * abs(high), 1e-6)
    ax.set_ylim(low - margin, high + margin)


def _spread(
    name: str,
    value: npt.NDArray[np.floating],
    error: npt.NDArray[np.floating],
    used: npt.NDArray[np.bool_],
    is_log: bool,
) -> str:
    """Return what the title says: the range, and the median error."""
    title = {"pwv": "PWV", "tau": "tau", "alpha": "alpha", "o3": "ozone"}[name]
    known = error[used & np.isfinite(error)]
    if not len(known):
        return f"{title}: not fitted"
    median = float(np.median(known / value[used & np.isfinite(error)])) if is_log else float(np.median(known))
    text = f"{100 * median:.1f} %" if is_log else f"{median:.2g}"
    return f"{title}: {np.nanmin(value):.3g} to {np.nanmax(value):.3g}, median error {text}"


def plot_zeropoint_errors(facts: CycleFacts, zeropoints: Table) -> Figure:
    """Plot histograms of the zeropoints' errors, and how many zeropoints there are of each kind.

    Parameters
    ----------
    facts
        Figures.
    zeropoints
        ``fgcm_Cycle{N}_Zeropoints``.
    """
    bands = facts.bands
    band_of_row = facts.exposure_band[np.searchsorted(facts.visit, np.asarray(zeropoints["visit"]))]
    figure, axes = grid(2)
    flag = np.asarray(zeropoints["fgcmFlag"])
    good = (flag & int(ZeropointFlag.CANNOT_COMPUTE_ZEROPOINT)) == 0
    error = 1e3 * np.asarray(zeropoints["fgcmZptErr"], np.float64)
    colors = band_colors(bands)
    shown = error[good & np.isfinite(error)]
    if not len(shown):
        no_data(axes[0], "Errors", "no zeropoint")
    else:
        edges = np.linspace(0.0, max(float(np.percentile(shown, 98)) * 1.25, 1e-3), 41)
        for b, band in enumerate(bands):
            own = error[good & (band_of_row == b) & np.isfinite(error)]
            if len(own):
                counts = np.histogram(np.clip(own, 0, edges[-1] * 0.999), edges)[0]
                axes[0].stairs(
                    counts, edges, color=colors[band], lw=1.5, label=f"{band}: {np.median(own):.2f} mmag"
                )
        finish_panel(axes[0], "Errors of the zeropoints", "error (mmag)", "exposures × detectors")
        small_legend(axes[0])
    small_legend(axes[0])
    names = {
        1: "used in the fit",
        2: "photometric, band not fitted",
        4: "not photometric",
        8: "night without fit",
        16: "no zeropoint",
    }
    counts = [int(((flag & bit) != 0).sum()) for bit in names]
    axes[1].barh(
        np.arange(len(names)),
        counts,
        color=[COLORS["green"], COLORS["sky"], COLORS["orange"], COLORS["yellow"], COLORS["gray"]],
    )
    for k, (count, text) in enumerate(zip(counts, names.values(), strict=True)):
        axes[1].text(
            0.02, k, f"{text}: {count:,}", transform=axes[1].get_yaxis_transform(), va="center", fontsize=STYLE["tick"]
        )  # fmt: skip
    axes[1].set_yticks([])
    axes[1].invert_yaxis()
    finish_panel(axes[1], "Kinds of zeropoints", "exposures × detectors", "")
    title_of(figure, "Zeropoints")
    return figure


def plot_zeropoint_time(facts: CycleFacts, zeropoints: Table) -> Figure:
    """Plot the zeropoint of a second's exposure in time: the median over detectors."""
    figure, axes = grid(len(facts.bands))
    colors = band_colors(facts.bands)
    visit = np.asarray(zeropoints["visit"])
    value = np.asarray(zeropoints["fgcmZpt"], np.float64) - 2.5 * np.log10(
        np.asarray(zeropoints["exptime"], np.float64)
    )
    good = (np.asarray(zeropoints["fgcmFlag"]) & int(ZeropointFlag.CANNOT_COMPUTE_ZEROPOINT)) == 0
    place = np.searchsorted(facts.visit, visit[good])
    order = np.argsort(place, kind="stable")
    ends = np.cumsum(np.bincount(place, minlength=len(facts.visit)))
    parts = np.split(value[good][order], ends[:-1])
    median = np.array([np.median(part) if len(part) else np.nan for part in parts])
    for b, (band, ax) in enumerate(zip(facts.bands, axes, strict=True)):
        rows = np.flatnonzero((facts.exposure_band == b) & np.isfinite(median) & np.isfinite(facts.mjd))
        if not len(rows):
            no_data(ax, band, "no zeropoint")
            continue
        used = facts.exposures.photometric[rows]
        center = float(np.median(median[rows]))
        spread = robust_limit(median[rows][used] - center, 0.005, 99, 1.5)
        days = facts.mjd[rows] - np.floor(np.nanmin(facts.mjd))
        y = 1e3 * np.clip(median[rows] - center, -spread, spread)
        ax.plot(days[used], y[used], "o", ms=2.8, color=colors[band], label="in the fit")
        if (~used).any():
            ax.plot(days[~used], y[~used], "x", ms=3.6, mew=0.8, color=COLORS["gray"], label="not in the fit")
        ax.set_ylim(-1.08e3 * spread, 1.08e3 * spread)
        finish_panel(
            ax,
            f"{band}: median {center:.3f}",
            f"MJD − {np.floor(np.nanmin(facts.mjd)):.0f}",
            "− median (mmag)",
        )
        small_legend(ax)
    title_of(figure, "Zeropoints of one second in time")
    return figure

"""Which plots there are, what each shows, and what it looks like when all is well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zeropoint.quality.fgcm.report_data import FgcmReportData

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from zeropoint.fgcm.cycle_result import CycleResult

__all__ = ["PANELS", "PLOT_NAMES", "FgcmPanel", "draw", "figures"]


@dataclass(frozen=True)
class FgcmPanel:
    """One plot of a global calibration.

    Parameters
    ----------
    name
        Name of the plot's dataset and file.
    title
        Name for people.
    group
        Section of the report.
    expect
        What it looks like when all is well.
    available
        Whether there is anything to plot.
    """

    name: str
    title: str
    group: str
    expect: str
    available: Callable[[FgcmReportData], bool]


def _facts(data: FgcmReportData) -> bool:
    return data.facts is not None


def _many_bands(data: FgcmReportData) -> bool:
    return data.facts is not None and data.facts.color is not None


def _references(data: FgcmReportData) -> bool:
    return data.facts is not None and data.facts.references is not None


def _reference_color(data: FgcmReportData) -> bool:
    return _references(data) and _many_bands(data)


def _atmosphere(data: FgcmReportData) -> bool:
    if data.facts is None:
        return False
    e = data.facts.exposures
    return any(
        bool(np.isfinite(error).any()) or float(np.ptp(values)) > 0
        for values, error in (
            (e.pwv, e.ln_pwv_err),
            (e.tau, e.ln_tau_err),
            (e.alpha, e.alpha_err),
            (e.o3, e.o3_err),
        )
    )


def _sky(data: FgcmReportData) -> bool:
    return data.facts is not None and data.facts.sky is not None


def _sky_references(data: FgcmReportData) -> bool:
    return _sky(data) and _references(data)


def _zeropoints(data: FgcmReportData) -> bool:
    return data.facts is not None and data.result is not None and data.result.zeropoints is not None


def _history(data: FgcmReportData) -> bool:
    return bool(data.history)


#: In the order of the report.
PANELS: tuple[FgcmPanel, ...] = (
    FgcmPanel(
        "Repeatability", "repeatability", "stars",
        "The red line lies on the dashed one, as wide as noise alone makes it, and blue is hardly wider. Tails beyond "
        "3 are variable stars, blends and thin clouds.",
        _facts,
    ),
    FgcmPanel(
        "RepeatabilityMagnitude", "repeatability by magnitude", "stars",
        "The measured scatter follows the errors at all magnitudes. Above them at the bright end is a floor that the errors "
        "lack (sigma0Phot); above them at the faint end are errors that are too small.",
        _facts,
    ),
    FgcmPanel(
        "ColorAirmass", "residual by color", "stars",
        "All three lines level at zero. Lines that cross, low airmass against high, are an atmosphere or a passband that is "
        "wrong in color.",
        _many_bands,
    ),
    FgcmPanel(
        "ColorSlope", "color slope of exposures", "stars",
        "Points scatter about zero by as much as their errors, at all airmasses.",
        _many_bands,
    ),
    FgcmPanel(
        "GrayTime", "gray in time", "exposures",
        "Photometric exposures lie level at zero, as near as their errors. Clouds are below. A night that is off as a "
        "whole is an atmosphere that could not follow it.",
        _facts,
    ),
    FgcmPanel(
        "GrayAirmass", "gray by airmass", "exposures",
        "Level at zero. A slope is extinction that the atmosphere does not have.",
        _facts,
    ),
    FgcmPanel(
        "Atmosphere", "atmosphere", "exposures",
        "Smooth within a night. A parameter that sticks to the end of its range in many nights is not measured, or the model "
        "lacks something.",
        _atmosphere,
    ),
    FgcmPanel(
        "ZeropointTime", "zeropoints in time", "zeropoints",
        "Changes of some mmag with airmass and water vapor, a slow loss from dust, and a jump where the mirror was washed.",
        _zeropoints,
    ),
    FgcmPanel(
        "ZeropointErrors", "errors of zeropoints", "zeropoints",
        "Errors of a mmag or less, and nearly all zeropoints from photometric exposures.",
        _zeropoints,
    ),
    FgcmPanel(
        "FocalPlane", "residuals over the focal plane", "camera",
        "Red and blue well mixed, with an rms like the noise. A pattern within detectors asks for superStarSubCcdDict.",
        _facts,
    ),
    FgcmPanel(
        "SuperStar", "superstar flats", "camera",
        "Smooth from detector to detector, by a hundredth of a magnitude or two: what flat fields of a screen get wrong.",
        _facts,
    ),
    FgcmPanel(
        "ColorDetector", "color slope of detectors", "camera",
        "Red and blue well mixed, with a scatter like the noise. One detector apart has another throughput than its curve "
        "(fitCcdChromaticityDict).",
        _many_bands,
    ),
    FgcmPanel(
        "SkyHalves", "halves of the data on the sky", "sky",
        "Red and blue well mixed, with an rms like the noise: the same magnitudes from both halves. Fields that stand out are "
        "tied badly to their neighbors.",
        _sky,
    ),
    FgcmPanel(
        "SkyReferences", "references on the sky", "sky",
        "Red and blue well mixed. Large patches are an uneven calibration, ours or that of the references.",
        _sky_references,
    ),
    FgcmPanel(
        "ReferenceMagnitude", "references by magnitude", "references",
        "Level at zero. A slope at the faint end is a bias of faint reference magnitudes, at the bright end saturation.",
        _references,
    ),
    FgcmPanel(
        "ReferenceColor", "references by color", "references",
        "Level at zero. A slope is the difference between the standard passbands and those of the references (color terms).",
        _reference_color,
    ),
    FgcmPanel(
        "History", "how the fit went", "run",
        "Chi-square falls to one and stays; the numbers of exposures in the fit settle; the steps of the fits go down to a "
        "hundredth of the errors.",
        _history,
    ),
)  # fmt: skip

#: Plot -> whether there is one for each band; all show their bands side by side.
PLOT_NAMES: Mapping[str, bool] = {panel.name: False for panel in PANELS}


def figures(data: FgcmReportData | CycleResult) -> Iterator[tuple[str, str | None, Figure]]:
    """Draw the plots for which there is something to show.

    Parameters
    ----------
    data
        A report's data, or the result of a cycle with ``facts``.

    Yields
    ------
    name, band, figure
        Name of the plot (`PLOT_NAMES`), its band (None: of all bands), and the plot.
    """
    from zeropoint.fgcm.cycle_result import CycleResult

    if isinstance(data, CycleResult):
        data = FgcmReportData("", data, (data.metrics,))
    for panel in PANELS:
        if panel.available(data):
            yield panel.name, None, draw(panel.name, data)


def draw(name: str, data: FgcmReportData) -> Figure:
    """Draw one plot.

    Parameters
    ----------
    name
        One of `PLOT_NAMES`.
    data
        Report's data; what `FgcmPanel.available` asks for must be there.
    """
    from zeropoint.quality.fgcm import (
        exposure_plots,
        history_plots,
        map_plots,
        reference_plots,
        residual_plots,
    )

    facts, result = data.facts, data.result
    if name == "History":
        bands = () if facts is None else facts.bands
        steps = data.steps or ({} if result is None else {result.cycle: result.history})
        return history_plots.plot_history(data.history, bands, steps)
    assert facts is not None
    assert result is not None
    plots: dict[str, Callable[[], Any]] = {
        "Repeatability": lambda: residual_plots.plot_repeatability(facts),
        "RepeatabilityMagnitude": lambda: residual_plots.plot_repeatability_magnitude(facts),
        "ColorAirmass": lambda: residual_plots.plot_color_airmass(facts),
        "ColorSlope": lambda: residual_plots.plot_color_slopes(facts),
        "ColorDetector": lambda: residual_plots.plot_color_detectors(facts),
        "GrayTime": lambda: exposure_plots.plot_gray_time(facts, _cuts(result)),
        "GrayAirmass": lambda: exposure_plots.plot_gray_airmass(facts, _cuts(result)),
        "Atmosphere": lambda: exposure_plots.plot_atmosphere(facts, data.standard),
        "ZeropointTime": lambda: exposure_plots.plot_zeropoint_time(facts, result.zeropoints),
        "ZeropointErrors": lambda: exposure_plots.plot_zeropoint_errors(facts, result.zeropoints),
        "FocalPlane": lambda: map_plots.plot_focal_plane(facts),
        "SuperStar": lambda: map_plots.plot_superstar(
            facts, result.parameters.superstar, result.state.instrument.superstar_shape
        ),
        "SkyHalves": lambda: map_plots.plot_sky_halves(facts),
        "SkyReferences": lambda: map_plots.plot_sky_references(facts),
        "ReferenceMagnitude": lambda: reference_plots.plot_references_magnitude(facts),
        "ReferenceColor": lambda: reference_plots.plot_references_color(facts),
    }
    return plots[name]()


def _cuts(result: CycleResult) -> dict[str, tuple[float, float]]:
    """Return the gray between which exposures are photometric, by band."""
    state = result.state
    return {
        band: (float(low), float(high))
        for band, low, high in zip(state.bands, state.band.gray_cut, state.band.gray_high_cut, strict=True)
    }

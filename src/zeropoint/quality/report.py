"""One self-contained HTML page an image: verdict first, then numbers, then plots, then how it was made."""

from __future__ import annotations

import base64
import io
import logging
import os
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from zeropoint.quality.report_data import ReportData
from zeropoint.quality.report_rows import GROUPS, summary_rows
from zeropoint.quality.verdict import Verdict, format_value

__all__ = [
    "png_bytes",
    "png_of",
    "render_report",
    "render_template",
    "typeset",
    "write_atomically",
    "write_report",
]

_LOG = logging.getLogger(__name__)
#: Pixels per inch of the plots: sharp at twice the size they are usually shown at.
_DPI = 144
#: Plots larger than this are reduced to a palette.
_PALETTE_BYTES = 120_000
_HEADLINES = {
    "good": "Everything checked is within its expected range.",
    "usable": "The calibration can be used, with care: read the reasons.",
    "bad": "Do not use this calibration.",
}


def write_report(path: str | Path, data: ReportData, metrics: Mapping[str, Any], verdict: Verdict) -> None:
    """Write the report in one step: under a temporary name first, then moved into place.

    Parameters
    ----------
    path
        File to write.
    data, metrics, verdict
        Results of one image, as from `compute_metrics` and `judge`.
    """
    write_atomically(path, render_report(data, metrics, verdict))


def write_atomically(path: str | Path, text: str) -> None:
    """Write a text in one step: under a temporary name first, then moved into place.

    Parameters
    ----------
    path
        File to write.
    text
        What it holds.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def render_report(data: ReportData, metrics: Mapping[str, Any], verdict: Verdict) -> str:
    """Return the report as HTML that needs nothing from outside."""
    figures, missing = _figures(data, dict(metrics))
    failure = data.failure
    return render_template(
        "report.html.j2",
        data=data,
        verdict=verdict,
        headline=_HEADLINES[verdict.level],
        reasons=[reason for reason in verdict.reasons if reason not in data.caveats],
        facts=_facts(data),
        cards=_cards(data, metrics),
        groups=GROUPS,
        rows=summary_rows(metrics),
        figures=figures,
        missing=missing,
        failure_name="" if failure is None else type(failure).__name__,
        failure_numbers=_shown(getattr(failure, "metadata", {}) if failure is not None else {}),
        stages=[(name.replace("_", " "), cpu, wall, _shown(n)) for name, cpu, wall, n in data.stages],
    )


def render_template(name: str, **values: Any) -> str:
    """Return a page of the folder ``templates``, with the style that all pages share.

    Parameters
    ----------
    name
        File of the template.
    **values
        What it shows.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    folder = resources.files("zeropoint.quality") / "templates"
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["typeset"] = typeset
    style = Markup((folder / "report.css").read_text("utf-8"))
    return environment.from_string((folder / name).read_text("utf-8")).render(css=style, **values)


def _figures(data: ReportData, metrics: dict[str, Any]) -> tuple[dict[str, list[dict[str, str]]], list[str]]:
    """Draw the panels of each section; return them, and the names of those that have nothing to show."""
    from zeropoint.quality.panels import PANELS

    figures: dict[str, list[dict[str, str]]] = {}
    missing = []
    for panel in PANELS:
        if not panel.available(data):
            missing.append(panel.name)
            continue
        try:
            picture = png_of(panel.plot(data).figure)
            caption = panel.caption(data, metrics)
        except Exception:  # one broken plot must not cost the report
            _LOG.warning("%s: the plot of %s failed", data.stem, panel.name, exc_info=True)
            missing.append(panel.name)
            continue
        entry = {"name": panel.name, "png": picture, "caption": typeset(caption), "expect": panel.expect}
        figures.setdefault(panel.group, []).append(entry)
    return figures, missing


def typeset(text: str) -> str:
    """Return a sentence of the log with the signs of print: minus signs, plus-minus, arrows."""
    text = re.sub(r"(?<![\w^])-(?=\d)", "−", text)  # a minus sign, not a hyphen
    return text.replace("+-", "±").replace("->", "→")


def png_of(figure: Any) -> str:
    """Return a figure as base64 PNG."""
    return base64.b64encode(png_bytes(figure)).decode("ascii")


def png_bytes(figure: Any) -> bytes:
    """Return a figure as PNG; large ones get a palette of 256 colors, a third of the size.

    Parameters
    ----------
    figure
        Figure of matplotlib.
    """
    from PIL import Image

    figure.set_dpi(_DPI)
    figure.canvas.draw()
    picture = Image.fromarray(np.ascontiguousarray(np.asarray(figure.canvas.buffer_rgba())[..., :3]))
    buffer = io.BytesIO()
    picture.save(buffer, format="png", compress_level=6)
    if buffer.tell() > _PALETTE_BYTES:
        buffer = io.BytesIO()
        picture.quantize(256, dither=Image.Dither.NONE).save(buffer, format="png", compress_level=6)
    return buffer.getvalue()


def _facts(data: ReportData) -> list[tuple[str, str]]:
    """Return what identifies the image."""
    info, detector = data.exposure.visit_info, data.exposure.detector
    facts = [
        ("Image", Path(data.image_path).name),
        ("Object", info.object_name),
        ("Camera", " ".join(part for part in (data.camera or detector.instrument, detector.name) if part)),
        ("Filter", f"{info.physical_filter} (band {data.band})" if data.band else info.physical_filter),
        ("Exposure", f"{info.exposure_time:g} s" if info.exposure_time == info.exposure_time else ""),
        ("Date", _date(info.mjd_tai)),
        ("Airmass", f"{info.airmass:.2f}" if info.airmass == info.airmass else ""),
        ("References", data.references),
        ("Pixels in", data.unit),
    ]
    return [(name, value) for name, value in facts if value]


def _date(mjd_tai: float) -> str:
    if mjd_tai != mjd_tai:
        return ""
    from astropy.time import Time

    return f"{Time(mjd_tai, format='mjd', scale='tai').utc.strftime('%Y-%m-%d %H:%M:%S')} UTC"


def _cards(data: ReportData, metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, value and remark of the few numbers that everyone looks for."""

    def number(name: str, form: str) -> str:
        value = metrics.get(name)
        known = isinstance(value, int | float) and value == value
        return format(value, form).replace("-", "−") if known else ""

    error, fwhm, sigma = (
        number("zeropoint_err", ".4f"),
        number("fwhm_arcsec", ".2f"),
        number("psfSigma", ".2f"),
    )
    psf_remark = f"{f'arcsec, σ {sigma} px' if fwhm else 'px'}, {number('n_psf_used', 'd')} stars"
    east, north, unit = _scatters(metrics)
    cards = [
        (
            "Zeropoint",
            number("zeroPoint", ".4f"),
            f"± {error} mag, one electron" if error else "mag, one electron",
        ),
        (
            "Zeropoint scatter",
            number("photom_scatter_mag", ".3f"),
            f"mag, {number('photom_n_cal', 'd')} stars",
        ),
        (
            "Astrometry",
            f"{east} × {north}" if east else "",
            f"{unit}, {number('astrom_n_match', 'd')} matches",
        ),
        ("PSF FWHM", fwhm or number("fwhm_pix", ".2f"), psf_remark),
        ("Depth", number("magLim", ".2f"), "mag, point source, S/N 5"),
        ("Sources", number("n_sources", "d"), f"sky {number('skyBg', '.4g')} e⁻ per pixel"),
    ]
    return [card if card[1] else (card[0], "–", "not measured") for card in cards]


def _scatters(metrics: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the astrometric scatters and their unit, mas if small."""
    values = [metrics.get(f"astrom_rms_{axis}_arcsec", float("nan")) for axis in ("east", "north")]
    if not all(value == value for value in values):
        return "", "", ""
    if max(values) < 0.2:
        return f"{1e3 * values[0]:.1f}", f"{1e3 * values[1]:.1f}", "mas E × N"
    return f"{values[0]:.2f}", f"{values[1]:.2f}", "arcsec E × N"


def _shown(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key.replace("_", " "), format_value(value, 4)) for key, value in numbers.items()]

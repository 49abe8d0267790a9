"""Plots, verdict and report of a global calibration."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import hpgeom
import numpy as np
import pytest
from matplotlib.figure import Figure

from quality import fgcm_make as make
from zeropoint.errors import CalibrationFailure
from zeropoint.quality.fgcm.exposures import exposure_table
from zeropoint.quality.fgcm.figures import PANELS, PLOT_NAMES, draw, figures
from zeropoint.quality.fgcm.map_plots import plot_sky_halves, sky_fields
from zeropoint.quality.fgcm.metrics import fgcm_metrics
from zeropoint.quality.fgcm.report import draw_figures, render_fgcm_report
from zeropoint.quality.fgcm.report_data import FgcmReportData
from zeropoint.quality.fgcm.verdict import band_tables, judge_calibration


@pytest.fixture(scope="module")
def data():
    return make.report_data()


def _render(data, pictures=()):
    metrics = fgcm_metrics(data)
    verdict = judge_calibration(metrics, data.caveats, data.failure)
    return render_fgcm_report(data, metrics, verdict, dict(pictures)), verdict


def test_every_plot_is_drawn_and_none_that_has_nothing_to_show(data):
    drawn = {name: figure for name, _, figure in figures(data)}
    assert set(drawn) == set(PLOT_NAMES) == {panel.name for panel in PANELS}
    assert all(isinstance(figure, Figure) for figure in drawn.values())
    one_band = make.report_data(bands=("r",), references=False)
    names = {panel.name for panel in PANELS if panel.available(one_band)}
    of_colors = {"ColorAirmass", "ColorSlope", "ColorDetector"}
    of_references = {"SkyReferences", "ReferenceMagnitude", "ReferenceColor"}
    assert names == set(PLOT_NAMES) - of_colors - of_references


def test_an_atmosphere_that_was_not_fitted_has_no_plot():
    data = make.report_data(bands=("r",), fitted_atmosphere=False)
    assert "Atmosphere" not in {panel.name for panel in PANELS if panel.available(data)}


def test_plots_say_what_was_planted(data):
    titles = [ax.get_title(loc="left") for ax in draw("Repeatability", data).axes]
    numbers = [float(part.split()[0]) for part in titles[0].split(": ")[1].split("→")]
    assert numbers[0] > 20 > 5 > numbers[-1]
    gray = draw("GrayTime", data)
    assert gray.axes[0].get_title(loc="left").endswith("11 of 12 used")
    assert "beyond the axis" in [text.get_text() for text in gray.legends[0].get_texts()]


def test_fields_that_are_far_apart_have_maps_of_their_own(data):
    ra = np.array([359.5, 0.5, 1.0, 101.0, 101.5])
    pixel = np.sort(hpgeom.angle_to_pixel(64, ra, np.full(5, -30.0), nest=True, lonlat=True, degrees=True))
    first, second = sky_fields(64, pixel)
    assert (len(first), len(second)) == (3, 2)
    sky = replace(
        data.facts.sky, nside=64, pixel=pixel, halves=np.full((3, 5), 1e-3), halves_err=np.full((3, 5), 1e-3)
    )
    figure = plot_sky_halves(replace(data.facts, sky=sky))
    panels = [ax for ax in figure.axes if ax.get_xlabel() == "RA (deg)"]
    assert [ax.get_title(loc="left").split(":")[0] for ax in panels[:3]] == [
        "g, field 1",
        "g, field 2",
        "r, field 1",
    ]
    assert all(np.ptp(ax.get_xlim()) < 4.0 for ax in panels)


def test_scatter_by_magnitude_is_of_the_same_magnitudes_before_and_after(data):
    before, _, after = data.facts.residuals
    stars = data.facts.references.magnitude
    assert np.array_equal(before.mag_edges, after.mag_edges)
    assert before.mag_edges[0, 0] == pytest.approx(np.nanmin(stars[:, 0]), abs=0.3)


def test_one_broken_plot_does_not_cost_the_report(data, monkeypatch, caplog):
    def only_history(name, data):
        if name != "History":
            raise RuntimeError("no ink")
        return draw(name, data)

    monkeypatch.setattr("zeropoint.quality.fgcm.report.draw", only_history)
    pictures = draw_figures(data)
    assert set(pictures) == {"History"}
    assert "the plot of repeatability failed" in caplog.text
    html, _ = _render(data, pictures)
    assert html.count("data:image/png") == 1
    assert "Nothing to show for: repeatability" in html


def test_a_good_calibration_is_good_and_each_limit_is_shown(data):
    html, verdict = _render(data)
    assert verdict.level == "good", verdict.reasons
    for text in (
        "Scatter of bright stars beyond noise",
        "minStarPerExp = 30",
        "no band 1",
        "χ² per degree of freedom",
    ):
        assert text in html
    assert "http" not in html.replace("http://www.w3.org", "")


def test_the_worst_band_decides(data):
    metrics = fgcm_metrics(data)
    metrics["bands"]["r"]["zeropoint_err_mmag"] = 7.0
    verdict = judge_calibration(metrics)
    assert (verdict.level, verdict.exit_code) == ("usable", 3)
    assert verdict.reasons == ("Median error of the zeropoints, r: 7 mmag is above 5 mmag",)
    metrics["bands"]["i"]["n_photometric"] = 0
    assert judge_calibration(metrics).exit_code == 4
    (exposures,) = [table for table in band_tables(metrics) if table.group == "exposures"]
    assert [row.level for row in exposures.rows[0][3]] == ["good", "good", "bad"]


def test_a_calibration_that_broke_off_is_bad_and_says_why():
    failure = CalibrationFailure("No exposure in g is photometric.", n_exposures=12)
    html, verdict = _render(FgcmReportData("made", None, ({"cycle": 0},), failure=failure))
    assert verdict.exit_code == 4
    assert "No exposure in g is photometric." in html
    assert "n exposures" in html


def test_exposures_that_are_left_out_are_listed_with_reasons(data):
    html, _ = _render(data)
    assert "Exposures that are not photometric (3)" in html
    assert "−200</td><td>too faint" in html
    table = exposure_table(data.facts)
    assert table["flags"][:4].tolist() == ["EXP_GRAY_TOO_NEGATIVE"] * 3 + [""]
    assert table["photometric"].sum() == 33


def test_a_fit_that_did_not_converge_says_what_to_do(data):
    metrics = fgcm_metrics(data) | {"converged": 0.0}
    (reason,) = judge_calibration(metrics).reasons
    assert "maxIterBeforeFinalCycle" in reason
    (fit,) = [table for table in band_tables(metrics) if table.group == "fit"]
    assert [row[3][0].value for row in fit.rows if row[0] == "The last fit converged"] == ["no"]


def test_chi_square_that_is_too_large_is_not_good_and_says_what_it_may_be(data):
    metrics = fgcm_metrics(data) | {"chi2_dof": 1.23}
    verdict = judge_calibration(metrics)
    assert verdict.level == "usable"
    assert "1.23 is outside of 0.8 to 1.2: " in verdict.reasons[0]
    assert "superStarSubCcdDict" in verdict.reasons[0]
    (reason,) = judge_calibration(metrics | {"chi2_dof": 0.6}).reasons
    assert "too large" in reason


def test_without_photometric_nights_nothing_is_called_photometric(data):
    last = {**data.history[-1], "has_photometric": False, "joint_gray_sigma": 0.054}
    html, verdict = _render(replace(data, history=(*data.history[:-1], last)))
    assert verdict.level == "usable"
    assert verdict.reasons[0].startswith("No part of the nights is photometric: exposures scatter by 54 mmag")
    assert "Exposures whose gray was fitted" in html
    assert "Photometric exposures<" not in html
    assert "Exposures that are not in the fit (3)" in html


def test_the_mean_of_references_weighs_them(data):
    exact = data.facts.references
    error = np.where(np.arange(len(exact.error)) % 2, 0.001, 0.1)[:, None] * np.ones(3)
    difference = np.where(error > 0.01, 0.2, 0.003)
    mean, sigma = replace(exact, difference=difference, error=error).mean(1)
    assert mean == pytest.approx(0.003, abs=2e-4)
    assert sigma > 0.001 / np.sqrt(0.5 * len(error))


def test_metrics_count_what_is_there(data):
    metrics = fgcm_metrics(data)
    red = metrics["bands"]["r"]
    assert (red["n_exposures"], red["n_photometric"]) == (12, 11)
    assert red["zeropoint_fraction"] == pytest.approx(11 / 12)
    assert red["zeropoint_err_mmag"] == pytest.approx(1.1)
    # 84 references of 10 mmag: the mean is known to 1.1
    assert red["reference_offset_mmag"] == pytest.approx(5.0, abs=4 * red["reference_offset_err_mmag"])
    assert red["reference_offset_err_mmag"] == pytest.approx(10 / np.sqrt(84), rel=0.3)
    assert metrics["n_at_bounds"] == 1
    assert metrics["chi2_dof"] == 1.0
    json.dumps(metrics)


def test_the_list_of_plots_needs_no_matplotlib():
    code = "import sys; import zeropoint.quality.fgcm.figures; print('matplotlib' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_nights_without_fit_are_named(data):
    history = (*data.history[:-1], {**data.history[-1], "nights_without_fit": {"60003": 16}})
    page, _ = _render(replace(data, history=history))
    assert "Nights without fit (1)" in page
    assert "60003" in page
    assert "Nights without fit" not in _render(data)[0]

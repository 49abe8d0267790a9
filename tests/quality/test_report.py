"""The report: self-contained, complete, and there even when nothing else is."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from quality import make
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.errors import PsfGenerationError
from zeropoint.quality.metrics import compute_metrics
from zeropoint.quality.panels import PANELS
from zeropoint.quality.plots.image import block_mean, block_or, image_caption, plot_image
from zeropoint.quality.report import render_report, write_report
from zeropoint.quality.report_data import ReportData
from zeropoint.quality.verdict import judge


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href")]

    def handle_data(self, data):
        self.text.append(data)


def _render(data):
    metrics = compute_metrics(data)
    html = render_report(data, metrics, judge(metrics, data.caveats, data.failure))
    page = _Page()
    page.feed(html)
    return html, page, " ".join(page.text)


def _bare(**changes):
    exposure = make.exposure(calibrated=False)
    exposure.psf = exposure.wcs = exposure.photo_calib = exposure.ap_corr_map = None
    failure = PsfGenerationError("No star was left for the PSF.", n_available=3, reason="all <saturated>")
    return ReportData("bare", "bare.fits", exposure, failure=failure, **changes)


def _full_data():
    return make.report_data(caveats=["gain estimated: 1.9 e-/ADU"], notes=["first look: FWHM 4 px"])


@pytest.fixture(scope="module")
def full():
    return _render(_full_data())


def test_the_report_has_the_key_numbers(full):
    _, _, text = full
    for expected in (
        "31.0000",
        "made-r-007",
        "usable",
        "gain estimated",
        "made-up stars",
        "SimCam",
    ):
        assert expected in text
    assert "psf_detection.thresholdValue" in text
    assert "numpy 2.1" in text
    assert "± 0.0020 mag" in text


def test_the_verdict_comes_before_numbers_and_plots(full):
    html, _, _ = full
    places = [html.index(x) for x in ("Caveats", 'id="numbers"', "data:image/png", 'id="run"')]
    assert places == sorted(places)


def test_the_report_needs_nothing_from_outside(full):
    html, page, _ = full
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert not re.search(r"https?://|<script|@import|url\(", html)
    assert len(html) < 2_000_000


def test_every_panel_is_shown_with_what_to_expect(full):
    _, page, text = full
    assert page.tags.count("img") == len(PANELS)
    for panel in PANELS:
        assert panel.expect[:40] in text


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.plot.__name__)
def test_each_plot_stands_alone_or_on_given_axes_with_units(panel):
    data = make.report_data()
    assert isinstance(panel.plot(data), Axes)
    given = Figure().add_subplot()
    assert panel.plot(data, given) is given
    assert given.get_xlabel()
    assert given.get_title(loc="left")
    assert panel.caption(data, compute_metrics(data)).endswith((".", ")"))


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.plot.__name__)
def test_each_plot_copes_with_nothing_but_pixels(panel):
    data = _bare()
    panel.plot(data).figure.canvas.draw()
    assert panel.caption(data, compute_metrics(data))


def test_the_report_says_what_made_the_psf_and_which_color_term_a_library_gave(full, monkeypatch):
    monkeypatch.setattr(
        "zeropoint.quality.report.png_of", lambda figure: ""
    )  # drawing takes most of the time
    extra = {
        "psf_determiner": "piff", "psf_solver": "native", "psf_fit_psfSpatialOrder": 0,
        "psf_fit_psfOrderReason": "7 stars for order 2", "color_term_library": "stripe*",
        "color_term_color": "i - z", "color_term_c0": 0.0, "color_term_c1": -0.0312, "color_term_c2": 0.0,
    }  # fmt: skip
    data = make.report_data(
        extra={**make.GOOD_EXTRA, **extra},
        caveats=["gain 1.9 +- 0.1 e-/ADU of frame a-1"],
        notes=["scatter 0.02 -> 0.03, slope -0.1"],
    )
    _, _, text = _render(data)
    # with the signs of print
    assert "gain 1.9 ± 0.1 e-/ADU of frame a-1" in text
    assert "Scatter 0.02 → 0.03, slope −0.1." in text
    assert "piff, native solver, spatial order 0, lower than configured" in text
    assert text.count("library “stripe*”, i − z: c0 0, c1 −0.0312, c2 0") == 2
    assert "No color term was fitted" not in text
    plain = full[2]
    assert "library “" not in plain
    assert "No color term was fitted" in plain


def test_the_caption_of_the_image_lists_the_planes_of_its_legend():
    data = make.report_data()
    data.exposure.mask[:] = 0
    assert "no pixel is masked" in image_caption(data, compute_metrics(data))
    data.exposure.set_mask(np.eye(*data.exposure.shape, dtype=bool), "INTERPOLATED")
    data.exposure.mask[:3] |= bitmask(["VIGNETTED"])
    legend = plot_image(data).get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["interpolated", "bad or no data"]
    assert "; masked pixels: bad or no data 1 %, interpolated 0.31 %." in image_caption(
        data, compute_metrics(data)
    )


def test_a_failure_names_its_reason_and_numbers_safely():
    html, page, text = _render(_bare())
    assert "PsfGenerationError" in text
    assert "No star was left for the PSF." in text
    assert "n available" in text
    assert "all <saturated>" in text  # escaped in the source
    assert "all <saturated>" not in html
    assert "Nothing to show for" in text
    assert page.tags.count("img") == 1


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_constant_or_nan_pixels_do_not_break_the_report(value):
    data = _bare()
    data.exposure.image[:] = value
    assert "bad" in _render(data)[2]


def test_a_plot_that_fails_costs_only_itself(caplog):
    stars = make.stars(make.exposure())
    stars.remove_column("slot_Centroid_x")
    stars["slot_Centroid_x"] = ["text"] * len(stars)
    html, _, text = _render_with_metrics(make.report_data(stars=stars))
    assert "Nothing to show for" in text
    assert "failed" in caplog.text
    assert html.count("<img") > 5


def _render_with_metrics(data):
    metrics = compute_metrics(make.report_data())
    html = render_report(data, metrics, judge(metrics))
    page = _Page()
    page.feed(html)
    return html, page, " ".join(page.text)


def test_writing_leaves_one_file_with_the_same_bytes_each_time(tmp_path, full):
    data = _full_data()
    metrics = compute_metrics(data)
    path = tmp_path / "a.report.html"
    path.write_text("an older report")
    write_report(path, data, metrics, judge(metrics, data.caveats, data.failure))
    assert path.read_bytes() == full[0].encode()
    assert [p.name for p in tmp_path.iterdir()] == ["a.report.html"]


def test_shrinking_keeps_the_mean_and_every_masked_pixel():
    image = np.arange(35.0, dtype=np.float32).reshape(5, 7)
    np.testing.assert_allclose(block_mean(image, 2), [[4, 6, 8], [18, 20, 22]])
    mask = np.zeros((5, 7), np.int32)
    mask[1, 1], mask[2, 5] = 2, 8
    np.testing.assert_array_equal(block_or(mask, 2), [[2, 0, 0], [0, 0, 8]])


def test_importing_the_room_loads_no_plotting():
    code = "import sys, zeropoint.quality, zeropoint.quality.verdict; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

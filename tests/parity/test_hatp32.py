"""Frames without a WCS in the header: solved from the pointing of the mount alone, and from a table."""

from pathlib import Path

import pytest

from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.instruments.card import load_card

#: Where Debian's packages astrometry-data-tycho2-* put their files.
INDEX_FILES = Path("/usr/share/astrometry")

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(
    ("number", "start"),
    [
        pytest.param(0, "mount", marks=pytest.mark.slow),
        (35, "mount"),
        pytest.param(35, "table", marks=pytest.mark.slow),
    ],
)
def test_a_frame_is_solved(number, start, real_data, testdata):
    if not (testdata / "hatp32").is_dir():
        pytest.skip(f"no HAT-P-32 frames in {testdata}")
    done = real_data.hatp32_frame(real_data.hatp32_frames(testdata)[number], start, testdata)
    figures = real_data.hatp32_figures(done)
    assert figures["solved"] == 1.0, done.run.result.failure
    assert figures["matches"] >= 10
    assert max(figures["x_scatter"], figures["y_scatter"]) < 0.25
    # the published plate solutions come from another solver and another catalogue
    assert real_data.check_against_table(done, testdata) < 1.5
    # a clear filter against VT, and an estimated gain
    assert done.verdict.level == "usable", done.verdict.reasons
    assert any("gain estimated" in reason for reason in done.verdict.reasons)
    assert 0.05 < figures["photometric"] < 0.35


@pytest.mark.slow
def test_a_frame_is_found_from_its_stars_alone(real_data, testdata, tmp_path):
    pytest.importorskip("astrometry")
    if not (testdata / "hatp32").is_dir():
        pytest.skip(f"no HAT-P-32 frames in {testdata}")
    if not INDEX_FILES.is_dir():
        pytest.skip(f"no index files in {INDEX_FILES}")
    card = tmp_path / "blind.yaml"
    card.write_text(
        f"extends: {real_data.CARDS / 'hatp32_tycho2.yaml'}\n"
        f"wcs: {{index_files: [{INDEX_FILES}], pixel_scale: 5.2, uncertainty: {{scale_percent: 10}}}}\n"
    )
    references = ReferenceSource.open(
        testdata / "hatp32" / "tycho2_field.txt", load_card(str(card)).get("references")
    )
    done = real_data.calibrate(real_data.hatp32_frames(testdata)[70], str(card), references)
    assert done.run.result.failure is None
    assert "found from 100 stars alone" in done.run.notes[0]
    assert real_data.check_against_table(done, testdata) < 1.5

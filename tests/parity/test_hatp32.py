"""Frames without a WCS in the header: solved from the pointing of the mount alone, and from a table."""

import pytest

pytestmark = pytest.mark.parity


@pytest.mark.parametrize(("number", "start"), [(0, "mount"), (35, "mount"), (35, "table")])
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

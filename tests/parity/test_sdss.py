"""Three SDSS frames against their catalogue, and against another pipeline's published measurements."""

import pytest

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module", params=["r", *(pytest.param(band, marks=pytest.mark.slow) for band in "gi")])
def frame(request, real_data, testdata):
    if not (testdata / "sdss-s82").is_dir():
        pytest.skip(f"no SDSS frames in {testdata}")
    return request.param, real_data.sdss_frame(request.param, testdata)


def test_the_wcs_agrees_with_the_catalogue(frame, real_data):
    _, done = frame
    n, east, north = real_data.astrometric_scatter(done)
    assert n >= 35
    assert max(east, north) <= 0.04
    assert max(done.run.result.astrometry.hold_out_east, done.run.result.astrometry.hold_out_north) <= 0.04
    assert done.metrics["wcs_fits_residual_mas"] < 1.0


def test_magnitudes_agree_with_the_catalogue(frame, real_data):
    band, done = frame
    n, scatter, median = real_data.photometric_scatter(done, band)
    assert n >= 35
    assert scatter <= 0.025
    assert abs(median) <= 0.01
    # measured independently, with an aperture of 8 pixels and fewer stars
    assert done.zeropoint_dn_s == pytest.approx(real_data.SDSS_ZEROPOINTS[band], abs=0.03)


def test_the_frame_is_good(frame):
    _, done = frame
    assert done.verdict.level == "good", done.verdict.reasons


def test_measurements_agree_with_those_published(frame, real_data, testdata):
    band, done = frame
    parity = real_data.sdss_parity(done, band, testdata)
    assert parity["n"] >= 0.95 * parity["n_published"]
    assert parity["n"] >= 50
    assert parity["aperture_ratio"] == pytest.approx(1.0, abs=0.005)
    assert parity["psf_scatter"] <= 0.015
    assert max(parity["x_scatter"], parity["y_scatter"]) <= 0.05
    assert parity["xx_ratio"] == pytest.approx(1.0, abs=0.02)
    assert parity["yy_ratio"] == pytest.approx(1.0, abs=0.02)


def test_published_rows_belong_to_their_frames(real_data, testdata):
    if not (testdata / "sdss-s82").is_dir():
        pytest.skip(f"no SDSS frames in {testdata}")
    for band, n in real_data.SDSS_PUBLISHED_ROWS.items():
        assert len(real_data.sdss_published(band, testdata)) == n

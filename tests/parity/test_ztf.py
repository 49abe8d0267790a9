"""A strongly undersampled ZTF quadrant against the calibration published in its header."""

import numpy as np
import pytest
from astropy.io import fits

pytestmark = pytest.mark.parity

X0, Y0, SIDE = 1100, 300, 1024


@pytest.fixture(scope="module")
def image(real_data, testdata):
    if not (testdata / "ztf-655-r-c13q3").is_dir():
        pytest.skip(f"no ZTF quadrant in {testdata}")
    return real_data.ztf_image(testdata)


@pytest.fixture(scope="module")
def part(image, tmp_path_factory):
    """The path of a cut-out with its mask and a WCS moved along."""
    folder = tmp_path_factory.mktemp("ztf")
    for kind in ("sciimg", "mskimg"):
        name = image.name.replace("sciimg", kind)
        with fits.open(image.with_name(name)) as hdus:
            header = hdus[0].header.copy()
            data = hdus[0].data[Y0 : Y0 + SIDE, X0 : X0 + SIDE].copy()
        if "CRPIX1" in header:
            header["CRPIX1"] -= X0
            header["CRPIX2"] -= Y0
        fits.PrimaryHDU(data, header).writeto(folder / name)
    return folder / image.name


def check(real_data, done, header, growth_mmag):
    n, east, north = real_data.astrometric_scatter(done)
    assert n >= 100
    assert max(east, north) <= 0.06  # a twentieth of a pixel
    _, scatter, _ = real_data.photometric_scatter(done, "r")
    assert scatter <= 0.03
    figures = real_data.ztf_figures(done, header)
    # backgrounds decide about 1.5 mmag; sinc apertures cost 5
    assert abs(figures["zeropoint_scale_mmag"]) <= 3
    for radius in real_data.ZTF_RADII:
        assert abs(figures[f"growth_mmag_{radius}"]) <= growth_mmag, radius
        assert abs(figures[f"psf_mmag_{radius}"]) <= 4 * growth_mmag, radius
    # star and model are compared at the same sub-pixel phase
    assert abs(done.metrics["dT_T_used_mean"]) < 0.03
    assert done.verdict.level != "bad", done.verdict.reasons


def test_a_part_of_the_quadrant_is_calibrated(part, image, real_data, testdata):
    done = real_data.ztf_quadrant(part, testdata)
    check(real_data, done, fits.getheader(image), growth_mmag=8)
    assert not np.isnan(done.metrics["fwhm_arcsec"])


@pytest.mark.slow
def test_the_whole_quadrant_is_calibrated(image, real_data, testdata):
    done = real_data.ztf_quadrant(image, testdata)
    check(real_data, done, fits.getheader(image), growth_mmag=4)

"""Transmission curves in the forms in which Rubin's and other cameras' are published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from zeropoint.datamodel.transmission_curve import TransmissionCurve
from zeropoint.datamodel.transmission_files import read_detector_curves

pytestmark = pytest.mark.parity


def test_afw_files_are_read_with_their_products_and_radii(testdata: Path) -> None:
    folder = testdata / "throughputs" / "hsc-lsst-format"
    optics = TransmissionCurve.read(folder / "transmission_optics_HSC_HSC_calib_unbounded.fits")
    parts = [fits.getdata(folder / "transmission_optics_HSC_HSC_calib_unbounded.fits", k) for k in (2, 3)]
    constants = next(p for p in parts if "throughput" in p.names)
    expected = np.prod([np.interp(6543.0, row["wavelengths"], row["throughput"]) for row in constants])
    # products are linear between 50 Angstrom
    assert optics.sample([6543.0]) == pytest.approx([expected], abs=1e-5)
    red = TransmissionCurve.read(folder / "transmission_filter_r_HSC-R_HSC_HSC_calib_unbounded.fits")
    assert (red.radius_unit, len(red.radii)) == ("pixel", 29)
    # at every radius it is transparent inside of its edges, and not outside; a transposed table is not
    inside = (red.wavelength > 5700) & (red.wavelength < 6800)
    outside = (red.wavelength < 5250) | (red.wavelength > 7200)
    assert red.throughput[:, inside].min() > 0.7
    assert red.throughput[:, outside].max() < 0.1
    tenth = np.interp(6200.0, red.wavelength, red.throughput[10])
    assert red.radii[10] * 0.015 == pytest.approx(100.0)
    assert red.sample([6200.0], x_mm=100.0, pixel_size_mm=0.015) == pytest.approx([tenth])


def test_text_and_tables_of_detectors_are_read(testdata: Path) -> None:
    folder = testdata / "throughputs"
    red = TransmissionCurve.read(folder / "lsst-throughputs" / "baseline" / "filter_r.dat.gz")
    # the file states its cut-offs, in nm, where it reaches a hundredth
    edges = red.wavelength[red.throughput > 0.01][[0, -1]]
    assert edges == pytest.approx([5337, 7057], abs=60)
    curves = read_detector_curves(folder / "decam-per-detector" / "g_band_per_detector_throughput.fits.gz")
    assert (len(curves), curves[42].throughput.max()) == (62, pytest.approx(0.96092916))

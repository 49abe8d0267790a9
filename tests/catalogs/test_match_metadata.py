import numpy as np
import pytest

from zeropoint.catalogs.match_metadata import match_metadata
from zeropoint.datamodel.wcs import SkyWcs, angular_separation

SHAPE = (400, 500)


def test_metadata_describe_the_padded_box():
    wcs = SkyWcs.from_boresight(0.01, 20.0, x=249.5, y=199.5, pixel_scale_arcsec=2.0)
    metadata = match_metadata(wcs, SHAPE, band="r", mjd_tai=57388.5, pixel_margin=50)
    assert {key: metadata[key] for key in ("SMATCHV", "FILTER", "TIMESYS")} == {
        "SMATCHV": 2,
        "FILTER": "r",
        "TIMESYS": "TAI",
    }
    assert metadata["JEPOCH"] == pytest.approx(2016.0, abs=1e-3)
    assert metadata["RA"] == pytest.approx(0.01, abs=1e-9)
    assert metadata["RADIUS"] == pytest.approx(np.hypot(300, 250) * 2.0 / 3600.0, rel=1e-3)
    for which, margin in (("OUTER", 150), ("INNER", -50)):
        for corner, x, y in (
            ("UPPER_LEFT", -0.5 - margin, 399.5 + margin),
            ("UPPER_RIGHT", 499.5 + margin, 399.5 + margin),
            ("LOWER_LEFT", -0.5 - margin, -0.5 - margin),
            ("LOWER_RIGHT", 499.5 + margin, -0.5 - margin),
        ):
            ra, dec = (metadata[f"{which}_{corner}_{axis}"] for axis in ("RA", "DEC"))
            assert 0.0 <= ra < 360.0
            expected = wcs.pixel_to_sky(x=x, y=y)
            assert angular_separation(*np.deg2rad([ra, dec]), *expected) < 1e-12


def test_an_unknown_epoch_is_left_out():
    wcs = SkyWcs.from_boresight(10.0, 20.0, x=249.5, y=199.5, pixel_scale_arcsec=2.0)
    metadata = match_metadata(wcs, SHAPE, band="r")
    assert "JEPOCH" not in metadata
    assert len(metadata) == 22

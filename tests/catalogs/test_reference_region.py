"""References of a region of the sky instead of those around the image."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.catalogs.references import LoadReferenceObjectsConfig, ReferenceObjectLoader
from zeropoint.datamodel.wcs import SkyWcs, angular_separation
from zeropoint.errors import NoReferenceSourcesError

SHAPE = (400, 500)
#: Around RA 0, where a region is hardest.
WCS = SkyWcs.from_boresight(0.0, 60.0, x=249.5, y=199.5, pixel_scale_arcsec=1.0, rotation_deg=20.0)


@pytest.fixture
def loader(tmp_path, rng) -> ReferenceObjectLoader:
    x, y = rng.uniform(-600, 1100, 4000), rng.uniform(-600, 1000, 4000)
    ra, dec = WCS.pixel_to_sky(x=x, y=y)
    table = Table(
        {"id": np.arange(4000), "coord_ra": ra, "coord_dec": dec, "r_flux": rng.uniform(1e3, 1e6, 4000)}
    )
    for name in ("coord_ra", "coord_dec"):
        table[name].unit = "rad"
    table["r_flux"].unit = "nJy"
    table.write(tmp_path / "cat.fits")
    config = LoadReferenceObjectsConfig()
    config.pixelMargin = 50
    return ReferenceObjectLoader(ReferenceSource.open(tmp_path / "cat.fits"), config)


def polygon(margin: float, *, shift: float = 0.0) -> ConvexPolygon:
    x = np.array([-margin, SHAPE[1] + margin, SHAPE[1] + margin, -margin]) + shift
    y = np.array([-margin, -margin, SHAPE[0] + margin, SHAPE[0] + margin])
    corners = zip(*WCS.pixel_to_sky(x=x, y=y))
    return ConvexPolygon([UnitVector3d(LonLat.fromRadians(ra, dec)) for ra, dec in corners])


@pytest.mark.parametrize("margin", [10.0, 300.0])
def test_exactly_the_objects_in_the_region_come(loader, margin) -> None:
    region = polygon(margin)
    whole = loader.source.load_circle(0.0, np.deg2rad(60.0), 0.1)
    inside = region.contains(whole["coord_ra"], whole["coord_dec"])
    found = loader.within(region).load(WCS, SHAPE, band="r")
    np.testing.assert_array_equal(np.sort(found.table["id"]), np.sort(whole["id"][inside]))
    x, y = found.table["centroid_x"], found.table["centroid_y"]
    assert x.max() == pytest.approx(SHAPE[1] + margin, abs=15)
    assert y.min() == pytest.approx(-margin, abs=15)
    # how many lie on the image itself does not depend on the region
    assert found.n_in_box == loader.load(WCS, SHAPE, band="r").n_in_box


def test_the_region_counts_not_the_image(loader) -> None:
    found = loader.within(polygon(0.0, shift=450.0)).load(WCS, SHAPE, band="r")
    assert np.min(found.table["centroid_x"]) > 440
    ra, dec = WCS.pixel_to_sky(x=700.0, y=200.0)
    away = angular_separation(
        np.asarray(found.table["coord_ra"]), np.asarray(found.table["coord_dec"]), ra, dec
    )
    assert away.max() < np.deg2rad(330 / 3600)
    with pytest.raises(NoReferenceSourcesError) as caught:
        loader.within(polygon(0.0, shift=5000.0)).load(WCS, SHAPE, band="r")
    assert caught.value.metadata["radius"] == pytest.approx(0.09, abs=0.01)

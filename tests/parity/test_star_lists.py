"""Matching and zero points on real star lists."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table, vstack

from naive import matched_stars as sky
from zeropoint.astrometry.solve import Astrometry, AstrometryConfig
from zeropoint.catalogs.references import ReferenceCatalog
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.photometry.photocal import PhotoCal, PhotoCalConfig

pytestmark = pytest.mark.parity

DATA = Path(os.environ.get("ZEROPOINT_TESTDATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
CFHT = DATA / "refcats-lsst-htm" / "cfht-d3-sdss"
LCO = DATA / "lco-sinistro-refcat2" / "cpt1m012-fa06-20200113-0102-matched-cat.fits.gz"


@pytest.mark.skipif(not CFHT.is_dir(), reason=f"no real star lists in {CFHT}")
def test_a_cfht_list_is_matched_to_sdss():
    with gzip.open(CFHT / "v695833.xy.fits.gz") as stream:
        measured = Table(fits.open(stream)[1].data)
    shards = [Table.read(path, hdu=1) for path in sorted(CFHT.glob("90*.fits.gz"))]
    table = vstack(
        [Table({k: np.asarray(t[k], float) for k in ("coord_ra", "coord_dec", "i_flux")}) for t in shards]
    )
    initial = SkyWcs.from_boresight(
        215.604, 53.1595, x=1109, y=559, pixel_scale_arcsec=0.1838, rotation_deg=180.0
    )
    x, y = initial.sky_to_pixel(ra=table["coord_ra"], dec=table["coord_dec"])
    table = table[(x > -300) & (x < 2350) & (y > -300) & (y < 4900)]
    config = AstrometryConfig()
    config.referenceSelector.doCullFromMaskedRegion = False
    config.doMagnitudeOutlierRejection = False  # most of the objects are galaxies
    config.maxIter = 5
    flux = np.asarray(measured["base_PsfFlux_instFlux"], float)
    columns = sky.schema()
    step = Astrometry(config, schema=columns)
    catalog = sky.catalog(
        columns, measured["Centroid_x"], measured["Centroid_y"], 30 - 2.5 * np.log10(np.maximum(flux, 1.0))
    )
    exposure = sky.exposure(initial, 2048, 4612)
    result = step.run(exposure, catalog, ReferenceCatalog(table, "i_flux", None, "sdss", len(table)))
    # an independent match of the same lists finds 246 of 337, 0.34 x 0.45 pixel, 0.1833 arcsec a pixel at 2 %
    assert len(result.match_src) >= 240
    assert max(result.hold_out_east, result.hold_out_north) < 0.09
    assert exposure.wcs.pixel_scale(x=1000.0, y=2300.0) == pytest.approx(0.1833, rel=0.02)


def lco_frame(columns):
    """Return catalogue and references of the frame: the table holds both, matched."""
    with gzip.open(LCO) as stream:
        table = Table(fits.open(stream)[1].data)
    names = (
        "x",
        "y",
        "ra",
        "dec",
        "fluxaper4",
        "fluxerr4",
        *(b + e for b in "gri" for e in ("mag", "magerr")),
    )
    t = {name: np.ma.filled(np.ma.asarray(table[name], float), np.nan) for name in names}
    # bright enough for the photons, faint enough for the detector
    rows = (t["imag"] > 14) & (t["imag"] < 17) & (t["fluxaper4"] > 0)
    t = {name: values[rows] for name, values in t.items()}
    ra, dec = np.deg2rad(t["ra"]), np.deg2rad(t["dec"])
    catalog = sky.catalog(columns, t["x"] - 1, t["y"] - 1, np.zeros(rows.sum()))
    catalog["coord_ra"], catalog["coord_dec"] = ra, dec
    catalog["p_instFlux"], catalog["p_instFluxErr"] = t["fluxaper4"], t["fluxerr4"]
    reference = {"coord_ra": ra, "coord_dec": dec}
    for band in "gri":
        flux = sky.AB * 10 ** (-0.4 * t[f"{band}mag"])
        reference[f"{band}_flux"] = flux
        reference[f"{band}_fluxErr"] = flux * t[f"{band}magerr"] * 0.4 * np.log(10)
    return catalog, ReferenceCatalog(Table(reference), "i_flux", "i_fluxErr", "refcat2", len(ra))


def lco_calibration(**settings):
    columns, config = sky.schema(), PhotoCalConfig()
    config.update(do_fit_color_term=True, color_term_bands=["g", "r"], color_term_reference=0.0, **settings)
    step = PhotoCal(config, schema=columns)
    return step.run(sky.exposure(None), *lco_frame(columns))


@pytest.mark.skipif(not LCO.is_file(), reason=f"no real star list {LCO}")
def test_the_scatter_of_an_lco_frame_is_the_published_one():
    result = lco_calibration()
    # measured independently: 28.742 at g - r = 0, slope 0.03, scatter 0.019 mag
    assert result.color_term.kept
    assert result.color_term.slope == pytest.approx(-0.03, abs=0.01)
    assert result.zp == pytest.approx(28.742, abs=0.005)
    assert result.scatter < 0.020
    assert result.hold_out_scatter < 0.020


@pytest.mark.skipif(not LCO.is_file(), reason=f"no real star list {LCO}")
def test_the_response_of_an_lco_frame_varies_and_held_out_stars_agree():
    result = lco_calibration(do_fit_zeropoint_field=True)
    assert result.field.order >= 2
    assert result.hold_out_scatter < 0.8 * lco_calibration().hold_out_scatter
    assert result.field.max_error < 0.01
    assert 0.03 < result.metadata["zeropoint_field_range_mag"] < 0.2

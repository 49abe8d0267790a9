"""Real shards and tables of Stripe 82, PS1, Gaia and SDSS, compared with plain reading of the same files."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from zeropoint.catalogs.reference_build import build_references
from zeropoint.catalogs.references import LoadReferenceObjectsConfig, ReferenceObjectLoader, ReferenceSource
from zeropoint.datamodel.wcs import SkyWcs, angular_separation
from zeropoint.errors import NoReferenceSourcesError

DATA = Path(os.environ.get("ZEROPOINT_TESTDATA", Path(__file__).parents[2] / "../shared/data"))
pytestmark = [
    pytest.mark.parity,
    pytest.mark.skipif(not DATA.is_dir(), reason="no real test data (set ZEROPOINT_TESTDATA)"),
]
ARCSEC = np.deg2rad(1.0 / 3600.0)
SHARDS = "sdss-s82/ref_cats/sdss_demo_ref_cat"


@pytest.fixture(scope="module")
def frame():
    """WCS and shape of a Stripe 82 frame."""
    with (
        warnings.catch_warnings(),
        fits.open(DATA / "sdss-s82/4192/40/corr/4/fpC-004192-r4-0300.fit.gz") as hdus,
    ):
        warnings.simplefilter("ignore")
        shape = hdus[0].data.shape
        return SkyWcs.from_astropy(WCS(hdus[0].header), shape), shape


def load(path, frame, band="r", name=None, column_map=None):
    source = ReferenceSource.open(DATA / path, column_map, name)
    return ReferenceObjectLoader(source).load(*frame, band=band, mjd_tai=52931.0)


def test_shards_and_table_of_stripe_82_agree(frame):
    shards, table = load(SHARDS, frame), load("sdss-s82/ref_cat/stars.fits.gz", frame)
    a, b = shards.table, table.table
    order_a, order_b = np.argsort(a["coord_ra"]), np.argsort(b["coord_ra"])
    assert len(a) == len(b) > 100
    assert shards.n_in_box == table.n_in_box
    a, b = a[order_a], b[order_b]
    # the table's positions have six decimals of a degree
    separation = angular_separation(a["coord_ra"], a["coord_dec"], b["coord_ra"], b["coord_dec"])
    assert separation.max() < 0.01 * ARCSEC
    for band in "ugriz":
        # both hold the same magnitudes, with three decimals
        ratio = np.asarray(a[f"{band}_flux"]) / np.asarray(b[f"{band}_flux"])
        assert np.nanmax(np.abs(ratio - 1.0)) < 1e-3
    assert not a["resolved"].any()


def test_shards_hold_every_row_that_a_plain_reading_finds(frame):
    wcs, shape = frame
    positions = []
    for path in sorted((DATA / SHARDS).glob("[0-9]*.fits")):
        data = fits.getdata(path, 1)
        positions.append(np.stack([data["coord_ra"], data["coord_dec"]], axis=1))
    ra, dec = np.concatenate(positions).T
    x, y = wcs.sky_to_pixel(ra=ra, dec=dec)
    inside = (x >= -250.5) & (x <= shape[1] + 249.5) & (y >= -250.5) & (y <= shape[0] + 249.5)
    catalog = load(SHARDS, frame)
    assert sorted(catalog.table["coord_ra"]) == sorted(ra[inside])


def test_gaia_shards_have_motions_and_move(frame):
    wcs = SkyWcs.from_boresight(320.9, -0.4, x=1000, y=1000, pixel_scale_arcsec=0.2)
    source = ReferenceSource.open(DATA / "refcats-lsst-htm/hsc-rc2-ps1-gaia", name="gaia_dr2")
    assert source.has_proper_motion
    config = LoadReferenceObjectsConfig(
        anyFilterMapsToThis="phot_g_mean", requireProperMotion=True, apply_parallax=False
    )
    loader = ReferenceObjectLoader(source, config)
    epoch, later = 57205.87440947, 60858.37440947  # ten Julian years
    start = loader.load(wcs, (2000, 2000), band="r", mjd_tai=epoch).table
    end = loader.load(wcs, (2000, 2000), band="r", mjd_tai=later).table
    common, i, j = np.intersect1d(start["id"], end["id"], return_indices=True)
    assert common.size > 150
    moved = angular_separation(
        *(np.asarray(t[c])[k] for t, k in ((start, i), (end, j)) for c in ("coord_ra", "coord_dec"))
    )
    expected = 10.0 * np.hypot(start["pm_ra"], start["pm_dec"])[i]
    assert moved == pytest.approx(np.asarray(expected), abs=1e-6 * ARCSEC)
    assert np.all(end["coord_raErr"][j] >= start["coord_raErr"][i])
    # half a year apart, the nearer stars have moved by up to twice their parallax more or less
    config.apply_parallax = True
    seen = ReferenceObjectLoader(source, config).load(wcs, (2000, 2000), band="r", mjd_tai=later).table
    assert seen["id"].tolist() == end["id"].tolist()
    shift = angular_separation(seen["coord_ra"], seen["coord_dec"], end["coord_ra"], end["coord_dec"])
    significant = np.asarray((end["parallax"] > 0) & (end["parallax"] >= 5.0 * end["parallaxErr"]))
    assert np.array_equal(shift > 0.0, significant)
    assert 20 < np.count_nonzero(significant) < 100
    assert np.all(shift[significant] < 1.02 * np.asarray(end["parallax"])[significant])
    assert np.all(shift[significant] > 0.1 * np.asarray(end["parallax"])[significant])
    assert start["phot_g_mean_flux"].unit == "nJy"


def test_ps1_shards_without_units_are_not_moved():
    wcs = SkyWcs.from_boresight(320.9, -0.4, x=1000, y=1000, pixel_scale_arcsec=0.2)
    catalog = load("refcats-lsst-htm/hsc-rc2-ps1-gaia", (wcs, (2000, 2000)), "i", "ps1_pv3")
    assert "pm_ra" not in catalog.table.colnames
    assert catalog.n_in_box > 500
    # stars and galaxies down to about magnitude 23: faintest fluxes near 2000 nJy
    assert 1e2 < np.nanmedian(catalog.table["i_flux"]) < 1e5


def test_depth_8_shards_carry_flags():
    wcs = SkyWcs.from_boresight(215.6, 53.1, x=1000, y=1000, pixel_scale_arcsec=0.2)
    catalog = load("refcats-lsst-htm/cfht-d3-sdss", (wcs, (2000, 2000)), "i")
    assert catalog.n_in_box > 100
    assert 0.2 < np.mean(catalog.table["resolved"]) < 0.9


def test_the_table_of_another_camera_is_understood():
    path = next((DATA / "lco-sinistro-refcat2").glob("*.fits.gz"))
    source = ReferenceSource.open(path)
    assert source.bands == ["g", "i", "r", "z"]
    columns = source.load_circle(np.deg2rad(99.8), np.deg2rad(8.7), 0.01)
    magnitude = -2.5 * np.log10(columns["r_flux"] / 3630780547701.003)
    assert 10.0 < np.median(magnitude) < 20.0


def test_a_catalogue_elsewhere_on_the_sky_is_named(frame):
    with pytest.raises(NoReferenceSourcesError, match=r"RA 351\.6.*2 shards.*degrees away"):
        load("refcats-lsst-htm/hsc-rc2-ps1-gaia", frame, "i", "ps1_pv3")


@pytest.mark.parametrize(
    ("pattern", "depth", "ra_dec", "n_rows", "n_shards"),
    [
        ("hsc-rc2-ps1-gaia/refcats_gaia*", 7, (320.9, -0.4), 2762 + 2977, 2),
        ("hsc-rc2-ps1-gaia/refcats_ps1*", 7, (320.9, -0.4), 17827 + 17375, 2),
        ("cfht-d3-sdss/9*.fits.gz", 8, (215.6, 53.1), 15083, 13),
    ],
)
def test_real_shards_can_be_built_anew(tmp_path, pattern, depth, ra_dec, n_rows, n_shards):
    files = sorted((DATA / "refcats-lsst-htm").glob(pattern))
    done = build_references(tmp_path / "out", files, depth=depth, chunk_rows=4000)
    assert (done.manifest.n_rows, len(done.manifest.shards)) == (n_rows, n_shards)
    assert done.manifest.n_dropped == done.manifest.n_duplicates == 0
    name = files[0].name[:13] if depth == 7 else None
    theirs = ReferenceSource.open(files[0].parent, name=name)
    ours = ReferenceSource.open(done.folder, verify=True)
    assert [shard.trixel for shard in ours.shards] == [shard.trixel for shard in theirs.shards]
    circle = (*np.deg2rad(ra_dec), np.deg2rad(0.3))
    a, b = ours.load_circle(*circle), theirs.load_circle(*circle)
    assert a.keys() == b.keys()
    assert a["coord_ra"].size > 1000
    for column, values in a.items():
        assert np.array_equal(values, b[column], equal_nan=values.dtype.kind == "f"), column

import gzip
import logging

import astropy.units as u
import lsst.pex.config as pexConfig
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from catalogs.shards import write_directory, write_shard
from zeropoint.catalogs.proper_motion import move_positions
from zeropoint.catalogs.references import (
    LoadReferenceObjectsConfig,
    ReferenceObjectLoader,
    ReferenceSource,
    source_density_deg2,
)
from zeropoint.datamodel.wcs import SkyWcs, angular_separation
from zeropoint.errors import InvalidInputError, NoReferenceSourcesError

MAS = np.deg2rad(1 / 3.6e6)
SHAPE = (400, 500)
CENTER = (30.0, 20.0)


@pytest.fixture
def wcs():
    return SkyWcs.from_boresight(*CENTER, x=249.5, y=199.5, pixel_scale_arcsec=2.0)


@pytest.fixture
def stars():
    """Stars within a degree or so of the image: ra, dec (radians), flux (nJy)."""
    rng = np.random.default_rng(8)
    n = 3000
    ra = np.deg2rad(CENTER[0] + rng.uniform(-1.0, 1.0, n) / np.cos(np.deg2rad(CENTER[1])))
    dec = np.deg2rad(CENTER[1] + rng.uniform(-1.0, 1.0, n))
    return ra, dec, 10.0 ** rng.uniform(3, 6, n)


def inside(wcs, ra, dec, margin):
    x, y = wcs.sky_to_pixel(ra=ra, dec=dec)
    in_x = (x >= -0.5 - margin) & (x <= SHAPE[1] - 0.5 + margin)
    return in_x & (y >= -0.5 - margin) & (y <= SHAPE[0] - 0.5 + margin)


@pytest.mark.parametrize("depth", [6, 7, 8])
def test_shards_give_exactly_the_stars_of_the_padded_box(tmp_path, wcs, stars, depth):
    ra, dec, flux = stars
    assert len(write_directory(tmp_path, ra=ra, dec=dec, flux=flux, depth=depth)) > 4
    catalog = ReferenceObjectLoader(ReferenceSource.open(tmp_path)).load(wcs, SHAPE, band="r", mjd_tai=6e4)
    expected = inside(wcs, ra, dec, 250)
    assert sorted(catalog.table["r_flux"]) == sorted(flux[expected])
    assert catalog.n_in_box == np.count_nonzero(inside(wcs, ra, dec, 0))
    assert (catalog.flux_field, catalog.flux_err_field) == ("r_flux", "r_fluxErr")
    assert catalog.table["r_fluxErr"].unit == u.nJy
    x, y = wcs.sky_to_pixel(ra=catalog.table["coord_ra"], dec=catalog.table["coord_dec"])
    assert np.array_equal(catalog.table["centroid_x"], x)
    assert np.array_equal(catalog.table["centroid_y"], y)


def by_declination(rows, dec):
    """Return row numbers in the order in which the loader returns them."""
    rows = np.flatnonzero(rows)
    return rows[np.argsort(dec[rows])]


def table_of(stars):
    ra, dec, flux = stars
    return Table(
        {
            "id": np.arange(ra.size),
            "ra": np.rad2deg(ra) - 360.0,
            "dec": np.rad2deg(dec),
            "rmag": -2.5 * np.log10(flux / 3630780547701.003),
            "e_rmag": np.full(ra.size, 0.01),
        }
    )


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "ecsv", "fits", "fits.gz", "parquet", "vot", "txt"])
def test_every_table_format_gives_the_same_stars(tmp_path, wcs, stars, ending):
    ra, dec, flux = stars
    path = tmp_path / f"field.{ending}"
    table = table_of(stars)
    formats = {"vot": "votable", "txt": "ascii.basic", "ecsv": "ascii.ecsv"}
    if ending == "csv.gz":
        table.write(tmp_path / "plain.csv")
        path.write_bytes(gzip.compress((tmp_path / "plain.csv").read_bytes()))
    elif ending == "parquet":
        pq.write_table(pa.table({name: np.asarray(table[name]) for name in table.colnames}), path)
    else:
        table.write(path, format=formats.get(ending))
    source = ReferenceSource.open(path)
    catalog = ReferenceObjectLoader(source).load(wcs, SHAPE, band="r", mjd_tai=6e4)
    expected = by_declination(inside(wcs, ra, dec, 250), dec)
    assert source.name == "field"
    assert np.asarray(catalog.table["id"]).tolist() == expected.tolist()
    assert np.asarray(catalog.table["r_flux"]) == pytest.approx(flux[expected], rel=1e-9)
    assert np.max(angular_separation(catalog.table["coord_ra"], catalog.table["coord_dec"], ra[expected],
                                     dec[expected])) < 1e-3 * MAS  # fmt: skip


def test_units_of_parquet_columns_are_used(tmp_path, wcs, stars):
    ra, dec, flux = stars
    fields = [pa.field("coord_ra", pa.float64(), metadata={"unit": "deg"}),
              pa.field("coord_dec", pa.float64(), metadata={"unit": "deg"}),
              pa.field("r_flux", pa.float64(), metadata={"unit": "uJy"})]  # fmt: skip
    arrays = [np.rad2deg(ra), np.rad2deg(dec), flux / 1000.0]
    pq.write_table(pa.table(arrays, schema=pa.schema(fields)), tmp_path / "a.parquet")
    catalog = ReferenceObjectLoader(ReferenceSource.open(tmp_path / "a.parquet")).load(
        wcs, SHAPE, band="r", mjd_tai=6e4
    )
    expected = by_declination(inside(wcs, ra, dec, 250), dec)
    assert np.asarray(catalog.table["r_flux"]) == pytest.approx(flux[expected])


def test_fields_across_zero_right_ascension_and_on_the_pole_are_complete(tmp_path):
    rng = np.random.default_rng(3)
    for name, center in (("zero", (0.0, 0.1)), ("pole", (77.0, 89.95))):
        wcs = SkyWcs.from_boresight(*center, x=249.5, y=199.5, pixel_scale_arcsec=2.0)
        x, y = rng.uniform(-600, 1000, (2, 2000))
        ra, dec = wcs.pixel_to_sky(x=x, y=y)
        (tmp_path / name).mkdir()
        write_directory(tmp_path / name, ra=ra, dec=dec, flux=np.ones(2000))
        Table({"ra": np.rad2deg(ra), "dec": np.rad2deg(dec), "r": 20.0 * np.ones(2000)}).write(
            tmp_path / f"{name}.csv"
        )
        expected = np.count_nonzero(inside(wcs, ra, dec, 250))
        for source in (tmp_path / name, tmp_path / f"{name}.csv"):
            loader = ReferenceObjectLoader(ReferenceSource.open(source))
            assert len(loader.load(wcs, SHAPE, band="r", mjd_tai=6e4)) == expected


def test_fluxes_in_jansky_are_converted_and_reported(tmp_path, wcs, stars, caplog):
    ra, dec, flux = stars
    write_directory(tmp_path, ra=ra, dec=dec, flux=flux * 1e-9, version=None, flux_unit="Jy")
    with caplog.at_level(logging.INFO, logger="zeropoint"):
        source = ReferenceSource.open(tmp_path)
    assert "Jy" in caplog.text
    table = ReferenceObjectLoader(source).load(wcs, SHAPE, band="r", mjd_tai=6e4).table
    assert sorted(table["r_flux"]) == pytest.approx(sorted(flux[inside(wcs, ra, dec, 250)]))
    assert np.asarray(table["r_fluxErr"]) == pytest.approx(np.asarray(table["r_flux"]) * 0.01)


def test_flag_bits_become_columns(tmp_path, wcs, stars):
    write_directory(tmp_path, ra=stars[0], dec=stars[1], flux=stars[2])
    table = (
        ReferenceObjectLoader(ReferenceSource.open(tmp_path)).load(wcs, SHAPE, band="r", mjd_tai=6e4).table
    )
    assert table["resolved"].dtype == bool
    assert not table["photometric"].any()
    assert np.array_equal(table["resolved"], table["id"] % 2 == 1)


def moving(n, **overrides):
    columns = {
        "pm_ra": ("D", "rad", np.full(n, 3000 * MAS)),
        "pm_dec": ("D", "rad", np.zeros(n)),
        "epoch": ("D", "day", np.full(n, 57388.5)),
        "coord_raErr": ("E", "rad", np.full(n, 3 * MAS)),
        "pm_raErr": ("E", "rad/year", np.full(n, 0.4 * MAS)),
    } | overrides
    return [(name, *rest) for name, rest in columns.items()]


def test_stars_are_moved_before_the_box_is_cut(tmp_path, wcs):
    # 3" a year for ten years is 15 pixels; East is at -x
    x = np.array([SHAPE[1] + 250.0 + 10.0, -250.0 + 5.0])
    ra, dec = wcs.pixel_to_sky(x=x, y=np.full(2, 200.0))
    write_directory(tmp_path, ra=ra, dec=dec, flux=np.array([1.0, 2.0]), extra=moving(2))
    loader = ReferenceObjectLoader(ReferenceSource.open(tmp_path))
    catalog = loader.load(wcs, SHAPE, band="r", mjd_tai=57388.5 + 3652.5)
    assert catalog.table["r_flux"].tolist() == [1.0]
    assert catalog.table["centroid_x"][0] == pytest.approx(x[0] - 15.0, abs=0.02)
    assert catalog.table["coord_raErr"][0] == pytest.approx(5.0 * MAS, rel=1e-6)
    assert catalog.table["epoch"][0] == pytest.approx(57388.5 + 3652.5)


def test_covariance_enters_the_error(tmp_path, wcs):
    ra, dec = wcs.pixel_to_sky(x=np.array([100.0]), y=np.array([100.0]))
    covariance = {"coord_ra_pm_ra_Cov": ("D", "rad^2/year", np.array([-0.6 * MAS**2]))}
    write_directory(tmp_path, ra=ra, dec=dec, flux=np.ones(1), version=2, extra=moving(1, **covariance))
    loader = ReferenceObjectLoader(ReferenceSource.open(tmp_path))
    table = loader.load(wcs, SHAPE, band="r", mjd_tai=57388.5 + 3652.5).table
    assert table["coord_raErr"][0] == pytest.approx(np.sqrt(9.0 + 16.0 - 12.0) * MAS, rel=1e-6)


def test_motions_are_required_or_warned_about(tmp_path, wcs, caplog):
    ra, dec = wcs.pixel_to_sky(x=np.array([100.0]), y=np.array([100.0]))
    write_directory(tmp_path, ra=ra, dec=dec, flux=np.ones(1), extra=moving(1))
    source = ReferenceSource.open(tmp_path)
    table = ReferenceObjectLoader(source).load(wcs, SHAPE, band="r", mjd_tai=np.nan).table
    assert table["coord_ra"][0] == pytest.approx(ra[0], abs=1e-15)
    assert "epoch is unknown" in caplog.text
    loader = ReferenceObjectLoader(source, LoadReferenceObjectsConfig(requireProperMotion=True))
    with pytest.raises(InvalidInputError, match="epoch is unknown"):
        loader.load(wcs, SHAPE, band="r", mjd_tai=np.nan)


def test_brightness_limits_hold_for_the_whole_box(tmp_path, wcs, stars):
    ra, dec, flux = stars
    write_directory(tmp_path, ra=ra, dec=dec, flux=flux, depth=8)
    box = np.sort(flux[inside(wcs, ra, dec, 250)])[::-1]
    limit = float(-2.5 * np.log10(0.5 * (box[4] + box[5]) / 3630780547701.003))
    config = LoadReferenceObjectsConfig(maxRefObjects=20, minRefMag=limit)
    catalog = ReferenceObjectLoader(ReferenceSource.open(tmp_path), config).load(
        wcs, SHAPE, band="r", mjd_tai=6e4
    )
    assert np.sort(catalog.table["r_flux"])[::-1].tolist() == box[5:25].tolist()
    assert catalog.n_in_box == np.count_nonzero(inside(wcs, ra, dec, 0))


def test_bands_are_mapped(tmp_path, wcs, stars):
    write_directory(tmp_path, ra=stars[0], dec=stars[1], flux=stars[2])
    source = ReferenceSource.open(tmp_path)
    for config in (
        LoadReferenceObjectsConfig(anyFilterMapsToThis="r"),
        LoadReferenceObjectsConfig(filterMap={"y": "r"}),
    ):
        assert ReferenceObjectLoader(source, config).flux_field("y") == "r_flux"
    with pytest.raises(InvalidInputError, match=r"no band 'y'.*it has r\..*anyFilterMapsToThis"):
        ReferenceObjectLoader(source).flux_field("y")
    both = LoadReferenceObjectsConfig(anyFilterMapsToThis="r", filterMap={"y": "r"})
    with pytest.raises(pexConfig.FieldValidationError, match="exclude"):
        ReferenceObjectLoader(source, both)


def test_an_empty_region_says_where_image_and_catalogue_are(tmp_path, stars):
    write_directory(tmp_path, ra=stars[0], dec=stars[1], flux=stars[2])
    table_of(stars).write(tmp_path / "table.csv")
    away = SkyWcs.from_boresight(200.0, -40.0, x=249.5, y=199.5, pixel_scale_arcsec=2.0)
    for path in (tmp_path, tmp_path / "table.csv"):
        loader = ReferenceObjectLoader(ReferenceSource.open(path))
        with pytest.raises(
            NoReferenceSourcesError, match=r"RA 200\.0000 Dec -40\.0000.*nearest at RA"
        ) as caught:
            loader.load(away, SHAPE, band="r", mjd_tai=6e4)
        assert caught.value.metadata["ra"] == pytest.approx(200.0)
        assert set(caught.value.metadata) == {"ra", "dec", "radius"}


def test_density_is_counted_in_the_circle_around_the_image(tmp_path, wcs, stars):
    ra, dec, flux = stars
    write_directory(tmp_path, ra=ra, dec=dec, flux=flux)
    catalog = ReferenceObjectLoader(ReferenceSource.open(tmp_path)).load(wcs, SHAPE, band="r", mjd_tai=6e4)
    # 3000 stars on 2 x 2 degrees, 750 a square degree; the circle has 70 of them
    assert source_density_deg2(catalog, wcs, SHAPE) == pytest.approx(750.0, rel=4.0 / np.sqrt(70.0))


def test_a_region_is_read_once(tmp_path, wcs, stars):
    write_directory(tmp_path, ra=stars[0], dec=stars[1], flux=stars[2])
    source = ReferenceSource.open(tmp_path)
    first = source.load_circle(0.5, 0.3, 0.01)
    assert source.load_circle(0.5, 0.3, 0.01) is first
    assert source.load_circle(0.5, 0.3, 0.02) is not first


def test_loading_does_not_change_the_kept_region(tmp_path, wcs, stars):
    extra = moving(stars[0].size)
    write_directory(tmp_path, ra=stars[0], dec=stars[1], flux=stars[2], extra=extra)
    loader = ReferenceObjectLoader(ReferenceSource.open(tmp_path))
    tables = [loader.load(wcs, SHAPE, band="r", mjd_tai=60000.0).table for _ in range(2)]
    assert np.array_equal(tables[0]["coord_ra"], tables[1]["coord_ra"])


def test_a_directory_with_several_catalogues_needs_a_name(tmp_path):
    names = ["refcats_ps1_pv3", "refcats_ps1_pv3_2018"]
    for name in names:
        write_shard(tmp_path / f"{name}_189584.fits", ra=[5.6], dec=[-0.01], flux=[1.0])
    with pytest.raises(
        InvalidInputError, match=r"several catalogues; choose one of \S+, \S+_2018\."
    ) as caught:
        ReferenceSource.open(tmp_path)
    source = ReferenceSource.open(tmp_path, name="2018")
    assert [(shard.trixel, shard.depth) for shard in source.shards] == [(189584, 7)]
    # the paths that the message shows open what they name, though the first name is part of the second
    shown = str(caught.value).partition("choose one of ")[2].removesuffix(".").split(", ")
    assert [ReferenceSource.open(path).name for path in shown] == names
    with pytest.raises(
        InvalidInputError, match=r"is several catalogues; give one of .*ps1_pv3, .*ps1_pv3_2018"
    ):
        ReferenceSource.open(tmp_path / "ps1")
    with pytest.raises(InvalidInputError, match=r"gaia does not exist; there are the shards of .*ps1_pv3,"):
        ReferenceSource.open(tmp_path / "gaia")


def test_shards_with_other_columns_are_refused(tmp_path, wcs, stars):
    trixels = write_directory(tmp_path, ra=stars[0], dec=stars[1], flux=stars[2])
    for trixel in trixels[1:]:
        (tmp_path / f"{trixel}.fits").unlink()
        write_shard(tmp_path / f"{trixel}.fits", ra=stars[0], dec=stars[1], flux=stars[2],
                    extra=[("g_flux", "D", "nJy", stars[2])])  # fmt: skip
    with pytest.raises(InvalidInputError, match="different columns"):
        ReferenceSource.open(tmp_path).load_circle(*np.deg2rad(CENTER), 0.01)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: d / "absent.fits", "does not exist"),
        (lambda d: d, "no files named by HTM trixel.*directories inner"),
        (lambda d: d / "image.fits", "no binary table"),
        (lambda d: d / "broken.parquet", "cannot be read as a table"),
        (lambda d: d / "radians.csv", "declination.*state the units"),
    ],
)
def test_unusable_catalogues_say_what_to_do(tmp_path, make, message):
    from astropy.io import fits

    (tmp_path / "inner").mkdir()
    fits.PrimaryHDU(np.zeros((3, 3))).writeto(tmp_path / "image.fits")
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    (tmp_path / "radians.csv").write_text("ra,dec,r\n10.0,123.0,18.0\n")
    with pytest.raises(InvalidInputError, match=message):
        ReferenceSource.open(make(tmp_path)).load_circle(0.1, 0.1, 0.1)


def test_settings_that_contradict_each_other_name_the_field():
    config = LoadReferenceObjectsConfig(filterMap={"r": "g"}, anyFilterMapsToThis="i")
    with pytest.raises(
        pexConfig.FieldValidationError, match=r"anyFilterMapsToThis.*filterMap \(r\).*'i'.*unset one"
    ):
        config.validate()
    with pytest.raises(pexConfig.FieldValidationError, match=r"filterMap.*has a name"):
        LoadReferenceObjectsConfig(filterMap={"r": ""}).validate()
    with pytest.raises(pexConfig.FieldValidationError, match="maxRefObjects"):
        LoadReferenceObjectsConfig(maxRefObjects=0)
    with pytest.raises(pexConfig.FieldValidationError, match="min_parallax_snr"):
        LoadReferenceObjectsConfig(min_parallax_snr=-1.0)


@pytest.mark.parametrize(
    ("settings", "why", "remedy"),
    [
        ({}, "'y' (for the image's band 'y')", "camera card (bands: {FILTER: BAND}), or set filterMap"),
        (
            {"anyFilterMapsToThis": "gaia"},
            "'gaia' (named by loader.anyFilterMapsToThis)",
            "Correct loader.anyFilterMapsToThis.",
        ),
        (
            {"filterMap": {"y": "Y"}},
            "'Y' (to which loader.filterMap maps the image's band 'y')",
            "Correct loader.filterMap.",
        ),
    ],
)
def test_a_band_that_is_not_there_names_the_field_to_correct(tmp_path, stars, settings, why, remedy):
    table_of(stars)[:3].write(tmp_path / "a.csv")
    config = LoadReferenceObjectsConfig(**settings)
    config._rename("loader")  # as it is called in a recipe's configuration
    loader = ReferenceObjectLoader(ReferenceSource.open(tmp_path / "a.csv"), config)
    with pytest.raises(InvalidInputError, match="it has r") as error:
        loader.flux_field("y")
    assert why in str(error.value)
    assert str(error.value).partition("it has r.  ")[2].find(remedy) >= 0
    assert ("{FILTER" in str(error.value)) == (not settings)


def test_a_band_without_a_single_flux_is_a_failure_with_numbers(tmp_path, wcs, stars):
    table = table_of(stars)
    table["gmag"] = np.full(len(table), -999.0)
    table.write(tmp_path / "a.csv")
    loader = ReferenceObjectLoader(ReferenceSource.open(tmp_path / "a.csv"))
    n_objects = len(loader.load(wcs, SHAPE, band="r").table)
    with pytest.raises(
        NoReferenceSourcesError, match=r"flux in band 'g'.*filterMap or anyFilterMapsToThis.*\(r\)"
    ) as error:
        loader.load(wcs, SHAPE, band="g")
    assert error.value.metadata == {"n_objects": n_objects, "n_with_flux": 0}


def test_negative_errors_are_refused_where_they_matter(tmp_path, wcs, stars):
    table = table_of(stars)
    table["pmra"], table["pmdec"], table["ref_epoch"] = 1.0, 2.0, 2016.0
    table["pmra_error"] = np.where(np.arange(len(table)) % 2, -1.0, 0.1)
    table.write(tmp_path / "a.csv")
    loader = ReferenceObjectLoader(ReferenceSource.open(tmp_path / "a.csv"))
    with pytest.raises(
        InvalidInputError, match=r"'pmra_error' \(as pm_raErr\) are negative.*pm_ra_err: null"
    ):
        loader.load(wcs, SHAPE, band="r", mjd_tai=6e4)
    without = ReferenceSource.open(tmp_path / "a.csv", {"pm_ra_err": None})
    assert (
        "pm_raErr"
        not in ReferenceObjectLoader(without).load(wcs, SHAPE, band="r", mjd_tai=6e4).table.colnames
    )


def test_circles_are_complete_at_any_epoch(tmp_path, stars):
    """Stars that move by up to ten arcseconds a year, into the circle and out of it."""
    ra, dec, _ = stars
    rng = np.random.default_rng(1)
    table = table_of(stars)
    table["pmra"], table["pmdec"] = rng.uniform(-7e3, 7e3, (2, len(table)))
    table["ref_epoch"] = 2016.0
    table.write(tmp_path / "a.csv")
    source = ReferenceSource.open(tmp_path / "a.csv")
    center, radius = np.deg2rad(CENTER), np.deg2rad(0.4)
    mjd = 57388.5 + 40 * 365.25
    found = ReferenceObjectLoader(source).load_circle(
        ra=center[0], dec=center[1], radius=radius, band="r", mjd_tai=mjd
    )
    moved = move_positions(ra, dec, table["pmra"] * MAS, table["pmdec"] * MAS, np.full(ra.size, 40.0))
    inside_then = angular_separation(*moved, *center) <= radius
    assert sorted(found.table["id"]) == np.flatnonzero(inside_then).tolist()
    assert np.count_nonzero(inside_then != (angular_separation(ra, dec, *center) <= radius)) > 10
    assert found.n_in_box == len(found)
    assert "centroid_x" not in found.table.colnames
    with pytest.raises(NoReferenceSourcesError):
        ReferenceObjectLoader(source).load_circle(ra=1.0, dec=1.0, radius=1e-4, band="r")

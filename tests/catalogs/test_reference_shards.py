import logging

import lsst.sphgeom
import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from catalogs.shards import write_directory, write_shard
from zeropoint.catalogs.htm import htm_index
from zeropoint.catalogs.reference_shards import ReferenceShards
from zeropoint.catalogs.references import ReferenceObjectLoader, ReferenceSource
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import InvalidInputError

SHAPE = (400, 500)
CENTER = (30.0, 20.0)
MJD = 57388.5 + 3652.5
MAS = np.deg2rad(1 / 3.6e6)


@pytest.fixture(scope="module")
def wcs():
    return SkyWcs.from_boresight(*CENTER, x=249.5, y=199.5, pixel_scale_arcsec=2.0)


@pytest.fixture(scope="module")
def stars():
    rng = np.random.default_rng(8)
    n = 2000
    ra = np.deg2rad(CENTER[0] + rng.uniform(-0.8, 0.8, n) / np.cos(np.deg2rad(CENTER[1])))
    return Table(
        {
            "id": rng.permutation(n),
            "coord_ra": ra,
            "coord_dec": np.deg2rad(CENTER[1] + rng.uniform(-0.8, 0.8, n)),
            "r_flux": 10.0 ** rng.uniform(3, 6, n),
            "pm_ra": rng.normal(0, 50 * MAS, n),
            "pm_dec": rng.normal(0, 50 * MAS, n),
            "epoch": np.full(n, 57388.5),
        },
        units={"coord_ra": "rad", "coord_dec": "rad", "pm_ra": "rad / yr", "pm_dec": "rad / yr", "epoch": "d",
               "r_flux": "nJy"},
    )  # fmt: skip


def divided(table, depth=7):
    index = htm_index(table["coord_ra"], table["coord_dec"], depth)
    return [table[index == trixel] for trixel in np.unique(index)]


def same(a, b):
    assert a.colnames == b.colnames
    for name in a.colnames:
        assert np.array_equal(a[name], b[name], equal_nan=a[name].dtype.kind == "f"), name


def load(source, wcs):
    return ReferenceObjectLoader(source).load(wcs, SHAPE, band="r", mjd_tai=MJD)


class Handle:
    """A deferred dataset."""

    def __init__(self, table):
        self.table, self.n_reads = table, 0

    def get(self):
        self.n_reads += 1
        return self.table


def test_shards_give_the_bytes_of_the_file_they_were_made_from(tmp_path, wcs, stars):
    stars.write(tmp_path / "stars.ecsv")
    from_file = load(ReferenceSource.open(tmp_path / "stars.ecsv"), wcs)
    handles = [Handle(shard) for shard in divided(stars)]
    assert len(handles) > 4
    source = ReferenceShards("stars", handles)
    assert not any(handle.n_reads for handle in handles)
    from_shards = load(source, wcs)
    same(from_shards.table, from_file.table)
    assert from_shards.n_in_box == from_file.n_in_box > 40
    load(source, wcs)
    assert {handle.n_reads for handle in handles} == {1}
    assert (source.bands, source.has_proper_motion, source.lacks_epoch) == (["r"], True, False)


class Around:
    """A region with a bounding circle."""

    def __init__(self, table):
        self._center = np.array([np.mean(table["coord_ra"]), np.mean(table["coord_dec"])])
        offsets = np.stack([table["coord_ra"], table["coord_dec"]]).T - self._center
        self._radius = float(np.linalg.norm(offsets, axis=1).max())

    def getBoundingCircle(self):
        return lsst.sphgeom.Circle(
            lsst.sphgeom.UnitVector3d(lsst.sphgeom.LonLat.fromRadians(*self._center)),
            lsst.sphgeom.Angle(self._radius),
        )


def test_of_shards_with_regions_those_near_a_circle_are_read_and_others_forgotten(stars):
    shards = divided(stars)
    handles = [Handle(shard) for shard in shards]
    source = ReferenceShards("stars", handles, [Around(shard) for shard in shards])
    everything = ReferenceShards("stars", [lambda: stars])
    for shard in shards:
        middle, before = Around(shard)._center, [handle.n_reads for handle in handles]
        found = source.load_circle(*middle, np.deg2rad(0.05))
        expected = everything.load_circle(*middle, np.deg2rad(0.05))
        assert found["id"].tolist() == expected["id"].tolist() != []
        assert sum(handle.n_reads for handle in handles) - sum(before) < len(shards)
    reads = handles[1].n_reads
    for k in (1, len(shards) - 1, 1):  # read again after it was forgotten
        source.load_circle(*Around(shards[k])._center, np.deg2rad(0.001))
    assert handles[1].n_reads > reads
    assert handles[0].n_reads == 1  # tells which columns there are
    assert len(source.load_circle(0.0, 0.0, 0.01)["id"]) == 0
    with pytest.raises(ValueError, match="regions"):
        ReferenceShards("stars", handles, [])


def test_the_order_of_shards_and_rows_does_not_matter(wcs, stars):
    rng = np.random.default_rng(2)
    shards = [shard[rng.permutation(len(shard))] for shard in divided(stars)]
    one = load(ReferenceShards("a", [lambda t=t: t for t in shards]), wcs).table
    other = load(ReferenceShards("a", [Handle(t) for t in divided(stars, 8)[::-1]]), wcs).table
    same(one, other)


def test_rows_of_equal_position_and_id_are_in_the_order_of_their_other_columns(wcs, stars):
    twins = Table([stars["id"][[5, 5, 5]], *(stars[name][[5, 5, 5]] for name in stars.colnames[1:])])
    twins["coord_ra"], twins["coord_dec"] = np.deg2rad(CENTER)
    twins["coord_ra"].unit = twins["coord_dec"].unit = "rad"
    for order in ([1.0, 2.0, 3.0], [3.0, 1.0, 2.0]):
        twins["r_flux"][:] = order
        assert load(ReferenceShards("a", [lambda: twins]), wcs).table["r_flux"].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(("version", "unit"), [(None, "Jy"), (1, "nJy"), (2, "nJy")])
def test_tables_of_rubins_versions_are_read_as_their_files(tmp_path, wcs, stars, version, unit):
    flux = np.asarray(stars["r_flux"]) * (1e-9 if version is None else 1.0)
    write_directory(
        tmp_path, ra=stars["coord_ra"], dec=stars["coord_dec"], flux=flux, version=version, flux_unit=unit
    )
    tables = []
    for path in sorted(tmp_path.glob("*.fits")):
        table = Table.read(path, hdu=1)
        bits = np.asarray(table["flags"])
        table["photometric"], table["resolved"] = bits[:, 0], bits[:, 1]
        table.remove_column("flags")
        table.meta = {} if version is None else {"REFCAT_FORMAT_VERSION": version}
        if version is None:
            table["r_flux"].unit = table["r_fluxErr"].unit = None
        tables.append(Handle(table))
    from_files = ReferenceSource.open(tmp_path)
    same(load(ReferenceShards("a", tables), wcs).table, load(from_files, wcs).table)


def test_positions_of_version_0_may_be_one_column(wcs, stars):
    table = Table(
        {"id": stars["id"], "coord": np.stack([stars["coord_ra"], stars["coord_dec"]], axis=1)},
        units={"coord": "rad"},
    )
    table["r_flux"] = np.asarray(stars["r_flux"]) * 1e-9
    expected = load(ReferenceShards("a", [lambda: stars]), wcs).table
    found = load(ReferenceShards("a", [lambda: table]), wcs).table
    assert np.asarray(found["r_flux"]).sum() == pytest.approx(np.asarray(expected["r_flux"]).sum(), rel=0.05)


def test_fluxes_taken_as_jansky_are_said(wcs, stars, caplog):
    plain = stars.copy()
    plain["r_flux"].unit = None
    with caplog.at_level(logging.INFO, logger="zeropoint"):
        ReferenceShards("old", [lambda: plain]).bands  # noqa: B018
    assert "old: the shards' fluxes are in Jy" in caplog.text


def test_masked_values_become_nan(wcs, stars):
    masked = stars.copy()
    masked["r_flux"] = MaskedColumn(stars["r_flux"], mask=np.arange(len(stars)) % 2 == 0, unit="nJy")
    flux = load(ReferenceShards("a", [lambda: masked]), wcs).table["r_flux"]
    assert 0.3 < np.isnan(flux).mean() < 0.7
    assert not hasattr(flux, "mask")


def test_a_catalogue_without_shards_is_refused():
    with pytest.raises(InvalidInputError, match=r"gaia has no shard where the image lies"):
        ReferenceShards("gaia", [])


def test_shards_that_differ_in_their_columns_are_refused(wcs, stars):
    other = stars.copy()
    other.remove_column("epoch")
    with pytest.raises(InvalidInputError, match=r"shard 2 of 2 and a, shard 1 of 2 have different columns"):
        load(ReferenceShards("a", [lambda: stars, lambda: other]), wcs)


def test_an_empty_region_says_where_the_shards_are(stars):
    away = SkyWcs.from_boresight(200.0, -40.0, x=249.5, y=199.5, pixel_scale_arcsec=2.0)
    source = ReferenceShards("a", [lambda: stars])
    with pytest.raises(Exception, match=r"2000 rows in the 1 shards that touch the image, the nearest at RA"):
        load(source, away)


def test_a_path_may_name_one_of_several_catalogues_in_a_directory(tmp_path):
    for name in ("gaia_dr3", "ps1"):
        write_shard(tmp_path / f"{name}_189584.fits", ra=[0.5], dec=[0.3], flux=[1.0])
    assert ReferenceSource.open(tmp_path / "ps1").shards[0].path.name == "ps1_189584.fits"
    with pytest.raises(InvalidInputError, match=r"apass does not exist; .*gaia_dr3, .*ps1"):
        ReferenceSource.open(tmp_path / "apass")

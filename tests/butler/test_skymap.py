"""Sky maps in a repository: records, regions, definition; once and for all."""

import pytest
from lsst.sphgeom import LonLat, UnitVector3d

from zeropoint.butler.skymap import register_skymap
from zeropoint.datamodel.skymap import CellPatches, LegacyPatches, SkyMap
from zeropoint.errors import InvalidInputError

#: Small tracts: the registry keeps every trixel that a region touches.
MANY = SkyMap.discrete(
    [10.0, 11.0, 200.0, 200.6, 300.0, 0.1], [5.0, 5.0, 3.0, 3.0, -80.0, 0.0], [0.5] * 6,
    pixelScale=1.0, tractOverlap=0.1, patches=LegacyPatches(patchInnerDimensions=(2500, 1500)),
)  # fmt: skip
FIELDS = SkyMap.discrete([150.0, 359.9], [2.2, -1.0], [0.5, 0.2], projection="TAN", tractOverlap=0.0,
                         patches=CellPatches())  # fmt: skip


def records(butler, element, **data_id):
    return list(butler.query_dimension_records(element, explain=False, limit=None, **data_id))


def test_all_tracts_and_patches_are_registered_with_their_regions(butler):
    done = register_skymap(butler, "many", MANY)
    nx, ny = MANY.num_patches_max
    assert (done.n_tracts, done.n_patches_total) == (len(MANY), len(MANY) * nx * ny)
    assert (done.n_new_patches, done.was_there) == (done.n_patches_total, False)
    (sky_map,) = records(butler, "skymap")
    assert (sky_map.name, sky_map.hash) == ("many", MANY.sha1)
    assert (sky_map.tract_max, sky_map.patch_nx_max, sky_map.patch_ny_max) == (len(MANY), nx, ny)
    tracts = records(butler, "tract", skymap="many")
    assert sorted(record.id for record in tracts) == list(range(len(MANY)))
    assert all(record.region == MANY[record.id].outer_sky_polygon for record in tracts)
    patches = records(butler, "patch", skymap="many", tract=4)
    assert len(patches) == nx * ny
    for record in patches:
        patch = MANY[4].patch(record.id)
        assert (record.cell_x, record.cell_y) == (patch.x, patch.y)
        assert record.region == patch.outer_sky_polygon


def test_the_definition_comes_back_through_the_defaults_of_the_camera(butler):
    register_skymap(butler, "fields", FIELDS)
    assert butler.get("skyMap", skymap="fields", collections="TestCam/defaults") == FIELDS


def test_the_tracts_at_a_position_are_found(butler):
    register_skymap(butler, "many", MANY)
    with butler.query() as query:
        position = UnitVector3d(LonLat.fromDegrees(200.3, 3.05))
        where = query.where("skymap = 'many' AND tract.region OVERLAPS POINT(200.3, 3.05)")
        found = {int(data_id["tract"]) for data_id in where.data_ids(["tract"])}
    assert found == {tract.id for tract in MANY if tract.outer_sky_polygon.contains(position)} == {2, 3}


def test_doing_it_twice_changes_nothing(butler):
    register_skymap(butler, "fields", FIELDS)
    before = records(butler, "patch", skymap="fields")
    again = register_skymap(butler, "fields", FIELDS)
    assert (again.was_there, again.n_new_patches) == (True, 0)
    assert records(butler, "patch", skymap="fields") == before
    assert len(butler.query_datasets("skyMap", collections="skymaps")) == 1


def test_patches_can_be_asked_for_later_tract_by_tract(butler):
    n = MANY.num_patches_max[0] * MANY.num_patches_max[1]
    steps = [("none", 0), ([1, 3], 2 * n), ([3, 4], n), ("all", (len(MANY) - 3) * n), ("auto", 0)]
    for patches, expected in steps:
        assert register_skymap(butler, "many", MANY, patches=patches).n_new_patches == expected
    assert len(records(butler, "patch", skymap="many")) == len(MANY) * n


def test_an_interrupted_registration_of_patches_goes_on_where_it_stopped(butler, monkeypatch):
    monkeypatch.setattr("zeropoint.butler.skymap._BATCH", 1)

    def stop(stage, done, total):
        if (stage, done) == ("patches", 4):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        register_skymap(butler, "many", MANY, on_progress=stop)
    done = register_skymap(butler, "many", MANY)
    n = MANY.num_patches_max[0] * MANY.num_patches_max[1]
    assert (done.was_there, done.n_new_patches) == (True, (len(MANY) - 4) * n)


def test_maps_of_the_whole_sky_have_no_patches_unless_asked_for(butler, monkeypatch):
    monkeypatch.setattr("zeropoint.butler.skymap.AUTOMATIC_PATCHES", 10)
    assert register_skymap(butler, "many", MANY).n_new_patches == 0


def test_conflicts_are_refused_before_anything_is_written(butler):
    register_skymap(butler, "fields", FIELDS)
    with pytest.raises(InvalidInputError, match="fields is registered with another definition"):
        register_skymap(butler, "fields", MANY)
    with pytest.raises(InvalidInputError, match="registered as fields; use that name in place of other"):
        register_skymap(butler, "other", FIELDS)
    with pytest.raises(InvalidInputError, match="there is no tract 99"):
        register_skymap(butler, "many", MANY, patches=[99])
    for name in ("", "a b", "a" * 65, "x'y"):
        with pytest.raises(InvalidInputError, match="cannot be a sky map's name"):
            register_skymap(butler, name, MANY)
    assert [record.name for record in records(butler, "skymap")] == ["fields"]

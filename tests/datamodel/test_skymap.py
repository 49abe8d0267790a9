"""Sky maps against published tracts, against plain definitions, and as a partition of the sphere."""

import hashlib
import math
import pickle
import struct

import astropy.units as u
import numpy as np
import pydantic
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import example, given
from hypothesis import strategies as st
from lsst.sphgeom import Angle, LonLat, UnitVector3d

from zeropoint.datamodel.skymap import CellPatches, LegacyPatches, SkyMap, TractWcs
from zeropoint.datamodel.wcs import angular_separation

SETTINGS = {"projection": "TAN", "tractOverlap": 1 / 60}
HSC = SkyMap.rings(120, pixelScale=0.168, **SETTINGS)
RUBIN = SkyMap.rings(120, pixelScale=0.2, patches=CellPatches(), **SETTINGS)
COARSE = SkyMap.rings(
    4, raStart=123.0, pixelScale=20.0, patches=LegacyPatches(patchInnerDimensions=(1000, 900))
)
FIELDS = SkyMap.discrete([10.0, 12.0, 359.5], [41.0, 42.0, -89.5], [1.0, 0.5, 0.7], pixelScale=1.0)
#: Rounding of positions on the sphere.
TINY = 1e-12

ra_values = st.floats(0.0, 2 * math.pi)
dec_values = st.floats(-math.pi / 2, math.pi / 2)


# -- published values -----------------------------------------------------------------------------------


def test_published_tracts_are_found():
    # the fields of Rubin's Data Preview 1 (ECDFS, EDFS, SV_38_7, SV_095_-25) and COSMOS in HSC
    ra, dec = [53.13, 59.10, 37.86, 95.0, 150.11], [-28.10, -48.73, 6.98, -25.0, 2.20]
    for sky_map in (HSC, RUBIN):
        found = sky_map.find_tract_ids(ra, dec, degrees=True)
        assert found.tolist() == [5063, 2394, 10463, 5526, 9813]
        assert found.dtype == np.int32
        assert sky_map.findTractIdArray(np.deg2rad(ra), np.deg2rad(dec)).tolist() == found.tolist()


def test_published_numbers_of_tracts_patches_and_centers():
    assert len(HSC) == len(RUBIN) == 18938
    assert len(SkyMap.rings(3)) == 26
    assert HSC[0].num_patches == HSC.num_patches_max == (9, 9)
    assert RUBIN[5063].num_patches == RUBIN.num_patches_max == (10, 10)
    assert RUBIN[0].patches.inner == (3000, 3000)
    assert np.rad2deg(HSC[9813].ctr_coord) == pytest.approx(
        (150.2479338842975, 2.2314049586776834), abs=1e-10
    )


def test_corners_of_a_published_patch():
    # patch 56 of tract 1234 of Rubin's lsst_cells_v1, as printed by the package skymap-convert
    polygon = RUBIN[1234][56].inner_sky_polygon
    corners = [LonLat(vertex) for vertex in polygon.getVertices()]
    found = sorted((c.getLon().asDegrees(), c.getLat().asDegrees()) for c in corners)
    published = [(353.19436746094334, -61.733705740129906), (353.19815518020567, -61.567052069980534),
                 (353.5462936615678, -61.73505840062234)]  # fmt: skip
    assert found[:3] == [pytest.approx(corner, abs=1e-9) for corner in published]


def test_the_hash_is_that_of_the_packed_definition():
    legacy = struct.pack("<iiidd3sd", 4000, 4000, 100, 1 / 60, 0.168, b"TAN", 0.0) + struct.pack(
        "<id", 120, 0.0
    )
    assert HSC.sha1 == hashlib.sha1(b"RingsSkyMap" + legacy).digest()
    cells = struct.pack("<iiiiidd3sd", 150, 150, 50, 20, 1, 1 / 60, 0.2, b"TAN", 0.0)
    assert RUBIN.sha1 == hashlib.sha1(b"RingsSkyMap" + cells + struct.pack("<id", 120, 0.0)).digest()
    others = [
        SkyMap.rings(4),
        SkyMap.rings(4, raStart=1.0),
        SkyMap.rings(4, rotation=1.0),
        FIELDS,
        HSC,
        RUBIN,
    ]
    assert len({sky_map.sha1 for sky_map in others}) == len(others)


# -- a partition of the sphere --------------------------------------------------------------------------


@pytest.mark.parametrize("sky_map", [HSC, COARSE, SkyMap.rings(2), FIELDS])
def test_each_center_lies_in_its_tract(sky_map):
    assert sky_map.find_tract_ids(*sky_map.layout.centers).tolist() == list(range(len(sky_map)))


@given(ra_values, dec_values, st.sampled_from([HSC, RUBIN, COARSE, SkyMap.rings(2), SkyMap.rings(3)]))
@example(0.0, -math.pi / 2, COARSE)
@example(2 * math.pi, math.pi / 2, COARSE)
def test_every_position_is_in_the_inner_region_and_on_the_pixels_of_its_tract(ra, dec, sky_map):
    tract = sky_map.find_tract(ra, dec)
    region = sky_map.inner_sky_region(tract.id)
    region.dilateBy(Angle(TINY), Angle(TINY))
    assert region.contains(LonLat.fromRadians(ra, dec))
    assert tract.contains(ra, dec)
    assert tract.outer_sky_polygon.contains(ra, dec)


def test_inner_regions_do_not_overlap_and_fill_the_sphere():
    areas = 0.0
    for tract in range(len(COARSE)):
        box = COARSE.inner_sky_region(tract)
        low, high = (math.sin(angle.asRadians()) for angle in (box.getLat().getA(), box.getLat().getB()))
        width = 2 * math.pi if box.getLon().isFull() else box.getLon().getSize().asRadians()
        areas += (high - low) * width
    assert areas == pytest.approx(4 * math.pi, rel=1e-12)
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 2 * math.pi, 500), np.arcsin(rng.uniform(-1, 1, 500))
    inside = np.stack([COARSE.inner_sky_region(t).contains(ra, dec) for t in range(len(COARSE))])
    assert np.array_equal(np.argmax(inside, axis=0), COARSE.find_tract_ids(ra, dec))
    assert np.all(inside.sum(axis=0) == 1)


@given(ra_values, dec_values)
def test_a_position_belongs_to_the_nearest_tract_of_a_discrete_map(ra, dec):
    distance = angular_separation(*FIELDS.layout.centers, ra, dec)
    found = int(FIELDS.find_tract_ids(ra, dec)[0])
    assert distance[found] <= distance.min() + TINY


def test_positions_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="must be finite"):
        HSC.find_tract_ids([0.1, np.nan], [0.0, 0.0])


# -- tract ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("projection", ["TAN", "STG"])
@pytest.mark.parametrize("rotation", [0.0, 30.0])
def test_the_projection_equals_that_of_astropy(projection, rotation):
    wcs = TractWcs(1.0, -0.7, 1500.5, 1400.0, 30.0, rotation, projection)
    rng = np.random.default_rng(2)
    x, y = rng.uniform(-200, 3200, (2, 100))
    expected = wcs.to_astropy().pixel_to_world(x, y)
    ra, dec = wcs.pixel_to_sky(x=x, y=y)
    assert SkyCoord(ra, dec, unit=u.rad).separation(expected).max() < 1e-9 * u.arcsec
    back = wcs.sky_to_pixel(ra=ra, dec=dec)
    assert np.abs(np.subtract(back, (x, y))).max() < 1e-6


def test_north_is_up_and_east_is_left():
    tract = HSC[9813]
    ra, dec = tract.wcs.pixel_to_sky(
        x=tract.wcs.x0 + np.array([0, 1000, 0]), y=tract.wcs.y0 + np.array([0, 0, 1000])
    )
    assert ra[1] < ra[0]
    assert dec[2] > dec[0]
    assert (dec[2] - dec[0]) * 206264.806 == pytest.approx(168.0, rel=1e-4)


@pytest.mark.parametrize("sky_map", [HSC, COARSE, FIELDS, SkyMap.rings(6, pixelScale=10.0, rotation=20.0)])
def test_a_tract_reaches_as_far_as_its_half_side_and_overlap(sky_map):
    tract = sky_map[len(sky_map) // 2]
    reach = float(sky_map.layout.radii[tract.id]) + math.radians(sky_map.tractOverlap)
    center = SkyCoord(*tract.ctr_coord, unit=u.rad)
    ends = center.directional_offset_by(np.arange(4) * 90 * u.deg, reach * u.rad)
    assert tract.contains(ends.ra.rad, ends.dec.rad).all()
    # one row of patches less would not do
    x, y = tract.wcs.sky_to_pixel(ra=ends.ra.rad, dec=ends.dec.rad)
    for span, inner, n in zip((np.ptp(x), np.ptp(y)), tract.patches.inner, tract.num_patches, strict=True):
        assert span + 2 > inner * (n - 1)


def test_vertices_are_the_corners_just_inside():
    tract = RUBIN[100]
    x, y = tract.wcs.sky_to_pixel(ra=[v.ra for v in tract.vertices], dec=[v.dec for v in tract.vertices])
    assert x == pytest.approx([-0.499, 29999.499, 29999.499, -0.499], abs=1e-5)
    assert y == pytest.approx([-0.499, -0.499, 29999.499, 29999.499], abs=1e-5)


def test_there_is_no_tract_or_patch_beyond_the_last():
    for number in (-1, len(COARSE)):
        with pytest.raises(IndexError, match="there is no tract"):
            COARSE[number]
    with pytest.raises(IndexError, match="there is no patch"):
        COARSE[0].patch((0, 99))
    assert [tract.id for tract in FIELDS] == [0, 1, 2]


# -- patches --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tract", [HSC[5], RUBIN[5], FIELDS[1], COARSE[3]])
def test_inner_boxes_tile_the_tract_once(tract):
    nx, ny = tract.num_patches
    width, height = tract.patches.inner
    covered = np.zeros((ny, nx), int)
    for patch in tract:
        box = patch.inner_bbox
        assert (box.x.size, box.y.size) == (width, height)
        covered[box.y.start // height, box.x.start // width] += 1
        assert (patch.x, patch.y) == (box.x.start // width, box.y.start // height)
        assert patch.sequential_index == nx * patch.y + patch.x
    assert np.all(covered == 1)
    assert (tract.bbox.x.stop, tract.bbox.y.stop) == (nx * width, ny * height) == tract.shape[::-1]


def test_borders_end_at_the_tract_only_for_legacy_patches():
    corner, middle = HSC[5].patch(0).outer_bbox, HSC[5].patch((4, 4)).outer_bbox
    assert (corner.x.start, corner.x.stop, middle.x.start, middle.x.stop) == (0, 4100, 15900, 20100)
    corner = RUBIN[5].patch(0).outer_bbox
    assert (corner.x.start, corner.x.stop, corner.y.start) == (-200, 3200, -200)


@given(
    st.floats(0.0, 1.0, exclude_max=True),
    st.floats(0.0, 1.0, exclude_max=True),
    st.sampled_from([RUBIN, FIELDS]),
)
def test_a_position_on_a_tract_is_in_the_patch_found(x, y, sky_map):
    tract = sky_map[2]
    height, width = tract.shape
    ra, dec = tract.wcs.pixel_to_sky(x=x * (width - 0.01) - 0.495, y=y * (height - 0.01) - 0.495)
    patch = tract.patch(int(tract.find_patch_ids(ra, dec)))
    assert patch.outer_sky_polygon.contains(UnitVector3d(LonLat.fromRadians(float(ra), float(dec))))
    box = patch.inner_bbox
    assert box.x.start - 0.51 <= x * (width - 0.01) - 0.495 <= box.x.stop - 0.49
    assert tract.find_patch_ids(ra + math.pi, -dec) == -1


# -- definition -----------------------------------------------------------------------------------------

maps = st.builds(
    SkyMap.rings,
    st.integers(7, 500),
    st.floats(0, 359.9),
    projection=st.sampled_from(["TAN", "STG"]),
    pixelScale=st.floats(0.05, 30.0),
    tractOverlap=st.floats(0.0, 2.0),
    rotation=st.floats(-180, 180),
    patches=st.sampled_from([LegacyPatches(), CellPatches(cellBorder=10), LegacyPatches(patchBorder=0)]),
) | st.builds(
    lambda rows, **settings: SkyMap.discrete(*zip(*rows, strict=True), **settings),
    st.lists(
        st.tuples(st.floats(0, 359.9), st.floats(-90, 90), st.floats(0.01, 3.0)), min_size=1, max_size=5,
        unique_by=lambda row: row[:2],
    ),
    pixelScale=st.floats(0.05, 30.0),
)  # fmt: skip


@given(maps)
def test_json_brings_back_the_same_map(sky_map):
    again = SkyMap.model_validate_json(sky_map.model_dump_json())
    assert again == sky_map
    assert hash(again) == hash(sky_map)
    assert again.sha1 == sky_map.sha1
    assert again[len(again) - 1] == sky_map[len(sky_map) - 1]
    assert pickle.loads(pickle.dumps(sky_map)) == sky_map


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SkyMap.rings(1), "greater than or equal to 2"),
        (lambda: SkyMap.rings(4, raStart=360.0), "less than 360"),
        (lambda: SkyMap.rings(4, projection="MOL"), "'STG' or 'TAN'"),
        (lambda: SkyMap.rings(4, pixelscale=1.0), "Extra inputs"),
        (lambda: SkyMap.discrete([1.0], [1.0], [45.0], tractOverlap=20.0), "more than 60"),
        (lambda: SkyMap.discrete([], [], []), "at least one tract"),
        (lambda: SkyMap.discrete([1.0], [1.0, 2.0], [1.0]), "1, 2 and 1 values"),
        (lambda: SkyMap.discrete([1.0, 1.0], [2.0, 2.0], [1.0, 2.0]), "the same center"),
        (lambda: CellPatches(cellInnerDimensions=(150, 100)), "must be square"),
    ],
)
def test_definitions_without_meaning_are_refused(make, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        make()


def test_a_map_cannot_be_changed():
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        HSC.pixelScale = 0.2
    with pytest.raises(TypeError, match="no inner region"):
        FIELDS.inner_sky_region(0)

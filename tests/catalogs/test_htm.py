import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lsst.sphgeom import Angle, Circle, HtmPixelization, UnitVector3d

from zeropoint.catalogs._kernels import trixel_indices
from zeropoint.catalogs.htm import _ROOTS, htm_depth, htm_index, touches_circle, trixel_vertices
from zeropoint.datamodel.wcs import angular_separation, unit_vectors


def random_positions(n):
    rng = np.random.default_rng(11)
    return rng.uniform(0, 2 * np.pi, n), np.arcsin(rng.uniform(-1, 1, n))


@pytest.mark.parametrize("depth", [0, 3, 7, 8])
def test_indices_equal_those_of_sphgeom(depth):
    ra, dec = random_positions(300)
    pixelization = HtmPixelization(depth)
    expected = [pixelization.index(UnitVector3d(*vector)) for vector in unit_vectors(ra, dec)]
    assert htm_index(ra, dec, depth).tolist() == expected


@given(st.floats(-10, 10), st.floats(-np.pi / 2, np.pi / 2), st.integers(0, 12))
def test_any_position_has_the_index_of_sphgeom_or_lies_on_an_edge(ra, dec, depth):
    vector = unit_vectors(np.array([ra]), np.array([dec]))
    index = htm_index(ra, dec, depth)
    if index[0] != HtmPixelization(depth).index(UnitVector3d(*vector[0])):
        vertices = trixel_vertices(index, depth)[0]
        sides = np.einsum("ij,j->i", np.cross(vertices, np.roll(vertices, -1, axis=0)), vector[0])
        assert sides.min() > -1e-15  # rounding of unit vectors


def test_positions_on_the_root_triangles_edges_go_where_sphgeom_puts_them():
    grid = np.array([-1.0, 0.0, 1.0])
    points = np.stack(np.meshgrid(grid, grid, grid), axis=-1).reshape(-1, 3)
    points = points[np.any(points != 0, axis=1)]
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    for depth in (0, 1, 4):
        found = np.empty(len(points), np.int64)
        trixel_indices(points, _ROOTS, depth, found)
        assert found.tolist() == [HtmPixelization(depth).index(UnitVector3d(*point)) for point in points]


def test_a_position_that_is_not_finite_has_no_trixel():
    assert htm_index([0.1, np.nan, 0.2], [np.inf, 0.0, 0.3], 7).tolist()[:2] == [-1, -1]


def test_vertices_surround_their_positions():
    ra, dec = random_positions(50)
    vertices = trixel_vertices(htm_index(ra, dec, 7), 7)
    normals = np.cross(vertices, np.roll(vertices, -1, axis=1))
    assert np.all(np.einsum("nij,nj->ni", normals, unit_vectors(ra, dec)) > -1e-12)
    assert np.linalg.norm(vertices, axis=-1) == pytest.approx(1.0)


@pytest.mark.parametrize("radius", [1e-6, 0.003, 0.02, 0.2])
def test_trixels_of_a_circle_equal_those_of_sphgeom(radius):
    depth = 5
    everything = np.arange(8 * 4**depth, 16 * 4**depth)
    for ra, dec in zip(*random_positions(8), strict=True):
        circle = Circle(UnitVector3d(*unit_vectors(ra, dec)), Angle(radius))
        expected = {i for low, high in HtmPixelization(depth).envelope(circle) for i in range(low, high)}
        assert set(everything[touches_circle(everything, depth, ra, dec, radius)]) == expected


@given(st.floats(0, 6.28), st.floats(-1.57, 1.57), st.floats(1e-6, 0.5), st.floats(0, 6.28), st.floats(0, 1))
def test_no_trixel_of_a_point_in_the_circle_is_missed(ra, dec, radius, bearing, fraction):
    a = fraction * radius
    dec2 = np.arcsin(np.clip(np.sin(dec) * np.cos(a) + np.cos(dec) * np.sin(a) * np.cos(bearing), -1, 1))
    ra2 = ra + np.arctan2(np.sin(bearing) * np.sin(a) * np.cos(dec), np.cos(a) - np.sin(dec) * np.sin(dec2))
    if angular_separation(ra, dec, ra2, dec2) <= radius:
        assert touches_circle(htm_index(ra2, dec2, 7), 7, ra, dec, radius + 1e-12).all()


def test_depth_follows_from_the_index():
    assert [htm_depth(i) for i in (8, 15, 189584, 903253)] == [0, 0, 7, 8]
    assert [htm_depth(i) for i in (0, 7, 16, 20170110, 20230707)] == [-1] * 5

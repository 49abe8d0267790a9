"""Columns, colours, moments on the sky and images that final characterization works with."""

from __future__ import annotations

import astropy.units as u
import erfa
import numpy as np
import pytest
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st
from lsst.images import Box
from lsst.images.fields import ChebyshevField

from final_scene import Scene, make_scene
from zeropoint.datamodel.background import BackgroundList
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.exposure import PhotoCalib, VisitInfo
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.footprint_table import footprints_from_table
from zeropoint.datamodel.visit_image import visit_image
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import InvalidInputError
from zeropoint.photometry.calibrate import calibrate_pixels_in_place
from zeropoint.psf.piff_io import to_lsst_psf
from zeropoint.recipes.calibrated_file import calibrated_exposure
from zeropoint.recipes.finalize import FinalizeCharacterization, FinalizeCharacterizationConfig
from zeropoint.recipes.finalize.colors import add_fgcm_photometry, add_src_colors, nearest_standards
from zeropoint.recipes.finalize.schema import Sources, input_schema
from zeropoint.recipes.finalize.sky_moments import (
    SKY_MOMENT_COLUMNS,
    add_sky_moments,
    parallactic_angle,
    sky_moments,
)

ARCSEC = np.pi / 648000.0
#: What 23 years of precession change in these angles at most, radians; the hour angles of the test do not know it.
PRECESSION = np.deg2rad(1.2)


@pytest.fixture(scope="session")
def scene() -> Scene:
    return make_scene(3)


# -- columns --------------------------------------------------------------------------------------------------


def test_slots_are_found_in_the_order_of_columns(scene: Scene) -> None:
    schema = input_schema(scene.table)
    assert schema.aliases == {
        "slot_Centroid": "base_SdssCentroid",
        "slot_ApFlux": "base_CircularApertureFlux_12_0",
        "slot_CalibFlux": "base_NormalizedCompensatedTophatFlux",
    }
    assert not [name for name in schema.columns if name.startswith("slot_")]
    written = SourceCatalog(schema, 0).to_table()
    assert list(written.colnames) == scene.table.colnames


def test_slots_without_columns_to_repeat_are_columns_of_their_own(scene: Scene) -> None:
    names = [name for name in scene.table.colnames if not name.startswith("base_SdssCentroid")]
    schema = input_schema(scene.table[names])
    assert "slot_Centroid" not in schema.aliases
    assert "slot_Centroid_x" in schema.columns
    mapper = FinalizeCharacterization().make_output_schema_mapper(schema)
    assert mapper.mapping["slot_Centroid_x"] == "slot_Centroid_x"


def test_the_output_has_the_columns_of_rubins_mapper(scene: Scene) -> None:
    config = FinalizeCharacterizationConfig()
    config.do_add_sky_moments = config.do_add_fgcm_photometry = True
    mapper = FinalizeCharacterization(config).make_output_schema_mapper(input_schema(scene.table))
    columns = mapper.getOutputSchema().columns
    kinds = {
        "id": "i8",
        "coord_ra": "f8",
        "parent": "i8",
        "base_SdssCentroid_x": "f8",
        "base_CircularApertureFlux_12_0_instFlux": "f8",
        "base_NormalizedCompensatedTophatFlux_flag": "bool",
        "calib_psf_selection_flux": "f8",
        "calib_psf_selection_flux_err": "f8",
        "calib_psf_candidate": "bool",
        "calib_psf_reserved": "bool",
        "calib_psf_used": "bool",
        "visit": "i8",
        "detector": "i4",
        "psf_color_value": "f4",
        "psf_color_type": "str10",
        "psf_max_value": "f4",
        **{spec.name: "f4" for spec in SKY_MOMENT_COLUMNS},
        **{f"fgcm_mag_{band}": "f4" for band in "grizy"},
    }
    assert {name: columns[name].dtype for name in kinds} == kinds
    assert len(SKY_MOMENT_COLUMNS) == 12
    assert mapper.mapping["calib_psf_selection_flux"] == "base_GaussianFlux_instFlux"
    assert "base_GaussianFlux_instFlux" not in columns
    # flags of the PSF of before are columns of the output, but nothing is copied to them
    assert "calib_psf_used" not in mapper.mapping


def test_the_selection_sees_all_columns_and_clears_what_will_be_filled(scene: Scene) -> None:
    mapper = FinalizeCharacterization().make_selection_schema_mapper(input_schema(scene.table))
    selected = mapper.rows(scene.sources, np.array([4, 2]))
    assert selected["base_GaussianFlux_instFlux"].tolist() == scene.flux[[4, 2]].tolist()
    assert selected["slot_Centroid_x"].tolist() == scene.x[[4, 2]].tolist()
    assert not selected["calib_psf_used"].any()
    assert np.isnan(selected["psf_color_value"]).all()
    assert selected["psf_color_type"].tolist() == ["", ""]
    assert selected.footprints is not None
    assert selected.footprints.peak_x.tolist() == np.round(scene.x[[4, 2]]).tolist()


def test_a_missing_column_is_named(scene: Scene) -> None:
    schema = input_schema(scene.table[[name for name in scene.table.colnames if name != "parent"]])
    with pytest.raises(InvalidInputError, match="no column parent"):
        FinalizeCharacterization().make_output_schema_mapper(schema)


def test_footprints_are_found_by_id(scene: Scene) -> None:
    ids, footprints = footprints_from_table(scene.footprint_table)
    order = np.argsort(scene.flux)
    sources = Sources.matched(scene.table, ids[order], footprints.take(order))
    np.testing.assert_array_equal(sources.footprints.peak_x, scene.footprints.peak_x)
    with pytest.raises(InvalidInputError, match=r"1 of 85 sources have no footprint, e\.g\. that of id 3001"):
        Sources.matched(scene.table, ids[1:], footprints.take(np.arange(1, len(ids))))
    twice = scene.table[[0, 0]]
    with pytest.raises(InvalidInputError, match="3001 occurs twice"):
        Sources.matched(twice, ids, footprints)


# -- colours --------------------------------------------------------------------------------------------------


def catalog(ra: list[float], dec: list[float]) -> SourceCatalog:
    schema = Schema()
    names = {"coord_ra": "f8", "coord_dec": "f8", "psf_color_value": "f4", "psf_color_type": "str10"}
    schema.add(*(ColumnSpec(name, kind) for name, kind in names.items()))
    schema.add(ColumnSpec("fgcm_mag_N921", "f4"), ColumnSpec("fgcm_mag_y", "f4"))
    result = SourceCatalog(schema, len(ra))
    result["coord_ra"], result["coord_dec"] = np.deg2rad(ra), np.deg2rad(dec)
    return result


def standards() -> Table:
    """Return standard stars around RA 0; the second is nearer to the first source than the first."""
    arcsec = 1.0 / 3600.0
    return Table(
        {
            "ra": [360.0 - 0.8 * arcsec, 0.2 * arcsec, 10.0],
            "dec": [0.0, 0.0, 60.0],
            "mag_N921": [20.0, 21.0, 22.0],
            "mag_r": [19.0, 19.5, np.nan],
        }
    )


def test_the_nearest_standard_star_within_an_arcsecond_counts() -> None:
    arcsec = 1.0 / 3600.0
    # at declination 60 an arcsecond of right ascension is half of one
    sources = catalog([0.0, 10.0 + 1.9 * arcsec, 10.0 + 2.1 * arcsec, np.nan], [0.0, 60.0, 60.0, 0.0])
    assert nearest_standards(sources, standards()).tolist() == [1, 2, -1, -1]


def test_colors_take_bands_of_any_name() -> None:
    sources = catalog([0.0, 10.0, 20.0], [0.0, 60.0, 0.0])
    n = add_src_colors(sources, standards(), "r", {"r": "N921-r"}, field="piff.color")
    assert n == 1
    assert sources["psf_color_value"][0] == pytest.approx(1.5)
    assert np.isnan(sources["psf_color_value"][1:]).all()
    assert sources["psf_color_type"].tolist() == ["N921-r", "N921-r", ""]


@pytest.mark.parametrize(
    ("colors", "message"),
    [
        ({"g": "g-r"}, "no colour for the band 'r'"),
        ({"r": "gr"}, "is no colour"),
        ({"r": "u-r"}, "no column mag_u"),
    ],
)
def test_colors_that_cannot_be_made_are_errors(colors: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message) as error:
        add_src_colors(catalog([0.0], [0.0]), standards(), "r", colors, field="piff.color")
    assert str(error.value).startswith("piff.color")


def test_magnitudes_of_standard_stars_are_added() -> None:
    sources = catalog([0.0, 20.0], [0.0, 0.0])
    add_fgcm_photometry(sources, standards(), ["N921", "y"])
    assert sources["fgcm_mag_N921"][0] == 21.0
    assert np.isnan([sources["fgcm_mag_N921"][1], *sources["fgcm_mag_y"]]).all()


def test_magnitudes_without_standard_stars_are_unset_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    config = FinalizeCharacterizationConfig()
    sources = catalog([0.0], [0.0])
    FinalizeCharacterization(config).add_fgcm_photometry(sources, None)
    assert not caplog.records
    config.do_add_fgcm_photometry = True
    FinalizeCharacterization(config).add_fgcm_photometry(sources, None)
    assert "do_add_fgcm_photometry: there is no table of standard stars" in caplog.text
    assert np.isnan(sources["fgcm_mag_y"]).all()


# -- moments on the sky ---------------------------------------------------------------------------------------


@given(
    scale=st.floats(0.1, 2.0),
    angle=st.floats(-3.0, 3.0),
    parallactic=st.floats(-3.1, 3.1),
    direction=st.floats(0.0, np.pi),
)
def test_a_line_on_the_sky_has_moments_along_it(
    scale: float, angle: float, parallactic: float, direction: float
) -> None:
    """Of a needle with one moment of 4 arcsec^2, all components follow from the angles."""
    # East and North of a pixel step; the needle points to `direction` from North through East
    turn = scale * ARCSEC * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    needle = 4.0 * np.outer(*[np.array([np.sin(direction), np.cos(direction)])] * 2)
    inverse = np.linalg.inv(turn / ARCSEC)
    pixels = inverse @ needle @ inverse.T
    moments = sky_moments(pixels[0, :1], pixels[1, 1:], pixels[0, 1:], turn[None], parallactic)
    s, c = np.sin(direction), np.cos(direction)
    along, across = np.cos(direction - parallactic), -np.sin(direction - parallactic)
    expected = {
        "uu": s * s,
        "vv": c * c,
        "uv": s * c,
        "altalt": along**2,
        "azaz": across**2,
        "altaz": along * across,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(moments[name], 4.0 * value, atol=1e-9)


def visit_info(hour_angle_deg: float, dec: float, latitude: float) -> VisitInfo:
    utc, tt = erfa.taiutc(2400000.5, 60000.0), erfa.taitt(2400000.5, 60000.0)
    sidereal = np.rad2deg(erfa.gmst06(*utc, *tt)) - 70.0
    ra = (sidereal - hour_angle_deg) % 360.0
    return VisitInfo(1, 30.0, 60000.0, "r", "r", ra, dec, 1.0, -70.0, latitude)


@pytest.mark.parametrize(
    ("hour_angle", "dec", "latitude", "expected"),
    [
        (0.0, 10.0, 40.0, 0.0),  # South of the zenith: it lies to the North
        (0.0, 60.0, 40.0, np.pi),  # North of the zenith
        (
            90.0,
            0.0,
            0.0,
            np.pi / 2,
        ),  # setting in the West, seen from the equator: the zenith lies to the East
        (-90.0, 0.0, 0.0, -np.pi / 2),
    ],
)
def test_the_zenith_lies_where_it_should(
    hour_angle: float, dec: float, latitude: float, expected: float
) -> None:
    angle = parallactic_angle(visit_info(hour_angle, dec, latitude))
    assert abs(np.angle(np.exp(1j * (angle - expected)))) < PRECESSION


def test_without_a_place_there_is_no_zenith(scene: Scene) -> None:
    assert np.isnan(parallactic_angle(visit_info(0.0, 10.0, np.nan)))


# -- calibrated images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("varies", [False, True])
def test_an_image_in_njy_gives_the_electrons_back(scene: Scene, varies: bool) -> None:
    exposure = scene.exposure.copy()
    height, width = exposure.shape
    field = ChebyshevPolynomial(width, height, np.array([[3.5, 0.2], [0.1, 0.0]])) if varies else None
    calib = PhotoCalib(3.5, 0.0, field)
    psf = to_lsst_psf(scene.exposure.psf, Box.factory[0:height, 0:width])  # type: ignore[arg-type]
    calibrate_pixels_in_place(exposure, BackgroundList(), calib)
    image = visit_image(exposure, psf=psf, unit=u.nJy, applied=calib, metadata={"BUNIT": "nJy"})
    back = calibrated_exposure(image)
    # two roundings of single precision
    np.testing.assert_allclose(back.image, scene.exposure.image, rtol=4e-7)
    np.testing.assert_allclose(back.variance, scene.exposure.variance, rtol=1e-6)
    np.testing.assert_array_equal(back.mask, scene.exposure.mask)
    assert back.photo_calib is not None
    x, y = np.array([0.0, 300.0]), np.array([10.0, 350.0])
    np.testing.assert_allclose(back.photo_calib.at(x=x, y=y), calib.at(x=x, y=y), rtol=1e-12)
    assert back.metadata["BUNIT"] == "electron"
    assert back.psf is not None
    assert back.psf.sigma() == pytest.approx(scene.exposure.psf.sigma())  # type: ignore[union-attr]
    assert set(back.ap_corr_map or {}) == set(scene.exposure.ap_corr_map or {})


def test_an_image_in_electrons_shares_its_pixels(scene: Scene) -> None:
    height, width = scene.exposure.shape
    psf = to_lsst_psf(scene.exposure.psf, Box.factory[0:height, 0:width])  # type: ignore[arg-type]
    image = visit_image(scene.exposure, psf=psf, unit=u.electron)
    back = calibrated_exposure(image)
    assert back.image is scene.exposure.image
    assert back.photo_calib is None


def test_flux_densities_need_their_scale(scene: Scene) -> None:
    height, width = scene.exposure.shape
    box = Box.factory[0:height, 0:width]
    psf = to_lsst_psf(scene.exposure.psf, box)  # type: ignore[arg-type]
    image = visit_image(scene.exposure, psf=psf, unit=u.nJy)
    with pytest.raises(InvalidInputError, match="photometric_scaling does not say"):
        calibrated_exposure(image)
    image.photometric_scaling = ChebyshevField(box, np.array([[2.0]]), unit=u.nJy)
    with pytest.raises(InvalidInputError, match="in nJy, not in nJy / electron"):
        calibrated_exposure(image)


def test_without_a_boresight_moments_along_east_and_north_remain(caplog: pytest.LogCaptureFixture) -> None:
    slots = [f"slot_{what}_{part}" for what in ("Shape", "PsfShape") for part in ("xx", "yy", "xy")]
    specs = [ColumnSpec(name, "f8") for name in ("slot_Centroid_x", "slot_Centroid_y", *slots)]
    schema = Schema()
    schema.add(*specs, *SKY_MOMENT_COLUMNS)
    stars = SourceCatalog(schema, 1)
    for name in ("slot_Centroid_x", "slot_Centroid_y", *slots):
        stars[name] = 4.0 if name[-2:] in ("xx", "yy") else 0.0
    wcs = SkyWcs.from_boresight(10.0, 5.0, x=0.0, y=0.0, pixel_scale_arcsec=0.5, rotation_deg=30.0)
    add_sky_moments(stars, wcs, visit_info(20.0, 5.0, -30.0))
    assert not caplog.records
    assert stars["shape_Ialtalt"] == pytest.approx([1.0], rel=1e-4)
    add_sky_moments(stars, wcs, visit_info(20.0, float("nan"), -30.0))
    assert stars["shape_Iuu"] == pytest.approx([1.0], rel=1e-4)
    assert np.isnan([stars["shape_Ialtalt"][0], stars["psfShape_Iazaz"][0]]).all()
    assert "moments along altitude and azimuth are unset" in caplog.text

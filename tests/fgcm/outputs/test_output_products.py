"""All products of a fit in one step, and what may be wrong with what it is given."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from zeropoint.datamodel.arrow import arrow_to_table, table_to_arrow
from zeropoint.datamodel.skymap import SkyMap
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.atmosphere import Atmosphere
from zeropoint.fgcm.outputs.config import FgcmOutputProductsConfigBase
from zeropoint.fgcm.visit_geometry import AREA_KEY, FOCAL_PLANE_KEY, is_area_applied, stored_focal_plane
from zeropoint.recipes.fgcm_output_products import FgcmOutputProducts


@pytest.fixture
def atmospheres() -> Table:
    values = {"pmb": 740.0, "pwv": 2.0, "tau": 0.02, "alpha": 1.0, "o3": 260.0, "secZenith": 1.2}
    values |= {"cTrans": 0.0, "lamStd": 6000.0}
    return Table({"visit": [11, 12], **{name: [value, value] for name, value in values.items()}})


@pytest.fixture
def inputs(zeropoints, atmospheres):
    return {
        "zeropoints": zeropoints,
        "atmospheres": atmospheres,
        "atmosphere": Atmosphere.for_site(2663.0, wavelength=np.arange(5000.0, 6001.0, 50.0)),
        "sky_map": SkyMap.rings(30),
    }


@pytest.fixture
def config():
    return FgcmOutputProductsConfigBase()


def test_all_products_come_with_an_accounting_that_adds_up(config, visits, stars, inputs):
    products = FgcmOutputProducts(config).run(visits, stars, **inputs)
    assert [visit for visit, _ in products.photo_calibs] == [11, 12]
    assert [visit for visit, _ in products.atmospheres] == [11, 12]
    assert sum(len(table) for _, table in products.tract_stars) == 2
    assert products.offsets is None
    products.accounting.check()
    assert products.accounting["photo_calibs"].rejected == {"no_zeropoint": 1}


def test_a_visit_without_calibration_is_named(config, visits, stars, inputs):
    inputs["zeropoints"]["fgcmFlag"][inputs["zeropoints"]["visit"] == 12] = 16
    products = FgcmOutputProducts(config).run(visits, stars, **inputs)
    assert any("without calibration" in note and "12" in note for note in products.notes)


def test_the_star_list_knows_its_camera(visits, focal_plane):
    again = arrow_to_table(table_to_arrow(visits))
    plane = stored_focal_plane(again)
    assert plane.ids.tolist() == [1, 4, 6]
    for ours, theirs in zip(plane, focal_plane, strict=True):
        np.testing.assert_array_equal(ours.area.coefficients, theirs.area.coefficients)
        assert (ours.width, ours.height, ours.offset_x) == (theirs.width, theirs.height, theirs.offset_x)
    assert is_area_applied(again)
    assert is_area_applied(Table()) is None
    visits.meta[FOCAL_PLANE_KEY] = {"detector": [1]}
    with pytest.raises(InvalidInputError, match="no column"):
        stored_focal_plane(visits)


def test_areas_are_composed_as_they_were_applied(config, visits, stars, inputs, focal_plane):
    def run(**more):
        return FgcmOutputProducts(config).run(visits, stars, **inputs, **more)

    assert run().photo_calibs.catalog(11).find(4).wcs_jacobian_applied
    del visits.meta[FOCAL_PLANE_KEY]
    with pytest.raises(InvalidInputError, match="doComposeWcsJacobian needs the areas"):
        run()
    assert run(focal_plane=focal_plane).photo_calibs.catalog(11).find(4).wcs_jacobian_applied
    visits.meta[AREA_KEY] = False
    with pytest.raises(InvalidInputError, match="doApplyWcsJacobian"):
        run(focal_plane=focal_plane)
    config.doComposeWcsJacobian = False
    assert not run().notes
    visits.meta[AREA_KEY] = True
    plain = run()
    assert not plain.photo_calibs.catalog(11).find(4).wcs_jacobian_applied
    assert "areas of pixels" in plain.notes[0]


@pytest.mark.parametrize("missing", ["zeropoints", "atmospheres", "atmosphere", "sky_map"])
def test_what_a_field_asks_for_must_be_there(config, visits, stars, inputs, missing):
    del inputs[missing]
    field = {"zeropoints": "doZeropointOutput", "sky_map": "doTractStars"}.get(missing, "doAtmosphereOutput")
    with pytest.raises(InvalidInputError, match=field):
        FgcmOutputProducts(config).run(visits, stars, **inputs)
    setattr(config, field, False)
    FgcmOutputProducts(config).run(visits, stars, **inputs)


def test_offsets_need_references_and_a_filter_of_each_band(config, visits, stars, inputs):
    config.doReferenceCalibration = True
    config.physicalFilterMap = {"g_cam": "g"}
    filters = {"g_cam": "g_cam", "r_cam": "r_cam"}
    with pytest.raises(InvalidInputError, match="no filter of r in common"):
        FgcmOutputProducts(config).run(visits, stars, **inputs, standard_filters=filters)
    config.physicalFilterMap = {}
    with pytest.raises(InvalidInputError, match="needs the reference catalogue"):
        FgcmOutputProducts(config).run(visits, stars, **inputs, standard_filters=filters)

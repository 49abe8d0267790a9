import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zeropoint.catalogs.selectors import limits, sourceSelectorRegistry
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.exposure import Amplifier, DetectorInfo, Exposure, VisitInfo
from zeropoint.errors import InvalidInputError
from zeropoint.photometry.photocal import PhotoCalConfig

VALUES = hnp.arrays(np.float64, st.integers(0, 30), elements=st.floats(-1e6, 1e6) | st.just(np.nan))
BOUND = st.none() | st.floats(-1e6, 1e6)


def exposure_with_mask(mask):
    shape = mask.shape
    detector = DetectorInfo("cam", "d", 0, shape[1], shape[0], (Amplifier("a", (0, 0, 9, 9)),))
    visit = VisitInfo(1, 30.0, 60000.0, "r", "r")
    zeros = np.zeros(shape, np.float32)
    return Exposure(zeros, zeros.copy(), mask, detector, visit)


@given(VALUES, BOUND, BOUND)
def test_within_is_strict_and_nan_fails_any_limit(values, low, high):
    expected = [(low is None or value > low) and (high is None or value < high) for value in values.tolist()]
    assert limits.within(values, low, high).tolist() == expected


@given(VALUES, st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_a_tighter_limit_selects_a_subset(values, low, step):
    loose = limits.within(values, low, None)
    tight = limits.within(values, low + step, None)
    assert not np.any(tight & ~loose)


@given(VALUES, st.integers(0, 2**32 - 1))
def test_limits_do_not_depend_on_row_order(values, seed):
    order = np.random.default_rng(seed).permutation(len(values))
    config = limits.SignalToNoiseLimit(minimum=3.0)
    table = Table({"flux": values, "flux_err": np.abs(values[::-1]) + 0.1})
    direct = limits.signal_to_noise_limit(table, config)
    assert np.array_equal(limits.signal_to_noise_limit(table[order], config), direct[order])


def test_flux_limit_uses_the_flag_of_the_measurement():
    # `A_instFlux` is flagged by `A_flag`; looking for `A_instFlux_flag` only would miss it
    schema = Schema()
    schema.add(ColumnSpec("a_instFlux", "f8"), ColumnSpec("a_flag", "bool"))
    schema.alias("slot_CalibFlux", "a")
    catalog = SourceCatalog(schema, 3)
    catalog["a_instFlux"] = [5.0, 5.0, 0.5]
    catalog["a_flag"] = [False, True, False]
    config = limits.FluxLimit(minimum=1.0)
    assert limits.flux_limit(catalog, config).tolist() == [True, False, False]
    assert limits.flux_limit(catalog.to_table(), config).tolist() == [True, False, False]


def test_a_flag_of_a_reference_flux_excludes():
    table = Table({"r_flux": [1.0, 1.0], "r_flux_flag": [False, True]})
    assert limits.magnitude_limit(table, limits.MagnitudeLimit(fluxField="r_flux")).tolist() == [True, False]


def test_magnitudes_are_ab():
    flux = (np.array([0.0, 20.0, 25.0]) * u.ABmag).to_value(u.nJy)
    assert limits.ab_magnitude(flux) == pytest.approx([0.0, 20.0, 25.0], abs=1e-12)


def test_magnitude_limit_drops_negative_flux_and_keeps_the_interval():
    flux = (np.array([18.0, 20.0, 22.0]) * u.ABmag).to_value(u.nJy)
    table = Table({"flux": np.append(flux, [-5.0, 0.0, np.nan])})
    config = limits.MagnitudeLimit(minimum=19.0, maximum=21.0)
    assert limits.magnitude_limit(table, config).tolist() == [False, True, False, False, False, False]


def test_color_limit_is_primary_minus_secondary():
    flux = (np.array([20.0, 21.0]) * u.ABmag).to_value(u.nJy)
    table = Table({"g": [flux[0], flux[1], 0.0], "r": [flux[1], flux[0], 0.0]})
    config = limits.ColorLimit(primary="g", secondary="r", minimum=0.5)
    assert limits.color_limit(table, config).tolist() == [False, True, False]


def test_signal_to_noise_needs_a_number_even_without_limits():
    table = Table({"flux": [1.0, np.nan, 0.0, 5.0], "flux_err": [1.0, 1.0, 0.0, np.nan]})
    config = limits.SignalToNoiseLimit()
    assert limits.signal_to_noise_limit(table, config).tolist() == [True, False, False, False]


def test_magnitude_error_limit_reads_its_column():
    table = Table({"mag_err": [0.1, 0.3, np.nan]})
    config = limits.MagnitudeErrorLimit(maximum=0.2)
    assert limits.magnitude_error_limit(table, config).tolist() == [True, False, False]


def test_required_flags_must_exist():
    table = Table({"good": [True, True, False], "bad": [False, True, False]})
    config = limits.RequireFlags(good=["good"], bad=["bad"])
    assert limits.require_flags(table, config).tolist() == [True, False, False]
    with pytest.raises(InvalidInputError, match=r"no column 'misspelt'.* bad asks for"):
        limits.require_flags(table, limits.RequireFlags(bad=["misspelt"]))


def test_the_message_on_a_missing_column_says_what_is_there_and_which_setting_asked():
    photometry = PhotoCalConfig()
    config = photometry.match.referenceSelection
    config.colorLimits["g-r"] = limits.ColorLimit(primary="g_flux", secondary="r_flux", maximum=0.5)
    config.doMagLimit = True
    table = Table({"coord_ra": [0.1], "coord_dec": [0.1], "r_flux": [1e6], "r_fluxErr": [10.0]})
    with pytest.raises(InvalidInputError) as caught:
        config.apply().run(table)
    text = str(caught.value)
    assert "The reference catalogue has no column 'flux' (it has r_flux" in text
    assert "match.referenceSelection.magLimit.fluxField asks for" in text
    config.magLimit.fluxField = "r_flux"
    with pytest.raises(InvalidInputError, match=r"'g_flux' .*colorLimits\['g-r'\]\.primary"):
        config.apply().run(table)
    config.colorLimits["g-r"].primary = "r_flux"
    assert config.apply().run(table).n_selected == 1


@pytest.mark.parametrize(
    ("name", "setting", "field"),
    [
        ("flagged", {"field": "nothing"}, "field"),
        ("matcher", {"sourceFluxType": "nothing"}, "sourceFluxType"),
        ("astrometry", {"sourceFluxType": "nothing"}, "sourceFluxType"),
        ("objectSize", {"sourceFluxField": "nothing"}, "sourceFluxField"),
    ],
)
def test_every_selector_names_the_setting_of_a_missing_column(name, setting, field):
    schema = Schema()
    schema.add(*(ColumnSpec(f"slot_Shape_{moment}", "f8") for moment in ("xx", "yy", "xy")))
    schema.add(*(ColumnSpec(f"slot_Centroid_{axis}", "f8") for axis in ("x", "y", "xErr", "yErr")))
    selector = sourceSelectorRegistry[name]
    config = selector.ConfigClass(**setting)
    with pytest.raises(
        InvalidInputError, match=f"source catalogue has no column.*nothing.* {field} asks for"
    ):
        selector(config).run(SourceCatalog(schema, 2))


def test_unresolved_is_below_a_tenth():
    table = Table({"base_ClassificationSizeExtendedness_value": [0.0, 0.1, 1.0, np.nan]})
    assert limits.require_unresolved(table, limits.RequireUnresolved()).tolist() == [
        True,
        False,
        False,
        False,
    ]


def test_isolated_has_neither_parent_nor_children():
    table = pa.table({"parent": [0, 7, 0], "deblend_nChild": [0, 0, 2]})
    assert limits.require_isolated(table, limits.RequireIsolated()).tolist() == [True, False, False]


def test_primary_without_the_column_selects_nothing():
    assert not limits.require_primary(Table({"id": [1, 2]}), limits.RequirePrimary()).any()


def test_centroid_errors_must_be_finite_and_small():
    table = Table(
        {"slot_Centroid_xErr": [0.1, np.nan, 4.0, 0.1], "slot_Centroid_yErr": [0.1, 0.1, 0.1, np.inf]}
    )
    assert limits.centroid_error_limit(table, limits.CentroidErrorLimit()).tolist() == [
        True,
        False,
        False,
        False,
    ]
    no_limit = limits.CentroidErrorLimit()
    no_limit.maximum = None
    assert limits.centroid_error_limit(table, no_limit).tolist() == [True, False, True, False]


def test_objects_on_masked_pixels_are_culled_and_outsiders_take_the_edge():
    mask = np.zeros((4, 6), np.int32)
    exposure = exposure_with_mask(mask)
    where = np.zeros(mask.shape, bool)
    where[2, 3] = where[0, 5] = True
    exposure.set_mask(where, "NO_DATA")
    table = Table(
        {"centroid_x": [3.0, 3.49, 3.5, 40.0, -9.0, np.nan], "centroid_y": [2.0, 1.5, 2.0, -3.0, 0.0, 1.0]}
    )
    config = limits.CullFromMaskedRegion()
    expected = [False, False, True, False, True, False]
    assert limits.cull_from_masked_region(table, config, exposure).tolist() == expected
    config.badMaskNames = ["NO_SUCH_PLANE"]
    assert limits.cull_from_masked_region(table, config, exposure).tolist() == [True] * 5 + [False]


def test_culling_needs_an_exposure():
    table = Table({"centroid_x": [1.0], "centroid_y": [1.0]})
    with pytest.raises(ValueError, match="exposure"):
        limits.cull_from_masked_region(table, limits.CullFromMaskedRegion(), None)

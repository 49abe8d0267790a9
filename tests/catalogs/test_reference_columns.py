import astropy.units as u
import numpy as np
import pytest
import yaml

from zeropoint.catalogs import reference_guess as guess
from zeropoint.catalogs.reference_columns import make_column_map, read_column_map
from zeropoint.catalogs.reference_covariances import COVARIANCES
from zeropoint.catalogs.reference_raw import RawTable
from zeropoint.errors import InvalidInputError


def raw(tmp_path, units=None, meta=None, **columns):
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    return RawTable(tmp_path / "table.csv", arrays, units or {}, meta or {})


def standard(table, given=None):
    mapping = make_column_map(table, read_column_map(given))
    done = {}
    for rule in mapping.rules:
        values = None if rule.column is None else table.get(rule.column)
        done[rule.target] = rule.apply(values, 1, done)
    return done


def njy(magnitude):
    return (magnitude * u.ABmag).to_value(u.nJy)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["ra", "dec", "u", "u_err", "g", "g_err"], {"u": "u_err", "g": "g_err"}),
        (["RA_ICRS", "DE_ICRS", "gmag", "e_gmag", "rmag", "e_rmag"], {"g": "e_gmag", "r": "e_rmag"}),
        (["raMean", "decMean", "gMeanPSFMag", "gMeanPSFMagErr"], {"g": "gMeanPSFMagErr"}),
        (["RA", "Dec", "g", "dg", "r", "dr"], {"g": "dg", "r": "dr"}),
        (["ra", "dec", "gmag", "gmagerr"], {"g": "gmagerr"}),
        (["ra", "dec", "psfMag_i", "psfMagErr_i"], {"i": "psfMagErr_i"}),
        (["ra", "dec", "mag_r", "magerr_r"], {"r": "magerr_r"}),
        (["coord_ra", "coord_dec", "i_flux", "i_fluxErr"], {"i": "i_fluxErr"}),
        (["ra", "dec", "i_flux", "i_flux_err", "i_mag"], {"i": "i_flux_err"}),
        (["ra", "dec", "phot_g_mean_mag", "phot_g_mean_flux_over_error"],
         {"phot_g_mean": "phot_g_mean_flux_over_error"}),
        (["RA_ICRS", "DE_ICRS", "Gmag", "e_Gmag", "gmag", "e_gmag"], {"phot_g_mean": "e_Gmag", "g": "e_gmag"}),
        (["ra", "dec", "Jmag", "e_Jmag", "Ksmag"], {"J": "e_Jmag", "Ks": None}),
    ],
)  # fmt: skip
def test_common_names_are_recognised(columns, expected):
    found = {one.band: one.error for one in guess.bands(columns, {})}
    assert found == expected
    assert guess.first(columns, guess.POSITIONS["ra"]) == columns[0]
    assert guess.first(columns, guess.POSITIONS["dec"]) == columns[1]


@pytest.mark.parametrize("columns", [["ra", "dec", "x", "y", "g"], ["ra", "dec", "g", "e_g"]])
def test_pixel_coordinates_and_errors_are_no_magnitudes(columns):
    assert [one.band for one in guess.bands(columns, {})] == ["g"]


def test_a_lone_z_is_a_redshift():
    assert guess.bands(["ra", "dec", "z"], {}) == []


def test_magnitudes_become_fluxes_with_errors(tmp_path):
    done = standard(raw(tmp_path, ra=[10.0], dec=[-5.0], g=[20.0], g_err=[0.05]))
    assert done["coord_ra"] == pytest.approx(np.deg2rad(10.0))
    assert done["coord_dec"] == pytest.approx(np.deg2rad(-5.0))
    assert done["g_flux"] == pytest.approx(njy(20.0), rel=1e-12)
    assert done["g_fluxErr"] == pytest.approx(njy(20.0) * 0.05 * 0.4 * np.log(10.0), rel=1e-12)


@pytest.mark.parametrize("value", [-999.0, 99.9, np.nan, 999.0])
def test_sentinel_magnitudes_and_errors_are_nan(tmp_path, value):
    magnitude, error = (value, 0.1) if value != -999.0 else (20.0, value)
    done = standard(raw(tmp_path, ra=[10.0], dec=[-5.0], g=[magnitude], g_err=[error]))
    assert np.isnan(done["g_fluxErr"][0])
    assert np.isnan(done["g_flux"][0]) == (value not in (-999.0,))


def test_gaia_magnitudes_are_converted_from_vega(tmp_path):
    table = raw(tmp_path, ra=[1.0], dec=[1.0], phot_g_mean_mag=[15.0], phot_g_mean_flux_over_error=[50.0],
                phot_g_mean_flux=[1.9e4])  # fmt: skip
    done = standard(table)
    assert done["phot_g_mean_flux"] == pytest.approx(njy(15.1137), rel=1e-9)
    assert done["phot_g_mean_fluxErr"] == pytest.approx(njy(15.1137) / 50.0, rel=1e-9)


def test_gaia_counts_without_magnitudes_use_the_zero_point(tmp_path):
    columns = {"ra": [1.0], "dec": [1.0], "phot_g_mean_flux": [100.0]}
    done = standard(raw(tmp_path, {"phot_g_mean_flux": "electron/s"}, **columns))
    assert done["phot_g_mean_flux"] == pytest.approx(njy(25.7934 - 5.0), rel=1e-9)
    done = standard(raw(tmp_path, {"phot_g_mean_flux": "nJy"}, **columns))
    assert done["phot_g_mean_flux"] == pytest.approx(100.0)


def test_gaia_motions_and_epoch(tmp_path):
    done = standard(raw(tmp_path, ra=[1.0], dec=[1.0], g=[15.0], pmra=[1000.0], pmra_error=[10.0], pmdec=[-500.0],
                        pmdec_error=[5.0], ref_epoch=[2016.0]))  # fmt: skip
    mas = np.deg2rad(1 / 3.6e6)
    assert done["pm_ra"] == pytest.approx(1000.0 * mas)
    assert done["pm_decErr"] == pytest.approx(5.0 * mas)
    assert done["epoch"] == pytest.approx(57388.5)


def test_a_given_map_beats_the_guess_and_takes_units(tmp_path):
    given = {
        "ra": {"column": "lon", "unit": "rad"},
        "dec": {"column": "lat", "unit": "rad"},
        "epoch": 2015.5,
        "pm_ra": {"column": "mu", "unit": "arcsec/yr"},
        "id": None,
        "star": "is_star",
        "bands": {"r": {"flux": "f", "flux_err": "df", "unit": "uJy"}, "V": {"mag": "m", "offset": 0.02}},
    }
    table = raw(tmp_path, lon=[1.0], lat=[0.5], mu=[2.0], id=[7], is_star=[0], f=[3.0], df=[0.1], m=[18.0])
    done = standard(table, given)
    assert done["coord_ra"] == 1.0
    assert done["epoch"] == pytest.approx(51544.5 + 15.5 * 365.25)
    assert done["pm_ra"] == pytest.approx(np.deg2rad(2.0 / 3600.0))
    assert "id" not in done
    assert done["resolved"].tolist() == [True]
    assert done["r_flux"] == pytest.approx(3000.0)
    assert done["r_fluxErr"] == pytest.approx(100.0)
    assert done["V_flux"] == pytest.approx(njy(18.02))


def test_a_map_may_be_a_yaml_file_and_name_only_columns(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text(yaml.safe_dump({"ra": "A", "dec": "D", "bands": {"r": "rr"}}))
    done = standard(raw(tmp_path, A=[10.0], D=[20.0], rr=[21.0], e_rr=[0.1]), path)
    assert done["coord_dec"] == pytest.approx(np.deg2rad(20.0))
    assert done["r_flux"] == pytest.approx(njy(21.0))
    assert "r_fluxErr" in done


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"RA": "ra"}, "unknown keys.*known are ra, dec"),
        ({"bands": {"r": {"mag": "rr", "flux": "rr"}}}, "either mag"),
        ({"bands": {"r": "nothere"}}, "no column 'nothere'.*columns of the file: ra, dec, rr"),
        ({"ra": {"column": "ra", "units": "deg"}, "bands": {"r": "rr"}}, "known are column, unit"),
        ({"dec": {"column": "dec", "unit": "parsec"}, "bands": {"r": "rr"}}, "'parsec' of column 'dec'"),
        ({"epoch": {"column": "rr", "unit": "weeks"}, "bands": {"r": "rr"}}, "epoch unit 'weeks'"),
        ({}, "no flux or magnitude column.*bands:.*ra, dec, rr"),
    ],
)
def test_wrong_maps_say_what_to_do(tmp_path, given, message):
    with pytest.raises(InvalidInputError, match=message):
        standard(raw(tmp_path, ra=[1.0], dec=[2.0], rr=[3.0]), given)


def test_missing_positions_say_what_to_do(tmp_path):
    with pytest.raises(InvalidInputError, match=r"recognised as ra.*RAJ2000.*lon, lat, g"):
        standard(raw(tmp_path, lon=[1.0], lat=[2.0], g=[3.0]))


def test_a_column_that_cannot_be_a_flux_density_is_refused(tmp_path):
    table = raw(tmp_path, {"r_flux": "m"}, ra=[1.0], dec=[2.0], r_flux=[3.0])
    with pytest.raises(InvalidInputError, match="not a flux density"):
        standard(table)


@pytest.mark.parametrize(
    ("version", "unit", "factor"),
    [(None, "Jy", 1e9), (0, "?", 1e9), (None, None, 1e9), (1, None, 1.0), (2, "nJy", 1.0), (0, "nJy", 1.0)],
)
def test_flux_units_of_shards_follow_unit_then_version(tmp_path, version, unit, factor):
    meta = {"AFW_TYPE": "SIMPLE"} | ({} if version is None else {"REFCAT_FORMAT_VERSION": version})
    units = {} if unit is None else {"r_flux": unit}
    done = standard(raw(tmp_path, units, meta, coord_ra=[0.1], coord_dec=[0.2], r_flux=[3.0]))
    assert done["r_flux"] == pytest.approx(3.0 * factor)


def test_a_newer_shard_version_is_refused(tmp_path):
    meta = {"AFW_TYPE": "SIMPLE", "REFCAT_FORMAT_VERSION": 3}
    with pytest.raises(InvalidInputError, match="newer than 2"):
        standard(raw(tmp_path, {}, meta, coord_ra=[0.1], coord_dec=[0.2], r_flux=[3.0]))


@pytest.mark.parametrize(("key", "column"), [("epoch", "Ep"), ("pm_ra", "pm_x"), ("ra_err", "coord_e")])
def test_a_column_that_is_asked_for_needs_a_unit(tmp_path, key, column):
    columns = {"ra": [1.0], "dec": [2.0], "rmag": [15.0], column: [2003.8]}
    table = raw(tmp_path, {}, **columns)
    with pytest.raises(
        InvalidInputError, match=rf"{key}: column '{column}' has no unit; write {{column: {column}, "
    ):
        standard(table, {key: column})


def test_motions_of_unknown_unit_are_not_used(tmp_path):
    meta = {"AFW_TYPE": "SIMPLE", "REFCAT_FORMAT_VERSION": 2}
    table = raw(tmp_path, {"r_flux": "nJy"}, meta, coord_ra=[0.1], coord_dec=[0.2], r_flux=[3.0], pm_ra=[1.0],
                pm_dec=[1.0], epoch=[1361152384], quality=[4])  # fmt: skip
    done = standard(table)
    assert not {"pm_ra", "pm_dec", "epoch"} & set(done)
    assert done["quality"].tolist() == [4]


def test_covariances_of_version_2_have_units(tmp_path):
    """With the units that afw writes, and without; in Rubin's order of names."""
    meta = {"AFW_TYPE": "SIMPLE", "REFCAT_FORMAT_VERSION": 2}
    columns = {"coord_ra": [0.1], "coord_dec": [0.2], "r_flux": [3.0], "coord_ra_pm_dec_Cov": [2.0],
               "pm_ra_pm_dec_Cov": [3.0], "coord_dec_parallax_Cov": [4.0]}  # fmt: skip
    units = {"coord_ra_pm_dec_Cov": "mas^2/year", "pm_ra_pm_dec_Cov": "rad^2/year^2"}
    done = standard(raw(tmp_path, units, meta, **columns))
    assert done["coord_ra_pm_dec_Cov"] == pytest.approx(2.0 * np.deg2rad(1 / 3.6e6) ** 2)
    assert (done["pm_ra_pm_dec_Cov"], done["coord_dec_parallax_Cov"]) == ([3.0], [4.0])
    assert "coord_ra_pm_dec_Cov" not in standard(raw(tmp_path, units, meta, **columns), {"covariances": None})
    assert list(COVARIANCES)[:4] == [
        f"coord_ra_{name}_Cov" for name in ("coord_dec", "pm_ra", "pm_dec", "parallax")
    ]


def test_errors_of_ps1_are_in_arcseconds(tmp_path):
    columns = {"objID": [1], "raMean": [10.0], "decMean": [20.0], "raMeanErr": [0.01], "gMeanPSFMag": [18.0]}
    assert standard(raw(tmp_path, **columns))["coord_raErr"] == pytest.approx(np.deg2rad(0.01 / 3600.0))

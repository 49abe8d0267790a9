"""The table of visits."""

from __future__ import annotations

import math

import astropy.units as u
import numpy as np
import pytest
from astropy.table import Column
from lsst.images import Box

from fgcm.build_stars_parts import catalog, config, facts, focal_plane, observation, summary
from zeropoint.datamodel.exposure_catalog import ExposureCatalog, ExposureRow
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.visit_facts import pairs, read_summary, visit_facts
from zeropoint.fgcm.visits import FoundVisits, account_for, find_visits, make_visit_catalog

#: Column -> type and unit, as fgcmcal has them, for two detectors; the last is ours.
COLUMNS = {
    "visit": ("<i8", None), "physicalFilter": ("<U30", None), "telra": ("<f8", "deg"), "teldec": ("<f8", "deg"),
    "telha": ("<f8", "deg"), "telrot": ("<f8", "deg"), "mjd": ("<f8", "d"), "exptime": ("<f4", "s"),
    "pmb": ("<f4", "mbar"), "psfSigma": ("<f4", "pix"), "psfFwhm": ("<f4", "arcsec"),
    "psfFwhmDetector": (("<f4", (2,)), "arcsec"), "deltaAper": ("<f4", "mag"),
    "deltaAperDetector": (("<f4", (2,)), "mag"), "skyBackground": ("<f4", "ct"), "deepFlag": ("<i4", None),
    "scaling": (("<f8", (2,)), None), "used": ("<i4", None), "sources_read": ("|b1", None),
    "airmass": ("<f4", None),
}  # fmt: skip
FWHM = math.sqrt(8.0 * math.log(2.0))
#: Rounding of float32.
FLOAT32 = 1e-6


def test_the_columns_are_those_of_fgcmcal() -> None:
    table = catalog([7]).table
    found = {
        name: (table.dtype[name], None if table[name].unit is None else str(table[name].unit))
        for name in table.colnames
    }
    assert list(found) == list(COLUMNS)
    for name, (dtype, unit) in COLUMNS.items():
        assert found[name] == (np.dtype(dtype), unit), name
        assert table[name].description


def test_a_visit_is_what_its_summary_says() -> None:
    table = catalog([7, 8]).table
    row = table[1]
    assert (row["visit"], row["physicalFilter"], row["mjd"]) == (8, "CAM-R", 60008.0)
    # of two detectors the first counts
    assert row["psfSigma"] == 2.0
    assert row["psfFwhm"] == pytest.approx(2.0 * 0.2 * FWHM, rel=FLOAT32)
    assert row["psfFwhmDetector"] == pytest.approx([0.4 * FWHM, 0.6 * FWHM], rel=FLOAT32)
    assert (row["skyBackground"], row["pmb"], row["used"], row["deepFlag"]) == (500.0, 740.0, 1, 0)
    assert (row["scaling"] == 1.0).all()
    assert (row["deltaAperDetector"] == -9999.0).all()
    assert table.meta["DETECTORS"] == [0, 3]
    assert (table.meta["LATITUDE"], table.meta["LONGITUDE"], table.meta["ELEVATION"]) == (
        -30.0,
        -70.0,
        2600.0,
    )


def test_of_three_detectors_the_median_of_the_good_ones_counts() -> None:
    values = {
        "detectors": np.array([0, 3, 5]),
        "psf_sigma": np.array([4.0, np.nan, 1.0]),
        "pixel_scale": np.full(3, 0.2),
        "sky_background": np.array([-1.0, np.nan, 0.0]),
    }
    row = catalog([7], plane=focal_plane((0, 3, 5)), **values).table[0]
    assert (row["psfSigma"], row["skyBackground"]) == (2.5, -1.0)
    assert row["psfFwhmDetector"].tolist()[1] == -9999.0


def test_detectors_that_the_camera_lacks_have_no_place() -> None:
    row = catalog([7], plane=focal_plane((3, 9))).table[0]
    assert row["psfFwhmDetector"] == pytest.approx([0.6 * FWHM, -9999.0], rel=FLOAT32)


def test_without_pixel_scales_the_camera_tells_it() -> None:
    row = catalog([7], pixel_scale=np.full(2, np.nan)).table[0]
    assert row["psfFwhm"] == pytest.approx(2.0 * 0.2 * FWHM, rel=FLOAT32)


def test_the_hour_angle_is_the_earths_rotation_less_right_ascension() -> None:
    # the Earth rotation angle at J2000 is 280.46061837 degrees (Capitaine et al. 2000)
    known = visit_facts(7, summary(7), 40)
    assert known is not None
    assert known.hour_angle == pytest.approx(280.46061837 - 10.0 - 360.0, abs=1e-6)
    assert known.mjd == pytest.approx(51544.5, abs=1e-8)
    assert (known.pressure, known.airmass, known.exposure_time) == (740.0, 1.25, 30.0)
    assert known.is_centered_on_detectors  # there is no pointing
    assert (known.ra, known.dec) == pytest.approx((10.0, -20.0))


def test_what_is_not_known_is_not_a_number_and_is_counted() -> None:
    bare = observation(7, location=None, pressure=None, boresight_airmass=None)
    found = find_visits({7: summary(7, info=bare)}, [7], config())
    noted = account_for(found)["visits"].noted
    assert noted == {
        "no_hour_angle": 1, "no_pressure": 1, "no_airmass": 1, "no_rotation": 1, "pointing_from_detectors": 1,
    }  # fmt: skip
    row = make_visit_catalog(found, focal_plane(), config(), account_for(found)).table[0]
    assert np.isnan([row[name] for name in ("telha", "telrot", "pmb", "airmass")]).all()


def test_the_reference_detector_tells_of_the_observation() -> None:
    rows = [
        ExposureRow(d, 7, bbox=Box.factory[0:9, 0:9], visit_info=observation(7, boresight_airmass=1.0 + d))
        for d in (0, 3)
    ]
    names = {"physical_filter": Column(["CAM-R"] * 2)}
    both = ExposureCatalog.from_rows(rows).with_columns(names)
    assert [visit_facts(7, both, number).airmass for number in (3, 0, 40)] == [4.0, 1.0, 1.0]


def test_every_visit_left_out_has_a_reason() -> None:
    summaries = {
        1: summary(1),
        2: ExposureCatalog.from_table(summary(2).to_table()[:0]),
        3: summary(3, info=None),
        4: summary(4, physical_filter="CAM-N"),
        5: summary(5, psfSigma=np.array([np.nan, 0.0])),
        6: summary(6),
        7: summary(7, info=observation(7, exposure_time=0.0 * u.s)),
    }
    mapped = config(physicalFilterMap={"CAM-R": "r", "CAM-G": "g"})
    found = find_visits(summaries, [1, 2, 3, 4, 5, 7, 8], mapped)
    assert found.rejected == {
        2: "no_summary", 3: "no_observation", 4: "no_band", 5: "no_psf_size", 6: "no_source_table",
        7: "no_exposure_time", 8: "no_summary",
    }  # fmt: skip
    stage = account_for(found)["visits"]
    assert (stage.read, stage.kept, stage.rejected["no_summary"]) == (8, 1, 2)


def test_that_no_visit_is_left_is_an_error() -> None:
    with pytest.raises(
        InvalidInputError, match=r"2 read, 0 kept, 2 rejected \(no_band 2\).*physicalFilterMap"
    ):
        account_for(FoundVisits({}, {1: "no_band", 2: "no_band"}))


def test_bands_come_from_the_map_or_from_the_summaries() -> None:
    assert catalog([7]).bands == {"CAM-R": "r"}
    settings = config(physicalFilterMap={"CAM-G": "g", "CAM-R": "r"})
    assert catalog([7], settings).bands == {"CAM-G": "g", "CAM-R": "r"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"requiredBands": ["g"], "physicalFilterMap": {"CAM-R": "r", "CAM-G": "g"}},
            "requiredBands names g",
        ),
        ({"physicalFilterMap": {"CAM-R": "z", "CAM-G": "g", "X": "r"}}, "primaryBands names r,"),
    ],
)
def test_bands_without_visits_are_told_before_sources_are_read(fields, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        catalog([7], config(**fields))


def test_a_filter_with_two_bands_is_an_error() -> None:
    found = FoundVisits({1: facts(1), 2: facts(2, band="g")}, {})
    with pytest.raises(InvalidInputError, match="CAM-R is of the band g in visit 2, and of r"):
        make_visit_catalog(found, focal_plane(), config(), account_for(found))


def test_visits_that_come_twice_and_summaries_of_others_are_errors() -> None:
    with pytest.raises(InvalidInputError, match="Visit 7 has two source tables"):
        pairs([(7, "a"), (8, "b"), (7, "c")], "source table")
    assert list(pairs([(8, "b"), (7, "a")], "source table")) == [7, 8]
    with pytest.raises(InvalidInputError, match="summary of visit 8 is that of visit 7"):
        read_summary(8, summary(7))
    with pytest.raises(InvalidInputError, match="The summary of visit 7 has no column"):
        read_summary(7, summary(7).to_table()[["id", "visit"]])

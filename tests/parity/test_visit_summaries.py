"""Summaries of 8 visits of Hyper Suprime-Cam as Rubin's pipeline made them, beside ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits import FITS_rec
from lsst.images import Box, ObservationSummaryStats

from zeropoint.datamodel.exposure import DetectorInfo, PhotoCalib, VisitInfo
from zeropoint.datamodel.exposure_catalog import ExposureCatalog
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.datamodel.visit_image import observation_info
from zeropoint.datamodel.wcs import angular_separation
from zeropoint.quality.depth import zenith_distance
from zeropoint.quality.visit_summary import (
    DetectorSummary,
    empty_visit_summary,
    make_visit_summary,
    statistics_columns,
)
from zeropoint.recipes.visit_tables import visit_detector_table, visit_table

pytestmark = pytest.mark.parity

#: Seconds by which TAI was ahead of UTC when these visits were taken.
LEAP_SECONDS = {2014: 35.0, 2015: 36.0, 2016: 36.0}
#: Names that changed since.
RENAMED = {"decl": "dec"}
_ARCSEC = np.pi / 648000.0


@dataclass(frozen=True)
class Visit:
    """The tables of one file: rows by detector, calibrations and observation."""

    rows: FITS_rec
    calibrations: FITS_rec
    observation: FITS_rec

    def info(self, late_s: float = 0.0) -> VisitInfo:
        """Return the observation, as if made some seconds later."""
        v = self.observation
        place = np.rad2deg([v["longitude"], v["latitude"]])
        return VisitInfo(
            int(self.rows["visit"][0]),
            float(v["exposuretime"]),
            # nanoseconds since 1970
            float(v["tai"]) / 8.64e13 + 40587.0 + late_s / 86400.0,
            str(self.rows["physical_filter"][0]),
            str(self.rows["band"][0]),
            *(float(np.rad2deg(v[f"boresightradec_{axis}"])) for axis in ("ra", "dec")),
            float(v["boresightairmass"]),
            float(place[0]),
            float(place[1]),
            float(v["elevation"]),
        )


@pytest.fixture(scope="module")
def visits(testdata: Path) -> list[Visit]:
    folder = testdata / "hsc-visitsummaries"
    if not folder.is_dir():
        pytest.skip(f"no visit summaries in {testdata}")

    def read() -> Iterator[Visit]:
        for path in sorted(folder.glob("visitSummary_*.fits.gz")):
            with fits.open(path) as hdus:
                yield Visit(hdus[1].data, hdus["PhotoCalib"].data, hdus["VisitInfo"].data[0])

    return list(read())


@pytest.fixture(scope="module")
def summaries(visits: list[Visit]) -> list[ExposureCatalog]:
    return [our_summary(visit) for visit in visits]


def our_summary(visit: Visit) -> ExposureCatalog:
    """Return the same numbers as a summary of ours."""
    info = observation_info(visit.info(), DetectorInfo("HSC", "all", 0, 2048, 4176, ()))
    known = {c.name for c in statistics_columns()}
    names = {name: RENAMED.get(name, name) for name in visit.rows.columns.names}
    return make_visit_summary(
        int(visit.rows["visit"][0]),
        [
            DetectorSummary(
                detector=int(row["id"]),
                bbox=Box.factory[
                    row["bbox_min_y"] : row["bbox_max_y"] + 1, row["bbox_min_x"] : row["bbox_max_x"] + 1
                ],
                physical_filter=row["physical_filter"],
                band=row["band"],
                obs_info=info,
                sky_projection=None,
                photometric_scaling=None,
                statistics=ObservationSummaryStats(
                    **{ours: row[theirs] for theirs, ours in names.items() if ours in known}
                ),
            )
            for row in visit.rows
        ],
    )


def test_columns_and_their_types_are_rubins(visits: list[Visit]) -> None:
    theirs, ours = visits[0].rows.columns.dtype, empty_visit_summary().to_table().dtype
    for name in theirs.names:
        mine, rubin = ours[RENAMED.get(name, name)], theirs[name]
        if mine.kind == "O":
            # numbers that point into an archive there, the objects themselves here
            assert rubin.kind == "i", name
        elif rubin.kind == "S":
            assert mine.itemsize // 4 == rubin.itemsize, name
        else:
            assert mine.newbyteorder("=") == rubin.newbyteorder("="), name


def test_numbers_go_through_unchanged(visits: list[Visit], summaries: list[ExposureCatalog]) -> None:
    for visit, summary in zip(visits, summaries):
        table = summary.table
        order = np.argsort(visit.rows["id"])
        for name in visit.rows.columns.names:
            if RENAMED.get(name, name) in table.colnames:
                theirs = np.array(visit.rows[name].tolist())[order]
                if theirs.dtype.kind == "U":
                    theirs = np.char.rstrip(theirs, " \0")
                np.testing.assert_array_equal(np.asarray(table[RENAMED.get(name, name)]), theirs, name)


def test_zero_points_are_those_of_the_calibrations(visits: list[Visit]) -> None:
    for visit in visits:
        # constant calibrations are their mean, and the archive is in the order of the rows
        found = [PhotoCalib(mean).zeropoint for mean in visit.calibrations["calibrationMean"]]
        # single precision of 32 mag
        np.testing.assert_allclose(found, visit.rows["zeroPoint"], rtol=0, atol=4e-6)


def test_zenith_distances_are_rubins_for_the_time_rubin_took(visits: list[Visit]) -> None:
    """Rubin takes TAI for UTC, so its sky is that of half a minute later: up to 0.13 degree."""
    largest = 0.0
    for visit in visits:
        info = visit.info()
        year = int(2014 + (info.mjd_tai - 56658.0) // 365.25)
        late = visit.info(LEAP_SECONDS[year])
        for row in visit.rows:
            place = float(row["ra"]), float(row["decl"])
            # mean positions and no Earth orientation: nutation, aberration and UT1 are 0.015 degree together
            assert abs(zenith_distance(late, *place) - row["zenithDistance"]) < 0.015
            largest = max(largest, abs(zenith_distance(info, *place) - row["zenithDistance"]))
    assert 0.1 < largest < 0.15


def test_corners_go_round_from_the_first_pixel_along_x(visits: list[Visit]) -> None:
    """The second corner is 2,048 columns away, the fourth 4,176 rows: so it is lower right, not upper left."""
    for visit in visits:
        ra, dec = (np.deg2rad(visit.rows[name]).T for name in ("raCorners", "decCorners"))
        along_x, along_y = (
            angular_separation(ra[0], dec[0], ra[k], dec[k]) / n / _ARCSEC for k, n in ((1, 2048), (3, 4176))
        )
        for scale in (along_x, along_y):
            # the camera's pixel scale over its field
            assert 0.150 < scale.min() < scale.max() < 0.170


def test_tables_of_visits_and_detectors_are_made(
    visits: list[Visit], summaries: list[ExposureCatalog]
) -> None:
    generators = [CatalogIdGenerator(int(s.table["visit"][0]), 0, 1_000_000, 200) for s in summaries]
    table = visit_detector_table(zip(summaries, generators))
    assert len(table) == 8 * 103
    assert set(table["xSize"]) == {2048}
    assert set(table["ySize"]) == {4176}
    assert len(np.unique(table["ccdVisitId"])) == len(table)
    rows = visit_table(summaries)
    by_visit = {int(visit.rows["visit"][0]): visit for visit in visits}
    for row in rows:
        visit = by_visit[int(row["visit"])]
        assert row["airmass"] == visit.observation["boresightairmass"]
        # the header's altitude is that of another moment of exposures of several minutes
        altitude = np.rad2deg(visit.observation["boresightazalt_alt"])
        minutes = visit.observation["exposuretime"] / 60.0 + 1.0
        assert abs(row["altitude"] - altitude) < 0.25 * minutes

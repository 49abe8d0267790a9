"""Ingesting makes records that agree with the headers, once, and bad files keep nobody out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.time import Time
from lsst.daf.butler import Butler
from lsst.sphgeom import UnitVector3d

from butler.frames import HEIGHT, WIDTH, card, frame, frames
from zeropoint.butler.cameras import register_camera
from zeropoint.butler.collection_chains import defaults_chain, images_run
from zeropoint.butler.ingest import IngestReport, ingest_images
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.reader import load_image

RUN = images_run("TestCam")


def ingest(butler: Butler, files: list[Path], **options: Any) -> IngestReport:
    """Ingest with the card given as option ``card``, or the usual one."""
    return ingest_images(butler, files, options.pop("card", card()), **options)


def records(butler: Butler, element: str) -> list[Any]:
    return butler.query_dimension_records(
        element, instrument="TestCam", explain=False, order_by=_order(element)
    )


def _order(element: str) -> list[str]:
    return {"exposure": ["exposure"], "visit": ["visit"]}.get(element, [])


def datasets(butler: Butler) -> list[Any]:
    return butler.query_datasets("post_isr_image", collections=RUN, explain=False, order_by=["exposure"])


def the_failure(report: IngestReport, path: Path, *words: str) -> None:
    (failure,) = [problem for failed, problem in report.failures if failed == path]
    assert str(path) in failure
    assert "\n" not in failure
    for word in words:
        assert word in failure, failure


def snapshot(butler: Butler) -> dict[str, list[dict[str, Any]]]:
    """Everything that ingestion writes, in a comparable form."""
    elements = (
        "day_obs", "group", "detector", "physical_filter", "exposure", "visit", "visit_definition",
        "visit_system_membership", "visit_detector_region",
    )  # fmt: skip
    return {
        element: sorted((record.toDict() for record in records(butler, element)), key=repr)
        for element in elements
    }


def test_records_say_what_the_header_says(butler: Butler, tmp_path: Path) -> None:
    path = frame(tmp_path / "a.fits", VISIT=7)
    report = ingest(butler, [path])
    assert (report.ingested, report.failures, report.visits) == ([path], [], {7})
    (exposure,) = records(butler, "exposure")
    assert (exposure.id, exposure.obs_id, exposure.group) == (7, "7", "7")
    assert (exposure.physical_filter, exposure.exposure_time) == ("test_r", 30.0)
    assert (exposure.observation_type, exposure.target_name) == ("science", "a field")
    # 2 h UT is 21:20 local time of the evening before
    assert exposure.day_obs == 20200229
    begin = Time("2020-03-01T02:00:00", scale="utc").tai
    assert abs((exposure.timespan.begin - begin).to_value("s")) < 1e-3
    assert abs((exposure.timespan.end - begin).to_value("s") - 30.0) < 1e-3
    (visit,) = records(butler, "visit")
    assert (visit.id, visit.name, visit.exposure_time, visit.day_obs) == (7, "7", 30.0, 20200229)
    assert visit.timespan == exposure.timespan
    (definition,) = records(butler, "visit_definition")
    assert (definition.visit, definition.exposure) == (7, 7)
    (membership,) = records(butler, "visit_system_membership")
    assert (membership.visit, membership.visit_system) == (7, 0)
    (filter_,) = records(butler, "physical_filter")
    assert (filter_.name, filter_.band) == ("test_r", "r")
    (detector,) = records(butler, "detector")
    assert (detector.id, detector.full_name, detector.purpose) == (3, "detector 3", "SCIENCE")
    assert butler.query_datasets("post_isr_image", collections=defaults_chain("TestCam"))[0].run == RUN


def test_regions_hold_the_image_and_the_margin_for_references(butler: Butler, tmp_path: Path) -> None:
    path = frame(tmp_path / "a.fits")
    ingest(butler, [path])
    (region,) = [record.region for record in records(butler, "visit_detector_region")]
    wcs = load_image(path, card()).exposure.wcs
    assert wcs is not None

    def inside(x: float, y: float) -> bool:
        ra, dec = wcs.pixel_to_sky(x=x, y=y)
        point = UnitVector3d(np.cos(ra) * np.cos(dec), np.sin(ra) * np.cos(dec), np.sin(dec))
        return bool(region.contains(point))

    for margin, expected in ((250.0, True), (270.0, False)):
        for x in (-0.5 - margin, WIDTH - 0.5 + margin):
            for y in (-0.5 - margin, HEIGHT - 0.5 + margin):
                assert inside(x, y) == expected, (x, y)
    (visit,) = records(butler, "visit")
    assert visit.region == region
    with butler.query() as query:
        assert list(query.data_ids(["visit", "detector", "htm7"]).where(instrument="TestCam"))


def test_an_uncertain_pointing_widens_the_region(butler: Butler, tmp_path: Path) -> None:
    # 360 arcsec are 1000 pixels
    uncertain = card(wcs={"from": "header", "uncertainty": {"offset_arcsec": 360.0}})
    path = frame(tmp_path / "a.fits")
    ingest(butler, [path], card=uncertain)
    (region,) = [record.region for record in records(butler, "visit_detector_region")]
    wcs = load_image(path, card()).exposure.wcs
    assert wcs is not None
    for margin, expected in ((1050.0, True), (1070.0, False)):
        ra, dec = wcs.pixel_to_sky(x=-0.5 - margin, y=40.0)
        point = UnitVector3d(np.cos(ra) * np.cos(dec), np.sin(ra) * np.cos(dec), np.sin(dec))
        assert region.contains(point) == expected


def test_twice_is_harmless(butler: Butler, tmp_path: Path) -> None:
    files = frames(tmp_path, 3)
    ingest(butler, files)
    before, refs = snapshot(butler), datasets(butler)
    again = ingest(butler, [*files, files[0]])
    assert (again.ingested, again.known, again.failures, again.notes) == ([], files, [], {})
    assert again.visits == {1, 2, 3}
    assert snapshot(butler) == before
    assert datasets(butler) == refs


def test_bad_files_keep_nobody_out(butler: Butler, tmp_path: Path) -> None:
    good = frames(tmp_path, 2)
    short = frame(tmp_path / "short.fits", VISIT=11)
    short.write_bytes(short.read_bytes()[:-9000])
    text = tmp_path / "text.fits"
    text.write_text("no FITS")
    nothing = tmp_path / "nothing.fits"
    nothing.touch()
    flat = frame(tmp_path / "flat.fits", VISIT=12, CTYPE1=None)
    alien = frame(tmp_path / "alien.fits", VISIT=13, GAIN=None)
    gone = tmp_path / "gone.fits"
    report = ingest(butler, [short, good[0], text, nothing, flat, alien, good[1], gone])
    assert report.ingested == good
    assert [path for path, _ in report.failures] == [short, text, nothing, flat, alien, gone]
    for path, words in (
        (short, "truncated"),
        (text, "is not a FITS file"),
        (nothing, "is empty"),
        (flat, "no WCS in the header"),
        (alien, "no GAIN, which camera card testcam.yaml names"),
        (gone, "no such file"),
    ):
        the_failure(report, path, words)
    assert [record.id for record in records(butler, "exposure")] == [1, 2]
    assert len(datasets(butler)) == 2


def test_two_images_of_one_exposure_and_detector_are_both_named(butler: Butler, tmp_path: Path) -> None:
    a, b = frame(tmp_path / "a.fits"), frame(tmp_path / "b.fits", **{"DATE-OBS": "2020-03-01T03:00:00"})
    good = frame(tmp_path / "good.fits", VISIT=2)
    report = ingest(butler, [a, b, good])
    assert report.ingested == [good]
    the_failure(report, a, str(b), "exposure 1 of detector 3", "`detector: {id: {key: ...}}`", "`visit:`")
    the_failure(report, b, str(a))
    assert ingest(butler, [a]).ingested == [a]
    the_failure(ingest(butler, [b]), b, str(a), "exposure 1 of detector 3")
    # a copy elsewhere is the same image, but which one to read?
    the_failure(ingest(butler, [Path(shutil.copy(a, tmp_path / "c.fits"))]), tmp_path / "c.fits", str(a))
    assert len(datasets(butler)) == 2


def test_only_the_new_one_of_two_images_with_one_number_is_wrong(butler: Butler, tmp_path: Path) -> None:
    old = frame(tmp_path / "old.fits")
    ingest(butler, [old])
    new = frame(tmp_path / "new.fits", **{"DATE-OBS": "2020-03-01T03:00:00"})
    for update in (False, True):
        report = ingest(butler, [new, old], update=update)
        assert [path for path, _ in report.failures] == [new]
        the_failure(report, new, f"is {old} already")
        assert (report.known, report.updated) == (([], [old]) if update else ([old], []))


def test_one_number_for_two_filters_or_times(butler: Butler, tmp_path: Path) -> None:
    first = frame(tmp_path / "a.fits")
    other = frame(tmp_path / "b.fits", CCD=4, FILTER="test_g")
    late = frame(tmp_path / "c.fits", CCD=5, **{"DATE-OBS": "2020-03-01T02:05:00"})
    report = ingest(butler, [first, other, late])
    assert report.ingested == [first]
    the_failure(report, other, str(first), "filter test_g here, test_r there")
    the_failure(report, late, "300 seconds apart")
    again = ingest(butler, [other])
    the_failure(again, other, "an image ingested before", "filter test_g here, test_r there")


def test_images_of_two_cameras_are_told_apart(butler: Butler, tmp_path: Path) -> None:
    files = frames(tmp_path, 3)
    alien = frame(tmp_path / "alien.fits", VISIT=9, INSTRUME="OtherCamera")
    report = ingest(butler, [alien, *files])
    assert report.ingested == files
    the_failure(report, alien, "INSTRUME is 'OtherCamera' where others have 'TheCamera'", "--mixed")
    the_failure(ingest(butler, [alien]), alien, "INSTRUME is 'OtherCamera'")
    assert ingest(butler, [alien], mixed=True).ingested == [alien]


def test_detectors_of_a_visit_may_come_one_after_the_other(butler: Butler, tmp_path: Path) -> None:
    places = {3: 10.0, 4: 10.5, 5: 11.0}
    files = [frame(tmp_path / f"{ccd}.fits", CCD=ccd, CRVAL1=ra) for ccd, ra in places.items()]
    for path in files:
        assert ingest(butler, [path]).failures == []
    (visit,) = records(butler, "visit")
    regions = [record.region for record in records(butler, "visit_detector_region")]
    assert len(regions) == 3
    for region in regions:
        assert all(
            visit.region.contains(vertex) or visit.region.intersects(region)
            for vertex in region.getVertices()
        )
        assert visit.region.contains(region.getCentroid())
    with butler.query() as query:
        pixels = {each["htm7"] for each in query.data_ids(["visit", "htm7"]).where(instrument="TestCam")}
        parts = {
            each["htm7"] for each in query.data_ids(["visit", "detector", "htm7"]).where(instrument="TestCam")
        }
    assert parts <= pixels


@pytest.mark.parametrize("together", [True, False])
def test_snaps_of_a_visit(butler: Butler, tmp_path: Path, together: bool) -> None:
    grouped = card(visit_system="by-group", exposure={"key": "SNAP"})
    register_camera(butler, grouped)
    files = [
        frame(
            tmp_path / f"{i}.fits",
            SNAP=20 + i,
            CRVAL1=10.0 + 0.002 * i,
            **{"DATE-OBS": f"2020-03-01T02:0{i}:00"},
        )
        for i in range(2)
    ]
    for batch in [files] if together else [[files[1]], [files[0]]]:
        assert ingest(butler, batch, card=grouped).failures == []
    assert [record.id for record in records(butler, "exposure")] == [20, 21]
    assert {record.group for record in records(butler, "exposure")} == {"1"}
    (visit,) = records(butler, "visit")
    assert visit.exposure_time == 60.0
    assert (visit.timespan.end - visit.timespan.begin).to_value("s") == pytest.approx(90.0)
    assert {record.exposure for record in records(butler, "visit_definition")} == {20, 21}
    (membership,) = records(butler, "visit_system_membership")
    assert membership.visit_system == 1
    (region,) = records(butler, "visit_detector_region")
    for path in files:
        wcs = load_image(path, grouped).exposure.wcs
        assert wcs is not None
        for x in (-250.0, WIDTH + 249.0):
            ra, dec = wcs.pixel_to_sky(x=x, y=40.0)
            point = UnitVector3d(np.cos(ra) * np.cos(dec), np.sin(ra) * np.cos(dec), np.sin(dec))
            assert region.region.contains(point)


def test_snaps_need_a_card_that_groups_them(butler: Butler, tmp_path: Path) -> None:
    path = frame(tmp_path / "a.fits", SNAP=20)
    report = ingest(butler, [path], card=card(exposure={"key": "SNAP"}))
    the_failure(report, path, "exposure 20 belongs to visit 1", "visit_system: by-group")


def test_an_image_without_a_date(butler: Butler, tmp_path: Path) -> None:
    path = frame(tmp_path / "a.fits", **{"DATE-OBS": None})
    report = ingest(butler, [path])
    assert report.ingested == [path]
    assert any("no timespan in the registry, and day_obs 0" in note for note in report.notes)
    (exposure,) = records(butler, "exposure")
    assert (exposure.timespan, exposure.day_obs) == (None, 0)
    assert butler.get(
        "post_isr_image.obs_info", exposure=1, detector=3, instrument="TestCam", collections=RUN
    )


def test_a_file_that_moved_or_changed_is_taken_anew_on_request(butler: Butler, tmp_path: Path) -> None:
    path = frame(tmp_path / "a.fits")
    ingest(butler, [path])
    moved = path.rename(tmp_path / "b.fits")
    the_failure(ingest(butler, [moved]), moved, f"was ingested from {path}, which is gone", "--update")
    report = ingest(butler, [moved], update=True)
    assert report.updated == [moved]
    assert len(datasets(butler)) == 1
    # the same exposure, with a corrected WCS, time and object
    frame(moved, CRVAL1=12.0, OBJECT="another field", **{"DATE-OBS": "2020-03-01T02:00:10"})
    stale = ingest(butler, [moved])
    assert stale.known == [moved]
    assert any("changed since" in note for note in stale.notes)
    assert records(butler, "exposure")[0].target_name == "a field"
    assert ingest(butler, [moved], update=True).updated == [moved]
    (exposure,), (visit,) = records(butler, "exposure"), records(butler, "visit")
    assert exposure.target_name == visit.target_name == "another field"
    (region,) = [record.region for record in records(butler, "visit_detector_region")]
    ra, dec = np.deg2rad(12.0), np.deg2rad(20.0)
    point = UnitVector3d(np.cos(ra) * np.cos(dec), np.sin(ra) * np.cos(dec), np.sin(dec))
    assert region.contains(point)
    assert visit.region == region


def test_a_new_card_is_noticed(butler: Butler, tmp_path: Path) -> None:
    path = frame(tmp_path / "a.fits")
    ingest(butler, [path])
    better = card(gain=3.0)
    assert any(
        "another version of the camera card" in note for note in ingest(butler, [path], card=better).notes
    )
    assert ingest(butler, [path], card=better, update=True).updated == [path]
    image = butler.get("post_isr_image", exposure=1, detector=3, instrument="TestCam", collections=RUN)
    assert image.detector.amplifiers[0].nominal_calibrations.gain == 3.0


@pytest.mark.slow
def test_processes_do_not_change_the_result(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zeropoint.butler import parallel
    from zeropoint.butler.repository import open_repository

    # small files would be read before a second process has started
    monkeypatch.setattr(parallel, "_WORTH_A_PROCESS", 1e-9)
    monkeypatch.setattr(parallel, "_ALONE", 0.0)
    files = frames(tmp_path, 6)
    other = tmp_path / "OTHER"
    shutil.copytree(repo, other)
    results = []
    for root, processes in ((repo, 1), (other, 2)):
        butler = open_repository(root, writeable=True)
        report = ingest(butler, [*files, tmp_path / "none.fits"], processes=processes)
        results.append((report, snapshot(butler), [ref.id for ref in datasets(butler)]))
        butler.close()
    assert results[0] == results[1]
    assert len(results[0][0].ingested) == 6


def test_progress_counts_up(butler: Butler, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    ingest(butler, frames(tmp_path, 3), on_progress=lambda *call: calls.append(call))
    assert calls == [("read", 1, 3), ("read", 2, 3), ("read", 3, 3), ("write", 3, 3)]


def test_what_calibration_would_refuse_is_refused(butler: Butler, tmp_path: Path) -> None:
    good = frame(tmp_path / "a.fits", RDNOISE=5.0, SATURATE=6e4, BIAS=0.0)
    spoiled = {"RDNOISE": -1.0, "SATURATE": "high", "BIAS": "low"}
    files = [
        frame(
            tmp_path / f"{i}.fits", **({"VISIT": i, "RDNOISE": 5.0, "SATURATE": 6e4, "BIAS": 0.0, key: value})
        )
        for i, (key, value) in enumerate(spoiled.items(), 2)
    ]
    camera = card(read_noise={"key": "RDNOISE"}, saturation={"key": "SATURATE"}, pedestal={"key": "BIAS"})
    report = ingest(butler, [good, *files], card=camera)
    assert report.ingested == [good]
    for path, words in zip(files, ("read noise is -1", "saturation is 'high'", "pedestal is 'low'")):
        the_failure(report, path, words)
        with pytest.raises(InvalidInputError, match=words):
            load_image(path, camera)


def test_what_calibration_can_do_without_is_noted(butler: Butler, tmp_path: Path) -> None:
    report = ingest(butler, frames(tmp_path, 2), card=card(airmass={"key": "AIRMASS"}))
    assert len(report.ingested) == 2
    assert report.notes == {"the header has no AIRMASS, which the camera card names for `airmass`": 2}


@pytest.mark.parametrize("entry", ["mask", "variance"])
def test_an_image_without_its_companion(butler: Butler, tmp_path: Path, entry: str) -> None:
    path = frame(tmp_path / "a.fits")
    file = "{dir}/{stem}_more.fits"
    report = ingest(butler, [path], card=card(**{entry: {"file": file}}))
    the_failure(report, path, f"the {entry} file {tmp_path}/a_more.fits does not exist")
    assert ingest(butler, [path], card=card(**{entry: {"file": file, "optional": True}})).ingested == [path]


def test_companions_are_skipped(butler: Butler, tmp_path: Path) -> None:
    camera = card(mask={"file": "{dir}/{stem}_mask.fits"}, variance={"file": "{dir}/../w/{name}"})
    (tmp_path / "i").mkdir()
    (tmp_path / "w").mkdir()
    (image,) = frames(tmp_path / "i", 1)
    others = [frame(tmp_path / "i" / "1_mask.fits"), frame(tmp_path / "w" / "1.fits")]
    report = ingest(butler, [*others, image], card=camera)
    assert (report.ingested, report.companions, report.failures) == ([image], others, [])
    # without their images as well
    assert ingest(butler, others, card=camera).companions == others


def test_an_unlisted_filter_is_a_warning(butler: Butler, tmp_path: Path) -> None:
    report = ingest(butler, [*frames(tmp_path, 1), frame(tmp_path / "g.fits", VISIT=2, FILTER="test_g")])
    assert len(report.ingested) == 2
    ((warning, count),) = report.warnings.items()
    assert count == 1
    assert warning.startswith("filter 'test_g' is not in the card's `bands:` (test_r: r)")

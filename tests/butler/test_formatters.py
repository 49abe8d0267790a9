from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from lsst.daf.butler import Butler
from lsst.images import Box, VisitImage
from lsst.images.serialization import write_archive

from butler.frames import CARD, HEIGHT, WIDTH, card, frame
from zeropoint.butler.cameras import register_camera
from zeropoint.butler.ingest import ingest_images
from zeropoint.butler.repository import create_repository, open_repository
from zeropoint.datamodel.psf_model import PixelGridPsf
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.reader import load_image
from zeropoint.psf.piff_io import to_lsst_psf
from zeropoint.psf.pixel_grid_fit import polynomial_exponents
from zeropoint.recipes.post_isr import exposure_from_visit_image, post_isr_image

RUN = "TestCam/post_isr"
ID: dict[str, Any] = {"instrument": "TestCam", "exposure": 1, "detector": 3, "collections": RUN}


def get(butler: Butler, component: str = "", **parameters: Any) -> Any:
    name = f"post_isr_image.{component}" if component else "post_isr_image"
    return butler.get(name, parameters=parameters or None, **ID)


def assert_same(a: VisitImage, b: VisitImage) -> None:
    np.testing.assert_array_equal(a.image.array, b.image.array)
    np.testing.assert_array_equal(a.variance.array, b.variance.array)
    np.testing.assert_array_equal(a.mask.array, b.mask.array)
    assert (a.bbox, a.unit, a.band) == (b.bbox, b.unit, b.band)
    assert a.obs_info == b.obs_info


@pytest.mark.parametrize("transfer", ["direct", "copy"])
def test_the_task_gets_what_the_command_line_gets(butler: Butler, tmp_path: Path, transfer: str) -> None:
    path = frame(tmp_path / "a.fits")
    assert ingest_images(butler, [path], card(), transfer=transfer).ingested == [path]
    expected = post_isr_image(load_image(path, card()))
    image = get(butler)
    assert_same(image, expected)
    a, b = exposure_from_visit_image(image), exposure_from_visit_image(expected)
    np.testing.assert_array_equal(a.image, b.image)
    assert a.metadata == b.metadata
    assert a.wcs is not None
    assert b.wcs is not None
    assert a.wcs.pixel_to_sky(x=3.0, y=4.0) == b.wcs.pixel_to_sky(x=3.0, y=4.0)
    # known again, whatever way it came in
    assert ingest_images(butler, [path], card(), transfer=transfer).known == [path]


def test_a_copy_needs_its_source_no_more(butler: Butler, tmp_path: Path) -> None:
    path = frame(tmp_path / "a.fits")
    expected = post_isr_image(load_image(path, card()))
    ingest_images(butler, [path], card(), transfer="copy")
    path.unlink()
    assert_same(get(butler), expected)


@pytest.mark.parametrize("transfer", ["direct", "copy"])
def test_visit_images_are_ingested_as_they_are(butler: Butler, tmp_path: Path, transfer: str) -> None:
    original = post_isr_image(load_image(frame(tmp_path / "a.fits"), card()))
    path = tmp_path / "image.fits"
    write_archive(original, str(path))
    before = path.read_bytes()
    report = ingest_images(butler, [path], card(), transfer=transfer)
    assert (report.ingested, report.failures) == ([path], [])
    assert path.read_bytes() == before
    assert_same(get(butler), original)
    (ref,) = butler.query_datasets("post_isr_image", collections=RUN)
    assert (Path(butler.getURI(ref).ospath) == path) == (transfer == "direct")
    (exposure,) = butler.query_dimension_records("exposure", instrument="TestCam")
    assert (exposure.id, exposure.physical_filter, exposure.day_obs) == (1, "test_r", 20200229)
    assert ingest_images(butler, [path], card(), transfer=transfer).known == [path]
    # another camera's, and one that is no post-ISR image
    register_camera(butler, card(instrument="OtherCam"))
    (failure,) = ingest_images(butler, [path], card(instrument="OtherCam")).failures
    assert "is an image of TestCam, not of OtherCam" in failure[1]


@pytest.mark.parametrize(
    "component", ["bbox", "obs_info", "sky_projection", "unit", "image", "mask", "psf", "detector"]
)
def test_components_are_those_of_the_image(butler: Butler, tmp_path: Path, component: str) -> None:
    ingest_images(butler, [frame(tmp_path / "a.fits")], card())
    part, whole = get(butler, component), getattr(get(butler), component)
    if component == "sky_projection":
        x, y = np.array([3.0, 90.0]), np.array([2.0, 70.0])
        assert (part.pixel_to_sky(x=x, y=y).separation(whole.pixel_to_sky(x=x, y=y)).arcsec < 1e-9).all()
    elif component in ("image", "mask"):
        np.testing.assert_array_equal(part.array, whole.array)
    elif component in ("psf", "detector"):
        assert type(part) is type(whole)
    else:
        assert part == whole


def test_a_piff_model_can_be_read_again(butler: Butler, tmp_path: Path) -> None:
    original = post_isr_image(load_image(frame(tmp_path / "a.fits"), card()))
    stamp = np.outer(*2 * [np.exp(-0.5 * np.linspace(-3, 3, 15) ** 2)])
    model = PixelGridPsf(
        stamp[np.newaxis] / stamp.sum(), polynomial_exponents(0), x_ref=50.0, y_ref=40.0, norm=50.0, size=15, scale=1.0,
        lanczos=7, average_position=(50.0, 40.0),
    )  # fmt: skip
    original.psf = to_lsst_psf(model, original.bbox, pixel_scale=0.36)
    write_archive(original, str(tmp_path / "image.fits"))
    ingest_images(butler, [tmp_path / "image.fits"], card())
    kernel = get(butler, "psf").compute_kernel_image(x=50.0, y=40.0).array
    for again in (get(butler, "psf"), get(butler).psf, get(butler, "psf")):
        np.testing.assert_array_equal(again.compute_kernel_image(x=50.0, y=40.0).array, kernel)


def test_parts_of_an_image(butler: Butler, tmp_path: Path) -> None:
    ingest_images(butler, [frame(tmp_path / "a.fits")], card())
    box = Box.factory[10:30, 20:60]
    whole = get(butler)
    np.testing.assert_array_equal(get(butler, bbox=box).image.array, whole.image.array[10:30, 20:60])
    np.testing.assert_array_equal(get(butler, "mask", bbox=box).array, whole.mask.array[10:30, 20:60])
    some = get(butler, "components", components=["obs_info", "image"])
    assert set(some) == {"obs_info", "image"}
    assert some["image"].bbox == Box.factory[0:HEIGHT, 0:WIDTH]


def test_components_of_headers_need_no_pixels(
    butler: Butler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zeropoint.butler import descriptor

    ingest_images(butler, [frame(tmp_path / "a.fits")], card())

    def refuse(*_: Any) -> None:
        raise AssertionError("pixels were read")

    monkeypatch.setattr(descriptor, "load_image", refuse)
    for component in ("bbox", "obs_info", "sky_projection"):
        assert get(butler, component) is not None
    with pytest.raises(ValueError, match="pixels were read"):
        get(butler, "mask")


def error_of(butler: Butler) -> str:
    with pytest.raises(Exception) as caught:  # the Butler may wrap it
        get(butler)
    error: BaseException | None = caught.value
    while error is not None and not isinstance(error, InvalidInputError):
        error = error.__cause__ or error.__context__
    assert error is not None, caught.value
    return str(error)


def test_a_file_that_is_gone_or_changed_is_named(butler: Butler, tmp_path: Path) -> None:
    path = frame(tmp_path / "a.fits")
    ingest_images(butler, [path], card())
    kept = shutil.copy2(path, tmp_path / "kept.fits")
    path.unlink()
    assert f"{path}: cannot be read (No such file or directory)" in error_of(butler)
    frame(path, EXPTIME=31.0)
    assert f"{path}: has changed since it was ingested (its header)" in error_of(butler)
    path.write_bytes(path.read_bytes() + b" " * 2880)
    assert "(its length)" in error_of(butler)
    # a copy that only looks younger is the same file
    shutil.copy(kept, path)
    os.utime(path)
    assert get(butler).bbox.x.size == WIDTH


def test_a_truncated_file_fails_when_its_pixels_are_read(butler: Butler, tmp_path: Path) -> None:
    path = frame(tmp_path / "a.fits.gz")
    ingest_images(butler, [path], card())
    path.write_bytes(path.read_bytes()[:-2000])
    assert "(its length)" in error_of(butler)


def test_ordinary_cards_and_lossless_pixels(butler: Butler, tmp_path: Path) -> None:
    path = frame(tmp_path / "a.fits")
    ingest_images(butler, [path], card(), transfer="copy")
    (ref,) = butler.query_datasets("post_isr_image", collections=RUN)
    header = fits.getheader(butler.getURI(ref).ospath)
    begin = Time("2020-03-01T02:00:00", scale="utc")
    assert (header["INSTRUME"], header["FILTER"], header["EXPTIME"]) == ("TestCam", "test_r", 30.0)
    assert header["TIMESYS"] == "UTC"
    assert abs((Time(header["DATE-OBS"]) - begin).to_value("s")) < 2e-3
    assert header["MJD-OBS"] == pytest.approx(begin.mjd, abs=1e-7)
    assert header["MJD-MID"] == pytest.approx(begin.tai.mjd + 15.0 / 86400.0, abs=1e-7)
    with fits.open(butler.getURI(ref).ospath) as hdus:
        np.testing.assert_array_equal(hdus["IMAGE"].data, load_image(path, card()).exposure.image)


def test_lossy_pixels_are_for_products_only(tmp_path: Path) -> None:
    create_repository(tmp_path / "R", lossy16=True)
    butler = open_repository(tmp_path / "R", writeable=True)
    register_camera(butler, card())
    path = frame(tmp_path / "a.fits")
    ingest_images(butler, [path], card(), transfer="copy")
    original = get(butler)
    assert_same(original, post_isr_image(load_image(path, card())))
    from lsst.daf.butler import DatasetType

    name, dimensions = "product", ("instrument", "visit", "detector")
    butler.registry.registerDatasetType(
        DatasetType(name, dimensions, "VisitImage", universe=butler.dimensions)
    )
    butler.collections.register("out")
    ref = butler.put(original, name, instrument="TestCam", visit=1, detector=3, run="out")
    lossy = butler.get(ref)
    error = lossy.image.array - original.image.array
    sigma = np.sqrt(np.median(original.variance.array))
    assert 0.0 < np.std(error) < sigma / 16.0
    np.testing.assert_array_equal(lossy.mask.array, original.mask.array)
    assert fits.getheader(butler.getURI(ref).ospath)["INSTRUME"] == "TestCam"
    butler.close()


def test_a_camera_image_is_never_written(butler: Butler, tmp_path: Path) -> None:
    assert CARD["instrument"] == "TestCam"
    from lsst.daf.butler import FileDescriptor, Location

    from zeropoint.butler.formatters import CardImageFormatter

    path = frame(tmp_path / "a.fits")
    ingest_images(butler, [path], card())
    (ref,) = butler.query_datasets("post_isr_image", collections=RUN)
    place = FileDescriptor(Location(str(tmp_path), "x.json"), ref.datasetType.storageClass)
    with pytest.raises(NotImplementedError, match="read only"):
        CardImageFormatter(place, ref=ref).write(get(butler))

"""Post-ISR images as VisitImage and back: nothing is lost, nothing drifts, and what is unusable is refused."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Angle
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from lsst.images import Box, Image, Mask, MaskedImage, MaskPlane, MaskSchema, VisitImage

from zeropoint.datamodel.exposure import Amplifier, DetectorInfo, Exposure, PointingUncertainty, VisitInfo
from zeropoint.datamodel.mask_planes import PLANES
from zeropoint.datamodel.visit_image import visit_image
from zeropoint.datamodel.wcs import SkyWcs, angular_separation
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard
from zeropoint.instruments.reader import LoadedImage
from zeropoint.recipes.post_isr import NOMINAL_PSF, exposure_from_visit_image, post_isr_image

SHAPE = (70, 90)
ARCSEC = np.pi / 648000.0
#: Deviation of a projection from the polynomial that it was made from, arcsec.
SAME_PLACE = 1e-6


def distorted_wcs(ra: float = 150.0, dec: float = 2.0, rotation: float = 12.0, bend: float = 1e-12) -> SkyWcs:
    plain = SkyWcs.from_boresight(ra, dec, x=40.0, y=30.0, pixel_scale_arcsec=0.2, rotation_deg=rotation)
    c = np.zeros((2, 4, 4))
    c[:, :2, :2] = plain.coefficients
    c[0, 2, 1], c[1, 1, 2] = bend, -2 * bend
    return SkyWcs(plain.ra0, plain.dec0, c, plain.x_ref, plain.y_ref, plain.scale)


def make_exposure(seed: int = 1, **changes: Any) -> Exposure:
    rng = np.random.default_rng(seed)
    amplifiers = (
        Amplifier("left", (0, 0, 44, 69), 1.5, 6.0),
        Amplifier("right", (45, 0, 89, 69), 2.0, 7.0),
    )
    info = VisitInfo(
        77,
        30.1,
        60000.123456789,
        "r_test",
        "r",
        149.123456789,
        -3.2,
        1.234567,
        -70.123456,
        -30.1,
        2663.0,
        "field",
        exposure=154,
        boresight_rotation_deg=33.3,
    )
    values: dict[str, Any] = {
        "image": rng.normal(500, 20, SHAPE).astype(np.float32),
        "variance": rng.uniform(400, 600, SHAPE).astype(np.float32),
        "mask": rng.integers(0, 1 << len(PLANES), SHAPE).astype(np.int32),
        "detector": DetectorInfo("TestCam", "S01", 3, 90, 70, amplifiers, 0.015, (1.5, -2.5), 90.0),
        "visit_info": info,
        "wcs": distorted_wcs(),
        "metadata": {"LSST ISR FLAT APPLIED": True, "note": "a", "number": 3},
        "pointing": PointingUncertainty(10.0, 0.5, 0.1),
        "caveats": ("the gain was estimated", "no saturation level"),
    }
    return Exposure(**{**values, **changes})


def as_loaded(exposure: Exposure) -> LoadedImage:
    return LoadedImage(exposure, "image", None, CameraCard("t", "t", {}))  # type: ignore[arg-type]


def assert_same(one: Exposure, two: Exposure) -> None:
    """Assert that two working exposures agree in every bit."""
    for plane in ("image", "variance", "mask"):
        assert getattr(one, plane).tobytes() == getattr(two, plane).tobytes(), plane
    # by repr, because NaN equals NaN there
    for name in ("detector", "visit_info", "metadata", "pointing", "caveats"):
        assert repr(getattr(one, name)) == repr(getattr(two, name)), name
    assert one.wcs is not None
    assert two.wcs is not None
    assert one.wcs.to_text() == two.wcs.to_text()


def test_everything_known_comes_back() -> None:
    exposure = make_exposure()
    back = exposure_from_visit_image(post_isr_image(as_loaded(exposure)))
    assert_same(exposure, back)
    assert back.psf is None
    assert back.image is exposure.image


def test_a_file_gives_the_same_bits(tmp_path) -> None:
    image = post_isr_image(as_loaded(make_exposure()))
    image.write(str(tmp_path / "image.fits"))
    read = VisitImage.read(str(tmp_path / "image.fits"))
    assert read.metadata[NOMINAL_PSF] is True
    assert_same(exposure_from_visit_image(read), exposure_from_visit_image(image))


nothing = st.just(float("nan"))
text = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"]), min_size=1, max_size=20)


# without shrinking, which would take minutes: the failing example itself says enough
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(
    seed=st.integers(0, 1000),
    ra=st.floats(0, 360, exclude_max=True),
    dec=st.floats(-89, 89),
    rotation=st.floats(0, 360),
    bend=st.sampled_from([0.0, 1e-12, 3e-12]),
    exposure_time=st.floats(0.001, 5000) | nothing,
    mjd=st.floats(40000, 80000) | nothing,
    boresight=st.tuples(st.floats(0, 359.9), st.floats(-90, 90)) | st.tuples(nothing, nothing),
    airmass=st.floats(1, 3) | nothing,
    place=st.tuples(st.floats(-180, 180), st.floats(-90, 90), st.floats(-100, 8000)),
    angle=st.floats(0, 359.9) | nothing,
    numbers=st.tuples(st.integers(0, 1 << 40), st.integers(0, 1 << 40)),
    pixel_size=st.floats(0.001, 0.1) | nothing,
    pointing=st.none() | st.builds(PointingUncertainty, *(st.floats(0, 1000),) * 3),
    caveats=st.lists(text, max_size=12),
    gain=st.floats(0.1, 10) | nothing,
)
def test_a_second_trip_changes_no_bit(
    seed, ra, dec, rotation, bend, exposure_time, mjd, boresight, airmass, place, angle, numbers, pixel_size,
    pointing, caveats, gain,
) -> None:  # fmt: skip
    info = VisitInfo(
        numbers[0], exposure_time, mjd, "r", "r", *boresight, airmass, *place, exposure=numbers[1],
        boresight_rotation_deg=angle,
    )  # fmt: skip
    detector = DetectorInfo("C", "d", 2, 90, 70, (Amplifier("a", (0, 0, 89, 69), gain),), pixel_size)
    exposure = make_exposure(
        seed,
        visit_info=info,
        detector=detector,
        wcs=distorted_wcs(ra, dec, rotation, bend),
        pointing=pointing,
        caveats=tuple(caveats),
    )
    first = exposure_from_visit_image(post_isr_image(as_loaded(exposure)))
    second = exposure_from_visit_image(post_isr_image(as_loaded(first)))
    assert_same(first, second)
    # what the first trip rounds is far below what anyone measures: 0.1 ms, 4e-6 arcsec, 0.1 mm
    one, two = first.visit_info, info
    np.testing.assert_allclose(one.mjd_tai, two.mjd_tai, rtol=0, atol=1e-9)
    np.testing.assert_allclose(one.latitude_deg, two.latitude_deg, rtol=0, atol=1e-8)
    np.testing.assert_allclose(one.elevation_m, two.elevation_m, rtol=0, atol=1e-3)
    np.testing.assert_allclose(one.boresight_dec_deg, two.boresight_dec_deg, rtol=0, atol=1e-9)
    assert (one.visit, one.exposure) == numbers
    np.testing.assert_equal(one.exposure_time, two.exposure_time)


def test_the_projection_counts_where_no_polynomial_is_left() -> None:
    exposure = make_exposure()
    image = post_isr_image(as_loaded(exposure))
    del image.metadata["wcs.polynomial"]
    back = exposure_from_visit_image(image)
    assert back.wcs is not None
    assert back.wcs.order == 3
    x, y = np.meshgrid(np.linspace(0, 89, 8), np.linspace(0, 69, 7))
    away = angular_separation(*back.wcs.pixel_to_sky(x=x, y=y), *exposure.wcs.pixel_to_sky(x=x, y=y))
    assert away.max() < SAME_PLACE * ARCSEC


def test_a_part_of_an_image_has_coordinates_and_amplifiers_of_its_own() -> None:
    exposure = make_exposure()
    part = exposure_from_visit_image(post_isr_image(as_loaded(exposure))[Box.factory[10:60, 20:80]])
    assert part.shape == (50, 60)
    np.testing.assert_array_equal(part.image, exposure.image[10:60, 20:80])
    assert part.wcs is not None
    here, there = part.wcs.pixel_to_sky(x=3.0, y=4.0), exposure.wcs.pixel_to_sky(x=23.0, y=14.0)
    assert angular_separation(*here, *there) < SAME_PLACE * ARCSEC
    assert [(a.name, a.box) for a in part.detector.amplifiers] == [
        ("left", (0, 0, 24, 49)),
        ("right", (25, 0, 59, 49)),
    ]


def rebuilt(original: VisitImage, **changes: Any) -> VisitImage:
    """Return a VisitImage with some parts replaced, as another program might have written it."""
    parts: dict[str, Any] = {
        "image": original.image,
        "mask": original.mask,
        "variance": original.variance,
        "sky_projection": original.sky_projection,
        "obs_info": original.obs_info,
        "psf": original.psf,
        "detector": original.detector,
        "band": original.band,
        "metadata": dict(original.metadata.native),
    }
    parts.update(changes)
    return VisitImage(parts.pop("image"), **parts)


def in_unit(image: VisitImage, unit: u.UnitBase, **changes: Any) -> VisitImage:
    return rebuilt(
        image,
        image=Image(image.image.array.copy(), yx0=(0, 0), unit=unit),
        variance=Image(image.variance.array.copy(), yx0=(0, 0), unit=unit**2),
        **changes,
    )


def test_adu_become_electrons_by_the_gain_of_each_amplifier() -> None:
    exposure = make_exposure()
    image = in_unit(post_isr_image(as_loaded(exposure)), u.adu)
    before = image.image.array.copy()
    back = exposure_from_visit_image(image)
    np.testing.assert_allclose(back.image[:, :45], 1.5 * before[:, :45], rtol=1e-6)
    np.testing.assert_allclose(back.image[:, 45:], 2.0 * before[:, 45:], rtol=1e-6)
    np.testing.assert_allclose(back.variance[:, 45:], 4.0 * image.variance.array[:, 45:], rtol=1e-6)
    np.testing.assert_array_equal(image.image.array, before)


def test_gains_that_the_header_states_come_first() -> None:
    metadata = {"LSST ISR GAIN left": 3.0, "LSST ISR READNOISE left": 11.0}
    image = in_unit(post_isr_image(as_loaded(make_exposure())), u.adu, metadata=metadata)
    back = exposure_from_visit_image(image)
    assert [(a.gain, a.read_noise) for a in back.detector.amplifiers] == [(3.0, 11.0), (2.0, 7.0)]
    assert back.image[0, 0] == np.float32(3.0) * image.image.array[0, 0]


def without_gains(**metadata: Any) -> VisitImage:
    unknown = dataclasses.replace(make_exposure().detector, amplifiers=(Amplifier("a", (0, 0, 89, 69)),))
    image = post_isr_image(as_loaded(make_exposure(detector=unknown)))
    return in_unit(image, u.adu, metadata=metadata)


def test_adu_without_gain_are_refused_and_metadata_help() -> None:
    with pytest.raises(InvalidInputError, match=r"TestCam exposure 154 detector 3.*gain"):
        exposure_from_visit_image(without_gains())
    back = exposure_from_visit_image(without_gains(gain=2.5, RDNOISE=4.0))
    assert (back.detector.amplifiers[0].gain, back.detector.amplifiers[0].read_noise) == (2.5, 4.0)


@pytest.mark.parametrize("unit", [u.nJy, u.dimensionless_unscaled, u.photon])
def test_other_units_are_refused(unit) -> None:
    with pytest.raises(InvalidInputError, match="electron"):
        exposure_from_visit_image(in_unit(post_isr_image(as_loaded(make_exposure())), unit))


def test_other_types_are_refused() -> None:
    image = post_isr_image(as_loaded(make_exposure()))
    with pytest.raises(InvalidInputError, match="MaskedImage"):
        exposure_from_visit_image(MaskedImage(image.image, mask=image.mask, variance=image.variance))  # type: ignore[arg-type]


def test_mask_planes_under_older_names_and_unknown_ones(caplog) -> None:
    image = post_isr_image(as_loaded(make_exposure()))
    # forty planes, so that there are more than fit one word
    names = [*(f"OTHER{i}" for i in range(33)), "SAT", "BAD", "CR", "INTRP", "EDGE", "MINE", "UNMASKEDNAN"]
    mask = Mask(0, schema=MaskSchema([MaskPlane(name, "") for name in names]), bbox=image.bbox)
    rng = np.random.default_rng(3)
    truth = {name: rng.random(SHAPE) < 0.3 for name in names}
    for name, where in truth.items():
        mask.set(name, where)
    with caplog.at_level(logging.INFO, logger="zeropoint"):
        back = exposure_from_visit_image(rebuilt(image, mask=mask))
    for name in ("SAT", "BAD", "CR", "INTRP", "EDGE", "UNMASKEDNAN"):
        np.testing.assert_array_equal(back.masked(name), truth[name], err_msg=name)
    assert not back.masked("SUSPECT", "DETECTED", "NO_DATA").any()
    assert "MINE" in caplog.text
    assert "SAT" not in caplog.text


def test_pixels_that_are_not_numbers_have_no_data() -> None:
    image = post_isr_image(as_loaded(make_exposure(mask=np.zeros(SHAPE, np.int32))))
    image.image.array[3, 4] = np.nan
    image.variance.array[5, 6] = np.inf
    back = exposure_from_visit_image(image)
    assert {tuple(place) for place in np.argwhere(back.masked("NO_DATA")).tolist()} == {(3, 4), (5, 6)}
    assert np.isfinite(back.image).all()
    assert np.isfinite(back.variance).all()
    assert np.isnan(image.image.array[3, 4])


def test_facts_of_another_program_reach_the_products() -> None:
    image = post_isr_image(as_loaded(make_exposure()))
    info = image.obs_info.model_copy(
        update={
            "observation_id": "CC_O_20261120_000123",
            "boresight_rotation_angle": Angle(12.5, "deg"),
            "boresight_rotation_coord": "sky",
            "visit_id": None,
        }
    )
    exposure = exposure_from_visit_image(rebuilt(image, obs_info=info, metadata={}))
    assert exposure.visit_info.visit == exposure.visit_info.exposure == 154
    assert exposure.visit_info.boresight_rotation_deg == 12.5
    assert exposure.lsst_detector is image.detector
    exposure.visit_info = dataclasses.replace(exposure.visit_info, exposure_time=60.0)
    product = visit_image(exposure, psf=image.psf, unit=u.electron)
    assert product.obs_info.observation_id == "CC_O_20261120_000123"
    assert product.obs_info.exposure_time == 60.0 * u.s
    assert product.detector is image.detector

"""Zeropoints: what they are the sum of, which flag they have, and where their detectors look."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.fgcm.flags import ExposureFlag
from zeropoint.fgcm.terms.cycle_tables import (
    NO_VALUE,
    atmosphere_table,
    standard_star_table,
    zeropoint_table,
)
from zeropoint.fgcm.terms.detector_positions import (
    CenterSecants,
    center_secants,
    detector_positions,
    detector_secants,
)
from zeropoint.fgcm.terms.gray import ColorSplitGray, DetectorGray, ExposureGray
from zeropoint.fgcm.terms.zeropoints import (
    FlatTerms,
    Zeropoints,
    ZeropointTerms,
    choose_gray,
    chromatic_offset,
    compute_zeropoints,
    flat_terms,
    zeropoint_flags,
)

_NAN = float("nan")


@pytest.mark.parametrize(
    ("flag", "fit_band", "expected"),
    [
        (0, True, 1),
        (0, False, 2),
        (ExposureFlag.EXP_GRAY_TOO_NEGATIVE, True, 4),
        (ExposureFlag.BAD_FWHM, False, 4),
        (ExposureFlag.TOO_FEW_EXP_ON_NIGHT, True, 8),
        (ExposureFlag.TOO_FEW_EXP_ON_NIGHT | ExposureFlag.EXP_GRAY_TOO_NEGATIVE, True, 8),
        (ExposureFlag.NO_STARS | ExposureFlag.TOO_FEW_EXP_ON_NIGHT, True, 16),
        (ExposureFlag.BAND_NOT_IN_LUT, False, 16),
        (ExposureFlag.BAD_ZPFLAG, True, 16),
    ],
)
def test_flags_of_exposures(flag: int, fit_band: bool, expected: int) -> None:
    assert zeropoint_flags(np.array([flag]), np.array([fit_band])).tolist() == [expected]


@given(flag=st.integers(0, 1023), fit_band=st.booleans())
def test_every_exposure_has_one_flag(flag: int, fit_band: bool) -> None:
    value = int(zeropoint_flags(np.array([flag]), np.array([fit_band]))[0])
    assert value in (1, 2, 4, 8, 16)
    assert (value in (1, 2)) == (flag == 0)


def _gray(**changes: Any) -> tuple[DetectorGray, ExposureGray]:
    """Return gray of three exposures of two detectors; the second detector has no stars."""
    detector = DetectorGray(
        gray=np.array([[0.01, _NAN], [-0.2, _NAN], [0.02, _NAN]]),
        err=np.array([[0.002, _NAN]] * 3),
        rms=np.full((3, 2), 0.01),
        delta_std=np.array([[0.001, _NAN]] * 3),
        n_stars=np.array([[50, 1]] * 3),
        n_tilings=np.array([[8.0, _NAN]] * 3),
    )
    values: dict[str, Any] = {
        "gray": np.array([0.012, -0.19, 0.02]),
        "err": np.full(3, 0.001),
        "rms": np.array([0.004, 0.05, 0.004]),
        "n_stars": np.full(3, 51),
        "n_detectors": np.full(3, 2),
        "n_tilings": np.full(3, 7.0),
        "delta_std": np.full(3, 0.001),
    } | changes
    return detector, ExposureGray(**values)


def _zeropoints(exposure_flags: list[int], **changes: Any) -> Zeropoints:
    detector, exposure = _gray(**changes)
    flags = np.array(exposure_flags, np.int32)
    gray = choose_gray(
        detector,
        exposure,
        flags,
        min_star_per_ccd=5,
        max_ccd_gray_err=0.05,
        min_ccd_per_exp=2,
        exp_gray_err_recover_cut=0.05,
        exp_gray_recover_cut=-1.0,
        exp_var_gray_cut=0.0005,
    )
    column = np.full((3, 1), 1.0)
    terms = ZeropointTerms(
        i0=np.full((3, 2), 0.5),
        i10=np.full((3, 2), 3.0),
        dust=-0.01 * column,
        filter_offset=0.02 * column,
        aperture=0.003 * column,
        background=0.004 * column,
        reference=0.0 * column,
        exptime=30.0 * column,
        flat=FlatTerms(np.full((3, 2), 0.05), np.full((3, 2, 1, 1), 10 ** (-0.4 * 0.05))),
    )
    return compute_zeropoints(
        terms,
        gray,
        flags,
        zp_ab=25.0,
        model_variance=np.full((3, 2), 0.003**2),
        delta_std=detector.delta_std,
        median_delta_std=np.full((3, 2), 0.007),
    )


def test_a_zeropoint_is_the_sum_of_its_terms() -> None:
    found = _zeropoints([1, 4, 1])
    expected = 2.5 * np.log10(0.5) - 0.01 + 0.02 + 0.003 + 0.004 + 0.05 + 0.01 + 2.5 * np.log10(30.0) + 25.0
    assert found.zeropoint[0, 0] == pytest.approx(expected, abs=1e-12)
    assert found.sigma[0, 0] == pytest.approx(np.hypot(0.002, 0.003), rel=1e-12)
    # flux times both fields is the zeropoint
    flux = found.coefficients[0, 0, 0, 0] * found.terms.flat.coefficients[0, 0, 0, 0]
    assert -2.5 * np.log10(flux) == pytest.approx(expected, abs=1e-12)


def test_a_detector_without_stars_takes_the_gray_of_an_even_exposure() -> None:
    found = _zeropoints([1, 4, 1])
    assert found.gray.gray[0].tolist() == [0.01, 0.012]
    assert found.gray.variance[0, 1] == pytest.approx(0.004**2)
    assert found.gray.tilings[0].tolist() == [8.0, 7.0]
    assert found.delta_chromatic[0].tolist() == [0.001, 0.007]
    # uneven clouds: no zeropoint, for want of stars
    assert found.flag.tolist() == [[1, 1], [4, 4 | 16 | 32], [1, 1]]
    np.testing.assert_array_equal(np.isnan(found.zeropoint), (found.flag & 16) > 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_detectors": np.full(3, 1)},
        {"err": np.full(3, 0.06)},
        {"gray": np.full(3, -1.1)},
        {"gray": np.full(3, _NAN)},
    ],
)
def test_gray_of_an_exposure_that_is_not_good_enough(changes: dict[str, Any]) -> None:
    assert _zeropoints([1, 1, 1], **changes).flag[:, 1].tolist() == [49, 49, 49]


def test_nights_without_fit_need_gray_of_the_detector() -> None:
    assert _zeropoints([8, 8, 16]).flag.tolist() == [[8, 8 | 16 | 32], [8, 8 | 16 | 32], [16, 16]]


def test_gray_fields_and_flats_agree_with_their_centers() -> None:
    rng = np.random.default_rng(4)
    shape = np.zeros((1, 2, 3, 3, 3))
    shape[..., 0, 0] = 1.0
    shape[:, 1] += 0.01 * rng.normal(size=(1, 3, 3, 3))
    superstar = 0.01 * rng.normal(size=(1, 2, 3))
    flat = flat_terms(superstar, shape, np.zeros(3, int), np.array([0, 1, -1]))
    np.testing.assert_allclose(flat.center[0], superstar[0, 0], atol=1e-14)
    assert np.isnan(flat.center[2]).all()
    field = ChebyshevPolynomial(100, 80, flat.coefficients[1, 2])
    assert -2.5 * np.log10(field(x=49.5, y=39.5)) == pytest.approx(flat.center[1, 2], abs=1e-12)


def test_detectors_are_placed_with_the_rotation_of_their_own_exposure() -> None:
    x, y = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    # at rotation 0 +x points East and +y North; at 90 degrees +y points East and +x South
    found = detector_positions(x, y, ra=[10.0, 10.0], dec=[60.0, 60.0], rotation=[0.0, 90.0])
    one = np.rad2deg(np.arctan(np.deg2rad(1.0)))
    assert found.dec[0, 2] == pytest.approx(60.0 + one, abs=1e-12)
    assert found.dec[1, 1] == pytest.approx(60.0 - one, abs=1e-12)
    assert found.ra[0, 1] == pytest.approx(found.ra[1, 2], abs=1e-12)
    # a degree in right ascension is shorter by the cosine of the declination
    assert found.ra[0, 1] - 10.0 == pytest.approx(one / np.cos(np.deg2rad(60.0)), rel=2e-3)
    # over the pole
    polar = detector_positions([0.0], [1.0], ra=[10.0], dec=[89.5], rotation=[0.0])
    assert polar.ra[0, 0] == pytest.approx(190.0)
    assert polar.dec[0, 0] == pytest.approx(180.0 - 89.5 - one, abs=1e-12)
    unknown = detector_positions([0.0], [1.0], ra=[10.0], dec=[0.0], rotation=[_NAN])
    mean = CenterSecants(np.array([[1.3]]), np.array([[False]]))
    secant = detector_secants(
        unknown, ra=[10.0], hour_angle=[0.0], latitude=0.0, observed=mean, boresight=[1.2]
    )
    assert secant.tolist() == [[1.3]]
    nobody = CenterSecants(np.full((2, 3), _NAN), np.zeros((2, 3), bool))
    zenith = detector_secants(
        found,
        ra=[10.0, 10.0],
        hour_angle=[0.0, _NAN],
        latitude=60.0,
        observed=nobody,
        boresight=[1.0, 1.5],
    )
    assert zenith[0, 0] == pytest.approx(1.0, abs=1e-12)
    assert zenith[0, 2] == pytest.approx(1.0 / np.cos(np.deg2rad(one)), abs=1e-12)
    assert zenith[1].tolist() == [1.5, 1.5, 1.5]
    # what stars tell of the center counts, whatever rotation and hour angle say
    told = CenterSecants(np.array([[1.1, _NAN, 1.2], [1.3, 1.4, _NAN]]), np.array([[True, False, False]] * 2))
    arguments = {"ra": [10.0, 10.0], "hour_angle": [0.0, _NAN], "latitude": 60.0, "boresight": [1.0, 1.5]}
    both = detector_secants(found, observed=told, **arguments)
    assert both[0, 0] == 1.1
    assert both[0, 1:].tolist() == zenith[0, 1:].tolist()
    assert both[1].tolist() == [1.3, 1.4, 1.5]


def test_stars_tell_the_secant_at_the_center_of_their_detector(rng: np.random.Generator) -> None:
    n, size = 4000, np.array([[2000, 1000], [1000, 1000], [1000, 1000], [1000, 1000]])
    ec = rng.integers(0, 8, n)
    detector = ec % 4
    x, y = rng.uniform(0, 1, (2, n)) * size[detector].T - 0.5
    # of detector 2 in the last exposure there are stars in a corner only, of detector 3 in the first on a line
    corner, line = ec == 6, ec == 3
    x[corner], y[corner] = 900 + 0.05 * x[corner], 0.03 * y[corner]
    y[line] = 2 * x[line]
    u, v = (2 * (x + 0.5) / size[detector, 0] - 1, 2 * (y + 0.5) / size[detector, 1] - 1)
    secant = 1.2 + 0.1 * ec + 0.01 * u - 0.02 * v
    x[ec == 5] = _NAN
    found = center_secants(secant.astype(np.float32), x, y, ec, size, 2)
    expected = 1.2 + 0.1 * np.arange(8).reshape(2, 4)
    assert found.at_center.ravel().tolist() == [True, True, True, False, True, False, False, True]
    assert found.value[found.at_center] == pytest.approx(expected[found.at_center], abs=1e-6)
    # else it is the mean of the stars
    assert found.value[1, 2] == pytest.approx(secant[corner].mean(), abs=1e-4)
    assert found.value[1, 1] == pytest.approx(secant[ec == 5].mean(), abs=1e-3)


def test_tables_have_the_columns_of_the_products() -> None:
    found = _zeropoints([1, 4, 8])
    _, exposure = _gray()
    split = ColorSplitGray(
        np.full((3, 3), _NAN),
        np.full((3, 3), _NAN),
        np.full((3, 3), _NAN),
        np.zeros((3, 3), int),
        (_NAN, _NAN),
    )
    table = zeropoint_table(
        found, exposure, split,
        visit=np.array([5, 6, 7]), detectors=(2, 9), filter_names=["g", "r", "g"], detector_size=(100, 80),
        r0=None, r10=None, common_mode={"r": 0.002, "g": 0.001},
    )  # fmt: skip
    assert table["visit"].tolist() == [5, 5, 6, 6, 7, 7]
    assert table["detector"].tolist() == [2, 9, 2, 9, 2, 9]
    assert table["fgcmfZptChebXyMax"].shape == (6, 2)
    assert table["detector"].dtype == table["fgcmFlag"].dtype == np.int32
    assert table["exptime"].dtype == np.float32
    for name in ("fgcmZpt", "fgcmZptErr", "fgcmZptVar", "fgcmGry"):
        np.testing.assert_array_equal(np.isnan(table[name]), (table["fgcmFlag"] & 16) > 0, err_msg=name)
    assert set(table["fgcmR0"]) == {NO_VALUE}
    assert table.meta == {"COMMON_MODE_g": 0.001, "COMMON_MODE_r": 0.002}


def test_standard_stars_leave_out_the_bad_and_know_their_bands() -> None:
    n = 4
    magnitude = np.arange(3 * n, dtype=float).reshape(n, 3)
    magnitude[1, 2] = _NAN
    counts = np.ones((n, 3), int)
    table = standard_star_table(
        fgcm_id=np.array([8, 3, 5, 4]), isolated_star_id=np.arange(n), ra=np.full(n, 180.0), dec=np.full(n, -90.0),
        star_flag=np.array([0, 16, 4, 32]), bands=("g", "r", "i"), has_exposures=np.array([True, False, True]),
        magnitude=magnitude, magnitude_err=magnitude, n_good=counts, n_total=counts, n_psf_candidate=counts,
        delta_aper=None,
    )  # fmt: skip
    assert table["id"].tolist() == [3, 4, 8]
    assert table.meta["BANDS"] == ["g", "i"]
    assert table["mag_std_noabs"].tolist() == [[3.0, 99.0], [9.0, 11.0], [0.0, 2.0]]
    assert table["coord_dec"][0] == pytest.approx(-np.pi / 2)
    assert table["mag_std_noabs"].dtype == np.float32


def test_atmospheres_have_units() -> None:
    ones = np.ones(2)
    table = atmosphere_table(
        visit=np.array([1, 2]), pmb=ones, pwv=ones, tau=ones, alpha=ones, o3=ones, airmass=ones,
        lambda_std=np.array([5000.0, _NAN]), mirror_chromaticity=0.0 * ones,
    )  # fmt: skip
    assert table.colnames == ["visit", "pmb", "pwv", "tau", "alpha", "o3", "secZenith", "cTrans", "lamStd"]
    assert table["lamStd"].tolist() == [5000.0, NO_VALUE]
    assert str(table["pwv"].unit) == "mm"


def test_chromatic_offset_of_the_standard_passband_is_zero() -> None:
    assert chromatic_offset(2e-4, 10.0, 10.0) == 0.0
    assert chromatic_offset(2e-4, 20.0, 10.0) == pytest.approx(2.5 * np.log10(1.004 / 1.002))

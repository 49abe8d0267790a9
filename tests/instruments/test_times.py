from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time

from zeropoint.instruments.card import CameraCard
from zeropoint.instruments.times import mid_exposure_mjd
from zeropoint.instruments.values import ImageContext

START = Time("2017-12-20T04:39:12.516", scale="utc").tai.mjd
SECOND = 1.0 / 86400.0


def mid(date: dict[str, Any], exposure_time: float = 0.0, **cards: Any) -> tuple[float, list[str]]:
    header = fits.Header(cards)
    context = ImageContext(Path("a.fits"), CameraCard("t", "t.yaml", {"date": date}), [header])
    caveats: list[str] = []
    return mid_exposure_mjd(context, exposure_time, caveats), caveats


@pytest.mark.parametrize(
    "raw",
    [
        "2017-12-20T04:39:12.516",
        "2017-12-20 04:39:12.516",
        "2017-12-20T04:39:12.516Z",
        "2017-12-20T04:39:12.516-0000",
        "2017-12-19T21:39:12.516-0700",
        "2017-12-20T06:09:12.516+01:30",
        Time(START, format="mjd", scale="tai").utc.mjd,
        str(Time(START, format="mjd", scale="tai").utc.mjd),
        Time(START, format="mjd", scale="tai").utc.jd,
    ],
)
def test_the_same_moment_in_many_forms(raw: Any) -> None:
    mjd, caveats = mid({"value": {"key": "T"}}, T=raw)
    # a Julian date as a double holds some tens of microseconds
    assert mjd == pytest.approx(START, abs=1e-4 * SECOND if isinstance(raw, str) else 1e-3 * SECOND)
    assert caveats == []


@pytest.mark.parametrize(("at", "shift"), [("start", 15.0), ("mid", 0.0), ("end", -15.0)])
def test_which_end_of_the_exposure(at: str, shift: float) -> None:
    mjd, _ = mid({"value": "2017-12-20T04:39:12.516", "at": at}, exposure_time=30.0)
    assert (mjd - START) / SECOND == pytest.approx(shift, abs=1e-4)


def test_date_and_time_of_day_in_two_keys() -> None:
    date = {"value": [{"key": "DAY"}, {"key": "TIME", "default": ""}]}
    assert mid(date, DAY="2017-12-20", TIME="04:39:12.516")[0] == pytest.approx(START, abs=1e-9)
    assert mid(date, DAY="2017-12-20T04:39:12.516", TIME="11:11:11")[0] == pytest.approx(START, abs=1e-9)
    old, _ = mid(date, DAY="20/12/97", TIME="04:39:12.516")
    assert old == pytest.approx(Time("1997-12-20T04:39:12.516", scale="utc").tai.mjd, abs=1e-9)


def test_local_time_and_scales() -> None:
    mjd, _ = mid({"value": "2017-12-19T21:39:12.516", "utc_offset_hours": -7})
    assert mjd == pytest.approx(START, abs=1e-9)
    tai, _ = mid({"value": "2017-12-20T04:39:12.516", "scale": "tai"})
    assert (START - tai) / SECOND == pytest.approx(37.0, abs=1e-3)
    seconds, _ = mid({"value": START * 86400.0, "format": "mjd-seconds", "scale": "tai"})
    assert seconds == pytest.approx(START, abs=1e-9)


def test_a_date_alone_is_a_caveat() -> None:
    mjd, caveats = mid({"value": "2017-12-20"})
    assert abs(mjd - START) < 0.5
    assert "no time of day" in caveats[0]


@pytest.mark.parametrize("raw", ["yesterday", "", "2017-13-45T00:00:00", 12.0, float("nan")])
def test_a_useless_date_is_a_caveat(raw: Any) -> None:
    mjd, caveats = mid({"value": raw})
    assert np.isnan(mjd)
    assert len(caveats) == 1
    assert "\n" not in caveats[0]


def test_no_date_is_a_caveat() -> None:
    assert np.isnan(mid({"value": {"key": "NONE"}})[0])
    assert "no date" in mid({})[1][0]

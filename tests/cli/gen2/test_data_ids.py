from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.cli.gen2.data_ids import data_query, detectors_of_ids, parse_data_id, visits_named
from zeropoint.errors import OptionError

FILTERS, BANDS = ("HSC-G", "HSC-R"), ("g", "r")


def query(*ids: str, **aliases: str) -> str:
    choices = [parse_data_id(text.split()) for text in ids]
    return data_query(choices, physical_filters=FILTERS, bands=BANDS, aliases=aliases)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["visit=1228"], "visit = 1228"),
        (["visit=1228^1230..1240:2 ccd=0..10"], "visit IN (1228, 1230..1240:2)"),
        (["visit=0012^3..4"], "visit IN (12, 3..4)"),
        (["visit=1..5:1"], "visit IN (1..5)"),
        (["filter=HSC-R^HSC-G"], "physical_filter IN ('HSC-R', 'HSC-G')"),
        (["filter=r"], "band = 'r'"),
        (["dateObs=2015-01-21", "visit=3"], "(day_obs = 20150121) OR (visit = 3)"),
        (["visit=1 filter=HSC-R"], "visit = 1 AND physical_filter = 'HSC-R'"),
        (["visit=3 ccd=1", "visit=3 ccd=1"], "visit = 3"),
        (["field=O'Neill"], "visit.target_name = 'O''Neill'"),
        (["visit=3", ""], ""),
        (["ccd=1^2"], ""),
        ([], ""),
        (["instrument=HSC visit=3"], "visit = 3"),
    ],
)
def test_data_ids_become_a_query(ids: list[str], expected: str) -> None:
    assert query(*ids) == expected


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(1, 5)), min_size=1, max_size=4))
def test_detectors_are_those_of_all_values(ranges: list[tuple[int, int, int]]) -> None:
    text = "^".join(f"{first}..{first + n}:{step}" for first, n, step in ranges)
    # as the old parser's own rule has it: a range includes its end
    expected = {d for first, n, step in ranges for d in range(first, first + n + 1, step)}
    assert set(detectors_of_ids([parse_data_id([f"ccd={text}"])])) == expected


def test_visits_named_one_by_one_are_known_and_those_of_ranges_are_not() -> None:
    choices = [parse_data_id(text.split()) for text in ("visit=12^3..9 ccd=1", "visit=4", "filter=r")]
    assert visits_named(choices) == (4, 12)
    assert visits_named([parse_data_id(["exp=3"])], aliases={"exp": "visit"}) == (3,)


def test_names_of_keys_can_be_those_of_the_configuration() -> None:
    assert query("exp=3", exp="visit") == "visit = 3"
    assert detectors_of_ids([parse_data_id(["chip=4"])], aliases={"chip": "ccd"}) == (4,)


@pytest.mark.parametrize(
    ("ids", "complaint"),
    [
        (["visit"], "write KEY=VALUE"),
        (["visit=1^"], "write KEY=VALUE"),
        (["visit=1 visit=2"], "visit comes twice"),
        (["visti=1"], "no such key; did you mean visit"),
        (["visit=abc"], r"visit=abc: write a number, or a range"),
        (["visit=9..3"], "the range holds nothing"),
        (["visit=1..9:0"], "the range holds nothing"),
        (["filter=HSC-R^HSC-X"], "has no filter 'HSC-X'; it has HSC-G, HSC-R"),
    ],
)
def test_wrong_data_ids_are_refused(ids: list[str], complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint):
        query(*ids)


def test_different_detectors_for_different_visits_are_refused() -> None:
    with pytest.raises(OptionError, match="different detectors for different visits"):
        detectors_of_ids([parse_data_id(["visit=1", "ccd=1"]), parse_data_id(["visit=2", "ccd=2"])])
    with pytest.raises(OptionError, match="that many detectors"):
        detectors_of_ids([parse_data_id(["ccd=0..99999999999"])])

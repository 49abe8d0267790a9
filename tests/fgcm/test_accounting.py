"""Nothing is lost without a reason."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zeropoint.fgcm.accounting import Accounting

COUNTS = st.dictionaries(st.sampled_from(["flags", "position", "no_star"]), st.integers(0, 10**9))


def test_what_is_lost_without_a_reason_is_an_error() -> None:
    accounting = Accounting()
    with pytest.raises(ValueError, match=r"sources: 10 read are not 7 kept and 2 rejected"):
        accounting.add("sources", read=10, kept=7, rejected={"flags": 2})
    with pytest.raises(ValueError, match="sources"):
        accounting.add("sources", read=1, kept=2, rejected={"flags": -1})
    assert len(accounting) == 0


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from(["visits", "stars"]), st.integers(0, 10**9), COUNTS, COUNTS), max_size=5
    )
)
def test_numbers_of_parts_are_the_numbers_of_the_whole(parts) -> None:
    whole = Accounting()
    for stage, kept, rejected, noted in parts:
        part = Accounting()
        part.add(stage, read=kept + sum(rejected.values()), kept=kept, rejected=rejected, noted=noted)
        whole.merge(Accounting.from_meta(json.loads(json.dumps(part.to_meta()))))
    whole.check()
    for name, stage in whole.items():
        mine = [part for part in parts if part[0] == name]
        assert stage.kept == sum(part[1] for part in mine)
        assert stage.read == stage.kept + sum(sum(part[2].values()) for part in mine)
        assert stage.noted.total() == sum(sum(part[3].values()) for part in mine)
    assert Accounting.from_meta(whole.to_meta()).to_meta() == whole.to_meta()


def test_a_line_has_the_largest_rejection_first() -> None:
    accounting = Accounting()
    accounting.add("stars", read=9, kept=3, rejected={"a": 2, "b": 4, "c": 0}, noted={"faint": 1})
    assert accounting.lines() == ["stars: 9 read, 3 kept, 6 rejected (b 4, a 2); noted: faint 1"]


def test_equal_accountings_are_stored_as_equal_bytes() -> None:
    one, other = Accounting(), Accounting()
    one.add("stars", read=3, kept=0, rejected={"a": 1, "b": 2})
    other.add("stars", read=2, kept=0, rejected={"b": 2})
    other.add("stars", read=1, kept=0, rejected={"a": 1})
    assert json.dumps(one.to_meta()) == json.dumps(other.to_meta())

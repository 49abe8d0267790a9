"""Data ids of old: ``--id visit=1228^1230..1240:2 ccd=0..10``, and the data query that selects the same."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from zeropoint.errors import OptionError

__all__ = ["DataIdChoice", "data_query", "detectors_of_ids", "parse_data_id", "visits_named"]

_RANGE = re.compile(r"(\d+)\.\.(\d+)(?::(\d+))?")
#: Key of old -> dimension, or field of the visit's record.
_KEYS: Mapping[str, str] = {
    "visit": "visit",
    "ccd": "detector",
    "detector": "detector",
    "instrument": "instrument",
    "filter": "filter",
    "physical_filter": "physical_filter",
    "band": "band",
    "dateObs": "day_obs",
    "day_obs": "day_obs",
    "object": "visit.target_name",
    "field": "visit.target_name",
}
_NUMBERS = ("visit", "detector", "day_obs")
#: Most detectors that a range may hold: a typing error must not fill the memory.
_MAX_DETECTORS = 100_000


@dataclass(frozen=True)
class DataIdChoice:
    """The keys of one ``--id``.

    Parameters
    ----------
    values
        Key as it was written -> its values, numbers and ranges as text.
    """

    values: Mapping[str, tuple[str, ...]]


def parse_data_id(words: Sequence[str]) -> DataIdChoice:
    """Return what one ``--id`` says.

    Parameters
    ----------
    words
        What follows it, each ``KEY=VALUE[^VALUE ...]``.

    Raises
    ------
    OptionError
        If a word is not ``KEY=VALUE[^VALUE ...]``, or a key comes twice.
    """
    values: dict[str, tuple[str, ...]] = {}
    for word in words:
        key, equals, text = word.partition("=")
        parts = tuple(text.split("^"))
        if not (key and equals and all(parts)):
            raise OptionError(f"--id {word}: write KEY=VALUE, with ^ between several values.")
        if key in values:
            raise OptionError(
                f"--id {word}: {key} comes twice; put ^ between several values, or write --id again."
            )
        values[key] = parts
    return DataIdChoice(values)


def data_query(
    ids: Iterable[DataIdChoice],
    *,
    physical_filters: Collection[str],
    bands: Collection[str],
    aliases: Mapping[str, str] | None = None,
) -> str:
    """Return the data query of some data ids, without camera and detectors; empty: all data.

    Parameters
    ----------
    ids
        One of them must fit.
    physical_filters, bands
        Those of the camera: the old key ``filter`` may name either.
    aliases
        Further names of keys -> ``visit`` or ``ccd``.

    Raises
    ------
    OptionError
        If a key is unknown, or a value cannot be one of its.
    """
    parts = []
    for choice in ids:
        terms = []
        for key, texts in choice.values.items():
            dimension = _dimension(key, aliases or {})
            if dimension == "filter":
                dimension = _kind_of_filter(texts, physical_filters, bands)
            if dimension not in ("detector", "instrument"):
                terms.append(_term(dimension, key, texts))
        parts.append(" AND ".join(terms))
    if not all(parts):
        return ""  # one of them fits all data
    distinct = list(dict.fromkeys(parts))
    return distinct[0] if len(distinct) == 1 else " OR ".join(f"({part})" for part in distinct)


def detectors_of_ids(
    ids: Iterable[DataIdChoice], *, aliases: Mapping[str, str] | None = None
) -> tuple[int, ...]:
    """Return the detectors that data ids name, ascending; none: all.

    Parameters
    ----------
    ids
        All data ids of the command line.
    aliases
        As for `data_query`.

    Raises
    ------
    OptionError
        If they name different ones for different visits, or something that is no detector.
    """
    found: set[tuple[int, ...]] = set()
    for choice in ids:
        chosen: set[int] = set()
        for key, texts in choice.values.items():
            if _dimension(key, aliases or {}) == "detector":
                chosen.update(n for text in texts for n in _expanded(key, text))
        found.add(tuple(sorted(chosen)))
    if len(found) > 1:
        raise OptionError(
            "--id: different detectors for different visits cannot be told apart in one star list; name the same ones in "
            "every --id."
        )
    return found.pop() if found else ()


def visits_named(ids: Iterable[DataIdChoice], *, aliases: Mapping[str, str] | None = None) -> tuple[int, ...]:
    """Return the visits that data ids name one by one, ascending; ranges name none.

    Parameters
    ----------
    ids
        All data ids of the command line.
    aliases
        As for `data_query`.
    """
    found = {
        int(text)
        for choice in ids
        for key, texts in choice.values.items()
        if _dimension(key, aliases or {}) == "visit"
        for text in texts
        if text.isdigit()
    }
    return tuple(sorted(found))


def _dimension(key: str, aliases: Mapping[str, str]) -> str:
    name = aliases.get(key, key)
    if name not in _KEYS:
        close = difflib.get_close_matches(name, _KEYS, 1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(_KEYS)}."
        raise OptionError(f"--id {key}=...: no such key; {hint}")
    return _KEYS[name]


def _kind_of_filter(texts: Sequence[str], physical_filters: Collection[str], bands: Collection[str]) -> str:
    """Return which dimension values of the old key ``filter`` belong to."""
    for dimension, known in (("physical_filter", physical_filters), ("band", bands)):
        if set(texts) <= set(known):
            return dimension
    unknown = next(text for text in texts if text not in physical_filters)
    raise OptionError(
        f"--id filter={'^'.join(texts)}: the camera has no filter {unknown!r}; it has {', '.join(sorted(physical_filters))}."
    )


def _term(dimension: str, key: str, texts: Sequence[str]) -> str:
    if dimension == "day_obs":
        texts = [text.replace("-", "") for text in texts]
    if dimension in _NUMBERS:
        values = [_number_or_range(key, text) for text in texts]
    else:
        values = ["'" + text.replace("'", "''") + "'" for text in texts]
    if len(values) == 1 and ".." not in values[0]:
        return f"{dimension} = {values[0]}"
    return f"{dimension} IN ({', '.join(values)})"


def _number_or_range(key: str, text: str) -> str:
    """Return a number or a range as a query has it."""
    if text.isdigit():
        return str(int(text))
    first, last, step = _range(key, text)
    return f"{first}..{last}" + (f":{step}" if step > 1 else "")


def _range(key: str, text: str) -> tuple[int, int, int]:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise OptionError(f"--id {key}={text}: write a number, or a range FIRST..LAST[:STEP].")
    first, last, step = (int(part) for part in match.groups(default="1"))
    if last < first or step < 1:
        raise OptionError(f"--id {key}={text}: the range holds nothing.")
    return first, last, step


def _expanded(key: str, text: str) -> Iterable[int]:
    if text.isdigit():
        return [int(text)]
    first, last, step = _range(key, text)
    if (last - first) // step >= _MAX_DETECTORS:
        raise OptionError(f"--id {key}={text}: that many detectors?")
    return range(first, last + 1, step)

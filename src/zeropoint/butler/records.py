"""Registry records of exposures and visits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy.time import Time
from lsst.daf.butler import Butler, DimensionRecord, Timespan
from lsst.daf.butler.registry import ConflictingDefinitionError
from lsst.sphgeom import ConvexPolygon, UnitVector3d

from zeropoint.butler.image_facts import ImageFacts
from zeropoint.errors import InvalidInputError

__all__ = ["ExistingRecords", "check_exposure", "insert_visits"]

_TEXT_LENGTH = 64
#: How far the beginnings of one exposure's detectors may lie apart, beyond its duration (seconds).
_SAME_TIME = 60.0


@dataclass
class ExistingRecords:
    """What the registry holds of the exposures and visits that are about to be written.

    Parameters
    ----------
    exposures, visits
        By number.
    regions
        By visit and detector.
    members
        Exposures of each visit.
    detectors, filters
        By number, by name.
    """

    exposures: dict[int, DimensionRecord]
    visits: dict[int, DimensionRecord]
    regions: dict[int, dict[int, ConvexPolygon]]
    members: dict[int, set[int]]
    detectors: dict[int, DimensionRecord]
    filters: dict[str, DimensionRecord]

    @classmethod
    def query(cls, butler: Butler, instrument: str, facts: Sequence[ImageFacts]) -> ExistingRecords:
        """Ask the registry for all that concerns some images of one instrument."""
        exposures = {each.exposure for each in facts}
        visits = {each.visit for each in facts}

        def records(element: str, **chosen: set[int]) -> Iterable[DimensionRecord]:
            return _query(butler, element, instrument, chosen)

        members: dict[int, set[int]] = defaultdict(set)
        for record in records("visit_definition", visit=visits):
            members[record.visit].add(record.exposure)
        exposures.update(*members.values())
        regions: dict[int, dict[int, ConvexPolygon]] = defaultdict(dict)
        for record in records("visit_detector_region", visit=visits):
            regions[record.visit][record.detector] = record.region
        return cls(
            {record.id: record for record in records("exposure", exposure=exposures)},
            {record.id: record for record in records("visit", visit=visits)},
            regions,
            members,
            {record.id: record for record in records("detector")},
            {record.name: record for record in records("physical_filter")},
        )


def _query(
    butler: Butler, element: str, instrument: str, chosen: dict[str, set[int]], chunk: int = 500
) -> Iterable[DimensionRecord]:
    """Return records of an instrument, of some numbers only if any are given."""
    if not chosen:
        return butler.query_dimension_records(element, instrument=instrument, explain=False, limit=None)
    ((key, numbers),) = chosen.items()
    ordered = sorted(numbers)
    result: list[DimensionRecord] = []
    for start in range(0, len(ordered), chunk):
        result += butler.query_dimension_records(
            element,
            instrument=instrument,
            where=f"{key} IN (numbers)",
            bind={"numbers": ordered[start : start + chunk]},
            explain=False,
            limit=None,
        )
    return result


def check_exposure(facts: ImageFacts, existing: ExistingRecords, first: ImageFacts | None) -> None:
    """Raise if an image's facts contradict those of the same exposure, detector or filter that are known.

    Parameters
    ----------
    facts
        The image.
    existing
        What the registry holds.
    first
        An accepted image of the same exposure, if there is one.

    Raises
    ------
    InvalidInputError
        The message names the file.
    """
    record = existing.exposures.get(facts.exposure)
    others: list[tuple[str, str, str, float]] = []
    if first is not None:
        others.append((str(first.path), first.physical_filter, str(first.visit), first.begin))
    elif record is not None:
        begin = record.timespan.begin if record.timespan is not None else None
        others.append(
            (
                "an image ingested before",
                record.physical_filter,
                record.group,
                np.nan if begin is None else begin.tai.mjd,
            )
        )
    for name, physical_filter, visit, begin in others:
        problem = ""
        apart = abs(begin - facts.begin) * 86400.0
        if physical_filter != facts.physical_filter:
            problem = f"filter {facts.physical_filter} here, {physical_filter} there"
        elif visit != str(facts.visit):
            problem = f"visit {facts.visit} here, {visit} there"
        elif apart > max(_SAME_TIME, np.nan_to_num(facts.exposure_time)):
            problem = f"{apart:.0f} seconds apart"
        if problem:
            raise InvalidInputError(
                f"{facts.path}: has the exposure number {facts.exposure} of {name}, but is another exposure ({problem}); "
                "let `visit:` or `exposure:` in the camera card number them apart."
            )
    _check_detector(facts, existing)


def _check_detector(facts: ImageFacts, existing: ExistingRecords) -> None:
    known = existing.detectors.get(facts.detector)
    if known is not None and known.full_name != facts.detector_name:
        raise InvalidInputError(
            f"{facts.path}: detector {facts.detector} is {facts.detector_name!r} here, but {known.full_name!r} in the "
            "repository; correct `detector:` in the camera card."
        )
    for record in existing.detectors.values():
        if record.full_name == facts.detector_name and record.id != facts.detector:
            raise InvalidInputError(
                f"{facts.path}: detectors {facts.detector} and {record.id} are both named {facts.detector_name!r}; "
                "correct `detector:` in the camera card."
            )
    band = existing.filters.get(facts.physical_filter)
    if band is not None and band.band != facts.band:
        raise InvalidInputError(
            f"{facts.path}: filter {facts.physical_filter} has the band {facts.band!r} here, but {band.band!r} in the "
            "repository; correct `bands:` in the camera card and register it again."
        )


def insert_visits(
    butler: Butler,
    visits: Sequence[Sequence[ImageFacts]],
    existing: ExistingRecords,
    visit_system: int,
    *,
    replace: bool,
) -> None:
    """Write all records of the images of some visits.

    Parameters
    ----------
    butler
        Writeable, in a transaction.
    visits
        Images of each visit, which were checked by `check_exposure`.
    existing
        What the registry holds.
    visit_system
        Number of the visit system.
    replace
        Replace exposures that are there already.

    Raises
    ------
    InvalidInputError
        If records contradict others in a way that `check_exposure` does not know.
    """
    everything = [each for facts in visits for each in facts]
    if not everything:
        return
    rows = _Rows()
    key = {"instrument": everything[0].instrument}
    for day in sorted({each.day_obs for each in everything}):
        rows.new["day_obs"].append({**key, "id": day})
    for facts in visits:
        _add_visit(rows, facts, existing, visit_system, replace=replace)
    registry = butler.registry
    try:
        for detector, name in sorted({(each.detector, each.detector_name) for each in everything}):
            if detector not in existing.detectors:
                record = {**key, "id": detector, "full_name": name, "purpose": "SCIENCE"}
                registry.syncDimensionData("detector", record)
        for physical_filter, band in sorted({(each.physical_filter, each.band) for each in everything}):
            if physical_filter not in existing.filters:
                registry.syncDimensionData("physical_filter", {**key, "name": physical_filter, "band": band})
        for element in _ORDER:
            if rows.new[element]:
                registry.insertDimensionData(element, *rows.new[element], skip_existing=True)
            if rows.changed[element]:
                registry.insertDimensionData(element, *rows.changed[element], replace=True)
    except ConflictingDefinitionError as error:
        text = str(error).splitlines()[0]
        raise InvalidInputError(f"{everything[0].path}: contradicts what is registered: {text}") from None


#: Elements in the order in which their records refer to one another.
_ORDER = (
    "day_obs",
    "group",
    "exposure",
    "visit",
    "visit_definition",
    "visit_system_membership",
    "visit_detector_region",
)


@dataclass
class _Rows:
    """Records to be written, by element: new ones, and ones that take the place of others."""

    new: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    changed: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))


def _add_visit(
    rows: _Rows, facts: Sequence[ImageFacts], existing: ExistingRecords, visit_system: int, *, replace: bool
) -> None:
    """Add the records of one visit; those of images ingested before are taken into account."""
    instrument, visit = {"instrument": facts[0].instrument}, facts[0].visit
    key = {**instrument, "visit": visit}
    snaps = {each.exposure: each for each in reversed(facts)}
    rows.new["group"].append({**instrument, "name": str(visit)})
    for number, each in sorted(snaps.items()):
        rows.new["visit_definition"].append({**key, "exposure": number})
        if number not in existing.exposures:
            rows.new["exposure"].append(exposure_record(each))
        elif replace:
            rows.changed["exposure"].append(exposure_record(each))
    rows.new["visit_system_membership"].append({**key, "visit_system": visit_system})
    members = existing.members.get(visit, set()) | set(snaps)
    before = existing.regions.get(visit, {})
    # what is replaced as a whole leaves nothing of its former outline
    regions = before | _regions(facts, {} if replace and members == set(snaps) else before)
    for detector, region in sorted(regions.items()):
        if before.get(detector) != region:
            kind = rows.changed if detector in before else rows.new
            kind["visit_detector_region"].append({**key, "detector": detector, "region": region})
    if (
        visit in existing.visits
        and regions == before
        and members == existing.members.get(visit)
        and not replace
    ):
        return
    whole = ConvexPolygon.convexHull([v for region in regions.values() for v in region.getVertices()])
    kind = rows.changed if visit in existing.visits else rows.new
    kind["visit"].append(_visit_record(facts[0], snaps, members, existing, whole))


def _regions(facts: Sequence[ImageFacts], before: dict[int, ConvexPolygon]) -> dict[int, ConvexPolygon]:
    """Return the outline of each detector of some images, together with that of earlier ones."""
    points: dict[int, list[UnitVector3d]] = defaultdict(list)
    for each in facts:
        if each.detector in before and each.detector not in points:
            points[each.detector] += before[each.detector].getVertices()
        points[each.detector] += [UnitVector3d(*vector) for vector in each.outline]
    return {detector: ConvexPolygon.convexHull(vectors) for detector, vectors in points.items()}


def exposure_record(facts: ImageFacts) -> dict[str, Any]:
    """Return the registry's record of an exposure; what is not known is None."""
    return {
        "instrument": facts.instrument,
        "id": facts.exposure,
        "obs_id": str(facts.exposure),
        "physical_filter": facts.physical_filter,
        "group": str(facts.visit),
        "day_obs": facts.day_obs,
        "exposure_time": _number(facts.exposure_time),
        "observation_type": "science",
        "target_name": facts.target[:_TEXT_LENGTH] or None,
        "tracking_ra": _number(facts.tracking_ra),
        "tracking_dec": _number(facts.tracking_dec),
        "sky_angle": _number(facts.sky_angle),
        "timespan": _timespan(facts.begin, facts.end),
    }


def _visit_record(
    facts: ImageFacts,
    snaps: dict[int, ImageFacts],
    members: set[int],
    existing: ExistingRecords,
    region: ConvexPolygon,
) -> dict[str, Any]:
    """Return the record of a visit made of new snaps and of those ingested before."""
    times: list[float] = []
    spans: list[Timespan | None] = []
    days: list[int] = []
    for number in sorted(members):
        if number in snaps:
            times.append(snaps[number].exposure_time)
            spans.append(_timespan(snaps[number].begin, snaps[number].end))
            days.append(snaps[number].day_obs)
        else:
            record = existing.exposures[number]
            times.append(np.nan if record.exposure_time is None else record.exposure_time)
            spans.append(record.timespan)
            days.append(record.day_obs)
    known = [span for span in spans if span is not None]
    timespan = None
    if len(known) == len(spans):
        timespan = Timespan(min(span.begin for span in known), max(span.end for span in known))
    return {
        "instrument": facts.instrument,
        "id": facts.visit,
        "name": str(facts.visit),
        "physical_filter": facts.physical_filter,
        "day_obs": min(days),
        "exposure_time": _number(float(np.sum(times))),
        "target_name": facts.target[:_TEXT_LENGTH] or None,
        "timespan": timespan,
        "region": region,
    }


def _timespan(begin: float, end: float) -> Timespan | None:
    if not (np.isfinite(begin) and np.isfinite(end)):
        return None
    first = Time(begin, format="mjd", scale="tai")
    # an exposure without a known duration is a moment
    return (
        Timespan(first, Time(end, format="mjd", scale="tai")) if end > begin else Timespan.fromInstant(first)
    )


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

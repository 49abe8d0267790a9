"""Registry records of exposures and visits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.time import Time
from lsst.daf.butler import Butler, DimensionRecord, Timespan
from lsst.daf.butler.registry import ConflictingDefinitionError
from lsst.sphgeom import ConvexPolygon, UnitVector3d

from zeropoint.butler.image_facts import ImageFacts
from zeropoint.errors import InvalidInputError

__all__ = ["ExistingRecords", "check_exposure", "insert_visit"]

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
        By (visit, detector).
    members
        Exposures of each visit.
    detectors, filters
        By number, by name.
    """

    exposures: dict[int, DimensionRecord]
    visits: dict[int, DimensionRecord]
    regions: dict[tuple[int, int], ConvexPolygon]
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
        return cls(
            {record.id: record for record in records("exposure", exposure=exposures)},
            {record.id: record for record in records("visit", visit=visits)},
            {
                (record.visit, record.detector): record.region
                for record in records("visit_detector_region", visit=visits)
            },
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


def insert_visit(
    butler: Butler,
    facts: Sequence[ImageFacts],
    existing: ExistingRecords,
    visit_system: int,
    *,
    replace: bool,
) -> None:
    """Write all records of the images of one visit.

    Parameters
    ----------
    butler
        Writeable, in a transaction.
    facts
        Images of one visit that were checked by `check_exposure`.
    existing
        What the registry holds; updated with what is written.
    visit_system
        Number of the visit system.
    replace
        Replace exposures that are there already.

    Raises
    ------
    InvalidInputError
        If records contradict others in a way that `check_exposure` does not know.
    """
    registry, instrument, visit = butler.registry, facts[0].instrument, facts[0].visit
    key = {"instrument": instrument}
    try:
        for each in facts:
            if each.detector not in existing.detectors:
                record = {**key, "id": each.detector, "full_name": each.detector_name, "purpose": "SCIENCE"}
                registry.syncDimensionData("detector", record)
            if each.physical_filter not in existing.filters:
                record = {**key, "name": each.physical_filter, "band": each.band}
                registry.syncDimensionData("physical_filter", record)
        snaps = {each.exposure: each for each in reversed(facts)}
        days = [{**key, "id": day} for day in sorted({each.day_obs for each in facts})]
        registry.insertDimensionData("day_obs", *days, skip_existing=True)
        registry.insertDimensionData("group", {**key, "name": str(visit)}, skip_existing=True)
        new = [
            exposure_record(each)
            for number, each in sorted(snaps.items())
            if replace or number not in existing.exposures
        ]
        if new:
            registry.insertDimensionData("exposure", *new, replace=replace, skip_existing=not replace)
        _insert_visit_itself(butler, facts, snaps, existing, visit_system, replace=replace)
    except ConflictingDefinitionError as error:
        text = str(error).splitlines()[0]
        raise InvalidInputError(f"{facts[0].path}: contradicts what is registered: {text}") from None


def _insert_visit_itself(
    butler: Butler,
    facts: Sequence[ImageFacts],
    snaps: dict[int, ImageFacts],
    existing: ExistingRecords,
    visit_system: int,
    *,
    replace: bool,
) -> None:
    registry, visit = butler.registry, facts[0].visit
    key = {"instrument": facts[0].instrument, "visit": visit}
    members = existing.members.get(visit, set()) | set(snaps)
    before = {detector: region for (number, detector), region in existing.regions.items() if number == visit}
    # what is replaced as a whole leaves nothing of its former outline
    fresh = replace and members == set(snaps)
    points: dict[int, list[UnitVector3d]] = defaultdict(list)
    for each in facts:
        points[each.detector] += [UnitVector3d(*vector) for vector in each.outline]
        if each.detector in before and not fresh:
            points[each.detector] += before[each.detector].getVertices()
    regions = before | {detector: ConvexPolygon.convexHull(vectors) for detector, vectors in points.items()}
    changed = {detector: region for detector, region in regions.items() if before.get(detector) != region}
    old = existing.visits.get(visit)
    if old is None or changed or members != existing.members.get(visit):
        whole = ConvexPolygon.convexHull([v for region in regions.values() for v in region.getVertices()])
        record = _visit_record(facts[0], snaps, members, existing, whole)
        registry.insertDimensionData("visit", record, replace=old is not None)
    definitions = [{**key, "exposure": number} for number in sorted(snaps)]
    registry.insertDimensionData("visit_definition", *definitions, skip_existing=True)
    membership = {**key, "visit_system": visit_system}
    registry.insertDimensionData("visit_system_membership", membership, skip_existing=True)
    rows = [{**key, "detector": detector, "region": region} for detector, region in sorted(changed.items())]
    if rows:
        registry.insertDimensionData("visit_detector_region", *rows, replace=True)


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

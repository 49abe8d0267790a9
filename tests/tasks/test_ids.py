"""Catalogue ids from data ids are those of the published packing."""

from __future__ import annotations

from typing import Any

import pytest
from lsst.daf.butler import DataCoordinate, DimensionUniverse

from zeropoint.errors import InvalidInputError
from zeropoint.tasks.ids import DetectorVisitIdGeneratorConfig


def data_id(visit: int, detector: int) -> DataCoordinate:
    return DataCoordinate.standardize(
        {"instrument": "SimCam", "visit": visit, "detector": detector}, universe=DimensionUniverse()
    )


def config(**fields: Any) -> DetectorVisitIdGeneratorConfig:
    result = DetectorVisitIdGeneratorConfig()
    result.packer.name = "observation"
    result.packer["observation"].n_detectors = 200
    result.packer["observation"].n_observations = 100_000
    for name, value in fields.items():
        setattr(result, name, value)
    return result


def test_ids_are_packed_as_published() -> None:
    # detector + n_detectors * visit in 25 bits, the release in 6, 32 for the rows
    ids = config(release_id=3).apply(data_id(4321, 17))
    assert ids.catalog_id == 17 + 200 * 4321 + (3 << 25)
    assert list(ids.ids(2)) == [(ids.catalog_id << 32) + 1, (ids.catalog_id << 32) + 2]
    packer = config().packer.apply(data_id(4321, 17), is_exposure=False)
    assert packer.pack(data_id(4321, 17)) == config().apply(data_id(4321, 17)).catalog_id
    assert packer.maxBits == 25


@pytest.mark.parametrize(
    ("visit", "detector", "fields"), [(100_000, 1, {}), (1, 200, {}), (1, 1, {"release_id": 64})]
)
def test_what_does_not_fit_is_refused(visit: int, detector: int, fields: dict[str, int]) -> None:
    with pytest.raises(InvalidInputError, match="No catalogue ids can be made for"):
        config(**fields).apply(data_id(visit, detector))


def test_the_limits_come_from_the_instruments_record(repository: Any) -> None:
    with repository.open() as butler:
        expanded = butler.registry.expandDataId(instrument="SimCam", visit=101, detector=0)
        n_visits, n_detectors = repository.card.id_limits
        ids = DetectorVisitIdGeneratorConfig().apply(expanded)
    assert (ids.n_visits, ids.n_detectors, ids.catalog_id) == (n_visits, n_detectors, 101 * n_detectors)

"""FgcmMakeLutTask: its connections, which detectors it takes, and what it hands over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from zeropoint.datamodel.transmission_curve import TransmissionCurve
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.lut import LookUpTable
from zeropoint.fgcm.throughput_table import passbands_of
from zeropoint.tasks.fgcm_make_lut import FgcmMakeLutConfig, FgcmMakeLutConnections, FgcmMakeLutTask

BANDS = {"R": "r", "R2": "r", "I": "i"}


def flat(value: float = 0.5) -> TransmissionCurve:
    return TransmissionCurve.top_hat(6000.0, 7000.0, throughput=value)


def task(**changes: Any) -> FgcmMakeLutTask:
    config = FgcmMakeLutConfig()
    config.physicalFilters = ["R", "R2"]
    config.stdPhysicalFilterOverrideMap = {"R": "R2"}
    config.atmosphereTableName = "fgcm_atm_lsst2_test"
    for name, value in changes.items():
        setattr(config, name, value)
    config.validate()
    return FgcmMakeLutTask(config=config)


def given(**changes: Any) -> dict[str, Any]:
    inputs = {
        "filters": {"R": flat(), "R2": flat(0.4)},
        "bands": BANDS,
        "optics": flat(),
        "sensors": {3: flat(), 8: flat()},
    }
    return inputs | changes


def test_connections_follow_the_configuration() -> None:
    config = FgcmMakeLutConfig()
    names = set(FgcmMakeLutConnections(config=config).prerequisiteInputs)
    assert names == {"camera", "transmission_optics", "transmission_sensor", "transmission_filter"}
    config.doOpticsTransmission = config.doSensorTransmission = False
    config.doFilterDetectorTransmission = True
    connections = FgcmMakeLutConnections(config=config)
    assert set(connections.prerequisiteInputs) == {"camera", "transmission_filter_detector"}
    outputs = {getattr(connections, name).name for name in connections.outputs}
    assert outputs == {
        "fgcmLookUpTable",
        "fgcm_detector_throughputs",
        "fgcm_standard_atmosphere",
        "fgcm_standard_passband",
        "standard_passband",
    }


def test_outputs_are_the_table_the_atmosphere_and_the_passbands() -> None:
    one = task()
    result = one.run(**given(not_science=[8]))
    assert isinstance(result.fgcmLookUpTable, pa.Table)
    lut = LookUpTable.from_arrow(result.fgcmLookUpTable)
    assert lut.detectors == (3,)
    assert lut.header["tablename"] == "fgcm_atm_lsst2_test"
    assert set(result.fgcmStandardPassbands) == {"R", "R2"}
    assert set(result.standardPassbands) == {"r"}
    again = passbands_of(result.fgcmDetectorThroughputs, lut)
    assert (again.column("i0_std") == lut.header["i0Std"]).all()
    assert again.detectors == (3,)
    atmosphere = TransmissionCurve.from_table(result.fgcmStandardAtmosphere)
    at = np.array([6500.0, 12000.0])
    np.testing.assert_allclose(
        atmosphere.sample(at), np.interp(at, lut.header["atmLambda"], lut.header["atmStdTrans"])
    )
    assert one.metadata["nDetectors"] == 1
    assert one.metadata["interpolationErrorMmag_R2"] > 0


def test_detectors_are_those_of_curves_or_of_the_configuration() -> None:
    def detectors(one: FgcmMakeLutTask, not_science: tuple[int, ...] = (), **changes: Any) -> list[int]:
        inputs = given(**changes)
        return one._detectors(None, inputs["sensors"], inputs["filters"], not_science)

    assert detectors(task(), not_science=(8,)) == [3]
    assert detectors(task(useScienceDetectors=False), not_science=(8,)) == [3, 8]
    assert detectors(task(detectors=[8])) == [8]
    assert detectors(task(detectors=[1, 0]), sensors={}) == [0, 1]
    before = {(name, number): flat() for name in ("R", "R2") for number in (5, 6)}
    each = task(doFilterDetectorTransmission=True, doSensorTransmission=False, doOpticsTransmission=False)
    assert detectors(each, filters=before, sensors={}) == [5, 6]
    table = each.run(**given(filters=before, sensors=None, optics=None)).fgcmLookUpTable
    assert LookUpTable.from_arrow(table).detectors == (5, 6)


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (
            {},
            {"filters": {"R": flat()}},
            r"Filter 'R2' has no curve\. `zeropoint ingest-throughputs` .*, or leave them out: -c \"fgcmMakeLut:physicalFilters=\['R'\]\"",
        ),
        (
            {},
            {"filters": {}},
            r"Filters 'R', 'R2' have no curve\. `zeropoint ingest-throughputs` brings .* repository\.$",
        ),
        (
            {"doFilterDetectorTransmission": True, "physicalFilters": ["R", "R2", "R3"]},
            {"filters": {("R", 3): flat(), ("R2", 3): flat(), ("R2", 8): flat()}},
            r"Filter 'R3' has no curve; Filter 'R' has no curve before detectors 8; .*R3.*out: -c \"fgcmMakeLut:physicalFilters=\['R2'\]",
        ),
        ({}, {"optics": None}, "no curve of the optics"),
        ({}, {"bands": {"R": "r"}}, "physicalFilters names R2"),
        ({"detectors": [4]}, {}, r"config\.detectors names \[4\]"),
        ({"doSensorTransmission": False}, {"sensors": None}, "No detector is known"),
        ({"atmosphereTableName": "unknown"}, {}, "is no file"),
    ],
)
def test_what_is_missing_is_named(config: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    one = task(**config)
    with pytest.raises(InvalidInputError, match=message):
        one.run(**given(**changes))

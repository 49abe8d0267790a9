"""Throughputs of filters and detectors."""

from __future__ import annotations

from typing import Any

import lsst.pex.config as pexConfig
import numpy as np
import pytest

from fgcm.lut.parts import small_config
from zeropoint.datamodel.transmission_curve import TransmissionCurve
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.make_lut_config import (
    FgcmMakeLutConfigBase,
    FgcmMakeLutParametersConfig,
    SensorCorrectionTerms,
)
from zeropoint.fgcm.passbands import filter_throughputs, focal_plane_mean

WAVELENGTH = np.arange(5000.0, 6001.0, 100.0)


def constant(value: float) -> TransmissionCurve:
    return TransmissionCurve(np.array([4000.0, 7000.0]), np.full(2, value))


def throughputs(**changes: Any) -> np.ndarray:
    given: dict[str, Any] = {
        "optics": constant(0.5),
        "sensors": {1: constant(0.8), 2: constant(0.6)},
        "filter_curve": lambda name, detector: constant(0.9),
    }
    return filter_throughputs(["r"], [1, 2], WAVELENGTH, **(given | changes)).throughput


def test_curves_are_multiplied_and_what_is_absent_is_unity() -> None:
    np.testing.assert_allclose(throughputs()[0, :, 0], [0.36, 0.27, 0.315])
    np.testing.assert_allclose(throughputs(optics=None, sensors=None)[0], 0.9)


def test_the_mean_is_over_detectors_with_light() -> None:
    rows = np.array([[0.4, 0.0, 0.0], [0.2, 0.6, 0.0]])
    np.testing.assert_allclose(focal_plane_mean(rows), [0.3, 0.6, 0.0])


def test_correction_terms_tilt_a_detector_and_its_mean_and_nothing_exceeds_one() -> None:
    got = throughputs(sensor_terms={"r": (5000.0, {2: 2.0})})[0]
    factor = 1.0 + 2.0 * (WAVELENGTH - 5000.0) / 5000.0
    np.testing.assert_allclose(got[0], 0.36)
    np.testing.assert_allclose(got[1], 0.27 * factor)
    np.testing.assert_allclose(got[2], (0.36 + 0.27 * factor) / 2)
    steep = throughputs(sensor_terms={"r": (5000.0, {2: 30.0})})[0]
    assert steep[1].max() == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sensors": {1: constant(0.5)}}, "Detector 2 has no sensor curve"),
        (
            {"filter_curve": lambda *_: TransmissionCurve.top_hat(400.0 * 10, 450.0 * 10)},
            "lets no light pass",
        ),
        ({"sensor_terms": {"g": (5000.0, {})}}, "names filter 'g'"),
        ({"sensor_terms": {"r": (5000.0, {3: 0.1})}}, r"terms of detectors \[3\]"),
        ({"sensor_terms": {"r": (0.0, {})}}, "refLambda is 0"),
        (
            {
                "optics": TransmissionCurve(
                    np.array([4000.0, 7000]), np.array([[0.9, 0.9], [0.5, 0.5]]), radii=np.array([0.0, 100])
                )
            },
            "depends on the place",
        ),
    ],
)
def test_what_cannot_be_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        throughputs(**changes)


#: Fields and defaults of FgcmMakeLutTask, typed from its description; None: no default.
PARAMETERS = {
    "elevation": None, "pmbRange": None, "pmbSteps": 5, "pwvRange": None, "pwvSteps": 15, "o3Range": [220, 310], "o3Steps": 3,
    "tauRange": [0.002, 0.35], "tauSteps": 11, "alphaRange": [0, 2], "alphaSteps": 9, "zenithRange": [0, 70],
    "zenithSteps": 21, "pmbStd": None, "pwvStd": None, "o3Std": 263, "tauStd": 0.03, "alphaStd": 1.0, "airmassStd": None,
    "lambdaNorm": 7750, "lambdaStep": 0.5, "lambdaRange": [3000, 11000],
}  # fmt: skip
FIELDS = {
    "physicalFilters": [], "stdPhysicalFilterOverrideMap": {}, "atmosphereTableName": None, "useScienceDetectors": True,
    "doOpticsTransmission": True, "doSensorTransmission": True, "doFilterDetectorTransmission": False,
    "sensorCorrectionTermDict": {},
}  # fmt: skip


def test_fields_and_defaults_are_the_published_ones() -> None:
    assert FgcmMakeLutParametersConfig().toDict() == PARAMETERS
    assert FgcmMakeLutConfigBase().toDict() == FIELDS | {"parameters": PARAMETERS}


def test_parameters_are_required_only_without_a_table() -> None:
    config = FgcmMakeLutConfigBase()
    config.physicalFilters = ["r"]
    with pytest.raises(pexConfig.FieldValidationError, match=r"parameters\.elevation"):
        config.validate()
    config.atmosphereTableName = "fgcm_atm_lsst2"
    config.validate()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("physicalFilters", [], "name the filters"),
        ("physicalFilters", ["R", "R2", "R"], "listed twice"),
        ("stdPhysicalFilterOverrideMap", {"R": "R3"}, "R3: not among physicalFilters"),
        ("parameters.pwvRange", [8.0, 1.0], "two ascending numbers"),
        ("parameters.tauRange", [0.0, 0.1], "begin above 0"),
        ("parameters.zenithRange", [0.0, 90.0], "below 90 degrees"),
        ("parameters.zenithRange", [0.0, 75.0], "secant of 5.30, above 5"),
        ("parameters.airmassStd", 0.5, "not be below 1"),
        ("parameters.lambdaNorm", -1.0, "above 0"),
        ("parameters.lambdaStep", 500.0, "nanometre"),
        ("parameters.pwvSteps", 1, "pwvSteps"),
    ],
)
def test_impossible_values_are_refused(name: str, value: Any, message: str) -> None:
    config = small_config()
    target, _, field = name.rpartition(".")

    def apply() -> None:
        setattr(config.parameters if target else config, field, value)
        config.validate()

    with pytest.raises(pexConfig.FieldValidationError, match=message):
        apply()


def test_corrections_are_read_from_the_configuration() -> None:
    config = small_config()
    terms = SensorCorrectionTerms()
    terms.refLambda, terms.correctionTermDict = 6000.0, {4: 0.1}
    config.sensorCorrectionTermDict["R"] = terms
    config.validate()
    assert config.sensor_terms == {"R": (6000.0, {4: 0.1})}

"""What a small look-up table is of: two filters, three detectors, three nodes on each axis."""

from __future__ import annotations

import numpy as np

from zeropoint.datamodel.transmission_curve import TransmissionCurve
from zeropoint.fgcm.make_lut_config import FgcmMakeLutConfigBase

CURVES = {
    "R": TransmissionCurve(np.array([5450.0, 5550, 6900, 7000]), np.array([0, 0.6, 0.5, 0])),
    "R2": TransmissionCurve(np.array([5500.0, 5600, 6900, 7000]), np.array([0, 0.6, 0.5, 0])),
}
SENSORS = {
    number: TransmissionCurve(np.array([3000.0, 11000]), np.array([0.9 - 0.05 * k, 0.8]))
    for k, number in enumerate((4, 7, 9))
}


def small_config() -> FgcmMakeLutConfigBase:
    config = FgcmMakeLutConfigBase()
    config.physicalFilters = ["R", "R2"]
    config.stdPhysicalFilterOverrideMap = {"R": "R2"}
    config.doOpticsTransmission = False
    config.parameters.update(
        elevation=2663.0,
        pmbStd=732.0,
        pmbRange=[720.0, 745.0],
        pwvStd=3.0,
        pwvRange=[1.0, 8.0],
        airmassStd=1.2,
        pwvSteps=3,
        tauRange=[0.01, 0.2],
        tauSteps=3,
        alphaSteps=3,
        zenithRange=[0.0, 55.0],
        zenithSteps=3,
    )
    config.validate()
    return config

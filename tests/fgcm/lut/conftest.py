"""A small look-up table."""

from __future__ import annotations

import pytest

from fgcm.lut.parts import CURVES, SENSORS, small_config
from zeropoint.fgcm.make_lut import MadeLookUpTable, MakeLookUpTable


@pytest.fixture(scope="session")
def made() -> MadeLookUpTable:
    """Not to be changed."""
    return MakeLookUpTable(small_config()).run(
        list(SENSORS), filter_curve=lambda name, _: CURVES[name], sensors=SENSORS
    )

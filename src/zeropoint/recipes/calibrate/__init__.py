"""Calibrate one characterized image: WCS, zeropoint and all sources; second of the two older recipes."""

from zeropoint.recipes.calibrate.config import CalibrateConfig
from zeropoint.recipes.calibrate.recipe import Calibrate
from zeropoint.recipes.calibrate.record import CalibratedExposure

__all__ = ["Calibrate", "CalibrateConfig", "CalibratedExposure"]

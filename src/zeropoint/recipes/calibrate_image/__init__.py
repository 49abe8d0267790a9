"""Calibrate one image: the whole of Rubin's CalibrateImage as a plain-Python recipe."""

from zeropoint.recipes.calibrate_image.config import CalibrateImageConfig
from zeropoint.recipes.calibrate_image.recipe import CalibrateImage
from zeropoint.recipes.calibrate_image.record import CalibratedImage

__all__ = ["CalibrateImage", "CalibrateImageConfig", "CalibratedImage"]

"""The SDSS-style deblender of one band: which peak of a blend owns how much of each pixel."""

from __future__ import annotations

from zeropoint.detection.deblend.columns import COLUMNS
from zeropoint.detection.deblend.config import SourceDeblendConfig
from zeropoint.detection.deblend.step import DeblendResult, SourceDeblend

__all__ = ["COLUMNS", "DeblendResult", "SourceDeblend", "SourceDeblendConfig"]

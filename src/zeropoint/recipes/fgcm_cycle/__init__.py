"""The global calibration cycle by cycle: from a star list to zeropoints, atmospheres and standard stars."""

from zeropoint.recipes.fgcm_cycle.recipe import CycleInputs, FgcmCycle

__all__ = ["CycleInputs", "FgcmCycle"]

"""The solver of the global calibration: steps, bounds, priors, robust weights, and what is known in the end how well."""

from zeropoint.fgcm.fit.posterior import Posterior, ZeropointErrors
from zeropoint.fgcm.fit.result import FitResult
from zeropoint.fgcm.fit.settings import FitSettings
from zeropoint.fgcm.fit.solve import fit

__all__ = ["FitResult", "FitSettings", "Posterior", "ZeropointErrors", "fit"]

"""The atmosphere: transmission from six parameters, for any site, with exact derivatives.

Light to import: coefficients are read when a site is first asked for.
"""

from zeropoint.fgcm.atmosphere.model import Atmosphere
from zeropoint.fgcm.atmosphere.parameters import DERIVATIVES, MAX_AIRMASS, AtmosphereParameters
from zeropoint.fgcm.atmosphere.scattering import pressure_at, rayleigh_depth
from zeropoint.fgcm.atmosphere.table_axes import TableAxes

__all__ = [
    "DERIVATIVES",
    "MAX_AIRMASS",
    "Atmosphere",
    "AtmosphereParameters",
    "TableAxes",
    "pressure_at",
    "rayleigh_depth",
]

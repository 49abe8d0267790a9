"""What the atmosphere of an exposure depends on."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.limits import LIMITS

__all__ = ["DERIVATIVES", "MAX_AIRMASS", "AtmosphereParameters"]

FloatArray = npt.NDArray[np.float64]

#: Parameters in which the logarithm of the transmission is differentiated.
DERIVATIVES = ("ln_pwv", "o3", "ln_tau", "alpha", "airmass", "pmb")
#: Largest secant at which the airmass formulas hold.
MAX_AIRMASS = 5.0
#: How far below 1 a secant may lie by rounding.
_ROUNDING = 1e-3


@dataclass(frozen=True, init=False)
class AtmosphereParameters:
    """Parameters of n exposures; given as scalars or arrays, kept as arrays of one shape (n,).

    Raises
    ------
    InvalidInputError
        If a value is not finite or cannot be: a pressure that is not one of the air, water that is not positive, negative
        ozone or aerosols, a secant below 1 or above 5.
    """

    pmb: FloatArray
    """Pressure at the site, mb."""
    pwv: FloatArray
    """Precipitable water vapor towards the zenith, mm."""
    o3: FloatArray
    """Ozone, Dobson units."""
    tau: FloatArray
    """Depth of aerosols at the normalization wavelength towards the zenith."""
    alpha: FloatArray
    """Slope of the aerosols: the depth falls as wavelength**-alpha."""
    airmass: FloatArray
    """Secant of the zenith distance."""

    def __init__(
        self,
        pmb: npt.ArrayLike,
        pwv: npt.ArrayLike,
        o3: npt.ArrayLike,
        tau: npt.ArrayLike,
        alpha: npt.ArrayLike,
        airmass: npt.ArrayLike,
    ) -> None:
        given = {"pmb": pmb, "pwv": pwv, "o3": o3, "tau": tau, "alpha": alpha, "airmass": airmass}
        values = [np.atleast_1d(np.asarray(value, dtype=np.float64)) for value in given.values()]
        lengths = {name: value.size for name, value in zip(given, values, strict=True) if value.size != 1}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} {n}" for name, n in lengths.items())
            raise ValueError(f"atmosphere parameters are scalars or of one length, not of several: {told}")
        for name, array in zip(given, np.broadcast_arrays(*values), strict=True):
            if array.ndim != 1:
                raise ValueError(f"atmosphere parameters are one-dimensional; {name} has shape {array.shape}")
            object.__setattr__(self, name, np.ascontiguousarray(array))
            self._check(name)

    def __len__(self) -> int:
        return int(self.pmb.size)

    def rows(self, index: slice | npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> AtmosphereParameters:
        """Choose exposures.

        Parameters
        ----------
        index
            Slice, indices or mask of the exposures.

        Returns
        -------
        parameters
            Those of the chosen exposures.
        """
        # they were checked when these were made
        chosen = object.__new__(AtmosphereParameters)
        for field in fields(self):
            object.__setattr__(chosen, field.name, np.ascontiguousarray(getattr(self, field.name)[index]))
        return chosen

    def _check(self, name: str) -> None:
        values = getattr(self, name)
        bad = ~np.isfinite(values)
        if name == "pmb":
            bad |= LIMITS["pmb"].wrong(values)
            rule = f"between {LIMITS['pmb'].told(float(values[bad][0]) if bad.any() else np.nan)}"
        elif name == "pwv":
            rule, bad = "greater than 0", bad | (values <= 0)
        elif name in ("o3", "tau"):
            rule, bad = "0 or more", bad | (values < 0)
        elif name == "airmass":
            rule, bad = (
                f"between 1 and {MAX_AIRMASS:g}",
                bad | (values < 1 - _ROUNDING) | (values > MAX_AIRMASS),
            )
        else:
            rule = "finite"
        if bad.any():
            row = int(np.argmax(bad))
            raise InvalidInputError(
                f"atmosphere parameter {name} must be {rule}; it is {values[row]:g} in row {row} "
                f"({int(bad.sum())} of {values.size} rows are wrong)"
            )

"""The derived coefficients of the absorbers, read when first asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["PATH", "REFERENCE_PMB", "WAVELENGTH", "AbsorberCoefficients", "absorber_coefficients"]

FloatArray = npt.NDArray[np.float64]

PATH = Path(__file__).with_name("coefficients.npz")
#: Wavelengths of the coefficients, Angstrom.
WAVELENGTH = np.arange(3000.0, 11000.1, 5.0)
WAVELENGTH.flags.writeable = False
#: Pressure to which the coefficients refer, mb: that of 2663 m.
REFERENCE_PMB = 731.656


@dataclass(frozen=True)
class AbsorberCoefficients:
    """Laws of the molecular absorbers on the wavelengths `WAVELENGTH`; the arrays are read-only."""

    water_curve: FloatArray
    """ln(depth) of water at the reference pressure: spline coefficients in ln(w X), (n_coefficient, n_lambda)."""
    water_exponent: FloatArray
    """d ln(depth) / d ln(P) of water, in the same basis, (n_coefficient, n_lambda)."""
    gas_curve: FloatArray
    """ln(depth) of mixed gases at the reference pressure: a parabola in ln(airmass), (3, n_lambda)."""
    gas_exponent: FloatArray
    """d ln(depth) / d ln(P) of mixed gases, (n_lambda,)."""
    ozone_depth: FloatArray
    """Depth of ozone per DU, (n_lambda,)."""


@cache
def absorber_coefficients() -> AbsorberCoefficients:
    """Read the coefficients that ``tools/derive_atmosphere.py`` wrote.

    Returns
    -------
    coefficients
        The same object at every call.
    """
    with np.load(PATH) as archive:
        arrays = {name: archive[name].astype(np.float64) for name in archive.files}
    for array in arrays.values():
        array.flags.writeable = False
    return AbsorberCoefficients(**arrays)

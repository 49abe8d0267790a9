"""Integrals interpolated in a look-up table, where nothing better is known of the passbands."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.atmosphere import AtmosphereParameters
from zeropoint.fgcm.lut import LookUpTable
from zeropoint.fgcm.lut_grid import AXES, StandardAtmosphere
from zeropoint.fgcm.model.passband_source import FITTED, ranges_of_grid
from zeropoint.fgcm.quadrature import PassbandIntegrals

__all__ = ["LutPassbands"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Kind of table that holds the derivative along each of `AXES`.
_SLOPE_OF = dict(zip(AXES, ("D_LNPWV", "D_O3", "D_LNTAU", "D_ALPHA", "D_SECZENITH"), strict=True))
#: Axes whose slope changes with the secant.
_CROSS = ("ln_tau", "ln_pwv")


class LutPassbands:
    """Integrals by the reference's interpolation, with the factor that its second-order term lacks.

    The derivatives are those of the interpolation itself, so objective and gradient agree to rounding within a cell. Pressure
    is that of the table: the integrals do not depend on it.

    Parameters
    ----------
    lut
        With its integrals.

    Raises
    ------
    InvalidInputError
        If the header alone was read, or the table has a value that is not positive where I0 should be.
    """

    def __init__(self, lut: LookUpTable) -> None:
        if lut.lut is None:
            raise InvalidInputError("The look-up table was read without its column 'lut', which a fit needs.")
        if not float(lut.kind("I0").min()) > 0:
            raise InvalidInputError("The look-up table has integrals I0 that are not positive.")
        self.lut = lut

    @property
    def physical_filters(self) -> tuple[str, ...]:
        """Names of the filters."""
        return self.lut.physical_filters

    @property
    def std_physical_filters(self) -> tuple[str, ...]:
        """For each filter, the one that defines its standard passband."""
        return self.lut.std_physical_filters

    @property
    def detectors(self) -> tuple[int, ...]:
        """Ids, in the order of the integrals."""
        return self.lut.detectors

    @property
    def standard(self) -> StandardAtmosphere:
        """The standard atmosphere."""
        return self.lut.standard

    @cached_property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """What the nodes span."""
        return ranges_of_grid(self.lut.grid)

    @property
    def fitted(self) -> tuple[str, ...]:
        """All of `FITTED`."""
        return FITTED

    @property
    def lambda_std(self) -> FloatArray:
        """Standard wavelength of each filter, Angstrom."""
        return self.lut.lambda_std

    @property
    def i0_std(self) -> FloatArray:
        """I0 of each filter with the standard atmosphere."""
        return np.asarray(self.lut.header["i0Std"], float)

    @property
    def i1_std(self) -> FloatArray:
        """I1 of each filter with the standard atmosphere, Angstrom."""
        return np.asarray(self.lut.header["i1Std"], float)

    @property
    def i2_std(self) -> FloatArray:
        """I2 of each filter with the standard atmosphere, Angstrom^2."""
        return np.asarray(self.lut.header["i2Std"], float)

    @property
    def i10_std(self) -> FloatArray:
        """I1 / I0 of each filter with the standard atmosphere, Angstrom."""
        return self.lut.i10_std

    def evaluate(
        self, filter: int, parameters: AtmosphereParameters, *, derivatives: bool
    ) -> PassbandIntegrals:
        """Return the integrals of a filter's detectors; see `PassbandSource.evaluate`."""
        node, beyond = self._cells(parameters)
        i0, d_i0 = self._interpolate(filter, "", node, beyond, derivatives)
        i1, d_i1 = self._interpolate(filter, "_I1", node, beyond, derivatives)
        return PassbandIntegrals(i0, i1, None, d_i0, d_i1, {})

    def _cells(self, parameters: AtmosphereParameters) -> tuple[dict[str, IntArray], dict[str, FloatArray]]:
        """Return along each axis the node below each place, and how far beyond it the place is."""
        grid = self.lut.grid
        places = {
            "ln_pwv": np.log(parameters.pwv), "o3": parameters.o3, "ln_tau": np.log(parameters.tau),
            "alpha": parameters.alpha, "secant": parameters.airmass,
        }  # fmt: skip
        node, beyond = {}, {}
        for name, axis in zip(AXES, grid.axes, strict=True):
            index = np.floor((places[name] - axis[0]) / grid.steps[name]).astype(np.int64)
            node[name] = np.clip(index, 0, len(axis) - 1)
            beyond[name] = places[name] - axis[node[name]]
        return node, beyond

    def _interpolate(
        self,
        filter: int,
        suffix: str,
        node: Mapping[str, IntArray],
        beyond: Mapping[str, FloatArray],
        derivatives: bool,
    ) -> tuple[FloatArray, dict[str, FloatArray]]:
        """Return an integral (suffix: "" for I0, "_I1" for I1) of all detectors and its derivatives, (n, n_det) each."""
        grid, lut = self.lut.grid, self.lut

        def gather(kind: str, further: str = "") -> FloatArray:
            """Return a table at the nodes, or at the next ones along an axis."""
            place = [
                np.minimum(node[a] + (a == further), n - 1) for a, n in zip(AXES, grid.shape, strict=True)
            ]
            return lut.kind(kind)[filter][tuple(place)][:, :-1].astype(np.float64)

        delta = {name: values[:, None] for name, values in beyond.items()}
        slopes = {name: gather(_SLOPE_OF[name] + suffix) for name in AXES}
        value = gather("I1" if suffix else "I0")
        for name in AXES:
            value += delta[name] * slopes[name]
        for name in _CROSS:
            change = (gather(_SLOPE_OF[name] + suffix, "secant") - slopes[name]) / grid.steps["secant"]
            value += delta[name] * delta["secant"] * change
            slopes[name] = slopes[name] + delta["secant"] * change
        step = grid.steps["ln_pwv"]
        pwv_slope = gather(_SLOPE_OF["ln_pwv"] + suffix)
        curvature = (gather(_SLOPE_OF["ln_pwv"] + suffix, "ln_pwv") - pwv_slope) / (2.0 * step)
        value += delta["ln_pwv"] * (delta["ln_pwv"] - step) * curvature
        slopes["ln_pwv"] = slopes["ln_pwv"] + (2.0 * delta["ln_pwv"] - step) * curvature
        return value, {name: slopes[name] for name in FITTED} if derivatives else {}

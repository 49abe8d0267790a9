"""Where the integrals of the passbands come from: direct quadrature, a look-up table, or nowhere (no atmosphere)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.atmosphere import Atmosphere, AtmosphereParameters
from zeropoint.fgcm.lut_grid import LutGrid, StandardAtmosphere
from zeropoint.fgcm.model.nodes import ReducedPassband, reduce_passband
from zeropoint.fgcm.passbands import StandardPassbands
from zeropoint.fgcm.quadrature import PassbandIntegrals, passband_integrals

__all__ = [
    "DEFAULT_RANGES",
    "FITTED",
    "GrayPassbands",
    "PassbandSource",
    "QuadraturePassbands",
    "ranges_of_grid",
]

FloatArray = npt.NDArray[np.float64]

#: Parameters of the atmosphere that a fit has; the names are those of the derivatives.
FITTED = ("ln_pwv", "o3", "ln_tau", "alpha")
#: Between which values the atmosphere may be, where no grid says it: mm, Dobson units, depth, slope, secant.
DEFAULT_RANGES: Mapping[str, tuple[float, float]] = {
    "pwv": (0.1, 20.0),
    "o3": (220.0, 310.0),
    "tau": (0.002, 0.35),
    "alpha": (0.0, 2.0),
    "airmass": (1.0, 3.0),
}


class PassbandSource(Protocol):
    """Integrals of each filter's detectors through the atmosphere, and the standard passbands.

    Arrays by filter have the order of ``physical_filters``.
    """

    @property
    def physical_filters(self) -> tuple[str, ...]:
        """Names of the filters."""
        ...

    @property
    def std_physical_filters(self) -> tuple[str, ...]:
        """For each filter, the one that defines its standard passband."""
        ...

    @property
    def detectors(self) -> tuple[int, ...]:
        """Ids, in the order of the integrals."""
        ...

    @property
    def standard(self) -> StandardAtmosphere:
        """The standard atmosphere."""
        ...

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """Keys of `DEFAULT_RANGES` -> least and greatest value."""
        ...

    @property
    def fitted(self) -> tuple[str, ...]:
        """Which of `FITTED` the integrals depend on: all or none."""
        ...

    @property
    def lambda_std(self) -> FloatArray:
        """Standard wavelength of each filter, Angstrom, shape (n_filter,)."""
        ...

    @property
    def i0_std(self) -> FloatArray:
        """I0 of each filter with the standard atmosphere."""
        ...

    @property
    def i1_std(self) -> FloatArray:
        """I1 of each filter with the standard atmosphere, Angstrom."""
        ...

    @property
    def i2_std(self) -> FloatArray:
        """I2 of each filter with the standard atmosphere, Angstrom^2."""
        ...

    @property
    def i10_std(self) -> FloatArray:
        """I1 / I0 of each filter with the standard atmosphere, Angstrom."""
        ...

    def evaluate(
        self, filter: int, parameters: AtmosphereParameters, *, derivatives: bool
    ) -> PassbandIntegrals:
        """Return the integrals of a filter's detectors.

        Parameters
        ----------
        filter
            Index of ``physical_filters``.
        parameters
            Of n exposures, within the ranges.
        derivatives
            Whether to return those by `FITTED`: of exactly the integrals returned.

        Returns
        -------
        integrals : PassbandIntegrals
            Arrays of shape (n, n_det).
        """
        ...


def ranges_of_grid(grid: LutGrid) -> dict[str, tuple[float, float]]:
    """Return the ranges that a look-up table's nodes span.

    Parameters
    ----------
    grid
        Nodes.
    """
    return {
        "pwv": (float(np.exp(grid.ln_pwv[0])), float(np.exp(grid.ln_pwv[-1]))),
        "o3": (float(grid.o3[0]), float(grid.o3[-1])),
        "tau": (float(np.exp(grid.ln_tau[0])), float(np.exp(grid.ln_tau[-1]))),
        "alpha": (float(grid.alpha[0]), float(grid.alpha[-1])),
        "airmass": (float(max(grid.secant[0], 1.0)), float(grid.secant[-1])),
    }


@dataclass(frozen=True)
class QuadraturePassbands:
    """Integrals by quadrature of the transmission of each exposure: no table, no interpolation.

    Parameters
    ----------
    atmosphere
        At the wavelengths of the passbands.
    passbands
        Throughputs and standard passbands.
    standard
        The standard atmosphere, of the passbands too.
    ranges
        As `PassbandSource.ranges`.
    max_error
        With a number, a filter is integrated at the few wavelengths that give its magnitudes anywhere within the ranges to
        this, magnitudes; with None at all wavelengths.
    """

    atmosphere: Atmosphere
    passbands: StandardPassbands
    standard: StandardAtmosphere
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=lambda: dict(DEFAULT_RANGES))
    max_error: float | None = 2e-5
    _reduced: dict[int, ReducedPassband] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def physical_filters(self) -> tuple[str, ...]:
        """Names of the filters."""
        return self.passbands.physical_filters

    @property
    def std_physical_filters(self) -> tuple[str, ...]:
        """For each filter, the one that defines its standard passband."""
        return tuple(each.std_physical_filter for each in self.passbands.passbands)

    @property
    def detectors(self) -> tuple[int, ...]:
        """Ids, in the order of the integrals."""
        return self.passbands.detectors

    @property
    def fitted(self) -> tuple[str, ...]:
        """All of `FITTED`."""
        return FITTED

    @property
    def lambda_std(self) -> FloatArray:
        """Standard wavelength of each filter, Angstrom."""
        return self.passbands.column("lambda_std")

    @property
    def i0_std(self) -> FloatArray:
        """I0 of each filter with the standard atmosphere."""
        return self.passbands.column("i0_std")

    @property
    def i1_std(self) -> FloatArray:
        """I1 of each filter with the standard atmosphere, Angstrom."""
        return self.passbands.column("i1_std")

    @property
    def i2_std(self) -> FloatArray:
        """I2 of each filter with the standard atmosphere, Angstrom^2."""
        return self.passbands.column("i2_std")

    @property
    def i10_std(self) -> FloatArray:
        """I1 / I0 of each filter with the standard atmosphere, Angstrom."""
        return self.passbands.column("i10_std")

    def evaluate(
        self, filter: int, parameters: AtmosphereParameters, *, derivatives: bool
    ) -> PassbandIntegrals:
        """Return the integrals of a filter's detectors; see `PassbandSource.evaluate`."""
        passband = self.passbands.passbands[filter]
        throughput = passband.detector_throughput[:-1]
        if self.max_error is None:
            return passband_integrals(
                self.atmosphere, parameters, throughput, passband.lambda_std, derivatives=derivatives
            )
        if filter not in self._reduced:
            self._reduced[filter] = reduce_passband(
                self.atmosphere,
                throughput,
                passband.lambda_std,
                self.ranges,
                self.standard.pmb,
                self.max_error,
            )
        return self._reduced[filter].integrate(parameters, FITTED if derivatives else ())


@dataclass(frozen=True)
class GrayPassbands:
    """No atmosphere and no colour: every integral is that of the standard passband.

    Parameters
    ----------
    physical_filters, detectors
        Names and ids, in order.
    std_physical_filters
        For each filter, the one that defines its standard passband.
    lambda_std
        Standard wavelength of each filter, Angstrom, shape (n_filter,).
    standard
        Values that stand where tables want an atmosphere's.
    ranges
        As `PassbandSource.ranges`.
    """

    physical_filters: tuple[str, ...]
    detectors: tuple[int, ...]
    std_physical_filters: tuple[str, ...]
    lambda_std: FloatArray
    standard: StandardAtmosphere
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=lambda: dict(DEFAULT_RANGES))

    @property
    def fitted(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    @property
    def i0_std(self) -> FloatArray:
        """One."""
        return np.ones(len(self.physical_filters))

    @property
    def i1_std(self) -> FloatArray:
        """Zero."""
        return np.zeros(len(self.physical_filters))

    @property
    def i2_std(self) -> FloatArray:
        """Zero."""
        return np.zeros(len(self.physical_filters))

    @property
    def i10_std(self) -> FloatArray:
        """Zero."""
        return np.zeros(len(self.physical_filters))

    def evaluate(
        self, filter: int, parameters: AtmosphereParameters, *, derivatives: bool
    ) -> PassbandIntegrals:
        """Return I0 = 1 and I1 = 0; see `PassbandSource.evaluate`."""
        shape = (len(parameters), len(self.detectors))
        return PassbandIntegrals(np.ones(shape), np.zeros(shape), None, {}, {}, {})

"""Passband integrals through an atmosphere: the one function that the look-up table and the fit share.

The transmission of many exposures is a matrix (exposures x wavelengths); the throughputs of a filter's detectors,
multiplied by quadrature weights and by powers of the distance from the standard wavelength, are another. Their product is
all integrals at once, and the same product with the transmission's derivatives is theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.atmosphere import DERIVATIVES, Atmosphere, AtmosphereParameters
from zeropoint.fgcm.magnitudes import MAG_PER_LN

__all__ = [
    "PassbandIntegrals",
    "PassbandMoments",
    "integrate_moments",
    "parameter_blocks",
    "passband_integrals",
    "simpson_weights",
]

FloatArray = npt.NDArray[np.float64]

#: Rows of a block: what fits a processor's cache, and a multiple of every register tile of the matrix product, so that
#: the sums of an exposure do not depend on its place among others.
_BLOCK = 192


@dataclass(frozen=True)
class PassbandIntegrals:
    """Integrals of a filter's detectors in many exposures; every array has the shape (exposures, detectors).

    Parameters
    ----------
    i0
        INT S(lam)/lam dlam.
    i1
        INT S(lam) (lam - lam_std)/lam dlam, Angstrom.
    i2
        INT S(lam) (lam - lam_std)^2/lam dlam, Angstrom^2; None where it was not asked for.
    d_i0, d_i1, d_i2
        Name of a parameter -> derivative; empty where derivatives were not asked for.
    """

    i0: FloatArray
    i1: FloatArray
    i2: FloatArray | None
    d_i0: Mapping[str, FloatArray]
    d_i1: Mapping[str, FloatArray]
    d_i2: Mapping[str, FloatArray]

    @property
    def i10(self) -> FloatArray:
        """I1 / I0, Angstrom: the center of the passband as seen, relative to the standard wavelength."""
        return self.i1 / self.i0

    def magnitude(self) -> FloatArray:
        """Return 2.5 log10 I0."""
        return 2.5 * np.log10(self.i0)

    def d_magnitude(self, name: str) -> FloatArray:
        """Return the derivative of `magnitude` by a parameter.

        Parameters
        ----------
        name
            Key of ``d_i0``.

        Returns
        -------
        derivative : float64, shape (n, n_detectors)
            Magnitudes per unit of the parameter.
        """
        return MAG_PER_LN * self.d_i0[name] / self.i0

    def d_i10(self, name: str) -> FloatArray:
        """Return the derivative of `i10` by a parameter, Angstrom per unit of it.

        Parameters
        ----------
        name
            Key of ``d_i0``.

        Returns
        -------
        derivative : float64, shape (n, n_detectors)
        """
        return (self.d_i1[name] - self.i10 * self.d_i0[name]) / self.i0


def simpson_weights(wavelength: FloatArray) -> FloatArray:
    """Return the weights of Simpson's rule on a uniform grid.

    Parameters
    ----------
    wavelength
        Uniform, ascending; shape (n,), n >= 3.

    Returns
    -------
    weights : ndarray
        Shape (n,), in the unit of the wavelengths. With an even number of nodes the last interval is integrated by the
        parabola through the last three, which keeps the rule exact for quadratics.

    Raises
    ------
    ValueError
        If there are fewer than three wavelengths or they are not uniform.
    """
    n = len(wavelength)
    if n < 3:
        raise ValueError(f"Simpson's rule needs three wavelengths or more, not {n}.")
    step = (wavelength[-1] - wavelength[0]) / (n - 1)
    # published grids are written in single precision
    if not step > 0 or np.abs(np.diff(wavelength) - step).max() > 1e-3 * step:
        raise ValueError("Simpson's rule needs wavelengths in equal steps; give weights of another rule.")
    weights = np.zeros(n)
    n_odd = n if n % 2 else n - 1
    weights[0:n_odd:2] += 2.0 / 3.0
    weights[1:n_odd:2] += 4.0 / 3.0
    weights[[0, n_odd - 1]] -= 1.0 / 3.0
    if n_odd < n:
        weights[-3:] += np.array([-1.0, 8.0, 5.0]) / 12.0
    return weights * step


def passband_integrals(
    atmosphere: Atmosphere,
    parameters: AtmosphereParameters,
    throughput: FloatArray,
    lambda_std: float,
    *,
    derivatives: bool = True,
    second_order: bool = False,
    weights: FloatArray | None = None,
) -> PassbandIntegrals:
    """Integrate the passbands of a filter's detectors through the atmosphere of each exposure.

    Parameters
    ----------
    atmosphere
        Transmission and its derivatives; its wavelengths are the quadrature's nodes.
    parameters
        Of n exposures.
    throughput
        Of the detectors at these wavelengths, shape (detectors, wavelengths) or (wavelengths,).
    lambda_std
        Wavelength about which the moments are, Angstrom.
    derivatives
        Whether to return derivatives: those of exactly the integrals returned.
    second_order
        Whether to return I2.
    weights
        Quadrature weights of the nodes, Angstrom, shape (wavelengths,); None: Simpson's rule.

    Returns
    -------
    integrals : PassbandIntegrals
        Each of shape (n, detectors), the same bytes whatever other exposures are with them.

    Raises
    ------
    ValueError
        If the shapes do not agree, a throughput is no number, or one is zero at every wavelength.
    """
    wavelength = atmosphere.wavelength
    moments = PassbandMoments.of(wavelength, throughput, lambda_std, 3 if second_order else 2, weights)
    return integrate_moments(
        atmosphere.at(wavelength[moments.support]), parameters, moments, DERIVATIVES if derivatives else ()
    )


def integrate_moments(
    in_band: Atmosphere,
    parameters: AtmosphereParameters,
    moments: PassbandMoments,
    names: Sequence[str] = DERIVATIVES,
) -> PassbandIntegrals:
    """Integrate passbands of which the moments are known.

    Parameters
    ----------
    in_band
        The atmosphere at the wavelengths of the moments' support.
    parameters
        Of n exposures.
    moments
        Two or three.
    names
        Parameters by which derivatives are wanted: some of `DERIVATIVES`.

    Returns
    -------
    integrals : PassbandIntegrals
        Each of shape (n, n_detectors), the same bytes whatever other exposures are with them.
    """
    n = len(parameters)
    out = np.empty((1 + len(names), moments.n_moments, n, moments.n_detectors))
    for rows, block in parameter_blocks(parameters):
        n_valid = rows.stop - rows.start
        transmission, slopes = in_band.evaluate(block, names)
        out[0, :, rows] = moments.integrate(transmission)[:, :n_valid]
        for k, name in enumerate(names, 1):
            out[k, :, rows] = moments.integrate(transmission * slopes[name])[:, :n_valid]
    derived = [{name: out[k, order] for k, name in enumerate(names, 1)} for order in range(moments.n_moments)]
    if moments.n_moments == 3:
        return PassbandIntegrals(*out[0], *derived)
    return PassbandIntegrals(out[0, 0], out[0, 1], None, derived[0], derived[1], {})


@dataclass(frozen=True)
class PassbandMoments:
    """Quadrature weights times throughput times (lam - lam_std)^k / lam: a matrix that turns transmission into integrals.

    Parameters
    ----------
    support
        The nodes where any detector has light.
    matrix
        Shape (nodes of the support, moments x detectors), contiguous.
    n_moments, n_detectors
        How many.
    """

    support: slice
    matrix: FloatArray
    n_moments: int
    n_detectors: int

    @classmethod
    def of(
        cls,
        wavelength: FloatArray,
        throughput: FloatArray,
        lambda_std: float,
        n_moments: int = 2,
        weights: FloatArray | None = None,
    ) -> PassbandMoments:
        """Return the matrix of a filter; the parameters are those of `passband_integrals`.

        Raises
        ------
        ValueError
            If the shapes do not agree, a throughput is no number, or one is zero at every wavelength.
        """
        curves = np.atleast_2d(np.asarray(throughput, float))
        if curves.shape[1] != len(wavelength):
            raise ValueError(
                f"The throughput has {curves.shape[1]} wavelengths, the atmosphere {len(wavelength)}: sample one as the "
                "other."
            )
        wrong = ~np.isfinite(curves)
        if wrong.any():
            raise ValueError(f"{np.count_nonzero(wrong)} throughputs are no numbers.")
        dark = np.flatnonzero(~(curves > 0).any(axis=1))
        if len(dark):
            raise ValueError(f"The throughput of row {dark[0]} is zero at every wavelength.")
        lit = np.flatnonzero((curves > 0).any(axis=0))
        support = slice(int(lit[0]), int(lit[-1]) + 1)
        measure = (
            simpson_weights(wavelength) if weights is None else np.asarray(weights, float)
        ) / wavelength
        shift = wavelength - lambda_std
        rows = np.concatenate([curves * (measure * shift**k) for k in range(n_moments)])
        return cls(support, np.ascontiguousarray(rows[:, support].T), n_moments, len(curves))

    def integrate(self, transmission: FloatArray) -> FloatArray:
        """Return the moments through the rows of a transmission, shape (moments, rows, detectors).

        Parameters
        ----------
        transmission
            At the wavelengths of the support, shape (rows, wavelengths).
        """
        product = transmission @ self.matrix
        return product.reshape(len(transmission), self.n_moments, self.n_detectors).swapaxes(0, 1)


def parameter_blocks(parameters: AtmosphereParameters) -> Iterator[tuple[slice, AtmosphereParameters]]:
    """Yield parts of many exposures: their rows, and their parameters, filled up with the last to a whole block.

    Blocks are of one size, so that a matrix product gives an exposure the same sums whatever its place is.

    Parameters
    ----------
    parameters
        Of n exposures.
    """
    n = len(parameters)
    for start in range(0, n, _BLOCK):
        index = np.minimum(np.arange(start, start + _BLOCK), n - 1)
        yield slice(start, min(start + _BLOCK, n)), parameters.rows(index)

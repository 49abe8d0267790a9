"""The transmission of the atmosphere above one site, with its derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.atmosphere import _coefficients, table_files
from zeropoint.fgcm.atmosphere._growth import growth_coefficients
from zeropoint.fgcm.atmosphere._resampling import Resampling
from zeropoint.fgcm.atmosphere.absorbers import (
    Absorber,
    Aerosols,
    CollisionBands,
    Law,
    MixedGases,
    Ozone,
    Scattering,
    WaterVapor,
)
from zeropoint.fgcm.atmosphere.collision_bands import collision_band_depth
from zeropoint.fgcm.atmosphere.parameters import DERIVATIVES, AtmosphereParameters
from zeropoint.fgcm.atmosphere.scattering import pressure_at, rayleigh_depth
from zeropoint.fgcm.atmosphere.table_axes import TableAxes

__all__ = ["Atmosphere"]

FloatArray = npt.NDArray[np.float64]

#: Heights of sites for which the model is meant, m.
_ELEVATION_RANGE = (-500.0, 6000.0)
#: Numbers per block of an evaluation.
_BLOCK = 1 << 15


class Atmosphere:
    """The atmosphere above one site: scattering, ozone, oxygen, water vapor and aerosols.

    Made by `for_site` (the open model) or `from_table` (a table file); either gives the same methods.

    Parameters
    ----------
    elevation
        Height of the site in m.
    lambda_norm
        Wavelength in Angstrom to which the depth of aerosols refers.
    wavelength
        In Angstrom, shape (n_lambda,).
    absorbers
        On these wavelengths, by name: scattering, gases, pairs, ozone, water, aerosols.
    pmb_elevation
        Pressure that belongs to the elevation, mb; None for that of the standard atmosphere.
    name
        Where the atmosphere comes from.

    Notes
    -----
    The transmission is ``exp(-sum of depths)``.  Pressure acts on scattering and oxygen, whose depths it scales; it
    does not dim aerosols, ozone or water.  Wavelengths may be any, in any order: of a whole grid, of one band, or
    the nodes of a quadrature.
    """

    def __init__(
        self,
        *,
        elevation: float,
        lambda_norm: float,
        wavelength: npt.ArrayLike,
        absorbers: Mapping[str, Absorber],
        pmb_elevation: float | None = None,
        name: str = "",
    ) -> None:
        self.elevation = float(elevation)
        self.pmb_elevation = pressure_at(elevation) if pmb_elevation is None else float(pmb_elevation)
        self.lambda_norm = float(lambda_norm)
        self.wavelength: FloatArray = np.array(wavelength, dtype=np.float64)
        self.wavelength.flags.writeable = False
        self.absorbers = dict(absorbers)
        self.name = name

    @classmethod
    def for_site(
        cls,
        elevation: float,
        *,
        wavelength: npt.ArrayLike | None = None,
        lambda_norm: float = 7750.0,
        collision_bands: bool = True,
    ) -> Self:
        """Make the open model of a site.

        Parameters
        ----------
        elevation
            Height above the sea in m, -500 to 6000.
        wavelength
            In Angstrom, within 3000 to 11000; None for 3000, 3005, ... 11000.  Between multiples of 5 Angstrom the
            laws are interpolated.
        lambda_norm
            Wavelength in Angstrom to which the depth of aerosols refers.
        collision_bands
            Include the absorption by pairs of oxygen molecules; without it the model is that of the MODTRAN tables.

        Returns
        -------
        atmosphere
            Of the site.

        Raises
        ------
        InvalidInputError
            If the elevation or a wavelength is out of range.
        """
        if not _ELEVATION_RANGE[0] <= elevation <= _ELEVATION_RANGE[1]:
            raise InvalidInputError(
                f"the atmosphere is modelled for elevations from {_ELEVATION_RANGE[0]:g} to {_ELEVATION_RANGE[1]:g} m, "
                f"not for {elevation:g} m; give the elevation of the observatory in meters"
            )
        lambda_norm = _positive(lambda_norm)
        resampling = Resampling(
            _coefficients.WAVELENGTH, _coefficients.WAVELENGTH if wavelength is None else wavelength
        )
        grid = _coefficients.WAVELENGTH if wavelength is None else np.asarray(wavelength, dtype=np.float64)
        laws = _coefficients.absorber_coefficients()
        ln_pressure = np.log(pressure_at(elevation) / _coefficients.REFERENCE_PMB)
        water = growth_coefficients(laws.water_curve + ln_pressure * laws.water_exponent)
        absorbers: dict[str, Absorber] = {
            "scattering": Scattering(rayleigh_depth(grid, elevation=elevation)),
            "gases": MixedGases(
                resampling(laws.gas_curve), resampling(laws.gas_exponent), _coefficients.REFERENCE_PMB
            ),
            "ozone": Ozone(resampling(laws.ozone_depth), elevation),
            "water": WaterVapor(resampling(water)),
            "aerosols": Aerosols(np.log(grid / lambda_norm)),
        }
        if collision_bands:
            depth = collision_band_depth(grid, elevation=elevation)
            absorbers["pairs"] = CollisionBands(depth, pressure_at(elevation))
        return cls(
            elevation=elevation,
            lambda_norm=lambda_norm,
            wavelength=grid,
            absorbers=absorbers,
            name="zeropoint",
        )

    @classmethod
    def from_table(
        cls,
        path: str | Path,
        *,
        wavelength: npt.ArrayLike | None = None,
        lambda_norm: float | None = None,
        pwv: Sequence[float] | None = None,
    ) -> Self:
        """Read a table of transmissions in the layout of the reference implementation.

        Parameters
        ----------
        path
            FITS file.
        wavelength
            In Angstrom, within those of the table; None for the table's.
        lambda_norm
            Wavelength in Angstrom to which the depth of aerosols refers; None for the table's.
        pwv
            PWV of the table's nodes of water in mm, in place of their labels; None for the labels.

        Returns
        -------
        atmosphere
            That interpolates the table.

        Raises
        ------
        InvalidInputError
            If the file is not such a table.
        """
        table = table_files.read_table(Path(path), pwv=pwv)
        norm = table.lambda_norm if lambda_norm is None else _positive(lambda_norm)
        atmosphere = cls(
            elevation=table.elevation,
            lambda_norm=norm,
            wavelength=table.wavelength,
            absorbers={**table.absorbers, "aerosols": Aerosols(np.log(table.wavelength / norm))},
            pmb_elevation=table.pmb_elevation,
            name=Path(path).name,
        )
        return atmosphere if wavelength is None else atmosphere.at(wavelength)

    def at(self, wavelength: npt.ArrayLike) -> Self:
        """Give the same atmosphere on other wavelengths.

        Parameters
        ----------
        wavelength
            In Angstrom, within the present ones, in any order.

        Returns
        -------
        atmosphere
            With the laws interpolated linearly between the present wavelengths; exact where they coincide.
        """
        resampling = Resampling(self.wavelength, wavelength)
        return type(self)(
            elevation=self.elevation,
            lambda_norm=self.lambda_norm,
            wavelength=wavelength,
            absorbers={name: absorber.resampled(resampling) for name, absorber in self.absorbers.items()},
            pmb_elevation=self.pmb_elevation,
            name=self.name,
        )

    def transmission(self, parameters: AtmosphereParameters) -> FloatArray:
        """Compute the transmission.

        Parameters
        ----------
        parameters
            Of n exposures.

        Returns
        -------
        transmission
            Shape (n, n_lambda).
        """
        return self.evaluate(parameters, ())[0]

    def log_derivatives(self, parameters: AtmosphereParameters) -> Mapping[str, FloatArray]:
        """Compute the derivatives of the logarithm of the transmission.

        Parameters
        ----------
        parameters
            Of n exposures.

        Returns
        -------
        derivatives
            d ln(transmission) / d parameter by name (``ln_pwv``, ``o3``, ``ln_tau``, ``alpha``, ``airmass``, ``pmb``),
            each of shape (n, n_lambda).  Water and aerosols are differentiated in their logarithms.
        """
        return self.evaluate(parameters)[1]

    def evaluate(
        self, parameters: AtmosphereParameters, names: Sequence[str] = DERIVATIVES
    ) -> tuple[FloatArray, Mapping[str, FloatArray]]:
        """Compute the transmission and its derivatives in one pass.

        Parameters
        ----------
        parameters
            Of n exposures.
        names
            Parameters by which derivatives are wanted.

        Returns
        -------
        transmission, derivatives
            As `transmission` and `log_derivatives` give them.
        """
        shape = (len(parameters), self.wavelength.size)
        transmission, slopes = np.zeros(shape), np.zeros((len(names), *shape))
        # few rows at a time, so that what is in between stays in the processor's cache
        step = max(1, _BLOCK // shape[1])
        for start in range(0, shape[0], step):
            rows = slice(start, start + step)
            block = parameters.rows(rows)
            for absorber in self.absorbers.values():
                _take_away(absorber.law(block), names, transmission[rows], slopes[:, rows])
        np.exp(transmission, out=transmission)
        return transmission, dict(zip(names, slopes, strict=True))

    def write_table(self, path: str | Path, axes: TableAxes, *, overwrite: bool = False) -> None:
        """Write a table of transmissions in the layout of the reference implementation.

        Parameters
        ----------
        path
            FITS file to write.
        axes
            Nodes of the table, and the standard atmosphere.
        overwrite
            Replace a file that exists.

        Raises
        ------
        InvalidInputError
            If the file exists, or the wavelengths are not evenly spaced.
        """
        table_files.write_table(self, Path(path), axes, overwrite=overwrite)


def _take_away(law: Law, names: Sequence[str], log_transmission: FloatArray, slopes: FloatArray) -> None:
    """Subtract the depth of an absorber from the logarithm of the transmission, and its slopes from those asked for."""
    # who only reads or writes tables of the atmosphere does not wait for the compiler
    from zeropoint.fgcm.atmosphere._kernels import take_away

    chosen = [name for name in names if name in law.slopes]
    weights = np.zeros((len(chosen), *law.weights.shape))
    for out, name in zip(weights, chosen, strict=True):
        out[:] = law.slopes[name]()
    place = np.array([names.index(name) for name in chosen], np.int64)
    scale = np.zeros(0) if law.scale is None else law.scale
    take_away(scale, law.weights, law.rows, weights, place, log_transmission, slopes)


def _positive(lambda_norm: float) -> float:
    if not lambda_norm > 0:
        raise InvalidInputError(f"lambda_norm must be a wavelength in Angstrom, not {lambda_norm!r}")
    return float(lambda_norm)

"""Real spectra, transmissions and throughputs for the truth of a simulated survey, read from the folder of test data.

Stars are those of Pickles (1998). Rayleigh scattering, oxygen and ozone come from the libRadtran grids that the package
getObsAtmo ships; water from the fifteen airmasses of the LSST project's atmospheres, with what the former explain taken out.
The model of the fit rests on other tables. The throughputs are those of the Rubin Observatory's baseline.
"""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.polynomial import polynomial

from zeropoint.errors import InvalidInputError
from zeropoint.simulation.fgcm_physics import FloatArray, Physics, aerosol_depth

__all__ = ["MeasuredAtmosphere", "measured_physics"]

#: Wavelengths, Angstrom: neither the step of the sources nor that of the fit.
_FIRST, _LAST, _STEP = 3500.0, 11000.0, 4.0
#: Pressure of the grids, mb: their Rayleigh depth against the closed form. Depths are proportional to it, those of saturated
#: lines too, as these get broader.
_PRESSURE = 731.0
#: Ozone of the LSST project's atmospheres is found with this much from the grids, DU.
_OZONE_NODE = 300.0
#: Water in the LSST project's atmosphere at airmass 1, mm, which its files do not tell: with this much the z band is as deep
#: as in `zeropoint.fgcm.atmosphere`. It is the unit of the simulated PWV and nothing else.
_WATER_MM = 3.9
#: Wavelengths, Angstrom, where there is water: between the bands of oxygen, and not where the air is dry.
_WATER_BANDS = ((5860.0, 6040.0), (6350.0, 6650.0), (6970.0, 7560.0), (7740.0, 10450.0), (10700.0, 11000.0))
#: Wavelengths, Angstrom, without any bands, where Rayleigh scattering and ozone are fitted.
_CONTINUUM = ((4200.0, 5000.0), (5150.0, 5600.0), (6050.0, 6200.0), (6650.0, 6800.0))
#: The law of water is a quadratic so far beyond the amounts that the tables have, in the logarithm.
_BEYOND = 0.7
#: Where the band of water at 720 nm ends, Angstrom.
_RED_WATER = 7600.0
#: Smallest depth of a water band at airmass 1 that is kept.
_WATER_FLOOR = 2e-4
#: Spectra and how frequent they are in a field of moderate galactic latitude, in any unit: dwarfs, then giants and
#: metal-poor stars.
_STARS = {
    "b8v": 0.3, "a0v": 0.8, "a5v": 1.5, "f0v": 3.0, "f2v": 4.0, "f5v": 8.0, "f6v": 6.0, "f8v": 9.0, "g0v": 9.0, "g2v": 8.0,
    "g5v": 8.0, "g8v": 7.0, "k0v": 7.0, "k2v": 6.0, "k3v": 4.0, "k4v": 4.0, "k5v": 4.0, "k7v": 4.0, "m0v": 4.0, "m1v": 3.0,
    "m2v": 2.5, "m2p5v": 1.5, "m3v": 1.0, "m4v": 0.4,
    "g5iii": 1.0, "g8iii": 2.0, "k0iii": 3.0, "k1iii": 2.0, "k2iii": 2.0, "k3iii": 1.0, "k4iii": 0.7, "k5iii": 0.5,
    "m0iii": 0.3, "m2iii": 0.2, "g2iv": 1.0, "k1iv": 1.0, "wf5v": 1.0, "wf8v": 1.5, "wg0v": 1.5, "wk1iii": 1.0,
}  # fmt: skip


class MeasuredAtmosphere:
    """An atmosphere interpolated in tables, on wavelengths in Angstrom.

    Parameters
    ----------
    folder
        ``throughputs`` in the test data.
    wavelength : float64, shape (n_lam,)
        Angstrom, within 3000 to 11000.
    water_720
        Factor on the depth of water below 7600 Angstrom, which is in the bands r and i.

    Raises
    ------
    InvalidInputError
        If a table is missing.
    """

    def __init__(self, folder: Path, wavelength: FloatArray, water_720: float = 1.0) -> None:
        grids = folder / "getobsatmo-lsst"
        stem = "LSST_atmospherictransparencygrid"
        axes = json.loads(_bytes(grids / f"{stem}_params.json"))
        own = 10.0 * np.array(axes["WL"])
        self.wavelength = wavelength
        self._airmass = np.array(axes["AIRMASS"])
        self._ozone_axis = np.array(axes["OZ"])
        depths = {name: _depths(grids / f"{stem}_{name}.npy.gz") for name in ("rayleigh", "O2abs", "OZabs")}
        ozone = depths["OZabs"][:, :, np.argmin(np.abs(self._ozone_axis - _OZONE_NODE))]
        self._rayleigh = _resample(own, depths["rayleigh"], wavelength)
        self._oxygen = _resample(own, depths["O2abs"], wavelength)
        # the depth of ozone is proportional to its column to 1e-6
        self._ozone = _resample(own, ozone / _OZONE_NODE, wavelength)
        self._water, self._water_range = _water_law(folder, own, depths["rayleigh"], ozone, wavelength)
        self._water[0, wavelength < _RED_WATER] += np.log(water_720)

    def transmission(
        self,
        pressure: FloatArray,
        pwv: FloatArray,
        ozone: FloatArray,
        tau: FloatArray,
        alpha: FloatArray,
        secant: FloatArray,
    ) -> FloatArray:
        """Return the transmission for mb, mm, DU, depth at 7750 A, slope and secant (n,): shape (n, n_lam).

        Parameters
        ----------
        pressure, pwv, ozone : float64, shape (n,)
            mb, mm, Dobson units.
        tau, alpha : float64, shape (n,)
            Depth of the aerosols at 7750 Angstrom, and their slope.
        secant : float64, shape (n,)
            Of the zenith distance.

        Returns
        -------
        transmission : float64, shape (n, n_lam)

        Raises
        ------
        InvalidInputError
            If a secant is outside of the tables, 1 to 2.6.
        """
        if secant.min() < 1.0 or secant.max() > self._airmass[-1]:
            raise InvalidInputError(
                f"simulated atmosphere: secants from {secant.min():.3f} to {secant.max():.3f}; the tables have 1 to "
                f"{self._airmass[-1]:.1f}."
            )
        k = np.clip(np.searchsorted(self._airmass, secant, side="right") - 1, 0, len(self._airmass) - 2)
        t = ((secant - self._airmass[k]) / (self._airmass[k + 1] - self._airmass[k]))[:, None]
        share = (pressure / _PRESSURE)[:, None]

        def between(table: FloatArray) -> FloatArray:
            return np.asarray(table[k] * (1.0 - t) + table[k + 1] * t)

        depth = between(self._rayleigh) * share + between(self._oxygen) * share
        depth += between(self._ozone) * ozone[:, None]
        depth += aerosol_depth(self.wavelength, tau, alpha, secant)
        wet = np.isfinite(self._water[0])
        depth[:, wet] += self._water_depth(pwv * secant, wet)
        return np.exp(-depth)

    def _water_depth(self, amount: FloatArray, wet: npt.NDArray[np.bool_]) -> FloatArray:
        """Return the depth of water where there is any; amounts in mm along the line of sight."""
        low, high = self._water_range
        x = np.log(amount / _WATER_MM)[:, None]
        inside = np.clip(x, low, high)
        c0, c1, c2 = self._water[:, wet]
        slope = c1 + 2.0 * c2 * inside
        return np.asarray(np.exp(c0 + c1 * inside + c2 * inside**2 + slope * (x - inside)))


def measured_physics(data: str | Path | None = None, water_720: float = 1.0) -> Physics:
    """Return the physics of real tables.

    Parameters
    ----------
    data
        Folder of test data; default: the variable ``ZEROPOINT_TESTDATA``.
    water_720
        See `MeasuredAtmosphere`.

    Raises
    ------
    InvalidInputError
        If the folder or a table in it is missing.
    """
    place = data if data is not None else os.environ.get("ZEROPOINT_TESTDATA")
    if place is None:
        raise InvalidInputError(
            "simulated survey: real spectra and atmospheres are read from the folder of test data: set ZEROPOINT_TESTDATA, "
            "or simulate with physics='simple'."
        )
    folder = Path(place) / "throughputs"
    wavelength = np.arange(_FIRST, _LAST + 1.0, _STEP)
    spectra = np.stack([_spectrum(folder / "pickles" / f"{name}.sed.gz", wavelength) for name in _STARS])
    weights = np.array(list(_STARS.values()))
    throughput = {}
    for band in ("g", "r", "i", "z"):
        nm, curve = _columns(folder / "lsst-throughputs" / "baseline" / f"hardware_{band}.dat.gz")
        throughput[band] = np.interp(wavelength, 10.0 * nm, curve)
    atmosphere = MeasuredAtmosphere(folder, wavelength, water_720)
    return Physics(
        wavelength, tuple(_STARS), weights / weights.sum(), spectra, atmosphere.transmission, throughput
    )


def _bytes(path: Path) -> bytes:
    try:
        return gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes()
    except OSError as error:
        raise InvalidInputError(
            f"simulated survey: {path} cannot be read ({error.strerror or error}): is this the folder of test data "
            "(ZEROPOINT_TESTDATA)?"
        ) from None


def _columns(path: Path) -> tuple[FloatArray, FloatArray]:
    """Return the first two columns of a text table."""
    table = np.loadtxt(io.BytesIO(_bytes(path)), usecols=(0, 1))
    return table[:, 0], table[:, 1]


def _spectrum(path: Path, wavelength: FloatArray) -> FloatArray:
    """Return a star's flux per unit of frequency; the library has it per unit of wavelength."""
    own, flux = _columns(path)
    return np.asarray(np.interp(wavelength, own, flux) * wavelength**2 / wavelength[0] ** 2)


def _depths(path: Path) -> FloatArray:
    transmission = np.load(io.BytesIO(_bytes(path)))
    return np.asarray(-np.log(np.clip(transmission, 1e-12, 1.0)), np.float64)


def _resample(own: FloatArray, depths: FloatArray, wavelength: FloatArray) -> FloatArray:
    """Return depths (n_own, n_airmass) on other wavelengths, shape (n_airmass, n_lam)."""
    return np.stack([np.interp(wavelength, own, column) for column in depths.T])


def _within(wavelength: FloatArray, ranges: tuple[tuple[float, float], ...]) -> npt.NDArray[np.bool_]:
    return np.any([(wavelength >= low) & (wavelength <= high) for low, high in ranges], axis=0)


def _water_law(
    folder: Path, own: FloatArray, rayleigh: FloatArray, ozone: FloatArray, wavelength: FloatArray
) -> tuple[FloatArray, tuple[float, float]]:
    """Return the logarithm of water's depth as a quadratic of that of the amount over `_WATER_MM`.

    Returns
    -------
    law : float64, shape (3, n_lam)
        Coefficients; NaN where there is no water.
    range : tuple of float
        Logarithm of the amounts within which the quadratic holds; beyond, the depth is a power of the amount.
    """
    airmass = np.arange(10, 26) / 10.0
    curves = [_columns(folder / "lsst-throughputs" / "atmos" / f"atmos_{10 * x:.0f}.dat.gz") for x in airmass]
    here = 10.0 * curves[0][0]
    dry = _within(here, _CONTINUUM)
    left = np.empty((len(airmass), len(here)))
    for k, (_, curve) in enumerate(curves):
        depth = -np.log(np.clip(curve, 1e-12, 1.0))
        # the grids' airmasses begin at 1 with the same step
        smooth = np.stack([np.interp(here, own, table[:, k]) for table in (rayleigh, ozone)])
        shares = np.linalg.lstsq(smooth[:, dry].T, depth[dry], rcond=None)[0]
        left[k] = depth - shares @ smooth
    wet = _within(here, _WATER_BANDS) & (left.min(axis=0) > _WATER_FLOOR)
    x = np.log(airmass)
    law = np.full((3, len(here)), np.nan)
    quadratic = polynomial.polyfit(x, np.log(left[:, wet]), 2)
    straight = np.vstack([polynomial.polyfit(x, np.log(left[:, wet]), 1), np.zeros(int(wet.sum()))])
    # bands saturate; where they seem not to, the table's few digits are to blame
    law[:, wet] = np.where(quadratic[2] < 0.0, quadratic, straight)
    nearest = np.abs(here[:, None] - wavelength).argmin(axis=0)
    return law[:, nearest], (float(x[0]) - _BEYOND, float(x[-1]) + _BEYOND)

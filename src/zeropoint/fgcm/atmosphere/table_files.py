"""Files of atmospheric transmissions in the layout of the reference implementation (FITS).

One row ``PARS`` with the site, the standard atmosphere and the axes; images ``PWVATM`` (water, secant, wavelength),
``O3ATM`` (ozone, secant, wavelength), ``O2ATM`` and ``RAYATM`` (secant, wavelength), each axis of them extended by one
step.  Burke et al. (2018, AJ 155, 41) describe what they hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.atmosphere.absorbers import Absorber
from zeropoint.fgcm.atmosphere.parameters import AtmosphereParameters
from zeropoint.fgcm.atmosphere.table_axes import TableAxes
from zeropoint.fgcm.atmosphere.tabulated import TabulatedGas, TabulatedOzone, TabulatedWater

if TYPE_CHECKING:
    from zeropoint.fgcm.atmosphere.model import Atmosphere

__all__ = ["TransmissionTable", "read_table", "write_table"]

FloatArray = npt.NDArray[np.float64]

_IMAGES = {"PWVATM": 3, "O3ATM": 3, "O2ATM": 2, "RAYATM": 2}
_SCALARS = ("ELEVATION", "PMBELEVATION", "LAMBDANORM")
_AXES = ("ATMLAMBDA", "O3", "O3DELTA", "SECZENITH", "SECZENITHDELTA")
#: Depths below which nothing is absorbed, and above which nothing is left.
_NOTHING, _EVERYTHING = np.exp(-30.0), 25.0


@dataclass(frozen=True)
class TransmissionTable:
    """A table of transmissions, as absorbers that interpolate it."""

    elevation: float
    """m."""
    pmb_elevation: float
    """mb."""
    lambda_norm: float
    """Angstrom."""
    wavelength: FloatArray
    """Angstrom, (n_lambda,)."""
    absorbers: Mapping[str, Absorber]
    """By name: scattering, gases, ozone, water."""


def read_table(path: Path, *, pwv: Sequence[float] | None = None) -> TransmissionTable:
    """Read a table of transmissions.

    Parameters
    ----------
    path
        FITS file.
    pwv
        PWV of the water nodes in mm, in place of the file's labels; None for the labels.

    Returns
    -------
    table
        Water's node beyond the end of its axis is not used, for its amount is not in the file.

    Raises
    ------
    InvalidInputError
        If the file is not such a table.
    """
    from astropy.io import fits

    try:
        with fits.open(path) as hdus:
            missing = [name for name in ("PARS", *_IMAGES) if name not in hdus]
            if missing:
                raise InvalidInputError(
                    f"{path}: a table of atmospheres has HDUs {', '.join(missing)}; they are not here"
                )
            record = hdus["PARS"].data[0]
            pars = {name: np.array(record[name], dtype=np.float64) for name in hdus["PARS"].columns.names}
            images = {name: np.array(hdus[name].data, dtype=np.float64) for name in _IMAGES}
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read as a FITS table of atmospheres: {error}") from error
    missing = [name for name in (*_SCALARS, *_AXES) if name not in pars]
    if "LNPWV" not in pars and "PWV" not in pars:
        missing.append("LNPWV")
    if missing:
        raise InvalidInputError(f"{path}: PARS lacks the columns {', '.join(missing)}")
    ln_pwv = pars["LNPWV"] if "LNPWV" in pars else np.log(pars["PWV"])
    if pwv is not None:
        if len(pwv) != ln_pwv.size:
            raise InvalidInputError(
                f"{path}: has {ln_pwv.size} nodes of water; {len(pwv)} amounts were given"
            )
        ln_pwv = np.log(np.asarray(pwv, dtype=np.float64))
    o3, secant = (
        np.append(pars[name], pars[name][-1] + pars[f"{name}DELTA"]) for name in ("O3", "SECZENITH")
    )
    n_lambda = pars["ATMLAMBDA"].size
    shapes = {
        "PWVATM": (ln_pwv.size + 1, secant.size, n_lambda),
        "O3ATM": (o3.size, secant.size, n_lambda),
        "O2ATM": (secant.size, n_lambda),
        "RAYATM": (secant.size, n_lambda),
    }
    for name, shape in shapes.items():
        _check_image(path, name, images[name], shape)
    return _table(pars, images, ln_pwv, o3, np.log(secant))


def _check_image(path: Path, name: str, image: FloatArray, shape: tuple[int, ...]) -> None:
    if image.shape != shape:
        raise InvalidInputError(
            f"{path}: {name} has the shape {image.shape}; its axes in PARS ask for {shape}"
        )
    if not ((image >= 0) & (image <= 1)).all():
        raise InvalidInputError(f"{path}: {name} holds values that are no transmissions between 0 and 1")


def _table(
    pars: Mapping[str, FloatArray],
    images: Mapping[str, FloatArray],
    ln_pwv: FloatArray,
    o3: FloatArray,
    ln_secant: FloatArray,
) -> TransmissionTable:
    pmb = float(pars["PMBELEVATION"])
    depth = {name: -np.log(np.maximum(image, np.exp(-_EVERYTHING))) for name, image in images.items()}
    # one depth per Dobson unit and secant, from the nodes that light still passes
    passed = (depth["O3ATM"] < 7.0) | (np.arange(o3.size) == 0)[:, None, None]
    amount = np.where(passed, o3[:, None, None], 0.0)
    per_dobson = np.sum(amount * depth["O3ATM"], axis=0) / np.sum(amount**2, axis=0)
    log = {name: np.log(np.maximum(value, _NOTHING)) for name, value in depth.items()}
    return TransmissionTable(
        elevation=float(pars["ELEVATION"]),
        pmb_elevation=pmb,
        lambda_norm=float(pars["LAMBDANORM"]),
        wavelength=pars["ATMLAMBDA"],
        absorbers={
            "scattering": TabulatedGas(ln_secant, log["RAYATM"], pmb),
            "gases": TabulatedGas(ln_secant, log["O2ATM"], pmb),
            "ozone": TabulatedOzone(ln_secant, np.log(np.maximum(per_dobson, _NOTHING))),
            "water": TabulatedWater(ln_pwv, ln_secant, log["PWVATM"][:-1]),
        },
    )


def write_table(atmosphere: Atmosphere, path: Path, axes: TableAxes, *, overwrite: bool = False) -> None:
    """Write a table of an atmosphere's transmissions.

    Parameters
    ----------
    atmosphere
        On evenly spaced wavelengths.
    path
        FITS file to write.
    axes
        Nodes, and the standard atmosphere.
    overwrite
        Replace a file that exists.

    Raises
    ------
    InvalidInputError
        If the file exists, or the wavelengths are not evenly spaced.
    """
    from astropy.io import fits

    steps = np.diff(atmosphere.wavelength)
    if steps.size == 0 or not np.allclose(steps, steps[0], rtol=1e-9) or steps[0] <= 0:
        raise InvalidInputError("a table of atmospheres needs wavelengths in even, ascending steps")
    if path.exists() and not overwrite:
        raise InvalidInputError(f"{path} exists; choose another name, or ask to overwrite it")
    secant, pwv, o3 = _extended(axes, "secant"), _extended(axes, "pwv"), _extended(axes, "o3")
    images = {
        "PWVATM": np.stack([_dimmed(atmosphere, ("water",), secant, pwv=value) for value in pwv]),
        "O3ATM": np.stack([_dimmed(atmosphere, ("ozone",), secant, o3=value) for value in o3]),
        "O2ATM": _dimmed(atmosphere, ("gases", "pairs"), secant),
        "RAYATM": _dimmed(atmosphere, ("scattering",), secant),
    }
    columns = [_column(fits, name, value) for name, value in _pars(atmosphere, axes, float(steps[0])).items()]
    hdus = [fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name="PARS")]
    hdus += [fits.ImageHDU(image, name=name) for name, image in images.items()]
    fits.HDUList(hdus).writeto(path, overwrite=overwrite)


def _extended(axes: TableAxes, name: str) -> FloatArray:
    """Give the nodes of an axis and one step more, the step being of the axis' even quantity."""
    nodes = axes.nodes(name)
    if name == "pwv":
        return np.append(nodes, nodes[-1] ** 2 / nodes[-2])
    return np.append(nodes, 2 * nodes[-1] - nodes[-2])


def _dimmed(
    atmosphere: Atmosphere, names: Sequence[str], secant: FloatArray, *, pwv: float = 1.0, o3: float = 0.0
) -> FloatArray:
    """Compute the transmission of some absorbers at the pressure of the elevation, shape (n_secant, n_lambda)."""
    parameters = AtmosphereParameters(
        pmb=atmosphere.pmb_elevation, pwv=pwv, o3=o3, tau=0.0, alpha=0.0, airmass=secant
    )
    chosen = [absorber for name, absorber in atmosphere.absorbers.items() if name in names]
    return np.exp(-sum(absorber.law(parameters).depth()[0] for absorber in chosen))


def _pars(atmosphere: Atmosphere, axes: TableAxes, step: float) -> dict[str, Any]:
    standard = AtmosphereParameters(
        pmb=axes.pmb_std,
        pwv=axes.pwv_std,
        o3=axes.o3_std,
        tau=axes.tau_std,
        alpha=axes.alpha_std,
        airmass=axes.airmass_std,
    )
    pars: dict[str, Any] = {
        "ELEVATION": atmosphere.elevation,
        "PMBELEVATION": atmosphere.pmb_elevation,
        "PMBSTD": axes.pmb_std,
        "PWVSTD": axes.pwv_std,
        "O3STD": axes.o3_std,
        "TAUSTD": axes.tau_std,
        "ALPHASTD": axes.alpha_std,
        "AIRMASSSTD": axes.airmass_std,
        "LAMBDARANGE": atmosphere.wavelength[[0, -1]],
        "LAMBDASTEP": step / 10.0,
        "LAMBDANORM": atmosphere.lambda_norm,
        "ATMLAMBDA": atmosphere.wavelength,
        "ATMSTDTRANS": atmosphere.transmission(standard)[0],
    }
    for name in ("pmb", "pwv", "o3", "tau", "alpha", "secant"):
        nodes = axes.nodes(name)
        label = {"pwv": "LNPWV", "tau": "LNTAU", "secant": "SECZENITH"}.get(name, name.upper())
        nodes = np.log(nodes) if label.startswith("LN") else nodes
        pars[label], pars[f"{label}DELTA"] = nodes, nodes[1] - nodes[0]
    return pars


def _column(fits: Any, name: str, value: Any) -> Any:
    array = np.atleast_1d(np.asarray(value, dtype=np.float32))
    return fits.Column(name=name, format=f"{array.size}E", array=array[None, :] if array.size > 1 else array)

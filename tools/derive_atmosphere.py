"""Derive the coefficients of `zeropoint.fgcm.atmosphere` from the two small test tables of FGCM.

The tables (``fgcm_atm_lsst2_test.fits`` and ``fgcm_atm_subaru2_test.fits`` of github.com/erykoff/fgcm, Apache License
2.0) hold transmissions of water, ozone, mixed gases and scattering at a few nodes, computed with MODTRAN 4.  Laws with
few parameters per wavelength are fitted to the transmissions; no column of the tables is copied.

    python tools/derive_atmosphere.py DIRECTORY_OF_THE_TABLES [--output FILE]

The same tables give the same bytes.  Two labels of the LSST table are wrong: its node "0.1 mm" holds 1.0 mm and its
node "12 mm" holds 8.1 mm (MODTRAN keeps water below saturation), as these follow from the Subaru table: the ratios of
depths where absorption is weak are 10.1 and 2.27 to the Subaru nodes of 0.1 and 3.6 mm, one curve of growth passes
through both tables to 2e-4 in transmission (6e-4 with nodes 10 % larger), and the standard atmospheres of both tables
then have the 3.0 and 1.5 mm of their labels.  The last node of the Subaru table (label 20, saturated too) is fitted.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from scipy.optimize import lsq_linear

from zeropoint.fgcm.airmass import molecular_airmass, ozone_airmass
from zeropoint.fgcm.atmosphere import _coefficients, _growth

FloatArray = npt.NDArray[np.float64]

TABLES = {"fgcm_atm_lsst2_test.fits": (1.0, 8.1), "fgcm_atm_subaru2_test.fits": (0.1, 3.6, None)}
#: Transmissions have four decimals: the rms of rounding, and of the product of the two columns of water.
ROUNDING = 1e-4 / np.sqrt(12.0)
#: What a law may miss, as a fraction of the depth.
LAW_ERROR = 0.005
#: Priors of water's curves: rms change of slope between knots; rms of the pressure exponent about 1 - slope.
SLOPE_CHANGE, EXPONENT_ERROR = 0.05, 0.15
#: Slopes d ln(depth) / d ln(amount) and pressure exponents that a curve may have.
SLOPE_RANGE, EXPONENT_RANGE = (0.40, 1.0), (0.0, 0.6)
#: Prior of the pressure exponent of mixed gases: rms about 1.
GAS_EXPONENT_ERROR = 0.3
#: Smallest depth that the laws carry, as a logarithm: nothing.
LN_NOTHING = -30.0


@dataclass(frozen=True)
class Table:
    """Transmissions of one site."""

    elevation: float
    pressure: float
    secant: FloatArray
    pwv: FloatArray
    o3: FloatArray
    water: FloatArray
    ozone: FloatArray
    gases: FloatArray


def read_table(path: Path, pwv: tuple[float | None, ...]) -> Table:
    """Read a table, with its true nodes of water; nodes that repeat the one before are left out."""
    with fits.open(path) as hdus:
        pars = hdus["PARS"].data[0]
        step = float(pars["SECZENITHDELTA"])
        secant = np.append(pars["SECZENITH"], pars["SECZENITH"][-1] + step).astype(np.float64)
        o3 = np.append(pars["O3"], pars["O3"][-1] + pars["O3DELTA"]).astype(np.float64)
        cubes = {name: hdus[name].data.astype(np.float64) for name in ("PWVATM", "O3ATM", "O2ATM")}
        elevation, pressure = float(pars["ELEVATION"]), float(pars["PMBELEVATION"])
    water = cubes["PWVATM"][: len(pwv)]
    nodes = np.array([np.nan if value is None else value for value in pwv])
    if np.isnan(nodes).any():
        nodes[-1] = saturated_amount(water, secant, nodes[-2])
    return Table(elevation, pressure, secant, nodes, o3, water, cubes["O3ATM"], cubes["O2ATM"])


def saturated_amount(water: FloatArray, secant: FloatArray, known: float) -> float:
    """Find the PWV of the last node from its depths: those of the node before, at a little more secant."""
    depth = -np.log(water)
    used = depth[:, :, (depth[-2, 0] > 0.02) & (depth[-2, -1] < 1.0)]
    slope = np.log(used[-2, 1] / used[-2, 0]) / np.log(secant[1])
    gain = np.log(used[-1, 0] / used[-2, 0])
    return round(float(known * np.exp(np.sum(gain) / np.sum(slope))), 2)


def water_design(tables: list[Table]) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Stack the basis rows (curve, pressure exponent) of all nodes, and their transmissions (n_node, n_lambda)."""
    rows, pressures, transmissions = [], [], []
    for table in tables:
        amount = (table.pwv[:, None] * table.secant).ravel()
        rows.append(_growth.growth_basis(np.log(amount))[0][:, : _growth.N_COEFFICIENTS])
        pressures.append(np.full(amount.size, np.log(table.pressure / _coefficients.REFERENCE_PMB)))
        transmissions.append(table.water.reshape(amount.size, -1))
    return np.vstack(rows), np.concatenate(pressures), np.vstack(transmissions)


def fit_water(tables: list[Table]) -> tuple[FloatArray, FloatArray]:
    """Fit ln(depth) of water in ln(w X) and ln(P): shapes (n_coefficient, n_lambda) twice."""
    basis, ln_pressure, transmission = water_design(tables)
    n = _growth.N_COEFFICIENTS
    # unknowns: first coefficient, its rises, and the exponents at the same places
    rises = np.tril(np.ones((n, n)))
    rises[:, 1:] *= _growth.KNOT_STEP
    design = np.hstack([basis @ rises, basis * ln_pressure[:, None]])
    changes = np.zeros((n - 2, 2 * n))
    changes[np.arange(n - 2), np.arange(1, n - 1)] = -1.0
    changes[np.arange(n - 2), np.arange(2, n)] = 1.0
    exponents = np.zeros((n, 2 * n))
    for j in range(n):
        exponents[j, 1 + np.clip([j - 1, j], 0, n - 2)] += 0.5
        exponents[j, n + j] = 1.0
    # weak wavelengths go back to slope 1, a linear law, where the data say nothing
    linear = np.zeros((1, 2 * n))
    linear[0, 1] = 1.0
    prior = np.vstack([changes / SLOPE_CHANGE, exponents / EXPONENT_ERROR, linear / 0.1])
    prior_value = np.concatenate([np.zeros(n - 2), np.full(n, 1 / EXPONENT_ERROR), [1 / 0.1]])
    lower = np.concatenate([[-np.inf], np.full(n - 1, SLOPE_RANGE[0]), np.full(n, EXPONENT_RANGE[0])])
    upper = np.concatenate([[np.inf], np.full(n - 1, SLOPE_RANGE[1]), np.full(n, EXPONENT_RANGE[1])])
    amounts = np.exp(basis @ np.linspace(-1, n - 2, n) * _growth.KNOT_STEP)
    solutions = np.empty((2 * n, transmission.shape[1]))
    for k, observed in enumerate(transmission.T):
        solutions[:, k] = _fit_curve(observed, amounts, design, prior, prior_value, (lower, upper))
    return rises @ solutions[:n], solutions[n:]


def _fit_curve(
    observed: FloatArray,
    amounts: FloatArray,
    design: FloatArray,
    prior: FloatArray,
    prior_value: FloatArray,
    bounds: tuple[FloatArray, FloatArray],
) -> FloatArray:
    """Fit one wavelength in transmission, by Gauss-Newton steps with bounds."""
    n = design.shape[1] // 2
    depth = -np.log(observed)
    linear = float(np.sum(depth * amounts) / np.sum(amounts**2))
    start = np.zeros(2 * n)
    start[1:n] = 1.0
    if linear <= 1e-7:
        start[0] = LN_NOTHING
        return start
    offset = np.mean(np.log(amounts) - design @ start)
    start[0] = np.log(linear) + offset
    solution = start
    for _ in range(6):
        ln_depth = design @ solution
        model = np.exp(ln_depth)
        sigma = np.hypot(np.sqrt(2) * ROUNDING / observed, LAW_ERROR * model) / model
        target = ln_depth + np.clip((depth - model) / model, -1.0, 2.0)
        result = lsq_linear(
            np.vstack([design / sigma[:, None], prior]),
            np.concatenate([target / sigma, prior_value]),
            bounds=bounds,
            method="bvls",
        )
        solution = result.x
    return solution


def fit_ozone(tables: list[Table]) -> FloatArray:
    """Fit the depth of ozone per DU, shape (n_lambda,): Beer's law along the shell's airmass."""
    amounts, transmissions = [], []
    for table in tables:
        airmass = ozone_airmass(table.secant, elevation=table.elevation)[0]
        amounts.append((table.o3[:, None] * airmass).ravel())
        transmissions.append(table.ozone.reshape(amounts[-1].size, -1))
    amount = np.concatenate(amounts)[:, None]
    observed = np.vstack(transmissions)
    k = -np.log(np.maximum(observed[0], 1e-4)) / amount[0]
    for _ in range(8):
        model = np.exp(-k * amount)
        sigma = np.hypot(ROUNDING, LAW_ERROR * k * amount * model)
        gradient = -amount * model / sigma
        k += np.sum(gradient * (observed - model) / sigma, axis=0) / np.sum(gradient**2, axis=0)
    return np.maximum(k, 0.0)


def fit_gases(tables: list[Table]) -> tuple[FloatArray, FloatArray]:
    """Fit ln(depth) of mixed gases: a parabola in ln(airmass) (3, n_lambda), and the exponent of pressure."""
    ln_airmass = np.log(molecular_airmass(tables[0].secant)[0])
    ln_pressure = np.array([np.log(table.pressure / _coefficients.REFERENCE_PMB) for table in tables])
    observed = np.stack([table.gases for table in tables])
    n_lambda = observed.shape[2]
    curves, exponents = np.zeros((3, n_lambda)), np.ones(n_lambda)
    curves[0] = LN_NOTHING
    curves[1] = 1.0
    rows = [[1.0, a, a * a, p] for p in ln_pressure for a in ln_airmass]
    design = np.array(rows)
    prior = np.array([[0, 0, 0, 1 / GAS_EXPONENT_ERROR], [0, 1 / 0.5, 0, 0], [0, 0, 1 / 0.05, 0]])
    bounds = np.array([-np.inf, 0.4, -0.15, 0.0]), np.array([np.inf, 1.0, 0.0, 2.0])
    for k in range(n_lambda):
        transmission = observed[:, :, k].ravel()
        depth = -np.log(transmission)
        path = np.exp(design[:, 1])
        linear = float(np.sum(depth * path) / np.sum(path**2))
        if linear <= 2e-5:
            continue
        solution = np.array([np.log(linear), 1.0, 0.0, 1.0])
        for _ in range(6):
            model = np.exp(design @ solution)
            sigma = np.hypot(ROUNDING / transmission, LAW_ERROR * model) / model
            target = design @ solution + np.clip((depth - model) / model, -1.0, 2.0)
            prior_value = np.array([1 / GAS_EXPONENT_ERROR, 1 / 0.5, 0.0])
            rows_all = np.vstack([design / sigma[:, None], prior])
            solution = lsq_linear(
                rows_all, np.concatenate([target / sigma, prior_value]), bounds=bounds, method="bvls"
            ).x
        curves[:, k], exponents[k] = solution[:3], solution[3]
    return curves, exponents


def main(arguments: list[str] | None = None) -> int:
    """Derive all coefficients and write them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("tables", type=Path, help="directory of the two tables")
    parser.add_argument("--output", type=Path, default=_coefficients.PATH)
    options = parser.parse_args(arguments)
    tables = [read_table(options.tables / name, pwv) for name, pwv in TABLES.items()]
    curve, exponent = fit_water(tables)
    gas_curve, gas_exponent = fit_gases(tables)
    arrays = {
        "water_curve": curve.round(4),
        "water_exponent": exponent.round(3),
        "gas_curve": gas_curve.round(4),
        "gas_exponent": gas_exponent.round(3),
        "ozone_depth": np.array([float(f"{value:.5g}") for value in fit_ozone(tables)]),
    }
    np.savez(options.output, **{name: array.astype(np.float32) for name, array in arrays.items()})
    sys.stdout.write(
        f"{options.output}: {options.output.stat().st_size} bytes; PWV nodes {[t.pwv.tolist() for t in tables]}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

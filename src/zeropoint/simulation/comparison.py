"""How far a calibrated simulation is from its truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.fields import fit_chebyshev
from zeropoint.kernels.moments import adaptive_moments
from zeropoint.recipes.calibrate_image.record import CalibratedImage
from zeropoint.simulation.exposures import SimulatedExposure

__all__ = ["TruthFigures", "compare_with_truth"]

_MAS = np.pi / 648000.0 / 1000.0


@dataclass(frozen=True)
class TruthFigures:
    """Figures by name, each a number and the unit to print."""

    values: dict[str, float]

    def __getitem__(self, name: str) -> float:
        return self.values[name]


def compare_with_truth(
    simulated: SimulatedExposure, result: CalibratedImage, *, radius: float = 2.0
) -> TruthFigures:
    """Compare a calibrated image with the truth behind it.

    Parameters
    ----------
    simulated
        The simulation.
    result
        Complete result of the recipe.
    radius
        Match radius between catalogue and truth, pixels.

    Returns
    -------
    figures : TruthFigures
    """
    figures: dict[str, float] = {}
    figures.update(_wcs(simulated, result.exposure))
    figures.update(_zeropoint(simulated, result))
    figures.update(_psf(simulated, result.exposure))
    figures.update(_cosmic_rays(simulated, result.exposure))
    figures.update(_stars(simulated, result, radius))
    return TruthFigures(figures)


def _robust(values: np.ndarray) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) if len(values) else float("nan")


def _wcs(simulated: SimulatedExposure, exposure: Exposure) -> dict[str, float]:
    """Fitted against true WCS on a 20 x 20 grid."""
    assert exposure.wcs is not None
    height, width = exposure.shape
    gx, gy = np.meshgrid(np.linspace(0, width - 1, 20), np.linspace(0, height - 1, 20))
    ra, dec = exposure.wcs.pixel_to_sky(x=gx, y=gy)
    true_ra, true_dec = simulated.wcs.pixel_to_sky(x=gx, y=gy)
    east = (ra - true_ra) * np.cos(true_dec) / _MAS
    north = (dec - true_dec) / _MAS
    return {
        "wcs_rms_east_mas": float(np.sqrt(np.mean(east**2))),
        "wcs_rms_north_mas": float(np.sqrt(np.mean(north**2))),
        "wcs_max_mas": float(np.max(np.hypot(east, north))),
    }


def _zeropoint(simulated: SimulatedExposure, result: CalibratedImage) -> dict[str, float]:
    """Fitted zeropoint against that of the light inside the calibration aperture, the mean over the image."""
    calib = result.applied_photo_calib or result.exposure.photo_calib
    assert calib is not None
    return {"zeropoint_error_mmag": 1000.0 * (calib.zeropoint - simulated.aperture_zeropoint())}


def _psf(simulated: SimulatedExposure, exposure: Exposure) -> dict[str, float]:
    """PSF model against the noiseless PSF at positions between the stars that made it."""
    assert exposure.psf is not None
    height, width = exposure.shape
    rng = np.random.default_rng(12345)
    x, y = rng.uniform(30, width - 30, 150), rng.uniform(30, height - 30, 150)
    size = exposure.psf.size
    stamps = exposure.psf.kernel_stamps(x=x, y=y)
    half = float(size // 2)
    t, e1, e2 = (np.empty((len(x), 2)) for _ in range(3))
    for k in range(len(x)):
        truth = simulated.psf.stamp(x[k], y[k], size, centered=True)
        for j, image in enumerate((stamps[k], truth / truth.sum())):
            _, xx, yy, xy = adaptive_moments(
                np.ascontiguousarray(image, np.float64), half, half, 1.7, 200, 1e-9
            )
            t[k, j], e1[k, j], e2[k, j] = xx + yy, (xx - yy) / (xx + yy), 2 * xy / (xx + yy)
    size_error = t[:, 0] / t[:, 1] - 1.0
    shape_error = np.concatenate([e1[:, 0] - e1[:, 1], e2[:, 0] - e2[:, 1]])
    return {
        "psf_dt_mean": float(np.mean(size_error)),
        "psf_dt_rms": float(np.sqrt(np.mean(size_error**2))),
        "psf_de_rms": float(np.sqrt(np.mean(shape_error**2))),
    }


def _cosmic_rays(simulated: SimulatedExposure, exposure: Exposure) -> dict[str, float]:
    """Found fraction of events by their brightest pixel, and damaged cores of bright stars."""
    noise = np.sqrt(simulated.noiseless + simulated.settings.read_noise_electrons**2)
    significance = simulated.cosmic_ray_charge / noise
    found = exposure.masked("COSMIC_RAY")
    cores = _star_cores(simulated, 2.0, 100.0)
    numbers = simulated.cosmic_rays
    events = np.unique(numbers[numbers > 0])
    rates = {"bright": [0, 0], "faint": [0, 0]}
    flat, order = numbers.ravel(), None
    order = np.argsort(flat, kind="stable")
    starts = np.searchsorted(flat[order], events)
    ends = np.searchsorted(flat[order], events, side="right")
    for start, end in zip(starts, ends):
        pixels = order[start:end]
        peak = pixels[np.argmax(significance.ravel()[pixels])]
        if cores.ravel()[peak]:
            continue
        top = significance.ravel()[peak]
        kind = "bright" if top > 8 else "faint" if top > 5 else None
        if kind:
            rates[kind][0] += int(found.ravel()[pixels].any())
            rates[kind][1] += 1
    bright = (
        _star_cores(simulated, 1.0, 100.0)
        & (simulated.cosmic_ray_charge < 1.0)
        & ~exposure.masked("SATURATED")
    )
    return {
        "cosmic_rays_found_above_8_sigma": rates["bright"][0] / max(rates["bright"][1], 1),
        "cosmic_rays_found_5_to_8_sigma": rates["faint"][0] / max(rates["faint"][1], 1),
        "cosmic_ray_events_above_8_sigma": float(rates["bright"][1]),
        "star_core_pixels_damaged": float(np.sum(found & bright)),
        "false_cosmic_ray_pixels": float(np.sum(found & (simulated.cosmic_ray_charge < 1.0))),
    }


def _star_cores(simulated: SimulatedExposure, radius: float, minimum_snr: float) -> np.ndarray:
    cores = np.zeros(simulated.noiseless.shape, bool)
    height, width = cores.shape
    r = int(np.ceil(radius))
    for row in simulated.stars[np.asarray(simulated.stars["snr"]) > minimum_snr]:
        xi, yi = int(np.floor(row["x"] + 0.5)), int(np.floor(row["y"] + 0.5))
        for j in range(max(yi - r, 0), min(yi + r, height - 1) + 1):
            for i in range(max(xi - r, 0), min(xi + r, width - 1) + 1):
                if (i - row["x"]) ** 2 + (j - row["y"]) ** 2 <= (radius + 0.5) ** 2:
                    cores[j, i] = True
    return cores


def _stars(simulated: SimulatedExposure, result: CalibratedImage, radius: float) -> dict[str, float]:
    assert result.stars is not None
    stars, truth, settings = result.stars, simulated.stars, simulated.settings
    keep = stars["detect_isPrimary"] & ~stars["sky_source"]
    x, y = stars["slot_Centroid_x"][keep], stars["slot_Centroid_y"][keep]
    positions = np.stack([np.asarray(truth["x"]), np.asarray(truth["y"])], axis=1)
    snr = np.asarray(truth["snr"])
    tree = cKDTree(positions)
    # purity: every primary row should have a true star (any brightness that could be detected) close by
    finite = np.isfinite(x) & np.isfinite(y)
    real = cKDTree(positions[snr > 3.0])
    distance, _ = real.query(np.stack([x[finite], y[finite]], axis=1), distance_upper_bound=3.0 * radius)
    figures = {"purity": float(np.mean(np.isfinite(distance))), "n_primary": float(keep.sum())}
    isolated = _isolated(tree, positions, snr, settings)
    found_tree = cKDTree(np.stack([x[finite], y[finite]], axis=1))
    rows = np.flatnonzero(keep)[finite]
    near, index = found_tree.query(positions, distance_upper_bound=radius)
    found = np.isfinite(near)
    for low, high in ((7, 10), (10, 1e9)):
        band = isolated & (snr >= low) & (snr < high)
        name = f"completeness_{low}_{high}" if high < 1e8 else f"completeness_above_{low}"
        figures[name] = float(np.mean(found[band])) if band.any() else float("nan")
    good = isolated & found
    match = rows[np.where(found, index, 0)]
    figures.update(_photometry_and_positions(simulated, result, good, match))
    return figures


def _isolated(tree: cKDTree, positions: np.ndarray, snr: np.ndarray, settings: Any) -> np.ndarray:
    """Stars without a neighbour of comparable or higher brightness within 5 FWHM, away from the border."""
    reach = 5.0 * settings.fwhm_arcsec / settings.pixel_scale
    alone = np.ones(len(positions), bool)
    flux = snr
    for i, j in tree.query_pairs(reach):
        # a neighbour spoils a star if it has more than 3 per cent of its flux (and is visible at all)
        if flux[j] > max(0.03 * flux[i], 3.0):
            alone[i] = False
        if flux[i] > max(0.03 * flux[j], 3.0):
            alone[j] = False
    # very bright stars spoil further out
    for k in np.flatnonzero(snr > 1000):
        near = tree.query_ball_point(positions[k], 12.0 * reach / 5.0)
        alone[[n for n in near if n != k and snr[n] < snr[k]]] = False
    margin = 40
    inside = (
        (positions[:, 0] > margin)
        & (positions[:, 0] < settings.width - margin)
        & (positions[:, 1] > margin)
        & (positions[:, 1] < settings.height - margin)
    )
    return alone & inside


def _photometry_and_positions(
    simulated: SimulatedExposure, result: CalibratedImage, good: np.ndarray, match: np.ndarray
) -> dict[str, float]:
    stars, truth, settings = result.stars, simulated.stars, simulated.settings
    assert stars is not None
    snr = np.asarray(truth["snr"])
    ok = good & ~stars["base_PixelFlags_flag_saturated"][match] & ~stars["base_PixelFlags_flag_cr"][match]
    flux = stars["base_PsfFlux_instFlux"][match]
    error = stars["base_PsfFlux_instFluxErr"][match]
    # PSF fluxes are aperture-corrected, so their truth is the flux inside the calibration aperture there
    true_flux = np.asarray(truth["flux"]) * _aperture_fraction(simulated, truth)
    dx = stars["slot_Centroid_x"][match] - np.asarray(truth["x"])
    dy = stars["slot_Centroid_y"][match] - np.asarray(truth["y"])
    x_error = stars["slot_Centroid_xErr"][match]
    flux_bound, position_bound = _cramer_rao(simulated, truth)
    figures: dict[str, float] = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = flux / true_flux - 1.0
    measured = ok & (snr >= 10) & np.isfinite(ratio) & np.isfinite(x_error)
    y_error = stars["slot_Centroid_yErr"][match]
    figures["flux_pull"] = _robust((flux[measured] - true_flux[measured]) / error[measured])
    figures["position_pull"] = _robust(
        np.concatenate([dx[measured] / x_error[measured], dy[measured] / y_error[measured]])
    )
    for low, high in ((10, 20), (20, 50), (50, 100), (100, 200), (200, 1e9)):
        band = ok & (snr >= low) & (snr < high) & np.isfinite(ratio)
        name = f"{low}_{high}" if high < 1e8 else f"above_{low}"
        if band.sum() < 5:
            continue
        pull = (flux[band] - true_flux[band]) / error[band]
        figures[f"n_{name}"] = float(band.sum())
        figures[f"flux_bias_mmag_{name}"] = -1085.7 * float(np.median(ratio[band]))
        figures[f"flux_scatter_mmag_{name}"] = 1085.7 * _robust(ratio[band])
        figures[f"flux_bound_mmag_{name}"] = 1085.7 * float(np.median(flux_bound[band]))
        figures[f"flux_scatter_over_bound_{name}"] = _robust(ratio[band] / flux_bound[band])
        figures[f"flux_pull_{name}"] = _robust(pull)
        both = np.concatenate([dx[band], dy[band]])
        scale = 1000.0 * settings.pixel_scale
        figures[f"centroid_scatter_mas_{name}"] = scale * _robust(both)
        figures[f"centroid_bound_mas_{name}"] = scale * float(np.median(position_bound[band]))
        figures[f"centroid_scatter_over_bound_{name}"] = _robust(both / np.tile(position_bound[band], 2))
        figures[f"position_pull_{name}"] = _robust(
            np.concatenate([dx[band] / x_error[band], dy[band] / stars["slot_Centroid_yErr"][match][band]])
        )
    reference = "flux_bias_mmag_above_200"
    if reference in figures and "flux_bias_mmag_50_100" in figures:
        figures["flux_bias_drift_mmag"] = figures["flux_bias_mmag_50_100"] - figures[reference]
    return figures


def _aperture_fraction(simulated: SimulatedExposure, truth: Any, radius: float = 12.0) -> np.ndarray:
    """Return the fraction of each star's flux inside the calibration aperture: a quadratic through a 5 x 5 grid."""
    settings = simulated.settings
    u = np.linspace(0.02, 0.98, 5)
    x, y = (v.ravel() for v in np.meshgrid(u * settings.width, u * settings.height))
    values = np.array([simulated.psf.aperture_fraction(a, b, radius) for a, b in zip(x, y)])
    field = fit_chebyshev(x, y, values, settings.width, settings.height, 2, 2)
    return field(x=np.asarray(truth["x"]), y=np.asarray(truth["y"]))


def _cramer_rao(simulated: SimulatedExposure, truth: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the photon-noise bounds: relative flux error and position error per axis (pixels).

    ``F_ff = sum P^2 / V`` and ``F_xx = f^2 sum (dP/dx)^2 / V`` with ``V = sky + read noise^2 + f P``.
    """
    settings = simulated.settings
    stamp = simulated.psf.stamp(settings.width / 2, settings.height / 2, 61, centered=True)
    gradient = 0.5 * (np.roll(stamp, -1, 1) - np.roll(stamp, 1, 1))
    gradient[:, [0, -1]] = 0.0
    background = settings.sky_electrons + settings.read_noise_electrons**2
    flux = np.asarray(truth["flux"])
    relative, position = np.empty(len(flux)), np.empty(len(flux))
    for k, f in enumerate(flux):
        variance = background + f * stamp
        relative[k] = 1.0 / (f * np.sqrt(np.sum(stamp**2 / variance)))
        position[k] = 1.0 / (f * np.sqrt(np.sum(gradient**2 / variance)))
    return relative, position

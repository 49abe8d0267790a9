"""Numbers of a global calibration, band by band, from its result and the figures behind its plots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.cycle_result import CycleResult
from zeropoint.fgcm.facts.cycle_facts import CycleFacts
from zeropoint.fgcm.flags import ZeropointFlag
from zeropoint.quality.fgcm.report_data import FgcmReportData
from zeropoint.quality.robust import mad_sigma

__all__ = ["fgcm_metrics"]

_NAN = float("nan")


def fgcm_metrics(data: FgcmReportData) -> dict[str, Any]:
    """Return the numbers that verdict, report and ``metrics.json`` hold.

    Parameters
    ----------
    data
        Report's data.

    Returns
    -------
    metrics : dict
        Numbers of the whole, and under ``bands`` those of each band; NaN where something is not known.
    """
    metrics: dict[str, Any] = {"n_cycles": len(data.history), "bands": {}}
    if data.history:
        last = data.history[-1]
        metrics |= {key: value for key, value in last.items() if isinstance(value, int | float | str | bool)}
        metrics["nights_without_fit"] = dict(last.get("nights_without_fit", {}))
        # with the errors as they were stated: those of an error model make chi-square one by themselves
        metrics["chi2_dof"] = _first(last, "chi2_dof_measured", "chi2_dof")
    facts, result = data.facts, data.result
    if result is not None:
        metrics |= _of_fit(data, result)
    if facts is not None:
        for b, band in enumerate(facts.bands):
            metrics["bands"][band] = _of_band(facts, b) | _of_zeropoints(facts, result, b)
    return metrics


def _first(entry: Mapping[str, Any], *keys: str) -> float:
    """Return the first number that is known; NaN if none is."""
    return next((float(entry[key]) for key in keys if entry.get(key) is not None), _NAN)


def _of_fit(data: FgcmReportData, result: CycleResult) -> dict[str, Any]:
    """Return numbers of the last fit."""
    n_nights = max(len(result.state.night_numbers), 1)
    fits = [entry for entry in data.history if entry.get("iterations")]
    last: Any = fits[-1] if fits else {}
    facts = data.facts
    metrics: dict[str, Any] = {
        "n_nights": n_nights,
        "n_at_bounds": len(last.get("at_bounds", ())),
        "at_bounds_per_night": len(last.get("at_bounds", ())) / n_nights,
        "converged": _first(last, "converged"),
    }
    observations = dict(result.accounting.items()).get("flags_of_observations")
    if observations is not None:
        metrics["beyond_airmass_fraction"] = observations.rejected.get("bad_airmass", 0) / max(
            observations.read, 1
        )
    if facts is not None:
        metrics["n_exposures"] = len(facts.visit)
        metrics["n_photometric"] = int(facts.exposures.photometric.sum())
        metrics["nights_fitted_fraction"] = (
            len(np.unique(facts.night[facts.exposures.photometric])) / n_nights
        )
    return metrics


def _of_band(facts: CycleFacts, b: int) -> dict[str, float]:
    """Return numbers of stars, exposures, camera, sky and references of a band."""
    metrics: dict[str, float] = {}
    for stage in facts.residuals:
        metrics[f"scatter_{stage.stage}_mmag"] = 1e3 * float(stage.scatter[b])
    last = facts.residuals[-1]
    scatter, noise = 1e3 * float(last.scatter[b]), 1e3 * float(last.noise[b])
    metrics |= {
        "scatter_mmag": scatter,
        "noise_mmag": noise,
        "scatter_over_noise": scatter / noise if noise > 0 else _NAN,
        "scatter_beyond_noise_mmag": _beyond(scatter, noise),
        "n_bright_observations": int(last.n_bright[b]),
        "of_reserve_stars": bool(facts.of_reserve[b]),
    }
    own = facts.exposure_band == b
    used = own & facts.exposures.photometric
    gray = 1e3 * facts.exposures.gray[used]
    metrics |= {
        "n_exposures": int(own.sum()),
        "n_photometric": int(used.sum()),
        "photometric_fraction": float(used.sum() / own.sum()) if own.any() else _NAN,
        "gray_rms_mmag": float(np.nanstd(gray)) if np.isfinite(gray).any() else _NAN,
    }
    if facts.color is not None:
        slope, error = facts.color.exposure_slope[own], facts.color.exposure_slope_err[own]
        metrics["color_slope_mmag"] = 1e3 * _excess(slope, error)
    plane = facts.focal_plane
    metrics["focal_plane_mmag"] = 1e3 * _excess(plane.residual[b], plane.residual_err[b])
    if facts.sky is not None:
        metrics["halves_mmag"] = 1e3 * _excess(facts.sky.halves[b], facts.sky.halves_err[b])
        metrics["map_nside"] = facts.sky.nside
    return metrics | _of_references(facts, b)


def _of_references(facts: CycleFacts, b: int) -> dict[str, float]:
    """Return the comparison with the references of a band."""
    if facts.references is None:
        return {}
    known = facts.references.in_mean[:, b]
    if not known.any():
        return {"n_references": 0}
    mean, error = (1e3 * value for value in facts.references.mean(b))
    return {
        "n_references": int(known.sum()),
        "reference_offset_mmag": mean,
        "reference_offset_err_mmag": error,
        "reference_offset_abs_mmag": abs(mean),
        "reference_scatter_mmag": 1e3 * mad_sigma(facts.references.difference[known, b]),
    }


def _of_zeropoints(facts: CycleFacts, result: CycleResult | None, b: int) -> dict[str, float]:
    """Return numbers of the zeropoints of a band."""
    if result is None or result.zeropoints is None:
        return {}
    table = result.zeropoints
    band = facts.exposure_band[np.searchsorted(facts.visit, np.asarray(table["visit"]))]
    own = band == b
    good = own & ((np.asarray(table["fgcmFlag"]) & int(ZeropointFlag.CANNOT_COMPUTE_ZEROPOINT)) == 0)
    error = 1e3 * np.asarray(table["fgcmZptErr"], np.float64)[good]
    common = table.meta.get(f"COMMON_MODE_{facts.bands[b]}")
    return {
        "zeropoint_common_mode_mmag": _NAN if common is None else 1e3 * float(common),
        "n_zeropoints": int(good.sum()),
        "zeropoint_fraction": float(good.sum() / own.sum()) if own.any() else _NAN,
        "zeropoint_err_mmag": float(np.median(error)) if len(error) else _NAN,
    }


def _beyond(scatter: float, noise: float) -> float:
    """Return what is left of a scatter without the noise; 0 if the noise is larger."""
    return float(np.sqrt(max(scatter**2 - noise**2, 0.0))) if scatter == scatter else _NAN


def _excess(values: npt.NDArray[np.floating], errors: npt.NDArray[np.floating]) -> float:
    """Return the weighted rms of values beyond their errors; NaN for fewer than four values."""
    known = np.isfinite(values) & np.isfinite(errors) & (errors > 0)
    if known.sum() < 4:
        return _NAN
    value, weight = values[known], 1.0 / np.square(errors[known])
    mean = np.sum(weight * value) / weight.sum()
    square = np.sum(weight * np.square(value - mean)) / weight.sum()
    # the mean took one degree of freedom; the noise's own mean square is n / sum of weights
    return float(np.sqrt(max(square - (known.sum() - 1) / weight.sum(), 0.0)))

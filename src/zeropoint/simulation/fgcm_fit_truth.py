"""How well a fit recovers what is true of a simulated survey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from zeropoint.datamodel.wcs import unit_vectors
from zeropoint.fgcm.fit.exposure_derivatives import atmosphere_derivatives
from zeropoint.fgcm.magnitudes import MAG_PER_LN
from zeropoint.simulation.fgcm_survey import FgcmSurvey
from zeropoint.simulation.fgcm_truth import true_zeropoints

if TYPE_CHECKING:
    from zeropoint.fgcm.cycle_result import CycleResult
    from zeropoint.fgcm.fit import FitResult
    from zeropoint.fgcm.model.exposures import FitExposures

__all__ = [
    "ParameterRecovery",
    "SelectionRecovery",
    "StarRecovery",
    "ZeropointRecovery",
    "compare_atmosphere",
    "compare_selection",
    "compare_stars",
    "compare_zeropoints",
]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Clouds that must be found, mag.
_CLOUD = 0.03
#: Errors of bright observations and of the means of bright stars, mag.
_BRIGHT, _BRIGHT_MEAN = 0.006, 0.003
#: Half of a normal distribution is nearer to the middle than this part of sigma.
_MEDIAN_DEVIATION = 0.6745
#: Fewest bright stars of a cell of the sky.
_LEAST_STARS = 3


@dataclass(frozen=True)
class ParameterRecovery:
    """A parameter of the atmosphere at the times of exposures, against the truth.

    Parameters
    ----------
    rms, mean, scatter
        Of fitted minus true: root of the mean square, mean over the survey, and scatter about it.
    mean_sigma, scatter_sigma
        What the posterior says of the last two.
    pull
        Root of the mean square of deviations from the mean over their predicted errors.
    pull_total
        The same with the mean left in.
    """

    rms: float
    mean: float
    scatter: float
    mean_sigma: float
    scatter_sigma: float
    pull: float
    pull_total: float


@dataclass(frozen=True)
class ZeropointRecovery:
    """Zeropoints of a band at the median color, one constant removed; mag.

    Parameters
    ----------
    rms, predicted
        Of fitted minus true, and root of the mean of predicted variances.
    n
        Zeropoints.
    """

    rms: float
    predicted: float
    n: int


@dataclass(frozen=True)
class SelectionRecovery:
    """Which exposures a fit took for photometric.

    Parameters
    ----------
    n_cloudy, n_rejected
        Exposures under clouds of more than 30 mmag, and those of them that were rejected.
    n_clear, n_kept
        Exposures without clouds, and those of them that were kept.
    wrong
        Visits that were decided wrongly.
    """

    n_cloudy: int
    n_rejected: int
    n_clear: int
    n_kept: int
    wrong: tuple[int, ...]


@dataclass(frozen=True)
class StarRecovery:
    """Standard magnitudes of stars, by band.

    Parameters
    ----------
    color_slope
        Of fitted minus true magnitudes of bright stars, mag per mag of the color between first and third band.
    uniformity
        Root of the mean square over cells of the sky (nside 128) of their mean, one constant removed, mag.
    repeatability
        Scatter of bright observations of reserve stars, gray applied, over what their errors say.
    """

    color_slope: FloatArray
    uniformity: FloatArray
    repeatability: FloatArray


def compare_atmosphere(
    survey: FgcmSurvey, exposures: FitExposures, fit: FitResult, chosen: BoolArray
) -> dict[str, ParameterRecovery]:
    """Compare the atmosphere of exposures with the true one.

    Parameters
    ----------
    survey
        Truth.
    exposures
        Of the fit.
    fit
        Its result, with a posterior.
    chosen : bool, shape (n_exp,)
        Exposures that count.

    Returns
    -------
    recovery
        ``ln_pwv``, ``ln_tau``, ``alpha``, ``o3``.
    """
    assert fit.posterior is not None
    v, p, night = survey.visits, fit.parameters, exposures.night
    both = {
        "ln_pwv": (p.ln_pwv(exposures), np.log(v["pwv"])),
        "ln_tau": (p.ln_tau(exposures), np.log(v["tau"])),
        "alpha": (p.alpha[night], v["alpha"]),
        "o3": (p.o3[night], v["ozone"]),
    }
    rows = np.flatnonzero(chosen)
    derivatives = atmosphere_derivatives(fit.posterior.model, p, fit.posterior.layout)
    out = {}
    for name, (found, true) in both.items():
        error = (found - np.asarray(true))[rows]
        roots = np.asarray(derivatives[name][rows] @ fit.posterior.root[: derivatives[name].shape[1]])
        shared = roots.mean(axis=0)
        total, relative = (np.sqrt(np.sum(each**2, axis=1)) for each in (roots, roots - shared))
        out[name] = ParameterRecovery(
            rms=_rms(error),
            mean=float(error.mean()),
            scatter=float(error.std()),
            mean_sigma=float(np.sqrt(shared @ shared)),
            scatter_sigma=_rms(relative),
            pull=_rms((error - error.mean()) / relative),
            pull_total=_rms(error / total),
        )
    return out


def compare_zeropoints(
    survey: FgcmSurvey, result: CycleResult, chosen: BoolArray
) -> dict[str, ZeropointRecovery]:
    """Compare zeropoints with the true ones at the median color of the stars.

    Parameters
    ----------
    survey
        Truth.
    result
        Of a cycle, with zeropoints and data.
    chosen : bool, shape (n_exp,)
        Exposures that count.

    Returns
    -------
    recovery
        By band.
    """
    assert result.zeropoints is not None
    assert result.data is not None
    star = true_stars(survey, result)
    spectra = np.asarray(survey.stars["spectrum"])[star]
    typical = _median_spectrum(survey, spectra)
    e, table = result.data.exposures, result.zeropoints
    row = np.searchsorted(e.visit, np.asarray(table["visit"]))
    detector = np.searchsorted(np.array(e.detectors), np.asarray(table["detector"]))
    truth = np.asarray(true_zeropoints(survey, typical)["zeropoint"]).reshape(len(e), e.n_det)[row, detector]
    slopes = np.median(result.stars.slope[spectra == typical], axis=0)
    band = e.band[row]
    std = _i10_std(result)
    color = np.log((1.0 + slopes[band] * np.asarray(table["fgcmI10"])) / (1.0 + (slopes * std)[band]))
    error = np.asarray(table["fgcmZpt"]) + MAG_PER_LN * color - truth
    sigma = np.asarray(table["fgcmZptErr"])
    out = {}
    for b, name in enumerate(e.bands):
        good = (band == b) & chosen[row] & np.isfinite(error) & np.isfinite(sigma)
        own = error[good] - error[good].mean()
        out[name] = ZeropointRecovery(_rms(own), _rms(sigma[good]), int(good.sum()))
    return out


def compare_selection(
    survey: FgcmSurvey, exposures: FitExposures, photometric: BoolArray
) -> SelectionRecovery:
    """Compare the choice of photometric exposures with the clouds that there were.

    Parameters
    ----------
    survey
        Truth.
    exposures
        Of the fit.
    photometric : bool, shape (n_exp,)
        What the fit decided.
    """
    clear = np.asarray(survey.visits["photometric"])
    cloudy = ~clear & (np.asarray(survey.visits["cloud"]) > _CLOUD)
    wrong = (cloudy & photometric) | (clear & ~photometric)
    return SelectionRecovery(
        n_cloudy=int(cloudy.sum()),
        n_rejected=int((cloudy & ~photometric).sum()),
        n_clear=int(clear.sum()),
        n_kept=int((clear & photometric).sum()),
        wrong=tuple(int(visit) for visit in exposures.visit[wrong]),
    )


def compare_stars(survey: FgcmSurvey, result: CycleResult) -> StarRecovery:
    """Compare the standard magnitudes of bright stars with the true ones.

    Parameters
    ----------
    survey
        Truth.
    result
        Of the last cycle of a run, with data and observations.
    """
    import hpgeom

    assert result.data is not None
    star, stars = true_stars(survey, result), result.stars
    pure = _unblended(survey)[star]
    magnitude = stars.magnitude if stars.final_magnitude is None else stars.final_magnitude
    error = stars.magnitude_err if stars.final_magnitude_err is None else stars.final_magnitude_err
    bands = survey.settings.bands
    true = np.stack([np.asarray(survey.stars[f"mag_{band}"])[star] for band in bands], axis=1)
    color = true[:, 0] - true[:, min(2, len(bands) - 1)]
    pixel = hpgeom.angle_to_pixel(128, result.data.stars.ra, result.data.stars.dec)
    slope, uniformity = np.full((2, len(bands)), np.nan)
    for b in range(len(bands)):
        good = pure & np.isfinite(magnitude[:, b]) & (error[:, b] < _BRIGHT_MEAN)
        difference = magnitude[good, b].astype(float) - true[good, b]
        slope[b] = np.polyfit(color[good], difference, 1)[0]
        _, cell, count = np.unique(pixel[good], return_inverse=True, return_counts=True)
        means = np.bincount(cell, difference) / count
        means = means[count >= _LEAST_STARS]
        uniformity[b] = _rms(means - means.mean())
    return StarRecovery(slope, uniformity, _repeatability(result, pure))


def true_stars(survey: FgcmSurvey, result: CycleResult) -> npt.NDArray[np.int64]:
    """Return the row of the true star of each star of a result, shape (n_star,).

    Parameters
    ----------
    survey
        Truth.
    result
        With data.
    """
    assert result.data is not None
    tree = cKDTree(unit_vectors(np.asarray(survey.stars["ra"]), np.asarray(survey.stars["dec"])))
    found = unit_vectors(np.deg2rad(result.data.stars.ra), np.deg2rad(result.data.stars.dec))
    return np.asarray(tree.query(found)[1], np.int64)


def _repeatability(result: CycleResult, pure: BoolArray) -> FloatArray:
    """Return the scatter of bright reserve stars over that expected; a star's mean follows its observations."""
    assert result.data is not None
    assert result.observations is not None
    o, facts = result.data.observations, result.observations
    mean_err = result.stars.magnitude_err[o.star, o.band]
    variance = facts.error.astype(float) ** 2 - mean_err.astype(float) ** 2
    residual = facts.residual - facts.gray
    good = facts.reserve & pure[o.star] & (facts.error < _BRIGHT) & np.isfinite(residual) & (variance > 0)
    return np.array(
        [
            np.median(np.abs(residual[of]) / np.sqrt(variance[of])) / _MEDIAN_DEVIATION
            for of in (good & (o.band == b) for b in range(o.n_band))
        ]
    )


def _median_spectrum(survey: FgcmSurvey, spectra: npt.NDArray[np.integer]) -> int:
    """Return the spectrum of the star in the middle by color."""
    color = survey.colors[0] - survey.colors[min(2, len(survey.colors) - 1)]
    order = np.argsort(color[spectra], kind="stable")
    return int(spectra[order[len(order) // 2]])


def _unblended(survey: FgcmSurvey) -> BoolArray:
    """Return the stars that have no companion and are stars."""
    single = ~np.asarray(survey.stars["galaxy"]).copy()
    single[survey.pairs.ravel()] = False
    return single


def _i10_std(result: CycleResult) -> FloatArray:
    """Return I10 of the standard passbands, shape (n_band,)."""
    assert result.fit is not None
    assert result.fit.posterior is not None
    return result.fit.posterior.model.band_i10_std


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))

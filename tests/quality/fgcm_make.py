"""A finished global calibration made of numbers: stars of constant brightness, known zeropoints, planted patterns."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from astropy.table import Table

from zeropoint.fgcm.accounting import Accounting
from zeropoint.fgcm.facts.cycle_facts import ExposureFacts, cycle_facts
from zeropoint.fgcm.model.observations import FitObservations, FitStars
from zeropoint.quality.fgcm.report_data import FgcmReportData

BANDS = ("g", "r", "i")
SIZE = (200, 200)
N_STAR, N_EXP, N_DET = 250, 36, 2
NOISE = 0.004
#: Visits that clouds dim.
CLOUDY = 3
BEFORE = 0.05
#: What magnitudes lack before the fit.
THROUGHPUT = 1.5


def survey(seed=4, bands=BANDS, references=True, pattern=0.0):
    """Return data, standard magnitudes before and after the fit, means and their errors; ``pattern`` mag left to right."""
    rng = np.random.default_rng(seed)
    n_band = len(bands)
    band = np.arange(N_EXP) % n_band
    star, exposure = (
        each.ravel() for each in np.meshgrid(np.arange(N_STAR), np.arange(N_EXP), indexing="ij")
    )
    order = np.lexsort((exposure, star * n_band + band[exposure]))
    star, exposure = star[order], exposure[order]
    segment = star * n_band + band[exposure]
    n = len(star)
    x, y = rng.uniform(-0.5, SIZE[0] - 0.5, (2, n)).astype(np.float32)
    detector = rng.integers(0, N_DET, n)
    true = np.sort(rng.uniform(14.0, 17.0, N_STAR))[:, None] + rng.normal(0.0, 0.4, (N_STAR, n_band))
    noise = rng.normal(0.0, NOISE, n) + pattern * (x / SIZE[0] - 0.5)
    model = true.ravel()[segment] + noise
    shift = THROUGHPUT + rng.normal(0.0, BEFORE, N_EXP)[exposure]
    f4 = np.float32
    observations = FitObservations(
        np.concatenate([[0], np.cumsum(np.bincount(segment, minlength=N_STAR * n_band))]),
        (exposure * N_DET + detector).astype(np.int32), np.ones(n, f4), np.zeros(n, f4), model.astype(f4),
        np.full(n, NOISE, f4), x, y, np.zeros(n, f4), np.zeros(n, np.uint16), N_DET, n_band, N_STAR,
    )  # fmt: skip
    ref = np.full((N_STAR, n_band), np.nan, f4)
    if references:
        ref[::3] = true[::3] + rng.normal(0.0, 0.01, ref[::3].shape) - 0.005
    flag = np.where(np.arange(N_STAR) % 5 == 0, 16, 0).astype(np.int32)
    stars = FitStars(
        np.arange(N_STAR), np.full(N_STAR, -1), 150.0 + rng.uniform(0, 1, N_STAR), rng.uniform(-1, 0, N_STAR), ref,
        np.where(np.isfinite(ref), 0.01, np.nan).astype(f4), flag, np.zeros((N_STAR, n_band), np.int32),
    )  # fmt: skip
    exposures = SimpleNamespace(
        visit=1000 + np.arange(N_EXP), band=band, night=np.arange(N_EXP) // 6, mjd=60000.0 + np.arange(N_EXP) / 6.0,
        airmass=np.linspace(1.0, 1.8, N_EXP), ra=np.full(N_EXP, np.nan), dec=np.full(N_EXP, np.nan),
        rotation=np.full(N_EXP, np.nan), bands=bands, detectors=tuple(range(N_DET)),
        physical_filters=tuple(f"{name}_1" for name in bands),
    )  # fmt: skip
    data = SimpleNamespace(exposures=exposures, observations=observations, stars=stars)
    count = N_EXP / n_band
    return (
        data,
        (model + shift).astype(f4),
        model.astype(f4),
        true,
        np.full(true.shape, NOISE / np.sqrt(count)),
    )


def facts(fitted_atmosphere=True, joint_gray=False, **options):
    """Return the facts of a cycle."""
    data, before, model, mean, mean_err = survey(**options)
    photometric = np.arange(N_EXP) >= CLOUDY
    gray = np.where(photometric, 0.001, -0.2)
    values = {
        name: np.full(N_EXP, v) for name, v in {"pwv": 3.0, "o3": 263.0, "tau": 0.03, "alpha": 1.0}.items()
    }
    errors = {
        f"{name}_err": np.full(N_EXP, 0.02 if fitted_atmosphere else np.nan)
        for name in ("ln_pwv", "o3", "ln_tau", "alpha")
    }
    exposures = ExposureFacts(
        photometric, np.where(photometric, 0, 2), gray, np.full(N_EXP, 5e-4), np.full(N_EXP, 1e-3), np.full(N_EXP, N_STAR),
        **values, **errors,
    )  # fmt: skip
    reserved = (data.stars.flag[data.observations.star] & 16) != 0
    used = photometric[data.observations.exposure]
    stages = {"nominal": before, "model": model, "zeropoints": model}
    return cycle_facts(
        data, exposures, stages, mean, mean_err, good=used & ~reserved, reserve=used & reserved,
        error=data.observations.err, detector_size=SIZE, color_bands=("g", "i"), map_nside=256,
        joint_gray=joint_gray,
    )  # fmt: skip


def report_data(failure=None, **options):
    """Return a report's data."""
    found = facts(**options)
    n_band = len(found.bands)
    visit = np.repeat(found.visit, N_DET)
    zeropoints = Table(
        {
            "visit": visit,
            "fgcmFlag": np.where(np.repeat(found.exposures.photometric, N_DET), 1, 16),
            "fgcmZpt": np.full(len(visit), 28.0),
            "fgcmZptErr": np.full(len(visit), 0.0011),
            "exptime": np.full(len(visit), 30.0),
        }
    )
    accounting = Accounting()
    accounting.add("fit_visits", read=36, kept=35, rejected={"no_band": 1})
    superstar = np.random.default_rng(1).normal(0.0, 0.006, (1, n_band, N_DET))
    shape = np.zeros((1, n_band, N_DET, 2, 2))
    shape[..., 0, 0] = 1.0
    cut = np.full(n_band, -0.01)
    state = SimpleNamespace(
        night_numbers=np.arange(6), bands=found.bands, band=SimpleNamespace(gray_cut=cut, gray_high_cut=-cut),
        instrument=SimpleNamespace(superstar_shape=shape),
    )  # fmt: skip
    result = SimpleNamespace(
        facts=found, state=state, zeropoints=zeropoints, accounting=accounting, parameters=SimpleNamespace(superstar=superstar),
        cycle=2, history=tuple({"chi2": 1000.0 + 10.0 ** (2 - k), "largest": 10.0 ** (1 - k)} for k in range(5)),
    )  # fmt: skip
    bands = {b: {"repeatability_after": 0.004, "n_photometric": 11, "n_exposures": 12} for b in found.bands}
    history = tuple(
        {
            "chi2_dof_measured": 3.0 / (k + 1),
            "iterations": 5,
            "converged": True,
            "at_bounds": ["alpha[2]"],
            "bands": bands,
        }
        for k in range(3)
    )
    return FgcmReportData(
        "made", result, history, notes=("minStarPerExp = 30: a typical exposure has 100 stars",),
        config_changes=(("minStarPerExp", 30, 600),), versions={"numpy": "2.1"}, failure=failure,
        stages=(("cycle 0", 1.0, 1.1, {}),), standard={"pwv": 3.0, "tau": 0.03, "alpha": 1.0, "o3": 263.0},
    )  # fmt: skip

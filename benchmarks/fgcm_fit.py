"""The global fit against the truth of simulated surveys: atmosphere, zeropoints, clouds, stars, and ways to solve.

Five seeds of the survey of 240 visits go through the recipe's three cycles (``--seeds``), with the washes of the mirror told
and nothing else of the truth; the wide survey is for uniformity.  On the first seed's result two starts 0.5 apart in ln PWV
and ln tau, L-BFGS-B and the joint gray are compared.  Prints tables and exits with 1 if a requirement is missed.  Spectra and
atmospheres are read from ``ZEROPOINT_TESTDATA``, else ``../shared/data``.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import numpy as np
from fgcm_speed import cycle_config
from real_data import DATA

from zeropoint.fgcm.cycle_result import CycleResult
from zeropoint.fgcm.fit import FitResult, FitSettings, fit
from zeropoint.fgcm.fit.exposure_derivatives import atmosphere_derivatives
from zeropoint.fgcm.model.layout import LayoutSettings, ParameterLayout
from zeropoint.recipes.fgcm_cycle import CycleInputs, FgcmCycle
from zeropoint.simulation.fgcm_fit_truth import (
    compare_atmosphere,
    compare_selection,
    compare_stars,
    compare_zeropoints,
)
from zeropoint.simulation.fgcm_settings import FgcmSurveySettings, wide_survey
from zeropoint.simulation.fgcm_star_list import star_list, survey_passbands
from zeropoint.simulation.fgcm_survey import FgcmSurvey, simulate_fgcm_survey

type Rows = list[tuple[str, str, bool]]

#: First night of simulated surveys, MJD.
FIRST_NIGHT = 59972.0
LIMIT_LN_TAU, LIMIT_LN_PWV, LIMIT_MEAN_SIGMA = 0.04, 0.03, 3.0
LIMIT_PULL, LIMIT_CHI2 = (0.8, 1.2), 0.02
LIMIT_ZEROPOINT, LIMIT_RATIO, LIMIT_SHARE = 1.0e-3, 1.3, 0.97
LIMIT_REPEATABILITY, LIMIT_COLOR, LIMIT_UNIFORMITY, LIMIT_STARTS = 0.05, 2.0e-3, 2.0e-3, 0.1


def calibrate(
    settings: FgcmSurveySettings, *, references: bool = True
) -> tuple[FgcmSurvey, CycleResult, float]:
    """Simulate a survey, run three cycles on its star list, and return truth, last result and CPU seconds of the cycles."""
    survey = simulate_fgcm_survey(settings, DATA)
    made = star_list(survey)
    config = cycle_config(small=False)
    config.washMjds = [FIRST_NIGHT - settings.site.ut_boundary + days for days in settings.wash_days]
    config.doReferenceCalibration = references
    inputs = CycleInputs(
        made.visits, made.observations, made.ids, made.indices, made.references if references else None
    )
    start = time.process_time()
    results = FgcmCycle(config).run(inputs, survey_passbands(survey), threads=2)
    return survey, results[-1], time.process_time() - start


def photometric(result: CycleResult) -> Any:
    """Return which exposures the code took for photometric."""
    return result.state.exposures.flag == 0


def judge_seeds(seeds: list[int], rows: Rows) -> tuple[FgcmSurvey, CycleResult]:
    """Recover several surveys; return the first."""
    atmospheres, zeropoints, selections, stars, chi2 = [], [], [], [], []
    first = None
    for seed in seeds:
        survey, result, cpu = calibrate(FgcmSurveySettings(seed=seed))
        chosen = photometric(result)
        exposures = result.data.exposures
        atmospheres.append(compare_atmosphere(survey, exposures, result.fit, chosen))
        zeropoints.append(compare_zeropoints(survey, result, chosen))
        selections.append(compare_selection(survey, exposures, chosen))
        stars.append(compare_stars(survey, result))
        chi2.append(result.metrics["chi2_dof_measured"] or result.metrics["chi2_dof"])
        first = first or (survey, result)
        print(f"seed {seed}: {cpu:.1f} CPU s, chi2/dof {chi2[-1]:.4f}, {selections[-1]}")
        for name, each in atmospheres[-1].items():
            print(
                f"  {name:7s} rms {each.rms:.4f}, mean {each.mean:+.4f} (sigma {each.mean_sigma:.4f}), scatter "
                f"{each.scatter:.4f} (sigma {each.scatter_sigma:.4f}), pull {each.pull:.2f}, with the mean {each.pull_total:.2f}"
            )
        for band, each in zeropoints[-1].items():
            print(
                f"  {band} zeropoints {1e3 * each.rms:.2f} mmag (predicted {1e3 * each.predicted:.2f}), {each.n}"
            )
        star = stars[-1]
        print(f"  color slope {np.round(1e3 * star.color_slope, 2)} mmag/mag, repeatability/noise "
              f"{np.round(star.repeatability, 3)}, uniformity {np.round(1e3 * star.uniformity, 2)} mmag")  # fmt: skip

    def pooled(name: str, field: str) -> float:
        return float(np.sqrt(np.mean([getattr(each[name], field) ** 2 for each in atmospheres])))

    value = pooled("ln_tau", "rms")
    rows.append(("ln tau, rms", f"{value:.4f} (limit {LIMIT_LN_TAU})", value <= LIMIT_LN_TAU))
    value = pooled("ln_pwv", "scatter")
    rows.append(
        ("ln PWV about the survey mean, rms", f"{value:.4f} (limit {LIMIT_LN_PWV})", value <= LIMIT_LN_PWV)
    )
    value = max(abs(each["ln_pwv"].mean) / each["ln_pwv"].mean_sigma for each in atmospheres)
    rows.append(("ln PWV, survey mean, worst sigma", f"{value:.2f} (limit 3)", value <= LIMIT_MEAN_SIGMA))
    for name in ("ln_pwv", "ln_tau", "alpha", "o3"):
        value, total = pooled(name, "pull"), pooled(name, "pull_total")
        is_good = LIMIT_PULL[0] <= value <= LIMIT_PULL[1]
        rows.append((f"pull of {name}", f"{value:.2f} (0.8-1.2; with the mean {total:.2f})", is_good))
    judge_products(zeropoints, selections, stars, chi2, rows)
    assert first is not None
    return first


def judge_products(zeropoints: Any, selections: Any, stars: Any, chi2: Any, rows: Rows) -> None:
    """Judge zeropoints, exposures and stars of all seeds."""
    for band in zeropoints[0]:
        rms, sigma = (
            float(np.sqrt(np.mean([getattr(each[band], field) ** 2 for each in zeropoints])))
            for field in ("rms", "predicted")
        )
        is_good = rms <= LIMIT_ZEROPOINT and rms <= LIMIT_RATIO * sigma
        rows.append(
            (
                f"zeropoints in {band}",
                f"{1e3 * rms:.2f} mmag, {rms / sigma:.2f} x predicted (1.0, 1.3)",
                is_good,
            )
        )
    for what, part, whole in (
        ("clouds > 30 mmag rejected", "n_rejected", "n_cloudy"),
        ("clear kept", "n_kept", "n_clear"),
    ):
        n, total = (sum(getattr(each, field) for each in selections) for field in (part, whole))
        rows.append((f"exposures, {what}", f"{n} of {total}", n >= LIMIT_SHARE * total))
    worst = max(abs(value - 1.0) for value in chi2)
    rows.append(("chi2/dof, worst distance from 1", f"{worst:.4f} (limit {LIMIT_CHI2})", worst <= LIMIT_CHI2))
    worst = max(float(np.abs(each.repeatability - 1.0).max()) for each in stars)
    mean = float(np.mean([each.repeatability for each in stars]))
    rows.append(
        (
            "reserve stars, repeatability/noise",
            f"mean {mean:.3f}, worst off by {worst:.3f}",
            abs(mean - 1.0) <= LIMIT_REPEATABILITY,
        )
    )
    worst = max(float(np.abs(each.color_slope).max()) for each in stars)
    rows.append(("slope with color, worst", f"{1e3 * worst:.2f} mmag/mag (limit 2)", worst <= LIMIT_COLOR))


def solve_again(result: CycleResult, start: Any, settings: FitSettings, *, gray: bool = False) -> FitResult:
    """Fit the data of a result again: its exposures, or all with their gray free, from another start."""
    posterior = result.fit.posterior
    model, observations = posterior.model, posterior.observations
    weight, used = result.fit.weight, photometric(result)
    if gray:
        good = (np.asarray(observations.flag) == 0) & (result.stars.n_good > 0)[
            observations.star, observations.band
        ]
        weight = np.where(good, 1.0 / np.square(observations.err), 0.0).astype(np.float32)
        used = np.ones(len(used), bool)
    layout = ParameterLayout.build(
        model.exposures, used, start, model.passbands.ranges, model.passbands.standard, model.passbands.std_physical_filters,
        LayoutSettings(airmass_residual=True, water_residual=True, exposure_gray=gray),
    )  # fmt: skip
    return fit(model, observations, weight, result.stars.slope.ravel(), None, start, layout, settings)


def judge_solvers(survey: FgcmSurvey, result: CycleResult, rows: Rows) -> None:
    """Compare starts, optimisers and the joint gray on one survey."""
    exposures, chosen = result.data.exposures, photometric(result)
    at = result.parameters
    starts = [
        at.replace(ln_pwv_intercept=at.ln_pwv_intercept + d, ln_tau_intercept=at.ln_tau_intercept - d)
        for d in (-0.25, 0.25)
    ]
    one, two = (solve_again(result, start, FitSettings(max_iterations=40)) for start in starts)
    rows_of = atmosphere_derivatives(one.posterior.model, one.parameters, one.posterior.layout)
    n = one.posterior.layout.n_free
    worst = 0.0
    for each in rows_of.values():
        difference, sigma = np.abs(each @ (one.vector - two.vector)[:n]), one.posterior.linear_sigmas(each)
        worst = max(worst, float(np.max((difference / np.where(sigma > 0, sigma, 1.0))[chosen])))
    rows.append(("two starts, worst difference", f"{worst:.3f} sigma (limit 0.1)", worst <= LIMIT_STARTS))
    print(
        f"Gauss-Newton from 0.25 off: {one.evaluations} and {two.evaluations} evaluations, chi2 {one.chi2:.1f} and {two.chi2:.1f}"
    )
    start = time.process_time()
    slow = solve_again(result, starts[0], FitSettings(optimizer="lbfgsb", max_iterations=300))
    off = (slow.vector - one.vector)[:n] / np.where(
        one.posterior.sigmas[:n] > 0, one.posterior.sigmas[:n], 1.0
    )
    print(
        f"L-BFGS-B: {slow.evaluations} evaluations, {time.process_time() - start:.1f} CPU s, chi2 + priors higher by "
        f"{slow.chi2 + slow.prior_chi2 - one.chi2 - one.prior_chi2:.2f}, parameters off by {np.sqrt(np.mean(off**2)):.2f} sigma rms"
    )
    gray = at.replace(exposure_gray=np.nan_to_num(result.exposure_gray.gray))
    joint = solve_again(
        result, gray, FitSettings(joint_gray=True, gray_sigma=3e-4, max_iterations=40), gray=True
    )
    for title, each in (("classic", one), ("joint gray", joint)):
        found = compare_atmosphere(survey, exposures, each, chosen)
        print(f"{title}: " + "; ".join(
            f"{name} rms {f.rms:.4f}, scatter {f.scatter:.4f}, pull {f.pull:.2f}" for name, f in found.items()
        ))  # fmt: skip
    cloudy = ~np.asarray(survey.visits["photometric"])
    error = (joint.parameters.exposure_gray + np.asarray(survey.visits["cloud"]))[cloudy]
    classic = (result.exposure_gray.gray + np.asarray(survey.visits["cloud"]))[cloudy]
    print(f"clouds of {cloudy.sum()} visits: joint {1e3 * np.std(error):.2f} mmag, classic {1e3 * np.nanstd(classic):.2f} mmag "
          "from the cloud at the boresight")  # fmt: skip


def main() -> int:
    """Run all, print what was found; 1 if something is not as good as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--no-wide", action="store_true", help="leave the wide survey out")
    options = parser.parse_args()
    rows: Rows = []
    survey, result = judge_seeds(options.seeds, rows)
    judge_solvers(survey, result, rows)
    if not options.no_wide:
        settings = wide_survey(seed=options.seeds[0])
        survey, result, cpu = calibrate(replace(settings), references=False)
        found = compare_stars(survey, result)
        worst = float(found.uniformity.max())
        print(
            f"wide survey: {cpu:.1f} CPU s, {compare_selection(survey, result.data.exposures, photometric(result))}"
        )
        told = f"{np.round(1e3 * found.uniformity, 2)} mmag (limit 2)"
        rows.append(("wide survey, uniformity without references", told, worst <= LIMIT_UNIFORMITY))
    for title, value, is_good in rows:
        print(f"{'ok  ' if is_good else 'MISS'} {title}: {value}")
    return 0 if all(is_good for *_, is_good in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""Match simulated surveys into unique stars: CPU time, memory, and stars lost, blended or assigned wrongly against truth.

The survey of 240 visits with both matchers, a wide one, and one of ten million observations (``--large SIDE`` for SIDE**2 neighboring
surveys; 0: none).  Exits with 1 if the matching of 1.13 million observations takes more than 3 CPU seconds, time or memory grow
faster than the observations by more than a quarter, a shuffled table gives other stars, or an isolated star is lost or wrong.
The measured physics of the simulation is read from ``ZEROPOINT_TESTDATA``, else ``../shared/data``; matching does not
depend on it, so that ``--physics simple`` will do.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from real_data import DATA

from zeropoint.fgcm.match_config import StarMatchingConfig
from zeropoint.fgcm.stars import UniqueStars, match_stars
from zeropoint.simulation.fgcm_settings import FgcmSurveySettings, large_survey, small_survey, wide_survey
from zeropoint.simulation.fgcm_survey import FgcmSurvey, simulate_fgcm_survey
from zeropoint.simulation.fgcm_truth import compare_star_list

PRIMARY, REQUIRED = ["i", "r", "g", "z"], ["g", "r", "i"]
#: CPU seconds for the matching of the survey of 1.13 million observations.
LIMIT_CPU_S = 3.0
#: How much more than in proportion time and memory may grow.
MOST_GROWTH = 1.25
#: Share of isolated stars that may be lost, and of observations that may be another star's; those of a star's own
#: unresolved companion, seen in its place in some visits, are counted apart.
MOST_LOST, MOST_WRONG = 2e-3, 1e-4
KINDS = {"small": small_survey, "survey": FgcmSurveySettings, "wide": wide_survey}


def resident_bytes() -> int:
    """Return the resident memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def configuration(matcher: str) -> StarMatchingConfig:
    """Return the configuration of the matching."""
    config = StarMatchingConfig()
    config.primaryBands, config.requiredBands, config.matcher = PRIMARY, REQUIRED, matcher
    config.densityCutMaxPerPixel = 1_000_000  # stars that are cut on purpose are not lost
    return config


def match(survey: FgcmSurvey, table: Any, matcher: str, order: Any = slice(None)) -> UniqueStars:
    """Match the observations of a survey, in some order of the rows."""
    bands = list(survey.settings.bands)
    row = np.searchsorted(np.asarray(survey.visits["visit"]), np.asarray(table["visit"]))
    columns = [np.asarray(table["ra"]), np.asarray(table["dec"]), np.asarray(survey.visits["band"])[row].astype(np.int16),
               np.asarray(table["visit"])]  # fmt: skip
    columns = [values[order] for values in columns]
    gc.collect()
    MEASURED["before"], start = resident_bytes(), time.process_time()
    stars = match_stars(*columns, bands=bands, config=configuration(matcher))
    MEASURED["cpu_s"] = time.process_time() - start
    return stars


MEASURED: dict[str, float] = {}


def measure(kind: str, matcher: str, physics: str) -> dict[str, Any]:
    """Simulate one survey, match it, and compare; in a process of its own, so that the peak of memory is this one's."""
    settings = KINDS[kind]() if kind in KINDS else large_survey(int(kind))
    warm = simulate_fgcm_survey(small_survey())
    match(warm, warm.observations(), matcher)  # loads the compiled kernels
    survey = simulate_fgcm_survey(replace(settings, physics=physics), DATA)
    table = survey.observations()
    n = len(table)
    stars = match(survey, table, matcher)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - MEASURED["before"]
    figures: dict[str, Any] = {
        "survey": kind,
        "matcher": matcher,
        "observations": n,
        "cpu_s": round(MEASURED["cpu_s"], 2),
        "observations_per_s": round(n / MEASURED["cpu_s"]),
        "bytes_per_observation": round(peak / n),
        "accounting": stars.accounting.lines(),
        **asdict(
            compare_star_list(
                survey, table, stars.ids, stars.indices, primary_bands=PRIMARY, required_bands=REQUIRED
            )
        ),
    }
    if matcher == "components" and kind in KINDS:
        order = np.random.default_rng(0).permutation(n)
        shuffled = match(survey, table, matcher, order)
        figures["shuffled_cpu_s"] = round(MEASURED["cpu_s"], 2)
        figures["shuffled_is_same"] = bool(
            all(np.array_equal(stars.ids[name], shuffled.ids[name]) for name in stars.ids.colnames)
            and np.array_equal(order[shuffled.indices["obsIndex"]], stars.indices["obsIndex"])
        )
    return figures


def misses(results: list[dict[str, Any]]) -> list[str]:
    """Return what is not as good as it should be."""
    ours = [figures for figures in results if figures["matcher"] == "components"]
    found = []
    for figures in ours:
        name = figures["survey"]
        if name == "survey" and figures["cpu_s"] > LIMIT_CPU_S:
            found.append(f"{name}: {figures['cpu_s']} CPU s")
        if not figures.get("shuffled_is_same", True):
            found.append(f"{name}: other stars from a shuffled table")
        if figures["n_lost"] > MOST_LOST * figures["n_expected"] or figures["n_split"]:
            found.append(f"{name}: {figures['n_lost']} stars lost, {figures['n_split']} split")
        if figures["n_wrong"] > MOST_WRONG * figures["n_assigned"]:
            found.append(f"{name}: {figures['n_wrong']} observations of other stars")
    large = [figures for figures in ours if figures["survey"].isdigit()]
    base = next(figures for figures in ours if figures["survey"] == "survey")
    for figures in large:
        growth = figures["cpu_s"] / base["cpu_s"] * base["observations"] / figures["observations"]
        if growth > MOST_GROWTH:
            found.append(
                f"{figures['observations']} observations: time grows {growth:.2f} times as fast as they do"
            )
        if figures["bytes_per_observation"] > MOST_GROWTH * base["bytes_per_observation"]:
            found.append(
                f"{figures['observations']} observations: {figures['bytes_per_observation']} bytes each"
            )
    return found


def main() -> int:
    """Measure everything and print it; 1 if something is not as good as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--physics", default="measured", choices=["measured", "simple"])
    parser.add_argument("--large", type=int, default=2, help="side of the largest survey; 0: none")
    parser.add_argument(
        "--one", nargs=2, help=argparse.SUPPRESS
    )  # kind and matcher: what a process of its own does
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one, arguments.physics)))
        return 0
    wanted = [("survey", "components"), ("survey", "fgcm"), ("wide", "components")]
    wanted += [(str(arguments.large), "components")] if arguments.large else []
    results = []
    for kind, matcher in wanted:
        command = [sys.executable, __file__, "--physics", arguments.physics, "--one", kind, matcher]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results.append(json.loads(done.stdout))
        print(json.dumps(results[-1], indent=2), flush=True)
    found = misses(results)
    print("\n".join(found) if found else "all as it should be")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

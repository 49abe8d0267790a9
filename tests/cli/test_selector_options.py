"""Selectors and their limits on the command line: what cannot work is one sentence that names the field."""

from __future__ import annotations

from typing import Any

import pytest

from zeropoint.butler.execution.graph import ConfigOverride, RunRequest, load_pipeline
from zeropoint.cli.run import find_pipeline
from zeropoint.errors import OptionError

SELECTORS = "astrometry, diaCatalog, flagged, matcher, null, objectSize, references, science"
CASES = {
    "unknown": (["star_selector=scienze"], 2, ["star_selector", SELECTORS, "Did you mean 'science'"]),
    "unknown by name": (
        ["psf_measure_psf.starSelector.name=nope"],
        2,
        ["psf_measure_psf.starSelector", SELECTORS],
    ),
    "unknown entry": (['star_selector["nope"].minSnr=1'], 2, ["no entry 'nope' in star_selector", SELECTORS]),
    "unknown determiner": (
        ["psf_measure_psf.psfDeterminer=nope"],
        2,
        ["psfDeterminer", "choose from", "piff"],
    ),
    "contradictory": (
        [
            'star_selector["science"].signalToNoise.minimum=50',
            'star_selector["science"].signalToNoise.maximum=9',
        ],
        2,
        ["star_selector['science'].signalToNoise.minimum", "50", "9"],
    ),
    "not a number": (
        ['star_selector["science"].fluxLimit.minimum=nan'],
        2,
        ["star_selector['science'].fluxLimit.minimum", "NaN"],
    ),
    "without matches": (
        ["astrometry.sourceSelector=diaCatalog"],
        2,
        ["astrometry.sourceSelector", "needs matches"],
    ),
    "no number up front": (
        ['psf_measure_psf.starSelector["objectSize"].signalToNoiseMin=nan'],
        2,
        ["psf_measure_psf.starSelector['objectSize'].signalToNoiseMin", "NaN"],
    ),
    "not an interpolant": (
        ['psf_measure_psf.psfDeterminer["piff"].interpolant=foo'],
        2,
        ["interpolant: Value foo is not a valid value. It should be: Interpolant", "Lanczos(N)"],
    ),
    "not a solver": (
        ['psf_measure_psf.psfDeterminer["piff"].solver=foo'],
        2,
        ["solver: Value foo is not allowed. Choose one of native, piff."],
    ),
    "even": (
        ['psf_measure_psf.psfDeterminer["piff"].stampSize=20'],
        2,
        ["stampSize: Value 20 is not a valid value. It should be: Odd side"],
    ),
    "field of an entry": (
        ["star_selector.doSignalToNoise=True"],
        2,
        ['write star_selector["science"].doSignalToNoise.'],
    ),
    "abbreviated": (
        ['star_selector["science"].doSN=True'],
        2,
        ["Did you mean 'doSignalToNoise'?"],
    ),
    "not a selector": (["astrometry.referenceSelector=foo"], 2, [f"choose one of {SELECTORS}."]),
    "before matches": (
        ["psf_measure_psf.starSelector=diaCatalog"],
        2,
        ["psf_measure_psf.starSelector", "matches"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_calibrate_refuses_it_before_work(case: str, run: Any, one_error: Any, simulated_files: Any) -> None:
    settings, code, words = CASES[case]
    options = [text for setting in settings for text in ("-c", setting)]
    files = (simulated_files.image, "--camera", "simcam", "--references", simulated_files.references)
    one_error(run("calibrate", *files, *options), code, *words)


@pytest.mark.parametrize("case", ["unknown entry", "contradictory"])
def test_run_refuses_it_before_a_graph_is_built(case: str) -> None:
    settings, _, words = CASES[case]
    overrides = tuple(ConfigOverride("calibrateImage", *setting.split("=", 1)) for setting in settings)
    with pytest.raises(OptionError) as caught:
        load_pipeline(RunRequest("nowhere", find_pipeline("calibrate", ""), overrides=overrides))
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_run_takes_entries_in_brackets_and_classes_of_steps_as_calibrate_does() -> None:
    overrides = (
        ConfigOverride("calibrateImage", 'psf_measure_psf.starSelector["objectSize"].widthMin', "0.4"),
        ConfigOverride("calibrateImage", "psf_detection.thresholdValue", "8"),
        ConfigOverride("calibrateImage", "photometry.match.sourceSelection", "matcher"),
        ConfigOverride("calibrateImage", "photometry.match.sourceSelection.minSnr", "15"),
        ConfigOverride("calibrateImage", "astrometry.wcsFitter", "FitTanSipWcsTask"),
    )
    graph = load_pipeline(RunRequest("nowhere", find_pipeline("calibrate", ""), overrides=overrides))
    config = graph.tasks["calibrateImage"].config
    assert config.psf_measure_psf.starSelector["objectSize"].widthMin == 0.4
    assert config.psf_detection.thresholdValue == 8.0
    assert config.photometry.match.sourceSelection.minSnr == 15.0
    assert config.astrometry.wcsFitter.target.__name__ == "FitTanSipWcs"
    # the graph keeps the configuration as text
    again = type(config)()
    again.loadFromString(config.saveToString())
    assert again.compare(config)

"""What is left of an image that cannot be calibrated: every row of the table in ``docs/datasets.md``."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from lsst.images import MaskedImage, VisitImage
from lsst.pipe.base import AlgorithmError, AnnotatedPartialOutputsError, Struct

from zeropoint import errors
from zeropoint.datamodel.exposure import Exposure
from zeropoint.recipes.calibrate_image.psf_phase import PsfPhase
from zeropoint.recipes.calibrate_image.star_phase import StarPhase
from zeropoint.tasks import _errors
from zeropoint.tasks.calibrate_image import CalibrateImageTask

#: Outputs in the order of the table's columns; the last stands for all that a success alone has.
COLUMNS = (
    "exposure", "partial_exposure", "background", "psf_stars", "psf_stars_footprints", "stars", "stars_footprints",
    "astrometry_matches", "photometry_matches",
)  # fmt: skip
_SUCCESS_ALONE = ("photometry_matches", "mask", "applied_photo_calib")


def table_of_the_documentation() -> dict[str, dict[str, bool]]:
    """Return failing step -> output -> whether it is written."""
    text = (Path(__file__).parents[2] / "docs" / "datasets.md").read_text()
    rows = {}
    for line in text.split("| failing step |")[1].splitlines()[2:]:
        if not line.startswith("|"):
            break
        step, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[step] = {name: cell.startswith("yes") for name, cell in zip(COLUMNS, cells, strict=True)}
    return rows


TABLE = table_of_the_documentation()


def elsewhere(simulated: Any) -> Any:
    table = simulated.references.copy()
    table["coord_dec"] = table["coord_dec"] + 0.1
    return table


def masked(exposure: Exposure) -> None:
    exposure.mask[...] = 1


def saturated(exposure: Exposure) -> None:
    exposure.set_mask(np.ones(exposure.shape, bool), "SATURATED")


def noise(exposure: Exposure) -> None:
    exposure.image[...] = np.random.default_rng(1).normal(600, 25, exposure.shape)


def unchanged(exposure: Exposure) -> None:
    pass


def flagged_centroids(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: PsfPhase, *_: Any) -> None:
        raise errors.AllCentroidsFlaggedError("all flagged", n_sources=3, psf_size=float("nan"))

    monkeypatch.setattr(PsfPhase, "_require_centroids", fail)


def no_deep_psf(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: StarPhase, *_: Any) -> None:
        raise errors.PsfGenerationError("no size")

    monkeypatch.setattr(StarPhase, "_detect", fail)


def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pass


BACKGROUND = "background, cosmic rays, detection, PSF"
CENTROIDS = "all centroids flagged, aperture corrections"
#: (row of the table, failure, overrides, change of the exposure, change of the code, background fitted)
CASES: list[tuple[str, str, list[tuple[str, Any]], Callable, Callable, bool]] = [
    ("no reference objects", "NoReferenceSourcesError", [], unchanged, nothing, False),
    (BACKGROUND, "TooManyMaskedPixelsError", [], masked, nothing, False),
    (BACKGROUND, "TooManyMaskedPixelsError", [], saturated, nothing, False),
    (BACKGROUND, "TooManyCosmicRays", [("psf_repair.cosmicray.nCrPixelMax", 3)], unchanged, nothing, True),
    (BACKGROUND, "ObjectSizeNoGoodSourcesError", [], noise, nothing, True),
    (CENTROIDS, "AllCentroidsFlaggedError", [], unchanged, flagged_centroids, True),
    (
        CENTROIDS,
        "MeasureApCorrError",
        [("measure_aperture_correction.minDegreesOfFreedom", 10_000)],
        unchanged,
        nothing,
        True,
    ),
    (
        "astrometric fit",
        "AstrometryError",
        [
            ('astrometry.sourceSelector["science"].doSignalToNoise', True),
            ('astrometry.sourceSelector["science"].signalToNoise.minimum', 1e9),
        ],
        unchanged,
        nothing,
        True,
    ),
    ("deep detection to selection", "PsfGenerationError", [], unchanged, no_deep_psf, True),
    (
        "no PSF star among the selected stars",
        "NoPsfStarsToStarsMatchError",
        [('star_selector["science"].signalToNoise.maximum', 12.0)],
        unchanged,
        nothing,
        True,
    ),
    (
        "check of the astrometry",
        "BadAstrometryFit",
        [("astrometry.maxMeanDistanceArcsec", 1e-6)],
        unchanged,
        nothing,
        True,
    ),
    (
        "photometry",
        "MatcherFailure",
        [
            ("photometry.match.sourceSelection.doSignalToNoise", True),
            ("photometry.match.sourceSelection.signalToNoise.minimum", 1e9),
        ],
        unchanged,
        nothing,
        True,
    ),
]


def fail(task: CalibrateImageTask, exposure: Exposure) -> tuple[_errors.CalibrationFailure, Struct]:
    result = Struct()
    with pytest.raises(_errors.CalibrationFailure) as caught:
        task.run(exposures=[exposure], result=result)
    return caught.value, result


@pytest.mark.parametrize(
    ("row", "kind", "overrides", "spoil", "patch", "fitted"), CASES, ids=[case[1] for case in CASES]
)
def test_what_was_established_is_kept_and_nothing_else(
    row: str,
    kind: str,
    overrides: list[tuple[str, Any]],
    spoil: Callable,
    patch: Callable,
    fitted: bool,
    simulated: Any,
    make_task: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exposure = simulated.exposure.copy()
    spoil(exposure)
    patch(monkeypatch)
    references = elsewhere(simulated) if row == "no reference objects" else None
    error, result = fail(make_task(*overrides, references=references), exposure)
    assert type(error) is getattr(_errors, kind)
    written = {name: getattr(result, name) is not None for name in COLUMNS}
    assert written == {**TABLE[row], "background": fitted}
    assert all(getattr(result, name) is None for name in _SUCCESS_ALONE)
    image = result.exposure or result.partial_exposure
    assert image.metadata["failure.type"] == kind
    assert image.metadata["failure.message"] == str(error)
    assert all(
        image.metadata[f"failure.metadata.{k}"] == pytest.approx(v, nan_ok=True)
        for k, v in error.metadata.items()
    )
    assert image.unit == u.electron
    for footprints in (result.psf_stars_footprints, result.stars_footprints):
        assert footprints is None or footprints.schema.metadata[b"failure.type"] == kind.encode()


def test_every_row_of_the_table_is_tested() -> None:
    assert {case[0] for case in CASES} | {"success"} == set(TABLE)


def test_a_partial_image_can_be_written_and_read_with_its_reason(
    simulated: Any, make_task: Any, tmp_path: Path
) -> None:
    from lsst.images.serialization import read_archive, write_archive

    error, result = fail(make_task(("astrometry.maxMeanDistanceArcsec", 1e-6)), simulated.exposure.copy())
    assert type(result.partial_exposure) is MaskedImage
    path = str(tmp_path / "partial.fits")
    write_archive(result.partial_exposure, path)
    image = read_archive(path)
    assert image.metadata["failure.type"] == "BadAstrometryFit"
    assert image.metadata["failure.metadata.nMatches"] == error.metadata["nMatches"]
    assert image.metadata["summary.psfSigma"] > 1
    assert image.sky_projection is None
    np.testing.assert_array_equal(image.image.array, result.partial_exposure.image.array)
    assert np.isnan(result.stars["coord_ra"]).all()


def test_without_photometry_the_image_is_whole_but_instrumental(simulated: Any, make_task: Any) -> None:
    task = make_task(*next(case[2] for case in CASES if case[0] == "photometry"))
    _, result = fail(task, simulated.exposure.copy())
    image = result.exposure
    assert type(image) is VisitImage
    assert image.photometric_scaling is None
    assert image.psf.kernel_bbox.area > 9
    assert np.isfinite(result.stars["coord_ra"]).all()
    assert np.isnan(result.stars["base_PsfFlux_flux"]).all()
    assert np.isfinite(result.stars["base_PsfFlux_instFlux"]).any()


def test_the_reason_is_in_the_task_metadata_beside_the_numbers_known(simulated: Any, make_task: Any) -> None:
    task = make_task(("astrometry.maxMeanDistanceArcsec", 1e-6))
    error, _ = fail(task, simulated.exposure.copy())
    AnnotatedPartialOutputsError.annotate(error, task, log=task.log)
    failure = task.metadata["failure"]
    assert failure["type"] == "zeropoint.tasks._errors.BadAstrometryFit"
    assert failure["metadata"]["maxMeanDist"] == 1e-6
    assert task.metadata["matched_psf_star_count"] > 10
    assert "photometry_matches_count" not in task.metadata
    assert "match_psf_stars" in task.metadata["stage_cpu_seconds"].to_dict()


def test_inputs_that_cannot_be_used_leave_nothing(simulated: Any, make_task: Any) -> None:
    exposure = simulated.exposure.copy()
    references = simulated.references.copy()
    references.rename_columns(["r_flux", "r_fluxErr"], ["z_flux", "z_fluxErr"])
    result = Struct()
    with pytest.raises(errors.InvalidInputError, match=r"has no band 'r'") as caught:
        make_task(references=references).run(exposures=[exposure], result=result)
    assert "\n" not in str(caught.value)
    assert not result.getDict()


def test_every_failure_has_a_twin_that_keeps_message_and_numbers() -> None:
    kinds = [getattr(errors, name) for name in errors.__all__]
    kinds = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, errors.CalibrationFailure)]
    assert len(kinds) >= 19
    for kind in kinds:
        twin = _errors.algorithm_error(kind("what happened", n=3, value=float("nan")))
        assert isinstance(twin, AlgorithmError)
        assert type(twin).__name__ == kind.__name__
        assert type(twin) is getattr(_errors, kind.__name__)
        assert (str(twin), twin.metadata["n"]) == ("what happened", 3)
        for base in kind.__bases__:
            if issubclass(base, errors.CalibrationFailure):
                assert isinstance(twin, getattr(_errors, base.__name__))
        again = pickle.loads(pickle.dumps(twin))
        assert (type(again), str(again), again.metadata["n"]) == (type(twin), "what happened", 3)

"""The whole PSF measurement on an exposure."""

from dataclasses import replace

import lsst.pex.config as pexConfig
import numpy as np
import pytest

from naive.psf_stars import blank_exposure, true_stamps
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.psf_model import GaussianPsf
from zeropoint.errors import (
    NonfinitePsfShapeError,
    NoPsfCandidatesError,
    PiffTooFewGoodStarsError,
    UnreliablePsfError,
)
from zeropoint.psf.measure_psf import MeasurePsf, MeasurePsfConfig
from zeropoint.psf.piff_determiner import PiffPsfDeterminer
from zeropoint.psf.quality import psf_residuals, residual_statistics

SIZE = 500


def _field(rng, n=60):
    """Return an exposure with n stars in Poisson noise, and their positions."""
    exposure = blank_exposure(SIZE, SIZE)
    x, y = rng.uniform(20, SIZE - 20, (2, n))
    flux = 10 ** rng.uniform(4.3, 5.3, n)
    scene = np.full((SIZE, SIZE), 300.0)
    for k in range(n):
        xi, yi = int(np.floor(x[k] + 0.5)), int(np.floor(y[k] + 0.5))
        scene[yi - 18 : yi + 19, xi - 18 : xi + 19] += (
            flux[k] * true_stamps(x[k], y[k], 37, centered=False, width=SIZE)[0]
        )
    image = rng.poisson(scene)
    exposure.image[:] = image - 300.0
    exposure.variance[:] = np.maximum(image, 150)
    exposure.set_mask(scene > 400, "DETECTED")
    return exposure, x, y


def _config(fraction=0.0):
    config = MeasurePsfConfig()
    config.starSelector.name = "flagged"
    config.starSelector["flagged"].field = "is_star"
    config.reserve.fraction = fraction
    config.psfDeterminer["piff"].spatialOrder = 1
    return config


def _run(exposure, x, y, config, exp_id=0):
    schema = Schema()
    schema.add(ColumnSpec("c_x", "f8"), ColumnSpec("c_y", "f8"), ColumnSpec("is_star", "bool"))
    schema.alias("slot_Centroid", "c")
    step = MeasurePsf(config, schema=schema)
    catalog = SourceCatalog(schema, len(x))
    catalog["c_x"], catalog["c_y"], catalog["is_star"] = x, y, True
    return step.run(exposure, catalog, exp_id=exp_id), catalog


def test_flags_psf_and_result_agree(rng):
    exposure, x, y = _field(rng)
    result, catalog = _run(exposure, x, y, _config(0.2), exp_id=7)
    assert exposure.psf is result.psf
    rows = result.candidates.rows
    assert np.array_equal(np.flatnonzero(catalog["calib_psf_candidate"]), rows)
    assert np.array_equal(np.flatnonzero(catalog["calib_psf_used"]), rows[result.used])
    assert np.array_equal(np.flatnonzero(catalog["calib_psf_reserved"]), rows[result.reserved])
    assert not (result.used & result.reserved).any()
    assert result.reserved.sum() == round(0.2 * len(rows))
    assert result.n_good == result.used.sum() == result.metadata["numGoodStars"]
    assert result.n_available == (~result.reserved).sum()
    assert {"spatialFitChi2", "numAvailStars", "numGoodStars", "avgX", "avgY"} <= set(result.metadata)
    assert 0.8 < result.reduced_chi2 < 1.2


def test_reserved_stars_agree_with_the_psf(rng):
    exposure, x, y = _field(rng, 90)
    result, _ = _run(exposure, x, y, _config(0.3))
    residuals = psf_residuals(result.psf, result.candidates)
    for chosen in (result.used, result.reserved):
        statistics = residual_statistics(residuals, chosen)
        assert statistics.n >= 15
        assert statistics.consistent_with_zero
        assert statistics.size_err < 0.01


def test_a_second_run_clears_old_flags(rng):
    exposure, x, y = _field(rng)
    schema = Schema()
    schema.add(ColumnSpec("c_x", "f8"), ColumnSpec("c_y", "f8"), ColumnSpec("is_star", "bool"))
    schema.alias("slot_Centroid", "c")
    step = MeasurePsf(_config(0.2), schema=schema)
    catalog = SourceCatalog(schema, len(x))
    catalog["c_x"], catalog["c_y"], catalog["is_star"] = x, y, True
    step.run(exposure, catalog, exp_id=1)
    first = catalog["calib_psf_reserved"].copy()
    step.run(exposure, catalog, exp_id=2)
    assert catalog["calib_psf_reserved"].sum() == first.sum()
    assert not np.array_equal(catalog["calib_psf_reserved"], first)
    assert not (catalog["calib_psf_reserved"] & catalog["calib_psf_used"]).any()


def test_failure_leaves_the_exposure_without_psf(rng):
    exposure, x, y = _field(rng, 2)
    with pytest.raises(PiffTooFewGoodStarsError):
        _run(exposure, x, y, _config())
    assert exposure.psf is None


def test_a_psf_without_size_is_a_failure(rng, monkeypatch):
    from zeropoint.datamodel.psf_model import PixelGridPsf

    exposure, x, y = _field(rng)
    monkeypatch.setattr(PixelGridPsf, "sigma", lambda self: float("nan"))
    with pytest.raises(NonfinitePsfShapeError) as failure:
        _run(exposure, x, y, _config())
    assert "psf_size" in failure.value.metadata
    assert exposure.psf is None


def test_the_schema_gets_its_columns_in_order():
    schema = Schema()
    MeasurePsf(schema=schema)
    assert list(schema.columns) == ["calib_psf_candidate", "calib_psf_used", "calib_psf_reserved"]


def test_defaults_are_upstreams_except_the_determiner():
    config = MeasurePsfConfig()
    config.validate()
    assert config.starSelector.name == "objectSize"
    assert config.psfDeterminer.name == "piff"
    assert config.reserve.fraction == 0.0
    assert config.makePsfCandidates.kernelSize == 27


def test_candidates_smaller_than_the_model_are_refused():
    config = MeasurePsfConfig()
    config.makePsfCandidates.kernelSize = 21
    with pytest.raises(pexConfig.FieldValidationError, match="kernelSize"):
        config.validate()


class _Wrong(PiffPsfDeterminer):
    """Gives a PSF half as wide as the stars, unless its order is at most ``good_order``."""

    good_order = -1

    def determine_psf(self, exposure, candidates):
        result = super().determine_psf(exposure, candidates)
        if result.metadata["psfSpatialOrder"] > self.good_order:
            # within the limits of size, so that only the stars can tell
            narrow = GaussianPsf(0.72 * result.psf.sigma(), 25, result.psf.average_position)
            return replace(result, psf=narrow)
        return result


@pytest.mark.parametrize("fraction", [0.0, 0.2])
def test_a_psf_that_stars_contradict_is_not_returned(rng, fraction):
    exposure, x, y = _field(rng)
    schema = Schema()
    schema.add(ColumnSpec("c_x", "f8"), ColumnSpec("c_y", "f8"), ColumnSpec("is_star", "bool"))
    schema.alias("slot_Centroid", "c")
    step = MeasurePsf(_config(fraction), schema=schema)
    catalog = SourceCatalog(schema, len(x))
    catalog["c_x"], catalog["c_y"], catalog["is_star"] = x, y, True
    step.determiner = _Wrong(step.determiner.config)
    with pytest.raises(UnreliablePsfError) as failure:
        step.run(exposure, catalog)
    assert "of their profile" in failure.value.metadata["reason"]
    assert failure.value.metadata["spatial_order"] == 0
    assert exposure.psf is None
    _Wrong.good_order = 0
    try:
        result = step.run(exposure, catalog)
    finally:
        _Wrong.good_order = -1
    assert result.metadata["psfSpatialOrder"] == 0
    assert "order 1: stars differ" in result.metadata["psfOrderReason"]


def test_stars_without_whole_stamps_are_a_named_failure(rng):
    exposure, _, _ = _field(rng, 3)
    with pytest.raises(NoPsfCandidatesError) as failure:
        _run(exposure, np.array([2.0, 490.0]), np.array([3.0, 250.0]), _config())
    assert failure.value.metadata == {"n_selected": 2, "stamp_size": 27}

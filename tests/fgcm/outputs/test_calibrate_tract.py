"""The visits on one tract, from tables of sources to calibrations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lsst.pex.config import FieldValidationError

from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.datamodel.exposure import AB_FLUX_NJY
from zeropoint.fgcm.lut import LookUpTable
from zeropoint.fgcm.references import References
from zeropoint.recipes.fgcm_calibrate_tract import FgcmCalibrateTract, FgcmCalibrateTractConfigBase
from zeropoint.simulation.fgcm_settings import small_survey
from zeropoint.simulation.fgcm_star_list import survey_passbands
from zeropoint.simulation.fgcm_survey import FgcmSurvey, simulate_fgcm_survey
from zeropoint.simulation.fgcm_tables import source_table, visit_summary
from zeropoint.simulation.fgcm_truth import true_zeropoints
from zeropoint.tasks.fgcm_calibrate_tract_table import FgcmCalibrateTractTableTask

BANDS = ("r", "i")
#: Of each detector: flats with a structure of 3 mmag within detectors, 10 visits with 60 stars on a detector, mag.
SCATTER = 0.008
#: Half a hundred reference stars with errors of 10 to 20 mmag, mag.
OFFSET = 0.008


@pytest.fixture(scope="module")
def survey() -> FgcmSurvey:
    return simulate_fgcm_survey(replace(small_survey(), n_visits=10, n_nights=1, n_stars=700, bands=BANDS))


def configured(config, survey):
    filters = {survey.physical_filter(band): band for band in BANDS}
    stars, fit = config.fgcmBuildStars, config.fgcmFitCycle
    stars.physicalFilterMap, stars.primaryBands = filters, list(BANDS)
    stars.fgcmLoadReferenceCatalog.filterMap = filters
    stars.fgcmLoadReferenceCatalog.applyColorTerms = False
    fit.bands, fit.physicalFilterMap = list(BANDS), filters
    fit.complete()
    for band in BANDS:
        fit.useRepeatabilityForExpGrayCutsDict[band] = True
    fit.latitude, fit.utBoundary = survey.settings.site.latitude, 0.3
    fit.modelMagErrors = False
    fit.minExpPerNight, fit.minStarPerExp, fit.minCcdPerExp = 2, 50, 2
    config.fgcmOutputProducts.doAtmosphereOutput = False
    return config


def test_calibrations_are_near_the_truth(survey, tmp_path):
    config = configured(FgcmCalibrateTractConfigBase(), survey)
    survey.references.write(tmp_path / "references.parquet")
    loader = ReferenceObjectLoader(ReferenceSource.open(tmp_path / "references.parquet"))
    names = ",".join(config.fgcmFitCycle.physicalFilterMap)
    wavelengths = np.array([6200.0, 7600.0])
    header = {"physicalFilters": names, "stdPhysicalFilters": names, "lambdaStdFilter": wavelengths}
    visits = [int(visit) for visit in survey.visits["visit"]]
    tract = FgcmCalibrateTract(config).run(
        {visit: source_table(survey, survey.sources(row)) for row, visit in enumerate(visits)},
        {visit: visit_summary(survey, row) for row, visit in enumerate(visits)},
        survey_passbands(survey),
        References(loader, "made", LookUpTable(header, None)),
    )
    assert tract.converged
    assert 3 < len(tract.cycles) <= config.maxFitCycles + 1
    assert list(tract.repeatability["band"]) == list(BANDS)
    assert (np.asarray(tract.repeatability["rawRepeatability"]) < 0.02).all()
    truth = true_zeropoints(survey, int(np.median(survey.stars["spectrum"])))
    calibs = tract.products.photo_calibs
    found = np.full(len(truth), np.nan)
    for row, (visit, detector) in enumerate(zip(truth["visit"], truth["detector"], strict=True)):
        record = calibs.catalog(int(visit)).find(int(detector))
        if record is not None:
            # the truth is of fluxes with the area of pixels taken out
            area = calibs.focal_plane.relative_area(int(detector), 511.5, 511.5)
            found[row] = 2.5 * np.log10(AB_FLUX_NJY * float(area) / record.calibration_mean)
    difference = found - np.asarray(truth["zeropoint"])
    of_band = np.repeat(np.asarray(survey.visits["band"]), survey.settings.n_detectors)
    for band in range(len(BANDS)):
        mine = difference[(of_band == band) & np.isfinite(difference)]
        assert len(mine) > 0.9 * np.count_nonzero(of_band == band)
        assert abs(np.median(mine)) < OFFSET
        assert np.std(mine) < SCATTER


def test_settings_that_a_tract_cannot_have_are_refused(survey):
    config = configured(FgcmCalibrateTractTableTask.ConfigClass(), survey)
    config.validate()
    connections = config.connections.ConnectionsClass(config=config)
    assert connections.fgcmPhotoCalib.name == "fgcmPhotoCalibTractCatalog"
    assert set(connections.outputs) == {"fgcmPhotoCalib", "fgcmRepeatability"}
    for change, field in (
        (
            lambda c: c.fgcmFitCycle.useRepeatabilityForExpGrayCutsDict.update({"i": False}),
            "useRepeatability",
        ),
        (lambda c: setattr(c.fgcmFitCycle, "doMultipleCycles", True), "doMultipleCycles"),
        (lambda c: setattr(c.fgcmBuildStars, "doReferenceMatches", False), "doReferenceMatches"),
    ):
        wrong = configured(FgcmCalibrateTractTableTask.ConfigClass(), survey)
        change(wrong)
        with pytest.raises(FieldValidationError, match=field):
            wrong.validate()

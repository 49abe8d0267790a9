"""Real wide-field exposures with pixels of 14 arcsec: matched against the names of a catalogue, fitted against its magnitudes."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import yaml

from zeropoint.catalogs.reference_formats import open_table
from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.fgcm.column_map import SurveyColumns
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.fit_passbands import without_atmosphere
from zeropoint.fgcm.survey_tables import StarsFromTablesConfig
from zeropoint.recipes.fgcm_cycle import CycleInputs, FgcmCycle
from zeropoint.recipes.fgcm_stars_from_tables import FgcmStarsFromTables
from zeropoint.recipes.overrides import load_override_file

pytestmark = pytest.mark.parity

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "hat_dslr"
#: Two exposures of one field, and one of another that overlaps it.
EXPOSURES = ("10-464933", "10-465210", "10-465215")
#: Of stars seen twice; the rest has a neighbor within three pixels, or positions 14 arcsec off.
LEAST_FOUND = 0.97
#: Where two stars share a pixel, the catalogue's names take turns.
MOST_WRONG = 0.01
#: Scatter against APASS r that the fit must reach, mag; and that before, with one zeropoint and no colours.
LIMIT, BEFORE = 0.125, 0.13


@pytest.fixture(scope="module")
def survey(testdata, tmp_path_factory):
    """The table of observations, and the star list with references."""
    folder = tmp_path_factory.mktemp("hat")
    for name in EXPOSURES:
        file = f"{name}_2_R1.fistar.match.gz"
        (folder / file).symlink_to(testdata / "hat-dslr-20170306" / file)
    spec = importlib.util.spec_from_file_location("convert", EXAMPLE / "convert.py")
    convert = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(convert)
    convert.main(folder, folder)
    config = StarsFromTablesConfig()
    config.load(str(EXAMPLE / "stars.py"))
    config.doReferenceMatches = True
    columns = SurveyColumns.from_mapping(yaml.safe_load((EXAMPLE / "columns.yaml").read_text()))
    given = open_table(folder / "observations.parquet")
    references = ReferenceObjectLoader(ReferenceSource.open(folder / "references.csv"))
    tables = given, open_table(folder / "visits.csv")
    return given, FgcmStarsFromTables(config).run(*tables, columns, references=references)


def test_stars_are_those_of_the_catalogue(survey):
    given, result = survey
    name_at = dict(zip(zip(given.get("x"), given.get("y"), strict=True), given.get("star"), strict=True))
    x, y = (result.observations[axis][result.star_indices["obsIndex"]] for axis in "xy")
    names = np.array([name_at[place] for place in zip(x, y, strict=True)])
    first = names[result.star_ids["obsArrIndex"]]
    assert len(set(first)) == len(first)  # none is split
    assert np.mean(names != np.repeat(first, result.star_ids["nObs"])) < MOST_WRONG
    stars, seen = np.unique(given.get("star"), return_counts=True)
    assert np.isin(stars[seen >= 2], first).mean() > LEAST_FOUND
    assert result.visits.meta["SECANT_ONE"] == len(EXPOSURES)


def clipped(values):
    """The standard deviation without values beyond 4 sigma."""
    kept = np.isfinite(values)
    while True:
        away = np.abs(values - values[kept].mean())
        again = kept & (away <= 4.0 * values[kept].std())
        if np.array_equal(again, kept):
            return values[kept].std()
        kept = again


def test_a_fit_without_atmosphere_brings_them_to_the_catalogues_magnitudes(survey):
    _, stars = survey
    config = FgcmFitCycleConfigBase()
    load_override_file(config, EXAMPLE / "fit.py")
    config.update(doMultipleCycles=True, multipleCyclesFinalCycleNumber=4, latitude=0.0, utBoundary=0.0)
    config.update(minExpPerNight=1, minStarPerExp=600, minCcdPerExp=1)
    config.complete(["r"])
    passbands = without_atmosphere({"R1": "r"}, [0], {"R1": 6300.0})
    tables = stars.visits, stars.observations, stars.star_ids, stars.star_indices, stars.reference_stars
    found = FgcmCycle(config).run(CycleInputs(*tables), passbands.source)[-1]

    # the magnitudes of APASS that a fit hands back are in the camera's own system
    of_catalog = np.asarray(stars.reference_stars["refMag"])
    r, g = (np.where(np.abs(m) < 90.0, m, np.nan) for m in of_catalog.T)
    data = found.data
    row = np.searchsorted(data.stars.fgcm_id, np.asarray(stars.reference_stars["fgcm_id"]))
    reference, catalog = data.stars.ref_mag[:, 0].astype(float), np.full(len(data.stars), np.nan)
    catalog[row] = np.where(np.isfinite(g), r, np.nan)
    star = data.observations.star
    rows = ((catalog > 8.0) & (catalog < 11.5))[star]
    calibrated = (found.observations.standard_magnitude + found.observations.gray)[rows]
    assert clipped(reference[star[rows]] - calibrated) < LIMIT
    assert clipped(catalog[star[rows]] - data.observations.mag[rows]) > BEFORE
    assert np.isfinite(found.zeropoints["fgcmZpt"]).all()

"""Stars of real wide-field exposures with pixels of 14 arcsec, matched by position alone, against the names a catalogue gives them."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import yaml

from zeropoint.catalogs.reference_formats import open_table
from zeropoint.fgcm.column_map import SurveyColumns
from zeropoint.fgcm.survey_tables import StarsFromTablesConfig
from zeropoint.recipes.fgcm_stars_from_tables import FgcmStarsFromTables

pytestmark = pytest.mark.parity

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "hat_dslr"
#: Two exposures of one field, and one of another that overlaps it.
EXPOSURES = ("10-464933", "10-465210", "10-465215")
#: Of stars seen twice; the rest has a neighbor within three pixels, or positions 14 arcsec off.
LEAST_FOUND = 0.97
#: Where two stars share a pixel, the catalogue's names take turns.
MOST_WRONG = 0.01


def test_stars_are_those_of_the_catalogue(testdata, tmp_path):
    for name in EXPOSURES:
        file = f"{name}_2_R1.fistar.match.gz"
        (tmp_path / file).symlink_to(testdata / "hat-dslr-20170306" / file)
    spec = importlib.util.spec_from_file_location("convert", EXAMPLE / "convert.py")
    convert = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(convert)
    convert.main(tmp_path, tmp_path)
    config = StarsFromTablesConfig()
    config.load(str(EXAMPLE / "stars.py"))
    columns = SurveyColumns.from_mapping(yaml.safe_load((EXAMPLE / "columns.yaml").read_text()))
    given = open_table(tmp_path / "observations.parquet")
    result = FgcmStarsFromTables(config).run(given, open_table(tmp_path / "visits.csv"), columns)

    name_at = dict(zip(zip(given.get("x"), given.get("y"), strict=True), given.get("star"), strict=True))
    x, y = (result.observations[axis][result.star_indices["obsIndex"]] for axis in "xy")
    names = np.array([name_at[place] for place in zip(x, y, strict=True)])
    first = names[result.star_ids["obsArrIndex"]]
    assert len(set(first)) == len(first)  # none is split
    assert np.mean(names != np.repeat(first, result.star_ids["nObs"])) < MOST_WRONG
    stars, seen = np.unique(given.get("star"), return_counts=True)
    assert np.isin(stars[seen >= 2], first).mean() > LEAST_FOUND
    assert result.visits.meta["SECANT_ONE"] == len(EXPOSURES)

"""Absolute calibration after the fit."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from zeropoint.catalogs.references import ReferenceCatalog, ReferenceObjectLoader
from zeropoint.datamodel.exposure import AB_FLUX_NJY
from zeropoint.errors import InvalidInputError, NoReferenceOffsetsError, NoReferenceSourcesError
from zeropoint.fgcm.outputs.config import FgcmOutputProductsConfigBase
from zeropoint.fgcm.outputs.reference_offsets import reference_offsets

BANDS = ("g", "r")
TRUE = {"g": 0.30, "r": -0.12}
FILTERS = {"g": "g_cam", "r": "r_cam"}
NOISE = 0.02
N_STARS = 1500


class Loader(ReferenceObjectLoader):
    """References in memory."""

    def __init__(self, table: Table) -> None:
        self.table, self.circles = table, []

    def load_circle(self, *, ra, dec, radius, band, mjd_tai=float("nan")):
        self.circles.append((band, ra, dec, radius))
        if band not in BANDS:
            raise InvalidInputError(f"no band {band}")
        if len(self.table) == 0:
            raise NoReferenceSourcesError("none here", n_objects=0, n_with_flux=0)
        return ReferenceCatalog(self.table, f"{band}_flux", f"{band}_fluxErr", "made", len(self.table))


@pytest.fixture(scope="module")
def survey() -> tuple[Table, Table]:
    """Stars on a few degrees, and their references: the half of them, with offsets and noise."""
    rng = np.random.default_rng(5)
    ra, dec = np.deg2rad(rng.uniform(10, 13, N_STARS)), np.deg2rad(rng.uniform(-2, 1, N_STARS))
    mag = rng.uniform(17, 20, (N_STARS, 2))
    stars = Table(
        {
            "coord_ra": ra,
            "coord_dec": dec,
            "ngood": rng.integers(0, 20, (N_STARS, 2)),
            "mag_std_noabs": mag.astype(np.float32),
            "magErr_std": np.full((N_STARS, 2), 0.005, np.float32),
        },
        meta={"BANDS": list(BANDS)},
    )
    some = np.arange(0, N_STARS, 2)
    references = Table({"coord_ra": ra[some], "coord_dec": dec[some]})
    for k, band in enumerate(BANDS):
        true = mag[some, k] + TRUE[band] + rng.normal(0, NOISE, len(some))
        references[f"{band}_flux"] = AB_FLUX_NJY * 10 ** (-0.4 * true)
        references[f"{band}_fluxErr"] = references[f"{band}_flux"] * NOISE / 1.0857
    return stars, references


@pytest.fixture
def config() -> FgcmOutputProductsConfigBase:
    made = FgcmOutputProductsConfigBase()
    made.referencePixelizationNside = 32
    made.referencePixelizationMinStars = 80
    made.referenceMinMatch = 30
    return made


def test_offsets_are_found_within_their_errors(survey, config):
    found = reference_offsets(survey[0], Loader(survey[1]), config, standard_filters=FILTERS)
    for band, offset, sigma, n in zip(found.bands, found.offset, found.sigma, found.n_matches, strict=True):
        expected = np.hypot(NOISE, 0.005) * np.sqrt(0.5 * np.pi / n)
        assert abs(offset - TRUE[band]) < 4 * expected
        # the floor of 3 mmag is quadratically small, and a few pixels tell the scatter to a factor of two
        assert 0.9 * expected < sigma < 3 * expected
    assert found.to_table().colnames[0] == "offset"
    stage = found.accounting["reference_pixels_g"]
    assert stage.adds_up
    assert stage.kept == found.n_pixels[0] > 3


def test_the_same_pixels_are_chosen_for_all_bands_and_again(survey, config):
    config.referencePixelizationNPixels = 3
    loaders = [Loader(survey[1]) for _ in range(2)]
    for loader in loaders:
        reference_offsets(survey[0], loader, config, standard_filters=FILTERS)
    assert loaders[0].circles == loaders[1].circles
    of_bands = [[circle for name, *circle in loaders[0].circles if name == band] for band in BANDS]
    assert of_bands[0] == of_bands[1]
    assert len(of_bands[0]) == 3


@pytest.mark.parametrize("kept", [0, 40])
def test_too_few_references_are_a_failure_with_numbers(survey, config, kept):
    with pytest.raises(NoReferenceOffsetsError, match="Band g") as failure:
        reference_offsets(survey[0], Loader(survey[1][:kept]), config, standard_filters=FILTERS)
    metadata = failure.value.metadata
    assert metadata["band"] == "g"
    assert metadata["nPixels"] > 0
    assert (metadata["nMatches"] == 0) == (kept == 0)


def test_rubin_defaults():
    config = FgcmOutputProductsConfigBase()
    config.validate()
    assert not config.doReferenceCalibration
    assert config.photoCal.magErrFloor == 0.003
    assert config.photoCal.match.referenceSelection.signalToNoise.minimum == 10.0

"""The small simulated survey, whose stars are known, made into isolated stars, and the star list made of these."""

import numpy as np
import pytest
from astropy.table import Table, vstack

from zeropoint.catalogs.reference_shards import ReferenceShards
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.isolated import IsolatedTract
from zeropoint.fgcm.isolated_config import FgcmBuildFromIsolatedStarsConfig
from zeropoint.fgcm.lut import LookUpTable
from zeropoint.fgcm.references import References
from zeropoint.recipes.fgcm_build_from_isolated_stars import build_from_isolated_stars
from zeropoint.simulation.fgcm_tables import source_table, visit_summary

BANDS = ["g", "r"]
TRACT = 5
#: Areas of pixels come from WCSs, as polynomials.
AREA = 1e-4


@pytest.fixture(scope="module")
def survey(fgcm_survey):
    return fgcm_survey


@pytest.fixture(scope="module")
def rows(survey):
    """Visits in two bands, a few of them: geometry takes its time."""
    band = np.asarray(survey.visits["band"])
    return [int(row) for code in (0, 1) for row in np.flatnonzero(band == code)[:2]]


@pytest.fixture(scope="module")
def truth(survey, rows):
    """The sources of stars that nothing blends with, with the star's row."""
    parts = []
    for row in rows:
        sources = survey.sources(row)
        table = source_table(survey, sources)
        table["star"], table["area"] = sources.star, sources.jacobian
        table["mag"], table["mag_err"] = sources.magnitude, sources.magnitude_err
        parts.append(table[sources.clean & (sources.star >= 0) & (sources.merged < 0)])
    table = vstack(parts, metadata_conflicts="silent")
    table = table[np.lexsort((table["visit"], table["band"], table["star"]))]
    first = np.r_[True, np.diff(table["star"]) > 0]
    table["obj_index"] = (np.cumsum(first) - 1).astype(np.int32)
    return table


@pytest.fixture(scope="module")
def tract(survey, truth):
    star, count = np.unique(truth["star"], return_counts=True)
    stars = Table(
        {
            "isolated_star_id": (star + 1) * 10 + TRACT,
            "ra": np.rad2deg(survey.stars["ra"][star].data),
            "dec": np.rad2deg(survey.stars["dec"][star].data),
            "source_cat_index": (np.cumsum(count) - count).astype(np.int32),
            "nsource": count.astype(np.int32),
        }
    )
    return IsolatedTract(stars, truth)


def settings(**fields):
    config = FgcmBuildFromIsolatedStarsConfig()
    config.instFluxField = "apFlux_12_0_instFlux"
    science = config.sourceSelector["science"]
    science.signalToNoise.fluxField, science.signalToNoise.errField = (
        config.instFluxField + end for end in ("", "Err")
    )
    config.fgcmLoadReferenceCatalog.filterMap = {f"{band}_fgcm": band for band in "griz"}
    config.fgcmLoadReferenceCatalog.applyColorTerms = False
    config.update(**fields)
    return config


def references(survey):
    loader = ReferenceObjectLoader(ReferenceShards("refs", [lambda: survey.references]))
    names = ",".join(survey.physical_filter(band) for band in survey.settings.bands)
    header = {"physicalFilters": names, "stdPhysicalFilters": names}
    header["lambdaStdFilter"] = [4800.0, 6200.0, 7500.0, 8700.0]
    return References(loader, "refs", LookUpTable(header, None))


@pytest.fixture(scope="module")
def summaries(survey, rows):
    return {int(survey.visits["visit"][row]): visit_summary(survey, row) for row in rows}


@pytest.fixture(scope="module")
def camera(summaries):
    return FocalPlane.from_summaries(list(summaries.values())[:1])


@pytest.fixture(scope="module")
def result(survey, tract, summaries, camera):
    return build_from_isolated_stars(
        settings(requiredBands=BANDS),
        {TRACT: tract},
        summaries,
        references=references(survey),
        focal_plane=camera,
    )


def test_observations_are_those_that_were_simulated(result, truth, survey):
    number = (np.asarray(result.stars["isolated_star_id"]) // 10) - 1
    assert len(number) > 20
    kept = truth[np.isin(truth["star"], number)]
    assert result.observations["visit"].tolist() == kept["visit"].tolist()
    assert result.stars["n_obs"].tolist() == np.unique(kept["star"], return_counts=True)[1].tolist()
    counts = {band: np.bincount(kept["obj_index"][kept["band"] == band])[kept["obj_index"]] for band in BANDS}
    assert min(values.min() for values in counts.values()) >= 2
    area = np.asarray(kept["area"])
    np.testing.assert_allclose(result.observations["jacobian"], area, rtol=AREA)
    magnitude = np.asarray(kept["mag"]) - 2.5 * np.log10(area)
    np.testing.assert_allclose(result.observations["inst_mag"], magnitude, atol=2 * AREA)
    np.testing.assert_allclose(result.observations["inst_mag_err"], kept["mag_err"], rtol=1e-5)
    aperture = -2.5 * np.log10(kept["apFlux_12_0_instFlux"] / kept["apFlux_17_0_instFlux"])
    np.testing.assert_allclose(result.observations["delta_mag_aper"], aperture, atol=1e-6)


def test_visits_have_the_seeing_and_the_apertures_of_their_stars(result, rows, survey):
    visits = result.visits
    expected = np.sort(np.asarray(survey.visits["visit"])[rows])
    assert visits["visit"].tolist() == expected.tolist()
    observations = result.observations
    for visit in visits:
        own = observations["delta_mag_aper"][observations["visit"] == visit["visit"]]
        assert visit["deltaAper"] == pytest.approx(np.median(own), abs=1e-6)
    assert np.isfinite(visits["mjd"]).all()
    assert visits.meta["ACCOUNTING"] == result.accounting.to_meta()


def test_reference_magnitudes_are_those_of_the_same_stars(result, survey):
    assert result.reference_stars.meta["FILTERNAMES"] == ["g_fgcm", "r_fgcm"]
    number = dict(
        zip(result.stars["fgcm_id"].tolist(), (result.stars["isolated_star_id"] // 10 - 1).tolist())
    )
    catalog = {int(ident) - 1: row for row, ident in enumerate(survey.references["id"])}
    flux = np.stack([np.asarray(survey.references[f"{band}_flux"]) for band in BANDS], axis=1)
    mags = -2.5 * np.log10(flux) + 31.4
    matched = [number[ident] for ident in result.reference_stars["fgcm_id"].tolist()]
    assert result.reference_stars["fgcm_id"].dtype == np.int64
    present = [star for star in number.values() if star in catalog]
    assert sorted(matched) == sorted(present) != []
    found = np.asarray(result.reference_stars["refMag"])
    np.testing.assert_allclose(found, mags[[catalog[star] for star in matched]], atol=4e-6)
    stage = result.accounting["references"]
    assert (stage.read, stage.kept) == (sum(stage.rejected.values()) + len(matched), len(matched))


def test_sources_of_visits_without_a_summary_are_counted(tract, summaries, truth, camera):
    fewer = dict(list(summaries.items())[1:])
    lost = next(iter(summaries))
    result = build_from_isolated_stars(
        settings(doReferenceMatches=False), {TRACT: tract}, fewer, focal_plane=camera
    )
    assert result.reference_stars is None
    assert result.accounting["sources"].rejected["no_visit"] == np.count_nonzero(truth["visit"] == lost)
    assert not (result.observations["visit"] == lost).any()
    assert result.accounting["visits"].kept == len(fewer)


def test_visits_that_no_star_was_seen_in_are_named(tract, summaries, survey, rows, camera, caplog):
    other = next(row for row in range(len(survey.visits)) if row not in rows)
    unseen = int(survey.visits["visit"][other])
    given = {**summaries, unseen: visit_summary(survey, other)}
    result = build_from_isolated_stars(
        settings(doReferenceMatches=False), {TRACT: tract}, given, focal_plane=camera
    )
    assert result.accounting["visits"].noted["no_sources"] == 1
    sentence = f"1 visit is without observations (no_sources): {unseen}."
    assert result.left_out == (sentence,)
    assert caplog.text.count(sentence) == 1
    assert result.visits["visit"][~result.visits["sources_read"]].tolist() == [unseen]


def test_references_that_are_wanted_must_be_given(tract, summaries, camera):
    with pytest.raises(InvalidInputError, match="doReferenceMatches"):
        build_from_isolated_stars(settings(), {TRACT: tract}, summaries)
    with pytest.raises(InvalidInputError, match="No visit can be used"):
        build_from_isolated_stars(settings(doReferenceMatches=False), {TRACT: tract}, {})
    config = settings(doReferenceMatches=False, requiredBands=["z"])
    with pytest.raises(InvalidInputError, match="requiredBands names z"):
        build_from_isolated_stars(config, {TRACT: tract}, summaries, focal_plane=camera)

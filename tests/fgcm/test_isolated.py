import hashlib

import lsst.pex.config as pexConfig
import numpy as np
import pytest
from astropy.table import Table

from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.focal_plane import DetectorGeometry, FocalPlane
from zeropoint.errors import InvalidInputError, NoUniqueStarsError
from zeropoint.fgcm.accounting import Accounting
from zeropoint.fgcm.isolated import FgcmBuildFromIsolatedStars, IsolatedTract, _medians
from zeropoint.fgcm.isolated_config import FgcmBuildFromIsolatedStarsConfig
from zeropoint.fgcm.visits import VisitCatalog, describe_visits

#: Magnitudes are float32, near 10.
FLOAT32 = 2e-6
K = 2.5 / np.log(10.0)
VISITS = [11, 12, 13, 14]
BANDS = {11: "g", 12: "r", 13: "g", 14: "r"}
EXPTIME = {11: 30.0, 12: 60.0, 13: 15.0, 14: 30.0}
#: Columns, types and units as fgcmcal has them.
OBSERVATIONS = {
    "ra": ("f8", "deg"), "dec": ("f8", "deg"), "x": ("f8", "pix"), "y": ("f8", "pix"), "visit": ("i8", None),
    "detector": ("i4", None), "inst_mag": ("f4", "mag"), "inst_mag_err": ("f4", "mag"), "jacobian": ("f4", None),
    "delta_mag_bkg": ("f4", "mag"), "delta_mag_aper": ("f4", "mag"), "delta_mag_err_aper": ("f4", "mag"),
}  # fmt: skip
STARS = {
    "fgcm_id": ("i8", None), "isolated_star_id": ("i8", None), "ra": ("f8", "deg"), "dec": ("f8", "deg"),
    "obs_arr_index": ("i4", None), "n_obs": ("i4", None), "obj_flag": ("i4", None),
}  # fmt: skip


def focal_plane(n=2, area=1.0):
    """Detectors 1, 3, ... of 100 x 100 pixels whose pixels have a relative area that grows with the detector."""
    return FocalPlane(
        "Cam",
        tuple(
            DetectorGeometry(
                2 * k + 1, str(k), 0, 0, 100, 100, 0.0, 0.0, 0.2,
                ChebyshevPolynomial.constant(100, 100, area + 0.01 * k),
            )
            for k in range(n)
        ),
    )  # fmt: skip


def visit_catalog(visits=VISITS, detectors=(1, 3), scaling=1.0):
    n, n_detectors = len(visits), len(detectors)
    values = {
        "visit": np.array(visits, np.int64),
        "physicalFilter": np.array([f"CAM-{BANDS[v]}" for v in visits]).astype("U30"),
        **{name: np.zeros(n) for name in ("telra", "teldec", "telha", "telrot", "mjd")},
        "exptime": np.array([EXPTIME[v] for v in visits], np.float32),
        **{
            name: np.zeros(n, np.float32)
            for name in ("pmb", "psfSigma", "psfFwhm", "skyBackground", "airmass")
        },
        "psfFwhmDetector": np.zeros((n, n_detectors), np.float32),
        "deltaAper": np.zeros(n, np.float32),
        "deltaAperDetector": np.full((n, n_detectors), -9999.0, np.float32),
        "scaling": np.full((n, n_detectors), scaling),
        "deepFlag": np.zeros(n, np.int32),
        "used": np.ones(n, np.int32),
        "sources_read": np.zeros(n, np.bool_),
    }
    bands = {f"CAM-{band}": band for band in "gr"}
    accounting = Accounting()
    accounting.add("visits", read=n, kept=n)
    return VisitCatalog(describe_visits(values), bands, np.array(detectors, np.int64), accounting)


def tract(number, seen, *, first_ra=150.0, spacing=0.01):
    """Stars of a tract; ``seen[k]`` lists the visits that saw star k."""
    rows = [
        (k, visit) for k, visits in enumerate(seen) for visit in sorted(visits, key=lambda v: (BANDS[v], v))
    ]
    index, visit = (np.array(values, np.int64) for values in zip(*rows)) if rows else (np.zeros(0, int),) * 2
    n, n_obs = len(seen), np.bincount(index, minlength=len(seen))
    bands = np.array([BANDS[v] for v in visit] or ["g"])[: len(visit)]
    ra = first_ra + spacing * np.arange(n)
    stars = Table(
        {
            "isolated_star_id": (np.arange(n) + 1) * 1000 + number,
            "ra": ra,
            "dec": np.full(n, 2.0),
            "primary_band": np.full(n, "g"),
            "source_cat_index": (np.cumsum(n_obs) - n_obs).astype(np.int32),
            "nsource": n_obs.astype(np.int32),
        },
        meta={"tract": number, "skymap_sha1": "abc"},
    )
    for band in "gr":
        of_band = np.bincount(index[bands == band], minlength=n).astype(np.int32)
        stars[f"nsource_{band}"] = of_band
        stars[f"source_cat_index_{band}"] = stars["source_cat_index"] + (
            of_band * 0 if band == "g" else n_obs - of_band
        )
    flux = 1000.0 * (1.0 + index % 10)
    sources = Table(
        {
            "sourceId": np.arange(len(index)) + 100_000 * number,
            "visit": visit,
            "detector": np.where(index % 2 == 0, 1, 3).astype(np.int16),
            "ra": ra[index] + 1e-6,
            "dec": np.full(len(index), 2.0),
            "physical_filter": np.array([f"CAM-{band}" for band in bands]),
            "band": bands,
            "x": 10.0 + index,
            "y": 20.0 + index,
            "normCompTophatFlux_instFlux": flux,
            "normCompTophatFlux_instFluxErr": np.full(len(index), 20.0),
            "apFlux_12_0_instFlux": 0.9 * flux,
            "apFlux_12_0_instFluxErr": np.full(len(index), 15.0),
            "apFlux_17_0_instFlux": 0.95 * flux,
            "apFlux_17_0_instFluxErr": np.full(len(index), 25.0),
            "localBackground_instFlux": np.full(len(index), 0.1),
            "localBackground_flag": np.zeros(len(index), bool),
            "obj_index": index.astype(np.int32),
        }
    )
    return IsolatedTract(stars, sources)


def build(tracts, visits=None, plane=None, on_progress=None, **settings):
    config = FgcmBuildFromIsolatedStarsConfig()
    config.doReferenceMatches = False
    config.update(**settings)
    config.validate()
    visits = visit_catalog() if visits is None else visits
    return FgcmBuildFromIsolatedStars(config).run(
        tracts, visits, plane or focal_plane(), on_progress=on_progress
    )


def test_the_defaults_are_rubins():
    config = FgcmBuildFromIsolatedStarsConfig()
    science = config.sourceSelector["science"]
    assert config.instFluxField == science.signalToNoise.fluxField == "normCompTophatFlux_instFlux"
    assert science.signalToNoise.errField == "normCompTophatFlux_instFluxErr"
    assert (science.signalToNoise.minimum, science.signalToNoise.maximum) == (9.0, 1000.0)
    others = (
        "doFlags",
        "doUnresolved",
        "doIsolated",
        "doRequireFiniteRaDec",
        "doRequirePrimary",
        "doFluxLimit",
    )
    assert not any(getattr(science, name) for name in others)
    assert (config.reserve_selection.reserve_name, config.reserve_selection.reserve_fraction) == (
        "fgcmcal",
        0.1,
    )
    assert (config.referenceCCD, config.minPerBand, config.randomSeed) == (40, 2, 123456)


def test_the_tables_have_the_columns_of_the_reference():
    result = build({7: tract(7, [VISITS] * 3)})
    for table, expected in ((result.observations, OBSERVATIONS), (result.stars, STARS)):
        found = {
            name: (table[name].dtype.str[1:], None if table[name].unit is None else str(table[name].unit))
            for name in table.colnames
        }
        assert found == expected
        assert all(table[name].description for name in table.colnames)


def test_magnitudes_follow_their_formulas():
    result = build({7: tract(7, [VISITS] * 2)}, visit_catalog(scaling=1.1), focal_plane(area=1.02))
    obs = result.observations
    assert obs["visit"].tolist() == [11, 13, 12, 14] * 2
    assert obs["detector"].tolist() == [1] * 4 + [3] * 4
    flux = np.repeat([1000.0, 2000.0], 4)
    exptime = np.array([30.0, 15.0, 60.0, 30.0] * 2)
    area = np.repeat([1.02, 1.03], 4)
    expected = -2.5 * np.log10(flux * 1.1 / exptime) - 2.5 * np.log10(area)
    np.testing.assert_allclose(obs["inst_mag"], expected, atol=FLOAT32)
    np.testing.assert_allclose(obs["inst_mag_err"], K * 20.0 / flux, rtol=1e-6)
    np.testing.assert_allclose(obs["jacobian"], area, rtol=1e-7)
    np.testing.assert_allclose(obs["delta_mag_aper"], -2.5 * np.log10(0.9 / 0.95), atol=FLOAT32)
    error = K * np.hypot(15.0 / (0.9 * flux), 25.0 / (0.95 * flux))
    np.testing.assert_allclose(obs["delta_mag_err_aper"], error, rtol=1e-6)
    assert not np.any(obs["delta_mag_bkg"])
    plain = build({7: tract(7, [VISITS] * 2)}, plane=focal_plane(area=1.02), doApplyWcsJacobian=False)
    np.testing.assert_allclose(plain.observations["inst_mag"], -2.5 * np.log10(flux / exptime), atol=FLOAT32)
    np.testing.assert_allclose(plain.observations["jacobian"], area, rtol=1e-7)


def test_the_local_background_changes_magnitudes_only_where_asked_for():
    one = tract(7, [VISITS] * 3)
    background = one.sources["localBackground_instFlux"]
    background[0] = 5.0  # more than the star has
    one.sources["localBackground_flag"][5] = True
    with pytest.raises(pexConfig.FieldValidationError, match="circular aperture"):
        build({7: one}, doSubtractLocalBackground=True)
    result = build({7: one}, doSubtractLocalBackground=True, instFluxField="apFlux_12_0_instFlux")
    area = np.pi * 12.0**2
    flux = 900.0 * np.repeat([1.0, 2.0, 3.0], [3, 3, 4])
    np.testing.assert_allclose(
        result.observations["delta_mag_bkg"], -2.5 * np.log10(1 - 0.1 * area / flux), atol=FLOAT32
    )
    np.testing.assert_allclose(result.observations["inst_mag_err"], K * 15.0 / flux, rtol=1e-6)
    assert result.accounting["sources"].rejected == {"local_background": 2}


def test_every_source_and_star_is_counted_with_one_reason():
    everything = [VISITS, VISITS, VISITS, [11, 12], [11, 13], VISITS]
    one = tract(7, everything)
    sources, rows = one.sources, {k: np.flatnonzero(one.sources["obj_index"] == k) for k in range(6)}
    sources["normCompTophatFlux_instFlux"][rows[0][0]] = 100.0  # signal-to-noise 5
    sources["detector"][rows[1][0]] = 2
    sources["x"][rows[1][1]] = np.nan
    visits = visit_catalog([11, 12, 13])
    result = build({7: one}, visits, requiredBands=["g"])
    stages = result.accounting.to_meta()
    assert stages["sources"] == {
        "read": 20, "kept": 13, "rejected": {"no_detector": 1, "no_position": 1, "no_visit": 4, "signalToNoise": 1},
    }  # fmt: skip
    # stars 0 and 1 lost an observation in g, 3 has but one
    assert stages["stars"] == {"read": 6, "kept": 3, "rejected": {"too_few_in_required_band": 3}}
    assert stages["observations_of_stars"] == {
        "read": 13, "kept": 8, "rejected": {"star_too_few_in_required_band": 5},
    }  # fmt: skip
    assert result.stars["isolated_star_id"].tolist() == [3007, 5007, 6007]
    assert result.stars["n_obs"].tolist() == [3, 2, 3]
    for table in (result.stars, result.observations):
        assert table.meta["ACCOUNTING"] == stages


def test_without_required_bands_any_band_is_enough():
    seen = [[11, 12], [11, 13], [12, 14, 11]]
    assert build({7: tract(7, seen)}).stars["isolated_star_id"].tolist() == [2007, 3007]
    required = build({7: tract(7, [*seen, VISITS])}, requiredBands=["g", "r"])
    assert required.stars["isolated_star_id"].tolist() == [4007]
    with pytest.raises(NoUniqueStarsError, match="too_few_in_required_band 3") as error:
        build({7: tract(7, seen)}, requiredBands=["z"])
    assert error.value.metadata == {"n_observations": 7, "n_groups": 3, "n_candidates": 0}


def test_tracts_follow_one_another_in_any_order():
    tracts = {9: tract(9, [VISITS] * 2, first_ra=10.0), 7: tract(7, [[11, 13], VISITS])}
    done = []
    result = build(tracts, on_progress=lambda *args: done.append(args))
    again = build(dict(reversed(tracts.items())))
    for table, other in ((result.stars, again.stars), (result.observations, again.observations)):
        assert (np.asarray(table) == np.asarray(other)).all()
    stars = result.stars
    assert stars["fgcm_id"].tolist() == [1, 2, 3, 4]
    assert stars["isolated_star_id"].tolist() == [1007, 2007, 1009, 2009]
    assert stars["obs_arr_index"].tolist() == [0, 2, 6, 10]
    assert stars["n_obs"].tolist() == [2, 4, 4, 4]
    for star in stars:
        own = result.observations[star["obs_arr_index"] : star["obs_arr_index"] + star["n_obs"]]
        np.testing.assert_allclose(own["ra"], star["ra"] + 1e-6, atol=1e-9)
    assert done == [(name, k, 2) for name in ("isolated stars", "star observations") for k in (1, 2)]


def test_stars_that_are_too_dense_are_dropped_by_the_seed():
    # 40 stars within a pixel of 0.46 degrees, 3 in another
    tracts = {7: tract(7, [VISITS] * 40, spacing=1e-4), 8: tract(8, [VISITS] * 3, first_ra=10.0)}
    result = build(tracts, densityCutMaxPerPixel=15)
    assert result.accounting["stars"].rejected == {"too_dense": 25}
    assert result.accounting["observations_of_stars"].rejected == {"star_too_dense": 100}
    kept = result.stars["isolated_star_id"]
    assert np.count_nonzero(kept % 1000 == 7) == 15
    assert np.count_nonzero(kept % 1000 == 8) == 3
    assert result.stars["fgcm_id"].tolist() == list(range(1, 19))
    drop = np.random.Generator(np.random.MT19937(123456)).choice(np.arange(40), size=25, replace=False)
    expected = (np.setdiff1d(np.arange(40), drop) + 1) * 1000 + 7
    assert kept[:15].tolist() == expected.tolist()
    other = build(tracts, densityCutMaxPerPixel=15, randomSeed=5).stars["isolated_star_id"]
    assert other.tolist() != kept.tolist()


def test_reserved_stars_are_those_of_the_published_rule():
    result = build({7: tract(7, [VISITS] * 57)}, requiredBands=["r", "g"])
    digest = hashlib.sha256(b"fgcmcal_r,g").hexdigest()
    chosen = np.zeros(57, bool)
    chosen[:5] = True
    np.random.default_rng(int(digest, 16) & 0xFFFFFFFF).shuffle(chosen)
    assert result.stars["obj_flag"].tolist() == np.where(chosen, 16, 0).tolist()


def test_the_visits_get_the_median_difference_of_apertures():
    one = tract(7, [VISITS] * 7)
    sources = one.sources
    first = np.flatnonzero(sources["visit"] == 11)  # stars 0 to 6, on detectors 1, 3, 1, ...
    sources["apFlux_12_0_instFlux"][first] = sources["apFlux_17_0_instFlux"][first] * 10.0 ** (
        -0.4 * np.arange(7) * 0.01
    )
    sources["apFlux_17_0_instFlux"][first[6]] = -1.0
    few = np.flatnonzero(sources["visit"] == 12)[2:]
    sources["apFlux_17_0_instFluxErr"][few] = np.nan
    visits = visit_catalog()
    result = build({7: one}, visits)
    bad = np.flatnonzero(
        (result.observations["visit"] == 11) & (result.observations["delta_mag_aper"] == 99.0)
    )
    assert len(bad) == 1
    assert result.observations["delta_mag_err_aper"][bad[0]] == 99.0
    table = result.visits.table
    # 0 to 5 hundredths; detector 1 has 0, 2, 4 and detector 3 has 1, 3, 5
    assert table["deltaAper"][0] == pytest.approx(0.025, abs=FLOAT32)
    assert table["deltaAperDetector"][0].tolist() == pytest.approx([0.02, 0.03], abs=FLOAT32)
    assert table["deltaAper"][1] == -9999.0
    assert table["deltaAperDetector"][1].tolist() == [-9999.0, -9999.0]
    assert table["deltaAper"][2] == pytest.approx(-2.5 * np.log10(0.9 / 0.95), abs=FLOAT32)
    assert table["sources_read"].all()
    assert table["deltaAper"].unit == "mag"
    assert not visits.table["sources_read"].any()  # the catalogue given is as it was


def test_tables_that_do_not_belong_together_are_refused():
    one, other = tract(7, [VISITS] * 3), tract(7, [VISITS] * 4)
    with pytest.raises(InvalidInputError, match=r"tract 7.*not from the same association"):
        build({7: IsolatedTract(one.stars, other.sources)})
    with pytest.raises(InvalidInputError, match="tract 8 is that of another tract"):
        build({8: one})
    lacking = one.sources.copy()
    lacking.remove_column("apFlux_17_0_instFlux")
    with pytest.raises(InvalidInputError, match="sources of tract 7 has no column apFlux_17_0_instFlux"):
        build({7: IsolatedTract(one.stars, lacking)})
    map_of_another = tract(9, [VISITS], first_ra=10.0)
    map_of_another.stars.meta["skymap_sha1"] = "def"
    with pytest.raises(InvalidInputError, match="different sky maps"):
        build({7: one, 9: map_of_another})


def test_a_tract_without_stars_is_no_hindrance():
    empty = tract(8, [])
    result = build({7: tract(7, [VISITS]), 8: empty})
    assert len(result.stars) == 1
    with pytest.raises(NoUniqueStarsError, match="0 read"):
        build({8: empty})


def test_another_selector_reads_all_columns():
    one = tract(7, [VISITS] * 3)
    one.sources["is_bright"] = one.sources["obj_index"] > 0
    config = FgcmBuildFromIsolatedStarsConfig()
    config.doReferenceMatches = False
    config.sourceSelector.name = "flagged"
    config.sourceSelector["flagged"].field = "is_bright"
    result = FgcmBuildFromIsolatedStars(config).run({7: one}, visit_catalog(), focal_plane())
    assert result.stars["isolated_star_id"].tolist() == [2007, 3007]


def test_medians_are_numpys():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 40, 600)
    labels[labels == 7] = 8
    labels[:2] = 7  # too few
    values = rng.choice([-2.5, -0.0, 0.0, 1e-30, 3.0, -1e-3, 0.25], 600).astype(np.float32) * rng.integers(
        1, 5, 600
    )
    found = _medians(labels, values.astype(np.float32), 42)
    expected = [np.median(values[labels == k]) if np.sum(labels == k) > 2 else -9999.0 for k in range(42)]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))

"""SDSS frames through the tasks of the older pair: against CalibrateImage, and against Rubin's own older pair."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table
from scipy.spatial import cKDTree

from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.instruments.card import load_card
from zeropoint.instruments.reader import load_image
from zeropoint.recipes.overrides import apply_override
from zeropoint.recipes.post_isr import post_isr_image
from zeropoint.tasks.calibrate import CalibrateConfig, CalibrateTask
from zeropoint.tasks.characterize_image import CharacterizeImageConfig, CharacterizeImageTask

# the pair is compared with CalibrateImage on simulated images, too: tests/recipes/test_legacy_pair.py
pytestmark = [pytest.mark.parity, pytest.mark.slow]


@dataclass(frozen=True)
class Frame:
    """One frame by both ways."""

    band: str
    pair: SimpleNamespace
    successor: SimpleNamespace
    parity: dict[str, float]


def run_pair(path, references):
    """Return what the two tasks make of a frame, with the settings of its card."""
    loaded = load_image(path, load_card("sdss"))
    exposure = loaded.exposure
    ids = CatalogIdGenerator(exposure.visit_info.visit, exposure.detector.id, *loaded.ids)
    first_config, config = CharacterizeImageConfig(), CalibrateConfig()
    first_config.do_first_look = config.do_first_look = True
    apply_override(config, "astrometry.wcsFitter", "FitAffineWcsTask")
    assert "base_SdssShape" in config.measurement.plugins.names
    first = CharacterizeImageTask(config=first_config)
    one = first.run(post_isr_image(loaded), idGenerator=ids)
    second = CalibrateTask(
        ReferenceObjectLoader(references, config.astromRefObjLoader),
        ReferenceObjectLoader(references, config.photoRefObjLoader),
        icSourceSchema=first.outputSchema,
        config=config,
    )
    return one, second.run(one.exposure, one.background, one.sourceCat, ids)


@pytest.fixture(scope="module", params=["r", "g", "i", "z"])
def frame(request, real_data, testdata):
    folder, band = testdata / "sdss-s82", request.param
    if not folder.is_dir():
        pytest.skip(f"no SDSS frames in {testdata}")
    references = ReferenceSource.open(folder / "ref_cats" / "sdss_demo_ref_cat")
    path = folder / "4192" / "40" / "corr" / "4" / f"fpC-004192-{band}4-0300.fit.gz"
    _, result = run_pair(path, references)
    done = real_data.sdss_frame(band, testdata)
    ours = SimpleNamespace(stars=result.outputCat, gain=done.gain)
    parity = real_data.sdss_parity(ours, band, testdata)
    return Frame(band, result.record, done.run.result, parity)


def common_stars(frame: Frame) -> tuple[Table, Table]:
    """Return the bright stars of both ways, row by row."""
    theirs, ours = frame.successor.stars, frame.pair.sources
    snr = theirs["base_PsfFlux_instFlux"] / theirs["base_PsfFlux_instFluxErr"]
    good = (snr > 50) & theirs["detect_isPrimary"]
    for flag in ("edge", "saturatedCenter"):
        good &= ~theirs[f"base_PixelFlags_flag_{flag}"]
    rows, primary = np.flatnonzero(good), np.flatnonzero(ours["detect_isPrimary"])
    tree = cKDTree(np.stack([ours[f"slot_Centroid_{axis}"][primary] for axis in "xy"], axis=1))
    distance, near = tree.query(np.stack([theirs[f"slot_Centroid_{axis}"][rows] for axis in "xy"], axis=1))
    close = distance < 0.5
    assert close.mean() > 0.97
    return ours.take(primary[near[close]]), theirs.take(rows[close])


def test_zeropoint_and_psf_agree_with_calibrate_image(frame):
    pair, successor = frame.pair, frame.successor
    # mostly the same stars, so that most of the noise is common
    assert abs(pair.photometry.zp - successor.photometry.zp) < 2 * successor.photometry.sigma
    assert pair.summary.psfSigma == pytest.approx(successor.summary.psfSigma, rel=5e-3)


def test_the_wcs_agrees_with_calibrate_image(frame):
    gx, gy = np.meshgrid(np.linspace(0, 2047, 9), np.linspace(0, 1488, 7))
    (ra, dec), (ra2, dec2) = (
        one.exposure.wcs.pixel_to_sky(x=gx, y=gy) for one in (frame.pair, frame.successor)
    )
    mas = np.hypot((ra - ra2) * np.cos(dec), dec - dec2) * 206264806.0
    # 36 to 68 references of 25 mas each: 3 to 4 mas a parameter
    n = len(frame.pair.matches)
    assert n >= 35
    assert np.sqrt(np.mean(mas**2)) < 25.0 / np.sqrt(n)


def test_fluxes_agree_with_calibrate_image(frame):
    ours, theirs = common_stars(frame)
    assert len(ours) > 40
    error = theirs["base_PsfFlux_instFluxErr"] / theirs["base_PsfFlux_instFlux"]
    change = (
        ours["base_CircularApertureFlux_6_0_instFlux"] / theirs["base_CircularApertureFlux_6_0_instFlux"] - 1
    )
    assert abs(np.median(change)) < 3e-3
    # without the aperture correction, whose order is a choice: fluxes of one PSF are the same photons
    raw = [each["base_PsfFlux_instFlux"] / each["base_PsfFlux_apCorr"] for each in (ours, theirs)]
    change = raw[0] / raw[1] - 1
    assert abs(np.median(change)) < 3e-3
    assert np.median(np.abs(change) / error) < 0.5
    corrected = ours["base_PsfFlux_instFlux"] / theirs["base_PsfFlux_instFlux"] - 1
    assert np.median(np.abs(corrected) / error) < 2.0


def test_measurements_agree_with_those_of_rubins_older_pair(frame):
    parity = frame.parity
    assert parity["n"] >= 0.95 * parity["n_published"]
    assert parity["n"] >= 50
    # as for CalibrateImage
    assert parity["aperture_ratio"] == pytest.approx(1.0, abs=0.005)
    # 0.014 in i, where the aperture correction of few stars is constant
    assert parity["psf_scatter"] <= 0.02
    assert max(parity["x_scatter"], parity["y_scatter"]) <= 0.05
    assert parity["xx_ratio"] == pytest.approx(1.0, abs=0.02)
    assert parity["yy_ratio"] == pytest.approx(1.0, abs=0.02)

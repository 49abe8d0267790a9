"""Illumination correction: divided out of the image, put back where a background is fitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.errors import InvalidInputError
from zeropoint.recipes.calibrate_image import CalibrateImage
from zeropoint.recipes.session import production_config
from zeropoint.simulation import SimulationSettings, simulate_exposure, write_simulation

SETTINGS = SimulationSettings(
    width=600, height=580, n_stars=260, magnitude_bright=17.0, n_cosmic_rays=0, sky_gradient=0.0, seed=9
)


@pytest.fixture(scope="module")
def simulated():
    return simulate_exposure(SETTINGS)


@pytest.fixture(scope="module")
def loaders(simulated, tmp_path_factory):
    source = ReferenceSource.open(write_simulation(simulated, tmp_path_factory.mktemp("field"))[1])
    config = production_config()
    return {
        f"{name}_references": ReferenceObjectLoader(source, getattr(config, f"{name}_ref_loader"))
        for name in ("astrometry", "photometry")
    }


@pytest.fixture(scope="module")
def correction() -> np.ndarray:
    """Flat-fielding on the sky overcorrects a corner by 8 %."""
    x = np.linspace(0, 1, SETTINGS.width, dtype=np.float32)
    y = np.linspace(0, 1, SETTINGS.height, dtype=np.float32)[:, None]
    return (1.0 + 0.08 * x * y).astype(np.float32)


def recipe(**changes: object) -> CalibrateImage:
    config = production_config()
    config.do_illumination_correction = True
    config.do_calibrate_pixels = False
    config.psf_subtract_background.doApplyFlatBackgroundRatio = True
    config.star_background.doApplyFlatBackgroundRatio = True
    for name, value in changes.items():
        setattr(config, name, value)
    return CalibrateImage(config)


def flattened(simulated, correction):
    """The image as ISR leaves it: flat in sky, stars too bright by the correction."""
    exposure = simulated.exposure.copy()
    stars = exposure.image - np.float32(SETTINGS.sky_electrons)
    exposure.image = stars * correction + np.float32(SETTINGS.sky_electrons)
    exposure.metadata["LSST ISR FLAT APPLIED"] = True
    return exposure


def test_stars_get_their_flux_and_the_sky_stays_flat(simulated, loaders, correction) -> None:
    holed = correction.copy()
    holed[5, 7], holed[9, 11] = np.nan, 0.0
    result = recipe().run(flattened(simulated, correction), illumination_correction=holed, **loaders)
    assert result.exposure.metadata["LSST CALIB ILLUMCORR APPLIED"] is True
    ratio = result.background_to_photometric_ratio
    usable = np.isfinite(holed) & (holed > 0)
    np.testing.assert_array_equal(ratio[usable], correction[usable])
    assert result.exposure.masked("NO_DATA")[[5, 9], [7, 11]].all()
    assert np.isfinite(result.exposure.image).all()
    stars = result.stars
    x, y = stars["slot_Centroid_x"], stars["slot_Centroid_y"]
    distance = np.hypot(
        x - np.asarray(simulated.stars["x"])[:, None], y - np.asarray(simulated.stars["y"])[:, None]
    )
    i, j = np.nonzero(distance < 0.5)
    bright = (np.asarray(simulated.stars["snr"])[i] > 60) & (stars["deblend_nChild"][j] == 0)
    bright &= ~stars["base_PixelFlags_flag_saturated"][j]
    i, j = i[bright], j[bright]
    assert len(i) > 15
    error = np.log(stars["base_PsfFlux_instFlux"][j] / np.asarray(simulated.stars["flux"])[i])
    place = (x * y)[j] / (SETTINGS.width * SETTINGS.height)
    slope = np.polyfit(place, error, 1)[0]
    # 20 stars of 1.7 percent: 0.01; without the correction the slope would be 0.08
    assert abs(slope) < 0.03
    sky = result.exposure.image[~result.exposure.masked("DETECTED", "SATURATED", "NO_DATA")]
    assert abs(np.median(sky)) < 2.0


def test_what_does_not_fit_is_refused(simulated, loaders, correction) -> None:
    exposure = flattened(simulated, correction)
    with pytest.raises(InvalidInputError, match="no illumination correction was given"):
        recipe().run(exposure, **loaders)
    with pytest.raises(InvalidInputError, match="600 x 579 pixels, the image 600 x 580"):
        recipe().run(exposure, illumination_correction=correction[1:], **loaders)
    exposure.metadata["LSST ISR FLAT APPLIED"] = False
    with pytest.raises(InvalidInputError, match="LSST ISR FLAT APPLIED"):
        recipe().run(exposure, illumination_correction=correction, **loaders)


def test_an_initial_wcs_and_a_region_replace_the_images_own(simulated, loaders) -> None:
    from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

    lost = simulated.exposure.copy()
    lost.wcs = replace(simulated.wcs, dec0=simulated.wcs.dec0 + 0.2)
    corners = simulated.wcs.pixel_to_sky(x=[-50, 650, 650, -50], y=[-50, -50, 630, 630])
    region = ConvexPolygon([UnitVector3d(LonLat.fromRadians(ra, dec)) for ra, dec in zip(*corners)])
    result = CalibrateImage(production_config()).run(
        lost, initial_wcs=simulated.wcs, exposure_region=region, **loaders
    )
    assert result.failure is None
    # the affine fitter keeps the distortion that the initial WCS brings
    assert result.metadata["initial_to_final_wcs"] < 0.02
    matches = result.astrometry_matches
    assert region.contains(np.asarray(matches["ref_coord_ra"]), np.asarray(matches["ref_coord_dec"])).all()

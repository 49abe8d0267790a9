"""Kron, convolved and GAaP fluxes: closed forms of Gaussians, slow twins, errors, flags, names."""

from __future__ import annotations

import galsim
import lsst.pex.config as pexConfig
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive import common_seeing as naive
from naive.measurement import circle_sum, config_of, moffat_psf
from naive.star_field import catalog_of, disc_footprints, exposure_of, grid_of_stars, start_schema
from zeropoint.datamodel.catalog import ColumnSpec
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.psf_model import GaussianPsf, PsfModel
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import InvalidInputError
from zeropoint.measurement.aperture_corrections import ap_corr_names
from zeropoint.measurement.convolved import SIGMA_TO_FWHM, ConvolvedFluxConfig
from zeropoint.measurement.gaap import GaapFluxConfig, gaap_weights
from zeropoint.measurement.single_frame import SingleFrameMeasurement, SingleFrameMeasurementConfig

KRON = "ext_photometryKron_KronFlux"
CONVOLVED = "ext_convolved_ConvolvedFlux"
GAAP = "ext_gaap_GaapFlux"
SIGMA, SCALE = 1.8, 0.2
FLUX = 3e4


def flux_config(*names: str) -> SingleFrameMeasurementConfig:
    config = config_of("base_SdssCentroid", "base_SdssShape", *names, shape="base_SdssShape")
    config.slots.psfShape = "base_SdssShape_psf"
    if GAAP in names:
        config.plugins[GAAP].sigmas = [0.5, 0.7, 1.0, 1.5, 3.0]
        config.plugins[GAAP].doPsfPhotometry = True
    if CONVOLVED in names:
        config.plugins[CONVOLVED].seeing.append(8.0)
    return config


def run(exposure: Exposure, footprints: FootprintSet, config: SingleFrameMeasurementConfig):
    schema = start_schema()
    step = SingleFrameMeasurement(config, schema=schema)
    catalog = catalog_of(schema, footprints)
    step.run(exposure, catalog, seed=5)
    return catalog


def with_wcs(exposure: Exposure, rotation: float = 20.0) -> Exposure:
    exposure.wcs = SkyWcs.from_boresight(
        10.0, 10.0, x=300.0, y=300.0, pixel_scale_arcsec=SCALE, rotation_deg=rotation
    )
    return exposure


def one_source(image: np.ndarray, x: float, y: float, psf: PsfModel | None, radius: int = 14):
    """Return an exposure with tiny variance and one source, measured where it is."""
    return with_wcs(exposure_of(image, 1e-4, psf)), disc_footprints(np.array([x]), np.array([y]), radius)


def elliptical_gaussian(size: int, x: float, y: float, moments: tuple[float, float, float]) -> np.ndarray:
    blank = np.zeros((size, size))
    det = moments[0] * moments[1] - moments[2] ** 2
    return FLUX * np.exp(-0.5 * naive.radii2(blank, x, y, moments)) / (2 * np.pi * np.sqrt(det))


@pytest.fixture(scope="module")
def stars():
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(SIGMA, 41), np.full(225, FLUX), spacing=42)
    return run(with_wcs(exposure), footprints, flux_config(KRON, CONVOLVED, GAAP)), exposure, footprints


@pytest.fixture(scope="module")
def moffat_stars():
    exposure, footprints, _, _ = grid_of_stars(
        moffat_psf(3.2, 41, stretch=0.1), np.full(225, FLUX), spacing=42, seed=1
    )
    return run(with_wcs(exposure), footprints, flux_config(GAAP))


def names_of(kind: str) -> list[str]:
    config = flux_config(kind).plugins[kind]
    return list(config.getAllGaapResultNames()) if kind == GAAP else config.getAllResultNames()


# -- fluxes and errors of stars ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names_of(GAAP))
@pytest.mark.parametrize("psf", ["gaussian", "moffat"])
def test_gaap_fluxes_of_stars_are_their_fluxes(stars, moffat_stars, name, psf):
    catalog = stars[0] if psf == "gaussian" else moffat_stars
    assert not catalog[f"{name}_flag"].any()
    flux, err = catalog[f"{name}_instFlux"], catalog[f"{name}_instFluxErr"]
    # the centroid's error takes 2e-4 of the flux away, as it does with the PSF flux
    assert abs(flux.mean() - FLUX) < 4 * err.mean() / np.sqrt(len(flux)) + 2e-4 * FLUX
    # 225 pulls: their width has an error of 0.05
    assert 0.87 < np.std(flux) / err.mean() < 1.13


@pytest.mark.parametrize("radius", [3.3, 4.5, 6.0])
@pytest.mark.parametrize("seeing", [5.0, 6.5, 8.0])
def test_convolved_fluxes_of_gaussian_stars_are_known(stars, seeing, radius):
    catalog = stars[0]
    name = flux_config(CONVOLVED).plugins[CONVOLVED].getApertureResultName(seeing, radius)
    truth = FLUX * (1 - np.exp(-0.5 * (radius * SIGMA_TO_FWHM / seeing) ** 2))
    flux, err = catalog[f"{name}_instFlux"], catalog[f"{name}_instFluxErr"]
    assert not catalog[f"{name}_flag"].any()
    # the kernel ends at 4 sigma and the centroid has errors
    assert abs(flux.mean() - truth) < 4 * err.mean() / np.sqrt(len(flux)) + 5e-4 * FLUX
    assert 0.87 < np.std(flux) / err.mean() < 1.13


def test_an_image_worse_than_the_seeing_is_measured_as_it_is(stars):
    catalog, exposure, footprints = stars
    assert catalog[f"{CONVOLVED}_0_deconv"].all()
    assert not catalog[f"{CONVOLVED}_1_deconv"].any()
    np.testing.assert_allclose(catalog[f"{CONVOLVED}_seeing"], SIGMA, rtol=1e-4)
    np.testing.assert_allclose(
        catalog[f"{CONVOLVED}_0_kron_instFlux"], catalog[f"{KRON}_instFlux"], rtol=1e-6
    )
    config = flux_config("base_CircularApertureFlux")
    config.plugins["base_CircularApertureFlux"].radii = [4.5]
    plain = run(exposure, footprints, config)
    # weights moved by a phase here, by Lanczos interpolation there
    np.testing.assert_allclose(
        catalog[f"{CONVOLVED}_0_4_5_instFlux"], plain["base_CircularApertureFlux_4_5_instFlux"], rtol=2e-3
    )


def test_kron_fluxes_of_gaussian_stars_are_known(stars):
    catalog = stars[0]
    assert not catalog[f"{KRON}_flag"].any()
    np.testing.assert_allclose(catalog[f"{KRON}_psf_radius"], np.sqrt(np.pi / 2) * SIGMA, rtol=1e-4)
    radius = catalog[f"{KRON}_radius"].astype(float)
    assert abs(radius.mean() / (np.sqrt(np.pi / 2) * SIGMA) - 1) < 0.01
    inside = 1 - np.exp(-0.5 * (2.5 * radius / SIGMA) ** 2)
    pull = (catalog[f"{KRON}_instFlux"] - FLUX * inside) / catalog[f"{KRON}_instFluxErr"]
    assert abs(pull.mean()) < 0.3
    assert 0.87 < pull.std() < 1.13


def test_rows_do_not_depend_on_each_other(stars):
    catalog, exposure, footprints = stars
    rows = np.arange(40, 47)
    step = SingleFrameMeasurement(flux_config(KRON, CONVOLVED, GAAP), schema=start_schema())
    part = catalog_of(step.schema, footprints.take(rows))
    step.run(exposure, part, seed=5, neighbors=footprints)
    for name in part.colnames:
        if name.startswith("ext_"):
            np.testing.assert_array_equal(part[name], catalog[name][rows], err_msg=name)


# -- slow twins ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moments", [(4.0, 4.0, 0.0), (9.0, 4.0, 2.0)])
def test_kron_radius_and_large_apertures_equal_their_twins(moments):
    x, y = 60.3, 59.6
    image = elliptical_gaussian(121, x, y, moments).astype(np.float32)
    exposure, footprints = one_source(image, x, y, GaussianPsf(1.2, 25))
    config = flux_config(KRON)
    config.plugins[KRON].maxSincRadius = 0.0
    catalog = run(exposure, footprints, config)
    x, y = catalog["base_SdssCentroid_x"][0], catalog["base_SdssCentroid_y"][0]
    shape = tuple(catalog[f"base_SdssShape_{c}"][0] for c in ("xx", "yy", "xy"))
    # the pixels outside of the footprint are noise of the image's own level, 0
    image = exposure.image.astype(float)
    radius = catalog[f"{KRON}_radius"][0]
    assert radius == pytest.approx(naive.kron_radius(image, x, y, shape), rel=2e-3)
    root = np.sqrt(shape[0] * shape[1] - shape[2] ** 2)
    border = (2.5 * float(radius)) ** 2 / root
    inside = naive.radii2(image, x, y, shape) <= border
    assert catalog[f"{KRON}_instFlux"][0] == pytest.approx(image[inside].sum(), rel=2e-3)
    assert catalog[f"{KRON}_instFluxErr"][0] == pytest.approx(1e-2 * np.sqrt(inside.sum()), rel=1e-2)


def test_convolved_fluxes_of_any_image_equal_their_twin():
    rng = np.random.default_rng(2)
    image = rng.normal(0.0, 1.0, (91, 91)).astype(np.float32)
    x, y = 45.0, 45.0
    config = flux_config(CONVOLVED)
    config.plugins.names = ["base_PeakCentroid", CONVOLVED]
    config.slots.centroid, config.slots.shape, config.slots.psfShape = "base_PeakCentroid", None, None
    config.doReplaceWithNoise = False
    config.plugins[CONVOLVED].aperture.maxSincRadius = 0.0
    exposure, footprints = one_source(image, x, y, GaussianPsf(1.2, 25))
    catalog = run(exposure, footprints, config)
    for k, seeing in enumerate((3.5, 5.0, 6.5, 8.0)):
        sigma = np.sqrt((seeing / SIGMA_TO_FWHM) ** 2 - 1.2**2)
        blurred = naive.smoothed(image.astype(float), sigma)
        for radius in (3.3, 6.0):
            flux = catalog[f"{CONVOLVED}_{k}_{radius:.1f}".replace(".", "_") + "_instFlux"][0]
            # the kernel's width comes from the PSF's interpolated moments
            assert flux == pytest.approx(circle_sum(blurred, x, y, radius), abs=1e-3)
        assert catalog[f"{CONVOLVED}_{k}_kron_flag"][0]


def test_gaap_equals_matching_the_whole_image():
    x, y = 50.3, 49.8
    rng = np.random.default_rng(3)
    image = elliptical_gaussian(101, x, y, (9.0, 6.0, 2.0)) + rng.normal(0.0, 5.0, (101, 101))
    config = flux_config(GAAP)
    config.plugins[GAAP].scalingFactors = [1.15, 1.5]
    config.doReplaceWithNoise = False
    exposure, footprints = one_source(image, x, y, GaussianPsf(SIGMA, 41))
    catalog = run(exposure, footprints, config)
    x, y = catalog["base_SdssCentroid_x"][0], catalog["base_SdssCentroid_y"][0]
    for factor in (1.15, 1.5):
        for sigma in (0.7, 1.0, 1.5):
            name = f"{GAAP}_{factor}x_{sigma}".replace(".", "_")
            expected = naive.gaap_flux(exposure.image.astype(float), x, y, SIGMA, factor, sigma / SCALE)
            assert catalog[f"{name}_instFlux"][0] == pytest.approx(expected, rel=1e-4)


# -- GAaP sees through the PSF -------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    fwhm=st.floats(2.4, 4.5),
    stretch=st.floats(-0.2, 0.2),
    dx=st.floats(-0.5, 0.5),
    dy=st.floats(-0.5, 0.5),
    ratio=st.floats(1.3, 4.0),
)
def test_gaap_weights_give_a_point_source_its_flux(fwhm, stretch, dx, dy, ratio):
    psf = moffat_psf(fwhm, 35, stretch=stretch)
    stamp = psf.star_stamps(x=np.array([500.0 + dx]), y=np.array([300.0 + dy]))
    sigma = ratio * psf.sigma(x=500.0, y=300.0)
    weights = np.fft.fftshift(gaap_weights(stamp, np.array([[sigma**2, sigma**2, 0.0]]), 81)[0])
    assert np.sum(weights[23:58, 23:58] * stamp[0]) == pytest.approx(1.0, abs=1e-4)


class DrawnPsf(PsfModel):
    """The same profile everywhere, sampled at pixel centers."""

    def __init__(self, profile: galsim.GSObject, size: int) -> None:
        self.profile, self.size, self.average_position = profile, size, (0.0, 0.0)

    def star_stamps(self, *, x, y):
        stamps = [self.draw(a - np.floor(a + 0.5), b - np.floor(b + 0.5)) for a, b in zip(x, y)]
        return np.stack(stamps)

    def kernel_stamps(self, *, x, y):
        return np.stack([self.draw(0.0, 0.0)] * len(x))

    def draw(self, dx: float, dy: float) -> np.ndarray:
        options = {"nx": self.size, "ny": self.size, "scale": 1, "method": "no_pixel", "dtype": float}
        image = self.profile.drawImage(offset=(dx, dy), **options).array
        return image / image.sum()


@pytest.mark.parametrize("fwhm", [2.6, 4.0])
def test_the_gaap_flux_of_a_galaxy_does_not_depend_on_the_psf(fwhm):
    profile = galsim.Moffat(beta=3, fwhm=fwhm).shear(g1=0.05, g2=-0.03)
    galaxy = galsim.Convolve(galsim.Gaussian(sigma=2.0, flux=FLUX), profile)
    image = galaxy.drawImage(nx=141, ny=141, scale=1, method="no_pixel", dtype=float).array
    config = flux_config(GAAP)
    config.doReplaceWithNoise = False
    catalog = run(*one_source(image, 70.0, 70.0, DrawnPsf(profile, 61)), config)
    for sigma in (0.7, 1.0, 1.5, 3.0):
        name = f"{GAAP}_1_15x_{sigma}".replace(".", "_")
        truth = FLUX * (sigma / SCALE) ** 2 / ((sigma / SCALE) ** 2 + 4.0)
        # the PSF's stamp ends at 30 pixels and is scaled to hold all light
        assert catalog[f"{name}_instFlux"][0] == pytest.approx(truth, rel=6e-3)


def test_apertures_follow_the_pixels_on_the_sky():
    # pixels twice as high as wide: a round aperture on the sky is half as high
    psf = GaussianPsf(1.2, 25)
    image = elliptical_gaussian(101, 50.0, 50.0, (4.0 + 1.44, 1.0 + 1.44, 0.0))
    config = flux_config(GAAP)
    config.doReplaceWithNoise = False
    exposure, footprints = one_source(image, 50.0, 50.0, psf)
    wcs = SkyWcs.from_boresight(10.0, 10.0, x=50.0, y=50.0, pixel_scale_arcsec=SCALE)
    linear = wcs.coefficients.copy()
    linear[:, 1, 0] *= 2.0
    exposure.wcs = SkyWcs(wcs.ra0, wcs.dec0, linear, wcs.x_ref, wcs.y_ref, wcs.scale)
    catalog = run(exposure, footprints, config)
    truth = FLUX * 5.0**2 / np.sqrt((5.0**2 + 4.0) * (5.0**2 + 4.0))
    assert catalog[f"{GAAP}_1_15x_1_0_instFlux"][0] == pytest.approx(truth, rel=1e-3)


@pytest.mark.parametrize("name", [f"{GAAP}_1_15x_0_5", f"{GAAP}_1_15x_PsfFlux", f"{GAAP}_1_15x_Optimal"])
def test_gaap_of_undersampled_stars(name):
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(0.6, 15), np.full(64, FLUX), spacing=26, radius=6)
    catalog = run(with_wcs(exposure), footprints, flux_config(GAAP))
    flux = catalog[f"{name}_instFlux"]
    # the centroids of such stars have errors of 1e-2 pixel that depend on their place in the pixel
    assert abs(flux.mean() / FLUX - 1) < 2e-3
    assert flux.std() / FLUX < 3e-3


# -- Kron radii that need help -------------------------------------------------------------------------------


def kron_of(image, config=None, psf=None, x=60.0, y=60.0, **settings):
    config = flux_config(KRON) if config is None else config
    config.doReplaceWithNoise = False
    for name, value in settings.items():
        setattr(config.plugins[KRON], name, value)
    return run(*one_source(image, x, y, GaussianPsf(SIGMA, 41) if psf is None else psf), config)


def test_smoothing_widens_the_kron_radius():
    image = elliptical_gaussian(121, 60.0, 60.0, (9.0, 9.0, 0.0))
    radius = [kron_of(image, smoothingSigma=s)[f"{KRON}_radius"][0] for s in (-1.0, 2.0)]
    assert radius[0] == pytest.approx(np.sqrt(np.pi / 2) * 3.0, rel=2e-3)
    # a kernel cut at two sigma has 0.77 of its variance
    assert radius[1] == pytest.approx(np.sqrt(np.pi / 2) * np.sqrt(9.0 + 0.77 * 4.0), rel=0.02)


def test_more_passes_grow_the_radius_of_wings():
    profile = galsim.Exponential(half_light_radius=4.0, flux=FLUX)
    image = galsim.Convolve(profile, galsim.Gaussian(sigma=SIGMA)).drawImage(
        nx=241, ny=241, scale=1, method="no_pixel", dtype=float
    )
    one, two = (
        kron_of(image.array, x=120.0, y=120.0, nIterForRadius=n, nSigmaForRadius=2.0)[f"{KRON}_radius"][0]
        for n in (1, 5)
    )
    assert 1.05 < two / one < 2.0


def test_the_footprint_may_set_the_area_of_the_kron_radius():
    image = elliptical_gaussian(121, 60.0, 60.0, (4.0, 4.0, 0.0))
    plain, wide = (
        kron_of(image, nSigmaForRadius=3.0, useFootprintRadius=use)[f"{KRON}_radius_for_radius"][0]
        for use in (False, True)
    )
    assert plain == pytest.approx(6.0, rel=0.01)
    # a disc of 14 pixels
    assert wide == pytest.approx(14.0 / np.sqrt(2.0), rel=0.01)


def test_small_kron_radii_are_raised_and_flagged():
    image = elliptical_gaussian(121, 60.0, 60.0, (2.0, 2.0, 0.0))
    catalog = kron_of(image)
    assert catalog[f"{KRON}_radius"][0] == pytest.approx(np.sqrt(np.pi / 2) * SIGMA, rel=1e-4)
    for flag in ("used_psf_radius", "small_radius"):
        assert catalog[f"{KRON}_flag_{flag}"][0]
    assert not catalog[f"{KRON}_flag"][0]
    catalog = kron_of(image, minimumRadius=5.0)
    assert catalog[f"{KRON}_radius"][0] == 5.0
    assert catalog[f"{KRON}_flag_used_minimum_radius"][0]
    free = kron_of(image, enforceMinimumRadius=False)[f"{KRON}_radius"][0]
    assert free == pytest.approx(np.sqrt(np.pi), rel=0.01)
    fixed = kron_of(image, fixed=True, enforceMinimumRadius=False)[f"{KRON}_radius"][0]
    assert fixed == pytest.approx(np.sqrt(2.0), rel=0.01)


def test_kron_failures_are_flagged():
    image = elliptical_gaussian(121, 60.0, 60.0, (4.0, 4.0, 0.0))
    edge = kron_of(image, nRadiusForFlux=30.0)
    assert edge[f"{KRON}_flag_edge"][0]
    assert edge[f"{KRON}_flag"][0]
    assert np.isnan(edge[f"{KRON}_instFlux"][0])
    near = run(*one_source(image[:, 52:], 8.0, 60.0, GaussianPsf(SIGMA, 41), 7), flux_config(KRON))
    assert near[f"{KRON}_flag_edge"][0]
    config = flux_config(KRON)
    config.plugins.names = ["base_PeakCentroid", "base_SdssShape", KRON]
    config.slots.centroid = "base_PeakCentroid"
    negative = kron_of(-image, config)
    assert negative[f"{KRON}_flag"][0]
    assert negative[f"{KRON}_flag_bad_shape"][0] or negative[f"{KRON}_flag_bad_radius"][0]


def test_without_a_psf_the_minimum_radius_must_be_given():
    image = elliptical_gaussian(121, 60.0, 60.0, (4.0, 4.0, 0.0))
    for least, flagged in ((0.0, True), (2.0, False)):
        config = config_of("base_PeakCentroid", KRON, shape="given")
        config.slots.centroid, config.plugins[KRON].minimumRadius = "base_PeakCentroid", least
        schema = start_schema()
        schema.add(
            *(ColumnSpec(f"given_{c}", "f8") for c in ("xx", "yy", "xy")), ColumnSpec("given_flag", "bool")
        )
        step = SingleFrameMeasurement(config, schema=schema)
        exposure, footprints = one_source(image, 60.0, 60.0, None)
        catalog = catalog_of(schema, footprints)
        catalog["given_xx"], catalog["given_yy"], catalog["given_xy"] = 4.0, 4.0, 0.0
        step.run(exposure, catalog, seed=5)
        assert catalog[f"{KRON}_flag_no_minimum_radius"][0] == flagged
        assert catalog[f"{KRON}_flag"][0] == flagged


# -- flags and names -----------------------------------------------------------------------------------------


def test_gaap_apertures_smaller_than_the_psf_are_flagged():
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(3.2, 41), np.full(4, FLUX), spacing=50)
    catalog = run(with_wcs(exposure), footprints, flux_config(GAAP))
    for name, big in (("0_5", True), ("0_7", True), ("1_0", False), ("Optimal", False)):
        prefix = f"{GAAP}_1_15x_{name}"
        assert np.all(catalog[f"{prefix}_flag_bigPsf"] == big)
        assert np.all(catalog[f"{prefix}_flag"] == big)
        assert np.all(np.isnan(catalog[f"{prefix}_instFlux"]) == big)
    assert not catalog[f"{GAAP}_1_15x_flag_gaussianization"].any()
    expected = catalog["base_SdssShape_xx"] + catalog["base_SdssShape_psf_xx"]
    np.testing.assert_array_equal(catalog[f"{GAAP}_OptimalShape_xx"], expected)


def test_gaap_needs_a_wcs_for_apertures_in_arcsec_only():
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(SIGMA, 41), np.full(4, FLUX), spacing=50)
    catalog = run(exposure, footprints, flux_config(GAAP))
    assert catalog[f"{GAAP}_1_15x_1_0_flag"].all()
    assert not catalog[f"{GAAP}_1_15x_1_0_flag_bigPsf"].any()
    assert not catalog[f"{GAAP}_1_15x_PsfFlux_flag"].any()


def test_sources_near_the_edge_are_told():
    psf = GaussianPsf(SIGMA, 41)
    image = elliptical_gaussian(121, 12.0, 60.0, (SIGMA**2, SIGMA**2, 0.0))
    config = flux_config(KRON, CONVOLVED, GAAP)
    config.plugins.names |= ["base_PeakCentroid"]
    config.slots.centroid = "base_PeakCentroid"
    catalog = run(*one_source(image, 12.0, 60.0, psf, 8), config)
    assert catalog[f"{GAAP}_flag_edge"][0]
    assert not catalog[f"{GAAP}_1_15x_1_0_flag"][0]
    # a circle of 6 pixels and a kernel of 11 leave the image, a circle of 3.3 and one of 5 do not
    assert catalog[f"{CONVOLVED}_3_6_0_flag_apertureTruncated"][0]
    assert catalog[f"{CONVOLVED}_3_6_0_flag"][0]
    assert not catalog[f"{CONVOLVED}_1_3_3_flag"][0]
    assert catalog[f"{CONVOLVED}_1_3_3_flag_sincCoeffsTruncated"][0]


def test_huge_shapes_cost_nothing():
    config = config_of("base_PeakCentroid", KRON, CONVOLVED, GAAP, shape="given")
    config.slots.centroid, config.slots.psfShape = "base_PeakCentroid", "given"
    config.plugins[KRON].fixed = True
    schema = start_schema()
    schema.add(
        *(ColumnSpec(f"given_{c}", "f8") for c in ("xx", "yy", "xy")), ColumnSpec("given_flag", "bool")
    )
    step = SingleFrameMeasurement(config, schema=schema)
    side = 1601
    image = np.zeros((side, side))
    catalog = catalog_of(schema, disc_footprints(np.array([800.0]), np.array([800.0]), 3))
    catalog["given_xx"], catalog["given_yy"], catalog["given_xy"] = 280.0**2, 2.0, 0.0
    step.run(exposure_of(image + 1.0, 1.0, GaussianPsf(1.2, 25)), catalog, seed=5)
    area = np.pi * 2.5**2 * 280.0 * np.sqrt(2.0)
    # whole pixels of an ellipse seven of them wide
    assert catalog[f"{KRON}_instFlux"][0] == pytest.approx(area, rel=0.02)
    assert catalog[f"{CONVOLVED}_2_kron_flag"][0]
    assert catalog[f"{GAAP}_1_15x_Optimal_flag"][0]
    assert not catalog[f"{GAAP}_1_15x_Optimal_flag_bigPsf"][0]


def test_no_psf_flags_convolved_fluxes():
    config = config_of("base_PeakCentroid", CONVOLVED)
    config.slots.centroid = "base_PeakCentroid"
    catalog = run(*one_source(np.zeros((60, 60)), 30.0, 30.0, None), config)
    assert catalog[f"{CONVOLVED}_flag"][0]
    assert all(catalog[f"{name}_flag"][0] for name in config.plugins[CONVOLVED].getAllResultNames())


def test_the_optimal_aperture_names_the_slots_it_needs():
    config = config_of("base_PeakCentroid", GAAP)
    config.slots.centroid = "base_PeakCentroid"
    exposure, footprints, _, _ = grid_of_stars(GaussianPsf(SIGMA, 41), np.full(1, FLUX), spacing=50)
    with pytest.raises(InvalidInputError, match=r"doOptimalPhotometry needs slots.shape"):
        run(exposure, footprints, config)


def test_names_of_results_are_those_that_override_files_know():
    convolved = ConvolvedFluxConfig()
    convolved.seeing.append(8.0)
    assert convolved.getKronResultName(8.0) == "ext_convolved_ConvolvedFlux_3_kron"
    assert convolved.getApertureResultName(5.0, 4.5) == "ext_convolved_ConvolvedFlux_1_4_5"
    assert len(convolved.getAllResultNames()) == 4 * (3 + 1)
    assert list(GaapFluxConfig().getAllGaapResultNames()) == [
        f"{GAAP}_1_15x_{end}" for end in ("0_7", "1_0", "Optimal")
    ]


@pytest.mark.parametrize("wanted", [True, False])
def test_aperture_corrections_know_configured_names(wanted):
    config = flux_config(KRON, CONVOLVED, GAAP)
    for name in (CONVOLVED, GAAP):
        config.plugins[name].registerForApCorr = wanted
    schema = start_schema()
    SingleFrameMeasurement(config, schema=schema)
    found = set(ap_corr_names(schema.copy()))
    assert KRON in found
    configured = {*names_of(GAAP), *names_of(CONVOLVED)}
    assert found & configured == (configured if wanted else set())


@pytest.mark.parametrize("seeing", [[3.5, 3.5], [0.0], [float("nan")]])
def test_seeings_must_make_sense(seeing):
    config = ConvolvedFluxConfig()
    config.seeing = seeing
    with pytest.raises(pexConfig.FieldValidationError, match="seeing"):
        config.validate()

"""One simulated exposure and everything that is true about it."""

from __future__ import annotations

from dataclasses import dataclass

import galsim
import numpy as np
from astropy.table import Table

from zeropoint.datamodel.exposure import AB_FLUX_NJY, Amplifier, DetectorInfo, Exposure, VisitInfo
from zeropoint.datamodel.wcs import SkyWcs, inverse_gnomonic
from zeropoint.simulation.cosmic_rays import add_cosmic_rays
from zeropoint.simulation.psf import TruthPsf
from zeropoint.simulation.settings import SimulationSettings

__all__ = ["SimulatedExposure", "draw_magnitudes", "references_of", "simulate_exposure"]

_ARCSEC = np.pi / 648000.0
#: Stars are drawn this far beyond the image, so that the catalogue surrounds it.
MARGIN_PIXELS = 300
#: Side of a pixel in the focal plane.
PIXEL_SIZE_MM = 0.01


@dataclass(frozen=True)
class SimulatedExposure:
    """A simulated exposure with its truth.

    Parameters
    ----------
    settings
        What was asked for.
    exposure
        Post-ISR image in electrons, with the wrong initial WCS.
    stars
        Truth: x, y (pixels), flux (electrons), mag, ra, dec (rad), snr (matched filter, sky-limited).
    references
        Reference catalogue in Rubin's columns (id, coord_ra, coord_dec, coord_raErr, coord_decErr,
        ``<band>_flux``, ``<band>_fluxErr``).
    psf
        The noiseless PSF.
    wcs
        The true WCS.
    noiseless : float32
        Scene without noise and cosmic rays, sky included, electrons.
    cosmic_rays : int32
        Event number of each pixel, 0 where there is none.
    cosmic_ray_charge : float32
        Charge of cosmic rays alone, electrons.
    """

    settings: SimulationSettings
    exposure: Exposure
    stars: Table
    references: Table
    psf: TruthPsf
    wcs: SkyWcs
    noiseless: np.ndarray
    cosmic_rays: np.ndarray
    cosmic_ray_charge: np.ndarray

    def aperture_zeropoint(self, radius: float = 12.0) -> float:
        """Return the true magnitude of one electron inside an aperture (mean over the image)."""
        s = self.settings
        grid = [(0.5 + i) / 4 for i in range(4)]
        fractions = [
            self.psf.aperture_fraction(s.width * u, s.height * v, radius) for u in grid for v in grid
        ]
        return s.zeropoint + 2.5 * float(np.log10(np.mean(fractions)))


def simulate_exposure(settings: SimulationSettings, sky: Table | None = None) -> SimulatedExposure:
    """Simulate one exposure.

    Parameters
    ----------
    settings
        Numbers and seed; the same settings give the same bytes.
    sky
        Stars to show, ``ra``, ``dec`` (rad) and ``mag``; default: ``settings.n_stars`` drawn for this image.
    """
    rng = np.random.default_rng([settings.seed, 0x5EED])
    wcs = _true_wcs(settings)
    stars = _draw_stars(settings, wcs, rng) if sky is None else _stars_of_sky(settings, wcs, sky)
    if settings.snap:
        rng = np.random.default_rng([settings.seed, 0x5EED, settings.snap])
    psf = TruthPsf(settings)
    scene = _sky(settings)
    dark = scene.copy()
    inside = (np.abs(stars["x"] - settings.width / 2) < settings.width / 2 + 40) & (
        np.abs(stars["y"] - settings.height / 2) < settings.height / 2 + 40
    )
    for row in stars[inside]:
        _add_star(scene, psf, float(row["x"]), float(row["y"]), float(row["flux"]), settings)
    noiseless = scene.astype(np.float32)
    scene = rng.poisson(scene).astype(np.float64)
    charge = np.zeros_like(scene)
    events = add_cosmic_rays(charge, settings.n_cosmic_rays, rng)
    scene += charge
    saturated = scene >= settings.full_well_electrons
    scene = np.minimum(scene, settings.full_well_electrons)
    scene += rng.normal(0.0, settings.read_noise_electrons, scene.shape)
    # the variance plane comes from the data, as a real pipeline's does, but never below the sky's
    variance = np.maximum(scene, 0.5 * dark) + settings.read_noise_electrons**2
    mask = np.zeros(scene.shape, np.int32)
    exposure = Exposure(
        scene.astype(np.float32),
        variance.astype(np.float32),
        mask,
        _detector(settings),
        _visit_info(settings),
        wcs=_initial_wcs(settings, wcs),
    )
    exposure.set_mask(grown(saturated), "SATURATED")
    stars["snr"] = _sky_limited_snr(stars, psf, settings)
    return SimulatedExposure(
        settings,
        exposure,
        stars[inside],
        references_of(settings, stars, rng),
        psf,
        wcs,
        noiseless,
        events,
        charge.astype(np.float32),
    )


def _true_wcs(s: SimulationSettings) -> SkyWcs:
    x, y = (0.5 * (s.width - 1), 0.5 * (s.height - 1)) if s.field is None else (s.field.x, s.field.y)
    base = SkyWcs.from_boresight(
        s.ra_deg, s.dec_deg, x=x, y=y, pixel_scale_arcsec=s.pixel_scale, rotation_deg=s.rotation_deg
    )
    corner = np.hypot(s.width, s.height) / 2 if s.field is None else np.sqrt(2.0) * s.field.half
    c = np.zeros((2, 4, 4))
    linear = base.coefficients[:, :2, :2] * corner  # scale: u = (x - x_ref)/corner
    c[:, 0, 1], c[:, 1, 0] = linear[:, 0, 1], linear[:, 1, 0]
    # radial cubic: r -> r (1 + k r^2), k chosen so that the corner moves by distortion_pixels
    k = s.distortion_pixels / corner
    for j, i in ((0, 3), (2, 1)):
        c[:, j, i] += k * linear[:, 0, 1]
    for j, i in ((3, 0), (1, 2)):
        c[:, j, i] += k * linear[:, 1, 0]
    return SkyWcs(base.ra0, base.dec0, c, base.x_ref, base.y_ref, corner)


def _initial_wcs(s: SimulationSettings, truth: SkyWcs) -> SkyWcs:
    angle = np.deg2rad(s.wcs_rotation_deg)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    offset = s.wcs_offset_arcsec * _ARCSEC * np.array([0.8, -0.6])
    return truth.with_affine(rotation, offset)


def _draw_stars(s: SimulationSettings, wcs: SkyWcs, rng: np.random.Generator) -> Table:
    # uniform density over the image plus a margin
    margin = MARGIN_PIXELS
    area = (1 + 2 * margin / s.width) * (1 + 2 * margin / s.height)
    n = round(s.n_stars * area)
    x = rng.uniform(-margin - 0.5, s.width + margin - 0.5, n)
    y = rng.uniform(-margin - 0.5, s.height + margin - 0.5, n)
    mag = draw_magnitudes(s, n, rng)
    ra, dec = wcs.pixel_to_sky(x=x, y=y)
    flux = 10 ** (0.4 * (s.zeropoint - mag))
    return Table({"x": x, "y": y, "flux": flux, "mag": mag, "ra": ra, "dec": dec})


def draw_magnitudes(s: SimulationSettings, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return magnitudes of ``N(m) ~ 10^(slope m)`` between the limits."""
    low, high = 10 ** (s.magnitude_slope * s.magnitude_bright), 10 ** (s.magnitude_slope * s.magnitude_faint)
    return np.asarray(np.log10(low + (high - low) * rng.random(n)) / s.magnitude_slope)


def _stars_of_sky(s: SimulationSettings, wcs: SkyWcs, sky: Table) -> Table:
    """Return those stars of the sky that lie on the image or within the margin."""
    ra, dec, mag = (np.asarray(sky[name], np.float64) for name in ("ra", "dec", "mag"))
    x, y = wcs.sky_to_pixel(ra=ra, dec=dec)
    m = MARGIN_PIXELS + 0.5
    near = (x >= -m) & (x <= s.width - 1 + m) & (y >= -m) & (y <= s.height - 1 + m)
    columns = {"x": x, "y": y, "flux": 10 ** (0.4 * (s.zeropoint - mag)), "mag": mag, "ra": ra, "dec": dec}
    return Table({name: values[near] for name, values in columns.items()})


def _sky(s: SimulationSettings) -> np.ndarray:
    u = np.linspace(-0.5, 0.5, s.width)[None, :]
    v = np.linspace(-0.5, 0.5, s.height)[:, None]
    return s.sky_electrons * (1.0 + s.sky_gradient * (0.8 * u + 0.6 * v))


def _add_star(
    scene: np.ndarray, psf: TruthPsf, x: float, y: float, flux: float, s: SimulationSettings
) -> None:
    """Add one star in place, out to where it falls below 2 % of the sky noise."""
    fwhm = s.fwhm_arcsec / s.pixel_scale
    noise = 0.02 * np.sqrt(s.sky_electrons + s.read_noise_electrons**2)
    beta = s.moffat_beta
    rd = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    peak = flux * (beta - 1) / (np.pi * rd**2)
    radius = rd * np.sqrt(max((peak / noise) ** (1 / beta) - 1.0, 1.0))
    half = int(np.clip(radius + 2, 8, 400))
    xi, yi = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
    x0, x1 = max(xi - half, 0), min(xi + half, s.width - 1)
    y0, y1 = max(yi - half, 0), min(yi + half, s.height - 1)
    if x0 > x1 or y0 > y1:
        return
    image = galsim.Image(x1 - x0 + 1, y1 - y0 + 1, dtype=np.float64)
    centre = (0.5 * (x0 + x1), 0.5 * (y0 + y1))
    profile = psf.profile(x, y).withFlux(flux)
    profile.drawImage(image=image, scale=1.0, offset=(x - centre[0], y - centre[1]), method="no_pixel")
    scene[y0 : y1 + 1, x0 : x1 + 1] += image.array


def grown(saturated: np.ndarray) -> np.ndarray:
    """Return saturated pixels and their eight neighbours."""
    rows = saturated.copy()
    rows[1:] |= saturated[:-1]
    rows[:-1] |= saturated[1:]
    both = rows.copy()
    both[:, 1:] |= rows[:, :-1]
    both[:, :-1] |= rows[:, 1:]
    return both


def _sky_limited_snr(stars: Table, psf: TruthPsf, s: SimulationSettings) -> np.ndarray:
    """Return the matched-filter signal to noise against sky and read noise."""
    stamp = psf.stamp(s.width / 2, s.height / 2, 41)
    noise = np.sqrt((s.sky_electrons + s.read_noise_electrons**2) / np.sum(stamp**2))
    return np.asarray(stars["flux"]) / noise


def references_of(s: SimulationSettings, stars: Table, rng: np.random.Generator) -> Table:
    """Return the reference catalogue of some stars, with the errors that the settings ask for."""
    keep = np.asarray(stars["mag"]) < s.reference_limit
    ra, dec, mag = (np.asarray(stars[name])[keep] for name in ("ra", "dec", "mag"))
    n = len(ra)
    error = s.reference_position_error_mas * 1e-3 * _ARCSEC
    xi, eta = rng.normal(0, error, n), rng.normal(0, error, n)
    new = np.array([inverse_gnomonic(a, b, r, d) for a, b, r, d in zip(xi, eta, ra, dec)]).reshape(n, 2)
    noisy = mag + rng.normal(0, s.reference_magnitude_error, n)
    flux = AB_FLUX_NJY * 10 ** (-0.4 * noisy)
    table = Table()
    table["id"] = np.arange(1, n + 1, dtype=np.int64)
    table["coord_ra"], table["coord_dec"] = new[:, 0], new[:, 1]
    table["coord_raErr"] = np.full(n, error, np.float32)
    table["coord_decErr"] = np.full(n, error, np.float32)
    for name in ("coord_ra", "coord_dec", "coord_raErr", "coord_decErr"):
        table[name].unit = "rad"
    table[f"{s.band}_flux"] = flux
    table[f"{s.band}_fluxErr"] = flux * s.reference_magnitude_error * np.log(10) / 2.5
    for name in (f"{s.band}_flux", f"{s.band}_fluxErr"):
        table[name].unit = "nJy"
    return table


def _detector(s: SimulationSettings) -> DetectorInfo:
    amplifier = Amplifier("C00", (0, 0, s.width - 1, s.height - 1), s.gain, s.read_noise_electrons)
    name, center = f"S{s.detector:02d}", (0.0, 0.0)
    if s.field is not None:
        x, y = (0.5 * (s.width - 1) - s.field.x, 0.5 * (s.height - 1) - s.field.y)
        center = (PIXEL_SIZE_MM * x, PIXEL_SIZE_MM * y)
    return DetectorInfo(
        s.instrument, name, s.detector, s.width, s.height, (amplifier,), PIXEL_SIZE_MM, center
    )


def _visit_info(s: SimulationSettings) -> VisitInfo:
    return VisitInfo(
        s.visit,
        s.exposure_time,
        s.mjd_tai,
        f"{s.band}_sim",
        s.band,
        boresight_ra_deg=s.ra_deg,
        boresight_dec_deg=s.dec_deg,
        airmass=1.1,
        longitude_deg=-70.75,
        latitude_deg=-30.24,
        elevation_m=2663.0,
        object_name="simulated field",
        exposure=s.exposure,
    )

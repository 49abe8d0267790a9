"""What a survey for the global calibration is made of: one frozen record of numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["FgcmSurveySettings", "SiteSettings", "large_survey", "small_survey", "wide_survey"]


@dataclass(frozen=True)
class SiteSettings:
    """Where the telescope stands, and what a fit may believe of the site beforehand.

    Parameters
    ----------
    latitude, longitude
        Degrees, longitude to the East.
    elevation
        Meters.
    ut_boundary
        Nights begin where ``mjd + ut_boundary`` is whole, days.
    pressure, pwv, ozone, tau, alpha, airmass
        Standard atmosphere, the centre of a fit's priors: mb, mm, Dobson units, aerosol depth at 7750 A and its slope,
        secant.
    """

    latitude: float = -30.2446
    longitude: float = -70.7494
    elevation: float = 2663.0
    ut_boundary: float = 0.3
    pressure: float = 731.7
    pwv: float = 3.0
    ozone: float = 263.0
    tau: float = 0.03
    alpha: float = 1.0
    airmass: float = 1.2


@dataclass(frozen=True)
class FgcmSurveySettings:
    """Parameters of a simulated survey.

    Parameters
    ----------
    n_visits, n_nights, bands
        Visits in all, the nights they are on, and the bands from blue to red (of g, r, i, z); fields and bands take
        turns.
    physics
        ``measured``: real spectra and transmissions, read from the folder of test data. ``simple``: black bodies and
        an atmosphere of a few bands, for tests of all that is not physics.
    water_720
        Depth of the water band at 720 nm, over that in the table of the measured physics. Published tables differ by some
        percent in how deep it is beside those at 820 and 940 nm. The default is nearer to the atmosphere of the fit: its
        water of single nights is then wrong by 2 % for noiseless stars, and by 4 % with 1, which leaves the table as it is.
    n_side, detector_size, pixel_scale, gap
        The camera has ``n_side**2`` square detectors: their side in pixels, arcsec per pixel, pixels between them.
    n_stars
        Stars of the sky, bright enough or not.
    fields, field_spacing
        Fields in right ascension and declination, and their distance, degrees.
    dither
        Largest offset of a visit from its field per axis, degrees.
    ra, dec
        Centre of the survey, degrees.
    magnitude_bright, magnitude_faint, magnitude_slope
        ``N(m) ~ 10^(slope m)`` between the limits, in the band in the middle.
    pair_fraction
        Stars that get a companion within 3.5 arcsec.
    cloudy_fraction, cloud_range, cloud_gradient
        Visits with clouds; their extinction, magnitudes, evenly in its logarithm; how much of it changes towards the
        edge of the field.
    gray_scatter
        Gray scatter of clear visits, magnitudes.
    prior_offset
        By how many sigma of a fit's priors the survey's means are off.
    flat_constant, flat_structure
        Errors of the flat field: scatter of the detectors, and of the terms up to second order within one, magnitudes.
    wash_loss, wash_days
        Loss of the dusty mirror, magnitudes per day, and days after the first night on which it is washed.
    night_spacing
        Days from one observing night to the next.
    throughput
        Gray factor on the throughput that a user of the curves does not know of.
    exposure_time, aperture_area
        Seconds, cm^2.
    full_well, read_noise
        Electrons.
    sigma_phot
        Floor of the photometric errors, magnitudes: on the magnitudes, not in the errors stated.
    sn_limit
        Sources with less signal to noise are not in the tables.
    artifact_fraction, galaxy_fraction
        Sources that are there in one visit only; sources that are no stars.
    reference_fraction, reference_error
        Brightest part of the stars that the reference catalogue has, and its errors, magnitudes.
    site
        Observatory.
    seed
        Random seed of everything.
    """

    n_visits: int = 240
    n_nights: int = 20
    bands: tuple[str, ...] = ("g", "r", "i", "z")
    physics: str = "measured"
    water_720: float = 1.1
    n_side: int = 3
    detector_size: int = 4096
    pixel_scale: float = 0.4
    gap: int = 40
    n_stars: int = 20_000
    fields: tuple[int, int] = (1, 1)
    field_spacing: float = 1.25
    dither: float = 0.64
    ra: float = 150.0
    dec: float = -20.0
    magnitude_bright: float = 13.0
    magnitude_faint: float = 19.0
    magnitude_slope: float = 0.15
    pair_fraction: float = 0.015
    cloudy_fraction: float = 0.15
    cloud_range: tuple[float, float] = (0.01, 0.6)
    cloud_gradient: float = 0.05
    gray_scatter: float = 0.0
    prior_offset: float = 1.0
    flat_constant: float = 0.006
    flat_structure: float = 0.003
    wash_loss: float = 5e-4
    wash_days: tuple[float, ...] = (28.5,)
    night_spacing: int = 3
    throughput: float = 0.93
    exposure_time: float = 30.0
    aperture_area: float = 2.0e4
    full_well: float = 1.0e5
    read_noise: float = 6.0
    sigma_phot: float = 0.003
    sn_limit: float = 10.0
    artifact_fraction: float = 0.01
    galaxy_fraction: float = 0.05
    reference_fraction: float = 0.2
    reference_error: float = 0.01
    site: SiteSettings = SiteSettings()
    seed: int = 1

    @property
    def n_detectors(self) -> int:
        """Detectors of the camera."""
        return self.n_side**2

    @property
    def camera_side(self) -> float:
        """Side of the camera on the sky, degrees."""
        pixels = self.n_side * self.detector_size + (self.n_side - 1) * self.gap
        return pixels * self.pixel_scale / 3600.0


def small_survey(*, seed: int = 1, physics: str = "simple") -> FgcmSurveySettings:
    """Return a survey of a tenth of a second: 32 visits on 4 nights in all bands, 4 detectors, about 10,000 observations.

    Parameters
    ----------
    seed
        Of all that is drawn.
    physics
        ``simple`` needs no data, ``measured`` the tables of the test data.
    """
    return FgcmSurveySettings(
        n_visits=32, n_nights=4, physics=physics, n_side=2, detector_size=1024, n_stars=1000, dither=0.08, seed=seed
    )  # fmt: skip


def wide_survey(*, seed: int = 1) -> FgcmSurveySettings:
    """Return a survey of 24 overlapping fields on 36 square degrees under clouds that change across a field.

    Parameters
    ----------
    seed
        Of all that is drawn.
    """
    return FgcmSurveySettings(
        n_visits=480,
        n_nights=24,
        n_stars=42_000,
        fields=(6, 4),
        field_spacing=1.2,
        dither=0.08,
        cloud_gradient=0.4,
        seed=seed,
    )


def large_survey(side: int, *, seed: int = 1) -> FgcmSurveySettings:
    """Return ``side**2`` overlapping surveys like the default in one: 1.13 million observations each.

    Parameters
    ----------
    side
        Fields along a side: 3 for 10 million observations, 7 for 55 million.
    seed
        Random seed.
    """
    base = FgcmSurveySettings(seed=seed)
    nights = base.n_nights * side
    # the fields overlap: as many stars on a square degree as there
    own = base.camera_side + 2.0 * base.dither
    stars = base.n_stars * (1.0 + (side - 1) * base.field_spacing / own) ** 2
    return replace(
        base,
        n_visits=base.n_visits * side**2,
        n_nights=nights,
        night_spacing=max(base.n_nights * base.night_spacing // nights, 1),
        n_stars=round(stars),
        fields=(side, side),
    )

"""When a simulated survey looks where, through which air: the truth of its nights and visits."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.table import Column, Table

from zeropoint.simulation.fgcm_physics import FloatArray
from zeropoint.simulation.fgcm_settings import FgcmSurveySettings

__all__ = ["PRIOR_SIGMA", "draw_nights", "draw_visits", "local_rotation", "secant"]

#: Widths of the priors of a fit: of ln PWV, ozone (DU), ln tau, alpha.
PRIOR_SIGMA = {"ln_pwv": 0.6, "ozone": 15.0, "ln_tau": 0.6, "alpha": 0.25}
#: Scatter of the nights about the survey's mean, and of the slopes within a night (per day).
_NIGHT_SCATTER = {"ln_pwv": 0.25, "ozone": 6.0, "ln_tau": 0.3, "alpha": 0.12}
_SLOPE_SCATTER = 0.6
#: First night, MJD: a field at the default right ascension culminates at midnight 30 days later.
_FIRST_NIGHT = 59972
#: Largest hour angle, degrees.
_HOUR_ANGLE = 62.0
#: Number of the first visit.
_FIRST_VISIT = 1001
#: Sky, magnitudes per square arcsec.
_SKY = {"g": 22.0, "r": 21.0, "i": 20.2, "z": 19.3}
#: FWHM at the zenith in the first band, arcsec; its change from band to band, and scatter of nights and visits, parts.
_FWHM, _FWHM_BAND, _FWHM_NIGHT, _FWHM_VISIT = 1.15, 0.04, 0.12, 0.06


def local_rotation(mjd: FloatArray, longitude: float) -> FloatArray:
    """Return the right ascension that culminates, degrees: Earth rotation angle and longitude; UT1 is taken for UTC.

    Parameters
    ----------
    mjd : float64, any shape
        Time, MJD in UTC.
    longitude
        Of the site, degrees to the East.
    """
    return np.mod(360.0 * (0.7790572732640 + 1.00273781191135448 * (mjd - 51544.5)) + longitude, 360.0)


def secant(ra: Any, dec: Any, hour_angle: Any, ra_boresight: Any, latitude: float) -> FloatArray:
    """Return the secant of the zenith distance of positions, all in radians; the hour angle is the boresight's.

    Parameters
    ----------
    ra, dec
        Positions, shapes that broadcast.
    hour_angle, ra_boresight
        Of the boresight.
    latitude
        Of the site.
    """
    h = hour_angle + ra_boresight - ra
    cosine = np.sin(dec) * np.sin(latitude) + np.cos(dec) * np.cos(latitude) * np.cos(h)
    return np.asarray(1.0 / cosine)


def draw_nights(settings: FgcmSurveySettings, rng: np.random.Generator) -> Table:
    """Return the true parameters of the nights.

    Parameters
    ----------
    settings
        Survey; its means are ``prior_offset`` sigma of a fit's priors above the standard atmosphere.
    rng
        Generator.

    Returns
    -------
    nights : Table
        ``night`` (whole part of mjd + ut_boundary), ``ln_pwv``, ``ln_tau`` (at the middle of the night, u = 0.5),
        ``ln_pwv_slope``, ``ln_tau_slope`` (per day), ``alpha``, ``ozone`` (DU), ``pressure`` (mb), ``seeing`` (factor),
        ``sky`` (mag brighter than dark).
    """
    n, site = settings.n_nights, settings.site
    standard = {
        "ln_pwv": np.log(site.pwv),
        "ozone": site.ozone,
        "ln_tau": np.log(site.tau),
        "alpha": site.alpha,
    }
    nights = Table({"night": _FIRST_NIGHT + settings.night_spacing * np.arange(n)})
    for name, value in standard.items():
        scatter = rng.normal(0.0, _NIGHT_SCATTER[name], n)
        # the mean of the survey itself is what it is said to be
        scatter -= scatter.mean()
        nights[name] = value + settings.prior_offset * PRIOR_SIGMA[name] + scatter
    for name in ("ln_pwv", "ln_tau"):
        nights[f"{name}_slope"] = rng.normal(0.0, _SLOPE_SCATTER, n)
    nights["pressure"] = site.pressure + rng.normal(0.0, 3.0, n)
    nights["seeing"] = np.exp(rng.normal(0.0, _FWHM_NIGHT, n))
    nights["sky"] = rng.uniform(0.0, 1.0, n)
    return nights


def draw_visits(settings: FgcmSurveySettings, nights: Table, rng: np.random.Generator) -> Table:
    """Return the visits with all that is true of them, by time.

    Parameters
    ----------
    settings
        Settings of the survey.
    nights
        From `draw_nights`.
    rng
        Where chance comes from.

    Returns
    -------
    visits : Table
        ``visit``, ``night``, ``band`` (index), ``field``; ``ra``, ``dec``, ``rotation``, ``hour_angle`` of the boresight
        (deg); ``mjd`` (UTC, middle), ``airmass`` (secant at the boresight); ``pressure`` (mb), ``pwv`` (mm), ``ozone``
        (DU), ``tau``, ``alpha``; ``fwhm`` (arcsec), ``sky`` (mag/arcsec2); ``cloud`` (mag at the boresight, 0 where
        clear), ``cloud_pattern`` (5 relative coefficients of u, v, u^2, uv, v^2 over the field), ``wash_loss`` (mag),
        ``photometric``.
    """
    pointings = _pointings(settings, nights, rng)
    visits = pointings[np.argsort(np.asarray(pointings["mjd"]), kind="stable")]
    n, site = len(visits), settings.site
    visits.add_column(_FIRST_VISIT + np.arange(n), name="visit", index=0)
    of = nights[np.asarray(visits["night_index"])]
    u = np.asarray(visits["mjd"]) + site.ut_boundary - np.asarray(visits["night"])
    visits["pressure"] = np.asarray(of["pressure"]) + rng.normal(0.0, 0.5, n)
    visits["pwv"] = np.clip(np.exp(of["ln_pwv"] + of["ln_pwv_slope"] * (u - 0.5)), 0.3, 12.0)
    visits["ozone"] = np.asarray(of["ozone"])
    visits["tau"] = np.clip(np.exp(of["ln_tau"] + of["ln_tau_slope"] * (u - 0.5)), 0.003, 0.3)
    visits["alpha"] = np.asarray(of["alpha"])
    band = np.asarray(visits["band"])
    visits["fwhm"] = (
        _FWHM * (1.0 - _FWHM_BAND * band) * np.asarray(visits["airmass"]) ** 0.6 * np.asarray(of["seeing"])
        * np.exp(rng.normal(0.0, _FWHM_VISIT, n))
    )  # fmt: skip
    dark = np.array([_SKY[name] for name in settings.bands])
    visits["sky"] = dark[band] - np.asarray(of["sky"]) + rng.normal(0.0, 0.1, n)
    _add_clouds(settings, visits, rng)
    days = np.asarray(visits["mjd"]) - (_FIRST_NIGHT - site.ut_boundary)
    washed = np.array([0.0, *sorted(settings.wash_days)])
    visits["wash_loss"] = settings.wash_loss * (
        days - washed[np.searchsorted(washed, days, side="right") - 1]
    )
    return visits


def _pointings(settings: FgcmSurveySettings, nights: Table, rng: np.random.Generator) -> Table:
    """Return where the visits point, in which band and when."""
    centers = _field_centers(settings)
    n, site = settings.n_visits, settings.site
    # every field gets all bands, in an order of its own each time around
    kinds = [(f, b) for f in range(len(centers)) for b in range(len(settings.bands))]
    rounds = -(-n // len(kinds))
    turns = np.concatenate([rng.permutation(len(kinds)) for _ in range(rounds)])[:n]
    field, band = np.array(kinds)[turns].T
    index = np.arange(n) * settings.n_nights // n
    within = np.arange(n) - np.searchsorted(index, index)
    count = np.bincount(index, minlength=settings.n_nights)[index]
    hour_angle = _HOUR_ANGLE * (2.0 * (within + rng.uniform(0.0, 1.0, n)) / count - 1.0)
    dec = centers[field, 1] + rng.uniform(-1.0, 1.0, n) * settings.dither
    ra = centers[field, 0] + rng.uniform(-1.0, 1.0, n) * settings.dither / np.cos(np.deg2rad(dec))
    night = np.asarray(nights["night"])[index]
    midnight = night + 0.5 - site.ut_boundary
    ahead = np.mod(ra + hour_angle - local_rotation(midnight, site.longitude) + 180.0, 360.0) - 180.0
    a, d, h = np.deg2rad(ra), np.deg2rad(dec), np.deg2rad(hour_angle)
    x = secant(a, d, h, a, np.deg2rad(site.latitude))
    return Table(
        {
            "night": night,
            "night_index": index,
            "band": band,
            "field": field,
            "ra": Column(ra, unit="deg"),
            "dec": Column(dec, unit="deg"),
            "rotation": Column(rng.uniform(-90.0, 90.0, n), unit="deg"),
            "hour_angle": Column(hour_angle, unit="deg"),
            "mjd": Column(midnight + ahead / (360.0 * 1.00273781191135448), unit="d"),
            "airmass": x,
        }
    )


def _field_centers(settings: FgcmSurveySettings) -> FloatArray:
    """Return (ra, dec) of the fields, degrees: rows of declination, evenly spaced on the sky."""
    columns, rows = settings.fields
    dec = settings.dec + (np.arange(rows) - 0.5 * (rows - 1)) * settings.field_spacing
    step = (np.arange(columns) - 0.5 * (columns - 1)) * settings.field_spacing
    return np.array([(settings.ra + s / np.cos(np.deg2rad(d)), d) for d in dec for s in step])


def _add_clouds(settings: FgcmSurveySettings, visits: Table, rng: np.random.Generator) -> None:
    """Add ``cloud``, ``cloud_pattern`` and ``photometric``."""
    n = len(visits)
    cloudy = np.zeros(n, bool)
    cloudy[rng.permutation(n)[: round(settings.cloudy_fraction * n)]] = True
    low, high = np.log(settings.cloud_range)
    cloud = np.exp(rng.uniform(low, high, n))
    clear = rng.normal(0.0, settings.gray_scatter, n)
    visits["cloud"] = Column(np.where(cloudy, cloud, clear), unit="mag")
    pattern = rng.normal(0.0, settings.cloud_gradient, (n, 5)) * [1.0, 1.0, 0.5, 0.5, 0.5]
    visits["cloud_pattern"] = np.where(cloudy[:, None], pattern, 0.0)
    visits["photometric"] = ~cloudy

"""What a simulated survey's visits measure: sources with positions, fluxes, errors and flags."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.magnitudes import MAG_PER_LN
from zeropoint.simulation.fgcm_camera import flat_field
from zeropoint.simulation.fgcm_conditions import secant
from zeropoint.simulation.fgcm_physics import FloatArray
from zeropoint.simulation.fgcm_settings import FgcmSurveySettings

if TYPE_CHECKING:
    from zeropoint.simulation.fgcm_survey import FgcmSurvey

__all__ = ["INNER", "OUTER", "VisitSources", "aperture_loss", "measure_visit"]

#: Radii of the apertures, pixels: of calibration (and inner), and outer.
INNER, OUTER = 12.0, 17.0
#: Wing slope of the PSF.
_BETA = 2.5
#: In units of the FWHM: closer pairs are one source; closer ones are deblended; closer merged ones look extended.
_MERGED, _DEBLENDED, _ELONGATED = 0.8, 1.6, 0.5
#: Pixels at the edge of a detector where sources are flagged; sources hit by a cosmic ray, part; pixels of bad columns.
_EDGE, _COSMIC_RAYS, _BAD_COLUMNS = 6.0, 0.003, 2
#: Floor of the positions' errors, arcsec; residual sky per pixel in units of its noise.
_POSITION_FLOOR, _SKY_RESIDUAL = 0.01, 0.02


@dataclass(frozen=True)
class VisitSources:
    """Sources of one visit, by detector; every array has shape (n,).

    Parameters
    ----------
    row
        Of the visit in the table of visits.
    star : int32
        Row of the star in the table of stars (of the brighter one where two have merged); -1: nothing is there.
    merged : int32
        Row of the fainter star whose light is in the source too; -1: none.
    detector : int32
        Detector number.
    x, y, ra, dec : float64
        Measured position: pixels; radians.
    magnitude : float64
        Measured, ``-2.5 log10`` of electrons per second in the calibration aperture.
    magnitude_err : float64
        Stated error: photons and sky, without the floor.
    delta_aperture : float64
        Magnitude in the inner aperture minus that in the outer.
    jacobian : float64
        Relative pixel area.
    background : float64
        Residual sky per pixel, electrons.
    edge, saturated, cosmic_ray, bad, extended, deblended : bool
        What the flags of the table are made of.
    """

    row: int
    star: npt.NDArray[np.int32]
    merged: npt.NDArray[np.int32]
    detector: npt.NDArray[np.int32]
    x: FloatArray
    y: FloatArray
    ra: FloatArray
    dec: FloatArray
    magnitude: FloatArray
    magnitude_err: FloatArray
    delta_aperture: FloatArray
    jacobian: FloatArray
    background: FloatArray
    edge: npt.NDArray[np.bool_]
    saturated: npt.NDArray[np.bool_]
    cosmic_ray: npt.NDArray[np.bool_]
    bad: npt.NDArray[np.bool_]
    extended: npt.NDArray[np.bool_]
    deblended: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.star)

    @property
    def clean(self) -> npt.NDArray[np.bool_]:
        """Sources that no cut of the star list's default selection rejects."""
        sn = MAG_PER_LN / self.magnitude_err
        spoiled = self.edge | self.saturated | self.cosmic_ray | self.bad | self.extended | self.deblended
        return (sn > 10.0) & (sn < 1000.0) & ~spoiled


def aperture_loss(fwhm: Any, radius_arcsec: float) -> Any:
    """Return the magnitudes that an aperture loses of a star with a Moffat profile.

    Parameters
    ----------
    fwhm : float or array
        Of the profile, arcsec.
    radius_arcsec
        Of the aperture.
    """
    alpha2 = (0.5 * fwhm) ** 2 / (2.0 ** (1.0 / _BETA) - 1.0)
    return -2.5 * np.log10(1.0 - (1.0 + radius_arcsec**2 / alpha2) ** (1.0 - _BETA))


def measure_visit(survey: FgcmSurvey, row: int) -> VisitSources:
    """Return the sources of a visit; it does not matter which others were measured before.

    Parameters
    ----------
    survey
        The survey.
    row
        Row of the visit in ``survey.visits``.
    """
    s, visit = survey.settings, survey.visits[row]
    rng = np.random.default_rng([s.seed, 0xF6C, 3, row])
    fwhm, sky = float(visit["fwhm"]), survey.sky_electrons(row)
    scene = _with_artifacts(survey, rng, _merged(survey, _scene(survey, row), fwhm))
    # the flat field has divided out how much sky a pixel sees
    jacobian = survey.camera.relative_area(scene.u, scene.v)
    magnitude = scene.magnitude + MAG_PER_LN * np.log(jacobian)
    # light that arrives, before the aperture cuts its part
    electrons = s.exposure_time * 10.0 ** (-0.4 * magnitude)
    noise_per_area = np.pi * (sky + s.read_noise**2)
    error = MAG_PER_LN * np.sqrt(electrons + INNER**2 * noise_per_area) / electrons
    detector, x, y = survey.camera.find(scene.u, scene.v)
    found = np.flatnonzero((error < MAG_PER_LN / s.sn_limit) & (detector >= 0))
    order = found[np.argsort(detector[found], kind="stable")]
    scene, detector = scene.take(order), detector[order]
    x, y, jacobian, magnitude, error, electrons = (
        a[order] for a in (x, y, jacobian, magnitude, error, electrons)
    )
    n = len(order)
    noise = rng.normal(0.0, 1.0, (5, n))
    inner, outer = (aperture_loss(fwhm, s.pixel_scale * radius) for radius in (INNER, OUTER))
    annulus = MAG_PER_LN * np.sqrt((OUTER**2 - INNER**2) * noise_per_area) / electrons
    shift = np.hypot(fwhm / s.pixel_scale / 2.3548 * error / MAG_PER_LN, _POSITION_FLOOR / s.pixel_scale)
    du, dv = shift * noise[1:3]
    boresight = (float(np.deg2rad(visit[name])) for name in ("ra", "dec", "rotation"))
    ra, dec = survey.camera.to_sky(scene.u + du, scene.v + dv, *boresight)
    separation = scene.nearest / fwhm
    galaxy = (scene.star >= 0) & np.asarray(survey.stars["galaxy"])[scene.star]
    from_edge = 0.5 * s.detector_size - np.maximum(*(np.abs(w + 0.5 - 0.5 * s.detector_size) for w in (x, y)))
    return VisitSources(
        row=row, star=scene.star, merged=scene.merged, detector=detector, x=x + du, y=y + dv, ra=ra, dec=dec,
        magnitude=magnitude + inner + noise[0] * np.hypot(error, s.sigma_phot), magnitude_err=error,
        delta_aperture=inner - outer + annulus * noise[3], jacobian=jacobian,
        background=_SKY_RESIDUAL * np.sqrt(sky) * noise[4],
        edge=from_edge < _EDGE,
        saturated=electrons * _peak(fwhm / s.pixel_scale) + sky > s.full_well,
        cosmic_ray=rng.uniform(0.0, 1.0, n) < _COSMIC_RAYS,
        bad=np.abs(x - _bad_columns(s)[detector]) < 0.5 * _BAD_COLUMNS,
        extended=galaxy | ((scene.merged >= 0) & (separation > _ELONGATED)),
        deblended=(scene.merged < 0) & (separation < _DEBLENDED),
    )  # fmt: skip


@dataclass(frozen=True)
class _Scene:
    """Sources in the field of a visit: places in the focal plane, noiseless magnitudes, arcsec to the pair's other."""

    star: npt.NDArray[np.int32]
    merged: npt.NDArray[np.int32]
    magnitude: FloatArray
    u: FloatArray
    v: FloatArray
    nearest: FloatArray

    def take(self, index: npt.NDArray[np.int64]) -> _Scene:
        return _Scene(*(getattr(self, field.name)[index] for field in fields(self)))


def _scene(survey: FgcmSurvey, row: int) -> _Scene:
    """Return the stars that fall on a detector."""
    s, visit = survey.settings, survey.visits[row]
    names = ("ra", "dec", "rotation", "hour_angle")
    ra0, dec0, rotation, hour_angle = (float(np.deg2rad(visit[k])) for k in names)
    reach = np.deg2rad(0.75 * s.camera_side)
    ra, dec = np.asarray(survey.stars["ra"]), np.asarray(survey.stars["dec"])
    first, last = np.searchsorted(dec, (dec0 - reach, dec0 + reach))
    east = np.abs(np.mod(ra[first:last] - ra0 + np.pi, 2.0 * np.pi) - np.pi)
    star = first + np.flatnonzero(east * np.cos(dec0) < 1.05 * reach)
    u, v = survey.camera.from_sky(ra[star], dec[star], ra0, dec0, rotation)
    detector, x, y = survey.camera.find(u, v)
    seen = detector >= 0
    star, u, v, detector, x, y = star[seen], u[seen], v[seen], detector[seen], x[seen], y[seen]
    x_secant = secant(ra[star], dec[star], hour_angle, ra0, np.deg2rad(s.site.latitude))
    spectrum = np.asarray(survey.stars["spectrum"])[star]
    magnitude = np.asarray(survey.stars["mag"])[star] + survey.photometry.of(
        row, detector, spectrum, x_secant
    )
    magnitude += survey.gray(row, u, v) + flat_field(
        survey.flats[visit["band"]], s.detector_size, detector, x, y
    )
    n = len(star)
    return _Scene(star.astype(np.int32), np.full(n, -1, np.int32), magnitude, u, v, np.full(n, np.inf))


def _merged(survey: FgcmSurvey, scene: _Scene, fwhm: float) -> _Scene:
    """Return the scene with pairs that the PSF does not tell apart as one source."""
    place = np.full(len(survey.stars), -1, np.int64)
    place[scene.star] = np.arange(len(scene.star))
    pairs = place[survey.pairs]
    a, b = pairs[np.all(pairs >= 0, axis=1)].T
    distance = survey.settings.pixel_scale * np.hypot(scene.u[a] - scene.u[b], scene.v[a] - scene.v[b])
    nearest, merged = scene.nearest.copy(), scene.merged.copy()
    nearest[a] = nearest[b] = distance
    close = distance < _MERGED * fwhm
    a, b = a[close], b[close]
    bright = np.where(scene.magnitude[a] <= scene.magnitude[b], a, b)
    faint = a + b - bright
    ratio = 10.0 ** (0.4 * (scene.magnitude[bright] - scene.magnitude[faint]))
    magnitude, u, v = scene.magnitude.copy(), scene.u.copy(), scene.v.copy()
    magnitude[bright] -= MAG_PER_LN * np.log1p(ratio)
    for w in (u, v):
        w[bright] += (w[faint] - w[bright]) * ratio / (1.0 + ratio)
    merged[bright] = scene.star[faint]
    kept = np.ones(len(scene.star), bool)
    kept[faint] = False
    return _Scene(scene.star, merged, magnitude, u, v, nearest).take(np.flatnonzero(kept))


def _with_artifacts(survey: FgcmSurvey, rng: np.random.Generator, scene: _Scene) -> _Scene:
    """Return the scene with sources that no other visit has: anywhere, and as faint as the faintest third."""
    n = round(survey.settings.artifact_fraction * len(scene.star))
    if n == 0:
        return scene
    half, none = survey.camera.half, np.full(n, -1, np.int32)
    bright, faint = np.quantile(scene.magnitude, (0.66, 1.0))
    magnitude = rng.uniform(float(bright), float(faint), n)
    u, v = rng.uniform(-half, half, (2, n))
    more = _Scene(none, none, magnitude, u, v, np.full(n, np.inf))
    both = ((getattr(part, field.name) for part in (scene, more)) for field in fields(scene))
    return _Scene(*(np.concatenate(list(parts)) for parts in both))


def _peak(fwhm: float) -> float:
    """Return the part of a star's light in its brightest pixel, from the FWHM in pixels."""
    return float((_BETA - 1.0) * (2.0 ** (1.0 / _BETA) - 1.0) / np.pi * (2.0 / fwhm) ** 2)


def _bad_columns(settings: FgcmSurveySettings) -> FloatArray:
    """Return the column of each detector that is bad, away from its edges."""
    part = np.mod(np.arange(settings.n_detectors) * 0.618034, 1.0)
    return np.asarray(settings.detector_size * (0.15 + 0.7 * part))

"""A simulated survey in the form in which a pipeline has it: source tables, visit summaries, throughputs, references."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Column, Table

from zeropoint.datamodel.exposure_catalog import ExposureCatalog
from zeropoint.datamodel.transmission_curve import TransmissionCurve
from zeropoint.simulation.fgcm_sources import VisitSources
from zeropoint.simulation.fgcm_survey import FgcmSurvey

if TYPE_CHECKING:
    from astro_metadata_translator import ObservationInfo

__all__ = [
    "INSTRUMENT",
    "camera_card",
    "source_table",
    "throughput_curves",
    "visit_summary",
    "write_fgcm_survey",
]

#: Name of the simulated camera.
INSTRUMENT = "FgcmCam"
#: Side of a pixel in the focal plane, mm.
PIXEL_SIZE_MM = 0.01
_FWHM = float(np.sqrt(8.0 * np.log(2.0)))
#: TAI - UTC in the years of the survey, days.
_LEAP = 37.0 / 86400.0
#: Flags of the table and what makes them: names of `VisitSources`.
_FLAGS: Mapping[str, tuple[str, ...]] = {
    "pixelFlags_edge": ("edge",),
    "pixelFlags_saturated": ("saturated",),
    "pixelFlags_saturatedCenter": ("saturated",),
    "pixelFlags_crCenter": ("cosmic_ray",),
    "pixelFlags_bad": ("bad",),
    "pixelFlags_interpolated": ("saturated", "cosmic_ray", "bad"),
    "pixelFlags_interpolatedCenter": ("saturated", "cosmic_ray", "bad"),
    "centroid_flag": (),
    "apFlux_12_0_flag": ("edge",),
    "apFlux_17_0_flag": ("edge",),
    "localBackground_flag": (),
}
#: PSF candidates have at least this signal to noise.
_CANDIDATE_SN = 50.0


def source_table(survey: FgcmSurvey, sources: VisitSources) -> Table:
    """Return the sources of a visit with the columns of ``sourceTable_visit`` that the global calibration reads.

    Fluxes are electrons in apertures of 12 and 17 pixels, positions degrees; ``sourceId`` is the visit times 2**24 plus the
    row. The order of the rows is that of `sources`.

    Parameters
    ----------
    survey
        The survey.
    sources
        What a visit measured, from ``survey.sources``.
    """
    s, visit = survey.settings, survey.visits[sources.row]
    n = len(sources)
    number = int(visit["visit"])
    flux = s.exposure_time * 10.0 ** (-0.4 * sources.magnitude)
    outer = flux * 10.0 ** (0.4 * sources.delta_aperture)
    error = flux * sources.magnitude_err * np.log(10.0) / 2.5
    source_id = (number << 24) + np.arange(n)
    band = survey.settings.bands[visit["band"]]
    columns: dict[str, Column] = {
        "sourceId": Column(source_id),
        "parentSourceId": Column(np.where(sources.deblended, source_id, 0)),
        "visit": Column(np.full(n, number)),
        "detector": Column(sources.detector.astype(np.int16)),
        "band": Column(np.full(n, band)),
        "physical_filter": Column(np.full(n, survey.physical_filter(band))),
        "ra": Column(np.rad2deg(sources.ra), unit="deg"),
        "dec": Column(np.rad2deg(sources.dec), unit="deg"),
        "x": Column(sources.x, unit="pixel"),
        "y": Column(sources.y, unit="pixel"),
        "apFlux_12_0_instFlux": Column(flux, unit="ct"),
        "apFlux_12_0_instFluxErr": Column(error, unit="ct"),
        "apFlux_17_0_instFlux": Column(outer, unit="ct"),
        # the sky in the outer aperture, and the photons of the source
        "apFlux_17_0_instFluxErr": Column(
            np.sqrt(flux + (error**2 - flux).clip(0.0) * (17 / 12) ** 2), unit="ct"
        ),
        "localBackground_instFlux": Column(sources.background, unit="ct"),
        "localBackground_instFluxErr": Column(
            np.full(n, np.std(sources.background) if n else 0.0), unit="ct"
        ),
        "extendedness": Column(sources.extended.astype(np.float32)),
        "deblend_nChild": Column(np.zeros(n, np.int32)),
        "detect_isPrimary": Column(np.ones(n, bool)),
        "calib_psf_candidate": Column(
            (error * _CANDIDATE_SN < flux) & ~sources.saturated & ~sources.extended
        ),
    }
    for name, causes in _FLAGS.items():
        columns[name] = Column(np.any([np.zeros(n, bool), *(getattr(sources, c) for c in causes)], axis=0))
    return Table(columns)


def visit_summary(survey: FgcmSurvey, row: int) -> ExposureCatalog:
    """Return the summary of a visit: WCS, facts of the observation, PSF, sky and corners of each detector.

    Parameters
    ----------
    survey
        The survey.
    row
        Row of the visit in ``survey.visits``.
    """
    from lsst.images import Box, ObservationSummaryStats

    from zeropoint.datamodel.exposure_catalog import ExposureRow
    from zeropoint.quality.visit_summary import statistics_table_columns

    s, visit, camera = survey.settings, survey.visits[row], survey.camera
    box = Box.factory[0 : s.detector_size, 0 : s.detector_size]
    boresight = [float(np.deg2rad(visit[name])) for name in ("ra", "dec", "rotation")]
    info = _observation(survey, row)
    rows, statistics = [], []
    ends = np.array([0.0, s.detector_size - 1.0])
    sky = survey.sky_electrons(row)
    for detector in range(s.n_detectors):
        wcs = camera.wcs(detector, *boresight)
        ra, dec = wcs.pixel_to_sky(x=ends[[0, 1, 1, 0]], y=ends[[0, 0, 1, 1]])
        center = wcs.pixel_to_sky(x=0.5 * ends[1], y=0.5 * ends[1])
        rows.append(ExposureRow(detector, int(visit["visit"]), bbox=box, wcs=wcs, visit_info=info))
        statistics.append(
            ObservationSummaryStats(
                psfSigma=float(visit["fwhm"]) / s.pixel_scale / _FWHM,
                pixelScale=float(wcs.pixel_scale(x=0.5 * ends[1], y=0.5 * ends[1])),
                ra=float(np.rad2deg(center[0])),
                dec=float(np.rad2deg(center[1])),
                zenithDistance=float(np.rad2deg(np.arccos(1.0 / visit["airmass"]))),
                expTime=s.exposure_time,
                skyBg=sky,
                skyNoise=float(np.sqrt(sky + s.read_noise**2)),
                raCorners=tuple(np.rad2deg(ra).tolist()),
                decCorners=tuple(np.rad2deg(dec).tolist()),
            )
        )
    band = s.bands[visit["band"]]
    names = {
        "physical_filter": Column(np.full(len(rows), survey.physical_filter(band), "U32")),
        "band": Column(np.full(len(rows), band, "U32")),
    }
    return ExposureCatalog.from_rows(rows).with_columns({**names, **statistics_table_columns(statistics)})


def throughput_curves(survey: FgcmSurvey) -> dict[str, dict[int, TransmissionCurve]]:
    """Return the throughput of each physical filter and detector: of optics, filter and detector together.

    Parameters
    ----------
    survey
        The survey.

    Returns
    -------
    curves
        Filter -> detector -> curve.
    """
    wavelength = survey.physics.wavelength
    return {
        survey.physical_filter(band): {
            d: TransmissionCurve(wavelength, curve, source=f"{band} of detector {d}")
            for d, curve in enumerate(survey.throughput[b])
        }
        for b, band in enumerate(survey.settings.bands)
    }


def camera_card(survey: FgcmSurvey) -> str:
    """Return the camera card, YAML."""
    s = survey.settings
    bands = ", ".join(f"{survey.physical_filter(band)}: {band}" for band in s.bands)
    site = s.site
    return (
        "description: The simulated camera of a survey for the global calibration.\n"
        f"extends: simcam\ninstrument: {INSTRUMENT}\n"
        f"bands: {{{bands}}}\n"
        f"observatory: {{longitude_deg: {site.longitude}, latitude_deg: {site.latitude}, elevation_m: {site.elevation}}}\n"
        f"ids: {{n_visits: 268435456, n_detectors: {s.n_detectors}}}\n"
    )


def write_fgcm_survey(
    survey: FgcmSurvey, folder: str | Path, *, on_progress: Callable[[str, int, int], None] | None = None
) -> None:
    """Write a survey for use without a repository.

    Parameters
    ----------
    survey
        Survey.
    folder
        Made if absent; holds ``sources/<visit>.parquet``, ``summaries/<visit>.parquet``, ``references.parquet``,
        ``throughput_<filter>_<detector>.ecsv``, ``camera.yaml``, and the truth: ``truth_stars.parquet``,
        ``truth_visits.parquet``, ``truth_nights.parquet``, ``truth_sources/<visit>.parquet`` (``star`` and ``merged`` of
        each row).
    on_progress
        Called with title, visits done and visits in all.
    """
    import pyarrow.parquet as pq

    from zeropoint.datamodel.arrow import table_to_arrow

    place = Path(folder)
    for name in ("sources", "summaries", "truth_sources"):
        (place / name).mkdir(parents=True, exist_ok=True)
    for row in range(len(survey.visits)):
        visit = survey.visits["visit"][row]
        sources = survey.sources(row)
        truth = Table({"star": sources.star, "merged": sources.merged})
        pq.write_table(table_to_arrow(source_table(survey, sources)), place / "sources" / f"{visit}.parquet")
        pq.write_table(visit_summary(survey, row).to_arrow(), place / "summaries" / f"{visit}.parquet")
        pq.write_table(table_to_arrow(truth), place / "truth_sources" / f"{visit}.parquet")
        if on_progress is not None:
            on_progress("writing visits", row + 1, len(survey.visits))
    for name, table in {
        "references": survey.references, "truth_stars": survey.stars, "truth_visits": survey.visits,
        "truth_nights": survey.nights,
    }.items():  # fmt: skip
        pq.write_table(table_to_arrow(table), place / f"{name}.parquet")
    for name, curves in throughput_curves(survey).items():
        for detector, curve in curves.items():
            curve.to_table().write(place / f"throughput_{name}_{detector}.ecsv", overwrite=True)
    (place / "camera.yaml").write_text(camera_card(survey))


def _observation(survey: FgcmSurvey, row: int) -> ObservationInfo:
    """Return the facts of a visit in the standard form."""
    import astropy.units as u
    from astro_metadata_translator import ObservationInfo, StubTranslator
    from astropy.coordinates import Angle, EarthLocation, SkyCoord
    from astropy.time import Time, TimeDelta

    s, visit = survey.settings, survey.visits[row]
    middle = Time(float(visit["mjd"]) + _LEAP, format="mjd", scale="tai")
    half = TimeDelta(0.5 * s.exposure_time, format="sec")
    return ObservationInfo.makeObservationInfo(
        translator_class=StubTranslator,
        telescope=INSTRUMENT,
        instrument=INSTRUMENT,
        observation_type="science",
        physical_filter=survey.physical_filter(s.bands[visit["band"]]),
        visit_id=int(visit["visit"]),
        exposure_id=int(visit["visit"]),
        exposure_time=s.exposure_time * u.s,
        datetime_begin=middle - half,
        datetime_end=middle + half,
        tracking_radec=SkyCoord(float(visit["ra"]), float(visit["dec"]), unit="deg"),
        boresight_rotation_angle=Angle(float(visit["rotation"]), unit="deg"),
        boresight_rotation_coord="sky",
        boresight_airmass=float(visit["airmass"]),
        pressure=float(visit["pressure"]) * u.hPa,
        location=EarthLocation.from_geodetic(s.site.longitude, s.site.latitude, s.site.elevation),
    )

"""Small tables, visits and a camera, from which star lists are built in tests."""

from __future__ import annotations

import astropy.units as u
import numpy as np
from astro_metadata_translator import ObservationInfo, StubTranslator
from astropy.coordinates import EarthLocation
from astropy.table import Column, Table
from astropy.time import Time, TimeDelta
from lsst.images import Box

from zeropoint.datamodel.exposure_catalog import ExposureCatalog, ExposureRow
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.focal_plane import DetectorGeometry, FocalPlane
from zeropoint.fgcm.build_stars_config import FgcmBuildStarsTableConfig
from zeropoint.fgcm.visit_facts import VisitFacts
from zeropoint.fgcm.visits import FoundVisits, VisitCatalog, account_for, make_visit_catalog

FLAGS = (
    "pixelFlags_edge", "pixelFlags_interpolatedCenter", "pixelFlags_saturatedCenter", "pixelFlags_crCenter",
    "pixelFlags_bad", "pixelFlags_interpolated", "pixelFlags_saturated", "centroid_flag", "apFlux_12_0_flag",
)  # fmt: skip


def config(**fields) -> FgcmBuildStarsTableConfig:
    """Return settings for stars sought in r, without references."""
    result = FgcmBuildStarsTableConfig()
    result.update(**{"primaryBands": ["r"], "doReferenceMatches": False, **fields})
    return result


def focal_plane(ids=(0, 3), slope=0.01) -> FocalPlane:
    """Return detectors of 100 x 100 pixels whose areas grow along x by ``slope`` from center to edge."""
    area = ChebyshevPolynomial(100, 100, np.array([[1.0, slope]]))
    return FocalPlane(
        "Cam", tuple(DetectorGeometry(i, f"D{i}", 0, 0, 100, 100, 0.1 * i, 0.0, 0.2, area) for i in ids)
    )


def facts(visit, physical_filter="CAM-R", **values) -> VisitFacts:
    """Return a good visit of two detectors."""
    defaults = {
        "band": "r", "detectors": np.array([0, 3]), "psf_sigma": np.array([2.0, 3.0]),
        "pixel_scale": np.array([0.2, 0.2]), "sky_background": np.array([500.0, 700.0]), "ra": 10.0, "dec": -20.0,
        "hour_angle": 15.0, "rotation": 90.0, "mjd": 60000.0 + visit, "exposure_time": 30.0, "pressure": 740.0,
        "airmass": 1.1, "longitude": -70.0, "latitude": -30.0, "elevation": 2600.0,
    }  # fmt: skip
    return VisitFacts(visit, physical_filter, **(defaults | values))


def catalog(visits, settings=None, plane=None, **values) -> VisitCatalog:
    """Return the catalogue of good visits."""
    found = FoundVisits({visit: facts(visit, **values) for visit in visits}, {})
    return make_visit_catalog(found, plane or focal_plane(), settings or config(), account_for(found))


def sources(visit, n=6, **columns) -> Table:
    """Return ``n`` good sources of a visit with positions and fluxes of their own, on detectors 0 and 3."""
    rng = np.random.default_rng(visit)
    flux = rng.uniform(2e3, 2e5, n)
    table = Table(
        {
            "visit": np.full(n, visit),
            "detector": np.arange(n, dtype=np.int16) % 2 * 3,
            "ra": rng.uniform(10.0, 10.1, n),
            "dec": rng.uniform(-20.0, -19.9, n),
            "x": rng.uniform(0.0, 99.0, n),
            "y": rng.uniform(0.0, 99.0, n),
            "apFlux_12_0_instFlux": flux,
            "apFlux_12_0_instFluxErr": flux / 50.0,
            "apFlux_17_0_instFlux": 1.01 * flux,
            "apFlux_17_0_instFluxErr": flux / 40.0,
            "localBackground_instFlux": np.full(n, 0.5),
            "extendedness": np.zeros(n),
            "parentSourceId": np.zeros(n, np.int64),
            "deblend_nChild": np.zeros(n, np.int32),
            "detect_isPrimary": np.ones(n, bool),
            "calib_psf_candidate": np.arange(n) % 2 == 0,
            **{name: np.zeros(n, bool) for name in FLAGS},
        }
    )
    for name, values in columns.items():
        table[name] = values
    return table


def summary(
    visit, detectors=(0, 3), *, physical_filter="CAM-R", info="default", **columns
) -> ExposureCatalog:
    """Return a summary with facts of the observation for every detector."""
    box = Box.factory[0:100, 0:100]
    rows = [
        ExposureRow(d, visit, bbox=box, visit_info=observation(visit) if info == "default" else info)
        for d in detectors
    ]
    n = len(detectors)
    values = {
        "physical_filter": np.full(n, physical_filter), "band": np.full(n, "r"), "psfSigma": np.full(n, 2.0),
        "pixelScale": np.full(n, 0.2), "skyBg": np.full(n, 500.0), "ra": np.full(n, 10.0), "dec": np.full(n, -20.0),
        **columns,
    }  # fmt: skip
    return ExposureCatalog.from_rows(rows).with_columns({name: Column(v) for name, v in values.items()})


def observation(visit, **values) -> ObservationInfo:
    """Return the facts of an observation about J2000; a value of None leaves a fact out."""
    start = Time(51544.5, format="mjd", scale="utc").tai - TimeDelta(15.0 * u.s)
    known = {
        "exposure_id": visit, "visit_id": visit, "instrument": "Cam", "telescope": "Cam", "physical_filter": "CAM-R",
        "exposure_time": 30.0 * u.s, "datetime_begin": start, "datetime_end": start + TimeDelta(30.0 * u.s),
        "location": EarthLocation.from_geodetic(lon=0.0, lat=-30.0, height=2600.0), "pressure": 740.0 * u.hPa,
        "boresight_airmass": 1.25, **values,
    }  # fmt: skip
    return ObservationInfo.makeObservationInfo(
        translator_class=StubTranslator, **{k: v for k, v in known.items() if v is not None}
    )

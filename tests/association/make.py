"""Simulated source tables of visits, in the form that the association reads."""

import numpy as np
from astropy.table import Table

from zeropoint.association import IsolatedStarAssociation, IsolatedStarAssociationConfig
from zeropoint.datamodel.skymap import SkyMap

ARCSEC_DEG = 1.0 / 3600.0
FLAGS = [
    *(f"pixelFlags_{name}" for name in ("edge", "interpolatedCenter", "saturatedCenter", "crCenter", "bad")),
    *(f"pixelFlags_{name}" for name in ("interpolated", "saturated")),
    *(
        "centroid_flag",
        "normCompTophatFlux_flag",
        "apFlux_12_0_flag",
        "apFlux_17_0_flag",
        "localBackground_flag",
    ),
]
FLUXES = ["normCompTophatFlux", "apFlux_12_0", "apFlux_17_0", "localBackground"]


def sky_map(ra=150.0, dec=2.0, size_arcmin=6.0, **settings):
    """A map of one tract."""
    return SkyMap.discrete([ra], [dec], [0.5 * size_arcmin / 60.0], tractOverlap=0.01, **settings)


def visit_table(visit, ra, dec, band, *, first_id=None, detector=3):
    """A visit's source table, with every column that the default configuration needs; all sources are good stars."""
    n = len(ra)
    first_id = 10_000 * visit if first_id is None else first_id
    columns = {
        "sourceId": np.arange(n) + first_id,
        "visit": np.full(n, visit),
        "detector": np.full(n, detector, np.int16),
        "ra": np.mod(ra, 360.0),
        "dec": np.asarray(dec, np.float64),
        "physical_filter": np.full(n, f"{band}_sim"),
        "band": np.full(n, band),
        "sizeExtendedness": np.zeros(n),
        "parentSourceId": np.zeros(n, np.int64),
        "deblend_nChild": np.zeros(n, np.int32),
        "detect_isPrimary": np.ones(n, bool),
    }
    columns |= {name: np.zeros(n, bool) for name in FLAGS}
    for k, name in enumerate(FLUXES):
        columns[f"{name}_instFlux"] = 1000.0 * (k + 1) + np.arange(n)
        columns[f"{name}_instFluxErr"] = np.full(n, 20.0)
    columns |= {
        name: np.arange(n, dtype=np.float32) for name in ("x", "y", "xErr", "yErr", "ixx", "iyy", "ixy")
    }
    del columns["localBackground_instFluxErr"]
    return Table(columns)


def survey(ra, dec, bands, rng, *, scatter_arcsec=0.05, probability=1.0):
    """Visits 11, 12, ... in the bands given, each with the stars it sees, at positions with scatter."""
    tables = {}
    for k, band in enumerate(bands):
        seen = np.flatnonzero(rng.uniform(size=len(ra)) < probability)
        east, north = rng.normal(scale=scatter_arcsec * ARCSEC_DEG, size=(2, len(seen)))
        cosine = np.cos(np.deg2rad(dec[seen]))
        tables[11 + k] = visit_table(11 + k, ra[seen] + east / cosine, dec[seen] + north, band)
    return tables


def association(**settings):
    config = IsolatedStarAssociationConfig()
    config.update(**settings)
    config.validate()
    return IsolatedStarAssociation(config)

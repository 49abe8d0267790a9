"""Tables of a fit, made by hand: two visits in two bands, three detectors, one of them without a zeropoint in one visit."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.focal_plane import DetectorGeometry, FocalPlane
from zeropoint.fgcm.visit_geometry import focal_plane_meta

DETECTORS = (1, 4, 6)
SIZE = (200, 300)
FILTERS = ("g_cam", "r_cam")


@pytest.fixture
def focal_plane() -> FocalPlane:
    """Three detectors whose pixels cover up to 3 % more sky than the median."""
    width, height = SIZE
    areas = [np.array([[1.0 + 0.01 * k, 0.01], [0.004, -0.002]]) for k in range(3)]
    return FocalPlane(
        "Cam",
        tuple(
            DetectorGeometry(
                detector,
                str(detector),
                0,
                0,
                width,
                height,
                0.1 * k,
                0.0,
                0.2,
                ChebyshevPolynomial(width, height, area),
            )
            for k, (detector, area) in enumerate(zip(DETECTORS, areas, strict=True))
        ),
    )


@pytest.fixture
def visits(focal_plane: FocalPlane) -> Table:
    """``fgcmVisitCatalog``: visit 11 in g, 12 in r; the second visit's fluxes on detector 4 were scaled by 1.1."""
    scaling = np.ones((2, 3))
    scaling[1, 1] = 1.1
    table = Table({"visit": np.array([11, 12]), "mjd": np.array([60000.1, 60001.2]), "scaling": scaling})
    table.meta = {"DETECTORS": list(DETECTORS), "BANDS": {"g_cam": "g", "r_cam": "r"}}
    table.meta |= focal_plane_meta(focal_plane, is_area_applied=True)
    return table


@pytest.fixture
def zeropoints() -> Table:
    """Zeropoints of 30.1, ... with first-order gray and superstar fields; rows in no order."""
    n = 6
    visit, detector = np.repeat([11, 12], 3), np.tile(DETECTORS, 2)
    zeropoint = 30.0 + 0.1 * np.arange(n)
    superstar = np.tile([1.02, 0.03, -0.01, 0.002], (n, 1)) + 0.001 * np.arange(n)[:, None]
    gray = 10.0 ** (-0.4 * zeropoint)[:, None] * np.tile([1.0, 0.01, 0.02, 0.0], (n, 1))
    error = 0.002 + 0.001 * np.arange(n)
    table = Table(
        {
            "visit": visit,
            "detector": detector.astype(np.int32),
            "fgcmFlag": np.array([1, 1, 1, 1, 1, 16 | 32], np.int32),
            "fgcmZpt": np.where(np.arange(n) == 5, np.nan, zeropoint),
            "fgcmZptErr": np.where(np.arange(n) == 5, np.nan, error),
            "fgcmDeltaChrom": np.array([0.001, 0.002, -9999.0, 0.0, 0.0, -9999.0]),
            "fgcmfZptChebXyMax": np.tile(np.array(SIZE, np.float64), (n, 1)),
            "fgcmfZptCheb": gray,
            "fgcmfZptSstarCheb": superstar,
            "filtername": np.repeat(FILTERS, 3),
        },
        meta={"COMMON_MODE_g": 0.004},
    )
    return table[[3, 0, 5, 2, 4, 1]]


@pytest.fixture
def stars() -> Table:
    """``StandardStars`` in g and r: the second star has no r, the third no position."""
    table = Table(
        {
            "id": np.array([7, 3, 9]),
            "isolated_star_id": np.array([70, 30, 90]),
            "coord_ra": np.deg2rad([10.0, 350.0, np.nan]),
            "coord_dec": np.deg2rad([-5.0, 2.0, 0.0]),
            "ngood": np.array([[4, 3], [2, 0], [1, 1]], np.int32),
            "mag_std_noabs": np.array([[18.0, 17.5], [19.0, 99.0], [20.0, 20.0]], np.float32),
            "magErr_std": np.array([[0.01, 0.01], [0.02, 99.0], [0.1, 0.1]], np.float32),
        }
    )
    table.meta["BANDS"] = ["g", "r"]
    return table

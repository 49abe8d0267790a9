"""A detector with Gaussian stars of known places, fluxes and sizes, and the tables that final characterization reads.

All is written down directly, so that every answer is known in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.table import Column, Table

from zeropoint.datamodel.exposure import DetectorInfo, Exposure, VisitInfo
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.footprint_table import footprint_table
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.mask_planes import plane_bit
from zeropoint.datamodel.psf_model import GaussianPsf
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.recipes.finalize.schema import Sources

SHAPE = (400, 420)
VISIT, TRACT, BAND = 77, 12, "r"
SKY_VARIANCE = 100.0
#: Side of the grid of stars, and the pixels between them.
_GRID, _STEP = 9, 44
#: The last stars have a faint companion each, this many pixels to the right, which is a source but no isolated star.
N_COMPANIONS = 4
COMPANION_OFFSET = 11.0
_REACH = 9


def sigma_at(x: Any) -> Any:
    """Return the true width of the PSF, pixels."""
    return 1.9 + 0.25 * (np.asarray(x, np.float64) / SHAPE[1] - 0.5)


def correction_at(x: Any) -> Any:
    """Return the ratio of the calibration flux to the PSF flux that the table has."""
    return 1.0 + 0.02 * np.asarray(x, np.float64) / SHAPE[1]


@dataclass(frozen=True)
class Scene:
    """A calibrated image and its sources.

    Parameters
    ----------
    exposure
        In electrons.
    table
        All sources, sorted by id.
    footprints
        One a source.
    x, y, flux
        Truth of each source.
    """

    exposure: Exposure
    table: Table
    footprints: FootprintSet
    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray

    @property
    def sources(self) -> Sources:
        return Sources(self.table, self.footprints)

    @property
    def n_stars(self) -> int:
        """Sources that are isolated stars: all but the companions."""
        return len(self.x) - N_COMPANIONS

    @property
    def footprint_table(self) -> pa.Table:
        return footprint_table(np.asarray(self.table["id"]), self.footprints)

    def isolated(self, reserved: np.ndarray | None = None) -> Table:
        """Return the sources of isolated stars; a tenth of them reserved by default."""
        ids = np.asarray(self.table["id"])[: self.n_stars]
        if reserved is None:
            reserved = np.arange(self.n_stars) % 10 == 3
        return Table({"sourceId": ids, "reserved": reserved})

    def with_image(self, image: np.ndarray) -> Scene:
        """Return the scene with other pixels."""
        exposure = self.exposure.copy()
        exposure.image = np.ascontiguousarray(image, np.float32)
        return replace(self, exposure=exposure)

    def star_tables(self) -> tuple[dict[int, Table], dict[int, Table]]:
        """Return the isolated stars of a tract, and their sources, one each."""
        n = self.n_stars
        ids = np.asarray(self.table["id"])[:n]
        first = np.arange(n, dtype=np.int32)
        stars = Table(
            {
                "isolated_star_id": np.arange(1, n + 1) * 100 + TRACT,
                "ra": np.rad2deg(self.table["coord_ra"])[:n],
                "dec": np.rad2deg(self.table["coord_dec"])[:n],
                "primary_band": np.full(n, BAND),
                "source_cat_index": first,
                "nsource": np.ones(n, np.int32),
                f"source_cat_index_{BAND}": first,
                f"nsource_{BAND}": np.ones(n, np.int32),
            }
        )
        detector = self.exposure.detector.id
        sources = Table(
            {
                "sourceId": ids,
                "visit": np.full(n, VISIT),
                "detector": np.full(n, detector, np.int16),
                "obj_index": first,
            }
        )
        return {TRACT: stars}, {TRACT: sources}


@cache
def make_scene(detector: int = 3) -> Scene:
    """Return a scene; other detectors have other noise, and ids of their own."""
    rng = np.random.default_rng(detector)
    gx, gy = (g.ravel() for g in np.meshgrid(np.arange(_GRID), np.arange(_GRID)))
    x = 30.0 + _STEP * gx + rng.uniform(-4, 4, gx.size)
    y = 24.0 + _STEP * gy + rng.uniform(-4, 4, gx.size)
    flux = np.exp(rng.uniform(np.log(2e4), np.log(4e5), x.size))
    # companions of stars that are not in the last column
    hosts = np.arange(N_COMPANIONS) * 11 + 2
    x, y = np.append(x, x[hosts] + COMPANION_OFFSET), np.append(y, y[hosts])
    flux = np.append(flux, 0.3 * flux[hosts])
    image = np.zeros(SHAPE)
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for x0, y0, total in zip(x, y, flux):
        s = float(sigma_at(x0))
        box = (slice(max(int(y0) - 20, 0), int(y0) + 21), slice(max(int(x0) - 20, 0), int(x0) + 21))
        r2 = (rows[box] - y0) ** 2 + (columns[box] - x0) ** 2
        image[box] += total * np.exp(-0.5 * r2 / s**2) / (2 * np.pi * s**2)
    variance = image + SKY_VARIANCE
    image = image + rng.normal(0.0, np.sqrt(variance))
    footprints = _circles(x, y)
    exposure = Exposure(
        image.astype(np.float32),
        variance.astype(np.float32),
        _detected(footprints),
        DetectorInfo("SimCam", f"D{detector}", detector, SHAPE[1], SHAPE[0], (), 0.01, (5.0, -7.0)),
        VisitInfo(VISIT, 30.0, 60000.0, "r_sim", BAND, 150.0, 2.0, 1.2, -70.0, -30.0),
        psf=GaussianPsf(2.0, 25, (200.0, 200.0)),
        wcs=SkyWcs.from_boresight(150.0, 2.0, x=210.0, y=200.0, pixel_scale_arcsec=0.2, rotation_deg=30.0),
        ap_corr_map={
            "base_CompensatedTophatFlux_12_instFlux": ChebyshevPolynomial.constant(*SHAPE[::-1], 1.25),
            "base_PsfFlux_instFlux": ChebyshevPolynomial.constant(*SHAPE[::-1], 3.0),
            "base_PsfFlux_instFluxErr": ChebyshevPolynomial.constant(*SHAPE[::-1], 0.1),
        },
    )
    return Scene(exposure, _table(exposure, x, y, flux, detector), footprints, x, y, flux)


def _circles(x: np.ndarray, y: np.ndarray) -> FootprintSet:
    """Return round footprints; those of neighbors end where they meet, as deblended ones do."""
    ids = np.arange(len(x))
    spans: list[tuple[int, int, int]] = []
    offsets = [0]
    for k in ids:
        other = np.hypot(x - x[k], y - y[k]) + np.where(ids == k, np.inf, 0.0)
        reach = min(_REACH, int(0.5 * other.min()))
        for dy in range(-reach, reach + 1):
            half = int(np.sqrt(reach**2 - dy**2))
            row, middle = round(y[k]) + dy, round(x[k])
            spans.append((row, middle - half, middle + half))
        offsets.append(len(spans))
    span = np.array(spans, np.int32)
    n = len(x)
    return FootprintSet.build(
        span_offsets=np.array(offsets, np.int64),
        span_y=span[:, 0].copy(),
        span_x0=span[:, 1].copy(),
        span_x1=span[:, 2].copy(),
        peak_offsets=np.arange(n + 1),
        peak_x=np.round(x).astype(np.int32),
        peak_y=np.round(y).astype(np.int32),
        peak_value=np.ones(n, np.float32),
        peak_significance=np.full(n, 50.0, np.float32),
        pixel_offsets=np.zeros(n + 1, np.int64),
        pixels=np.zeros(0, np.float32),
    )


def _detected(footprints: FootprintSet) -> np.ndarray:
    mask = np.zeros(SHAPE, np.int32)
    for y, x0, x1 in zip(footprints.span_y, footprints.span_x0, footprints.span_x1):
        mask[y, x0 : x1 + 1] |= plane_bit("DETECTED")
    return mask


def _table(exposure: Exposure, x: np.ndarray, y: np.ndarray, flux: np.ndarray, detector: int) -> Table:
    """Return the sources as CalibrateImage writes them: slots follow the columns that they repeat."""
    assert exposure.wcs is not None
    n = len(x)
    ra, dec = exposure.wcs.pixel_to_sky(x=x, y=y)
    none, error = np.zeros(n, np.bool_), np.sqrt(flux + 120 * SKY_VARIANCE)
    calibration = flux * correction_at(x)
    columns: dict[str, tuple[np.ndarray, str, str]] = {
        "id": (np.arange(1, n + 1) + 1000 * detector, "", ""),
        "coord_ra": (ra, "rad", ""),
        "coord_dec": (dec, "rad", ""),
        "parent": (np.zeros(n, np.int64), "", ""),
        # flags of the PSF of before, which must not come along
        "calib_psf_candidate": (~none, "", ""),
        "calib_psf_used": (~none, "", ""),
        "calib_psf_reserved": (~none, "", ""),
        "base_SdssCentroid_x": (x, "pixel", "slot_Centroid_x"),
        "base_SdssCentroid_y": (y, "pixel", "slot_Centroid_y"),
        "base_SdssCentroid_flag": (none, "", "slot_Centroid_flag"),
        "base_CircularApertureFlux_12_0_instFlux": (flux, "count", "slot_ApFlux_instFlux"),
        "base_CircularApertureFlux_12_0_instFluxErr": (error, "count", "slot_ApFlux_instFluxErr"),
        "base_CircularApertureFlux_12_0_flag": (none, "", "slot_ApFlux_flag"),
        "base_GaussianFlux_instFlux": (flux, "count", ""),
        "base_GaussianFlux_instFluxErr": (error, "count", ""),
        "base_GaussianFlux_flag": (none, "", ""),
        **{
            f"base_PixelFlags_flag_{name}": (none, "", "")
            for name in (
                "edge",
                "nodata",
                "interpolatedCenter",
                "saturatedCenter",
                "crCenter",
                "bad",
                "interpolated",
                "saturated",
            )
        },
        "base_NormalizedCompensatedTophatFlux_instFlux": (calibration, "count", "slot_CalibFlux_instFlux"),
        "base_NormalizedCompensatedTophatFlux_instFluxErr": (error, "count", "slot_CalibFlux_instFluxErr"),
        "base_NormalizedCompensatedTophatFlux_flag": (none, "", "slot_CalibFlux_flag"),
    }
    table = Table()
    for name, (values, unit, slot) in columns.items():
        for each in filter(None, (name, slot)):
            table[each] = Column(values, unit=unit or None, description=f"{each} of a test")
    return table


def shuffled(scene: Scene, rng: np.random.Generator) -> Scene:
    """Return the scene with its sources in another order."""
    order = rng.permutation(len(scene.table))
    return replace(
        scene,
        table=scene.table[order],
        footprints=scene.footprints.take(order),
        x=scene.x[order],
        y=scene.y[order],
        flux=scene.flux[order],
    )

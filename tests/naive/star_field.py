"""Isolated stars of a known PSF on a grid, with disc footprints, for the tests of measurement plugins."""

from __future__ import annotations

import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.exposure import Amplifier, DetectorInfo, Exposure, VisitInfo
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.psf_model import PsfModel


def exposure_of(image: np.ndarray, variance: float, psf: PsfModel | None) -> Exposure:
    """Return an exposure of an image with constant variance."""
    h, w = image.shape
    detector = DetectorInfo("camera", "detector", 0, w, h, (Amplifier("a", (0, 0, w - 1, h - 1)),))
    return Exposure(
        image.astype(np.float32),
        np.full((h, w), variance, np.float32),
        np.zeros((h, w), np.int32),
        detector,
        VisitInfo(1, 30.0, 60000.0, "r", "r"),
        psf=psf,
    )


def disc_footprints(x: np.ndarray, y: np.ndarray, radius: int) -> FootprintSet:
    """Return one disc around each position's pixel, with one peak."""
    ix, iy = np.floor(x + 0.5).astype(int), np.floor(y + 0.5).astype(int)
    offsets, spans = [0], []
    for px, py in zip(ix, iy):
        for dy in range(-radius, radius + 1):
            half = int(np.sqrt(radius * radius - dy * dy))
            spans.append((py + dy, px - half, px + half))
        offsets.append(len(spans))
    sy, x0, x1 = np.array(spans).T if spans else np.zeros((3, 0), int)
    peaks = np.arange(len(x) + 1)
    return FootprintSet.build(np.array(offsets), sy, x0, x1, peaks, ix, iy)


def grid_of_stars(
    psf: PsfModel,
    flux: np.ndarray,
    *,
    spacing: int = 30,
    noise: float = 10.0,
    seed: int = 0,
    radius: int = 11,
) -> tuple[Exposure, FootprintSet, np.ndarray, np.ndarray]:
    """Return exposure, footprints and true positions of stars on a jittered grid."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(len(flux))))
    k = np.arange(len(flux))
    x = spacing * (k % side + 1.0) + rng.uniform(-0.5, 0.5, len(flux))
    y = spacing * (k // side + 1.0) + rng.uniform(-0.5, 0.5, len(flux))
    image = rng.normal(0.0, noise, (spacing * (side + 1), spacing * (side + 1)))
    half = psf.size // 2
    stamps = psf.star_stamps(x=x, y=y)
    for i, (px, py) in enumerate(zip(np.floor(x + 0.5).astype(int), np.floor(y + 0.5).astype(int))):
        image[py - half : py + half + 1, px - half : px + half + 1] += flux[i] * stamps[i]
    return exposure_of(image, noise**2, psf), disc_footprints(x, y, radius), x, y


def start_schema() -> Schema:
    """Return a schema with an id."""
    schema = Schema()
    schema.add(ColumnSpec("id", "i8"))
    return schema


def catalog_of(schema: Schema, footprints: FootprintSet) -> SourceCatalog:
    """Return a catalogue of these footprints, ids from 1."""
    catalog = SourceCatalog(schema, len(footprints), footprints=footprints)
    catalog["id"] = np.arange(len(footprints)) + 1
    return catalog

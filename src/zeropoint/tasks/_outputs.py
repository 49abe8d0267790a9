"""Outputs as the repository keeps them, made from a recipe's record; those of CalibrateImageTask all."""

from __future__ import annotations

from typing import Any

import astropy.units as u
import numpy as np
import pyarrow as pa
from lsst.images import BackgroundMap, Image
from lsst.images.fields import ChebyshevField
from lsst.pipe.base import OutputQuantizedConnection, QuantumContext, Struct, TaskMetadata

from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.datamodel.background import BackgroundList
from zeropoint.datamodel.background_fields import background_map
from zeropoint.datamodel.catalog import Schema, SourceCatalog
from zeropoint.datamodel.exposure import PhotoCalib
from zeropoint.datamodel.footprint_table import SourceFootprints
from zeropoint.datamodel.visit_image import photo_calib_field
from zeropoint.errors import failure_keys
from zeropoint.recipes.calibrate_image import CalibratedImage
from zeropoint.recipes.calibrate_image.products import (
    is_established,
    pixel_unit,
    to_partial_image,
    to_visit_image,
)
from zeropoint.recipes.record import ImageRecord

__all__ = [
    "OPTIONAL",
    "catalog_table",
    "electron_background",
    "expect_no_partial",
    "fill",
    "footprints_table",
    "plane",
    "record_metadata",
    "table_schema",
]

#: Connections that are written only if named in ``optional_outputs``.
OPTIONAL = (
    "psf_stars",
    "psf_stars_footprints",
    "astrometry_matches",
    "photometry_matches",
    "mask",
    "partial_exposure",
)


def table_schema(schema: Schema) -> pa.Schema:
    """Return the Arrow schema of the tables that have a catalogue's schema, as they are written."""
    return table_to_arrow(SourceCatalog(schema, 0).to_table()).schema.remove_metadata()


def plane(image: Any) -> np.ndarray | None:
    """Return the pixels of an image or masked image, None for None."""
    return None if image is None else np.asarray(getattr(image, "image", image).array)


def fill(struct: Struct, record: CalibratedImage) -> None:
    """Set one attribute for each output, in place; what was not established is None.

    Parameters
    ----------
    struct
        Result of the task.
    record
        Result of the recipe, complete or partial.

    Notes
    -----
    Which of them exist where a step failed is the table in ``docs/datasets.md``.
    """
    established = is_established(record)
    has_background = record.background is not None and len(record.background) > 0
    exposure = to_visit_image(record) if established else None
    values = {
        "record": record,
        "exposure": exposure,
        "partial_exposure": None if established else to_partial_image(record),
        "background": background_map(record.background, pixel_unit(record)) if has_background else None,
        "psf_stars": catalog_table(record.psf_stars),
        "psf_stars_footprints": footprints_table(record.psf_stars_footprints, record),
        "stars": catalog_table(record.stars),
        "stars_footprints": footprints_table(record.stars_footprints, record),
        "astrometry_matches": record.astrometry_matches,
        "photometry_matches": record.photometry_matches,
        "mask": exposure.mask if exposure is not None and record.failure is None else None,
        "applied_photo_calib": _field(record.applied_photo_calib, record.exposure.shape),
        "background_to_photometric_ratio": _ratio(record),
    }
    for name, value in values.items():
        setattr(struct, name, value)


def record_metadata(metadata: TaskMetadata, record: ImageRecord) -> None:
    """Put the recipe's numbers, the cost of its stages and its remarks into the task's metadata, in place."""
    for name, value in record.metadata.items():
        metadata[name] = value.item() if isinstance(value, np.generic) else value
    metadata.set_dict("stage_cpu_seconds", {stage.name: stage.cpu_seconds for stage in record.stages})
    for name, sentences in (("notes", record.notes), ("caveats", record.caveats)):
        if sentences:
            metadata[name] = list(sentences)


def expect_no_partial(butlerQC: QuantumContext, outputRefs: OutputQuantizedConnection) -> None:
    """Declare, in place, that a success has no ``partial_exposure``: its absence is no caveat."""
    ref = getattr(outputRefs, "partial_exposure", None)
    if ref is not None:
        butlerQC.allOutputs.discard((ref.datasetType, ref.dataId, ref.id))


def catalog_table(catalog: SourceCatalog | None) -> Any:
    """Return a catalogue as an astropy table, None for None."""
    return None if catalog is None else catalog.to_table()


def electron_background(background: BackgroundList | None) -> BackgroundMap | None:
    """Return the layers that were subtracted, in electrons, as the repository keeps them; None if there are none."""
    if background is None or len(background) == 0:
        return None
    return background_map(background, u.electron, cells=True)


def footprints_table(footprints: SourceFootprints | None, record: ImageRecord) -> pa.Table | None:
    """Return footprints as a table that says why the image failed, if it did; None for None."""
    if footprints is None:
        return None
    return footprints.table(None if record.failure is None else failure_keys(record.failure))


def _field(calib: PhotoCalib | None, shape: tuple[int, int]) -> ChebyshevField | None:
    return None if calib is None else photo_calib_field(calib, shape)


def _ratio(record: CalibratedImage) -> Image | None:
    ratio = record.background_to_photometric_ratio
    return None if ratio is None else Image(ratio, yx0=(0, 0), unit=u.dimensionless_unscaled)

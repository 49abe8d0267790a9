"""Write what calibrating one image has established: images as FITS, tables as parquet.

Every file is written under a temporary name and moved into place when complete, so a crash never leaves half
a file behind.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pyarrow.parquet as pq
from astropy.table import Table
from lsst.images import BackgroundMap, MaskedImage, VisitImage

from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.datamodel.atomic_files import atomic_path
from zeropoint.datamodel.background_fields import background_map
from zeropoint.datamodel.header_cards import add_ordinary_cards
from zeropoint.datamodel.visit_image import masked_image, visit_image
from zeropoint.errors import InvalidInputError, failure_keys
from zeropoint.recipes.calibrate_image.record import CalibratedImage
from zeropoint.recipes.record import ImageRecord

__all__ = [
    "PRODUCTS",
    "check_output_directory",
    "is_established",
    "pixel_unit",
    "remove_products",
    "to_partial_image",
    "to_visit_image",
    "write_products",
]

#: Suffix of each product, in the order written.
PRODUCTS = (
    "visit_image.fits",
    "partial_image.fits",
    "background.fits",
    "stars.parquet",
    "psf_stars.parquet",
    "astrometry_matches.parquet",
    "photometry_matches.parquet",
    "metrics.json",
    "report.html",
)


def check_output_directory(directory: Path) -> None:
    """Make the output directory and make sure that files can be written there.

    Raises
    ------
    InvalidInputError
        If not.
    """
    probe = directory / f".zeropoint-{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise InvalidInputError(
            f"{directory}: cannot write there ({error.strerror}); choose another directory with --out."
        ) from None


def remove_products(directory: Path, stem: str) -> None:
    """Remove the products of an earlier run on the same image, so that none survives a failure now."""
    for suffix in PRODUCTS:
        (directory / f"{stem}.{suffix}").unlink(missing_ok=True)


def write_products(result: CalibratedImage, directory: Path, stem: str) -> list[Path]:
    """Write images and tables of a result; what was not established is not written.

    Parameters
    ----------
    result
        Outcome of the recipe, complete or partial.
    directory
        Existing folder.
    stem
        File stem.

    Returns
    -------
    paths
        Files written.
    """
    written: list[Path] = []

    def save(suffix: str, write: Callable[[Path], None]) -> None:
        path = directory / f"{stem}.{suffix}"
        with atomic_path(path) as temporary:
            write(temporary)
        written.append(path)

    if is_established(result):
        save("visit_image.fits", lambda path: _write_visit_image(result, path))
    else:
        save("partial_image.fits", lambda path: _write_archive(to_partial_image(result), path))
    if result.background is not None and len(result.background):
        background = background_map(result.background, pixel_unit(result))
        save("background.fits", lambda path: _write_archive(background, path))
    tables: list[tuple[str, Table | None]] = [
        ("stars", None if result.stars is None else result.stars.to_table()),
        ("psf_stars", None if result.psf_stars is None else result.psf_stars.to_table()),
        ("astrometry_matches", result.astrometry_matches),
        ("photometry_matches", result.photometry_matches),
    ]
    for name, table in tables:
        if table is not None:
            save(f"{name}.parquet", lambda path, table=table: pq.write_table(table_to_arrow(table), path))  # type: ignore[misc]
    return written


def is_established(result: ImageRecord) -> bool:
    """Say whether PSF and WCS are established, so that the image can be a ``VisitImage``."""
    return result.exposure.psf is not None and result.exposure.wcs is not None


def pixel_unit(result: ImageRecord) -> u.UnitBase:
    """Return the unit of the pixels: nJy once they are calibrated, else electron."""
    return u.nJy if result.applied_photo_calib is not None else u.electron


def to_visit_image(result: ImageRecord, marks: Mapping[str, Any] | None = None) -> VisitImage:
    """Return the image of a result whose PSF and WCS are established; it shares the pixels.

    Parameters
    ----------
    result
        Outcome of a recipe. Where a later step failed, the metadata says so in flat ``failure.*`` keys.
    marks
        Further metadata.
    """
    from lsst.images import Box

    from zeropoint.psf.piff_io import to_lsst_psf

    exposure = result.exposure
    assert exposure.psf is not None
    assert exposure.wcs is not None
    height, width = exposure.shape
    scale = float(exposure.wcs.pixel_scale(x=0.5 * (width - 1), y=0.5 * (height - 1)))
    return visit_image(
        exposure,
        psf=to_lsst_psf(exposure.psf, Box.factory[0:height, 0:width], pixel_scale=scale),
        unit=pixel_unit(result),
        summary=result.summary,
        background=result.background,
        applied=result.applied_photo_calib or exposure.photo_calib,
        metadata={**_metadata(result), **(marks or {})},
    )


def to_partial_image(result: ImageRecord) -> MaskedImage:
    """Return the image of a result without PSF or WCS, with what is known as flat metadata."""
    metadata = _metadata(result)
    if result.summary is not None:
        for name, value in result.summary.model_dump().items():
            if isinstance(value, (int, float)) and np.isfinite(value):
                metadata[f"summary.{name}"] = value
    return masked_image(result.exposure, unit=pixel_unit(result), metadata=metadata)


def _metadata(result: ImageRecord) -> dict[str, Any]:
    """Return what an image says of its making: numbers, remarks, and the reason of a failure, as flat keys."""
    return {
        **result.metadata,
        **{f"caveat.{i}": text for i, text in enumerate(result.caveats)},
        **{f"note.{i}": text for i, text in enumerate(result.notes)},
        **({} if result.failure is None else failure_keys(result.failure)),
    }


def _write_visit_image(result: CalibratedImage, path: Path) -> None:
    from lsst.images.serialization import write_archive

    image = to_visit_image(result)
    write_archive(image, str(path), update_header=lambda header: add_ordinary_cards(header, image))


def _write_archive(image: BackgroundMap | MaskedImage, path: Path) -> None:
    from lsst.images.serialization import write_archive

    write_archive(image, str(path))

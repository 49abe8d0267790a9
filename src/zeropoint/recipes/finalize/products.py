"""What final characterization hands on: rows of exposure catalogues, and tables of stars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
from astropy.table import Table
from lsst.images import Box

from zeropoint.catalogs.table_stack import StackInput, stack_tables
from zeropoint.datamodel.exposure_catalog import (
    DETECTOR_COMMENTS,
    VISIT_COMMENTS,
    ExposureCatalog,
    ExposureRow,
)
from zeropoint.psf.piff_io import to_lsst_psf
from zeropoint.recipes.finalize.record import FinalizedDetector

__all__ = [
    "detector_catalog",
    "exposure_row",
    "stack_star_tables",
    "star_table",
    "visit_catalog",
    "visit_star_table",
]


def exposure_row(result: FinalizedDetector) -> ExposureRow:
    """Return the PSF and the aperture corrections of a detector, as far as there are any."""
    height, width = result.shape
    box = Box.factory[0:height, 0:width]
    psf = None if result.psf is None else to_lsst_psf(result.psf, box, pixel_scale=result.pixel_scale)
    return ExposureRow(result.detector, result.visit, bbox=box, psf=psf, ap_corr_map=result.ap_corr_map)


def detector_catalog(result: FinalizedDetector) -> ExposureCatalog:
    """Return the exposure catalogue of one detector."""
    return ExposureCatalog.from_rows([exposure_row(result)], comments=DETECTOR_COMMENTS)


def visit_catalog(results: Sequence[FinalizedDetector]) -> ExposureCatalog:
    """Return the exposure catalogue of the detectors of a visit."""
    return ExposureCatalog.from_rows([exposure_row(result) for result in results], comments=VISIT_COMMENTS)


def star_table(result: FinalizedDetector) -> Table:
    """Return the table of the candidates of a detector."""
    assert result.measured is not None
    return result.measured.to_table()


def visit_star_table(results: Sequence[FinalizedDetector]) -> Table:
    """Return the table of the candidates of a visit's detectors, in the order of the detectors."""
    ordered = sorted(results, key=lambda result: result.detector)
    return stack_star_tables({result.detector: star_table(result) for result in ordered})


def stack_star_tables(tables: Mapping[int, Table | pa.Table]) -> Table:
    """Return the tables of detectors as one, in the order of the detectors.

    Parameters
    ----------
    tables
        Detector -> table.

    Raises
    ------
    TypeError
        If columns or their dtypes differ.
    """
    return stack_tables(
        [
            StackInput(f"detector {detector}", len(tables[detector]), lambda table=tables[detector]: table)  # type: ignore[misc]
            for detector in sorted(tables)
        ]
    )

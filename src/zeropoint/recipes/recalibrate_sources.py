"""Give the sources of a detector the final WCS and photometric calibration of the visit summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import lsst.pex.config as pexConfig
import numpy as np
from astropy.table import Table

from zeropoint.astrometry.sky_coords import update_sky_coords
from zeropoint.catalogs.source_table import flat_source_table
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog, column
from zeropoint.datamodel.exposure import PhotoCalib
from zeropoint.datamodel.exposure_catalog import ExposureRecord
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import InvalidInputError
from zeropoint.measurement.base import MeasurementPlugin, SlotsConfig
from zeropoint.measurement.local_calibration import (
    LocalPhotoCalib,
    LocalWcs,
    fill_local_photo_calib,
    fill_local_wcs,
)
from zeropoint.photometry.calibrate import calibrate_catalog

__all__ = ["RecalibrateSources", "RecalibrateSourcesConfig", "RecalibratedSources"]

_WCS, _PHOTO_CALIB = "base_LocalWcs", "base_LocalPhotoCalib"
_CENTROID = ("slot_Centroid_x", "slot_Centroid_y")
_CENTROID_ERRORS = ("slot_Centroid_xErr", "slot_Centroid_yErr", "slot_Centroid_x_y_Cov")
_COORDINATES = ("coord_ra", "coord_dec")
_COORDINATE_ERRORS = ("coord_raErr", "coord_decErr", "coord_ra_dec_Cov")
_FLUX_SUFFIXES = ("_instFlux", "_instFluxErr", "_flux", "_fluxErr", "_mag", "_magErr")


class RecalibrateSourcesConfig(pexConfig.Config):
    """What is evaluated anew."""

    doReevaluatePhotoCalib = pexConfig.Field[bool](
        doc="Evaluate base_LocalPhotoCalib anew, with the calibration of the visit summary?", default=True
    )
    doReevaluateSkyWcs = pexConfig.Field[bool](
        doc="Evaluate coordinates and base_LocalWcs anew, with the WCS of the visit summary?", default=True
    )


@dataclass(frozen=True)
class RecalibratedSources:
    """Sources of one detector of one visit.

    Parameters
    ----------
    table
        All columns of the input, and ``base_LocalWcs_*``, ``base_LocalPhotoCalib*``, ``visit`` and ``detector``.
    has_wcs, has_photo_calib
        Whether the visit summary has these; True where they were not asked for.
    """

    table: Table
    has_wcs: bool
    has_photo_calib: bool


class RecalibrateSources:
    """Evaluate the calibrations of a visit summary at the centroids of sources.

    Parameters
    ----------
    config
        What is evaluated.
    """

    ConfigClass = RecalibrateSourcesConfig

    def __init__(self, config: RecalibrateSourcesConfig | None = None) -> None:
        self.config = RecalibrateSourcesConfig() if config is None else config

    def run(self, table: Table, row: ExposureRecord) -> RecalibratedSources:
        """Return the sources with the calibrations of a detector.

        Parameters
        ----------
        table
            Sources as measurement writes them, with ``slot_Centroid_x``, ``slot_Centroid_y`` and instrumental fluxes
            in electrons; not modified.
        row
            The detector in the visit summary.

        Returns
        -------
        result : RecalibratedSources
            Where the summary has no WCS, coordinates and local WCS are NaN, the latter flagged; likewise the local
            calibration.  Calibrated columns (``*_flux``, ``*_mag`` and their errors) follow the local calibration if
            the input has them.

        Raises
        ------
        InvalidInputError
            If the table lacks centroids or coordinates, or the visit summary cannot be read.
        """
        name = f"visit {row.visit} detector {row.id}"
        _expect_columns(table, (*_CENTROID, *_COORDINATES), name)
        result = table.copy(copy_data=False)
        has_wcs = has_photo_calib = True
        if self.config.doReevaluateSkyWcs:
            wcs = row.getWcs()
            has_wcs = wcs is not None
            _put(result, _with_wcs(table, wcs))
        if self.config.doReevaluatePhotoCalib:
            calibration = row.getPhotoCalib()
            has_photo_calib = calibration is not None
            _put(result, _with_photo_calib(table, calibration))
        return RecalibratedSources(
            flat_source_table(result, visit=row.visit, detector=row.id), has_wcs, has_photo_calib
        )


def _with_wcs(table: Table, wcs: SkyWcs | None) -> SourceCatalog:
    """Return the columns that depend on the WCS, evaluated."""
    present = (*_CENTROID, *_CENTROID_ERRORS, *_COORDINATES, *_COORDINATE_ERRORS)
    catalog = _catalog(table, [name for name in present if name in table.colnames], LocalWcs, _WCS)
    update_sky_coords(catalog, wcs)
    fill_local_wcs(catalog, _WCS, wcs, x=catalog[_CENTROID[0]], y=catalog[_CENTROID[1]])
    return catalog


def _with_photo_calib(table: Table, calibration: PhotoCalib | None) -> SourceCatalog:
    """Return the columns that depend on the photometric calibration, evaluated."""
    stems = [
        name.removesuffix("_instFlux")
        for name in table.colnames
        if name.endswith("_instFlux") and f"{name.removesuffix('_instFlux')}_flux" in table.colnames
    ]
    names = [stem + suffix for stem in stems for suffix in _FLUX_SUFFIXES if stem + suffix in table.colnames]
    catalog = _catalog(table, [*_CENTROID, *names], LocalPhotoCalib, _PHOTO_CALIB)
    fill_local_photo_calib(
        catalog, _PHOTO_CALIB, calibration, x=catalog[_CENTROID[0]], y=catalog[_CENTROID[1]]
    )
    return calibrate_catalog(catalog, PhotoCalib(np.nan) if calibration is None else calibration)


def _catalog(
    table: Table, names: Sequence[str], plugin: type[MeasurementPlugin], plugin_name: str
) -> SourceCatalog:
    """Return copies of some columns, and the unset columns that a plugin declares."""
    schema = Schema()
    for name in names:
        dtype = table[name].dtype.str[1:]
        if dtype not in ("f4", "f8"):
            raise InvalidInputError(f"the column {name!r} is {table[name].dtype}, not floating point.")
        schema.add(ColumnSpec(name, dtype, str(table[name].unit or ""), table[name].description or ""))
    plugin(plugin.ConfigClass(), plugin_name, schema, SlotsConfig())
    known = {name: column(table, name).astype(schema.columns[name].numpy_dtype) for name in names}
    return SourceCatalog(
        schema, columns={spec.name: known.get(spec.name, spec.empty(len(table))) for spec in schema}
    )


def _put(table: Table, catalog: SourceCatalog) -> None:
    """Set the columns of a catalogue in a table, in place; those that exist keep their places."""
    evaluated = catalog.to_table()
    for name in evaluated.colnames:
        table[name] = evaluated[name]


def _expect_columns(table: Table, names: Sequence[str], where: str) -> None:
    missing = [name for name in names if name not in table.colnames]
    if missing:
        raise InvalidInputError(f"{where}: the sources have no column {', '.join(missing)}.")

"""From footprints to a measured catalogue: what the older calibration does twice to one image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from astropy.table import Table

from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.detection.source_detection import DetectionResult
from zeropoint.errors import InvalidInputError
from zeropoint.recipes.calibrate.config import CalibrateConfig
from zeropoint.recipes.catalogs import (
    COORD_ERRORS,
    assemble_rows,
    copy_matched_columns,
    minimal_schema,
    nearest_rows,
    rows_from_detection,
)

__all__ = ["SourcePhase", "schema_start"]

_DETECTED = ColumnSpec(
    "calib_detected", "bool", "", "Set if the source was found when the image was characterized."
)


def schema_start(fields: Sequence[str], ic_schema: Schema | None) -> Schema:
    """Return the head of the schema, with the columns copied from the sources of CharacterizeImage.

    Parameters
    ----------
    fields
        ``icSourceFieldsToCopy``.
    ic_schema
        Schema of those sources; None copies nothing.

    Raises
    ------
    InvalidInputError
        If it lacks some of the fields; all are named.
    """
    schema = minimal_schema()
    if ic_schema is not None:
        missing = [name for name in fields if name not in ic_schema]
        if missing:
            raise InvalidInputError(
                f"icSourceFieldsToCopy: the sources of CharacterizeImage have no columns {', '.join(missing)}; "
                f"the flags there are {', '.join(name for name in ic_schema.columns if name.startswith('calib_'))}."
            )
        schema.add(_DETECTED)
        for name in fields:
            spec = ic_schema.columns[ic_schema.resolve(name)]
            schema.add(ColumnSpec(name, spec.dtype, spec.unit, spec.doc))
    schema.add(*COORD_ERRORS)
    return schema


class SourcePhase:
    """Deblending, measurement and all that needs no fitted calibration.

    Parameters
    ----------
    config
        The recipe's configuration.
    schema
        From `schema_start`; the steps append their columns.
    copy_ic
        Whether the schema has columns for the sources of CharacterizeImage.
    """

    def __init__(self, config: CalibrateConfig, schema: Schema, *, copy_ic: bool) -> None:
        c = self.config = config
        self.schema, self.copy_ic = schema, copy_ic
        self.astrometry_detection = c.astrometryDetection.apply() if c.doAstrometry else None
        self.detection = c.detection.apply(schema=schema)
        self.deblend = c.deblend.apply(schema=schema) if c.doDeblend else None
        self.sky_sources = c.skySources.apply(schema=schema) if c.doSkySources else None
        self.measurement = c.measurement.apply(schema=schema)
        self.normalized_flux = (
            c.normalizedCalibrationFlux.apply(schema=schema) if c.doNormalizedCalibration else None
        )
        self.post_calibration = c.postCalibrationMeasurement.apply(schema=schema)
        self.primary_flags = c.setPrimaryFlags.apply(schema=schema)
        self.apply_ap_corr = c.applyApCorr.apply(schema=schema) if c.doApCorr else None
        self.catalog_calculation = c.catalogCalculation.apply(schema=schema)

    def all_rows(
        self, exposure: Exposure, detection: DetectionResult, ids: CatalogIdGenerator
    ) -> tuple[SourceCatalog, FootprintSet | None]:
        """Return rows of parents, sky sources and children, and the sky sources; the mask may change in place."""
        parents = rows_from_detection(self.schema, detection, ids)
        sky = None if self.sky_sources is None else self.sky_sources.run(exposure.mask, ids.catalog_id)
        deblended = None if self.deblend is None else self.deblend.run(exposure, parents)
        return assemble_rows(parents, ids, sky=sky, deblended=deblended), sky

    def measure(
        self,
        exposure: Exposure,
        catalog: SourceCatalog,
        ids: CatalogIdGenerator,
        ic_sources: SourceCatalog | Table | None,
    ) -> None:
        """Fill every column that needs no fitted calibration, in place."""
        self.measurement.run(exposure, catalog, seed=ids.catalog_id)
        if self.normalized_flux is not None:
            self.normalized_flux.run(exposure, catalog)
        if self.apply_ap_corr is not None:
            self.apply_ap_corr.run(catalog, exposure.ap_corr_map or {})
        self.catalog_calculation.run(catalog)
        self.primary_flags.run(catalog)
        if ic_sources is not None and self.copy_ic:
            self.copy_ic_sources(ic_sources, catalog)

    def copy_ic_sources(self, ic_sources: SourceCatalog | Table, catalog: SourceCatalog) -> None:
        """Copy columns of the sources of CharacterizeImage to the nearest ones of the catalogue, in place."""
        if not self.copy_ic:
            raise InvalidInputError(
                "Without the schema of the sources of CharacterizeImage none can be copied."
            )
        pairs = nearest_rows(ic_sources, catalog, self.config.matchRadiusPix)
        catalog["calib_detected"][pairs[1]] = True
        copy_matched_columns(ic_sources, catalog, pairs, self.config.icSourceFieldsToCopy)

    def copy_astrometry(self, bright: SourceCatalog, catalog: SourceCatalog) -> np.ndarray:
        """Copy what the astrometry said of its sources, in place.

        Returns
        -------
        rows : int64, shape (len(bright),)
            Row of ``catalog`` of each source of the astrometry; -1 where it has none of its own.
        """
        pairs = nearest_rows(bright, catalog, self.config.matchRadiusPix)
        copy_matched_columns(bright, catalog, pairs, self.config.astromFieldsToCopy)
        owner = np.full(len(catalog), -1, np.int64)
        owner[pairs[1]] = pairs[0]  # the nearest comes last
        rows = np.full(len(bright), -1, np.int64)
        taken = np.flatnonzero(owner >= 0)
        rows[owner[taken]] = taken
        return rows

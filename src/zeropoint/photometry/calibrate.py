"""Apply a photometric calibration to catalogues and pixels."""

from __future__ import annotations

import numpy as np

from zeropoint.datamodel.background import BackgroundList
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.exposure import AB_FLUX_NJY, Exposure, PhotoCalib

__all__ = ["calibrate_catalog", "calibrate_pixels_in_place", "calibrated_columns"]

_INST = "_instFlux"
_MAG = 2.5 / np.log(10.0)


def calibrated_columns(schema: Schema) -> list[ColumnSpec]:
    """Return the columns that `calibrate_catalog` fills, in their order.

    Parameters
    ----------
    schema
        Every physical column ``X_instFlux`` gives ``X_flux`` (nJy) and ``X_mag``, and if ``X_instFluxErr``
        exists, ``X_fluxErr`` and ``X_magErr``; sorted by name.
    """
    result = []
    for name in sorted(name for name in schema.columns if name.endswith(_INST)):
        stem = name.removesuffix(_INST)
        result.append(ColumnSpec(f"{stem}_flux", "f8", "nJy", f"Calibrated flux of {stem}."))
        result.append(ColumnSpec(f"{stem}_mag", "f8", "mag(AB)", f"AB magnitude of {stem}."))
        if f"{name}Err" in schema.columns:
            result.append(
                ColumnSpec(f"{stem}_fluxErr", "f8", "nJy", f"Error of the calibrated flux of {stem}.")
            )
            result.append(
                ColumnSpec(f"{stem}_magErr", "f8", "mag(AB)", f"Error of the AB magnitude of {stem}.")
            )
    return result


def calibrate_catalog(catalog: SourceCatalog, photo_calib: PhotoCalib) -> SourceCatalog:
    """Return the catalogue with calibrated fluxes and magnitudes; columns that exist are filled in place.

    Parameters
    ----------
    catalog
        With ``*_instFlux`` columns.  If its schema already has the columns of `calibrated_columns`, the same
        object is returned; else a catalogue under a longer schema that shares the other columns.
    photo_calib
        nJy per electron; a field is evaluated at ``slot_Centroid``.

    Notes
    -----
    The error of the calibration itself is not included.  Fluxes that are not positive have NaN magnitudes and
    magnitude errors.
    """
    missing = [spec for spec in calibrated_columns(catalog.schema) if spec.name not in catalog.schema.columns]
    if missing:
        schema = catalog.schema.copy()
        schema.add(*missing)
        catalog = catalog.with_schema(schema)
    scale: float | np.ndarray = photo_calib.calibration_mean
    if photo_calib.field is not None:
        scale = photo_calib.at(x=catalog["slot_Centroid_x"], y=catalog["slot_Centroid_y"])
    for name in [name for name in catalog.schema.columns if name.endswith(_INST)]:
        stem = name.removesuffix(_INST)
        flux = catalog[name].astype(np.float64) * scale
        catalog[f"{stem}_flux"] = flux
        with np.errstate(invalid="ignore", divide="ignore"):
            catalog[f"{stem}_mag"] = np.where(flux > 0, -2.5 * np.log10(flux / AB_FLUX_NJY), np.nan)
            if f"{name}Err" in catalog.schema.columns:
                error = catalog[f"{name}Err"].astype(np.float64) * scale
                catalog[f"{stem}_fluxErr"] = error
                catalog[f"{stem}_magErr"] = np.where(flux > 0, _MAG * error / flux, np.nan)
    return catalog


def calibrate_pixels_in_place(
    exposure: Exposure, background: BackgroundList, photo_calib: PhotoCalib
) -> BackgroundList:
    """Convert an exposure's pixels to nJy in place, and return its background in nJy.

    Image and variance are scaled, ``BUNIT`` becomes nJy and the attached calibration becomes 1 with the same
    relative error, even where what was applied is a field.

    Parameters
    ----------
    exposure
        In electrons.
    background
        What was subtracted, electrons; not modified.
    photo_calib
        nJy per electron.
    """
    mean, field = photo_calib.calibration_mean, photo_calib.field
    if field is None:
        exposure.image *= np.float32(mean)
        exposure.variance *= np.float32(mean * mean)
    else:
        scale = field.image()
        exposure.image *= scale
        scale *= scale
        exposure.variance *= scale
    exposure.photo_calib = PhotoCalib(1.0, photo_calib.calibration_err / mean)
    exposure.metadata["BUNIT"] = "nJy"
    return background.scaled(mean if field is None else field)

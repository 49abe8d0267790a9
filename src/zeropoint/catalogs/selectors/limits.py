"""Single criteria of source selection: a config for each, and a pure function that applies it to a table.

A NaN never satisfies a limit.  Limits are strict: ``minimum < value < maximum``.  A column that a config names and
the table lacks is an `InvalidInputError`, except for the flags of fluxes and the primary flag.  Limits that nothing
can satisfy are a `~lsst.pex.config.FieldValidationError` when the configuration is validated.
"""

from __future__ import annotations

import logging
from typing import Any

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.catalogs.selectors.base import AnyTable, BoolArray
from zeropoint.catalogs.selectors.columns import configured_column, required_column
from zeropoint.datamodel.catalog import column, has_column
from zeropoint.datamodel.exposure import AB_FLUX_NJY, Exposure
from zeropoint.datamodel.mask_planes import has_any
from zeropoint.errors import InvalidInputError

__all__ = [
    "BaseLimit",
    "CentroidErrorLimit",
    "ColorLimit",
    "CullFromMaskedRegion",
    "FluxLimit",
    "MagnitudeErrorLimit",
    "MagnitudeLimit",
    "RequireFiniteRaDec",
    "RequireFlags",
    "RequireIsolated",
    "RequirePrimary",
    "RequireUnresolved",
    "SignalToNoiseLimit",
    "ab_magnitude",
    "centroid_error_limit",
    "color_limit",
    "cull_from_masked_region",
    "flag_column",
    "flux_flagged",
    "flux_flags",
    "flux_limit",
    "magnitude_error_limit",
    "magnitude_limit",
    "reject_empty_interval",
    "reject_nan",
    "require_finite_ra_dec",
    "require_flags",
    "require_isolated",
    "require_primary",
    "require_unresolved",
    "signal_to_noise_limit",
    "within",
]

_log = logging.getLogger(__name__)


# -- configs --------------------------------------------------------------------------------------------


class BaseLimit(pexConfig.Config):
    """An interval of a value; both ends optional and exclusive."""

    minimum = pexConfig.Field[float](optional=True, doc="Select objects with a value greater than this.")
    maximum = pexConfig.Field[float](optional=True, doc="Select objects with a value less than this.")

    def validate(self) -> None:
        """Check that a value can lie within the limits."""
        super().validate()
        reject_empty_interval(self, "minimum", "maximum")


class ColorLimit(BaseLimit):
    """Limit on AB magnitude(primary) - AB magnitude(secondary)."""

    primary = pexConfig.Field[str](doc="Name of the column with the primary flux (nJy).")
    secondary = pexConfig.Field[str](doc="Name of the column with the secondary flux (nJy).")


class FluxLimit(BaseLimit):
    """Limit on a flux."""

    fluxField = pexConfig.Field[str](
        default="slot_CalibFlux_instFlux", doc="Name of the flux column; its flag excludes."
    )


class MagnitudeLimit(BaseLimit):
    """Limit on the AB magnitude of a flux in nJy."""

    fluxField = pexConfig.Field[str](default="flux", doc="Name of the flux column (nJy); its flag excludes.")


class SignalToNoiseLimit(BaseLimit):
    """Limit on flux / error."""

    fluxField = pexConfig.Field[str](default="flux", doc="Name of the flux column; its flag excludes.")
    errField = pexConfig.Field[str](default="flux_err", doc="Name of the column with the flux's error.")


class MagnitudeErrorLimit(BaseLimit):
    """Limit on a magnitude error."""

    magErrField = pexConfig.Field[str](default="mag_err", doc="Name of the column with magnitude errors.")


class RequireFlags(pexConfig.Config):
    """Flags that must and must not be set."""

    good = pexConfig.ListField[str](default=[], doc="Flags that must all be set.")
    bad = pexConfig.ListField[str](default=[], doc="Flags none of which may be set.")

    def validate(self) -> None:
        """Check that no flag must be set and not set."""
        super().validate()
        both = sorted(set(self.good) & set(self.bad))
        if both:
            raise pexConfig.FieldValidationError(
                type(self).bad,
                self,
                f"{', '.join(both)} cannot be in good as well: nothing would be selected.",
            )


class RequireUnresolved(BaseLimit):
    """Limit on the extendedness."""

    name = pexConfig.Field[str](
        default="base_ClassificationSizeExtendedness_value", doc="Name of the extendedness column."
    )

    def setDefaults(self) -> None:
        """Select point sources."""
        self.maximum = 0.1


class RequireIsolated(pexConfig.Config):
    """Sources that are neither blended nor blends."""

    parentName = pexConfig.Field[str](default="parent", doc="Column with the id of the parent.")
    nChildName = pexConfig.Field[str](default="deblend_nChild", doc="Column with the number of children.")


class RequireFiniteRaDec(pexConfig.Config):
    """Sources with a finite sky position."""

    raColName = pexConfig.Field[str](default="coord_ra", doc="Right ascension column.")
    decColName = pexConfig.Field[str](default="coord_dec", doc="Declination column.")


class RequirePrimary(pexConfig.Config):
    """Primary sources."""

    primaryColName = pexConfig.Field[str](default="detect_isPrimary", doc="Primary flag column.")


class CullFromMaskedRegion(pexConfig.Config):
    """Objects whose pixel is not masked."""

    badMaskNames = pexConfig.ListField[str](
        default=["NO_DATA", "NOT_DEBLENDED"],
        doc="Mask planes on which objects are dropped.  Do not list the edge plane: objects outside of the "
        "image take the nearest pixel's mask, so that all of the padding would be lost.",
    )
    xColName = pexConfig.Field[str](default="centroid_x", doc="Column with the x position (pixels).")
    yColName = pexConfig.Field[str](default="centroid_y", doc="Column with the y position (pixels).")


class CentroidErrorLimit(BaseLimit):
    """Limit on both centroid errors."""

    centroidField = pexConfig.Field[str](default="slot_Centroid", doc="Stem of the centroid columns.")

    def setDefaults(self) -> None:
        """At most three pixels."""
        self.maximum = 3.0


def reject_nan(config: pexConfig.Config, *names: str) -> None:
    """Check that limits are numbers.

    Parameters
    ----------
    config
        Configuration.
    *names
        Its fields with limits; None is no limit.

    Raises
    ------
    lsst.pex.config.FieldValidationError
        If a limit is NaN.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and np.isnan(value):
            raise pexConfig.FieldValidationError(
                getattr(type(config), name), config, f"{name} is NaN, which no value satisfies."
            )


def reject_empty_interval(config: pexConfig.Config, low: str, high: str, *, closed: bool = False) -> None:
    """Check that two fields leave room for a value.

    Parameters
    ----------
    config
        Configuration.
    low, high
        Its fields with the lower and the upper limit; None is no limit.
    closed
        Whether a value equal to both passes.

    Raises
    ------
    lsst.pex.config.FieldValidationError
        If a limit is NaN, or the lower one is not below the upper one.
    """
    reject_nan(config, low, high)
    least, most = getattr(config, low), getattr(config, high)
    if least is None or most is None or least < most or (closed and least == most):
        return
    raise pexConfig.FieldValidationError(
        getattr(type(config), low),
        config,
        f"{low} ({least:g}) must be {'at most' if closed else 'below'} {high} ({most:g}): nothing would be selected.",
    )


# -- functions ------------------------------------------------------------------------------------------


def within(values: np.ndarray, minimum: float | None, maximum: float | None) -> BoolArray:
    """Return True where ``minimum < value < maximum``; None is no limit, and NaN fails any limit."""
    values = np.asarray(values)
    selected = np.ones(values.shape, np.bool_)
    with np.errstate(invalid="ignore"):
        if minimum is not None:
            selected &= values > minimum
        if maximum is not None:
            selected &= values < maximum
    return selected


def ab_magnitude(flux: np.ndarray) -> np.ndarray:
    """Return AB magnitudes of fluxes in nJy; NaN where the flux is negative, infinite where it is zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(-2.5 * np.log10(np.asarray(flux, np.float64) / AB_FLUX_NJY))


def flag_column(table: AnyTable, name: str) -> BoolArray:
    """Return a flag column, or False everywhere if the table does not have it."""
    if not has_column(table, name):
        return np.zeros(len(table), np.bool_)
    return np.asarray(column(table, name), np.bool_)


def flux_flagged(table: AnyTable, flux_field: str) -> BoolArray:
    """Return True where a flux is flagged, whichever way the table names its flag.

    The flag of ``A_instFlux`` (and of ``A_flux``) is ``A_flag``; tables of other origin have ``A_flux_flag``.
    """
    flagged = np.zeros(len(table), np.bool_)
    for name in flux_flags(flux_field):
        flagged |= flag_column(table, name)
    return flagged


def flux_flags(flux_field: str) -> list[str]:
    """Return the names that the flag of a flux may have, of which a table has one or none."""
    stem = flux_field.removesuffix("_instFlux").removesuffix("_flux")
    return list(dict.fromkeys((f"{flux_field}_flag", f"{stem}_flag")))


def color_limit(table: AnyTable, config: ColorLimit) -> BoolArray:
    """Return True where the colour is within the limits."""
    with np.errstate(invalid="ignore"):  # inf - inf of two zero fluxes
        primary, secondary = (configured_column(table, config, name) for name in ("primary", "secondary"))
        color = ab_magnitude(primary) - ab_magnitude(secondary)
    return within(color, config.minimum, config.maximum)


def flux_limit(table: AnyTable, config: FluxLimit) -> BoolArray:
    """Return True where the flux is unflagged and within the limits."""
    flux = configured_column(table, config, "fluxField")
    return within(flux, config.minimum, config.maximum) & ~flux_flagged(table, config.fluxField)


def magnitude_limit(table: AnyTable, config: MagnitudeLimit) -> BoolArray:
    """Return True where the flux is unflagged and its AB magnitude within the limits."""
    magnitude = ab_magnitude(configured_column(table, config, "fluxField"))
    return within(magnitude, config.minimum, config.maximum) & ~flux_flagged(table, config.fluxField)


def signal_to_noise_limit(table: AnyTable, config: SignalToNoiseLimit) -> BoolArray:
    """Return True where the flux is unflagged and flux/error is a number within the limits.

    A negative error fails; an error of 0 is an infinite ratio.
    """
    flux = np.asarray(configured_column(table, config, "fluxField"), np.float64)
    error = np.asarray(configured_column(table, config, "errField"), np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = flux / error
        known = ~np.isnan(ratio) & (error >= 0)
    selected = within(ratio, config.minimum, config.maximum) & known
    return selected & ~flux_flagged(table, config.fluxField)


def magnitude_error_limit(table: AnyTable, config: MagnitudeErrorLimit) -> BoolArray:
    """Return True where the magnitude error is within the limits."""
    return within(configured_column(table, config, "magErrField"), config.minimum, config.maximum)


def require_flags(table: AnyTable, config: RequireFlags) -> BoolArray:
    """Return True where all good flags are set and no bad flag is.

    Raises
    ------
    InvalidInputError
        If a flag column is missing: a misspelt flag must not pass unnoticed.
    """
    selected = np.ones(len(table), np.bool_)
    for name in config.good:
        selected &= np.asarray(required_column(table, name, config, "good"), np.bool_)
    for name in config.bad:
        selected &= ~np.asarray(required_column(table, name, config, "bad"), np.bool_)
    return selected


def require_unresolved(table: AnyTable, config: RequireUnresolved) -> BoolArray:
    """Return True where the extendedness is within the limits."""
    return within(configured_column(table, config, "name"), config.minimum, config.maximum)


def require_isolated(table: AnyTable, config: RequireIsolated) -> BoolArray:
    """Return True for rows without parent and without children."""
    isolated = (configured_column(table, config, "parentName") == 0) & (
        configured_column(table, config, "nChildName") == 0
    )
    return np.asarray(isolated, np.bool_)


def require_finite_ra_dec(table: AnyTable, config: RequireFiniteRaDec) -> BoolArray:
    """Return True where the sky position is finite."""
    return np.isfinite(configured_column(table, config, "raColName")) & np.isfinite(
        configured_column(table, config, "decColName")
    )


def require_primary(table: AnyTable, config: RequirePrimary) -> BoolArray:
    """Return True where the primary flag is set; all False if the table has no such flag."""
    return flag_column(table, config.primaryColName)


def cull_from_masked_region(
    table: AnyTable, config: CullFromMaskedRegion, exposure: Exposure | None
) -> BoolArray:
    """Return True where the object's pixel has none of the planes; a NaN position fails.

    An object outside of the image takes the mask of the nearest pixel.  Names that are not mask planes are
    ignored.

    Raises
    ------
    ValueError
        If there is no exposure.
    """
    if exposure is None:
        raise ValueError("Selection by masked regions needs an exposure.")
    x, y = (
        np.asarray(configured_column(table, config, name), np.float64) for name in ("xColName", "yColName")
    )
    finite = np.isfinite(x) & np.isfinite(y)
    height, width = exposure.shape
    column_index = np.clip(np.floor(np.where(finite, x, 0.0) + 0.5), 0, width - 1).astype(np.int64)
    row_index = np.clip(np.floor(np.where(finite, y, 0.0) + 0.5), 0, height - 1).astype(np.int64)
    bad = _known_planes(exposure.mask[row_index, column_index], config.badMaskNames)
    return finite & ~bad


def _known_planes(values: np.ndarray, names: Any) -> BoolArray:
    """Return True where a mask value has any of the planes, leaving out unknown names."""
    result = np.zeros(values.shape, np.bool_)
    for name in names:
        try:
            result |= has_any(values, [name])
        except InvalidInputError:
            _log.debug("Mask plane %s is unknown and ignored.", name)
    return result


def centroid_error_limit(table: AnyTable, config: CentroidErrorLimit) -> BoolArray:
    """Return True where both centroid errors are finite and within the limits."""
    selected = np.ones(len(table), np.bool_)
    for axis in "xy":
        error = required_column(table, f"{config.centroidField}_{axis}Err", config, "centroidField")
        selected &= np.isfinite(error) & within(error, config.minimum, config.maximum)
    return selected

"""Fields that the two older recipes have in common, and checks that both make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import astropy.units as u
import lsst.pex.config as pexConfig

from zeropoint.datamodel.catalog import Schema
from zeropoint.errors import InvalidInputError
from zeropoint.recipes.config_files import InconsistentConfigError

__all__ = [
    "check_debug",
    "check_units",
    "first_look_field",
    "keep_field",
    "refuse",
    "step",
    "units_field",
]

_STRICTNESS = {
    "raise": "an error",
    "warn": "a warning",
    "silent": "nothing is said",
}


def step(target: type, doc: str) -> pexConfig.ConfigurableField:
    """Return the field of a step that can be retargeted."""
    return pexConfig.ConfigurableField(target=target, doc=doc)


def units_field() -> pexConfig.ChoiceField:
    """Return the field ``checkUnitsParseStrict``."""
    return pexConfig.ChoiceField(
        dtype=str,
        doc="What happens where astropy does not know a unit of the catalogue.",
        default="raise",
        allowed=_STRICTNESS,
    )


def first_look_field() -> pexConfig.Field:
    """Return the field ``do_first_look``."""
    return pexConfig.Field[bool](
        doc="Derive the settings that depend on star size and pixel scale from each image?", default=False
    )


def keep_field(names: Mapping[str, str]) -> pexConfig.ListField:
    """Return the field ``derived_fields_keep``.

    Parameters
    ----------
    names
        From `zeropoint.recipes.calibrate_image.derived.derivable`.
    """
    known = frozenset(names.values())
    return pexConfig.ListField[str](
        doc="Fields that are never derived from the image, whatever they are set to.",
        default=[],
        itemCheck=lambda name: name in known,
    )


def refuse(config: pexConfig.Config, field: str, reason: str) -> None:
    """Raise if a switch that must stay off is on.

    Raises
    ------
    InconsistentConfigError
        Naming the field.
    """
    if getattr(config, field):
        raise InconsistentConfigError(getattr(type(config), field), config, f"must be False; {reason}.")


def check_debug(config: pexConfig.Config, moments: Sequence[str]) -> None:
    """Raise if ``debug.display`` names a moment that the recipe does not have.

    Raises
    ------
    InconsistentConfigError
        Naming the field and the moments there are.
    """
    unknown = [name for name in config.debug.display if name not in moments]
    if unknown:
        message = f"there is no moment {unknown[0]!r} to display; there are {', '.join(moments)}."
        raise InconsistentConfigError(type(config.debug).display, config.debug, message)


def check_units(schema: Schema, strictness: str) -> None:
    """Parse every unit of a schema with astropy.

    Parameters
    ----------
    schema
        Columns.
    strictness
        Value of ``checkUnitsParseStrict``.

    Raises
    ------
    InvalidInputError
        If astropy does not know one and ``strictness`` is "raise".
    """
    for spec in schema:
        try:
            u.Unit(spec.unit, parse_strict=strictness)
        except ValueError as error:
            raise InvalidInputError(f"Unit {spec.unit!r} of column {spec.name}: {error}") from None

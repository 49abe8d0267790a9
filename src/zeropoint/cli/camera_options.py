"""Options that name a site and the passbands of a camera, and what they name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zeropoint.cli.throughput_options import given_throughputs, throughput_options

if TYPE_CHECKING:
    from zeropoint.butler.throughputs import Throughputs
    from zeropoint.datamodel.focal_plane import FocalPlane
    from zeropoint.datamodel.transmission_curve import TransmissionCurve
    from zeropoint.fgcm.make_lut_config import FgcmMakeLutConfigBase

__all__ = ["GivenCamera", "camera_options", "given_camera", "top_hats"]

_OPTIONS = (
    click.option(
        "--elevation",
        type=click.FloatRange(-500, 6000),
        metavar="M",
        help="Site: elevation in m, -500 to 6000; the open atmosphere.",
    ),
    click.option(
        "--like",
        "table",
        metavar="NAME|FILE",
        help="Site, nodes and standard atmosphere of one of FGCM's tables, such as fgcm_atm_lsst2; or an atmosphere table (FITS).",
    ),
    click.option(
        "--band",
        "bands",
        multiple=True,
        metavar="NAME=FIRST:LAST",
        help="A filter that is a top hat, Angstrom.",
    ),
    throughput_options,
    click.option(
        "--detectors",
        metavar="IDS",
        help="Detectors, such as 0..8 or 1,3,5.  [default: those with curves, else 0]",
    ),
    click.option(
        "--focal-plane",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Where the detectors are, for curves that depend on it: a table with one row for each (detector, x_mm, y_mm, ...).",
    ),
    click.option(
        "--standard",
        "standards",
        multiple=True,
        metavar="FILTER=STANDARD",
        help="FILTER has the standard passband of STANDARD, as a replacement has that of the filter it replaces.",
    ),
)


@dataclass(frozen=True)
class GivenCamera:
    """A site and the passbands of a camera, as options name them.

    Parameters
    ----------
    config
        Site, filters and what is unity; validated.
    detectors
        Ids.
    curves
        All curves given.
    filters
        Filter -> detector -> curve, in the order of the options.
    sensors
        Detector -> curve.
    focal_plane
        Where the detectors are; None: not said.
    """

    config: FgcmMakeLutConfigBase
    detectors: list[int]
    curves: Throughputs
    filters: dict[str, dict[int, TransmissionCurve]]
    sensors: dict[int, TransmissionCurve]
    focal_plane: FocalPlane | None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `MakeLookUpTable.run` and `MakeLookUpTable.passbands`."""
        return {
            "detectors": self.detectors,
            "filter_curve": lambda name, number: self.filters[name][number],
            "optics": self.curves.optics,
            "sensors": self.sensors,
            "focal_plane": self.focal_plane,
        }


def camera_options[F: Callable[..., Any]](function: F) -> F:
    """Give a command the options whose values `given_camera` takes."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def given_camera(
    *,
    elevation: float | None,
    table: str | None,
    bands: tuple[str, ...],
    detectors: str | None,
    focal_plane: Path | None,
    standards: tuple[str, ...],
    assignments: tuple[str, ...] = (),
    **given: Any,
) -> GivenCamera:
    """Return what the options name.

    Parameters
    ----------
    elevation, table, bands, detectors, focal_plane, standards
        As the options give them.
    assignments
        FIELD=VALUE of the look-up table's configuration.
    **given
        Options of `given_throughputs`.

    Raises
    ------
    click.UsageError
        If an option's text is not of its form, or options contradict each other.
    zeropoint.errors.InvalidInputError
        If a file cannot be used.
    """
    if (elevation is None) == (table is None):
        raise click.UsageError("Give the site as --elevation or as --like, and not as both.")
    curves = given_throughputs(**given)
    numbers = _numbers(detectors, curves)
    filters = _filters(curves, bands, numbers)
    config = _config(elevation, table, curves, list(filters), standards, assignments)
    sensors = {number: curves.sensors.get(number, curves.every_sensor) for number in numbers}
    return GivenCamera(
        config,
        numbers,
        curves,
        filters,
        {number: curve for number, curve in sensors.items() if curve is not None},
        None if focal_plane is None else _focal_plane(focal_plane),
    )


def _focal_plane(path: Path) -> FocalPlane:
    """Return the focal plane of a table in a file."""
    from zeropoint.datamodel.focal_plane import FocalPlane
    from zeropoint.datamodel.table_files import read_table_file

    return FocalPlane.from_table(read_table_file(path))


def _numbers(text: str | None, curves: Throughputs) -> list[int]:
    """Return the detectors."""
    if text is None:
        known = set(curves.sensors).union(*curves.filter_detectors.values())
        return sorted(known) or [0]
    numbers: set[int] = set()
    try:
        for part in text.split(","):
            first, _, last = part.partition("..")
            numbers |= set(range(int(first), int(last or first) + 1))
    except ValueError:
        raise click.BadParameter(
            f"{text!r}: write numbers and ranges such as 0..8 or 1,3,5.", param_hint="--detectors"
        ) from None
    return sorted(numbers)


def top_hats(bands: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Return filter -> where its top hat begins and ends, Angstrom.

    Parameters
    ----------
    bands
        Texts of the option ``--band``.

    Raises
    ------
    click.BadParameter
        If a text is not of the option's form, or a filter comes twice.
    """
    hats: dict[str, tuple[float, float]] = {}
    for text in bands:
        name, _, limits = text.partition("=")
        if name in hats:
            raise click.BadParameter(f"filter {name!r} is given twice.", param_hint="--band")
        first, _, last = limits.partition(":")
        try:
            hats[name] = float(first), float(last)
        except ValueError:
            raise click.BadParameter(
                f"{text!r}: write NAME=FIRST:LAST in Angstrom, such as r=5500:7000.", param_hint="--band"
            ) from None
    return hats


def _filters(
    curves: Throughputs, bands: tuple[str, ...], numbers: list[int]
) -> dict[str, dict[int, TransmissionCurve]]:
    """Return filter -> detector -> curve, in the order of the options."""
    from zeropoint.datamodel.transmission_curve import TransmissionCurve
    from zeropoint.errors import InvalidInputError

    hats = {
        name: TransmissionCurve.top_hat(*limits, source=f"--band {name}={limits[0]:g}:{limits[1]:g}")
        for name, limits in top_hats(bands).items()
    }
    both = sorted(set(hats) & {*curves.filters, *curves.filter_detectors})
    if both:
        raise click.UsageError(f"Filter {both[0]!r} is given as --band and as a file; give one of them.")
    whole = {**hats, **curves.filters}
    out = {name: dict.fromkeys(numbers, curve) for name, curve in whole.items()}
    for name, of_detectors in curves.filter_detectors.items():
        missing = sorted(set(numbers) - set(of_detectors))
        if missing and name not in whole:
            raise InvalidInputError(f"Filter {name!r} has no curve before detectors {missing}.")
        out[name] = {number: of_detectors.get(number) or whole[name] for number in numbers}
    if not out:
        raise click.UsageError(
            "Give a filter: --band NAME=FIRST:LAST, --filter NAME=FILE or --filter-detector NAME=FILE."
        )
    return out


def _config(
    elevation: float | None,
    table: str | None,
    curves: Throughputs,
    filters: list[str],
    standards: tuple[str, ...],
    assignments: tuple[str, ...],
) -> FgcmMakeLutConfigBase:
    """Return the configuration that the options ask for."""
    from zeropoint.fgcm.atmosphere import pressure_at
    from zeropoint.fgcm.make_lut_config import FgcmMakeLutConfigBase
    from zeropoint.recipes.overrides import apply_option, parse_assignment

    config = FgcmMakeLutConfigBase()
    config.physicalFilters = filters
    config.atmosphereTableName = table
    config.doOpticsTransmission = curves.optics is not None
    config.doSensorTransmission = bool(curves.sensors) or curves.every_sensor is not None
    if elevation is not None:
        pressure = pressure_at(elevation)
        config.parameters.update(
            elevation=elevation,
            pmbStd=pressure,
            pmbRange=[0.98 * pressure, 1.02 * pressure],
            pwvRange=[0.1, 12.0],
            pwvStd=3.0,
            airmassStd=1.2,
        )
    for text in standards:
        name, equals, standard = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r}: write FILTER=STANDARD.", param_hint="--standard")
        config.stdPhysicalFilterOverrideMap[name] = standard
    for text in assignments:
        apply_option(config, *parse_assignment(text))
    _validate(config)
    return config


def _validate(config: FgcmMakeLutConfigBase) -> None:
    """Check the configuration; what is wrong with it is one line."""
    from lsst.pex.config import FieldValidationError

    from zeropoint.errors import OptionError
    from zeropoint.recipes.config_files import reason

    try:
        config.validate()
    except FieldValidationError as error:
        raise OptionError(reason(error)) from None

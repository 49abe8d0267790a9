"""Options that name a camera's transmission curves, and the curves that they name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from zeropoint.butler.throughputs import Throughputs
    from zeropoint.datamodel.transmission_curve import TransmissionCurve

__all__ = ["given_throughputs", "throughput_options"]

_OPTIONS = (
    click.option(
        "--optics",
        multiple=True,
        metavar="FILE",
        help="Curve of the optics; repeat it for each mirror and lens, which are multiplied.",
    ),
    click.option(
        "--sensor",
        "sensors",
        multiple=True,
        metavar="[ID=]FILE",
        help="Quantum efficiency of detector ID (or FIRST..LAST); without ID of all that are not named.",
    ),
    click.option(
        "--filter", "filters", multiple=True, metavar="NAME=FILE", help="Curve of physical filter NAME."
    ),
    click.option(
        "--filter-detector",
        "filter_detectors",
        multiple=True,
        metavar="NAME=FILE",
        help="FITS table with the curve of NAME before each detector (column throughput_ccd); or one file each, as ID:NAME=FILE.",
    ),
    click.option(
        "--wavelength-unit",
        type=click.Choice(("nm", "um", "Angstrom")),
        default=None,
        help="Unit of wavelengths in files that do not say; without it their range decides.",
    ),
    click.option(
        "--percent",
        is_flag=True,
        help="Throughputs are in percent in files that do not say; for one file alone write FILE%, as 80% for a number.",
    ),
    click.option(
        "--clip", is_flag=True, help="Make throughputs below 0 and above 1, as noise makes them, 0 and 1."
    ),
)


def throughput_options[F: Callable[..., Any]](function: F) -> F:
    """Give a command the options whose values `given_throughputs` takes."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def given_throughputs(
    *, wavelength_unit: str | None, percent: bool, clip: bool, **given: tuple[str, ...]
) -> Throughputs:
    """Return the curves that the command line names.

    Parameters
    ----------
    wavelength_unit, percent, clip
        As for `zeropoint.datamodel.transmission_files.read_curve`.
    **given
        Texts of the options ``optics``, ``sensors``, ``filters`` and ``filter_detectors``.

    Raises
    ------
    click.UsageError
        If a text is not of the option's form.
    zeropoint.errors.InvalidInputError
        If a file holds no possible curve.
    """
    from zeropoint.datamodel.transmission_curve import TransmissionCurve
    from zeropoint.datamodel.transmission_files import read_detector_curves

    def read(text: str) -> TransmissionCurve:
        path, marked = _unmarked(text)
        try:
            value = float(path)
        except ValueError:
            curve = TransmissionCurve.read(
                path, wavelength_unit=wavelength_unit or "", percent=percent or marked, clip=clip
            )
            _tell(path, curve.notes)
            return curve
        if percent and not marked and value <= 1.0:
            raise click.UsageError(f"--percent: {path} would be {path} percent; write {path}% if it is.")
        return TransmissionCurve.constant(value / 100.0 if percent or marked else value)

    def read_all(text: str) -> dict[int, TransmissionCurve]:
        path, marked = _unmarked(text)
        curves = read_detector_curves(
            path, wavelength_unit=wavelength_unit or "", percent=percent or marked, clip=clip
        )
        _tell(path, dict.fromkeys(note for curve in curves.values() for note in curve.notes))
        return curves

    return _curves(given, read, read_all)


def _unmarked(text: str) -> tuple[str, bool]:
    """Return a path or number without the sign that its throughputs are in percent, and whether there was one."""
    marked = text.endswith("%") and not Path(text).exists()
    return text.removesuffix("%") if marked else text, marked


def _tell(path: str, notes: Iterable[str]) -> None:
    """Say what was decided about a file."""
    for note in notes:
        click.echo(f"{path}: {note}.", err=True)


def _curves(
    given: Mapping[str, tuple[str, ...]],
    read: Callable[..., TransmissionCurve],
    read_all: Callable[[str], dict[int, TransmissionCurve]],
) -> Throughputs:
    """Return the curves that the command line names."""
    from zeropoint.butler.throughputs import Throughputs
    from zeropoint.datamodel.transmission_curve import TransmissionCurve

    optics = [read(path) for path in given["optics"]]
    sensors: dict[int, TransmissionCurve] = {}
    every = None
    for text in given["sensors"]:
        numbers, equals, path = text.partition("=")
        if not equals:
            every = read(text)
            continue
        curve = read(path)
        sensors.update(dict.fromkeys(_detectors(numbers, f"--sensor {text}"), curve))
    before: dict[str, dict[int, TransmissionCurve]] = {}
    for text in given["filter_detectors"]:
        name, path = _named(text, "--filter-detector")
        number, colon, rest = name.partition(":")
        if not (colon and number.replace("..", "").isdigit()):
            before.setdefault(name, {}).update(read_all(path))
            continue
        chosen = dict.fromkeys(_detectors(number, f"--filter-detector {text}"), read(path))
        before.setdefault(rest, {}).update(chosen)
    return Throughputs(
        optics=TransmissionCurve.product(optics) if optics else None,
        sensors=sensors,
        every_sensor=every,
        filters={name: read(path) for name, path in (_named(text, "--filter") for text in given["filters"])},
        filter_detectors=before,
    )


def _named(text: str, option: str) -> tuple[str, str]:
    # names of filters may hold '=', paths seldom do
    name, equals, path = text.rpartition("=")
    if not (equals and name and path):
        raise click.UsageError(f"{option} {text}: write NAME=FILE.")
    return name, path


def _detectors(text: str, where: str) -> list[int]:
    first, _, last = text.partition("..")
    try:
        return list(range(int(first), int(last or first) + 1))
    except ValueError:
        raise click.UsageError(f"{where}: {text!r} is no detector; write a number, or FIRST..LAST.") from None

"""``zeropoint ingest-throughputs``: bring a camera's transmission curves into a repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from zeropoint.cli.errors import clear_errors

if TYPE_CHECKING:
    from zeropoint.butler.throughputs import IngestedThroughputs, Throughputs
    from zeropoint.datamodel.transmission_curve import TransmissionCurve

_NOUNS = {
    "transmission_optics": "optics",
    "transmission_sensor": "sensors",
    "transmission_filter": "filters",
    "transmission_filter_detector": "filters before detectors",
}


@click.command(name="ingest-throughputs")
@click.argument("repo")
@click.argument("instrument")
@click.option(
    "--optics",
    multiple=True,
    metavar="FILE",
    help="Curve of the optics; repeat it for each mirror and lens, which are multiplied.",
)
@click.option(
    "--sensor",
    "sensors",
    multiple=True,
    metavar="[ID=]FILE",
    help="Quantum efficiency of detector ID (or FIRST..LAST); without ID of all that are not named.",
)
@click.option(
    "--filter", "filters", multiple=True, metavar="NAME=FILE", help="Curve of physical filter NAME."
)
@click.option(
    "--filter-detector",
    "filter_detectors",
    multiple=True,
    metavar="NAME=FILE",
    help="FITS table with the curve of NAME before each detector (column throughput_ccd); or one file each, as ID:NAME=FILE.",
)
@click.option(
    "--wavelength-unit",
    type=click.Choice(("nm", "um", "Angstrom")),
    default=None,
    help="Unit of wavelengths in files that do not say; without it their range decides.",
)
@click.option("--percent", is_flag=True, help="Throughputs are in percent.")
@click.option(
    "--clip", is_flag=True, help="Make throughputs below 0 and above 1, as noise makes them, 0 and 1."
)
@clear_errors
def ingest_throughputs(
    repo: str,
    instrument: str,
    wavelength_unit: str | None,
    percent: bool,
    clip: bool,
    **given: tuple[str, ...],
) -> None:
    """Certify transmission curves of INSTRUMENT in REPO, valid for ever.

    A FILE is text of two columns, a table (FITS, parquet, ECSV), or one of the LSST Science Pipelines' FITS files; a number in
    its place stands for a throughput that is the same at all wavelengths. The curves go into the calibration collection
    INSTRUMENT/calib, which becomes an input of the camera's pipelines. Those that are given take the place of what there was.
    Filters without a curve get the `passbands:` of the camera card, if it has some. Doing it twice is harmless.

    \b
    Examples
      zeropoint ingest-throughputs REPO MyCam --optics m1.dat --optics m2.dat --sensor ccd.txt --filter r=r.dat
      zeropoint ingest-throughputs REPO MyCam --optics 0.8 --sensor 0..7=e2v.txt --sensor 8=itl.txt --filter r=r.fits
    """
    from zeropoint.butler.repository import open_repository
    from zeropoint.butler.throughputs import ingest_throughputs as ingest
    from zeropoint.datamodel.transmission_curve import TransmissionCurve

    def read(path: str, **more: Any) -> TransmissionCurve:
        try:
            value = float(path)
        except ValueError:
            return TransmissionCurve.read(
                path, wavelength_unit=wavelength_unit or "", percent=percent, clip=clip, **more
            )
        return TransmissionCurve.constant(value / 100.0 if percent else value)

    def read_all(path: str) -> dict[int, TransmissionCurve]:
        from zeropoint.datamodel.transmission_files import read_detector_curves

        return read_detector_curves(path, wavelength_unit=wavelength_unit or "", percent=percent, clip=clip)

    butler = open_repository(repo, writeable=True)
    curves = _curves(given, read, read_all)
    curves = _with_passbands(curves, butler, instrument)
    done = ingest(butler, instrument, curves)
    for line in _lines(done):
        click.echo(f"{instrument}: {line}")


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


def _with_passbands(curves: Throughputs, butler: Any, instrument: str) -> Throughputs:
    """Return the curves with the top hats of a camera card for filters that have neither a curve now nor before."""
    from dataclasses import replace

    from zeropoint.butler.cameras import card_of, registered_cameras
    from zeropoint.butler.throughputs import filters_with_curves
    from zeropoint.datamodel.transmission_curve import TransmissionCurve

    if instrument not in registered_cameras(butler):
        return curves
    card = card_of(butler, instrument)
    there = {*curves.filters, *curves.filter_detectors, *filters_with_curves(butler, instrument)}
    hats = {
        str(name): TransmissionCurve.top_hat(
            float(limits[0]),
            float(limits[1]),
            throughput=float(limits[2]) if len(limits) > 2 else 1.0,
            source=f"camera card {card.name}, passbands.{name}",
        )
        for name, limits in (card.get("passbands") or {}).items()
        if str(name) not in there
    }
    return replace(curves, filters={**hats, **curves.filters})


def _lines(done: IngestedThroughputs) -> list[str]:
    lines = []
    for name, noun in _NOUNS.items():
        counts = [
            f"{counter[name]} {what}"
            for counter, what in (
                (done.n_new, "new"),
                (done.n_replaced, "replaced"),
                (done.n_unchanged, "there already"),
            )
            if counter.get(name)
        ]
        if counts:
            lines.append(f"{noun}: {', '.join(counts)}")
    lines[0] = f"{lines[0]} -> {done.collection}"
    for what, names in done.missing.items():
        shown = ", ".join(map(str, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        lines.append(
            "no curve of the optics yet" if what == "optics" else f"{what} without a curve yet: {shown}"
        )
    return lines

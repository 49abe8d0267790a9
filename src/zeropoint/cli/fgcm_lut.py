"""``zeropoint fgcm lut``: make the look-up table of a site and a camera without a repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zeropoint.cli.errors import clear_errors
from zeropoint.cli.outputs import require_writable
from zeropoint.cli.throughput_options import given_throughputs, throughput_options

if TYPE_CHECKING:
    from zeropoint.butler.throughputs import Throughputs
    from zeropoint.datamodel.focal_plane import FocalPlane
    from zeropoint.datamodel.transmission_curve import TransmissionCurve
    from zeropoint.fgcm.make_lut_config import FgcmMakeLutConfigBase

_TITLES = {"integrals": "integrals, by filter and water vapor"}
_SUFFIXES = (".parq", ".parquet", ".fits", ".fit")


@click.command(name="lut")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--elevation",
    type=click.FloatRange(-500, 6000),
    metavar="M",
    help="Site: elevation in m, -500 to 6000; the open atmosphere.",
)
@click.option(
    "--like",
    "table",
    metavar="NAME|FILE",
    help="Site, nodes and standard atmosphere of one of FGCM's tables, such as fgcm_atm_lsst2; or an atmosphere table (FITS).",
)
@click.option(
    "--band", "bands", multiple=True, metavar="NAME=FIRST:LAST", help="A filter that is a top hat, Angstrom."
)
@throughput_options
@click.option(
    "--detectors",
    metavar="IDS",
    help="Detectors, such as 0..8 or 1,3,5.  [default: those with curves, else 0]",
)
@click.option(
    "--focal-plane", type=click.Path(path_type=Path), metavar="FILE",
    help="Where the detectors are, for curves that depend on it: a table with one row for each (detector, x_mm, y_mm, ...).",
)  # fmt: skip
@click.option(
    "--standard", "standards", multiple=True, metavar="FILTER=STANDARD",
    help="FILTER has the standard passband of STANDARD, as a replacement has that of the filter it replaces.",
)  # fmt: skip
@click.option(
    "-c", "--config", "assignments", multiple=True, metavar="FIELD=VALUE",
    help="Any field of FgcmMakeLutConfig, such as parameters.pwvRange=[0.1,12].",
)  # fmt: skip
@click.option(
    "--passbands", type=click.Path(path_type=Path), metavar="FILE",
    help="Write standard atmosphere, standard passbands and throughputs of the detectors too.",
)  # fmt: skip
@clear_errors
def lut(
    out: Path,
    elevation: float | None,
    table: str | None,
    bands: tuple[str, ...],
    detectors: str | None,
    focal_plane: Path | None,
    standards: tuple[str, ...],
    assignments: tuple[str, ...],
    passbands: Path | None,
    **given: Any,
) -> None:
    """Make the look-up table of a site and a camera, and write it to OUT (.parq or .fits).

    The table holds passband integrals on a grid of atmospheres, in the layout of FGCM's tasks. Curves are given as for
    `zeropoint ingest-throughputs`; what is not given counts as 1. With --elevation, nodes and standard atmosphere are those of
    FgcmMakeLutConfig, with water vapor from 0.1 to 12 mm (standard 3), standard airmass 1.2 and the site's own pressure.

    \b
    Examples
      zeropoint fgcm lut lut.parq --elevation 2200 --band g=4000:5500 --band r=5600:7000
      zeropoint fgcm lut lut.parq --like fgcm_atm_lsst2 --optics m1.dat --sensor 0..8=ccd.txt --filter r=r.dat
    """
    for path in (out, passbands):
        if path is not None and path.suffix not in _SUFFIXES:
            raise click.UsageError(f"{path}: write to a file that ends in {', '.join(_SUFFIXES)}.")
        if path is not None and not path.absolute().parent.is_dir():
            raise click.UsageError(f"{path}: there is no folder {path.absolute().parent}; make it first.")
        if path is not None and path.is_dir():
            raise click.UsageError(f"{path}: is a folder; give the name of a file.")
    if (elevation is None) == (table is None):
        raise click.UsageError("Give the site as --elevation or as --like, and not as both.")

    from zeropoint.cli.counter import counting
    from zeropoint.fgcm.make_lut import MakeLookUpTable

    for path in (out, passbands):
        if path is not None:
            require_writable(path.parent, str(path))
    curves = given_throughputs(**given)
    numbers = _numbers(detectors, curves)
    filters = _filters(curves, bands, numbers)
    config = _config(elevation, table, curves, list(filters), standards, assignments)
    sensors = {number: curves.sensors.get(number, curves.every_sensor) for number in numbers}
    with counting(_TITLES) as report:
        made = MakeLookUpTable(config).run(
            numbers,
            filter_curve=lambda name, number: filters[name][number],
            optics=curves.optics,
            sensors={number: curve for number, curve in sensors.items() if curve is not None},
            focal_plane=None if focal_plane is None else _focal_plane(focal_plane),
            scratch=out.absolute().parent,
            on_progress=report,
        )
    made.lut.write(out)
    click.echo(
        f"{out}: {len(filters)} filters, {len(numbers)} detectors; {made.lut.meta['atmosphere']}; unity: {_unity(config)}"
    )
    for name, numbers_of in made.lut.meta["interpolationError"]["usual"].items():
        passband = made.passbands[name]
        click.echo(
            f"  {name}: standard wavelength {passband.lambda_std:.1f} Angstrom; interpolated in this table, usual atmospheres "
            f"are wrong by up to {numbers_of['maxMmag']:.2f} mmag"
        )
    if passbands is not None:
        made.write_passbands(passbands)
        click.echo(f"{passbands}: standard atmosphere, standard passbands, throughputs")


def _unity(config: FgcmMakeLutConfigBase) -> str:
    parts = {"optics": config.doOpticsTransmission, "sensors": config.doSensorTransmission}
    return ", ".join(name for name, there in parts.items() if not there) or "nothing"


def _focal_plane(path: Path) -> FocalPlane:
    """Return the focal plane of a table in a file."""
    from zeropoint.datamodel.focal_plane import FocalPlane
    from zeropoint.datamodel.table_files import read_table_file

    return FocalPlane.from_table(read_table_file(path))


def _numbers(text: str | None, curves: Throughputs) -> list[int]:
    """Return the detectors of the table."""
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


def _filters(
    curves: Throughputs, bands: tuple[str, ...], numbers: list[int]
) -> dict[str, dict[int, TransmissionCurve]]:
    """Return filter -> detector -> curve, in the order of the options."""
    from zeropoint.datamodel.transmission_curve import TransmissionCurve
    from zeropoint.errors import InvalidInputError

    hats: dict[str, TransmissionCurve] = {}
    for text in bands:
        name, _, limits = text.partition("=")
        if name in hats:
            raise click.BadParameter(f"filter {name!r} is given twice.", param_hint="--band")
        first, _, last = limits.partition(":")
        try:
            hats[name] = TransmissionCurve.top_hat(float(first), float(last), source=f"--band {text}")
        except ValueError as error:
            if isinstance(error, InvalidInputError):
                raise
            raise click.BadParameter(
                f"{text!r}: write NAME=FIRST:LAST in Angstrom, such as r=5500:7000.", param_hint="--band"
            ) from None
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

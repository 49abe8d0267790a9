"""``zeropoint fgcm lut``: make the look-up table of a site and a camera without a repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zeropoint.cli.camera_options import camera_options, given_camera
from zeropoint.cli.errors import clear_errors
from zeropoint.cli.outputs import require_writable

if TYPE_CHECKING:
    from zeropoint.fgcm.make_lut_config import FgcmMakeLutConfigBase

_TITLES = {"integrals": "integrals, by filter and water vapor"}
_SUFFIXES = (".parq", ".parquet", ".fits", ".fit")


@click.command(name="lut")
@click.argument("out", type=click.Path(path_type=Path))
@camera_options
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
    from zeropoint.cli.counter import counting
    from zeropoint.fgcm.make_lut import MakeLookUpTable

    for path in (out, passbands):
        if path is not None:
            require_writable(path.parent, str(path))
    camera = given_camera(assignments=assignments, **given)
    with counting(_TITLES) as report:
        made = MakeLookUpTable(camera.config).run(
            **camera.arguments(), scratch=out.absolute().parent, on_progress=report
        )
    made.lut.write(out)
    click.echo(
        f"{out}: {len(camera.filters)} filters, {len(camera.detectors)} detectors; {made.lut.meta['atmosphere']}; unity: {_unity(camera.config)}"
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

"""``zeropoint make-skymap``: register a sky map in a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zeropoint.cli.errors import clear_errors

if TYPE_CHECKING:
    from zeropoint.datamodel.skymap import SkyMap

#: Published maps: settings of ``SkyMap.rings``.
_LIKE: dict[str, dict[str, Any]] = {
    "hsc": {"numRings": 120, "projection": "TAN", "pixelScale": 0.168, "tractOverlap": 1 / 60},
    "rubin": {
        "numRings": 120,
        "projection": "TAN",
        "pixelScale": 0.2,
        "tractOverlap": 1 / 60,
        "patches": {"tractBuilder": "cells"},
    },
}
_TITLES = {"tracts": "tracts", "patches": "tracts whose patches are registered"}


class _Tract(click.ParamType):
    """A tract as RA,DEC,RADIUS in degrees."""

    name = "ra,dec,radius"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return three numbers."""
        if isinstance(value, tuple):
            return value
        try:
            ra, dec, radius = (float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(
                f"{value!r} is not RA,DEC,RADIUS: three numbers in degrees, without spaces.", param, ctx
            )
        return ra, dec, radius


@click.command(name="make-skymap")
@click.argument("repo")
@click.argument("name")
@click.option("--like", type=click.Choice(sorted(_LIKE)), help="The map of a survey.")
@click.option("--rings", type=int, metavar="N", help="The whole sky in N rings of tracts.")
@click.option(
    "--discrete", "tracts", type=_Tract(), multiple=True, metavar="RA,DEC,RADIUS",
    help="A square tract: center and half its side, degrees. May be repeated.",
)  # fmt: skip
@click.option(
    "--ra-start", type=float, help="Right ascension of each ring's first tract, degrees.  [default: 0]"
)
@click.option("--projection", type=click.Choice(["TAN", "STG"]), help="[default: TAN]")
@click.option("--pixel-scale", type=float, help="Arcsec per pixel.  [default: 0.2]")
@click.option(
    "--overlap", type=float, help="How far a tract reaches beyond half its side, degrees.  [default: 1/60]"
)
@click.option("--rotation", type=float, help="Position angle of +y, degrees.  [default: 0]")
@click.option(
    "--patch-size", type=int, metavar="PIXELS", help="Side of a patch without its border.  [default: 4000]"
)
@click.option("--patch-border", type=int, metavar="PIXELS", help="[default: 100]")
@click.option("--cells", is_flag=True, help="Patches made of cells, as Rubin's: 20 x 20 cells of 150 pixels.")
@click.option(
    "--patches", default="auto", show_default=True, metavar="auto|all|none|TRACT,...",
    help="Which patches to register: auto is all of them up to 300,000, else none.",
)  # fmt: skip
@clear_errors
def make_skymap(
    repo: str,
    name: str,
    like: str | None,
    rings: int | None,
    tracts: tuple[Any, ...],
    patches: str,
    **options: Any,
) -> None:
    """Register the sky map NAME in REPO: its tracts, its patches and its definition.

    Tasks that combine visits work by tract, and need a sky map. Doing it twice is harmless; a sky map cannot be
    changed once registered.

    \b
    Examples
      zeropoint make-skymap REPO mysurvey --rings 120 --pixel-scale 0.4
      zeropoint make-skymap REPO lsst_cells_v1 --like rubin
      zeropoint make-skymap REPO myfield --discrete 150.1,2.2,0.7

    The definition goes into collection skymaps, an input of every registered camera. Patches of a map of the whole
    sky are millions of records (minutes, and a gigabyte of SQLite): give --patches all if you want them, or the tracts
    that you need, also later.
    """
    given = {"--like": like, "--rings": rings, "--discrete": tracts or None}
    chosen = [option for option, value in given.items() if value is not None]
    if len(chosen) != 1:
        raise click.UsageError(
            f"Give one of --like, --rings and --discrete{': not ' + ' and '.join(chosen) if chosen else ''}."
        )
    wanted = _patches(patches)
    sky_map = described_map(like, rings, tracts, options)

    from zeropoint.butler.repository import open_repository
    from zeropoint.butler.skymap import register_skymap
    from zeropoint.cli.counter import counting

    butler = open_repository(repo, writeable=True)
    with counting(_TITLES) as report:
        done = register_skymap(butler, name, sky_map, patches=wanted, on_progress=report)
    n_tracts = f"{done.n_tracts:,} tract{'s' if done.n_tracts != 1 else ''}"
    click.echo(f"{name}: {'is already there with' if done.was_there else 'registered'} {n_tracts}")
    click.echo(f"  {done.n_new_patches:,} patches registered now, of {done.n_patches_total:,} in all tracts")


def _patches(text: str) -> Any:
    """Return which patches to register."""
    if text in ("auto", "all", "none"):
        return text
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither auto, all or none nor a list of tracts such as 5063,5064.",
            param_hint="--patches",
        ) from None


def described_map(
    like: str | None, rings: int | None, tracts: tuple[Any, ...], options: dict[str, Any]
) -> SkyMap:
    """Return the map that the options describe."""
    import pydantic

    from zeropoint.datamodel.skymap import SkyMap
    from zeropoint.errors import InvalidInputError

    given = {key: value for key, value in options.items() if value not in (None, False)}
    if like is not None:
        if given:
            names = ", ".join("--" + key.replace("_", "-") for key in given)
            raise click.UsageError(f"--like is a complete map; leave out {names}.")
        return SkyMap.rings(**_LIKE[like])
    if tracts and "ra_start" in given:
        raise click.UsageError("--ra-start belongs to --rings.")
    settings = {
        "projection": given.get("projection", "TAN"),
        "pixelScale": given.get("pixel_scale", 0.2),
        "tractOverlap": given.get("overlap", 1 / 60),
        "rotation": given.get("rotation", 0.0),
        "patches": _patch_settings(given),
    }
    try:
        if rings is not None:
            return SkyMap.rings(rings, raStart=given.get("ra_start", 0.0), **settings)
        ra, dec, radius = zip(*tracts, strict=True)
        return SkyMap.discrete(ra, dec, radius, **settings)
    except pydantic.ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in one['loc'] if part not in ('rings', 'discrete', 'layout'))}: {one['msg']}"
            for one in error.errors()
        ]
        raise InvalidInputError(f"This is no sky map: {'; '.join(problems)}") from None


def _patch_settings(given: dict[str, Any]) -> dict[str, Any]:
    """Return how tracts are divided."""
    if given.get("cells"):
        if "patch_size" in given or "patch_border" in given:
            raise click.UsageError("--cells fixes the patches; leave out --patch-size and --patch-border.")
        return {"tractBuilder": "cells"}
    size = given.get("patch_size", 4000)
    return {
        "tractBuilder": "legacy",
        "patchInnerDimensions": (size, size),
        "patchBorder": given.get("patch_border", 100),
    }

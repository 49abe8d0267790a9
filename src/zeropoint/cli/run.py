"""``zeropoint run``: a pipeline on a repository, on persistent workers, in one command."""

from __future__ import annotations

import json
import shlex
import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zeropoint.cli.errors import clear_errors
from zeropoint.cli.logs import quiet_middleware

if TYPE_CHECKING:
    from lsst.daf.butler import Butler

    from zeropoint.butler.execution.graph import RunRequest


class _OrderedOptions(click.Command):
    """A command that knows in which order ``-c`` and ``-C`` were given, since later ones win."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        ctx.meta[__name__] = [parameter.name for parameter in order]
        return super().parse_args(ctx, args)


@click.command(cls=_OrderedOptions)
@click.option("-b", "--butler-config", "repository", required=True, metavar="REPO", help="Repository.")
@click.option(
    "-p",
    "--pipeline",
    default="",
    metavar="PIPELINE",
    help="Pipeline file, or the name of a shipped one (`zeropoint pipelines`) or of one in REPO/pipelines, such "
    "as calibrate or MyCam/calibrate; with #LABEL,LABEL or #SUBSET for a part of it.",
)
@click.option(
    "-i", "--input", "inputs", multiple=True, metavar="COLL", help="Input collections (comma, or repeat)."
)
@click.option(
    "-o", "--output", default="", metavar="COLL", help="Output chain; a new run in it gets the outputs."
)
@click.option(
    "-d", "--data-query", default="", metavar="QUERY", help='What to run on, e.g. "visit IN (1..20)".'
)
@click.option(
    "-j", "--processes", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Workers."
)
@click.option(
    "-c", "--config", "fields", multiple=True, metavar="LABEL:FIELD=VALUE", help="Set a config field."
)
@click.option(
    "-C", "--config-file", "files", multiple=True, metavar="LABEL:FILE", help="Apply a config file."
)
@click.option(
    "--skip-existing-in",
    multiple=True,
    metavar="COLL",
    help="Skip quanta done in these collections. Those done in earlier runs of the output chain always are.",
)
@click.option("--redo", is_flag=True, help="Do again what earlier runs of the output chain did.")
@click.option("--rebase", is_flag=True, help="Put other inputs into an existing output chain.")
@click.option(
    "--raise-on-partial-outputs/--no-raise-on-partial-outputs",
    default=False,
    help="Whether an image with partial outputs counts as failed and blocks what follows.  [default: no]",
)
@click.option(
    "--block-on-failure",
    is_flag=True,
    help="Do not run what lacks any output of a failed quantum, as pipetask; else it runs if it has enough.",
)
@click.option(
    "--timeout", type=click.FloatRange(0), default=0.0, metavar="S", help="Give up a quantum after S seconds."
)
@click.option(
    "--retries",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    metavar="N",
    help="How often to try a quantum again whose worker process died.",
)
@click.option(
    "--max-quanta-per-worker",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    metavar="N",
    help="Replace a worker after N quanta.",
)
@click.option("-g", "--qgraph", default="", metavar="FILE", help="Run this graph, in place of -p, -i and -d.")
@click.option("-q", "--save-qgraph", default="", metavar="FILE", help="Keep a copy of the graph.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON in place of the table.")
@click.option(
    "--log-level",
    type=click.Choice(("DEBUG", "INFO", "WARNING"), case_sensitive=False),
    default="INFO",
    show_default=True,
    help="Level of the quanta's log datasets.",
)
@click.pass_context
@clear_errors
def run(ctx: click.Context, /, as_json: bool, **options: Any) -> None:
    """Run a pipeline on a Butler repository, on persistent worker processes.

    Does what `pipetask run --register-dataset-types` does, with the same outputs: builds the quantum graph,
    makes a new timestamped run in the output chain, runs all quanta, registers what they wrote, reports.
    A failed quantum costs no other one anything but those that need its outputs. The same command again does
    only what is missing, also after the machine went down.

    \b
    Example
      zeropoint run -b REPO -p calibrate -i MyCam/defaults -o u/me/first -d "visit IN (1..20)" -j 4

    \b
    Exit code: 0 all good; 4 some images failed or have partial outputs because of their data;
    1 input error, or anything else failed; 2 usage; 130 interrupted (what was finished is kept).
    """
    if not options["qgraph"]:
        for name, value in (("-p", options["pipeline"]), ("-o", options["output"])):
            if not value:
                raise click.UsageError(f"Missing option {name}.")
    elif (
        options["pipeline"]
        or options["inputs"]
        or options["data_query"]
        or options["fields"]
        or options["files"]
    ):
        raise click.UsageError("--qgraph takes the place of -p, -i, -d, -c and -C.")
    overrides = _overrides(ctx.meta[__name__], options["fields"], options["files"])
    from zeropoint.butler.execution.graph import ConfigOverride, RunRequest

    request = RunRequest(
        repository=options["repository"],
        pipeline=find_pipeline(options["pipeline"], options["repository"]),
        inputs=_names(options["inputs"]),
        output=options["output"],
        data_query=options["data_query"],
        overrides=tuple(ConfigOverride(*parts) for parts in overrides),
        skip_existing_in=_names(options["skip_existing_in"]),
        redo=options["redo"],
        rebase=options["rebase"],
        graph=options["qgraph"],
        save_graph=options["save_qgraph"],
        processes=options["processes"],
        timeout_s=options["timeout"],
        max_quanta_per_worker=options["max_quanta_per_worker"],
        retries=options["retries"],
        raise_on_partial_outputs=options["raise_on_partial_outputs"],
        block_on_failure=options["block_on_failure"],
        log_level=options["log_level"].upper(),
    )
    sys.exit(execute(request, as_json=as_json))


def execute(request: RunRequest, *, as_json: bool = False) -> int:
    """Run a request, show how it goes, print the report, and return the exit code.

    Parameters
    ----------
    request
        What to run.
    as_json
        Print one line of JSON in place of the table.
    """
    from zeropoint.butler.execution.runner import run_pipeline
    from zeropoint.cli.run_progress import RunProgress

    quiet_middleware()
    with RunProgress() as progress:
        report = run_pipeline(request, progress)
    if as_json:
        click.echo(json.dumps(report.to_dict(), sort_keys=True))
    else:
        for line in report.lines():
            click.echo(line)
    if report.error:
        click.echo(f"error: {report.error}", err=True)
    return int(report.exit_code)


def _names(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


def _overrides(
    order: list[str | None], fields: tuple[str, ...], files: tuple[str, ...]
) -> list[tuple[str, str, str]]:
    """Return label, field and value of each override in the order of the command line."""
    waiting = {"fields": iter(fields), "files": iter(files)}
    overrides = []
    for name in order:
        if name not in waiting:
            continue
        text = next(waiting[name])
        label, colon, rest = text.partition(":")
        field, equals, value = rest.partition("=")
        if name == "files":
            if not (label and colon and rest):
                raise click.UsageError(f"-C {text}: write LABEL:FILE.")
            overrides.append((label, "", rest))
        else:
            if not (label and colon and field and equals):
                raise click.UsageError(f"-c {text}: write LABEL:FIELD=VALUE.")
            overrides.append((label, field, value))
    return overrides


def _require_not_older(butler: Butler, path: str, repository: str) -> None:
    """Raise if a camera would have a pipeline of that name had it been registered by this version."""
    from zeropoint.butler.cameras import card_path, registered_cameras
    from zeropoint.butler.pipelines import CAMERA_PIPELINES
    from zeropoint.errors import InvalidInputError

    camera, _, pipeline = path.partition("/")
    is_known = f"{pipeline.removesuffix('.yaml')}.yaml" in CAMERA_PIPELINES
    if is_known and Path(repository).is_dir() and camera in registered_cameras(butler):
        command = shlex.join(
            ["zeropoint", "register-camera", repository, card_path(butler, camera) or "CARD"]
        )
        raise InvalidInputError(
            f"{path}: no such pipeline file: {camera} was registered by a version that did not write it. Register it again, "
            f"which changes nothing else: {command}"
        )


def find_pipeline(name: str, repository: str) -> str:
    """Return where a pipeline is that is named by path, by a shipped name or by one of the repository.

    Parameters
    ----------
    name
        Path, URI or name, perhaps with ``#LABEL``.
    repository
        Its ``pipelines`` folder is searched.

    Raises
    ------
    InvalidInputError
        If nothing has that name, or the repository cannot be opened.
    """
    from zeropoint.errors import InvalidInputError

    path, hash_sign, labels = name.partition("#")
    if not path or "://" in path or Path(path).is_file():
        return name
    folders = [Path(str(resources.files("zeropoint.tasks") / "pipelines")), Path(repository) / "pipelines"]
    for folder in folders:
        for candidate in (folder / path, folder / f"{path}.yaml"):
            if candidate.is_file():
                return f"{candidate}{hash_sign}{labels}"
    from zeropoint.butler.repository import open_repository

    # a wrong repository has no pipelines either, and is what the user has to know first
    with open_repository(repository) as butler:
        _require_not_older(butler, path, repository)
    shipped = sorted(file.stem for file in folders[0].glob("*.yaml"))
    own = sorted(str(file.relative_to(folders[1]))[: -len(".yaml")] for file in folders[1].rglob("*.yaml"))
    raise InvalidInputError(
        f"{path}: no such pipeline file, and no pipeline of that name; there are {', '.join(shipped + own)}."
    )

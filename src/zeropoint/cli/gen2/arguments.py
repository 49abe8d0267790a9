"""What an old command line says: parsed, with its argument files, into one value; nothing is looked up yet."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeropoint.cli.gen2.data_ids import DataIdChoice, parse_data_id
from zeropoint.errors import OptionError

__all__ = ["OldCommandLine", "expand_files", "make_parser", "parse"]

#: Old options that are accepted and have nothing to do here: why.
NO_EFFECT = {
    "--no-backup-config": "every run keeps its own configuration",
    "--clobber-versions": "every run keeps the versions of its packages",
    "--no-versions": "every run keeps the versions of its packages",
    "--longlog": "logs of the task are a dataset, with all there is to a line",
    "--debug": "-L debug shows more",
    "--doraise": "a failure is reported, and the exit code tells of it",
    "--noExit": "a failure is reported, and the exit code tells of it",
    "--reuse-outputs": "what was done before in the output collection always is reused",
}
_LEVELS = {"trace": "DEBUG", "debug": "DEBUG", "info": "INFO", "warn": "WARNING", "warning": "WARNING"}
_LEVELS |= {"error": "WARNING", "fatal": "WARNING"}
_SHOWS = ("config", "data", "tasks", "history", "run")


@dataclass(frozen=True)
class OldCommandLine:
    """What was asked for.

    Parameters
    ----------
    repopath
        Repository, perhaps with ``/rerun/NAME`` behind it.
    output, rerun
        Values of the two options, of which one at most is given.
    calib
        Further input collection.
    ids
        One for each ``--id``.
    overrides
        (field, value), or ("", file), in the order given.
    log_level
        DEBUG, INFO or WARNING.
    show
        What to show: pairs of kind and pattern.
    processes, timeout_s
        As given.
    redo
        Whether results that there are shall be made again.
    notes
        Sentences on options without effect.
    """

    repopath: str
    output: str = ""
    rerun: str = ""
    calib: str = ""
    ids: tuple[DataIdChoice, ...] = ()
    overrides: tuple[tuple[str, str], ...] = ()
    log_level: str = "INFO"
    show: tuple[tuple[str, str], ...] = ()
    processes: int = 1
    timeout_s: float = 0.0
    redo: bool = False
    notes: tuple[str, ...] = ()


def parse(program: str, arguments: Sequence[str], description: str) -> OldCommandLine:
    """Parse an old command line.

    Parameters
    ----------
    program
        Name of the script.
    arguments
        What follows it.
    description
        For ``--help``.

    Raises
    ------
    OptionError
        If an argument file, a data id or another value cannot be used.
    SystemExit
        After ``--help``, and with code 2 if options are unknown or incomplete.
    """
    expanded = expand_files(arguments)
    parser = make_parser(program, description)
    if not expanded or (expanded[0].startswith("-") and not {"-h", "--help", "--version"} & set(expanded)):
        parser.error("REPOPATH, the repository, must come first.")
    # options of old take any number of values, so that a repository in the midst of them would be one
    given = parser.parse_args(["--repopath", *expanded] if not expanded[0].startswith("-") else expanded)
    if given.output and given.rerun:
        raise OptionError("--output and --rerun exclude each other.")
    return OldCommandLine(
        repopath=given.repopath,
        output=given.output,
        rerun=given.rerun,
        calib=given.calib,
        ids=tuple(parse_data_id(words) for words in given.id or ()),
        overrides=_overrides(given.overrides or ()),
        log_level=_log_level(given.loglevel or ()),
        show=_shows(given.show or ()),
        processes=given.processes,
        timeout_s=given.timeout,
        redo=given.redo,
        notes=tuple(
            f"{name} has no effect: {why}."
            for name, why in NO_EFFECT.items()
            if getattr(given, name.strip("-").replace("-", "_"))
        ),
    )


def make_parser(program: str, description: str) -> argparse.ArgumentParser:
    """Return the parser; the repository is its hidden option ``--repopath``.

    Parameters
    ----------
    program
        Name of the script.
    description
        For ``--help``.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        usage=f"{program} REPOPATH [@file [@file2 ...]] [--output OUTPUT | --rerun [INPUT:]OUTPUT] "
        "[--id KEY=VALUE ...] [options]",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog="@file: further arguments from a text file, which may name files itself; # begins a comment.\n"
        "Exit code: 0 all good; 4 the data cannot be calibrated; 1 input error or failure; 2 usage.",
    )
    add = parser.add_argument
    add("--repopath", default="", help=argparse.SUPPRESS)
    add("--output", default="", metavar="OUTPUT", help="collection for the outputs")
    add(
        "--rerun",
        default="",
        metavar="[INPUT:]OUTPUT",
        help="collection for the outputs, and collections (with commas) that hold the inputs beside those of the camera",
    )
    add("--calib", default="", metavar="COLL", help="a further collection of inputs")
    add(
        "--id",
        nargs="*",
        action="append",
        metavar="KEY=VALUE[^VALUE ...]",
        help="data to use: keys visit, ccd, filter, band, dateObs, object; values with ^ between them, or ranges "
        "FIRST..LAST[:STEP]. All keys of one --id must fit, and any of several --id. Without it: all",
    )
    add(
        "-c",
        "--config",
        nargs="*",
        action=_Ordered,
        dest="overrides",
        metavar="NAME=VALUE",
        help="set configuration fields",
    )
    add(
        "-C",
        "--configfile",
        "--config-file",
        nargs="*",
        action=_Ordered,
        dest="overrides",
        metavar="FILE",
        help="configuration files",
    )
    add(
        "-L",
        "--loglevel",
        nargs="*",
        action="extend",
        metavar="[NAME=]LEVEL",
        help="trace, debug, info, warn, error or fatal",
    )
    add("-j", "--processes", type=int, default=1, metavar="N", help="processes; the task needs one only")
    add("-t", "--timeout", type=float, default=0.0, metavar="S", help="give up after S seconds; 0: never")
    add(
        "--show",
        nargs="+",
        action="extend",
        metavar="WHAT",
        help="show config[=PATTERN], data, tasks or history=FIELD and stop, unless run is named too",
    )
    add(
        "--clobber-config",
        "--clobber-output",
        "--redo",
        dest="redo",
        action="store_true",
        help="do again what was done in the output collection before, say with another configuration",
    )
    for name, why in NO_EFFECT.items():
        add(name, action="store_true", help=f"no effect: {why}")
    add("--version", action=_Version)
    return parser


def expand_files(arguments: Sequence[str], within: tuple[Path, ...] = ()) -> list[str]:
    """Return arguments with those that begin with ``@`` replaced by what is in these files.

    Parameters
    ----------
    arguments
        Arguments.
    within
        Files that led here.

    Raises
    ------
    OptionError
        If a file cannot be read, or includes itself.
    """
    expanded: list[str] = []
    for argument in arguments:
        if not argument.startswith("@"):
            expanded.append(argument)
            continue
        path = Path(argument[1:])
        if path.resolve() in within:
            raise OptionError(f"{argument}: the file of arguments includes itself.")
        try:
            words = [
                word for line in path.read_text().splitlines() for word in shlex.split(line, comments=True)
            ]
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OptionError(f"{argument}: the file of arguments cannot be read ({reason}).") from None
        expanded += expand_files(words, (*within, path.resolve()))
    return expanded


class _Ordered(argparse.Action):
    """Collect fields and files in one list, since later ones win."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: Any = None
    ) -> None:
        so_far = getattr(namespace, self.dest) or []
        setattr(namespace, self.dest, [*so_far, *((option, value) for value in values)])


class _Version(argparse.Action):
    """Print the version and stop; reading it takes a while."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        import zeropoint

        parser.exit(message=f"zeropoint {zeropoint.__version__}\n")


def _overrides(given: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    overrides = []
    for option, text in given:
        if option in ("-c", "--config"):
            name, equals, value = text.partition("=")
            if not (name and equals):
                raise OptionError(f"-c {text}: write NAME=VALUE.")
            overrides.append((name, value))
        else:
            overrides.append(("", text))
    return tuple(overrides)


def _log_level(given: Sequence[str]) -> str:
    """Return the level of the logs; that of single components cannot be chosen, so the most talkative counts."""
    order = ("DEBUG", "INFO", "WARNING")
    found = []
    for text in given:
        level = text.rpartition("=")[2].lower()
        if level not in _LEVELS:
            raise OptionError(f"-L {text}: write a level, of {', '.join(_LEVELS)}.")
        found.append(_LEVELS[level])
    return min(found, key=order.index) if found else "INFO"


def _shows(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    shows = []
    for text in given:
        kind, _, pattern = text.partition("=")
        if kind not in _SHOWS:
            raise OptionError(f"--show {text}: there are {', '.join(_SHOWS)}.")
        if kind == "history" and not pattern:
            raise OptionError("--show history: say of which field, as in --show history=minPerBand.")
        shows.append((kind, pattern))
    return tuple(shows)

"""``zeropoint doctor``: is this machine, and is this repository, fit for work?"""

from __future__ import annotations

import sys

import click

from zeropoint.cli.errors import clear_errors

_MARKS = {"ok": "ok     ", "warning": "warning", "problem": "PROBLEM"}


@click.command()
@click.argument("repository", metavar="[REPO]", required=False)
@clear_errors
def doctor(repository: str | None) -> None:
    """Check Python, packages, kernel cache, cores, memory and, if named, a repository; say what to do.

    \b
    Example
      zeropoint doctor REPO

    Exit code: 0 all will work, perhaps with warnings; 1 something will not.
    """
    from zeropoint.butler.health import check_machine, check_repository

    bad = False
    findings = [check_machine()]
    if repository is not None:
        findings.append(check_repository(repository))
    for group in findings:
        for finding in group:
            bad = bad or finding.level == "problem"
            click.echo(f"{_MARKS[finding.level]}  {finding.text}")
            if finding.advice:
                click.echo(f"         -> {finding.advice}")
    sys.exit(1 if bad else 0)

"""Turn expected errors into one clear line and the right exit code."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["clear_errors", "one_line"]

F = TypeVar("F", bound=Callable[..., Any])


def one_line(error: BaseException) -> str:
    """Return an error's text on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def clear_errors[F: Callable[..., Any]](function: F) -> F:
    """Print input errors as ``error: ...`` on stderr and exit with 1, or 2 where an option is wrong.

    A traceback is shown only when debugging.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from zeropoint.errors import CalibrationFailure, InvalidInputError, OptionError

        try:
            return function(*args, **kwargs)
        except (InvalidInputError, CalibrationFailure) as error:
            if logging.getLogger("zeropoint").isEnabledFor(logging.DEBUG):
                raise
            click.echo(f"error: {one_line(error)}", err=True)
            codes = ((CalibrationFailure, 4), (OptionError, 2), (InvalidInputError, 1))
            sys.exit(next(code for kind, code in codes if isinstance(error, kind)))
        except BrokenPipeError:
            raise
        except OSError as error:
            if logging.getLogger("zeropoint").isEnabledFor(logging.DEBUG):
                raise
            place = f"{error.filename}: " if error.filename else ""
            click.echo(f"error: {place}{error.strerror or one_line(error)}", err=True)
            sys.exit(1)
        except Exception as error:
            if not _is_of_database(error) or logging.getLogger("zeropoint").isEnabledFor(logging.DEBUG):
                raise
            reason = one_line(getattr(error, "orig", None) or error)
            click.echo(f"error: the repository's database cannot be used: {reason}", err=True)
            sys.exit(1)

    return wrapped  # type: ignore[return-value]


def _is_of_database(error: Exception) -> bool:
    """Return whether an error comes from the database of a repository (disk full, read-only, server gone)."""
    module = sys.modules.get("sqlalchemy.exc")
    return module is not None and isinstance(error, module.DBAPIError)

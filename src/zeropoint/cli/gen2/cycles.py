"""Numbers of cycles on old command lines: they ran one cycle at a time, and today's names of datasets depend on it."""

from __future__ import annotations

from zeropoint.cli.gen2.translate import Overrides

__all__ = ["fit_cycle_overrides", "output_overrides"]

_NUMBER, _ALL = "cycleNumber", "doMultipleCycles"


def fit_cycle_overrides(given: Overrides) -> Overrides:
    """Return the overrides of ``fgcmFitCycle.py``: of one cycle, unless they ask for all of them.

    Parameters
    ----------
    given
        Those of the command line; they come last, and so hold.
    """
    values = dict(given)
    before: Overrides = () if _ALL in values else ((_ALL, "False"),)
    number = values.get(_NUMBER, "")
    if number.isdecimal():
        templates = {"cycleNumber": number, "previousCycleNumber": str(int(number) - 1)}
        before += tuple((f"connections.{name}", value) for name, value in templates.items())
    return before + given


def output_overrides(given: Overrides) -> Overrides:
    """Return the overrides of ``fgcmOutputProducts.py``, whose field ``cycleNumber`` is a template of its connections now.

    Parameters
    ----------
    given
        Those of the command line.
    """
    return tuple((f"connections.{name}" if name == _NUMBER else name, value) for name, value in given)

"""What a task raises where a recipe raises a `zeropoint.errors.CalibrationFailure`.

Each subclass of `~zeropoint.errors.CalibrationFailure` has a twin here of the same name (Rubin's), which is a
`lsst.pipe.base.AlgorithmError`: that is what the execution system treats as a repeatable failure, and what
``pipetask report`` counts by class.  The twins are made from the list in `zeropoint.errors`, so none can be
forgotten.
"""

from __future__ import annotations

import inspect
from typing import Any

from lsst.pipe.base import AlgorithmError

from zeropoint import errors

__all__ = ["CalibrationFailure", "algorithm_error"]


class CalibrationFailure(AlgorithmError):
    """Data that cannot be calibrated; base class of the twins.

    Parameters
    ----------
    message
        What failed, with which numbers, and what to try.
    **metadata
        Plain numbers and strings that describe the failure.
    """

    def __init__(self, message: str, **metadata: errors.Scalar) -> None:
        super().__init__(message)
        self._metadata = dict(metadata)

    @property
    def metadata(self) -> dict[str, Any]:
        """The numbers and strings that describe the failure."""
        return self._metadata


def _make_twins() -> dict[type[errors.CalibrationFailure], type[CalibrationFailure]]:
    """Return the twin of every failure; the classes are attributes of this module, so they can be pickled."""
    twins: dict[type[errors.CalibrationFailure], type[CalibrationFailure]] = {
        errors.CalibrationFailure: CalibrationFailure
    }

    def twin(failure: type[errors.CalibrationFailure]) -> type[CalibrationFailure]:
        if failure not in twins:
            bases = tuple(twin(b) for b in failure.__bases__ if issubclass(b, errors.CalibrationFailure))
            namespace = {"__module__": __name__, "__doc__": inspect.getdoc(failure)}
            twins[failure] = type(failure.__name__, bases, namespace)
        return twins[failure]

    for name in errors.__all__:
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, errors.CalibrationFailure):
            globals()[name] = twin(kind)
    return twins


_TWINS = _make_twins()


def algorithm_error(failure: errors.CalibrationFailure) -> CalibrationFailure:
    """Return the twin of a recipe's failure, with its message and metadata."""
    return _TWINS[type(failure)](str(failure), **failure.metadata)

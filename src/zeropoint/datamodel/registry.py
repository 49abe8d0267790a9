"""Registries of interchangeable steps whose errors name what there is to choose from."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import lsst.pex.config as pexConfig
from lsst.pex.config.callStack import getCallStack
from lsst.pex.config.registry import Registry, RegistryInstanceDict

__all__ = ["StepRegistry", "make_registry"]


class _Choices(RegistryInstanceDict):
    """The configurations of one field by name; an unknown name is answered with the known ones."""

    def __getitem__(self, k: Any, at: Any = None, label: str = "default") -> Any:
        if k not in self.types:
            self._refuse(k)
        if k not in self._dict and at is None:
            at = getCallStack(1)
        return super().__getitem__(k, at=at, label=label)

    def __setitem__(self, k: Any, value: Any, at: Any = None, label: str = "assignment") -> None:
        if k not in self.types:
            self._refuse(k)
        super().__setitem__(k, value, at=getCallStack(1) if at is None else at, label=label)

    def _refuse(self, name: Any) -> None:
        known = sorted(self.types)
        close = get_close_matches(str(name), known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise pexConfig.FieldValidationError(
            self._field, self._config, f"there is no {name!r}; choose from {', '.join(known)}.{hint}"
        )


class _ChoiceField(pexConfig.RegistryField):
    """Field of a `StepRegistry`."""

    instanceDictClass = _Choices


class StepRegistry(Registry):
    """A registry of steps by name; make one with `make_registry`."""

    def makeField(
        self,
        doc: str,
        default: Any = None,
        optional: bool = False,
        multi: bool = False,
        on_none: Callable[..., Any] | None = None,
    ) -> pexConfig.RegistryField:
        """Return a configuration field that chooses from this registry; see `lsst.pex.config.Registry.makeField`."""
        return _ChoiceField(doc, self, default, optional, multi, on_none=on_none)


def make_registry(doc: str, config_base: type[pexConfig.Config] = pexConfig.Config) -> StepRegistry:
    """Make a registry, as `lsst.pex.config.makeRegistry` does.

    Parameters
    ----------
    doc
        What is registered.
    config_base
        Class that every configuration in it derives from.
    """
    registry: StepRegistry = type("StepRegistry", (StepRegistry,), {"__doc__": doc})(config_base)
    return registry

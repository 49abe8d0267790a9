"""What pipeline and user set is not derived from the image."""

from __future__ import annotations

from typing import Any, ClassVar

from zeropoint.recipes.calibrate_image.derived import times_set

__all__ = ["KeptFields"]


class KeptFields:
    """First base of the configuration of a task whose recipe may derive fields from the image."""

    #: The fields, under the recipe's names.
    derivable_fields: ClassVar[tuple[str, ...]] = ()

    def applyConfigOverrides(self, *args: Any, **kwargs: Any) -> None:
        """Apply the overrides of pipeline and user, and keep what they set from being derived from the image."""
        config: Any = self
        before = times_set(config, self.derivable_fields)
        super().applyConfigOverrides(*args, **kwargs)  # type: ignore[misc]  # the task's configuration has it
        after = times_set(config, self.derivable_fields)
        kept = {name for name in self.derivable_fields if after[name] > before[name]}
        config.derived_fields_keep = sorted(kept | set(config.derived_fields_keep))

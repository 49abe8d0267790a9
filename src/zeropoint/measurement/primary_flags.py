"""Say which rows of a deblended catalogue count each object once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import Schema, SourceCatalog
from zeropoint.measurement.base import flag_spec

__all__ = ["SetPrimaryFlags", "SetPrimaryFlagsConfig", "SetPrimaryFlagsResult"]


class SetPrimaryFlagsConfig(pexConfig.Config):
    """Rows that are no objects."""

    pseudoFilterList = pexConfig.ListField(
        dtype=str, default=["sky"], doc="Pseudo-filters of rows that are not objects; unused on one image."
    )


@dataclass(frozen=True)
class SetPrimaryFlagsResult:
    """How many rows are primary."""

    n_primary: int


class SetPrimaryFlags:
    """Set the ``detect_*`` flags; `run` fills them in place.

    Parameters
    ----------
    config
        Options; defaults if None.
    schema
        Schema to which the flags are added.
    isSingleFrame
        Must be True: catalogues of co-added patches are not supported.
    """

    ConfigClass: ClassVar[type[SetPrimaryFlagsConfig]] = SetPrimaryFlagsConfig

    def __init__(
        self,
        config: SetPrimaryFlagsConfig | None = None,
        *,
        schema: Schema | None = None,
        isSingleFrame: bool = True,
    ) -> None:
        if not isSingleFrame:
            raise ValueError("Only single-frame catalogues are supported; isSingleFrame must be True.")
        self.config = SetPrimaryFlagsConfig() if config is None else config
        (Schema() if schema is None else schema).add(
            flag_spec("detect_isPrimary", "no children and not a sky source: counts an object once"),
            flag_spec("detect_isDeblendedSource", "no children"),
            flag_spec("detect_fromBlend", "is a deblended child"),
            flag_spec("detect_isIsolated", "no children and no parent"),
        )

    def run(self, catalog: SourceCatalog) -> SetPrimaryFlagsResult:
        """Fill the flags; a catalogue without deblending columns has no children, and without sky no sky."""
        n = len(catalog)
        childless = catalog["deblend_nChild"] == 0 if "deblend_nChild" in catalog else np.ones(n, np.bool_)
        child = catalog["parent"] != 0
        sky = catalog["sky_source"] if "sky_source" in catalog else np.zeros(n, np.bool_)
        primary = childless & ~sky
        catalog["detect_isPrimary"] = primary
        catalog["detect_isDeblendedSource"] = childless
        catalog["detect_fromBlend"] = child
        catalog["detect_isIsolated"] = childless & ~child
        return SetPrimaryFlagsResult(int(np.count_nonzero(primary)))

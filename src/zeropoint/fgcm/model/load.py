"""A star list as the data of a fit."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from astropy.table import Table

from zeropoint.fgcm.model.observations import FitData
from zeropoint.fgcm.model.passband_source import PassbandSource
from zeropoint.fgcm.model.settings import FitDataSettings

__all__ = ["StarListTable", "load_fit_data"]

#: A table in memory, or a parquet file of which columns are read one at a time.
type StarListTable = Table | pa.Table | Path


def load_fit_data(
    visits: Table,
    star_observations: StarListTable,
    star_ids: StarListTable,
    star_indices: StarListTable | None,
    reference_stars: StarListTable | None,
    passbands: PassbandSource,
    settings: FitDataSettings,
    flagged_stars: Table | None = None,
) -> FitData:
    """Load a star list of either form (being written)."""
    raise NotImplementedError

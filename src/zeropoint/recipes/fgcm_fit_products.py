"""The products of a global fit as files: calibrations and atmospheres of the visits, standard stars."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from astropy.table import Table

from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.datamodel.atomic_files import atomic_path
from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.atmosphere import Atmosphere
from zeropoint.fgcm.cycle_result import CycleResult
from zeropoint.fgcm.lut import LookUpTable
from zeropoint.fgcm.model.passband_source import PassbandSource, QuadraturePassbands
from zeropoint.fgcm.outputs.atmospheres import look_up_table_atmosphere
from zeropoint.fgcm.outputs.config import FgcmOutputProductsConfigBase
from zeropoint.fgcm.progress import OnProgress
from zeropoint.fgcm.visit_geometry import is_area_applied
from zeropoint.recipes.fgcm_output_products import FgcmOutputProducts, FgcmProducts

__all__ = ["STANDARD_STARS", "atmosphere_of_fit", "make_products", "write_products"]

#: File of the standard stars, and folders of what each visit has.
STANDARD_STARS = "fgcm_standard_star.parquet"
_CALIBRATIONS, _ATMOSPHERES = "photo_calib", "transmission_atmosphere"


def atmosphere_of_fit(source: PassbandSource, lut: Path | None) -> Atmosphere | None:
    """Return the atmosphere of a fit's passbands; None: they have none, or it is of a table that is not there.

    Parameters
    ----------
    source
        Passbands.
    lut
        Look-up table of the fit; None: it has none.
    """
    if isinstance(source, QuadraturePassbands):
        return source.atmosphere
    if lut is None:
        return None
    try:
        return look_up_table_atmosphere(LookUpTable.read(lut, header_only=True))
    except InvalidInputError:  # the table of transmissions that it was made of is not there
        return None


def make_products(
    visits: Table,
    result: CycleResult,
    *,
    focal_plane: FocalPlane | None,
    atmosphere: Atmosphere | None,
    on_progress: OnProgress | None = None,
) -> FgcmProducts:
    """Make the products of a finished fit.

    Parameters
    ----------
    visits
        ``fgcmVisitCatalog``, with its metadata.
    result
        Of the last cycle.
    focal_plane
        The camera; None: pixel areas are not known.
    atmosphere
        Of the fit; None: no transmissions of visits.
    on_progress
        Told how far a stage is.

    Raises
    ------
    InvalidInputError
        If the cycle was not a final one.
    """
    if result.zeropoints is None or result.standard_stars is None:
        raise InvalidInputError(
            f"Cycle {result.cycle} has no zeropoints, so that there are no products of it."
        )
    config = FgcmOutputProductsConfigBase()
    config.doTractStars = False
    config.doAtmosphereOutput = atmosphere is not None and result.atmosphere is not None
    config.doComposeWcsJacobian = focal_plane is not None and is_area_applied(visits) is not False
    return FgcmOutputProducts(config).run(
        visits,
        result.standard_stars,
        zeropoints=result.zeropoints,
        atmospheres=result.atmosphere,
        atmosphere=atmosphere,
        focal_plane=focal_plane,
        on_progress=on_progress,
    )


def write_products(products: FgcmProducts, out: Path) -> list[Path]:
    """Write products as parquet files: one of all stars, one of each visit for its calibrations and its atmosphere.

    Parameters
    ----------
    products
        As `make_products` returns them.
    out
        Folder.

    Returns
    -------
    places
        Files and folders written.
    """
    stars = out / STANDARD_STARS
    _write(stars, table_to_arrow(products.stars))
    written = [stars]
    if products.photo_calibs is not None:
        calibrations = ((visit, each.to_arrow()) for visit, each in products.photo_calibs)
        written.append(_write_visits(out / _CALIBRATIONS, calibrations))
    if products.atmospheres is not None:
        curves = ((visit, table_to_arrow(each.to_table())) for visit, each in products.atmospheres)
        written.append(_write_visits(out / _ATMOSPHERES, curves))
    return written


def _write_visits(folder: Path, tables: Iterable[tuple[int, pa.Table]]) -> Path:
    """Write a file of each visit, and remove those of an earlier run; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    old = set(folder.glob("*.parquet"))
    for visit, table in tables:
        path = folder / f"{visit}.parquet"
        _write(path, table)
        old.discard(path)
    for path in old:
        path.unlink()
    return folder


def _write(path: Path, table: pa.Table) -> None:
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)

"""Isolated stars of one tract: which of them, and which of their sources, serve the global calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zeropoint.association.concat import check_belong_together, read_tract_stars
from zeropoint.association.tables import AnyTable, integer_column, read_columns, text_codes
from zeropoint.catalogs.selectors import SourceSelector
from zeropoint.datamodel.catalog import column
from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.fgcm.isolated_config import FgcmBuildFromIsolatedStarsConfig
from zeropoint.fgcm.magnitudes import (
    NO_DELTA,
    aperture_difference,
    area_correction,
    background_difference,
    instrumental_magnitude,
    magnitude_error,
)
from zeropoint.fgcm.visits import VisitCatalog

__all__ = ["IsolatedTract", "TractStars", "read_observations", "select_stars"]

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
RowArray = npt.NDArray[np.int32]
#: Columns of the observations, by name.
Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class IsolatedTract:
    """Isolated stars of a tract, as `~zeropoint.association.IsolatedStarAssociation` makes them.

    Parameters
    ----------
    stars, sources
        The two tables, or readers of them.
    """

    stars: AnyTable
    sources: AnyTable


@dataclass(frozen=True)
class TractStars:
    """Stars of a tract that have observations enough.

    Parameters
    ----------
    tract
        The tract.
    ids : int64, shape (n_stars,)
        ``isolated_star_id``.
    ra, dec : float64, shape (n_stars,)
        Degrees.
    n_obs : int32, shape (n_stars,)
        Observations of each.
    rows : int32, shape (n_obs.sum(),)
        Rows of the observations in the tract's table of sources, star by star.
    n_stars_read
        Stars of the table.
    sources
        Reason -> sources that are not used for it; ``read``: how many there are.
    n_of_few
        Usable sources of stars that have too few of them.
    visits : int64, shape (n_visits,)
        Visits of all sources, ascending.
    """

    tract: int
    ids: IntArray
    ra: np.ndarray
    dec: np.ndarray
    n_obs: npt.NDArray[np.int32]
    rows: RowArray
    n_stars_read: int
    sources: Mapping[str, int]
    n_of_few: int
    visits: IntArray

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, keep: BoolArray) -> TractStars:
        """Return these with some of the stars.

        Parameters
        ----------
        keep : bool, shape (n_stars,)
            Which.
        """
        return replace(
            self,
            ids=self.ids[keep],
            ra=self.ra[keep],
            dec=self.dec[keep],
            n_obs=self.n_obs[keep],
            rows=self.rows[np.repeat(keep, self.n_obs)],
        )


def select_stars(
    tract: int,
    tables: IsolatedTract,
    config: FgcmBuildFromIsolatedStarsConfig,
    selector: SourceSelector,
    visits: VisitCatalog,
    sky_maps: dict[str, int],
) -> TractStars:
    """Find the stars of a tract that have observations enough; of the sources only what says so is read.

    Parameters
    ----------
    tract, tables
        The tract, and its tables.
    config
        Columns, bands and limits.
    selector
        Which sources count.
    visits
        Visits and detectors whose sources count.
    sky_maps
        Sky map -> a tract of it; that of this tract is added, in place.

    Raises
    ------
    InvalidInputError
        If a column is missing, or the tables do not belong together.

    Notes
    -----
    A source is left out, for the first of these reasons that applies: the selector's criteria; its visit is not used
    (``no_visit``); its detector is not in the camera (``no_detector``); it has no finite position in the image or on the
    sky (``no_position``) or no positive flux and error (``no_flux``); its local background is flagged or leaves nothing of
    the flux (``local_background``).
    """
    stars = read_tract_stars(tables.stars, tract, sky_maps)
    origin = f"The table of isolated-star sources of tract {tract}"
    names = ["obj_index", "visit", "detector", "band", "ra", "dec", "x", "y"]
    names += [config.instFluxField, f"{config.instFluxField}Err"]
    if config.doSubtractLocalBackground:
        names += [config.localBackgroundFluxField, _background_flag(config)]
    table = _read(tables.sources, names, selector, origin)
    obj_index = integer_column(table, "obj_index", np.int32, origin)
    check_belong_together(stars, obj_index, tract)
    good, counts = _usable(table, config, selector, visits, origin)
    bands, codes = text_codes(table, "band", origin)
    enough = _have_enough(obj_index[good], codes[good], bands, len(stars), config)
    wanted = good & enough[obj_index] if len(stars) else good
    rows = np.flatnonzero(wanted)
    rows = rows[np.argsort(obj_index[rows], kind="stable")]
    return TractStars(
        tract,
        ids=np.asarray(stars["isolated_star_id"], np.int64)[enough],
        ra=np.asarray(stars["ra"], np.float64)[enough],
        dec=np.asarray(stars["dec"], np.float64)[enough],
        n_obs=np.bincount(obj_index[rows], minlength=len(stars))[enough].astype(np.int32),
        rows=rows.astype(np.int32),
        n_stars_read=len(stars),
        sources=counts,
        n_of_few=int(np.count_nonzero(good)) - len(rows),
        visits=np.unique(integer_column(table, "visit", np.int64, origin)),
    )


def read_observations(
    stars: TractStars,
    sources: AnyTable,
    config: FgcmBuildFromIsolatedStarsConfig,
    visits: VisitCatalog,
    focal_plane: FocalPlane,
) -> Columns:
    """Read the observations of stars.

    Parameters
    ----------
    stars
        Stars of a tract.
    sources
        The tract's table of sources.
    config
        Columns.
    visits
        Exposure times and scaling factors.
    focal_plane
        Areas of pixels.

    Returns
    -------
    dict of arrays
        Columns of ``fgcm_star_observations``, star by star.
    """
    fluxes = [
        name + error
        for name in (
            config.instFluxField,
            config.apertureInnerInstFluxField,
            config.apertureOuterInstFluxField,
        )
        for error in ("", "Err")
    ]
    names = ["ra", "dec", "x", "y", "visit", "detector", *fluxes]
    if config.doSubtractLocalBackground:
        names.append(config.localBackgroundFluxField)
    origin = f"The table of isolated-star sources of tract {stars.tract}"
    table = read_columns(sources, names, origin)
    values = {
        name: column(table, name)[stars.rows]
        for name in dict.fromkeys(names)
        if name not in ("visit", "detector")
    }
    visit = integer_column(table, "visit", np.int64, origin)[stars.rows]
    detector = integer_column(table, "detector", np.int32, origin)[stars.rows]
    del table
    flux = values[config.instFluxField]
    row, place = np.searchsorted(visits.visits, visit), np.searchsorted(visits.detectors, detector)
    area = focal_plane.relative_area(detector, values["x"], values["y"])
    mag = instrumental_magnitude(
        flux,
        np.asarray(visits.table["exptime"], np.float64)[row],
        np.asarray(visits.table["scaling"], np.float64)[row, place],
    )
    background = np.zeros(len(visit))
    if config.doSubtractLocalBackground:
        local = values[config.localBackgroundFluxField]
        background = background_difference(flux, local, config.local_background_area)
    aperture, aperture_error = _aperture(values, fluxes[2:])
    return {
        **{name: values[name].astype(np.float64) for name in ("ra", "dec", "x", "y")},
        "visit": visit,
        "detector": detector,
        "inst_mag": (mag + area_correction(area) if config.doApplyWcsJacobian else mag).astype(np.float32),
        "inst_mag_err": magnitude_error(flux, values[fluxes[1]]).astype(np.float32),
        "jacobian": area.astype(np.float32),
        "delta_mag_bkg": background.astype(np.float32),
        "delta_mag_aper": aperture.astype(np.float32),
        "delta_mag_err_aper": aperture_error.astype(np.float32),
    }


def _read(table: AnyTable, names: Sequence[str], selector: SourceSelector, origin: str) -> Any:
    """Return a table with some columns, and those that the selector looks at."""
    needed = selector.columns()
    has = list(table.colnames if isinstance(table, Table) else table.column_names)
    if needed is None:
        return read_columns(table, [*has, *names], origin)
    return read_columns(table, [*names, *needed[0], *(name for name in needed[1] if name in has)], origin)


def _usable(
    table: Any,
    config: FgcmBuildFromIsolatedStarsConfig,
    selector: SourceSelector,
    visits: VisitCatalog,
    origin: str,
) -> tuple[BoolArray, Counter[str]]:
    """Return which sources can be used, and how many cannot, by the first reason."""
    selection = selector.run(table)
    good = selection.selected.copy()
    counts: Counter[str] = Counter({"read": len(table), **selection.dropped})
    flux, error = (column(table, config.instFluxField + end) for end in ("", "Err"))
    passed = {
        "no_visit": np.isin(integer_column(table, "visit", np.int64, origin), visits.visits),
        "no_detector": np.isin(integer_column(table, "detector", np.int32, origin), visits.detectors),
        "no_position": np.logical_and.reduce(
            [np.isfinite(column(table, name)) for name in ("ra", "dec", "x", "y")]
        ),
        "no_flux": (flux > 0) & (error > 0) & np.isfinite(flux) & np.isfinite(error),
    }
    if config.detectors:
        passed["detector_not_chosen"] = np.isin(column(table, "detector"), list(config.detectors))
    if config.doSubtractLocalBackground:
        local = config.local_background_area * column(table, config.localBackgroundFluxField)
        flagged = column(table, _background_flag(config)).astype(np.bool_)
        passed["local_background"] = (flux - local > 0) & ~flagged
    for reason, rows in passed.items():
        counts[reason] += int(np.count_nonzero(good & ~rows))
        good &= rows
    return good, counts


def _background_flag(config: FgcmBuildFromIsolatedStarsConfig) -> str:
    return config.localBackgroundFluxField.removesuffix("_instFlux") + "_flag"


def _have_enough(
    obj_index: RowArray,
    codes: np.ndarray,
    bands: Sequence[str],
    n_stars: int,
    config: FgcmBuildFromIsolatedStarsConfig,
) -> BoolArray:
    """Return which stars have minPerBand observations in each required band; in any band, if none is required."""
    counts = np.bincount(
        obj_index.astype(np.int64) * max(len(bands), 1) + codes, minlength=n_stars * len(bands)
    )
    by_band = counts.reshape(n_stars, len(bands)) >= config.minPerBand
    if not config.requiredBands:
        return np.asarray(by_band.any(axis=1))
    if not set(config.requiredBands) <= set(bands):
        return np.zeros(n_stars, np.bool_)
    return np.asarray(by_band[:, [list(bands).index(band) for band in config.requiredBands]].all(axis=1))


def _aperture(values: Mapping[str, np.ndarray], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the difference of magnitudes in two apertures and its error; both 99 where one is not finite."""
    inner, inner_err, outer, outer_err = (values[name] for name in names)
    difference = aperture_difference(inner, outer)
    error = np.hypot(magnitude_error(inner, inner_err), magnitude_error(outer, outer_err))
    known = (difference < NO_DELTA) & np.isfinite(error)
    return np.where(known, difference, NO_DELTA), np.where(known, error, NO_DELTA)

"""A star list as the data of a fit."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from astropy.table import Table

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.accounting import Accounting
from zeropoint.fgcm.airmass_check import MANY_BEYOND, airmass_doubt, beyond_airmass
from zeropoint.fgcm.flags import PERSISTENT_STAR_FLAGS, ObservationFlag, StarFlag
from zeropoint.fgcm.model import _kernels_load
from zeropoint.fgcm.model.exposures import FitExposures
from zeropoint.fgcm.model.load_references import load_references
from zeropoint.fgcm.model.observations import FitData, FitObservations, FitStars
from zeropoint.fgcm.model.passband_source import PassbandSource
from zeropoint.fgcm.model.rows import count_chosen, segment_parts, take
from zeropoint.fgcm.model.settings import FitDataSettings
from zeropoint.fgcm.model.star_tables import (
    StarColumns,
    StarListTable,
    hashed_uniform,
    order_of_stars,
    require_positions,
)
from zeropoint.fgcm.threads import at_once, finish, row_parts

__all__ = ["StarListTable", "load_fit_data"]

_log = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
RowArray = npt.NDArray[np.integer[Any]]

#: Magnitudes from here on stand for none.
_NO_MAGNITUDE = 90.0
#: How much wider than the observations the range of an exposure's secant is, and its least width.
_MARGIN, _LEAST_WIDTH = 1e-4, 1e-3


def load_fit_data(
    visits: Table,
    star_observations: StarListTable,
    star_ids: StarListTable,
    star_indices: StarListTable | None,
    reference_stars: StarListTable | None,
    passbands: PassbandSource,
    settings: FitDataSettings,
    flagged_stars: Table | None = None,
    *,
    threads: int = 1,
) -> FitData:
    """Load a star list of either form; rows in another order give the same bytes.

    Parameters
    ----------
    visits
        ``fgcmVisitCatalog``.
    star_observations, star_ids
        ``fgcmStarObservations`` and ``fgcmStarIds``, or ``fgcm_star_observations`` and ``fgcm_star_ids``.
    star_indices
        ``fgcmStarIndices``, with the first form.
    reference_stars
        ``fgcmReferenceStars`` or ``fgcm_reference_stars``; None: none.
    passbands
        Filters, detectors and ranges of the atmosphere.
    settings
        Bands, times, site, cuts.
    flagged_stars
        Columns ``objId`` and ``objFlag`` of an earlier cycle.
    threads
        How many columns are read at a time.

    Returns
    -------
    data : FitData
        A column at a time (for each thread) is read and cut to its final type, so that the peak is 34 to 38 bytes per observation for the result and
        about as many for its order.

    Raises
    ------
    InvalidInputError
        If a column is missing, the tables are of different star lists, the star list is of another camera or look-up table
        (filters or detectors that the passbands lack), or no observation is left.
    """
    exposures = FitExposures.from_visit_catalog(visits, settings, passbands)
    observations = StarColumns(star_observations, "the table of star observations")
    ids = StarColumns(star_ids, "the table of star ids")
    indices = None if star_indices is None else StarColumns(star_indices, "the table of star indices")
    if indices is None and "obsArrIndex" in ids.columns:
        raise InvalidInputError("fgcmStarIds needs fgcmStarIndices, which says where the observations are.")
    accounting = Accounting()
    usable = exposures.has_passband
    accounting.add(
        "fit_visits", read=len(exposures), kept=int(usable.sum()), rejected={"no_band": int((~usable).sum())}
    )
    fgcm_id = ids.column("fgcm_id").astype(np.int64)
    by_id = np.argsort(fgcm_id, kind="stable")
    if (np.diff(fgcm_id[by_id]) == 0).any():
        raise InvalidInputError(f"{ids.name} has a star twice.")
    stars = _stars(ids, fgcm_id, by_id, settings, exposures.n_band)
    start, ec, row = _ordered(observations, ids, indices, by_id, exposures, accounting, threads)
    fit_observations = _observations(
        observations, start, ec, row, stars, exposures, settings, passbands, threads
    )
    _require_airmass(visits, exposures, fit_observations, settings.latitude, passbands)
    stars = replace(stars, n_psf_candidate=_count_candidates(observations, row, fit_observations, exposures))
    exposures, fit_observations = _place_between_nodes(exposures, fit_observations, passbands, threads)
    if reference_stars is not None:
        reader = StarColumns(reference_stars, "the table of reference stars")
        stars = load_references(reader, stars, visits, exposures, passbands, settings, accounting)
    stars = _apply_flags(stars, flagged_stars)
    _account(accounting, fit_observations, stars)
    # columns that were read are not given back to the system by themselves
    pa.default_memory_pool().release_unused()
    return FitData(exposures, fit_observations, stars, accounting)


def _stars(
    ids: StarColumns, fgcm_id: IntArray, by_id: IntArray, settings: FitDataSettings, n_band: int
) -> FitStars:
    """Return the stars by id, without references."""
    n = len(by_id)
    isolated = np.full(n, -1, np.int64)
    if "isolated_star_id" in ids:
        isolated = ids.column("isolated_star_id").astype(np.int64)[by_id]
    if "obj_flag" in ids:
        flag = ids.column("obj_flag").astype(np.int32)[by_id]
    else:
        drawn = hashed_uniform(fgcm_id[by_id], settings.random_seed) < settings.reserve_fraction
        flag = np.where(drawn, np.int32(StarFlag.RESERVED), np.int32(0)).astype(np.int32)
    none = np.full((n, n_band), np.nan, np.float32)
    ra, dec = (ids.column(name).astype(np.float64)[by_id] for name in ("ra", "dec"))
    if n and not (np.abs(dec) <= 90.0).all():
        raise InvalidInputError(
            f"{ids.name} has declinations that are none: {dec[np.abs(dec) > 90.0][:3]} degrees."
        )
    return FitStars(
        fgcm_id[by_id], isolated, ra, dec, none, none.copy(), flag, np.zeros((n, n_band), np.int32)
    )


def _ordered(
    observations: StarColumns,
    ids: StarColumns,
    indices: StarColumns | None,
    by_id: IntArray,
    exposures: FitExposures,
    accounting: Accounting,
    threads: int,
) -> tuple[IntArray, Int32Array, RowArray]:
    """Return where segments begin, and exposure times detectors plus detector and row of the table of each observation."""
    detector = _detector_places(observations.column("detector"), exposures, observations.name)
    found = order_of_stars(ids, indices, observations, by_id, detector, exposures, threads)
    require_positions(ids, observations, by_id, found)
    read, n_unknown = len(found.row), found.n_no_exposure
    kept = read - n_unknown - found.n_no_band
    accounting.add(
        "fit_observations",
        read=read,
        kept=kept,
        rejected={"no_exposure": n_unknown, "no_band": found.n_no_band},
    )
    if n_unknown:
        _log.warning(
            "%d of %d observations are of visits that fgcmVisitCatalog does not have; are the tables of one star list?",
            n_unknown, read,
        )  # fmt: skip
    if kept == 0:
        raise InvalidInputError(
            f"None of {read} observations is in a visit of fgcmVisitCatalog and one of the bands {', '.join(exposures.bands)}: "
            "are the tables of one star list?"
        )
    ec, row = found.ec, found.row
    if kept < read:
        chosen = ec >= 0
        ec, row = ec[chosen], row[chosen]
    start = np.concatenate([[0], np.cumsum(found.count)])
    if found.n_tied:
        same = ec[1:] == ec[:-1]
        same[start[(start > 0) & (start < kept)] - 1] = False
        row = _order_ties(observations, same, row)
    return start, ec, row


def _detector_places(detector: npt.NDArray[np.integer], exposures: FitExposures, name: str) -> Int32Array:
    """Return the position of each observation's detector among those of the passbands."""
    known = np.asarray(exposures.detectors, np.int64)
    by_number = np.argsort(known, kind="stable").astype(np.int32)
    if detector.dtype.kind == "i" and np.iinfo(detector.dtype).max >= known.max(initial=0):
        known = known.astype(detector.dtype)  # else all of the others would be converted
    place = np.minimum(np.searchsorted(known[by_number], detector), len(known) - 1)
    wrong = known[by_number][place] != detector
    if wrong.any():
        others = np.unique(np.asarray(detector)[wrong])[:8].tolist()
        raise InvalidInputError(
            f"{name} has detectors {others}, which the look-up table or throughputs lack; they have {len(known)}: "
            f"{known[by_number][:8].tolist()}... Are star list and look-up table of one camera?"
        )
    return by_number[place]


def _order_ties(observations: StarColumns, same: npt.NDArray[np.bool_], row: RowArray) -> RowArray:
    """Order observations of a star in the same exposure and detector by where they are, then by magnitude."""
    tied = np.zeros(len(row), np.bool_)
    tied[1:] = same
    run = np.cumsum(~tied)
    tied[:-1] |= same
    place = np.flatnonzero(tied)
    keys = [observations.column(name)[row[place]] for name in ("inst_mag", "y", "x")]
    row = row.copy()
    row[place] = row[place[np.lexsort((*keys, run[place]))]]
    return row


def _observations(
    table: StarColumns,
    start: IntArray,
    ec: Int32Array,
    row: RowArray,
    stars: FitStars,
    exposures: FitExposures,
    settings: FitDataSettings,
    passbands: PassbandSource,
    threads: int,
) -> FitObservations:
    """Return the observations; places between the nodes of the airmass are still to be found."""
    flag = np.zeros(len(ec), np.uint16)

    def gather(name: str) -> Float32Array:
        return take(table.column(name), row, np.float32, threads)

    def magnitudes() -> tuple[Float32Array, Float32Array | None, npt.NDArray[np.bool_]]:
        mag = gather("inst_mag")
        bad = ~(np.abs(mag) < _NO_MAGNITUDE)
        background = gather("delta_mag_bkg") if "delta_mag_bkg" in table else None
        if background is not None:
            mag += background
        bad |= ~np.isfinite(mag)
        mag[bad] = np.nan
        return mag, background if background is not None and background.any() else None, bad

    def errors() -> tuple[Float32Array, npt.NDArray[np.bool_]]:
        err = gather("inst_mag_err")
        bad = ~((err > 0) & np.isfinite(err))
        err = np.hypot(err, np.float32(settings.sigma0_phot))
        err[bad] = np.nan
        return err, bad

    def apertures() -> Float32Array:
        if "delta_mag_aper" not in table:
            return np.full(len(ec), np.nan, np.float32)
        delta_aper = gather("delta_mag_aper")
        delta_aper[~(np.abs(delta_aper) < _NO_MAGNITUDE)] = np.nan
        return delta_aper

    limits = passbands.ranges["airmass"]
    (mag, background, bad_mag), (err, bad_err), delta_aper, x, y = at_once(
        threads, magnitudes, errors, apertures, lambda: gather("x"), lambda: gather("y")
    )
    secant, out_of_range = _secants(start, ec, stars, exposures, settings.latitude, limits, threads)
    flag[bad_mag] |= np.uint16(ObservationFlag.BAD_MAG)
    flag[bad_err] |= np.uint16(ObservationFlag.BAD_ERROR)
    flag[out_of_range] |= np.uint16(ObservationFlag.BAD_AIRMASS)
    return FitObservations(
        start=start, ec=ec, secant=secant, t=np.zeros(len(ec), np.float32), mag=mag, err=err,
        x=x, y=y, delta_aper=delta_aper, flag=flag,
        n_det=exposures.n_det, n_band=exposures.n_band, n_star=len(stars), delta_mag_bkg=background,
    )  # fmt: skip


def _secants(
    start: IntArray,
    ec: Int32Array,
    stars: FitStars,
    exposures: FitExposures,
    latitude: float,
    limits: tuple[float, float],
    threads: int,
) -> tuple[Float32Array, npt.NDArray[np.bool_]]:
    """Return the secant of each observation, clipped to the limits, and whether it had to be clipped.

    Where an exposure's hour angle is not known, all its observations have the secant of the boresight.
    """
    lat, ra, dec = np.radians(latitude), np.radians(stars.ra), np.radians(stars.dec)
    across = np.cos(dec) * np.cos(lat)
    sidereal = np.radians(exposures.hour_angle + exposures.ra)
    secant = np.empty(len(ec), np.float32)
    outside = np.empty(len(ec), np.bool_)
    parts = segment_parts(start)
    finish(
        lambda k: _kernels_load.secants(
            start, ec, np.int64(exposures.n_band), np.int64(exposures.n_det),
            np.sin(dec) * np.sin(lat), np.stack([across * np.cos(ra), across * np.sin(ra)], axis=1),
            np.stack([np.cos(sidereal), np.sin(sidereal)], axis=1), exposures.airmass.astype(np.float64),
            float(limits[0]), float(limits[1]), parts[k], parts[k + 1], secant, outside,
        ),
        len(parts) - 1,
        threads,
    )  # fmt: skip
    return secant, outside


def _require_airmass(
    visits: Table,
    exposures: FitExposures,
    observations: FitObservations,
    latitude: float,
    passbands: PassbandSource,
) -> None:
    """Raise where the airmass of every observation is beyond the passbands; warn where that of many is, or is in doubt."""
    bad = (observations.flag & np.uint16(ObservationFlag.BAD_AIRMASS)) != 0
    n_bad = int(np.count_nonzero(bad))
    if n_bad > MANY_BEYOND * len(bad):
        beyond = exposures.visit[np.unique(observations.exposure[bad])]
        used = visits[np.isin(np.asarray(visits["visit"]), beyond)]
        told = beyond_airmass(used, latitude, n_bad, len(bad), passbands.ranges["airmass"])
        if n_bad == len(bad):
            raise InvalidInputError(told)
        _log.warning("%s", told)
        return
    doubt = airmass_doubt(visits, latitude)
    if doubt is not None:
        _log.warning("%s", doubt)


def _place_between_nodes(
    exposures: FitExposures, observations: FitObservations, passbands: PassbandSource, threads: int
) -> tuple[FitExposures, FitObservations]:
    """Set the nodes of each exposure's airmass to the range of its observations, and these between them."""
    limits = passbands.ranges["airmass"]
    ec, secant, n_det = observations.ec, observations.secant, np.int64(observations.n_det)
    low, high = np.full(len(exposures), np.inf), np.full(len(exposures), -np.inf)
    _kernels_load.airmass_ends(ec, n_det, secant, low, high)
    seen = np.isfinite(low)
    low, high = (np.where(seen, each, exposures.airmass) for each in (low, high))
    high = np.clip(high + _MARGIN, limits[0] + _LEAST_WIDTH, limits[1])
    low = np.clip(low - _MARGIN, limits[0], high - _LEAST_WIDTH)
    t, parts = np.empty(len(ec), np.float32), row_parts(len(ec))
    finish(
        lambda k: _kernels_load.between_ends(ec, n_det, secant, low, high, parts[k], parts[k + 1], t),
        len(parts) - 1,
        threads,
    )
    return replace(exposures, airmass_low=low, airmass_high=high), replace(observations, t=t)


def _count_candidates(
    table: StarColumns, row: RowArray, observations: FitObservations, exposures: FitExposures
) -> Int32Array:
    """Return how often each star was a candidate for the PSF in each band."""
    shape = (observations.n_star, exposures.n_band)
    if "psf_candidate" not in table:
        return np.zeros(shape, np.int32)
    candidate = table.column("psf_candidate").astype(np.bool_, copy=False)[row]
    return count_chosen(observations.start, candidate).reshape(shape)


def _apply_flags(stars: FitStars, flagged: Table | None) -> FitStars:
    """Return the stars with the lasting flags of an earlier cycle."""
    if flagged is None or len(flagged) == 0:
        return stars
    ids = np.asarray(flagged["objId"], np.int64)
    place = np.minimum(np.searchsorted(stars.fgcm_id, ids), len(stars) - 1)
    known = stars.fgcm_id[place] == ids
    if not known.all():
        _log.warning("%d flagged stars of the earlier cycle are not in the star list.", int((~known).sum()))
    flag = stars.flag.copy()
    np.bitwise_or.at(
        flag, place[known], np.asarray(flagged["objFlag"], np.int32)[known] & np.int32(PERSISTENT_STAR_FLAGS)
    )
    return replace(stars, flag=flag)


def _account(accounting: Accounting, observations: FitObservations, stars: FitStars) -> None:
    """Note what is flagged, and log everything."""
    noted = {
        each.name.lower(): int(np.count_nonzero(observations.flag & np.uint16(each)))
        for each in (ObservationFlag.BAD_ERROR, ObservationFlag.BAD_MAG, ObservationFlag.BAD_AIRMASS)
        if each.name is not None
    }
    accounting.add("fit_observations", read=0, kept=0, noted=noted)
    per_star = observations.count.sum(axis=1)
    accounting.add(
        "fit_stars",
        read=len(stars),
        kept=len(stars),
        noted={
            "no_observation": int((per_star == 0).sum()),
            "reserved": int(np.count_nonzero(stars.flag & StarFlag.RESERVED)),
        },
    )
    for line in accounting.lines():
        _log.info("%s", line)

"""Unique stars: which observations, in all visits and bands, are of the same star, and which stars are kept."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import astropy.units as u
import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table

from zeropoint.association.grouping import Positions, groups_by_label, wrapped
from zeropoint.errors import InvalidInputError, NoUniqueStarsError
from zeropoint.fgcm.accounting import META_KEY, Accounting
from zeropoint.fgcm.candidates import Candidates, compact_candidates, fgcm_candidates
from zeropoint.fgcm.density import too_dense
from zeropoint.fgcm.match_config import StarMatchingConfig
from zeropoint.fgcm.progress import OnProgress

__all__ = ["UniqueStars", "band_codes", "match_stars"]

_log = logging.getLogger(__name__)

_ARCSEC = math.pi / 648000.0
#: What becomes of a star; observations of one that is dropped are rejected for the same reason.
_KEPT, _NOT_ISOLATED, _BLENDED, _NO_OBSERVATION, _FEW_IN_BAND, _TOO_DENSE = range(6)
_STAR_REASONS = {
    _NOT_ISOLATED: "not_isolated",
    _BLENDED: "blended",
    _NO_OBSERVATION: "no_observation",
    _FEW_IN_BAND: "too_few_in_required_band",
    _TOO_DENSE: "too_dense",
}
#: What becomes of an observation, besides the fate of its star.
_DUPLICATE, _NO_STAR, _NO_BAND, _NO_POSITION = range(6, 10)
_OBSERVATION_REASONS = {
    **{code: f"star_{reason}" for code, reason in _STAR_REASONS.items()},
    _DUPLICATE: "second_in_visit",
    _NO_STAR: "no_star",
    _NO_BAND: "no_band",
    _NO_POSITION: "no_position",
}

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class UniqueStars:
    """Unique stars, and which observations are theirs.

    Parameters
    ----------
    ids
        ``fgcmStarIds``: fgcm_id, ra, dec (degrees), obsArrIndex, nObs. The observations of star k are the rows
        ``indices[obsArrIndex[k] : obsArrIndex[k] + nObs[k]]`` of the table of observations.
    indices
        ``fgcmStarIndices``: obsIndex. Of a star by band (in the order of the band names given), then by visit.
    accounting
        Stages ``groups_of_observations``, ``stars`` and ``observations_of_stars``.
    """

    ids: Table
    indices: Table
    accounting: Accounting


@dataclass(frozen=True)
class _Members:
    """Observations of all candidates, star by star, of each by band and visit, of a visit the nearest first.

    Parameters
    ----------
    rows
        Row of each member in the table of observations, int64 (m).
    label
        Its candidate times the number of bands, plus its band, int64 (m).
    is_second
        Whether it is not the first of its star and visit, bool (m).
    """

    rows: IntArray
    label: IntArray
    is_second: BoolArray


def band_codes(
    visits: np.ndarray, visit_catalog: Table, physical_filter_map: Mapping[str, str]
) -> tuple[npt.NDArray[np.int16], list[str]]:
    """Return the band of each observation as a code, and the names of the bands.

    Parameters
    ----------
    visits : int64, shape (n,)
        Visit of each observation.
    visit_catalog
        Columns ``visit`` and ``physicalFilter``.
    physical_filter_map
        Physical filter -> band.

    Returns
    -------
    codes : int16, shape (n,)
        -1 where the visit is not in the catalog or its filter has no band.
    names
        Bands in the order of the map.
    """
    names = list(dict.fromkeys(physical_filter_map.values()))
    order = np.argsort(np.asarray(visit_catalog["visit"]), kind="stable")
    known = np.asarray(visit_catalog["visit"])[order]
    of_filter = {
        name: names.index(physical_filter_map[name]) if name in physical_filter_map else -1
        for name in np.unique(np.asarray(visit_catalog["physicalFilter"])).tolist()
    }
    code = np.array([of_filter[name] for name in visit_catalog["physicalFilter"]], np.int16)[order]
    if len(known) == 0:
        return np.full(len(visits), -1, np.int16), names
    place = np.minimum(np.searchsorted(known, visits), len(known) - 1)
    return np.where(known[place] == visits, code[place], np.int16(-1)), names


def match_stars(
    ra: np.ndarray,
    dec: np.ndarray,
    band: np.ndarray,
    visit: np.ndarray,
    *,
    bands: Sequence[str],
    config: StarMatchingConfig,
    on_progress: OnProgress | None = None,
) -> UniqueStars:
    """Match observations into unique stars.

    Parameters
    ----------
    ra, dec : float64, shape (n,)
        Positions of the observations, radians.
    band : integers, shape (n,)
        Band of each as an index of ``bands``; negative: a band that is not used.
    visit : int64, shape (n,)
        Visit of each.
    bands
        Names of the bands.
    config
        Which observations are one star, and which stars are kept.
    on_progress
        Called with a title, what is done, and what there is to do.

    Returns
    -------
    UniqueStars

    Raises
    ------
    lsst.pex.config.FieldValidationError
        If there is no primary band, or fields contradict each other.
    InvalidInputError
        If a primary or required band is not among ``bands``, or there are too many observations for an index of 4 bytes.
    NoUniqueStarsError
        If no star is left; the message says which cut dropped most.

    Notes
    -----
    Candidates are groups of ``minPerBand`` observations in a primary band (`zeropoint.fgcm.candidates`).  An observation
    of any band belongs to the nearest candidate within ``matchRadius``.  Candidates within ``isolationRadius`` of another
    are dropped, then blends (see ``max_duplicate_fraction``), those with too few observations in a required band, and
    those in excess of the density (`zeropoint.fgcm.density`).  What is left is numbered from 1 in the order of nested
    HEALPix cells.  Stars and their observations do not depend on the order of the observations, but for the numbers of
    their rows.  With ``matcher="fgcm"`` candidates, their order and numbers are those of the fgcm package before its own
    cuts, and several observations of a visit all count.
    """
    config.check_matching()
    _require_bands(config, bands)
    if len(ra) > np.iinfo(np.int32).max:
        raise InvalidInputError(
            f"{len(ra)} observations are too many for an index of 4 bytes; match less sky."
        )
    report = on_progress if on_progress is not None else _no_progress
    fate = np.full(len(ra), _NO_STAR, np.int8)
    fate[~(np.isfinite(ra) & np.isfinite(dec))] = _NO_POSITION
    fate[(np.asarray(band) < 0) & (fate != _NO_POSITION)] = _NO_BAND
    usable = np.flatnonzero(fate == _NO_STAR)
    positions = Positions(wrapped(np.asarray(ra)[usable], 2.0 * math.pi), np.asarray(dec, np.float64)[usable])
    band, visit = np.asarray(band)[usable], np.asarray(visit)[usable]

    accounting = Accounting()
    candidates = _find_candidates(positions, band, bands, config, report)
    _account_for_groups(accounting, candidates)
    report("match observations to stars", 0, 1)
    members = _match(positions, band, visit, candidates.positions, len(bands), config.matchRadius * _ARCSEC)
    star_fate, is_dropped = _judge(candidates.positions, members, bands, config)
    report("match observations to stars", 1, 1)

    star = members.label // len(bands)
    fate[usable[members.rows]] = np.where(is_dropped, _DUPLICATE, star_fate[star])
    kept = ~is_dropped & (star_fate[star] == _KEPT)
    _count(accounting, "stars", star_fate, _STAR_REASONS)
    _count(accounting, "observations_of_stars", fate, _OBSERVATION_REASONS)
    if not kept.any():
        raise _no_stars(accounting, members, bands, config)
    ids, indices = _tables(candidates.positions, star_fate, star[kept], usable[members.rows[kept]], config)
    ids.meta[META_KEY] = accounting.to_meta()
    for line in accounting.lines():
        _log.info("%s", line)
    return UniqueStars(ids, indices, accounting)


def _no_progress(title: str, done: int, total: int) -> None:
    """Say nothing."""


def _require_bands(config: StarMatchingConfig, bands: Sequence[str]) -> None:
    """Check that all bands of the configuration exist."""
    for name, wanted in (("primaryBands", config.primaryBands), ("requiredBands", config.requiredBands)):
        unknown = [band for band in wanted if band not in bands]
        if unknown:
            raise InvalidInputError(
                f"{name} names {', '.join(unknown)}, which no filter maps to; the bands are "
                f"{', '.join(bands) or 'none'}. Correct {name} or physicalFilterMap."
            )


def _find_candidates(
    positions: Positions,
    band: np.ndarray,
    bands: Sequence[str],
    config: StarMatchingConfig,
    report: OnProgress,
) -> Candidates:
    """Return the candidates by the rule configured."""
    primary = [list(bands).index(name) for name in config.primaryBands]

    def on_step(done: int, total: int) -> None:
        report("find stars", done, total)

    radius, least = config.matchRadius * _ARCSEC, config.minPerBand
    if config.matcher == "fgcm":
        return fgcm_candidates(
            positions,
            band,
            primary,
            radius=radius,
            min_per_band=least,
            coarse_nside=config.coarseNside,
            on_step=on_step,
        )
    return compact_candidates(positions, band, primary, radius=radius, min_per_band=least, on_step=on_step)


def _account_for_groups(accounting: Accounting, candidates: Candidates) -> None:
    rejected = {"too_few_or_scattered": candidates.n_few, "star_of_earlier_band": candidates.n_known}
    accounting.add(
        "groups_of_observations", read=candidates.n_groups, kept=len(candidates), rejected=rejected
    )


def _match(
    positions: Positions, band: np.ndarray, visit: np.ndarray, stars: Positions, n_bands: int, radius: float
) -> _Members:
    """Give each observation to the nearest star within a radius (radians)."""
    star = positions.nearest(stars, radius)
    label = np.where(star >= 0, star * n_bands + band, -1)
    del star
    order = _visit_order(visit)
    groups = groups_by_label(label if order is None else label[order], len(stars) * n_bands)
    rows = groups.members if order is None else order[groups.members]
    label = label[rows]
    of_visit = visit[rows]
    is_second = np.zeros(len(rows), np.bool_)
    is_second[1:] = (label[1:] == label[:-1]) & (of_visit[1:] == of_visit[:-1])
    _nearest_first(rows, is_second, label // n_bands, positions, stars)
    return _Members(rows, label, is_second)


def _visit_order(visit: np.ndarray) -> IntArray | None:
    """Return the rows by visit, or None where they are in that order."""
    if len(visit) == 0 or bool(np.all(visit[1:] >= visit[:-1])):
        return None
    known, codes = np.unique(visit, return_inverse=True)
    # numpy sorts numbers of two bytes by counting
    return np.argsort(codes.astype(np.uint16) if len(known) <= 1 << 16 else codes, kind="stable")


def _nearest_first(
    rows: IntArray, is_second: BoolArray, star: IntArray, positions: Positions, stars: Positions
) -> None:
    """Put several observations of a star in one visit into the order of their distance, in place."""
    several = is_second.copy()
    several[:-1] |= is_second[1:]
    place = np.flatnonzero(several)
    if len(place) == 0:
        return
    run = np.cumsum(~is_second[place])
    these = rows[place]
    squared = ((positions.xyz[these] - stars.xyz[star[place]]) ** 2).sum(axis=1)
    rows[place] = these[np.lexsort((positions.ra[these], positions.dec[these], squared, run))]


def _judge(
    stars: Positions, members: _Members, bands: Sequence[str], config: StarMatchingConfig
) -> tuple[npt.NDArray[np.int8], BoolArray]:
    """Return the fate of each star, and which members do not count beside a nearer one of the same visit."""
    n_bands = len(bands)
    fate = np.full(len(stars), _KEPT, np.int8)
    isolation = config.isolationRadius * _ARCSEC
    fate[stars.count_within(stars, isolation) > 1] = _NOT_ISOLATED
    is_dropped = np.zeros_like(members.is_second)
    if config.matcher != "fgcm":
        is_dropped = members.is_second
        blended = _duplicate_fraction(members, n_bands, len(stars)) > config.max_duplicate_fraction
        fate[blended & (fate == _KEPT)] = _BLENDED
    per_label = np.bincount(members.label[~is_dropped], minlength=len(stars) * n_bands)
    counts = per_label.reshape(len(stars), n_bands)
    fate[(counts.sum(axis=1) == 0) & (fate == _KEPT)] = _NO_OBSERVATION  # the mean may have none nearby
    for name in config.requiredBands:
        few = counts[:, list(bands).index(name)] < config.minPerBand
        fate[few & (fate == _KEPT)] = _FEW_IN_BAND
    left = np.flatnonzero(fate == _KEPT)
    dense = too_dense(
        stars[left],
        nside=config.densityCutNside,
        max_per_pixel=config.densityCutMaxPerPixel,
        seed=config.randomSeed or 0,
    )
    fate[left[dense]] = _TOO_DENSE
    return fate, is_dropped


def _duplicate_fraction(members: _Members, n_bands: int, n_stars: int) -> npt.NDArray[np.float64]:
    """Return in which fraction of its visits each star was seen more than once."""
    star = members.label // n_bands
    n_visits = np.bincount(star[~members.is_second], minlength=n_stars)
    # one for each visit: the second observation of it, not the third
    is_next = members.is_second.copy()
    is_next[1:] &= ~members.is_second[:-1]
    n_twice = np.bincount(star[is_next], minlength=n_stars)
    return n_twice / np.maximum(n_visits, 1)


def _count(accounting: Accounting, stage: str, fate: np.ndarray, reasons: Mapping[int, str]) -> None:
    """Add to the accounting what became of stars or observations."""
    counts = np.bincount(fate, minlength=max(reasons) + 1)
    rejected = {reason: int(counts[code]) for code, reason in reasons.items()}
    accounting.add(stage, read=len(fate), kept=int(counts[_KEPT]), rejected=rejected)


def _no_stars(
    accounting: Accounting, members: _Members, bands: Sequence[str], config: StarMatchingConfig
) -> NoUniqueStarsError:
    """Return an error that says what became of all observations and stars."""
    per_band = np.bincount(members.label % len(bands), minlength=len(bands))
    lost = accounting["stars"].rejected
    advice = "Check primaryBands, requiredBands, minPerBand and the radii."
    if lost.get("blended", 0) > sum(lost.values()) / 2:
        advice = (
            "Most stars are in their visits twice: check that no observation is in the tables twice, and "
            "max_duplicate_fraction."
        )
    told = ", ".join(f"{name} {n}" for name, n in zip(bands, per_band.tolist(), strict=True))
    return NoUniqueStarsError(
        f"No star is left. {'; '.join(accounting.lines())}. Observations near candidates by band: {told}; "
        f"requiredBands: {', '.join(config.requiredBands) or 'none'}. {advice}",
        n_observations=accounting["observations_of_stars"].read,
        n_groups=accounting["groups_of_observations"].read,
        n_candidates=accounting["stars"].read,
    )


def _tables(
    stars: Positions, fate: np.ndarray, star: IntArray, rows: IntArray, config: StarMatchingConfig
) -> tuple[Table, Table]:
    """Return the tables of the stars kept; ``star`` (ascending) and ``rows`` are those of their observations."""
    kept = np.flatnonzero(fate == _KEPT)
    n_obs = np.bincount(star, minlength=len(fate))[kept]
    first = np.cumsum(n_obs) - n_obs
    numbers = kept + 1 if config.matcher == "fgcm" else np.arange(1, len(kept) + 1)
    ra = wrapped(np.rad2deg(stars.ra[kept]), 360.0)
    columns = [
        ("fgcm_id", numbers.astype(np.int32), None, "Number of the star"),
        ("ra", ra, u.deg, "Mean right ascension in the band that found the star"),
        ("dec", np.rad2deg(stars.dec[kept]), u.deg, "Mean declination in the band that found the star"),
        ("obsArrIndex", first.astype(np.int32), None, "First of the star's entries in fgcmStarIndices"),
        ("nObs", n_obs.astype(np.int32), None, "Number of the star's observations"),
    ]
    ids = Table([Column(data, name, unit=unit, description=text) for name, data, unit, text in columns])
    text = "Row of the observation in fgcmStarObservations"
    indices = Table([Column(rows.astype(np.int32), "obsIndex", description=text)])
    return ids, indices

"""The star list of a survey from its isolated stars, tract by tract, in two passes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import hpgeom
import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table

from zeropoint.association.concat import check_unique_stars
from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.errors import InvalidInputError, NoUniqueStarsError
from zeropoint.fgcm.accounting import META_KEY, Accounting
from zeropoint.fgcm.isolated_config import FgcmBuildFromIsolatedStarsConfig
from zeropoint.fgcm.isolated_tract import IsolatedTract, TractStars, read_observations, select_stars
from zeropoint.fgcm.magnitudes import NO_DELTA
from zeropoint.fgcm.progress import OnProgress
from zeropoint.fgcm.terms.groups import group_medians
from zeropoint.fgcm.visits import NO_VALUE, VisitCatalog

__all__ = ["RESERVED", "FgcmBuildFromIsolatedStars", "FgcmIsolatedStars", "IsolatedTract"]

_log = logging.getLogger(__name__)

#: Bit 4 of ``obj_flag``: the star is not used in the fit.
RESERVED = 1 << 4
#: Fewest stars that give a visit, or a detector of it, its difference of aperture magnitudes.
_MIN_STARS = 3

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: Column -> dtype, unit and meaning.
_OBSERVATIONS: Mapping[str, tuple[str, str | None, str]] = {
    "ra": ("f8", "deg", "Right ascension of the source, ICRS"),
    "dec": ("f8", "deg", "Declination of the source, ICRS"),
    "x": ("f8", "pixel", "Centroid, x"),
    "y": ("f8", "pixel", "Centroid, y"),
    "visit": ("i8", None, "Visit"),
    "detector": ("i4", None, "Detector"),
    "inst_mag": ("f4", "mag", "Instrumental magnitude, per second"),
    "inst_mag_err": ("f4", "mag", "Error of inst_mag"),
    "jacobian": ("f4", None, "Relative area of the pixel on the sky"),
    "delta_mag_bkg": ("f4", "mag", "Change of inst_mag without the local background; 0 if not asked for"),
    "delta_mag_aper": ("f4", "mag", "Magnitude in the inner aperture minus that in the outer; 99: none"),
    "delta_mag_err_aper": ("f4", "mag", "Error of delta_mag_aper; 99: none"),
}
_STARS: Mapping[str, tuple[str, str | None, str]] = {
    "fgcm_id": ("i8", None, "Id of the star in the global calibration, from 1"),
    "isolated_star_id": ("i8", None, "Id of the isolated star"),
    "ra": ("f8", "deg", "Right ascension, ICRS"),
    "dec": ("f8", "deg", "Declination, ICRS"),
    "obs_arr_index": ("i4", None, "Its first row in the table of observations"),
    "n_obs": ("i4", None, "Number of its observations"),
    "obj_flag": ("i4", None, "Bits: 4 (16) reserved, not used in the fit"),
}


@dataclass(frozen=True)
class FgcmIsolatedStars:
    """Star list of a survey.

    Parameters
    ----------
    visits
        The visits, with the differences of aperture magnitudes.
    observations
        ``fgcm_star_observations``, star by star.
    stars
        ``fgcm_star_ids``: the observations of star k are rows ``obs_arr_index[k]`` to ``obs_arr_index[k] + n_obs[k]``.
    accounting
        Stages ``visits``, ``sources``, ``stars`` and ``observations_of_stars``.
    without_sources
        Visits that no tract has a source of, ascending.
    """

    visits: VisitCatalog
    observations: Table
    stars: Table
    accounting: Accounting
    without_sources: tuple[int, ...] = ()


class FgcmBuildFromIsolatedStars:
    """Make the star list of a survey from its isolated stars.

    Parameters
    ----------
    config
        Settings; None for the defaults.

    Notes
    -----
    As FgcmBuildFromIsolatedStarsTask of fgcmcal (2026).  The first pass reads a few columns of each tract and finds the
    stars that have observations enough; of these some are dropped where they are too dense; the second pass reads the
    other columns, of the stars that are left.  One tract is in memory at a time, besides 68 bytes for each observation that
    is kept and 4 for each that was usable.
    """

    ConfigClass: ClassVar[Any] = FgcmBuildFromIsolatedStarsConfig

    def __init__(self, config: FgcmBuildFromIsolatedStarsConfig | None = None) -> None:
        self.config = FgcmBuildFromIsolatedStarsConfig() if config is None else config
        self.sourceSelector = self.config.sourceSelector.apply()
        self.reserve_selection = self.config.reserve_selection.apply()

    def run(
        self,
        tracts: Mapping[int, IsolatedTract],
        visits: VisitCatalog,
        focal_plane: FocalPlane,
        *,
        on_progress: OnProgress | None = None,
    ) -> FgcmIsolatedStars:
        """Make the star list.

        Parameters
        ----------
        tracts
            Tract -> its isolated stars and their sources; the order does not matter.
        visits
            Visits whose sources count.
        focal_plane
            The camera.
        on_progress
            Told of the tracts read.

        Raises
        ------
        InvalidInputError
            If a table cannot be used.
        NoUniqueStarsError
            If no star is left.
        """
        found = self._select(tracts, visits, on_progress)
        accounting = Accounting()
        accounting.merge(visits.accounting)
        without_sources = _without_sources(visits, found)
        accounting.add("visits", read=0, kept=0, noted={"no_sources": len(without_sources)})
        kept, rejected = self._too_dense(found)
        self._account(accounting, found, kept, rejected)
        stars = _star_table(kept)
        check_unique_stars(stars)
        reserved = self.reserve_selection.run(
            len(stars),
            extra=",".join(self.config.requiredBands),
            ra=np.asarray(stars["ra"]),
            dec=np.asarray(stars["dec"]),
        )
        stars["obj_flag"][reserved] |= RESERVED
        observations = self._observations(kept, tracts, visits, focal_plane, on_progress)
        for table in (stars, observations):
            table.meta[META_KEY] = accounting.to_meta()
        return FgcmIsolatedStars(
            _with_aperture(visits, observations), observations, stars, accounting, without_sources
        )

    def _select(
        self, tracts: Mapping[int, IsolatedTract], visits: VisitCatalog, on_progress: OnProgress | None
    ) -> list[TractStars]:
        """Return the stars of each tract that have observations enough."""
        found: list[TractStars] = []
        sky_maps: dict[str, int] = {}
        for done, tract in enumerate(sorted(tracts)):
            part = select_stars(tract, tracts[tract], self.config, self.sourceSelector, visits, sky_maps)
            found.append(part)
            _log.debug("Tract %d: %d of %d stars.", tract, len(part), part.n_stars_read)
            if on_progress is not None:
                on_progress("isolated stars", done + 1, len(tracts))
        return found

    def _too_dense(self, found: Sequence[TractStars]) -> tuple[list[TractStars], int]:
        """Return the stars of each tract but for those where they are too dense, and the number of these."""
        config = self.config
        ra, dec = (
            np.concatenate([np.zeros(0), *(getattr(part, name) for part in found)]) for name in ("ra", "dec")
        )
        pixels = hpgeom.angle_to_pixel(config.densityCutNside, ra, dec, nest=True)
        drop = _choose(pixels, config.densityCutMaxPerPixel, config.randomSeed or 0)
        ends = np.cumsum([len(part) for part in found])[:-1]
        return (
            [part.only(~mask) for part, mask in zip(found, np.split(drop, ends), strict=True)],
            int(np.count_nonzero(drop)),
        )

    def _account(
        self, accounting: Accounting, found: Sequence[TractStars], kept: Sequence[TractStars], n_dense: int
    ) -> None:
        """Count sources, stars and observations, and check that stars are left."""
        sources: Counter[str] = Counter()
        for part in found:
            sources.update(part.sources)
        few = "too_few_in_required_band" if self.config.requiredBands else "too_few_in_every_band"
        n_read = sources.pop("read", 0)
        usable = n_read - sum(sources.values())
        accounting.add("sources", read=n_read, kept=usable, rejected=sources)
        n_stars, n_kept = sum(part.n_stars_read for part in found), sum(map(len, kept))
        rejected = {few: n_stars - n_kept - n_dense, "too_dense": n_dense}
        accounting.add("stars", read=n_stars, kept=n_kept, rejected=rejected)
        n_few, n_obs = sum(part.n_of_few for part in found), sum(len(part.rows) for part in kept)
        rejected = {f"star_{few}": n_few, "star_too_dense": usable - n_few - n_obs}
        accounting.add("observations_of_stars", read=usable, kept=n_obs, rejected=rejected)
        if n_kept == 0:
            raise NoUniqueStarsError(
                f"No isolated star can be used: {'; '.join(accounting.lines())}.  Are the visits those of the isolated "
                "stars, and are minPerBand and requiredBands what the survey has?",
                n_observations=n_read,
                n_groups=n_stars,
                n_candidates=0,
            )
        if n_obs > np.iinfo(np.int32).max:
            raise InvalidInputError(
                f"{n_obs} observations are more than obs_arr_index can point to; lower densityCutMaxPerPixel or divide the "
                "survey."
            )

    def _observations(
        self,
        kept: Sequence[TractStars],
        tracts: Mapping[int, IsolatedTract],
        visits: VisitCatalog,
        focal_plane: FocalPlane,
        on_progress: OnProgress | None,
    ) -> Table:
        """Return the table of observations, which is filled tract by tract."""
        n = sum(len(part.rows) for part in kept)
        values = {name: np.zeros(n, dtype) for name, (dtype, *_) in _OBSERVATIONS.items()}
        begin = 0
        for done, part in enumerate(kept):
            end = begin + len(part.rows)
            if end > begin:
                read = read_observations(part, tracts[part.tract].sources, self.config, visits, focal_plane)
                for name in values:
                    values[name][begin:end] = read[name]
            begin = end
            if on_progress is not None:
                on_progress("star observations", done + 1, len(kept))
        return _described(values, _OBSERVATIONS)


def _without_sources(visits: VisitCatalog, found: Sequence[TractStars]) -> tuple[int, ...]:
    """Return the visits that no tract has a source of."""
    seen = np.concatenate([np.zeros(0, np.int64), *(part.visits for part in found)])
    return tuple(np.setdiff1d(visits.visits, seen).tolist())


def _choose(pixels: IntArray, max_per_pixel: int, seed: int) -> BoolArray:
    """Return which stars to drop at random, so that no pixel has too many."""
    drop = np.zeros(len(pixels), np.bool_)
    order = np.argsort(pixels, kind="stable")
    _, begin, counts = np.unique(pixels[order], return_index=True, return_counts=True)
    generator = np.random.Generator(np.random.MT19937(seed))
    for k in np.flatnonzero(counts > max_per_pixel):
        rows = order[begin[k] : begin[k] + counts[k]]
        drop[generator.choice(rows, size=len(rows) - max_per_pixel, replace=False)] = True
    return drop


def _star_table(kept: Sequence[TractStars]) -> Table:
    """Return the table of stars, tract by tract; none is reserved yet."""
    n = sum(map(len, kept))
    n_obs = np.concatenate([part.n_obs for part in kept])
    values = {
        "fgcm_id": np.arange(1, n + 1),
        "isolated_star_id": np.concatenate([part.ids for part in kept]),
        "ra": np.concatenate([part.ra for part in kept]),
        "dec": np.concatenate([part.dec for part in kept]),
        "obs_arr_index": np.cumsum(n_obs, dtype=np.int64) - n_obs,
        "n_obs": n_obs,
        "obj_flag": np.zeros(n),
    }
    return _described(values, _STARS)


def _described(values: Mapping[str, np.ndarray], columns: Mapping[str, tuple[str, str | None, str]]) -> Table:
    """Return a table with types, units and descriptions."""
    return Table(
        [
            Column(values[name].astype(dtype, copy=False), name, unit=unit, description=text, copy=False)
            for name, (dtype, unit, text) in columns.items()
        ],
        copy=False,
    )


def _with_aperture(visits: VisitCatalog, observations: Table) -> VisitCatalog:
    """Return the visits with the median difference of aperture magnitudes of each, and of each of its detectors."""
    delta, error = (np.asarray(observations[name]) for name in ("delta_mag_aper", "delta_mag_err_aper"))
    known = (delta < NO_DELTA) & (error < NO_DELTA)
    row = np.searchsorted(visits.visits, np.asarray(observations["visit"])[known])
    place = np.searchsorted(visits.detectors, np.asarray(observations["detector"])[known])
    n, n_detectors = len(visits), len(visits.detectors)
    table = visits.table.copy()
    table["deltaAper"] = _medians(row, delta[known], n)
    by_detector = _medians(row * n_detectors + place, delta[known], n * n_detectors)
    table["deltaAperDetector"] = by_detector.reshape(n, n_detectors)
    table["sources_read"][np.unique(np.searchsorted(visits.visits, observations["visit"]))] = True
    for name in ("deltaAper", "deltaAperDetector"):
        table[name].unit, table[name].description = visits.table[name].unit, visits.table[name].description
    return replace(visits, table=table)


def _medians(labels: IntArray, values: npt.NDArray[np.float32], n: int) -> npt.NDArray[np.float32]:
    """Return the median of the values of each label 0 to n - 1; -9999 for fewer than three."""
    median, count = group_medians(values, labels, n)
    return np.where(count >= _MIN_STARS, median, NO_VALUE).astype(np.float32)

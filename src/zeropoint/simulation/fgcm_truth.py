"""A star list and zeropoints compared with the truth of a simulated survey."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table
from scipy.spatial import cKDTree

from zeropoint.datamodel.wcs import angular_separation, unit_vectors
from zeropoint.errors import InvalidInputError
from zeropoint.simulation.fgcm_camera import flat_field
from zeropoint.simulation.fgcm_conditions import secant
from zeropoint.simulation.fgcm_sources import INNER, aperture_loss
from zeropoint.simulation.fgcm_survey import FgcmSurvey

__all__ = ["StarListComparison", "compare_star_list", "observation_truth", "true_zeropoints"]

_ARCSEC = np.pi / 648000.0

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StarListComparison:
    """What became of the true stars in a list of unique stars.

    Parameters
    ----------
    n_expected
        True stars with enough observations, and none of the others within the isolation radius.
    n_found, n_lost, n_split
        Of these: in the list, not in it, in it more than once.
    n_crowded, n_crowded_found
        True stars with enough observations that have another one within the isolation radius; of these in the list.
    n_listed, n_false, n_blended
        Stars of the list; those that are no true star with enough observations; those with light of a second star in more
        than a tenth of their observations.
    n_assigned, n_wrong, n_partner, n_unassigned
        Observations in the list; those of another star; those of the star that is blended with it; and those of listed stars
        that are not in the list.
    position_error_mas
        Median distance of the listed unblended stars from the truth.
    """

    n_expected: int
    n_found: int
    n_lost: int
    n_split: int
    n_crowded: int
    n_crowded_found: int
    n_listed: int
    n_false: int
    n_blended: int
    n_assigned: int
    n_wrong: int
    n_partner: int
    n_unassigned: int
    position_error_mas: float


def observation_truth(
    survey: FgcmSurvey, observations: Table
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return the true star of each observation, and that blended with it, as `FgcmSurvey.observations` has them.

    Parameters
    ----------
    survey
        Survey.
    observations
        ``fgcmStarObservations`` made from its tables: ``visit``, ``ccd`` and ``x``, ``y`` as they were there.

    Raises
    ------
    InvalidInputError
        If an observation is not of this survey.
    """
    visit, ccd = np.asarray(observations["visit"]), np.asarray(observations["ccd"])
    x, y = np.asarray(observations["x"]), np.asarray(observations["y"])
    star, merged = (np.full(len(visit), -1, np.int32) for _ in range(2))
    order = np.argsort(visit, kind="stable")
    numbers, starts = np.unique(visit[order], return_index=True)
    rows = {int(number): row for row, number in enumerate(survey.visits["visit"])}
    for number, part in zip(numbers.tolist(), np.split(order, starts[1:])):
        if number not in rows:
            raise InvalidInputError(f"visit {number} is not of the simulated survey.")
        sources = survey.sources(rows[number])
        by_x = np.argsort(sources.x, kind="stable")
        place = by_x[np.minimum(np.searchsorted(sources.x[by_x], x[part]), len(by_x) - 1)]
        if not np.array_equal(
            [sources.x[place], sources.y[place], sources.detector[place]], [x[part], y[part], ccd[part]]
        ):
            raise InvalidInputError(f"visit {number}: not all observations are of the simulated survey.")
        star[part], merged[part] = sources.star[place], sources.merged[place]
    return star, merged


def compare_star_list(
    survey: FgcmSurvey,
    observations: Table,
    ids: Table,
    indices: Table,
    *,
    primary_bands: Sequence[str],
    required_bands: Sequence[str] = (),
    min_per_band: int = 2,
    isolation_radius: float = 2.0,
) -> StarListComparison:
    """Return what became of the true stars.

    Parameters
    ----------
    survey
        Survey.
    observations
        All observations that were matched: columns ``visit``, ``star`` and ``merged``
        (`FgcmSurvey.observations`, or set from `observation_truth`).
    ids, indices
        ``fgcmStarIds`` and ``fgcmStarIndices``.
    primary_bands, required_bands, min_per_band, isolation_radius
        As the list was made; the radius in arcsec.
    """
    star, merged = (np.asarray(observations[name]).astype(np.int64) for name in ("star", "merged"))
    enough = _seen_enough(survey, observations, star, primary_bands, required_bands, min_per_band)
    crowded = np.zeros_like(enough)
    crowded[enough] = _have_neighbors(survey.stars[enough], isolation_radius)
    n_obs = np.asarray(ids["nObs"]).astype(np.int64)
    group = np.repeat(np.arange(len(ids)), n_obs)
    starts = np.asarray(ids["obsArrIndex"]).astype(np.int64)
    first = np.repeat(starts - np.concatenate([[0], np.cumsum(n_obs)[:-1]]), n_obs)
    member = np.asarray(indices["obsIndex"])[np.arange(len(group)) + first].astype(np.int64)
    owner = _majority(group, star[member], len(ids))
    listed = np.bincount(owner[owner >= 0], minlength=len(survey.stars))
    wrong = star[member] != owner[group]
    partner = _partners(survey)
    is_partner = wrong & (star[member] >= 0) & (star[member] == np.append(partner, -2)[owner[group]])
    assigned = np.zeros(len(star), bool)
    assigned[member] = True
    n_blended = np.bincount(group, weights=merged[member] >= 0, minlength=len(ids))
    blended = n_blended > 0.1 * n_obs
    distance = angular_separation(
        np.deg2rad(ids["ra"]),
        np.deg2rad(ids["dec"]),
        *(np.asarray(survey.stars[k])[owner] for k in ("ra", "dec")),
    )
    clean = (owner >= 0) & ~blended
    expected = enough & ~crowded
    return StarListComparison(
        n_expected=int(expected.sum()),
        n_found=int((listed[expected] > 0).sum()),
        n_lost=int((listed[expected] == 0).sum()),
        n_split=int((listed[expected] > 1).sum()),
        n_crowded=int(crowded.sum()),
        n_crowded_found=int((listed[crowded] > 0).sum()),
        n_listed=len(ids),
        n_false=int((~np.append(enough, False)[owner]).sum()),
        n_blended=int(blended.sum()),
        n_assigned=len(member),
        n_wrong=int((wrong & ~is_partner).sum()),
        n_partner=int(is_partner.sum()),
        n_unassigned=int((~assigned & (star >= 0) & (np.append(listed, 0)[star] > 0)).sum()),
        position_error_mas=float(np.median(distance[clean]) / _ARCSEC * 1e3) if clean.any() else float("nan"),
    )


def true_zeropoints(survey: FgcmSurvey, spectrum: int) -> Table:
    """Return the true zeropoints of a spectrum at the centres of the detectors.

    Parameters
    ----------
    survey
        Survey.
    spectrum
        Index into ``survey.physics.names``.

    Returns
    -------
    zeropoints : Table
        ``visit``, ``detector``, ``zeropoint`` (AB magnitude of one electron in the calibration aperture, of fluxes that
        have been multiplied by the relative pixel area), ``cloud`` (magnitudes that clouds take of it).
    """
    s, camera = survey.settings, survey.camera
    u, v = camera.centers.T
    detector = np.arange(s.n_detectors, dtype=np.int32)
    middle = np.full(s.n_detectors, 0.5 * (s.detector_size - 1))
    zeropoints, clouds = [], []
    for row, visit in enumerate(survey.visits):
        ra0, dec0, rotation, hour_angle = (
            float(np.deg2rad(visit[k])) for k in ("ra", "dec", "rotation", "hour_angle")
        )
        ra, dec = camera.to_sky(u, v, ra0, dec0, rotation)
        x = secant(ra, dec, hour_angle, ra0, np.deg2rad(s.site.latitude))
        measured = survey.photometry.of(row, detector, np.full(s.n_detectors, spectrum), x)
        clouds.append(survey.cloud(row, u, v))
        measured += survey.gray(row, u, v)
        measured += flat_field(survey.flats[visit["band"]], s.detector_size, detector, middle, middle)
        measured += aperture_loss(float(visit["fwhm"]), s.pixel_scale * INNER)
        zeropoints.append(survey.colors[visit["band"], spectrum] - measured + 2.5 * np.log10(s.exposure_time))
    n = len(survey.visits)
    return Table(
        {
            "visit": np.repeat(np.asarray(survey.visits["visit"]), s.n_detectors),
            "detector": np.tile(detector, n),
            "zeropoint": Column(np.concatenate(zeropoints), unit="mag"),
            "cloud": Column(np.concatenate(clouds), unit="mag"),
        }
    )


def _seen_enough(
    survey: FgcmSurvey,
    observations: Table,
    star: IntArray,
    primary: Sequence[str],
    required: Sequence[str],
    least: int,
) -> npt.NDArray[np.bool_]:
    """Return whether each true star has enough observations."""
    n = len(survey.stars)
    row = np.searchsorted(np.asarray(survey.visits["visit"]), np.asarray(observations["visit"]))
    band = np.asarray(survey.visits["band"])[row]
    real = star >= 0
    counts = np.bincount(band[real] * n + star[real], minlength=n * len(survey.settings.bands)).reshape(-1, n)
    of = {name: counts[k] >= least for k, name in enumerate(survey.settings.bands)}
    enough = np.any([of[name] for name in primary], axis=0)
    return np.asarray(np.all([enough, *(of[name] for name in required)], axis=0))


def _have_neighbors(stars: Table, radius: float) -> npt.NDArray[np.bool_]:
    vectors = unit_vectors(np.asarray(stars["ra"]), np.asarray(stars["dec"]))
    pairs = cKDTree(vectors).query_pairs(radius * _ARCSEC, output_type="ndarray")
    return np.isin(np.arange(len(stars)), pairs)


def _partners(survey: FgcmSurvey) -> IntArray:
    """Return the other star of each star's pair, -2 where it has none."""
    partner = np.full(len(survey.stars), -2, np.int64)
    partner[survey.pairs[:, 0]], partner[survey.pairs[:, 1]] = survey.pairs[:, 1], survey.pairs[:, 0]
    return partner


def _majority(group: IntArray, star: IntArray, n: int) -> IntArray:
    """Return the most frequent star of each group, the smallest of equals; -1 for groups without members."""
    owner = np.full(n, -1, np.int64)
    order = np.lexsort((star, group))
    g, s = group[order], star[order]
    if len(g) == 0:
        return owner
    start = np.flatnonzero(np.append(True, (g[1:] != g[:-1]) | (s[1:] != s[:-1])))
    count = np.diff(np.append(start, len(g)))
    # the last entry of a group in this order is its most frequent star
    ranked = np.lexsort((-s[start], count, g[start]))
    owner[g[start][ranked]] = s[start][ranked]
    return owner

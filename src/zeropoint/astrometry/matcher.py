"""Match sources to references by their pattern: the pessimistic pattern matcher B, with every candidate verified.

The sources' positions are right but for a shift, a small rotation and small errors of scale and distortion.
Patterns of six bright sources are looked up among the references; whatever transform they give is refined on
all sources and accepted only if so many pairs cannot be chance anywhere in the searched range.  Where the
patterns fail (sparse fields, many spurious sources), transforms fixed by two pairs are searched instead.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import lsst.pex.config as pexConfig
import numpy as np
from scipy.spatial import cKDTree
from scipy.special import bdtrc

from zeropoint.astrometry._kernels import best_pair, best_pair_any_rotation, best_pattern
from zeropoint.astrometry.plane import Field, MatchOdds, PlaneTransform, fit_transform
from zeropoint.datamodel.catalog import Schema
from zeropoint.datamodel.wcs import angular_separation, gnomonic, unit_vectors
from zeropoint.errors import MatcherFailure

__all__ = ["MatchPessimisticB", "MatchPessimisticBConfig", "MatchResult"]

_log = logging.getLogger(__name__)
_ARCSEC = np.pi / 648000.0
#: Fewer pairs than this never count as a match.
MIN_PAIRS = 4
#: Sources that verify a candidate inside the compiled search.
N_VERIFY = 200
#: Candidates that a pair search may form per tolerance.
PAIR_BUDGET = 400_000
#: The automatic tolerance starts at most at this many ``minMatchDistPixels``.
MAX_START_TOLERANCE = 4.0
#: Brightest points whose patterns set the automatic tolerance.
MAX_PATTERN_POINTS = 1000
#: Tolerances at which more than this fraction of positions have a reference by chance are not tried.
MAX_CHANCE_RATE = 0.25


class MatchPessimisticBConfig(pexConfig.Config):
    """Configuration of `MatchPessimisticB`."""

    numBrightStars = pexConfig.RangeField[int](
        doc="Number of bright sources that patterns start from.", default=150, min=2
    )
    minMatchedPairs = pexConfig.RangeField[int](doc="Smallest number of pairs of a match.", default=30, min=2)
    minFracMatchedPairs = pexConfig.RangeField[float](
        doc="Smallest fraction of the shorter list that must be matched.",
        default=0.3,
        min=0,
        max=1,
        inclusiveMin=False,
    )
    matcherIterations = pexConfig.RangeField[int](
        doc="Number of tolerances tried, each twice the one before.", default=5, min=1
    )
    maxOffsetPix = pexConfig.RangeField[int](
        doc="Largest shift between sources and references (pixels).", default=250, min=0, max=4000
    )
    maxRotationDeg = pexConfig.RangeField[float](
        doc="Largest rotation (degrees).", default=1.0, min=0.0, max=6.0
    )
    numPointsForShape = pexConfig.Field[int](doc="Points of a pattern that must agree.", default=6)
    numPointsForShapeAttempt = pexConfig.Field[int](doc="Points of a pattern that are tried.", default=6)
    minMatchDistPixels = pexConfig.RangeField[float](
        doc="Smallest matching distance (pixels).", default=1.0, min=0.0, max=6.0
    )
    numPatternConsensus = pexConfig.Field[int](
        doc="Patterns that must give the same transform before it is refined at once.", default=3
    )
    numRefRequireConsensus = pexConfig.Field[int](
        doc="Below this number of references one pattern is enough where either list is short.", default=1000
    )
    maxRefObjects = pexConfig.RangeField[int](
        doc="Largest number of references used; the brightest are kept.", default=2**13, min=0, max=2**16 + 1
    )
    pair_search = pexConfig.Field[bool](
        doc="Search transforms fixed by two pairs where no pattern is found?", default=True
    )
    max_scale_error = pexConfig.RangeField[float](
        doc="Largest relative error of the pixel scale in the pair search.", default=0.01, min=0.0, max=0.1
    )
    search_all_rotations = pexConfig.Field[bool](
        doc="Let the pair search try every rotation, not only up to maxRotationDeg? maxOffsetPix then limits "
        "the shift of the middle of the sources.",
        default=False,
    )
    max_log10_false_probability = pexConfig.Field[float](
        doc="A match is accepted only if log10 of the expected number of equally good chance placements in the "
        "searched range is below this.",
        default=-6.0,
    )

    def validate(self) -> None:
        """Check the numbers of points against each other."""
        super().validate()

        def fail(name: str, text: str) -> pexConfig.FieldValidationError:
            return pexConfig.FieldValidationError(type(self)._fields[name], self, text)

        if self.numPointsForShape < 3:
            raise fail("numPointsForShape", "a pattern has at least 3 points.")
        if self.numPointsForShapeAttempt < self.numPointsForShape:
            raise fail(
                "numPointsForShapeAttempt",
                "must be greater than or equal to numPointsForShape, the points needed.",
            )
        if self.numPointsForShapeAttempt > self.numBrightStars:
            raise fail("numBrightStars", "must be at least numPointsForShapeAttempt.")
        if self.maxRefObjects < MIN_PAIRS:
            raise fail("maxRefObjects", f"a match needs at least {MIN_PAIRS} references.")


@dataclass(frozen=True)
class MatchResult:
    """Matched rows and why they are believed.

    Parameters
    ----------
    match_ref, match_src : int64, shape (n,)
        Rows of the references and sources given, sorted by source.
    distance_rad : float64, shape (n,)
        Separation under the given positions, radians.
    tolerance_pix
        Largest distance of a pair after the matcher's own transform, pixels.
    shift_pix, rotation_deg
        The transform at the middle of the sources.
    odds
        Expected number of chance pairs and the probability of as many.
    method
        ``identity`` (the given positions agreed), ``pattern`` or ``pair``.
    """

    match_ref: np.ndarray
    match_src: np.ndarray
    distance_rad: np.ndarray
    tolerance_pix: float
    shift_pix: float
    rotation_deg: float
    odds: MatchOdds
    method: str


@dataclass(frozen=True)
class _Solution:
    transform: PlaneTransform
    source_rows: np.ndarray
    reference_rows: np.ndarray
    tolerance: float
    odds: MatchOdds


class MatchPessimisticB:
    """Match sources and references that differ by a shift and a small rotation; modifies nothing.

    Parameters
    ----------
    config
        Configuration.
    schema
        Ignored: the matcher adds no columns.
    """

    ConfigClass = MatchPessimisticBConfig

    def __init__(
        self, config: MatchPessimisticBConfig | None = None, *, schema: Schema | None = None
    ) -> None:
        self.config = MatchPessimisticBConfig() if config is None else config

    def run(
        self,
        *,
        source_ra: np.ndarray,
        source_dec: np.ndarray,
        source_mag: np.ndarray,
        ref_ra: np.ndarray,
        ref_dec: np.ndarray,
        ref_mag: np.ndarray,
        pixel_scale_arcsec: float,
        center: tuple[float, float] | None = None,
    ) -> MatchResult:
        """Match two lists of positions.

        Parameters
        ----------
        source_ra, source_dec : float64, shape (n,)
            Positions of the sources under the present WCS, radians.
        source_mag, ref_mag : float64
            Magnitudes of any zero point; they only rank.  NaN ranks last.
        ref_ra, ref_dec : float64, shape (m,)
            Positions of the references, radians.
        pixel_scale_arcsec
            Converts pixels of the configuration.
        center
            Position (ra, dec; radians) about which rotations are meant, such as the image's middle; the mean
            of the sources if None.

        Raises
        ------
        MatcherFailure
            If a list is too short or no match is distinguishable from chance.
        """
        finite_src = np.flatnonzero(np.isfinite(source_ra) & np.isfinite(source_dec))
        finite_ref = np.flatnonzero(np.isfinite(ref_ra) & np.isfinite(ref_dec))
        if min(len(finite_src), len(finite_ref)) < MIN_PAIRS:
            raise MatcherFailure(
                f"Too few objects to match: {len(finite_src)} sources and {len(finite_ref)} references; at least "
                f"{MIN_PAIRS} of each are needed.",
                n_sources=len(finite_src),
                n_references=len(finite_ref),
            )
        ra0, dec0 = center or mean_direction(source_ra[finite_src], source_dec[finite_src])
        scale = 1.0 / (pixel_scale_arcsec * _ARCSEC)
        src_xy = np.column_stack(gnomonic(source_ra[finite_src], source_dec[finite_src], ra0, dec0)) * scale
        ref_xy = np.column_stack(gnomonic(ref_ra[finite_ref], ref_dec[finite_ref], ra0, dec0)) * scale
        src_order = _brightest_first(source_mag[finite_src], src_xy)
        ref_order = _brightest_first(ref_mag[finite_ref], ref_xy)
        near = np.all(np.isfinite(ref_xy[ref_order]), axis=1)
        ref_order = ref_order[near][: self.config.maxRefObjects]
        if len(ref_order) < MIN_PAIRS:
            raise MatcherFailure(
                "No references on the sources' side of the sky.", n_references=len(ref_order)
            )
        field = Field(np.ascontiguousarray(src_xy[src_order]), np.ascontiguousarray(ref_xy[ref_order]))
        solution, method = self._search(field)
        rows_src = finite_src[src_order[solution.source_rows]]
        rows_ref = finite_ref[ref_order[solution.reference_rows]]
        by_source = np.argsort(rows_src, kind="stable")
        rows_src, rows_ref = rows_src[by_source], rows_ref[by_source]
        return MatchResult(
            match_ref=rows_ref.astype(np.int64),
            match_src=rows_src.astype(np.int64),
            distance_rad=angular_separation(
                source_ra[rows_src], source_dec[rows_src], ref_ra[rows_ref], ref_dec[rows_ref]
            ),
            tolerance_pix=solution.tolerance,
            shift_pix=float(np.hypot(*solution.transform.offset)),
            rotation_deg=float(np.rad2deg(solution.transform.rotation)),
            odds=solution.odds,
            method=method,
        )

    # -- the search -----------------------------------------------------------------------------------

    def _search(self, field: Field) -> tuple[_Solution, str]:
        """Try the positions as they are, then patterns and pairs with ever wider tolerances."""
        start = self._start_tolerance(field)
        best: _Solution | None = None
        for step in range(self.config.matcherIterations):
            tolerance = start * 2.0**step
            if step > 0 and _chance_rate(field.references, tolerance) > MAX_CHANCE_RATE:
                break
            for method, candidate in self._candidates(field, tolerance, first=step == 0):
                solution = self._refine(field, candidate, tolerance)
                if solution is None:
                    continue
                if self._acceptable(field, solution):
                    _log.debug(
                        "%s match of %d pairs at %.2f pix", method, len(solution.source_rows), tolerance
                    )
                    return solution, method
                if best is None or solution.odds.log10_probability < best.odds.log10_probability:
                    best = solution
        found = (
            "none"
            if best is None
            else f"{best.odds.n_pairs} pairs where chance gives {best.odds.n_chance:.1f}"
        )
        raise MatcherFailure(
            f"No match of {len(field.sources)} sources to {len(field.references)} references within "
            f"{self.config.maxOffsetPix} pix and {self.config.maxRotationDeg} deg stands out from chance "
            f"(best: {found}). Check the initial WCS (position, scale, rotation, flip) or raise maxOffsetPix.",
            n_sources=len(field.sources),
            n_references=len(field.references),
            n_pairs=0 if best is None else best.odds.n_pairs,
            n_chance_expected=0.0 if best is None else best.odds.n_chance,
        )

    def _candidates(
        self, field: Field, tolerance: float, *, first: bool
    ) -> Iterator[tuple[str, PlaneTransform]]:
        if first:
            yield "identity", PlaneTransform.identity()
        for transform in self._pattern_candidates(field, tolerance):
            yield "pattern", transform
        if self.config.pair_search:
            for transform in self._pair_candidates(field, tolerance):
                yield "pair", transform

    def _start_tolerance(self, field: Field) -> float:
        """Return the smallest tolerance: patterns within one list must not be confused with each other."""
        lowest = self.config.minMatchDistPixels
        size = self.config.numPointsForShape
        alike = min(_pattern_spacing(field.sources, size), _pattern_spacing(field.references, size))
        return float(np.clip(alike, max(lowest, 1e-3), MAX_START_TOLERANCE * max(lowest, 1.0)))

    def _needed_hits(self, field: Field, chance: float) -> float:
        """Return the fraction of tested points below which a compiled count gives up."""
        n_src, n_ref = len(field.sources), len(field.references)
        needed = min(self.config.minMatchedPairs, self.config.minFracMatchedPairs * min(n_src, n_ref))
        return float(min(0.15, 0.5 * needed / n_src)) + chance

    def _pattern_candidates(self, field: Field, tolerance: float) -> Iterator[PlaneTransform]:
        """Yield transforms on which enough patterns agree, then the others by number of verified hits."""
        config, sources = self.config, field.sources
        n_check = config.numPointsForShapeAttempt
        n_start = min(config.numBrightStars, len(sources) - n_check + 1)
        short = min(len(sources), len(field.references)) < config.numBrightStars + config.numPointsForShape
        lenient = len(field.references) < config.numRefRequireConsensus and short
        consensus = 1 if lenient else config.numPatternConsensus
        limits = np.array(
            [
                tolerance,
                config.numPointsForShape,
                config.maxOffsetPix,
                np.deg2rad(config.maxRotationDeg),
                min(N_VERIFY, len(sources)),
                self._needed_hits(field, _chance_rate(field.references, tolerance)),
            ]
        )
        grid, best = field.reference_grid, np.empty(5)
        found: list[list] = []  # [hits, agreeing patterns, transform]
        for start in range(n_start):
            members = np.arange(start, start + n_check)
            spokes = np.hypot(*(sources[members[1:]] - sources[start]).T)
            members[1:] = members[1:][np.argsort(-spokes, kind="stable")]
            best_pattern(sources, members, limits, grid.points, grid.starts, grid.geometry, best)
            if best[4] == 0.0:
                continue
            transform = PlaneTransform.similarity(*best[:4].tolist())
            for entry in found:
                if entry[2].differs(transform, field.corners) < 2.0 * tolerance:
                    entry[1] += 1
                    break
            else:
                entry = [best[4], 1, transform]
                found.append(entry)
            if entry[1] == consensus:
                yield entry[2]
        found.sort(key=lambda e: -e[0])
        for entry in found[:5]:
            if entry[1] < consensus:
                yield entry[2]

    def _pair_candidates(self, field: Field, tolerance: float) -> Iterator[PlaneTransform]:
        """Yield the best transform fixed by two pairs, led by the shorter list, then by the other."""
        config = self.config
        near = field.references_inside(PlaneTransform.identity(), float(config.maxOffsetPix))
        if config.search_all_rotations:
            near = np.hypot(*field.references.T) <= field.radius + config.maxOffsetPix
        near_references = np.ascontiguousarray(field.references[near])
        if len(near_references) < MIN_PAIRS:
            return
        led_by_sources = (field.sources, field.reference_grid, near_references, False)
        led_by_references = (near_references, field.source_grid, field.sources, True)
        leads = [led_by_sources, led_by_references]
        if len(near_references) < len(field.sources):
            leads.reverse()
        for lead, grid, targets, invert in leads:
            best = np.zeros(5)
            limits = self._pair_limits(field, lead, targets, tolerance)
            if config.search_all_rotations:
                bright = np.ascontiguousarray(targets[:300])
                limits[1] = min(limits[1], 25.0)
                best_pair_any_rotation(lead, limits, bright, grid.points, grid.starts, grid.geometry, best)
            else:
                best_pair(lead, limits, grid.points, grid.starts, grid.geometry, best)
            if best[4] >= MIN_PAIRS:
                transform = PlaneTransform.similarity(*best[:4].tolist())
                yield transform.inverse() if invert else transform

    def _pair_limits(
        self, field: Field, lead: np.ndarray, targets: np.ndarray, tolerance: float
    ) -> np.ndarray:
        config = self.config
        rotation, scale = np.deg2rad(config.maxRotationDeg), config.max_scale_error
        density = _density(targets)
        n_first = max(1.0, density * np.pi * config.maxOffsetPix**2)
        n_second = max(1.0, density * np.pi * (field.radius * (rotation + scale) + tolerance) ** 2)
        n_pair = int(np.clip(np.sqrt(2.0 * PAIR_BUDGET / (n_first * n_second)), 8, 60))
        n_verify = min(N_VERIFY, len(lead))
        rate = _chance_rate(targets, tolerance)
        counts = np.arange(n_verify + 1)
        sure = counts[bdtrc(counts - 1, n_verify, rate) < 1e-20]
        enough = float(max(sure[0], 8)) if len(sure) else np.inf
        return np.array(
            [
                tolerance,
                min(n_pair, len(lead)),
                config.maxOffsetPix,
                rotation,
                n_verify,
                self._needed_hits(field, rate),
                scale,
                max(0.2 * field.radius, 8.0 * tolerance),
                enough,
            ]
        )

    # -- verification -----------------------------------------------------------------------------------

    def _refine(self, field: Field, transform: PlaneTransform, tolerance: float) -> _Solution | None:
        """Fit the transform to all mutual pairs until they stay the same, then narrow the tolerance."""
        narrow = tolerance
        previous: np.ndarray | None = None
        for _ in range(10):
            rows, hits = field.pairs(transform, narrow)
            if len(rows) < MIN_PAIRS:
                return None
            if previous is not None and np.array_equal(rows, previous):
                break
            previous = rows
            transform, sigma = fit_transform(field.sources[rows], field.references[hits])
            if transform.stretch > 0.05 + self.config.max_scale_error:
                return None
            narrow = float(
                np.clip(5.0 * sigma, min(max(self.config.minMatchDistPixels, 1e-3), tolerance), tolerance)
            )
        rows, hits = field.pairs(transform, narrow)
        if len(rows) < MIN_PAIRS:
            return None
        placements = field.log10_placements(
            narrow,
            self.config.maxOffsetPix,
            np.pi if self.config.search_all_rotations else np.deg2rad(self.config.maxRotationDeg),
            self.config.max_scale_error,
            len(rows),
        )
        return _Solution(transform, rows, hits, narrow, field.odds(transform, len(rows), narrow, placements))

    def _acceptable(self, field: Field, solution: _Solution) -> bool:
        """Say whether a solution is within the limits, large enough and far from chance."""
        config, transform, odds = self.config, solution.transform, solution.odds
        slack = 2.0 * solution.tolerance
        shift = float(np.hypot(*transform.offset))
        lever = np.deg2rad(config.maxRotationDeg) * field.radius
        if shift > config.maxOffsetPix + slack + lever:
            return False
        turned = abs(transform.rotation)
        if (
            not config.search_all_rotations
            and turned > np.deg2rad(config.maxRotationDeg) + slack / field.radius
        ):
            return False
        if transform.stretch > 2.0 * config.max_scale_error + slack / field.radius + 0.005:
            return False
        wanted = min(config.minMatchedPairs, int(config.minFracMatchedPairs * odds.n_possible))
        limit = config.max_log10_false_probability
        if odds.n_pairs < wanted:  # fewer than usual must be beyond any doubt
            limit *= 2.0
        return odds.log10_probability < limit


def mean_direction(ra: np.ndarray, dec: np.ndarray) -> tuple[float, float]:
    """Return the normalised mean (ra, dec) of positions, all in radians."""
    x, y, z = unit_vectors(ra, dec).mean(axis=0)
    return float(np.arctan2(y, x)), float(np.arctan2(z, np.hypot(x, y)))


def _brightest_first(magnitude: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Return the order by brightness; ties by position, so that the order of rows does not matter."""
    rank = np.where(np.isfinite(magnitude), magnitude, np.inf)
    return np.lexsort((xy[:, 1], xy[:, 0], rank))


def _density(points: np.ndarray) -> float:
    """Return points per square pixel in their box."""
    return len(points) / float(np.prod(np.maximum(points.max(axis=0) - points.min(axis=0), 1.0)))


def _chance_rate(points: np.ndarray, tolerance: float) -> float:
    """Return the probability that a random position has a point within the tolerance."""
    return float(-np.expm1(-_density(points) * np.pi * tolerance**2))


def _pattern_spacing(points: np.ndarray, size: int) -> float:
    """Return a fifth of the smallest distance between the spoke lengths of two patterns of one list (pixels)."""
    points = points[:MAX_PATTERN_POINTS]
    n = len(points) - size + 1
    if n < 2:
        return np.inf
    starts = np.arange(n)
    spokes = np.stack([np.hypot(*(points[starts + k] - points[starts]).T) for k in range(1, size)], axis=1)
    spokes.sort(axis=1)
    return float(cKDTree(spokes).query(spokes, k=2)[0][:, 1].min()) / 5.0

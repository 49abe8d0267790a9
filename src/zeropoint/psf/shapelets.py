"""Rough shapelet decomposition of the bright stars: is the image in focus and guided?

Before any PSF model exists, raw moments of the footprints select some stars, one shapelet expansion is fitted
to all of them together, and the share of its power in modes that the atmosphere does not excite is the score.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import lsst.pex.config as pexConfig
import numpy as np
import numpy.typing as npt
from scipy.special import gammaincinv

from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog, has_column
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.errors import NoStarsForShapeletsError
from zeropoint.psf._kernels_shapelets import polar_shapelets, raw_moments

__all__ = ["ComputeRoughPsfShapelets", "ComputeRoughPsfShapeletsConfig", "ShapeletsResult", "first_mode"]

_LOG = logging.getLogger(__name__)

PREFIX = "RoughPsfShapelets"

#: Fewest finite centroids for the score that includes them.
_MIN_CENTROIDS = 3

FloatArray = npt.NDArray[np.float64]


class ComputeRoughPsfShapeletsConfig(pexConfig.Config):
    """Which stars are decomposed, and how."""

    bad_mask_planes = pexConfig.ListField(
        dtype=str, default=["SAT", "SUSPECT", "INTRP"], doc="Mask planes whose pixels are left out."
    )
    bad_pixel_max_fraction = pexConfig.Field(
        dtype=float, default=0.25, doc="Largest fraction of bad pixels in a footprint."
    )
    bad_pixel_exclusion_radius = pexConfig.Field(
        dtype=float, default=2.0, doc="No bad pixel may be nearer to the centroid than this, pixels."
    )
    max_footprint_area = pexConfig.Field(dtype=int, default=10000, doc="Largest footprint, pixels.")
    min_snr = pexConfig.Field(dtype=float, default=50.0, doc="Least S/N of a star.")
    max_radius_factor = pexConfig.Field(
        dtype=float, default=2.0, doc="Largest trace radius in units of the first mode of the radii."
    )
    max_shape_distance = pexConfig.Field(
        dtype=float,
        default=3.0,
        doc="Largest squared Mahalanobis distance of a star's moments from the others'.",
    )
    min_n_stars = pexConfig.Field(
        dtype=int, default=10, doc="Least number of stars; the best ones below a limit are kept to reach it."
    )
    max_n_stars = pexConfig.Field(dtype=int, default=20, doc="Largest number of stars in the fit.")
    logarithmic_shapes = pexConfig.Field(
        dtype=bool, default=False, doc="Compare log(xx), log(yy) and the correlation instead of moments."
    )
    radius_mode_min = pexConfig.Field(
        dtype=float, default=1.0, doc="Least radius at which the mode is sought, pixels."
    )
    radius_kde_bandwidth = pexConfig.Field(
        dtype=float, default=1.0, doc="Width of the Gaussian that smooths the distribution of radii, pixels."
    )
    shapelet_order = pexConfig.RangeField(dtype=int, default=6, min=0, doc="Order of the expansion.")
    shapelet_scale_factor = pexConfig.Field(
        dtype=float, default=1.0, doc="Scale of the basis in units of the star's own."
    )
    shapelet_circular_basis = pexConfig.Field(
        dtype=bool, default=True, doc="Use a circular basis of the trace radius, else the star's ellipse."
    )
    non_gaussian_non_atmosphere_index_list = pexConfig.ListField(
        dtype=int,
        default=[*range(6, 10), *range(15, 24)],
        doc="Coefficients (polar basis, by order, then falling m) excited by the optics and not the atmosphere.",
    )


@dataclass(frozen=True)
class ShapeletsResult:
    """Summary values of the decomposition, named as in ``lsst.images.ObservationSummaryStats``.

    Parameters
    ----------
    shapeletsCoeffs
        Coefficients in the orthonormal polar basis.
    nShapeletsStar
        Stars fitted.
    shapeletsOnlyIqScore
        Share of the power in the modes the atmosphere does not excite, 0 (good) to 1.
    shapeletsIqScore
        The same including the centroids' disagreement; NaN until `ComputeRoughPsfShapelets.update_iq_score`.
    centroidDiffShapeletsVsSlotMedian
        Median distance of the stars' slot centroids from their raw first moments, pixels; NaN until then.
    shapeletsStarEMedian, shapeletsStarUnNormalizedEMedian
        Median ellipticity of the stars, and median of ``sqrt((xx - yy)^2 + (2 xy)^2)``, pixel^2.
    """

    shapeletsCoeffs: tuple[float, ...]
    nShapeletsStar: int
    shapeletsOnlyIqScore: float
    shapeletsIqScore: float
    centroidDiffShapeletsVsSlotMedian: float
    shapeletsStarEMedian: float
    shapeletsStarUnNormalizedEMedian: float


def _columns() -> list[ColumnSpec]:
    text = {
        "flux": ("count", "Unweighted sum of the footprint's good pixels."),
        "fluxErr": ("count", "Standard deviation of the unweighted sum."),
        "x": ("pixel", "Unweighted centroid, x."),
        "y": ("pixel", "Unweighted centroid, y."),
        "xx": ("pixel^2", "Unweighted second moment, xx."),
        "yy": ("pixel^2", "Unweighted second moment, yy."),
        "xy": ("pixel^2", "Unweighted second moment, xy."),
    }
    flags = {
        "flag": "Set if the raw moments could not be measured.",
        "candidate": "Set if the source passed the cuts in S/N and radius.",
        "used": "Set if the source was used in the shapelet fit.",
    }
    return [ColumnSpec(f"{PREFIX}_{name}", "f8", unit, doc) for name, (unit, doc) in text.items()] + [
        ColumnSpec(f"{PREFIX}_{name}", "bool", "", doc) for name, doc in flags.items()
    ]


def first_mode(radii: FloatArray, bandwidth: float, least: float) -> float:
    """Return the smallest radius at which the smoothed distribution of radii has a local maximum.

    Parameters
    ----------
    radii : float64, shape (n,)
        Pixels.
    bandwidth
        Sigma of the Gaussian kernel, pixels.
    least
        Smaller radii are left out: hot pixels and noise peaks would tilt the distribution.

    Returns
    -------
    mode
        One of the radii; where no interior one is a maximum, that of the highest density; NaN if there is none.
    """
    radii = radii[radii > least]
    grid = np.unique(radii)
    if len(grid) == 0:
        return float("nan")
    density = np.exp(-0.5 * ((grid[:, None] - radii) / bandwidth) ** 2).sum(axis=1)
    inner = np.flatnonzero((density[1:-1] > density[:-2]) & (density[1:-1] >= density[2:])) + 1
    return float(grid[inner[0]] if len(inner) else grid[np.argmax(density)])


def _bounded(
    values: FloatArray, limit: float, at_least: int, at_most: int | None = None
) -> npt.NDArray[np.int64]:
    """Return the indices of values below a limit, at least and at most so many, the smallest first."""
    order = np.argsort(values, kind="stable")
    n = max(int((values < limit).sum()), min(at_least, len(values)))
    return order[: n if at_most is None else min(n, at_most)]


def robust_distances(points: FloatArray, max_steps: int = 100) -> FloatArray:
    """Return squared Mahalanobis distances under a minimum-covariance-determinant estimate.

    Parameters
    ----------
    points : float64, shape (n, p)
        Finite points.
    max_steps
        Most concentration steps.

    Returns
    -------
    float64, shape (n,)

    Notes
    -----
    Concentration steps (Rousseeuw & Van Driessen 1999) from one deterministic start, the half of the points
    nearest to the median in units of the median absolute deviation; then the usual consistency factor and one
    step of reweighting at 97.5 %.
    """
    n, p = points.shape
    spread = 1.4826 * np.median(np.abs(points - np.median(points, axis=0)), axis=0)
    start = (points - np.median(points, axis=0)) / np.where(spread > 0, spread, 1.0)
    size = min((n + p + 1) // 2, n)
    subset = np.argsort(np.sum(start**2, axis=1), kind="stable")[:size]
    distance = np.zeros(n)
    for _ in range(max_steps):
        distance = _mahalanobis(points, points[subset])
        nearest = np.sort(np.argsort(distance, kind="stable")[:size])
        if np.array_equal(nearest, np.sort(subset)):
            break
        subset = nearest
    # quantiles of chi-square with p degrees of freedom
    distance *= 2.0 * gammaincinv(0.5 * p, 0.5) / max(float(np.median(distance)), np.finfo(float).tiny)
    core = points[distance <= 2.0 * gammaincinv(0.5 * p, 0.975)]
    return _mahalanobis(points, core if len(core) > p else points)


def _mahalanobis(points: FloatArray, sample: FloatArray) -> FloatArray:
    """Return squared distances of points from a sample's mean under its (pseudo-inverted) covariance."""
    offset = points - sample.mean(axis=0)
    covariance = np.atleast_2d(np.cov(sample, rowvar=False, bias=True))
    return np.asarray(np.einsum("ni,ij,nj->n", offset, np.linalg.pinv(covariance, hermitian=True), offset))


class ComputeRoughPsfShapelets:
    """Decompose the brightest compact sources into shapelets; fills columns of the catalogue in place."""

    ConfigClass = ComputeRoughPsfShapeletsConfig

    def __init__(
        self, config: ComputeRoughPsfShapeletsConfig | None = None, *, schema: Schema | None = None
    ) -> None:
        self.config = ComputeRoughPsfShapeletsConfig() if config is None else config
        if schema is not None:
            schema.add(*_columns())

    def run(self, exposure: Exposure, catalog: SourceCatalog) -> ShapeletsResult:
        """Fill the ``RoughPsfShapelets`` columns in place and return the decomposition.

        Parameters
        ----------
        exposure
            Background-subtracted; not modified.
        catalog
            Sources with footprints; children (rows with a parent) are skipped.

        Raises
        ------
        NoStarsForShapeletsError
            If there are too few sources with moments; metadata: n_sources, n_good.
        """
        rows = self._measure(exposure, catalog)
        if len(rows) == 0:
            raise NoStarsForShapeletsError(
                "No source has raw moments for the shapelet decomposition.", n_sources=len(catalog), n_good=0
            )
        used = self._select(catalog, rows)
        coefficients = self._fit(exposure, catalog, used)
        xx, yy, xy = (catalog[f"{PREFIX}_{name}"][used] for name in ("xx", "yy", "xy"))
        ellipticity = np.hypot(xx - yy, 2.0 * xy)
        result = ShapeletsResult(
            shapeletsCoeffs=tuple(coefficients.tolist()),
            nShapeletsStar=len(used),
            shapeletsOnlyIqScore=self._score(coefficients, 0.0),
            shapeletsIqScore=float("nan"),
            centroidDiffShapeletsVsSlotMedian=float("nan"),
            shapeletsStarEMedian=float(np.median(ellipticity / (xx + yy))),
            shapeletsStarUnNormalizedEMedian=float(np.median(ellipticity)),
        )
        _LOG.debug("Shapelets of %d stars: score %.3f.", len(used), result.shapeletsOnlyIqScore)
        return result

    def update_iq_score(self, result: ShapeletsResult, catalog: SourceCatalog) -> ShapeletsResult:
        """Return the result with the score that includes the slot centroids of the stars used.

        With fewer than three finite centroids the result comes back as it is.
        """
        used = catalog[f"{PREFIX}_used"]
        distance = np.hypot(
            catalog["slot_Centroid_x"][used] - catalog[f"{PREFIX}_x"][used],
            catalog["slot_Centroid_y"][used] - catalog[f"{PREFIX}_y"][used],
        )
        distance = distance[np.isfinite(distance)]
        if len(distance) < _MIN_CENTROIDS:
            _LOG.debug("Only %d finite centroids: the shapelet score is not updated.", len(distance))
            return result
        median = float(np.median(distance))
        scale = 0.5 * np.sqrt(self.config.max_footprint_area)
        score = self._score(np.array(result.shapeletsCoeffs), median / scale)
        return replace(result, shapeletsIqScore=score, centroidDiffShapeletsVsSlotMedian=median)

    def _score(self, coefficients: FloatArray, offset: float) -> float:
        chosen = [i for i in self.config.non_gaussian_non_atmosphere_index_list if i < len(coefficients)]
        part, total = (coefficients[chosen] ** 2).sum() + offset**2, (coefficients**2).sum() + offset**2
        return float(part / total) if total > 0 else float("nan")

    def _measure(self, exposure: Exposure, catalog: SourceCatalog) -> npt.NDArray[np.int64]:
        """Fill the moments' columns and return the rows that have them."""
        footprints = _footprints(catalog)
        small = footprints.areas() <= self.config.max_footprint_area
        if has_column(catalog, "parent"):
            small &= catalog["parent"] == 0
        rows = np.flatnonzero(small)
        out = np.empty((len(rows), 11))
        raw_moments(
            exposure.image,
            exposure.variance,
            exposure.mask,
            np.int32(bitmask(self.config.bad_mask_planes)),
            rows,
            footprints.span_offsets,
            footprints.span_y,
            footprints.span_x0,
            footprints.span_x1,
            out,
        )
        n, n_bad, flux, variance, x, y, xx, yy, xy, inside, nearest = out.T
        with np.errstate(invalid="ignore"):
            good = (n_bad <= self.config.bad_pixel_max_fraction * n) & (inside > 0) & (flux > 0)
            good &= (
                (nearest >= self.config.bad_pixel_exclusion_radius**2) & (xx * yy - xy**2 > 0) & (xx + yy > 0)
            )
            good &= np.isfinite(xx + yy) & (variance > 0)
            values = (flux, np.sqrt(variance), x, y, xx, yy, xy)
        for name in ("candidate", "used"):
            catalog[f"{PREFIX}_{name}"] = False
        catalog[f"{PREFIX}_flag"] = True
        catalog[f"{PREFIX}_flag"][rows[good]] = False
        for name, value in zip(("flux", "fluxErr", "x", "y", "xx", "yy", "xy"), values):
            catalog[f"{PREFIX}_{name}"] = np.nan
            catalog[f"{PREFIX}_{name}"][rows[good]] = value[good]
        return rows[good]

    def _select(self, catalog: SourceCatalog, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Flag candidates and stars to use, and return the rows of the latter, in order."""
        config = self.config
        if len(rows) < config.min_n_stars:
            raise NoStarsForShapeletsError(
                f"Only {len(rows)} sources have raw moments; the shapelet decomposition needs {config.min_n_stars}.",
                n_sources=len(catalog),
                n_good=len(rows),
            )
        snr = catalog[f"{PREFIX}_flux"][rows] / catalog[f"{PREFIX}_fluxErr"][rows]
        rows = rows[_bounded(-snr, -config.min_snr, config.min_n_stars)]
        moments = np.stack([catalog[f"{PREFIX}_{name}"][rows] for name in ("xx", "yy", "xy")], axis=1)
        radii = np.sqrt(0.5 * (moments[:, 0] + moments[:, 1]))
        mode = first_mode(radii, config.radius_kde_bandwidth, config.radius_mode_min)
        if not np.isfinite(mode):
            raise NoStarsForShapeletsError(
                f"No source has a radius above {config.radius_mode_min} pixels.",
                n_sources=len(catalog),
                n_good=len(rows),
            )
        chosen = _bounded(radii, config.max_radius_factor * mode, config.min_n_stars)
        rows, moments = rows[chosen], moments[chosen]
        catalog[f"{PREFIX}_candidate"][rows] = True
        distance = self._shape_distances(moments)
        rows = np.sort(
            rows[_bounded(distance, config.max_shape_distance, config.min_n_stars, config.max_n_stars)]
        )
        catalog[f"{PREFIX}_used"][rows] = True
        return rows

    def _shape_distances(self, moments: FloatArray) -> FloatArray:
        """Return squared Mahalanobis distances under the minimum covariance determinant estimate."""
        if self.config.logarithmic_shapes:
            correlation = moments[:, 2] / np.sqrt(moments[:, 0] * moments[:, 1])
            moments = np.stack([np.log(moments[:, 0]), np.log(moments[:, 1]), correlation], axis=1)
        return robust_distances(moments)

    def _fit(self, exposure: Exposure, catalog: SourceCatalog, rows: npt.NDArray[np.int64]) -> FloatArray:
        """Fit one expansion to the pixels of all stars by least squares."""
        order = self.config.shapelet_order
        footprints = _footprints(catalog)
        bad_bits = np.int32(bitmask(self.config.bad_mask_planes))
        designs, targets = [], []
        for row in rows:
            y, x = _pixels(footprints, row)
            good = (exposure.mask[y, x] & bad_bits) == 0
            y, x = y[good], x[good]
            transform = self._transform(*(catalog[f"{PREFIX}_{name}"][row] for name in ("xx", "yy", "xy")))
            dx, dy = x - catalog[f"{PREFIX}_x"][row], y - catalog[f"{PREFIX}_y"][row]
            u, v = transform @ np.stack([dx, dy])
            basis = np.empty((len(x), (order + 1) * (order + 2) // 2))
            polar_shapelets(np.ascontiguousarray(u), np.ascontiguousarray(v), order, basis)
            designs.append(basis * (catalog[f"{PREFIX}_flux"][row] * np.linalg.det(transform)))
            targets.append(exposure.image[y, x].astype(np.float64))
        return np.linalg.lstsq(np.concatenate(designs), np.concatenate(targets), rcond=None)[0]

    def _transform(self, xx: float, yy: float, xy: float) -> FloatArray:
        """Return the matrix from pixel offsets to units of the star's circle (or ellipse)."""
        factor = self.config.shapelet_scale_factor
        if self.config.shapelet_circular_basis:
            return np.eye(2) / (factor * np.sqrt(0.5 * (xx + yy)))
        squares, axes = np.linalg.eigh(np.array([[xx, xy], [xy, yy]]))
        return (axes / (factor * np.sqrt(squares))) @ axes.T


def _footprints(catalog: SourceCatalog) -> FootprintSet:
    if catalog.footprints is None:
        raise ValueError("The shapelet decomposition needs a catalogue with footprints.")
    return catalog.footprints


def _pixels(footprints: FootprintSet, row: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return (y, x) of a footprint's pixels in span order."""
    y, x0, x1 = footprints.spans_of(row)
    lengths = (x1 - x0 + 1).astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    return np.repeat(y, lengths).astype(np.int64), np.arange(lengths.sum()) + np.repeat(x0 - starts, lengths)

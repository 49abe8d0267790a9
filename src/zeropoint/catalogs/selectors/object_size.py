"""Selector ``objectSize``: stars as the tight cluster at the small end of the size axis."""

from __future__ import annotations

import logging

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.catalogs.selectors.base import (
    AnyTable,
    BaseSourceSelectorConfig,
    BoolArray,
    Cuts,
    MatchedReferences,
    SourceSelector,
    sourceSelectorRegistry,
)
from zeropoint.catalogs.selectors.columns import configured_column, fixed_column, required_column
from zeropoint.catalogs.selectors.limits import flag_column, reject_empty_interval, reject_nan
from zeropoint.datamodel.catalog import column, has_column
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.fields import fit_chebyshev
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import ObjectSizeNoGoodSourcesError, ObjectSizeNoSourcesError

__all__ = [
    "ObjectSizeStarSelector",
    "ObjectSizeStarSelectorConfig",
    "cluster_sizes",
    "tighten_cluster",
    "undistorted_widths",
]

_log = logging.getLogger(__name__)

_N_CLUSTERS = 4
_MAX_ROUNDS = 1000
_MAX_CLIPS = 10
#: Order of the surface through the stars' sizes, and the fewest stars for it.
_SURFACE_ORDERS = ((2, 60), (1, 20))
_SURFACE_ROUNDS = 5
_MIN_MEMBERS = 5


class ObjectSizeStarSelectorConfig(BaseSourceSelectorConfig):
    """Configuration of `ObjectSizeStarSelector`.

    The default width window suits well sampled images.  Stars of an undersampled image (FWHM below about 2.1
    pixels) have widths below the default ``widthMin`` of 0.9 pixel and would all be rejected: lower it there.
    """

    doFluxLimit = pexConfig.Field[bool](default=False, doc="Apply the flux limits?")
    fluxMin = pexConfig.Field[float](default=12500.0, doc="Faintest flux of a good star.")
    fluxMax = pexConfig.Field[float](default=0.0, doc="Brightest flux of a good star; no limit if 0.")
    doSignalToNoiseLimit = pexConfig.Field[bool](default=True, doc="Apply the signal-to-noise limits?")
    signalToNoiseMin = pexConfig.Field[float](default=50.0, doc="Lowest signal-to-noise of a good star.")
    signalToNoiseMax = pexConfig.Field[float](
        default=0.0, doc="Highest signal-to-noise of a good star; no limit if 0."
    )
    widthMin = pexConfig.Field[float](
        default=0.9,
        doc="Smallest width (pixels) considered.  Lower it for undersampled images: a star's width is about "
        "0.42 of its FWHM.",
    )
    widthMax = pexConfig.Field[float](default=10.0, doc="Largest width (pixels) considered.")
    sourceFluxField = pexConfig.Field[str](
        default="base_PsfFlux_instFlux", doc="Flux column; the error's name is this with Err behind it."
    )
    widthStdAllowed = pexConfig.Field[float](
        default=0.15,
        check=lambda value: value >= 0.0,
        doc="Relative standard deviation of stellar widths, 0 or more.",
    )
    nSigmaClip = pexConfig.Field[float](
        default=2.0,
        check=lambda value: value >= 0.0,
        doc="Keep members of the cluster within this many sigma, 0 or more.",
    )
    badFlags = pexConfig.ListField[str](
        default=[
            "base_PixelFlags_flag_edge",
            "base_PixelFlags_flag_nodata",
            "base_PixelFlags_flag_interpolatedCenter",
            "base_PixelFlags_flag_saturatedCenter",
            "base_PixelFlags_flag_crCenter",
            "base_PixelFlags_flag_bad",
            "base_PixelFlags_flag_interpolated",
            "slot_Centroid_flag",
        ],
        doc="Flags that reject a source; a column that the table lacks rejects none.",
    )

    def validate(self) -> None:
        """Check that no window is empty."""
        super().validate()
        reject_empty_interval(self, "widthMin", "widthMax", closed=True)
        for low, high in (("fluxMin", "fluxMax"), ("signalToNoiseMin", "signalToNoiseMax")):
            reject_nan(self, low, high)
            if getattr(self, high) > 0.0:  # 0 is no limit
                reject_empty_interval(self, low, high, closed=True)


class ObjectSizeStarSelector(SourceSelector):
    """Select stars: in size, they are the tight cluster at the small end.

    Widths are clustered by one-dimensional 4-means with medians as centers, and the members of the smallest
    cluster are sigma-clipped.
    """

    ConfigClass = ObjectSizeStarSelectorConfig

    def select(
        self, table: AnyTable, *, exposure: Exposure | None, matches: MatchedReferences | None
    ) -> Cuts:
        """Return the criteria, applied to the rows of ``table``.

        Raises
        ------
        ObjectSizeNoSourcesError
            If the table is empty.
        ObjectSizeNoGoodSourcesError
            If no source passes the cuts.
        """
        cuts = Cuts(len(table))
        if len(table) == 0:
            raise ObjectSizeNoSourcesError(f"{self.place}, the star selector, was given no sources.")
        width = self._widths(table, exposure)
        self.cut(cuts, table, width)
        rows = np.flatnonzero(cuts.selected)
        if has_column(table, "slot_Centroid_x") and has_column(table, "slot_Centroid_y"):
            x, y = (np.asarray(column(table, f"slot_Centroid_{axis}"), np.float64) for axis in "xy")
            # one order of summation, so that rounding does not depend on that of the rows
            rows = rows[np.lexsort((y[rows], x[rows], width[rows]))]
            members = self._cluster(width[rows], x[rows], y[rows])
        else:
            members = self._cluster(width[rows], None, None)
        stars = np.zeros(len(table), np.bool_)
        stars[rows[members]] = True
        _log.debug("Selected %d stars of %d good and %d sources.", members.sum(), rows.size, len(table))
        cuts.require("widths unlike the stars'", stars)
        return cuts

    def _cluster(self, width: np.ndarray, x: np.ndarray | None, y: np.ndarray | None) -> BoolArray:
        """Return which of the good sources belong to the stars' cluster."""
        tolerance = self.config.widthStdAllowed
        members = smallest_cluster(width, cluster_sizes(width, tolerance), tolerance)
        if x is not None and y is not None:
            width, members = flatten_sizes(width, members, x, y, tolerance)
        return tighten_cluster(width, members, self.config.nSigmaClip, tolerance)

    def _widths(self, table: AnyTable, exposure: Exposure | None) -> np.ndarray:
        """Return the width of each source, free of the WCS's distortion where there is a WCS."""
        xx, yy, xy = (
            np.asarray(fixed_column(table, f"slot_Shape_{name}", self.config), np.float64)
            for name in ("xx", "yy", "xy")
        )
        if exposure is None or exposure.wcs is None:
            with np.errstate(invalid="ignore"):
                return np.asarray(np.sqrt(0.5 * (xx + yy)))
        x, y = (
            np.asarray(fixed_column(table, f"slot_Centroid_{axis}", self.config), np.float64) for axis in "xy"
        )
        return undistorted_widths(xx, yy, xy, x=x, y=y, wcs=exposure.wcs, shape=exposure.shape)

    def cut(self, cuts: Cuts, table: AnyTable, width: np.ndarray) -> None:
        """Apply all cuts that precede clustering, in place.

        Parameters
        ----------
        cuts
            Criteria so far.
        table
            The sources.
        width : float64, shape (n_rows,)
            Their widths, pixels.

        Raises
        ------
        ObjectSizeNoGoodSourcesError
            If no source passes.
        """
        config = self.config
        flux = np.asarray(configured_column(table, config, "sourceFluxField"), np.float64)
        name = config.sourceFluxField + "Err"
        error = np.asarray(required_column(table, name, config, "sourceFluxField"), np.float64)
        bad = np.zeros(len(width), np.bool_)
        for name in config.badFlags:
            bad |= flag_column(table, name)
        cuts.require("badFlags", ~bad)
        cuts.require("finite flux and width", np.isfinite(width) & np.isfinite(flux))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = flux / error
            if config.doFluxLimit:
                cuts.require("fluxMin, fluxMax", _closed(flux, config.fluxMin, config.fluxMax))
            if config.doSignalToNoiseLimit:
                passed = _closed(ratio, config.signalToNoiseMin, config.signalToNoiseMax) & (error >= 0)
                cuts.require("signalToNoiseMin, signalToNoiseMax", passed)
            cuts.require("widthMin", width >= config.widthMin)
            cuts.require("widthMax", width <= config.widthMax)
        if not cuts.selected.any():
            usable = ~bad & np.isfinite(width) & np.isfinite(ratio)
            counts = ", ".join(f"{name} {count}" for name, count in cuts.rejected.items())
            n_usable = int(usable.sum())
            numbers: dict[str, float] = {"n_usable_sources": n_usable}
            if n_usable:
                numbers["largest_signal_to_noise"] = float(ratio[usable].max())
                numbers["median_width"] = float(np.median(width[usable]))
            raise ObjectSizeNoGoodSourcesError(
                f"No source of {len(width)} passes the cuts of the star selector {self.place} (rejected by {counts}). "
                + self._advice(numbers),
                n_input_sources=len(width),
                **numbers,
            )

    def _advice(self, numbers: dict[str, float]) -> str:
        """Return what the numbers of a selection without stars suggest."""
        config = self.config
        if numbers["n_usable_sources"] == 0:
            return "All are flagged or have no finite flux and width: the image may hold no stars, only noise or defects."
        best, median = numbers["largest_signal_to_noise"], numbers["median_width"]
        seen = (
            f"Of the {numbers['n_usable_sources']} usable ones the brightest has S/N {best:.1f}, and the median "
            f"width is {median:.2f} pixels. "
        )
        if config.doSignalToNoiseLimit and best < config.signalToNoiseMin:
            return seen + (
                "The image may hold no stars, only noise (shutter closed, clouds, wrong extension): look at it. "
                "If it is a shallow one, lower signalToNoiseMin."
            )
        if median < config.widthMin:
            return seen + (
                "Lower widthMin if the image is undersampled; if it is not, these may be cosmic rays or defects, and "
                "the image may hold no stars."
            )
        return (
            seen
            + "Look at the image: it may hold no stars. Otherwise widen the limits that reject most sources."
        )


def _closed(values: np.ndarray, minimum: float, maximum: float) -> BoolArray:
    """Return True where ``minimum <= value <= maximum``, without upper limit if that is 0; NaN fails."""
    selected = values >= minimum
    if maximum > 0:
        selected &= values <= maximum
    return np.asarray(selected, np.bool_)


def undistorted_widths(
    xx: np.ndarray,
    yy: np.ndarray,
    xy: np.ndarray,
    *,
    x: np.ndarray,
    y: np.ndarray,
    wcs: SkyWcs,
    shape: tuple[int, int],
) -> np.ndarray:
    """Return trace radii of moments on the sky, in units of the pixel at the image's center.

    Parameters
    ----------
    xx, yy, xy : float64, shape (n,)
        Second moments, pixels squared.
    x, y : float64, shape (n,)
        Centroids.
    wcs
        WCS whose local linearisation J turns the moments into ``J Q J^T``.
    shape
        (height, width) of the image.

    Returns
    -------
    float64, shape (n,)
        ``sqrt(trace(J Q J^T) / (2 |det J_center|))``: the trace radius of Q where nothing is distorted.
    """
    jacobian = wcs.local_jacobian(x=x, y=y)
    center = wcs.local_jacobian(x=0.5 * (shape[1] - 1), y=0.5 * (shape[0] - 1))
    area = abs(float(np.linalg.det(center)))
    metric = np.einsum("nki,nkj->nij", jacobian, jacobian) / area  # trace(J Q J^T) = sum(metric * Q)
    with np.errstate(invalid="ignore"):
        trace = metric[:, 0, 0] * xx + metric[:, 1, 1] * yy + 2.0 * metric[:, 0, 1] * xy
        return np.asarray(np.sqrt(0.5 * trace))


def cluster_sizes(width: np.ndarray, width_std_allowed: float) -> np.ndarray:
    """Assign sizes to one of four clusters by one-dimensional 4-means with medians as centers.

    Parameters
    ----------
    width : float64, shape (n,)
        Finite sizes, at least one.
    width_std_allowed
        Relative width of the stellar cluster, which sets the spacing of the first centers.

    Returns
    -------
    int64, shape (n,)
        Cluster of each size, 0 (the smallest sizes) to 3.
    """
    smallest = float(np.sort(width)[width.size // 10])
    centers = smallest * (1.0 + 2.0 * width_std_allowed * np.arange(_N_CLUSTERS))
    cluster = np.full(width.size, -1)
    for _ in range(_MAX_ROUNDS):
        distance = np.abs(width[:, None] - centers)
        nearest = np.argmin(np.where(np.isnan(distance), np.inf, distance), axis=1)
        if np.array_equal(nearest, cluster):
            break
        cluster = nearest
        centers = np.array(
            [np.median(width[cluster == k]) if np.any(cluster == k) else np.nan for k in range(_N_CLUSTERS)]
        )
    return cluster


def smallest_cluster(width: np.ndarray, cluster: np.ndarray, width_std_allowed: float) -> BoolArray:
    """Return the members of the smallest cluster, and of those that are not apart from it.

    Four-means cuts one population in pieces when there is nothing else to make clusters of.  A cluster whose
    median lies within the relative tolerance of the smallest one's is the same population.

    Parameters
    ----------
    width : float64, shape (n,)
        Sizes.
    cluster : int64, shape (n,)
        Their clusters, 0 the smallest.
    width_std_allowed
        Relative width of the stellar cluster.
    """
    members = np.asarray(cluster == 0, np.bool_)
    center = float(np.median(width[members])) if members.any() else float("nan")
    for k in range(1, _N_CLUSTERS):
        other = cluster == k
        if other.any() and abs(float(np.median(width[other])) - center) <= width_std_allowed * center:
            members |= other
    return members


def flatten_sizes(
    width: np.ndarray, members: BoolArray, x: np.ndarray, y: np.ndarray, width_std_allowed: float
) -> tuple[np.ndarray, BoolArray]:
    """Take the smooth variation of the stars' size over the image out of the sizes.

    Without this the clipping would remove the stars of just those corners whose PSF differs most, and the PSF
    model would have to extrapolate there.

    Parameters
    ----------
    width : float64, shape (n,)
        Sizes.
    members : bool, shape (n,)
        Probable stars.
    x, y : float64, shape (n,)
        Positions.
    width_std_allowed
        Relative distance from the surface within which a source still may be a star.

    Returns
    -------
    flat : float64, shape (n,)
        Sizes with the surface replaced by its median.
    members : bool, shape (n,)
        Sources near the surface; the given members where there are too few to fit one.
    """
    near = members & np.isfinite(x) & np.isfinite(y)
    order = next((o for o, least in _SURFACE_ORDERS if np.count_nonzero(near) >= least), 0)
    if order == 0:
        return width, members
    side_x, side_y = int(np.nanmax(x)) + 2, int(np.nanmax(y)) + 2
    center = float(np.median(width[near]))
    kept = near & (np.abs(width - center) <= width_std_allowed * center)
    surface = np.full(width.size, center)
    for _ in range(_SURFACE_ROUNDS):
        field = fit_chebyshev(x[kept], y[kept], width[kept], side_x, side_y, order, order)
        surface = np.where(
            np.isfinite(x) & np.isfinite(y), field(x=np.nan_to_num(x), y=np.nan_to_num(y)), center
        )
        residual = np.abs(width - surface)
        limit = 3.0 * 1.4826 * float(np.median(residual[kept])) + 1e-6 * center
        again = near & (residual <= max(limit, 0.01 * center))
        if np.count_nonzero(again) < _SURFACE_ORDERS[-1][1] or np.array_equal(again, kept):
            break
        kept = again
    middle = float(np.median(surface[kept]))
    flat = width - surface + middle
    return flat, np.asarray(np.abs(flat - middle) <= width_std_allowed * middle, np.bool_)


def tighten_cluster(
    width: np.ndarray, members: BoolArray, n_sigma_clip: float, width_std_allowed: float
) -> BoolArray:
    """Clip the members of a cluster about its median; clusters of fewer than five stay as they are.

    Parameters
    ----------
    width : float64, shape (n,)
        Sizes.
    members : bool, shape (n,)
        Members of the cluster.
    n_sigma_clip
        Members at this many standard deviations or more leave.
    width_std_allowed
        Clipping ends once the standard deviation is below this fraction of the median.

    Returns
    -------
    bool, shape (n,)
        The members that stay.
    """
    members = members.copy()
    if np.count_nonzero(members) < _MIN_MEMBERS:
        return members
    for _ in range(_MAX_CLIPS):
        ordered = np.sort(width[members])
        n = ordered.size
        quartiles = 0.741 * (ordered[int(0.75 * n)] - ordered[int(0.25 * n)])
        sigma = min(float(np.std(ordered)), float(quartiles))
        if sigma <= 0.0:
            break
        members &= np.abs(width - np.median(ordered)) < n_sigma_clip * sigma
        if np.count_nonzero(members) in (0, n) or sigma < width_std_allowed * ordered[int(0.5 * n)]:
            break
    return members


sourceSelectorRegistry.register("objectSize", ObjectSizeStarSelector)

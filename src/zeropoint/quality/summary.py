"""Summary statistics of one calibrated (or partly calibrated) exposure, under Rubin's names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import lsst.pex.config as pexConfig
import numpy as np
from lsst.images import ObservationSummaryStats
from scipy.spatial import cKDTree

from zeropoint.astrometry.solve import AstrometryResult
from zeropoint.catalogs.selectors import reject_selectors_with_matches, sourceSelectorRegistry
from zeropoint.catalogs.selectors.base import AnyTable
from zeropoint.datamodel.background import BackgroundComponent, BackgroundList
from zeropoint.datamodel.catalog import SourceCatalog, column, has_column
from zeropoint.datamodel.exposure import DetectorInfo, Exposure, MaskImage, PhotoCalib, VisitInfo
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.datamodel.psf_model import PsfModel, shapes_of_stamps
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.kernels.statistics import clipped_stats, good_values
from zeropoint.psf.shapelets import ShapeletsResult
from zeropoint.quality.depth import effective_times, limiting_magnitude, zenith_distance

__all__ = [
    "BACKGROUND_STATISTICS",
    "DEPTH_STATISTICS",
    "PHOTO_CALIB_STATISTICS",
    "PIXEL_STATISTICS",
    "PSF_STATISTICS",
    "STAR_STATISTICS",
    "WCS_STATISTICS",
    "ComputeExposureSummaryStats",
    "ComputeExposureSummaryStatsConfig",
]

_BANDS = ("u", "g", "r", "i", "z", "y")

#: What is measured on each part of an exposure.
PIXEL_STATISTICS = ("skyNoise", "meanVar")
BACKGROUND_STATISTICS = ("skyBg",)
WCS_STATISTICS = ("ra", "dec", "raCorners", "decCorners", "pixelScale", "zenithDistance")
PHOTO_CALIB_STATISTICS = ("zeroPoint",)
PSF_STATISTICS = (
    "psfSigma",
    "psfArea",
    "psfIxx",
    "psfIyy",
    "psfIxy",
    "psfTraceRadiusDelta",
    "psfApFluxDelta",
    "psfApCorrSigmaScaledDelta",
)
STAR_STATISTICS = (
    "nPsfStar",
    "starEMedian",
    "starUnNormalizedEMedian",
    *(f"psfStarDelta{what}{how}" for what in ("E1", "E2", "Size") for how in ("Median", "Scatter")),
    "psfStarScaledDeltaSizeScatter",
    "maxDistToNearestPsf",
    *(f"star{what}Median" for what in ("Coma1", "Coma2", "Trefoil1", "Trefoil2", "Kurtosis", "E41", "E42")),
)
DEPTH_STATISTICS = (
    "magLim",
    "effTime",
    "effTimePsfSigmaScale",
    "effTimeSkyBgScale",
    "effTimeZeroPointScale",
)


def _per_band(doc: str, value: float) -> pexConfig.DictField:
    return pexConfig.DictField(keytype=str, itemtype=float, doc=doc, default=dict.fromkeys(_BANDS, value))


class ComputeExposureSummaryStatsConfig(pexConfig.Config):
    """Fields and defaults of ComputeExposureSummaryStatsTask."""

    sigmaClip = pexConfig.Field[float](doc="Clipping of the noise statistics, sigma.", default=3.0)
    clipIter = pexConfig.Field[int](doc="Clipping iterations.", default=2)
    badMaskPlanes = pexConfig.ListField[str](
        doc="Planes left out of the noise statistics.", default=["NO_DATA", "SUSPECT"]
    )
    starSelection = pexConfig.Field[str](doc="Flag of the stars that are counted.", default="calib_psf_used")
    starSelector = sourceSelectorRegistry.makeField(doc="Stars for shape statistics.", default="science")
    starShape = pexConfig.Field[str](doc="Columns of star shapes.", default="slot_Shape")
    psfShape = pexConfig.Field[str](doc="Columns of PSF shapes.", default="slot_PsfShape")
    starHigherOrderMomentBase = pexConfig.Field[str](
        doc="Columns of higher moments.", default="ext_shapeHSM_HigherOrderMomentsSource"
    )
    psfSampling = pexConfig.Field[int](doc="Grid for the distance to PSF stars, pixels.", default=8)
    psfGridSampling = pexConfig.Field[int](doc="Grid for PSF variation, pixels.", default=96)
    minPsfApRadiusPix = pexConfig.Field[float](doc="Smallest aperture radius, pixels.", default=2.0)
    psfApCorrFieldName = pexConfig.Field[str](
        doc="Aperture correction whose range is reported.", default="base_PsfFlux_instFlux"
    )
    psfBadMaskPlanes = pexConfig.ListField[str](
        doc="Planes whose pixels are left out of the grids.",
        default=["BAD", "CR", "EDGE", "INTRP", "NO_DATA", "SAT", "SUSPECT"],
    )
    fiducialSkyBackground = _per_band("Fiducial sky, counts per second.", 1.0)
    fiducialPsfSigma = _per_band("Fiducial PSF sigma, pixels.", 1.0)
    fiducialZeroPoint = _per_band("Fiducial zeropoint of one second, mag.", 25.0)
    fiducialReadNoise = _per_band("Fiducial read noise, electrons.", 9.0)
    fiducialExpTime = _per_band("Fiducial exposure time, seconds.", 30.0)
    fiducialMagLim = _per_band("Fiducial depth, mag.", 25.0)
    maxEffectiveTransparency = pexConfig.Field[float](
        doc="Cap on the transparency factor.", default=float("inf")
    )
    magLimSnr = pexConfig.Field[float](doc="Signal to noise of the limiting magnitude.", default=5.0)

    def setDefaults(self) -> None:
        """Select unflagged PSF stars of moderate signal to noise."""
        super().setDefaults()
        selector = self.starSelector["science"]
        selector.doFlags = selector.doSignalToNoise = True
        selector.flags.good = ["calib_psf_used"]
        selector.flags.bad = ["slot_Shape_flag", "slot_PsfFlux_flag"]
        selector.signalToNoise.minimum, selector.signalToNoise.maximum = 50.0, 1000.0
        selector.signalToNoise.fluxField = "slot_PsfFlux_instFlux"
        selector.signalToNoise.errField = "slot_PsfFlux_instFluxErr"

    def validate(self) -> None:
        """Reject selectors that need reference matches."""
        super().validate()
        reject_selectors_with_matches(self, "starSelector")


class ComputeExposureSummaryStats:
    """Summarise an exposure, whatever of it has been established.

    Parameters
    ----------
    config
        Configuration.
    """

    ConfigClass = ComputeExposureSummaryStatsConfig

    def __init__(self, config: ComputeExposureSummaryStatsConfig | None = None) -> None:
        self.config = config if config is not None else ComputeExposureSummaryStatsConfig()
        self.selector = self.config.starSelector.apply()

    def run(
        self,
        exposure: Exposure,
        sources: SourceCatalog | None,
        background: BackgroundList | None,
        *,
        shapelets: ShapeletsResult | None = None,
        astrometry: AstrometryResult | None = None,
    ) -> ObservationSummaryStats:
        """Return the summary; values whose ingredients are missing stay NaN.

        Parameters
        ----------
        exposure
            Exposure in instrumental units, with what has been established attached.
        sources
            Stars (or, after a failure, the PSF-phase sources).
        background
            What was subtracted.
        shapelets, astrometry
            Results of those steps.
        """
        visit = exposure.visit_info
        values: dict[str, Any] = {"expTime": visit.exposure_time}
        values.update(self.pixel_values(exposure))
        if background is not None:
            values.update(self.background_values(background))
        if exposure.wcs is not None:
            values.update(self.wcs_values(exposure.wcs, exposure.shape, visit))
        if exposure.psf is not None:
            values.update(self.psf_values(exposure.psf, exposure.mask, exposure.ap_corr_map))
        if sources is not None:
            values.update(self.star_values(sources, exposure.mask, exposure=exposure))
        if astrometry is not None and exposure.wcs is not None:
            values["astromOffsetMean"], values["astromOffsetStd"] = (
                astrometry.offset_mean,
                astrometry.offset_std,
            )
        for name, key in (
            ("psfAdaptiveThresholdValue", "PSF_ADAPTIVE_THRESHOLD_VALUE"),
            ("psfAdaptiveIncludeThresholdMultiplier", "PSF_ADAPTIVE_INCLUDE_THRESHOLD_MULTIPLIER"),
            ("refCatSourceDensity", "REF_CAT_SOURCE_DENSITY"),
        ):
            if key in exposure.metadata:
                values[name] = float(exposure.metadata[key])
        if shapelets is not None:
            for name in ObservationSummaryStats.model_fields:
                if "hapelets" in name and getattr(shapelets, name, None) is not None:
                    values[name] = getattr(shapelets, name)
        if exposure.photo_calib is not None:
            values.update(self.photo_calib_values(exposure.photo_calib))
        values.update(self.depth_values(values, exposure.detector, visit.band, visit.exposure_time))
        return ObservationSummaryStats(**values)

    def pixel_values(self, exposure: Exposure) -> dict[str, float]:
        """Return the statistics of the pixels of an exposure in electrons: `PIXEL_STATISTICS`."""
        c = self.config
        bad = bitmask(c.badMaskPlanes)
        good = good_values(exposure.image, exposure.mask, bad)
        _, noise, _ = clipped_stats(good, c.sigmaClip, c.clipIter)
        good = good_values(exposure.variance, exposure.mask, bad)
        mean_variance, _, _ = clipped_stats(good, c.sigmaClip, c.clipIter)
        return {"skyNoise": float(noise), "meanVar": float(mean_variance)}

    def background_values(self, background: Iterable[BackgroundComponent]) -> dict[str, float]:
        """Return the level of what was subtracted, in its unit (electrons): `BACKGROUND_STATISTICS`."""
        medians = [
            np.median(b.values[np.isfinite(b.values)]) for b in background if np.isfinite(b.values).any()
        ]
        return {"skyBg": float(np.sum(medians)) if medians else float("nan")}

    def photo_calib_values(self, photo_calib: PhotoCalib) -> dict[str, float]:
        """Return the statistics of a photometric calibration: `PHOTO_CALIB_STATISTICS`."""
        return {"zeroPoint": photo_calib.zeropoint}

    def depth_values(
        self, values: Mapping[str, Any], detector: DetectorInfo, band: str, exposure_time: float
    ) -> dict[str, float]:
        """Return limiting magnitude and effective time: those `DEPTH_STATISTICS` whose ingredients are known.

        Parameters
        ----------
        values
            Statistics so far, without those that are not known (psfArea, psfSigma, skyBg, zeroPoint).
        detector
            Gives the read noise.
        band, exposure_time
            Band, and exposure time in seconds.
        """
        result = limiting_magnitude(detector, values, self.config)
        return {**result, **effective_times(band, exposure_time, {**values, **result}, self.config)}

    def wcs_values(self, wcs: SkyWcs, shape: tuple[int, int], visit_info: VisitInfo | None) -> dict[str, Any]:
        """Return the statistics of the WCS of an image of (height, width): `WCS_STATISTICS`.

        ``visit_info`` gives time and site; without it the zenith distance is NaN.
        """
        height, width = shape
        x, y = 0.5 * (width - 1), 0.5 * (height - 1)
        ra, dec = (np.rad2deg(float(v)) for v in wcs.pixel_to_sky(x=x, y=y))
        cx = np.array([-0.5, width - 0.5, width - 0.5, -0.5])
        cy = np.array([-0.5, -0.5, height - 0.5, height - 0.5])
        corner_ra, corner_dec = (np.rad2deg(v) for v in wcs.pixel_to_sky(x=cx, y=cy))
        return {
            "ra": ra,
            "dec": dec,
            "raCorners": tuple(float(v) for v in corner_ra),
            "decCorners": tuple(float(v) for v in corner_dec),
            "pixelScale": float(wcs.pixel_scale(x=x, y=y)),
            "zenithDistance": float("nan") if visit_info is None else zenith_distance(visit_info, ra, dec),
        }

    def psf_values(
        self,
        psf: PsfModel,
        mask: MaskImage,
        ap_corr_map: Mapping[str, ChebyshevPolynomial] | None = None,
    ) -> dict[str, float]:
        """Return the statistics of a PSF (and of its aperture correction): some of `PSF_STATISTICS`.

        Parameters
        ----------
        psf
            PSF.
        mask : int32, shape (height, width)
            Mask of the image; masked pixels are left out of the grid on which the variation is measured.
        ap_corr_map
            Aperture corrections; without the one for PSF fluxes its range is not among the results.
        """
        c = self.config
        height, width = mask.shape
        x, y = np.array([0.5 * (width - 1)]), np.array([0.5 * (height - 1)])
        kernel = psf.kernel_stamps(x=x, y=y)[0]
        shape = psf.shapes(x=x, y=y)
        sigma = float(shape.determinant_radius[0])
        values = {
            "psfIxx": float(shape.xx[0]),
            "psfIyy": float(shape.yy[0]),
            "psfIxy": float(shape.xy[0]),
            "psfSigma": sigma,
            "psfArea": float(kernel.sum() ** 2 / np.sum(kernel**2)),
        }
        gx, gy = _good_grid(mask, c.psfGridSampling, c.psfBadMaskPlanes)
        if len(gx) == 0:
            return values
        weights = _circle_weights(max(c.minPsfApRadiusPix, 3.0 * sigma), psf.size)
        radii, fluxes = np.empty(len(gx)), np.empty(len(gx))
        for start in range(0, len(gx), 512):
            part = slice(start, start + 512)
            stamps = np.ascontiguousarray(psf.kernel_stamps(x=gx[part], y=gy[part]), np.float64)
            radii[part] = shapes_of_stamps(stamps).trace_radius
            fluxes[part] = stamps.reshape(len(stamps), -1) @ weights.ravel()
        values["psfTraceRadiusDelta"] = float(np.ptp(radii)) if np.isfinite(radii).all() else float("nan")
        usable = np.isfinite(fluxes).all() and (fluxes >= 0).all()
        values["psfApFluxDelta"] = float(np.ptp(fluxes)) if usable else float("nan")
        field = (ap_corr_map or {}).get(c.psfApCorrFieldName)
        if field is not None and sigma > 0:
            values["psfApCorrSigmaScaledDelta"] = float(np.ptp(field(x=gx, y=gy))) / sigma
        return values

    def star_values(
        self, sources: AnyTable, mask: MaskImage, *, exposure: Exposure | None = None
    ) -> dict[str, Any]:
        """Return the statistics of stars against the PSF: some of `STAR_STATISTICS`.

        Parameters
        ----------
        sources
            Stars with flags, shapes, and shapes of the PSF; catalogue or table.
        mask : int32, shape (height, width)
            Mask of the image.
        exposure
            The image, for selectors that need it.
        """
        c = self.config
        values: dict[str, Any] = {}
        if has_column(sources, c.starSelection):
            values["nPsfStar"] = int(np.sum(column(sources, c.starSelection)))
        needed = [f"{base}_{part}" for base in (c.starShape, c.psfShape) for part in ("xx", "yy", "xy")]
        if not all(has_column(sources, name) for name in needed):
            return values
        keep = self.selector.run(sources, exposure=exposure).selected
        if not keep.any():
            return values
        star = {part: column(sources, f"{c.starShape}_{part}")[keep] for part in ("xx", "yy", "xy")}
        model = {part: column(sources, f"{c.psfShape}_{part}")[keep] for part in ("xx", "yy", "xy")}
        with np.errstate(invalid="ignore", divide="ignore"):
            size, model_size = (
                np.sqrt((star["xx"] + star["yy"]) / 2),
                np.sqrt((model["xx"] + model["yy"]) / 2),
            )
            e1, e2 = _ellipticity(star)
            m1, m2 = _ellipticity(model)
        values["starEMedian"] = _median(np.hypot(e1, e2))
        values["starUnNormalizedEMedian"] = _median(np.hypot(star["xx"] - star["yy"], 2 * star["xy"]))
        for name, delta in (("E1", e1 - m1), ("E2", e2 - m2), ("Size", size - model_size)):
            values[f"psfStarDelta{name}Median"] = _median(delta)
            values[f"psfStarDelta{name}Scatter"] = _mad(delta)
        values["psfStarScaledDeltaSizeScatter"] = values["psfStarDeltaSizeScatter"] / _median(size)
        values.update(self._higher_moments(sources, keep))
        x, y = (column(sources, f"slot_Centroid_{axis}")[keep] for axis in ("x", "y"))
        grid = _good_grid(mask, c.psfSampling, c.psfBadMaskPlanes)
        finite = np.isfinite(x) & np.isfinite(y)
        if len(grid[0]) and finite.any():
            stars = np.stack([x[finite], y[finite]], axis=1)
            values["maxDistToNearestPsf"] = _largest_distance(np.stack(grid, axis=1), stars, c.psfSampling)
        return values

    def _higher_moments(self, sources: AnyTable, keep: np.ndarray) -> dict[str, float]:
        base = self.config.starHigherOrderMomentBase
        orders = ("30", "21", "12", "03", "40", "31", "22", "13", "04")
        if not all(has_column(sources, f"{base}_{order}") for order in orders):
            return {}
        m = {order: column(sources, f"{base}_{order}")[keep] for order in orders}
        return {
            "starComa1Median": _median(m["30"] + m["12"]),
            "starComa2Median": _median(m["21"] + m["03"]),
            "starTrefoil1Median": _median(m["30"] - 3 * m["12"]),
            "starTrefoil2Median": _median(3 * m["21"] - m["03"]),
            "starKurtosisMedian": _median(m["40"] + 2 * m["22"] + m["04"]),
            "starE41Median": _median(m["40"] - m["04"]),
            "starE42Median": _median(2 * (m["31"] + m["13"])),
        }


def _ellipticity(m: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    total = m["xx"] + m["yy"]
    return (m["xx"] - m["yy"]) / total, 2 * m["xy"] / total


def _median(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else float("nan")


def _mad(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return (
        float(1.482602218505602 * np.median(np.abs(values - np.median(values))))
        if values.size
        else float("nan")
    )


def _good_grid(mask: MaskImage, step: int, planes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return x, y (float64) of grid pixels without any of the planes."""
    good = (mask[::step, ::step] & np.int32(bitmask(planes))) == 0
    y, x = np.nonzero(good)
    return x.astype(np.float64) * step, y.astype(np.float64) * step


def _largest_distance(points: np.ndarray, stars: np.ndarray, step: int) -> float:
    """Return the largest distance of any of the points, which lie on a grid, to its nearest star.

    The distance changes by no more than the way between two points, so only points in blocks whose centre is
    far enough are looked at.
    """
    tree = cKDTree(stars)
    side = 8 * step
    column, row = (points // side).astype(np.int64).T
    n_columns = int(column.max()) + 1
    block_of = row * n_columns + column
    blocks = np.flatnonzero(np.bincount(block_of))
    distance = np.zeros(int(blocks[-1]) + 1)
    distance[blocks] = tree.query((np.stack([blocks % n_columns, blocks // n_columns], axis=1) + 0.5) * side)[
        0
    ]
    reach = side / np.sqrt(2.0)
    candidates = distance[block_of] >= distance.max() - 2.0 * reach
    return float(tree.query(points[candidates])[0].max())


def _circle_weights(radius: float, size: int, oversample: int = 15) -> np.ndarray:
    """Return the fraction of each stamp pixel inside a circle around the middle one."""
    n = size * oversample
    r = (np.arange(n) + 0.5) / oversample - 0.5 * size
    inside = (r[None, :] ** 2 + r[:, None] ** 2 <= radius**2).astype(np.float64)
    return inside.reshape(size, oversample, size, oversample).mean(axis=(1, 3))

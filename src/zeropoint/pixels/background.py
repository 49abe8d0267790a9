"""Background: a clipped statistic in bins, turned into a smooth surface and subtracted."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import lsst.pex.config as pexConfig
import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from zeropoint.datamodel.background import MIN_POINTS, BackgroundComponent, BackgroundList, reduced_style
from zeropoint.datamodel.catalog import Schema
from zeropoint.datamodel.exposure import Exposure, FloatImage, MaskImage
from zeropoint.datamodel.fields import ChebyshevPolynomial, fit_chebyshev
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.errors import TooManyMaskedPixelsError
from zeropoint.kernels import statistics

__all__ = [
    "SubtractBackground",
    "SubtractBackgroundConfig",
    "SubtractBackgroundResult",
    "bin_edges",
    "fit_background",
]

_LOG = logging.getLogger(__name__)
_STATISTICS = {"MEAN": statistics.MEAN, "MEDIAN": statistics.MEDIAN, "MEANCLIP": statistics.MEANCLIP}

FloatArray = npt.NDArray[np.float64]


class SubtractBackgroundConfig(pexConfig.Config):
    """How the background is measured and interpolated."""

    statisticsProperty = pexConfig.ChoiceField(
        dtype=str,
        default="MEANCLIP",
        doc="Statistic of each bin.",
        allowed={
            "MEANCLIP": "Clipped mean (3 sigma, 3 iterations).",
            "MEAN": "Unclipped mean.",
            "MEDIAN": "Median.",
        },
    )
    undersampleStyle = pexConfig.ChoiceField(
        dtype=str,
        default="REDUCE_INTERP_ORDER",
        doc="What to do when there are too few bins for the wanted order.",
        allowed={
            "THROW_EXCEPTION": "Raise ValueError.",
            "REDUCE_INTERP_ORDER": "Use the highest order the bins allow.",
            "INCREASE_NXNYSAMPLE": "Use more, smaller bins.",
        },
    )
    binSize = pexConfig.RangeField(dtype=int, default=128, min=1, doc="Bin side, pixels.")
    binSizeX = pexConfig.RangeField(dtype=int, default=0, min=0, doc="Bin width, pixels; 0 means binSize.")
    binSizeY = pexConfig.RangeField(dtype=int, default=0, min=0, doc="Bin height, pixels; 0 means binSize.")
    algorithm = pexConfig.ChoiceField(
        dtype=str,
        default="AKIMA_SPLINE",
        optional=True,
        doc="Interpolation between bins; unused if useApprox.",
        allowed={
            "CONSTANT": "The nearest bin.",
            "LINEAR": "Linear.",
            "NATURAL_SPLINE": "Cubic spline without curvature at its ends.",
            "AKIMA_SPLINE": "Akima's spline, robust to outliers.",
            "NONE": "No interpolation; an error unless useApprox.",
        },
    )
    ignoredPixelMask = pexConfig.ListField(
        dtype=str,
        default=["BAD", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "NO_DATA"],
        doc="Mask planes whose pixels are left out.",
    )
    isNanSafe = pexConfig.Field(
        dtype=bool, default=False, doc="Leave out pixels that are not finite; else one NaN spoils its bin."
    )
    useApprox = pexConfig.Field(
        dtype=bool, default=True, doc="Fit a Chebyshev polynomial to the bins instead of interpolating."
    )
    approxOrderX = pexConfig.Field(dtype=int, default=6, doc="Order of the polynomial in x.")
    approxOrderY = pexConfig.Field(
        dtype=int,
        default=-1,
        doc="Order of the polynomial in y; -1 means that of x, the only choice there is.",
    )
    weighting = pexConfig.Field(
        dtype=bool, default=True, doc="Weight bins by the inverse of their standard error in the fit."
    )
    doApplyFlatBackgroundRatio = pexConfig.Field(
        dtype=bool,
        default=False,
        doc="Measure on the image times the background-to-photometric ratio (from photometrically flat to "
        "background-flat pixels).",
    )
    doFilterSuperPixels = pexConfig.Field(
        dtype=bool, default=False, doc="Replace empty bins by the median bin and median-filter the bins."
    )
    superPixelFilterSize = pexConfig.RangeField(
        dtype=int, default=3, min=1, doc="Side of the median filter, bins."
    )


@dataclass(frozen=True)
class SubtractBackgroundResult:
    """What was subtracted.

    Parameters
    ----------
    background
        The list that was given (or a new one) with the component appended.
    component
        The component subtracted now, in background-flat units if a ratio was applied.
    """

    background: BackgroundList
    component: BackgroundComponent


def bin_edges(size: int, n: int) -> npt.NDArray[np.int64]:
    """Return the ``n + 1`` pixel edges of ``n`` bins over ``size`` pixels, equal to within one pixel."""
    ends = ((np.arange(1, n + 1) * size) + n // 2) // n
    return np.concatenate([[0], np.minimum(ends, size)]).astype(np.int64)


def _order_and_bins(shape: tuple[int, int], config: SubtractBackgroundConfig) -> tuple[int, int, int]:
    """Return ``(nx, ny, order)`` of a Chebyshev background after the rule for too few bins."""
    height, width = shape
    nx = -(-width // (config.binSizeX or config.binSize))
    ny = -(-height // (config.binSizeY or config.binSize))
    order = config.approxOrderX
    if config.approxOrderY not in (-1, order):
        raise ValueError(f"approxOrderY = {config.approxOrderY} must be -1 or approxOrderX = {order}.")
    if min(nx, ny) <= order:
        text = f"{nx} x {ny} bins are too few for a background polynomial of order {order}."
        if config.undersampleStyle == "THROW_EXCEPTION" or order < 1:
            raise ValueError(text + " Reduce binSize or approxOrderX.")
        if config.undersampleStyle == "REDUCE_INTERP_ORDER":
            order = min(nx, ny) - 1
        else:
            size = min(width, height) // order
            if size < 1:
                raise ValueError(text + " The image has too few pixels.")
            nx, ny = width // size + 1, height // size + 1
    return nx, ny, order


def _style_and_bins(shape: tuple[int, int], config: SubtractBackgroundConfig) -> tuple[int, int, str]:
    """Return ``(nx, ny, style)`` of an interpolated background after the rule for too few bins."""
    height, width = shape
    nx = -(-width // (config.binSizeX or config.binSize))
    ny = -(-height // (config.binSizeY or config.binSize))
    wanted = config.algorithm
    if wanted in (None, "NONE"):
        raise ValueError("A background without useApprox needs an interpolation algorithm.")
    style = reduced_style(wanted, min(nx, ny))
    if style != wanted:
        if config.undersampleStyle == "THROW_EXCEPTION":
            raise ValueError(f"{nx} x {ny} bins are too few for {wanted}. Reduce binSize.")
        if config.undersampleStyle == "INCREASE_NXNYSAMPLE":
            nx, ny = max(nx, MIN_POINTS[wanted]), max(ny, MIN_POINTS[wanted])
            if nx > width or ny > height:
                raise ValueError(f"A {width} x {height} image is too small for {wanted}.")
            style = wanted
    return nx, ny, style


def _measure_bins(
    image: FloatImage, mask: MaskImage, nx: int, ny: int, config: SubtractBackgroundConfig
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return values and standard errors (ny, nx) of the bins, and their centers in x and y."""
    x_edges, y_edges = bin_edges(image.shape[1], nx), bin_edges(image.shape[0], ny)
    values, errors = np.empty((ny, nx)), np.empty((ny, nx))
    statistics.cell_statistics(
        np.ascontiguousarray(image, np.float32),
        np.ascontiguousarray(mask, np.int32),
        np.int32(bitmask(config.ignoredPixelMask)),
        bool(config.isNanSafe),
        x_edges,
        y_edges,
        _STATISTICS[config.statisticsProperty],
        values,
        errors,
    )
    if config.doFilterSuperPixels and np.isfinite(values).any():
        values = np.where(np.isnan(values), np.nanmedian(values), values)
        values = median_filter(values, size=config.superPixelFilterSize, mode="reflect")
    x_centers, y_centers = (0.5 * (e[1:] + e[:-1] - 1).astype(np.float64) for e in (x_edges, y_edges))
    return values, errors, x_centers, y_centers


def _fit_polynomial(
    values: FloatArray,
    errors: FloatArray,
    x: FloatArray,
    y: FloatArray,
    shape: tuple[int, int],
    order: int,
    weighting: bool,
) -> ChebyshevPolynomial:
    """Fit the polynomial to the finite bins, weighted by 1/standard error if wanted."""
    with np.errstate(divide="ignore"):
        weights = 1.0 / errors if weighting else np.ones_like(errors)
    if not (np.isfinite(values) & (errors > 0.0)).any():  # noiseless bins are equally good
        weights = np.ones_like(errors)
    good = np.isfinite(values) & np.isfinite(weights)
    if not good.any():
        raise TooManyMaskedPixelsError(
            "No bin of the background has a finite value and error.", n_bins=values.size
        )
    grid_x, grid_y = np.meshgrid(x, y)
    return fit_chebyshev(
        grid_x[good], grid_y[good], values[good], shape[1], shape[0], order, order, weights=weights[good]
    )


def fit_background(
    image: FloatImage, mask: MaskImage, config: SubtractBackgroundConfig | None = None
) -> BackgroundComponent:
    """Fit a background model to an image.

    Parameters
    ----------
    image : float32, shape (height, width)
        Pixels, counts.
    mask : int32, shape (height, width)
        Bit planes; pixels with a plane of ``config.ignoredPixelMask`` are left out.
    config
        How; the defaults if None.

    Returns
    -------
    component
        Bins, and polynomial or interpolation style.

    Raises
    ------
    TooManyMaskedPixelsError
        If no bin can be measured.
    ValueError
        If there are too few bins for the order and the configuration says not to adapt.
    """
    config = SubtractBackgroundConfig() if config is None else config
    height, width = image.shape
    order = 0
    if config.useApprox:
        nx, ny, order = _order_and_bins((height, width), config)
        style = "CHEBYSHEV"
    else:
        nx, ny, style = _style_and_bins((height, width), config)
    values, errors, x, y = _measure_bins(image, mask, nx, ny, config)
    if not np.isfinite(values).any():
        raise TooManyMaskedPixelsError(
            "Every pixel is masked or not finite, so the background cannot be measured; ignored planes: "
            + ", ".join(config.ignoredPixelMask)
            + ".",
            n_bins=values.size,
        )
    polynomial = None
    if config.useApprox:
        polynomial = _fit_polynomial(values, errors, x, y, (height, width), order, config.weighting)
    _LOG.debug("Background of %d x %d bins, style %s, median %g.", nx, ny, style, np.nanmedian(values))
    return BackgroundComponent(values, errors, x, y, width, height, style, polynomial)


class SubtractBackground:
    """Fit and subtract a background, in place."""

    ConfigClass = SubtractBackgroundConfig

    def __init__(
        self, config: SubtractBackgroundConfig | None = None, *, schema: Schema | None = None
    ) -> None:
        self.config = SubtractBackgroundConfig() if config is None else config

    def run(
        self,
        exposure: Exposure,
        background: BackgroundList | None = None,
        *,
        background_to_photometric_ratio: ChebyshevPolynomial | npt.NDArray[np.float32] | None = None,
        stats: bool = True,
    ) -> SubtractBackgroundResult:
        """Subtract a fitted background from ``exposure.image`` in place.

        Parameters
        ----------
        exposure
            The exposure; its variance is not changed.
        background
            Backgrounds subtracted before; the new component is appended to this list.
        background_to_photometric_ratio : array of shape (height, width) or ChebyshevPolynomial, optional
            Ratio to multiply with while the background is measured, if the configuration wants it.
        stats
            Write mean and variance of the total background to ``exposure.metadata`` as BGMEAN and BGVAR.

        Raises
        ------
        TooManyMaskedPixelsError
            If no pixel can be used.
        ValueError
            If the ratio is missing or unusable, or there are too few bins.
        """
        ratio = self._ratio(exposure, background_to_photometric_ratio)
        source = exposure.image if ratio is None else exposure.image * ratio
        component = fit_background(source, exposure.mask, self.config)
        model = component.image()
        if ratio is None:
            exposure.image -= model
        else:
            exposure.image -= model / ratio
        background = BackgroundList() if background is None else background
        background.append(component)
        if stats:
            total = model if len(background) == 1 else background.image()
            # the mean in double precision, but the deviations only in single
            mean = float(total.mean(dtype=np.float64))
            total -= np.float32(mean)
            exposure.metadata["BGMEAN"] = mean
            exposure.metadata["BGVAR"] = float(np.vdot(total, total)) / total.size
        return SubtractBackgroundResult(background, component)

    def _ratio(self, exposure: Exposure, ratio: object) -> FloatImage | None:
        """Return the ratio as an image, or None if it is not to be applied."""
        if not self.config.doApplyFlatBackgroundRatio:
            return None
        if ratio is None:
            raise ValueError("doApplyFlatBackgroundRatio needs background_to_photometric_ratio.")
        if isinstance(ratio, ChebyshevPolynomial):
            return ratio.image()
        if not isinstance(ratio, np.ndarray) or ratio.shape != exposure.shape:
            raise ValueError(
                "background_to_photometric_ratio must be a ChebyshevPolynomial or an array of the image's "
                f"shape, {exposure.shape}."
            )
        return np.ascontiguousarray(ratio, np.float32)

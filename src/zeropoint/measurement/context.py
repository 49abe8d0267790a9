"""What plugins see while they measure: pixels with neighbors replaced, positions, PSF stamps."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from scipy.interpolate import RectBivariateSpline

from zeropoint.datamodel.catalog import SourceCatalog
from zeropoint.datamodel.exposure import Exposure, FloatImage
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.psf_model import PsfModel, PsfShapes
from zeropoint.errors import InvalidInputError
from zeropoint.kernels.spans import gather_span_pixels

__all__ = ["MeasurementContext", "PsfShapeGrid", "Spans"]

#: ``(span_offsets, span_y, span_x0, span_x1)``, as kernels take them.
Spans = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class PsfShapeGrid:
    """Second moments and kernel images of a PSF model on a coarse grid of an image.

    PSF models vary smoothly, so a cubic spline through nodes at most 256 pixels apart replaces the adaptive
    moments of ten thousand stamps. The nodes depend on the size of the image only.

    Parameters
    ----------
    psf
        PSF model.
    shape
        (height, width) of the image.
    """

    SPACING = 256

    def __init__(self, psf: PsfModel, shape: tuple[int, int]) -> None:
        height, width = shape
        self._x = np.linspace(0.0, max(width - 1, 1), max(4, -(-width // self.SPACING) + 1))
        self._y = np.linspace(0.0, max(height - 1, 1), max(4, -(-height // self.SPACING) + 1))
        self._psf = psf
        gx, gy = (grid.ravel() for grid in np.meshgrid(self._x, self._y))
        shapes = psf.shapes(x=gx, y=gy)
        self.finite = bool(np.isfinite(shapes.xx).all())
        layout = (len(self._y), len(self._x))
        with np.errstate(invalid="ignore"):
            radius = np.asarray(shapes.determinant_radius, np.float64)
        area = 1.0 / np.maximum((self.kernels**2).sum(axis=(1, 2)), 1e-30)
        #: Determinant radius at the nodes, pixels; that of a Gaussian of equal area where moments fail.
        self.node_sigma = np.where(np.isfinite(radius) & (radius > 0), radius, np.sqrt(area / (4 * np.pi)))
        self._splines = [
            RectBivariateSpline(self._y, self._x, np.nan_to_num(values).reshape(layout), kx=3, ky=3)
            for values in (shapes.xx, shapes.yy, shapes.xy)
        ]

    def shapes(self, *, x: np.ndarray, y: np.ndarray) -> PsfShapes:
        """Return interpolated second moments; positions off the image take the value of the nearest edge."""
        if not self.finite:
            return self._psf.shapes(x=x, y=y)
        xc = np.clip(np.nan_to_num(x), self._x[0], self._x[-1])
        yc = np.clip(np.nan_to_num(y), self._y[0], self._y[-1])
        return PsfShapes(*(spline.ev(yc, xc) for spline in self._splines))

    @cached_property
    def kernels(self) -> np.ndarray:
        """Kernel images at the nodes, float64, shape (n_nodes, size, size)."""
        gx, gy = (grid.ravel() for grid in np.meshgrid(self._x, self._y))
        return np.ascontiguousarray(self._psf.kernel_stamps(x=gx, y=gy), np.float64)

    def nearest(self, *, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the index into `kernels` of the node nearest to each position, int64."""
        ix = np.floor(np.clip(np.nan_to_num(x) / self._x[-1], 0.0, 1.0) * (len(self._x) - 1) + 0.5)
        iy = np.floor(np.clip(np.nan_to_num(y) / self._y[-1], 0.0, 1.0) * (len(self._y) - 1) + 0.5)
        return (iy * len(self._x) + ix).astype(np.int64)


class MeasurementContext:
    """Everything that plugins read, for one block of catalogue rows.

    Parameters
    ----------
    exposure
        Exposure being measured; not changed.
    catalog
        Rows to fill; its footprints own spans and peaks.
    noise
        Image with noise under all footprints of the whole catalogue; None measures the image as it is.
    work
        Copy of ``noise`` that kernels may change between `paste_source` and `restore_source`.
    centroid_slot
        Prefix of the centroid columns, or None.
    shape_grid
        PSF shapes shared between blocks.

    Attributes
    ----------
    work, noise : float32, shape (height, width)
        The image with all footprints replaced by noise. Kernels paste one source's pixels into ``work``,
        measure, and restore it from ``noise``, which is never modified. Without noise replacement both are
        the exposure's image, and pasting writes the values that are there.
    spans : tuple of span_offsets (int64), span_y, span_x0, span_x1 (int32)
        Runs of every source.
    pixel_offsets : int64, shape (n + 1,)
    pixels : float32
        Every source's own pixels in span order: deblended ones for children, the image's for others.
    boxes : int64, shape (n, 4)
        Footprint boxes (x0, y0, x1, y1), inclusive; (0, 0, -1, -1) for an empty footprint.
    peak_x, peak_y : float64, shape (n,)
        First peak; NaN where there is none.
    x, y : float64, shape (n,)
        Safe centroids: the centroid slot, or the first peak where that is not finite; the first peak until
        the centroid plugin has run.
    centroid_flagged : bool, shape (n,)
        True where the slot is flagged or was not finite.
    shared : dict
        What plugins computed at the safe centroids for others to use.
    invalid_psf : bool, shape (n,)
        Plugins set it where the PSF could not be evaluated.
    """

    def __init__(
        self,
        exposure: Exposure,
        catalog: SourceCatalog,
        *,
        noise: FloatImage | None,
        work: FloatImage | None = None,
        centroid_slot: str | None = None,
        shape_grid: PsfShapeGrid | None = None,
    ) -> None:
        if catalog.footprints is None:
            raise InvalidInputError("Measurement needs a catalogue with footprints.")
        self.exposure = exposure
        self.catalog = catalog
        self.footprints: FootprintSet = catalog.footprints
        self.replaced = noise is not None
        self.noise = exposure.image if noise is None else noise
        self.work = self.noise if work is None else work
        self._centroid_slot = centroid_slot
        self._shape_grid = shape_grid
        fp = self.footprints
        self.spans: Spans = (fp.span_offsets, fp.span_y, fp.span_x0, fp.span_x1)
        self.boxes = fp.boxes()
        self._check_boxes()
        self._gather_pixels()
        px, py = fp.first_peaks()
        has_peak = fp.n_peaks > 0
        self.peak_x = np.where(has_peak, px, np.nan)
        self.peak_y = np.where(has_peak, py, np.nan)
        self.x, self.y = self.peak_x.copy(), self.peak_y.copy()
        self.centroid_flagged = ~has_peak
        self.invalid_psf = np.zeros(len(catalog), np.bool_)
        self.shared: dict[tuple[Any, ...], Any] = {}

    def __len__(self) -> int:
        return len(self.catalog)

    def _check_boxes(self) -> None:
        height, width = self.exposure.shape
        if len(self.boxes) and (
            self.boxes[:, :2].min() < 0
            or int(self.boxes[:, 2].max()) >= width
            or int(self.boxes[:, 3].max()) >= height
        ):
            raise InvalidInputError(f"A footprint leaves the image of {width} x {height} pixels.")

    def _gather_pixels(self) -> None:
        fp = self.footprints
        areas = fp.areas()
        heavy = fp.is_heavy
        if np.any(heavy & (np.diff(fp.pixel_offsets) != areas)):
            raise InvalidInputError("A heavy footprint holds another number of pixels than its area.")
        self.pixel_offsets = np.zeros(len(fp) + 1, np.int64)
        np.cumsum(areas, out=self.pixel_offsets[1:])
        self.pixels = np.empty(int(self.pixel_offsets[-1]), np.float32)
        use_heavy = heavy if self.replaced else np.zeros(len(fp), np.bool_)
        gather_span_pixels(
            self.exposure.image, *self.spans, use_heavy, fp.pixel_offsets, fp.pixels, self.pixels
        )

    def update_centroids(self) -> None:
        """Take the safe centroids from the centroid slot; the framework calls this after that plugin."""
        if self._centroid_slot is None:
            return
        x, y = self.catalog[self._centroid_slot + "_x"], self.catalog[self._centroid_slot + "_y"]
        good = np.isfinite(x) & np.isfinite(y)
        self.x, self.y = np.where(good, x, self.peak_x), np.where(good, y, self.peak_y)
        self.centroid_flagged = self.catalog[self._centroid_slot + "_flag"] | ~good
        for name in ("psf_stamps", "psf_kernel_shapes"):
            self.__dict__.pop(name, None)
        self.shared.clear()

    @property
    def psf(self) -> PsfModel:
        """The PSF model.

        Raises
        ------
        InvalidInputError
            If the exposure has none.
        """
        if self.exposure.psf is None:
            raise InvalidInputError("This measurement needs a PSF, but the exposure has none.")
        return self.exposure.psf

    def psf_positions(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return positions at which the PSF can be drawn: the average position where they are not finite."""
        ax, ay = self.psf.average_position
        good = np.isfinite(x) & np.isfinite(y)
        return np.where(good, x, ax), np.where(good, y, ay)

    @cached_property
    def psf_stamps(self) -> np.ndarray:
        """Star images of the PSF at the safe centroids, float64, shape (n, size, size).

        The middle pixel of a stamp is ``floor(x + 0.5), floor(y + 0.5)``. Rows without a position hold the
        PSF at its average position. Non-finite stamps mark `invalid_psf`.
        """
        x, y = self.psf_positions(self.x, self.y)
        stamps = np.ascontiguousarray(self.psf.star_stamps(x=x, y=y), np.float64)
        self.invalid_psf |= ~np.isfinite(stamps.sum(axis=(1, 2)))
        return stamps

    @property
    def shape_grid(self) -> PsfShapeGrid:
        """PSF shapes on a coarse grid of this exposure."""
        if self._shape_grid is None:
            self._shape_grid = PsfShapeGrid(self.psf, self.exposure.shape)
        return self._shape_grid

    @cached_property
    def psf_kernel_shapes(self) -> PsfShapes:
        """Adaptive second moments of the PSF kernel images at the safe centroids, interpolated."""
        return self.shape_grid.shapes(x=self.x, y=self.y)

"""Cut the stamps of PSF candidates and mask what does not belong to the star."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import lsst.pex.config as pexConfig
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from zeropoint.datamodel.catalog import SourceCatalog, column, has_column
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.mask_planes import plane_bit
from zeropoint.psf._kernels_candidates import mask_faint_neighbors, mask_neighbors, mask_other_peaks

__all__ = [
    "MakePsfCandidates",
    "MakePsfCandidatesConfig",
    "PsfCandidates",
    "cut_stamps",
    "mask_other_sources",
]

_LOG = logging.getLogger(__name__)

#: Neighbours are grown by this radius before they are masked, pixels.
NEIGHBOR_GROW_PIX = 3


@dataclass(frozen=True)
class PsfCandidates:
    """Stamps of candidate PSF stars, one row each.

    Parameters
    ----------
    image, variance : float32, shape (n, side, side)
        Pixels around the star; the middle one contains its position.
    mask : int32, shape (n, side, side)
        Mask planes, in which INTERPOLATED also marks pixels of other sources and DETECTED only pixels of this
        star.
    x, y : float64, shape (n,)
        Position on the detector, pixels.
    rows : int64, shape (n,)
        Row of each candidate in the catalogue.
    color : float64, shape (n,)
        Colour from the catalogue's ``psf_color_value``; NaN where there is none.
    n_peaks : int64, shape (n,)
        Peaks of each candidate's footprint; by default, and where there are no footprints, 1.
    """

    image: npt.NDArray[np.float32]
    variance: npt.NDArray[np.float32]
    mask: npt.NDArray[np.int32]
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    rows: npt.NDArray[np.int64]
    color: npt.NDArray[np.float64]
    n_peaks: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        if len(self.n_peaks) != len(self.x):
            object.__setattr__(self, "n_peaks", np.ones(len(self.x), np.int64))

    def __len__(self) -> int:
        return len(self.x)

    @property
    def side(self) -> int:
        """Side of the stamps, pixels."""
        return int(self.image.shape[1])

    def bad(self, bits: int) -> npt.NDArray[np.bool_]:
        """Return True where any of the bits is set, shape (n, side, side)."""
        return (self.mask & np.int32(bits)) != 0

    def take(self, index: np.ndarray) -> PsfCandidates:
        """Return the candidates selected by a boolean mask or an integer index."""
        return PsfCandidates(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


class MakePsfCandidatesConfig(pexConfig.Config):
    """Size of the stamps and what is masked in them."""

    kernelSize = pexConfig.Field(
        dtype=int,
        default=27,
        check=lambda value: value > 0 and value % 2 == 1,
        doc="Odd side of the stamps without border, pixels.",
    )
    borderWidth = pexConfig.RangeField(
        dtype=int, default=0, min=0, doc="Pixels added on each side of the stamps."
    )
    doMaskBlends = pexConfig.Field(
        dtype=bool, default=True, doc="Mask pixels of a blended footprint that are nearer to another peak?"
    )
    pixelThreshold = pexConfig.RangeField(
        dtype=float,
        default=0.0,
        min=0.0,
        doc="Mask undetected neighbours above this many standard deviations; 0 does nothing.",
    )


def cut_stamps(image: np.ndarray, x0: np.ndarray, y0: np.ndarray, side: int) -> np.ndarray:
    """Return copies of square stamps with given first pixels; all must lie inside the image.

    Parameters
    ----------
    image : shape (height, width)
        Any type.
    x0, y0 : int, shape (n,)
        First column and row of each stamp.
    side
        Side, pixels.

    Returns
    -------
    stamps : shape (n, side, side)
        Same type as the image.
    """
    if len(x0) == 0 or side > min(image.shape):
        return np.zeros((0, side, side), image.dtype)
    windows = np.lib.stride_tricks.sliding_window_view(image, (side, side))
    return np.ascontiguousarray(windows[y0, x0])


class MakePsfCandidates:
    """Cut and mask the stamps of selected stars.

    Parameters
    ----------
    config
        Settings; None for the defaults.

    Notes
    -----
    Three edits, in this order: pixels of the star's own footprint that are strictly nearer to another of its
    peaks; other connected regions of detected pixels in the stamp, grown by 3 pixels; and, on request, regions
    above a threshold that were not detected. Such pixels get INTERPOLATED and lose DETECTED.
    """

    ConfigClass = MakePsfCandidatesConfig

    def __init__(self, config: MakePsfCandidatesConfig | None = None) -> None:
        self.config = config if config is not None else MakePsfCandidatesConfig()

    def run(
        self, exposure: Exposure, catalog: SourceCatalog, selected: npt.NDArray[np.bool_] | None = None
    ) -> PsfCandidates:
        """Cut the stamps; the catalogue's ``psf_max_value`` column, if any, is filled in place.

        Parameters
        ----------
        exposure
            Image, variance, mask.
        catalog
            Sources with ``slot_Centroid``; footprints are used for blends where present.
        selected : bool, shape (n_sources,)
            Which sources to make candidates of. Default all.

        Returns
        -------
        candidates
            Those whose stamp lies inside the image and has a finite maximum, in catalogue order.
        """
        n = len(catalog)
        rows = np.arange(n) if selected is None else np.flatnonzero(selected)
        x = np.asarray(column(catalog, "slot_Centroid_x"), np.float64)[rows]
        y = np.asarray(column(catalog, "slot_Centroid_y"), np.float64)[rows]
        side = self.config.kernelSize + 2 * self.config.borderWidth
        height, width = exposure.shape
        finite = np.isfinite(x) & np.isfinite(y)
        x0 = np.where(finite, np.floor(np.where(finite, x, 0.0) + 0.5), -side).astype(np.int64) - side // 2
        y0 = np.where(finite, np.floor(np.where(finite, y, 0.0) + 0.5), -side).astype(np.int64) - side // 2
        inside = finite & (x0 >= 0) & (y0 >= 0) & (x0 + side <= width) & (y0 + side <= height)
        if not inside.all():
            _LOG.debug("%d candidates dropped: their stamps leave the image.", int((~inside).sum()))
        rows, x, y, x0, y0 = (a[inside] for a in (rows, x, y, x0, y0))
        image = cut_stamps(exposure.image, x0, y0, side)
        maximum = image.max(axis=(1, 2), initial=-np.inf)
        ok = np.isfinite(maximum)
        rows, x, y, x0, y0, image = (a[ok] for a in (rows, x, y, x0, y0, image))
        if "psf_max_value" in catalog:
            catalog["psf_max_value"][rows] = maximum[ok]
        variance = cut_stamps(exposure.variance, x0, y0, side)
        mask = cut_stamps(exposure.mask, x0, y0, side)
        self._mask_others(mask, image, variance, x, y, x0, y0, rows, catalog.footprints)
        color = np.full(len(rows), np.nan)
        if has_column(catalog, "psf_color_value"):
            color[:] = column(catalog, "psf_color_value")[rows]
        n_peaks = np.ones(len(rows), np.int64)
        if catalog.footprints is not None:
            n_peaks[:] = np.diff(catalog.footprints.peak_offsets)[rows]
        return PsfCandidates(image, variance, mask, x, y, rows.astype(np.int64), color, n_peaks)

    def _mask_others(
        self,
        mask: np.ndarray,
        image: np.ndarray,
        variance: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
        x0: np.ndarray,
        y0: np.ndarray,
        rows: np.ndarray,
        footprints: FootprintSet | None,
    ) -> None:
        """Mark pixels of other sources in the mask stamps, in place."""
        detected, ignore = np.int32(plane_bit("DETECTED")), np.int32(plane_bit("INTERPOLATED"))
        if footprints is not None and self.config.doMaskBlends and len(rows):
            own = footprints.take(rows)
            mask_other_peaks(
                mask, x, y, x0, y0,
                own.span_offsets, own.span_y, own.span_x0, own.span_x1,
                own.peak_offsets, own.peak_x, own.peak_y, detected, ignore,
            )  # fmt: skip
        mask_neighbors(mask, NEIGHBOR_GROW_PIX, detected, ignore)
        if self.config.pixelThreshold > 0:
            mask_faint_neighbors(mask, image, variance, self.config.pixelThreshold, detected, ignore)


def mask_other_sources(
    candidates: PsfCandidates, rows: npt.NDArray[np.int64], footprints: FootprintSet
) -> None:
    """Mark, in place, what is another source's in the stamps of candidates, also where footprints touch.

    Pixels of other footprints that are nearer to their peaks than to the star's own get INTERPOLATED and lose DETECTED,
    and so do regions that this cuts off.  Deblended children need it: each has one peak, and all of a blend are one
    region of detected pixels.

    Parameters
    ----------
    candidates
        Their masks are edited.
    rows : int64, shape (n_candidates,)
        Row of each candidate in ``footprints``.
    footprints
        Footprints of all sources of the image.
    """
    if not len(candidates):
        return
    peak_x, peak_y = footprints.first_peaks()
    known = np.flatnonzero(footprints.n_peaks > 0)
    tree = cKDTree(np.stack([peak_x[known], peak_y[known]], axis=1).astype(np.float64))
    near = tree.query_ball_point(
        np.stack([candidates.x, candidates.y], axis=1), candidates.side, return_sorted=True
    )
    groups = [np.append(row, known[ids][known[ids] != row]) for row, ids in zip(rows, near)]
    ends = np.append(0, np.cumsum([len(group) for group in groups]))
    joined = footprints.take(np.concatenate(groups))
    half = candidates.side // 2
    corner_x, corner_y = (
        np.floor(place + 0.5).astype(np.int64) - half for place in (candidates.x, candidates.y)
    )
    detected, ignore = np.int32(plane_bit("DETECTED")), np.int32(plane_bit("INTERPOLATED"))
    mask_other_peaks(
        candidates.mask, candidates.x, candidates.y, corner_x, corner_y,
        joined.span_offsets[ends], joined.span_y, joined.span_x0, joined.span_x1,
        joined.peak_offsets[ends], joined.peak_x, joined.peak_y, detected, ignore,
    )  # fmt: skip
    mask_neighbors(candidates.mask, NEIGHBOR_GROW_PIX, detected, ignore)

"""The PSF determiner ``pca``: eigen-images of the stars, with factors that are polynomials over the detector."""

from __future__ import annotations

import logging
from dataclasses import replace

import lsst.pex.config as pexConfig
import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.mask_planes import bitmask, plane_bit
from zeropoint.datamodel.psf_model import PixelGridPsf
from zeropoint.errors import PcaNoGoodStarsError, PcaNoStarsError, PcaTooFewGoodStarsError
from zeropoint.psf._kernels_candidates import mask_faint_neighbors, mask_neighbors
from zeropoint.psf.candidates import NEIGHBOR_GROW_PIX, PsfCandidates, cut_stamps
from zeropoint.psf.pca_fit import PcaFit, PcaOptions, fit_pca
from zeropoint.psf.pixel_grid_stars import PixelGridOptions, star_sizes
from zeropoint.psf.registry import (
    BasePsfDeterminerConfig,
    PsfDeterminer,
    PsfDeterminerResult,
    psfDeterminerRegistry,
)
from zeropoint.psf.star_counts import (
    MINIMUM_STARS,
    STARS_PER_TERM,
    STARS_PER_TERM_FINE,
    affordable_order,
    fine_grid_side,
    stars_per_term,
    typical_fwhm,
)
from zeropoint.psf.stars import PsfStars, make_psf_stars

__all__ = ["PcaPsfDeterminer", "PcaPsfDeterminerConfig"]

_LOG = logging.getLogger(__name__)

#: Stars with fewer good pixels than this share, in the middle of their stamps, are not used.
MINIMUM_UNMASKED_FRACTION = 0.5
CORE_SIDE = 25


class PcaPsfDeterminerConfig(BasePsfDeterminerConfig):
    """Settings of the PSF of eigen-images; names as upstream."""

    nonLinearSpatialFit = pexConfig.Field(
        dtype=bool,
        default=False,
        doc="Minimise the total chi-square over the polynomials and all stars' amplitudes together?",
    )
    nEigenComponents = pexConfig.RangeField(
        dtype=int, default=6, min=1, doc="Number of eigen-images; never more than polynomial terms."
    )
    spatialOrder = pexConfig.RangeField(
        dtype=int, default=2, min=0, doc="Degree of the polynomials over the detector."
    )
    sizeCellX = pexConfig.RangeField(
        dtype=int, default=256, min=1, doc="Width of the cells whose brightest stars are used, pixels."
    )
    sizeCellY = pexConfig.RangeField(
        dtype=int, default=256, min=1, doc="Height of the cells whose brightest stars are used, pixels."
    )
    nStarPerCell = pexConfig.RangeField(
        dtype=int, default=3, min=0, doc="Stars of each cell that shape the eigen-images; 0 for all."
    )
    nStarPerCellSpatialFit = pexConfig.RangeField(
        dtype=int, default=5, min=0, doc="Stars of each cell in the spatial fit; 0 for all."
    )
    borderWidth = pexConfig.RangeField(
        dtype=int, default=0, min=0, doc="Pixels ignored on each side of the stamps."
    )
    constantWeight = pexConfig.Field(
        dtype=bool, default=False, doc="Give every star the same weight, whatever its signal-to-noise ratio?"
    )
    nIterForPsf = pexConfig.RangeField(
        dtype=int, default=3, min=1, doc="Rounds of fitting and rejecting stars."
    )
    tolerance = pexConfig.RangeField(
        dtype=float,
        default=1e-2,
        min=0.0,
        doc="The non-linear fit ends when chi-square falls by less than this fraction.",
    )
    lam = pexConfig.RangeField(
        dtype=float, default=0.05, min=0.0, doc="Add this many times the model to the variance of each pixel."
    )
    reducedChi2ForPsfCandidates = pexConfig.RangeField(
        dtype=float,
        default=2.0,
        min=0.0,
        inclusiveMin=False,
        doc="Stars are rejected above this reduced chi-square, relative to what the others of their brightness have.",
    )
    spatialReject = pexConfig.RangeField(
        dtype=float,
        default=3.0,
        min=0.0,
        doc="Stars are rejected whose factor of an eigen-image is this many standard deviations off; 0 for none.",
    )
    pixelThreshold = pexConfig.RangeField(
        dtype=float,
        default=0.0,
        min=0.0,
        doc="Mask undetected neighbours above this many standard deviations; 0 does nothing.",
    )
    doRejectBlends = pexConfig.Field(
        dtype=bool, default=False, doc="Leave out candidates whose footprint has several peaks?"
    )
    doMaskBlends = pexConfig.Field(
        dtype=bool,
        default=True,
        doc="Ignore pixels of a blended footprint that are nearer to another peak? (Marked with the candidates.)",
    )
    zeroWeightMaskBits = pexConfig.ListField(
        dtype=str,
        default=["BAD", "CR", "INTRP", "SAT", "SUSPECT", "NO_DATA"],
        doc="Mask planes whose pixels do not count.",
    )
    maxSNR = pexConfig.RangeField(
        dtype=float,
        default=200.0,
        min=0.0,
        inclusiveMin=False,
        doc="Brighter stars get the weight of this S/N.",
    )
    adaptive_max_snr = pexConfig.Field(
        dtype=bool,
        default=True,
        doc="Raise maxSNR, up to tenfold, if sizes of bright stars do not scatter more than noise?",
    )
    undersampled_fwhm = pexConfig.RangeField(
        dtype=float,
        default=2.2,
        min=0.0,
        doc="If the stars' median FWHM is below this, pixels, half-size model pixels are used, and up to 2.8 pixels "
        "where stars are many; 0 never.",
    )

    def setDefaults(self) -> None:
        """Set the default stamp size."""
        super().setDefaults()
        self.stampSize = 41

    def validate(self) -> None:
        """Check what the fields mean together."""
        super().validate()
        if self.stampSize is not None and self.stampSize - 2 * self.borderWidth < 3:
            message = f"borderWidth ({self.borderWidth}) leaves fewer than 3 pixels of stampSize ({self.stampSize})."
            raise pexConfig.FieldValidationError(PcaPsfDeterminerConfig.borderWidth, self, message)


class PcaPsfDeterminer(PsfDeterminer):
    """Fit eigen-images and their variation over the detector.

    Parameters
    ----------
    config
        Settings; None for the defaults.

    Notes
    -----
    As in the PCA determiner of the LSST Science Pipelines, with these corrections: pixels are compared where they
    were observed (stars are not resampled), masked ones are not filled but left out, centres are fitted, and stars
    count by their signal-to-noise ratio.
    """

    ConfigClass = PcaPsfDeterminerConfig
    config: PcaPsfDeterminerConfig

    def determine_psf(self, exposure: Exposure, candidates: PsfCandidates) -> PsfDeterminerResult:
        """See `PsfDeterminer.determine_psf`.

        Raises
        ------
        PcaNoStarsError
            If there is no candidate.
        PcaNoGoodStarsError
            If all are blended or masked.
        PcaTooFewGoodStarsError
            If too few stars are left before or after the fit.
        """
        if len(candidates) == 0:
            raise PcaNoStarsError("There is no candidate star for the PSF.", num_available_stars=0)
        chosen = self._unblended(candidates)
        chosen = chosen[self.choose(candidates.take(chosen), exposure.shape)]
        stars = self._stars(exposure, candidates.take(chosen))
        if len(stars) == 0:
            raise PcaNoGoodStarsError(
                f"None of {len(chosen)} candidate stars has half of its pixels unmasked.",
                num_available_stars=len(candidates),
                num_blended_stars=len(candidates) - len(chosen),
            )
        options = self._options(stars)
        side = stars.side
        if options.grid.scale < 1:  # beyond the model's grid are only neighbours
            stars = _cut(stars, 2 * int(options.grid.grid // 2 * options.grid.scale) + 1)
        order, reason = self.config.spatialOrder, ""
        while True:
            lowered = affordable_order(len(stars), order, stars_per_term(options.grid.scale))
            if lowered < order:
                order, reason = lowered, f"{len(stars)} stars for order {order}"
            self._require(len(stars), order, len(candidates))
            fit = fit_pca(stars, replace(options, grid=replace(options.grid, order=order)))
            n_good = int(fit.used.sum())
            if affordable_order(n_good, order, STARS_PER_TERM) == order:
                break
            reason, order = f"order {order}: {n_good} of {len(stars)} stars fit", order - 1
        self._require(n_good, order, len(candidates))
        if reason:
            _LOG.warning(
                "Spatial order of the PSF lowered from %d to %d (%s).",
                self.config.spatialOrder,
                order,
                reason,
            )
        used = np.zeros(len(candidates), np.bool_)
        used[chosen[stars.index[fit.used]]] = True
        return PsfDeterminerResult(
            psf=_drawn_on(fit.psf, side),
            used=used,
            reduced_chi2=fit.chi2 / max(fit.dof, 1),
            metadata=self._metadata(fit, len(candidates), order, reason),
            star_x=stars.x[fit.used],
            star_y=stars.y[fit.used],
        )

    def _metadata(
        self, fit: PcaFit, n_candidates: int, order: int, reason: str
    ) -> dict[str, int | float | str | bool]:
        ax, ay = fit.psf.average_position
        return {
            "spatialFitChi2": fit.chi2,
            "numAvailStars": n_candidates,
            "numGoodStars": int(fit.used.sum()),
            "avgX": ax,
            "avgY": ay,
            "psfSpatialOrder": order,
            "psfSpatialOrderWanted": self.config.spatialOrder,
            "psfOrderReason": reason,
            "psfSamplingSize": fit.psf.scale,
            "psfEigenComponents": len(fit.images),
            "psfRejectedChi2": fit.n_rejected_chi2,
            "psfRejectedSpatial": fit.n_rejected_spatial,
            "psfMaxSnr": fit.max_snr,
        }

    def _unblended(self, candidates: PsfCandidates) -> npt.NDArray[np.int64]:
        """Return the candidates to choose from."""
        if not self.config.doRejectBlends:
            return np.arange(len(candidates))
        single = np.flatnonzero(candidates.n_peaks <= 1)
        if len(single) == 0:
            raise PcaNoGoodStarsError(
                f"All {len(candidates)} candidate stars are blended; set doRejectBlends to False.",
                num_available_stars=len(candidates),
                num_blended_stars=len(candidates),
            )
        return single

    def _stars(self, exposure: Exposure, candidates: PsfCandidates) -> PsfStars:
        """Return weighted stamps of the configured size."""
        config = self.config
        side = min(config.stampSize or candidates.side, candidates.side) - 2 * config.borderWidth
        if side < 3:
            raise pexConfig.FieldValidationError(
                PcaPsfDeterminerConfig.borderWidth,
                config,
                f"borderWidth ({config.borderWidth}) leaves fewer than 3 pixels of stamps of {candidates.side}.",
            )
        if config.stampSize is not None and config.stampSize > candidates.side:
            _LOG.debug(
                "stampSize %d is limited to the candidates' %d pixels (makePsfCandidates.kernelSize).",
                config.stampSize, candidates.side,
            )  # fmt: skip
        if not config.doMaskBlends or config.pixelThreshold > 0:
            candidates = replace(candidates, mask=self._masks(exposure, candidates))
        stars = make_psf_stars(
            candidates,
            side=side,
            bad_bits=bitmask(config.zeroWeightMaskBits),
            minimum_unmasked_fraction=0.0,
            max_snr=config.maxSNR,
        )
        core = _middle(stars.weight, CORE_SIDE) > 0
        stars = stars.take(np.flatnonzero(core.mean(axis=(1, 2)) >= MINIMUM_UNMASKED_FRACTION))
        return _cut(stars, _observed_side(stars.weight > 0))

    def _masks(self, exposure: Exposure, candidates: PsfCandidates) -> npt.NDArray[np.int32]:
        """Return the candidates' masks with the neighbours that the config asks for."""
        detected, ignore = np.int32(plane_bit("DETECTED")), np.int32(plane_bit("INTERPOLATED"))
        mask = candidates.mask.copy()
        if not self.config.doMaskBlends:
            half = candidates.side // 2
            x0 = np.floor(candidates.x + 0.5).astype(np.int64) - half
            y0 = np.floor(candidates.y + 0.5).astype(np.int64) - half
            mask = cut_stamps(exposure.mask, x0, y0, candidates.side)
            mask_neighbors(mask, NEIGHBOR_GROW_PIX, detected, ignore)
        if self.config.pixelThreshold > 0:
            mask_faint_neighbors(
                mask, candidates.image, candidates.variance, self.config.pixelThreshold, detected, ignore
            )
        return mask

    def _options(self, stars: PsfStars) -> PcaOptions:
        """Return the fit's options, but for the spatial order."""
        config = self.config
        scale, grid = self._sampling(stars)
        # polynomials are centred on the stars, so that the constant term is a profile that was seen
        low_x, high_x, low_y, high_y = stars.x.min(), stars.x.max(), stars.y.min(), stars.y.max()
        return PcaOptions(
            grid=PixelGridOptions(
                grid=grid,
                scale=scale,
                max_snr=config.maxSNR,
                adaptive_max_snr=config.adaptive_max_snr,
                x_ref=float(0.5 * (low_x + high_x)),
                y_ref=float(0.5 * (low_y + high_y)),
                norm=float(max(0.5 * (high_x - low_x), 0.5 * (high_y - low_y), 1.0)),
            ),
            n_components=config.nEigenComponents,
            n_rounds=config.nIterForPsf,
            cell=(config.sizeCellX, config.sizeCellY),
            n_star_per_cell=config.nStarPerCell,
            n_star_per_cell_spatial_fit=config.nStarPerCellSpatialFit,
            constant_weight=config.constantWeight,
            nonlinear=config.nonLinearSpatialFit,
            tolerance=config.tolerance,
            lam=config.lam,
            reduced_chi2_max=config.reducedChi2ForPsfCandidates,
            spatial_reject=config.spatialReject,
        )

    def _sampling(self, stars: PsfStars) -> tuple[float, int]:
        """Return the model pixel in detector pixels, and the side of the grid."""
        order, limit = self.config.spatialOrder, self.config.undersampled_fwhm
        many = affordable_order(len(stars), order, STARS_PER_TERM_FINE) == order
        side = fine_grid_side(typical_fwhm(star_sizes(stars)), limit, many=many, stamp_side=stars.side)
        return (1.0, stars.side) if side is None else (0.5, side)

    @staticmethod
    def _require(n_stars: int, order: int, n_available: int) -> None:
        if n_stars < MINIMUM_STARS:
            raise PcaTooFewGoodStarsError(
                f"{n_stars} of {n_available} stars are too few for a PSF of eigen-images, which takes at least "
                f"{MINIMUM_STARS}; select more stars.",
                num_available_stars=n_available,
                num_good_stars=n_stars,
                minimum_stars=MINIMUM_STARS,
                order=order,
            )


def _middle(stamps: npt.NDArray[np.float64], side: int) -> npt.NDArray[np.float64]:
    """Return the middle of stamps, at most of a given odd side."""
    edge = max(0, (stamps.shape[1] - side) // 2)
    window = slice(edge, stamps.shape[1] - edge)
    return np.ascontiguousarray(stamps[:, window, window])


def _cut(stars: PsfStars, side: int) -> PsfStars:
    """Return the stars with the middle of their stamps, at most of a given odd side."""
    return replace(stars, image=_middle(stars.image, side), weight=_middle(stars.weight, side))


def _drawn_on(psf: PixelGridPsf, side: int) -> PixelGridPsf:
    """Return the same model with another side of its stamps."""
    return PixelGridPsf(
        psf.coefficients, psf.exponents, x_ref=psf.x_ref, y_ref=psf.y_ref, norm=psf.norm, size=side, scale=psf.scale,
        lanczos=psf.lanczos, average_position=psf.average_position,
    )  # fmt: skip


def _observed_side(good: npt.NDArray[np.bool_]) -> int:
    """Return the largest odd side on whose outermost pixels at least half of the values are good.

    Where hardly any star has good pixels there is nothing to model.
    """
    side = good.shape[1]
    share = good.mean(axis=0) if len(good) else np.ones(good.shape[1:])
    while side > 3:
        frame = np.concatenate([share[0], share[-1], share[1:-1, 0], share[1:-1, -1]])
        if frame.mean() >= MINIMUM_UNMASKED_FRACTION:
            break
        share, side = share[1:-1, 1:-1], side - 2
    return side


psfDeterminerRegistry.register("pca", PcaPsfDeterminer)

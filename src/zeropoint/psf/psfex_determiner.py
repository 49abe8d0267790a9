"""The PSF determiner ``psfex``: PSFEx's model and schedule, on a grid whose step follows from the stars' size."""

from __future__ import annotations

import logging
import math
import re

import lsst.pex.config as pexConfig
import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.catalog import SourceCatalog, column, has_column
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.datamodel.psf_model import PixelGridPsf
from zeropoint.errors import (
    InvalidInputError,
    PsfexNoGoodStarsError,
    PsfexNoStarsError,
    PsfexTooFewGoodStarsError,
)
from zeropoint.psf.candidates import PsfCandidates
from zeropoint.psf.pixel_grid_export import PositionFrame, export_pixel_grid, triangular_exponents
from zeropoint.psf.pixel_grid_stars import star_sizes
from zeropoint.psf.psfex_fit import PsfexFit, PsfexOptions, fit_psfex
from zeropoint.psf.registry import (
    BasePsfDeterminerConfig,
    PsfDeterminer,
    PsfDeterminerResult,
    psfDeterminerRegistry,
)
from zeropoint.psf.sanity import FWHM_PER_SIGMA, why_insane
from zeropoint.psf.star_counts import MINIMUM_STARS, STARS_PER_TERM, affordable_order
from zeropoint.psf.stars import PsfStars, make_psf_stars

__all__ = ["PsfexPsfDeterminer", "PsfexPsfDeterminerConfig"]

_LOG = logging.getLogger(__name__)

#: Automatic model pixels, in units of the FWHM: finer ones hold only noise, coarser ones lose part of the PSF.
STEP_PER_FWHM = 0.3
#: Order of the interpolant between model pixels.
LANCZOS = 11
#: Stars with a smaller share of good pixels within this radius, pixels, are left out.
MINIMUM_UNMASKED_FRACTION = 0.5
CORE_RADIUS = 5.0
#: The model reaches so many FWHM from the centre, if stamps do; beyond there is nothing but noise and neighbours.
FIT_RADIUS = 8.0

_FLUX_FIELD = re.compile(r".*_(?:flux|\w*Flux)$")


def valid_flux_field(value: str) -> bool:
    """Say whether a string can name an instrumental flux column."""
    return bool(_FLUX_FIELD.match(value))


class PsfexPsfDeterminerConfig(BasePsfDeterminerConfig):
    """Settings of the PSFEx-like PSF; names as upstream."""

    spatialOrder = pexConfig.RangeField(
        dtype=int, default=2, min=0, doc="Degree of the polynomial over the detector."
    )
    psfexBasis = pexConfig.ChoiceField(
        dtype=str,
        default="PIXEL_AUTO",
        allowed={
            "PIXEL_AUTO": "Model pixels of 0.3 FWHM of the stars, at most a detector pixel.",
            "PIXEL": "Model pixels of samplingSize.",
        },
        doc="How large model pixels are.",
    )
    samplingSize = pexConfig.RangeField(
        dtype=float,
        default=0.5,
        min=0.1,
        max=2.0,
        doc="Model pixel in detector pixels, with psfexBasis='PIXEL'.",
    )
    badMaskBits = pexConfig.ListField(
        dtype=str,
        default=["BAD", "CR", "INTRP", "SAT", "SUSPECT", "NO_DATA"],
        doc="Mask planes whose pixels are not used; new or older names.",
    )
    recentroid = pexConfig.Field(
        dtype=bool, default=False, doc="Fit the centre of each star, and keep the model centred?"
    )
    photometricFluxField = pexConfig.Field(
        dtype=str,
        default="base_CircularApertureFlux_9_0_instFlux",
        check=valid_flux_field,
        doc="Flux that must be known and not negative for a star to be used.",
    )
    rejectFlaggedCentroids = pexConfig.Field(
        dtype=bool, default=True, doc="Leave out stars whose centroid or photometricFluxField is flagged?"
    )
    adaptive_accuracy = pexConfig.Field(
        dtype=bool,
        default=True,
        doc="Let the last fit assume the model error that bright stars show, instead of 1 %?",
    )
    sizeCellX = pexConfig.RangeField(dtype=int, default=256, min=10, doc="No effect; for files that set it.")
    sizeCellY = pexConfig.RangeField(dtype=int, default=256, min=10, doc="No effect; for files that set it.")
    tolerance = pexConfig.Field(dtype=float, default=1e-2, doc="No effect; for files that set it.")
    lam = pexConfig.Field(dtype=float, default=0.05, doc="No effect; for files that set it.")
    reducedChi2ForPsfCandidates = pexConfig.Field(
        dtype=float, default=2.0, doc="No effect; for files that set it."
    )
    spatialReject = pexConfig.Field(dtype=float, default=3.0, doc="No effect; for files that set it.")

    def setDefaults(self) -> None:
        """Set the default stamp size."""
        super().setDefaults()
        self.stampSize = 41


class PsfexPsfDeterminer(PsfDeterminer):
    """Fit an oversampled pixel grid whose pixels are polynomials of position, with PSFEx's schedule of rejection.

    Parameters
    ----------
    config
        Settings; None for the defaults.

    Notes
    -----
    The spatial order falls, one by one, while there are fewer than 3 stars a term, and again if the fitted PSF is not
    sane everywhere on the detector (`why_insane`); the metadata says so. From fewer than 3 stars there is no PSF.
    """

    ConfigClass = PsfexPsfDeterminerConfig
    config: PsfexPsfDeterminerConfig

    @property
    def candidate_side(self) -> int:
        """See `PsfDeterminer.candidate_side`."""
        return self.config.stampSize or 0

    def screen(self, catalog: SourceCatalog, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """See `PsfDeterminer.screen`.

        Raises
        ------
        InvalidInputError
            If the catalogue lacks ``photometricFluxField``.
        PsfexNoGoodStarsError
            If there are candidates, and none is good.
        """
        name = self.config.photometricFluxField
        if not has_column(catalog, name):
            raise InvalidInputError(
                f'psfDeterminer["psfex"].photometricFluxField: the catalogue has no column {name!r}; name one that is '
                f"measured, such as {_fluxes(catalog)}."
            )
        flux = np.asarray(column(catalog, name), np.float64)[rows]
        keep = np.isfinite(flux) & (flux >= 0)
        if self.config.rejectFlaggedCentroids:
            for flag in ("slot_Centroid_flag", name.removesuffix("_instFlux") + "_flag"):
                if has_column(catalog, flag):
                    keep &= ~np.asarray(column(catalog, flag), np.bool_)[rows]
        if len(rows) and not keep.any():
            raise PsfexNoGoodStarsError(
                f"None of {len(rows)} PSF candidates has a {name} that is known, positive and not flagged.",
                num_available_stars=len(rows),
            )
        return keep

    def determine_psf(self, exposure: Exposure, candidates: PsfCandidates) -> PsfDeterminerResult:
        """See `PsfDeterminer.determine_psf`.

        Raises
        ------
        PsfexNoStarsError
            If there is no candidate.
        PsfexNoGoodStarsError
            If no candidate has enough good pixels and light.
        PsfexTooFewGoodStarsError
            If too few stars are left before or after the fit.
        """
        if len(candidates) == 0:
            raise PsfexNoStarsError("There are no PSF candidates; select more stars.")
        chosen = self.choose(candidates, exposure.shape)
        size = min(self.config.stampSize or candidates.side, candidates.side)
        stars = self._stars(candidates.take(chosen), size)
        sizes = star_sizes(stars)
        if len(stars) == 0 or not np.isfinite(sizes).any():
            raise PsfexNoGoodStarsError(
                f"None of {len(candidates)} PSF candidates has enough good pixels and light.",
                num_available_stars=len(candidates),
            )
        fwhm = FWHM_PER_SIGMA * float(np.nanmedian(sizes))
        side = min(size, 2 * math.ceil(FIT_RADIUS * fwhm) + 1)
        if side < size:
            stars = self._stars(candidates.take(chosen), side)
        wanted = self.config.spatialOrder
        psf, fit, order, reason = self._fit_sane(stars, len(candidates), fwhm, exposure.shape)
        psf.size = size
        if reason:
            _LOG.warning("Spatial order of the PSF lowered from %d to %d (%s).", wanted, order, reason)
        used = np.zeros(len(candidates), np.bool_)
        used[chosen[stars.index[fit.used]]] = True
        ax, ay = psf.average_position
        return PsfDeterminerResult(
            psf=psf,
            used=used,
            reduced_chi2=fit.chi2 / max(fit.dof, 1),
            metadata={
                "spatialFitChi2": fit.chi2,
                "numAvailStars": len(candidates),
                "numGoodStars": int(fit.used.sum()),
                "avgX": ax,
                "avgY": ay,
                "psfSpatialOrder": order,
                "psfSpatialOrderWanted": wanted,
                "psfOrderReason": reason,
                "psfSamplingSize": psf.scale,
                "psfModelAccuracy": fit.accuracy,
            },
            star_x=stars.x[fit.used],
            star_y=stars.y[fit.used],
        )

    def _stars(self, candidates: PsfCandidates, side: int) -> PsfStars:
        stars = make_psf_stars(
            candidates,
            side=side,
            bad_bits=bitmask(self.config.badMaskBits),
            minimum_unmasked_fraction=0.0,
            max_snr=np.inf,
        )
        # wings may be masked: in a crowded field they often are
        r = np.arange(stars.side) - stars.side // 2
        core = r[:, None] ** 2 + r**2 <= CORE_RADIUS**2
        share = (stars.weight[:, core] > 0).mean(axis=1)
        return stars.take(np.flatnonzero(share >= MINIMUM_UNMASKED_FRACTION))

    def _fit_sane(
        self, stars: PsfStars, n_available: int, fwhm: float, shape: tuple[int, int]
    ) -> tuple[PixelGridPsf, PsfexFit, int, str]:
        """Return a PSF of the highest order that the stars allow, its fit, the order, and why it was lowered."""
        step, sizes = self._step(fwhm), star_sizes(stars)
        order, reason = self.config.spatialOrder, ""
        while True:
            lowered = affordable_order(len(stars), order, STARS_PER_TERM)
            if lowered < order:
                order, reason = lowered, f"{len(stars)} stars for order {order}"
            self._require(len(stars), n_available)
            psf, fit = self._fit(stars, fwhm, order, step, shape)
            n_good = int(fit.used.sum())
            if order > 0 and affordable_order(n_good, order, STARS_PER_TERM) < order:
                order, reason = order - 1, f"order {order}: {n_good} of {len(stars)} stars fit"
                continue
            self._require(n_good, n_available)
            trouble = why_insane(psf, shape, sizes[fit.used])
            if not trouble or order == 0:
                return psf, fit, order, reason
            order, reason = order - 1, f"order {order}: {trouble}"

    def _step(self, fwhm: float) -> float:
        if self.config.psfexBasis == "PIXEL":
            return self.config.samplingSize
        return min(1.0, STEP_PER_FWHM * fwhm)

    def _require(self, n_good: int, n_available: int) -> None:
        if n_good < MINIMUM_STARS:
            raise PsfexTooFewGoodStarsError(
                f"{n_good} good stars of {n_available} are too few for a PSF; {MINIMUM_STARS} are needed. Select more "
                "stars.",
                num_available_stars=n_available,
                num_good_stars=n_good,
                poly_ndim_initial=2 if self.config.spatialOrder > 0 else 0,
                poly_ndim_final=0,
            )

    def _fit(
        self, stars: PsfStars, fwhm: float, order: int, step: float, shape: tuple[int, int]
    ) -> tuple[PixelGridPsf, PsfexFit]:
        # of the whole detector, so that what is expected of the variation holds where there are no stars, too
        half_x, half_y = 0.5 * (shape[1] - 1), 0.5 * (shape[0] - 1)
        frame = PositionFrame(x_ref=half_x, y_ref=half_y, x_scale=max(half_x, 1.0), y_scale=max(half_y, 1.0))
        grid = 2 * int(0.5 * stars.side / step) + 1
        options = PsfexOptions(
            order=order,
            grid=grid,
            scale=step,
            lanczos=min(LANCZOS, grid // 2),
            frame=frame,
            fwhm=fwhm,
            recentroid=self.config.recentroid,
            adaptive_accuracy=self.config.adaptive_accuracy,
        )
        fit = fit_psfex(stars, options)
        rows = fit.used if fit.used.any() else np.ones(len(stars), np.bool_)
        psf = export_pixel_grid(
            fit.grids,
            triangular_exponents(order),
            frame,
            size=stars.side,
            scale=step,
            lanczos=options.lanczos,
            average_position=(float(stars.x[rows].mean()), float(stars.y[rows].mean())),
        )
        return psf, fit


def _fluxes(catalog: SourceCatalog) -> str:
    """Return the aperture fluxes of a catalogue, for a message."""
    names = [name for name in catalog.colnames if name.endswith("_instFlux") and "Aperture" in name]
    return ", ".join(names[:5]) or "base_PsfFlux_instFlux"


psfDeterminerRegistry.register("psfex", PsfexPsfDeterminer)

"""The PSF determiner ``piff``: a pixel grid that varies as a polynomial over the detector."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass

import lsst.pex.config as pexConfig
import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.datamodel.psf_model import PsfModel
from zeropoint.errors import PiffTooFewGoodStarsError, PsfFitError
from zeropoint.psf.candidates import PsfCandidates
from zeropoint.psf.piff_backend import fit_with_piff
from zeropoint.psf.piff_io import PiffPsf, from_piff, is_convertible
from zeropoint.psf.pixel_grid_fit import PixelGridOptions, fit_pixel_grid
from zeropoint.psf.pixel_grid_stars import star_sizes
from zeropoint.psf.pixel_projection import project_to_pixels
from zeropoint.psf.registry import (
    BasePsfDeterminerConfig,
    PsfDeterminer,
    PsfDeterminerResult,
    psfDeterminerRegistry,
)
from zeropoint.psf.sanity import why_insane
from zeropoint.psf.star_counts import (
    MINIMUM_STARS,
    STARS_PER_TERM,
    STARS_PER_TERM_FINE,
    affordable_order,
    fine_grid_side,
    spatial_terms,
    stars_per_term,
    typical_fwhm,
)
from zeropoint.psf.stars import PsfStars, make_psf_stars

__all__ = ["PiffPsfDeterminer", "PiffPsfDeterminerConfig"]

_LOG = logging.getLogger(__name__)

_LANCZOS = re.compile(r"^(?:galsim\.)?Lanczos\((\d+)\)$")
#: Class names as upstream; Piff wants instances, see `piff_config`.
_GALSIM = re.compile(r"^galsim\.(?:Cubic|Delta|Linear|Nearest|Quintic|SincInterpolant)(?:\(.*\))?$")

#: A PSF that images cannot store is stored as a pixel grid of a degree higher by this, if the star images then differ
#: by at most this fraction of their peak.
PROJECTION_DEGREES = 2
PROJECTION_LIMIT = 0.02


def valid_interpolant(value: str) -> bool:
    """Say whether a string names an interpolant that the determiner accepts."""
    return bool(_LANCZOS.match(value) or _GALSIM.match(value))


class PiffPsfDeterminerConfig(BasePsfDeterminerConfig):
    """Settings of the pixel-grid PSF; names as upstream, and a choice of solver."""

    solver = pexConfig.ChoiceField(
        dtype=str,
        default="native",
        allowed={
            "native": "The conjugate-gradient solver of this package; pixel coordinates, Lanczos interpolants.",
            "piff": "Piff itself: slower by far, with every option.",
        },
        doc="Who fits the model.",
    )
    spatialOrder = pexConfig.RangeField(
        dtype=int, default=2, min=0, doc="Degree of the polynomial over the detector."
    )
    spatialOrderPerBand = pexConfig.DictField(
        keytype=str, itemtype=int, default={}, doc="Degree for some bands, instead of spatialOrder."
    )
    piffBasisPolynomialSolver = pexConfig.ChoiceField(
        dtype=str,
        default="scipy",
        allowed={name: f"Piff's {name} solver." for name in ("scipy", "cpp", "jax", "qr")},
        doc="How Piff solves for the coefficients (solver='piff' only).",
    )
    piffPixelGridFitCenter = pexConfig.Field(
        dtype=bool, default=True, doc="Fit the centre of each star, and keep the model centred?"
    )
    samplingSize = pexConfig.RangeField(
        dtype=float, default=1.0, min=0.0, inclusiveMin=False, doc="Model pixel in detector pixels."
    )
    undersampled_fwhm = pexConfig.RangeField(
        dtype=float,
        default=2.2,
        min=0.0,
        doc="If the stars' median FWHM is below this, pixels, and samplingSize is 1, half-size model pixels are used "
        "(native solver), and also up to 2.8 pixels where stars are many; 0 never.",
    )
    modelSize = pexConfig.RangeField(
        dtype=int, default=25, min=3, doc="Side of the grid of model pixels; odd recommended."
    )
    outlierNSigma = pexConfig.RangeField(
        dtype=float, default=4.0, min=0.0, doc="Stars are dropped beyond this many standard deviations."
    )
    outlierMaxRemove = pexConfig.RangeField(
        dtype=float,
        default=0.05,
        min=0.0,
        doc="At most this fraction (or number) is dropped in one iteration.",
    )
    maxSNR = pexConfig.RangeField(
        dtype=float, default=200.0, min=0.0, doc="Weights of brighter stars are scaled down to this S/N."
    )
    adaptive_max_snr = pexConfig.Field(
        dtype=bool,
        default=True,
        doc="Raise maxSNR, up to tenfold, if sizes of bright stars do not scatter more than noise (native solver)?",
    )
    photon_noise_weights = pexConfig.Field(
        dtype=bool,
        default=True,
        doc="Let the photon noise of the model (not of the data) enter the weights (native solver)?",
    )
    flat_weights_fwhm = pexConfig.RangeField(
        dtype=float,
        default=2.6,
        min=0.0,
        doc="If the stars' median FWHM is below this, pixels, and model pixels are whole ones, photon_noise_weights is "
        "ignored: whole pixels cannot follow the core, and the fit must not sacrifice it; 0 never.",
    )
    core_normalization = pexConfig.Field(
        dtype=bool,
        default=True,
        doc="Keep the amplitude of the model's core, not its sum, constant over the detector (native solver)? What is "
        "drawn is divided by its sum; a polynomial then follows changes of size more closely.",
    )
    prior_strength = pexConfig.RangeField(
        dtype=float,
        default=1.0,
        min=0.0,
        doc="How strongly model pixels that the stars hardly constrain are drawn to a round profile that does not vary "
        "(native solver); 0 not at all.",
    )
    zeroWeightMaskBits = pexConfig.ListField(
        dtype=str,
        default=["BAD", "CR", "INTRP", "SAT", "SUSPECT", "NO_DATA"],
        doc="Mask planes whose pixels are not used; new or older names.",
    )
    minimumUnmaskedFraction = pexConfig.RangeField(
        dtype=float,
        default=0.5,
        min=0.0,
        max=1.0,
        inclusiveMax=True,
        doc="Stars with a smaller share of good pixels are left out.",
    )
    useColor = pexConfig.Field(
        dtype=bool,
        default=False,
        doc="Let the model depend on colour (solver='piff' only)? Images hold it at the stars' mean colour.",
    )
    color = pexConfig.DictField(
        keytype=str, itemtype=str, default={}, doc="Colour for each band, such as {'i': 'g-i'}."
    )
    colorOrder = pexConfig.RangeField(dtype=int, default=1, min=0, doc="Degree of the polynomial in colour.")
    interpolant = pexConfig.Field(
        dtype=str,
        default="Lanczos(11)",
        check=valid_interpolant,
        doc="Interpolant between model pixels: Lanczos(N), or a GalSim interpolant with solver='piff'.",
    )
    zerothOrderInterpNotEnoughStars = pexConfig.Field(
        dtype=bool, default=False, doc="Accept a constant PSF from even one or two stars?"
    )
    debugStarData = pexConfig.Field(
        dtype=bool, default=False, doc="Keep star stamps in Piff's result (solver='piff' only)?"
    )
    useCoordinates = pexConfig.ChoiceField(
        dtype=str,
        default="pixel",
        allowed={
            "pixel": "The model is defined in pixels.",
            "field": "In a flat tangent plane, arcsec (solver='piff' only; stored in pixels).",
            "sky": "On the sky (solver='piff' only; stored in pixels).",
        },
        doc="Coordinates of the model.",
    )
    piffMaxIter = pexConfig.RangeField(dtype=int, default=15, min=1, doc="Iterations of the outer loop.")
    piffLoggingLevel = pexConfig.RangeField(
        dtype=int,
        default=0,
        min=0,
        max=3,
        inclusiveMax=True,
        doc="Piff's logging: 0 critical, 1 warning, 2 info, 3 debug.",
    )
    piffPsfConfigYaml = pexConfig.Field(
        dtype=str,
        default=None,
        optional=True,
        doc="Piff's whole PSF configuration as YAML; overrides the fields above (solver='piff' only).",
    )

    def setDefaults(self) -> None:
        """Set the default stamp size."""
        super().setDefaults()
        self.stampSize = 25

    def validate(self) -> None:
        """Check that the fields agree with each other."""
        super().validate()
        extent = (
            self.modelSize * self.samplingSize * (math.sqrt(2.0) if self.useCoordinates == "sky" else 1.0)
        )
        if self.stampSize is not None and self.stampSize < int(extent):
            message = f"stampSize must be at least the model's extent, {int(extent)} pixels."
            raise pexConfig.FieldValidationError(PiffPsfDeterminerConfig.stampSize, self, message)
        if self.solver == "native":
            needs_piff = {
                "useColor": self.useColor,
                "useCoordinates": self.useCoordinates != "pixel",
                "piffPsfConfigYaml": bool(self.piffPsfConfigYaml),
                "interpolant": _LANCZOS.match(self.interpolant) is None,
            }
            for name, wanted in needs_piff.items():
                if wanted:
                    message = f"{name}={getattr(self, name)!r} needs solver='piff'."
                    raise pexConfig.FieldValidationError(
                        getattr(PiffPsfDeterminerConfig, name), self, message
                    )


@dataclass(frozen=True)
class _Fit:
    """What both solvers give."""

    psf: PsfModel
    used: npt.NDArray[np.bool_]
    reduced_chi2: float
    chi2: float
    details: dict[str, int | float | str | bool]


class PiffPsfDeterminer(PsfDeterminer):
    """Fit a pixel grid whose pixels are polynomials of position.

    Parameters
    ----------
    config
        Settings; None for the defaults.

    Notes
    -----
    The spatial order falls, one by one, while there are fewer than 3 stars a term (12 where model pixels are smaller
    than the detector's), and again if the fitted PSF is not sane everywhere on the detector (`why_insane`); the
    metadata says so. From fewer than 3 stars there is no PSF.
    """

    ConfigClass = PiffPsfDeterminerConfig
    config: PiffPsfDeterminerConfig

    def determine_psf(self, exposure: Exposure, candidates: PsfCandidates) -> PsfDeterminerResult:
        """See `PsfDeterminer.determine_psf`.

        Raises
        ------
        PiffTooFewGoodStarsError
            If too few stars are left before or after the fit.
        """
        chosen = self.choose(candidates, exposure.shape)
        stars = self._stars(candidates.take(chosen))
        wanted = self.config.spatialOrderPerBand.get(exposure.visit_info.band, self.config.spatialOrder)
        sizes = star_sizes(stars)
        fwhm = typical_fwhm(sizes)
        scale, grid = self._sampling(stars, fwhm, wanted)
        per_term = stars_per_term(scale)
        order = wanted
        reason = ""
        flat = self._flat_weights(fwhm, scale)
        while True:
            lowered = self._affordable(len(stars), order, per_term)
            if lowered < order:
                reason = f"{len(stars)} stars for order {order}"
                order = lowered
            self._require(len(stars), order)
            fit = self._fit(stars, candidates.color[chosen], exposure, order, scale, grid, flat)
            n_good = int(fit.used.sum())
            if self._affordable(n_good, order, STARS_PER_TERM) < order:
                reason, order = f"order {order}: {n_good} of {len(stars)} stars fit", order - 1
                continue
            self._require(n_good, order)
            trouble = why_insane(fit.psf, exposure.shape, sizes[fit.used])
            if not trouble or order == 0:
                break
            reason, order = f"order {order}: {trouble}", order - 1
        if reason:
            _LOG.warning("Spatial order of the PSF lowered from %d to %d (%s).", wanted, order, reason)
        used = np.zeros(len(candidates), np.bool_)
        used[chosen[stars.index[fit.used]]] = True
        ax, ay = fit.psf.average_position
        return PsfDeterminerResult(
            psf=fit.psf,
            used=used,
            reduced_chi2=fit.reduced_chi2,
            metadata={
                "spatialFitChi2": fit.chi2,
                "numAvailStars": len(candidates),
                "numGoodStars": n_good,
                "avgX": ax,
                "avgY": ay,
                "psfSpatialOrder": order,
                "psfSpatialOrderWanted": wanted,
                "psfOrderReason": reason,
                "psfSamplingSize": scale,
                "psfFlatWeights": flat,
                **fit.details,
            },
            star_x=stars.x[fit.used],
            star_y=stars.y[fit.used],
        )

    def _stars(self, candidates: PsfCandidates) -> PsfStars:
        side = self.config.stampSize if self.config.stampSize is not None else candidates.side
        return make_psf_stars(
            candidates,
            side=min(side, candidates.side),
            bad_bits=bitmask(self.config.zeroWeightMaskBits),
            minimum_unmasked_fraction=self.config.minimumUnmaskedFraction,
            max_snr=self.config.maxSNR,
        )

    def _sampling(self, stars: PsfStars, fwhm: float, order: int) -> tuple[float, int]:
        """Return the model pixel in detector pixels, and the side of the grid."""
        config = self.config
        if config.solver != "native" or config.samplingSize != 1.0:
            return config.samplingSize, config.modelSize
        many = self._affordable(len(stars), order, STARS_PER_TERM_FINE) == order
        side = fine_grid_side(fwhm, config.undersampled_fwhm, many=many, stamp_side=stars.side)
        return (config.samplingSize, config.modelSize) if side is None else (0.5, side)

    def _flat_weights(self, fwhm: float, scale: float) -> bool:
        """Say whether photon noise stays out of the weights because model pixels are too coarse for the stars.

        What whole pixels cannot represent of a sharp core is a fraction of the star, as its photon noise is of a
        bright one's. Weights of that noise alone are low in the core, so the fit follows the wings and widens the
        core: by 2.6 % in size at a FWHM of 2.2 pixels and 0.3 % at 2.5, under flat weights by 0.6 % and 0.1 %.
        """
        config = self.config
        if config.solver != "native" or not config.photon_noise_weights or scale < 1:
            return False
        if not fwhm < config.flat_weights_fwhm:
            return False
        _LOG.info(
            "The stars' FWHM is %.2f pixels, and they are too few for half-size model pixels: photon noise does not "
            "enter their weights.", fwhm,
        )  # fmt: skip
        return True

    def _affordable(self, n_stars: int, order: int, per_term: int) -> int:
        """Return the highest order up to ``order`` for which there are enough stars."""
        return affordable_order(n_stars, order, per_term, self._n_terms)

    def _n_terms(self, order: int) -> int:
        """Return the number of spatial terms, and those with colour, that are really fitted."""
        if not self.config.useColor:
            return spatial_terms(order)
        limit = max(order, self.config.colorOrder)
        return sum(
            1
            for i in range(order + 1)
            for j in range(order + 1)
            for k in range(self.config.colorOrder + 1)
            if i + j + k <= limit
        )

    def _require(self, n_stars: int, order: int) -> None:
        minimum = 1 if self.config.zerothOrderInterpNotEnoughStars else MINIMUM_STARS
        minimum = max(minimum, self._n_terms(order) if order > 0 else minimum)
        if n_stars < minimum:
            raise PiffTooFewGoodStarsError(
                f"{n_stars} stars are too few for a PSF of order {order}, which takes at least {minimum}; select more "
                "stars or lower spatialOrder.",
                num_good_stars=n_stars,
                minimum_dof=minimum,
                poly_ndim=order,
            )

    def _fit(
        self,
        stars: PsfStars,
        color: npt.NDArray[np.float64],
        exposure: Exposure,
        order: int,
        scale: float,
        grid: int,
        flat: bool,
    ) -> _Fit:
        config = self.config
        # of the whole detector, so that what is expected of the variation holds where there are no stars, too
        half_x, half_y = 0.5 * (exposure.shape[1] - 1), 0.5 * (exposure.shape[0] - 1)
        centre = (half_x, half_y, max(half_x, half_y, 1.0))
        if config.solver == "piff":
            return self._fit_piff(stars, color, exposure, order, centre)
        lanczos = _LANCZOS.match(config.interpolant)
        if lanczos is None:
            raise ValueError(f"The native solver has no interpolant {config.interpolant!r}.")
        fit = fit_pixel_grid(
            stars,
            PixelGridOptions(
                order=order,
                grid=grid,
                scale=scale,
                lanczos=int(lanczos.group(1)),
                fit_center=config.piffPixelGridFitCenter,
                outlier_n_sigma=config.outlierNSigma,
                outlier_max_remove=config.outlierMaxRemove,
                max_iter=config.piffMaxIter,
                max_snr=config.maxSNR,
                photon_noise_weights=config.photon_noise_weights and not flat,
                adaptive_max_snr=config.adaptive_max_snr,
                core_normalization=config.core_normalization,
                prior_strength=config.prior_strength,
                x_ref=centre[0],
                y_ref=centre[1],
                norm=centre[2],
            ),
        )
        details: dict[str, int | float | str | bool] = {
            "psfFitIterations": fit.n_iterations,
            "psfFitConverged": fit.converged,
            "psfMaxSnr": fit.max_snr,
        }
        return _Fit(fit.psf, fit.used, fit.chi2 / max(fit.dof, 1), fit.chi2, details)

    def _fit_piff(
        self,
        stars: PsfStars,
        color: npt.NDArray[np.float64],
        exposure: Exposure,
        order: int,
        centre: tuple[float, float, float],
    ) -> _Fit:
        chosen_color = None
        properties = {}
        if self.config.useColor:
            chosen_color = color[stars.index]
            known = np.isfinite(chosen_color)
            mean = float(chosen_color[known].mean()) if known.any() else 0.0
            chosen_color = np.where(known, chosen_color, mean)
            properties["colorValue"] = mean
        impl, used, reduced_chi2 = fit_with_piff(stars, exposure, self.config, order, chosen_color)
        details: dict[str, int | float | str | bool] = {"psfFitIterations": int(impl.niter)}
        if is_convertible(impl):
            psf = from_piff(impl, size=stars.side, x_ref=centre[0], y_ref=centre[1], norm=centre[2])
            return _Fit(psf, used, reduced_chi2, float(impl.chisq), details)
        average = (float(stars.x[used].mean()), float(stars.y[used].mean()))
        psf, error = project_to_pixels(
            PiffPsf(impl, stars.side, average, properties), exposure.shape, order + PROJECTION_DEGREES
        )
        if error > PROJECTION_LIMIT:
            raise PsfFitError(
                f"The PSF that Piff fitted has no form in detector pixels, which images store: at best it is wrong by "
                f"{100 * error:.1f} % of its peak. Use useCoordinates='pixel', a Lanczos interpolant and samplingSize 1.",
                num_stars=int(used.sum()),
                spatial_order=order,
            )
        details["psfProjectionError"] = error
        if self.config.useColor:
            details["psfMeanColor"] = properties["colorValue"]
        _LOG.info("The PSF is stored in detector pixels; largest difference %.1e of its peak.", error)
        return _Fit(psf, used, reduced_chi2, float(impl.chisq), details)


psfDeterminerRegistry.register("piff", PiffPsfDeterminer)

"""Fit the photometric zero point of an exposure."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.astrometry.hold_out import MIN_HOLD_OUT, fold_numbers
from zeropoint.catalogs.references import ReferenceCatalog
from zeropoint.catalogs.reserve import ReserveSources
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.exposure import AB_FLUX_NJY, Exposure, PhotoCalib
from zeropoint.errors import MatcherFailure
from zeropoint.photometry.color_terms import (
    ColortermLibrary,
    FittedColorTerm,
    ab_magnitude,
    fit_color_term,
    fluxes_available,
    reference_color,
)
from zeropoint.photometry.direct_match import DirectMatch
from zeropoint.photometry.zeropoint import ZeropointFit, fit_zeropoint

__all__ = ["PhotoCal", "PhotoCalConfig", "PhotoCalResult"]

_log = logging.getLogger(__name__)
_MAG = 2.5 / np.log(10.0)


class PhotoCalConfig(pexConfig.Config):
    """Configuration of `PhotoCal`."""

    match = pexConfig.ConfigurableField(target=DirectMatch, doc="How sources find their references.")
    reserve = pexConfig.ConfigurableField(target=ReserveSources, doc="Stars kept out of the fit.")
    fluxField = pexConfig.Field[str](
        doc="Flux of the sources to calibrate.", default="slot_CalibFlux_instFlux"
    )
    applyColorTerms = pexConfig.Field[bool](doc="Apply colour terms to reference magnitudes?", default=False)
    sigmaMax = pexConfig.Field[float](
        doc="Largest sigma used for clipping (mag); None takes it from the data.", default=0.25, optional=True
    )
    nSigma = pexConfig.Field[float](doc="Clipping limit (sigma).", default=3.0)
    useMedian = pexConfig.Field[bool](doc="Clip about the median instead of the weighted mean?", default=True)
    nIter = pexConfig.RangeField[int](doc="Largest number of clipping rounds.", default=20, min=1)
    colorterms = pexConfig.ConfigField[ColortermLibrary](doc="Library of colour terms.")
    photoCatName = pexConfig.Field[str](
        doc="Name of the reference catalogue in the library.", default=None, optional=True
    )
    magErrFloor = pexConfig.RangeField[float](
        doc="Added in quadrature to the sources' magnitude errors.", default=0.0, min=0.0
    )
    do_fit_color_term = pexConfig.Field[bool](
        doc="Fit a linear colour term to the image's own stars, and keep it if held-out stars agree better?",
        default=False,
    )
    color_term_bands = pexConfig.ListField[str](
        doc="The two reference bands of the fitted colour term (colour = first - second).", default=[]
    )
    color_term_reference = pexConfig.Field[float](
        doc="Colour at which the zero point holds (mag); None takes the built-in value of the pair of bands.",
        default=None,
        optional=True,
    )

    def setDefaults(self) -> None:
        """Set the selection of sources."""
        selection = self.match.sourceSelection
        selection.doRequirePrimary = selection.doUnresolved = True
        selection.doFlags = selection.doSignalToNoise = True
        selection.flags.bad = [
            "base_PixelFlags_flag_edge",
            "base_PixelFlags_flag_nodata",
            "base_PixelFlags_flag_interpolated",
            "base_PixelFlags_flag_saturated",
        ]
        selection.signalToNoise.minimum = 10.0
        selection.signalToNoise.fluxField = self.fluxField
        selection.signalToNoise.errField = self.fluxField + "Err"

    def validate(self) -> None:
        """Check that colour terms and the selection's fluxes are consistent."""
        super().validate()
        if self.applyColorTerms and not self.photoCatName:
            raise ValueError("applyColorTerms needs photoCatName.")
        if self.applyColorTerms and len(self.colorterms.data) == 0:
            raise ValueError("applyColorTerms needs a non-empty colour-term library.")
        if self.applyColorTerms and self.do_fit_color_term:
            raise ValueError("applyColorTerms and do_fit_color_term exclude each other.")
        if self.do_fit_color_term and len(self.color_term_bands) != 2:
            raise ValueError("do_fit_color_term needs two color_term_bands.")
        selection = self.match.sourceSelection
        if getattr(selection, "doSignalToNoise", False):
            pair = (selection.signalToNoise.fluxField, selection.signalToNoise.errField)
            if pair != (self.fluxField, self.fluxField + "Err"):
                raise ValueError(
                    f"The selection's signal-to-noise uses {pair}, not fluxField {self.fluxField!r}."
                )


@dataclass(frozen=True)
class PhotoCalResult:
    """A photometric calibration and the stars behind it.

    Parameters
    ----------
    photo_calib
        nJy per electron, with its error; also set on the exposure.
    zp, sigma
        AB magnitude of one count, and its error.
    n_good
        Stars used.
    match_ref, match_src : int64, shape (n,)
        Rows of the reference table and of the catalogue of all matches.
    used : bool, shape (n,)
        Matches that the final mean used.
    residual : float64, shape (n,)
        Reference minus calibrated magnitude (after any colour term); NaN where not finite.
    scatter, excess
        Robust scatter of the stars used, and what of it the quoted errors do not explain, mag.
    hold_out_scatter, hold_out_zp_std
        Robust scatter of stars against zero points fitted without them, and the standard deviation of those
        five zero points, mag; NaN below ten stars.
    color_term
        The fitted colour term, kept or not; None if not asked for.
    metadata
        Plain scalars.
    """

    photo_calib: PhotoCalib
    zp: float
    sigma: float
    n_good: int
    match_ref: np.ndarray
    match_src: np.ndarray
    used: np.ndarray
    residual: np.ndarray
    scatter: float
    excess: float
    hold_out_scatter: float
    hold_out_zp_std: float
    color_term: FittedColorTerm | None
    metadata: dict[str, int | float | str] = field(default_factory=dict)


class PhotoCal:
    """Fit a zero point; `run` sets the exposure's calibration and the catalogue's flags in place.

    Parameters
    ----------
    config
        Configuration.
    schema
        If given, the flags ``calib_photometry_used`` and ``calib_photometry_reserved`` are appended.
    """

    ConfigClass = PhotoCalConfig

    def __init__(self, config: PhotoCalConfig | None = None, *, schema: Schema | None = None) -> None:
        self.config: Any = PhotoCalConfig() if config is None else config
        self.match = self.config.match.apply()
        if schema is not None:
            schema.add(
                ColumnSpec("calib_photometry_used", "bool", "", "Set if used in photometric calibration.")
            )
        self.reserve = self.config.reserve.apply(schema=schema, column_stem="calib_photometry")

    def run(
        self, exposure: Exposure, catalog: SourceCatalog, references: ReferenceCatalog, *, exp_id: int = 0
    ) -> PhotoCalResult:
        """Fit the zero point; sets ``exposure.photo_calib`` and the ``calib_photometry_*`` flags in place.

        Parameters
        ----------
        exposure
            Its band and filter choose colour terms.
        catalog
            Measured sources with sky coordinates.
        references
            References with the fluxes of the image's band.
        exp_id
            Seeds the choice of reserved stars.

        Raises
        ------
        MatcherFailure
            If nothing matches, or no match has finite magnitudes; metadata goodSrc, goodRef.
        """
        match = self.match.run(exposure, catalog, references)
        if len(match.match_src) == 0:
            raise MatcherFailure(
                f"None of {match.n_sources} sources lies within matchRadius of any of {match.n_references} "
                "references; check the WCS, the selection and matchRadius.",
                goodSrc=match.n_sources,
                goodRef=match.n_references,
            )
        reserved = self.reserve.run(len(match.match_src), exp_id=exp_id)
        difference, error, good_src, good_ref = self._differences(exposure, catalog, references, match)
        fitted = reserved.use & np.isfinite(difference) & np.isfinite(error)
        if not fitted.any():
            raise MatcherFailure(
                f"None of {len(match.match_src)} matches has finite source and reference magnitudes "
                f"({good_src} sources, {good_ref} references have).",
                goodSrc=good_src,
                goodRef=good_ref,
            )
        folds = fold_numbers(catalog["coord_ra"][match.match_src], catalog["coord_dec"][match.match_src])
        term = self._fitted_color_term(references, match.match_ref, difference, error, folds, fitted)
        if term is not None and term.kept:
            color = self._color(references, match.match_ref)
            difference = difference + term.slope * (color - term.reference_color)
            fitted &= np.isfinite(difference)
        rows = np.flatnonzero(fitted)
        fit = self._fit(difference[rows], error[rows])
        scatter, spread = self._hold_out(difference[rows], error[rows], folds[rows])
        used = np.zeros(len(fitted), bool)
        used[rows[fit.good]] = True
        self._set_flags(catalog, match.match_src, used, reserved.reserved)
        mean = AB_FLUX_NJY * 10.0 ** (-0.4 * fit.zp)
        calib = PhotoCalib(float(mean), float(mean * fit.sigma / _MAG))
        exposure.photo_calib = calib
        _log.debug("Zero point %.4f +- %.4f from %d stars", fit.zp, fit.sigma, fit.n_good)
        metadata: dict[str, int | float | str] = {
            "photometry_matches_count": len(match.match_src),
            "zeropoint": fit.zp,
            "zeropoint_err": fit.sigma,
            "n_good": fit.n_good,
            "scatter": fit.scatter,
            "excess_scatter": fit.excess,
            "hold_out_scatter": scatter,
            "hold_out_zp_std": spread,
        }
        if term is not None:
            metadata |= {
                "color_term_kept": int(term.kept),
                "color_term_slope": term.slope,
                "color_term_slope_err": term.slope_err,
                "color_term_reason": term.reason,
            }
        return PhotoCalResult(
            photo_calib=calib,
            zp=fit.zp,
            sigma=fit.sigma,
            n_good=fit.n_good,
            match_ref=match.match_ref,
            match_src=match.match_src,
            used=used,
            residual=difference - fit.zp,
            scatter=fit.scatter,
            excess=fit.excess,
            hold_out_scatter=scatter,
            hold_out_zp_std=spread,
            color_term=term,
            metadata=metadata,
        )

    # -- parts ------------------------------------------------------------------------------------------

    def _differences(
        self, exposure: Exposure, catalog: SourceCatalog, references: ReferenceCatalog, match: Any
    ) -> tuple[np.ndarray, np.ndarray, int, int]:
        """Return reference minus instrumental magnitudes, their errors, and how many of each are finite."""
        flux = catalog[self.config.fluxField][match.match_src].astype(np.float64)
        flux_err = catalog[self.config.fluxField + "Err"][match.match_src].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            # a missing error is that of Poisson noise, for that star alone
            flux_err = np.where(np.isfinite(flux_err), flux_err, np.sqrt(np.abs(flux)))
            source_mag = np.where(flux > 0, -2.5 * np.log10(flux), np.nan)
            source_err = np.hypot(np.abs(_MAG * flux_err / flux), self.config.magErrFloor)
        ref_mag, ref_err = self._reference_magnitudes(exposure, references)
        ref_mag, ref_err = ref_mag[match.match_ref], ref_err[match.match_ref]
        known = np.isfinite(ref_err) & (ref_err >= 0)
        total = np.hypot(source_err, np.where(known, ref_err, 0.0))
        return (
            ref_mag - source_mag,
            total,
            int(np.isfinite(source_mag).sum()),
            int(np.isfinite(ref_mag).sum()),
        )

    def _reference_magnitudes(
        self, exposure: Exposure, references: ReferenceCatalog
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return AB magnitudes and errors (NaN if unknown) of all references, colour terms applied."""
        config, table = self.config, references.table
        if config.applyColorTerms:
            term = config.colorterms.getColorterm(exposure.visit_info.physical_filter, config.photoCatName)
            mag, error = term.corrected_magnitudes(table)
            return mag, error
        flux = np.asarray(table[references.flux_field], np.float64)
        if references.flux_err_field is None:
            return ab_magnitude(flux), np.full(len(flux), np.nan)
        flux_err = np.asarray(table[references.flux_err_field], np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            return ab_magnitude(flux), np.where(flux > 0, _MAG * flux_err / flux, np.nan)

    def _color(self, references: ReferenceCatalog, rows: np.ndarray) -> np.ndarray:
        first, second = (
            ab_magnitude(np.asarray(references.table[f"{band}_flux"], np.float64))
            for band in self.config.color_term_bands
        )
        return np.asarray((first - second)[rows])

    def _fitted_color_term(
        self,
        references: ReferenceCatalog,
        match_ref: np.ndarray,
        difference: np.ndarray,
        error: np.ndarray,
        folds: np.ndarray,
        fitted: np.ndarray,
    ) -> FittedColorTerm | None:
        config = self.config
        if not config.do_fit_color_term:
            return None
        primary, secondary = config.color_term_bands
        reference = config.color_term_reference
        reference = reference_color(primary, secondary) if reference is None else float(reference)
        if not fluxes_available(references.table, primary, secondary):
            nan = float("nan")
            reason = f"{references.name} lacks {primary}_flux or {secondary}_flux"
            return FittedColorTerm(primary, secondary, reference, 0.0, nan, nan, nan, False, 0, reason)
        rows = np.flatnonzero(fitted)
        clipped = rows[self._fit(difference[rows], error[rows]).good]
        return fit_color_term(
            self._color(references, match_ref)[clipped],
            difference[clipped],
            np.maximum(error[clipped], 1e-4),
            folds[clipped],
            primary=primary,
            secondary=secondary,
            reference=reference,
        )

    def _fit(self, difference: np.ndarray, error: np.ndarray) -> ZeropointFit:
        config = self.config
        return fit_zeropoint(
            difference,
            error,
            sigma_max=config.sigmaMax,
            n_sigma=config.nSigma,
            use_median=config.useMedian,
            n_iter=config.nIter,
        )

    def _hold_out(self, difference: np.ndarray, error: np.ndarray, folds: np.ndarray) -> tuple[float, float]:
        """Return the robust scatter of held-out stars and the standard deviation of the fold zero points."""
        if len(difference) < MIN_HOLD_OUT:
            return float("nan"), float("nan")
        residual, zero_points = np.full(len(difference), np.nan), []
        for k in np.unique(folds):
            train, held = folds != k, folds == k
            if not train.any():
                continue
            zp = self._fit(difference[train], error[train]).zp
            residual[held] = difference[held] - zp
            zero_points.append(zp)
        residual = residual[np.isfinite(residual)]
        scatter = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
        return scatter, float(np.std(zero_points, ddof=1)) if len(zero_points) > 1 else float("nan")

    def _set_flags(
        self, catalog: SourceCatalog, rows: np.ndarray, used: np.ndarray, reserved: np.ndarray
    ) -> None:
        """Set the two flags on every row of the catalogue."""
        for name, values in (("calib_photometry_used", used), ("calib_photometry_reserved", reserved)):
            if name in catalog:
                column = np.zeros(len(catalog), bool)
                column[rows[values]] = True
                catalog[name] = column

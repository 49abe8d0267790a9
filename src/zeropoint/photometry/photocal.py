"""Fit the photometric zero point of an exposure."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.astrometry.hold_out import MIN_HOLD_OUT, fold_numbers
from zeropoint.catalogs.references import ReferenceCatalog
from zeropoint.catalogs.reserve import ReserveSources
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.exposure import AB_FLUX_NJY, Exposure, PhotoCalib
from zeropoint.errors import ColortermNotFoundError, InvalidInputError, MatcherFailure
from zeropoint.photometry.calibration_fit import (
    CalibrationFit,
    CalibrationStars,
    Clipping,
    fit_calibration,
)
from zeropoint.photometry.color_terms import (
    Colorterm,
    ColortermLibrary,
    FittedColorTerm,
    ab_magnitude,
    reference_color,
    usual_bands,
)
from zeropoint.photometry.direct_match import DirectMatch, DirectMatchResult
from zeropoint.photometry.model_choice import (
    MIN_COLOR_TERM_STARS,
    FieldChoice,
    choose_color_term,
    choose_order,
)
from zeropoint.photometry.photocal_result import PhotoCalResult, photocal_metadata

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
        doc="The two reference bands of the fitted colour term (colour = first - second); empty: the usual pair for "
        "the image's band, of those that the catalogue has.",
        default=[],
        listCheck=lambda bands: len(bands) in (0, 2),
    )
    color_term_reference = pexConfig.Field[float](
        doc="Colour at which the zero point holds (mag); None takes the built-in value of the pair of bands.",
        default=None,
        optional=True,
    )
    color_term_degree = pexConfig.RangeField[int](
        doc="Highest degree of the fitted colour term; 2 allows a curvature where held-out stars agree better.",
        default=1,
        min=1,
        max=2,
        inclusiveMax=True,
    )
    do_fit_zeropoint_field = pexConfig.Field[bool](
        doc="Let the zero point vary over the image, with the order that held-out stars support?",
        default=False,
    )
    zeropoint_field_max_order = pexConfig.RangeField[int](
        doc="Highest order of that variation.", default=3, min=1, max=6, inclusiveMax=True
    )
    zeropoint_field_max_error = pexConfig.RangeField[float](
        doc="Largest error of the zero point anywhere on the image with which an order is accepted (mag).",
        default=0.03,
        min=0.0,
        inclusiveMin=False,
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
        kind = PhotoCalConfig
        fail = pexConfig.FieldValidationError
        if self.applyColorTerms and not self.photoCatName:
            raise fail(kind.photoCatName, self, "applyColorTerms needs photoCatName.")
        if self.applyColorTerms and len(self.colorterms.data) == 0:
            raise fail(kind.colorterms, self, "applyColorTerms needs a non-empty colour-term library.")
        if self.applyColorTerms:
            try:
                self.colorterms.terms_of(self.photoCatName)
            except ColortermNotFoundError as error:
                raise fail(kind.photoCatName, self, str(error)) from error
        if self.applyColorTerms and self.do_fit_color_term:
            raise fail(
                kind.do_fit_color_term, self, "applyColorTerms and do_fit_color_term exclude each other."
            )
        if len(set(self.color_term_bands)) not in (0, 2):
            raise fail(kind.color_term_bands, self, "color_term_bands must be two different bands.")
        selection = self.match.sourceSelection
        if getattr(selection, "doSignalToNoise", False):
            pair = (selection.signalToNoise.fluxField, selection.signalToNoise.errField)
            if pair != (self.fluxField, self.fluxField + "Err"):
                raise fail(
                    kind.fluxField,
                    self,
                    f"The selection's signal-to-noise uses {pair}, not fluxField {self.fluxField!r}.",
                )


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

    def require_bands(self, bands: Collection[str], physical_filter: str) -> None:
        """Check, before any work, that a reference catalogue has the bands that colour terms need.

        Parameters
        ----------
        bands
            Bands of the catalogue.
        physical_filter
            Filter of the image.

        Raises
        ------
        InvalidInputError
            If a band is missing, or the library has no term for the catalogue and the filter.
        """
        config, needed, origin = self.config, list(self.config.color_term_bands), "color_term_bands"
        if config.applyColorTerms:
            term = self._library_term(physical_filter)
            needed, origin = [term.primary, term.secondary], "colorterms"
        elif not config.do_fit_color_term:
            return
        missing = [band for band in needed if band not in bands]
        if missing:
            raise InvalidInputError(
                f"{self._place}.{origin} needs fluxes (and for a library, their errors) of {' and '.join(missing)}, which the "
                f"reference catalogue lacks; it has {', '.join(sorted(bands)) or 'none'}."
            )

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
        InvalidInputError
            As `require_bands`.
        """
        bands = self._color_bands(references, exposure.visit_info.physical_filter)
        match = self.match.run(exposure, catalog, references)
        if len(match.match_src) == 0:
            raise MatcherFailure(
                f"None of {match.n_sources} sources lies within matchRadius of any of {match.n_references} "
                "references; check the WCS, the selection and matchRadius.",
                goodSrc=match.n_sources,
                goodRef=match.n_references,
            )
        reserved = self.reserve.run(len(match.match_src), exp_id=exp_id)
        stars, fitted = self._stars(exposure, catalog, references, match, bands)
        fitted &= reserved.use
        folds = fold_numbers(catalog["coord_ra"][match.match_src], catalog["coord_dec"][match.match_src])
        choice, term = self._choose(stars, folds, np.flatnonzero(fitted), bands)
        order = 0 if choice is None else choice.order
        degree = 0 if term is None or not term.kept else (2 if term.curvature else 1)
        if degree:
            fitted &= np.isfinite(stars.color)
        rows = np.flatnonzero(fitted)
        fit = fit_calibration(stars.take(rows), order=order, degree=degree, clipping=self._clipping())
        if term is not None and degree:
            term = _with_final(term, fit)
        used = np.zeros(len(fitted), bool)
        used[rows[fit.mean.good]] = True
        self._set_flags(catalog, match.match_src, used, reserved.reserved)
        calib = _photo_calib(fit, exposure.shape)
        exposure.photo_calib = calib
        _log.debug("Zero point %.4f +- %.4f from %d stars", fit.zp, fit.sigma, fit.mean.n_good)
        scatter, spread = self._hold_out(stars.take(rows), folds[rows], order, degree)
        return PhotoCalResult(
            photo_calib=calib,
            zp=fit.zp,
            sigma=fit.sigma,
            n_good=fit.mean.n_good,
            match_ref=match.match_ref,
            match_src=match.match_src,
            used=used,
            residual=stars.difference - fit.model(stars),
            scatter=fit.mean.scatter,
            excess=fit.mean.excess,
            hold_out_scatter=scatter,
            hold_out_zp_std=spread,
            color_term=term,
            field=choice,
            fit=fit,
            color_coefficients=self._applied_coefficients(exposure, term),
            metadata=photocal_metadata(
                fit, term, choice, calib, n_matches=len(match.match_src), hold_out=(scatter, spread)
            ),
        )

    # -- parts ------------------------------------------------------------------------------------------

    def _stars(
        self,
        exposure: Exposure,
        catalog: SourceCatalog,
        references: ReferenceCatalog,
        match: DirectMatchResult,
        bands: tuple[str, str] | None,
    ) -> tuple[CalibrationStars, np.ndarray]:
        """Return all matched stars and which of them can be fitted."""
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
        difference, error = ref_mag - source_mag, np.hypot(source_err, np.where(known, ref_err, 0.0))
        n = len(difference)
        x = y = np.zeros(n)
        fitted = np.isfinite(difference) & np.isfinite(error)
        if self.config.do_fit_zeropoint_field:
            x, y = (catalog[f"slot_Centroid_{axis}"][match.match_src].astype(np.float64) for axis in "xy")
            fitted &= np.isfinite(x) & np.isfinite(y)
        if not fitted.any():
            counts = int(np.isfinite(source_mag).sum()), int(np.isfinite(ref_mag).sum())
            raise MatcherFailure(
                f"None of {n} matches has finite source and reference magnitudes ({counts[0]} sources, {counts[1]} "
                "references have).",
                goodSrc=counts[0],
                goodRef=counts[1],
            )
        color = np.full(n, np.nan)
        if bands is not None:
            first, second = (
                ab_magnitude(np.asarray(references.table[f"{band}_flux"], np.float64)[match.match_ref])
                for band in bands
            )
            color = first - second - self._reference_color(bands)
        height, width = exposure.shape
        return CalibrationStars(difference, error, x, y, color, width, height), fitted

    @property
    def _place(self) -> str:
        """The place of the configuration in the whole, for messages."""
        return str(self.config._name or "photometry")

    def _library_term(self, physical_filter: str) -> Colorterm:
        """Return the library's term of a filter; what the library lacks is an error of the configuration."""
        try:
            return self.config.colorterms.getColorterm(physical_filter, self.config.photoCatName)
        except ColortermNotFoundError as error:
            field = "colorterms" if "physicalFilter" in error.metadata else "photoCatName"
            raise InvalidInputError(f"{self._place}.{field}: {error}") from error

    def _reference_magnitudes(
        self, exposure: Exposure, references: ReferenceCatalog
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return AB magnitudes and errors (NaN if unknown) of all references, colour terms applied."""
        table = references.table
        if self.config.applyColorTerms:
            return self._library_term(exposure.visit_info.physical_filter).corrected_magnitudes(table)
        flux = np.asarray(table[references.flux_field], np.float64)
        if references.flux_err_field is None:
            return ab_magnitude(flux), np.full(len(flux), np.nan)
        flux_err = np.asarray(table[references.flux_err_field], np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            return ab_magnitude(flux), np.where(flux > 0, _MAG * flux_err / flux, np.nan)

    def _color_bands(self, references: ReferenceCatalog, physical_filter: str) -> tuple[str, str] | None:
        """Return the bands of the colour term to fit; None if none is asked for or the catalogue has one band."""
        ending = "_fluxErr" if self.config.applyColorTerms else "_flux"
        names = references.table.colnames
        bands = {name.removesuffix(ending) for name in names if name.endswith(ending)}
        self.require_bands(bands, physical_filter)
        if not self.config.do_fit_color_term:
            return None
        if self.config.color_term_bands:
            first, second = self.config.color_term_bands
            return first, second
        return usual_bands(references.flux_field.removesuffix("_flux"), bands)

    def _reference_color(self, bands: tuple[str, str]) -> float:
        configured = self.config.color_term_reference
        return reference_color(*bands) if configured is None else float(configured)

    def _choose(
        self, stars: CalibrationStars, folds: np.ndarray, rows: np.ndarray, bands: tuple[str, str] | None
    ) -> tuple[FieldChoice | None, FittedColorTerm | None]:
        """Choose the order of the field, then whether a colour term goes with it."""
        config, clipping = self.config, self._clipping()
        colored = rows[np.isfinite(stars.color[rows])]
        enough = bands is not None and len(colored) >= MIN_COLOR_TERM_STARS
        choice = term = None
        if config.do_fit_zeropoint_field:
            chosen = colored if enough else rows
            choice = choose_order(
                stars.take(chosen),
                folds[chosen],
                degree=1 if enough else 0,
                max_order=config.zeropoint_field_max_order,
                max_error=config.zeropoint_field_max_error,
                clipping=clipping,
            )
        if bands is not None:
            term = choose_color_term(
                stars.take(rows),
                folds[rows],
                bands=bands,
                reference=self._reference_color(bands),
                order=0 if choice is None else choice.order,
                max_degree=config.color_term_degree,
                clipping=clipping,
            )
        elif config.do_fit_color_term:
            nan, reason = float("nan"), "the reference catalog has no two bands that make a color"
            term = FittedColorTerm("", "", nan, 0.0, nan, nan, nan, False, 0, reason)
        return choice, term

    def _clipping(self) -> Clipping:
        config = self.config
        return Clipping(config.sigmaMax, config.nSigma, config.useMedian, config.nIter)

    def _hold_out(
        self, stars: CalibrationStars, folds: np.ndarray, order: int, degree: int
    ) -> tuple[float, float]:
        """Return the robust scatter of held-out stars and the standard deviation of the fold zero points."""
        if len(stars) < MIN_HOLD_OUT:
            return float("nan"), float("nan")
        residual, zero_points = np.full(len(stars), np.nan), []
        for k in np.unique(folds):
            train, held = np.flatnonzero(folds != k), np.flatnonzero(folds == k)
            if len(train) == 0:
                continue
            fit = fit_calibration(stars.take(train), order=order, degree=degree, clipping=self._clipping())
            some = stars.take(held)
            residual[held] = some.difference - fit.model(some)
            zero_points.append(fit.zp)
        residual = residual[np.isfinite(residual)]
        scatter = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
        return scatter, float(np.std(zero_points, ddof=1)) if len(zero_points) > 1 else float("nan")

    def _applied_coefficients(
        self, exposure: Exposure, term: FittedColorTerm | None
    ) -> tuple[float, float, float]:
        if self.config.applyColorTerms:
            given = self._library_term(exposure.visit_info.physical_filter)
            return given.c0, given.c1, given.c2
        return (0.0, 0.0, 0.0) if term is None else term.coefficients

    def _set_flags(
        self, catalog: SourceCatalog, rows: np.ndarray, used: np.ndarray, reserved: np.ndarray
    ) -> None:
        """Set the two flags on every row of the catalogue."""
        for name, values in (("calib_photometry_used", used), ("calib_photometry_reserved", reserved)):
            if name in catalog:
                column = np.zeros(len(catalog), bool)
                column[rows[values]] = True
                catalog[name] = column


def _with_final(term: FittedColorTerm, fit: CalibrationFit) -> FittedColorTerm:
    """Return a colour term with the values of the final fit."""
    values, errors = ([*numbers.tolist(), 0.0] for numbers in (fit.color_coefficients, fit.color_errors))
    return replace(term, slope=values[0], slope_err=errors[0], curvature=values[1], curvature_err=errors[1])


def _photo_calib(fit: CalibrationFit, shape: tuple[int, int]) -> PhotoCalib:
    mean = float(AB_FLUX_NJY * 10.0 ** (-0.4 * fit.zp))
    return PhotoCalib(mean, float(mean * fit.sigma / _MAG), fit.field(shape[1], shape[0]))

"""Aperture corrections: fit ratios of fluxes to a reference flux over the image."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.catalogs.selectors import reject_selectors_with_matches, sourceSelectorRegistry
from zeropoint.datamodel.catalog import Schema, SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.errors import InvalidInputError, MeasureApCorrError
from zeropoint.measurement import plugins  # noqa: F401  (fills the registry)
from zeropoint.measurement.base import flag_spec, pluginRegistry
from zeropoint.measurement.ratio_fit import RatioFitConfig, TooFewRatios, fit_ratio

__all__ = [
    "ApCorrMap",
    "MeasureApCorr",
    "MeasureApCorrConfig",
    "MeasureApCorrResult",
    "ap_corr_names",
]

log = logging.getLogger(__name__)

#: Column name (``A_instFlux``, ``A_instFluxErr``) -> correction or its error over the image.
type ApCorrMap = dict[str, ChebyshevPolynomial]


def ap_corr_names(schema: Schema, additional: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the sorted prefixes of fluxes in a schema that get aperture corrections.

    Parameters
    ----------
    schema
        Its physical columns count, and the fluxes that plugins with configurable names declared in it.
    additional
        Prefixes besides those whose plugins want corrections.
    """
    names = set(additional) | schema.corrected_fluxes
    for name, plugin in pluginRegistry.items():
        names.update(plugin.ap_corr_names(name, plugin.ConfigClass()))
    return tuple(sorted(name for name in names if f"{name}_instFlux" in schema.columns))


def require_fluxes(schema: Schema, config: pexConfig.Config, field: str) -> None:
    """Check that the fluxes that a list of a configuration names exist.

    Raises
    ------
    InvalidInputError
        If one does not; the message names the field.
    """
    for name in getattr(config, field):
        if f"{name}_instFlux" not in schema:
            raise InvalidInputError(
                f"{config._name or type(config).__name__}.{field}: there is no flux {name!r} "
                f"(no column {name}_instFlux); add its plugin to the measurement, or take it out of the list."
            )


class MeasureApCorrConfig(RatioFitConfig):
    """Which stars, which reference, which fit."""

    refFluxName = pexConfig.Field(dtype=str, default="slot_CalibFlux", doc="Flux that others are scaled to.")
    sourceSelector = sourceSelectorRegistry.makeField(doc="Selection of stars.", default="science")
    min_stars = pexConfig.RangeField(
        dtype=int,
        default=20,
        min=1,
        doc="With fewer stars than this, the selector's limit on signal to noise falls to fallback_snr.",
    )
    fallback_snr = pexConfig.RangeField(
        dtype=float, default=50.0, min=0.0, doc="Signal to noise of the second attempt."
    )
    additional_fluxes = pexConfig.ListField(
        dtype=str,
        default=[],
        doc="Fluxes (prefixes of columns, e.g. base_CircularApertureFlux_3_0) to correct besides those whose plugins "
        "ask for it; list them in the additional_fluxes of the step that applies the corrections, too.",
    )
    allowFailure = pexConfig.ListField(
        dtype=str, default=[], doc="Fluxes whose correction may be missing, rather than an error."
    )

    def setDefaults(self) -> None:
        """Select clean, unresolved stars of signal-to-noise above 200."""
        selector = self.sourceSelector["science"]
        selector.doFlags = selector.doUnresolved = selector.doSignalToNoise = True
        selector.doIsolated = False
        selector.flags.good = []
        selector.flags.bad = [
            "base_PixelFlags_flag_edge",
            "base_PixelFlags_flag_nodata",
            "base_PixelFlags_flag_interpolatedCenter",
            "base_PixelFlags_flag_saturatedCenter",
            "base_PixelFlags_flag_crCenter",
            "base_PixelFlags_flag_bad",
            "base_PixelFlags_flag_interpolated",
            "base_PixelFlags_flag_saturated",
        ]
        selector.signalToNoise.minimum = 200.0
        selector.signalToNoise.fluxField = "base_PsfFlux_instFlux"
        selector.signalToNoise.errField = "base_PsfFlux_instFluxErr"

    def validate(self) -> None:
        """Reject selectors that need reference matches."""
        super().validate()
        reject_selectors_with_matches(self, "sourceSelector")


@dataclass(frozen=True)
class MeasureApCorrResult:
    """Aperture corrections of one exposure.

    Parameters
    ----------
    ap_corr_map
        For each flux ``A`` the correction ``A_instFlux`` and its error ``A_instFluxErr`` (a constant).
    n_used
        Stars used for each flux.
    """

    ap_corr_map: ApCorrMap
    n_used: dict[str, int]


def _ratio_error(
    catalog: SourceCatalog, reference: str, name: str, rows: np.ndarray, ratio: np.ndarray
) -> np.ndarray:
    """Return standard errors of reference over flux, NaN where an error is missing.

    Both fluxes share the photons of the star, so the noise of the smaller aperture cancels to first order and
    what counts is what the larger one adds.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        outer = catalog[f"{reference}_instFluxErr"][rows] / catalog[f"{reference}_instFlux"][rows]
        inner = catalog[f"{name}_instFluxErr"][rows] / catalog[f"{name}_instFlux"][rows]
        error = np.abs(ratio) * np.sqrt(np.maximum(np.abs(outer**2 - inner**2), (0.1 * outer) ** 2))
    return np.where(np.isfinite(error), error, np.nan)


class MeasureApCorr:
    """Measure aperture corrections; `run` sets the ``apcorr_<name>_used`` columns in place.

    Parameters
    ----------
    config
        Selection and fit; defaults if None.
    schema
        Schema with the fluxes, to which the flags are added.
    names_to_correct
        Fluxes; those of `ap_corr_names` if None.
    """

    ConfigClass: ClassVar[type[MeasureApCorrConfig]] = MeasureApCorrConfig

    def __init__(
        self,
        config: MeasureApCorrConfig | None = None,
        *,
        schema: Schema | None = None,
        names_to_correct: Sequence[str] | None = None,
    ) -> None:
        self.config = MeasureApCorrConfig() if config is None else config
        schema = Schema() if schema is None else schema
        require_fluxes(schema, self.config, "additional_fluxes")
        names = (
            ap_corr_names(schema, self.config.additional_fluxes)
            if names_to_correct is None
            else tuple(sorted(names_to_correct))
        )
        #: Fluxes to correct.
        self.names = tuple(name for name in names if f"{name}_instFlux" in schema)
        for name in (self.config.refFluxName, *self.names):
            schema.add(flag_spec(f"apcorr_{name}_used", "used to measure this aperture correction"))
        self.selector = self.config.sourceSelector.apply()

    def _select(self, exposure: Exposure, catalog: SourceCatalog) -> tuple[np.ndarray, str]:
        """Select stars; where they are few, also fainter ones, which weigh less.  Say why if there are none."""
        result = self.selector.run(catalog, exposure=exposure)
        limit = getattr(self.selector.config, "signalToNoise", None)
        low = None if limit is None else limit.minimum
        if result.n_selected < self.config.min_stars and low is not None and low > self.config.fallback_snr:
            relaxed = type(self.selector.config)()
            for name, value in self.selector.config.items():
                setattr(relaxed, name, value)
            relaxed.signalToNoise.minimum = self.config.fallback_snr
            log.debug(
                "%d stars for aperture corrections: S/N limit lowered to %g",
                result.n_selected,
                self.config.fallback_snr,
            )
            result = type(self.selector)(relaxed).run(catalog, exposure=exposure)
        return result.selected, "" if result.n_selected else self.selector.why_none(result)

    def run(self, exposure: Exposure, catalog: SourceCatalog) -> MeasureApCorrResult:
        """Fit the corrections of all fluxes.

        Parameters
        ----------
        exposure
            Only its size is used (and what the selector looks at).
        catalog
            Measured sources; the ``apcorr_<name>_used`` columns are set.

        Raises
        ------
        MeasureApCorrError
            If too few stars are left for a flux that is not in ``allowFailure``.
        InvalidInputError
            If the catalogue lacks the reference flux or a column that the selection needs.
        """
        reference = self.config.refFluxName
        if f"{reference}_instFlux" not in catalog:
            raise InvalidInputError(
                f"{self.config._name or 'MeasureApCorrConfig'}.refFluxName: the catalogue has no column "
                f"{reference}_instFlux."
            )
        ref_flux = catalog[f"{reference}_instFlux"]
        selected, why = self._select(exposure, catalog)
        selected = selected & ~catalog[f"{reference}_flag"] & np.isfinite(ref_flux)
        result: ApCorrMap = {}
        n_used: dict[str, int] = {}
        for name in self.names:
            fit = self._measure_one(exposure, catalog, name, selected, why)
            if fit is None:
                continue
            field, scatter, rows = fit
            height, width = exposure.shape
            result[f"{name}_instFlux"] = field
            result[f"{name}_instFluxErr"] = ChebyshevPolynomial.constant(width, height, scatter)
            catalog[f"apcorr_{name}_used"] = np.isin(np.arange(len(catalog)), rows)
            n_used[name] = len(rows)
            log.debug("Aperture correction of %s from %d stars, scatter %.4g", name, len(rows), scatter)
        return MeasureApCorrResult(result, n_used)

    def _measure_one(
        self, exposure: Exposure, catalog: SourceCatalog, name: str, selected: np.ndarray, why: str
    ) -> tuple[ChebyshevPolynomial, float, np.ndarray] | None:
        """Return the field of a flux, its scatter and the rows used; None if it fails and may."""
        if name in self.config.allowFailure and catalog[f"{name}_flag"].all():
            log.info("No aperture correction for %s, which is flagged for all sources", name)
            return None
        flux, reference = catalog[f"{name}_instFlux"], self.config.refFluxName
        x, y = catalog["slot_Centroid_x"], catalog["slot_Centroid_y"]
        with np.errstate(invalid="ignore"):
            good = selected & ~catalog[f"{name}_flag"] & np.isfinite(flux) & (flux > 0)
        rows = np.flatnonzero(good & np.isfinite(x) & np.isfinite(y))
        ratio = catalog[f"{reference}_instFlux"][rows] / flux[rows]
        error = _ratio_error(catalog, reference, name, rows, ratio)
        known = np.isfinite(error)
        weighted = bool(known.any())
        if weighted:  # a star without an error cannot be weighted against the others
            rows, ratio, error = rows[known], ratio[known], error[known]
        if len(rows) - 1 < self.config.minDegreesOfFreedom:
            self._fail(name, len(rows), len(rows) - 1, why=why)
            return None
        fit = fit_ratio(x[rows], y[rows], ratio, exposure.shape, self.config, error if weighted else None)
        if isinstance(fit, TooFewRatios):
            self._fail(name, len(rows), fit.n_left - 1, iteration=fit.iteration)
            return None
        return fit.field, fit.scatter, rows[fit.kept]

    def _fail(self, name: str, n: int, ndof: int, *, iteration: int | None = None, why: str = "") -> None:
        """Raise, or log if this flux may fail."""
        left = f"{n} selected" if iteration is None else f"{ndof + 1} of {n} left in round {iteration + 1}"
        message = (
            f"Too few stars for the aperture correction of {name}: {left}, "
            f"{self.config.minDegreesOfFreedom + 1} needed. "
            + (why or f"Loosen {self.selector.place}, e.g. its signalToNoise.")
        )
        if name in self.config.allowFailure:
            log.warning("%s", message)
            return
        extra = {} if iteration is None else {"iteration": iteration}
        raise MeasureApCorrError(message, name=name, nSources=n, ndof=ndof, **extra)

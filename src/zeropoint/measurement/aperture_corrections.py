"""Aperture corrections: fit ratios of fluxes to a reference flux over the image."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.catalogs.selectors import sourceSelectorRegistry
from zeropoint.datamodel.catalog import Schema, SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.fields import ChebyshevPolynomial, chebyshev_terms, fit_chebyshev
from zeropoint.errors import MeasureApCorrError
from zeropoint.measurement import plugins  # noqa: F401  (fills the registry)
from zeropoint.measurement.base import flag_spec, pluginRegistry

__all__ = [
    "ApCorrMap",
    "ChebyshevFitConfig",
    "MeasureApCorr",
    "MeasureApCorrConfig",
    "MeasureApCorrResult",
    "RatioFit",
    "ap_corr_names",
    "fit_ratio",
]

log = logging.getLogger(__name__)

#: Column name (``A_instFlux``, ``A_instFluxErr``) -> correction or its error over the image.
type ApCorrMap = dict[str, ChebyshevPolynomial]

#: Added to the scatter so that identical ratios do not reject each other.
_TINY = 1e-7
_MAD_TO_SIGMA = 1.482602218505602
#: Error added to every ratio, so that a few very bright stars do not decide alone.
_FLOOR = 0.002
#: A higher order must lower the squared prediction error by more than this factor to be taken.
_ORDER_GAIN = 1.03


def ap_corr_names(schema: Schema) -> tuple[str, ...]:
    """Return the sorted prefixes of fluxes in a schema whose plugins want aperture corrections."""
    names: set[str] = set()
    for name, plugin in pluginRegistry.items():
        names.update(plugin.ap_corr_names(name, plugin.ConfigClass()))
    return tuple(sorted(name for name in names if f"{name}_instFlux" in schema.columns))


class ChebyshevFitConfig(pexConfig.Config):
    """The Chebyshev polynomial of a correction."""

    orderX = pexConfig.RangeField(dtype=int, default=2, min=0, doc="Highest order in x.")
    orderY = pexConfig.RangeField(dtype=int, default=2, min=0, doc="Highest order in y.")
    triangular = pexConfig.Field(
        dtype=bool, default=True, doc="Keep only terms whose orders add up to at most the larger order?"
    )


class MeasureApCorrConfig(pexConfig.Config):
    """Which stars, which reference, which fit."""

    refFluxName = pexConfig.Field(dtype=str, default="slot_CalibFlux", doc="Flux that others are scaled to.")
    sourceSelector = sourceSelectorRegistry.makeField(doc="Selection of stars.", default="science")
    minDegreesOfFreedom = pexConfig.RangeField(
        dtype=int, default=1, min=1, doc="Fewest degrees of freedom; the order falls to keep them."
    )
    fitConfig = pexConfig.ConfigField(dtype=ChebyshevFitConfig, doc="The polynomial fitted.")
    numIter = pexConfig.RangeField(dtype=int, default=4, min=1, doc="Rounds of rejection.")
    numSigmaClip = pexConfig.Field(dtype=float, default=4.0, doc="Rejection limit in sigma.")
    doFinalMedianShift = pexConfig.Field(
        dtype=bool, default=True, doc="Shift the fit by its median residual at the end?"
    )
    min_stars = pexConfig.RangeField(
        dtype=int,
        default=20,
        min=1,
        doc="With fewer stars than this, the selector's limit on signal to noise falls to fallback_snr.",
    )
    fallback_snr = pexConfig.Field(dtype=float, default=50.0, doc="Signal to noise of the second attempt.")
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
        if self.sourceSelector.target.usesMatches:
            raise ValueError(
                f"sourceSelector {self.sourceSelector.name!r} needs matches, which do not exist."
            )


@dataclass(frozen=True)
class RatioFit:
    """A smooth fit to flux ratios.

    Parameters
    ----------
    field
        The fit.
    scatter
        Robust scatter of the residuals in the last round.
    kept : bool, shape (n,)
        Ratios that were not rejected.
    """

    field: ChebyshevPolynomial
    scatter: float
    kept: np.ndarray


def fit_ratio(
    x: np.ndarray,
    y: np.ndarray,
    ratio: np.ndarray,
    shape: tuple[int, int],
    config: MeasureApCorrConfig,
    error: np.ndarray | None = None,
) -> RatioFit | int:
    """Fit flux ratios by a clipped, weighted Chebyshev polynomial of the order that predicts best.

    Parameters
    ----------
    x, y, ratio : float64, shape (n,)
        Positions and finite ratios, n >= 1.
    shape
        (height, width) of the image.
    config
        Highest orders and clipping.
    error : float64, shape (n,), optional
        Standard errors of the ratios; equal weights if None.

    Returns
    -------
    fit
        The fit, or the number of the round (from 0) in which too few stars were left even for a constant.

    Notes
    -----
    The start is the weighted median. Each round rejects for good what is farther from the fit than
    ``numSigmaClip`` robust sigmas (of residuals over errors), and fits again. Of the orders up to the configured
    one, the lowest is taken whose leave-one-out prediction error (PRESS) no higher order beats by more than
    `_ORDER_GAIN` and by more than one standard error of that gain: a few dozen stars do not support a quadratic, and a correction that they do not demand is
    noise that grows to per cents in the corners.
    """
    weight = np.ones(len(ratio)) if error is None else 1.0 / (error**2 + _FLOOR**2)
    kept = np.arange(len(ratio))
    start = _weighted_median(ratio, weight)
    model = np.full(len(ratio), start)
    field = ChebyshevPolynomial.constant(shape[1], shape[0], start)
    scatter = np.nan
    for iteration in range(config.numIter):
        residual = ratio[kept] - model[kept]
        scatter = _MAD_TO_SIGMA * float(np.median(np.abs(residual - np.median(residual)))) + _TINY
        scaled = residual * np.sqrt(weight[kept] / np.median(weight[kept]))
        limit = _MAD_TO_SIGMA * float(np.median(np.abs(scaled - np.median(scaled)))) + _TINY
        kept = kept[np.abs(scaled) <= config.numSigmaClip * limit]
        if len(kept) - 1 < config.minDegreesOfFreedom:
            return iteration
        # about the start: terms that badly placed stars leave open then stay zero
        change = _best_order(x[kept], y[kept], ratio[kept] - start, weight[kept], shape, config)
        coefficients = change.coefficients.copy()
        coefficients[0, 0] += start
        field = ChebyshevPolynomial(shape[1], shape[0], coefficients)
        model = field(x=x, y=y)
    if config.doFinalMedianShift:
        coefficients = field.coefficients.copy()
        coefficients[0, 0] -= _weighted_median(model[kept] - ratio[kept], weight[kept])
        field = ChebyshevPolynomial(shape[1], shape[0], coefficients)
    mask = np.zeros(len(ratio), np.bool_)
    mask[kept] = True
    return RatioFit(field, scatter, mask)


def _weighted_median(values: np.ndarray, weight: np.ndarray) -> float:
    """Return the value where the cumulative weight crosses one half (the midpoint between neighbours)."""
    order = np.argsort(values, kind="stable")
    ordered, cumulative = values[order], np.cumsum(weight[order])
    half = 0.5 * cumulative[-1]
    i = int(np.searchsorted(cumulative, half * (1.0 - 1e-12)))
    if i + 1 < len(ordered) and cumulative[i] <= half * (1.0 + 1e-12):
        return float(0.5 * (ordered[i] + ordered[i + 1]))
    return float(ordered[i])


def _best_order(
    x: np.ndarray,
    y: np.ndarray,
    values: np.ndarray,
    weight: np.ndarray,
    shape: tuple[int, int],
    config: MeasureApCorrConfig,
) -> ChebyshevPolynomial:
    """Fit every order up to the configured one and return the lowest that predicts (nearly) best."""
    fits: list[tuple[np.ndarray, ChebyshevPolynomial]] = []
    triangular = config.fitConfig.triangular
    for top in range(max(config.fitConfig.orderX, config.fitConfig.orderY) + 1):
        order_x, order_y = min(top, config.fitConfig.orderX), min(top, config.fitConfig.orderY)
        terms = chebyshev_terms(order_x, order_y, triangular=triangular)
        if len(values) - len(terms) < config.minDegreesOfFreedom:
            break
        field = fit_chebyshev(
            x, y, values, shape[1], shape[0], order_x, order_y, weights=weight, triangular=triangular
        )
        design = np.stack(
            [
                ChebyshevPolynomial(
                    shape[1],
                    shape[0],
                    np.eye(1, (j + 1) * (i + 1), (j + 1) * (i + 1) - 1).reshape(j + 1, i + 1),
                )(x=x, y=y)
                for j, i in terms
            ],
            axis=1,
        )
        q, _ = np.linalg.qr(design * np.sqrt(weight)[:, None])
        leverage = np.clip(np.sum(q * q, axis=1), 0.0, 1.0 - 1e-9)
        left_out = (values - field(x=x, y=y)) / (1.0 - leverage)
        fits.append((weight * left_out**2, field))
    best = min((error for error, _ in fits), key=lambda error: float(error.sum()))
    return next(field for error, field in fits if _predicts_as_well(error, best))


def _predicts_as_well(error: np.ndarray, best: np.ndarray) -> bool:
    """Say whether the gain from squared prediction errors to the best is too small, or not beyond its own error."""
    gain = error - best
    total, noise = float(gain.sum()), float(np.sqrt(np.sum((gain - gain.mean()) ** 2)))
    return total <= max((_ORDER_GAIN - 1.0) * float(best.sum()), noise)


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
) -> np.ndarray | None:
    """Return standard errors of reference over flux, or None if an error is missing.

    Both fluxes share the photons of the star, so the noise of the smaller aperture cancels to first order and
    what counts is what the reference aperture adds.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        outer = catalog[f"{reference}_instFluxErr"][rows] / catalog[f"{reference}_instFlux"][rows]
        inner = catalog[f"{name}_instFluxErr"][rows] / catalog[f"{name}_instFlux"][rows]
    if not (np.isfinite(outer).all() and np.isfinite(inner).all()):
        return None
    return np.abs(ratio) * np.sqrt(np.maximum(outer**2 - inner**2, (0.1 * outer) ** 2))


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
        names = ap_corr_names(schema) if names_to_correct is None else tuple(sorted(names_to_correct))
        #: Fluxes to correct.
        self.names = tuple(name for name in names if f"{name}_instFlux" in schema)
        for name in (self.config.refFluxName, *self.names):
            schema.add(flag_spec(f"apcorr_{name}_used", "used to measure this aperture correction"))
        self.selector = self.config.sourceSelector.apply()

    def _select(self, exposure: Exposure, catalog: SourceCatalog) -> np.ndarray:
        """Select stars; where they are few, also fainter ones, which weigh less."""
        selected = self.selector.run(catalog, exposure=exposure).selected
        limit = getattr(self.selector.config, "signalToNoise", None)
        if np.count_nonzero(selected) >= self.config.min_stars or limit is None:
            return selected
        if limit.minimum is None or limit.minimum <= self.config.fallback_snr:
            return selected
        relaxed = type(self.selector.config)()
        for name, value in self.selector.config.items():
            setattr(relaxed, name, value)
        relaxed.signalToNoise.minimum = self.config.fallback_snr
        log.debug(
            "%d stars for aperture corrections: S/N limit lowered to %g",
            np.count_nonzero(selected),
            self.config.fallback_snr,
        )
        return type(self.selector)(relaxed).run(catalog, exposure=exposure).selected

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
        """
        reference = self.config.refFluxName
        ref_flux = catalog[f"{reference}_instFlux"]
        selected = self._select(exposure, catalog)
        selected = selected & ~catalog[f"{reference}_flag"] & np.isfinite(ref_flux)
        result: ApCorrMap = {}
        n_used: dict[str, int] = {}
        for name in self.names:
            fit = self._measure_one(exposure, catalog, name, selected)
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
        self, exposure: Exposure, catalog: SourceCatalog, name: str, selected: np.ndarray
    ) -> tuple[ChebyshevPolynomial, float, np.ndarray] | None:
        flux = catalog[f"{name}_instFlux"]
        x, y = catalog["slot_Centroid_x"], catalog["slot_Centroid_y"]
        with np.errstate(invalid="ignore"):
            good = selected & ~catalog[f"{name}_flag"] & np.isfinite(flux) & (flux > 0)
        rows = np.flatnonzero(good & np.isfinite(x) & np.isfinite(y))
        if len(rows) - 1 < self.config.minDegreesOfFreedom:
            self._fail(name, len(rows), len(rows) - 1)
            return None
        reference = self.config.refFluxName
        ratio = catalog[f"{reference}_instFlux"][rows] / flux[rows]
        error = _ratio_error(catalog, reference, name, rows, ratio)
        fit = fit_ratio(x[rows], y[rows], ratio, exposure.shape, self.config, error)
        if not isinstance(fit, RatioFit):
            self._fail(name, len(rows), self.config.minDegreesOfFreedom - 1, iteration=fit)
            return None
        return fit.field, fit.scatter, rows[fit.kept]

    def _fail(self, name: str, n: int, ndof: int, iteration: int | None = None) -> None:
        """Raise, or log if this flux may fail."""
        where = "" if iteration is None else f" in round {iteration + 1}"
        message = (
            f"Too few stars for the aperture correction of {name}{where}: {n} selected, "
            f"{self.config.minDegreesOfFreedom + 1} needed. Loosen sourceSelector, e.g. its signalToNoise."
        )
        if name in self.config.allowFailure:
            log.warning("%s", message)
            return
        extra = {} if iteration is None else {"iteration": iteration}
        raise MeasureApCorrError(message, name=name, nSources=n, ndof=ndof, **extra)

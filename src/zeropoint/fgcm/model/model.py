"""The photometric model: from parameters to what is added to each magnitude, its derivatives and their transpose.

The model of an observation is the sum of two numbers of its exposure and detector, both linear in the airmass between two
nodes: A, which is added to the magnitude, and I10, through which the star's colour acts.  So a fit needs four numbers of
each exposure and detector, and the derivative of its objective by these four (`zeropoint.fgcm.model.sweep`) is all that the
gradient needs of the observations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.atmosphere import AtmosphereParameters
from zeropoint.fgcm.model.exposures import FitExposures
from zeropoint.fgcm.model.layout import ParameterLayout
from zeropoint.fgcm.model.parameters import FitParameters
from zeropoint.fgcm.model.passband_source import FITTED, PassbandSource
from zeropoint.fgcm.threads import finish

__all__ = ["ModelTables", "PhotometricModel", "ab_zeropoint"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: In the terms of the tables: what is added to the magnitude, and the colour of the passband.
_A, _B = 0, 1
#: Exposures times detectors from which on filters are integrated at once.
_MANY = 20_000


def ab_zeropoint(mirror_area: float, gain: float) -> float:
    """Return the constant that turns instrumental magnitudes into about AB magnitudes.

    Parameters
    ----------
    mirror_area
        cm^2.
    gain
        Electrons per count.
    """
    return float(-48.6 + 2.5 * 27.0 + 2.5 * np.log10(mirror_area) - 2.5 * np.log10(6.6 * gain))


@dataclass(frozen=True)
class ModelTables:
    """The model of each exposure and detector.

    Parameters
    ----------
    values : float64, shape (n_exp * n_det, 4)
        A at the lower node of the airmass (mag), how much it is higher at the upper node, and the same of I10 (Angstrom).
        NaN for exposures that were not asked for.
    i10_std : float64, shape (n_exp * n_det,)
        I10 of the band's standard passband, Angstrom.
    band_i10_std : float64, shape (n_band,)
        The same by band; 0 for bands without a filter.
    band_i10_range : float64, shape (n_band, 2)
        Least and greatest I10 minus that of the standard passband, Angstrom; 0 for bands without exposures.
    derivatives : mapping of float64, shape (n_exp, n_det, 2, 2)
        Parameter of the atmosphere -> derivative of [A, I10] at [lower, upper] node by it: axes exposure, detector, node,
        quantity. Zero where the parameter is clipped. Empty if not asked for, or without atmosphere.
    atmosphere
        Of the exposures, at the boresight.
    n_det
        Number of detectors.
    """

    values: FloatArray
    i10_std: FloatArray
    band_i10_std: FloatArray
    band_i10_range: FloatArray
    derivatives: Mapping[str, FloatArray]
    atmosphere: AtmosphereParameters
    n_det: int

    @cached_property
    def relative(self) -> FloatArray:
        """The values with I10 minus that of the standard passband: what kernels read."""
        out = self.values.copy()
        out[:, 2] -= self.i10_std
        return out

    def at(self, t: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return A and I10 between the nodes, each of shape (n_exp, n_det).

        Parameters
        ----------
        t
            Place between the nodes, 0 to 1; broadcasts to (n_exp, n_det).
        """
        v = self.values.reshape(-1, self.n_det, 4)
        t = np.asarray(t, float)
        return v[..., 0] + t * v[..., 1], v[..., 2] + t * v[..., 3]


class PhotometricModel:
    """The model of a survey's exposures.

    Parameters
    ----------
    exposures
        Exposures, with the nodes of their airmass.
    passbands
        Integrals.
    zp_ab
        Constant of all magnitudes (`ab_zeropoint`).
    threads
        Filters that are integrated at once; the result does not depend on it.

    Raises
    ------
    InvalidInputError
        If filters of one band have different standard passbands.
    """

    def __init__(
        self, exposures: FitExposures, passbands: PassbandSource, *, zp_ab: float = 0.0, threads: int = 1
    ) -> None:
        self.exposures = exposures
        self.passbands = passbands
        self.zp_ab = float(zp_ab)
        self.threads = threads
        self.band_filter = _band_filters(exposures, passbands)

    @cached_property
    def band_i10_std(self) -> FloatArray:
        """I10 of each band's standard passband, Angstrom, shape (n_band,); 0 without a filter."""
        return np.where(self.band_filter >= 0, self.passbands.i10_std[self.band_filter], 0.0)

    @cached_property
    def band_lambda_std(self) -> FloatArray:
        """Standard wavelength of each band, Angstrom, shape (n_band,); NaN without a filter."""
        return np.where(self.band_filter >= 0, self.passbands.lambda_std[self.band_filter], np.nan)

    def tables(
        self,
        parameters: FitParameters,
        exposures_mask: BoolArray | None = None,
        *,
        derivatives: bool = True,
    ) -> ModelTables:
        """Evaluate the model.

        Parameters
        ----------
        parameters
            Of the fit.
        exposures_mask : bool, shape (n_exp,)
            Exposures that are wanted; None: all that have a passband.
        derivatives
            Whether to compute derivatives by the atmosphere.
        """
        e = self.exposures
        wanted = e.has_passband if exposures_mask is None else exposures_mask & e.has_passband
        n_exp, n_det = len(e), e.n_det
        derivatives = derivatives and bool(self.passbands.fitted)
        # axes: exposure, detector, node, quantity
        nodes = np.full((n_exp, n_det, 2, 2), np.nan)
        slopes = {name: np.zeros(nodes.shape) for name in FITTED} if derivatives else {}
        both = _join(
            parameters.at(e, self.passbands.ranges, e.airmass_low),
            parameters.at(e, self.passbands.ranges, e.airmass_high),
        )

        filters = np.unique(e.filter[wanted])

        def integrate(filter_index: int) -> None:
            rows = np.flatnonzero(wanted & (e.filter == filter_index))
            nodes_of = both.rows(np.concatenate([rows, rows + n_exp]))
            integrals = self.passbands.evaluate(filter_index, nodes_of, derivatives=derivatives)
            nodes[rows] = _by_node(integrals.magnitude(), integrals.i10)
            for name, slope in slopes.items():
                slope[rows] = _by_node(integrals.d_magnitude(name), integrals.d_i10(name))

        # of few exposures arrays are so short that threads would wait for each other
        threads = self.threads if np.count_nonzero(wanted) * n_det > _MANY else 1
        finish(lambda k: integrate(int(filters[k])), len(filters), threads)
        self._stop_clipped(parameters, slopes)
        nodes[..., _A] += self._gray_terms(parameters)[..., None]
        residual = parameters.airmass_residual[np.maximum(e.band, 0)]
        nodes[:, :, 0, _A] += (residual * (e.airmass_low - 1.0))[:, None]
        nodes[:, :, 1, _A] += (residual * (e.airmass_high - 1.0))[:, None]
        values = np.stack(
            [
                nodes[:, :, 0, _A], nodes[:, :, 1, _A] - nodes[:, :, 0, _A],
                nodes[:, :, 0, _B], nodes[:, :, 1, _B] - nodes[:, :, 0, _B],
            ],
            axis=-1,
        )  # fmt: skip
        by_exposure = np.where(e.has_passband, self.band_i10_std[np.maximum(e.band, 0)], np.nan)
        return ModelTables(
            values.reshape(-1, 4),
            np.repeat(by_exposure, n_det),
            self.band_i10_std,
            _band_ranges(nodes[..., _B] - by_exposure[:, None, None], e.band, wanted, e.n_band),
            slopes,
            parameters.at(e, self.passbands.ranges),
            n_det,
        )

    def _gray_terms(self, parameters: FitParameters) -> FloatArray:
        """Return what is added to magnitudes besides the integrals, shape (n_exp, n_det)."""
        e = self.exposures
        band, filters = np.maximum(e.band, 0), np.maximum(e.filter, 0)
        by_exposure = (
            self.zp_ab
            + self.dust(parameters)
            + parameters.filter_offset[filters]
            + parameters.abs_offset[band]
            + parameters.aper_slope[band] * parameters.seeing_offset(e)
            + parameters.exposure_gray
        )
        return np.asarray(by_exposure[:, None] + parameters.superstar[e.epoch, filters])

    def dust(self, parameters: FitParameters) -> FloatArray:
        """Return the term of the optics since their last wash, magnitudes, shape (n_exp,).

        Parameters
        ----------
        parameters
            Of the fit.
        """
        e = self.exposures
        band = np.maximum(e.band, 0)
        intercept, slope = parameters.qe_intercept[band, e.wash], parameters.qe_slope[band, e.wash]
        return np.asarray(intercept + slope * e.wash_time)

    def _stop_clipped(self, parameters: FitParameters, slopes: Mapping[str, FloatArray]) -> None:
        """Set derivatives to 0, in place, where the parameter is beyond its range."""
        if not slopes:
            return
        e, ranges = self.exposures, self.passbands.ranges
        given: dict[str, tuple[FloatArray, npt.ArrayLike]] = {
            "ln_pwv": (parameters.ln_pwv_of_bands(e), np.log(ranges["pwv"])),
            "ln_tau": (parameters.ln_tau(e), np.log(ranges["tau"])),
            "o3": (parameters.o3[e.night], ranges["o3"]),
            "alpha": (parameters.alpha[e.night], ranges["alpha"]),
        }
        for name, (values, limits) in given.items():
            low, high = np.asarray(limits)
            slopes[name][(values < low) | (values > high)] = 0.0

    def gradient(
        self, ec_gradient: FloatArray, tables: ModelTables, parameters: FitParameters, layout: ParameterLayout
    ) -> FloatArray:
        """Return the gradient of an objective by the free parameters.

        Parameters
        ----------
        ec_gradient : float64, shape (n_exp * n_det, 4)
            Its derivatives by the columns of ``tables.values``.
        tables
            With derivatives.
        parameters
            Where the tables were evaluated.
        layout
            Free parameters.

        Returns
        -------
        gradient : float64, shape (n_free,)
        """
        e = self.exposures
        g = ec_gradient.reshape(len(e), e.n_det, 2, 2)
        # derivatives by [A, I10] (axis 2 of g) at the nodes: values are (low, high - low)
        at_nodes = np.stack([g[..., 0] - g[..., 1], g[..., 1]], axis=-2)
        atmosphere = {
            name: np.einsum("ednq,ednq->e", at_nodes, slope) for name, slope in tables.derivatives.items()
        }
        gray = at_nodes[..., _A].sum(axis=-1)
        by_exposure = gray.sum(axis=-1)
        rise = np.einsum("edn,ne->e", at_nodes[..., _A], np.stack([e.airmass_low, e.airmass_high]) - 1.0)
        out = np.zeros(layout.n_free)
        for name, values in self._chain(atmosphere, by_exposure, gray, rise, parameters).items():
            layout.gather(name, values, out)
        return out

    def _chain(
        self,
        atmosphere: Mapping[str, FloatArray],
        by_exposure: FloatArray,
        gray: FloatArray,
        rise: FloatArray,
        parameters: FitParameters,
    ) -> dict[str, FloatArray]:
        """Return derivatives by the elements of each class from those by what an exposure has."""
        e = self.exposures
        usable = e.has_passband
        band, filters = np.maximum(e.band, 0), np.maximum(e.filter, 0)
        by_exposure, rise = np.where(usable, by_exposure, 0.0), np.where(usable, rise, 0.0)
        gray = np.where(usable[:, None], gray, 0.0)

        def total(index: npt.NDArray[np.integer], weights: FloatArray, shape: tuple[int, ...]) -> FloatArray:
            return np.bincount(index, weights=weights, minlength=int(np.prod(shape))).reshape(shape)

        wash = band.astype(np.int64) * e.n_wash + e.wash
        by_wash = (e.n_band, e.n_wash)
        flat = (e.epoch.astype(np.int64) * e.n_filter + filters)[:, None] * e.n_det + np.arange(e.n_det)
        out = {
            "qe_intercept": total(wash, by_exposure, by_wash),
            "qe_slope": total(wash, by_exposure * e.wash_time, by_wash),
            "filter_offset": total(filters, by_exposure, (e.n_filter,)),
            "abs_offset": total(band, by_exposure, (e.n_band,)),
            "superstar": total(flat.ravel(), gray.ravel(), (e.n_epoch, e.n_filter, e.n_det)),
            "aper_slope": total(band, by_exposure * parameters.seeing_offset(e), (e.n_band,)),
            "airmass_residual": total(band, rise, (e.n_band,)),
            "exposure_gray": by_exposure,
        }
        if atmosphere:
            water = np.where(usable, atmosphere["ln_pwv"], 0.0)
            out["water_residual"] = total(band, water, (e.n_band,))
        for name, weight in self.nightly_factors(parameters).items():
            derivative = np.where(usable, atmosphere[weight.source], 0.0) if atmosphere else np.zeros(len(e))
            if weight.is_global:
                out[name] = np.asarray(np.dot(derivative, weight.factor))
            else:
                out[name] = total(e.night, derivative * weight.factor, (e.n_nights,))
        return out

    def nightly_factors(self, parameters: FitParameters) -> dict[str, NightlyFactor]:
        """Return how the atmosphere of each exposure follows from the nightly parameters.

        Parameters
        ----------
        parameters
            Says whether water vapour is retrieved.

        Returns
        -------
        factors : dict
            Class of parameters -> quantity of the atmosphere, and its derivative by the parameter for each exposure.
        """
        e = self.exposures
        one, u = np.ones(len(e)), e.night_time
        factors = {
            "o3": NightlyFactor("o3", one),
            "alpha": NightlyFactor("alpha", one),
            "ln_tau_intercept": NightlyFactor("ln_tau", one),
            "ln_tau_slope": NightlyFactor("ln_tau", u),
        }
        if parameters.retrieved_ln_pwv is not None:
            return factors | {
                "retrieved_scale": NightlyFactor("ln_pwv", parameters.retrieved_ln_pwv, is_global=True),
                "retrieved_offset": NightlyFactor("ln_pwv", one, is_global=True),
                "retrieved_night_offset": NightlyFactor("ln_pwv", one),
            }
        return factors | {
            "ln_pwv_intercept": NightlyFactor("ln_pwv", one),
            "ln_pwv_slope": NightlyFactor("ln_pwv", u),
            "ln_pwv_quadratic": NightlyFactor("ln_pwv", u * u),
        }


@dataclass(frozen=True)
class NightlyFactor:
    """Derivative of a quantity of each exposure's atmosphere by a class of parameters.

    Parameters
    ----------
    source
        ``ln_pwv``, ``o3``, ``ln_tau`` or ``alpha``.
    factor : float64, shape (n_exp,)
        Derivative.
    is_global
        Whether the class is one parameter of all nights.
    """

    source: str
    factor: FloatArray
    is_global: bool = False


def _band_filters(exposures: FitExposures, passbands: PassbandSource) -> npt.NDArray[np.int64]:
    """Return the filter that defines each band's standard passband, -1 for bands without a filter."""
    index = {name: k for k, name in enumerate(passbands.physical_filters)}
    out = np.full(exposures.n_band, -1, np.int64)
    for k, (name, std) in enumerate(
        zip(passbands.physical_filters, passbands.std_physical_filters, strict=True)
    ):
        band = int(exposures.filter_band[k])
        if band < 0 or not (exposures.filter == k).any():
            continue
        if out[band] not in (-1, index[std]):
            raise InvalidInputError(
                f"Filters of the band {exposures.bands[band]} have different standard passbands ({name}: {std}, another: "
                f"{passbands.physical_filters[out[band]]}); map them to one in stdPhysicalFilterOverrideMap."
            )
        out[band] = index[std]
    return out


def _band_ranges(
    values: FloatArray, band: npt.NDArray[np.int16], wanted: BoolArray, n_band: int
) -> FloatArray:
    """Return the least and greatest value of each band's exposures, 0 without any; shape (n_band, 2)."""
    out = np.zeros((n_band, 2))
    for k in np.unique(band[wanted]):
        rows = values[wanted & (band == k)]
        out[k] = rows.min(), rows.max()
    return out


def _join(low: AtmosphereParameters, high: AtmosphereParameters) -> AtmosphereParameters:
    """Return the atmospheres of lower and upper nodes in one."""
    names = ("pmb", "pwv", "o3", "tau", "alpha", "airmass")
    return AtmosphereParameters(
        **{name: np.concatenate([getattr(low, name), getattr(high, name)]) for name in names}
    )


def _by_node(magnitude: FloatArray, color: FloatArray) -> FloatArray:
    """Return two quantities of shape (2 n, n_det), lower nodes first, as (n, n_det, 2, 2)."""
    n, n_det = len(magnitude) // 2, magnitude.shape[1]
    out = np.empty((n, n_det, 2, 2))
    for quantity, values in ((_A, magnitude), (_B, color)):
        out[:, :, 0, quantity], out[:, :, 1, quantity] = values[:n], values[n:]
    return out

"""Which parameters a fit is free to change: the flat vector, its bounds and its priors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.lut_grid import StandardAtmosphere
from zeropoint.fgcm.model.exposures import FitExposures
from zeropoint.fgcm.model.parameters import PARAMETER_CLASSES, FitParameters

__all__ = ["DEFAULT_BOUNDS", "DEFAULT_PRIORS", "LayoutSettings", "ParameterLayout"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: Class -> sigma of its prior around the value that `ParameterLayout.build` takes as its mean; infinite: none.
DEFAULT_PRIORS: Mapping[str, float] = {
    "o3": 15.0,
    "ln_tau_intercept": 0.6,
    "ln_tau_slope": 1.0,
    "alpha": 0.25,
    "ln_pwv_intercept": 0.6,
    "ln_pwv_slope": 1.0,
    "ln_pwv_quadratic": 4.0,
    "retrieved_scale": 0.2,
    "retrieved_offset": 0.2,
    "retrieved_night_offset": 0.2,
    "qe_intercept": 0.1,
    "qe_slope": 2e-3,
    "filter_offset": 0.1,
    "abs_offset": np.inf,
    "superstar": 0.1,
    "aper_slope": 0.5,
    "airmass_residual": 0.002,
    "water_residual": 0.1,
    "exposure_gray": 0.005,
}
#: Class -> bounds, of those whose bounds are not a range of the atmosphere.
DEFAULT_BOUNDS: Mapping[str, tuple[float, float]] = {
    "ln_tau_slope": (-4.0, 4.0),
    "alpha": (0.25, 1.75),
    "ln_pwv_slope": (-4.0, 4.0),
    "ln_pwv_quadratic": (-4.0, 4.0),
    "retrieved_scale": (0.5, 1.5),
    "retrieved_offset": (-0.5, 0.5),
    "retrieved_night_offset": (-0.5, 0.5),
    "qe_intercept": (-0.4, 0.4),
    "qe_slope": (-0.01, 0.01),
    "filter_offset": (-100.0, 100.0),
    "abs_offset": (-100.0, 100.0),
    "superstar": (-1.0, 1.0),
    "aper_slope": (-10.0, 10.0),
    "airmass_residual": (-0.05, 0.05),
    "water_residual": (-1.0, 1.0),
    "exposure_gray": (-10.0, 10.0),
}
_RANGES = {"o3": "o3", "ln_tau_intercept": "tau", "ln_pwv_intercept": "pwv"}
_NIGHTLY = ("o3", "ln_tau_intercept", "ln_tau_slope", "alpha", "ln_pwv_intercept", "ln_pwv_slope")


@dataclass(frozen=True)
class LayoutSettings:
    """Which classes of parameters are free.

    Parameters
    ----------
    atmosphere
        The nightly parameters; False: frozen.
    quadratic_pwv
        Water vapour has a quadratic term in time.
    retrieved_pwv
        Water vapour is what was retrieved, with scale and offset; ``nightly_offset``: with an offset of each night.
    nightly_offset
        See ``retrieved_pwv``.
    wash
        The loss since the last wash, and the steps at washes.
    per_band
        Each band has its own of these (``instrumentParsPerBand``).
    filter_offset
        Offsets of filters that share a band with the standard filter.
    abs_offset
        The absolute throughput: needs references.
    superstar, aper_slope, airmass_residual, water_residual, exposure_gray
        The classes of these names.
    priors
        Class -> sigma of its prior.
    bounds
        Class -> bounds.
    """

    atmosphere: bool = True
    quadratic_pwv: bool = False
    retrieved_pwv: bool = False
    nightly_offset: bool = False
    wash: bool = True
    per_band: bool = False
    filter_offset: bool = True
    abs_offset: bool = False
    superstar: bool = True
    aper_slope: bool = True
    airmass_residual: bool = False
    water_residual: bool = False
    exposure_gray: bool = False
    priors: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_PRIORS))
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=lambda: dict(DEFAULT_BOUNDS))


@dataclass(frozen=True)
class ParameterLayout:
    """The flat vector of the free parameters.

    Parameters
    ----------
    indices
        Class -> index of each of its elements in the flat vector, -1 where it is fixed; elements may share one.
    n_free
        Length of the vector.
    lower, upper : float64, shape (n_free,)
        Bounds.
    prior_mean, prior_sigma : float64, shape (n_free,)
        Normal priors; an infinite sigma: none.
    names
        Of the elements, such as ``ln_pwv_intercept[3]``; of those that share an entry the first.
    night_middle : float64, shape (n_nights,)
        Mean time within the night of the exposures that the fit uses, days; 0 without any.
    """

    indices: Mapping[str, IntArray]
    n_free: int
    lower: FloatArray
    upper: FloatArray
    prior_mean: FloatArray
    prior_sigma: FloatArray
    names: tuple[str, ...]
    night_middle: FloatArray

    @classmethod
    def build(
        cls,
        exposures: FitExposures,
        used: BoolArray,
        start: FitParameters,
        ranges: Mapping[str, tuple[float, float]],
        standard: StandardAtmosphere,
        std_physical_filters: tuple[str, ...],
        settings: LayoutSettings,
    ) -> ParameterLayout:
        """Return the layout of a fit.

        Parameters
        ----------
        exposures
            Of the survey.
        used : bool, shape (n_exp,)
            Those that the fit uses: what none of them touches is fixed.
        start
            Shapes; and the means of the priors of what has no physical mean (filter offsets, absolute offset).
        ranges
            Of the atmosphere.
        standard
            The standard atmosphere: mean of the priors of the nightly parameters.
        std_physical_filters
            For each filter, the one that defines its standard passband.
        settings
            Which classes are free.
        """
        free = _free_elements(exposures, used, std_physical_filters, settings)
        bounds = {name: _bounds(name, ranges, settings) for name in PARAMETER_CLASSES}
        means = _prior_means(start, standard)
        indices: dict[str, IntArray] = {}
        columns: dict[str, list[FloatArray]] = {"lower": [], "upper": [], "mean": [], "sigma": []}
        names: list[str] = []
        for name in PARAMETER_CLASSES:
            groups = free[name]
            used_groups, inverse = np.unique(groups[groups >= 0], return_inverse=True)
            index = np.full(groups.shape, -1, np.int64)
            index[groups >= 0] = len(names) + inverse
            indices[name] = index
            n = len(used_groups)
            first = [int(np.flatnonzero(groups.ravel() == group)[0]) for group in used_groups]
            names += [_element_name(name, place, groups.shape) for place in first]
            columns["lower"].append(np.full(n, bounds[name][0]))
            columns["upper"].append(np.full(n, bounds[name][1]))
            columns["mean"].append(means[name].ravel()[first])
            columns["sigma"].append(np.full(n, settings.priors.get(name, np.inf)))
        flat = {name: np.concatenate(parts) for name, parts in columns.items()}
        counted = used & exposures.has_passband
        n_used, times = (
            np.bincount(exposures.night[counted], weights, exposures.n_nights)
            for weights in (None, exposures.night_time[counted])
        )
        return cls(
            indices, len(names), flat["lower"], flat["upper"], flat["mean"], flat["sigma"], tuple(names),
            times / np.maximum(n_used, 1),
        )  # fmt: skip

    @cached_property
    def slices(self) -> Mapping[str, slice]:
        """Class -> its part of the flat vector."""
        out = {}
        for name, index in self.indices.items():
            known = index[index >= 0]
            out[name] = slice(int(known.min()), int(known.max()) + 1) if known.size else slice(0, 0)
        return out

    def pack(self, parameters: FitParameters) -> FloatArray:
        """Return the flat vector of parameters.

        Parameters
        ----------
        parameters
            All of them; of elements that share an entry the mean counts.
        """
        total, count = np.zeros(self.n_free), np.zeros(self.n_free)
        for name, index in self.indices.items():
            known = index >= 0
            np.add.at(total, index[known], getattr(parameters, name)[known])
            np.add.at(count, index[known], 1.0)
        return np.asarray(total / np.maximum(count, 1.0))

    def unpack(self, flat: FloatArray, base: FitParameters) -> FitParameters:
        """Return parameters: those of a flat vector, the others from a base.

        Parameters
        ----------
        flat : float64, shape (n_free,)
            Values.
        base
            All others.
        """
        changed = {}
        for name, index in self.indices.items():
            if (index >= 0).any():
                changed[name] = np.where(index >= 0, flat[np.maximum(index, 0)], getattr(base, name))
        return base.replace(**changed)

    def gather(self, name: str, values: FloatArray, out: FloatArray) -> None:
        """Add derivatives by the elements of a class to a flat gradient, in place.

        Parameters
        ----------
        name
            Class.
        values
            Derivative by each element, of the class's shape.
        out : float64, shape (n_free,)
            The gradient.
        """
        index = self.indices[name]
        known = index >= 0
        if known.any():
            out += np.bincount(index[known], weights=values[known], minlength=self.n_free)


def _free_elements(
    exposures: FitExposures, used: BoolArray, std_physical_filters: tuple[str, ...], settings: LayoutSettings
) -> dict[str, IntArray]:
    """Return for each class the group that each element belongs to, -1 where it is fixed; a group has one value."""
    used = used & exposures.has_passband
    nights = np.bincount(exposures.night[used], minlength=exposures.n_nights) > 0
    free: dict[str, IntArray] = {}

    def choose(name: str, mask: npt.ArrayLike) -> None:
        mask = np.asarray(mask)
        free[name] = np.where(mask, np.arange(mask.size).reshape(mask.shape), -1)

    pwv = settings.atmosphere and not settings.retrieved_pwv
    retrieved = settings.atmosphere and settings.retrieved_pwv
    for name in _NIGHTLY:
        choose(name, nights & (pwv if name.startswith("ln_pwv") else settings.atmosphere))
    choose("ln_pwv_quadratic", nights & (pwv and settings.quadratic_pwv))
    choose("retrieved_scale", retrieved and bool(nights.any()))
    choose("retrieved_offset", retrieved and not settings.nightly_offset and bool(nights.any()))
    choose("retrieved_night_offset", nights & (retrieved and settings.nightly_offset))
    washed = np.zeros((exposures.n_band, exposures.n_wash), np.bool_)
    washed[exposures.band[used], exposures.wash[used]] = settings.wash
    choose("qe_slope", washed)
    choose("qe_intercept", washed & (np.arange(exposures.n_wash) > 0))
    if not settings.per_band:
        for name in ("qe_slope", "qe_intercept"):
            # what is common to all bands
            free[name] = np.where(free[name] >= 0, np.arange(exposures.n_wash), -1)
    bands = np.bincount(exposures.band[used], minlength=exposures.n_band) > 0
    filters = np.bincount(exposures.filter[used], minlength=exposures.n_filter) > 0
    standard = np.array([name == std for name, std in zip(exposures.physical_filters, std_physical_filters)])
    choose("filter_offset", filters & ~standard & settings.filter_offset)
    choose("abs_offset", bands & settings.abs_offset)
    flats = np.zeros((exposures.n_epoch, exposures.n_filter, exposures.n_det), np.bool_)
    flats[exposures.epoch[used], exposures.filter[used]] = settings.superstar
    choose("superstar", flats)
    choose("aper_slope", bands & settings.aper_slope)
    choose("airmass_residual", bands & settings.airmass_residual)
    choose("water_residual", bands & settings.water_residual)
    choose("exposure_gray", used & settings.exposure_gray)
    return free


def _bounds(
    name: str, ranges: Mapping[str, tuple[float, float]], settings: LayoutSettings
) -> tuple[float, float]:
    """Return the bounds of a class."""
    if name in settings.bounds:
        return settings.bounds[name]
    low, high = ranges[_RANGES[name]]
    return (float(np.log(low)), float(np.log(high))) if name.startswith("ln_") else (low, high)


def _prior_means(start: FitParameters, standard: StandardAtmosphere) -> dict[str, FloatArray]:
    """Return the mean of the prior of each element."""
    means = {name: np.zeros_like(getattr(start, name)) for name in PARAMETER_CLASSES}
    means["o3"] += standard.o3
    means["alpha"] += standard.alpha
    means["ln_tau_intercept"] += np.log(standard.tau)
    means["ln_pwv_intercept"] += np.log(standard.pwv)
    means["retrieved_scale"] = np.ones(())
    means["filter_offset"] = start.filter_offset
    means["abs_offset"] = start.abs_offset
    return means


def _element_name(name: str, place: int, shape: tuple[int, ...]) -> str:
    """Return such as ``superstar[0,2,5]``."""
    if not shape:
        return name
    return f"{name}[{','.join(str(k) for k in np.unravel_index(place, shape))}]"

"""The parameters of a fit: nights, optics, detectors, and what an exposure's atmosphere is by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.atmosphere import AtmosphereParameters
from zeropoint.fgcm.lut_grid import StandardAtmosphere
from zeropoint.fgcm.model.exposures import FitExposures

__all__ = ["PARAMETER_CLASSES", "FitParameters"]

FloatArray = npt.NDArray[np.float64]

#: Classes of parameters that a fit can have, in the order of the flat vector.
PARAMETER_CLASSES = (
    "o3", "ln_tau_intercept", "ln_tau_slope", "alpha", "ln_pwv_intercept", "ln_pwv_slope", "ln_pwv_quadratic",
    "retrieved_scale", "retrieved_offset", "retrieved_night_offset", "qe_intercept", "qe_slope", "filter_offset",
    "abs_offset", "superstar", "aper_slope", "airmass_residual", "water_residual",
    "exposure_gray",
)  # fmt: skip


@dataclass(frozen=True)
class FitParameters:
    """Values of all parameters, free or not; float64.

    Parameters
    ----------
    o3, ln_tau_intercept, ln_tau_slope, alpha, ln_pwv_intercept, ln_pwv_slope, ln_pwv_quadratic : shape (n_nights,)
        Dobson units; ln of aerosol depth at the night's boundary, and per day; its slope; ln of water vapour in mm, per day,
        per day^2.
    retrieved_scale, retrieved_offset : shape ()
        With retrieved water vapour: ln w = scale x retrieved + offset + night's offset.
    retrieved_night_offset : shape (n_nights,)
        Of each night.
    qe_intercept, qe_slope : shape (n_band, n_wash)
        Magnitudes after a wash, and per day since.
    filter_offset : shape (n_filter,)
        Magnitudes.
    abs_offset : shape (n_band,)
        2.5 log10 of the absolute throughput, magnitudes.
    superstar : shape (n_epoch, n_filter, n_det)
        Constant of each detector's flat, magnitudes, added.
    aper_slope, aper_pivot : shape (n_band,)
        Aperture correction: slope times (seeing variable - pivot), magnitudes.
    aper_range : shape (n_band, 2)
        The seeing variable is clipped to it.
    airmass_residual : shape (n_band,)
        What the absorption model lacks, magnitudes per airmass beyond 1.
    water_residual : shape (n_band,)
        How much stronger the lines of water in the band are than the model has them: added to ln of the water vapour.
    exposure_gray : shape (n_exp,)
        Gray of each exposure, magnitudes, added.
    retrieved_ln_pwv : shape (n_exp,), or None
        Retrieved water vapour that takes the place of the nightly parameters.
    """

    o3: FloatArray
    ln_tau_intercept: FloatArray
    ln_tau_slope: FloatArray
    alpha: FloatArray
    ln_pwv_intercept: FloatArray
    ln_pwv_slope: FloatArray
    ln_pwv_quadratic: FloatArray
    retrieved_scale: FloatArray
    retrieved_offset: FloatArray
    retrieved_night_offset: FloatArray
    qe_intercept: FloatArray
    qe_slope: FloatArray
    filter_offset: FloatArray
    abs_offset: FloatArray
    superstar: FloatArray
    aper_slope: FloatArray
    aper_pivot: FloatArray
    aper_range: FloatArray
    airmass_residual: FloatArray
    water_residual: FloatArray
    exposure_gray: FloatArray
    retrieved_ln_pwv: FloatArray | None = None

    @classmethod
    def standard(
        cls,
        exposures: FitExposures,
        standard: StandardAtmosphere,
        abs_offset: npt.ArrayLike = 0.0,
    ) -> FitParameters:
        """Return where a fit starts: the standard atmosphere, no corrections.

        Parameters
        ----------
        exposures
            Of the fit.
        standard
            The standard atmosphere.
        abs_offset
            2.5 log10 of the approximate throughput of each band.
        """
        n_nights, n_band = exposures.n_nights, exposures.n_band
        nightly = {
            "o3": standard.o3,
            "ln_tau_intercept": np.log(standard.tau),
            "alpha": standard.alpha,
            "ln_pwv_intercept": np.log(standard.pwv),
        }
        values: dict[str, Any] = {name: np.zeros(shape) for name, shape in _shapes(exposures).items()}
        values |= {name: np.full(n_nights, value) for name, value in nightly.items()}
        values["retrieved_scale"] = np.ones(())
        values["abs_offset"] = np.broadcast_to(np.asarray(abs_offset, float), (n_band,)).copy()
        values["aper_pivot"] = np.zeros(n_band)
        values["aper_range"] = np.tile([-np.inf, np.inf], (n_band, 1))
        return cls(**values)

    def replace(self, **values: Any) -> FitParameters:
        """Return the parameters with some others in their place.

        Parameters
        ----------
        **values
            Field -> its values, of the same shape.
        """
        return replace(self, **values)

    def copy(self) -> FitParameters:
        """Return a copy that shares nothing."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return replace(self, **{name: value.copy() for name, value in values.items() if value is not None})

    def ln_pwv(self, exposures: FitExposures) -> FloatArray:
        """Return ln of the water vapour of each exposure, not clipped.

        Parameters
        ----------
        exposures
            Of the fit.
        """
        night, u = exposures.night, exposures.night_time
        if self.retrieved_ln_pwv is not None:
            offset = self.retrieved_offset + self.retrieved_night_offset[night]
            return np.asarray(self.retrieved_scale * self.retrieved_ln_pwv + offset)
        return np.asarray(
            self.ln_pwv_intercept[night] + u * (self.ln_pwv_slope[night] + u * self.ln_pwv_quadratic[night])
        )

    def pwv(self, exposures: FitExposures, ranges: Mapping[str, tuple[float, float]]) -> FloatArray:
        """Return the water vapour of each exposure, mm, within its range.

        Parameters
        ----------
        exposures
            Of the fit.
        ranges
            Least and greatest value of ``pwv``.
        """
        return np.exp(np.clip(self.ln_pwv(exposures), *np.log(ranges["pwv"])))

    def ln_pwv_of_bands(self, exposures: FitExposures) -> FloatArray:
        """Return ln of the water vapour that gives each exposure the absorption of its band, not clipped.

        Parameters
        ----------
        exposures
            Of the fit.
        """
        band = exposures.band
        return self.ln_pwv(exposures) + np.where(band >= 0, self.water_residual[np.maximum(band, 0)], 0.0)

    def ln_tau(self, exposures: FitExposures) -> FloatArray:
        """Return ln of the aerosol depth of each exposure, not clipped.

        Parameters
        ----------
        exposures
            Of the fit.
        """
        night = exposures.night
        return np.asarray(self.ln_tau_intercept[night] + exposures.night_time * self.ln_tau_slope[night])

    def at(
        self,
        exposures: FitExposures,
        ranges: Mapping[str, tuple[float, float]],
        airmass: FloatArray | None = None,
    ) -> AtmosphereParameters:
        """Return the atmosphere of each exposure as its band feels it: with the strength of the band's lines of water.

        Parameters
        ----------
        exposures
            Of the fit.
        ranges
            Least and greatest value of pwv, o3, tau, alpha and airmass: values beyond are clipped.
        airmass
            Secant, shape (n_exp,); None: that at the boresight.
        """
        night = exposures.night
        secant = exposures.airmass if airmass is None else airmass
        return AtmosphereParameters(
            pmb=exposures.pmb,
            pwv=np.exp(np.clip(self.ln_pwv_of_bands(exposures), *np.log(ranges["pwv"]))),
            o3=np.clip(self.o3[night], *ranges["o3"]),
            tau=np.exp(np.clip(self.ln_tau(exposures), *np.log(ranges["tau"]))),
            alpha=np.clip(self.alpha[night], *ranges["alpha"]),
            airmass=np.clip(secant, *ranges["airmass"]),
        )

    def seeing_offset(self, exposures: FitExposures) -> FloatArray:
        """Return the clipped seeing variable minus its pivot, shape (n_exp,); 0 where it is not known.

        Parameters
        ----------
        exposures
            Of the fit; `FitExposures.aperture_variable` is the variable.
        """
        band = np.maximum(exposures.band, 0)
        low, high = self.aper_range[band].T
        offset = np.clip(exposures.aperture_variable, low, high) - self.aper_pivot[band]
        return np.where((exposures.band >= 0) & np.isfinite(offset), offset, 0.0)


def _shapes(exposures: FitExposures) -> dict[str, tuple[int, ...]]:
    """Return the shape of each class of parameters."""
    nightly = (exposures.n_nights,)
    by_wash = (exposures.n_band, exposures.n_wash)
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(PARAMETER_CLASSES, nightly)
    return shapes | {
        "retrieved_scale": (),
        "retrieved_offset": (),
        "qe_intercept": by_wash,
        "qe_slope": by_wash,
        "filter_offset": (exposures.n_filter,),
        "abs_offset": (exposures.n_band,),
        "superstar": (exposures.n_epoch, exposures.n_filter, exposures.n_det),
        "aper_slope": (exposures.n_band,),
        "airmass_residual": (exposures.n_band,),
        "water_residual": (exposures.n_band,),
        "exposure_gray": (len(exposures),),
    }

"""Half of chi-square of a survey as a function of the free parameters: what the minimisers see of the model."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.fit.exposure_derivatives import exposure_derivatives
from zeropoint.fgcm.fit.reduced import BandCurvature, Nodes, band_curvatures, parameter_hessian
from zeropoint.fgcm.model.sweep import sweep

if TYPE_CHECKING:
    from zeropoint.fgcm.model.layout import ParameterLayout
    from zeropoint.fgcm.model.model import ModelTables, PhotometricModel
    from zeropoint.fgcm.model.observations import FitObservations
    from zeropoint.fgcm.model.parameters import FitParameters
    from zeropoint.fgcm.model.sweep import References, SweepResult

__all__ = ["SurveyProblem", "color_coefficients"]

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]

_MAGNITUDE = 2.5 / np.log(10.0)


def color_coefficients(slopes: FloatArray, i10_std: FloatArray) -> FloatArray:
    """Return the derivative of a magnitude by I10 for each star and band, shape (n_star * n_band,), mag per Angstrom.

    Parameters
    ----------
    slopes : float64, shape (n_star * n_band,)
        F', 1/Angstrom.
    i10_std : float64, shape (n_band,)
        Of the standard passbands, Angstrom.
    """
    slope = slopes.reshape(-1, len(i10_std))
    return np.asarray(_MAGNITUDE * slope / (1.0 + slope * i10_std)).ravel()


@dataclass
class SurveyProblem:
    """The function that a fit minimises.

    Parameters
    ----------
    model, observations, weight, slopes, references, base, layout
        As in `zeropoint.fgcm.fit.solve.fit`.
    prior_sigma : float64, shape (n_free,)
        Of the priors; infinite: none.
    threads
        For sweeps.
    """

    model: PhotometricModel
    observations: FitObservations
    weight: SingleArray
    slopes: FloatArray
    references: References | None
    base: FitParameters
    layout: ParameterLayout
    prior_sigma: FloatArray
    threads: int = 1
    evaluations: int = 0
    _curvatures: list[BandCurvature] | None = field(default=None, repr=False)
    _used: npt.NDArray[np.bool_] | None = field(default=None, repr=False)
    _last: tuple[bytes, ModelTables, SweepResult] | None = field(default=None, repr=False)

    @property
    def lower(self) -> FloatArray:
        """Lower bounds."""
        return self.layout.lower

    @property
    def upper(self) -> FloatArray:
        """Upper bounds."""
        return self.layout.upper

    @property
    def scale(self) -> FloatArray:
        """How far the parameters may move in one step: the widths of the priors that the layout gave them."""
        return self.layout.prior_sigma

    @property
    def flat_column(self) -> npt.NDArray[np.int64]:
        """Free parameter that is the superstar constant of an exposure and detector, -1: none; shape (n_exp, n_det)."""
        exposures = self.model.exposures
        index = self.layout.indices["superstar"][exposures.epoch, np.maximum(exposures.filter, 0)]
        return np.where(exposures.filter[:, None] >= 0, index, -1)

    @property
    def color(self) -> FloatArray:
        """Coefficients of I10 by star and band."""
        return color_coefficients(self.slopes, self.model.band_i10_std)

    @property
    def reference_weight(self) -> FloatArray:
        """Weights of the reference magnitudes by star and band."""
        if self.references is None:
            return np.zeros(self.observations.n_segment)
        return np.asarray(self.references.weight, np.float64).ravel()

    @property
    def prior_weight(self) -> FloatArray:
        """One over the variances of the priors."""
        return np.asarray(self.prior_sigma**-2.0)

    def reweighted(self, weight: SingleArray, prior_sigma: FloatArray) -> SurveyProblem:
        """Return the problem with other weights and priors.

        Parameters
        ----------
        weight : float32, shape (n_obs,)
            Of the observations.
        prior_sigma : float64, shape (n_free,)
            Of the priors.
        """
        same = np.array_equal(weight, self.weight)
        return replace(
            self,
            weight=weight,
            prior_sigma=prior_sigma,
            _last=None,
            _used=None,
            _curvatures=self._curvatures if same else None,
        )

    def swept(self, vector: FloatArray) -> tuple[ModelTables, SweepResult]:
        """Return the tables of the model and the sums over the observations.

        Parameters
        ----------
        vector : float64, shape (n_free,)
            Free parameters.
        """
        key = vector.tobytes()
        if self._last is None or self._last[0] != key:
            tables = self.model.tables(self.layout.unpack(vector, self.base), self._used_exposures())
            result = sweep(
                self.observations, self.weight, self.slopes, self.references, tables, threads=self.threads
            )
            self.evaluations += 1
            self._last = (key, tables, result)
        return self._last[1], self._last[2]

    def _used_exposures(self) -> npt.NDArray[np.bool_]:
        """Return the exposures with an observation that counts."""
        if self._used is None:
            exposure = self.observations.ec[self.weight > 0] // np.int32(self.observations.n_det)
            self._used = np.bincount(exposure, minlength=len(self.model.exposures)) > 0
        return self._used

    def prior(self, vector: FloatArray) -> float:
        """Return the chi-square of the priors.

        Parameters
        ----------
        vector : float64, shape (n_free,)
            Free parameters.
        """
        return float(np.sum((vector - self.layout.prior_mean) ** 2 * self.prior_weight))

    def evaluate(self, vector: FloatArray) -> tuple[float, FloatArray]:
        """Return half of chi-square, priors included, and its gradient; see `Problem.evaluate`."""
        tables, result = self.swept(vector)
        assert result.gradient is not None
        parameters = self.layout.unpack(vector, self.base)
        gradient = 0.5 * self.model.gradient(result.gradient, tables, parameters, self.layout)
        gradient += (vector - self.layout.prior_mean) * self.prior_weight
        return 0.5 * (result.chi2 + self.prior(vector)), gradient

    def curvatures(self) -> list[BandCurvature]:
        """Return the curvatures of the bands: they depend on weights alone."""
        if self._curvatures is None:
            band, flats = np.asarray(self.model.exposures.band), self.flat_column
            nodes = [Nodes.of(b, band, flats) for b in np.unique(band[band >= 0])]
            self._curvatures = band_curvatures(
                self.observations, self.weight, self.color, self.reference_weight, nodes, self.threads
            )
        return self._curvatures

    def derivatives(self, vector: FloatArray) -> tuple[Any, Any]:
        """Return the derivatives of A and I10 of the exposures by the free parameters, superstar constants left out."""
        tables, _ = self.swept(vector)
        return exposure_derivatives(self.model, tables, self.layout.unpack(vector, self.base), self.layout)

    def hessian(self, vector: FloatArray) -> FloatArray:
        """Return the Hessian of Gauss and Newton; see `Problem.hessian`."""
        return parameter_hessian(self.curvatures(), *self.derivatives(vector), self.prior_weight)

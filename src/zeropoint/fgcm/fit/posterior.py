"""How well a fit knows its parameters, the atmosphere of exposures, and zeropoints.

The posterior is Gaussian, with the inverse of the Hessian of half of chi-square (priors included) as covariance.  It is
kept as a root S (covariance S S'), so that the variance of anything linear in the parameters is a sum of squares and no
covariance of detectors is ever formed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.fit.exposure_derivatives import atmosphere_derivatives
from zeropoint.fgcm.fit.node_derivatives import Derivatives, NodeDerivatives
from zeropoint.fgcm.fit.nodes import Nodes
from zeropoint.fgcm.fit.reduced import mean_responses

if TYPE_CHECKING:
    from zeropoint.fgcm.model.layout import ParameterLayout
    from zeropoint.fgcm.model.model import PhotometricModel
    from zeropoint.fgcm.model.observations import FitObservations
    from zeropoint.fgcm.model.parameters import FitParameters

__all__ = ["Posterior", "ZeropointErrors"]

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
#: Rows of zeropoints whose response to the nodes of a band is held at once.
_ROWS = 4096


@dataclass(frozen=True)
class ZeropointErrors:
    """What the parameters' errors do to zeropoints; one constant per band, the common mode, is apart.

    Parameters
    ----------
    measured : float64, shape (n_exp, n_det)
        Variance of a zeropoint whose gray is measured: of the mean of the standard magnitudes of the detector's stars, mag^2.
        The gray's own error comes on top. NaN where no star with a mean is on the detector.
    unmeasured : float64, shape (n_exp, n_det)
        Variance where the gray is not measured and the zeropoint is the model's, mag^2; the scatter of the gray comes on top.
    common : float64, shape (n_band,)
        Error of what all zeropoints of a band share, mag.
    """

    measured: FloatArray
    unmeasured: FloatArray
    common: FloatArray

    def model_variance(self, from_detector: BoolArray) -> FloatArray:
        """Return the variances of zeropoints.

        Parameters
        ----------
        from_detector : bool, shape (n_exp, n_det)
            Whether the gray is that measured on the detector.
        """
        return np.where(from_detector, self.measured, self.unmeasured)


@dataclass(frozen=True)
class Posterior:
    """Errors of a fit.

    Parameters
    ----------
    layout
        Places of the free parameters of the model.
    names
        Of all free parameters: those of the layout, then of the calibration of slopes.
    model
        Of the exposures.
    root : float64, shape (n_free, n_columns)
        S with S S' the covariance of the free parameters; zero where a parameter is at its bound.
    derivatives
        Of exposures and flats by the free parameters.
    flat_column : int64, shape (n_exp, n_det)
        Free parameter that is the superstar constant of an exposure and detector, -1: none.
    observations, weight, color, reference_weight
        What the stars' means are made of; see `zeropoint.fgcm.fit.reduced.band_curvatures`.
    """

    layout: ParameterLayout
    names: tuple[str, ...]
    model: PhotometricModel
    root: FloatArray
    derivatives: Derivatives
    flat_column: npt.NDArray[np.int64]
    observations: FitObservations
    weight: SingleArray
    color: FloatArray
    reference_weight: FloatArray

    @property
    def sigmas(self) -> FloatArray:
        """Errors of the free parameters, shape (n_free,); 0 where a parameter is at its bound."""
        return np.sqrt(np.einsum("ij,ij->i", self.root, self.root))

    def sigma(self, name: str) -> float:
        """Return the error of a parameter.

        Parameters
        ----------
        name
            As in the layout, such as ``ln_pwv_intercept[3]``.

        Raises
        ------
        KeyError
            If the parameter was not free.
        """
        if name not in self.names:
            raise KeyError(f"{name} was no free parameter of the fit")
        row = self.root[self.names.index(name)]
        return float(np.sqrt(row @ row))

    def correlation(self) -> FloatArray:
        """Return the correlations of the free parameters, shape (n_free, n_free); 0 with parameters at their bound."""
        sigma = self.sigmas
        unit = self.root / np.where(sigma > 0, sigma, 1.0)[:, None]
        return np.asarray(unit @ unit.T)

    def parameter_sigmas(self, parameters: FitParameters) -> FitParameters:
        """Return the errors in the form of the parameters, NaN where a parameter was not free.

        Parameters
        ----------
        parameters
            Of the fit.
        """
        unknown = replace(
            parameters,
            **{
                field.name: np.full_like(getattr(parameters, field.name), np.nan)
                for field in fields(parameters)
                if isinstance(getattr(parameters, field.name), np.ndarray)
            },
        )
        return self.layout.unpack(self.sigmas[: self.layout.n_free], unknown)

    def linear_sigmas(self, rows: Any) -> FloatArray:
        """Return the errors of linear functions of the free parameters.

        Parameters
        ----------
        rows : shape (n, n_free)
            Dense or sparse; without columns for the calibration of slopes, if they are zero.
        """
        values = np.asarray(rows @ self.root[: rows.shape[1]])
        return np.sqrt(np.einsum("ij,ij->i", values, values))

    def atmosphere_sigmas(self, parameters: FitParameters) -> dict[str, FloatArray]:
        """Return the errors of the atmosphere at the exposures, each of shape (n_exp,).

        Parameters
        ----------
        parameters
            Of the fit.

        Returns
        -------
        sigmas
            ``ln_pwv``, ``ln_tau``, ``alpha`` and ``o3`` (Dobson units); NaN for nights of which nothing was free.
        """
        sigmas = {}
        for name, rows in atmosphere_derivatives(self.model, parameters, self.layout).items():
            known = np.diff(rows.indptr) > 0
            sigmas[name] = np.where(known, self.linear_sigmas(rows), np.nan)
        return sigmas

    def zeropoint_errors(
        self, sample: SingleArray, photometric: BoolArray, *, bands: Iterable[int] | None = None
    ) -> ZeropointErrors:
        """Return what the parameters' errors do to zeropoints.

        Parameters
        ----------
        sample : float32, shape (n_obs,)
            Weights of the observations that the gray of detectors is made of, in all exposures; 0: not used.
        photometric : bool, shape (n_exp,)
            Exposures whose mean is the common mode of their band.
        bands
            Indices; None: all.
        """
        n_exp, n_det = self.flat_column.shape
        band = np.asarray(self.model.exposures.band)
        measured, unmeasured = np.full((2, n_exp * n_det), np.nan)
        common = np.full(self.observations.n_band, np.nan)
        for b in range(self.observations.n_band) if bands is None else bands:
            nodes = Nodes.of(b, band, self.flat_column)
            if len(nodes.exposures) == 0:
                continue
            roots = NodeDerivatives.of(nodes, self.derivatives).times(self.root)
            own_ec = (nodes.exposures[:, None] * n_det + np.arange(n_det)).ravel()
            means, known = self._means(nodes, own_ec, roots, sample)
            colors = self.color.reshape(-1, self.observations.n_band)[:, b]
            own = roots[0] + float(np.median(colors)) * roots[1]
            flats = nodes.of_flat[own_ec]
            model = own[np.repeat(np.arange(len(nodes.exposures)), n_det)]
            model[flats >= 0] += own[flats[flats >= 0]]
            shared = known & np.repeat(photometric[nodes.exposures], n_det)
            mean = means[shared].mean(axis=0) if shared.any() else np.zeros(means.shape[1])
            common[b] = np.sqrt(mean @ mean)
            for out, rows in ((measured, means - mean), (unmeasured, model - mean)):
                out[own_ec] = np.einsum("ij,ij->i", rows, rows)
            measured[own_ec[~known]] = np.nan
        shape = (n_exp, n_det)
        return ZeropointErrors(measured.reshape(shape), unmeasured.reshape(shape), common)

    def _means(
        self,
        nodes: Nodes,
        ec: npt.NDArray[np.int64],
        roots: tuple[FloatArray, FloatArray],
        sample: SingleArray,
    ) -> tuple[FloatArray, BoolArray]:
        """Return roots of the errors of the mean magnitude of each detector's stars, and where there are any."""
        means = np.zeros((len(ec), self.root.shape[1]))
        known = np.zeros(len(ec), bool)
        for first in range(0, len(ec), _ROWS):
            part = ec[first : first + _ROWS]
            rows = np.full(self.flat_column.size, -1, np.int32)
            rows[part] = np.arange(len(part))
            for _, response, total in mean_responses(
                self.observations, self.weight, sample, self.color, self.reference_weight, [nodes], rows
            ):
                means[first : first + len(part)] = response[..., 0] @ roots[0] + response[..., 1] @ roots[1]
                known[first : first + len(part)] = total > 0
        return means, known

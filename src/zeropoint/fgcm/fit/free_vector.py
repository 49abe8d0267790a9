"""What a fit is free to change, as one vector."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import sparse

from zeropoint.fgcm.fit.priors import NIGHTLY, Priors
from zeropoint.fgcm.fit.sed_calibration import SedCalibration

if TYPE_CHECKING:
    from zeropoint.fgcm.model.layout import ParameterLayout
    from zeropoint.fgcm.model.parameters import FitParameters

__all__ = ["NIGHT_CLASSES", "FreeVector"]

FloatArray = npt.NDArray[np.float64]

#: Classes of parameters that each night has.
NIGHT_CLASSES = (*NIGHTLY, "ln_tau_slope", "ln_pwv_slope", "ln_pwv_quadratic")
#: Bounds of the scale of slopes, and of their offset, 1/Angstrom.
_SED_SCALE, _SED_OFFSET = (0.3, 3.0), 1e-3
#: Largest error of absorption, mag.
_ABSORPTION = 1.0


@dataclass(frozen=True)
class FreeVector:
    """The vector that a fit changes: free parameters of the model, scale and offset of slopes by band, errors of absorption.

    Parameters
    ----------
    layout
        Of the model's parameters.
    sed_bands : int64, shape (n_sed,)
        Bands whose slopes are calibrated.
    start
        Calibration to begin with; other bands keep it.
    scale_sigma, offset_sigma
        Of the priors of scale (about 1) and offset (about 0, 1/Angstrom).
    exposures : int64, shape (n_absorption,)
        Exposures whose absorption may be wrong by a little.
    absorption_sigma
        Of its prior (about 0), mag.
    """

    layout: ParameterLayout
    sed_bands: npt.NDArray[np.int64]
    start: SedCalibration
    scale_sigma: float
    offset_sigma: float
    exposures: npt.NDArray[np.int64]
    absorption_sigma: float

    def __len__(self) -> int:
        return self.n_named + len(self.exposures)

    @property
    def n_named(self) -> int:
        """Length without the errors of absorption."""
        return self.layout.n_free + 2 * len(self.sed_bands)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the elements."""
        return (
            *self.layout.names,
            *(f"sed_scale[{b}]" for b in self.sed_bands),
            *(f"sed_offset[{b}]" for b in self.sed_bands),
            *(f"absorption[{e}]" for e in self.exposures),
        )

    @cached_property
    def lower(self) -> FloatArray:
        """Lower bounds."""
        return self._with(self.layout.lower, _SED_SCALE[0], -_SED_OFFSET, -_ABSORPTION)

    @cached_property
    def upper(self) -> FloatArray:
        """Upper bounds."""
        return self._with(self.layout.upper, _SED_SCALE[1], _SED_OFFSET, _ABSORPTION)

    @cached_property
    def priors(self) -> Priors:
        """Priors of all."""
        own = Priors.of(self.layout)
        sigma = self._with(own.sigma, self.scale_sigma, self.offset_sigma, self.absorption_sigma)
        # what is not the layout's has a prior of its own
        more = sparse.identity(len(self) - self.layout.n_free)
        shift = sparse.block_diag([own.shift, more], format="csr")
        return Priors(self._with(own.mean, 1.0, 0.0, 0.0), sigma, own.groups, shift)

    def pack(self, parameters: FitParameters) -> FloatArray:
        """Return the vector at given parameters and the calibration to begin with.

        Parameters
        ----------
        parameters
            Of the model.
        """
        b = self.sed_bands
        return np.concatenate(
            [
                self.layout.pack(parameters),
                self.start.scale[b],
                self.start.offset[b],
                np.zeros(len(self.exposures)),
            ]
        )

    def released(self, vector: FloatArray) -> FloatArray:
        """Return a start in which nights with a parameter at a bound begin anew, from the middle of the other nights.

        Such a night was fitted with exposures that were not photometric, and would not come back by itself: beyond its
        bounds the atmosphere does not change.

        Parameters
        ----------
        vector : float64, shape (n,)
            Values.
        """
        nightly = [self.layout.indices[name] for name in NIGHT_CLASSES]
        stuck = np.zeros(len(nightly[0]), bool)
        at_bound = (vector <= self.lower) | (vector >= self.upper)
        for index in nightly:
            stuck |= (index >= 0) & at_bound[np.maximum(index, 0)]
        out = vector.copy()
        for index in nightly:
            free = index >= 0
            others = vector[index[free & ~stuck]]
            again = index[free & stuck]
            out[again] = np.median(others) if len(others) else self.priors.mean[again]
        return out

    def calibration(self, vector: FloatArray) -> SedCalibration:
        """Return the calibration of slopes that a vector has.

        Parameters
        ----------
        vector : float64, shape (n,)
            Values.
        """
        scale, offset = self.start.scale.copy(), self.start.offset.copy()
        n = self.layout.n_free
        scale[self.sed_bands], offset[self.sed_bands] = vector[n : self.n_named].reshape(2, -1)
        return SedCalibration(scale, offset, self.start.pivot)

    def absorption(self, vector: FloatArray, n_exp: int) -> FloatArray:
        """Return the errors of absorption, mag, shape (n_exp,); 0 where they are not free.

        Parameters
        ----------
        vector : float64, shape (n,)
            Values.
        n_exp
            Number of exposures.
        """
        out = np.zeros(n_exp)
        out[self.exposures] = vector[self.n_named :]
        return out

    def _with(self, own: FloatArray, scale: float, offset: float, absorption: float) -> FloatArray:
        n = len(self.sed_bands)
        last = np.full(len(self.exposures), absorption)
        return np.concatenate([own, np.full(n, scale), np.full(n, offset), last])

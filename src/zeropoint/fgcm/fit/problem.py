"""Half of chi-square of a survey as a function of the free parameters: what the minimisers see of the model."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.fit.exposure_derivatives import exposure_derivatives
from zeropoint.fgcm.fit.free_vector import FreeVector
from zeropoint.fgcm.fit.node_derivatives import Derivatives
from zeropoint.fgcm.fit.nodes import Nodes
from zeropoint.fgcm.fit.priors import Priors
from zeropoint.fgcm.fit.reduced import BandCurvature, band_curvatures, parameter_hessian
from zeropoint.fgcm.fit.sed_calibration import SedCalibration
from zeropoint.fgcm.fit.weight_sums import WeightSums
from zeropoint.fgcm.magnitudes import MAG_PER_LN
from zeropoint.fgcm.model.sweep import RelativeSlopes, standard_magnitudes, sweep

if TYPE_CHECKING:
    from zeropoint.fgcm.model.model import ModelTables, PhotometricModel
    from zeropoint.fgcm.model.observations import FitObservations
    from zeropoint.fgcm.model.parameters import FitParameters
    from zeropoint.fgcm.model.sweep import References, SweepResult

__all__ = ["SurveyProblem", "color_coefficients"]

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]

#: Errors of absorption that are as large may be clouds, mag.
_CLOUD = 1e-3


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
    return np.asarray(MAG_PER_LN * slope / (1.0 + slope * i10_std)).ravel()


@dataclass(frozen=True)
class Point:
    """What was computed at a vector.

    Parameters
    ----------
    parameters, calibration
        Of the vector.
    absorption : float64, shape (n_exp,)
        Errors of absorption of the exposures, mag.
    tables
        Of the model, the calibration of slopes left out.
    result
        Sums over the observations, with it.
    """

    parameters: FitParameters
    calibration: SedCalibration
    absorption: FloatArray
    tables: ModelTables
    result: SweepResult


@dataclass
class SurveyProblem:
    """The function that a fit minimises.

    Parameters
    ----------
    model, observations, weight, slopes, references, base
        As in `zeropoint.fgcm.fit.solve.fit`.
    free
        The vector.
    priors
        Of its elements.
    threads
        For sweeps.
    evaluations
        Sweeps so far.
    undetermined : bool, shape (n,)
        Elements that neither an observation nor a prior touches, as of the last Hessian.
    """

    model: PhotometricModel
    observations: FitObservations
    weight: SingleArray
    slopes: FloatArray
    references: References | None
    base: FitParameters
    free: FreeVector
    priors: Priors
    threads: int = 1
    evaluations: int = 0
    undetermined: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    _curvatures: list[BandCurvature] | None = field(default=None, repr=False)
    _sums: WeightSums | None = field(default=None, repr=False)
    _last: tuple[bytes, Point] | None = field(default=None, repr=False)
    _curved: tuple[bytes, FloatArray] | None = field(default=None, repr=False)

    @property
    def lower(self) -> FloatArray:
        """Lower bounds."""
        return self.free.lower

    @property
    def upper(self) -> FloatArray:
        """Upper bounds."""
        return self.free.upper

    @cached_property
    def scale(self) -> FloatArray:
        """How far the parameters may move in one step: the widths of the priors that they began with.

        Chi-square is quadratic in the gray of an exposure and in the error of its absorption: they may move anywhere. Only
        where these may be clouds that are to be left out, steps stay short, so that no night follows them at once.
        """
        scale, gray = self.free.priors.sigma.copy(), self.free.layout.indices["exposure_gray"]
        scale[gray[gray >= 0]] = np.inf
        if self.free.absorption_sigma < _CLOUD:
            scale[self.free.n_named :] = np.inf
        return scale

    @property
    def sums(self) -> WeightSums:
        """Sums over the weights."""
        if self._sums is None:
            self._sums = WeightSums.of(self.observations, self.weight, len(self.model.exposures))
        return self._sums

    @property
    def dof(self) -> int:
        """Observations in use less their stars and bands."""
        return self.sums.n_used - self.sums.n_segments

    @property
    def flat_column(self) -> npt.NDArray[np.int64]:
        """Free parameter that is the superstar constant of an exposure and detector, -1: none; shape (n_exp, n_det)."""
        exposures = self.model.exposures
        index = self.free.layout.indices["superstar"][exposures.epoch, np.maximum(exposures.filter, 0)]
        return np.where(exposures.filter[:, None] >= 0, index, -1)

    @cached_property
    def relative_slopes(self) -> RelativeSlopes:
        """Slopes of the spectra as sweeps take them."""
        return RelativeSlopes.of(self.slopes, self.model.band_i10_std)

    @cached_property
    def color(self) -> FloatArray:
        """Coefficients of I10 by star and band, slopes not calibrated."""
        return color_coefficients(self.slopes, self.model.band_i10_std)

    @property
    def reference_weight(self) -> FloatArray:
        """Weights of the reference magnitudes by star and band."""
        if self.references is None:
            return np.zeros(self.observations.n_segment)
        return np.asarray(self.references.weight, np.float64).ravel()

    def reweighted(self, weight: SingleArray, priors: Priors) -> SurveyProblem:
        """Return the problem with other weights and priors, and no evaluation counted.

        Parameters
        ----------
        weight : float32, shape (n_obs,)
            Of the observations.
        priors
            Of the vector.
        """
        same = weight is self.weight or np.array_equal(weight, self.weight)
        return replace(
            self, weight=weight, priors=priors, evaluations=0, _last=self._last if same else None,
            _sums=self._sums if same else None, _curvatures=self._curvatures if same else None,
            _curved=self._curved if same else None,
        )  # fmt: skip

    def at(self, vector: FloatArray) -> Point:
        """Return the model and the sums over the observations at a vector.

        Parameters
        ----------
        vector : float64, shape (n,)
            Values.
        """
        key = vector.tobytes()
        if self._last is None or self._last[0] != key:
            parameters = self.free.layout.unpack(vector[: self.free.layout.n_free], self.base)
            calibration = self.free.calibration(vector)
            absorption = self.free.absorption(vector, len(self.model.exposures))
            tables = self.model.tables(parameters, self.sums.used_exposures)
            result = sweep(
                self.observations, self.weight, self.relative_slopes, self.references,
                self._completed(tables, calibration, absorption), threads=self.threads,
            )  # fmt: skip
            self.evaluations += 1
            self._last = (key, Point(parameters, calibration, absorption, tables, result))
        return self._last[1]

    def _completed(
        self, tables: ModelTables, calibration: SedCalibration, absorption: FloatArray
    ) -> ModelTables:
        """Return tables with which uncalibrated slopes give what calibrated ones would, and with errors of absorption."""
        scale, shift, _ = _of_rows(calibration, self.model.exposures.band, tables.n_det)
        values, colors = tables.values.copy(), tables.relative[:, 2:]
        values[:, 0] += np.repeat(absorption, tables.n_det)
        values[:, :2] += (MAG_PER_LN * shift)[:, None] * colors
        values[:, 2:] = scale[:, None] * colors
        values[:, 2] += tables.i10_std
        return replace(tables, values=values)

    def standard_magnitudes(self, vector: FloatArray) -> npt.NDArray[np.float32]:
        """Return the standard magnitudes of all observations of exposures in the fit, shape (n_obs,).

        Parameters
        ----------
        vector : float64, shape (n,)
            Values.
        """
        point = self.at(vector)
        tables = self._completed(point.tables, point.calibration, point.absorption)
        return standard_magnitudes(self.observations, self.relative_slopes, tables, threads=self.threads)[0]

    def evaluate(self, vector: FloatArray) -> tuple[float, FloatArray]:
        """Return half of chi-square, priors included, and its gradient; see `Problem.evaluate`."""
        point = self.at(vector)
        given = point.result.gradient
        assert given is not None
        by_row = _of_rows(point.calibration, self.model.exposures.band, self.observations.n_det)
        scale, shift = (MAG_PER_LN * each if k else each for k, each in enumerate(by_row[:2]))
        inner = given.copy()
        inner[:, 2:] = scale[:, None] * given[:, 2:] + shift[:, None] * given[:, :2]
        own = self.model.gradient(inner, point.tables, point.parameters, self.free.layout)
        by_exposure = given[:, 0].reshape(len(self.model.exposures), -1).sum(axis=1)
        absorption = by_exposure[self.free.exposures]
        gradient = 0.5 * np.concatenate([own, *self._sed_gradient(point, given), absorption])
        value = 0.5 * (point.result.chi2 + self.priors.chi2(vector))
        return value, gradient + self.priors.pull(vector)

    def _sed_gradient(self, point: Point, given: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the derivatives of chi-square by scales and offsets."""
        colors = np.nan_to_num(point.tables.relative[:, 2:])
        band = np.repeat(self.model.exposures.band, self.observations.n_det)
        known = band >= 0

        def by_band(values: FloatArray) -> FloatArray:
            sums = np.bincount(band[known], values[known], minlength=self.model.exposures.n_band)
            return sums[self.free.sed_bands]

        gray = by_band(MAG_PER_LN * np.sum(given[:, :2] * colors, axis=1))
        chromatic = by_band(np.sum(given[:, 2:] * colors, axis=1))
        return chromatic - point.calibration.pivot[self.free.sed_bands] * gray, gray

    def curvatures(self) -> list[BandCurvature]:
        """Return the curvatures of the bands: they depend on weights alone."""
        if self._curvatures is None:
            band, flats = np.asarray(self.model.exposures.band), self.flat_column
            nodes = [
                Nodes.of(b, band, flats) for b in np.unique(band[self.sums.used_exposures & (band >= 0)])
            ]
            self._curvatures = band_curvatures(
                self.observations, self.weight, self.color, self.reference_weight, nodes, self.threads
            )
        return self._curvatures

    def derivatives(self, vector: FloatArray, tables: ModelTables | None = None) -> Derivatives:
        """Return the derivatives of exposures and flats by the vector.

        Parameters
        ----------
        vector : float64, shape (n,)
            Values.
        tables
            Of all exposures that are wanted; None: those in the fit.
        """
        point, e = self.at(vector), self.model.exposures
        tables = point.tables if tables is None else tables
        columns, gray, chromatic, own = exposure_derivatives(
            self.model, tables, point.parameters, self.free.layout, self.sums.shares
        )
        scale, shift, pivot = (each[:, None] for each in _of_rows(point.calibration, e.band, 1))
        gray = gray + MAG_PER_LN * shift * chromatic
        low, rise = np.moveaxis(tables.relative[:, 2:].reshape(len(e), e.n_det, 2), 2, 0)
        share = self.sums.shares
        on_detector = share.sum(axis=2)
        upper = share[..., 1] / np.where(on_detector > 0, on_detector, 1.0)
        by_detector = np.nan_to_num(low + upper * rise)
        color = np.sum(on_detector * by_detector, axis=1)
        rows = self._sed_entries(color, pivot[:, 0], e.band)
        flats = self._sed_entries(*self._flat_colors(by_detector - color[:, None], pivot[:, 0]))
        own[self.free.exposures] = self.free.n_named + np.arange(len(self.free.exposures))
        return Derivatives(
            np.hstack([columns, rows[0]]), np.hstack([gray, rows[1]]), np.hstack([scale * chromatic, rows[2]]), own, *flats
        )  # fmt: skip

    def _sed_entries(
        self, color: FloatArray, pivot: FloatArray, band: npt.NDArray[np.integer]
    ) -> tuple[npt.NDArray[np.int64], FloatArray, FloatArray]:
        """Return columns of scale and offset for rows of given color, and derivatives of A and I10 by them."""
        bands = self.free.sed_bands
        place = np.full(self.model.exposures.n_band + 1, -1, np.int64)
        place[bands] = self.free.layout.n_free + np.arange(len(bands))
        scale = place[band]
        columns = np.stack([scale, np.where(scale >= 0, scale + len(bands), -1)], axis=1)
        gray = MAG_PER_LN * color[:, None] * np.stack([-pivot, np.ones(len(pivot))], axis=1)
        return columns, gray, np.stack([color, np.zeros(len(color))], axis=1)

    def _flat_colors(
        self, color: FloatArray, pivot: FloatArray
    ) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
        """Return for each parameter of the layout that is a superstar constant the mean color, the pivot and the band."""
        e, n = self.model.exposures, self.free.layout.n_free
        used = self.sums.used_exposures
        columns = self.flat_column[used]
        known = columns >= 0
        count = np.maximum(np.bincount(columns[known], minlength=n), 1)
        mean = np.bincount(columns[known], color[used][known], minlength=n) / count
        band, pivots = np.full(n, -1, np.int64), np.zeros(n)
        exposure = np.broadcast_to(np.flatnonzero(used)[:, None], columns.shape)[known]
        band[columns[known]], pivots[columns[known]] = e.band[exposure], pivot[exposure]
        return mean, pivots, band

    def arrive(self, vector: FloatArray, step: FloatArray) -> FloatArray:
        """Return where a step leads if zeropoints of exposures change by what it says of them to first order.

        Stars know the zeropoints of exposures a thousand times better than what of them is atmosphere and what is gray.  So
        the gray takes what the atmosphere's change is of higher order; else only small steps would not leave the minimum.

        Parameters
        ----------
        vector, step : float64, shape (n,)
            Where from, and the change.
        """
        trial = vector + step
        own = self.free.layout.indices["exposure_gray"]
        mine = np.flatnonzero(own >= 0)
        found = self.derivatives(vector)
        color = self._typical_color[np.maximum(self.model.exposures.band, 0)]
        change = np.where(found.columns >= 0, step[found.columns], 0.0)
        expected = np.sum((found.gray + color[:, None] * found.chromatic) * change, axis=1)
        flats = np.where(self.flat_column >= 0, step[self.flat_column], 0.0)
        expected += np.sum(self.sums.shares.sum(axis=2) * flats, axis=1)
        expected[mine] += step[own[mine]]
        higher = self._levels(trial, color) - self._levels(vector, color) - expected
        trial[own[mine]] -= higher[mine]
        return np.asarray(np.clip(trial, self.lower, self.upper))

    @cached_property
    def _typical_color(self) -> FloatArray:
        """Mean coefficient of I10 of the observations of each band."""
        by_band = self.sums.by_segment.reshape(-1, self.observations.n_band)
        total = by_band.sum(axis=0)
        color = self.color.reshape(by_band.shape)
        return np.asarray(np.sum(by_band * color, axis=0) / np.where(total > 0, total, 1.0))

    def _levels(self, vector: FloatArray, color: FloatArray) -> FloatArray:
        """Return the mean standard magnitudes of exposures for stars of a color, shape (n_exp,)."""
        e = self.model.exposures
        parameters = self.free.layout.unpack(vector[: self.free.layout.n_free], self.base)
        tables = self.model.tables(parameters, self.sums.used_exposures, derivatives=False)
        tables = self._completed(tables, self.free.calibration(vector), self.free.absorption(vector, len(e)))
        values = tables.relative.reshape(len(e), e.n_det, 2, 2)
        low, rise = values[..., 0], values[..., 1]
        share = self.sums.shares
        level = np.sum(share.sum(axis=2)[..., None] * low + share[..., 1, None] * rise, axis=1)
        return np.asarray(level[:, 0] + color * level[:, 1])

    @cached_property
    def _prior_hessian(self) -> FloatArray:
        """Hessian of half of the priors' chi-square."""
        return self.priors.hessian()

    def hessian(self, vector: FloatArray) -> FloatArray:
        """Return the Hessian of Gauss and Newton; see `Problem.hessian`."""
        key = vector.tobytes()
        if self._curved is None or self._curved[0] != key:
            found = parameter_hessian(self.curvatures(), self.derivatives(vector), len(self.free))
            self._curved = (key, found)
        hessian = self._curved[1] + self._prior_hessian
        self.undetermined = np.diag(hessian) <= 0.0
        # nothing depends on these: they stay where they are
        hessian[self.undetermined, self.undetermined] = 1.0
        return hessian


def _of_rows(
    calibration: SedCalibration, band: npt.NDArray[np.integer], n_det: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return scale, shift and pivot for each exposure and detector."""
    rows = np.repeat(np.maximum(band, 0), n_det)
    return calibration.scale[rows], calibration.shift[rows], calibration.pivot[rows]

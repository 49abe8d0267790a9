"""Fit a PSF of eigen-images that vary as polynomials over the detector.

Each round smooths the stars' images over the detector (one linear solve for all pixels of all polynomial terms, as
`zeropoint.psf.pixel_grid_fit` does it), takes eigen-images, fits these to each star, fits polynomials to the factors,
and refits flux and centre of the stars; then it drops stars that fit badly, a growing part of them from round to
round.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from zeropoint.datamodel.psf_model import PixelGridPsf
from zeropoint.psf.outliers import MAD_TO_SIGMA
from zeropoint.psf.pca_images import (
    Amounts,
    eigen_images,
    first_of_cells,
    fit_amounts,
    fit_field,
    terms_of_field,
)
from zeropoint.psf.pixel_grid_fit import (
    LAST_REWEIGHTING,
    grid_model,
    normalized_terms,
    solve_grid,
    start_grid,
)
from zeropoint.psf.pixel_grid_stars import (
    PixelGridOptions,
    StarState,
    interpolation_pair,
    observed_cap,
    refit_stars,
    reweight,
)
from zeropoint.psf.spatial_solve import diagonal_preconditioner
from zeropoint.psf.stars import PsfStars

__all__ = ["PcaFit", "PcaOptions", "fit_pca"]

_LOG = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Solves before stars are judged for the first time; the same for undersampled stars, which converge more slowly, and
#: solves of the constant model that they start from.
ROUNDS_BEFORE = 2
ROUNDS_BEFORE_FINE = 4
ROUNDS_OF_PRIOR = 3
#: Scatter of the factors about the polynomials is taken to be at least this.
LEAST_SCATTER = 1e-4


@dataclass(frozen=True)
class PcaOptions:
    """What the fit needs to know beyond the stars; names as in the determiner's config.

    Parameters
    ----------
    grid
        Model grid, spatial order, weights, as for the pixel-grid fit.
    """

    grid: PixelGridOptions
    n_components: int = 4
    n_rounds: int = 3
    cell: tuple[int, int] = (256, 256)
    n_star_per_cell: int = 3
    n_star_per_cell_spatial_fit: int = 5
    constant_weight: bool = False
    nonlinear: bool = False
    tolerance: float = 1e-2
    lam: float = 0.05
    reduced_chi2_max: float = 2.0
    spatial_reject: float = 3.0


@dataclass(frozen=True)
class PcaFit:
    """Result of a fit.

    Parameters
    ----------
    psf
        The model: images of the polynomial terms.
    images : float64, shape (n_images, grid, grid)
        Eigen-images.
    used : bool, shape (n,)
        Stars that are not rejected.
    reduced_chi2 : float64, shape (n,)
        Chi-square per degree of freedom of each star.
    chi2, dof
        Totals of the used stars.
    n_rejected_chi2, n_rejected_spatial
        Stars rejected in the last round for their chi-square, and for their place in the field.
    max_snr
        Signal-to-noise ratio at which weights were capped.
    """

    psf: PixelGridPsf
    images: FloatArray
    used: BoolArray
    reduced_chi2: FloatArray
    chi2: float
    dof: int
    n_rejected_chi2: int
    n_rejected_spatial: int
    max_snr: float


@dataclass
class _Fit:
    """State of the loop; everything here is replaced as it goes."""

    psf: PixelGridPsf
    prior: PixelGridPsf
    state: StarState
    images: FloatArray
    amounts: Amounts
    reduced_chi2: FloatArray


def fit_pca(stars: PsfStars, options: PcaOptions) -> PcaFit:
    """Fit the model to the stars.

    Parameters
    ----------
    stars
        Stamps, weights, positions.
    options
        Settings.

    Returns
    -------
    fit
        `PcaFit`. If fewer stars than polynomial terms survive a round, the loop stops there; the caller decides what
        that means.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        return _fit(stars, options)


def _fit(stars: PsfStars, o: PcaOptions) -> PcaFit:
    """See `fit_pca`."""
    fit = _start(stars, o)
    valid = fit.state.used.copy()
    by_chi2 = by_field = 0
    cap = o.grid.max_snr
    before_judging = ROUNDS_BEFORE_FINE if o.grid.scale < 1 else ROUNDS_BEFORE
    for step in range(before_judging + o.n_rounds):
        before = fit.state.used.copy()
        _round(fit, stars, o, cap, step > LAST_REWEIGHTING)
        valid &= ~(before & ~fit.state.used)
        valid &= np.isfinite(fit.reduced_chi2) & (fit.reduced_chi2 > 0) & np.isfinite(fit.amounts.amplitude)
        if step == LAST_REWEIGHTING - 1 and o.grid.adaptive_max_snr:
            cap = observed_cap(stars, fit.state, cap)
        done = step - before_judging + 1
        if done < 0 or done >= o.n_rounds:
            continue
        bad_chi2 = _worst(_chi2_excess(fit, valid, o), valid, done, o.n_rounds)
        bad_field = _spatial_outliers(fit, stars, valid, done, o)
        used = valid & ~bad_chi2 & ~bad_field
        fit.state.used[:] = used
        by_chi2, by_field = int(bad_chi2.sum()), int((bad_field & ~bad_chi2).sum())
        _LOG.debug("Round %d: %d stars rejected by chi2, %d by place.", done, by_chi2, by_field)
        if used.sum() < len(fit.psf.exponents):
            break
    used = fit.state.used & valid
    dof = (stars.weight > 0).sum(axis=(1, 2)) - 1
    return PcaFit(
        psf=fit.psf,
        images=fit.images,
        used=used,
        reduced_chi2=fit.reduced_chi2,
        chi2=float((fit.reduced_chi2 * dof)[used].sum()),
        dof=int(dof[used].sum()),
        n_rejected_chi2=by_chi2,
        n_rejected_spatial=by_field,
        max_snr=cap,
    )


def _start(stars: PsfStars, o: PcaOptions) -> _Fit:
    """Return the starting model and stars fitted to it.

    It is a Gaussian; with model pixels smaller than the detector's, of which some patterns are hardly observed, the
    best constant model, which also is the prior of what follows.
    """
    psf, state = start_grid(stars, o.grid)
    n = len(stars)
    none = np.full((n, 1), np.nan)
    amounts = Amounts(np.full(n, np.nan), none[:, :0], none[:, :0], none, none[:, :, None])
    fit = _Fit(psf, psf, state, psf.coefficients[:1], amounts, np.full(n, np.nan))
    if o.grid.scale < 1 and o.grid.order > 0:
        simple = replace(o, grid=replace(o.grid, order=0))
        fit.psf = fit.prior = grid_model(psf.coefficients[:1], psf.size, simple.grid, psf.average_position)
        for step in range(ROUNDS_OF_PRIOR):
            _round(fit, stars, simple, o.grid.max_snr, step > 1)
        psf.coefficients[0] = fit.psf.coefficients[0]
        fit.psf = fit.prior = psf
        state.inverse = None
    return fit


def _reweight(stars: PsfStars, state: StarState, o: PcaOptions, cap: float, settled: bool) -> None:
    """Set the stars' weights for the next solve; ``state`` is updated."""
    if state.variance.size == 0:
        return
    inverse = state.inverse
    reweight(stars, state, cap, o.grid.photon_noise_weights)
    if o.constant_weight:
        capped = np.minimum(state.signal_to_noise, cap)
        typical = float(np.median(capped[state.used])) if state.used.any() else 1.0
        state.weight *= ((typical / np.maximum(capped, 1e-30)) ** 2)[:, None, None]
    # weights change little from then on, and a preconditioner need not be exact
    if settled:
        state.inverse = inverse


def _round(fit: _Fit, stars: PsfStars, o: PcaOptions, cap: float, settled: bool) -> None:
    """Do one round with the stars in use; ``fit`` is updated. If settled, the preconditioner is kept."""
    state, grid = fit.state, o.grid
    _reweight(stars, state, o, cap, settled)
    flux = state.flux
    kept = state.used.copy()
    spatial = _in_cells(stars, kept, flux, o, o.n_star_per_cell_spatial_fit)
    if not spatial.any():
        return
    gain = state.weight * (flux * flux)[:, None, None]
    if grid.scale >= 1:
        state.inverse = diagonal_preconditioner(gain[spatial])
    state.used = spatial
    field = solve_grid(fit.psf, fit.prior, stars, state, grid)
    state.used = kept
    basis = field.basis(x=stars.x, y=stars.y)
    first = _in_cells(stars, kept, flux, o, o.n_star_per_cell)
    star_weight = gain.mean(axis=(1, 2))
    fit.images = eigen_images(field.coefficients, basis[first], star_weight[first], o.n_components)
    wx, wy = interpolation_pair(state.dx, state.dy, stars.side, grid)
    fit.amounts = fit_amounts(fit.images, wx, wy, stars.image, state.weight)
    coefficients, _ = fit_field(fit.amounts, basis, spatial, nonlinear=o.nonlinear, tolerance=o.tolerance)
    terms = normalized_terms(terms_of_field(fit.images, coefficients), grid)
    centre = (float(stars.x[kept].mean()), float(stars.y[kept].mean()))
    fit.psf = grid_model(terms, field.size, grid, centre)
    refit_stars(fit.psf, stars, state, grid)
    good = stars.weight > 0
    variance = state.variance + o.lam * np.maximum(state.model, 0.0)
    deviation = np.where(good, stars.image - state.model, 0.0)
    dof = np.maximum(good.sum(axis=(1, 2)) - 1, 1)
    fit.reduced_chi2 = (deviation * deviation / variance).sum(axis=(1, 2)) / dof


def _in_cells(stars: PsfStars, used: BoolArray, flux: FloatArray, o: PcaOptions, limit: int) -> BoolArray:
    """Return the brightest used stars of each cell, as a mask of all stars."""
    rows = np.flatnonzero(used)
    chosen = np.zeros(len(stars), np.bool_)
    chosen[rows[first_of_cells(stars.x[rows], stars.y[rows], flux[rows], o.cell, limit)]] = True
    return chosen


def _worst(excess: FloatArray, valid: BoolArray, done: int, n_rounds: int) -> BoolArray:
    """Return the worst of the stars whose excess is above 1: a part of them that grows with the rounds done."""
    bad = np.flatnonzero(valid & ~(excess <= 1.0))
    count = int(len(bad) * (done + 1) / n_rounds + 0.5)
    order = np.argsort(-np.where(np.isfinite(excess[bad]), excess[bad], np.inf), kind="stable")
    rejected = np.zeros(len(excess), np.bool_)
    rejected[bad[order[:count]]] = True
    return rejected


def _chi2_excess(fit: _Fit, valid: BoolArray, o: PcaOptions) -> FloatArray:
    """Return each star's reduced chi-square over what is allowed.

    A model that is wrong by a fixed fraction of the star adds ``c (S/N)^2``; c is the median of the brightest third,
    and what it explains is no fault of a star. Neither is a level above 1 that all stars share.
    """
    power = fit.state.signal_to_noise**2
    chi2 = fit.reduced_chi2
    excess = np.full(len(chi2), np.inf)
    if not valid.any():
        return excess
    bright = valid & (power >= np.quantile(power[valid], 2.0 / 3.0))
    faint = valid & ~bright
    level = max(1.0, float(np.median(chi2[faint if faint.any() else bright])))
    slope = max(0.0, float(np.median((chi2[bright] - level) / np.maximum(power[bright], 1e-30))))
    excess[valid] = chi2[valid] / (o.reduced_chi2_max * (level + slope * power[valid]))
    return excess


def _spatial_outliers(fit: _Fit, stars: PsfStars, valid: BoolArray, done: int, o: PcaOptions) -> BoolArray:
    """Return stars whose factors differ from the polynomials by more than noise and the others' scatter."""
    rejected = np.zeros(len(stars), np.bool_)
    rows = np.flatnonzero(valid)
    if o.spatial_reject <= 0 or len(rows) == 0:
        return rejected
    # the model drawn at the stars, in units of the eigen-images
    terms = fit.psf.coefficients.reshape(len(fit.psf.exponents), -1)
    factors = np.linalg.lstsq(fit.images.reshape(len(fit.images), -1).T, terms.T, rcond=None)[0]
    predicted = fit.psf.basis(x=stars.x, y=stars.y) @ factors.T
    predicted = predicted[:, 1:] / predicted[:, :1]
    for k in range(predicted.shape[1]):
        residual, error = (fit.amounts.ratio - predicted)[:, k], fit.amounts.error[:, k]
        middle = float(np.median(residual[rows]))
        better = rows[error[rows] <= np.median(error[rows])]
        scatter = MAD_TO_SIGMA * float(np.median(np.abs(residual[better] - middle)))
        intrinsic = max(scatter**2 - float(np.median(error[better])) ** 2, LEAST_SCATTER**2)
        pull = np.abs(residual[rows] - middle) / np.sqrt(error[rows] ** 2 + intrinsic)
        # neighbours and sky add to the noise that is known
        typical = max(1.0, MAD_TO_SIGMA * float(np.median(pull)))
        excess = np.full(len(stars), np.inf)
        excess[rows] = pull / (o.spatial_reject * typical)
        rejected |= _worst(excess, valid & ~rejected, done, o.n_rounds)
    return rejected

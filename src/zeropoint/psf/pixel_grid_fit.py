"""Fit a grid of model pixels, varying as a polynomial over the detector, to many stars at once.

The model is Piff's PixelGrid with BasisPolynomial, and so is the outer loop: linearise, solve for all
coefficients, refit each star's flux and centre, drop outliers, until nothing changes. The linear algebra is
`zeropoint.psf.spatial_solve`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from zeropoint.datamodel.psf_model import PixelGridPsf
from zeropoint.psf.outliers import expected_chi2, find_outliers
from zeropoint.psf.pixel_grid_stars import (
    PixelGridOptions,
    StarState,
    interpolation_pair,
    observed_cap,
    refit_stars,
    reweight,
    show_grids,
    star_sizes,
    unit_grids,
)
from zeropoint.psf.psfex_fit import expected_grids
from zeropoint.psf.psfex_solve import GridPrior
from zeropoint.psf.spatial_solve import solve_increment
from zeropoint.psf.stars import PsfStars

__all__ = [
    "PixelGridFit",
    "PixelGridOptions",
    "fit_pixel_grid",
    "grid_model",
    "normalized_terms",
    "polynomial_exponents",
    "solve_grid",
    "start_grid",
]

_LOG = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]

#: The loop ends when chi-square falls by less than this fraction ...
CHI2_TOLERANCE = 1e-3
#: ... and no centre moves by more than this, pixels.
CENTRE_TOLERANCE = 2e-3
#: Photon noise of the model enters the weights up to this iteration; then they stay, so that the loop can end.
LAST_REWEIGHTING = 2
#: Stars may be dropped after this iteration. Before, the model is not yet that of few stars, whose scatter tells little.
LAST_INDULGENCE = 2
#: Prior scatter of the varying terms' pixels about 0, over the whole detector, in units of the constant term's about
#: the round mean profile (`expected_grids`). It is felt only where photons are few, and far from the stars. Model pixels
#: smaller than the detector's come with more stars, which need less of it.
PRIOR_VARIATION = 0.4
PRIOR_VARIATION_FINE = 0.8
#: With model pixels smaller than the detector's, some patterns of them are hardly observed. Where no other prior is
#: wanted, they then have this prior scatter, in units of the profile's peak, about the preceding simpler model.
PRIOR_SCATTER = 0.05


@dataclass(frozen=True)
class PixelGridFit:
    """Result of a fit.

    Parameters
    ----------
    psf
        The model.
    used : bool, shape (n,)
        Stars that shaped the final model.
    chi2, dof
        Total chi-square (under the stars' true noise) and degrees of freedom of the used stars.
    reduced_chi2 : float64, shape (n,)
        Chi-square per degree of freedom of each star under its true noise.
    flux, dx, dy : float64, shape (n,)
        Fitted flux, and centre from the stamp's middle pixel.
    n_iterations
        Outer iterations done.
    converged
        Whether the loop ended by itself.
    max_snr
        Signal-to-noise ratio at which the final weights were capped.
    """

    psf: PixelGridPsf
    used: npt.NDArray[np.bool_]
    chi2: float
    dof: int
    reduced_chi2: FloatArray
    flux: FloatArray
    dx: FloatArray
    dy: FloatArray
    n_iterations: int
    converged: bool
    max_snr: float


def polynomial_exponents(order: int) -> npt.NDArray[np.int64]:
    """Return the exponents (i, j) with ``i + j <= order``, i outermost, shape (n_terms, 2)."""
    return np.array([(i, j) for i in range(order + 1) for j in range(order + 1 - i)], np.int64)


def grid_model(
    coefficients: FloatArray, size: int, o: PixelGridOptions, centre: tuple[float, float]
) -> PixelGridPsf:
    """Return a model with given terms, stamp side and average position of its stars."""
    return PixelGridPsf(
        coefficients,
        polynomial_exponents(o.order),
        x_ref=o.x_ref,
        y_ref=o.y_ref,
        norm=o.norm,
        size=size,
        scale=o.scale,
        lanczos=o.lanczos,
        average_position=centre,
    )


def start_grid(stars: PsfStars, o: PixelGridOptions) -> tuple[PixelGridPsf, StarState]:
    """Return the starting model, a Gaussian of the stars' median size, and the stars fitted to it."""
    sizes = star_sizes(stars)
    sigma = float(np.median(sizes[np.isfinite(sizes)])) if np.isfinite(sizes).any() else 1.5
    r = (np.arange(o.grid) - o.grid // 2) * o.scale / sigma
    profile = np.exp(-0.5 * r * r)
    coefficients = np.zeros((len(polynomial_exponents(o.order)), o.grid, o.grid))
    coefficients[0] = np.outer(profile, profile) / profile.sum() ** 2
    psf = grid_model(coefficients, stars.side, o, (o.x_ref, o.y_ref))
    n = len(stars)
    state = StarState(np.ones(n), stars.dx.copy(), stars.dy.copy(), np.ones(n, np.bool_), stars.weight)
    for _ in range(2):
        refit_stars(psf, stars, state, o)
    return psf, state


def normalized_terms(coefficients: FloatArray, o: PixelGridOptions) -> FloatArray:
    """Return coefficients of the same PSF with a fixed normalisation over the detector, and a constant term of sum 1.

    The sum of the model is degenerate with the stars' fluxes. With ``core_normalization`` the varying terms are
    orthogonal to the square of the constant profile, so the amplitude of the core is the same everywhere and the
    drawn PSF, which is divided by its sum, a ratio of polynomials; else the varying terms have sum 0.
    """
    profile = coefficients[0] / coefficients[0].sum()
    result = coefficients / coefficients[0].sum()
    if o.core_normalization:
        core = profile * np.abs(profile)
        excess = (result[1:] * core).sum(axis=(1, 2)) / (profile * core).sum()
    else:
        excess = result[1:].sum(axis=(1, 2))
    result[1:] -= excess[:, None, None] * profile
    return result


def _expected(psf: PixelGridPsf, o: PixelGridOptions) -> PixelGridPsf | GridPrior:
    """Return the prior that follows from a model: round and hardly varying, or the model itself without strength."""
    if o.prior_strength <= 0:
        return psf
    variation = PRIOR_VARIATION_FINE if o.scale < 1 else PRIOR_VARIATION
    prior = expected_grids(psf.coefficients, variation)
    return replace(prior, sigma=prior.sigma / o.prior_strength)


def solve_grid(
    psf: PixelGridPsf, prior: PixelGridPsf | GridPrior, stars: PsfStars, state: StarState, o: PixelGridOptions
) -> PixelGridPsf:
    """Return the model after one linear solve over the used stars.

    A model as the prior is one for model pixels smaller than the detector's only, by `PRIOR_SCATTER`.
    """
    rows = np.flatnonzero(state.used)
    chosen = stars.take(rows)
    wx, wy = interpolation_pair(state.dx[rows], state.dy[rows], stars.side, o)
    grids, sums = unit_grids(psf, chosen)
    model = show_grids(wy, grids, wx) * state.flux[rows][:, None, None]
    amplitude = state.flux[rows] / sums
    sigma: float | FloatArray
    if isinstance(prior, GridPrior):
        centre_of_prior, sigma, factor = prior.centre, prior.sigma, prior.factor
    else:
        centre_of_prior, factor = prior.coefficients, None
        sigma = PRIOR_SCATTER * float(centre_of_prior[0].max()) if o.scale < 1 else 0.0
    increment, record = solve_increment(
        psf.basis(x=chosen.x, y=chosen.y), wx, wy, state.weight[rows], chosen.image - model, amplitude,
        scale=o.scale,
        prior_offset=psf.coefficients - centre_of_prior,
        prior_sigma=sigma,
        prior_factor=factor,
        inverse=state.inverse,
    )  # fmt: skip
    state.inverse = record.inverse
    _LOG.debug("Solve: %d steps, relative residual %.1e.", record.n_steps, record.relative_residual)
    centre = (float(chosen.x.mean()), float(chosen.y.mean()))
    return grid_model(normalized_terms(psf.coefficients + increment, o), psf.size, o, centre)


def _drop_outliers(psf: PixelGridPsf, stars: PsfStars, state: StarState, o: PixelGridOptions) -> None:
    """Take stars that fit badly out of ``state.used``, in place."""
    rows = np.flatnonzero(state.used)
    if len(rows) <= len(psf.exponents):
        return
    dof = (stars.weight[rows] > 0).sum(axis=(1, 2)) - (3 if o.fit_center else 1)
    weight = state.weight[rows].mean(axis=(1, 2)) * state.flux[rows] ** 2
    noise = np.sqrt(stars.sky_variance[rows]) / state.flux[rows]
    expected = expected_chi2(psf.basis(x=stars.x[rows], y=stars.y[rows]), weight, noise)
    outlier = find_outliers(
        state.reduced_chi2[rows] / np.maximum(expected, 0.1),
        dof,
        state.signal_to_noise[rows],
        n_sigma=o.outlier_n_sigma,
        max_remove=o.outlier_max_remove,
    )
    state.used[rows[outlier]] = False


def _iterate(
    psf: PixelGridPsf, stars: PsfStars, state: StarState, o: PixelGridOptions
) -> tuple[PixelGridPsf, int, bool, float]:
    """Return the fitted model, the iterations done, whether they converged, and the final S/N cap.

    ``state`` is updated in place.
    """
    prior = _expected(psf, o)
    cap, cap_is_open = o.max_snr, o.adaptive_max_snr
    old = np.inf
    for iteration in range(1, o.max_iter + 1):
        n_before = int(state.used.sum())
        if n_before < len(psf.exponents):
            break
        psf = solve_grid(psf, prior, stars, state, o)
        if o.prior_strength > 0:
            prior = _expected(psf, o)
        refit_stars(psf, stars, state, o)
        if iteration > LAST_INDULGENCE:
            _drop_outliers(psf, stars, state, o)
        n_removed = n_before - int(state.used.sum())
        total = float(state.chi2[state.used].sum())
        moved = float(state.shift[state.used].max(initial=0.0))
        _LOG.debug(
            "Iteration %d: %d stars, %d removed, chi2 %.6g, largest shift %.4f pixels.",
            iteration, n_before, n_removed, total, moved,
        )  # fmt: skip
        settled = n_removed == 0 and iteration >= LAST_REWEIGHTING
        if settled and not cap_is_open and old - total < CHI2_TOLERANCE * total and moved < CENTRE_TOLERANCE:
            return psf, iteration, True, cap
        old = total
        if iteration <= LAST_REWEIGHTING and o.photon_noise_weights:
            reweight(stars, state, cap, True)
            old = np.inf
        if cap_is_open and settled:
            cap_is_open = False
            cap = observed_cap(stars, state, cap)
            reweight(stars, state, cap, o.photon_noise_weights, observed=True)
            old = np.inf
    return psf, o.max_iter, False, cap


def fit_pixel_grid(stars: PsfStars, options: PixelGridOptions) -> PixelGridFit:
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
        `PixelGridFit`. The loop stops early, with few stars used, when outliers leave fewer stars than terms;
        the caller decides what that means.

    Notes
    -----
    Where model pixels are smaller than the detector's, a model constant over the detector is fitted first and starts
    the one asked for. Linear algebra runs on one thread: the matrices are small, and the result must
    not depend on the number of threads.
    """
    with threadpool_limits(limits=1, user_api="blas"):
        return _fit(stars, options)


def _fit(stars: PsfStars, options: PixelGridOptions) -> PixelGridFit:
    """See `fit_pixel_grid`."""
    psf, state = start_grid(stars, options)
    n_constant = 0
    if options.scale < 1 and options.order > 0:
        simple = replace(options, order=0, adaptive_max_snr=False)
        constant = grid_model(psf.coefficients[:1], stars.side, simple, psf.average_position)
        constant, n_constant, _, _ = _iterate(constant, stars, state, simple)
        psf.coefficients[0] = constant.coefficients[0]
        # what a constant model finds bad may only be at the edge of the field
        state.used[:] = True
        state.weight, state.inverse = stars.weight, None
    psf, n_iterations, converged, cap = _iterate(psf, stars, state, options)
    if not converged:
        _LOG.debug("The PSF fit did not converge in %d iterations.", n_iterations)
    dof = (stars.weight > 0).sum(axis=(1, 2)) - (3 if options.fit_center else 1)
    return PixelGridFit(
        psf=psf,
        used=state.used,
        chi2=float((state.reduced_chi2 * dof)[state.used].sum()),
        dof=int(dof[state.used].sum()),
        reduced_chi2=state.reduced_chi2,
        flux=state.flux,
        dx=state.dx,
        dy=state.dy,
        n_iterations=n_constant + n_iterations,
        converged=converged,
        max_snr=cap,
    )

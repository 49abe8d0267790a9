"""Fit PSFEx's model to many stars: an oversampled pixel basis that varies as a polynomial over the detector.

The schedule is PSFEx's: stack the stars on the model's grid (`stack_stars`), solve for all model pixels at once
(`zeropoint.psf.psfex_solve`), reject stars that do not fit, and again with a smaller tolerance for model errors.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from zeropoint.psf.pixel_grid_export import PositionFrame, triangular_exponents
from zeropoint.psf.psfex_solve import GridPrior, Resampler, draw_taps, solve_grids, stack_taps
from zeropoint.psf.sanity import FWHM_PER_SIGMA
from zeropoint.psf.spatial_solve import orthonormal_basis
from zeropoint.psf.stars import PsfStars

__all__ = ["PsfexFit", "PsfexOptions", "clip_limit", "fit_psfex", "stack_stars", "taper"]

_LOG = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]

#: Assumed fractional error of the model, a smaller one each round (PSFEx's schedule).
ACCURACIES = (0.2, 0.1, 0.05)
#: The error of a star's profile that bright stars show is kept within these limits.
ACCURACY_RANGE = (0.002, 0.05)
#: Added to the diagonal of the fit of each stacked pixel (PSFEx's Tikhonov term).
STACK_RIDGE = 1000.0
#: Where the linear solver stops, in the rounds of `ACCURACIES` and after them.
TOLERANCE_EARLY, TOLERANCE = 1e-1, 1e-2
#: With model pixels finer than this, in detector pixels, early rounds go on as far as the last one: what a star's
#: pixels say apart is then told apart by the stars' different phases only, and comes late.
FINE = 0.6
#: As far as the stars leave it open, a model pixel scatters by so much about the round mean profile, in units of
#: that profile, and by so much more everywhere, in units of the peak.
PRIOR_SCATTER, PRIOR_FLOOR = 1.0, 3e-4
#: The terms that vary scatter about 0, by this fraction of the former.
PRIOR_VARIATION = 0.2
#: Stars beyond this many standard deviations of sqrt(reduced chi-square) leave (PSFEx's).
CLIP_SIGMA = 3.0
#: Deviations below this are not significant: the model of an early round is not perfect.
LEAST_SIGMA = 0.1
#: Beyond this many FWHM from a star, pixels brighter than the model by so many standard deviations are not its own.
OUTSKIRTS, INTRUDER_SIGMA = 2.0, 5.0
#: At most this fraction of the stars is dropped in a round: while the model is rough, many may seem bad.
MAX_REMOVE = 0.05
#: Step of the numerical derivative of the model by the star's centre, pixels.
CENTRE_STEP = 1e-4
#: A star whose centre would move further than this from its middle pixel, in units of the stamp's side, is lost.
LOST = 0.25


@dataclass(frozen=True)
class PsfexOptions:
    """What the fit needs to know beyond the stars.

    Parameters
    ----------
    order
        Degree of the polynomial.
    grid, scale
        Odd side of the model grid; model pixel in detector pixels.
    lanczos
        Order of the interpolant.
    frame
        How positions are normalised.
    fwhm
        Of the stars, pixels.
    recentroid
        Whether the stars' centres are fitted.
    accuracy
        Fractional error of the model assumed in the weights.
    adaptive_accuracy
        Whether the last solve uses the error that the stars show instead.
    """

    order: int
    grid: int
    scale: float
    lanczos: int
    frame: PositionFrame
    fwhm: float
    recentroid: bool = True
    accuracy: float = 0.01
    adaptive_accuracy: bool = True


@dataclass(frozen=True)
class PsfexFit:
    """Result of a fit.

    Parameters
    ----------
    grids : float64, shape (n_terms, grid, grid)
        Model pixels of each term of `triangular_exponents`.
    used : bool, shape (n,)
        Stars that shaped the model.
    chi2, dof
        Total chi-square under the stars' true noise, and degrees of freedom, of the used stars.
    reduced_chi2 : float64, shape (n,)
        Of each star.
    accuracy
        Fractional error of the model assumed in the last solve.
    flux, dx, dy : float64, shape (n,)
        Fitted flux, and centre from the stamp's middle pixel.
    """

    grids: FloatArray
    used: npt.NDArray[np.bool_]
    chi2: float
    dof: int
    reduced_chi2: FloatArray
    accuracy: float
    flux: FloatArray
    dx: FloatArray
    dy: FloatArray


@dataclass
class _Stars:
    """The stars' own parameters while the schedule runs; everything here is replaced as it goes."""

    flux: FloatArray
    dx: FloatArray
    dy: FloatArray
    used: npt.NDArray[np.bool_]
    model: FloatArray = field(default_factory=lambda: np.zeros(0))
    drawn: Resampler | None = None


def _variance(stars: PsfStars, signal: FloatArray, accuracy: float) -> FloatArray:
    """Return ``sky + signal/gain + (accuracy signal)^2`` of each pixel."""
    positive = np.maximum(signal, 0.0)
    noise = stars.sky_variance[:, None, None] + stars.variance_slope[:, None, None] * positive
    return np.asarray(noise + (accuracy * positive) ** 2)


def _taps(state: _Stars, stars: PsfStars, o: PsfexOptions, by_x: float = 0.0, by_y: float = 0.0) -> Resampler:
    return draw_taps(
        state.dx + by_x, state.dy + by_y, side=stars.side, grid=o.grid, scale=o.scale, order=o.lanczos
    )


def _gaussian(offset: FloatArray, side: int, sigma: float) -> FloatArray:
    """Return Gaussians along a line of ``side`` pixels, centred ``offset`` from the middle, shape (n, side)."""
    r = np.arange(side) - side // 2 - offset[:, None]
    return np.asarray(np.exp(-0.5 * (r / sigma) ** 2) / (np.sqrt(2.0 * np.pi) * sigma))


def _gaussians(state: _Stars, side: int, sigma: float) -> FloatArray:
    """Return the stamps that stars would have if they were round Gaussians."""
    along_x, along_y = _gaussian(state.dx, side, sigma), _gaussian(state.dy, side, sigma)
    return np.asarray(state.flux[:, None, None] * along_y[:, :, None] * along_x[:, None, :])


def _aperture_flux(stars: PsfStars, radius: float) -> FloatArray:
    """Return sums of the good pixels in a circle; a bad pixel counts as the one opposite."""
    half = stars.side // 2
    r = np.arange(stars.side) - half
    inside = r[:, None] ** 2 + r**2 <= radius**2
    return np.asarray(_filled(stars)[:, inside].sum(axis=1))


def _filled(stars: PsfStars) -> FloatArray:
    """Return the stamps with bad pixels replaced by the ones opposite, or 0 if those are bad too."""
    return np.where(stars.weight > 0, stars.image, stars.image[:, ::-1, ::-1])


def stack_stars(
    stars: PsfStars,
    flux: FloatArray,
    dx: FloatArray,
    dy: FloatArray,
    used: np.ndarray,
    accuracy: float,
    o: PsfexOptions,
) -> FloatArray:
    """Return the model of the stars brought to a common centre: a polynomial for each pixel on its own.

    Parameters
    ----------
    stars
        The stars.
    flux, dx, dy : float64, shape (n,)
        Flux, and centre from the stamp's middle pixel.
    used : bool, shape (n,)
        Stars that count.
    accuracy
        Fractional error that the weights allow for.
    o
        Options.

    Returns
    -------
    grids : float64, shape (n_terms, grid, grid)
        Grids of a PSF of sum 1.
    """
    rows = np.flatnonzero(used & (flux > 0))
    chosen = stars.take(rows)
    taps = stack_taps(dx[rows], dy[rows], side=stars.side, grid=o.grid, scale=o.scale, order=o.lanczos)
    norm = flux[rows][:, None, None]
    value = taps.apply(_filled(chosen) / norm)
    # the noise where a pixel is read is that of the pixel nearest to it
    axis = (np.arange(o.grid) - o.grid // 2) * o.scale
    ix = np.floor(axis + dx[rows][:, None] + 0.5).astype(np.int64) + stars.side // 2
    iy = np.floor(axis + dy[rows][:, None] + 0.5).astype(np.int64) + stars.side // 2
    inside = ((iy >= 0) & (iy < stars.side))[:, :, None] & ((ix >= 0) & (ix < stars.side))[:, None, :]
    ix, iy = np.clip(ix, 0, stars.side - 1)[:, None, :], np.clip(iy, 0, stars.side - 1)[:, :, None]
    good = inside & (chosen.weight > 0)[np.arange(len(rows))[:, None, None], iy, ix]
    # variance per detector pixel, whose share of the flux is 1/scale^2 times a model pixel's
    weight = good * norm**2 / _variance(chosen, value * norm / o.scale**2, accuracy)
    basis = o.frame.monomials(triangular_exponents(o.order), x=chosen.x, y=chosen.y)
    m = basis.shape[1]
    products = (basis[:, :, None] * basis[:, None, :]).reshape(len(rows), -1)
    normal = (products.T @ weight.reshape(len(rows), -1)).T.reshape(-1, m, m)
    normal[:, np.arange(m), np.arange(m)] += STACK_RIDGE
    right = (basis.T @ (weight * value).reshape(len(rows), -1)).T
    solution = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
    return np.ascontiguousarray(solution.T).reshape(m, o.grid, o.grid)


def taper(o: PsfexOptions, side: int) -> FloatArray:
    """Return the window that ends the model: 1 inside, linear in r^2 to 0 over one FWHM at the edge, shape (grid, grid)."""
    axis = (np.arange(o.grid) - o.grid // 2) * o.scale
    r2 = axis[:, None] ** 2 + axis**2
    outer = 0.5 * side
    inner = max(outer - max(o.scale, o.fwhm), 0.0)
    return np.clip((outer**2 - r2) / (outer**2 - inner**2), 0.0, 1.0)


def expected_grids(grids: FloatArray, variation: float = PRIOR_VARIATION) -> GridPrior:
    """Return what stacked stars, of shape (n_terms, grid, grid), let expect: a round profile that hardly varies."""
    grid = grids.shape[1]
    r = np.hypot(*np.mgrid[:grid, :grid] - grid // 2)
    ring, share = np.floor(r).astype(np.int64), r - np.floor(r)
    rings = np.concatenate([ring.ravel(), ring.ravel() + 1])
    weights = np.concatenate([1.0 - share.ravel(), share.ravel()])
    total = np.bincount(rings, weights * np.tile(grids[0].ravel(), 2))
    profile = np.maximum(total / np.maximum(np.bincount(rings, weights), 1e-12), 0.0)
    round_grid = np.interp(r, np.arange(len(profile)), profile)
    centre = np.zeros_like(grids)
    centre[0] = round_grid
    factor = np.full(len(grids), variation)
    factor[0] = 1.0
    return GridPrior(centre, PRIOR_SCATTER * round_grid + PRIOR_FLOOR * round_grid.max(), factor)


def clip_limit(chi: FloatArray) -> float:
    """Return the largest ``sqrt(reduced chi-square)`` that stays.

    Parameters
    ----------
    chi : float64, shape (n,)
        Values of the stars, finite.

    Notes
    -----
    Median + 3 standard deviations (of 0.1 at least) of those within, until the deviation settles (to 1e-4) or is
    below 0.1.
    """
    kept = chi
    sigma = np.inf
    limit = np.inf
    for _ in range(100):
        centre = float(np.median(kept))
        before, sigma = sigma, float(np.sqrt(((kept - centre) ** 2).mean()))
        limit = centre + CLIP_SIGMA * max(sigma, LEAST_SIGMA)
        if sigma < LEAST_SIGMA or abs(before - sigma) < 1e-4 * sigma:
            break
        kept = chi[(chi <= limit) & (chi >= centre - CLIP_SIGMA * sigma)]
    return limit


class _Fit:
    """One run of the schedule."""

    def __init__(self, stars: PsfStars, o: PsfexOptions) -> None:
        self.stars, self.o = stars, o
        self.basis = o.frame.monomials(triangular_exponents(o.order), x=stars.x, y=stars.y)
        flux = _aperture_flux(stars, max(4.0, 2.0 * o.fwhm))
        self.state = _Stars(flux, stars.dx.copy(), stars.dy.copy(), np.isfinite(flux) & (flux > 0))
        self.grids = np.zeros((self.basis.shape[1], o.grid, o.grid))
        self.prior = GridPrior(self.grids, np.ones((o.grid, o.grid)), np.ones(self.basis.shape[1]))
        self.good = stars.weight > 0
        r = np.arange(stars.side) - stars.side // 2
        self.outskirts = r[:, None] ** 2 + r**2 > (OUTSKIRTS * o.fwhm) ** 2

    def run(self) -> PsfexFit:
        """Return the fitted model."""
        self.stack(ACCURACIES[0])
        for accuracy in ACCURACIES:
            self.refine(self.o.accuracy, TOLERANCE if self.o.scale < FINE else TOLERANCE_EARLY)
            self.clean(accuracy)
            _LOG.debug("Accuracy %.3f: %d of %d stars.", accuracy, self.state.used.sum(), len(self.stars))
        accuracy = self.o.accuracy
        self.refine(accuracy, TOLERANCE)
        if self.o.adaptive_accuracy:
            accuracy = self.observed_accuracy()
        self.clean(max(accuracy, self.o.accuracy))
        _LOG.debug("Accuracy %.4f: %d of %d stars.", accuracy, self.state.used.sum(), len(self.stars))
        self.refine(accuracy, TOLERANCE)
        self.grids = self.grids * taper(self.o, self.stars.side)
        return self._result(accuracy)

    def stack(self, accuracy: float) -> None:
        """Make the first model, the same everywhere: few stars would make a wild polynomial of every pixel."""
        s, o = self.state, replace(self.o, order=0)
        mean = stack_stars(self.stars, s.flux, s.dx, s.dy, s.used, accuracy, o)[0]
        # interpolation blurs undersampled stars: what it does to a Gaussian of their size is undone
        sigma = o.fwhm / FWHM_PER_SIGMA
        blurred = replace(self.stars, image=_gaussians(s, self.stars.side, sigma))
        mean -= stack_stars(blurred, s.flux, s.dx, s.dy, s.used, accuracy, o)[0]
        profile = _gaussian(np.zeros(1), o.grid, sigma / o.scale)
        mean += profile.T * profile
        self.grids[0] = mean / mean.sum()
        self.prior = expected_grids(self.grids)
        self.refit()

    def refit(self) -> None:
        """Refit flux and, if wanted, centre of every star."""
        s, o, stars = self.state, self.o, self.stars
        n = len(stars)
        local = (self.basis @ self.grids.reshape(len(self.grids), -1)).reshape(n, o.grid, o.grid)
        s.drawn = _taps(s, stars, o)
        s.model = s.drawn.apply(local)
        signal = s.flux[:, None, None] * s.model
        # the window is the star itself: neighbours in its wings do not pull
        weight = self.good * np.maximum(s.model, 0.0) / _variance(stars, signal, o.accuracy)
        power = (weight * s.model**2).sum(axis=(1, 2))
        flux = (weight * s.model * stars.image).sum(axis=(1, 2)) / np.where(power > 0, power, np.inf)
        if o.recentroid:
            by_x = (_taps(s, stars, o, CENTRE_STEP).apply(local) - s.model) / CENTRE_STEP
            by_y = (_taps(s, stars, o, 0.0, CENTRE_STEP).apply(local) - s.model) / CENTRE_STEP
            design = np.stack([s.model, by_x, by_y], axis=1).reshape(n, 3, -1)
            weighted = design * weight.reshape(n, 1, -1)
            normal = weighted @ design.transpose(0, 2, 1)
            right = weighted @ stars.image.reshape(n, -1, 1)
            solvable = np.isfinite(normal).all(axis=(1, 2)) & (np.abs(np.linalg.det(normal)) > 0)
            solution = np.zeros((n, 3))
            solution[solvable] = np.linalg.solve(normal[solvable], right[solvable])[:, :, 0]
            flux = solution[:, 0]
            step = solution[:, 1:] / np.where(flux > 0, flux, np.inf)[:, None]
            squared = local * np.abs(local)
            axis = (np.arange(o.grid) - o.grid // 2) * o.scale
            total = squared.sum(axis=(1, 2))
            step[:, 0] += (squared * axis).sum(axis=(1, 2)) / total
            step[:, 1] += (squared * axis[:, None]).sum(axis=(1, 2)) / total
            dx, dy = s.dx + step[:, 0], s.dy + step[:, 1]
            limit = LOST * stars.side
            lost = ~((np.abs(dx) < limit) & (np.abs(dy) < limit)) | ~solvable
            s.used = s.used & ~lost
            s.dx, s.dy = np.where(lost, s.dx, dx), np.where(lost, s.dy, dy)
            s.drawn = _taps(s, stars, o)
            s.model = s.drawn.apply(local)
        s.used = s.used & np.isfinite(flux) & (flux > 0)
        s.flux = np.where(np.isfinite(flux), flux, 0.0)

    def refine(self, accuracy: float, tolerance: float) -> None:
        """Solve for the change of all model pixels, then refit the stars."""
        s = self.state
        rows = np.flatnonzero(s.used)
        if len(rows) < self.basis.shape[1] or s.drawn is None:
            return
        stars = self.stars.take(rows)
        signal = s.flux[rows][:, None, None] * s.model[rows]
        weight = self.good[rows] / _variance(stars, signal, accuracy)
        increment, steps = solve_grids(
            self.basis[rows], s.drawn.take(rows), weight, stars.image - signal, s.flux[rows],
            present=self.grids,
            prior=self.prior,
            tolerance=tolerance,
        )  # fmt: skip
        _LOG.debug("Solve: %d steps.", steps)
        self.grids = self.grids + increment
        self._hold_core()
        self.refit()

    def observed_accuracy(self) -> float:
        """Return the fractional error of the model that the brighter stars show, as if pixels erred on their own.

        The error of a model is one of size or shape: the pixels of a star err together, and a star brighter than the
        error tells of it once, not once in every pixel. Weights that treat pixels as independent allow for it when
        the variance is larger by the number of pixels that a star covers, its noise-equivalent area.
        """
        s, stars = self.state, self.stars
        signal = s.flux[:, None, None] * s.model
        good = self.good
        excess = np.where(good, (stars.image - signal) ** 2 - _variance(stars, signal, 0.0), 0.0)
        power = np.where(good, signal**2, 0.0).sum(axis=(1, 2))
        rows = np.flatnonzero(s.used)
        if len(rows) <= self.basis.shape[1]:
            return self.o.accuracy
        weight = power[rows] / _variance(stars.take(rows), signal[rows], self.o.accuracy).mean(axis=(1, 2))
        # a star pulls the model towards itself, and hides its error by as much
        k, _ = orthonormal_basis(self.basis[rows], weight)
        freedom = 1.0 - weight * (k * k).sum(axis=1)
        square = excess.sum(axis=(1, 2))[rows] / power[rows] / np.maximum(freedom, 0.1)
        bright = (s.flux[rows] >= np.quantile(s.flux[rows], 2.0 / 3.0)) & (freedom > 0.1)
        if not bright.any():
            return self.o.accuracy
        found = float(np.clip(np.sqrt(max(float(np.median(square[bright])), 0.0)), *ACCURACY_RANGE))
        area = 1.0 / float(np.median((s.model[rows] ** 2).sum(axis=(1, 2))))
        return found * math.sqrt(max(area, 1.0))

    def _hold_core(self) -> None:
        """Keep the amplitude of the core constant over the detector and the constant term's sum 1, in place.

        The amplitude is degenerate with the fluxes. Held by the core, not by the sum, a polynomial follows changes of
        size more closely; what is drawn is divided by its sum.
        """
        self.grids = self.grids / self.grids[0].sum()
        profile = self.grids[0]
        core = profile * np.abs(profile)
        excess = (self.grids[1:] * core).sum(axis=(1, 2)) / (profile * core).sum()
        self.grids[1:] -= excess[:, None, None] * profile

    def _reduced_chi2(self, accuracy: float) -> FloatArray:
        s, stars = self.state, self.stars
        half = stars.side // 2
        r = np.arange(stars.side) - half
        inside = (r[:, None] ** 2 + r**2 <= (half + 0.5) ** 2) & self.good
        signal = s.flux[:, None, None] * s.model
        chi2 = np.where(inside, (stars.image - signal) ** 2 / _variance(stars, signal, accuracy), 0.0)
        dof = inside.sum(axis=(1, 2)) - (3 if self.o.recentroid else 1)
        return np.asarray(chi2.sum(axis=(1, 2)) / np.maximum(dof, 1))

    def clean(self, accuracy: float) -> None:
        """Drop pixels with other light far from the star, and then stars that do not fit."""
        s = self.state
        signal = s.flux[:, None, None] * s.model
        intruder = self.outskirts & (
            self.stars.image - signal > INTRUDER_SIGMA * np.sqrt(_variance(self.stars, signal, accuracy))
        )
        self.good = self.good & ~binary_dilation(intruder, np.ones((1, 3, 3), np.bool_))
        chi = np.sqrt(self._reduced_chi2(accuracy))
        s.used = s.used & np.isfinite(chi)
        rows = np.flatnonzero(s.used)
        if len(rows) == 0:
            return
        worst_first = rows[np.argsort(-chi[rows], kind="stable")]
        worst_first = worst_first[chi[worst_first] > clip_limit(chi[rows])]
        s.used = s.used.copy()
        s.used[worst_first[: math.ceil(MAX_REMOVE * len(rows))]] = False

    def _result(self, accuracy: float) -> PsfexFit:
        s = self.state
        reduced = self._reduced_chi2(0.0)
        dof = np.maximum(self.good.sum(axis=(1, 2)) - (3 if self.o.recentroid else 1), 1)
        return PsfexFit(
            grids=self.grids,
            used=s.used,
            chi2=float((reduced * dof)[s.used].sum()),
            dof=int(dof[s.used].sum()),
            reduced_chi2=reduced,
            accuracy=accuracy,
            flux=s.flux,
            dx=s.dx,
            dy=s.dy,
        )


def fit_psfex(stars: PsfStars, options: PsfexOptions) -> PsfexFit:
    """Fit the model to the stars.

    Parameters
    ----------
    stars
        Stamps, noise, positions; their weights only say which pixels are good.
    options
        Settings.

    Returns
    -------
    fit
        `PsfexFit`. Clipping may leave fewer stars than terms; the caller decides what that means.

    Notes
    -----
    Linear algebra runs on one thread: the matrices are small, and the result must not depend on the number of threads.
    Nor may it depend on the order of the stars, which are fitted sorted by position.
    """
    order = np.lexsort((stars.x, stars.y))
    back = np.argsort(order)
    with threadpool_limits(limits=1, user_api="blas"):
        fit = _Fit(stars.take(order), options).run()
    own = {name: getattr(fit, name)[back] for name in ("used", "reduced_chi2", "flux", "dx", "dy")}
    return replace(fit, **own)

"""What a pixel-grid PSF fit keeps of each star: flux, centre, weights, and how well the model fits it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.psf_model import PixelGridPsf
from zeropoint.psf._kernels_pixel_grid import interpolation_matrices
from zeropoint.psf.moment_residuals import moment_residuals
from zeropoint.psf.outliers import MAD_TO_SIGMA
from zeropoint.psf.stars import PsfStars

__all__ = [
    "PixelGridOptions",
    "StarState",
    "interpolation_pair",
    "observed_cap",
    "refit_stars",
    "reweight",
    "show_grids",
    "star_sizes",
    "unit_grids",
]

FloatArray = npt.NDArray[np.float64]

#: Step of the numerical derivative of the model by the star's centre, pixels.
CENTRE_STEP = 1e-4
#: A data-driven S/N cap is at least and at most this many times the configured one.
CAP_RANGE = (0.25, 10.0)


@dataclass(frozen=True)
class PixelGridOptions:
    """What the fit needs to know beyond the stars; names as in the determiner's config."""

    order: int = 2
    grid: int = 25
    scale: float = 1.0
    lanczos: int = 11
    fit_center: bool = True
    outlier_n_sigma: float = 4.0
    outlier_max_remove: float = 0.05
    max_iter: int = 15
    max_snr: float = 200.0
    photon_noise_weights: bool = True
    adaptive_max_snr: bool = True
    core_normalization: bool = True
    prior_strength: float = 0.0
    x_ref: float = 0.0
    y_ref: float = 0.0
    norm: float = 1.0


@dataclass
class StarState:
    """The stars' own parameters while the loop runs; everything here is replaced as it goes.

    Parameters
    ----------
    flux, dx, dy : float64, shape (n,)
        Flux, and centre from the stamp's middle pixel.
    used : bool, shape (n,)
        Stars that still shape the model.
    weight : float64, shape (n, side, side)
        Present weights of the pixels.
    inverse : float64, shape (grid^2, grid^2), or None
        Preconditioner for these weights.
    model, variance : float64, shape (n, side, side)
        Model of each star and its noise variance, sky and photon noise.
    chi2, reduced_chi2, signal_to_noise : float64, shape (n,)
        Chi-square under the weights; chi-square per degree of freedom, and S/N, under the true variance.
    shift : float64, shape (n,)
        Last change of the centre, pixels.
    """

    flux: FloatArray
    dx: FloatArray
    dy: FloatArray
    used: npt.NDArray[np.bool_]
    weight: FloatArray
    inverse: FloatArray | None = None
    model: FloatArray = field(default_factory=lambda: np.zeros(0))
    variance: FloatArray = field(default_factory=lambda: np.zeros(0))
    chi2: FloatArray = field(default_factory=lambda: np.zeros(0))
    reduced_chi2: FloatArray = field(default_factory=lambda: np.zeros(0))
    signal_to_noise: FloatArray = field(default_factory=lambda: np.zeros(0))
    shift: FloatArray = field(default_factory=lambda: np.zeros(0))


def star_sizes(stars: PsfStars) -> FloatArray:
    """Return the Gaussian sigma with each star's noise-equivalent area, pixels; NaN where there is no signal.

    ``(sum I)^2 / sum I^2 = 4 pi sigma^2`` holds at any sampling, unlike adaptive moments, which fail on stars
    narrower than about 1.3 pixels. Only the central 11 x 11 pixels count; the noise is taken out of the squares.
    """
    half, reach = stars.side // 2, min(5, stars.side // 2)
    window = slice(half - reach, half + reach + 1)
    image, good = stars.image[:, window, window], stars.weight[:, window, window] > 0
    total = image.sum(axis=(1, 2))
    noise = good * (
        stars.sky_variance[:, None, None] + stars.variance_slope[:, None, None] * np.maximum(image, 0)
    )
    squares = (image * image - noise).sum(axis=(1, 2))
    sigma = np.full(len(stars), np.nan)
    ok = (total > 0) & (squares > 0)
    sigma[ok] = total[ok] / np.sqrt(4.0 * np.pi * squares[ok])
    return sigma


def interpolation_pair(
    dx: FloatArray, dy: FloatArray, side: int, o: PixelGridOptions
) -> tuple[FloatArray, FloatArray]:
    """Return the matrices (Wx, Wy) that draw a model grid on stamps, each of shape (n, side, grid)."""
    wx = np.empty((len(dx), side, o.grid))
    wy = np.empty_like(wx)
    interpolation_matrices(np.ascontiguousarray(dx), o.scale, o.lanczos, wx)
    interpolation_matrices(np.ascontiguousarray(dy), o.scale, o.lanczos, wy)
    return wx, wy


def show_grids(wy: FloatArray, grids: FloatArray, wx: FloatArray) -> FloatArray:
    """Return ``Wy P Wx^T`` of each star, shape (n, side, side)."""
    return np.asarray(np.matmul(np.matmul(wy, grids), wx.transpose(0, 2, 1)))


def unit_grids(psf: PixelGridPsf, stars: PsfStars) -> tuple[FloatArray, FloatArray]:
    """Return the model grid at each star, of sum 1, shape (n, grid, grid), and the sum it had, shape (n,)."""
    n_terms, grid, _ = psf.coefficients.shape
    grids = psf.basis(x=stars.x, y=stars.y) @ psf.coefficients.reshape(n_terms, -1)
    sums = grids.sum(axis=1)
    # a sum of zero is a runaway fit: its stars become non-finite, and the caller lowers the order
    with np.errstate(divide="ignore", invalid="ignore"):
        grids /= sums[:, None]
    return grids.reshape(-1, grid, grid), sums


def refit_stars(psf: PixelGridPsf, stars: PsfStars, state: StarState, o: PixelGridOptions) -> None:
    """Refit flux and centre of every star to the present model; ``state`` is updated in place.

    One Gauss-Newton step under weights ``weight * |model|``, after a pure rescaling of the flux. If centres are
    fitted, the model's own centroid is added to them, which lets the next solve move the model to the centre.
    """
    grids, _ = unit_grids(psf, stars)
    wx, wy = interpolation_pair(state.dx, state.dy, stars.side, o)
    model = show_grids(wy, grids, wx)
    weight = state.weight * model
    model_power = (weight * model).sum(axis=(1, 2))
    model_power = np.where(model_power == 0, 1.0, model_power)
    flux = (weight * stars.image).sum(axis=(1, 2)) / model_power
    resid = stars.image - flux[:, None, None] * model
    state.shift = np.zeros(len(stars))
    if o.fit_center:
        wx_step, wy_step = interpolation_pair(state.dx + CENTRE_STEP, state.dy + CENTRE_STEP, stars.side, o)
        scale = (flux / CENTRE_STEP)[:, None, None]
        by_x = (show_grids(wy, grids, wx_step) - model) * scale
        by_y = (show_grids(wy_step, grids, wx) - model) * scale
        design = np.stack([model, by_x, by_y], axis=1).reshape(len(stars), 3, -1)
        weighted = design * np.abs(weight).reshape(len(stars), 1, -1)
        normal = weighted @ design.transpose(0, 2, 1)
        right = weighted @ resid.reshape(len(stars), -1, 1)
        solvable = np.isfinite(normal).all(axis=(1, 2)) & (np.abs(np.linalg.det(normal)) > 0)
        state.used &= solvable
        step = np.zeros((len(stars), 3))
        step[solvable] = np.linalg.solve(normal[solvable], right[solvable])[:, :, 0]
        resid = resid - np.einsum("nk,nkp->np", step, design).reshape(resid.shape)
        # the centroid of the model's own grid, squared: unlike that of the stamp it knows no masks or phases
        axis = (np.arange(o.grid) - o.grid // 2) * o.scale
        squared = grids * grids
        total = squared.sum(axis=(1, 2))
        centre_x = (squared * axis).sum(axis=(1, 2)) / total
        centre_y = (squared * axis[:, None]).sum(axis=(1, 2)) / total
        move_x, move_y = step[:, 1] + centre_x, step[:, 2] + centre_y
        # a star that wants to leave its pixel by several is not centred on a star
        limit = 0.25 * stars.side
        lost = ~((np.abs(state.dx + move_x) < limit) & (np.abs(state.dy + move_y) < limit))
        state.used &= ~lost
        move_x, move_y = np.where(lost, 0.0, move_x), np.where(lost, 0.0, move_y)
        state.shift = np.hypot(move_x, move_y)
        state.dx, state.dy = state.dx + move_x, state.dy + move_y
        flux = flux + step[:, 0]
    state.used &= np.isfinite(flux) & (flux > 0)
    state.flux = np.where(np.isfinite(flux), flux, 0.0)
    signal = state.flux[:, None, None] * model
    good = stars.weight > 0
    state.model = signal
    state.variance = stars.sky_variance[:, None, None] + stars.variance_slope[:, None, None] * np.maximum(
        signal, 0.0
    )
    state.chi2 = (state.weight * resid * resid).sum(axis=(1, 2))
    dof = np.maximum(good.sum(axis=(1, 2)) - (3 if o.fit_center else 1), 1)
    state.reduced_chi2 = np.where(good, resid * resid / state.variance, 0.0).sum(axis=(1, 2)) / dof
    state.signal_to_noise = np.sqrt(np.where(good, signal * signal / state.variance, 0.0).sum(axis=(1, 2)))


def reweight(
    stars: PsfStars, state: StarState, cap: float, photon_noise: bool, *, observed: bool = False
) -> None:
    """Set the weights from the model's variance (or the sky's alone) and a cap on S/N; ``state`` is updated.

    A configured cap cuts. An ``observed`` one is where noise and scatter about the model are equal, so a star there
    has half the weight that its noise alone would give.
    """
    variance = state.variance if photon_noise else stars.sky_variance[:, None, None]
    ratio = state.signal_to_noise / cap
    capped = 1.0 / (1.0 + ratio**2) if observed else 1.0 / np.maximum(1.0, ratio) ** 2
    state.weight = (stars.weight > 0) * capped[:, None, None] / variance
    state.inverse = None


def observed_cap(stars: PsfStars, state: StarState, cap: float) -> float:
    """Return the S/N beyond which a star tells no more about the PSF, from the scatter of the stars' sizes.

    The size of a star of signal-to-noise ratio S is known to about 2/S. If the sizes of bright stars scatter about
    the model by more than noise, by s, then stars beyond ``2/s`` would deserve no more weight, were s the scatter of
    stars that did not shape the model. That is larger, as neighbours vary together and the model follows the stars it
    was fitted to; hence ``1/s``.
    """
    rows = np.flatnonzero(state.used & (state.signal_to_noise > 0.5 * cap))
    if len(rows) < 10:
        return cap
    residual = moment_residuals(
        stars.image[rows], state.variance[rows], stars.weight[rows] > 0, state.model[rows],
        state.dx[rows], state.dy[rows],
    )  # fmt: skip
    pull = np.isfinite(residual.size)
    if pull.sum() < 10:
        return cap
    size, err = residual.size[pull], residual.size_err[pull]
    scatter = MAD_TO_SIGMA * float(np.median(np.abs(size - np.median(size))))
    intrinsic = max(scatter**2 - float(np.median(err)) ** 2, 0.0) ** 0.5
    return float(np.clip(1.0 / max(intrinsic, 1e-9), CAP_RANGE[0] * cap, CAP_RANGE[1] * cap))

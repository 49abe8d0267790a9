"""How far a star's second moments are from the PSF model's, without the bias that noise puts on shapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.kernels.moments import adaptive_moments_stack

__all__ = ["MomentResiduals", "moment_residuals"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MomentResiduals:
    """Star minus model, one row a star; NaN where the model's moments do not converge.

    Parameters
    ----------
    size, e1, e2 : float64, shape (n,)
        ``dT/T`` with ``T = Ixx + Iyy``; ``de1``, ``de2`` with ``e1 = (Ixx - Iyy)/T``, ``e2 = 2 Ixy/T``.
    size_err, e1_err, e2_err : float64, shape (n,)
        One sigma from pixel noise.
    """

    size: FloatArray
    e1: FloatArray
    e2: FloatArray
    size_err: FloatArray
    e1_err: FloatArray
    e2_err: FloatArray


def moment_residuals(
    image: FloatArray,
    variance: FloatArray,
    good: npt.NDArray[np.bool_],
    model: FloatArray,
    dx: FloatArray,
    dy: FloatArray,
) -> MomentResiduals:
    """Measure stars and their models under one weight.

    Parameters
    ----------
    image, variance : float64, shape (n, side, side)
        Stamps and their noise variance.
    good : bool, shape (n, side, side)
        Usable pixels; the others are filled from the model.
    model : float64, shape (n, side, side)
        Model of each star at its place, scaled to its flux.
    dx, dy : float64, shape (n,)
        Centre of the model from the stamp's middle pixel.

    Returns
    -------
    residuals
        `MomentResiduals`.

    Notes
    -----
    The weight W is the Gaussian of the noiseless model's adaptive moments C, the same for star and model, so
    the weighted moments are linear in the star's noise. For a Gaussian a small change dC of the object changes
    the moments under W by dC/4, hence ``dC = 4 dM``. Second moments about the star's own weighted centroid are
    low by the variance of that centroid, which is added back.
    """
    n, side, _ = image.shape
    half = side // 2
    moments = np.empty((n, 4))
    adaptive_moments_stack(np.ascontiguousarray(model), dx + half, dy + half, 1.5, 200, 1e-6, moments)
    ok = moments[:, 0] == 0
    cxx, cyy, cxy = (np.where(ok, moments[:, k], v)[:, None, None] for k, v in ((1, 1.0), (2, 1.0), (3, 0.0)))
    axis = np.arange(side) - half
    u = np.broadcast_to(axis[None, None, :] - dx[:, None, None], image.shape)
    v = np.broadcast_to(axis[None, :, None] - dy[:, None, None], image.shape)
    det = cxx * cyy - cxy * cxy
    weight = np.exp(-0.5 * (cyy * u * u - 2.0 * cxy * u * v + cxx * v * v) / det)
    star = np.where(good, image, model)
    noise = np.where(good, variance, 0.0)

    def total(values: FloatArray) -> FloatArray:
        return np.asarray(values.sum(axis=(1, 2)))

    products = {"xx": u * u, "yy": v * v, "xy": u * v}
    with np.errstate(invalid="ignore", divide="ignore"):
        wm, ws = weight * model, weight * star
        fm, fs = total(wm), total(ws)
        xm, ym, xs, ys = total(wm * u) / fm, total(wm * v) / fm, total(ws * u) / fs, total(ws * v) / fs
        offset_model = {"xx": xm * xm, "yy": ym * ym, "xy": xm * ym}
        offset_star = {"xx": xs * xs, "yy": ys * ys, "xy": xs * ys}
        change, pattern = {}, {}
        for key, product in products.items():
            of_model = total(wm * product) / fm
            of_star = total(ws * product) / fs
            centroid_variance = total(weight * weight * product * noise) / fs**2
            change[key] = 4.0 * (
                of_star - offset_star[key] - of_model + offset_model[key] + centroid_variance
            )
            pattern[key] = 4.0 * weight * (product - of_model[:, None, None]) / fs[:, None, None]
        trace = cxx + cyy
        e1, e2 = (cxx - cyy) / trace, 2.0 * cxy / trace

        def shapes(d: dict[str, FloatArray], t: FloatArray, a: FloatArray, b: FloatArray) -> list[FloatArray]:
            size = (d["xx"] + d["yy"]) / t
            return [size, (d["xx"] - d["yy"]) / t - a * size, 2.0 * d["xy"] / t - b * size]

        values = shapes(change, trace[:, 0, 0], e1[:, 0, 0], e2[:, 0, 0])
        errors = [np.sqrt(total(p * p * noise)) for p in shapes(pattern, trace, e1, e2)]
    bad = ~ok
    for array in (*values, *errors):
        array[bad] = np.nan
    return MomentResiduals(*values, *errors)

"""From candidate stamps to the weighted star stamps that a PSF fit uses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.psf.candidates import PsfCandidates

__all__ = ["PsfStars", "make_psf_stars", "variance_line"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PsfStars:
    """Stamps and weights of the stars that may shape the PSF.

    Parameters
    ----------
    image : float64, shape (n, side, side)
        Stamps; bad pixels are 0.
    weight : float64, shape (n, side, side)
        Weights of the fit: flat over the good pixels, lowered for bright stars; 0 where bad.
    sky_variance, variance_slope : float64, shape (n,)
        Line ``variance = slope * image + sky`` through each stamp's good pixels; the slope is an inverse gain.
    x, y : float64, shape (n,)
        Positions on the detector, pixels.
    dx, dy : float64, shape (n,)
        Positions from the stamp's middle pixel.
    index : int64, shape (n,)
        Which candidate each star is.
    """

    image: FloatArray
    weight: FloatArray
    sky_variance: FloatArray
    variance_slope: FloatArray
    x: FloatArray
    y: FloatArray
    dx: FloatArray
    dy: FloatArray
    index: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.x)

    @property
    def side(self) -> int:
        """Side of the stamps, pixels."""
        return int(self.image.shape[1])

    def take(self, rows: np.ndarray) -> PsfStars:
        """Return the chosen stars."""
        return PsfStars(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def variance_line(
    image: np.ndarray, variance: np.ndarray, good: npt.NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """Fit ``variance = a * image + b`` over each stamp's good pixels.

    Parameters
    ----------
    image, variance : float, shape (n, side, side)
        Stamps; values at pixels that are not good are not looked at.
    good : bool, shape (n, side, side)
        Pixels to use.

    Returns
    -------
    a, b : float64, shape (n,)
        Slope (not below 0) and intercept. Where the line has no positive intercept, or the stamp has no
        contrast, the slope is 0 and the intercept the median variance of the good pixels.
    """
    n = len(image)
    n_pixels = image.shape[1] * image.shape[2]
    g = good.reshape(n, n_pixels)
    count = np.maximum(g.sum(axis=1), 1)
    i = np.where(g, image.reshape(n, n_pixels), 0.0).astype(np.float64)
    v = np.where(g, variance.reshape(n, n_pixels), 0.0).astype(np.float64)
    mean_i, mean_v = i.sum(axis=1) / count, v.sum(axis=1) / count
    di = np.where(g, i - mean_i[:, None], 0.0)
    sii = (di * di).sum(axis=1)
    siv = (di * v).sum(axis=1)
    a = np.divide(siv, sii, out=np.zeros(n), where=sii > 0)
    a = np.maximum(a, 0.0)
    b = mean_v - a * mean_i
    for k in np.flatnonzero(~(b > 0)):
        a[k] = 0.0
        b[k] = np.median(v[k][g[k]]) if g[k].any() else 1.0
    return a, b


def make_psf_stars(
    candidates: PsfCandidates,
    *,
    side: int,
    bad_bits: int,
    minimum_unmasked_fraction: float,
    max_snr: float,
) -> PsfStars:
    """Cut stamps of a given side out of the candidates' and give each pixel its weight.

    Parameters
    ----------
    candidates
        The candidates; their stamps are at least ``side`` wide.
    side
        Odd side of the stamps, pixels.
    bad_bits
        Mask bits whose pixels get weight 0.
    minimum_unmasked_fraction
        Stars with a smaller share of good pixels are left out.
    max_snr
        Weights of stars with a higher signal-to-noise ratio are scaled down to it.

    Returns
    -------
    stars
        `PsfStars`; ``index`` says which candidates survived.

    Notes
    -----
    Weights are ``1/sky_variance``: the star's own Poisson noise is taken out of the variance, because weights
    that depend on the pixel's own noisy value bias the profile. With ``F = sum(w I^2)`` over N good pixels the
    signal-to-noise ratio is ``(F - N)/sqrt(F)``, or 0 where F < N.
    """
    cut = (candidates.side - side) // 2
    window = slice(cut, cut + side)
    image = candidates.image[:, window, window].astype(np.float64)
    variance = candidates.variance[:, window, window].astype(np.float64)
    mask = candidates.mask[:, window, window]
    good = np.isfinite(image) & np.isfinite(variance) & (variance != 0) & ((mask & np.int32(bad_bits)) == 0)
    rows = (
        np.flatnonzero(good.mean(axis=(1, 2)) >= minimum_unmasked_fraction) if len(good) else np.zeros(0, int)
    )
    image, variance, good = image[rows], variance[rows], good[rows]
    image = np.where(good, image, 0.0)
    slope, sky = variance_line(image, variance, good)
    weight = good / sky[:, None, None]
    power = (weight * image * image).sum(axis=(1, 2))
    n_good = good.sum(axis=(1, 2))
    signal_to_noise = np.where(power < n_good, 0.0, (power - n_good) / np.sqrt(np.maximum(power, 1e-300)))
    cap = np.minimum(1.0, max_snr / np.maximum(signal_to_noise, 1e-300)) ** 2
    weight = weight * cap[:, None, None]
    x, y = candidates.x[rows], candidates.y[rows]
    return PsfStars(
        image=np.ascontiguousarray(image),
        weight=np.ascontiguousarray(weight),
        sky_variance=sky,
        variance_slope=slope,
        x=x,
        y=y,
        dx=x - np.floor(x + 0.5),
        dy=y - np.floor(y + 0.5),
        index=rows.astype(np.int64),
    )

"""Color terms of reference magnitudes: how those of a catalogue differ from the instrument's with the slope of a spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.terms.groups import MAD_TO_SIGMA, BoolArray, FloatArray, ratio

__all__ = ["ReferenceColorTerms", "fit_reference_color_terms"]

#: Reference stars that a color term needs.
MIN_STARS = 50
_N_SIGMA = 4.0
_ITERATIONS = 20


@dataclass(frozen=True)
class ReferenceColorTerms:
    """Color terms by band, shape (n_band,).

    Parameters
    ----------
    coefficient, err : float64
        Reference magnitude minus that of the instrument, mag for a slope of 1/Angstrom, and its error; 0 and NaN where none was
        fitted.
    pivot : float64
        Slope of a star whose magnitudes do not change, 1/Angstrom: the median of the stars.
    n_stars : int64
        Stars used.
    """

    coefficient: FloatArray
    err: FloatArray
    pivot: FloatArray
    n_stars: npt.NDArray[np.int64]

    def corrected(self, ref_mag: npt.NDArray[np.floating], slopes: FloatArray) -> npt.NDArray[np.float32]:
        """Return reference magnitudes as the instrument would have measured them.

        Parameters
        ----------
        ref_mag : float, shape (n_star, n_band)
            Magnitudes of the catalogue.
        slopes : float64, shape (n_star, n_band)
            Slopes of spectra, 1/Angstrom; those that are not known count as the pivot.
        """
        away = np.nan_to_num(slopes - self.pivot)
        return np.asarray(ref_mag - self.coefficient * away, np.float32)


def fit_reference_color_terms(
    mean: FloatArray,
    mean_err: FloatArray,
    ref_mag: npt.NDArray[np.floating],
    ref_err: npt.NDArray[np.floating],
    slopes: FloatArray,
    use: BoolArray,
    fit_bands: BoolArray,
    *,
    in_mean: BoolArray | None = None,
) -> ReferenceColorTerms:
    """Fit a line through reference minus own magnitude against the slope of the spectrum, band by band.

    Parameters
    ----------
    mean, mean_err : float64, shape (n_star, n_band)
        Mean magnitudes and ``(sum of weights)^-1/2``; NaN: none.
    ref_mag, ref_err : float, shape (n_star, n_band)
        Reference magnitudes and errors; NaN: none.
    slopes : float64, shape (n_star, n_band)
        Slopes of spectra, 1/Angstrom; NaN: unknown.
    use : bool, shape (n_star,)
        Reference stars to use.
    fit_bands : bool, shape (n_band,)
        Bands to fit.
    in_mean : bool, shape (n_star, n_band), optional
        References that are part of the mean as one more measurement: they are taken out of it again.

    Notes
    -----
    Weighted by both errors; stars beyond 4 sigma (1.4826 median absolute deviations) are left out in turn. Fifty stars are
    needed.
    """
    n_band = mean.shape[1]
    coefficient, err, pivot = np.zeros(n_band), np.full(n_band, np.nan), np.zeros(n_band)
    n_stars = np.zeros(n_band, np.int64)
    own_mean, own_variance = _without_references(mean, mean_err, ref_mag, ref_err, in_mean)
    for b in np.flatnonzero(fit_bands):
        y = np.asarray(ref_mag, np.float64)[:, b] - own_mean[:, b]
        variance = own_variance[:, b] + np.square(np.asarray(ref_err, np.float64)[:, b])
        good = use & np.isfinite(y) & np.isfinite(slopes[:, b]) & (variance > 0)
        if good.sum() < MIN_STARS:
            continue
        found = _line(slopes[good, b], y[good], variance[good])
        coefficient[b], err[b], n_stars[b] = found
        pivot[b] = float(np.median(slopes[good, b]))
    return ReferenceColorTerms(coefficient, err, pivot, n_stars)


def _without_references(
    mean: FloatArray,
    mean_err: FloatArray,
    ref_mag: npt.NDArray[np.floating],
    ref_err: npt.NDArray[np.floating],
    in_mean: BoolArray | None,
) -> tuple[FloatArray, FloatArray]:
    """Return the means of the observations alone, and their variances."""
    total = ratio(1.0, np.square(mean_err))
    reference = (
        np.zeros_like(total) if in_mean is None else np.where(in_mean, ratio(1.0, np.square(ref_err)), 0.0)
    )
    own = total - reference
    # a mean that is the reference alone has no weight left, but for rounding
    own[own < 1e-6 * total] = np.nan
    return ratio(total * mean - np.where(reference > 0, reference * ref_mag, 0.0), own), ratio(1.0, own)


def _line(x: FloatArray, y: FloatArray, variance: FloatArray) -> tuple[float, float, int]:
    """Return the slope of a line, its error from the scatter, and the number of points kept."""
    kept = np.ones(len(x), bool)
    slope = err = 0.0
    for _ in range(_ITERATIONS):
        w = 1.0 / variance[kept]
        total = w.sum()
        cx, cy = (w * x[kept]).sum() / total, (w * y[kept]).sum() / total
        sxx = (w * (x[kept] - cx) ** 2).sum()
        slope = (w * (x[kept] - cx) * (y[kept] - cy)).sum() / sxx if sxx > 0 else 0.0
        away = y - cy - slope * (x - cx)
        pulls = away / np.sqrt(variance)
        sigma = MAD_TO_SIGMA * float(np.median(np.abs(pulls[kept])))
        err = max(sigma, 1.0) / np.sqrt(sxx) if sxx > 0 else np.inf
        again = np.abs(pulls) <= _N_SIGMA * max(sigma, 1e-12)
        if np.array_equal(again, kept) or again.sum() < MIN_STARS:
            break
        kept = again
    return float(slope), float(err), int(kept.sum())

"""Compiled sums over the observations of stars: first means, chi-square, loss of light, passband integrals, secants."""

from __future__ import annotations

import numpy as np

from zeropoint.kernels._compile import kernel

__all__ = [
    "bright_segments",
    "integral_sums",
    "secant_sums",
    "segment_chi2",
    "slope_sums",
]


@kernel
def bright_segments(mstd, err, start, begin, end, good, gray_max, mean, weight, count, used):  # type: ignore[no-untyped-def]
    """Average the observations of each star-band that are close to its brightest one.

    Parameters
    ----------
    mstd, err : float32, shape (n_obs,)
        Standard magnitudes and errors, by star-band.
    start : int64, shape (n_segments + 1,)
        First observation of each star-band.
    begin, end : int64
        Star-bands that are wanted.
    good : bool, shape (n_obs,)
        Observations that take part.
    gray_max : float32
        How much fainter than the brightest an observation may be.
    mean, weight : float64, shape (n_segments,)
        Get weighted means, NaN without observations, and the sums of the weights.
    count : int64, shape (n_segments,)
        Gets the numbers of observations.
    used : bool, shape (n_obs,)
        Gets whether an observation is part of its mean.
    """
    for s in range(begin, end):
        least = np.float32(np.inf)
        for i in range(start[s], start[s + 1]):
            if good[i]:
                least = min(least, mstd[i])
        faintest = least + gray_max
        total, weighted, n = 0.0, 0.0, 0
        for i in range(start[s], start[s + 1]):
            used[i] = good[i] and mstd[i] <= faintest
            if used[i]:
                w = 1.0 / (np.float64(err[i]) * np.float64(err[i]))
                total += w
                weighted += w * mstd[i]
                n += 1
        mean[s] = weighted / total if total > 0.0 else np.nan
        weight[s], count[s] = total, n


@kernel
def segment_chi2(residual, err, member, start, good_star, chi2, dof):  # type: ignore[no-untyped-def]
    """Add up squared pulls and degrees of freedom of the members of stars' means, by band.

    Parameters
    ----------
    residual, err : float32, shape (n_obs,)
        Residuals and their errors.
    member : bool, shape (n_obs,)
        Observations that means are made of.
    start : int64, shape (n_star * n_band + 1,)
        First observation of each star-band.
    good_star : bool, shape (n_star,)
        Stars that count.
    chi2, dof : float64, shape (n_band,)
        Zeros; get the sums.
    """
    n_band = chi2.shape[0]
    for star in range(good_star.shape[0]):
        if not good_star[star]:
            continue
        for b in range(n_band):
            s, n = star * n_band + b, 0
            for i in range(start[s], start[s + 1]):
                if member[i]:
                    pull = np.float64(residual[i] / err[i])
                    chi2[b] += pull * pull
                    n += 1
            dof[b] += max(n - 1, 0)


@kernel
def slope_sums(  # type: ignore[no-untyped-def]
    standard, err, segment, exposure, use, max_err, wash, wash_time, applied, min_delta_t, stt, stm, count
):
    """Add up what the loss of light in each band and interval between washes is solved from.

    Parameters
    ----------
    standard, err : float32, shape (n_obs,)
        Standard magnitudes and errors.
    segment : int32, shape (n_obs,)
        Star-band of each, ``star * n_band + band``, ascending.
    exposure : int32, shape (n_obs,)
        Exposure of each.
    use : bool, shape (n_obs,)
        Which count.
    max_err : float32
        Observations with larger errors do not.
    wash : int64, shape (n_exp,)
        Interval of each exposure.
    wash_time : float64, shape (n_exp,)
        Days since its begin.
    applied : float64, shape (n_band, n_wash)
        Slope that the magnitudes contain.
    min_delta_t : float64
        Days over which a star must be seen in an interval.
    stt, stm : float64, shape (n_band, n_wash)
        Zeros; get the sums of w dt^2 and w dt m, dt being the time from the star's mean.
    count : int64, shape (n_band, n_wash)
        Zeros; gets the numbers of observations.
    """
    n_band, n_wash = applied.shape
    first, last, total, mean = np.empty(n_wash), np.empty(n_wash), np.empty(n_wash), np.empty(n_wash)
    n, begin = segment.shape[0], 0
    while begin < n:
        end, b = begin, segment[begin] % n_band
        for k in range(n_wash):
            first[k], last[k], total[k], mean[k] = np.inf, -np.inf, 0.0, 0.0
        while end < n and segment[end] == segment[begin]:
            if use[end] and np.isfinite(standard[end]) and err[end] > 0.0 and err[end] < max_err:
                k, t = wash[exposure[end]], wash_time[exposure[end]]
                w = 1.0 / (np.float64(err[end]) * np.float64(err[end]))
                first[k], last[k] = min(first[k], t), max(last[k], t)
                total[k] += w
                mean[k] += w * t
            end += 1
        for k in range(n_wash):
            if total[k] > 0.0:
                mean[k] /= total[k]
        for i in range(begin, end):
            if use[i] and np.isfinite(standard[i]) and err[i] > 0.0 and err[i] < max_err:
                k, t = wash[exposure[i]], wash_time[exposure[i]]
                if last[k] - first[k] > min_delta_t:
                    w = 1.0 / (np.float64(err[i]) * np.float64(err[i]))
                    dt = t - mean[k]
                    stt[b, k] += w * dt * dt
                    stm[b, k] += w * dt * (np.float64(standard[i]) - applied[b, k] * t)
                    count[b, k] += 1
        begin = end


@kernel
def integral_sums(magnitude, mean, err, segment, slope, i10_std, ec, use, mag_per_ln, about, out):  # type: ignore[no-untyped-def]
    """Add up, by exposure and detector, what the integrals of passbands are solved from.

    Parameters
    ----------
    magnitude, mean, err : float32, shape (n_obs,)
        Magnitudes without the passband's part, those of the stars, and errors.
    segment : int32, shape (n_obs,)
        Star-band of each.
    slope, i10_std : float32, shape (n_segments,)
        Slopes of the spectra, NaN where unknown, and I10 of the standard passbands.
    ec : int32, shape (n_obs,)
        Exposure and detector of each.
    use : bool, shape (n_obs,)
        Which count.
    mag_per_ln : float32
        Magnitudes for a factor e.
    about : float64, shape (n_ec, 2)
        Means of slopes and of counts; shape (0, 2): they are not known yet.
    out : float64, shape (n_ec, 4)
        Zeros; gets number, sum of the weights, and weighted sums of slopes and counts; or with means the weighted sums of the
        square of the slopes' deviations, and of their products with those of the counts, in the first two.
    """
    for i in range(magnitude.shape[0]):
        fp = slope[segment[i]]
        if not (use[i] and err[i] > 0.0 and np.isfinite(fp)):
            continue
        difference = mean[i] - magnitude[i]
        if not np.isfinite(difference):
            continue
        g = ec[i]
        y = np.exp(difference / mag_per_ln) * (np.float32(1.0) + fp * i10_std[segment[i]])
        root = mag_per_ln / (y * err[i])
        weight = root * root
        if about.shape[0] == 0:
            out[g, 0] += 1.0
            out[g, 1] += weight
            out[g, 2] += weight * fp
            out[g, 3] += weight * y
        else:
            dx = np.float32(fp - about[g, 0])
            out[g, 0] += weight * dx * dx
            out[g, 1] += weight * dx * np.float32(y - about[g, 1])


@kernel
def secant_sums(secant, x, y, ec, step, half, mean, count, normal, right):  # type: ignore[no-untyped-def]
    """Add up, by exposure and detector, what planes through the secants of stars are solved from.

    Parameters
    ----------
    secant, x, y : float32, shape (n_obs,)
        Of the stars; pixels, NaN where unknown.
    ec : int32, shape (n_obs,)
        Exposure times number of detectors, plus position of the detector.
    step : int64
        Of how many stars one is taken.
    half : float64, shape (n_det, 2)
        Half of columns and rows of the detectors.
    mean, count : float64, shape (n_ec,)
        Zeros; get the mean secants, NaN without stars, and the numbers of stars.
    normal, right : float64, shapes (n_ec, 3, 3) and (n_ec, 3)
        Zeros; get the sums of the products of (1, u, v) with each other, below and on the diagonal, and with the secants from
        their mean, u and v being -1 to 1 over the detector.
    """
    n, n_det = ec.shape[0], half.shape[0]
    for i in range(0, n, step):
        mean[ec[i]] += secant[i]
        count[ec[i]] += 1.0
    for g in range(mean.shape[0]):
        mean[g] /= count[g]
    columns = np.ones(3)
    for i in range(0, n, step):
        g = ec[i]
        columns[1] = (x[i] + np.float32(0.5)) / half[g % n_det, 0] - 1.0
        columns[2] = (y[i] + np.float32(0.5)) / half[g % n_det, 1] - 1.0
        if np.isfinite(columns[1]) and np.isfinite(columns[2]):
            rest = secant[i] - mean[g]
            for j in range(3):
                right[g, j] += columns[j] * rest
                for k in range(j + 1):
                    normal[g, j, k] += columns[j] * columns[k]

"""The photometric model observation by observation: the obvious way."""

import numpy as np

from zeropoint.fgcm.atmosphere import AtmosphereParameters
from zeropoint.fgcm.quadrature import passband_integrals


def gray_term(e, p, row, det):
    """What is added besides the integrals."""
    band, filt = int(e.band[row]), int(e.filter[row])
    seeing = float(np.clip(e.aperture_variable[row], *p.aper_range[band])) - p.aper_pivot[band]
    return (
        p.qe_intercept[band, e.wash[row]]
        + p.qe_slope[band, e.wash[row]] * e.wash_time[row]
        + p.filter_offset[filt]
        + p.abs_offset[band]
        + p.superstar[e.epoch[row], filt, det]
        + p.aper_slope[band] * seeing
        + p.exposure_gray[row]
    )


def node(e, p, source, row, secant):
    """2.5 log10 I0 and I10 of all detectors of an exposure at a secant."""
    n, u = int(e.night[row]), float(e.night_time[row])
    air = AtmosphereParameters(
        pmb=e.pmb[row],
        pwv=np.exp(
            p.ln_pwv_intercept[n]
            + p.ln_pwv_slope[n] * u
            + p.ln_pwv_quadratic[n] * u**2
            + p.water_residual[int(e.band[row])]
        ),
        o3=p.o3[n],
        tau=np.exp(p.ln_tau_intercept[n] + p.ln_tau_slope[n] * u),
        alpha=p.alpha[n],
        airmass=secant,
    )
    passband = source.passbands.passbands[int(e.filter[row])]
    found = passband_integrals(
        source.atmosphere, air, passband.detector_throughput[:-1], passband.lambda_std, derivatives=False
    )
    rise = p.airmass_residual[int(e.band[row])] * (secant - 1.0)
    return 2.5 * np.log10(found.i0[0]) + rise, found.i10[0]


def standard_magnitudes(data, p, source, slopes):
    """Standard magnitude of each observation, and its colour term."""
    e, o = data.exposures, data.observations
    nodes = {
        row: (node(e, p, source, row, e.airmass_low[row]), node(e, p, source, row, e.airmass_high[row]))
        for row in np.unique(o.exposure).tolist()
    }
    mag, color = np.empty(len(o)), np.empty(len(o))
    for i, (ec, segment, t) in enumerate(zip(o.ec.tolist(), o.segment.tolist(), o.t.astype(float))):
        row, det = divmod(ec, o.n_det)
        (a_low, b_low), (a_high, b_high) = nodes[row]
        star, band = divmod(segment, o.n_band)
        i10 = b_low[det] + t * (b_high[det] - b_low[det])
        std = source.i10_std[int(e.filter[row])]
        color[i] = 2.5 * np.log10((1 + slopes[star, band] * i10) / (1 + slopes[star, band] * std))
        mag[i] = o.mag[i] + a_low[det] + t * (a_high[det] - a_low[det]) + gray_term(e, p, row, det) + color[i]
    return mag, color


def chi2(observations, weight, mag, references):
    """Chi-square about the means of stars, and these means."""
    total, means = 0.0, np.full(observations.n_segment, np.nan)
    for s in range(observations.n_segment):
        rows = range(observations.start[s], observations.start[s + 1])
        w = [float(weight[i]) for i in rows]
        m = [float(mag[i]) for i in rows]
        if references is not None:
            w.append(float(references.weight[s]))
            m.append(float(references.mag[s]))
        if sum(w) > 0:
            means[s] = np.average(m, weights=w)
            total += sum(weight * (each - means[s]) ** 2 for weight, each in zip(w, m))
    return total, means

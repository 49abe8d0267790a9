"""Exposures one by one: what a calibration made of each, and why some are not photometric."""

from __future__ import annotations

import numpy as np
from astropy.table import Table

from zeropoint.fgcm.facts.cycle_facts import CycleFacts
from zeropoint.fgcm.flags import ExposureFlag

__all__ = ["exposure_table", "left_out"]

#: What flags mean, in words.
_WORDS = {
    ExposureFlag.TOO_FEW_STARS: "too few stars",
    ExposureFlag.EXP_GRAY_TOO_NEGATIVE: "too faint",
    ExposureFlag.VAR_GRAY_TOO_LARGE: "uneven",
    ExposureFlag.TOO_FEW_EXP_ON_NIGHT: "too few exposures on its night",
    ExposureFlag.NO_STARS: "no stars",
    ExposureFlag.BAND_NOT_IN_LUT: "no passband",
    ExposureFlag.TEMPORARY_BAD_EXPOSURE: "left out for now",
    ExposureFlag.EXP_GRAY_TOO_POSITIVE: "too bright",
    ExposureFlag.BAD_ZPFLAG: "bad zeropoint",
    ExposureFlag.BAD_FWHM: "bad seeing",
}


def exposure_table(facts: CycleFacts) -> Table:
    """Return one row for each exposure.

    Parameters
    ----------
    facts
        Figures of the last cycle.

    Returns
    -------
    table
        ``visit``, ``band``, ``mjd``, ``airmass``, ``photometric``, ``flags`` (names of `ExposureFlag`, joined by commas),
        ``gray``, ``gray_err``, ``gray_rms`` (mag), ``n_stars``, ``pwv`` (mm), ``o3`` (Dobson units), ``tau``, ``alpha``.
    """
    e = facts.exposures
    names = [",".join(str(each.name) for each in ExposureFlag if int(value) & int(each)) for value in e.flag]
    bands = [facts.bands[b] if b >= 0 else "" for b in facts.exposure_band]
    return Table(
        {
            "visit": facts.visit,
            "band": bands,
            "mjd": facts.mjd,
            "airmass": facts.airmass,
            "photometric": e.photometric,
            "flags": names,
            **{name: getattr(e, name) for name in ("gray", "gray_err", "gray_rms", "n_stars")},
            **{name: getattr(e, name) for name in ("pwv", "o3", "tau", "alpha")},
        }
    )


def left_out(facts: CycleFacts) -> list[tuple[int, str, float, float, str]]:
    """Return visit, band, MJD, gray (mag) and reasons, in words, of the exposures that are not photometric.

    Parameters
    ----------
    facts
        Figures of the last cycle.
    """
    e = facts.exposures
    rows = []
    for k in np.flatnonzero(~e.photometric):
        reasons = [word for flag, word in _WORDS.items() if int(e.flag[k]) & int(flag)]
        band = facts.bands[facts.exposure_band[k]] if facts.exposure_band[k] >= 0 else ""
        text = ", ".join(reasons) or "not in the fit"
        rows.append((int(facts.visit[k]), band, float(facts.mjd[k]), float(e.gray[k]), text))
    return rows

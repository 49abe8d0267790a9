"""Zeropoints, atmospheres and standard stars of a cycle as the tables that the products are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table

from zeropoint.fgcm.flags import StarFlag, ZeropointFlag
from zeropoint.fgcm.terms.gray import ColorSplitGray, ExposureGray
from zeropoint.fgcm.terms.zeropoints import Zeropoints

__all__ = ["NO_VALUE", "atmosphere_table", "standard_star_table", "zeropoint_table"]

#: Not measured, in columns other than the zeropoint's own.
NO_VALUE = -9999.0
#: A magnitude that there is not.
_NO_MAGNITUDE = 99.0
_NAME_LENGTH = 30
#: Stars that the table of standards leaves out.
_BAD_STAR = StarFlag.BAD_COLOR | StarFlag.VARIABLE | StarFlag.TOO_FEW_OBS

FloatArray = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating]

#: Column -> unit and meaning, in order.
_ZEROPOINT_COLUMNS: Mapping[str, tuple[str | None, str]] = {
    "visit": (None, "Visit"),
    "detector": (None, "Detector"),
    "fgcmFlag": (
        None,
        "1: photometric, in the fit; 2: photometric, band not fitted; 4: not photometric; 8: night without fit; "
        "16: no zeropoint; 32: too few stars on the detector",
    ),
    "fgcmZpt": (
        "mag",
        "Zeropoint at the detector's center, AB, without chromatic term (F' = 0): add fgcmDeltaChrom for the mean star; NaN "
        "with flag 16",
    ),
    "fgcmZptErr": (
        "mag",
        "Its error relative to the band: posterior of the fit, gray included; flag 8: and the assumed atmosphere",
    ),
    "fgcmfZptChebXyMax": ("pixel", "Size of the detector in x and y: domain of the polynomials"),
    "fgcmfZptCheb": (
        None,
        "AB flux of one count without flat: Chebyshev coefficients by order in y, then in x",
    ),
    "fgcmfZptSstarCheb": (None, "Superstar flat, factor on fluxes: Chebyshev coefficients, y first"),
    "fgcmI0": (None, "Integral of the passband at the detector's center"),
    "fgcmI10": ("Angstrom", "First moment of the passband over its integral"),
    "fgcmR0": (None, "Integral as retrieved from the stars; -9999 if not"),
    "fgcmR10": ("Angstrom", "First moment as retrieved from the stars; -9999 if not"),
    "fgcmGry": ("mag", "Gray that the zeropoint has"),
    "fgcmDeltaChrom": (
        "mag",
        "Mean chromatic correction of the stars that the gray is from, weighted as there; not in fgcmZpt",
    ),
    "fgcmZptVar": ("mag2", "Variance of the gray"),
    "fgcmTilings": (None, "Mean number of good observations of the stars"),
    "fgcmFpGry": ("mag", "Gray of the exposure; -9999 if not measured, as the next"),
    "fgcmFpGryBlue": ("mag", "The same from the bluest quarter of the stars"),
    "fgcmFpGryBlueErr": ("mag", "Its error"),
    "fgcmFpGryRed": ("mag", "The same from the reddest quarter of the stars"),
    "fgcmFpGryRedErr": ("mag", "Its error"),
    "fgcmFpVar": ("mag2", "Variance of the gray of the exposure's detectors"),
    "fgcmDust": ("mag", "Mirror and optics"),
    "fgcmFlat": ("mag", "Superstar flat at the center"),
    "fgcmAperCorr": ("mag", "Aperture correction"),
    "fgcmDeltaMagBkg": ("mag", "Offset of the local background"),
    "exptime": ("s", "Exposure time"),
    "filtername": (None, "Physical filter"),
}


def zeropoint_table(
    zeropoints: Zeropoints,
    exposures: ExposureGray,
    color_split: ColorSplitGray,
    *,
    visit: npt.NDArray[np.int64],
    detectors: Sequence[int],
    filter_names: Sequence[str],
    detector_size: npt.ArrayLike,
    r0: FloatArray | None,
    r10: FloatArray | None,
    common_mode: Mapping[str, float],
) -> Table:
    """Return ``fgcm_Cycle{N}_Zeropoints``: a row for every exposure and detector, by visit, then by detector.

    Parameters
    ----------
    zeropoints
        Zeropoints.
    exposures, color_split
        Gray of the exposures.
    visit : shape (n_exp,)
        Visits.
    detectors
        Ids, length n_det.
    filter_names
        Physical filter of each exposure.
    detector_size : shape (n_det, 2) or (2,)
        Columns and rows of each detector.
    r0, r10 : shape (n_exp, n_det)
        Retrieved integrals, NaN where there are none; None: not retrieved.
    common_mode
        Band -> error that all its zeropoints have in common, mag: kept in the table's metadata.
    """
    shape = zeropoints.flag.shape
    terms = zeropoints.terms
    size = np.broadcast_to(np.asarray(detector_size, np.float64), (shape[1], 2))
    unknown = np.full(shape, np.nan)
    values: dict[str, npt.NDArray[Any]] = {
        "visit": np.asarray(visit, np.int64)[:, None],
        "detector": np.asarray(detectors, np.int32)[None, :],
        "fgcmR0": _known(unknown if r0 is None else r0),
        "fgcmR10": _known(unknown if r10 is None else r10),
        "exptime": np.asarray(terms.exptime, np.float32),
        "filtername": np.asarray(filter_names, f"U{_NAME_LENGTH}")[:, None],
        **_zeropoint_values(zeropoints),
        **_exposure_values(exposures, color_split),
    }
    arrays = {
        "fgcmfZptChebXyMax": np.broadcast_to(size, (*shape, 2)),
        "fgcmfZptCheb": zeropoints.coefficients,
        "fgcmfZptSstarCheb": terms.flat.coefficients,
    }
    n = shape[0] * shape[1]
    columns = {}
    for name, (unit, meaning) in _ZEROPOINT_COLUMNS.items():
        data: npt.NDArray[Any] = (
            arrays[name].reshape(n, -1) if name in arrays else np.broadcast_to(values[name], shape).ravel()
        )
        columns[name] = Column(data, unit=unit, description=meaning)
    table = Table(columns)
    for band, sigma in sorted(common_mode.items()):
        table.meta[f"COMMON_MODE_{band}"] = float(sigma)
    return table


def _zeropoint_values(zeropoints: Zeropoints) -> dict[str, npt.NDArray[Any]]:
    """Return columns by detector; NaN stays in those of the zeropoint's own, for rows without one only."""
    terms, gray = zeropoints.terms, zeropoints.gray
    none = (zeropoints.flag & ZeropointFlag.CANNOT_COMPUTE_ZEROPOINT) != 0
    return {
        "fgcmFlag": zeropoints.flag,
        "fgcmZpt": zeropoints.zeropoint,
        "fgcmZptErr": zeropoints.sigma,
        "fgcmZptVar": np.where(none, np.nan, gray.variance),
        "fgcmGry": np.where(none, np.nan, gray.gray),
        "fgcmI0": _known(terms.i0),
        "fgcmI10": _known(terms.i10),
        "fgcmDeltaChrom": _known(zeropoints.delta_chromatic),
        "fgcmTilings": _known(gray.tilings),
        "fgcmDust": _known(terms.dust),
        "fgcmFlat": _known(terms.flat.center),
        "fgcmAperCorr": _known(terms.aperture),
        "fgcmDeltaMagBkg": _known(terms.background),
    }


def _exposure_values(exposures: ExposureGray, split: ColorSplitGray) -> dict[str, FloatArray]:
    """Return columns that all detectors of an exposure share."""
    by_exposure = {
        "fgcmFpGry": exposures.gray,
        "fgcmFpGryBlue": split.gray[:, 0],
        "fgcmFpGryBlueErr": split.err[:, 0],
        "fgcmFpGryRed": split.gray[:, 2],
        "fgcmFpGryRedErr": split.err[:, 2],
        "fgcmFpVar": np.square(exposures.rms),
    }
    return {name: _known(values)[:, None] for name, values in by_exposure.items()}


def atmosphere_table(
    *,
    visit: npt.NDArray[np.int64],
    pmb: Floats,
    pwv: Floats,
    tau: Floats,
    alpha: Floats,
    o3: Floats,
    airmass: Floats,
    lambda_std: Floats,
    mirror_chromaticity: Floats,
) -> Table:
    """Return ``fgcm_Cycle{N}_AtmosphereParameters``: a row for every exposure.

    Parameters
    ----------
    visit, pmb, pwv, tau, alpha, o3, airmass, lambda_std, mirror_chromaticity : shape (n_exp,)
        Visit, pressure (mb), water vapor (mm), aerosol depth and its slope, ozone (Dobson units), secant of the boresight,
        standard wavelength of the band (Angstrom; NaN without one), and the chromaticity of the mirror
        (`zeropoint.fgcm.terms.chromaticity.mirror_chromaticity_at`; 0 without).
    """
    of: list[tuple[str, npt.NDArray[Any], str | None, str]] = [
        ("visit", np.asarray(visit, np.int64), None, "Visit"),
        ("pmb", pmb, "mbar", "Pressure"),
        ("pwv", pwv, "mm", "Precipitable water vapor"),
        ("tau", tau, None, "Depth of the aerosols at the normalization wavelength"),
        ("alpha", alpha, None, "Slope of the aerosols: their depth falls as wavelength**-alpha"),
        ("o3", o3, None, "Ozone, Dobson units"),
        ("secZenith", airmass, None, "Secant of the zenith distance of the boresight"),
        (
            "cTrans",
            mirror_chromaticity,
            None,
            "Mirror: the throughput has a factor 1 + cTrans (lam/lamStd - 1)",
        ),
        ("lamStd", _known(lambda_std), "Angstrom", "Standard wavelength of the band"),
    ]
    return Table(
        {
            name: Column(
                values if name == "visit" else np.asarray(values, np.float64), unit=unit, description=text
            )
            for name, values, unit, text in of
        }
    )


def standard_star_table(
    *,
    fgcm_id: npt.NDArray[np.int64],
    isolated_star_id: npt.NDArray[np.int64],
    ra: Floats,
    dec: Floats,
    star_flag: npt.NDArray[np.integer],
    bands: Sequence[str],
    has_exposures: npt.NDArray[np.bool_],
    magnitude: Floats,
    magnitude_err: Floats,
    n_good: npt.NDArray[np.integer],
    n_total: npt.NDArray[np.integer],
    n_psf_candidate: npt.NDArray[np.integer],
    delta_aper: Floats | None,
    include_reserved: bool = True,
) -> Table:
    """Return ``fgcm_Cycle{N}_StandardStars``: a row for every good star, by ``id``.

    Parameters
    ----------
    fgcm_id, isolated_star_id, star_flag : shape (n_star,)
        Ids and `zeropoint.fgcm.flags.StarFlag`.
    ra, dec : shape (n_star,)
        Degrees.
    bands
        Names, length n_band.
    has_exposures : shape (n_band,)
        Bands with exposures; the others have no column.
    magnitude, magnitude_err, n_good, n_total, n_psf_candidate : shape (n_star, n_band)
        Standard magnitudes and errors (NaN: none), and numbers of observations.
    delta_aper : shape (n_star, n_band), optional
        Mean difference of the aperture magnitudes, NaN where unknown.
    include_reserved
        Whether reserve stars are in the table.

    Notes
    -----
    Magnitudes that there are not are 99, as in Rubin's table. The metadata has ``BANDS``, the order of the arrays.
    """
    bad = _BAD_STAR if include_reserved else _BAD_STAR | StarFlag.RESERVED
    keep = np.flatnonzero((np.asarray(star_flag).astype(np.int64) & int(bad)) == 0)
    keep = keep[np.argsort(fgcm_id[keep], kind="stable")]
    used = np.flatnonzero(has_exposures)

    def part(values: npt.NDArray[Any], dtype: type) -> npt.NDArray[Any]:
        return np.asarray(values[np.ix_(keep, used)], dtype)

    def magnitudes(values: npt.NDArray[Any] | None) -> npt.NDArray[np.float32]:
        if values is None:
            return np.full((len(keep), len(used)), _NO_MAGNITUDE, np.float32)
        return np.nan_to_num(part(values, np.float32), nan=_NO_MAGNITUDE)

    of: list[tuple[str, npt.NDArray[Any], str | None, str]] = [
        ("id", np.asarray(fgcm_id[keep], np.int64), None, "FGCM's id of the star"),
        ("coord_ra", np.deg2rad(np.asarray(ra, np.float64)[keep]), "rad", "Right ascension, ICRS"),
        ("coord_dec", np.deg2rad(np.asarray(dec, np.float64)[keep]), "rad", "Declination, ICRS"),
        ("isolated_star_id", np.asarray(isolated_star_id[keep], np.int64), None, "Id of the isolated star"),
        ("ngood", part(n_good, np.int32), None, "Good observations by band"),
        ("ntotal", part(n_total, np.int32), None, "All observations by band"),
        ("npsfcand", part(n_psf_candidate, np.int32), None, "Observations as PSF candidate by band"),
        ("mag_std_noabs", magnitudes(magnitude), "mag", "Standard magnitude by band; 99 if there is none"),
        ("magErr_std", magnitudes(magnitude_err), "mag", "Its error; 99 if there is none"),
        ("delta_aper", magnitudes(delta_aper), "mag", "Inner minus outer aperture magnitude; 99 if unknown"),
    ]
    table = Table({name: Column(v, unit=unit, description=text) for name, v, unit, text in of})
    table.meta["BANDS"] = [bands[k] for k in used.tolist()]
    return table


def _known(values: npt.ArrayLike) -> FloatArray:
    """Put the sentinel in place of what is not a number."""
    array = np.asarray(values, np.float64)
    return np.where(np.isfinite(array), array, NO_VALUE)

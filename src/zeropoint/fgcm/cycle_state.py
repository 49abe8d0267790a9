"""What one cycle of the fit hands to the next: parameters, gray of the exposures, fields of the instrument, stars flagged.

In memory nothing is a sentinel: what is not known is NaN.  `zeropoint.fgcm.outputs.fit_parameters` turns a state into the
tables ``fgcm_Cycle{N}_FitParameters`` and ``fgcm_Cycle{N}_FlaggedStars``, and back without loss.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.model.parameters import FitParameters

__all__ = ["BandState", "CycleState", "EpsilonMaps", "ExposureState", "FlaggedStars", "InstrumentState"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class ExposureState:
    """What a cycle found out about each exposure; all arrays of shape (n_exp,).

    Parameters
    ----------
    visit
        Visits, ascending, int64.
    flag
        `zeropoint.fgcm.flags.ExposureFlag`, int32.
    gray, gray_var
        Gray of the exposure, mag, and the variance of its detectors about it, mag^2.
    n_star
        Stars that the gray is from, int32.
    delta_mag_bkg
        Median offset of the local background's brightest stars, mag.
    ref_offset
        Median of reference minus standard magnitudes, gray included, mag.
    retrieved_ln_pwv, retrieved_ln_pwv_raw
        ln of the water vapor (mm) retrieved from the stars, smoothed and as measured.
    retrieved_ln_pwv_flag
        1: retrieved, 2: interpolated, 4: standard; int32.
    epsilon
        Error of the background, nJy/arcsec^2.
    median_delta_aper
        Median difference of the aperture magnitudes of bright stars, mag.
    """

    visit: npt.NDArray[np.int64]
    flag: IntArray
    gray: FloatArray
    gray_var: FloatArray
    n_star: IntArray
    delta_mag_bkg: FloatArray
    ref_offset: FloatArray
    retrieved_ln_pwv: FloatArray
    retrieved_ln_pwv_raw: FloatArray
    retrieved_ln_pwv_flag: IntArray
    epsilon: FloatArray
    median_delta_aper: FloatArray


@dataclass(frozen=True)
class InstrumentState:
    """Corrections that the fit does not solve for itself.

    Parameters
    ----------
    superstar_shape
        Chebyshev coefficients in flux of the flat's shape within each detector, shape (n_epoch, n_filter, n_det, n_y, n_x),
        [y, x]; magnitudes added are -2.5 log10 of the field, and to them `FitParameters.superstar`. 1, 0, 0... is no shape.
    mirror_chromaticity
        Shape (n_filter, n_coating + 1): slope per day, then the value at each coating.
    mirror_chromaticity_pivot
        Middle of each coating's time, MJD, shape (n_coating,).
    ccd_chromaticity
        Shape (n_det, n_filter).
    aper_slope_err
        Error of the aperture correction's slope, shape (n_band,).
    """

    superstar_shape: FloatArray
    mirror_chromaticity: FloatArray
    mirror_chromaticity_pivot: FloatArray
    ccd_chromaticity: FloatArray
    aper_slope_err: FloatArray


@dataclass(frozen=True)
class BandState:
    """What a cycle found out about each band; arrays of shape (n_band,) unless said.

    Parameters
    ----------
    median_sed_slope
        Median slope of the spectra as colors tell, 1/Angstrom.
    sed_scale, sed_offset, sed_pivot
        What the fit makes of slopes (`zeropoint.fgcm.fit.sed_calibration.SedCalibration`): 1, 1/Angstrom, 1/Angstrom.
    sig_fgcm, sigma_cal
        Intrinsic scatter of an observation, and what bright stars need besides, mag.
    ref_offset, ref_sigma
        Standard minus reference magnitudes: mean and scatter, mag.
    gray_cut, gray_high_cut
        Gray between which exposures of the next cycle are photometric, mag.
    error_pivot
        Exposure time (s), seeing (arcsec) and sky (counts) of the error model, shape (n_band, 3).
    error_model
        Its coefficients, shape (n_band, 7); NaN: no model.
    global_epsilon
        Error of the background, nJy/arcsec^2.
    """

    median_sed_slope: FloatArray
    sed_scale: FloatArray
    sed_offset: FloatArray
    sed_pivot: FloatArray
    sig_fgcm: FloatArray
    sigma_cal: FloatArray
    ref_offset: FloatArray
    ref_sigma: FloatArray
    gray_cut: FloatArray
    gray_high_cut: FloatArray
    error_pivot: FloatArray
    error_model: FloatArray
    global_epsilon: FloatArray


@dataclass(frozen=True)
class EpsilonMaps:
    """Maps of the background's error, where they were asked for; empty arrays where not.

    Parameters
    ----------
    sky, n_sky
        nJy/arcsec^2 and stars, shape (n_band, n_pixel) of HEALPix cells.
    ccd, n_ccd
        Shape (n_filter, n_det, n_y, n_x).
    """

    sky: FloatArray
    n_sky: IntArray
    ccd: FloatArray
    n_ccd: IntArray


@dataclass(frozen=True)
class FlaggedStars:
    """Stars with flags that stay from cycle to cycle.

    Parameters
    ----------
    fgcm_id
        Ascending, int64.
    flag
        `zeropoint.fgcm.flags.StarFlag`, int32.
    """

    fgcm_id: npt.NDArray[np.int64]
    flag: IntArray


@dataclass(frozen=True)
class CycleState:
    """State of the calibration after a cycle.

    Parameters
    ----------
    cycle
        Number of the cycle that left it.
    bands, physical_filters, detectors
        Order of the axes; ``filter_bands`` the band of each filter (-1: none).
    fit_bands
        Bands that the fit used.
    night_numbers
        Nights, shape (n_nights,), int32.
    wash_mjds, epoch_mjds, coating_mjds
        Beginning of each interval.
    parameters
        Of the model.
    parameter_sigmas
        Posterior errors of the same; NaN where a parameter was not free. None before the first fit.
    exposures, instrument, band, epsilon_maps, flagged_stars
        See there.
    """

    cycle: int
    bands: tuple[str, ...]
    physical_filters: tuple[str, ...]
    detectors: tuple[int, ...]
    filter_bands: tuple[int, ...]
    fit_bands: tuple[str, ...]
    night_numbers: IntArray
    wash_mjds: FloatArray
    epoch_mjds: FloatArray
    coating_mjds: FloatArray
    parameters: FitParameters
    parameter_sigmas: FitParameters | None
    exposures: ExposureState
    instrument: InstrumentState
    band: BandState
    epsilon_maps: EpsilonMaps
    flagged_stars: FlaggedStars

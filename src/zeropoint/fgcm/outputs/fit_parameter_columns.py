"""Columns of ``fgcm_Cycle{N}_FitParameters``: the name of each, what of a state it holds, its axes, unit and meaning."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COLUMNS", "SIGMA_PATHS", "UNIT_COLUMNS", "ParameterColumn"]


@dataclass(frozen=True)
class ParameterColumn:
    """A column with all values of one array of a state.

    Parameters
    ----------
    name
        Of the column.
    path
        Attributes from `zeropoint.fgcm.cycle_state.CycleState` to the array.
    axes
        Names of the array's axes; a number is its own size. Without axes it is one number.
    dtype
        numpy's.
    unit
        None: a plain number.
    text
        Meaning.
    reversed_axes
        Whether the column has the axes in the reverse order, as that of fgcm.
    """

    name: str
    path: str
    axes: tuple[str, ...]
    dtype: str
    unit: str | None
    text: str
    reversed_axes: bool = False


#: Scales of the former optimizer's steps: columns of 1 that readers of the table expect.
UNIT_COLUMNS = (
    "lnTauUnit",
    "lnTauSlopeUnit",
    "alphaUnit",
    "lnPwvUnit",
    "lnPwvSlopeUnit",
    "lnPwvQuadraticUnit",
    "lnPwvGlobalUnit",
    "o3Unit",
    "qeSysUnit",
    "filterOffsetUnit",
)

_NIGHT, _EXP, _BAND = ("night",), ("exp",), ("band",)
_FLAT = ("epoch", "filter", "det", "cheb_y", "cheb_x")
_C = ParameterColumn

#: All of them; `SIGMA_PATHS` have another column with their errors.
COLUMNS = (
    _C("nightNumber", "night_numbers", _NIGHT, "i4", None, "Night: whole part of mjd + utBoundary"),
    _C("parAlpha", "parameters.alpha", _NIGHT, "f8", None, "Slope of the aerosols"),
    _C("parO3", "parameters.o3", _NIGHT, "f8", "DU", "Ozone"),
    _C("parLnTauIntercept", "parameters.ln_tau_intercept", _NIGHT, "f8", None, "ln of the aerosols' depth when the night begins"),
    _C("parLnTauSlope", "parameters.ln_tau_slope", _NIGHT, "f8", "1 / d", "Its change"),
    _C("parLnPwvIntercept", "parameters.ln_pwv_intercept", _NIGHT, "f8", None, "ln of the water vapor in mm when the night begins"),
    _C("parLnPwvSlope", "parameters.ln_pwv_slope", _NIGHT, "f8", "1 / d", "Its change"),
    _C("parLnPwvQuadratic", "parameters.ln_pwv_quadratic", _NIGHT, "f8", "1 / d2", "Its quadratic term"),
    _C("parRetrievedLnPwvScale", "parameters.retrieved_scale", (), "f8", None, "Factor on ln of the retrieved water vapor"),
    _C("parRetrievedLnPwvOffset", "parameters.retrieved_offset", (), "f8", None, "Summand to it"),
    _C("parRetrievedLnPwvNightlyOffset", "parameters.retrieved_night_offset", _NIGHT, "f8", None, "Summand to it by night"),
    _C("parQeSysIntercept", "parameters.qe_intercept", ("band", "wash"), "f8", "mag", "Mirror and optics when the wash interval begins"),
    _C("compQeSysSlope", "parameters.qe_slope", ("band", "wash"), "f8", "mag / d", "Their change"),
    _C("parFilterOffset", "parameters.filter_offset", ("filter",), "f8", "mag", "Offset of the filter from the band's standard filter"),
    _C("absOffset", "parameters.abs_offset", _BAND, "f8", "mag", "2.5 log10 of compAbsThroughput"),
    _C("superstarConstant", "parameters.superstar", ("epoch", "filter", "det"), "f8", "mag", "Constant of each detector in the superstar flat, added"),
    _C("compAperCorrSlope", "parameters.aper_slope", _BAND, "f8", None, "Aperture correction over the seeing variable"),
    _C("compAperCorrPivot", "parameters.aper_pivot", _BAND, "f8", None, "Seeing variable where it is zero"),
    _C("compAperCorrRange", "parameters.aper_range", ("band", "2"), "f8", None, "Range of the seeing variable", True),
    _C("airmassResidual", "parameters.airmass_residual", _BAND, "f8", "mag", "Extinction per airmass beyond the atmosphere's"),
    _C("waterResidual", "parameters.water_residual", _BAND, "f8", None, "Added to ln of the water vapor: strength of the band's lines over the model's"),
    _C("exposureGray", "parameters.exposure_gray", _EXP, "f8", "mag", "Gray of exposures where it is part of the fit, added"),
    _C("usedRetrievedLnPwv", "parameters.retrieved_ln_pwv", _EXP, "f8", None, "ln of the retrieved water vapor that the fit used in place of the nights'; NaN: none"),
    _C("superstarShape", "instrument.superstar_shape", _FLAT, "f8", None, "Chebyshev coefficients of the superstar flat within detectors, in flux, y first"),
    _C("compMirrorChromaticity", "instrument.mirror_chromaticity", ("filter", "coating+1"), "f8", None, "Slope per day, then the value at each coating"),
    _C("mirrorChromaticityPivot", "instrument.mirror_chromaticity_pivot", ("coating",), "f8", "d", "Middle of the coatings' times, MJD"),
    _C("compCcdChromaticity", "instrument.ccd_chromaticity", ("det", "filter"), "f8", None, "Chromaticity of the detectors"),
    _C("compAperCorrSlopeErr", "instrument.aper_slope_err", _BAND, "f8", None, "Error of compAperCorrSlope"),
    _C("compMedianSedSlope", "band.median_sed_slope", _BAND, "f8", "1 / Angstrom", "Median slope of the spectra"),
    _C("compSedScale", "band.sed_scale", _BAND, "f8", None, "Factor on how far slopes of spectra are from compSedPivot"),
    _C("compSedOffset", "band.sed_offset", _BAND, "f8", "1 / Angstrom", "Added to them"),
    _C("compSedPivot", "band.sed_pivot", _BAND, "f8", "1 / Angstrom", "Slope of a typical star, as the color term has it"),
    _C("compSigFgcm", "band.sig_fgcm", _BAND, "f8", "mag", "Intrinsic scatter of an observation"),
    _C("compSigmaCal", "band.sigma_cal", _BAND, "f8", "mag", "Scatter that the brightest stars need besides"),
    _C("compRefOffset", "band.ref_offset", _BAND, "f8", "mag", "Mean of standard minus reference magnitudes"),
    _C("compRefSigma", "band.ref_sigma", _BAND, "f8", "mag", "Their scatter"),
    _C("expGrayPhotometricCut", "band.gray_cut", _BAND, "f8", "mag", "Exposures with less gray are not photometric in the next cycle"),
    _C("expGrayHighCut", "band.gray_high_cut", _BAND, "f8", "mag", "Nor those with more"),
    _C("compModelErrPivots", "band.error_pivot", ("band", "3"), "f8", None, "Pivots of the error model: exposure time, seeing, sky", True),
    _C("compModelErrPars", "band.error_model", ("band", "7"), "f8", None, "Coefficients of the error model", True),
    _C("compGlobalEpsilon", "band.global_epsilon", _BAND, "f8", "nJy / arcsec2", "Error of the background"),
    _C("visit", "exposures.visit", _EXP, "i8", None, "Visits, in the order of all columns of exposures"),
    _C("expFlag", "exposures.flag", _EXP, "i4", None, "Why the exposure is not photometric; 0: it is"),
    _C("compExpGray", "exposures.gray", _EXP, "f8", "mag", "Gray of the exposure"),
    _C("compVarGray", "exposures.gray_var", _EXP, "f8", "mag2", "Variance of its detectors about it"),
    _C("compNGoodStarPerExp", "exposures.n_star", _EXP, "i4", None, "Stars that it is from"),
    _C("compExpDeltaMagBkg", "exposures.delta_mag_bkg", _EXP, "f8", "mag", "Offset of the local background"),
    _C("compExpRefOffset", "exposures.ref_offset", _EXP, "f8", "mag", "Median of reference minus standard magnitudes, with gray"),
    _C("compRetrievedLnPwv", "exposures.retrieved_ln_pwv", _EXP, "f8", None, "ln of the retrieved water vapor in mm, smoothed"),
    _C("compRetrievedLnPwvRaw", "exposures.retrieved_ln_pwv_raw", _EXP, "f8", None, "The same as measured"),
    _C("compRetrievedLnPwvFlag", "exposures.retrieved_ln_pwv_flag", _EXP, "i4", None, "1: retrieved, 2: interpolated, 4: standard"),
    _C("compEpsilon", "exposures.epsilon", _EXP, "f8", "nJy / arcsec2", "Error of the background"),
    _C("compMedDeltaAper", "exposures.median_delta_aper", _EXP, "f8", "mag", "Median difference of bright stars' aperture magnitudes"),
    _C("compEpsilonMap", "epsilon_maps.sky", ("band", "pixel"), "f8", "nJy / arcsec2", "Error of the background on the sky", True),
    _C("compEpsilonNStarMap", "epsilon_maps.n_sky", ("band", "pixel"), "i4", None, "Stars of it", True),
    _C("compEpsilonCcdMap", "epsilon_maps.ccd", ("filter", "det", "ccd_y", "ccd_x"), "f8", "nJy / arcsec2", "Error of the background on the detectors"),
    _C("compEpsilonCcdNStarMap", "epsilon_maps.n_ccd", ("filter", "det", "ccd_y", "ccd_x"), "i4", None, "Stars of it"),
    _C("washMjd", "wash_mjds", ("wash",), "f8", "d", "Beginning of the wash intervals, MJD"),
    _C("epochMjdStart", "epoch_mjds", ("epoch",), "f8", "d", "Beginning of the superstar flat's epochs, MJD"),
    _C("coatingMjd", "coating_mjds", ("coating",), "f8", "d", "Beginning of the coatings' times, MJD"),
)  # fmt: skip

_NOT_FITTED = ("parameters.aper_range", "parameters.aper_pivot", "parameters.retrieved_ln_pwv")
#: Parameters of the model, whose errors have columns of their own: ``err`` before the name of the field.
SIGMA_PATHS = tuple(
    each for each in COLUMNS if each.path.startswith("parameters.") and each.path not in _NOT_FITTED
)

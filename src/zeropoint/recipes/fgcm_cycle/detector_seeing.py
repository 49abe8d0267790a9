"""Aperture corrections of detectors by their own seeing."""

from __future__ import annotations

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.model.parameters import FitParameters
from zeropoint.fgcm.terms.aperture_fit import aperture_correction, fill_detectors
from zeropoint.recipes.fgcm_cycle.survey import FloatArray, Survey

__all__ = ["detector_apertures", "seeing_of_detectors"]


def seeing_of_detectors(survey: Survey, config: FgcmFitCycleConfigBase) -> FloatArray:
    """Return what aperture corrections follow for each detector, shape (n_exp, n_det), the exposure's where it is not known.

    Parameters
    ----------
    survey, config
        Data and settings.

    Raises
    ------
    InvalidInputError
        If the visits do not have it.
    """
    e = survey.data.exposures
    seeing = e.psf_fwhm_detector if config.aperCorrUsePsfFwhm else e.delta_aper_detector
    if seeing is None:
        name = "psfFwhmDetector" if config.aperCorrUsePsfFwhm else "deltaAperDetector"
        raise InvalidInputError(
            f"fgcmVisitCatalog has no column {name}, from which aperCorrPerCcd takes the aperture corrections of detectors. "
            "Set aperCorrPerCcd=False, or build the star list anew."
        )
    return fill_detectors(seeing, e.aperture_variable)


def detector_apertures(
    survey: Survey, config: FgcmFitCycleConfigBase, parameters: FitParameters
) -> FloatArray:
    """Return by how much a detector's aperture correction differs from its exposure's, shape (n_exp, n_det).

    Parameters
    ----------
    survey, config
        Data and settings.
    parameters
        Slope, pivot and range.
    """
    e, seeing = survey.data.exposures, seeing_of_detectors(survey, config)
    terms = {"slope": parameters.aper_slope, "pivot": parameters.aper_pivot, "limits": parameters.aper_range}
    own = aperture_correction(seeing, e.band, **terms)
    return own - aperture_correction(e.aperture_variable, e.band, **terms)[:, None]

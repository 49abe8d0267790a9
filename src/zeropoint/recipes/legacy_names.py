"""What the fields of CalibrateImage are called in the two older recipes."""

from __future__ import annotations

import re

__all__ = ["CALIBRATE", "CHARACTERIZE", "legacy_fields"]

CHARACTERIZE, CALIBRATE = "characterizeImage", "calibrate"

#: First part of a field of CalibrateImage -> the same step or switch in the pair, as (task, field).
_STEPS = {
    "astrometry": ((CALIBRATE, "astrometry"),),
    "astrometry_ref_loader": ((CALIBRATE, "astromRefObjLoader"),),
    "compute_summary_stats": ((CALIBRATE, "computeSummaryStats"),),
    "do_first_look": ((CHARACTERIZE, "do_first_look"), (CALIBRATE, "do_first_look")),
    "install_simple_psf": ((CHARACTERIZE, "installSimplePsf"),),
    "measure_aperture_correction": ((CHARACTERIZE, "measureApCorr"),),
    "photometry": ((CALIBRATE, "photoCal"),),
    "photometry_ref_loader": ((CALIBRATE, "photoRefObjLoader"),),
    "psf_detection": ((CHARACTERIZE, "detection"),),
    "psf_measure_psf": ((CHARACTERIZE, "measurePsf"),),
    "psf_normalized_calibration_flux": ((CHARACTERIZE, "normalizedCalibrationFlux"),),
    "psf_repair": ((CHARACTERIZE, "repair"),),
    "psf_source_measurement": ((CHARACTERIZE, "measurement"),),
    "psf_subtract_background": ((CHARACTERIZE, "background"),),
    # both catalogues of the pair are corrected; CalibrateImage corrects this one only
    "star_apply_aperture_correction": ((CHARACTERIZE, "applyApCorr"), (CALIBRATE, "applyApCorr")),
    "star_catalog_calculation": ((CALIBRATE, "catalogCalculation"),),
    "star_deblend": ((CALIBRATE, "deblend"),),
    "star_detection": ((CALIBRATE, "detection"),),
    "star_measurement": ((CALIBRATE, "measurement"),),
    "star_normalized_calibration_flux": ((CALIBRATE, "normalizedCalibrationFlux"),),
    "star_set_primary_flags": ((CALIBRATE, "setPrimaryFlags"),),
    "star_sky_sources": ((CALIBRATE, "skySources"),),
}


def legacy_fields(field: str) -> list[tuple[str, str]]:
    """Return where a field of CalibrateImage is in the pair.

    Parameters
    ----------
    field
        Dotted name; entries of registries in brackets.

    Returns
    -------
    fields
        (task label, field) pairs; none where the pair has no such step.
    """
    step = re.split(r"[.\[]", field, maxsplit=1)[0]
    return [(task, name + field.removeprefix(step)) for task, name in _STEPS.get(step, ())]

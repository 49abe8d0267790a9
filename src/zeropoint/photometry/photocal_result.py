"""What a photometric calibration gives: values, errors, and the numbers for metadata and report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zeropoint.datamodel.exposure import PhotoCalib
from zeropoint.photometry.calibration_fit import CalibrationFit
from zeropoint.photometry.color_terms import FittedColorTerm
from zeropoint.photometry.model_choice import FieldChoice

__all__ = ["Metadata", "PhotoCalResult", "photocal_metadata"]

Metadata = dict[str, int | float | str]


@dataclass(frozen=True)
class PhotoCalResult:
    """A photometric calibration and the stars behind it.

    Parameters
    ----------
    photo_calib
        nJy per electron, with its error; also set on the exposure.
    zp, sigma
        AB magnitude of one count, and its error.
    n_good
        Stars used.
    match_ref, match_src : int64, shape (n,)
        Rows of the reference table and of the catalogue of all matches.
    used : bool, shape (n,)
        Matches that the final mean used.
    residual : float64, shape (n,)
        Reference minus calibrated magnitude (after any colour term); NaN where not finite.
    scatter, excess
        Robust scatter of the stars used, and what of it the quoted errors do not explain, mag.
    hold_out_scatter, hold_out_zp_std
        Robust scatter of stars against zero points fitted without them, and the standard deviation of those
        five zero points, mag; NaN below ten stars.
    color_term
        The fitted colour term, kept or not; None if not asked for.
    field
        The order chosen for the variation over the image; None if not asked for.
    fit
        All parameters with their covariance.
    color_coefficients
        (c0, c1, c2) of camera minus catalogue magnitude as a polynomial of the colour, from the library or fitted.
    metadata
        Plain scalars.
    """

    photo_calib: PhotoCalib
    zp: float
    sigma: float
    n_good: int
    match_ref: np.ndarray
    match_src: np.ndarray
    used: np.ndarray
    residual: np.ndarray
    scatter: float
    excess: float
    hold_out_scatter: float
    hold_out_zp_std: float
    color_term: FittedColorTerm | None
    field: FieldChoice | None
    fit: CalibrationFit
    color_coefficients: tuple[float, float, float]
    metadata: Metadata

    @property
    def notes(self) -> list[str]:
        """Sentences on what became of the colour term and the field that were asked for."""
        sentences, term, choice = [], self.color_term, self.field
        if term is not None and term.kept:
            sentences.append(
                f"a color term of {term.slope:+.4f} +- {term.slope_err:.4f} mag per mag of {term.primary} - "
                f"{term.secondary} is taken out: magnitudes are the camera's own, those of the catalog at "
                f"{term.reference_color:.2f}"
            )
        elif term is not None:
            sentences.append(f"no color term is applied: {term.reason}")
        if choice is not None and choice.order:
            span = self.metadata["zeropoint_field_range_mag"]
            sentences.append(
                f"the zeropoint varies by {span:.3f} mag over the image (order {choice.order}, known to "
                f"{choice.max_error:.3f} mag everywhere), which is applied to pixels and fluxes"
            )
        elif choice is not None:
            sentences.append(f"the zeropoint is taken as constant: {choice.reason}")
        return sentences


def photocal_metadata(
    fit: CalibrationFit,
    term: FittedColorTerm | None,
    choice: FieldChoice | None,
    calib: PhotoCalib,
    *,
    n_matches: int,
    hold_out: tuple[float, float],
) -> Metadata:
    """Return the plain scalars of a calibration.

    Parameters
    ----------
    fit, term, choice, calib
        As in `PhotoCalResult`.
    n_matches
        Matched stars.
    hold_out
        Scatter of held-out stars and of the zero points fitted without them.
    """
    return (
        {
            "photometry_matches_count": n_matches,
            "zeropoint": fit.zp,
            "zeropoint_err": fit.sigma,
            "n_good": fit.mean.n_good,
            "scatter": fit.mean.scatter,
            "excess_scatter": fit.mean.excess,
            "hold_out_scatter": hold_out[0],
            "hold_out_zp_std": hold_out[1],
        }
        | _term_metadata(term)
        | _field_metadata(choice, calib)
    )


def _term_metadata(term: FittedColorTerm | None) -> Metadata:
    if term is None:
        return {}
    return {
        "color_term_kept": int(term.kept),
        "color_term_color": f"{term.primary} - {term.secondary}" if term.primary else "",
        "color_term_reference": term.reference_color,
        "color_term_slope": term.slope,
        "color_term_slope_err": term.slope_err,
        "color_term_curvature": term.curvature,
        "color_term_curvature_err": term.curvature_err,
        "color_term_hold_out_without": term.hold_out_without,
        "color_term_hold_out_with": term.hold_out_with,
        "color_term_reason": term.reason,
    }


def _field_metadata(choice: FieldChoice | None, calib: PhotoCalib) -> Metadata:
    if choice is None:
        return {}
    low = high = calib.calibration_mean
    if calib.field is not None:
        y, x = np.mgrid[0:21, 0:21] / 20.0
        values = calib.at(x=x * calib.field.width - 0.5, y=y * calib.field.height - 0.5)
        low, high = float(values.min()), float(values.max())
    metadata: Metadata = {
        "zeropoint_field_order": choice.order,
        "zeropoint_field_range_mag": 2.5 * float(np.log10(high / low)),
        "zeropoint_field_max_error_mag": choice.max_error,
        "zeropoint_field_reason": choice.reason,
    }
    for order, value in enumerate(choice.hold_out):
        metadata[f"zeropoint_field_hold_out_{order}"] = value
    return metadata

"""Every exception of the package, and the policy on which to raise.

* A wrong call (types, shapes, options that contradict each other) is a built-in ``TypeError``/``ValueError``.
* A wrong input (a file, header, card, table or config that cannot be used) is an `InvalidInputError`; its
  message names the file, what is wrong and what to do.
* Data that cannot be calibrated is a `CalibrationFailure` subclass under the name Rubin's users know; it
  carries ``metadata`` of plain numbers and strings, and whatever was finished before it survives.
* Trouble with one source is never an exception: a flag and NaN.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AllCentroidsFlaggedError",
    "AstrometryError",
    "AstrometryFitFailure",
    "BadAstrometryFit",
    "CalibrationFailure",
    "ColortermNotFoundError",
    "InvalidInputError",
    "MatcherFailure",
    "MeasureApCorrError",
    "MismatchedTablesError",
    "NoFitStarsError",
    "NoPhotometricExposuresError",
    "NoPsfCandidatesError",
    "NoPsfStarsToStarsMatchError",
    "NoReferenceOffsetsError",
    "NoReferenceSourcesError",
    "NoStarsForShapeletsError",
    "NoStarsSelectedError",
    "NoUniqueStarsError",
    "NoVisitWcs",
    "NonfinitePsfShapeError",
    "NormalizedCalibrationFluxError",
    "ObjectSizeNoGoodSourcesError",
    "ObjectSizeNoSourcesError",
    "OptionError",
    "PcaNoGoodStarsError",
    "PcaNoStarsError",
    "PcaTooFewGoodStarsError",
    "PiffTooFewGoodStarsError",
    "PsfFitError",
    "PsfGenerationError",
    "PsfexNoGoodStarsError",
    "PsfexNoStarsError",
    "PsfexTooFewGoodStarsError",
    "TooManyCosmicRays",
    "TooManyMaskedPixelsError",
    "UnreliablePsfError",
    "ZeropointError",
    "ZeropointWarning",
    "failure_keys",
]

Scalar = int | float | str | bool


class ZeropointError(Exception):
    """Base class of every exception raised on purpose."""


class ZeropointWarning(UserWarning):
    """Base class of every warning raised on purpose."""


class InvalidInputError(ZeropointError, ValueError):
    """An input file, header, card, table or configuration that cannot be used."""


class OptionError(InvalidInputError):
    """A command-line option whose text means nothing; a usage error."""


class MismatchedTablesError(InvalidInputError, TypeError):
    """Tables that cannot be stacked: their columns differ; also a TypeError, as in Rubin's pipeline."""


class CalibrationFailure(ZeropointError, RuntimeError):
    """Data that cannot be calibrated.

    Parameters
    ----------
    message
        What failed, with which numbers, and what to try.
    **metadata
        Plain numbers and strings that describe the failure; kept as ``metadata``.

    Attributes
    ----------
    metadata : dict
        As given.
    record
        What the recipe had established (a `zeropoint.recipes.calibrate_image.CalibratedImage`), if it got that
        far; else None.
    """

    def __init__(self, message: str, **metadata: Scalar) -> None:
        super().__init__(message)
        self.metadata: dict[str, Scalar] = dict(metadata)
        self.record: Any = None


class TooManyMaskedPixelsError(CalibrationFailure):
    """Every pixel is masked, so no background can be measured."""


class TooManyCosmicRays(CalibrationFailure):
    """More cosmic-ray pixels than ``nCrPixelMax``; metadata: maxCosmicRays."""


class PsfGenerationError(CalibrationFailure):
    """No PSF, or a PSF without a finite positive size, where detection needs one."""


class NoStarsForShapeletsError(CalibrationFailure):
    """No usable star for the rough shapelet moments."""


class AllCentroidsFlaggedError(CalibrationFailure):
    """Every centroid of the PSF phase is flagged.

    Metadata: shapelets_iq_score, n_sources, psf_shape_ixx, psf_shape_iyy, psf_shape_ixy, psf_size.
    """


class ObjectSizeNoSourcesError(CalibrationFailure):
    """The star selector was given an empty catalogue."""


class ObjectSizeNoGoodSourcesError(CalibrationFailure):
    """No source passed the star selector's cuts.

    Metadata: n_input_sources, n_usable_sources (neither flagged nor without flux or width), and of these
    largest_signal_to_noise and median_width, pixels.
    """


class NoStarsSelectedError(CalibrationFailure):
    """A selector left no source that a step could use; metadata: n_input_sources."""


class NonfinitePsfShapeError(CalibrationFailure):
    """The fitted PSF has no finite size; metadata: psf_size."""


class PiffTooFewGoodStarsError(CalibrationFailure):
    """Too few stars for the PSF fit; metadata: num_good_stars, minimum_dof, poly_ndim."""


class PcaNoStarsError(CalibrationFailure):
    """The PCA determiner was given no candidate; metadata: num_available_stars."""


class PcaNoGoodStarsError(CalibrationFailure):
    """No candidate can be used by the PCA determiner; metadata: num_available_stars, num_blended_stars."""


class PcaTooFewGoodStarsError(CalibrationFailure):
    """Too few stars for a PSF of eigen-images; metadata: num_available_stars, num_good_stars, minimum_stars, order."""


class NoPsfCandidatesError(CalibrationFailure):
    """No selected star has a whole stamp of finite pixels; metadata: n_selected, stamp_size."""


class PsfFitError(CalibrationFailure):
    """The fit of the PSF broke down; metadata: num_stars, spatial_order."""


class UnreliablePsfError(CalibrationFailure):
    """The fitted PSF contradicts the stars; metadata: reason, spatial_order, num_stars."""


class PsfexNoStarsError(CalibrationFailure):
    """The ``psfex`` determiner was given no candidate."""


class PsfexNoGoodStarsError(CalibrationFailure):
    """No candidate can be used by the ``psfex`` determiner; metadata: num_available_stars."""


class PsfexTooFewGoodStarsError(CalibrationFailure):
    """Too few stars for the ``psfex`` determiner.

    Metadata: num_available_stars, num_good_stars, poly_ndim_initial, poly_ndim_final.
    """


class MeasureApCorrError(CalibrationFailure):
    """Too few stars for an aperture correction; metadata: name, nSources, ndof, iteration."""


class NormalizedCalibrationFluxError(CalibrationFailure):
    """No star to normalise the calibration flux.

    Metadata: n_init_sources, n_calib_flux_flag, n_ref_flux_flag.
    """


class NoPsfStarsToStarsMatchError(CalibrationFailure):
    """No PSF star matches a source of the deep catalogue; metadata: n_psf_stars, n_psf_used, n_stars."""


class NoReferenceSourcesError(CalibrationFailure):
    """The reference catalogue holds nothing in the image's region, or no flux in the image's band.

    Metadata: ra, dec, radius (degrees), or n_objects, n_with_flux.
    """


class AstrometryError(CalibrationFailure):
    """Astrometry cannot succeed; metadata of the subclass."""


class BadAstrometryFit(AstrometryError):
    """The fit's residuals are too large; metadata: nMatches, distMean, maxMeanDist, distMedian."""


class AstrometryFitFailure(AstrometryError):
    """The WCS fit rejected everything or scattered by more than its limit."""


class MatcherFailure(AstrometryError):
    """No reference matches; metadata: iterations, or goodSrc and goodRef from photometry."""


class NoVisitWcs(AstrometryError):
    """No detector of a visit has a WCS that could be right.

    Metadata: n_detectors, n_wcs, n_rejected, n_unknown.
    """


class NoUniqueStarsError(CalibrationFailure):
    """No observations of a survey match into a star that is kept.

    Metadata: n_observations, n_groups, n_candidates.
    """


class NoPhotometricExposuresError(CalibrationFailure):
    """A band of the fit has no photometric exposure left, or no night has enough of them.

    Metadata: cycle, band, n_exposures, and by flag how many exposures have it (n_TOO_FEW_STARS...).
    """


class NoFitStarsError(CalibrationFailure):
    """No star has enough good observations in photometric exposures.

    Metadata: cycle, n_stars, and by flag how many stars have it (n_TOO_FEW_OBS...).
    """


class NoReferenceOffsetsError(CalibrationFailure):
    """In a band, no part of the sky has enough standard stars with a reference.

    Metadata: band, nPixels, nMatches.
    """


class ColortermNotFoundError(CalibrationFailure, LookupError):
    """No unique colour term for a catalogue and filter."""


def failure_keys(failure: CalibrationFailure) -> dict[str, Scalar]:
    """Return a failure as flat metadata keys ``failure.type``, ``failure.message`` and ``failure.metadata.*``.

    Flat, because the metadata of images and tables holds scalars only.
    """
    keys: dict[str, Scalar] = {"failure.type": type(failure).__name__, "failure.message": str(failure)}
    keys.update({f"failure.metadata.{name}": value for name, value in failure.metadata.items()})
    return keys

"""One image from file to products: the glue that the command line and scripts share."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.errors import CalibrationFailure, InvalidInputError
from zeropoint.instruments.card import CameraCard
from zeropoint.instruments.first_look import first_look, settings_from_first_look
from zeropoint.instruments.reader import LoadedImage, load_image
from zeropoint.recipes.calibrate_image import CalibratedImage, CalibrateImage, CalibrateImageConfig
from zeropoint.recipes.overrides import apply_override, apply_overrides, changed_fields, load_override_file

__all__ = ["ImageRequest", "ImageRun", "build_config", "calibrate_files", "production_config"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageRequest:
    """What to calibrate and how.

    Parameters
    ----------
    paths
        One file, or the two snaps of one visit.
    card
        Camera card.
    references, photometry_references
        Reference catalogues; the second defaults to the first.
    config_files
        Python config files, applied in order.
    overrides
        ``(field, value)`` pairs, applied last.
    """

    paths: tuple[Path, ...]
    card: CameraCard
    references: ReferenceSource
    photometry_references: ReferenceSource | None = None
    config_files: tuple[Path, ...] = ()
    overrides: tuple[tuple[str, Any], ...] = ()


@dataclass
class ImageRun:
    """Outcome of one image.

    Parameters
    ----------
    loaded
        The image as read.
    result
        What was established, complete or partial.
    config_changes
        (field, value, class default) of fields that differ.
    caveats
        Sentences for the verdict.
    notes
        Sentences on settings derived from the image.
    seconds
        Wall seconds of reading and of the recipe.
    """

    loaded: LoadedImage
    result: CalibratedImage
    config_changes: list[tuple[str, Any, Any]]
    caveats: list[str]
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def production_config() -> CalibrateImageConfig:
    """Return the class defaults with the shipped production values applied."""
    config = CalibrateImageConfig()
    path = resources.files("zeropoint.recipes") / "configs" / "production.py"
    config.loadFromString(path.read_text(), filename=str(path))
    return config


def build_config(
    request: ImageRequest, loaded: LoadedImage, derived: dict[str, Any] | None = None
) -> CalibrateImageConfig:
    """Return the configuration of one image: class default < production < image < card < user.

    Parameters
    ----------
    request
        Config files and overrides.
    loaded
        Pointing uncertainty and the card's overrides.
    derived
        Settings derived from the first look at the image.

    Raises
    ------
    InvalidInputError
        If an override does not fit.
    """
    config = production_config()
    _default_references(config, request, loaded)
    apply_overrides(config, derived or {}, origin="first look")
    apply_overrides(config, loaded.overrides, origin=f"camera card {request.card.source} (wcs.uncertainty)")
    apply_overrides(config, request.card.overrides, origin=f"camera card {request.card.source}")
    for path in request.config_files:
        load_override_file(config, path)
    for name, value in request.overrides:
        apply_override(config, name, value, origin="-c")
    try:
        config.validate()
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise InvalidInputError(
            f"The configuration is not consistent: {lines[-1] if lines else error}"
        ) from None
    return config


def _default_references(config: CalibrateImageConfig, request: ImageRequest, loaded: LoadedImage) -> None:
    """Use the image's own band for astrometry unless the catalogue is Gaia-like, in place.

    A catalogue of a single band serves the astrometry of any image; the photometry does not guess.
    """
    bands = request.references.bands
    if "phot_g_mean" not in bands:
        unknown = loaded.exposure.visit_info.band not in bands and len(bands) == 1
        config.astrometry_ref_loader.anyFilterMapsToThis = bands[0] if unknown else None


def calibrate_files(request: ImageRequest, *, on_stage: Callable[[str], None] | None = None) -> ImageRun:
    """Read, configure and calibrate one image (or two snaps).

    Parameters
    ----------
    request
        What and how.
    on_stage
        Called with the name of each stage as it begins.

    Returns
    -------
    run : ImageRun
        ``run.result.failure`` is set if the image cannot be calibrated.

    Raises
    ------
    InvalidInputError
        If an input cannot be used.
    """
    start = time.perf_counter()
    if on_stage is not None:
        on_stage("read")
    images = [load_image(path, request.card) for path in request.paths]
    _check_snaps(images)
    loaded = images[0]
    derived, notes, caveats = _look(request.card, loaded)
    caveats = [*loaded.caveats, *caveats]
    config = build_config(request, loaded, derived)
    if request.references.lacks_epoch and np.isfinite(loaded.exposure.visit_info.mjd_tai):
        notes.append("the reference catalogue has no epochs: proper motions are not applied")
    recipe = CalibrateImage(config)
    read_seconds = time.perf_counter() - start
    info, detector = loaded.exposure.visit_info, loaded.exposure.detector
    n_visits, n_detectors = loaded.ids
    ids = CatalogIdGenerator(info.visit, detector.id, n_visits, n_detectors)
    astrometry_loader = ReferenceObjectLoader(request.references, config.astrometry_ref_loader)
    photometry_loader = ReferenceObjectLoader(
        request.photometry_references or request.references, config.photometry_ref_loader
    )
    for loader in (astrometry_loader, photometry_loader):
        # a band that is missing is an error now, not after the work
        loader.flux_field(info.band)
    start = time.perf_counter()
    try:
        result = recipe.run(
            [image.exposure for image in images],
            astrometry_references=astrometry_loader,
            photometry_references=photometry_loader,
            id_generator=ids,
            label=loaded.stem,
            on_stage=on_stage,
        )
    except CalibrationFailure as failure:
        record = getattr(failure, "record", None)
        if record is None:
            raise
        result = record
    return ImageRun(
        loaded,
        result,
        changed_fields(config, CalibrateImageConfig()),
        caveats,
        notes,
        {"read": read_seconds, "recipe": time.perf_counter() - start},
    )


def _check_snaps(images: Sequence[LoadedImage]) -> None:
    if len({image.exposure.shape for image in images}) > 1:
        shapes = ", ".join(f"{image.path.name} {image.exposure.shape}" for image in images)
        raise InvalidInputError(f"Snaps of one visit must have one shape, not {shapes}.")
    first = images[0].exposure
    for image in images[1:]:
        other = image.exposure
        if (other.detector.id, other.visit_info.physical_filter) != (
            first.detector.id,
            first.visit_info.physical_filter,
        ):
            raise InvalidInputError(
                f"{image.path}: detector {other.detector.id}, filter {other.visit_info.physical_filter} do not match "
                f"the first snap's {first.detector.id}, {first.visit_info.physical_filter}."
            )


def _look(card: CameraCard, loaded: LoadedImage) -> tuple[dict[str, Any], list[str], list[str]]:
    """Return derived settings, notes and caveats of the first look."""
    if not card.get("first_look"):
        return {}, [], []
    exposure = loaded.exposure
    assert exposure.wcs is not None
    scale = float(exposure.wcs.pixel_scale(x=0.5 * exposure.shape[1], y=0.5 * exposure.shape[0]))
    look = first_look(exposure)
    settings = settings_from_first_look(look, scale)
    if not np.isfinite(look.fwhm_pix):
        return settings, [], ["too few bright stars for a first measurement of the star size"]
    size = f"first look: stars of FWHM {look.fwhm_pix:.2f} px = {look.fwhm_pix * scale:.2f} arcsec ({look.n_stars} stars)"
    derived = ", ".join(f"{name}={value}" for name, value in settings.items())
    return settings, [f"{size}; settings derived from it: {derived or 'none'}"], []

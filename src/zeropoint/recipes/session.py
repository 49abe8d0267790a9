"""Images from file to results: the glue that the command line and scripts share."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.errors import CalibrationFailure, InvalidInputError, OptionError
from zeropoint.instruments.card import CameraCard
from zeropoint.instruments.reader import LoadedImage, load_image
from zeropoint.recipes.calibrate_image import CalibratedImage, CalibrateImage, CalibrateImageConfig
from zeropoint.recipes.calibrate_image.derived import DERIVABLE_FIELDS, times_set
from zeropoint.recipes.config_files import reason
from zeropoint.recipes.overrides import apply_option, apply_overrides, changed_fields, load_override_file
from zeropoint.recipes.post_isr import exposure_from_visit_image, post_isr_image
from zeropoint.recipes.sky_search import find_on_sky_in_place

__all__ = ["CalibrationSession", "ImageRun", "build_config", "production_config"]


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
    card: CameraCard,
    config_files: Sequence[Path] = (),
    overrides: Sequence[tuple[str, Any]] = (),
) -> CalibrateImageConfig:
    """Return the configuration for a camera's images: class default < production < card < user.

    Settings derived from each image come between production and card: the fields that card and user set are put
    into ``derived_fields_keep``.

    Parameters
    ----------
    card
        Its ``first_look`` and ``config``.
    config_files
        Python config files of the user, applied in order.
    overrides
        ``(field, value)`` pairs of the user, applied last.

    Raises
    ------
    InvalidInputError
        If an override does not fit; an `OptionError` if it is one of ``overrides``.
    """
    config = production_config()
    before = times_set(config, DERIVABLE_FIELDS)
    if card.get("first_look"):
        config.do_first_look = True
    apply_overrides(config, card.overrides, origin=f"camera card {card.source}")
    for path in config_files:
        load_override_file(config, path)
    for name, value in overrides:
        apply_option(config, name, value)
    after = times_set(config, DERIVABLE_FIELDS)
    kept = {name for name in DERIVABLE_FIELDS if after[name] > before[name]}
    config.derived_fields_keep = sorted(kept | set(config.derived_fields_keep))
    try:
        config.validate()
    except Exception as error:
        if overrides:
            build_config(card, config_files)  # raises where the options are not to blame
        kind = OptionError if overrides else InvalidInputError
        raise kind(f"The configuration is not consistent: {reason(error)}") from None
    return config


@functools.cache
def _class_defaults() -> CalibrateImageConfig:
    return CalibrateImageConfig()


class CalibrationSession:
    """One configuration and one recipe for many images of one camera.

    Parameters
    ----------
    card
        Camera card.
    references, photometry_references
        Reference catalogues; the second defaults to the first.
    config_files
        Python config files, applied in order.
    overrides
        ``(field, value)`` pairs, applied last.

    Raises
    ------
    InvalidInputError
        If an override does not fit.
    """

    def __init__(
        self,
        card: CameraCard,
        references: ReferenceSource,
        *,
        photometry_references: ReferenceSource | None = None,
        config_files: Sequence[Path] = (),
        overrides: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self.card, self.references = card, references
        self.config = build_config(card, config_files, overrides)
        self.recipe = CalibrateImage(self.config)
        self._astrometry = ReferenceObjectLoader(references, self.config.astrometry_ref_loader)
        self._photometry = ReferenceObjectLoader(
            photometry_references or references, self.config.photometry_ref_loader
        )

    def calibrate(self, *paths: Path, on_stage: Callable[[str], None] | None = None) -> ImageRun:
        """Read and calibrate one image, or the two snaps of one visit.

        Parameters
        ----------
        *paths
            One file, or two.
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
        images = [load_image(path, self.card) for path in paths]
        _check_snaps(images)
        self.recipe.require_bands(self._photometry, images[0].exposure.visit_info)
        try:
            found = [find_on_sky_in_place(image) for image in images if image.exposure.wcs is None]
        except CalibrationFailure as failure:
            nothing = CalibratedImage(images[0].exposure, failure=failure)
            return self._run_of(images[0], nothing, {"read": time.perf_counter() - start, "recipe": 0.0})
        # the same way as images from a repository, so that both give the same results
        exposures = [exposure_from_visit_image(post_isr_image(image)) for image in images]
        loaded, exposure = images[0], exposures[0]
        n_visits, n_detectors = loaded.ids
        ids = CatalogIdGenerator(exposure.visit_info.visit, exposure.detector.id, n_visits, n_detectors)
        read_seconds = time.perf_counter() - start
        start = time.perf_counter()
        try:
            result = self.recipe.run(
                exposures,
                astrometry_references=self._astrometry,
                photometry_references=self._photometry,
                id_generator=ids,
                label=loaded.stem,
                on_stage=on_stage,
            )
        except CalibrationFailure as failure:
            if failure.record is None:
                raise
            result = failure.record
        result.notes = [*found, *result.notes]
        return self._run_of(loaded, result, {"read": read_seconds, "recipe": time.perf_counter() - start})

    def _run_of(self, loaded: LoadedImage, result: CalibratedImage, seconds: dict[str, float]) -> ImageRun:
        changes = changed_fields(result.config or self.config, _class_defaults())
        return ImageRun(loaded, result, changes, result.caveats, result.notes, seconds)


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

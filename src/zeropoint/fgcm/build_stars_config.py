"""Configuration of building the star list of a survey: Rubin's field names and class defaults."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import lsst.pex.config as pexConfig

from zeropoint.catalogs.selectors import (
    ScienceSourceSelectorConfig,
    reject_selectors_with_matches,
    sourceSelectorRegistry,
)
from zeropoint.fgcm.match_config import StarMatchingConfig
from zeropoint.fgcm.reference_loading import FgcmLoadReferenceCatalog

__all__ = ["FgcmBuildStarsConfigBase", "FgcmBuildStarsTableConfig", "aperture_radius"]

#: A circular aperture's radius in the name of its flux: 12_0 is 12.0 pixels.
_RADIUS = re.compile(r"(?:CircularApertureFlux|ApFlux|apFlux)_(\d+)_(\d+)_")

#: Fields that override files may still set: what is said of them.
_RETIRED: Mapping[str, str] = {
    "filterMap": "physicalFilterMap has taken its place",
    "ccdDataRefName": "data ids always name the detector 'detector'; only the command line of old reads it",
    "visitDataRefName": "data ids always name the visit 'visit'; only the command line of old reads it",
    "doModelErrorsWithBackground": "modelMagErrors of the fit decides on the error model",
    "saveMetadata": "metadata are always written",
}


def aperture_radius(name: str) -> float | None:
    """Return the radius in pixels that the name of a circular aperture's flux tells; None: it tells none.

    Examples
    --------
    >>> aperture_radius("apFlux_4_5_instFlux")
    4.5

    Parameters
    ----------
    name
        Name of the column.
    """
    found = _RADIUS.search(name)
    return None if found is None else float(f"{found[1]}.{found[2]}")


class FgcmBuildStarsConfigBase(StarMatchingConfig):
    """Fields that every way of building the star list has (FgcmBuildStarsConfigBase of fgcmcal, 2026)."""

    instFluxField = pexConfig.Field[str](
        default="slot_CalibFlux_instFlux",
        doc="Full name of the instFlux column to calibrate. Sources with its flag set are left out, whatever the source "
        "selector says.",
    )
    apertureInnerInstFluxField = pexConfig.Field[str](
        default="base_CircularApertureFlux_12_0_instFlux",
        doc="Full name of the instFlux column with the flux in the smaller aperture of the aperture-correction proxy.",
    )
    apertureOuterInstFluxField = pexConfig.Field[str](
        default="base_CircularApertureFlux_17_0_instFlux",
        doc="Full name of the instFlux column with the flux in the larger aperture of the aperture-correction proxy.",
    )
    doSubtractLocalBackground = pexConfig.Field[bool](
        default=False,
        doc="Compute by how much magnitudes change without the local background (deltaMagBkg)? instFluxField must be the "
        "flux in a circular aperture, with the radius in its name.",
    )
    localBackgroundFluxField = pexConfig.Field[str](
        default="base_LocalBackground_instFlux",
        doc="Full name of the instFlux column with the local background, counts per pixel.",
    )
    psfCandidateName = pexConfig.Field[str](
        default="calib_psf_candidate",
        doc="Flag of PSF candidates, copied to psf_candidate; False where a table lacks it.",
    )
    doApplyWcsJacobian = pexConfig.Field[bool](
        default=True,
        doc="Divide fluxes by the relative area of their pixel on the sky? Not for fluxes to which an illumination "
        "correction has been applied.",
    )
    physicalFilterMap = pexConfig.DictField[str, str](
        default={},
        doc="Physical filter -> band. Visits in other filters are left out. Empty: the bands that the visit summaries name.",
    )
    referenceCCD = pexConfig.Field[int](
        default=40,
        doc="Detector whose record tells of the observation; where a visit lacks it, its first detector's does.",
    )
    detectors = pexConfig.ListField[int](
        default=[],
        doc="Detectors whose sources are used; empty: all. Quantities of a whole visit, such as its seeing, remain those of all "
        "its detectors.",
    )
    nVisitsPerCheckpoint = pexConfig.RangeField[int](
        default=500, min=1, doc="Number of visits read between checkpoints."
    )
    checkpoint_directory = pexConfig.Field[str](
        default=None,
        optional=True,
        doc="Directory for checkpoints, from which a killed run goes on. None: zeropoint/checkpoints in the user's cache "
        "directory ($XDG_CACHE_HOME). Empty: no checkpoints.",
    )
    doReferenceMatches = pexConfig.Field[bool](
        default=True,
        doc="Match reference stars as an additional constraint on the calibration? Needs the look-up table.",
    )
    fgcmLoadReferenceCatalog = pexConfig.ConfigurableField(
        target=FgcmLoadReferenceCatalog, doc="Loads the reference stars."
    )
    sourceSelector = sourceSelectorRegistry.makeField(default="science", doc="Which sources are used.")

    filterMap = pexConfig.DictField[str, str](
        default={}, doc="Has no effect.", deprecated=_RETIRED["filterMap"]
    )
    ccdDataRefName = pexConfig.Field[str](
        default="ccd", doc="Has no effect.", deprecated=_RETIRED["ccdDataRefName"]
    )
    visitDataRefName = pexConfig.Field[str](
        default="visit", doc="Has no effect.", deprecated=_RETIRED["visitDataRefName"]
    )
    doModelErrorsWithBackground = pexConfig.Field[bool](
        default=True, doc="Has no effect.", deprecated=_RETIRED["doModelErrorsWithBackground"]
    )
    saveMetadata = pexConfig.Field[bool](
        default=True, doc="Has no effect.", deprecated=_RETIRED["saveMetadata"]
    )

    def setDefaults(self) -> None:
        """Unflagged, unresolved sources that are not blended, of signal-to-noise 10 to 1000, with a position."""
        super().setDefaults()
        science: ScienceSourceSelectorConfig = self.sourceSelector["science"]
        science.doFlags = science.doUnresolved = science.doSignalToNoise = True
        science.doIsolated = science.doRequireFiniteRaDec = True
        science.signalToNoise.minimum = 10.0
        science.signalToNoise.maximum = 1000.0
        science.unresolved.maximum = 0.5

    def validate(self) -> None:
        """Check bands against the map, the selector, and what further fields need.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            If fields contradict each other or are not complete; it names one.
        """
        super().validate()
        cls = type(self)
        reject_selectors_with_matches(self, "sourceSelector")
        if self.doSubtractLocalBackground and not self.local_background_area:
            raise pexConfig.FieldValidationError(
                cls.instFluxField,
                self,
                f"doSubtractLocalBackground needs the flux in a circular aperture, whose name tells the radius "
                f"(apFlux_12_0_instFlux); {self.instFluxField!r} tells none.",
            )
        if self.physicalFilterMap:
            known = sorted(set(self.physicalFilterMap.values()))
            for field, bands in (
                (cls.primaryBands, self.primaryBands or ()),
                (cls.requiredBands, self.requiredBands),
            ):
                unknown = sorted(set(bands) - set(known))
                if unknown:
                    raise pexConfig.FieldValidationError(
                        field,
                        self,
                        f"no filter of physicalFilterMap has the band {', '.join(unknown)}; it has {', '.join(known)}.",
                    )
        if self.doReferenceMatches:
            self.fgcmLoadReferenceCatalog.value.check_complete()

    @property
    def local_background_area(self) -> float:
        """Area of the flux's aperture, pixels; 0 where its name tells no radius."""
        radius = aperture_radius(self.instFluxField)
        return 0.0 if radius is None else math.pi * radius**2

    def retired_fields(self) -> list[str]:
        """Return a sentence on each field that was set and has no effect any more."""
        return [
            f"The field {name} has no effect any more: {why}."
            for name, why in _RETIRED.items()
            if getattr(self, name) != getattr(type(self), name).default
        ]


class FgcmBuildStarsTableConfig(FgcmBuildStarsConfigBase):
    """Fields of FgcmBuildStarsTableTask, with the names that standardised tables of sources have."""

    def setDefaults(self) -> None:
        """Columns of ``sourceTable_visit``; primary sources only."""
        super().setDefaults()
        self.instFluxField = "apFlux_12_0_instFlux"
        self.localBackgroundFluxField = "localBackground_instFlux"
        self.apertureInnerInstFluxField = "apFlux_12_0_instFlux"
        self.apertureOuterInstFluxField = "apFlux_17_0_instFlux"
        self.psfCandidateName = "calib_psf_candidate"
        science: ScienceSourceSelectorConfig = self.sourceSelector["science"]
        science.flags.bad = [
            "pixelFlags_edge",
            "pixelFlags_interpolatedCenter",
            "pixelFlags_saturatedCenter",
            "pixelFlags_crCenter",
            "pixelFlags_bad",
            "pixelFlags_interpolated",
            "pixelFlags_saturated",
            "centroid_flag",
            "apFlux_12_0_flag",
        ]
        science.signalToNoise.fluxField = self.instFluxField
        science.signalToNoise.errField = f"{self.instFluxField}Err"
        science.isolated.parentName = "parentSourceId"
        science.isolated.nChildName = "deblend_nChild"
        science.requireFiniteRaDec.raColName = "ra"
        science.requireFiniteRaDec.decColName = "dec"
        science.unresolved.name = "extendedness"
        science.doRequirePrimary = True

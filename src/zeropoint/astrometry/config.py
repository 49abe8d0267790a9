"""Configuration of the astrometric fit."""

from __future__ import annotations

from typing import Any

import lsst.pex.config as pexConfig

from zeropoint.astrometry.matcher import MatchPessimisticB
from zeropoint.astrometry.tan_sip import FitTanSipWcs
from zeropoint.catalogs.selectors import (
    ReferenceSourceSelector,
    reject_selectors_with_matches,
    sourceSelectorRegistry,
)

__all__ = ["AstrometryConfig", "FitSipApproximationConfig"]


class FitSipApproximationConfig(pexConfig.Config):
    """How a general WCS is approximated; kept for overrides, because ours is a polynomial already."""

    grid_spacing = pexConfig.Field[float](doc="Spacing of the grid (pixels).", default=32.0)
    order = pexConfig.Field[int](doc="Order of the polynomials.", default=5)


class _FitterField(pexConfig.ConfigurableField):
    """A configurable field that a saved configuration always retargets.

    The plain field leaves its own default target out, and so cannot be read back where the defaults of the
    configuration around it name another one.
    """

    def save(self, outfile: Any, instance: pexConfig.Config) -> None:
        chosen = self.__get__(instance)
        if chosen.target == self.target:
            names = (f"{kind.__module__}.{kind.__qualname__}" for kind in (chosen.target, chosen.ConfigClass))
            target, config_class = names
            outfile.write(f"{chosen.value._name}.retarget(target={target}, ConfigClass={config_class})\n\n")
        super().save(outfile, instance)


class AstrometryConfig(pexConfig.Config):
    """Configuration of `zeropoint.astrometry.solve.Astrometry`."""

    matcher = pexConfig.ConfigurableField(target=MatchPessimisticB, doc="How sources find their references.")
    wcsFitter = _FitterField(target=FitTanSipWcs, doc="How the WCS is fitted to matches.")
    sourceSelector = sourceSelectorRegistry.makeField(doc="Which sources to match.", default="science")
    referenceSelector = pexConfig.ConfigurableField(
        target=ReferenceSourceSelector, doc="Which references to match."
    )
    sourceFluxType = pexConfig.Field[str](
        doc="Flux of the sources, for ranking and outlier rejection (slot_<type>Flux).", default="Psf"
    )
    forceKnownWcs = pexConfig.Field[bool](doc="Match with the WCS given and fit nothing?", default=False)
    maxIter = pexConfig.RangeField[int](doc="Rounds of matching and fitting.", default=3, min=1)
    matchDistanceSigma = pexConfig.RangeField[float](
        doc="Rounds end when mean plus this many standard deviations of the distances is small enough.",
        default=2.0,
        min=0.0,
    )
    minMatchDistanceArcSec = pexConfig.RangeField[float](
        doc="Distance at which rounds end (arcsec).", default=0.001, min=0.0
    )
    maxMeanDistanceArcsec = pexConfig.RangeField[float](
        doc="Largest mean distance of the final matches that `check` lets pass (arcsec).",
        default=0.5,
        min=0.0,
    )
    doMagnitudeOutlierRejection = pexConfig.Field[bool](
        doc="Reject matches whose magnitude difference is unusual?", default=True
    )
    magnitudeOutlierRejectionNSigma = pexConfig.Field[float](doc="How unusual (sigma).", default=3.0)
    doFiducialZeroPointCull = pexConfig.Field[bool](
        doc="Drop references outside the sources' range of magnitudes, from fiducialZeroPoint?", default=False
    )
    fiducialZeroPoint = pexConfig.DictField[str, float](
        doc="Band to the magnitude of 1 count per second.", default=None, optional=True
    )
    cullMagBuffer = pexConfig.Field[float](doc="Margin of that range (mag).", default=0.3, optional=True)
    maxRefToSourceRatio = pexConfig.Field[float](
        doc="With more references for each source than this, the bright end is not cut.", default=20.0
    )
    filterMap = pexConfig.DictField[str, str](
        doc="Band of the image to band of refColorDeltaDefaults, where they differ.", default={}
    )
    refColorDeltaDefaults = pexConfig.DictField[str, float](
        doc="Band to the typical (reference - image band) colour, for a broad reference band (mag).",
        default={"u": -1.5, "g": -0.6, "r": 0.0, "i": 0.5, "z": 0.6, "y": 0.8},
    )
    doFitSipApproximation = pexConfig.Field[bool](
        doc="Make a FITS approximation of the WCS? Without effect: ours is one already.", default=True
    )
    fitSipApproximation = pexConfig.ConfigField[FitSipApproximationConfig](doc="Its configuration.")

    def setDefaults(self) -> None:
        """Set the selectors' defaults."""
        self.sourceSelector.name = "science"
        selector = self.sourceSelector["science"]
        selector.doFlags = selector.doUnresolved = selector.doSignalToNoise = True
        selector.doIsolated = selector.doRequirePrimary = selector.doCentroidErrorLimit = True
        selector.doUnresolved = False
        selector.signalToNoise.minimum = 40
        selector.signalToNoise.fluxField = "slot_PsfFlux_instFlux"
        selector.signalToNoise.errField = "slot_PsfFlux_instFluxErr"
        selector.flags.bad = [
            "base_PixelFlags_flag_edge",
            "base_PixelFlags_flag_nodata",
            "base_PixelFlags_flag_interpolatedCenter",
            "base_PixelFlags_flag_saturated",
            "base_SdssCentroid_flag",
        ]
        self.referenceSelector.doCullFromMaskedRegion = True
        self.referenceSelector.cullFromMaskedRegion.badMaskNames = ["NO_DATA", "NOT_DEBLENDED"]

    def validate(self) -> None:
        """Reject selectors that need the matches that they are to make."""
        super().validate()
        reject_selectors_with_matches(self, "sourceSelector", "referenceSelector")

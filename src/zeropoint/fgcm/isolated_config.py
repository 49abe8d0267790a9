"""Configuration of building the star list of a survey from its isolated stars."""

from __future__ import annotations

from typing import ClassVar

import lsst.pex.config as pexConfig

from zeropoint.association.reserve import ReserveIsolatedStars
from zeropoint.catalogs.selectors import ScienceSourceSelectorConfig
from zeropoint.fgcm.build_stars_config import FgcmBuildStarsConfigBase

__all__ = ["FgcmBuildFromIsolatedStarsConfig"]


class FgcmBuildFromIsolatedStarsConfig(FgcmBuildStarsConfigBase):
    """Fields of FgcmBuildFromIsolatedStarsTask (fgcmcal, 2026).

    Stars are matched and isolated already, so that ``primaryBands``, ``isolationRadius``, ``max_duplicate_fraction``,
    ``matcher``, ``matchNside`` and ``psfCandidateName`` have no effect, nor have checkpoints; ``matchRadius`` and
    ``coarseNside`` are those of the reference stars.
    """

    seeks_stars: ClassVar[bool] = False

    reserve_selection = pexConfig.ConfigurableField(
        target=ReserveIsolatedStars, doc="Which stars are set aside, to judge the fit."
    )

    def setDefaults(self) -> None:
        """Columns of isolated stars' sources; signal-to-noise 9 to 1000, for other cuts were made before."""
        super().setDefaults()
        self.reserve_selection.reserve_name = "fgcmcal"
        self.reserve_selection.reserve_fraction = 0.1
        self.instFluxField = "normCompTophatFlux_instFlux"
        self.localBackgroundFluxField = "localBackground_instFlux"
        self.apertureInnerInstFluxField = "apFlux_12_0_instFlux"
        self.apertureOuterInstFluxField = "apFlux_17_0_instFlux"
        science: ScienceSourceSelectorConfig = self.sourceSelector["science"]
        science.doFlags = science.doUnresolved = science.doIsolated = science.doRequireFiniteRaDec = False
        science.flags.bad = []
        science.doSignalToNoise = True
        science.signalToNoise.minimum = 9.0
        science.signalToNoise.maximum = 1000.0
        science.signalToNoise.fluxField = self.instFluxField
        science.signalToNoise.errField = f"{self.instFluxField}Err"

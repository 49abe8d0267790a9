"""The global calibration of the visits on one tract: star list, cycles until magnitudes repeat no better, products."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import lsst.pex.config as pexConfig
import numpy as np
from astropy.table import Column, Table

from zeropoint.association.tables import AnyTable
from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.fgcm.accounting import Accounting
from zeropoint.fgcm.atmosphere import Atmosphere
from zeropoint.fgcm.build_stars_config import FgcmBuildStarsTableConfig
from zeropoint.fgcm.cycle_result import CycleResult
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.model.passband_source import PassbandSource
from zeropoint.fgcm.outputs.config import FgcmOutputProductsConfigBase
from zeropoint.fgcm.progress import OnProgress
from zeropoint.fgcm.references import References
from zeropoint.fgcm.visit_facts import VisitSummaries
from zeropoint.recipes.fgcm_build_stars import FgcmBuildStars, SurveyStars
from zeropoint.recipes.fgcm_cycle import CycleInputs, FgcmCycle
from zeropoint.recipes.fgcm_output_products import FgcmOutputProducts, FgcmProducts

__all__ = ["CalibratedTract", "FgcmCalibrateTract", "FgcmCalibrateTractConfigBase"]

_log = logging.getLogger(__name__)


class FgcmCalibrateTractConfigBase(pexConfig.Config):
    """How the visits on one tract are calibrated."""

    fgcmBuildStars = pexConfig.ConfigField[FgcmBuildStarsTableConfig](doc="The star list.")
    fgcmFitCycle = pexConfig.ConfigField[FgcmFitCycleConfigBase](
        doc="A cycle of the fit; which one, and whether it is the last, is set as the cycles go on."
    )
    fgcmOutputProducts = pexConfig.ConfigField[FgcmOutputProductsConfigBase](doc="The products.")
    convergenceTolerance = pexConfig.RangeField[float](
        doc="Cycles end when the repeatability of no band changes by more than this, mag.",
        default=0.005,
        min=0.0,
    )
    maxFitCycles = pexConfig.RangeField[int](doc="Largest number of cycles of the fit.", default=5, min=1)
    doDebuggingPlots = pexConfig.Field[bool](doc="Has no effect: there are no plots.", default=False)

    def setDefaults(self) -> None:
        """One tract: no limit on the density of stars, and no products but calibrations and atmospheres."""
        super().setDefaults()
        self.fgcmBuildStars.densityCutMaxPerPixel = 10000
        self.fgcmFitCycle.quietMode = True
        self.fgcmFitCycle.doPlots = False
        self.fgcmFitCycle.doMultipleCycles = False
        self.fgcmFitCycle.useParquetCatalogFormat = False
        self.fgcmOutputProducts.doReferenceCalibration = False
        self.fgcmOutputProducts.doTractStars = False

    def validate(self) -> None:
        """Check that the cuts come from repeatability, and that the star list has references.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            If not.
        """
        super().validate()
        fit, stars = self.fgcmFitCycle, self.fgcmBuildStars
        chosen = dict(fit.useRepeatabilityForExpGrayCutsDict)
        wrong = [band for band in fit.bands if not chosen.get(band, False)]
        if wrong:
            raise pexConfig.FieldValidationError(
                type(fit).useRepeatabilityForExpGrayCutsDict,
                fit,
                f"must be True for {', '.join(wrong)}: a tract has too few exposures for cuts from their distribution.",
            )
        if fit.doMultipleCycles:
            raise pexConfig.FieldValidationError(
                type(fit).doMultipleCycles, fit, "must be False: cycles go on until they converge."
            )
        if not stars.doReferenceMatches:
            raise pexConfig.FieldValidationError(
                type(stars).doReferenceMatches, stars, "must be True: references are the scale of a tract."
            )


@dataclass(frozen=True)
class CalibratedTract:
    """The calibration of a tract's visits.

    Parameters
    ----------
    products
        Calibrations and atmospheres.
    repeatability
        ``fgcmRawRepeatability``: one row for each band.
    cycles
        Metrics of each cycle.
    converged
        Whether the last two cycles of the fit repeat equally well.
    accounting
        What became of visits, sources, stars and zeropoints.
    notes
        Sentences for the user.
    """

    products: FgcmProducts
    repeatability: Table
    cycles: tuple[Mapping[str, object], ...]
    converged: bool
    accounting: Accounting
    notes: tuple[str, ...]


class FgcmCalibrateTract:
    """Calibrate the visits on one tract.

    Parameters
    ----------
    config
        Settings.
    """

    ConfigClass = FgcmCalibrateTractConfigBase

    def __init__(self, config: FgcmCalibrateTractConfigBase) -> None:
        self.config = config

    def run(
        self,
        tables: Mapping[int, AnyTable],
        summaries: VisitSummaries,
        passbands: PassbandSource,
        references: References,
        *,
        atmosphere: Atmosphere | None = None,
        focal_plane: FocalPlane | None = None,
        threads: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> CalibratedTract:
        """Make the star list, fit, and make the products.

        Parameters
        ----------
        tables, summaries
            Visit -> table of its sources, and its summary; see `zeropoint.recipes.fgcm_build_stars.FgcmBuildStars.run`.
        passbands
            Of the look-up table's filters and detectors.
        references
            Reference catalogue, and the look-up table.
        atmosphere
            That of the look-up table; needed with ``fgcmOutputProducts.doAtmosphereOutput``.
        focal_plane
            The camera; None: as the WCSs of the summaries show it.
        threads
            Of the fit; no bit of the result depends on it.
        on_progress
            Told how far a stage is.

        Raises
        ------
        InvalidInputError
            If an input cannot be used.
        CalibrationFailure
            If there is no star, no photometric exposure, or no reference.
        lsst.pex.config.FieldValidationError
            If the configuration contradicts itself.
        """
        self.config.validate()
        stars = FgcmBuildStars(self.config.fgcmBuildStars).run(
            tables, summaries, focal_plane=focal_plane, references=references, on_progress=on_progress
        )
        results, converged = self._fit(stars, passbands, threads, on_progress)
        last = results[-1]
        assert last.standard_stars is not None
        products = FgcmOutputProducts(self.config.fgcmOutputProducts).run(
            stars.visits,
            last.standard_stars,
            zeropoints=last.zeropoints,
            atmospheres=last.atmosphere,
            atmosphere=atmosphere,
            standard_filters=references.look_up_table.std_filter_of,
            references=references.loader,
            on_progress=on_progress,
        )
        if stars.checkpoints is not None:
            stars.checkpoints.remove()
        accounting = Accounting()
        for part in (stars.accounting, last.accounting, products.accounting):
            accounting.merge(part)
        notes = [*stars.left_out, *products.notes]
        if not converged:
            notes.append(
                f"Repeatability still changed by more than convergenceTolerance after {len(results) - 1} cycles (maxFitCycles)."
            )
        metrics = tuple(dict(result.metrics) for result in results)
        return CalibratedTract(
            products, repeatability_table(last), metrics, converged, accounting, tuple(notes)
        )

    def _fit(
        self,
        stars: SurveyStars,
        passbands: PassbandSource,
        threads: int | None,
        on_progress: OnProgress | None,
    ) -> tuple[list[CycleResult], bool]:
        """Return the results of the cycles, the last of which fits nothing, and whether they converged."""
        inputs = CycleInputs(
            stars.visits, stars.observations, stars.star_ids, stars.star_indices, stars.reference_stars
        )
        config = self.config.fgcmFitCycle.copy()
        config.cycleNumber, config.isFinalCycle, config.freezeStdAtmosphere = 0, False, True
        results: list[CycleResult] = []
        converged = False
        while not config.isFinalCycle:
            results += FgcmCycle(config).run(
                inputs,
                passbands,
                previous=results[-1].state if results else None,
                threads=threads,
                on_progress=on_progress,
            )
            # the standard atmosphere of the first cycle and the next one's are two things
            converged = len(results) > 2 and self._is_converged(results[-2], results[-1])
            config = config.of_next_cycle()
            config.update(**results[-1].config_changes)
            config.isFinalCycle = converged or len(results) >= self.config.maxFitCycles
        results += FgcmCycle(config).run(
            inputs, passbands, previous=results[-1].state, threads=threads, on_progress=on_progress
        )
        return results, converged

    def _is_converged(self, before: CycleResult, now: CycleResult) -> bool:
        """Return whether no band's repeatability has changed much."""
        changes = np.abs(np.subtract(_repeatability(now), _repeatability(before)))
        return bool((changes[np.isfinite(changes)] <= self.config.convergenceTolerance).all())


def repeatability_table(result: CycleResult) -> Table:
    """Return how well magnitudes of reserve stars repeat in each band, without gray corrections.

    Parameters
    ----------
    result
        Of a cycle.
    """
    bands = list(result.metrics["bands"])
    return Table(
        [
            Column(
                np.array(_repeatability(result), np.float64),
                "rawRepeatability",
                unit="mag",
                description="Width of the reserve stars' residuals without gray corrections; NaN: not known",
            ),
            Column(bands, "band", description="Band"),
        ]
    )


def _repeatability(result: CycleResult) -> Sequence[float]:
    """Return the repeatability of each band, mag; NaN where it is not known."""
    values = (numbers["repeatability_before"] for numbers in result.metrics["bands"].values())
    return [math.nan if value is None else float(value) for value in values]

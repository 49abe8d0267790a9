"""Configuration of the fit: Rubin's field names and class defaults, and a few fields of our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import lsst.pex.config as pexConfig

from zeropoint.fgcm.fit_cycle_fields import (
    MULTIPLE_CYCLES_MAX,
    BackgroundFields,
    CycleFields,
    ErrorFields,
    GrayFields,
    ModelFields,
    ReferenceFields,
    RetiredFields,
    SelectionFields,
    SolverFields,
)
from zeropoint.fgcm.sed_terms_config import (
    Sedboundaryterm,
    SedboundarytermDict,
    Sedterm,
    SedtermDict,
    sed_terms_of,
)

__all__ = [
    "MULTIPLE_CYCLES_MAX",
    "ColorCut",
    "FgcmFitCycleConfigBase",
    "Sedboundaryterm",
    "SedboundarytermDict",
    "Sedterm",
    "SedtermDict",
    "sed_terms_of",
]

#: Fields that must have an entry for every band: the usual value.
_OF_EVERY_BAND: Mapping[str, float | bool] = {
    "superStarSubCcdDict": False,
    "ccdGraySubCcdDict": False,
    "expGrayPhotometricCutDict": -0.05,
    "expGrayHighCutDict": 0.2,
    "expVarGrayPhotometricCutDict": 0.0005,
    "sigFgcmMaxEGrayDict": 0.05,
    "approxThroughputDict": 1.0,
    "useRepeatabilityForExpGrayCutsDict": False,
}

#: What stands for an empty list of color cuts.
_NO_CUT = "NO_DATA"


class ColorCut(NamedTuple):
    """Stars of ``low < first - second < high`` are kept."""

    #: Band whose magnitude comes first.
    first: str
    #: Band whose magnitude is subtracted.
    second: str
    #: Limits of the color, mag.
    low: float
    high: float


class FgcmFitCycleConfigBase(
    # fields are listed from the last base to the first
    RetiredFields,
    SolverFields,
    ErrorFields,
    BackgroundFields,
    GrayFields,
    SelectionFields,
    ModelFields,
    ReferenceFields,
    CycleFields,
):
    """Fields of FgcmFitCycleTask (fgcmcal, 2026), and ours (`SolverFields`)."""

    def validate(self) -> None:
        """Check bands against each other, that every band has what it needs, color cuts, ranges and radii.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            If fields contradict each other or are not complete; it names one.
        """
        super().validate()
        self._check_cycles()
        self._check_bands()
        for name in ("starColorCuts", "refStarColorCuts"):
            self._color_cuts(name)
        for name in ("sigmaCalRange", "sigmaCalFitPercentile", "sigmaCalPlotPercentile"):
            low, high = getattr(self, name)
            if not 0 <= low < high:
                self._wrong(name, f"must be two ascending numbers, not {low:g} and {high:g}.")
        self._check_sed_terms()
        self._check_radii()

    def _wrong(self, name: str, why: str) -> None:
        raise pexConfig.FieldValidationError(getattr(type(self), name), self, why)

    def _check_cycles(self) -> None:
        if self.doMultipleCycles and self.cycleNumber != 0:
            self._wrong(
                "cycleNumber",
                f"must be 0 with doMultipleCycles, which runs all cycles, not {self.cycleNumber}.",
            )
        if self.doMultipleCycles and self.isFinalCycle:
            self._wrong(
                "isFinalCycle", "must be False with doMultipleCycles, which ends with the final cycle."
            )

    def _check_bands(self) -> None:
        if not self.bands:
            self._wrong("bands", "name the bands to calibrate, in the order of their wavelengths.")
        if len(set(self.bands)) < len(self.bands):
            self._wrong("bands", "a band is listed twice.")
        if not self.fitBands:
            self._wrong("fitBands", "name the bands of the fit; usually they are all of bands.")
        for name in ("fitBands", "requiredBands", "colorSplitBands"):
            unknown = [band for band in getattr(self, name) if band not in self.bands]
            if unknown:
                self._wrong(
                    name,
                    f"{', '.join(unknown)}: not among bands ({', '.join(self.bands)}). What is set for every band was set for other "
                    f"bands, as by config.complete(): set {name} too.",
                )
        if len(self.colorSplitBands) not in (0, 2) or len(set(self.colorSplitBands)) < len(
            self.colorSplitBands
        ):
            self._wrong("colorSplitBands", "must be two different bands, or none.")
        for name, usual in _OF_EVERY_BAND.items():
            missing = [band for band in self.bands if band not in getattr(self, name)]
            if missing:
                self._wrong(name, f"has no entry for {', '.join(missing)}; the usual value is {usual}.")

    def _check_sed_terms(self) -> None:
        """Raise if a term names a slope or a band that is not there."""
        names = set(self.sedboundaryterms.data)
        for name, pair in self.sedboundaryterms.data.items():
            unknown = sorted({pair.primary, pair.secondary} - set(self.bands))
            if unknown and any(
                name in (term.primaryTerm, term.secondaryTerm)
                for band, term in self.sedterms.data.items()
                if band in self.bands
            ):
                self._wrong("sedboundaryterms", f"{name} is of {', '.join(unknown)}, not among bands.")
        for band, term in self.sedterms.data.items():
            lost = sorted({term.primaryTerm, term.secondaryTerm} - names - {None})
            if lost and band in self.bands:
                self._wrong("sedterms", f"{band} needs {', '.join(lost)}, which sedboundaryterms lacks.")

    def _check_radii(self) -> None:
        """Raise if background errors are asked for and what they are made of is not."""
        if self.doComputeDeltaAperMap and not self.doComputeDeltaAperPerStar:
            self._wrong(
                "doComputeDeltaAperMap",
                "is made of the stars' means: set doComputeDeltaAperPerStar=True too.",
            )
        asked = ("doComputeDeltaAperPerVisit", "doComputeDeltaAperMap", "doComputeDeltaAperPerCcd")
        if not any(getattr(self, name) for name in asked):
            return
        if not self.deltaAperInnerRadiusArcsec > 0:
            self._wrong("deltaAperInnerRadiusArcsec", "must be above 0 to compute background errors.")
        if not self.deltaAperOuterRadiusArcsec > self.deltaAperInnerRadiusArcsec:
            self._wrong(
                "deltaAperOuterRadiusArcsec",
                "must be above deltaAperInnerRadiusArcsec to compute background errors.",
            )

    def _color_cuts(self, name: str) -> tuple[ColorCut, ...]:
        """Return the color cuts of a field, or raise if one cannot be read."""
        cuts = []
        for entry in getattr(self, name):
            if entry == _NO_CUT:
                continue
            parts = [part.strip() for part in entry.split(",")]
            try:
                first, second, low, high = parts[0], parts[1], float(parts[2]), float(parts[3])
            except (IndexError, ValueError):
                self._wrong(name, f"{entry!r} is not of the form band1,band2,low,high.")
            unknown = [band for band in (first, second) if band not in self.bands]
            if unknown or len(parts) > 4:
                self._wrong(name, f"{entry!r}: {', '.join(unknown) or 'too many parts'}: not among bands.")
            if not low < high:
                self._wrong(name, f"{entry!r} keeps no star.")
            cuts.append(ColorCut(first, second, low, high))
        return tuple(cuts)

    @property
    def star_color_cuts(self) -> tuple[ColorCut, ...]:
        """The cuts of ``starColorCuts``."""
        return self._color_cuts("starColorCuts")

    @property
    def ref_star_color_cuts(self) -> tuple[ColorCut, ...]:
        """The cuts of reference stars: ``refStarColorCuts``, and ``starColorCuts`` with ``applyRefStarColorCuts``."""
        more = self.star_color_cuts if self.applyRefStarColorCuts else ()
        return (*self._color_cuts("refStarColorCuts"), *more)

    @property
    def seed(self) -> int:
        """Seed of what is drawn."""
        return 0 if self.randomSeed is None else int(self.randomSeed)

    @property
    def max_iterations(self) -> int:
        """Most iterations of the fit in this cycle."""
        return 0 if self.isFinalCycle else int(self.maxIterBeforeFinalCycle)

    @property
    def writes_zeropoints(self) -> bool:
        """Whether this cycle writes zeropoints and atmospheres."""
        return bool(self.isFinalCycle or self.outputZeropointsBeforeFinalCycle)

    @property
    def writes_standard_stars(self) -> bool:
        """Whether this cycle writes standard stars."""
        return bool(self.isFinalCycle or self.outputStandardsBeforeFinalCycle)

    def makes_plots(self, cycle: int) -> bool:
        """Tell whether a cycle makes plots.

        Parameters
        ----------
        cycle
            Its number.
        """
        last_two = cycle >= self.multipleCyclesFinalCycleNumber - 1
        every = not self.doMultipleCycles or self.doPlotsBeforeFinalCycles
        return bool(self.doPlots and (every or last_two))

    def complete(self, bands: Sequence[str] | None = None) -> list[str]:
        """Set what is not set and must be for every band to the usual value.

        Parameters
        ----------
        bands
            Bands in the order of their wavelengths, for ``bands`` if it is empty.

        Returns
        -------
        notes : list of str
            A sentence on each field that was set.
        """
        notes = []
        if not self.bands and bands:
            self.bands = list(bands)
            notes.append(f"bands: {', '.join(bands)}, those of the exposures.")
        if not self.fitBands:
            self.fitBands = list(self.bands)
            notes.append("fitBands: all bands.")
        if any(band not in self.bands for band in self.colorSplitBands):
            self.colorSplitBands = [self.bands[0], self.bands[-1]] if len(self.bands) > 1 else []
            notes.append(f"colorSplitBands: {', '.join(self.colorSplitBands) or 'none'}.")
        for name, usual in _OF_EVERY_BAND.items():
            entries = getattr(self, name)
            missing = [band for band in self.bands if band not in entries]
            for band in missing:
                entries[band] = usual
            if missing:
                notes.append(f"{name}: {usual} for {', '.join(missing)}.")
        if not self.sedterms.data and not self.sedboundaryterms.data and len(self.bands) > 1:
            self.sedboundaryterms, self.sedterms = sed_terms_of(self.bands)
            notes.append("sedterms: each band's from its neighbors in wavelength.")
        return notes

    def of_next_cycle(
        self,
        photometric_cuts: Mapping[str, float] | None = None,
        high_cuts: Mapping[str, float] | None = None,
    ) -> Self:
        """Return the configuration of the next cycle.

        Parameters
        ----------
        photometric_cuts, high_cuts
            Band -> cut of gray residuals that this cycle suggests, mag; other bands keep theirs.
        """
        config: Self = self.copy()
        config.cycleNumber = self.cycleNumber + 1
        config.freezeStdAtmosphere = False
        config.precomputeSuperStarInitialCycle = False
        for band, cut in (photometric_cuts or {}).items():
            config.expGrayPhotometricCutDict[band] = float(cut)
        for band, cut in (high_cuts or {}).items():
            config.expGrayHighCutDict[band] = float(cut)
        return config

    def retired_fields(self) -> list[str]:
        """Return a sentence on each field that was set and has no effect any more."""
        return [
            f"The field {name} has no effect any more: {field.deprecated}."
            for name, field in RetiredFields._fields.items()
            if (dict(self.filterMap) if name == "filterMap" else getattr(self, name)) not in (None, {})
        ]

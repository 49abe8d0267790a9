"""Final characterization of one detector: a new PSF and new aperture corrections from stars that all visits agree on."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any, ClassVar

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog, column
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.psf_model import PsfModel
from zeropoint.errors import (
    CalibrationFailure,
    InvalidInputError,
    NonfinitePsfShapeError,
    NoPsfCandidatesError,
)
from zeropoint.measurement.aperture_corrections import ApCorrMap
from zeropoint.psf.candidates import MakePsfCandidates, PsfCandidates, mask_other_sources
from zeropoint.psf.measure_psf import candidate_maker, reliable_fit
from zeropoint.psf.registry import PsfDeterminer
from zeropoint.recipes.finalize.colors import add_fgcm_photometry, add_src_colors
from zeropoint.recipes.finalize.config import FinalizeCharacterizationConfig
from zeropoint.recipes.finalize.record import FinalizedDetector, Outcome
from zeropoint.recipes.finalize.schema import (
    SchemaMapper,
    Sources,
    input_schema,
    output_schema_mapper,
    selection_schema_mapper,
)
from zeropoint.recipes.finalize.sky_moments import SKY_MOMENT_COLUMNS, add_sky_moments

__all__ = ["FinalizeCharacterization"]

_LOG = logging.getLogger(__name__)

#: Errors of the call, not of the data: never an outcome.
_WRONG_CALL = (InvalidInputError, pexConfig.FieldValidationError)


class FinalizeCharacterization:
    """Fit PSF and aperture corrections of detectors, one after the other.

    Parameters
    ----------
    config
        Settings; None for the defaults.

    Notes
    -----
    Columns and steps follow from the first table of sources; those of further detectors must have the same columns.
    """

    ConfigClass: ClassVar[type[FinalizeCharacterizationConfig]] = FinalizeCharacterizationConfig

    def __init__(self, config: FinalizeCharacterizationConfig | None = None) -> None:
        self.config = FinalizeCharacterizationConfig() if config is None else config
        self.source_selector = self.config.source_selector.apply()
        self.psf_determiner = self.config.psf_determiner.apply()
        self.make_psf_candidates = candidate_maker(self.config.make_psf_candidates, self.psf_determiner)
        self.reserve_selection = self.config.reserve_selection.apply()
        #: Columns of the output; None before the first detector.
        self.schema: Schema | None = None
        self._input = Schema()

    # -- columns --------------------------------------------------------------------------------------------

    def make_output_schema_mapper(self, schema: Schema) -> SchemaMapper:
        """Return which columns of the sources go into the output; measurements add theirs to its schema."""
        limit = getattr(self.source_selector.config, "signalToNoise", None)
        flux = None if limit is None else (limit.fluxField, limit.errField)
        return output_schema_mapper(schema, selection_flux=flux, further=self._further_columns())

    def make_selection_schema_mapper(self, schema: Schema) -> SchemaMapper:
        """Return the columns that the making of candidates sees: all of the sources, and what it fills."""
        return selection_schema_mapper(schema)

    def _further_columns(self) -> list[ColumnSpec]:
        columns: list[ColumnSpec] = []
        if self.config.do_add_sky_moments:
            columns += SKY_MOMENT_COLUMNS
        if self.config.do_add_fgcm_photometry:
            columns += [
                ColumnSpec(f"fgcm_mag_{band}", "f4", "mag(AB)", f"magnitude of the standard star in {band}")
                for band in self.config.fgcmPhotometryBands
            ]
        return columns

    def prepare(self, sources: Sources) -> None:
        """Build the steps that need the columns of the sources, once.

        Raises
        ------
        InvalidInputError
            If columns are missing, or differ from those of the sources before.
        """
        schema = input_schema(sources.table)
        if self.schema is not None:
            if list(schema) != list(self._input):
                differing = sorted({spec.name for spec in set(schema) ^ set(self._input)})
                raise InvalidInputError(
                    "The table of sources has other columns than those of the detectors before: "
                    f"{', '.join(differing[:8]) or 'their order differs'}."
                )
            return
        self._input = schema
        self._output = self.make_output_schema_mapper(schema)
        self._selection = self.make_selection_schema_mapper(schema)
        self.schema = self._output.schema
        self.measurement = self.config.measurement.apply(schema=self.schema)
        self.measure_ap_corr = self.config.measure_ap_corr.apply(schema=self.schema)
        if self.config.keep_partial_ap_corr_map:
            tolerant = self.measure_ap_corr.config.copy()
            tolerant.allowFailure = list(self.measure_ap_corr.names)
            self.measure_ap_corr = type(self.measure_ap_corr)(tolerant, schema=self.schema)
        self.apply_ap_corr = self.config.apply_ap_corr.apply(schema=self.schema)

    def psf_steps(self, size: int) -> tuple[MakePsfCandidates, PsfDeterminer]:
        """Return the steps that cut candidates and fit the PSF.

        Parameters
        ----------
        size
            Side of the stamps of the image's own PSF, pixels; 0 if it has none.
        """
        config = self.psf_determiner.config
        if not self.config.do_follow_input_psf or size <= (config.stampSize or 0):
            return self.make_psf_candidates, self.psf_determiner
        larger = config.copy()
        larger.stampSize = size
        if hasattr(larger, "modelSize"):
            extent = size / (np.sqrt(2.0) if larger.useCoordinates == "sky" else 1.0)
            side = int(extent / larger.samplingSize)
            larger.modelSize = max(larger.modelSize, side - (1 - side % 2))
        cut = self.make_psf_candidates.config.copy()
        cut.kernelSize = max(cut.kernelSize, size + 2)
        return type(self.make_psf_candidates)(cut), type(self.psf_determiner)(larger)

    # -- colours --------------------------------------------------------------------------------------------

    def add_src_colors(self, catalog: SourceCatalog, standards: Any, band: str) -> int:
        """Fill the colours of sources, in place, if the PSF depends on them and there are standard stars.

        Returns
        -------
        n
            Sources with a colour.
        """
        if not self.config.uses_color:
            return 0
        if standards is None:
            _LOG.warning(
                "There is no table of standard stars: the colours that the PSF depends on are unset."
            )
            return 0
        piff = self.config.psf_determiner["piff"]
        field = f"{piff._name or 'piff'}.color"
        return add_src_colors(catalog, standards, band, dict(piff.color), field=field)

    def add_fgcm_photometry(self, catalog: SourceCatalog, standards: Any) -> None:
        """Fill the magnitudes of standard stars, in place, if the configuration asks for them."""
        if not self.config.do_add_fgcm_photometry:
            return
        if standards is None:
            _LOG.warning("do_add_fgcm_photometry: there is no table of standard stars; magnitudes are unset.")
            return
        add_fgcm_photometry(catalog, standards, list(self.config.fgcmPhotometryBands))

    # -- one detector ---------------------------------------------------------------------------------------

    def compute_psf_and_ap_corr_map(
        self,
        visit: int,
        detector: int,
        exposure: Exposure,
        sources: Sources,
        isolated: Any,
        standards: Any = None,
    ) -> FinalizedDetector:
        """Fit PSF and aperture corrections of one detector of one visit.

        Parameters
        ----------
        visit, detector
            Numbers.
        exposure
            Calibrated image in electrons (`zeropoint.recipes.calibrated_file.calibrated_exposure`); not modified.
        sources
            All sources of the image.
        isolated
            Table of the sources of isolated stars, with the id column and ``reserved``
            (`zeropoint.association.ConcatenatedStars.sources`).
        standards
            Photometric standard stars (``ra``, ``dec``, ``mag_<band>``), for colours and magnitudes.

        Returns
        -------
        result
            `FinalizedDetector`; failures of the data are outcomes, not exceptions.

        Raises
        ------
        InvalidInputError
            If an input cannot be used.
        """
        self.prepare(sources)
        job = _Job(self, visit, detector, exposure, sources)
        return job.run(isolated, standards)


class _Stop(Exception):
    """The characterization of a detector ends here."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


class _Job:
    """The work on one detector: what is established so far, and how it goes on."""

    def __init__(
        self,
        recipe: FinalizeCharacterization,
        visit: int,
        detector: int,
        exposure: Exposure,
        sources: Sources,
    ) -> None:
        self.recipe, self.sources, self.visit, self.detector = recipe, sources, visit, detector
        # the new PSF must not become that of the caller's image
        self.exposure = replace(exposure)
        self.numbers: dict[str, Any] = {"n_sources": len(sources)}
        self.rows = np.zeros(0, np.int64)
        self.psf: PsfModel | None = None
        self.ap_corr_map: ApCorrMap | None = None
        self.measured: SourceCatalog | None = None

    def run(self, isolated: Any, standards: Any) -> FinalizedDetector:
        outcome, reason = Outcome.OK, ""
        try:
            selected = self.select(isolated)
            self.add_colors(selected, standards)
            self.fit_psf(selected)
            self.measure()
            outcome, reason = self.correct()
        except _Stop as stop:
            outcome, reason = stop.outcome, str(stop)
            _LOG.warning("visit %d detector %d: %s: %s", self.visit, self.detector, outcome, reason)
        height, width = self.exposure.shape
        wcs = self.exposure.wcs
        scale = 1.0 if wcs is None else float(wcs.pixel_scale(x=0.5 * (width - 1), y=0.5 * (height - 1)))
        return FinalizedDetector(
            self.visit,
            self.detector,
            outcome,
            self.psf,
            self.ap_corr_map,
            self.measured,
            self.numbers,
            reason,
            scale,
            (height, width),
        )

    def select(self, isolated: Any) -> SourceCatalog:
        """Return the candidates, with all columns of the sources; `measured` has the same rows."""
        recipe = self.recipe
        selection = recipe.source_selector.run(self.sources.table, exposure=self.exposure)
        self.numbers["n_selected"] = selection.n_selected
        if not selection.n_selected:
            why = recipe.source_selector.why_none(selection)
            raise _Stop(Outcome.NO_GOOD_SOURCES, f"no good sources remain after the cuts; {why}")
        rows, reserved = _match(self.sources.ids, selection.selected, isolated, recipe.config.id_column)
        self.numbers |= {"n_candidates": len(rows), "n_reserved": int(reserved.sum())}
        if not len(rows):
            raise _Stop(
                Outcome.NO_MATCHED_SOURCES,
                f"none of {selection.n_selected} selected sources is one of {len(isolated)} sources of isolated stars; "
                "perhaps the astrometry of this detector failed before.",
            )
        selected = recipe._selection.rows(self.sources, rows)
        measured = recipe._output.rows(self.sources, rows)
        for catalog in (selected, measured):
            catalog["calib_psf_candidate"] = True
            catalog["calib_psf_reserved"] = reserved
        measured["visit"], measured["detector"] = self.visit, self.detector
        self.rows = rows
        self.measured = measured
        return selected

    def add_colors(self, selected: SourceCatalog, standards: Any) -> None:
        """Fill colours and magnitudes."""
        assert self.measured is not None
        band = self.exposure.visit_info.band
        n = self.recipe.add_src_colors(selected, standards, band)
        if self.recipe.config.uses_color:
            self.numbers["n_with_color"] = n
        for name in ("psf_color_value", "psf_color_type"):
            self.measured[name] = selected[name]
        self.recipe.add_fgcm_photometry(self.measured, standards)

    def fit_psf(self, selected: SourceCatalog) -> None:
        """Fit the PSF to the candidates that are not reserved."""
        assert self.measured is not None
        reserved = selected["calib_psf_reserved"]
        own = self.exposure.psf
        make_candidates, determiner = self.recipe.psf_steps(0 if own is None else own.size)
        with self.failing(Outcome.CANDIDATES_FAILED):
            candidates = make_candidates.run(self.exposure, selected)
            mask_other_sources(candidates, self.rows[candidates.rows], self.sources.footprints)
            self.measured["psf_max_value"] = selected["psf_max_value"]
            if not len(candidates):
                raise NoPsfCandidatesError(
                    f"None of {len(selected)} stars has a whole stamp of {candidates.side} pixels.",
                    n_selected=len(selected),
                    stamp_size=candidates.side,
                )
        with self.failing(Outcome.PSF_FAILED):
            available = np.flatnonzero(~reserved[candidates.rows])
            available = available[determiner.screen(selected, candidates.rows[available])]
            fitted: PsfCandidates = candidates.take(available)
            # reserved stars have no say in the model, not even in the choice of its order
            result = reliable_fit(determiner, self.exposure, fitted)
        self.numbers |= {f"psf_{name}": value for name, value in result.metadata.items()}
        self.numbers |= {"n_used": int(result.used.sum()), "psf_reduced_chi2": float(result.reduced_chi2)}
        with self.failing(Outcome.PSF_NOT_FINITE):
            sigma = result.psf.sigma()
            self.numbers["psf_sigma"] = float(sigma)
            if not np.isfinite(sigma):
                raise NonfinitePsfShapeError(
                    "The PSF has no finite size at its average position.", psf_size=float(sigma)
                )
        self.psf = self.exposure.psf = result.psf
        used = np.zeros(len(selected), np.bool_)
        used[fitted.rows[result.used]] = True
        self.measured["calib_psf_used"] = used

    def measure(self) -> None:
        """Measure the candidates with the new PSF, all neighbors hidden."""
        measured, recipe = self.measured, self.recipe
        assert measured is not None
        with self.failing(Outcome.MEASUREMENT_FAILED):
            recipe.measurement.run(
                self.exposure,
                measured,
                seed=_seed(self.visit, self.detector),
                neighbors=self.sources.footprints,
            )
            if recipe.config.do_add_sky_moments and self.exposure.wcs is not None:
                add_sky_moments(measured, self.exposure.wcs, self.exposure.visit_info)

    def correct(self) -> tuple[Outcome, str]:
        """Measure aperture corrections and apply them; return how it ended."""
        measured, recipe = self.measured, self.recipe
        assert measured is not None
        rows = np.arange(len(measured))
        if recipe.config.ap_corr_stars == "used":
            rows = np.flatnonzero(measured["calib_psf_used"])
        stars = measured.take(rows)
        with self.failing(Outcome.AP_CORR_FAILED):
            result = recipe.measure_ap_corr.run(self.exposure, stars)
        for name in recipe.measure_ap_corr.names:
            measured[f"apcorr_{name}_used"][rows] = stars[f"apcorr_{name}_used"]
        self.numbers |= {f"n_ap_corr_{name}": n for name, n in result.n_used.items()}
        # the normalisation of the calibration flux, and all else that is not measured again, stays
        self.ap_corr_map = {**(self.exposure.ap_corr_map or {}), **result.ap_corr_map}
        mandatory = set(recipe.measure_ap_corr.names) - set(recipe.config.measure_ap_corr.allowFailure)
        missing = sorted(mandatory - set(result.n_used))
        for name in missing:
            self.ap_corr_map = _without(self.ap_corr_map, name)
        recipe.apply_ap_corr.run(measured, self.ap_corr_map)
        if missing:
            return (
                Outcome.AP_CORR_PARTIAL,
                f"too few stars for the aperture corrections of {', '.join(missing)}",
            )
        return Outcome.OK, ""

    def failing(self, outcome: Outcome) -> _Failing:
        """Return a context in which a failure of the data ends the work with an outcome."""
        return _Failing(self, outcome)


class _Failing:
    """Turn what a step raises into the end of the work; wrong calls pass."""

    def __init__(self, job: _Job, outcome: Outcome) -> None:
        self._job, self._outcome = job, outcome

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        if not isinstance(error, Exception) or isinstance(error, _WRONG_CALL):
            return
        numbers = self._job.numbers
        numbers["failure_type"] = type(error).__name__
        if isinstance(error, CalibrationFailure):
            numbers |= {f"failure_{name}": value for name, value in error.metadata.items()}
        else:
            place = f"visit {self._job.visit} detector {self._job.detector}"
            _LOG.error("%s: unexpected failure", place, exc_info=error)
        raise _Stop(self._outcome, str(error) or type(error).__name__) from error


def _match(
    ids: np.ndarray, selected: np.ndarray, isolated: Any, id_column: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the selected rows that are sources of isolated stars, sorted by id, and which are reserved."""
    isolated_ids = np.asarray(column(isolated, id_column), np.int64)
    reserved = np.asarray(column(isolated, "reserved"), np.bool_)
    order = np.argsort(isolated_ids, kind="stable")
    isolated_ids, reserved = isolated_ids[order], reserved[order]
    if np.any(isolated_ids[1:] == isolated_ids[:-1]):
        twice = isolated_ids[1:][isolated_ids[1:] == isolated_ids[:-1]][0]
        raise InvalidInputError(f"The source id {twice} occurs twice among the sources of isolated stars.")
    rows = np.flatnonzero(selected)
    rows = rows[np.argsort(ids[rows], kind="stable")]
    if not len(isolated_ids):
        return rows[:0], reserved
    place = np.minimum(np.searchsorted(isolated_ids, ids[rows]), len(isolated_ids) - 1)
    found = isolated_ids[place] == ids[rows]
    return rows[found], reserved[place[found]]


def _without(corrections: ApCorrMap, name: str) -> ApCorrMap:
    """Return the corrections without those of a flux, which would be those of the old PSF."""
    return {
        key: value
        for key, value in corrections.items()
        if key not in (f"{name}_instFlux", f"{name}_instFluxErr")
    }


def _seed(visit: int, detector: int) -> int:
    """Return a seed that no other detector of no other visit has."""
    return (visit << 16) | (detector & 0xFFFF)

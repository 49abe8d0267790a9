"""What the two tasks of final characterization have in common: inputs from handles, Rubin's methods, metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lsst.pipe.base as pipeBase
from astropy.table import Table, vstack
from lsst.images import VisitImage

from zeropoint.association.concat import ConcatenatedStars, concat_isolated_star_cats
from zeropoint.association.tables import AnyTable
from zeropoint.datamodel.catalog import Schema, SourceCatalog
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.footprint_table import footprints_from_table
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.errors import InvalidInputError
from zeropoint.measurement.aperture_corrections import ApCorrMap
from zeropoint.recipes.calibrated_file import calibrated_exposure
from zeropoint.recipes.finalize import FinalizeCharacterization, FinalizedDetector
from zeropoint.recipes.finalize.products import exposure_row, star_table
from zeropoint.recipes.finalize.schema import SchemaMapper, Sources
from zeropoint.tasks._quantum import read_image
from zeropoint.tasks._tables import HandleTable, is_handle

__all__ = ["FinalizeCharacterizationTaskBase", "by_tract", "loaded"]


def loaded(value: Any) -> Any:
    """Return what a handle stands for, and anything else as it is."""
    return value.get() if is_handle(value) else value


def by_tract(handles: Sequence[Any]) -> dict[int, Any]:
    """Return handles by their tract, in ascending order."""
    return {
        int(handle.dataId["tract"]): handle for handle in sorted(handles, key=lambda h: h.dataId["tract"])
    }


class FinalizeCharacterizationTaskBase(pipeBase.PipelineTask):
    """Methods of both variants; `zeropoint.recipes.finalize.FinalizeCharacterization` does the work.

    Parameters
    ----------
    initInputs
        Ignored; older versions of Rubin's task took a schema.
    **kwargs
        As for `lsst.pipe.base.PipelineTask`.
    """

    config: Any

    def __init__(self, initInputs: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.recipe = FinalizeCharacterization(self.config)

    @property
    def schema(self) -> Schema | None:
        """Columns of the star table; None before the first detector."""
        return self.recipe.schema

    def make_output_schema_mapper(self, input_schema: Schema) -> SchemaMapper:
        """Return which columns of the sources go into the star table."""
        return self.recipe.make_output_schema_mapper(input_schema)

    def make_selection_schema_mapper(self, input_schema: Schema) -> SchemaMapper:
        """Return the columns that the making of candidates sees."""
        return self.recipe.make_selection_schema_mapper(input_schema)

    def concat_isolated_star_cats(
        self,
        band: str,
        isolated_star_cat_dict: Mapping[int, Any],
        isolated_star_source_dict: Mapping[int, Any],
        visit: int | None = None,
        detector: int | None = None,
    ) -> tuple[Table, Table] | tuple[None, None]:
        """Return stars and sources of all tracts in a band, with the reserved ones marked; None if there are none.

        Parameters
        ----------
        band
            Band.
        isolated_star_cat_dict, isolated_star_source_dict
            Tract -> table or handle of stars and of their sources.
        visit, detector
            Keep only sources of this visit, and of this detector of it.
        """
        found = self._concatenate(band, isolated_star_cat_dict, isolated_star_source_dict, visit, detector)
        return (None, None) if found is None else (found.stars, found.sources)

    def add_src_colors(self, srcCat: SourceCatalog, fgcmCat: Any, band: str) -> None:
        """Fill the colours of sources, in place, if the PSF depends on them and there are standard stars."""
        self.recipe.add_src_colors(srcCat, fgcmCat, band)

    def add_fgcm_photometry(self, srcCat: SourceCatalog, fgcmCat: Any) -> None:
        """Fill the magnitudes of standard stars, in place, if the configuration asks for them."""
        self.recipe.add_fgcm_photometry(srcCat, fgcmCat)

    def compute_psf_and_ap_corr_map(
        self,
        visit: int,
        detector: int,
        exposure: VisitImage | Exposure,
        src: Any,
        isolated_source_table: Any,
        fgcm_standard_star_cat: Any = None,
        *,
        footprints: Any = None,
    ) -> tuple[Any, ApCorrMap | None, Table | None]:
        """Return the PSF (as lsst-images has it), the aperture corrections and the star table of a detector.

        Parameters
        ----------
        visit, detector
            Numbers.
        exposure
            Calibrated image.
        src
            Table of its sources, or a catalogue that has footprints.
        isolated_source_table
            Sources of isolated stars, from `concat_isolated_star_cats`.
        fgcm_standard_star_cat
            Photometric standard stars.
        footprints
            Table of the footprints of the sources.

        Returns
        -------
        psf, ap_corr_map, measured_src
            None for what there is not.
        """
        result = self._finalize(
            visit, detector, exposure, src, footprints, isolated_source_table, fgcm_standard_star_cat
        )
        row = exposure_row(result)
        table = None if result.measured is None else star_table(result)
        return row.psf, result.ap_corr_map, table

    # -- for the variants -----------------------------------------------------------------------------------

    def _concatenate(
        self,
        band: str,
        star_cats: Mapping[int, Any],
        star_sources: Mapping[int, Any],
        visit: int | None = None,
        detector: int | None = None,
    ) -> ConcatenatedStars | None:
        """Join the isolated stars, and note which tracts contributed."""
        tracts = sorted(set(star_cats) & set(star_sources))
        odd = sorted(set(star_cats) ^ set(star_sources))
        if odd:
            self.log.warning("Isolated stars or their sources are missing for tracts %s.", odd)
        readable = [
            {
                tract: HandleTable(tables[tract]) if is_handle(tables[tract]) else tables[tract]
                for tract in tracts
            }
            for tables in (star_cats, star_sources)
        ]
        found = concat_isolated_star_cats(
            band,
            readable[0],
            readable[1],
            reserve=self.recipe.reserve_selection,
            id_column=self.config.id_column,
            visit=visit,
            detector=detector,
        )
        self.metadata["n_tracts_given"] = len(tracts)
        self.metadata["tracts_used"] = list(found.tracts) if found is not None else []
        if found is not None and found.skipped:
            self.metadata.set_dict("tracts_left_out", {str(t): why for t, why in found.skipped.items()})
        return found

    def _standards(self, tables: Mapping[int, Any] | None) -> AnyTable | None:
        """Return the standard stars of all tracts; None if nothing looks at them or there are none."""
        if not tables or not self.config.uses_standard_stars:
            return None
        parts = [loaded(tables[tract]) for tract in sorted(tables)]
        return vstack(parts, metadata_conflicts="silent") if len(parts) > 1 else parts[0]

    def _finalize(
        self,
        visit: int,
        detector: int,
        exposure: Any,
        src: Any,
        footprints: Any,
        isolated: Table,
        standards: Any,
    ) -> FinalizedDetector:
        """Load what handles stand for, and do one detector."""
        image = read_image(exposure) if is_handle(exposure) else exposure
        working = image if isinstance(image, Exposure) else calibrated_exposure(image)
        sources = _sources(loaded(src), loaded(footprints))
        return self.recipe.compute_psf_and_ap_corr_map(visit, detector, working, sources, isolated, standards)


def _sources(table: Any, footprints: Any) -> Sources:
    """Return sources with footprints: the catalogue's own, or those of a footprint table."""
    if footprints is None:
        own: FootprintSet | None = getattr(table, "footprints", None)
        if own is None:
            raise InvalidInputError(
                "Sources need footprints: give a catalogue that has them, or the table of footprints."
            )
        return Sources(table, own)
    return Sources.matched(table, *footprints_from_table(footprints))

"""The star list of a survey from tables of any origin, and its files."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow.parquet as pq

from zeropoint.catalogs.reference_raw import RawTable
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.datamodel.atomic_files import atomic_path
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.accounting import META_KEY
from zeropoint.fgcm.column_map import SurveyColumns
from zeropoint.fgcm.progress import OnProgress
from zeropoint.fgcm.references import loading_step, match_references
from zeropoint.fgcm.stars import band_codes, match_stars
from zeropoint.fgcm.survey_tables import StarsFromTablesConfig, SurveyTables, read_survey_tables
from zeropoint.recipes.fgcm_build_stars import SurveyStars

__all__ = ["ACCOUNTING_FILE", "FgcmStarsFromTables", "filters_by_wavelength", "write_star_list"]

_log = logging.getLogger(__name__)

#: File with the accounting, beside the tables.
ACCOUNTING_FILE = "accounting.json"
#: Bands whose wavelength is known by their name, by wavelength.
_BY_WAVELENGTH = ("U", "u", "B", "g", "V", "r", "R", "i", "I", "z", "y", "Y", "J", "H", "K")
#: Attribute of a star list -> name of its table, and of the file.
_FILES = {
    "visits": "fgcmVisitCatalog",
    "observations": "fgcmStarObservations",
    "star_ids": "fgcmStarIds",
    "star_indices": "fgcmStarIndices",
    "reference_stars": "fgcmReferenceStars",
}


class FgcmStarsFromTables:
    """Build the star list of a survey from a table of observations and one of visits.

    Parameters
    ----------
    config
        Settings; None for the defaults.

    Notes
    -----
    The tables are those of FgcmBuildStarsTableTask; what the input does not say is in their metadata (``ABSENT``), and
    counted in the accounting.
    """

    ConfigClass: ClassVar[Any] = StarsFromTablesConfig

    def __init__(self, config: StarsFromTablesConfig | None = None) -> None:
        self.config: StarsFromTablesConfig = self.ConfigClass() if config is None else config

    def run(
        self,
        observations: RawTable,
        visits: RawTable,
        columns: SurveyColumns,
        *,
        references: ReferenceObjectLoader | None = None,
        reference_name: str = "references",
        on_progress: OnProgress | None = None,
    ) -> SurveyStars:
        """Build the star list.

        Parameters
        ----------
        observations, visits
            Tables in any format; of the former, only the columns needed are read.
        columns
            Which column is what.
        references
            Loader of a reference catalogue; needed with ``doReferenceMatches``.
        reference_name
            Its name, by which colour terms are looked up.
        on_progress
            Told how far a stage is.

        Returns
        -------
        SurveyStars
            Reference magnitudes are in the first filter of each band.

        Raises
        ------
        InvalidInputError
            If a table cannot be used, or nothing is left of it.
        NoUniqueStarsError
            If no star is left.
        lsst.pex.config.FieldValidationError
            If the configuration contradicts itself or is not complete.
        """
        if self.config.primaryBands:
            self.config.validate()
        found = read_survey_tables(observations, visits, columns, self.config, on_progress=on_progress)
        table, accounting = found.observations, found.accounting
        band, names = band_codes(np.asarray(table["visit"]), found.visits, found.bands)
        config = self._with_primary_bands(band, names)
        config.validate()
        stars = match_stars(
            np.asarray(table["ra"]),
            np.asarray(table["dec"]),
            band,
            np.asarray(table["visit"]),
            bands=names,
            config=config,
            on_progress=on_progress,
        )
        accounting.merge(stars.accounting)
        result = SurveyStars(found.visits, table, stars.ids, stars.indices, None, accounting)
        if config.doReferenceMatches:
            if references is None:
                raise InvalidInputError(
                    "doReferenceMatches needs a reference catalogue; give one, or set it to False."
                )
            result = self._with_references(result, found, references, reference_name, on_progress)
        result.visits.meta[META_KEY] = accounting.to_meta()
        return result

    def _with_primary_bands(self, band: np.ndarray, names: list[str]) -> StarsFromTablesConfig:
        """Return the configuration; without primary bands, with all bands, that of most observations first."""
        if self.config.primaryBands:
            return self.config
        seen = Counter({name: int(np.count_nonzero(band == code)) for code, name in enumerate(names)})
        order = [name for name, number in sorted(seen.items(), key=lambda item: -item[1]) if number]
        _log.info("primaryBands is not set: stars are sought in %s, in this order.", ", ".join(order))
        config: StarsFromTablesConfig = self.config.copy()
        config.primaryBands = order
        return config

    def _with_references(
        self,
        stars: SurveyStars,
        found: SurveyTables,
        references: ReferenceObjectLoader,
        name: str,
        on_progress: OnProgress | None,
    ) -> SurveyStars:
        """Return the star list with its reference stars."""
        # filters without exposures come last: their reference magnitudes tell colours of stars
        further = sorted(set(self.config.fgcmLoadReferenceCatalog.filterMap) - set(found.bands))
        filters = [*filters_by_wavelength(found.bands), *further]
        step = loading_step(self.config, references, name, found.visits)
        matches = match_references(stars.star_ids, step, filters, self.config, on_progress=on_progress)
        stars.accounting.merge(matches.accounting)
        return replace(stars, reference_stars=matches.table)


def filters_by_wavelength(bands: Mapping[str, str]) -> list[str]:
    """Return the first filter of each band, by wavelength; last, by name, those of bands of unknown wavelength.

    Parameters
    ----------
    bands
        Filter -> band.
    """
    first = {band: name for name, band in reversed(list(bands.items()))}

    def rank(band: str) -> int:
        return _BY_WAVELENGTH.index(band) if band in _BY_WAVELENGTH else len(_BY_WAVELENGTH)

    return [first[band] for band in sorted(first, key=lambda band: (rank(band), first[band]))]


def write_star_list(stars: SurveyStars, folder: Path) -> list[Path]:
    """Write the tables of a star list as parquet files, and the accounting.

    Parameters
    ----------
    stars
        Star list.
    folder
        Folder, made if need be; files of the same names are replaced.

    Returns
    -------
    paths
        Files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for attribute, name in _FILES.items():
        table = getattr(stars, attribute)
        path = folder / f"{name}.parquet"
        if table is None:
            path.unlink(missing_ok=True)  # of an earlier run with references
            continue
        with atomic_path(path) as temporary:
            pq.write_table(table_to_arrow(table), temporary)
        written.append(path)
    with atomic_path(folder / ACCOUNTING_FILE) as temporary:
        temporary.write_text(json.dumps(stars.accounting.to_meta(), indent=1) + "\n")
    return [*written, folder / ACCOUNTING_FILE]

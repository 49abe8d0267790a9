"""The sources of one visit: which columns are read, which sources are used, and why the others are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from astropy.table import Table

from zeropoint.association.tables import AnyTable, integer_column, read_columns
from zeropoint.catalogs.selectors import SourceSelector
from zeropoint.catalogs.selectors.limits import flux_flagged, flux_flags
from zeropoint.datamodel.catalog import column, has_column
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm import magnitudes
from zeropoint.fgcm.build_stars_config import FgcmBuildStarsConfigBase

__all__ = ["SourceReader", "VisitSources"]

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class VisitSources:
    """The observations of one visit.

    Parameters
    ----------
    columns
        Column of ``fgcmStarObservations`` -> values, without the relative pixel area and its effect.
    n_read
        Sources in the visit's table.
    rejected
        Reason -> how many of them are not used.
    delta_aper
        Median of inner minus outer aperture magnitude; NaN: no star has both.
    has_candidates
        Whether the table has the flag of PSF candidates.
    """

    columns: Mapping[str, np.ndarray]
    n_read: int
    rejected: Mapping[str, int]
    delta_aper: float
    has_candidates: bool

    @property
    def n_kept(self) -> int:
        """Number of observations."""
        return len(self.columns["ra"])


class SourceReader:
    """Reads the sources of visits, one after the other.

    Parameters
    ----------
    config
        Names of columns, and what is wanted.
    selector
        Which sources are used; None: that of the configuration.

    Notes
    -----
    Sources that the selector leaves out count under its criteria, each under the first it fails; of the others those
    with the flag of the flux set (``flux_flag``), on a detector that the camera does not have (``detector``) or that is not
    wanted (``detector_not_chosen``), without finite position (``position``, ``centroid``), without positive finite flux
    (``flux``) or error (``flux_error``), or with nothing left without the local background (``local_background``).
    """

    def __init__(self, config: FgcmBuildStarsConfigBase, selector: SourceSelector | None = None) -> None:
        self.config = config
        self.selector: SourceSelector = config.sourceSelector.apply() if selector is None else selector

    @property
    def columns(self) -> tuple[list[str], list[str] | None]:
        """Columns that a table must have, and those that are read where it has them; None: all."""
        config = self.config
        fluxes = (config.instFluxField, config.apertureInnerInstFluxField, config.apertureOuterInstFluxField)
        needed = ["visit", "detector", "ra", "dec", "x", "y"]
        needed += [name for flux in fluxes for name in (flux, f"{flux}Err")]
        optional = [config.psfCandidateName, *flux_flags(config.instFluxField)]
        if config.doSubtractLocalBackground:
            needed.append(config.localBackgroundFluxField)
            optional += flux_flags(config.localBackgroundFluxField)
        selector = self.selector.columns()
        if selector is None:
            return list(dict.fromkeys(needed)), None
        needed += selector[0]
        return list(dict.fromkeys(needed)), list(dict.fromkeys([*optional, *selector[1]]))

    def missing_columns(self, table: AnyTable) -> list[str]:
        """Return the columns that a visit's table lacks, without reading it.

        Parameters
        ----------
        table
            Table of sources.
        """
        has = set(_names(table))
        return [name for name in self.columns[0] if name not in has]

    def read(
        self, visit: int, table: AnyTable, *, exposure_time: float, scaling: Mapping[int, float]
    ) -> VisitSources:
        """Return the observations of a visit, in the order of its table.

        Parameters
        ----------
        visit, table
            Visit and its table of sources; of a reader, only the columns needed are read.
        exposure_time
            Seconds.
        scaling
            Detector -> factor on its fluxes; sources on other detectors are left out.

        Raises
        ------
        InvalidInputError
            If a column is missing or cannot be used, or the table is that of another visit.
        """
        origin = f"The source table of visit {visit}"
        needed, optional = self.columns
        has = _names(table)
        extra = has if optional is None else [name for name in optional if name in has]
        rows = read_columns(table, [*needed, *extra], origin)
        visits = integer_column(rows, "visit", np.int64, origin)
        if len(visits) and (visits != visit).any():
            raise InvalidInputError(f"{origin} holds sources of visit {visits[visits != visit][0]}.")
        return self._observations(visit, rows, origin, exposure_time, scaling)

    def _observations(
        self, visit: int, rows: Any, origin: str, exposure_time: float, scaling: Mapping[int, float]
    ) -> VisitSources:
        config = self.config
        result = self.selector.run(rows)
        sieve = _Sieve(result.selected, result.dropped)
        sieve.require("flux_flag", ~flux_flagged(rows, config.instFluxField))
        if config.doSubtractLocalBackground:
            sieve.require("local_background", ~flux_flagged(rows, config.localBackgroundFluxField))
        detector = integer_column(rows, "detector", np.int32, origin)
        sieve.require("detector", np.isin(detector, list(scaling)))
        if config.detectors:
            sieve.require("detector_not_chosen", np.isin(detector, list(config.detectors)))
        ra, dec, x, y = (_floats(rows, name, origin) for name in ("ra", "dec", "x", "y"))
        sieve.require("position", np.isfinite(ra) & np.isfinite(dec))
        sieve.require("centroid", np.isfinite(x) & np.isfinite(y))
        flux, error = (_floats(rows, config.instFluxField + end, origin) for end in ("", "Err"))
        sieve.require("flux", np.isfinite(flux) & (flux > 0))
        sieve.require("flux_error", np.isfinite(error) & (error > 0))
        background = np.zeros(len(flux))
        if config.doSubtractLocalBackground:
            local = _floats(rows, config.localBackgroundFluxField, origin)
            background = magnitudes.background_difference(flux, local, config.local_background_area)
            sieve.require("local_background", np.isfinite(background))

        keep = np.flatnonzero(sieve.kept)
        flux, error, detector = flux[keep], error[keep], detector[keep]
        has_candidates = has_column(rows, config.psfCandidateName)
        candidate = (
            np.asarray(column(rows, config.psfCandidateName), np.bool_)[keep]
            if has_candidates
            else np.zeros(len(keep), np.bool_)
        )
        factor = np.array([scaling[number] for number in detector.tolist()], np.float64)
        delta, median = self._aperture_differences(rows, keep, origin)
        columns = {
            "ra": np.deg2rad(ra[keep]),
            "dec": np.deg2rad(dec[keep]),
            "x": x[keep],
            "y": y[keep],
            "psf_candidate": candidate,
            "visit": np.full(len(keep), visit, np.int64),
            "ccd": detector,
            "instMag": magnitudes.instrumental_magnitude(flux, exposure_time, factor).astype(np.float32),
            "instMagErr": magnitudes.magnitude_error(flux, error).astype(np.float32),
            "deltaMagBkg": background[keep].astype(np.float32),
            "deltaMagAper": delta.astype(np.float32),
        }
        return VisitSources(columns, len(sieve.kept), sieve.rejected, median, has_candidates)

    def _aperture_differences(
        self, rows: Any, keep: npt.NDArray[np.int64], origin: str
    ) -> tuple[FloatArray, float]:
        """Return inner minus outer magnitudes of the sources kept, and the median of those with errors."""
        names = (self.config.apertureInnerInstFluxField, self.config.apertureOuterInstFluxField)
        inner, outer = (_floats(rows, name, origin)[keep] for name in names)
        errors = [
            magnitudes.magnitude_error(flux, _floats(rows, f"{name}Err", origin)[keep])
            for name, flux in zip(names, (inner, outer))
        ]
        delta = magnitudes.aperture_difference(inner, outer)
        good = (delta != magnitudes.NO_DELTA) & np.isfinite(errors).all(axis=0)
        return delta, float(np.median(delta[good])) if good.any() else float("nan")


class _Sieve:
    """Which sources are left, and the reason of each of the others."""

    def __init__(self, selected: BoolArray, dropped: Mapping[str, int]) -> None:
        self.kept = selected.copy()
        self.rejected: Counter[str] = Counter(dropped)

    def require(self, reason: str, passed: BoolArray) -> None:
        """Drop the sources that do not pass, in place."""
        lost = int(np.count_nonzero(self.kept & ~passed))
        if lost:
            self.rejected[reason] += lost
        self.kept &= passed


def _names(table: AnyTable) -> list[str]:
    return list(table.colnames if isinstance(table, Table) else table.column_names)


def _floats(rows: Table | pa.Table, name: str, origin: str) -> FloatArray:
    """Return a column of numbers as float64."""
    values = column(rows, name)
    if values.dtype.kind not in "fiu" or values.ndim != 1:
        raise InvalidInputError(f"{origin}: column {name} must hold numbers, but it reads as {values.dtype}.")
    return values.astype(np.float64, copy=False)

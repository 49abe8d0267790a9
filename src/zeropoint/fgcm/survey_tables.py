"""The observations of a survey from tables of any origin, and what these tables do not say."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zeropoint.catalogs.reference_raw import RawTable
from zeropoint.catalogs.selectors import ScienceSourceSelectorConfig
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm import magnitudes
from zeropoint.fgcm.accounting import META_KEY, Accounting
from zeropoint.fgcm.airmass_check import airmass_doubt
from zeropoint.fgcm.build_stars_config import FgcmBuildStarsConfigBase
from zeropoint.fgcm.column_map import (
    OBSERVATION_FIELDS,
    Columns,
    SurveyColumns,
    typed_column,
)
from zeropoint.fgcm.limits import LIMITS
from zeropoint.fgcm.observations import describe_observations
from zeropoint.fgcm.progress import OnProgress
from zeropoint.fgcm.survey_visits import SurveyVisits, read_visits, unknown_of_visits
from zeropoint.fgcm.visit_geometry import AREA_KEY

__all__ = ["StarsFromTablesConfig", "SurveyTables", "read_survey_tables"]

_log = logging.getLogger(__name__)

#: Rows of the table of observations in memory besides those that are kept.
_PIECE = 1_000_000

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class StarsFromTablesConfig(FgcmBuildStarsConfigBase):
    """Which observations of tables are used, and how they are matched.

    Column names come from a column map; of ``sourceSelector`` the limits of signal-to-noise of the science selector count.
    """

    def setDefaults(self) -> None:
        """No references unless some are given, and these without colour terms."""
        super().setDefaults()
        self.doReferenceMatches = False
        self.fgcmLoadReferenceCatalog.applyColorTerms = False

    @property
    def signal_to_noise_limits(self) -> tuple[float, float]:
        """Signal-to-noise between which observations are used."""
        science: ScienceSourceSelectorConfig = self.sourceSelector["science"]
        if not science.doSignalToNoise:
            return -np.inf, np.inf
        limits = science.signalToNoise
        low = -np.inf if limits.minimum is None else limits.minimum
        return low, np.inf if limits.maximum is None else limits.maximum


@dataclass(frozen=True)
class SurveyTables:
    """The visits and observations of a survey.

    Parameters
    ----------
    visits
        ``fgcmVisitCatalog``, by visit. The metadata say what is not known (``ABSENT``), and for how many visits the
        secant of the zenith distance is taken as 1 (``SECANT_ONE``).
    observations
        ``fgcmStarObservations``: by visit, detector, declination and right ascension.
    bands
        Physical filter -> band, of the filters used.
    accounting
        Stages ``visits`` and ``sources``.
    """

    visits: Table
    observations: Table
    bands: Mapping[str, str]
    accounting: Accounting


def read_survey_tables(
    observations: RawTable,
    visits: RawTable,
    columns: SurveyColumns,
    config: StarsFromTablesConfig,
    *,
    on_progress: OnProgress | None = None,
) -> SurveyTables:
    """Read a survey.

    Parameters
    ----------
    observations, visits
        Tables in any format (`zeropoint.catalogs.reference_formats.open_table`).
    columns
        Which column is what.
    config
        Which observations are used.
    on_progress
        Called with a title, the rows read, and those there are.

    Raises
    ------
    InvalidInputError
        If a column is missing or does not hold what it should, a visit has two rows, or nothing is left.

    Notes
    -----
    Needed are visit, ra, dec, and either instFlux and instFluxErr (counts) or instMag and instMagErr (for one second) of
    each observation, and the filter of each visit.  An observation is left out, with a reason that is counted, if it has a
    flag (``flagged``), its visit is not there or left out (``no_visit``), or its position (``position``), flux (``flux``)
    or error (``flux_error``) is not finite, the latter not positive either, or for its signal-to-noise.  A visit is left
    out if its filter has no band (``no_band``), its exposure time is given and not positive (``no_exposure_time``), or it
    has no observation (``no_sources``).

    Of what else is absent: detector is 0; exposure time is 1 s; x, y and what is not known of visits are NaN; the
    relative pixel area is 1; the secant is 1 where neither the hour angle (or time, longitude and pointing) and latitude
    nor the airmass are known.
    """
    found = read_visits(visits, columns, config.physicalFilterMap)
    reader = Columns(observations, OBSERVATION_FIELDS, columns.observations)
    parts, accounting = _read_observations(observations, reader, columns, config, found, on_progress)
    values = _in_order(parts)
    seen = np.unique(values["visit"])
    found.only(np.isin(found["visit"], seen), "no_sources")
    used = np.unique(found["physicalFilter"]).tolist()
    bands = {name: band for name, band in found.bands.items() if name in used}
    absent = [f"visits.{name}" for name in found.absent]
    absent += [f"observations.{name}" for name in _missing_of_observations(reader)]
    table = found.table(np.unique(values["ccd"]).astype(np.int64), bands, columns.site or {}, absent)
    table["deltaAper"][:] = _aperture_differences(values)
    all_stages = Accounting()
    n_visits = len(table)
    noted = {**unknown_of_visits(table), "secant_one": table.meta["SECANT_ONE"]}
    all_stages.add("visits", read=found.n_read, kept=n_visits, rejected=found.rejected, noted=noted)
    all_stages.merge(accounting)
    table.meta[AREA_KEY] = bool(config.doApplyWcsJacobian and "jacobian" in reader)
    if absent:
        _log.info("Not in the tables: %s.", ", ".join(absent))
    for line in all_stages.lines():
        _log.info("%s", line)
    if table.meta["SECANT_ONE"]:
        _log.info(
            "Neither hour angle and site nor airmass are known of %d of %d visits: their secant is 1.",
            table.meta["SECANT_ONE"],
            n_visits,
        )
    doubt = airmass_doubt(table, table.meta.get("LATITUDE", float("nan")))
    if doubt is not None:
        _log.warning("%s", doubt)
    sources = describe_observations(values)
    table.meta[META_KEY] = sources.meta[META_KEY] = all_stages.to_meta()
    sources.meta["ABSENT"] = absent
    return SurveyTables(table, sources, bands, all_stages)


def _missing_of_observations(reader: Columns) -> list[str]:
    """Return what the table of observations does not say, leaving out what other columns make up for."""
    instead = {
        "instFlux": "instMag",
        "instFluxErr": "instMagErr",
        "instMag": "instFlux",
        "instMagErr": "instFluxErr",
        "innerFlux": "deltaMagAper",
        "outerFlux": "deltaMagAper",
    }
    missing = [name for name in reader.absent if instead.get(name, "") not in reader]
    if "innerFlux" in reader and "outerFlux" in reader:
        missing = [name for name in missing if name != "deltaMagAper"]
    return [name for name in missing if name not in ("innerFlux", "outerFlux")]


def _read_observations(
    table: RawTable,
    reader: Columns,
    columns: SurveyColumns,
    config: StarsFromTablesConfig,
    visits: SurveyVisits,
    on_progress: OnProgress | None,
) -> tuple[dict[str, list[np.ndarray]], Accounting]:
    """Return the observations that are used, in pieces, and what became of the others."""
    has_fluxes = _has_fluxes(reader, columns)
    brightness = ("instFlux", "instFluxErr") if has_fluxes else ("instMag", "instMagErr")
    reader.require("visit", "ra", "dec", *brightness)
    lacking = [name for name in columns.flags if name not in table.columns]
    if lacking:
        raise InvalidInputError(
            f"{table.path}: no column {', '.join(lacking)}, which the map gives as flags."
        )
    names = [*reader.names, *columns.flags]
    total, done = table.n_rows or 0, 0  # only reading tells of some
    accounting = Accounting()
    parts: dict[str, list[np.ndarray]] = {}
    unknown: Counter[int] = Counter()
    for piece in table.pieces(names, _PIECE):
        n = len(piece.get(names[0]))
        values, reasons = _observations_of(piece, n, reader, columns, config, visits, unknown)
        kept = len(values["ra"])
        accounting.add("sources", read=n, kept=kept, rejected=reasons, noted=_noted(values, reader, kept))
        for name, each in values.items():
            parts.setdefault(name, []).append(each)
        done += n
        if on_progress is not None:
            on_progress("observations read", done, max(done, total))
    if unknown:
        shown = ", ".join(map(str, sorted(unknown)[:8])) + (", ..." if len(unknown) > 8 else "")
        _log.warning(
            "%d observations are of visits that the table of visits does not have: %s.",
            unknown.total(),
            shown,
        )
    if "sources" not in accounting or accounting["sources"].kept == 0:
        told = accounting.lines()[0] if len(accounting) else "it has no rows"
        told += "." if len(accounting) == 0 else _advice(accounting["sources"].rejected)
        raise InvalidInputError(f"{table.path}: no observation can be used: {told}")
    return parts, accounting


def _advice(rejected: Mapping[str, int]) -> str:
    """Return the end of an error in which all observations were lost: what to look at, after most reasons."""
    hints = {
        "position": "Are ra and dec in degrees, or in the unit that the column map gives?",
        "no_visit": "Do both tables number the visits alike?",
        "flagged": "Are the flags of the column map true where an observation is bad?",
        "low_signal_to_noise": "Are the errors in the unit of the fluxes?",
        "high_signal_to_noise": "Are the errors in the unit of the fluxes?",
    }
    hint = hints.get(max(rejected, key=lambda reason: rejected[reason]))
    return f". {hint}" if hint else "."


def _has_fluxes(reader: Columns, columns: SurveyColumns) -> bool:
    """Return whether magnitudes are made of fluxes: always where there are some, unless the map asks for magnitudes."""
    asked = [name for name in ("instFlux", "instMag") if name in columns.observations]
    if len(asked) == 2:
        raise InvalidInputError("Column map: observations has instFlux and instMag; give one of them.")
    return "instMag" not in reader or ("instFlux" in reader and asked != ["instMag"])


def _noted(values: Mapping[str, np.ndarray], reader: Columns, kept: int) -> dict[str, int]:
    unknown = int(np.count_nonzero(values["deltaMagAper"] == np.float32(magnitudes.NO_DELTA)))
    return {
        "no_aperture_difference": unknown,
        "no_psf_candidate_flag": 0 if "psf_candidate" in reader else kept,
        "no_centroid": int(np.count_nonzero(~np.isfinite(values["x"] + values["y"]))),
    }


def _observations_of(
    piece: RawTable,
    n: int,
    reader: Columns,
    columns: SurveyColumns,
    config: StarsFromTablesConfig,
    visits: SurveyVisits,
    unknown: Counter[int],
) -> tuple[dict[str, np.ndarray], Counter[str]]:
    """Return the observations of a piece that are used, and the reasons why others are not; count unknown visits."""

    def get(name: str, default: float = np.nan) -> Any:
        return reader.get(piece, name, n) if name in reader else np.full(n, default)

    lowest, highest = config.signal_to_noise_limits
    kept = np.ones(n, np.bool_)
    reasons: Counter[str] = Counter()

    def require(reason: str, passed: BoolArray) -> None:
        reasons[reason] += int(np.count_nonzero(kept & ~passed))
        kept[:] &= passed

    for name in columns.flags:
        require("flagged", ~typed_column(piece, name, "b"))
    visit, known = get("visit"), visits["visit"]
    place = np.minimum(np.searchsorted(known, visit), len(known) - 1)
    require("no_visit", known[place] == visit)
    others, numbers = np.unique(visit[known[place] != visit], return_counts=True)
    unknown.update(
        {v: k for v, k in zip(others.tolist(), numbers.tolist(), strict=True) if v not in visits.left_out}
    )
    ra, dec = get("ra"), get("dec")
    require("position", np.isfinite(ra + dec) & ~LIMITS["ra"].wrong(ra) & ~LIMITS["dec"].wrong(dec))
    jacobian = get("jacobian", 1.0)
    mag, err = _magnitudes(get, reader, jacobian, visits["exptime"][place], config, columns, require)
    with np.errstate(divide="ignore", invalid="ignore"):
        signal_to_noise = magnitudes.MAG_PER_LN / err
        require("low_signal_to_noise", signal_to_noise > lowest)
        require("high_signal_to_noise", signal_to_noise < highest)
    delta = get("deltaMagAper", magnitudes.NO_DELTA)
    if "deltaMagAper" not in reader:
        delta = magnitudes.aperture_difference(get("innerFlux"), get("outerFlux"))
    values = {
        "ra": ra,
        "dec": dec,
        "x": get("x"),
        "y": get("y"),
        "psf_candidate": get("psf_candidate", 0).astype(np.bool_),
        "visit": visit,
        "ccd": get("detector", 0).astype(np.int32),
        "instMag": mag.astype(np.float32),
        "instMagErr": err.astype(np.float32),
        "jacobian": jacobian.astype(np.float32),
        "deltaMagBkg": get("deltaMagBkg", 0.0).astype(np.float32),
        "deltaMagAper": np.where(np.isfinite(delta), delta, magnitudes.NO_DELTA).astype(np.float32),
    }
    values = {name: each[kept] for name, each in values.items()}
    values["ra"], values["dec"] = np.deg2rad(values["ra"] % 360.0), np.deg2rad(values["dec"])
    return values, reasons


def _magnitudes(
    get: Callable[[str], FloatArray],
    reader: Columns,
    jacobian: FloatArray,
    exptime: FloatArray,
    config: StarsFromTablesConfig,
    columns: SurveyColumns,
    require: Callable[[str, BoolArray], None],
) -> tuple[FloatArray, FloatArray]:
    """Return magnitudes for one second, and their errors."""
    if not _has_fluxes(reader, columns):
        mag, err = get("instMag"), get("instMagErr")
        require("flux", np.isfinite(mag))
        require("flux_error", np.isfinite(err) & (err > 0))
        return mag, err
    flux, error = get("instFlux"), get("instFluxErr")
    require("flux", np.isfinite(flux) & (flux > 0))
    require("flux_error", np.isfinite(error) & (error > 0))
    mag = magnitudes.instrumental_magnitude(flux, exptime)
    if config.doApplyWcsJacobian and "jacobian" in reader:
        require("pixel_area", np.isfinite(jacobian) & (jacobian > 0))
        mag = mag + magnitudes.area_correction(jacobian)
    return mag, magnitudes.magnitude_error(flux, error)


def _in_order(parts: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """Return all observations in an order that does not depend on that of the table; the parts are let go."""
    values = {}
    for name in list(parts):
        values[name] = np.concatenate(parts.pop(name))
    order = np.lexsort([values[name] for name in ("instMag", "ra", "dec", "ccd", "visit")])
    for name in values:
        values[name] = values[name][order]
    return values


def _aperture_differences(observations: Mapping[str, np.ndarray]) -> FloatArray:
    """Return the median difference of aperture magnitudes of each visit that has observations; NaN if none has one."""
    starts = np.flatnonzero(np.diff(observations["visit"], prepend=-1))
    known = [
        each[each != np.float32(magnitudes.NO_DELTA)]
        for each in np.split(observations["deltaMagAper"], starts[1:])
    ]
    return np.array([np.median(each) if len(each) else np.nan for each in known])

"""The observations of a survey: the sources of all visits that are used, in one table."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from astropy.table import Column, Table

from zeropoint.association.tables import AnyTable
from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.accounting import META_KEY, Accounting
from zeropoint.fgcm.build_stars_config import FgcmBuildStarsConfigBase
from zeropoint.fgcm.checkpoints import Checkpoints
from zeropoint.fgcm.magnitudes import NO_DELTA, area_correction
from zeropoint.fgcm.progress import OnProgress
from zeropoint.fgcm.source_table import SourceReader
from zeropoint.fgcm.visits import VisitCatalog

__all__ = ["BYTES_PER_OBSERVATION", "Observations", "describe_observations", "gather_observations"]

_log = logging.getLogger(__name__)


#: Column -> type, unit and meaning, in order.
_COLUMNS: Mapping[str, tuple[str, str | None, str]] = {
    "ra": ("f8", "rad", "Right ascension, ICRS"),
    "dec": ("f8", "rad", "Declination, ICRS"),
    "x": ("f8", "pixel", "Centroid, x"),
    "y": ("f8", "pixel", "Centroid, y"),
    "psf_candidate": ("?", None, "Whether it was a candidate for the PSF"),
    "visit": ("i8", None, "Visit"),
    "ccd": ("i4", None, "Detector"),
    "instMag": ("f4", "mag", "Instrumental magnitude for one second"),
    "instMagErr": ("f4", "mag", "Its error"),
    "jacobian": ("f4", None, "Relative area of the pixel on the sky, whether or not it was applied"),
    "deltaMagBkg": (
        "f4",
        "mag",
        "Magnitude without the local background minus that with it; 0 if not wanted",
    ),
    "deltaMagAper": ("f4", "mag", "Magnitude in the inner aperture minus that in the outer; 99 if unknown"),
}
#: Memory of the table for each observation.
BYTES_PER_OBSERVATION = sum(np.dtype(dtype).itemsize for dtype, _, _ in _COLUMNS.values())


@dataclass(frozen=True)
class Observations:
    """The observations of a survey.

    Parameters
    ----------
    table
        ``fgcmStarObservations``: by visit, and within a visit in the order of its table.
    visits
        The visits, with what was found while their sources were read.
    accounting
        Stage ``sources``.
    """

    table: Table
    visits: VisitCatalog
    accounting: Accounting


@dataclass
class _Part:
    """Some visits that follow each other: their observations, and what was found."""

    columns: dict[str, np.ndarray]
    visits: list[int] = field(default_factory=list)
    delta_aper: list[float] = field(default_factory=list)
    accounting: Accounting = field(default_factory=Accounting)

    def to_meta(self) -> dict[str, Any]:
        return {
            "visits": self.visits,
            "delta_aper": self.delta_aper,
            "accounting": self.accounting.to_meta(),
        }

    @classmethod
    def from_meta(cls, columns: dict[str, np.ndarray], meta: Mapping[str, Any]) -> _Part:
        return cls(
            columns, list(meta["visits"]), list(meta["delta_aper"]), Accounting.from_meta(meta["accounting"])
        )


def gather_observations(
    tables: Mapping[int, AnyTable],
    visits: VisitCatalog,
    focal_plane: FocalPlane,
    config: FgcmBuildStarsConfigBase,
    *,
    reader: SourceReader | None = None,
    checkpoints: Checkpoints | None = None,
    on_progress: OnProgress | None = None,
) -> Observations:
    """Read the sources of all visits, one visit after the other, and keep those that are used.

    Parameters
    ----------
    tables
        Visit -> its table of sources, or a reader of that.
    visits
        Visits that are used; each has a table.
    focal_plane
        The camera: relative areas of pixels, and which detectors there are.
    config
        Names of columns, and what is wanted.
    reader
        Reads and selects sources; None: as the configuration says.
    checkpoints
        Where parts of ``config.nVisitsPerCheckpoint`` visits are kept for a run that goes on; None: nowhere.
    on_progress
        Told of the visits read.

    Raises
    ------
    InvalidInputError
        If a table cannot be used, or no source of any visit is selected.

    Notes
    -----
    Besides the result, `BYTES_PER_OBSERVATION` for each, memory holds one part (on disk with checkpoints: none), and the
    columns needed of one visit's table.
    """
    reader = SourceReader(config) if reader is None else reader
    order = visits.visits.tolist()
    parts = list(_saved(checkpoints, order))
    done = sum(len(part.visits) for part in parts)
    if done:
        _log.info("Went on from a checkpoint: %d of %d visits had been read.", done, len(order))
    step = config.nVisitsPerCheckpoint
    scaling = _scaling(visits)
    while done < len(order):
        some = order[done : done + step]
        part = _read_part(
            some, tables, visits, scaling, reader, lambda n: _report(on_progress, n, order), done
        )
        _apply_areas(part.columns, focal_plane, config)
        if checkpoints is not None:
            try:
                part.columns = checkpoints.save(len(parts), part.columns, part.to_meta())[0]
            except OSError as error:
                _log.warning(
                    "There are no more checkpoints, for %s cannot be written: %s.",
                    checkpoints.directory,
                    error,
                )
                checkpoints = None
        parts.append(part)
        done += len(some)
        _log.info("Read %d of %d visits.", done, len(order))
    return _joined(parts, visits)


def _report(on_progress: OnProgress | None, done: int, order: Sequence[int]) -> None:
    if on_progress is not None:
        on_progress("source tables", done, len(order))


def _saved(checkpoints: Checkpoints | None, order: Sequence[int]) -> Iterator[_Part]:
    """Return the parts that an earlier run saved, as long as their visits are those that are wanted next."""
    begin = 0
    for columns, meta in checkpoints.parts() if checkpoints is not None else ():
        part = _Part.from_meta(columns, meta)
        if part.visits != list(order[begin : begin + len(part.visits)]):
            return
        begin += len(part.visits)
        yield part


def _scaling(visits: VisitCatalog) -> dict[int, dict[int, float]]:
    """Return visit -> detector -> factor on fluxes."""
    detectors = visits.detectors.tolist()
    values = np.asarray(visits.table["scaling"], np.float64).tolist()
    return {visit: dict(zip(detectors, row)) for visit, row in zip(visits.visits.tolist(), values)}


def _read_part(
    some: Sequence[int],
    tables: Mapping[int, AnyTable],
    visits: VisitCatalog,
    scaling: Mapping[int, Mapping[int, float]],
    reader: SourceReader,
    report: Callable[[int], None],
    done: int,
) -> _Part:
    """Return the observations of some visits."""
    times = dict(zip(visits.visits.tolist(), np.asarray(visits.table["exptime"], np.float64).tolist()))
    gathered: dict[str, list[np.ndarray]] = {name: [] for name in _COLUMNS}
    part = _Part({}, list(some))
    for number, visit in enumerate(some):
        one = reader.read(visit, tables[visit], exposure_time=times[visit], scaling=scaling[visit])
        for name, values in one.columns.items():
            gathered[name].append(values)
        part.delta_aper.append(one.delta_aper)
        n_unknown = int(np.count_nonzero(one.columns["deltaMagAper"] == NO_DELTA))
        noted = {
            "no_aperture_difference": n_unknown,
            "no_psf_candidate_flag": 0 if one.has_candidates else one.n_kept,
        }
        part.accounting.add("sources", read=one.n_read, kept=one.n_kept, rejected=one.rejected, noted=noted)
        report(done + number + 1)
    for name, (dtype, _, _) in _COLUMNS.items():
        if name != "jacobian":
            whole = np.concatenate(gathered.pop(name))
            # bits of booleans cannot be viewed in a file
            part.columns[name] = whole.astype("u1" if dtype == "?" else dtype, copy=False)
    return part


def _apply_areas(
    columns: dict[str, np.ndarray], focal_plane: FocalPlane, config: FgcmBuildStarsConfigBase
) -> None:
    """Add the relative areas of pixels to the columns and, if wanted, correct magnitudes for them, in place."""
    area = focal_plane.relative_area(columns["ccd"], columns["x"], columns["y"])
    if config.doApplyWcsJacobian:
        if len(area) and not (area > 0).all():
            detector = columns["ccd"][~(area > 0)][0]
            raise InvalidInputError(
                f"The relative pixel area of detector {detector} is not positive everywhere; set doApplyWcsJacobian=False, "
                "or correct the camera model."
            )
        columns["instMag"] = (columns["instMag"] + area_correction(area)).astype(np.float32)
    columns["jacobian"] = area.astype(np.float32)


def _joined(parts: list[_Part], visits: VisitCatalog) -> Observations:
    """Return the observations of all parts, whose columns are let go one after the other."""
    accounting = Accounting()
    delta_aper: dict[int, float] = {}
    for part in parts:
        accounting.merge(part.accounting)
        delta_aper.update(zip(part.visits, part.delta_aper))
    accounting.check()
    for line in accounting.lines():
        _log.info("%s", line)
    if accounting["sources"].kept == 0:
        remedy = "sourceSelector or instFluxField"
        if accounting["sources"].rejected["detector_not_chosen"]:
            # sources that nothing else was wrong with
            remedy = f"detectors: sources are on {visits.detectors.min()} to {visits.detectors.max()}"
        raise InvalidInputError(
            f"No source of {len(visits)} visits is selected: {accounting.lines()[0]}. Correct {remedy}."
        )
    values = {name: np.concatenate([part.columns.pop(name) for part in parts]) for name in _COLUMNS}
    table = describe_observations(values)
    table.meta[META_KEY] = accounting.to_meta()
    return Observations(table, visits.with_sources(delta_aper), accounting)


def describe_observations(values: Mapping[str, np.ndarray]) -> Table:
    """Return a table of observations in their types, with units and descriptions.

    Parameters
    ----------
    values
        Column of ``fgcmStarObservations`` -> its values; in any order, all of them.
    """
    table = Table()
    for name, (dtype, unit, text) in _COLUMNS.items():
        data = np.asarray(values[name])
        data = (
            data.view(np.bool_) if dtype == "?" and data.dtype == np.uint8 else data.astype(dtype, copy=False)
        )
        table.add_column(Column(data, name, unit=unit, description=text, copy=False), copy=False)
    return table

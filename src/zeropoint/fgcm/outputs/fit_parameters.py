"""The tables a cycle hands to the next: ``fgcm_Cycle{N}_FitParameters`` and ``fgcm_Cycle{N}_FlaggedStars``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import reduce
from typing import Any

import numpy as np
from astropy.table import Column, Table

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.cycle_state import (
    BandState,
    CycleState,
    EpsilonMaps,
    ExposureState,
    FlaggedStars,
    InstrumentState,
)
from zeropoint.fgcm.model.parameters import FitParameters
from zeropoint.fgcm.outputs.fit_parameter_columns import COLUMNS, SIGMA_PATHS, UNIT_COLUMNS, ParameterColumn

__all__ = ["state_from_tables", "state_to_tables"]

#: Attribute of a state -> its class.
_PARTS: Mapping[str, type] = {
    "exposures": ExposureState,
    "instrument": InstrumentState,
    "band": BandState,
    "epsilon_maps": EpsilonMaps,
}
#: Key of the metadata -> attribute of a state.
_NAMES = {
    "BANDS": "bands",
    "FIT_BANDS": "fit_bands",
    "PHYSICAL_FILTERS": "physical_filters",
    "DETECTORS": "detectors",
    "FILTER_BANDS": "filter_bands",
}
#: In the column ``superstar``, as of fgcm: the constant of a detector without a flat.
_NO_FLAT = 100.0
#: Columns of fgcm for what ``compModelErrPivots`` has in one: part of the name, unit and meaning.
_ERROR_PIVOTS = (("Exptime", "s", "exposure time"), ("Fwhm", "arcsec", "seeing"), ("Sky", "ct", "sky"))


def state_to_tables(state: CycleState) -> tuple[Table, Table]:
    """Return the tables of a state.

    Parameters
    ----------
    state
        After a cycle.

    Returns
    -------
    parameters, flagged_stars
        ``fgcm_Cycle{N}_FitParameters`` (one row; arrays flattened in C order) and ``fgcm_Cycle{N}_FlaggedStars``.
    """
    sizes: dict[str, int] = {}
    columns = [_array_column(state, spec, "", sizes) for spec in COLUMNS]
    if state.parameter_sigmas is not None:
        columns += [
            _array_column(state.parameter_sigmas, spec, spec.path.removeprefix("parameters."), sizes)
            for spec in SIGMA_PATHS
        ]
    table = Table([*_plain_columns(state), *columns])
    table.meta = {
        "CYCLE": state.cycle,
        **{key: list(getattr(state, name)) for key, name in _NAMES.items()},
        "SIZES": sizes,
        "HAS_ERRORS": state.parameter_sigmas is not None,
    }
    flagged = Table(
        [
            Column(state.flagged_stars.fgcm_id, "objId", np.int64, description="Number of the star"),
            Column(state.flagged_stars.flag, "objFlag", np.int32, description="Why it is flagged"),
        ]
    )
    flagged.meta = {"CYCLE": state.cycle}
    return table, flagged


def state_from_tables(parameters: Table, flagged_stars: Table) -> CycleState:
    """Return the state that `state_to_tables` wrote.

    Parameters
    ----------
    parameters, flagged_stars
        ``fgcm_Cycle{N}_FitParameters`` and ``fgcm_Cycle{N}_FlaggedStars`` of one cycle.

    Raises
    ------
    InvalidInputError
        If a column or key is missing, or the tables are of different cycles.
    """
    meta = parameters.meta
    absent = sorted({"CYCLE", "SIZES", "HAS_ERRORS", *_NAMES} - set(meta))
    missing = [spec.name for spec in COLUMNS if spec.name not in parameters.colnames]
    if absent or missing or len(parameters) != 1:
        raise InvalidInputError(
            f"FitParameters has {len(parameters)} rows"
            + "".join(f", no {what}" for what in (*absent, *missing)[:5])
            + "; give the table of a cycle as it was written, or begin with cycle 0."
        )
    if flagged_stars.meta.get("CYCLE", meta["CYCLE"]) != meta["CYCLE"]:
        raise InvalidInputError(
            f"FitParameters is of cycle {meta['CYCLE']} and FlaggedStars of cycle {flagged_stars.meta['CYCLE']}; give those of "
            "one cycle."
        )
    values = {spec.path: _array(parameters, spec.name, spec, meta["SIZES"]) for spec in COLUMNS}
    sigmas = None
    if meta["HAS_ERRORS"]:
        errors = {
            spec.path: _array(parameters, _sigma_name(spec), spec, meta["SIZES"]) for spec in SIGMA_PATHS
        }
        sigmas = _part(FitParameters, "parameters", {**values, **errors})
    names = {name: tuple(meta[key]) for key, name in _NAMES.items()}
    parts = {name: _part(of, name, values) for name, of in _PARTS.items()}
    own = {name: values[name] for name in ("night_numbers", "wash_mjds", "epoch_mjds", "coating_mjds")}
    rest: dict[str, Any] = {**names, **parts, **own}
    return CycleState(
        cycle=int(meta["CYCLE"]),
        parameters=_part(FitParameters, "parameters", values),
        parameter_sigmas=sigmas,
        flagged_stars=FlaggedStars(
            np.asarray(flagged_stars["objId"]).astype(np.int64),
            np.asarray(flagged_stars["objFlag"]).astype(np.int32),
        ),
        **rest,
    )


def _plain_columns(state: CycleState) -> list[Column]:
    """Return the columns that are no arrays of the state: names, and what readers of the table expect besides."""
    parameters = state.parameters
    flat = state.instrument.superstar_shape * 10.0 ** (-0.4 * parameters.superstar[..., None, None])
    flat[..., 0, 0] = np.where(np.isfinite(flat[..., 0, 0]), flat[..., 0, 0], _NO_FLAT)
    n_epoch, n_filter, n_det, n_y, n_x = flat.shape
    sigmas = state.parameter_sigmas
    free = np.isfinite(sigmas.filter_offset) if sigmas is not None else np.zeros(n_filter, bool)
    values: list[tuple[str, Any, str | None, str]] = [
        ("nCcd", np.int32(n_det), None, "Detectors"),
        ("lutFilterNames", ",".join(state.physical_filters), None, "Physical filters"),
        ("fitBands", ",".join(state.fit_bands), None, "Bands of the fit"),
        *((name, 1.0, None, "Not used: 1") for name in UNIT_COLUMNS),
        ("hasExternalPwv", np.int32(0), None, "Whether water vapor was given"),
        ("hasExternalTau", np.int32(0), None, "Whether the aerosols' depth was given"),
        ("parFilterOffsetFitFlag", free.astype(np.int32), None, "Whether the filter's offset is fitted"),
        ("compAbsThroughput", 10.0 ** (0.4 * parameters.abs_offset), None, "Absolute throughput of the band"),
        *(
            (f"compModelErr{name}Pivot", state.band.error_pivot[:, k], unit, f"Pivot of the error model: {text}")
            for k, (name, unit, text) in enumerate(_ERROR_PIVOTS)
        ),
        ("compRetrievedTauNight", np.full(len(state.night_numbers), np.nan), None, "Not retrieved: NaN for each night"),
        ("epochMjdEnd", np.append(state.epoch_mjds[1:], np.inf), "d", "End of the epochs, MJD"),
        ("superstarSize", np.array([n_epoch, n_filter, n_det, n_y * n_x], np.int32), None, "Shape of superstar"),
        ("superstar", flat.astype(np.float32).ravel(), None, "Superstar flat in flux: Chebyshev coefficients, y first"),
    ]  # fmt: skip
    return [Column([value], name, unit=unit, description=text) for name, value, unit, text in values]


def _array_column(of: Any, spec: ParameterColumn, path: str, sizes: dict[str, int]) -> Column:
    """Return the column of an array, and add the sizes of its axes."""
    found = reduce(getattr, (path or spec.path).split("."), of)
    values = np.asarray(np.full(sizes[spec.axes[0]], np.nan) if found is None else found, spec.dtype)
    if values.ndim != len(spec.axes):
        raise ValueError(f"{spec.name} has {values.ndim} axes, not {spec.axes}.")
    for axis, size in zip(spec.axes, values.shape):
        if sizes.setdefault(axis, size) != size:
            raise ValueError(f"{spec.name} has {size} along {axis}, others have {sizes[axis]}.")
    flat = (values.T if spec.reversed_axes else values).ravel()
    # a list of fixed size has one element or more
    row = (flat if flat.size else np.zeros(1, spec.dtype)).reshape(1, -1)
    data = row[:, 0] if values.ndim == 0 else row
    name = _sigma_name(spec) if path else spec.name
    text = f"Posterior error of {spec.name}; NaN: it is fixed" if path else spec.text
    return Column(data, name, unit=spec.unit, description=text)


def _sigma_name(spec: ParameterColumn) -> str:
    """Return the name of the column of a parameter's errors."""
    bare = spec.name.removeprefix("par").removeprefix("comp")
    return f"err{bare[0].upper()}{bare[1:]}"


def _array(table: Table, name: str, spec: ParameterColumn, sizes: Mapping[str, int]) -> Any:
    """Return an array of a state from its column."""
    shape = tuple(int(sizes[axis]) for axis in spec.axes)
    if name not in table.colnames:
        raise InvalidInputError(f"FitParameters has no {name}; give the table of a cycle as it was written.")
    values = np.asarray(table[name])[0].astype(spec.dtype)
    if not shape:
        return np.asarray(values).reshape(())
    n = int(np.prod(shape))
    if values.size != max(n, 1):
        raise InvalidInputError(
            f"FitParameters: {name} has {values.size} values instead of {n} ({spec.axes})."
        )
    flat = np.ravel(values)[:n]
    return flat.reshape(shape[::-1]).T.copy() if spec.reversed_axes else flat.reshape(shape)


def _part(of: type, name: str, values: Mapping[str, Any]) -> Any:
    """Return a part of the state from the arrays by path; what may be absent is if it has no number."""
    arrays = {each.name: values[f"{name}.{each.name}"] for each in fields(of)}
    if np.isnan(arrays.get("retrieved_ln_pwv", np.zeros(1))).all() and of is FitParameters:
        arrays["retrieved_ln_pwv"] = None
    return of(**arrays)

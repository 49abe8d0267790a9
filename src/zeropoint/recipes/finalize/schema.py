"""Columns that final characterization takes over from the sources of a detector, and those that it adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from astropy.table import Table

from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog, column
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.errors import InvalidInputError
from zeropoint.recipes.characterized_file import schema_from_arrow

__all__ = [
    "PSF_FLAGS",
    "SchemaMapper",
    "Sources",
    "input_schema",
    "output_schema_mapper",
    "selection_schema_mapper",
]

_KINDS = {"<i8": "i8", "<i4": "i4", "<f8": "f8", "<f4": "f4", "|b1": "bool"}
_MINIMAL = ("id", "coord_ra", "coord_dec", "parent")
_SLOTS = ("slot_Centroid", "slot_ApFlux", "slot_CalibFlux")
#: Parts of the centroid that measurements look at.
_CENTROID = ("x", "y", "xErr", "yErr", "flag")

#: Flags of the output, all unset at first.
PSF_FLAGS = (
    ColumnSpec("calib_psf_candidate", "bool", "", "Set if the source was a candidate for the PSF."),
    ColumnSpec(
        "calib_psf_reserved",
        "bool",
        "",
        "Set if the source was reserved: not used in the fit, kept to judge it.",
    ),
    ColumnSpec("calib_psf_used", "bool", "", "Set if the source shaped the PSF model."),
)
_SELECTION = (
    ColumnSpec("psf_color_value", "f4", "mag", "colour that the PSF model was given; NaN if none"),
    ColumnSpec("psf_color_type", "str10", "", "bands of this colour"),
    ColumnSpec("psf_max_value", "f4", "count", "largest value of the candidate's stamp"),
)


@dataclass(frozen=True)
class Sources:
    """The sources of one detector: all of them, for all footprints hide neighbors.

    Parameters
    ----------
    table
        Columns, as CalibrateImage or Calibrate writes them.
    footprints
        One footprint a row.
    """

    table: Table | pa.Table | SourceCatalog
    footprints: FootprintSet

    @classmethod
    def matched(cls, table: Table | pa.Table, ids: np.ndarray, footprints: FootprintSet) -> Sources:
        """Return a table with the footprints of its rows, whatever their order.

        Raises
        ------
        InvalidInputError
            If an id occurs twice in the table, or a row has no footprint.
        """
        own = np.asarray(column(table, "id"))
        if len(np.unique(own)) != len(own):
            values, counts = np.unique(own, return_counts=True)
            raise InvalidInputError(
                f"The source id {values[counts > 1][0]} occurs twice in the table of sources."
            )
        order = np.argsort(ids, kind="stable")
        place = np.minimum(np.searchsorted(ids[order], own), max(len(ids) - 1, 0))
        found = ids[order][place] == own if len(ids) else np.zeros(len(own), np.bool_)
        if not found.all():
            raise InvalidInputError(
                f"{int(np.count_nonzero(~found))} of {len(own)} sources have no footprint, e.g. that of id "
                f"{own[~found][0]}; table and footprints are not of the same image."
            )
        return cls(table, footprints.take(order[place]))

    @property
    def ids(self) -> np.ndarray:
        """Source ids, int64."""
        return np.asarray(column(self.table, "id"), np.int64)

    def __len__(self) -> int:
        return len(self.table)


@dataclass(frozen=True)
class SchemaMapper:
    """Which columns of an input go into an output, and under which names.

    Parameters
    ----------
    schema
        Columns of the output.
    mapping
        Output column -> input column; others are unset.
    """

    schema: Schema
    mapping: Mapping[str, str]

    def getOutputSchema(self) -> Schema:
        """Return the schema of the output."""
        return self.schema

    def rows(self, sources: Sources, rows: np.ndarray, schema: Schema | None = None) -> SourceCatalog:
        """Return some rows of the sources as a catalogue with footprints.

        Parameters
        ----------
        sources
            Input.
        rows : int64, shape (n,)
            Rows wanted.
        schema
            The output's schema, if more columns have been added to it since.
        """
        schema = self.schema if schema is None else schema
        result = SourceCatalog(schema, len(rows), footprints=sources.footprints.take(rows))
        for name, source in self.mapping.items():
            result[name] = column(sources.table, source)[rows]
        return result


def input_schema(table: Table | pa.Table | SourceCatalog) -> Schema:
    """Return the schema of a table of sources, with the slots as other names of what they stand for.

    Tables hold slots as columns of their own, each behind the column that it repeats. Columns of other types than
    numbers and flags are left out.
    """
    if isinstance(table, SourceCatalog):
        return table.schema.copy()
    if isinstance(table, pa.Table):
        flat = schema_from_arrow(table.schema)
    else:
        flat = Schema()
        for name in table.colnames:
            one = table[name]
            kind = _KINDS.get(one.dtype.str)
            if kind is not None and one.ndim == 1:
                flat.add(
                    ColumnSpec(name, kind, "" if one.unit is None else str(one.unit), one.description or "")
                )
    result, targets = Schema(), _slot_targets(list(flat.columns))
    for spec in flat:
        if not any(spec.name.startswith(f"{slot}_") for slot in targets):
            result.add(spec)
    for slot, target in targets.items():
        result.alias(slot, target)
    return result


def output_schema_mapper(
    schema: Schema, *, selection_flux: tuple[str, str] | None, further: Sequence[ColumnSpec]
) -> SchemaMapper:
    """Return what goes from the sources into the table of final characterization.

    Parameters
    ----------
    schema
        Of the sources.
    selection_flux
        The flux by which sources were selected, and its error; None if the selector has none.
    further
        Columns that the configuration asks for.
    """
    output = Schema()
    mapping: dict[str, str] = {}

    def take(name: str, target: str | None = None, doc: str = "") -> None:
        spec = schema.columns[schema.resolve(name)]
        output.add(ColumnSpec(target or spec.name, spec.dtype, spec.unit, doc or spec.doc))
        mapping[target or spec.name] = spec.name

    _require(schema, (*_MINIMAL, "slot_Centroid_x", "slot_Centroid_y", "slot_Centroid_flag"))
    for name in _MINIMAL:
        take(name)
    for part in _CENTROID:
        if f"slot_Centroid_{part}" in schema:
            take(f"slot_Centroid_{part}")
    fluxes = ("base_CircularApertureFlux_", *(schema.resolve(slot) + "_" for slot in _SLOTS[1:]))
    for name in schema.columns:
        if name.startswith(fluxes):
            take(name)
    if selection_flux is not None:
        _require(schema, selection_flux)
        for name, suffix in zip(selection_flux, ("", "_err")):
            take(name, f"calib_psf_selection_flux{suffix}", f"the {name} by which the source was selected")
    for slot in _SLOTS:
        if slot in schema.aliases:
            output.alias(slot, schema.aliases[slot])
    output.add(
        *PSF_FLAGS,
        ColumnSpec("visit", "i8", "", "visit"),
        ColumnSpec("detector", "i4", "", "detector"),
        *_SELECTION,
        *further,
    )
    return SchemaMapper(output, mapping)


def selection_schema_mapper(schema: Schema) -> SchemaMapper:
    """Return what the selection of candidates sees: all columns of the sources, and those of `PsfCandidates`."""
    replaced = {spec.name for spec in (*_SELECTION, *PSF_FLAGS)}
    output = Schema(aliases=dict(schema.aliases))
    kept = [spec for spec in schema if spec.name not in replaced]
    output.add(*kept, *PSF_FLAGS, *_SELECTION)
    return SchemaMapper(output, {spec.name: spec.name for spec in kept})


def _require(schema: Schema, names: Sequence[str]) -> None:
    missing = [name for name in names if name not in schema]
    if missing:
        raise InvalidInputError(f"The table of sources has no column {', '.join(missing)}.")


def _slot_targets(names: Sequence[str]) -> dict[str, str]:
    """Return slot -> prefix of the columns that its columns follow; only slots that all agree on one."""
    found: dict[str, set[str]] = {}
    last = ""
    for name in names:
        if not name.startswith("slot_"):
            last = name
            continue
        slot, suffix = "_".join(name.split("_")[:2]), name.split("_", 2)[2:]
        ending = f"_{suffix[0]}" if suffix else ""
        target = last.removesuffix(ending) if last.endswith(ending) else ""
        found.setdefault(slot, set()).add(target)
    return {slot: targets.pop() for slot, targets in found.items() if len(targets) == 1 and "" not in targets}

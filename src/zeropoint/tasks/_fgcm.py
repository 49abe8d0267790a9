"""What the tasks of the global calibration have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
from astropy.table import Table

from zeropoint.association.tables import AnyTable
from zeropoint.butler.throughputs import static_calibrations
from zeropoint.datamodel.arrow import arrow_to_table
from zeropoint.fgcm.accounting import Accounting
from zeropoint.fgcm.lut import LookUpTable
from zeropoint.fgcm.references import References
from zeropoint.tasks._references import survey_references
from zeropoint.tasks._tables import HandleTable, is_handle

__all__ = [
    "INSTRUMENT",
    "camera_model",
    "handle_table",
    "left_out",
    "look_up_table",
    "look_up_table_header",
    "reference_input",
    "report",
    "require_cycle_number",
    "stored_table",
    "struct_of",
    "summaries_of_visits",
    "survey_table",
    "whole_look_up_table",
]

#: Dimensions of what there is once for a survey.
INSTRUMENT = ("instrument",)


def camera_model(
    doc: str = "Camera model, from which the relative areas of pixels come.",
) -> cT.PrerequisiteInput:
    """Return the connection to the camera model, if there is one.

    Parameters
    ----------
    doc
        What it is for.
    """
    return cT.PrerequisiteInput(
        doc=doc,
        name="camera",
        storageClass="ZpCamera",
        dimensions=INSTRUMENT,
        isCalibration=True,
        lookupFunction=static_calibrations,
        # most cameras have a card and no model: WCSs of the visits then show where detectors lie
        minimum=0,
    )


def look_up_table() -> cT.PrerequisiteInput:
    """Return the connection to the look-up table that a star list needs for its references."""
    return cT.PrerequisiteInput(
        doc="Look-up table, whose header says which filter is the standard one of each band.",
        name="fgcmLookUpTable",
        storageClass="ArrowAstropy",
        dimensions=INSTRUMENT,
        deferLoad=True,
    )


def summaries_of_visits() -> cT.Input:
    """Return the connection to the summaries of visits, which some visits may lack."""
    return cT.Input(
        doc="Summary of each visit.",
        name="visitSummary",
        storageClass="ArrowTable",
        dimensions=("instrument", "visit"),
        deferLoad=True,
        multiple=True,
        # a visit without one is left out by the task, which counts it, or its sources
        deferGraphConstraint=True,
    )


def survey_table(name: str, doc: str) -> cT.Output:
    """Return a connection to a table that is written once for a survey.

    Parameters
    ----------
    name
        Default dataset type.
    doc
        What it is.
    """
    return cT.Output(doc=doc, name=name, storageClass="ArrowAstropy", dimensions=INSTRUMENT)


def handle_table(table: Any) -> AnyTable:
    """Return a table, or what reads the columns of the table behind a handle."""
    return HandleTable(table) if is_handle(table) else table


def reference_input(name: str, shards: Sequence[Any], look_up_table: Any) -> References:
    """Return where the reference stars of a survey come from.

    Parameters
    ----------
    name
        Dataset type of the reference catalogue.
    shards
        Its shards, deferred.
    look_up_table : handle or zeropoint.fgcm.lut.LookUpTable
        Of a handle's table the header is read alone.

    Raises
    ------
    NoReferenceSourcesError
        If there is no shard.
    """
    return References(survey_references(name, shards), name, look_up_table_header(look_up_table))


def look_up_table_header(table: Any) -> LookUpTable:
    """Return a look-up table of which the header may be all that there is.

    Parameters
    ----------
    table : handle or zeropoint.fgcm.lut.LookUpTable
        Of a handle's table the header is read alone.
    """
    if not is_handle(table):
        assert isinstance(table, LookUpTable)
        return table
    header = HandleTable(table)
    return LookUpTable.from_arrow(header.read([name for name in header.column_names if name != "lut"]))


def whole_look_up_table(table: Any) -> LookUpTable:
    """Return a look-up table with its integrals.

    Parameters
    ----------
    table : handle or zeropoint.fgcm.lut.LookUpTable
        The table, or a handle of it.
    """
    if not is_handle(table):
        assert isinstance(table, LookUpTable)
        return table
    return LookUpTable.from_arrow(HandleTable(table).read(HandleTable(table).column_names))


@overload
def stored_table(table: None) -> None: ...
@overload
def stored_table(table: Any) -> Table: ...
def stored_table(table: Any) -> Table | None:
    """Return a whole table with its metadata, or the table behind a handle; None stays None.

    Parameters
    ----------
    table
        Handle of a dataset of tables, or an astropy table.
    """
    if table is None or isinstance(table, Table):
        return table
    # unless told not to, the Butler leaves out what belongs to the table as a whole
    parameters = {"strip_astropy_meta_yaml": False}
    return arrow_to_table(table.get(parameters=parameters, storageClass="ArrowTable"))


def require_cycle_number(config: Any) -> None:
    """Check that the template ``cycleNumber`` of a task's connections is a whole number.

    Parameters
    ----------
    config
        Configuration of the task.

    Raises
    ------
    ValueError
        If it is not.
    """
    number = str(config.connections.cycleNumber)
    if not number.isdecimal() or str(int(number)) != number:
        raise ValueError(f"connections.cycleNumber must be a whole number written as text, not {number!r}.")


def struct_of(tables: Mapping[str, Table | None]) -> pipeBase.Struct:
    """Return outputs by the names of their connections, without those that were not made (None)."""
    return pipeBase.Struct(**{name: table for name, table in tables.items() if table is not None})


def left_out(what: str, rejected: Mapping[str, int]) -> list[str]:
    """Return a sentence for each reason for which some of ``what`` are not used.

    Parameters
    ----------
    what
        One of them.
    rejected
        Reason -> how many are not used for it.
    """
    return [
        f"{number} {what} is left out ({reason})."
        if number == 1
        else f"{number} {what}s are left out ({reason})."
        for reason, number in sorted(rejected.items())
    ]


def report(
    task: pipeBase.Task, accounting: Accounting, notes: Sequence[str], logged: Sequence[str] = ()
) -> None:
    """Keep in a task's metadata what became of what was read, and say in its log what deserves a look.

    Parameters
    ----------
    task
        The task.
    accounting
        What every stage read, kept and rejected.
    notes
        Sentences for the user, which the report of `zeropoint run` shows too.
    logged
        More of them, which the log has already.
    """
    for note in notes:
        task.log.warning("%s", note)
    task.metadata["accounting"] = accounting.to_meta()
    if notes or logged:
        task.metadata["note"] = " ".join([*notes, *logged])

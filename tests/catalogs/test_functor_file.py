"""Functor files: the language, and where they are found."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from zeropoint.catalogs.functor_file import FunctorFile, functor_file_path
from zeropoint.errors import InvalidInputError

# written as users of the Science Pipelines write them
THEIRS = """
funcs:
    sourceId:
        functor: Column
        args: id
    ra:
        functor: RAColumn
    # comments everywhere
    psfFlux:
        functor: LocalNanojansky
        args:
            - slot_PsfFlux_instFlux
            - slot_PsfFlux_instFluxErr
            - base_LocalPhotoCalib
            - base_LocalPhotoCalibErr
flags:
   - base_ClassificationExtendedness_flag
   - base_PixelFlags_flag_bad
   - ext_photometryKron_KronFlux_flag
   - detect_isPrimary
flag_rename_rules:
    - ['base_PixelFlags_flag', 'pixelFlags']
    - ['base_ClassificationE', 'base_e']
    - ['ext_photometryKron_', '']
    - ['base_', '']
    - ['slot_', '']
"""


def test_a_file_of_theirs_gives_its_columns_in_order() -> None:
    file = FunctorFile.from_text(THEIRS)
    assert list(file.functors) == [
        *("sourceId", "ra", "psfFlux"),
        # the second rule's result is what the fourth works on
        *("extendedness_flag", "pixelFlags_bad", "KronFlux_flag", "detect_isPrimary"),
    ]
    assert file.inputs == (
        *("id", "coord_ra", "slot_PsfFlux_instFlux", "base_LocalPhotoCalib"),
        *("base_ClassificationExtendedness_flag", "base_PixelFlags_flag_bad"),
        *("ext_photometryKron_KronFlux_flag", "detect_isPrimary"),
    )


def test_a_missing_column_is_an_error_that_names_it_and_its_output() -> None:
    file = FunctorFile.from_text(THEIRS, "theirs.yaml")
    with pytest.raises(InvalidInputError, match=r"theirs.yaml: the table has no column coord_ra \(of ra\)\."):
        file.available(set(file.inputs) - {"coord_ra"})


def test_optional_outputs_are_left_out_where_any_of_their_inputs_is_missing() -> None:
    content = yaml.safe_load(THEIRS) | {"optional": ["KronFlux_*", "psfFlux"]}
    file = FunctorFile.from_text(yaml.safe_dump(content))
    without = set(file.inputs) - {"ext_photometryKron_KronFlux_flag", "base_LocalPhotoCalib"}
    assert set(file.functors) - set(file.available(without).functors) == {"KronFlux_flag", "psfFlux"}
    assert file.available(file.inputs) == file
    with pytest.raises(InvalidInputError, match="coord_ra"):
        file.available(without - {"coord_ra"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("funcs: [a", "is no YAML"),
        ("- a\n- b", "must be a mapping 'funcs'"),
        ("funcs: {}", "names no column"),
        ("flags: a", "'flags' must be a list"),
        ("flags: [a_b]\nflag_rename_rules: [[a]]", r"list of \[prefix, replacement\]"),
        ("flags: [a_b]\nflag_rename_rules: [['', c]]", r"list of \[prefix, replacement\]"),
        (
            "funcs: {a: {functor: Column, args: b}}\nflags: [x_a]\nflag_rename_rules: [[x_, '']]",
            "'a' is made twice",
        ),
        ("funcs: {a: {functor: Column, args: b}}\nrefFlags: [c]", "'refFlags' belongs to object tables"),
        ("funcs: {a: {functor: Nothing}}", "my.yaml: a: the functor 'Nothing' is not known"),
    ],
)
def test_what_is_no_functor_file_is_an_error_that_says_why(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        FunctorFile.from_text(text, "my.yaml")


def test_names_of_the_science_pipelines_find_the_files_of_this_package(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PIPE_TASKS_DIR", raising=False)
    ours = functor_file_path("resource://zeropoint.catalogs/schemas/PreSource.yaml")
    assert ours.is_file()
    assert functor_file_path("$PIPE_TASKS_DIR/schemas/PreSource.yaml") == ours
    # who has the Science Pipelines gets their file
    monkeypatch.setenv("PIPE_TASKS_DIR", str(tmp_path))
    assert functor_file_path("$PIPE_TASKS_DIR/schemas/PreSource.yaml") == tmp_path / "schemas/PreSource.yaml"


@pytest.mark.parametrize(
    "path", ["/nowhere/a.yaml", "resource://no_such_package/a.yaml", "resource://zeropoint.catalogs/b.yaml"]
)
def test_a_file_that_does_not_exist_is_named(path: str) -> None:
    with pytest.raises(InvalidInputError, match=f"the functor file {path} cannot be read"):
        FunctorFile.read(path)

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from lsst.daf.butler import Butler, DataCoordinate
from lsst.pipe.base import Instrument, ObservationDimensionPacker
from lsst.utils import doImportType

from butler.frames import card, frame
from zeropoint.butler import instruments
from zeropoint.butler.cameras import card_of, register_camera
from zeropoint.butler.formatters import CardImageFormatter
from zeropoint.butler.ingest import ingest_images
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import BUILTIN_CARDS, CameraCard, load_card


@pytest.mark.parametrize("name", ["SDSS", "My-Cam_2", "a"])
def test_every_name_is_a_class_that_workers_can_import(name: str) -> None:
    kind = doImportType(f"zeropoint.butler.instruments.{name}")
    assert kind is doImportType(f"zeropoint.butler.instruments.{name}")
    assert pickle.loads(pickle.dumps(kind)) is kind
    instrument = kind(collection_prefix=None)
    assert (instrument.getName(), instrument.collection_prefix) == (name, name)
    assert kind(collection_prefix="x").collection_prefix == "x"
    assert instrument.getRawFormatter({}) is CardImageFormatter
    assert len(instruments.class_name("x" * 32)) <= 64


def test_other_attributes_are_not_instruments() -> None:
    for name in ("_private", "__wrapped__", "x" * 33):
        with pytest.raises(AttributeError):
            getattr(instruments, name)


def test_names_that_a_repository_cannot_have() -> None:
    for name, words in (
        ("Two words", "cannot be a name in a repository"),
        ("x" * 33, "up to 31"),
        ("Instrument", "cannot be a name"),
        ({"key": "INSTRUME"}, "fixed instrument name"),
        (None, "the card has none"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            instruments.check_instrument_name(name, "x.yaml")


def test_a_registered_camera_is_found_by_name(butler: Butler) -> None:
    found = Instrument.fromName("TestCam", butler.registry)
    assert isinstance(found, instruments.CardInstrument)
    (record,) = butler.query_dimension_records("instrument")
    assert (record.visit_max, record.exposure_max, record.detector_max) == (1 << 28, 1 << 28, 1 << 8)
    assert card_of(butler, "TestCam").data == card().data
    with pytest.raises(InvalidInputError, match=r"'Testcam' is not registered.*did you mean 'TestCam'"):
        card_of(butler, "Testcam")
    chain = butler.collections.get_info("TestCam/defaults").children
    assert chain == ("TestCam/post_isr", "TestCam/card", "refcats", "skymaps")


def test_the_middleware_packs_ids_as_the_command_line(butler: Butler, tmp_path: Path) -> None:
    ingest_images(butler, [frame(tmp_path / "a.fits", VISIT=12345)], card())
    data_id = butler.registry.expandDataId(instrument="TestCam", visit=12345, detector=3)
    packed, bits = ObservationDimensionPacker(data_id).pack(data_id, returnMaxBits=True)
    ours = CatalogIdGenerator(visit=12345, detector=3, n_visits=1 << 28, n_detectors=1 << 8)
    assert (packed, bits) == (ours.catalog_id, ours.packer_bits)
    assert isinstance(data_id, DataCoordinate)


def test_registering_again(butler: Butler) -> None:
    assert register_camera(butler, card()).outcome == "unchanged"
    changed = card(gain=3.0, bands={"test_r": "r", "test_g": "g"})
    assert register_camera(butler, changed).outcome == "updated"
    assert card_of(butler, "TestCam").data["gain"] == 3.0
    filters = butler.query_dimension_records("physical_filter", instrument="TestCam")
    assert {record.name: record.band for record in filters} == {"test_r": "r", "test_g": "g"}
    assert len(butler.query_datasets("camera_card", collections="TestCam/card")) == 1


def test_ids_keep_their_ranges_once_there_are_exposures(butler: Butler, tmp_path: Path) -> None:
    wider = card(ids={"n_visits": 1 << 31, "n_detectors": 4})
    assert register_camera(butler, wider).outcome == "updated"
    assert register_camera(butler, card()).outcome == "updated"
    ingest_images(butler, [frame(tmp_path / "a.fits")], card())
    with pytest.raises(InvalidInputError, match=r"ids\.n_visits and ids\.n_detectors are 2147483648 and 4"):
        register_camera(butler, wider)
    assert card_of(butler, "TestCam").data == card().data


def test_relative_files_of_a_card_are_where_it_was_registered(
    butler: Butler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mask = {"file": "{dir}/{stem}_mask.fits", "kind": "bits"}
    register_camera(butler, card(gain={"table": "gains.csv", "column": "g"}, mask=mask))
    data = card_of(butler, "TestCam").data
    assert data["gain"]["table"] == str(tmp_path / "gains.csv")
    assert data["mask"] == mask


@pytest.mark.parametrize("name", [name for name in BUILTIN_CARDS if name != "generic"])
def test_built_in_cameras_register_through_their_class(butler: Butler, name: str) -> None:
    content: CameraCard = load_card(name)
    instrument = doImportType(instruments.class_name(content.get("instrument")))()
    instrument.register(butler.registry)
    instrument.register(butler.registry)
    (record,) = butler.query_dimension_records("instrument", instrument=content.get("instrument"))
    assert (record.visit_max, record.detector_max) == content.id_limits
    with pytest.raises(InvalidInputError, match="not one of the built-in cameras"):
        doImportType(instruments.class_name("Unheard"))().register(butler.registry)

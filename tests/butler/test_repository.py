from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from lsst.daf.butler import Butler, DatasetType
from lsst.images import BackgroundMap, Box, Image, Mask, MaskedImage, MaskPlane, MaskSchema
from lsst.images.cameras import CameraFrameSet, CameraFrameSetSerializationModel
from lsst.images.fields import ChebyshevField, SumField

from zeropoint.butler.dataset_types import ensure_dataset_type, post_isr_type
from zeropoint.butler.repository import create_repository, open_repository
from zeropoint.datamodel.exposure import DetectorInfo
from zeropoint.datamodel.skymap import SkyMap
from zeropoint.datamodel.visit_image import _camera_frames
from zeropoint.errors import InvalidInputError

BOX = Box.factory[0:20, 0:30]


def field() -> ChebyshevField:
    return ChebyshevField(BOX, np.array([[3.0, 0.1], [0.2, 0.0]]), unit=u.nJy / u.electron)


def background() -> BackgroundMap:
    result = BackgroundMap()
    result.add("subtracted", SumField([field(), field()]), "The sum.", is_subtracted=True)
    return result


def image() -> Image:
    return Image(np.arange(600, dtype=np.float32).reshape(20, 30), unit=u.nJy)


def mask() -> Mask:
    result = Mask(0, schema=MaskSchema([MaskPlane("BAD", "bad")]), bbox=BOX)
    result.array[3, 4, 0] = 1
    return result


def masked_image() -> MaskedImage:
    return MaskedImage(image(), mask=mask(), variance=Image(np.ones((20, 30), np.float32), unit=u.nJy**2))


def camera() -> CameraFrameSet:
    detector = DetectorInfo("TestCam", "a", 0, 30, 20, (), 0.01)
    model = CameraFrameSetSerializationModel(instrument="TestCam", ast=_camera_frames(detector, 0.01))
    return model.deserialize(None)


def sky_map() -> SkyMap:
    return SkyMap.discrete([10.0], [20.0], [0.5])


def same(a: Any, b: Any) -> bool:
    if isinstance(a, MaskedImage):
        return bool(a.image == b.image and a.mask == b.mask and a.variance == b.variance)
    return bool(a == b)


@pytest.mark.parametrize(
    ("storage_class", "make", "extension"),
    [
        ("ImageField", field, ".fits"),
        ("BackgroundMap", background, ".fits"),
        ("ImageV2", image, ".fits"),
        ("MaskV2", mask, ".fits"),
        ("MaskedImageV2", masked_image, ".fits"),
        ("ZpCamera", camera, ".json"),
        ("ZpSkyMap", sky_map, ".json"),
    ],
)
def test_what_is_put_comes_out(butler: Butler, storage_class: str, make: Any, extension: str) -> None:
    dataset_type = DatasetType("thing", (), storage_class, universe=butler.dimensions)
    ensure_dataset_type(butler, dataset_type)
    butler.collections.register("things")
    ref = butler.put(make(), "thing", run="things")
    assert same(butler.get(ref), make())
    assert butler.getURI(ref).getExtension() == extension


def test_creating_twice_is_harmless_and_other_options_are_refused(repo: Path) -> None:
    before = (repo / "butler.yaml").read_bytes()
    assert create_repository(repo) is False
    with pytest.raises(InvalidInputError, match="exists there already with another registry/db"):
        create_repository(repo, db="postgresql://me@host/db")
    with pytest.raises(InvalidInputError, match="another datastore/formatters/VisitImage"):
        create_repository(repo, lossy16=True)
    assert (repo / "butler.yaml").read_bytes() == before


def test_a_creation_that_fails_leaves_nothing(tmp_path: Path) -> None:
    for db in ("nonsense", "postgresql://nobody@127.0.0.1:1/none"):
        with pytest.raises(InvalidInputError, match=r"registry .* cannot be made"):
            create_repository(tmp_path / "R", db=db)
        assert not (tmp_path / "R").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="cannot be made"):
        create_repository(tmp_path / "empty", db="nonsense")
    assert list((tmp_path / "empty").iterdir()) == []
    assert create_repository(tmp_path / "empty")


def test_what_is_in_the_way_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    for place in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(InvalidInputError, match="is not a Butler repository; name a new or an empty"):
            create_repository(place)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_is_no_repository(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "butler.yaml").write_text("a: [")
    for place, words in (
        (tmp_path / "nope", "no such repository; `zeropoint create-repo"),
        (tmp_path, "is not a Butler repository .it has no butler.yaml"),
        (tmp_path / "file", "is not a Butler repository"),
        (broken, "is not a Butler repository"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            open_repository(place)


def test_a_lost_or_damaged_registry(repo: Path) -> None:
    database = repo / "gen3.sqlite3"
    database.write_bytes(b"garbage " * 1000)
    with pytest.raises(InvalidInputError, match="registry cannot be used: file is not a database"):
        open_repository(repo)
    database.unlink()
    with pytest.raises(InvalidInputError, match="registry cannot be used"):
        open_repository(repo)


def test_a_repository_without_our_configuration(tmp_path: Path) -> None:
    Butler.makeRepo(str(tmp_path / "R"))
    with pytest.raises(
        InvalidInputError, match=r"lacks storageClasses/ZpCamera.*add the lines of .*seed\.yaml"
    ):
        open_repository(tmp_path / "R")


def test_a_half_registered_dataset_type_is_repaired(repo: Path) -> None:
    butler = open_repository(repo, writeable=True)
    dataset_type = post_isr_type(butler.dimensions)
    butler.registry.removeDatasetType(dataset_type.name)
    butler.close()
    # a full disk can leave the type without its tables
    with sqlite3.connect(repo / "gen3.sqlite3") as database:
        query = "SELECT name FROM sqlite_master WHERE name LIKE 'dataset_tags_%'"
        before = {name for (name,) in database.execute(query)}
        butler = open_repository(repo, writeable=True)
        butler.registry.registerDatasetType(dataset_type)
        butler.close()
        for name in {name for (name,) in database.execute(query)} - before:
            database.execute(f"DROP TABLE {name}")
    database.close()
    butler = open_repository(repo, writeable=True)
    ensure_dataset_type(butler, dataset_type)
    assert butler.query_datasets(dataset_type.name, collections="*", find_first=False, explain=False) == []
    wrong = DatasetType(dataset_type.name, ("instrument",), "VisitImage", universe=butler.dimensions)
    with pytest.raises(InvalidInputError, match="post_isr_image means something else"):
        ensure_dataset_type(butler, wrong)
    butler.close()

from __future__ import annotations

from pathlib import Path

import pytest

from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import BUILTIN_CARDS, CameraCard, load_card


@pytest.mark.parametrize("name", BUILTIN_CARDS)
def test_built_in_cards_load(name: str) -> None:
    card = load_card(name)
    assert card.name == name
    assert card.get("wcs") is not None


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("saturaton: 5000\n", ["unknown key saturaton", "did you mean 'saturation'"]),
        ("gain: {kye: GAIN}\n", ["unknown key gain.kye", "'key'"]),
        ("detector: {id: {kye: CCD}}\n", ["unknown key detector.id.kye"]),
        ("wcs: {ra: {keyy: RA}}\n", ["unknown key wcs.ra.keyy"]),
        ("date: {value: [{key: DATE-OBS}, {kex: UT}]}\n", ["unknown key date.value.kex"]),
        ("wcs: {uncertainty: {offset: 3}}\n", ["wcs.uncertainty.offset"]),
        ("wcs: {index_files: here.fits}\n", ["wcs.index_files must be a list"]),
        ("wcs: {flip: 'yes'}\n", ["wcs.flip must be true or false"]),
        ("mask: other.fits\n", ["mask must be a mapping"]),
        ("mask: {planes: {SATURATD: [1]}}\n", ["mask.planes", "SATURATD"]),
        ("mask: {kind: bitss}\n", ["mask.kind is 'bitss'", "bits"]),
        ("variance: {kind: ivar}\n", ["variance.kind", "weight"]),
        ("read_noise: {key: RN, unit: dn}\n", ["read_noise.unit"]),
        ("date: {value: {key: T}, at: begin}\n", ["date.at", "start"]),
        ("visit_system: nightly\n", ["visit_system"]),
        ("ids: {n_visits: many}\n", ["ids.n_visits"]),
        ("first_look: maybe\n", ["first_look must be true or false"]),
        ("filename: '('\n", ["filename", "regular expression"]),
        ("gain: [1, 2]\n", ["gain is a list"]),
        ("detector: {center_mm: {key: FPX}}\n", ["detector.center_mm must be [x, y]"]),
        ("detector: {center_mm: [{kye: FPX}, 0.0]}\n", ["unknown key detector.center_mm.kye"]),
        ("detector: {amplifiers: [{name: A}]}\n", ["amplifiers", "box"]),
        ("detector: {amplifiers: [{name: A, box: [0, 1, 2]}]}\n", ["box must be"]),
        ("1: x\n", ["unknown key 1"]),
        ("- a\n- b\n", ["must be a mapping"]),
        ("", ["must be a mapping"]),
        ("gain: {key: GAIN\nmask: 3\n", ["not valid YAML", "line"]),
        ("extends: nowhere\n", ["No camera card", "nowhere"]),
        ("extends: mine.yaml\n", ["extends itself"]),
    ],
)
def test_wrong_cards_are_refused_by_name(tmp_path: Path, text: str, words: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InvalidInputError) as caught:
        load_card(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    if "nowhere" not in text:
        assert "mine.yaml" in message


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(InvalidInputError, match=r"Did you mean 'sdss'\?"):
        load_card("sdsss")


def test_a_card_may_be_the_one_that_a_repository_keeps(tmp_path: Path) -> None:
    stored = "name: mycam\nsource: there/mycam.yaml\ndata:\n  instrument: MyCam\n  gain: 2.5\n"
    card = load_card(write(tmp_path, stored, "camera_card_MyCam.yaml"))
    assert card == CameraCard("mycam", "there/mycam.yaml", {"instrument": "MyCam", "gain": 2.5})
    with pytest.raises(InvalidInputError, match=r"stored.yaml.*did you mean 'gain'"):
        load_card(write(tmp_path, stored.replace("gain", "gainn"), "stored.yaml"))


def test_a_card_extends_another(tmp_path: Path) -> None:
    write(tmp_path, "extends: sdss\ngain: 2.5\nconfig: {psf_detection.thresholdValue: 8}\n", "base.yaml")
    card = load_card(
        write(tmp_path, "extends: base.yaml\nread_noise: 7.0\nconfig: {do_calibrate_pixels: false}\n")
    )
    assert card.get("gain") == 2.5
    assert card.get("read_noise") == 7.0
    assert card.get("pedestal") == {"key": "SOFTBIAS"}
    assert card.overrides == {
        "astrometry.wcsFitter": "FitAffineWcsTask",
        "psf_detection.thresholdValue": 8,
        "do_calibrate_pixels": False,
    }
    assert card.name == "mine"

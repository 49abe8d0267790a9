"""Transmission curves in a repository: certified for ever, found by detector and filter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from lsst.daf.butler import Butler, CollectionType, Timespan

from butler.frames import card
from zeropoint.butler.cameras import register_camera
from zeropoint.butler.collection_chains import calib_collection, defaults_chain
from zeropoint.butler.throughputs import Throughputs, ingest_throughputs, static_calibrations
from zeropoint.cli import main
from zeropoint.datamodel.transmission_curve import TransmissionCurve
from zeropoint.errors import InvalidInputError

CAMERA = "TestCam"
CALIB = calib_collection(CAMERA)


def register_detectors(butler: Butler) -> None:
    for number in (0, 1, 5):
        record = {"instrument": CAMERA, "id": number, "full_name": f"D{number}", "purpose": "SCIENCE"}
        butler.registry.insertDimensionData("detector", record)


@pytest.fixture
def with_detectors(butler: Butler) -> Butler:
    register_detectors(butler)
    return butler


def hat(throughput: float = 0.5) -> TransmissionCurve:
    return TransmissionCurve.top_hat(5000.0, 6000.0, throughput=throughput, source="here")


def found(butler: Butler, name: str) -> dict[tuple, float]:
    """Values of the dimensions beyond the instrument -> throughput at 5500 Angstrom of what pipelines would get."""
    data_id = butler.registry.expandDataId(instrument=CAMERA)
    refs = static_calibrations(
        butler.get_dataset_type(name), butler.registry, data_id, [defaults_chain(CAMERA)]
    )
    curves = {ref.dataId.required_values[1:]: TransmissionCurve.from_table(butler.get(ref)) for ref in refs}
    return {key: float(curve.sample([5500.0])[0]) for key, curve in curves.items()}


def test_curves_are_inputs_of_the_camera_and_found_for_every_detector(with_detectors: Butler) -> None:
    butler = with_detectors
    given = Throughputs(
        optics=hat(0.9),
        sensors={5: hat(0.7)},
        every_sensor=hat(0.8),
        filters={"test_r": hat(0.6)},
        filter_detectors={"test_r": {0: hat(0.1), 1: hat(0.2)}},
    )
    done = ingest_throughputs(butler, CAMERA, given)
    assert done.n_new == {
        "transmission_optics": 1,
        "transmission_sensor": 3,
        "transmission_filter": 1,
        "transmission_filter_detector": 2,
    }
    assert (done.n_replaced, done.n_unchanged, done.missing) == ({}, {}, {})
    assert found(butler, "transmission_optics") == {(): 0.9}
    assert found(butler, "transmission_sensor") == {(0,): 0.8, (1,): 0.8, (5,): 0.7}
    assert found(butler, "transmission_filter") == {("test_r",): 0.6}
    # values of dimensions are sorted by name: detector, physical_filter
    assert sorted(found(butler, "transmission_filter_detector").values()) == [0.1, 0.2]
    again = ingest_throughputs(butler, CAMERA, given)
    assert (again.n_new, again.n_replaced, sum(again.n_unchanged.values())) == ({}, {}, 7)


def test_a_new_curve_takes_the_place_of_the_old_one_which_is_kept(with_detectors: Butler) -> None:
    butler = with_detectors
    radial = TransmissionCurve(
        np.array([5000.0, 6000.0]),
        np.array([[0.1, 0.2], [0.3, 0.4]]),
        np.array([0.0, 9.0]),
        "pixel",
        above=0.5,
    )
    ingest_throughputs(butler, CAMERA, Throughputs(optics=hat(0.9), every_sensor=hat(0.8)))
    done = ingest_throughputs(
        butler, CAMERA, Throughputs(optics=hat(0.5), sensors={1: hat(0.8)}, filters={"test_r": radial})
    )
    assert (done.n_replaced, done.n_unchanged) == ({"transmission_optics": 1}, {"transmission_sensor": 1})
    assert done.missing == {}
    assert found(butler, "transmission_optics") == {(): 0.5}
    runs = butler.collections.query(f"{CALIB}/*", collection_types={CollectionType.RUN})
    kept = butler.query_datasets("transmission_optics", collections=runs, find_first=False)
    assert len(kept) == 2
    # a radial curve comes back as it was
    of_filter = {"instrument": CAMERA, "physical_filter": "test_r"}
    stored = butler.get("transmission_filter", of_filter, collections=CALIB, timespan=Timespan(None, None))
    read = TransmissionCurve.from_table(stored)
    assert read.radius_unit == "pixel"
    np.testing.assert_array_equal(read.radii, radial.radii)
    places = [4000, 5000, 5400, 6000, 7000]
    np.testing.assert_allclose(
        read.sample(places, 3.0, pixel_size_mm=1.0), radial.sample(places, 3.0, pixel_size_mm=1.0)
    )


def test_only_what_is_valid_for_ever_and_first_in_the_chain_is_static(with_detectors: Butler) -> None:
    butler = with_detectors
    ingest_throughputs(butler, CAMERA, Throughputs(every_sensor=hat(0.8)))
    butler.collections.register("mine", CollectionType.CALIBRATION)
    butler.collections.register("myrun", CollectionType.RUN)
    from astropy.time import Time

    begin = Timespan(Time("2020-01-01", scale="tai"), None)
    for number, timespan in ((0, Timespan(None, None)), (1, begin)):
        ref = butler.put(
            hat(0.1).to_table(), "transmission_sensor", instrument=CAMERA, detector=number, run="myrun"
        )
        butler.registry.certify("mine", [ref], timespan)
    kind = butler.get_dataset_type("transmission_sensor")
    data_id = butler.registry.expandDataId(instrument=CAMERA)
    refs = list(static_calibrations(kind, butler.registry, data_id, ["mine", defaults_chain(CAMERA)]))
    assert [(ref.dataId["detector"], ref.run == "myrun") for ref in refs] == [
        (0, True),
        (1, False),
        (5, False),
    ]


def test_what_the_camera_lacks_is_named(butler: Butler) -> None:
    with pytest.raises(InvalidInputError, match=r"no detector at all .* first images"):
        ingest_throughputs(butler, CAMERA, Throughputs(every_sensor=hat()))
    register_detectors(butler)
    cases = [
        (Throughputs(filters={"test_R": hat()}), "has no filter 'test_R': did you mean 'test_r'"),
        (Throughputs(sensors={7: hat(), 1: hat()}), r"no detector 7 in this repository \(it has 3, 0 to 5\)"),
        (Throughputs(), "no transmission curve of TestCam is given"),
    ]
    for given, complaint in cases:
        with pytest.raises(InvalidInputError, match=complaint):
            ingest_throughputs(butler, CAMERA, given)
    with pytest.raises(InvalidInputError, match="'Test' is not registered here"):
        ingest_throughputs(butler, "Test", cases[0][0])


# -- the command ------------------------------------------------------------------------------------------------


def run(repo: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["ingest-throughputs", str(repo), CAMERA, *options])


def test_the_command_reads_files_numbers_and_the_card(
    with_detectors: Butler, repo: Path, tmp_path: Path
) -> None:
    register_camera(with_detectors, card(passbands={"test_r": [5000, 6000, 0.25]}))
    (tmp_path / "m1.txt").write_text("# nm\n300 0.5\n1100 0.5\n")
    (tmp_path / "e2v.txt").write_text("# nm\n300 50\n1100 50\n")
    result = run(repo, "--optics", str(tmp_path / "m1.txt"), "--optics", "0.5", "--sensor", "0.9")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        f"{CAMERA}: optics: 1 new -> {CALIB}",
        f"{CAMERA}: sensors: 3 new",
        f"{CAMERA}: filters: 1 new",
    ]
    assert found(with_detectors, "transmission_optics") == {(): 0.25}
    assert found(with_detectors, "transmission_filter") == {("test_r",): 0.25}
    before = ("--filter-detector", f"5:test_r={tmp_path / 'e2v.txt'}")
    result = run(repo, "--percent", "--sensor", f"0..1={tmp_path / 'e2v.txt'}", *before)
    assert result.output.splitlines() == [
        f"{CAMERA}: sensors: 2 replaced -> {CALIB}",
        f"{CAMERA}: filters before detectors: 1 new",
    ]
    assert list(found(with_detectors, "transmission_filter_detector").values()) == [0.5]
    assert found(with_detectors, "transmission_sensor") == {(0,): 0.5, (1,): 0.5, (5,): 0.9}


def test_the_command_names_a_bad_file_and_changes_nothing(
    with_detectors: Butler, repo: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.txt").write_text("# nm\n700 0.5\n600 0.5\n")
    result = run(repo, "--optics", "0.5", "--filter", f"test_r={tmp_path / 'bad.txt'}")
    assert result.exit_code == 1
    assert "bad.txt: wavelengths must increase" in result.stderr
    assert not with_detectors.collections.query(f"{CALIB}*")
    assert run(repo, "--filter", "nothing").exit_code == 2

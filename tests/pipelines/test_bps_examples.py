"""The example configurations of BPS: what jobs they make of a graph, without running them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("lsst.ctrl.bps", reason="BPS is the extra zeropoint[bps]")

from lsst.ctrl.bps import drivers, pre_transform
from lsst.pipe.base.tests.mocks import DirectButlerRepo, DynamicConnectionConfig

# Parsl asks every interface for its address and leaves the sockets to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore:.*socket:pytest.PytestUnraisableExceptionWarning")
EXAMPLES = Path(__file__).parents[2] / "examples" / "bps"
CONDOR = pytest.param(
    "htcondor",
    marks=pytest.mark.skipif(
        find_spec("lsst.ctrl.bps.htcondor") is None or find_spec("htcondor2") is None,
        reason="lsst-ctrl-bps-htcondor or HTCondor's Python bindings are not installed",
    ),
)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A graph of two visits with several detectors each, under our task's label, as options of ``bps``."""
    path = tmp_path_factory.mktemp("bps") / "graph.qg"
    with DirectButlerRepo.make_temporary("base.yaml", "spatial.yaml") as (helper, root):
        dimensions = ["visit", "detector"]
        helper.add_task(
            "calibrateImage",
            dimensions=dimensions,
            inputs={"image": DynamicConnectionConfig(dataset_type_name="raw", dimensions=dimensions)},
            outputs={"result": DynamicConnectionConfig(dataset_type_name="result", dimensions=dimensions)},
        )
        helper.make_quantum_graph_builder().finish(output="out", attach_datastore_records=True).write(path)
        yield {"qgraph": str(path), "butler_config": root, "output": "u/me/night"}


@pytest.fixture
def submission(graph: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The options, in a folder for what BPS writes; the run's name in the graph stays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    monkeypatch.setattr(pre_transform, "update_quantum_graph", lambda *_: None)
    return graph


@pytest.mark.parametrize("name", ["local_parsl", "slurm_parsl", CONDOR])
def test_examples_make_one_job_of_each_visit(name: str, submission: dict[str, str], tmp_path: Path) -> None:
    config, workflow = drivers.transform_driver(str(EXAMPLES / f"{name}.yaml"), **submission)
    jobs = [workflow.get_job(job) for job in workflow]
    visits = [job for job in jobs if job.label == "visits"]
    assert {job.tags["visit"] for job in visits} == {1, 2}
    assert len(jobs) == len(visits) + 1  # and the one that prepares the run
    for job in visits:
        assert job.quanta_counts["calibrateImage"] > 1
        assert (job.request_cpus, job.request_memory) == (1, 4096)
        assert job.executable.src_uri.endswith("pipetask")
        assert job.cmdvals["extraRunQuantumOptions"] == "--no-raise-on-partial-outputs"
    final = workflow.get_final()
    assert (final.request_cpus, final.request_memory) == (1, 2048)
    script = (tmp_path / final.executable.src_uri).read_text()
    assert "transfer-from-graph" in script
    assert "--update-output-chain" in script
    assert config["wmsServiceClass"].startswith("lsst.ctrl.bps.")


@pytest.mark.parametrize(
    ("name", "kind"), [("local_parsl", "LocalProvider"), ("slurm_parsl", "SlurmProvider")]
)
def test_parsl_prepares_the_examples(
    name: str, kind: str, submission: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, workflow = drivers.prepare_driver(str(EXAMPLES / f"{name}.yaml"), **submission)
    (executor,) = workflow.site.get_executors()
    assert type(executor.provider).__name__ == kind
    job = workflow.jobs["visits_1"]
    command = job.evaluate_command_line(job.get_command_line(allow_stage=False))
    assert "run-qbb" in command
    assert "--no-raise-on-partial-outputs" in command
    assert "NUMBA_NUM_THREADS=1" in workflow.command_prefix
    if kind == "SlurmProvider":
        assert executor.provider.walltime == "02:00:00"
        assert executor.provider.nodes_per_block == 1
        assert "#SBATCH --partition=normal" in executor.provider.scheduler_options


@pytest.mark.parametrize("name", [CONDOR])
def test_htcondor_prepares_its_example(name: str, submission: dict[str, str], tmp_path: Path) -> None:
    drivers.prepare_driver(str(EXAMPLES / f"{name}.yaml"), **submission)
    submits = {path.stem: path.read_text() for path in tmp_path.rglob("*.sub")}
    for visit in (1, 2):
        text = submits[f"visits_{visit}"]
        assert "NUMBA_NUM_THREADS='1'" in text
        assert "request_cpus=1" in text.replace(" ", "")
        assert "--no-raise-on-partial-outputs" in text

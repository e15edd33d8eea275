"""Ray and SLURM: the same jobs, the same results, whatever machine is lost or added."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.errors import RunStoppedError, SettingsError
from fewlabel.pipelines.executors import ray_cluster, slurm
from fewlabel.pipelines.executors.claims import attempts
from fewlabel.pipelines.executors.job_progress import Glance
from fewlabel.pipelines.executors.jobs import Job, Plan
from fewlabel.pipelines.executors.this_process import run_here
from kit.cells import jobs, plan_of, results

KIT = Path(__file__).resolve().parents[2]


def reference(tmp_path: Path, made: tuple[Job, ...]) -> dict[str, str]:
    plan = plan_of(tmp_path / "reference", made)
    run_here(plan, lambda _: None)
    return results(plan.root)


def ended(plan: Plan) -> Counter[int]:
    return Counter(sum(row["event"] == "ended" for row in attempts(plan, job.key)) for job in plan.jobs)


def test_what_is_not_installed_is_told_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path, jobs(1, 0))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError, match=r"Ray is not installed.*fewlabel\[cluster\]"):
        ray_cluster.run_on_ray(plan, plan.write(), "", lambda _: None)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(SettingsError, match=r"submitit is not installed.*fewlabel\[cluster\]"):
        slurm.run_on_slurm(plan, plan.write(), 1, {}, lambda _: None)


def test_a_cluster_that_is_started_tells_the_makers_of_ray_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "")
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED")
    seen: list[str | None] = []

    class Silent:
        is_initialized = staticmethod(lambda: False)
        init = staticmethod(lambda **_: seen.append(os.environ.get("RAY_USAGE_STATS_ENABLED")))
        shutdown = staticmethod(lambda: None)

    with ray_cluster._cluster(Silent, "auto", plan_of(tmp_path, jobs(1, 0))):
        assert seen == ["0"]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Ray cluster of one machine with two cores, of real processes."""
    pytest.importorskip("ray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray
        from ray.cluster_utils import Cluster

        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(KIT), os.environ.get("PYTHONPATH", "")]))
        made = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 2, "num_gpus": 1, "object_store_memory": ray_cluster.OBJECTS},
        )
        try:
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_loses_no_job_though_a_worker_is_killed_and_a_machine_is_lost_and_added(
    tmp_path: Path, cluster: Any
) -> None:
    made = jobs(4, 5, seconds=0.4)
    plan = plan_of(tmp_path / "study", made)
    killed: list[str] = []
    places: list[int] = []
    extra = []

    def watch(glance: Glance) -> None:
        places.append(glance.workers)
        if len(glance.done) >= 2 and not killed and glance.running:
            os.kill(attempts(plan, glance.running[0])[-1]["process"], signal.SIGKILL)
            killed.append(glance.running[0])
        if len(glance.done) >= 4 and not extra:
            extra.append(cluster.add_node(num_cpus=2, object_store_memory=ray_cluster.OBJECTS))
        if len(glance.done) >= 12 and len(extra) == 1:
            # All its processes at once, in the midst of their jobs.
            cluster.remove_node(extra[0], allow_graceful=False)
            extra.append(None)

    ray_cluster.run_on_ray(plan, plan.write(), cluster.address, watch)
    assert killed
    assert len(extra) == 2
    assert {2, 4} <= set(places)
    assert results(plan.root) == reference(tmp_path, made)
    assert ended(plan) == {1: len(made)}
    assert not (plan.root / "twice").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_jobs_share_a_graphics_processor_on_ray_and_ctrl_c_ends_them(tmp_path: Path, cluster: Any) -> None:
    plan = replace(plan_of(tmp_path / "shared", jobs(4, 0, seconds=1.0)), gpus=0.5)
    at_once: list[tuple[int, int]] = []
    ray_cluster.run_on_ray(
        plan, plan.write(), cluster.address, lambda seen: at_once.append((seen.workers, len(seen.running)))
    )
    assert {workers for workers, _ in at_once} == {2}
    assert max(running for _, running in at_once) <= 2
    assert ended(plan) == {1: 4}
    stopped = plan_of(tmp_path / "stopped", jobs(2, 1, seconds=3.0))

    def stop(seen: Glance) -> None:
        if len(seen.running) == 2:
            raise KeyboardInterrupt

    with pytest.raises(RunStoppedError):
        ray_cluster.run_on_ray(stopped, stopped.write(), cluster.address, stop)
    assert [row["event"] for row in attempts(stopped, "p0")] == ["began", "stopped"]
    assert attempts(stopped, "c0-0") == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_on_this_machine_refuses_what_it_has_no_room_for(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    plan = Plan(tmp_path, "kit.cells:tiny", jobs(1, 0), "one", threads=1, gpus=0.5)
    with pytest.raises(SettingsError, match=r"takes 1 threads and 0\.5 graphics processors"):
        ray_cluster.run_on_ray(plan, plan.write(), "", lambda _: None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_array_of_workers_does_what_one_process_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(KIT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(slurm, "LOOK_EVERY", 0.2)
    made = jobs(3, 3, seconds=0.1)
    plan = plan_of(tmp_path / "study", made)
    glances: list[Glance] = []
    slurm.run_on_slurm(plan, plan.write(), 2, {"timeout_min": 5}, glances.append, scheduler="local")
    assert results(plan.root) == reference(tmp_path, made)
    assert ended(plan) == {1: len(made)}
    assert glances[-1].waiting == 0
    slurm.run_on_slurm(plan, plan.write(), 2, {}, glances.append, scheduler="local")
    with pytest.raises(SettingsError, match=r"does not take these parameters: .*partitoin"):
        slurm.run_on_slurm(
            plan_of(tmp_path / "new", made), plan.write(), 2, {"partitoin": "x"}, lambda _: None, scheduler="local"
        )


WATCHER = """
import sys
from pathlib import Path
from fewlabel.core.errors import RunStoppedError
from fewlabel.pipelines.executors.jobs import Plan
from fewlabel.pipelines.executors.ray_cluster import run_on_ray
path = Path(sys.argv[1])
try:
    run_on_ray(Plan.read(path), path, "", lambda glance: None)
except RunStoppedError:
    sys.exit(130)
"""


@pytest.mark.slow
def test_sigterm_ends_tasks_on_ray_as_ctrl_c_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(KIT), os.environ.get("PYTHONPATH", "")]))
    plan = plan_of(tmp_path / "study", jobs(1, 0, seconds=60))
    path = tmp_path / "study" / "plans" / "one.json"
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", WATCHER, str(path)], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 300
    while not list((plan.root / "jobs").glob("*/at-work")):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 130
    assert [row["event"] for row in attempts(plan, "p0")] == ["began", "stopped"]


def test_without_slurm_nothing_is_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    plan = plan_of(tmp_path / "study", jobs(1, 0))
    with pytest.raises(SettingsError, match="has no sbatch"):
        slurm.run_on_slurm(plan, plan.write(), 1, {}, lambda _: None)

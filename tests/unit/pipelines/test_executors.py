"""Executors: every job once, whatever is killed, whoever does it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from fewlabel.core.errors import RunStoppedError, SettingsError
from fewlabel.pipelines.executors import worker
from fewlabel.pipelines.executors.claims import ATTEMPTS, DONE, FAILED, at_work, attempts, claimed, failure, is_done
from fewlabel.pipelines.executors.job_progress import Glance, Standing, seconds_of
from fewlabel.pipelines.executors.jobs import Job, Plan, order
from fewlabel.pipelines.executors.processes import run_in_processes
from fewlabel.pipelines.executors.this_process import run_here
from kit.cells import jobs, plan_of, results

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fcntl")
KIT = Path(__file__).resolve().parents[2]
COORDINATOR = """
import sys
from pathlib import Path
from fewlabel.pipelines.executors.jobs import Plan
from fewlabel.pipelines.executors.processes import run_in_processes
path = Path(sys.argv[1])
run_in_processes(Plan.read(path), path, int(sys.argv[2]), lambda glance: None)
"""


@pytest.fixture(autouse=True)
def _kit_for_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(KIT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def reference(tmp_path: Path, made: tuple[Job, ...]) -> dict[str, str]:
    plan = plan_of(tmp_path / "reference", made)
    run_here(plan, lambda _: None)
    return results(plan.root)


def ended(plan: Plan) -> Counter[int]:
    return Counter(sum(row["event"] == "ended" for row in attempts(plan, job.key)) for job in plan.jobs)


def test_jobs_come_after_what_they_need_and_once() -> None:
    one, two = Job("a", "a", needs=("b",)), Job("b", "b")
    assert order([one, two, one]) == (two, one)
    with pytest.raises(ValueError, match="which is no job"):
        order([one])


def test_a_plan_is_the_same_once_it_is_read(tmp_path: Path) -> None:
    plan = plan_of(tmp_path / "study", jobs(1, 2, seconds=0.5))
    assert Plan.read(tmp_path / "study" / "plans" / "one.json") == plan


def test_all_jobs_are_done_here_in_order_and_kept_by_the_next_start(tmp_path: Path) -> None:
    glances: list[Glance] = []
    plan = plan_of(tmp_path, jobs(2, 3))
    run_here(plan, glances.append)
    assert len(results(tmp_path)) == 8
    assert (len(glances[-1].done), glances[-1].waiting, glances[-1].running) == (8, 0, ())
    assert ended(plan) == {1: 8}
    assert (seconds_of(plan, "p0") or 0) < 5
    more = plan_of(tmp_path, (*plan.jobs, Job("new", "new", needs=("c0-0",))), "two")
    run_here(more, lambda _: None)
    assert [job.key for job in more.jobs if attempts(more, job.key)[-1]["launch"] == "two"] == ["new"]


def test_a_failure_stops_what_needs_it_alone_and_is_tried_again_by_the_next_start(tmp_path: Path) -> None:
    bad = Job("bad", "bad", {"fails": True})
    made = order(
        [bad, Job("below", "below", needs=("bad",)), Job("further", "further", needs=("below",)), Job("good", "good")]
    )
    glances: list[Glance] = []
    plan = plan_of(tmp_path, made)
    run_here(plan, glances.append)
    assert glances[-1].failed == {
        "bad": "This one fails.", "below": "needs bad, which failed", "further": "needs below, which failed",
    }  # fmt: skip
    assert glances[-1].done == {"good"}
    mended = plan_of(tmp_path, tuple(Job(job.key, job.title, {}, job.needs) for job in made), "two")
    run_here(mended, lambda _: None)
    assert all(is_done(mended, job.key) and not failure(mended, job.key) for job in made)


def test_an_error_nobody_foresaw_is_told_with_its_place(tmp_path: Path) -> None:
    plan = Plan(tmp_path, "kit.cells:nowhere", (), "one")
    with pytest.raises(AttributeError):
        run_here(plan, lambda _: None)
    plan = plan_of(tmp_path, (Job("odd", "odd", {"seconds": "soon"}),))
    run_here(plan, lambda _: None)
    assert "ValueError: could not convert string to float" in failure(plan, "odd")


def test_a_claim_is_one_process_and_ends_with_it(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, jobs(1, 0))
    (job,) = plan.jobs
    assert not at_work(plan, job)
    with claimed(plan, job) as ours:
        assert ours
        assert at_work(plan, job)
        with claimed(plan, job) as twice:
            assert not twice
    assert not at_work(plan, job)


def test_a_job_that_kills_its_process_every_time_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path, jobs(1, 0))
    (job,) = plan.jobs
    for _ in range(worker.MOST_DEATHS):
        worker.note(plan, job, "began")
    run_here(plan, lambda _: None)
    assert "was killed 5 times" in failure(plan, job.key)
    again = plan_of(tmp_path, plan.jobs, "two")
    run_here(again, lambda _: None)
    assert is_done(again, job.key)


@pytest.mark.parametrize("text", [b"", b"[]", b"3", b"null", b"{}", b"\xff\x00", b'{"seconds": "soon"}'])
def test_a_damaged_note_beside_a_job_ends_nothing(tmp_path: Path, text: bytes) -> None:
    plan = plan_of(tmp_path, jobs(1, 1))
    folder = plan.folder("p0")
    folder.mkdir(parents=True)
    for name in (FAILED, ATTEMPTS):
        (folder / name).write_bytes(text)
    run_here(plan, lambda _: None)
    assert is_done(plan, "c0-0")
    (folder / DONE).write_bytes(text)
    glances: list[Glance] = []
    run_here(plan, glances.append)
    assert glances[-1].done == {"p0", "c0-0"}
    assert seconds_of(plan, "p0") is None


def test_a_stopped_job_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path, jobs(1, 1))

    def stop(root: Path, job: Job) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kit.cells.tiny", stop)
    with pytest.raises(KeyboardInterrupt):
        run_here(plan, lambda _: None)
    standing = Standing(plan)
    standing.refresh()
    assert (standing.done, standing.failed) == (set(), {})
    assert [row["event"] for row in attempts(plan, "p0")] == ["began", "stopped"]


def test_a_training_that_was_stopped_here_says_how_the_study_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(root: Path, job: Job) -> None:
        raise RunStoppedError("Stopped after step 3 of 9; the state is saved, continue with --resume.")

    monkeypatch.setattr("kit.cells.tiny", stop)
    # A study has no --resume.
    with pytest.raises(RunStoppedError, match="repeat the command to go on") as stopped:
        run_here(plan_of(tmp_path, jobs(1, 1)), lambda _: None)
    assert "--resume" not in stopped.value.message


def test_processes_do_what_one_does_though_workers_are_killed(tmp_path: Path) -> None:
    made = jobs(3, 3, seconds=0.1)
    plan = plan_of(tmp_path / "study", made)
    killed = []

    def watch(glance: Glance) -> None:
        for key in glance.running:
            if len(killed) < 2 and (rows := attempts(plan, key)):
                os.kill(rows[-1]["process"], signal.SIGKILL)
                killed.append(key)

    run_in_processes(plan, plan.write(), 3, watch)
    assert len(killed) == 2
    assert results(plan.root) == reference(tmp_path, made)
    assert ended(plan) == {1: 12}
    assert not (plan.root / "twice").exists()


def test_workers_that_cannot_work_are_given_up_at_once(tmp_path: Path) -> None:
    plan = Plan(tmp_path, "kit.cells:nowhere", jobs(1, 0), "one")
    with pytest.raises(SettingsError, match=r"ended with 1; its last words: AttributeError(.|\n)*worker-0\.txt"):
        run_in_processes(plan, plan.write(), 1, lambda _: None)


def start(path: Path, workers: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", COORDINATOR, str(path), str(workers)], stderr=subprocess.DEVNULL)


def processes_of(plan: Plan) -> list[int]:
    """Workers that are at this plan."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"fewlabel.pipelines.executors.worker" in words and str(plan.root).encode() in path.read_bytes():
            found.append(int(path.parent.name))
    return found


def wait_until(holds: object, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_workers_end_with_whoever_started_them(tmp_path: Path, how: signal.Signals) -> None:
    plan = plan_of(tmp_path / "study", jobs(2, 0, seconds=300))
    process = start(tmp_path / "study" / "plans" / "one.json", 2)
    wait_until(lambda: len(list((plan.root / "jobs").glob("*/at-work"))) == 2)
    process.send_signal(how)
    process.wait(120)
    wait_until(lambda: not processes_of(plan))
    assert results(plan.root) == {}
    assert [row["event"] for row in attempts(plan, "p0")] == ["began", "stopped"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
def test_a_thousand_jobs_survive_the_death_of_any_process_at_any_time(tmp_path: Path) -> None:
    made = jobs(40, 24, seconds=0.005)
    plan = plan_of(tmp_path / "study", made)
    path, rng, deaths = tmp_path / "study" / "plans" / "one.json", random.Random(0), Counter[str]()
    process = start(path, 4)
    while process.poll() != 0:
        if process.poll() is not None:
            process = start(path, 4)
        time.sleep(rng.uniform(0.05, 0.6))
        victims = [*processes_of(plan), process.pid]
        victim = rng.choice(victims)
        if process.poll() is None and len(results(plan.root)) < 950:
            deaths["coordinator" if victim == process.pid else "worker"] += 1
            os.kill(victim, signal.SIGKILL)
            if victim == process.pid:
                process.wait()
    assert deaths["coordinator"] >= 3
    assert deaths["worker"] >= 10
    assert results(plan.root) == reference(tmp_path, made)
    assert ended(plan) == {1: len(made)}
    assert not (plan.root / "twice").exists()

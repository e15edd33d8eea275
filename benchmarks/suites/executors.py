"""Whether studies survive the death of any process, and what an executor costs beside the work.

1000 jobs of 5 ms, 40 of which 24 others each need, by four worker processes, while workers and the process that watches
them are killed by ``kill -9`` at random times, and the command is repeated after each death of the latter. All results
must be those of one process that nobody disturbs, bit for bit, and each job must have ended once. Then the time that an
executor takes for a job that does nothing, of two workers and of this process, as a share of a job of 60 s.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from common import facts
from fewlabel.core.artifact.files import write_text
from fewlabel.pipelines.executors.claims import attempts
from fewlabel.pipelines.executors.jobs import Job, Plan, order
from fewlabel.pipelines.executors.processes import run_in_processes
from fewlabel.pipelines.executors.this_process import run_here

WORK = "suites.executors:cell"
PARENTS, CHILDREN, SECONDS, WORKERS = 40, 24, 0.005, 4
#: Jobs that do nothing, by which the cost of an executor is measured, and the job that it is a share of.
IDLE, MINUTE = 200, 60.0
#: Nobody is killed once so many jobs have ended, so that it comes to an end.
SPARED = 950
WATCHER = """
import sys
from pathlib import Path
from fewlabel.pipelines.executors.jobs import Plan
from fewlabel.pipelines.executors.processes import run_in_processes
path = Path(sys.argv[1])
run_in_processes(Plan.read(path), path, int(sys.argv[2]), lambda glance: None)
"""


def cell(root: Path, job: Job) -> None:
    """A job: a number that follows from its name and from what it needs."""
    needed = [(root / "jobs" / need / "result.txt").read_text() for need in job.needs]
    time.sleep(float(job.payload["seconds"]))
    write_text(root / "jobs" / job.key / "result.txt", hashlib.sha256("".join([job.key, *needed]).encode()).hexdigest())


def run(results: Path) -> None:
    """Kill, compare, time; print it and append a row to ``executors.jsonl``."""
    here = str(Path(__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        survived = _survival(folder)
        costs = {"processes": _cost(folder / "two", 2), "here": _cost(folder / "one", 1)}
    row = {"suite": "executors", "survival": survived, "seconds_of_a_job": costs, **facts()}
    results.mkdir(parents=True, exist_ok=True)
    with (results / "executors.jsonl").open("a") as stream:
        stream.write(json.dumps(row) + "\n")
    print(
        f"{survived['jobs']} jobs, {survived['deaths']}: same bits {survived['same_bits']}, ended {survived['ended']}"
    )
    for executor, seconds in costs.items():
        print(f"{executor}: {1000 * seconds:.1f} ms of a worker for a job, {seconds / MINUTE:.3%} of one of 60 s")


def _jobs(seconds: float, parents: int = PARENTS, children: int = CHILDREN) -> tuple[Job, ...]:
    first = [Job(f"p{at}", f"parent {at}", {"seconds": seconds}) for at in range(parents)]
    then = [
        Job(f"c{at}-{number}", f"child {number} of {at}", {"seconds": seconds}, (f"p{at}",))
        for number in range(children)
        for at in range(parents)
    ]
    return order([*then, *first])


def _plan(root: Path, jobs: tuple[Job, ...]) -> tuple[Plan, Path]:
    plan = Plan(root, WORK, jobs, "one")
    return plan, plan.write()


def _results(plan: Plan) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in (plan.root / "jobs").glob("*/result.txt")}


def _survival(folder: Path) -> dict[str, object]:
    """Deaths by kind, and whether all ended as it does undisturbed."""
    jobs = _jobs(SECONDS)
    plan, path = _plan(folder / "killed", jobs)
    undisturbed, _ = _plan(folder / "undisturbed", jobs)
    run_here(undisturbed, lambda _: None)
    chance, deaths = random.Random(0), Counter[str]()
    watcher = _watch(path)
    while watcher.poll() != 0:
        if watcher.poll() is not None:
            watcher = _watch(path)
        time.sleep(chance.uniform(0.05, 0.6))
        victims = [*_workers(plan), watcher.pid]
        victim = chance.choice(victims)
        if watcher.poll() is None and len(_results(plan)) < SPARED:
            deaths["watcher" if victim == watcher.pid else "worker"] += 1
            os.kill(victim, signal.SIGKILL)
            if victim == watcher.pid:
                watcher.wait()
    ended = Counter(sum(row["event"] == "ended" for row in attempts(plan, job.key)) for job in jobs)
    same = _results(plan) == _results(undisturbed)
    return {"jobs": len(jobs), "deaths": dict(deaths), "same_bits": same, "ended": dict(ended)}


def _watch(path: Path) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", WATCHER, str(path), str(WORKERS)]
    return subprocess.Popen(words, stderr=subprocess.DEVNULL)


def _workers(plan: Plan) -> list[int]:
    """Worker processes of a plan, as ``/proc`` has them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if b"fewlabel.pipelines.executors.worker" in words and str(plan.root).encode() in words:
            found.append(int(path.parent.name))
    return found


def _cost(root: Path, workers: int) -> float:
    """Seconds of a worker for each of many jobs that do nothing, starting the workers included."""
    plan, path = _plan(root, _jobs(0.0, IDLE // 20, 19))
    started = time.monotonic()
    if workers == 1:
        run_here(plan, lambda _: None)
    else:
        run_in_processes(plan, path, workers, lambda _: None)
    return round(workers * (time.monotonic() - started) / len(plan.jobs), 5)

"""The jobs of a plan on a Ray cluster: many machines that share a disk, and graphics processors shared by jobs."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import fewlabel
from fewlabel.core.errors import Fault, RunStoppedError, SettingsError
from fewlabel.core.progress import say
from fewlabel.core.stop_signals import stopping_on_signals
from fewlabel.pipelines.executors.claims import at_work, claimed, is_done
from fewlabel.pipelines.executors.job_progress import Glance, Standing, glance
from fewlabel.pipelines.executors.jobs import STOPPED_BY_USER, Job, Plan
from fewlabel.pipelines.executors.worker import attempt, limit_threads

#: Seconds between two looks at the jobs.
LOOK_EVERY = 0.5
#: Seconds until a job that is in other hands is offered again.
OFFER_AGAIN = 5.0
#: Bytes for objects that tasks hand to each other: here they hand over nothing.
OBJECTS = 100 * 2**20
#: Seconds that tasks have to save their state after Ctrl-C.
GRACE = 120.0


def run_on_ray(plan: Plan, path: Path, address: str, watch: Callable[[Glance], None]) -> None:
    """Do all jobs of a plan as Ray tasks; one whose worker or machine is lost is begun again elsewhere.

    Machines may come and go. All of them must see the folder of the plan under the same path.

    Args:
        plan: The plan.
        path: Its file.
        address: Of the cluster, as ``auto`` or ``ray://HOST:10001``; empty for one on this machine.
        watch: Told now and then, and at the end, how far the jobs are.

    Raises:
        SettingsError: If Ray is not installed, cannot be reached, or has no machine for a job.
        RunStoppedError: After Ctrl-C or SIGTERM, once all tasks have saved their state.
    """
    ray = _ray()
    standing = Standing(plan)
    with stopping_on_signals(), _cluster(ray, address, plan):
        task = ray.remote(num_cpus=plan.threads, num_gpus=plan.gpus, max_retries=-1)(do_one)
        offered: dict[Any, str] = {}
        again: dict[str, float] = {}
        try:
            while True:
                standing.refresh()
                watch(glance(standing, _running(standing), _places(ray, plan)))
                if standing.settled():
                    break
                in_hand = set(offered.values())
                for job in standing.ready():
                    if job.key not in in_hand and time.monotonic() >= again.get(job.key, 0.0):
                        offered[task.remote(str(path), job.key)] = job.key
                if not offered:
                    time.sleep(LOOK_EVERY)
                    continue
                over, _ = ray.wait(list(offered), num_returns=1, timeout=LOOK_EVERY)
                for reference in over:
                    key = offered.pop(reference)
                    if not ray.get(reference):
                        again[key] = time.monotonic() + OFFER_AGAIN
        except KeyboardInterrupt:
            say("Waiting for tasks to save their state; Ctrl-C again ends them at once.")
            _cancel(ray, offered, standing)
            raise RunStoppedError(STOPPED_BY_USER) from None


def do_one(path: str, key: str) -> bool:
    """Do a job on a machine of the cluster; whether it was ours to do, or done before."""
    plan, jobs = _plan(path)
    job = jobs[key]
    limit_threads(plan.threads)
    with claimed(plan, job) as ours:
        if is_done(plan, key):
            return True
        if ours:
            attempt(plan, job, plan.worker())
        return ours


@lru_cache(maxsize=1)
def _plan(path: str) -> tuple[Plan, dict[str, Job]]:
    """A plan and its jobs by key, read once by each process."""
    plan = Plan.read(Path(path))
    return plan, {job.key: job for job in plan.jobs}


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        fault = Fault("Ray is not installed", "executor", 'Run pip install "fewlabel[cluster]"')
        raise SettingsError("These settings are not valid:", [fault]) from error
    return ray


@contextmanager
def _cluster(ray: Any, address: str, plan: Plan) -> Iterator[None]:
    """Be connected to a cluster; one that was there before stays."""
    if ray.is_initialized():
        yield
        return
    source = str(Path(fewlabel.__file__).resolve().parents[1])
    paths = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {"PYTHONPATH": paths, "OMP_NUM_THREADS": str(plan.threads)}
    # A cluster that Ray starts tells its makers how it is used, unless this is set.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own: dict[str, Any] = {"address": address} if address else {"object_store_memory": OBJECTS}
    try:
        with _own_sigterm():
            ray.init(**own, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables})
    except (ConnectionError, RuntimeError, ValueError) as error:
        fault = Fault(
            f"no Ray cluster answers at {address or 'this machine'} ({error})", "cluster", "Check the address"
        )
        raise SettingsError("These settings are not valid:", [fault]) from error
    try:
        if not address and _places(ray, plan) < 1:
            there = ray.cluster_resources()
            problem = (
                f"a job takes {plan.threads} threads and {plan.gpus:g} graphics processors, and this machine has "
                f"{there.get('CPU', 0):g} and {there.get('GPU', 0):g}"
            )
            raise SettingsError("These settings are not valid:", [Fault(problem, "threads", "Lower threads or gpus")])
        yield
    finally:
        ray.shutdown()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep what SIGTERM does here: Ray would have it end this process, and the tasks with it unsaved."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _places(ray: Any, plan: Plan) -> int:
    """How many jobs the machines that are there now can do at a time."""
    count = 0
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            by_cores = int(has.get("CPU", 0.0) // plan.threads)
            count += min(by_cores, int(has.get("GPU", 0.0) / plan.gpus + 1e-9)) if plan.gpus else by_cores
    return count


def _running(standing: Standing) -> Iterator[str]:
    for job in standing.open():
        if at_work(standing.plan, job):
            yield job.key


def _cancel(ray: Any, offered: dict[Any, str], standing: Standing) -> None:
    """Interrupt all tasks, and wait until none is at work."""
    for reference in offered:
        ray.cancel(reference, force=False)
    until = time.monotonic() + GRACE
    try:
        while time.monotonic() < until and any(_running(standing)):
            time.sleep(LOOK_EVERY)
    except KeyboardInterrupt:
        return

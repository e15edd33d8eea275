"""A study laid out: its data prepared, its cells known, and how long they will take."""

from __future__ import annotations

from dataclasses import dataclass

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import MANIFEST
from fewlabel.core.errors import ArtifactError, Fault
from fewlabel.core.progress import say
from fewlabel.core.settings.durations import clock
from fewlabel.pipelines.executors.claims import forget, is_done
from fewlabel.pipelines.executors.job_progress import Glance
from fewlabel.pipelines.executors.jobs import Plan
from fewlabel.pipelines.executors.worker import limit_threads
from fewlabel.pipelines.study.arms import arm_plans
from fewlabel.pipelines.study.board import Board
from fewlabel.pipelines.study.checks import check_grid
from fewlabel.pipelines.study.chosen_steps import choose_steps, open_arms
from fewlabel.pipelines.study.costs import Costs
from fewlabel.pipelines.study.execution import plan_of, threads_of, workers_of
from fewlabel.pipelines.study.grid import LEAVES, Grid, make_grid
from fewlabel.pipelines.study.published import published_of
from fewlabel.pipelines.study.spec import Study
from fewlabel.pipelines.study.stores import Stores
from fewlabel.pipelines.study.time_left import TimeLeft, whole_seconds


@dataclass(frozen=True)
class Laid:
    """A study whose data are prepared and whose cells are known.

    Attributes:
        study: The study.
        grid: Its cells and jobs.
        plan: The jobs as an executor takes them.
        costs: What jobs take.
        time_left: Tells how long the rest will take.
    """

    study: Study
    grid: Grid
    plan: Plan
    costs: Costs
    time_left: TimeLeft

    @property
    def missing(self) -> list[str]:
        """Keys of jobs that are not done."""
        return [job.key for job in self.plan.jobs if not is_done(self.plan, job.key)]


def lay_out(study: Study) -> Laid:
    """Prepare the data of a study and lay out its cells, all of which are checked.

    Raises:
        SettingsError: If settings are wrong, or the folder of the study holds something else.
        FewlabelError: If data cannot be prepared, or do not have what cells ask for.
    """
    plans = arm_plans(study)
    published_of(study)
    stores = Stores(study)
    limit_threads(threads_of(study.settings))
    check_grid(make_grid(study, plans, stores, {}), stores, steps_open=open_arms(study, plans))
    costs = Costs(study.folder, stores)
    grid = make_grid(study, plans, stores, choose_steps(study, plans, stores, costs))
    plan = plan_of(study, grid)
    _forget_lost(plan, grid)
    return Laid(study, grid, plan, costs, TimeLeft(plan, grid, costs))


def _forget_lost(plan: Plan, grid: Grid) -> None:
    """Have jobs done again whose results were deleted.

    Raises:
        ArtifactError: If results are there but damaged, or of another kind: what they were is not ours to throw away.
    """
    faults, lost = [], 0
    for job in plan.jobs:
        leaf = LEAVES[grid.planned[job.key].stage]
        folder = plan.folder(job.key)
        if not is_done(plan, job.key) or Artifact.find(folder / leaf, leaf) is not None:
            continue
        if (folder / leaf / MANIFEST).exists():
            remedy = f"Delete {folder}; the same command makes it again"
            faults.append(Fault(f"{folder / leaf} is damaged, or not what this study made", job.title, remedy))
        else:
            forget(plan, job.key)
            lost += 1
    if faults:
        raise ArtifactError("The study cannot go on:", faults)
    if lost:
        say(f"{lost} of {len(plan.jobs)} jobs lost their results and are done again.")


def forecast_lines(laid: Laid) -> list[str]:
    """The grid, how many jobs are missing of each stage, and how long all of them will take."""
    done = frozenset(key for key in (job.key for job in laid.plan.jobs) if key not in set(laid.missing))
    glance = Glance(done, (), {}, len(laid.missing), workers_of(laid.study.settings))
    lines = [*Board(laid.study, laid.grid, laid.plan, laid.time_left).table(glance), ""]
    laid.time_left.look(done)
    jobs = [job for job in laid.plan.jobs if job.key not in done]
    seconds = {job.key: laid.time_left.of(job) or 0.0 for job in jobs}
    for stage in ("pretrain", "finetune", "evaluate"):
        keys = [job.key for job in jobs if laid.grid.planned[job.key].stage == stage]
        there = sum(laid.grid.planned[key].stage == stage for key in done)
        if keys or there:
            spent = sum(seconds[key] for key in keys)
            lines.append(f"{stage:<9} {len(keys):>5} to do, {there:>5} done, {clock(spent):>9} of one worker")
    whole = whole_seconds(jobs, seconds, glance.workers)
    by = "one worker" if glance.workers == 1 else f"{glance.workers} workers"
    lines.append(f"all of it: about {clock(whole)} by {by} of {_threads(laid.plan.threads)}")
    return lines


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads"

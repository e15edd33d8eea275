"""The grid of a study: a cell for each arm, number of labelled patients, draw and seed, and the jobs they take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewlabel.core.settings.base import Settings
from fewlabel.pipelines.executors.jobs import JOBS, Job, order
from fewlabel.pipelines.stage_table import STAGES
from fewlabel.pipelines.study.arms import ArmPlan
from fewlabel.pipelines.study.draws import covering_patients, draws_of, every_budget
from fewlabel.pipelines.study.job_keys import job_key, stage_of
from fewlabel.pipelines.study.spec import MOST, Budget, Study, numbers_of
from fewlabel.pipelines.study.stores import Stores

#: Stage → name of the artifact in the folder of its job.
LEAVES = {"pretrain": "encoder", "finetune": "segmenter", "evaluate": "scores"}


@dataclass(frozen=True)
class Cell:
    """One number of the table.

    Attributes:
        arm: Name of the arm.
        labelled: Number of labelled patients; None for the whole train part.
        draw: Number of the draw.
        seed: Seed of fine-tuning.
        store: What it is fine-tuned and scored on.
        pretrain: Key of the job of its encoder; empty from scratch.
        finetune: Key of its training.
        evaluate: Key of its scores.
    """

    arm: str
    labelled: int | None
    draw: int
    seed: int
    store: Path
    pretrain: str
    finetune: str
    evaluate: str

    @property
    def budget(self) -> Budget:
        """Number of labelled patients as it was asked for."""
        return "all" if self.labelled is None else self.labelled

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of its jobs."""
        return tuple(key for key in (self.pretrain, self.finetune, self.evaluate) if key)


@dataclass(frozen=True)
class Planned:
    """A stage of a cell before it is a job.

    Attributes:
        stage: Its name.
        settings: Its settings; of its folders ``data`` alone is true.
        store: What it reads.
        needs: Keys of the jobs that it needs.
    """

    stage: str
    settings: Settings
    store: Path
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """Cells and the jobs they take.

    Attributes:
        cells: All arms of a draw before the next draw.
        jobs: Each after what it needs, those of the first cells first.
        planned: Key → what the job is.
    """

    cells: tuple[Cell, ...]
    jobs: tuple[Job, ...]
    planned: Mapping[str, Planned]


Steps = Mapping[str, Mapping[str, int]]


def make_grid(study: Study, plans: Mapping[str, ArmPlan], stores: Stores, steps: Steps) -> Grid:
    """The cells of a study, and a job for each piece of work that differs.

    Args:
        study: The study.
        plans: Arm → its stages.
        stores: Its prepared data.
        steps: Arm → stage → steps that were chosen.

    Raises:
        FewlabelError: If data cannot be prepared or settings do not fit.
    """
    builder = _Builder(study, stores, steps)
    settings = study.settings
    for budget in every_budget(study):
        takers = {name: plan for name, plan in plans.items() if budget in study.budgets_of(name)}
        for draw in draws_of(study, stores.open(stores.own(next(iter(takers.values())), 0)), budget):
            for seed in numbers_of(settings.seeds):
                for plan in takers.values():
                    builder.add(plan, None if budget == "all" else budget, draw, seed)
    return Grid(tuple(builder.cells), order(builder.jobs), builder.planned)


class _Builder:
    def __init__(self, study: Study, stores: Stores, steps: Steps) -> None:
        self.study, self.stores, self.steps = study, stores, steps
        self.cells: list[Cell] = []
        self.jobs: list[Job] = []
        self.planned: dict[str, Planned] = {}
        self._covered: dict[tuple[Path, int], tuple[str, ...]] = {}

    def _covering(self, store: Path, count: int) -> tuple[str, ...]:
        if (store, count) not in self._covered:
            self._covered[store, count] = covering_patients(self.stores.open(store), count)
        return self._covered[store, count]

    def add(self, plan: ArmPlan, labelled: int | None, draw: int, seed: int) -> None:
        """Add a cell with its jobs."""
        store = self.stores.own(plan, draw)
        drawn: dict[str, Any] = {"labelled": labelled, "draw": 0 if labelled is None else draw}
        trained = seed
        if labelled is not None and self.study.arms[plan.name].labelled_by == "coverage":
            drawn = {"subjects": list(self._covering(store, labelled))}
            # The patients are the same in each draw, the training is not.
            trained = MOST * draw + seed
        chosen = self.steps.get(plan.name, {})
        words = f"{plan.name}, M={'all' if labelled is None else labelled}, draw {draw}, seed {seed}"
        pretrain, values = "", dict[str, Any]()
        if plan.pretrain is not None:
            of_labels = drawn if plan.uses_labels else {}
            own_seed = {"seed": seed} if self.study.settings.encoders == "by_seed" else {}
            values = {**_steps(chosen, "pretrain", plan.pretrain), **of_labels, **own_seed}
            title = f"pretrain {words}" if of_labels or own_seed else f"pretrain {plan.name}"
            where = self.stores.pretraining(plan, draw)
            pretrain = self._job(plan, "pretrain", values, where, title)
        values = {**_steps(chosen, "finetune", plan.finetune), **drawn, "seed": trained, "control": False}
        if pretrain:
            values["encoder"] = "encoder"
        finetune = self._job(plan, "finetune", values, store, f"finetune {words}", {"encoder": pretrain})
        scored: dict[str, Any] = {"segmenter": "segmenter"}
        evaluate = self._job(plan, "evaluate", scored, store, f"evaluate {words}", {"segmenter": finetune})
        self.cells.append(Cell(plan.name, labelled, draw, seed, store, pretrain, finetune, evaluate))

    def _job(
        self,
        plan: ArmPlan,
        stage: str,
        values: Mapping[str, Any],
        store: Path,
        title: str,
        needs: Mapping[str, str] | None = None,
    ) -> str:
        """Add the job of a stage, if it is not there; its key."""
        settings = plan.stage(stage, {"data": store, "out": "out", **values})
        parents = {link: key for link, key in (needs or {}).items() if key}
        record = settings.record()
        key = job_key(stage, record, self.stores.open(store).manifest.content_hash, parents)
        if key not in self.planned:
            self.planned[key] = Planned(stage, settings, store, tuple(parents.values()))
            links = {link: f"{JOBS}/{parent}/{LEAVES[stage_of(parent)]}" for link, parent in parents.items()}
            payload = {
                "stage": stage,
                "settings": {name: value for name, value in record.items() if name not in STAGES[stage].links},
                "links": {"data": Path(os.path.relpath(store, self.study.folder)).as_posix(), **links},
                "network": sorted(plan.user_network) if stage == "finetune" else [],
            }
            self.jobs.append(Job(key, title, payload, self.planned[key].needs))
        return key


def _steps(chosen: Mapping[str, int], stage: str, given: Mapping[str, Any]) -> dict[str, int]:
    """Steps that were chosen, unless they are set."""
    return {"steps": chosen[stage]} if stage in chosen and "steps" not in given else {}

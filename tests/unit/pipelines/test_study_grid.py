"""Cells and jobs of a study: what is shared, what is new, what a change costs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fewlabel.core.errors import FewlabelError
from fewlabel.pipelines.executors.job_progress import Glance
from fewlabel.pipelines.executors.jobs import Job, Plan
from fewlabel.pipelines.study.board import Board, last_step
from fewlabel.pipelines.study.checks import check_grid
from fewlabel.pipelines.study.costs import Costs
from fewlabel.pipelines.study.execution import plan_of, threads_of, workers_of
from fewlabel.pipelines.study.grid import Cell, Grid
from fewlabel.pipelines.study.stores import Stores
from fewlabel.pipelines.study.time_left import TimeLeft, whole_seconds
from kit.studies import SPEC, grid_of, scans, study


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scans(tmp_path_factory.mktemp("study") / "scans")


@pytest.fixture(scope="module")
def out(data: Path) -> Path:
    return data.parent / "out"


def keys(grid: Grid, stage: str = "") -> set[str]:
    return {job.key for job in grid.jobs if job.key.startswith(stage)}


def test_an_arm_is_pretrained_once_for_all_budgets_draws_and_seeds(data: Path, out: Path) -> None:
    grid = grid_of(study(data, out, budgets=[1, 2, "all"], draws=3, seeds=2))
    cells = 3 * (3 + 3 + 1) * 2
    assert (len(grid.cells), len(keys(grid, "pretrain"))) == (cells, 1)
    assert len(keys(grid, "finetune")) == len(keys(grid, "evaluate")) == cells
    done: set[str] = set()
    for job in grid.jobs:
        assert done.issuperset(job.needs)
        done.add(job.key)
    # All arms of a draw come before the next draw.
    assert [(cell.arm, cell.draw) for cell in grid.cells[:6:2]] == [("scratch", 0), ("fixmatch", 0), ("simclr", 0)]
    by_seed = grid_of(study(data, out, seeds=2, encoders="by_seed"))
    assert len(keys(by_seed, "pretrain")) == 2


def test_a_method_that_learns_from_labels_has_an_encoder_for_each_draw(data: Path, out: Path) -> None:
    arms = {"sscl": {"method": "sscl"}, "simclr": {"method": "simclr"}}
    grid = grid_of(study(data, out, arms=arms, budgets=[1, 2]))
    assert len(keys(grid, "pretrain-sscl")) == 4
    assert len(keys(grid, "pretrain-simclr")) == 1


@pytest.mark.parametrize(
    ("change", "redone"),
    [
        ({"name": "other", "executor": "processes", "draws": 2, "confidence": 0.9}, set()),
        ({"finetune": {"checkpoint_seconds": 5.0}, "evaluate": {"batch": 3}}, set()),
        ({"evaluate": {"postprocess": False}}, {"evaluate"}),
        ({"finetune": {"steps": 3}}, {"finetune", "evaluate"}),
        ({"pretrain": {"steps": 3}}, {"pretrain"}),
        ({"arms": {**SPEC["arms"], "mixup": {"regime": "mixup"}}}, set()),
        ({"arms": {**SPEC["arms"], "again": {"doc": "the same by another name"}}}, set()),
    ],
)
def test_a_change_costs_what_it_changes_and_no_more(
    data: Path, out: Path, change: dict[str, Any], redone: set[str]
) -> None:
    before = grid_of(study(data, out))
    after = grid_of(study(data, out, **change))
    for stage in ("pretrain", "finetune", "evaluate"):
        kept = keys(before, stage) & keys(after, stage)
        simclr = {key for cell in before.cells if cell.arm == "simclr" for key in cell.keys}
        if stage in redone:
            assert not kept
        elif redone == {"pretrain"}:
            # What is trained from the encoder, too.
            assert kept == keys(before, stage) - simclr
        else:
            assert kept == keys(before, stage)


def test_arms_may_have_data_of_their_own_and_learn_from_others(data: Path, out: Path, tmp_path: Path) -> None:
    arms = {
        "scratch": {},
        "fine": {"prepare": {"spacing": [5.0, 5.0]}},
        "elsewhere": {"method": "simclr", "pretrain_on": ["more"]},
        "merged": {"method": "simclr", "pretrain_on": ["own", "more"]},
    }
    other = scans(tmp_path / "scans", seed=1)
    sources = {"more": {"data": other, "prepare": {"split": "random"}}}
    asked = study(data, out, arms=arms, sources=sources, draws=1)
    grid = grid_of(asked)
    assert len({cell.store for cell in grid.cells}) == 2
    folders = [grid.planned[key].store.name.split("-")[0] for key in keys(grid, "pretrain")]
    assert sorted(folders) == ["merged", "more"]
    # Other data are other work.
    assert not keys(grid_of(study(other, out, draws=1))) & keys(grid)
    splits = grid_of(study(data, out, resplit=True, split="random", budgets=[1, "all"], arms={"scratch": {}}))
    assert len({cell.store for cell in splits.cells}) == 2
    assert len(splits.cells) == 4


def test_draws_of_the_same_patients_do_not_count_twice(data: Path, out: Path, said: list[str]) -> None:
    grid = grid_of(study(data, out, draws=9, arms={"scratch": {}}, budgets=[1, 4]))
    patients = {cell.finetune for cell in grid.cells if cell.labelled == 1}
    assert len(patients) == 4
    assert sum(cell.labelled == 4 for cell in grid.cells) == 1
    assert "M=1: there are 4 different draws, not 9." in said
    grid_of(study(data, out, draws=list(range(9)), arms={"scratch": {}}))
    assert any("has the patients of another draw and is left out" in line for line in said)


def test_suggested_patients_are_the_same_in_each_draw_and_trained_on_anew(data: Path, out: Path) -> None:
    grid = grid_of(study(data, out, arms={"random": {}, "coverage": {"labelled_by": "coverage"}}, budgets=[2], seeds=2))
    records = {key: grid.planned[key].settings.record() for key in keys(grid, "finetune")}
    covering = [record for record in records.values() if record["subjects"]]
    assert len({tuple(record["subjects"]) for record in covering}) == 1
    assert sorted(record["seed"] % 1000 for record in covering) == [0, 0, 1, 1]
    assert all(len(record["subjects"]) == 2 and record["labelled"] is None for record in covering)
    assert len(records) == 8


def test_what_the_data_lack_is_told_before_anything_is_trained(data: Path, out: Path) -> None:
    asked = study(data, out, budgets=[1, 9], arms={"scratch": {}, "far": {"evaluate": {"part": "train"}}})
    stores = Stores(asked)
    with pytest.raises(FewlabelError) as caught:
        check_grid(grid_of(asked), stores)
    told = str(caught.value)
    assert "budgets: the train part has 4 labelled subjects, not the 9 asked for" in told
    assert 'evaluate.part: "train" holds labels that training uses' in told
    assert told.count("not the 9 asked for") == 1


def test_workers_and_threads_share_the_cores(data: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewlabel.pipelines.study.execution.cores", lambda: 8)
    for over, wanted in (
        ({}, (1, None)),
        ({"executor": "processes"}, (8, 1)),
        ({"executor": "processes", "workers": 2}, (2, 4)),
        ({"executor": "processes", "threads": 4}, (2, 4)),
        ({"executor": "ray"}, (8, 1)),
    ):
        settings = study(data, out, **over).settings
        assert workers_of(settings) == wanted[0]
        assert wanted[1] in (None, threads_of(settings))


def test_whole_seconds_of_workers_who_take_what_is_ready() -> None:
    jobs = [Job("p", "p"), *(Job(name, name, needs=("p",)) for name in "abc"), Job("free", "free")]
    seconds = {"p": 4.0, "a": 2.0, "b": 2.0, "c": 2.0, "free": 1.0}
    assert whole_seconds(jobs, seconds, 1) == 11
    assert whole_seconds(jobs, seconds, 2) == 8
    assert whole_seconds(jobs, seconds, 9) == 6
    # What is not among them is done.
    assert whole_seconds(jobs[1:], seconds, 9) == 2
    assert whole_seconds([], seconds, 2) == 0


def test_time_left_by_what_was_done_and_the_board(data: Path, out: Path) -> None:
    asked = study(data, out, budgets=[1, 2])
    grid = grid_of(asked)
    plan = plan_of(asked, grid)
    stores = Stores(asked)
    left = TimeLeft(plan, grid, Costs(out / "nowhere", stores))
    board = Board(asked, grid, plan, left)
    nothing = Glance(frozenset(), (), {}, len(plan.jobs), 1)
    assert board.status(nothing) == "study: 0 of 12 cells, 0 of 25 jobs, time left unknown yet"
    assert board.lines(nothing)[0] == "arm                M=1           M=2"
    assert board.lines(nothing)[1] == "scratch            0/2           0/2"
    running = next(job for job in plan.jobs if job.key.startswith("finetune"))
    record = plan.folder(running.key) / "segmenter" / "metrics.jsonl"
    record.parent.mkdir(parents=True)
    record.write_text('{"step": 0, "seconds": 99}\n{"step": 1, "seconds": 30}\n{"ste')
    assert last_step(record) == 1
    # Two steps of 30 s make a job, half of one of twelve is done; nobody has met the other stages.
    trainings = sum(job.key.startswith("finetune") for job in plan.jobs)
    glance = Glance(frozenset(), (running.key,), {}, 24, 1)
    assert trainings == 12
    assert board.status(glance) == "study: 0 of 12 cells, 0 of 25 jobs, 1 at work, at least 11:30 left"
    left._took = {left._kinds[job.key]: [10.0] for job in plan.jobs}
    glance = Glance(frozenset(), (running.key,), {"x": "why"}, 24, 1)
    # Half of one of 25 jobs of 10 s is done.
    assert board.status(glance) == "study: 0 of 12 cells, 0 of 25 jobs, 1 at work, 1 failed, 4:05 left"
    assert board.lines(glance)[-1] == f"  {running.title}: step 1 of 2"
    assert all(len(line) <= 80 for line in board.lines(glance))


@pytest.mark.parametrize("budgets", [1, 3, 5])
def test_the_board_fits_into_80_columns_whatever_arms_are_called(budgets: int, tmp_path: Path) -> None:
    names = ["x" * 60, "gcl"]
    cells = tuple(
        Cell(arm, labelled, draw, 0, tmp_path, "", "", f"{arm}{labelled}{draw}")
        for arm in names
        for labelled in range(1, budgets + 1)
        for draw in range(10)
    )
    asked: Any = SimpleNamespace(arms=dict.fromkeys(names))
    left: Any = None
    board = Board(asked, Grid(cells, (), {}), Plan(tmp_path, "", (), "one"), left)
    board._dice = {cell.evaluate: 0.5 for cell in cells}
    table = board.table(Glance(frozenset(board._dice), (), {}, 0, 1))
    assert max(map(len, table)) <= 80
    assert table[1].split() == [table[1].split()[0], *(["0.500", "10/10"] * budgets)]
    assert table[1].startswith("xxxxxxxx")

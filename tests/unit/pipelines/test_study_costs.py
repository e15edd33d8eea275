"""What kinds of jobs a study has: those of one kind take about as long as each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.errors import FewlabelError, SettingsError
from fewlabel.data.phantom.scans import write_phantom
from fewlabel.pipelines.study import study_of
from fewlabel.pipelines.study.arms import arm_plans
from fewlabel.pipelines.study.checks import check_grid, label_use
from fewlabel.pipelines.study.chosen_steps import open_arms
from fewlabel.pipelines.study.costs import Costs, kind_by_settings
from fewlabel.pipelines.study.grid import Cell, Grid
from fewlabel.pipelines.study.spec import Study
from fewlabel.pipelines.study.stores import Stores
from kit.studies import SPEC, grid_of, scans, study


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scans(tmp_path_factory.mktemp("costs") / "scans")


@pytest.fixture(scope="module")
def out(data: Path) -> Path:
    return data.parent / "out"


def kinds(asked: Study, job: str = "finetune") -> dict[int | None, str]:
    """Number of labelled patients, or M of a coverage arm → kind of the job."""
    grid, costs = grid_of(asked), Costs(asked.folder, Stores(asked))
    return {cell.labelled: costs.kind(grid, getattr(cell, job)) for cell in grid.cells}


def one_arm(data: Path, out: Path, budgets: list[Any], arm: dict[str, Any] | None = None, **finetune: Any) -> Study:
    return study(data, out, arms={"only": arm or {}}, budgets=budgets, draws=1, finetune=finetune)


@pytest.mark.parametrize("setting", [{"validation": "leave_one_out"}, {"validation": "none", "expect": "always"}])
@pytest.mark.parametrize("labelled_by", ["draws", "coverage"])
def test_trainings_that_leave_patients_out_are_of_a_kind_for_each_number_of_them(
    data: Path, out: Path, setting: dict[str, str], labelled_by: str
) -> None:
    asked = one_arm(data, out, [2, 3, 4], {"labelled_by": labelled_by}, **setting)
    grid, stores = grid_of(asked), Stores(asked)
    fits = {cell.labelled: label_use(cell.finetune, grid, stores, None).left_out_fits for cell in grid.cells}
    assert fits == {2: 2, 3: 3, 4: 4}
    assert len(set(kinds(asked).values())) == 3


@pytest.mark.parametrize("setting", [{"validation": "none"}, {}])
def test_trainings_that_leave_nobody_out_are_of_one_kind(data: Path, out: Path, setting: dict[str, str]) -> None:
    found = kinds(one_arm(data, out, [1, 2], **setting))
    assert found[1] == found[2]


def test_trainings_that_hold_patients_out_are_of_one_kind_that_is_not_that_of_those_without(
    tmp_path: Path, out: Path
) -> None:
    many = write_phantom(tmp_path / "many", patients=12, labelled=10, test=2)
    asked = study(many, out / "held", arms={"only": {}}, budgets=[1, 3, 4], draws=1, split="random")
    grid, stores = grid_of(asked), Stores(asked)
    selections = [label_use(cell.finetune, grid, stores, None).selection for cell in grid.cells]
    assert selections == ["none", "held_out", "held_out"]
    found = kinds(asked)
    assert found[3] == found[4] != found[1]


def test_one_labelled_patient_by_coverage_is_one_patient(data: Path, out: Path) -> None:
    arms = {"drawn": {}, "covered": {"labelled_by": "coverage"}}
    asked = study(data, out, arms=arms, budgets=[1], draws=1)
    grid, costs = grid_of(asked), Costs(out, Stores(asked))
    drawn, covered = (costs.kind(grid, cell.finetune) for cell in grid.cells)
    assert drawn == covered


def test_evaluations_are_of_one_kind_whatever_their_training_left_out(data: Path, out: Path) -> None:
    assert len(set(kinds(one_arm(data, out, [2, 3, 4], validation="leave_one_out"), "evaluate").values())) == 1


def test_a_job_of_more_trainings_takes_longer(data: Path, out: Path) -> None:
    asked = one_arm(data, out / "timed", [2, 4], validation="leave_one_out")
    asked.folder.mkdir(parents=True)
    grid, costs = grid_of(asked), Costs(asked.folder, Stores(asked))
    costs.measure(grid, grid.cells)
    fits = [cost.fits for cell in grid.cells if (cost := costs.cost(grid, cell.finetune)) is not None]
    assert fits == [3, 5]


def settings_kinds(grid: Grid, stores: Stores, cells: tuple[Cell, ...]) -> list[str]:
    return [kind_by_settings(grid, cell.finetune, stores) for cell in cells]


def test_steps_that_were_chosen_are_kept_by_the_settings_alone(data: Path, out: Path) -> None:
    asked = one_arm(data, out, [2, 3, 4], validation="leave_one_out")
    grid = grid_of(asked)
    two, three, four = settings_kinds(grid, Stores(asked), grid.cells)
    assert two != three == four


def refused(asked: Study) -> list[str]:
    grid, stores = grid_of(asked), Stores(asked)
    try:
        check_grid(grid, stores, open_arms(asked, arm_plans(asked)))
    except FewlabelError as error:
        return [fault.where for fault in error.faults]
    return []


def test_what_a_regime_refuses_is_told_for_all_arms_before_any_training(data: Path, out: Path) -> None:
    arms = {
        "flat": {"regime": "urpc", "finetune": {"network": {"depth": 2}}},
        "fine": {},
        "slow": {"finetune": {"optimiser": {"warmup": 5}}},
    }
    asked = study(data, out, arms=arms, draws=1)
    assert refused(asked) == ["arms.flat: network.depth", "arms.slow: optimiser.warmup"]
    grid, stores = grid_of(asked), Stores(asked)
    with pytest.raises(SettingsError):
        check_grid(grid, stores)


def test_a_warm_up_is_no_fault_of_an_arm_whose_steps_are_to_be_chosen(data: Path, out: Path) -> None:
    learning = {key: value for key, value in SPEC["finetune"].items() if key != "steps"}
    arms = {"timed": {}, "set": {"finetune": {"steps": 9}}}
    spec = {**SPEC, "recipe": "default", "arms": arms, "minutes": 1.0}
    spec["finetune"] = {**learning, "optimiser": {"warmup": 5000}}
    asked = study_of(spec, {"data": data, "out": out})
    assert open_arms(asked, arm_plans(asked)) == {"timed"}
    assert refused(asked) == ["arms.set: optimiser.warmup"]

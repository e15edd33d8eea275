"""Steps that are timed: which, how they are weighed, and that nothing of them is left."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from fewlabel.core.errors import DataError
from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.data.store import PreparedStore
from fewlabel.engine import compiling
from fewlabel.engine.loop import Loop
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.pipelines import step_timing, time_estimate
from fewlabel.pipelines.step_timing import pretraining_cost
from fewlabel.pipelines.time_estimate import NOMINAL, mean_seconds, parts_of
from fewlabel.protocol.training_eligibility import drawn_labels
from fewlabel.stages.evaluate import EvaluateSettings
from fewlabel.stages.finetune import FinetuneSettings, LabelUse, segmenter_run
from fewlabel.stages.report import ReportSettings
from kit.segmenters import prepared_discs
from kit.stores import make_store
from kit.tiny import finetune_settings, pretrain_settings


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PreparedStore:
    made = make_store(tmp_path_factory.mktemp("measured") / "prepared", subjects=8, depth=3, size=(16, 16), phases=1)
    return PreparedStore(made)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_estimate, "SECONDS", 0.0)


def label_use(settings: FinetuneSettings, selection: Any) -> LabelUse:
    drawn = drawn_labels(PreparedStore(settings.data), settings.labelled, settings.draw, settings.subjects)
    return LabelUse(drawn, selection)


def finetuning_costs(settings: FinetuneSettings, selection: Any) -> Any:
    return step_timing.finetuning_costs(settings, label_use(settings, selection))


def regime(name: str, *, pretrained: bool = False, **settings: Any) -> Any:
    config = resolve_plugin("fewlabel.regimes", {"name": name, **settings})
    network = UNet(UNetConfig(width=4, depth=3), classes=4)
    return load_plugin("fewlabel.regimes", name)(config, network, pretrained=pretrained)


def test_a_run_of_one_stage_has_one_part() -> None:
    assert parts_of(regime("supervised").training_phase) == [(0, NOMINAL)]


def test_stages_and_the_rest_part_a_run() -> None:
    first = -(-NOMINAL // 3)
    assert parts_of(regime("arco").training_phase) == [(0, first), (first, NOMINAL - first)]
    assert parts_of(regime("arco", pretrained=True).training_phase) == [(0, NOMINAL)]
    assert parts_of(regime("bcp").training_phase, rest=0.25) == [(0, NOMINAL // 4), (NOMINAL // 4, 3 * NOMINAL // 4)]
    # The rest ends where the stage does, whatever 0.55 times the length is in binary.
    fixmatch = regime("fixmatch", rest=0.55).training_phase
    assert parts_of(fixmatch, rest=0.55) == [(0, 55_000), (55_000, 45_000)]
    assert parts_of(lambda step, total: (0, 40_000) if step < 40_000 else (40_000, 60_000), rest=0.4) == [
        (0, 40_000),
        (40_000, 60_000),
    ]


def test_steps_are_weighed_by_the_shares_of_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a made-up clock: 1 s in the first quarter, 3 s in the others, and ten times that where a step is the first."""
    now, taken = [0.0], []

    def work(step: int) -> None:
        seconds = 1.0 if step < 25_000 else 3.0
        now[0] += seconds * (10 if not taken or taken[-1] != step else 1)
        taken.append(step)

    monkeypatch.setattr(time_estimate.time, "perf_counter", lambda: now[0])
    assert mean_seconds(work, [(0, 25_000), (25_000, 75_000)], nn.Identity()) == pytest.approx(0.25 * 1 + 0.75 * 3)
    assert set(taken) == {12_500, 62_500}


@pytest.mark.parametrize(("seconds", "calls"), [(0.001, 8), (1.0, 4), (0.6, 6), (100.0, 4)])
def test_quick_steps_are_timed_more_often(monkeypatch: pytest.MonkeyPatch, seconds: float, calls: int) -> None:
    now, taken = [0.0], []

    def work(step: int) -> None:
        now[0] += seconds
        taken.append(step)

    monkeypatch.setattr(time_estimate, "SECONDS", 3.0)
    monkeypatch.setattr(time_estimate.time, "perf_counter", lambda: now[0])
    assert mean_seconds(work, [(0, NOMINAL)], nn.Identity()) == pytest.approx(seconds)
    assert len(taken) == calls


def test_a_burst_of_other_work_is_not_taken_for_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 20 s while something else runs, then of 0.5 s: more of them are looked at, and the fast ones count."""
    now, taken = [0.0], []

    def work(step: int) -> None:
        taken.append(step)
        now[0] += 20.0 if len(taken) < 4 else 0.5

    monkeypatch.setattr(time_estimate, "SECONDS", 3.0)
    monkeypatch.setattr(time_estimate.time, "perf_counter", lambda: now[0])
    assert mean_seconds(work, [(0, NOMINAL)], nn.Identity()) == pytest.approx(0.5)
    assert len(taken) == 1 + 6


def test_every_step_meets_the_same_state() -> None:
    """A guard that gives up after a step on random weights makes no later one cheaper."""
    module = nn.BatchNorm1d(3)
    seen = []

    def work(step: int) -> None:
        seen.append(int(module.num_batches_tracked))
        module(torch.randn(4, 3))

    mean_seconds(work, [(0, 60_000), (60_000, 40_000)], module)
    assert set(seen) == {0}
    assert len(seen) == 2 * (1 + time_estimate.FEWEST)


def test_pretraining_is_timed_and_leaves_nothing(store: PreparedStore, tmp_path: Path) -> None:
    settings = pretrain_settings(store.folder, tmp_path / "encoder", method="simclr", steps=7)
    cost = pretraining_cost(settings, store)
    assert cost.name == "pretrain"
    assert cost.step > 0
    assert cost.fixed > 0
    assert (cost.fits, cost.lowest) == (1, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_warm_up_asks_for_steps(store: PreparedStore, tmp_path: Path) -> None:
    warm = {"optimiser": {"warmup": 120}}
    assert (
        pretraining_cost(pretrain_settings(store.folder, tmp_path / "e", method="simclr", **warm), store).lowest == 121
    )
    # The first of ARCO's stages is a third.
    settings = finetune_settings(store.folder, tmp_path / "s", regime="arco", labelled=1, **warm)
    (cost, *_), _ = finetuning_costs(settings, "none")
    assert cost.lowest in (363, 364)


def test_fine_tuning_is_timed_beside_its_control(store: PreparedStore, tmp_path: Path) -> None:
    def costs(selection: Any = "none", **values: Any) -> Any:
        settings = finetune_settings(store.folder, tmp_path / "s", control=True, **values)
        return finetuning_costs(settings, selection)[0]

    model, control = costs(labelled=1, encoder=tmp_path / "nowhere", recalibrate="auto")
    assert (model.name, control.name) == ("finetune", "control")
    assert model.step == control.step > 0
    assert model.most_pixels == math.inf
    # Statistics of batch normalisation are taken anew at the end.
    assert model.fixed == control.fixed > 0
    # From scratch a supervised run is its own control, and that of another regime is supervised.
    assert [(cost.name, cost.fixed) for cost in costs(labelled=1, recalibrate="never")] == [("finetune", 0.0)]
    assert [cost.name for cost in costs(labelled=1, regime="mean_teacher")] == ["finetune", "control"]
    one_out = costs("leave_one_out", labelled=3)
    assert [cost.fits for cost in one_out] == [4]
    assert costs(labelled=1, patch=[4, 8, 8])[0].most_pixels == 0
    assert costs(labelled=1, view=[8, 12])[0].most_pixels == 96
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("selection", "labelled"), [("held_out", 3), ("leave_one_out", 2)])
def test_validation_counts_as_a_part_of_the_steps(
    store: PreparedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selection: Any, labelled: int
) -> None:
    """By a clock that a prediction of a volume moves by 6 s, and nothing else."""
    now = [0.0]

    def predict(*words: Any, **settings: Any) -> Any:
        now[0] += 6.0

    monkeypatch.setattr(time_estimate.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(step_timing, "predict_volume", predict)
    settings = finetune_settings(store.folder, tmp_path / "s", labelled=labelled, validate_every=10)
    (cost,), fit = finetuning_costs(settings, selection)
    subjects = store.split["parts"]["validation"]
    if selection == "leave_one_out":
        subjects = set(store.slices.iloc[fit.loader.labelled.source.indices]["subject"])
    held = sorted(case.stop - case.start for case in store.cases if case.subject in subjects)
    whole = 6.0 / held[len(held) // 2] * sum(held) / 10
    # Two patients: two fits that validate on one of them, and one that does not.
    assert cost.step == pytest.approx(whole if selection == "held_out" else whole / 3)
    assert cost.fits == (1 if selection == "held_out" else 3)


def test_a_rehearsal_moves_no_weight(store: PreparedStore, tmp_path: Path) -> None:
    settings = finetune_settings(store.folder, tmp_path / "s", labelled=1, optimiser={"lr": 1e6})
    _, fit = finetuning_costs(settings, "none")
    tensors = fit.model.state_dict().values()
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
    assert max(float(tensor.detach().abs().max()) for tensor in fit.model.parameters()) < 10
    assert list(tmp_path.iterdir()) == []


def test_weak_to_strong_is_timed_in_both_of_its_phases(store: PreparedStore, tmp_path: Path) -> None:
    """On random weights its guard gives up at once: what was timed is not a run that has."""
    settings = finetune_settings(store.folder, tmp_path / "s", labelled=1, regime="fixmatch")
    _, fit = finetuning_costs(settings, "none")
    (_, first), (_, second) = step_timing._parts(fit)
    assert first > 0
    assert second > 0
    assert first + second == NOMINAL


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> PreparedStore:
    return PreparedStore(prepared_discs(tmp_path_factory.mktemp("discs")))


def test_evaluation_is_timed_on_a_scan_outside_the_test_part(
    discs: PreparedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    now = [0.0]
    real = step_timing.predict_volume

    def predict(network: Any, images: Any, **settings: Any) -> Any:
        now[0] += 1.0
        seen.append((images, settings))
        return real(network, images, **settings)

    monkeypatch.setattr(time_estimate.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(step_timing, "predict_volume", predict)
    values = {"data": discs.folder, "segmenter": tmp_path / "s", "out": tmp_path / "o"}
    settings = EvaluateSettings.parse({**values, "flip": True, "device": "cpu", "precision": "32"})
    _, fit = finetuning_costs(finetune_settings(discs.folder, tmp_path / "s", labelled=1), "none")
    # Three scans of as many slices as the one that is timed, by four networks.
    assert step_timing.evaluation_seconds(settings, discs, fit, members=4) == pytest.approx(12.0)
    images, asked = seen[-1]
    assert (asked["flip"], asked["precision"]) == (True, "32")
    cases = [case for case in discs.cases if (discs.images[case.start : case.stop, 0] == images[0].astype("f2")).all()]
    assert {case.subject for case in cases} < {"s1", "s2"}


def test_compiling_is_timed_once_and_counts_beside_the_steps(
    store: PreparedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that a step moves by 1 s, and the first one of a kind by 20 s where it is compiled."""
    now, known = [0.0], set()
    real = Loop.run

    def run(loop: Loop, step_function: Any, first_step: int = 0) -> None:
        real(loop, step_function, first_step)
        fresh = first_step not in known and first_step > 0
        known.add(first_step)
        now[0] += 20.0 if fresh and compiles else 1.0

    monkeypatch.setattr(time_estimate.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(Loop, "run", run)
    monkeypatch.setattr(compiling, "broken", lambda kind: "")
    monkeypatch.setattr(compiling.nn.Module, "compile", lambda module, **words: None)
    for compiles in (True, False):
        known.clear()
        told = {"labelled": 1, "regime": "fixmatch", "compile": compiles}
        (cost, *_), fit = finetuning_costs(finetune_settings(store.folder, tmp_path / "s", **told), "none")
        assert fit.compiled == compiles
        # In each of its two phases.
        assert cost.fixed == pytest.approx(40.0 if compiles else 0.0)
        assert cost.step == pytest.approx(1.0)
        known.clear()
        told = {"method": "simclr", "compile": compiles}
        cost = pretraining_cost(pretrain_settings(store.folder, tmp_path / "e", **told), store)
        assert cost.fixed == pytest.approx(20.0 if compiles else 0.0)
        assert cost.step == pytest.approx(1.0)


def test_what_pays_is_decided_by_the_steps_of_the_run(
    store: PreparedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by the many that measured ones are taken from."""
    monkeypatch.setattr(compiling, "unpaid", lambda *machine: "")
    monkeypatch.setattr(compiling, "broken", lambda kind: "")
    monkeypatch.setattr(compiling.nn.Module, "compile", lambda module, **words: None)
    monkeypatch.setattr(segmenter_run, "plain_seconds", lambda *shape: 1.0)
    for steps in (compiling.PAYS_FROM - 1, compiling.PAYS_FROM):
        told = {"labelled": 1, "steps": int(steps)}
        _, fit = finetuning_costs(finetune_settings(store.folder, tmp_path / "s", **told), "none")
        assert fit.compiled == (steps == compiling.PAYS_FROM)


def test_the_report_is_timed_by_the_scans_it_predicts(
    store: PreparedStore, discs: PreparedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that a prediction of a volume moves by 6 s, and nothing else."""
    now = [0.0]

    def predict(*words: Any, **settings: Any) -> Any:
        now[0] += 6.0

    def shown(made: PreparedStore, *, evaluates: bool, arms: int = 1, unlabelled: int = 6, **values: Any) -> float:
        learning = finetune_settings(made.folder, tmp_path / "s", **values)
        plans = {
            "finetune": learning,
            "evaluate": SimpleNamespace(part="test"),
            "report": ReportSettings(unlabelled=unlabelled, device="cpu"),
        }
        _, fit = finetuning_costs(learning, "none")
        with monkeypatch.context() as patch:
            patch.setattr(time_estimate.time, "perf_counter", lambda: now[0])
            patch.setattr(step_timing, "predict_volume", predict)
            return step_timing.shown_seconds(plans, made, fit, label_use(learning, "none"), arms, evaluates=evaluates)

    # Three scored scans of as many slices as the one that is timed, by two members of each arm; and one without a label
    # by those of the arm that is used.
    assert shown(discs, evaluates=True, arms=2, members=2, labelled=1) == pytest.approx((3 * 2 + 1) * 2 * 6.0)
    # Of unlabelled scans all are predicted to choose from, by the arm that is used.
    parts = store.split["parts"]
    one = finetune_settings(store.folder, tmp_path / "s", labelled=1)
    drawn = drawn_labels(store, one.labelled, one.draw, one.subjects).labelled
    others = {"train": set(parts["train"]) | set(parts["pretrain"]), "test": set(parts["test"])}
    left = others["train"] - others["test"] - set(parts["validation"]) - set(drawn)
    depths = {case.subject: case.stop - case.start for case in store.cases}
    assert 1 < len(left) < len(depths)
    timed = sorted(depth for subject, depth in depths.items() if subject not in others["test"])
    found = shown(store, evaluates=False, arms=2, members=2, labelled=1)
    wanted = 2 * 6.0 * sum(depths[subject] for subject in left) / timed[len(timed) // 2]
    assert found == pytest.approx(wanted)
    assert shown(store, evaluates=False, labelled=1, unlabelled=0) == 0


def test_what_a_stage_would_refuse_is_refused(store: PreparedStore, tmp_path: Path) -> None:
    known = label_use(finetune_settings(store.folder, tmp_path / "s", labelled=1), "none")
    with pytest.raises(DataError, match="99 asked for"):
        step_timing.finetuning_costs(finetune_settings(store.folder, tmp_path / "s", labelled=99), known)

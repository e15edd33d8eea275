"""``learn`` on runs of other settings than the usual, and the settings that it takes and refuses."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import read_json, write_json
from fewlabel.core.errors import SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.pipelines import learn
from fewlabel.pipelines.round_training import LearnSettings
from fewlabel.stages import finetune
from kit.changed import encoder_that_saw
from kit.segmenters import annotate, nested_discs, trained_run
from kit.tiny import finetune_settings

FIELDS = finetune.FinetuneSettings.model_fields.keys()
QUICK = {"device": "cpu", "scans": 0, "take": "always"}


def go(run: Path, **values: Any) -> Path:
    return learn.run(learn.learn_settings({"run": run, **QUICK, **values}))


def trained_with(round_folder: Path) -> dict[str, Any]:
    """Settings of the training of a round."""
    return dict(Artifact.open(round_folder / "segmenter").manifest.settings)


def told(**values: Any) -> dict[str, str]:
    """Setting → what is wrong with it, and what to do."""
    with pytest.raises(SettingsError) as caught:
        learn.learn_settings({"run": "run", **values})
    return {fault.where: f"{fault.problem}. {fault.remedy}" for fault in caught.value.faults}


# What the network began as.


def test_a_network_that_began_from_scratch_goes_on_learning(tmp_path: Path) -> None:
    run = trained_run(tmp_path, mode="scratch")
    annotate(run, "c", nested_discs(2))
    annotate(run, "a", nested_discs(1))
    made = go(run, steps=2)
    record = read_json(made / "round.json")
    assert {case: mask["kind"] for case, mask in record["masks"].items()} == {"a": "corrected", "c": "new"}
    assert record["scores"]["left_out"]["before"].keys() == {"a", "b"}
    assert record["scores"]["unseen"].keys() == {"c"}
    assert trained_with(made)["mode"] == "warm"
    # Two steps from where it was, not from random weights.
    before, after = (load_file(folder / "segmenter" / "segmenter.safetensors") for folder in (run, made))
    assert all(torch.allclose(before[key].float(), after[key].float(), atol=0.1) for key in before)


@pytest.mark.parametrize("arm", ["model", "control"])
def test_an_encoder_stays_frozen_where_it_was_frozen(tmp_path: Path, arm: str) -> None:
    run = trained_run(tmp_path, expect="never")
    shutil.rmtree(run / "segmenter")
    encoder = encoder_that_saw(run / "encoder", run / "prepared", ())
    frozen = {"encoder": encoder, "mode": "frozen", "control": True, "encoder_lr": 0.1, "expect": "never"}
    finetune.run(finetune_settings(run / "prepared", run / "segmenter", **frozen))
    used = {"model": run / "segmenter", "control": run / "segmenter-control"}[arm]
    use = {"arm": arm, "reason": "said", "content": {arm: Artifact.open(used).content_hash}}
    write_json(run / "run.json", {"kind": "run", "stages": {"finetune": {}}, "use": use})
    annotate(run, "c", nested_discs(2))
    learnt = trained_with(first := go(run, steps=2))
    # A rate of its own is that of a pre-trained encoder.
    expected = {"model": ("frozen", 0.1), "control": ("warm", 1.0)}[arm]
    assert (learnt["mode"], learnt["encoder_lr"]) == expected
    annotate(run, "d", nested_discs(3))
    learnt = trained_with(second := go(run, steps=2))
    assert (learnt["mode"], learnt["encoder_lr"]) == expected
    for folder in (first, second):
        before, after = (load_file(each / "segmenter.safetensors") for each in (used, folder / "segmenter"))
        weights = [key for key in before if key.startswith("encoder.") and key.endswith("weight")]
        assert all(torch.equal(before[key], after[key]) for key in weights) is (arm == "model")


def test_going_on_from_scratch_is_a_contradiction() -> None:
    with pytest.raises(SettingsError) as caught:
        finetune.FinetuneSettings.parse({"data": "a", "out": "b", "start": "c", "mode": "scratch", "control": True})
    assert {fault.where: fault.problem for fault in caught.value.faults} == dict.fromkeys(
        ("mode", "control"), "cannot be combined with start"
    )


# Steps.


def test_a_budget_keeps_the_steps_that_the_warm_up_of_the_run_takes(tmp_path: Path) -> None:
    run = trained_run(tmp_path, optimiser={"name": "adam", "lr": 1e-3, "warmup": 25})
    annotate(run, "c", nested_discs(2))
    made = go(run, budget="1s")
    assert read_json(made / "round.json")["steps"] == 30


@pytest.mark.parametrize("steps", [1, 24, 25])
def test_steps_that_the_warm_up_takes_whole_are_refused_before_any_work(
    run: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    annotate(run, "c", nested_discs(2))
    monkeypatch.setattr(learn, "run_stage", lambda *_, **__: pytest.fail("work was begun"))
    with pytest.raises(SettingsError) as caught:
        go(run, steps=steps, finetune={"optimiser": {"warmup": 25}})
    (fault,) = caught.value.faults
    assert fault.where == "finetune.optimiser.warmup"
    assert fault.remedy == ("Set it to 0, or raise steps" if steps == 1 else f"Set it below {steps}, or raise steps")
    assert not list((run / "rounds").glob("*/*"))


# What is refused.


def test_settings_that_a_round_has_itself_are_refused_at_once() -> None:
    given = {"steps": 7, "device": "cpu", "validate_every": 1, "out": "elsewhere", "data": "other", "start": "other"}
    given |= {"subjects": ["a"], "labelled": 1, "draw": 0, "encoder": "e", "control": True, "resume": True}
    found = told(finetune={**given, "seed": 3}, rate=2.0)
    assert found.keys() == {"rate", *(f"finetune.{key}" for key in given)}
    assert found["finetune.out"] == "is set by the pipeline itself. Leave it out"
    assert found["finetune.steps"] == "is set by the pipeline itself. Write steps=7, a setting of learn itself"
    assert found["finetune.device"] == "is set by the pipeline itself. Write device=cpu, a setting of learn itself"
    learn.learn_settings({"run": "run", "finetune": {"seed": 3, "regime": "supervised", "expect": "never"}})


def test_every_other_setting_reaches_the_training(run: Path) -> None:
    values: dict[str, Any] = {
        "regime": {"name": "mean_teacher"},
        "augment": {"crop": 0.5},
        "optimiser": {"lr": 0.5},
        "network": {"norm": "instance"},
        "view": [16, 16],
        "patch": None,
        "tracking": ["tensorboard"],
        **{"mode": "frozen", "transfer": "encoder", "validation": "none", "expect": "never", "recalibrate": "always"},
        **{"class_prior": False, "widen_augment": False, "postprocess": False, "compile": True, "precision": "bf16"},
        **{"encoder_lr": 0.5, "patch_foreground": 0.5, "recalibrate_share": 0.25, "checkpoint_seconds": 7.0},
        **{"batch": 3, "unlabelled_batch": 3, "seed": 3, "members": 3, "threads": 3, "log_every": 3},
    }
    refused = {where.removeprefix("finetune.") for where in told(finetune=dict.fromkeys(FIELDS, 1))}
    assert values.keys() | refused == FIELDS
    start, store = Artifact.open(run / "segmenter", "segmenter"), PreparedStore(run / "prepared")
    settings = LearnSettings.parse({"run": run, "finetune": values})
    reached = learn.round_tuning(settings, start, store, {}, run / "rounds" / "1").record()
    for key, value in values.items():
        assert reached[key] == ({**reached[key], **value} if isinstance(value, dict) else value), key


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"stepz": 3}, "finetune.stepz"),
        ({"mode": "scratch"}, "finetune.mode"),
        ({"optimiser": {"lr": -1.0}}, "finetune.optimiser.lr"),
        ({"regime": {"reste": 0.5}}, "finetune.regime.reste"),
    ],
)
def test_what_the_training_would_refuse_is_told_before_masks_are_taken(
    run: Path, given: dict[str, Any], where: str
) -> None:
    annotate(run, "c", nested_discs(2))
    with pytest.raises(SettingsError) as caught:
        go(run, steps=2, finetune=given)
    assert [fault.where for fault in caught.value.faults] == [where]
    assert not list((run / "rounds").glob("*/*"))

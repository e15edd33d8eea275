"""Two and four gloo processes equal one process on the joined batch, in weights after several steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fewlabel.core.artifact.files import read_json
from fewlabel.engine.record import read_record
from kit.command_line import fewlabel
from kit.ranks import run_command
from kit.stores import make_store

TINY = ["network.width=4", "network.depth=3", "device=cpu", "precision=32", "log_every=1", "steps=5"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("two") / "prepared", subjects=6, depth=5, size=(32, 32))


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory):
    """Runs a command in so many processes; what ``torchrun`` itself adds, other tests have."""

    def run(words: list[str], processes: int) -> None:
        if processes == 1:
            fewlabel(*words)
        else:
            run_command(tmp_path_factory.mktemp("meeting"), words, processes)

    return run


def _same(one: Path, two: Path) -> None:
    first, second = load_file(one), load_file(two)
    assert first.keys() == second.keys()
    for key, tensor in first.items():
        torch.testing.assert_close(
            tensor, second[key], rtol=2e-4, atol=2e-5, msg=lambda text, key=key: f"{key}: {text}"
        )


def _same_record(one: Path, two: Path) -> None:
    for first, second in zip(read_record(one / "metrics.jsonl"), read_record(two / "metrics.jsonl"), strict=True):
        assert first.keys() == second.keys()
        for key in first.keys() - {"seconds"}:
            assert second[key] == pytest.approx(first[key], rel=5e-3, abs=5e-3), key


@pytest.mark.parametrize(
    ("method", "processes"), [("gcl", 2), ("simclr", 2), pytest.param("gcl", 4, marks=pytest.mark.slow)]
)
def test_pretraining(store, tmp_path, run, method, processes):
    # In float32, centring and pools of nearly tied pixels blow up rounding: test_methods_two_ranks has them in float64.
    calm = ["method.centre=false", *(["method.pixel=false"] if method == "gcl" else [])]
    words = ["pretrain", str(store), f"method={method}", *calm, "batch=8", "optimiser.lr=0.005", *TINY]
    run([*words, "--out", str(tmp_path / "one")], 1)
    run([*words, "--out", str(tmp_path / "two")], processes)
    _same(tmp_path / "one/encoder.safetensors", tmp_path / "two/encoder.safetensors")
    # What is logged is the joined batch's, too.
    _same_record(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_finetuning(store, tmp_path, run, processes):
    words = ["finetune", str(store), "batch=4", "optimiser.name=sgd", "optimiser.lr=0.005", *TINY]
    run([*words, "--out", str(tmp_path / "one")], 1)
    run([*words, "--out", str(tmp_path / "two")], processes)
    _same(tmp_path / "one/segmenter.safetensors", tmp_path / "two/segmenter.safetensors")
    _same_record(tmp_path / "one", tmp_path / "two")


def test_every_process_takes_part_in_every_member_of_an_ensemble(store, tmp_path, run):
    words = ["finetune", str(store), "members=2", "batch=4", "optimiser.name=sgd", "optimiser.lr=0.005", *TINY]
    words += ["validation=held_out", "validate_every=2"]
    run([*words, "--out", str(tmp_path / "one")], 1)
    run([*words, "--out", str(tmp_path / "two")], 2)
    for member in ("", "member-1"):
        _same(tmp_path / "one" / member / "segmenter.safetensors", tmp_path / "two" / member / "segmenter.safetensors")
        _same_record(tmp_path / "one" / member, tmp_path / "two" / member)
    assert {path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*")} == {
        path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*")
    }


@pytest.mark.parametrize("validation", ["none", "leave_one_out"])
def test_every_process_takes_part_where_patients_are_left_out(store, tmp_path, run, validation):
    words = ["finetune", str(store), "labelled=2", "expect=always", f"validation={validation}", "validate_every=2"]
    words += ["batch=4", "optimiser.name=sgd", "optimiser.lr=0.005", *TINY]
    run([*words, "--out", str(tmp_path / "one")], 1)
    run([*words, "--out", str(tmp_path / "two")], 2)
    left_out = [path.name for path in (tmp_path / "one").glob("left-out-*")]
    assert len(left_out) == 2
    for name in ("", *left_out):
        assert read_record(tmp_path / "one" / name / "metrics.jsonl")
        _same_record(tmp_path / "one" / name, tmp_path / "two" / name)
    one, two = (read_json(tmp_path / name / "segmenter.json")["expected"] for name in ("one", "two"))
    assert two["mean"]["dice"] == pytest.approx(one["mean"]["dice"], abs=0.02)
    assert {path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*")} == {
        path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*")
    }

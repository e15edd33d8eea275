"""The weights that leaving patients out keeps until the length is chosen: bits, room, and runs that are killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fewlabel.core.errors import ArtifactError
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.stages import finetune
from fewlabel.stages.finetune import validated_weights
from fewlabel.stages.finetune.leave_one_out import LeftOut
from fewlabel.stages.finetune.trainer import SegmentationTrainer
from fewlabel.stages.finetune.validated_weights import ValidatedWeights
from kit.stores import make_store
from kit.tiny import finetune_settings

NAMES = ("patient001", "patient002", "patient003")
LEFT = [f"left-out-{name}" for name in NAMES]
OVER: dict[str, Any] = {
    "subjects": NAMES, "validation": "leave_one_out", "steps": 8, "checkpoint_seconds": 0.0, "recalibrate": "always"
}  # fmt: skip
KEPT = ("segmenter.json", "left_out.csv", "segmenter.safetensors", *(f"{name}/segmenter.safetensors" for name in LEFT))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("data") / "prepared", subjects=8, depth=3, size=(16, 16), phases=1)


@pytest.fixture(autouse=True)
def chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The length is the second of four validations, whatever the scores."""
    original = LeftOut.best_length

    def best_length(self: LeftOut) -> int:
        original(self)
        return 4

    monkeypatch.setattr(LeftOut, "best_length", best_length)


def run(store: Path, out: Path, **over: Any) -> Path:
    return finetune.run(finetune_settings(store, out, **{**OVER, **over}))


def same_bits(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in KEPT)


def no_room(patch: pytest.MonkeyPatch) -> None:
    """Of each fit one validation is kept."""
    patch.setattr(validated_weights, "ROOM", 0)
    patch.setattr(validated_weights, "FEWEST", 1)


class PowerCut(BaseException):
    """Stands for the machine going away: nothing may catch it."""


def cut(store: Path, out: Path, patient: str, step: int, patch: pytest.MonkeyPatch, **over: Any) -> None:
    """A run that died in a step of the training that left a patient out, or trained again without it."""
    original = SegmentationTrainer.after_step

    def after_step(self: SegmentationTrainer, at: int) -> None:
        if patient in str(self.folder.relative_to(out)) and at == step:
            raise PowerCut
        original(self, at)

    patch.setattr(SegmentationTrainer, "after_step", after_step)
    with pytest.raises(PowerCut):
        run(store, out, **over)


score = SegmentationTrainer.score


def ever_better(self: SegmentationTrainer, network: UNet) -> float:
    """In place of the mean Dice of a validation: one that rises with each."""
    score(self, network)
    return 0.1 * (len(self.curve) + 1)


def test_a_killed_run_ends_in_the_same_bits_and_leaves_nothing_else(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(store, tmp_path / "whole")
    with monkeypatch.context() as patch:
        cut(store, tmp_path / "cut", NAMES[1], 6, patch)
    assert sorted(path.name for path in (tmp_path / "cut" / LEFT[0] / "validated").iterdir()) == [
        f"{step}.safetensors" for step in (2, 4, 6, 8)
    ]
    assert same_bits(run(store, tmp_path / "cut", resume=True), whole)
    names = {str(path.relative_to(whole)) for path in whole.rglob("*")}
    assert names == {str(path.relative_to(tmp_path / "cut")) for path in (tmp_path / "cut").rglob("*")}
    assert {Path(name).parts[0] for name in names} == {*LEFT, *KEPT[:3], "manifest.json", "metrics.jsonl"}
    assert {Path(name).name for name in names if name.startswith(f"{LEFT[0]}/")} == {
        "curve.json", "scores.json", "segmenter.safetensors", "metrics.jsonl"
    }  # fmt: skip


def test_without_room_what_was_not_kept_is_trained_again_to_the_same_bits(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(store, tmp_path / "whole")
    trained: list[str] = []
    original = SegmentationTrainer.run

    def noted(self: SegmentationTrainer, stop: int | None = None) -> UNet:
        trained.append(f"{self.folder.relative_to(tmp_path)} to {stop}")
        return original(self, stop)

    monkeypatch.setattr(SegmentationTrainer, "run", noted)
    no_room(monkeypatch)
    # The last validation looks best: the others go.
    monkeypatch.setattr(SegmentationTrainer, "score", ever_better)
    small = run(store, tmp_path / "small")
    assert trained[-3:] == [f"small/{name}/again to 4" for name in LEFT]
    assert all((small / name).read_bytes() == (whole / name).read_bytes() for name in KEPT[1:])
    assert not list(small.rglob("again"))

    with monkeypatch.context() as patch:
        cut(store, tmp_path / "cut", f"{NAMES[1]}/again", 2, patch)
    assert same_bits(run(store, tmp_path / "cut", resume=True), small)


def test_damaged_weights_are_named(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        cut(store, tmp_path / "out", NAMES[2], 1, patch)
    path = tmp_path / "out" / LEFT[0] / "validated" / "4.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"4\.safetensors is damaged: .*that patient is left out again"):
        run(store, tmp_path / "out", resume=True)


def test_the_likeliest_lengths_stay_where_there_is_no_room_for_all(tmp_path: Path) -> None:
    network = UNet(UNetConfig(width=4, depth=2), 2)
    kept = ValidatedWeights(tmp_path, 2, ({10: 0.1, 20: 0.9, 30: 0.5, 40: 0.5},))
    curve: dict[int, float] = {}
    for step, dice, stay in ((10, 0.6, {10}), (20, 0.1, {10, 20}), (30, 0.5, {20, 30}), (40, 0.4, {20, 30})):
        curve[step] = dice
        torch.nn.init.constant_(network.classifier.weight, step)
        kept.keep(step, network, curve)
        assert {int(path.stem) for path in (tmp_path / "validated").iterdir()} == stay
    found = validated_weights.validated_weights(tmp_path, 30)
    assert found is not None
    assert (found["classifier.weight"] == 30).all()
    assert validated_weights.validated_weights(tmp_path, 10) is None


def test_room_is_shared_by_all_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = UNet(UNetConfig(width=4, depth=2), 2)
    size = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    monkeypatch.setattr(validated_weights, "ROOM", 60 * size)
    counts = [ValidatedWeights.with_room(tmp_path, network, fits, ()).most for fits in (2, 6, 60)]
    assert counts == [30, 10, validated_weights.FEWEST]

"""Ensembles from training to report: members of their own seeds, one segmenter, one reading of each scan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fewlabel.core.artifact.artifact_folder import Artifact, is_artifact
from fewlabel.core.artifact.files import read_json
from fewlabel.core.errors import RunStoppedError, SettingsError
from fewlabel.engine.checkpoint import CHECKPOINT
from fewlabel.engine.loop import Loop
from fewlabel.engine.record import read_record
from fewlabel.engine.weight_files import load_segmenter
from fewlabel.nets.unet import UNet
from fewlabel.stages import finetune
from fewlabel.stages.finetune.ensemble_members import Members, member_seed
from fewlabel.stages.finetune.trainer import SegmentationTrainer
from kit.stores import make_store
from kit.tiny import finetune_settings

THREE = ("patient001", "patient002", "patient003")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("ensembles") / "prepared", subjects=8, depth=3, size=(16, 16), phases=1)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int | None]]:
    """Folder of each fit that was run, and the step at which it was to end."""
    run_fits: list[tuple[str, int | None]] = []
    original = SegmentationTrainer.run

    def run(self: SegmentationTrainer, stop: int | None = None) -> Any:
        run_fits.append((self.folder.name, stop))
        return original(self, stop)

    monkeypatch.setattr(SegmentationTrainer, "run", run)
    return run_fits


def weights(out: Path, member: int = 0) -> bytes:
    return (out / f"member-{member}" if member else out).joinpath("segmenter.safetensors").read_bytes()


def rows(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_record(folder / "metrics.jsonl")]


def files(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


# Training.


@pytest.mark.parametrize("regime", ["supervised", "mean_teacher"])
def test_each_member_is_the_network_that_its_seed_makes_alone(store: Path, tmp_path: Path, regime: str) -> None:
    over = {"labelled": 1, "seed": 4, "steps": 3, "regime": regime}
    out = finetune.run(finetune_settings(store, tmp_path / "three", **over, members=3))
    for member in range(3):
        single = {**over, "seed": member_seed(4, member)}
        alone = finetune.run(finetune_settings(store, tmp_path / f"alone{member}", **single))
        assert weights(out, member) == weights(alone)
        assert rows(out / f"member-{member}" if member else out) == rows(alone)
    assert len({weights(out, member) for member in range(3)}) == 3
    facts = read_json(out / "segmenter.json")
    assert (facts["members"], facts["best_step"], facts["best_steps"]) == (3, None, [None] * 3)
    # Nothing is left but what the manifest names.
    assert files(out) == sorted([*Artifact.open(out, "segmenter").manifest.files, "manifest.json"])
    assert len(files(out)) == 8


def test_one_member_is_as_before(store: Path, tmp_path: Path) -> None:
    out = finetune.run(finetune_settings(store, tmp_path / "one", labelled=1, steps=2))
    assert files(out) == ["manifest.json", "metrics.jsonl", "segmenter.json", "segmenter.safetensors"]
    facts = read_json(out / "segmenter.json")
    assert facts["members"] == 1
    assert "best_steps" not in facts


def test_a_control_has_as_many_members(store: Path, tmp_path: Path, fits: list[tuple[str, int | None]]) -> None:
    settings = finetune_settings(
        store, tmp_path / "out", labelled=1, steps=1, members=2, control=True, regime="mean_teacher"
    )
    assert finetune.control_of(settings).members == 2
    finetune.run(settings)
    assert [name for name, _ in fits] == ["out", "member-1", "out-control", "member-1"]
    control = read_json(tmp_path / "out-control" / "segmenter.json")
    assert (control["members"], control["regime"]) == (2, "supervised")


def test_held_out_selection_is_each_members_own(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first member is best after 2 steps, the second after 4; the third gets no better after 2.
    values = [0.5, 0.4, 0.3, 0.1, 0.8, 0.3, 0.2, 0.2, 0.1]
    seen: list[torch.Tensor] = []

    def score(self: SegmentationTrainer, _: UNet) -> float:
        seen.append(self.model.inference_network().classifier.weight.detach().clone())
        return values[len(seen) - 1]

    monkeypatch.setattr(SegmentationTrainer, "score", score)
    out = finetune.run(finetune_settings(store, tmp_path / "out", validation="held_out", members=3))
    facts = read_json(out / "segmenter.json")
    assert (facts["best_step"], facts["best_steps"]) == (2, [2, 4, 2])
    for member, validation in enumerate((0, 4, 6)):
        assert torch.equal(load_segmenter(out, member)[0].classifier.weight, seen[validation])
    assert not list(out.rglob("best.safetensors"))


def test_leaving_out_chooses_one_length_for_all(
    store: Path, tmp_path: Path, fits: list[tuple[str, int | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        SegmentationTrainer, "score", lambda self, _: 0.9 if self.facts["curve"].keys() == {"2"} else 0.3
    )
    over = {"validation": "leave_one_out", "subjects": THREE, "members": 3, "expect": "never"}
    out = finetune.run(finetune_settings(store, tmp_path / "out", **over))
    left = [(f"left-out-{name}", None) for name in THREE]
    assert fits == [*left, ("out", 4), ("member-1", 4), ("member-2", 4)]
    facts = read_json(out / "segmenter.json")
    assert (facts["best_step"], facts["best_steps"]) == (4, [4, 4, 4])
    assert [row["step"] for row in read_record(out / "member-2" / "metrics.jsonl")][-1] == 3


@pytest.mark.parametrize("members", [0, -1])
def test_there_is_at_least_one(store: Path, tmp_path: Path, members: int) -> None:
    with pytest.raises(SettingsError, match="members"):
        finetune_settings(store, tmp_path / "out", members=members)


# Resuming.


class PowerCut(BaseException):
    """Stands for the machine going away: nothing may catch it."""


def die(monkeypatch: pytest.MonkeyPatch, kind: type, name: str, when: Callable[..., bool]) -> None:
    """Let the machine go away after a call of a method."""
    original = getattr(kind, name)

    def call(self: Any, *words: Any, **options: Any) -> Any:
        found = original(self, *words, **options)
        if when(self, *words):
            raise PowerCut
        return found

    monkeypatch.setattr(kind, name, call)


ENDS = {
    "in the first member": (Loop, "_log", lambda loop, step, *_: step == 3),
    "in the second member": (
        Loop,
        "_log",
        lambda loop, step, *_: step == 3 and loop.checkpointer.path.parent.name == "member-1",
    ),
    "between two members": (Members, "finish", lambda members, member, *_: member == 1),
    "before the last is kept": (SegmentationTrainer, "run", lambda fit, *_: fit.folder.name == "member-2"),
    "before the clearing up": (Members, "best_steps", lambda members: True),
}


@pytest.fixture(scope="module")
def whole(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "out"
    return finetune.run(finetune_settings(store, out, validation="held_out", members=3))


@pytest.mark.parametrize("end", ENDS)
def test_a_run_that_died_is_continued_to_the_same_bits(
    store: Path, tmp_path: Path, whole: Path, end: str, fits: list[tuple[str, int | None]], monkeypatch: Any
) -> None:
    over = {"validation": "held_out", "members": 3, "checkpoint_seconds": 0}
    cut = tmp_path / "cut"
    with monkeypatch.context() as patch:
        kind, name, when = ENDS[end]
        die(patch, kind, name, when)
        with pytest.raises(PowerCut):
            finetune.run(finetune_settings(store, cut, **over))
    assert not is_artifact(cut, "segmenter")
    begun = [name for name, _ in fits]
    fits.clear()
    with pytest.raises(SettingsError, match="holds an unfinished run"):
        finetune.run(finetune_settings(store, cut, **over))
    finetune.run(finetune_settings(store, cut, **over, resume=True))
    # What was finished is not trained again.
    done = begun if end in ("between two members", "before the clearing up") else begun[:-1]
    assert [name for name, _ in fits] == ["cut", "member-1", "member-2"][len(done) :]
    assert files(cut) == files(whole)
    for file in files(whole):
        if file.endswith(("safetensors", "segmenter.json")):
            assert (cut / file).read_bytes() == (whole / file).read_bytes(), file
    for member in ("", "member-1", "member-2"):
        assert rows(cut / member) == rows(whole / member)


def test_stopping_in_a_later_member_saves_it(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    def stop(self: Any, step: int, *rest: Any, original: Any = Loop._log) -> None:
        original(self, step, *rest)
        if step == 1 and self.checkpointer.path.parent.name == "member-1":
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_log", stop)
        with pytest.raises(RunStoppedError, match="Stopped after step 2 of 6"):
            finetune.run(finetune_settings(store, tmp_path / "out", labelled=1, members=2))
    assert (tmp_path / "out" / "member-1" / CHECKPOINT).is_file()


def test_a_finished_ensemble_is_kept_and_no_other_number_goes_on_from_it(
    store: Path, whole: Path, fits: list[tuple[str, int | None]]
) -> None:
    before = (whole / "manifest.json").stat().st_mtime_ns
    over = {"validation": "held_out", "resume": True}
    finetune.run(finetune_settings(store, whole, **over, members=3))
    assert (whole / "manifest.json").stat().st_mtime_ns == before
    for members in (1, 4):
        with pytest.raises(SettingsError, match="made with another members"):
            finetune.run(finetune_settings(store, whole, **over, members=members))
    assert fits == []

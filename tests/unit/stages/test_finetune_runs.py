"""Fine-tuning as a whole: whose labels, which selection, both folders looked at first, and only its own run resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.artifact.artifact_folder import is_artifact
from fewlabel.core.artifact.files import read_json
from fewlabel.core.artifact.sealed import write_sealed
from fewlabel.core.errors import ArtifactError, SettingsError
from fewlabel.stages import finetune, pretrain
from fewlabel.stages.finetune.segmenter_run import SegmenterRun
from fewlabel.stages.finetune.trainer import SegmentationTrainer
from kit.changed import encoder_that_saw, with_facts
from kit.stores import make_store
from kit.tiny import finetune_settings, pretrain_settings

THREE = ("patient001", "patient002", "patient003")
LEFT_OUT = {"validation": "leave_one_out", "subjects": THREE, "steps": 4}
SSCL = {"name": "sscl", "global_share": 0.5, "per_class": 24, "slices": 4}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("arms") / "prepared", subjects=8, depth=3, size=(16, 16), phases=1)


def refusal(settings: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        finetune.run(settings)
    return str(caught.value)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Folders of all fits that were run."""
    folders: list[str] = []
    original = SegmentationTrainer.run

    def run(self: SegmentationTrainer, stop: int | None = None) -> Any:
        folders.append(self.folder.name)
        return original(self, stop)

    monkeypatch.setattr(SegmentationTrainer, "run", run)
    return folders


# Whose labels.


def test_a_draw_belongs_to_the_split_and_not_to_the_training(tmp_path: Path) -> None:
    store = make_store(tmp_path / "prepared", subjects=16, depth=2, size=(16, 16), phases=1)

    def drawn(seed: int, draw: int = 0) -> tuple[tuple[str, ...], tuple[str, ...]]:
        over = {"labelled": 2, "draw": draw, "seed": seed}
        tuned = SegmenterRun(finetune_settings(store, tmp_path / "o", **over), tmp_path / "o", "scratch")
        trained = pretrain.PretrainingTrainer.begin(pretrain_settings(store, tmp_path / "p", method=SSCL, **over))
        assert trained.draw is not None
        return tuned.draw.labelled, trained.draw

    found = {drawn(seed) for seed in range(4)}
    assert len(found) == 1
    tuned, trained = found.pop()
    assert tuned == trained
    assert len({drawn(0, draw) for draw in range(4)}) > 1
    with_facts(store, "split.json", seed=5)
    assert drawn(0)[0] != tuned


@pytest.mark.parametrize("make", [finetune_settings, pretrain_settings])
def test_a_draw_without_a_number_to_draw_is_refused(tmp_path: Path, make: Any) -> None:
    for over in ({"draw": 7}, {"draw": 1, "subjects": ["a"]}, {"draw": 1, "subjects": ["a"], "labelled": 1}):
        with pytest.raises(SettingsError, match=r"draw: draw=\d among .* has no effect"):
            make(tmp_path, tmp_path / "out", **over)
    for over in ({"draw": 7, "labelled": 1}, {"subjects": ["a"], "labelled": 1}, {"draw": 0}):
        make(tmp_path, tmp_path / "out", **over)


def test_faults_of_draw_and_patch_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        finetune_settings(tmp_path, tmp_path / "out", draw=7, patch=[3, 16, 16])
    assert {fault.where for fault in caught.value.faults} == {"draw", "patch"}


# Which selection.


def test_model_and_control_are_selected_alike(tmp_path: Path) -> None:
    store = make_store(tmp_path / "prepared", subjects=8, depth=3, size=(16, 16), phases=1)
    parts = read_json(store / "split.json")["parts"]
    with_facts(store, "split.json", parts={**parts, "validation": []})
    encoder = encoder_that_saw(tmp_path / "encoder", store, THREE[:1])
    over = {"encoder": encoder, "subjects": THREE, "control": True, "steps": 2}
    finetune.run(finetune_settings(store, tmp_path / "out", **over))
    for name in ("out", "out-control"):
        assert read_json(tmp_path / name / "segmenter.json")["selection"] == "none"
        assert read_json(tmp_path / name / "manifest.json")["settings"]["identity"]["selection"] == "none"
        assert not list((tmp_path / name).glob("left-out-*"))


# Both folders first.


def test_the_folder_of_the_control_is_looked_at_before_anything_is_trained(store, tmp_path, fits) -> None:
    occupied = tmp_path / "out-control"
    occupied.mkdir()
    (occupied / "notes.txt").write_text("mine")
    over = {"regime": "mean_teacher", "labelled": 1, "control": True, "steps": 1}
    told = refusal(finetune_settings(store, tmp_path / "out", **over))
    assert f"{occupied} is not empty. Give another --out." in told
    assert fits == []
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").write_text("a file")
    assert len(refusal(finetune_settings(store, tmp_path / "out", **over)).splitlines()) == 3


def test_a_control_in_the_current_folder_goes_beside_it(store, tmp_path, monkeypatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    over = {"regime": "mean_teacher", "labelled": 1, "control": True, "steps": 1}
    finetune.run(finetune_settings(store, Path(), **over))
    assert is_artifact(tmp_path / "here", "segmenter")
    assert is_artifact(tmp_path / "here-control", "segmenter")
    assert finetune.control_folder(Path("runs/a")) == Path("runs/a-control")


# Only its own run.


class PowerCut(BaseException):
    """Stands for the machine going away: nothing may catch it."""


@pytest.fixture
def cut(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that died once the first patient had been left out."""
    original = SegmentationTrainer.run

    def run(self: SegmentationTrainer, stop: int | None = None) -> Any:
        if self.folder.name.endswith("002"):
            raise PowerCut
        return original(self, stop)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTrainer, "run", run)
        with pytest.raises(PowerCut):
            finetune.run(finetune_settings(store, tmp_path / "cut", **LEFT_OUT))
    return tmp_path / "cut"


def test_leaving_out_is_resumed_where_it_stopped(store, tmp_path, cut, fits) -> None:
    assert "holds an unfinished run. Give --resume" in refusal(finetune_settings(store, cut, **LEFT_OUT))
    finetune.run(finetune_settings(store, cut, **LEFT_OUT, resume=True))
    assert fits == ["left-out-patient002", "left-out-patient003", "cut"]
    finetune.run(finetune_settings(store, tmp_path / "whole", **LEFT_OUT))
    for name in ("segmenter.safetensors", "segmenter.json"):
        assert (cut / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not (cut / "identity.json").exists()


@pytest.mark.parametrize("over", [{"seed": 99}, {"steps": 2}, {"validate_every": 3}, {"validation": "none"}])
def test_leaving_out_is_not_resumed_with_other_settings(store, cut, fits, over) -> None:
    told = refusal(finetune_settings(store, cut, **{**LEFT_OUT, **over}, resume=True))
    assert f"{next(iter(over))}: was " in told
    assert fits == []
    finetune.run(finetune_settings(store, cut, **LEFT_OUT, resume=True))


def test_the_curve_of_another_run_is_made_again(store, cut, fits) -> None:
    path = cut / "left-out-patient001" / "curve.json"
    path.write_text('{"1": 0.5}')
    with pytest.raises(ArtifactError, match=r"curve\.json is damaged: .*that patient is left out again"):
        finetune.run(finetune_settings(store, cut, **LEFT_OUT, resume=True))
    write_sealed(path, {"identity": {"seed": 9}, "curve": {"1": 0.5}})
    finetune.run(finetune_settings(store, cut, **LEFT_OUT, resume=True))
    assert fits[0] == "left-out-patient001"
    assert set(read_json(path)["curve"]) == {"2", "4"}


def test_a_folder_without_a_run_is_not_resumed(store, tmp_path, fits) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "best.safetensors").write_text("mine")
    told = refusal(finetune_settings(store, out, labelled=1, resume=True))
    assert "is not empty" in told
    assert (out / "best.safetensors").read_text() == "mine"
    assert fits == []


# Sides that fit the network.


@pytest.mark.parametrize("from_encoder", [False, True])
def test_a_size_that_the_network_cannot_halve_is_told_before_training(tmp_path, fits, *, from_encoder) -> None:
    store = make_store(tmp_path / "prepared", subjects=6, depth=3, size=(20, 16), phases=1)
    deep = {"network": {"width": 4, "depth": 4}}
    over = {"encoder": encoder_that_saw(tmp_path / "encoder", store, (), depth=4)} if from_encoder else deep
    told = refusal(finetune_settings(store, tmp_path / "out", labelled=1, **over))
    assert "must be multiples of 8 for a network of depth 4, not [20, 16]" in told
    assert "Prepare with size=[24,16]" in told
    with pytest.raises(SettingsError, match="must be multiples of 8"):
        pretrain.run(pretrain_settings(store, tmp_path / "out", method="simclr", **deep))
    assert fits == []
    assert not (tmp_path / "out").exists()
    patch = {"patch": [8, 16, 16], "network": {"width": 4, "depth": 4, "ndim": 3}}
    finetune.begin(finetune_settings(store, tmp_path / "out", labelled=1, **patch))


def test_instance_normalisation_of_a_map_of_one_cell_is_told_before_training(tmp_path, fits) -> None:
    store = make_store(tmp_path / "prepared", subjects=6, depth=3, size=(16, 16), phases=1)
    network = {"width": 4, "depth": 5, "norm": "instance"}
    told = refusal(finetune_settings(store, tmp_path / "out", labelled=1, network=network))
    assert "larger than one cell of the smallest map (16 wide) for instance normalisation, not [16, 16]" in told
    with pytest.raises(SettingsError, match="larger than one cell"):
        pretrain.run(pretrain_settings(store, tmp_path / "out", method="simclr", network=network))
    assert fits == []
    assert not (tmp_path / "out").exists()

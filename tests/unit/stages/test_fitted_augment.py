"""Augmentation of a fine-tuning reaches scans that lie otherwise, is said once, recorded, and may be left as set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fewlabel.core import progress
from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import read_json, write_json
from fewlabel.core.errors import ArtifactError
from fewlabel.data.augment_settings import finetuning_augmentation
from fewlabel.data.pose import Pose
from fewlabel.data.pose_record import POSES, Poses
from fewlabel.stages import finetune
from fewlabel.stages.finetune.fitted_augmentation import fitted_augment
from kit.stores import make_store
from kit.tiny import finetune_settings

ONE = ("patient001",)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "prepared", subjects=6, depth=3, size=(16, 16), phases=1)


def lie(store: Path, **turns: float) -> None:
    """Let the scans of a store be turned as said."""
    scans = [Pose(name, (name,), (0.0, 0.0), 1.0, turn) for name, turn in turns.items()]
    write_json(store / POSES, Poses(tuple(scans), 0, (16, 16), (1.5, 1.5)).record())


@pytest.fixture
def heard() -> Iterator[list[str]]:
    class Listener:
        def __init__(self) -> None:
            self.said: list[str] = []

        def start(self, title: str, total: int, done: int) -> Listener:
            return self

        def advance(self, count: int = 1, note: str = "") -> None:
            pass

        def finish(self, bar: object) -> None:
            pass

        def say(self, text: str) -> None:
            self.said.append(text)

    before, listener = progress._listener[0], Listener()
    progress.listen(listener)
    yield listener.said
    progress.listen(before)


def test_what_is_used_is_said_once_and_recorded(store: Path, tmp_path: Path, heard: list[str]) -> None:
    lie(store, patient001=0.0, patient002=75.0, patient003=75.0, patient004=75.0)
    settings = finetune_settings(
        store, tmp_path / "s", subjects=ONE, steps=1, regime="mean_teacher", validation="none", control=True
    )
    finetune.run(settings)
    told = [text for text in heard if text.startswith("augment:")]
    assert told == [
        "augment: rotation up to 75 degrees (set: 20), to reach from the labelled scans to the others "
        "(widen_augment=false: as set)."
    ]
    # The control has the views of the model.
    for folder in (tmp_path / "s", tmp_path / "s-control"):
        facts, manifest = read_json(folder / "segmenter.json"), Artifact.open(folder).manifest
        assert facts["widened_augment"] == {"rotation": {"asked": 20.0, "used": 75.0}}
        assert manifest.settings["augment"]["rotation"] == manifest.settings["identity"]["augment"]["rotation"] == 75
        assert {**manifest.settings["augment"], "rotation": 20.0} == finetuning_augmentation().record()


def test_where_it_is_not_known_how_scans_lie_that_is_said_once(store: Path, tmp_path: Path, heard: list[str]) -> None:
    settings = finetune_settings(
        store, tmp_path / "s", subjects=ONE, steps=1, regime="mean_teacher", validation="none", control=True
    )
    finetune.run(settings)
    (told,) = [text for text in heard if "in the plane" in text]
    assert told.startswith("augment: rotation up to 60 degrees (set: 20), ")
    assert told.endswith(
        f", since {store} does not say how its scans lie in the plane: prepare it again to have ranges that fit "
        "(widen_augment=false: as set)."
    )
    # Too few of them to say anything is no reach to the others either.
    lie(store, patient001=0.0)
    assert "since it is not known how the scans lie" in fitted_augment(settings, store, ONE).said


def test_views_are_drawn_from_what_is_used(store: Path, tmp_path: Path) -> None:
    lie(store, patient001=0.0, patient002=75.0, patient003=75.0, patient004=75.0)
    asked, off = finetuning_augmentation(), {"widen_augment": False}
    wide = finetune.begin(finetune_settings(store, tmp_path / "s", subjects=ONE))
    assert wide.loader.augmenter.config == asked.model_copy(update={"rotation": 75.0})
    as_set = finetune.begin(finetune_settings(store, tmp_path / "s", subjects=ONE, **off))
    assert as_set.loader.augmenter.config == asked


def test_labelled_scans_that_lie_like_all_others_need_no_more(store: Path, tmp_path: Path) -> None:
    lie(store, patient001=0.0, patient002=75.0, patient003=75.0, patient004=75.0)
    near = fitted_augment(finetune_settings(store, tmp_path / "s"), store, ("patient001", "patient002"))
    assert (near.augment, near.widened, near.said) == (finetuning_augmentation(), {}, "")


def test_a_damaged_file_stops_the_run_unless_it_is_not_used(store: Path, tmp_path: Path) -> None:
    (store / POSES).write_text("{}")
    with pytest.raises(ArtifactError, match=r"pose\.json"):
        finetune.begin(finetune_settings(store, tmp_path / "s", subjects=ONE))
    finetune.begin(finetune_settings(store, tmp_path / "s", subjects=ONE, widen_augment=False))

"""An artifact names the parents it was made from, whatever lies in their folders when it is finished."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import ArtifactError
from fewlabel.data.store import PreparedStore
from fewlabel.engine.loop import Loop
from fewlabel.stages import evaluate, finetune, pretrain
from fewlabel.stages.evaluate import EvaluateSettings
from fewlabel.stages.finetune.segmenter_run import SegmenterRun
from kit.segmenters import make_segmenter, prepared_discs
from kit.stores import make_store
from kit.tiny import finetune_settings, pretrain_settings


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    home = tmp_path_factory.mktemp("stores")
    shape = {"subjects": 6, "depth": 5, "size": (32, 32)}
    return make_store(home / "one", seed=0, **shape), make_store(home / "two", seed=1, **shape)


@pytest.fixture
def store(stores: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(stores[0], tmp_path / "prepared"))


def put(new: Path, place: Path) -> None:
    """As ``building`` replaces a folder: the old one is renamed away, so what is open stays readable."""
    place.rename(place.with_name("aside"))
    shutil.copytree(new, place)


def swap_at(monkeypatch: pytest.MonkeyPatch, step: int, new: Path, place: Path) -> None:
    original = Loop._log

    def log(self, number, *rest):
        original(self, number, *rest)
        if number == step and not place.with_name("aside").exists():
            put(new, place)

    monkeypatch.setattr(Loop, "_log", log)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_store_replaced_during_training_is_not_named_as_parent(stores, store, tmp_path, monkeypatch, stage):
    old, new = (Artifact.open(folder).content_hash for folder in stores)
    assert old != new
    swap_at(monkeypatch, 2, stores[1], store)
    if stage == "pretrain":
        out = pretrain.run(pretrain_settings(store, tmp_path / "out", method="simclr"))
    else:
        out = finetune.run(finetune_settings(store, tmp_path / "out", labelled=1))
    manifest = Artifact.open(out, check_parents=False).manifest
    assert manifest.parents[0].content_hash == old == manifest.settings["identity"]["data_hash"]
    with pytest.raises(ArtifactError, match="has changed since"):
        Artifact.open(out)
    later = {
        "pretrain": lambda: finetune.run(finetune_settings(store, tmp_path / "tuned", encoder=out, labelled=1)),
        "finetune": lambda: evaluate.run(EvaluateSettings(data=store, segmenter=out, out=tmp_path / "s", device="cpu")),
    }
    with pytest.raises(ArtifactError, match="has changed since"):
        later[stage]()


def test_a_store_replaced_before_it_is_opened_again_stops_pretraining(stores, store, tmp_path, monkeypatch):
    original = pretrain.PretrainingTrainer.begin.__func__

    def begin(cls, *opened):
        put(stores[1], store)
        return original(cls, *opened)

    monkeypatch.setattr(pretrain.PretrainingTrainer, "begin", classmethod(begin))
    with pytest.raises(ArtifactError, match=r"replaced|another one"):
        pretrain.run(pretrain_settings(store, tmp_path / "out", method="simclr"))
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("part", ["images", "labels", "slices", "cases"])
def test_a_store_is_read_as_it_was_opened(stores, store, part):
    opened = PreparedStore(store)
    put(stores[1], store)
    with pytest.raises(ArtifactError, match="replaced"):
        getattr(opened, part)


def test_what_was_read_before_stays(stores, store):
    opened = PreparedStore(store)
    before = np.array(opened.images[:2])
    put(stores[1], store)
    assert np.array_equal(opened.images[:2], before)


def test_an_encoder_replaced_before_its_weights_are_read_stops_fine_tuning(store, tmp_path, monkeypatch):
    one = pretrain.run(pretrain_settings(store, tmp_path / "encoder", method="simclr"))
    two = pretrain.run(pretrain_settings(store, tmp_path / "other", method="simclr", seed=1))
    original = SegmenterRun.look

    def look(self):
        original(self)
        put(two, one)

    monkeypatch.setattr(SegmenterRun, "look", look)
    with pytest.raises(ArtifactError, match="replaced"):
        finetune.run(finetune_settings(store, tmp_path / "out", encoder=one, labelled=1))
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_an_artifact_replaced_while_it_is_scored_is_not_named_as_parent(stores, tmp_path, monkeypatch):
    store = prepared_discs(tmp_path / "discs", test=("s3", "s4"))
    model = make_segmenter(tmp_path / "model", PreparedStore(store).plan, labelled_subjects=["s1"], steps=3)
    old = [Artifact.open(folder).content_hash for folder in (store, model)]
    original = evaluate._score

    def score(*arguments, **named):
        table = original(*arguments, **named)
        put(stores[1], store)
        (model / "manifest.json").unlink()
        return table

    monkeypatch.setattr(evaluate, "_score", score)
    settings = EvaluateSettings(data=store, segmenter=model, out=tmp_path / "scores", device="cpu", resamples=50)
    manifest = Artifact.open(evaluate.run(settings), check_parents=False).manifest
    assert [parent.content_hash for parent in manifest.parents] == old

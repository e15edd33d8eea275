"""Runs that go wrong stop at once, say where, and leave a good checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fewlabel.core.errors import DivergedError
from fewlabel.engine.checkpoint import CHECKPOINT, Checkpointer
from fewlabel.methods.simclr import SimCLR
from fewlabel.regimes.supervised import Supervised
from fewlabel.stages import finetune, pretrain
from kit.stores import make_store
from kit.tiny import finetune_settings, pretrain_settings


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("diverge") / "prepared", subjects=5, depth=4, size=(32, 32))


def diverging(monkeypatch):
    """From step 3 on activations are infinite: buffers of the network see that before the loss does."""
    original = SimCLR.losses

    def losses(self, batch):
        if batch.step == 3:
            batch.views[0].fill_(float("inf"))
        return original(self, batch)

    monkeypatch.setattr(SimCLR, "losses", losses)


def test_a_non_finite_loss_stops_with_slices_and_the_last_checkpoint(store, tmp_path, monkeypatch):
    plain = pretrain_settings(store, tmp_path / "plain", method="simclr", checkpoint_seconds=0)
    kept = {}
    original = Checkpointer.save

    def save(self, step, facts=None):
        original(self, step, facts)
        kept[step] = load_file(self.path)

    monkeypatch.setattr(Checkpointer, "save", save)
    pretrain.run(plain)
    before = kept[3]
    diverging(monkeypatch)
    with pytest.raises(DivergedError) as caught:
        pretrain.run(pretrain_settings(store, tmp_path / "out", method="simclr", checkpoint_seconds=0))
    assert caught.value.exit_code == 4
    text = str(caught.value)
    assert "step 3" in text
    assert "slices [" in text
    assert f"the state before step 3 stays in {tmp_path / 'out' / CHECKPOINT}" in text
    found = load_file(tmp_path / "out" / CHECKPOINT)
    assert found.keys() == before.keys()
    assert all(torch.equal(tensor, before[key]) for key, tensor in found.items())
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_run_that_diverges_before_its_first_checkpoint_leaves_none(store, tmp_path, monkeypatch):
    diverging(monkeypatch)
    with pytest.raises(DivergedError) as caught:
        pretrain.run(pretrain_settings(store, tmp_path / "out", method="simclr"))
    assert "stays in" not in str(caught.value)
    assert "Start again in another --out" in str(caught.value)
    assert not (tmp_path / "out" / CHECKPOINT).exists()


def test_a_non_finite_gradient_stops_fine_tuning(store, tmp_path, monkeypatch):
    original = Supervised.losses

    def losses(self, batch):
        terms = original(self, batch)
        if batch.step == 2:
            name = next(iter(terms))
            # A finite value whose gradient is infinite.
            terms[name] = terms[name] + torch.sqrt(terms[name] - terms[name].detach())
        return terms

    monkeypatch.setattr(Supervised, "losses", losses)
    with pytest.raises(DivergedError, match="step 2"):
        finetune.run(finetune_settings(store, tmp_path / "out"))


def test_collapse_stops_with_advice(store, tmp_path):
    # All-equal slices have no instance to tell apart: their embeddings are equal.
    import numpy as np

    from fewlabel.core.artifact.artifact_folder import Artifact, finish_artifact

    flat = make_store(tmp_path / "flat", subjects=5, depth=4, size=(32, 32))
    images = np.load(flat / "images.npy")
    np.save(flat / "images.npy", np.full_like(images, 0.5))
    finish_artifact(flat, "prepared", list(Artifact.open(flat).manifest.files))
    # Centred embeddings cannot be equal: the normalisation blows up what little differs.
    method = {"name": "simclr", "centre": False}
    still = {"rotation": 0.0, "scale_low": 1.0, "scale_high": 1.0, "crop": 1.0, "elastic": 0.0, "noise": 0.0}
    settings = pretrain_settings(flat, tmp_path / "out", method=method, steps=30, collapse_patience=5, augment=still)
    with pytest.raises(DivergedError, match="collapsed") as caught:
        pretrain.run(settings)
    assert caught.value.exit_code == 4
    assert "augment." in str(caught.value)

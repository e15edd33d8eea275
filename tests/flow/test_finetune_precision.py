"""The precision of a fine-tuning step, a discriminator's own step included."""

from __future__ import annotations

import pytest
import torch

from fewlabel.regimes.adversary import Adversary
from fewlabel.stages import finetune
from kit.stores import make_store
from kit.tiny import finetune_settings


@pytest.mark.parametrize(("precision", "mixed"), [("bf16", True), ("32", False)])
def test_a_discriminator_learns_in_the_precision_of_the_run(tmp_path, monkeypatch, precision, mixed):
    seen, learn = [], Adversary.learn

    def watched(self):
        seen.append(torch.is_autocast_enabled("cpu"))
        learn(self)

    monkeypatch.setattr(Adversary, "learn", watched)
    store = make_store(tmp_path / "prepared")
    over = {"regime": "adversarial", "labelled": 1, "steps": 2, "validation": "none", "precision": precision}
    finetune.run(finetune_settings(store, tmp_path / "out", **over))
    assert seen == [mixed, mixed]

"""The rate of a pre-trained encoder."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewlabel.engine.optim import set_rate
from fewlabel.stages import finetune, pretrain
from kit.stores import make_store
from kit.tiny import finetune_settings, pretrain_settings


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store and an encoder."""
    base = tmp_path_factory.mktemp("rates")
    store = make_store(base / "prepared")
    encoder = base / "encoder"
    pretrain.run(pretrain_settings(store, encoder, method="simclr", steps=1))
    return store, encoder


def rates(fit: object) -> dict[str, float]:
    """Parameter name → rate at a base rate of 1."""
    set_rate(fit.optimiser, 1.0)
    names = {tensor: name for name, tensor in fit.model.named_parameters()}
    return {names[tensor]: group["lr"] for group in fit.optimiser.param_groups for tensor in group["params"]}


def test_a_warm_encoder_takes_its_share_and_nothing_else_does(trained, tmp_path):
    store, encoder = trained
    warm = rates(finetune.begin(finetune_settings(store, tmp_path / "a", encoder=encoder, encoder_lr=0.25)))
    assert {rate for name, rate in warm.items() if ".encoder." in name} == {0.25}
    assert {rate for name, rate in warm.items() if ".encoder." not in name} == {1.0}


def test_from_scratch_all_rates_are_equal(trained, tmp_path):
    store, encoder = trained
    over = {"encoder": encoder, "mode": "scratch", "encoder_lr": 0.25}
    assert set(rates(finetune.begin(finetune_settings(store, tmp_path / "b", **over))).values()) == {1.0}

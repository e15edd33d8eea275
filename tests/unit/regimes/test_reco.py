"""ReCo is a choice of settings of ARCO's parts: which, and that they act."""

from __future__ import annotations

import pytest
import torch

from fewlabel.core.settings.base import resolve_plugin
from fewlabel.nets.unet import UNetConfig
from kit.finetuning import TOTAL, build, toy_batch

#: For the contract suite: settings under which unlabelled slices act on an untrained network, which is sure of nothing.
CONTRACT = {"acting": {"pixel_confidence": 0.0, "confidence": 0.0}}

NETWORK = UNetConfig(width=4, depth=3)
SMALL = {"dim": 6, "queries": 9, "negatives": 11, "stride": 2}
#: What makes ARCO ReCo.
CHOICE = {
    "pretrain_share": 0.0,
    "contrast_weight": 1.0,
    "nn_weight": 0.0,
    "sampling": "ns",
    "negatives_by": "likeness",
    "keys": 512,
    "bank": 0,
    "hard": 0.97,
    "pixel_confidence": 0.7,
    "mix": "classmix",
}


def make(name, **settings):
    return build(name, network=NETWORK, dtype=torch.float64, **SMALL | settings).train()


def batch_of(regime, step=0):
    return toy_batch(regime, step=step, labelled=2, unlabelled=3, dtype=torch.float64, size=(16, 16), seed=3)


def test_it_is_arco_with_these_settings():
    reco, arco = make("reco"), make("arco", **CHOICE)
    assert reco.settings.model_dump(exclude={"name"}) == arco.settings.model_dump(exclude={"name"})
    for step in (0, 1):
        first, second = reco.losses(batch_of(reco, step)), arco.losses(batch_of(arco, step))
        assert set(first) == {"ce", "dice", "contrast", "unsup"}
        assert all(torch.equal(first[key], second[key]) for key in first)
        reco.after_step(step, TOTAL)
        arco.after_step(step, TOTAL)
    assert reco.relations is None


def test_it_has_no_memory_but_the_step():
    reco = make("reco")
    for step in range(3):
        reco.losses(batch_of(reco, step))
        assert max(reco.metrics()[f"negatives/{c}"] for c in range(4)) <= 3 * 512
        reco.after_step(step, TOTAL)
    assert reco.embedding.contrast.banks.keys.numel() == 0


def test_negatives_come_from_the_classes_most_like_the_query_s():
    reco = make("reco", negatives=2000, keys=40, temperature=0.05, pixel_confidence=1.5)
    caught = {}
    banks = reco.embedding.contrast.banks
    inner = banks.negatives

    def spy(keys, present, *rest):
        caught.update(keys=keys, present=present, drawn=inner(keys, present, *rest))
        return caught["drawn"]

    banks.negatives = spy
    _, opponents = spied_opponents(reco)
    prototypes = opponents.prototypes
    for c in range(4):
        shares = torch.stack([(caught["drawn"][c][:, None] == caught["keys"][j]).all(-1).any(-1) for j in range(4)])
        shares = shares.double().mean(dim=1)
        others = [j for j in range(4) if j != c]
        expected = torch.stack([prototypes[c] @ prototypes[j] for j in others]).div(0.05).softmax(0)
        torch.testing.assert_close(shares[others], expected, atol=0.04, rtol=0)


def spied_opponents(regime):
    caught = []
    contrast = regime.embedding.contrast
    inner = contrast.loss
    contrast.loss = lambda *given: caught.append(inner(*given)) or caught[-1]
    regime.losses(batch_of(regime))
    return caught[0]


@pytest.mark.parametrize("name", ["reco", "mona"])
def test_settings_of_arco_can_be_given_to_it(name):
    config = resolve_plugin("fewlabel.regimes", {"name": name, "sampling": "sag", "mix": "none"})
    assert (config.name, config.sampling, config.mix) == (name, "sag", "none")
